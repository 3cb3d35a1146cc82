//! From a request target to the canonical path of a resource (RFC 9112 section 3.2, RFC 3986 section 5.2.4).
//!
//! A canonical path begins with a slash, has its percent-escapes decoded, no empty, `.` or `..` segments, and
//! no NUL. Escapes are decoded before dots are resolved, so no spelling of `..` gets past; a path that climbs
//! above the root is refused and not clamped. Most requests spell their path canonically already and are not
//! copied.

/// What a target names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource<'a> {
    /// The canonical path; ends in a slash if the target named a directory.
    pub path: &'a [u8],
    /// What stood behind the `?`, as sent.
    pub query: Option<&'a str>,
}

/// The target cannot name a resource here: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTarget;

/// Resolves `target` in origin-form (`/a?b`) or absolute-form (`http://host/a?b`). `scratch` holds the path
/// when it had to be rewritten; it keeps its capacity from call to call.
pub fn resolve<'a>(target: &'a str, scratch: &'a mut Vec<u8>) -> Result<Resource<'a>, BadTarget> {
    let target = if target.starts_with('/') { target } else { path_of_absolute(target)? };
    // A fragment has no place in a request (RFC 9112 section 3.2); who sends one means something else by `#`.
    if target.contains('#') {
        return Err(BadTarget);
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    if is_canonical(path.as_bytes()) {
        return Ok(Resource { path: path.as_bytes(), query });
    }
    canonicalise(path.as_bytes(), scratch)?;
    Ok(Resource { path: scratch, query })
}

/// The host in `authority`, without the port.
pub fn host_of(authority: &[u8]) -> &[u8] {
    let end = match authority.iter().position(|&b| b == b']') {
        Some(bracket) => bracket + 1,
        None => authority.iter().position(|&b| b == b':').unwrap_or(authority.len()),
    };
    &authority[..end]
}

/// Writes `path` so that it can stand in a `Location` field: reserved and non-ASCII bytes escaped, slashes
/// kept.
pub fn escape(path: &[u8], out: &mut Vec<u8>) {
    escape_unless(path, |b| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@".contains(&b), out);
}

/// Writes `query` as it was sent, except for bytes that are no visible ASCII: those are escaped.
pub fn escape_query(query: &[u8], out: &mut Vec<u8>) {
    escape_unless(query, |b| b.is_ascii_graphic(), out);
}

fn escape_unless(bytes: &[u8], may_stand: impl Fn(u8) -> bool, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &b in bytes {
        if may_stand(b) {
            out.push(b);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

/// The path, query included, of `http://authority/path`. The authority takes the place of the Host field, and
/// there is one site only, so it is not looked at but must not be empty.
fn path_of_absolute(target: &str) -> Result<&str, BadTarget> {
    let (scheme, rest) = target.split_once("://").ok_or(BadTarget)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(BadTarget);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    if end == 0 {
        return Err(BadTarget);
    }
    Ok(&rest[end..])
}

/// Whether `path` may be used as it stands. May say no to a few that could.
fn is_canonical(path: &[u8]) -> bool {
    let mut previous = 0;
    for &b in path {
        // A dot behind a slash may be a hidden file or a dot segment: leave it to the slow path.
        if b == b'%' || b == 0 || (previous == b'/' && (b == b'/' || b == b'.')) {
            return false;
        }
        previous = b;
    }
    path.first() == Some(&b'/')
}

fn canonicalise(path: &[u8], out: &mut Vec<u8>) -> Result<(), BadTarget> {
    out.clear();
    if path.first() != Some(&b'/') {
        return Err(BadTarget);
    }
    out.push(b'/');
    // `out` always ends in a slash here: what follows is the segment being read.
    let mut segment = 1;
    let mut rest = path[1..].iter();
    loop {
        let next = match rest.next() {
            Some(b'%') => {
                let digits = (rest.next(), rest.next());
                let (Some(high), Some(low)) = (digits.0.and_then(hex), digits.1.and_then(hex)) else {
                    return Err(BadTarget);
                };
                Some(high << 4 | low)
            }
            Some(&b) => Some(b),
            None => None,
        };
        match next {
            Some(0) => return Err(BadTarget),
            Some(b'/') | None => {
                match &out[segment..] {
                    b"" | b"." => out.truncate(segment),
                    b".." => {
                        if segment == 1 {
                            return Err(BadTarget);
                        }
                        out.truncate(segment - 1);
                        let parent = out.iter().rposition(|&b| b == b'/').ok_or(BadTarget)?;
                        out.truncate(parent + 1);
                    }
                    _ if next.is_some() => out.push(b'/'),
                    _ => {}
                }
                segment = out.len();
                if next.is_none() {
                    return Ok(());
                }
            }
            Some(b) => out.push(b),
        }
    }
}

fn hex(digit: &u8) -> Option<u8> {
    char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(target: &str) -> Option<String> {
        let mut scratch = Vec::new();
        resolve(target, &mut scratch).ok().map(|r| String::from_utf8_lossy(r.path).into_owned())
    }

    #[test]
    fn the_table() {
        for (target, expected) in [
            ("/", Some("/")),
            ("/a/b.html", Some("/a/b.html")),
            ("/a/b.html?x=/../..", Some("/a/b.html")),
            ("/a#b", None),
            ("/a?b#c", None),
            ("http://host/#c", None),
            ("/a%20b", Some("/a b")),
            ("/%C3%A9", Some("/\u{e9}")),
            ("/%aa", Some("/\u{fffd}")),
            ("/\u{e9}", Some("/\u{e9}")),
            ("/a//b///", Some("/a/b/")),
            ("//evil.example/x", Some("/evil.example/x")),
            ("/./a/./b/.", Some("/a/b/")),
            ("/a/../b", Some("/b")),
            ("/a/b/..", Some("/a/")),
            ("/a/b/../../", Some("/")),
            ("/..", None),
            ("/../etc/passwd", None),
            ("/a/../../etc/passwd", None),
            ("/%2e%2e/etc/passwd", None),
            ("/a/%2E%2e%2f..%2f/etc", None),
            ("/a%2fb", Some("/a/b")),
            ("/.hidden", Some("/.hidden")),
            ("/...", Some("/...")),
            ("/..a", Some("/..a")),
            ("/a%00b", None),
            ("/%", None),
            ("/%4", None),
            ("/%zz", None),
            ("/%+1", None),
            ("*", None),
            ("a", None),
            ("host:80", None),
            ("http://host/a/b?c", Some("/a/b")),
            ("HTTP://host", Some("/")),
            ("https://host?x", Some("/")),
            ("http:///a", None),
            ("ftp://host/a", None),
        ] {
            assert_eq!(path(target).as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn queries_are_kept() {
        let mut scratch = Vec::new();
        assert_eq!(resolve("/a//b?c?d", &mut scratch).unwrap().query, Some("c?d"));
        assert_eq!(resolve("/a", &mut scratch).unwrap().query, None);
    }

    proptest! {
        /// Against segments handled as a list.
        #[test]
        fn agrees_with_a_list_of_segments(target in "/([ab.%/]|%2e|%2F|%41){0,24}") {
            let naive = || -> Option<String> {
                let bytes: Vec<u8> = {
                    let mut out = Vec::new();
                    let mut rest = target.as_bytes();
                    while let Some((&b, after)) = rest.split_first() {
                        if b == b'%' {
                            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
                            if !digits.bytes().all(|d| d.is_ascii_hexdigit()) { return None; }
                            out.push(u8::from_str_radix(digits, 16).ok()?);
                            rest = &after[2..];
                        } else {
                            out.push(b);
                            rest = after;
                        }
                    }
                    out
                };
                // A path is bytes; what is no UTF-8 shows alike on both sides.
                let text = String::from_utf8_lossy(&bytes);
                let mut stack: Vec<&str> = Vec::new();
                let mut is_directory = true;
                for segment in text.split('/').skip(1) {
                    is_directory = matches!(segment, "" | "." | "..");
                    match segment {
                        "" | "." => {}
                        ".." => { stack.pop()?; }
                        name => stack.push(name),
                    }
                }
                let slash = if is_directory && !stack.is_empty() { "/" } else { "" };
                Some(format!("/{}{slash}", stack.join("/")))
            };
            prop_assert_eq!(path(&target), naive());
        }

        #[test]
        fn what_comes_out_is_canonical(target in "[ -~]{0,40}") {
            let mut scratch = Vec::new();
            if let Ok(resource) = resolve(&target, &mut scratch) {
                prop_assert!(resource.path.starts_with(b"/") && !resource.path.contains(&0));
                let inner = &resource.path[1..];
                let inner = inner.strip_suffix(b"/").unwrap_or(inner);
                if !inner.is_empty() {
                    for segment in inner.split(|&b| b == b'/') {
                        prop_assert!(!matches!(segment, b"" | b"." | b".."), "{}", target);
                    }
                }
            }
        }

        /// Escaping and resolving again gives the same path back.
        #[test]
        fn escape_round_trips(segments in proptest::collection::vec("[^/\0]{1,6}", 1..4)) {
            let path = format!("/{}", segments.join("/"));
            prop_assume!(!segments.iter().any(|s| s == "." || s == ".."));
            let mut escaped = Vec::new();
            escape(path.as_bytes(), &mut escaped);
            let escaped = String::from_utf8(escaped).unwrap();
            prop_assert!(escaped.is_ascii());
            let mut scratch = Vec::new();
            prop_assert_eq!(resolve(&escaped, &mut scratch).unwrap().path, path.as_bytes());
        }
    }
}
