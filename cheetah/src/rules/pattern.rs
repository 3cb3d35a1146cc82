//! Patterns of paths.

/// A pattern: segments, and perhaps all that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    segments: Vec<Segment>,
    /// It ends in `*`: anything may follow, a slash and nothing behind it, too.
    is_open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<[u8]>),
    Placeholder(Box<str>),
}

/// What placeholders and the star stood for, by name; that of the star is `splat`.
pub(super) type Captures<'a> = Vec<(&'a str, &'a [u8])>;

/// What the star stands for.
const SPLAT: &str = "splat";

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn parse(text: &str) -> Result<Pattern, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("`{text}` is no path of this site: begin it with a slash"));
        };
        let is_open = rest == "*" || rest.ends_with("/*");
        let rest = if is_open { rest[..rest.len() - 1].trim_end_matches('/') } else { rest };
        if rest.contains('*') {
            return Err(format!(
                "`{text}`: a `*` stands for all that follows: write it once, behind the last slash"
            ));
        }
        let mut segments: Vec<Segment> = Vec::new();
        for segment in rest.split('/').filter(|_| !(is_open && rest.is_empty())) {
            segments.push(match segment.strip_prefix(':') {
                None => Segment::Literal(unescape(segment).into()),
                Some(name) if is_name(name) && name != SPLAT => Segment::Placeholder(name.into()),
                Some(name) => return Err(format!("`:{name}` is no name: take letters, digits and `_`")),
            });
        }
        Ok(Pattern { segments, is_open })
    }

    /// Whether `name` stands for something that this matches.
    pub(super) fn has(&self, name: &str) -> bool {
        self.is_open && name == SPLAT
            || self
                .segments
                .iter()
                .any(|segment| matches!(segment, Segment::Placeholder(own) if **own == *name))
    }

    /// Whether a canonical path is meant.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        self.walk(path, |_, _| {})
    }

    /// What the names stand for if `path` is meant.
    pub(super) fn captures<'a>(&'a self, path: &'a [u8]) -> Option<Captures<'a>> {
        let mut found = Captures::new();
        self.walk(path, |name, bytes| found.push((name, bytes))).then_some(found)
    }

    fn walk<'a>(&'a self, path: &'a [u8], mut found: impl FnMut(&'a str, &'a [u8])) -> bool {
        let Some(mut rest) = path.strip_prefix(b"/") else { return false };
        for (i, segment) in self.segments.iter().enumerate() {
            let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            let (bytes, behind) = rest.split_at(end);
            match segment {
                Segment::Literal(literal) if **literal != *bytes => return false,
                Segment::Placeholder(_) if bytes.is_empty() => return false,
                Segment::Literal(_) => {}
                Segment::Placeholder(name) => found(name, bytes),
            }
            let is_last = i + 1 == self.segments.len();
            rest = match behind.strip_prefix(b"/") {
                Some(next) => next,
                // `/blog/*` is for `/blog`, too.
                None if is_last => {
                    if self.is_open {
                        found(SPLAT, b"");
                    }
                    return true;
                }
                None => return false,
            };
            if is_last && !self.is_open {
                return false;
            }
        }
        if self.is_open {
            found(SPLAT, rest);
        }
        self.is_open || rest.is_empty()
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A segment as canonical paths have it: patterns may be written with escapes.
fn unescape(segment: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match behind.get(..2).filter(|_| byte == b'%').and_then(digits) {
            Some(escaped) => {
                out.push(escaped);
                rest = &behind[2..];
            }
            None => {
                out.push(byte);
                rest = behind;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captures(pattern: &str, path: &str) -> Option<Vec<(String, String)>> {
        let pattern = Pattern::parse(pattern).unwrap();
        let found = pattern.captures(path.as_bytes())?;
        assert!(pattern.matches(path.as_bytes()));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Some(found.into_iter().map(|(name, bytes)| (name.to_owned(), text(bytes))).collect())
    }

    #[test]
    fn patterns_mean_what_they_say() {
        let found = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
        };
        assert_eq!(captures("/", "/"), found(&[]));
        assert_eq!(captures("/", "/a"), None);
        assert_eq!(captures("/a", "/a"), found(&[]));
        assert_eq!(captures("/a", "/a/"), None);
        assert_eq!(captures("/a/", "/a/"), found(&[]));
        assert_eq!(captures("/a/", "/a"), None);
        assert_eq!(captures("/a b", "/a b"), found(&[]));
        assert_eq!(captures("/a%20b", "/a b"), found(&[]));
        assert_eq!(captures("/100%", "/100%"), found(&[]));
        assert_eq!(captures("/*", "/"), found(&[("splat", "")]));
        assert_eq!(captures("/*", "/a/b"), found(&[("splat", "a/b")]));
        assert_eq!(captures("/a/*", "/a"), found(&[("splat", "")]));
        assert_eq!(captures("/a/*", "/a/"), found(&[("splat", "")]));
        assert_eq!(captures("/a/*", "/a/b/c"), found(&[("splat", "b/c")]));
        assert_eq!(captures("/a/*", "/ab"), None);
        assert_eq!(captures("/:x/b", "/a/b"), found(&[("x", "a")]));
        assert_eq!(captures("/:x/b", "//b"), None);
        assert_eq!(captures("/n/:year/:id", "/n/2026/7"), found(&[("year", "2026"), ("id", "7")]));
        assert_eq!(captures("/n/:year/:id", "/n/2026"), None);
        assert_eq!(captures("/n/:year/*", "/n/2026/7/8"), found(&[("year", "2026"), ("splat", "7/8")]));
        for bad in ["a", "https://a/b", "/a*", "/*/a", "/a/*/b/*", "/:", "/:a-b", "/:splat"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }
}
