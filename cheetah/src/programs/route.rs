//! Which paths are answered by which program, and within which limits.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::origin::Origin;
use crate::accelerator::Cache;
use crate::upload::Tokens;

/// A program that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix:/path`
    Unix(PathBuf),
    /// `tcp:host:port`
    Tcp(SocketAddr),
}

impl Address {
    /// Reads `unix:/path` or `tcp:host:port`; a host's name is looked up now.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Address, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.len() > 107 {
                return Err(format!("`{path}`: give the whole path of a socket, of at most 107 bytes"));
            }
            return Ok(Address::Unix(path.into()));
        }
        let Some(text) = text.strip_prefix("tcp:") else {
            return Err(format!("`{text}`: give unix:/PATH or tcp:HOST:PORT"));
        };
        let mut found = text.to_socket_addrs().map_err(|error| format!("`{text}`: {error}"))?;
        found.next().map(Address::Tcp).ok_or_else(|| format!("`{text}`: no such address"))
    }
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A program that speaks FastCGI.
    FastCgi(Address),
    /// A program that answers out of shared memory ([`cheetah_program`]).
    Shared(Start),
    /// A program of this folder, started for each request.
    Cgi(PathBuf),
    /// Another HTTP server.
    Origin(Origin),
}

/// How a program comes into being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Each loop starts its own: the program and its arguments.
    Command(Vec<String>),
    /// It listens at this socket, of SOCK_SEQPACKET.
    Socket(PathBuf),
}

impl Start {
    /// Reads `unix:/path`, or a command: words between blanks, no shell's.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Start, String> {
        if text.starts_with("unix:") {
            return match Address::parse(text)? {
                Address::Unix(path) => Ok(Start::Socket(path)),
                Address::Tcp(_) => Err("give unix:/PATH or a command".to_owned()),
            };
        }
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            Err("give unix:/PATH or a command".to_owned())
        } else {
            Ok(Start::Command(words))
        }
    }
}

/// A prefix of paths and who answers what lies below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// A canonical path without a slash at its end; empty for all paths.
    prefix: String,
    target: Target,
    scope: u32,
}

/// The prefix of a route is no canonical path.
pub const BAD_PREFIX: &str = "give a path as it is asked for, as in /app=...";

impl Route {
    /// What is `prefix`, or lies below it, is answered by `target`.
    ///
    /// # Errors
    /// If the prefix is not canonical.
    pub fn new(prefix: &str, target: Target) -> Result<Route, &'static str> {
        let mut scratch = Vec::new();
        let canonical = crate::http::target::resolve(prefix, &mut scratch)
            .is_ok_and(|found| found.path == prefix.as_bytes() && found.query.is_none());
        if !canonical {
            return Err(BAD_PREFIX);
        }
        Ok(Route { prefix: prefix.trim_end_matches('/').to_owned(), target, scope: 0 })
    }

    /// The same for another scope than 0: what answers for one host answers for no other
    /// ([`crate::hosts::Host::scope`]).
    #[must_use]
    pub fn for_scope(self, scope: u32) -> Route {
        Route { scope, ..self }
    }

    /// Whose it is.
    pub fn scope(&self) -> u32 {
        self.scope
    }

    /// Who answers.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The prefix, without a slash at its end.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What follows the prefix in `path`, if it is this route's: empty, or with a slash in front.
    pub fn rest<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let rest = path.strip_prefix(self.prefix.as_bytes())?;
        (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
    }
}

/// What programs get at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a program may be silent when something is awaited of it, and a request may wait for a
    /// connection.
    pub timeout: Duration,
    /// How long a connection to one may take.
    pub connect_timeout: Duration,
    /// Bytes of content of a request.
    pub max_content: u64,
    /// Connections to one program at once, of one loop.
    pub max_links: usize,
    /// Requests of one loop that may wait for one program.
    pub max_waiting: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            max_content: 1 << 20,
            max_links: 32,
            max_waiting: 1024,
        }
    }
}

/// The programs of a server.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Whose routes: of two that a path has, the longer one counts.
    pub routes: Vec<Route>,
    /// More parameters for programs that get parameters: names and values.
    pub params: Vec<(String, String)>,
    /// Bounds.
    pub limits: Limits,
    /// What is kept of the responses of other servers, if anything is.
    pub cache: Option<Arc<Cache>>,
    /// Who may have it forgotten (PURGE).
    pub purgers: Option<Tokens>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_a_name_ends() {
        let target = Target::FastCgi(Address::Unix("/s".into()));
        let route = Route::new("/app", target.clone()).unwrap();
        assert_eq!(route.rest(b"/app"), Some(&b""[..]));
        assert_eq!(route.rest(b"/app/x"), Some(&b"/x"[..]));
        assert_eq!(route.rest(b"/apple"), None);
        assert_eq!(route.rest(b"/"), None);
        let all = Route::new("/", target.clone()).unwrap();
        assert_eq!(all.rest(b"/x"), Some(&b"/x"[..]));
        for bad in ["app", "/a//b", "/a/../b", "/%61", "/a?b", ""] {
            assert!(Route::new(bad, target.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(Address::parse("unix:/run/a.sock"), Ok(Address::Unix("/run/a.sock".into())));
        assert_eq!(Address::parse("tcp:127.0.0.1:9000"), Ok(Address::Tcp(([127, 0, 0, 1], 9000).into())));
        for bad in ["/run/a.sock", "unix:a.sock", "tcp:127.0.0.1", "udp:1.2.3.4:5", ""] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
