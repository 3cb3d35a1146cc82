//! Virtual hosts: which of a server's sites a request is for, by the name that it asks for.
//!
//! ```text
//!   example.org          a name                       the longest that fits wins,
//!   *.example.org        all names below it           a name before a pattern;
//!   (none of them)       the first host, if it serves unknown names; else 421 (RFC 9110 section 15.5.20)
//! ```
//!
//! Names are compared without their case, without the port, and without the dot that may end them.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::access_log::Format;
use crate::http::target;
use crate::store::Store;
use crate::upload::Uploads;

/// Longest name in DNS (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;

/// One of a server's sites, and what is its own.
#[derive(Clone, Debug)]
pub struct Host {
    /// What is served.
    pub site: Arc<dyn Store>,
    /// Who takes files that clients put, if anybody does.
    pub uploads: Option<Arc<Uploads>>,
    /// Where and how its requests are written down.
    pub access_log: Option<(String, Format)>,
    /// Answer `/about`, if there is no such file, with `/about.html`.
    pub clean_urls: bool,
    /// Answer what is not there, and has no ending that a file would have, with `/index.html`.
    pub single_page: bool,
    /// Answer who would rather have Markdown with `x.md`, if that lies beside `x.html`.
    pub markdown: bool,
    /// Whose programs answer its paths ([`crate::programs::Route::for_scope`]).
    pub scope: u32,
}

impl Host {
    /// A host of `site`, with nothing else of its own.
    pub fn new(site: Arc<dyn Store>) -> Host {
        Host {
            site,
            uploads: None,
            access_log: None,
            clean_urls: false,
            single_page: false,
            markdown: false,
            scope: 0,
        }
    }
}

/// A name that clients ask for, or a pattern of names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName {
    /// In lower case, of a pattern with its dot in front and without the star.
    text: String,
}

impl HostName {
    /// Whether it is a pattern.
    pub fn is_pattern(&self) -> bool {
        self.text.starts_with('.')
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.is_pattern() { "*" } else { "" };
        write!(f, "{star}{}", self.text)
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<HostName, String> {
        let bare = text.strip_prefix("*.").unwrap_or(text);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let is_address = bare.len() == text.len()
            && text
                .strip_prefix('[')
                .and_then(|text| text.strip_suffix(']'))
                .is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
        if !is_address && (bare.len() > MAX_NAME || !bare.split('.').all(is_label)) {
            let hint = if bare.contains(':') { "without a port, " } else { "" };
            return Err(format!(
                "`{text}` is no name of a host: write it {hint}as in example.org, or *.example.org for all below it (other \
                 alphabets as DNS has them, xn--...)"
            ));
        }
        let dot = if bare.len() == text.len() { "" } else { "." };
        Ok(HostName { text: format!("{dot}{}", bare.to_ascii_lowercase()) })
    }
}

/// The sites of a server, by the names that are asked for.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// The first one is for requests that name none, and its log for what is no request.
    hosts: Vec<Host>,
    serves_unknown: bool,
    by_name: HashMap<Box<[u8]>, usize>,
    /// By what stands behind the star.
    by_pattern: HashMap<Box<[u8]>, usize>,
}

/// Two hosts have the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTaken(pub HostName);

impl fmt::Display for NameTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "two hosts have the name {}: give it to one", self.0)
    }
}

impl core::error::Error for NameTaken {}

impl Hosts {
    /// One host, whatever is asked for.
    pub fn one(host: Host) -> Hosts {
        Hosts { hosts: vec![host], serves_unknown: true, by_name: HashMap::new(), by_pattern: HashMap::new() }
    }

    /// Hosts by name; `first` answers for other names if it `serves_unknown`.
    ///
    /// # Errors
    /// If two have a name in common.
    pub fn new(
        first: Host,
        serves_unknown: bool,
        named: impl IntoIterator<Item = (Vec<HostName>, Host)>,
    ) -> Result<Hosts, NameTaken> {
        let mut hosts = Hosts { serves_unknown, ..Hosts::one(first) };
        for (names, host) in named {
            let number = hosts.hosts.len();
            hosts.hosts.push(host);
            for name in names {
                let map = if name.is_pattern() { &mut hosts.by_pattern } else { &mut hosts.by_name };
                if map.insert(name.text.as_bytes().into(), number).is_some_and(|other| other != number) {
                    return Err(NameTaken(name));
                }
            }
        }
        Ok(hosts)
    }

    /// The same, but for the first one's site.
    pub fn with_site(&self, site: Arc<dyn Store>) -> Hosts {
        let mut hosts = self.clone();
        hosts.hosts[0].site = site;
        hosts
    }

    /// The first one, which there always is.
    pub fn first(&self) -> &Host {
        &self.hosts[0]
    }

    /// All of them, in the order of their numbers.
    pub fn all(&self) -> &[Host] {
        &self.hosts
    }

    /// Whether all requests are for the same host.
    pub fn is_one(&self) -> bool {
        self.hosts.len() == 1 && self.serves_unknown
    }

    /// The number of the host that `authority` (`Host`, with or without a port) names; `None` if nobody has
    /// that name, and it is to be refused.
    pub fn find(&self, authority: &[u8]) -> Option<usize> {
        let unknown = self.serves_unknown.then_some(0);
        let name = name_of(authority);
        if name.is_empty() || name.len() > MAX_NAME + 2 {
            return unknown;
        }
        let mut lower: SmallVec<[u8; 64]> = SmallVec::from_slice(name);
        lower.make_ascii_lowercase();
        if let Some(&number) = self.by_name.get(&lower[..]) {
            return Some(number);
        }
        if !self.by_pattern.is_empty() {
            let dots = memchr::memchr_iter(b'.', &lower).filter(|&at| at > 0);
            for at in dots {
                if let Some(&number) = self.by_pattern.get(&lower[at..]) {
                    return Some(number);
                }
            }
        }
        unknown
    }
}

/// The name in `authority`: without user, port, and the dot of the root.
fn name_of(authority: &[u8]) -> &[u8] {
    let host = target::host_of(authority.rsplit(|&b| b == b'@').next().unwrap_or_default());
    host.strip_suffix(b".").unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Found;
    use fsstack::cache::BlockReader;
    use proptest::prelude::*;

    #[derive(Debug)]
    struct Nothing;

    impl Store for Nothing {
        fn look_up(&self, _path: &[u8], _reader: &BlockReader) -> Found {
            Found::Nothing
        }
    }

    fn hosts(serves_unknown: bool, named: &[&[&str]]) -> Result<Hosts, NameTaken> {
        let host = || Host::new(Arc::new(Nothing));
        let names = |names: &&[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        Hosts::new(host(), serves_unknown, named.iter().map(|of| (names(of), host())))
    }

    #[test]
    fn a_name_is_found_however_it_is_written() {
        let hosts =
            hosts(false, &[&["example.org", "*.example.org"], &["a.b.example.org", "[::1]"]]).unwrap();
        for (authority, expected) in [
            ("example.org", Some(1)),
            ("EXAMPLE.org:8080", Some(1)),
            ("example.org.", Some(1)),
            ("example.org.:80", Some(1)),
            ("www.example.org", Some(1)),
            ("x.a.b.example.org", Some(1)),
            ("a.b.example.org", Some(2)),
            ("[::1]:443", Some(2)),
            ("[::1]", Some(2)),
            ("user@a.b.example.org", Some(2)),
            ("xexample.org", None),
            (".example.org", None),
            ("org", None),
            ("", None),
            (":80", None),
        ] {
            assert_eq!(hosts.find(authority.as_bytes()), expected, "{authority}");
        }
    }

    #[test]
    fn unknown_names_are_the_first_hosts_or_nobodys() {
        assert_eq!(hosts(true, &[&["a"]]).unwrap().find(b"b"), Some(0));
        assert_eq!(hosts(false, &[&["a"]]).unwrap().find(b"b"), None);
        assert!(hosts(true, &[]).unwrap().is_one() && !hosts(false, &[&["a"]]).unwrap().is_one());
    }

    #[test]
    fn a_name_is_one_hosts() {
        assert_eq!(hosts(true, &[&["a", "A"]]).unwrap().find(b"a"), Some(1), "said twice is no harm");
        let error = hosts(true, &[&["a", "*.c"], &["b", "*.C"]]).unwrap_err();
        assert_eq!(error.to_string(), "two hosts have the name *.c: give it to one");
    }

    #[test]
    fn what_is_no_name_is_refused_with_what_is() {
        for bad in ["", "a..b", "*", "*.", "a.*", "http://a", "a b", "\u{e4}.org", "::1", "[::g]", "a:80"] {
            let said = bad.parse::<HostName>().unwrap_err();
            assert!(said.contains("as in example.org"), "{bad}: {said}");
        }
        assert!("a:80".parse::<HostName>().unwrap_err().contains("without a port"));
        for good in ["localhost", "127.0.0.1", "[::1]", "*.Example.org", "xn--bcher-kva.example", "a_b.c"] {
            assert_eq!(good.parse::<HostName>().unwrap().to_string(), good.to_lowercase());
        }
    }

    proptest! {
        /// As a list gone through from the most to the least particular gives it.
        #[test]
        fn as_going_through_all_names_does(
            named in proptest::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,3}", 1..6),
            asked in "[ab](\\.[abAB]){0,4}\\.?(:[0-9]{1,3})?",
        ) {
            let mut unique: Vec<HostName> = named.iter().map(|name| name.parse().unwrap()).collect();
            unique.sort();
            unique.dedup();
            let host = || Host::new(Arc::new(Nothing));
            let all = unique.iter().map(|name| (vec![name.clone()], host()));
            let hosts = Hosts::new(host(), false, all).unwrap();
            let name = asked.split(':').next().unwrap().trim_end_matches('.').to_lowercase();
            let fits = |of: &HostName| if of.is_pattern() {
                name.strip_suffix(&of.text[..]).is_some_and(|rest| !rest.is_empty())
            } else {
                of.text == name
            };
            let best = unique.iter().enumerate().filter(|(_, of)| fits(of));
            let best = best.max_by_key(|(_, of)| (!of.is_pattern(), of.text.len())).map(|(at, _)| at + 1);
            prop_assert_eq!(hosts.find(asked.as_bytes()), best);
        }

        #[test]
        fn any_bytes_are_looked_up(asked: Vec<u8>) {
            let _ = hosts(false, &[&["a", "*.b"]]).unwrap().find(&asked);
        }
    }
}
