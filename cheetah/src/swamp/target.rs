//! What is asked for: addresses as people write them, and the requests made of them.

use std::fmt;
use std::str::FromStr;

use crate::http::frame::{FrameHeader, MAX_FRAME, flag, kind};
use crate::http::hpack;

/// Who asks.
const AGENT: &str = "cheetah-swamp";

/// An address of `http` or `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether it is one of `https`.
    pub secured: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// 80 or 443 if none was given.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let (secured, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => {
                return Err(format!(
                    "`{text}`: begin with http:// or https://, as in http://127.0.0.1:8080/"
                ));
            }
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = port
            .map_or(Ok(if secured { 443 } else { 80 }), str::parse)
            .map_err(|_| format!("`{text}`: the port is no number"))?;
        if host.is_empty() || bracketed.is_none() && host.contains(':') {
            return Err(format!("`{text}`: there is no host; an IPv6 address goes in brackets"));
        }
        let path = if path.is_empty() { "/" } else { path };
        check_path(path)?;
        Ok(Url { secured, host: host.to_owned(), port, path: path.to_owned() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secured { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl Url {
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.secured { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

pub(super) fn check_path(path: &str) -> Result<(), String> {
    match path.chars().find(|c| !c.is_ascii_graphic()) {
        None if path.starts_with('/') => Ok(()),
        None => Err(format!("`{path}`: begin a path with a slash")),
        Some(bad) => Err(format!("`{path}`: write {bad:?} as an escape (%..)")),
    }
}

/// Something to ask for, and what its answer is like.
#[derive(Clone, Debug)]
pub struct Target {
    /// Path and query.
    pub path: String,
    /// The whole request; of HTTP/2 a frame that lacks the number of its stream.
    pub request: Box<[u8]>,
}

/// All that is asked for, of one server.
#[derive(Clone, Debug, Default)]
pub struct Targets(Vec<Target>);

impl Targets {
    /// `url`, and `paths` of the same server.
    ///
    /// # Errors
    /// What is wrong with a path.
    pub fn new(url: &Url, paths: &[String], keep: bool) -> Result<Targets, String> {
        let connection = if keep { "" } else { "Connection: close\r\n" };
        Targets::of(paths, |path| {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {AGENT}\r\n{connection}\r\n",
                url.authority()
            );
            Ok(request.into_bytes())
        })
    }

    /// The same by HTTP/2.
    ///
    /// # Errors
    /// What is wrong with a path.
    pub fn over_http2(url: &Url, paths: &[String]) -> Result<Targets, String> {
        Targets::of(paths, |path| {
            let mut block = Vec::new();
            hpack::get(url.secured, url.authority().as_bytes(), path.as_bytes(), &mut block);
            hpack::field(b"user-agent", AGENT.as_bytes(), &mut block);
            if block.len() > MAX_FRAME {
                return Err(format!("`{path}`: longer than what a frame takes"));
            }
            let flags = flag::END_HEADERS | flag::END_STREAM;
            let header = FrameHeader { len: block.len(), kind: kind::HEADERS, flags, stream: 0 };
            Ok([&header.bytes()[..], &block].concat())
        })
    }

    fn of(paths: &[String], request: impl Fn(&str) -> Result<Vec<u8>, String>) -> Result<Targets, String> {
        let mut targets = Vec::new();
        for path in paths {
            check_path(path)?;
            targets.push(Target { path: path.clone(), request: request(path)?.into() });
        }
        if targets.is_empty() {
            return Err("there is nothing to ask for".to_owned());
        }
        Ok(Targets(targets))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never, once made.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The i-th.
    pub fn get(&self, i: usize) -> &Target {
        &self.0[i]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let url = |text: &str| text.parse::<Url>();
        let secured = false;
        let parsed =
            |host: &str, port, path: &str| Ok(Url { secured, host: host.into(), port, path: path.into() });
        assert_eq!(url("http://a"), parsed("a", 80, "/"));
        assert_eq!(url("http://a:81/b?c"), parsed("a", 81, "/b?c"));
        assert_eq!(url("http://[::1]:81/"), parsed("::1", 81, "/"));
        assert_eq!(url("http://[::1]").unwrap().to_string(), "http://[::1]/");
        assert_eq!(url("https://a/b").map(|url| (url.secured, url.port)), Ok((true, 443)));
        assert_eq!(url("https://a:443/").unwrap().to_string(), "https://a/");
        for bad in ["a", "ftp://a/", "http:///", "http://::1/", "http://a:b/", "http://a/b c"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_request_says_what_it_must() {
        let url: Url = "http://[::1]:81/".parse().unwrap();
        let targets = Targets::new(&url, &["/x".into()], false).unwrap();
        let text = std::str::from_utf8(&targets.get(0).request).unwrap();
        assert_eq!(
            text,
            "GET /x HTTP/1.1\r\nHost: [::1]:81\r\nUser-Agent: cheetah-swamp\r\nConnection: close\r\n\r\n"
        );
        assert!(Targets::new(&url, &["x".into()], true).is_err());
    }
}
