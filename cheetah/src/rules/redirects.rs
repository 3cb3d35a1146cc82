//! `_redirects`: what is answered to who asks for what is not there, or, with a `!`, instead of what is.
//!
//! ```text
//!   /old             /new                  302 where no number stands
//!   /blog/*          /posts/:splat    301
//!   /docs/:page      https://docs.example/:page  308
//!   /app/*           /app/index.html  200  another file, under the address that was asked for
//!   /gone            /gone.html       404! a page that says what is not there, even if something is
//! ```
//!
//! The first line that fits counts. What was asked behind a `?` goes with it, unless the new address has a
//! `?` of its own.

use super::pattern::{Captures, Pattern};
use crate::http::response::Status;
use crate::http::target;

/// Redirects in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirects {
    list: Vec<Redirect>,
    has_forced: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Redirect {
    from: Pattern,
    to: Vec<Part>,
    status: Status,
    /// Also where there is a file.
    is_forced: bool,
}

/// Of the new address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Captured(Box<str>),
}

/// What a redirect leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response of that status with this `Location`, which can stand in a field.
    Location(Status, Vec<u8>),
    /// The file at that path, as an answer of that status.
    File(Status, Vec<u8>),
}

impl Redirects {
    pub(super) const NONE: Redirects = Redirects { list: Vec::new(), has_forced: false };

    /// Reads the file.
    ///
    /// # Errors
    /// The number of the first line that is wrong, and what to write instead.
    pub(super) fn parse(text: &str) -> Result<Redirects, (usize, String)> {
        let mut redirects = Redirects::default();
        for (i, line) in text.lines().enumerate() {
            // An address may have a fragment; a comment has a space before it, or the line for itself.
            let comment =
                line.match_indices('#').find(|&(at, _)| at == 0 || line[..at].ends_with([' ', '\t']));
            let line = comment.map_or(line, |(at, _)| &line[..at]);
            if !line.trim().is_empty() {
                let redirect = Redirect::parse(line).map_err(|message| (i + 1, message))?;
                redirects.has_forced |= redirect.is_forced;
                redirects.list.push(redirect);
            }
        }
        Ok(redirects)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What is answered to who asks for `path`, with that query, although there is a file.
    pub fn forced(&self, path: &[u8], query: Option<&str>) -> Option<Outcome> {
        if !self.has_forced {
            return None;
        }
        // The first line that fits counts, also if it is for what is not there.
        self.first(path, query).filter(|(redirect, _)| redirect.is_forced).map(|(_, outcome)| outcome)
    }

    /// What is answered to who asks for `path`, with that query, where nothing is.
    pub fn of_nothing(&self, path: &[u8], query: Option<&str>) -> Option<Outcome> {
        self.first(path, query).map(|(_, outcome)| outcome)
    }

    fn first(&self, path: &[u8], query: Option<&str>) -> Option<(&Redirect, Outcome)> {
        self.list.iter().find_map(|redirect| {
            let captures = redirect.from.captures(path)?;
            Some((redirect, redirect.outcome(&captures, query)))
        })
    }
}

impl Redirect {
    fn parse(line: &str) -> Result<Redirect, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (from, to, status) = match words[..] {
            [from, to] => (from, to, "302"),
            [from, to, status] => (from, to, status),
            [_] => return Err("write a path, the new address, and perhaps a number like 301".to_owned()),
            _ => {
                return Err(
                    "conditions cannot be said: write a path, the new address and a number".to_owned()
                );
            }
        };
        if from.contains('?') {
            return Err(format!("`{from}`: what stands behind a `?` is not looked at, leave it out"));
        }
        let from = Pattern::parse(from)?;
        let (number, is_forced) = status.strip_suffix('!').map_or((status, false), |number| (number, true));
        let status = match number {
            "200" => Status::Ok,
            "301" => Status::MovedPermanently,
            "302" => Status::Found,
            "303" => Status::SeeOther,
            "307" => Status::TemporaryRedirect,
            "308" => Status::PermanentRedirect,
            "404" => Status::NotFound,
            "410" => Status::Gone,
            _ => return Err(format!("`{number}`: there are 200, 301, 302, 303, 307, 308, 404 and 410")),
        };
        let is_path = to.starts_with('/') && !to.starts_with("//");
        if !is_path && !to.starts_with("https://") && !to.starts_with("http://") {
            return Err(format!("`{to}` is no address: begin it with a slash or https://"));
        }
        if !is_path && !status.is_redirect() {
            return Err(format!("`{to}` is not of this site, so nobody can be answered with it: take 302"));
        }
        if let Some(bad) = to.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '\\')) {
            return Err(format!("`{to}`: write {bad:?} as an escape (%..)"));
        }
        Ok(Redirect { to: parts(to, &from)?, from, status, is_forced })
    }

    fn outcome(&self, captures: &Captures<'_>, query: Option<&str>) -> Outcome {
        let mut address = Vec::new();
        for part in &self.to {
            match part {
                Part::Text(text) => address.extend_from_slice(text.as_bytes()),
                Part::Captured(name) => {
                    let found = captures.iter().find(|(own, _)| **own == **name);
                    let bytes = found.map_or(&b""[..], |(_, bytes)| bytes);
                    if self.status.is_redirect() {
                        target::escape(bytes, &mut address);
                    } else {
                        address.extend_from_slice(bytes);
                    }
                }
            }
        }
        if !self.status.is_redirect() {
            return Outcome::File(self.status, address);
        }
        // A captured empty first segment must not make it another host's.
        if address.starts_with(b"//") {
            let slashes = address.iter().take_while(|&&byte| byte == b'/').count();
            address.drain(..slashes - 1);
        }
        if let Some(query) = query.filter(|_| !address.contains(&b'?')) {
            let fragment = address.iter().position(|&byte| byte == b'#').unwrap_or(address.len());
            let behind = address.split_off(fragment);
            address.push(b'?');
            target::escape_query(query.as_bytes(), &mut address);
            address.extend_from_slice(&behind);
        }
        Outcome::Location(self.status, address)
    }
}

/// Cuts `to` where a name stands that `from` matches.
fn parts(to: &str, from: &Pattern) -> Result<Vec<Part>, String> {
    // The colon of a scheme or a port is no name's.
    let authority = to.find("://").map_or(0, |at| at + 3);
    let path = to[authority..].find('/').map_or(to.len(), |at| authority + at);
    let path = if authority == 0 { 0 } else { path };
    let mut parts = vec![Part::Text(to[..path].into())];
    let mut rest = &to[path..];
    while let Some(colon) = rest.find("/:").map(|at| at + 1) {
        let behind = &rest[colon + 1..];
        let len = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(behind.len());
        let name = &behind[..len];
        if !from.has(name) {
            return Err(format!("`:{name}` stands for nothing in the path that it is for"));
        }
        parts.push(Part::Text(rest[..colon].into()));
        parts.push(Part::Captured(name.into()));
        rest = &behind[len..];
    }
    parts.push(Part::Text(rest.into()));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn location(rules: &str, path: &str, query: Option<&str>) -> Option<(u16, String)> {
        let redirects = Redirects::parse(rules).unwrap();
        match redirects.of_nothing(path.as_bytes(), query)? {
            Outcome::Location(status, address) => Some((status.code(), String::from_utf8(address).unwrap())),
            Outcome::File(status, path) => {
                Some((status.code(), format!("file {}", String::from_utf8(path).unwrap())))
            }
        }
    }

    #[test]
    fn lines_lead_where_they_say() {
        let rules = "# moved\n/old /new\n/blog/* /posts/:splat 301 # for good\n/d/:p https://d.example:8080/x/:p?y=1 308\n\
                     /f /g#top 307\n/app/* /app/index.html 200\n/gone /gone.html 404!\n/never /gone.html 410\n/s/* /:splat 303\n";
        let at = |path, query| location(rules, path, query);
        let to = |code, text: &str| Some((code, text.to_owned()));
        assert_eq!(at("/old", None), to(302, "/new"));
        assert_eq!(at("/old", Some("a=b c")), to(302, "/new?a=b%20c"));
        assert_eq!(at("/blog", None), to(301, "/posts/"));
        assert_eq!(at("/blog/a b/ü", None), to(301, "/posts/a%20b/%C3%BC"));
        assert_eq!(at("/d/7", Some("z=2")), to(308, "https://d.example:8080/x/7?y=1"));
        assert_eq!(at("/f", Some("q")), to(307, "/g?q#top"));
        assert_eq!(at("/app/x/y", Some("q")), to(200, "file /app/index.html"));
        assert_eq!(at("/gone", None), to(404, "file /gone.html"));
        assert_eq!(at("/never", None), to(410, "file /gone.html"));
        assert_eq!(at("/s/x", None), to(303, "/x"));
        assert_eq!(at("/other", None), None);
        let redirects = Redirects::parse(rules).unwrap();
        assert_eq!(redirects.forced(b"/old", None), None);
        assert_eq!(
            redirects.forced(b"/gone", None),
            Some(Outcome::File(Status::NotFound, b"/gone.html".to_vec()))
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, word) in [
            ("/a", 1, "new address"),
            ("\n/a /b 301 Country=de", 2, "conditions"),
            ("/a?x=1 /b", 1, "`?`"),
            ("/a /b 299", 1, "there are 200"),
            ("/a b", 1, "slash or https"),
            ("/a //evil.example", 1, "slash or https"),
            ("/a javascript:alert(1)", 1, "slash or https"),
            ("/a https://x.example/ 200", 1, "take 302"),
            ("/a /b/:c", 1, "stands for nothing"),
            ("/a /ü", 1, "escape"),
        ] {
            let (found, message) = Redirects::parse(text).unwrap_err();
            assert!(found == line && message.contains(word), "{text:?}: {found}, {message}");
        }
    }

    proptest! {
        /// Whatever is asked, the address can stand in a field, and leads to no other host.
        #[test]
        fn an_address_stays_on_its_host(path in "/s(/[a-z/:.\r\n\\\\@%]{0,12})?", query in proptest::option::of("[ -~\r\n]{0,9}")) {
            if let Some((_, address)) = location("/s/* /:splat\n", &path, query.as_deref()) {
                prop_assert!(address.bytes().all(|byte| byte.is_ascii_graphic()), "{}", address);
                prop_assert!(address.starts_with('/') && !address.starts_with("//") && !address.starts_with("/\\"), "{}", address);
            }
        }
    }
}
