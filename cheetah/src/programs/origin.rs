//! Another HTTP server that answers for some paths: where it is, and a request as it gets it.
//!
//! ```text
//!   GET /a?b HTTP/1.1              as it was asked for; dot segments are resolved first, for routes go by what is meant
//!   Host: example.org              the client's, or that of the route
//!   Accept: ...                    the client's fields, but for those of the way (RFC 9110 section 7.6.1)
//!   X-Forwarded-For: 192.0.2.1     ours: the client's own are dropped
//!   Via: 1.1 cheetah
//!   Content-Length: 3              content is gathered first, so its length is always known
//! ```

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

use super::ask::{Asked, fields};
use crate::accelerator::PSEUDONYM;
use crate::http::request::Version;
use crate::http::{reply, target};

/// Where another server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Looked up once, when the server starts.
    pub(super) addr: SocketAddr,
    /// What it is called where the client named no host.
    pub(super) authority: String,
}

/// Fields that a client could say as well as we do, and is not believed.
const FORWARDED: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
];

/// Fields of the way from the client to us.
const OF_THE_WAY: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "http2-settings",
];

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl Origin {
    /// Reads `http://HOST`, or with a port; a host's name is looked up now.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Origin, String> {
        let give = "give http://HOST or http://HOST:PORT";
        if text.starts_with("https://") {
            return Err(format!("`{text}`: the way to an origin is not secured here: {give}"));
        }
        let Some(authority) = text.strip_prefix("http://") else { return Err(format!("`{text}`: {give}")) };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#', '@']) || !crate::http::parse::is_host(authority.as_bytes()) {
            return Err(format!("`{text}`: {give}, and no path: paths go on as they are asked for"));
        }
        let has_port = target::host_of(authority.as_bytes()).len() < authority.len();
        let with_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let mut found = with_port.to_socket_addrs().map_err(|error| format!("`{text}`: {error}"))?;
        let addr = found.next().ok_or_else(|| format!("`{text}`: no such address"))?;
        Ok(Origin { addr, authority: authority.to_owned() })
    }
}

/// The target as it goes on: as it was sent, without what a URI has no place for; with dot segments, which
/// one party may resolve and another not, the path that it leads to.
pub(super) fn forwarded_target(sent: &str, path: &[u8], query: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(sent.len());
    write_forwarded_target(sent, path, query, &mut out);
    out
}

/// Appends the same to `out`.
pub(super) fn write_forwarded_target(sent: &str, path: &[u8], query: Option<&str>, out: &mut Vec<u8>) {
    if is_plain(sent.as_bytes()) {
        out.extend_from_slice(sent.as_bytes());
    } else {
        write_cleaned_target(sent, path, query, out);
    }
}

fn write_cleaned_target(sent: &str, path: &[u8], query: Option<&str>, out: &mut Vec<u8>) {
    let own = match sent.split_once("://") {
        Some((_, rest)) if !sent.starts_with('/') => &rest[rest.find(['/', '?']).unwrap_or(rest.len())..],
        _ => sent,
    };
    let as_sent = own.split('?').next().unwrap_or_default();
    let is_dots = |segment: &str| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    };
    // An escaped slash may be one for who resolves it.
    let lower = as_sent.to_ascii_lowercase().replace("%2f", "/").replace("%5c", "\\");
    if lower.split(['/', '\\']).any(is_dots) || as_sent.is_empty() {
        target::escape(path, out);
    } else {
        target::escape_query(as_sent.as_bytes(), out);
    }
    if let Some(query) = query {
        out.push(b'?');
        target::escape_query(query.as_bytes(), out);
    }
}

/// Whether a target goes on as it was sent, as almost all do: a path without escapes and without segments
/// that begin with a dot, and perhaps a query. May say no to others.
fn is_plain(sent: &[u8]) -> bool {
    let mut previous = 0;
    let mut in_path = true;
    let is_odd = |&byte: &u8| {
        let before = std::mem::replace(&mut previous, byte);
        in_path &= byte != b'?';
        !byte.is_ascii_graphic()
            || in_path && (matches!(byte, b'%' | b'\\') || byte == b'.' && before == b'/')
    };
    sent.first() == Some(&b'/') && !sent.iter().any(is_odd)
}

/// The name of the host that is asked for, as it goes on.
pub(super) fn forwarded_host<'a>(asked: &Asked<'a, '_>, origin: &'a Origin) -> &'a [u8] {
    let authority = asked.request.authority();
    if authority.is_empty() { origin.authority.as_bytes() } else { authority }
}

/// The head of a request as the origin gets it, but for the length of its content and the empty line; of
/// fields only those that `keeps` says.
pub(super) fn write_head(
    asked: &Asked<'_, '_>,
    origin: &Origin,
    target: &[u8],
    keeps: impl Fn(&[u8]) -> bool,
    out: &mut Vec<u8>,
) {
    let request = asked.request;
    let host = forwarded_host(asked, origin);
    for part in [request.method_name.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n"] {
        out.extend_from_slice(part);
    }
    let of_connection = fields(request.head).filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"));
    let named: Vec<&[u8]> = of_connection.flat_map(|(_, value)| reply::list(value)).collect();
    let mut via = Vec::new();
    for (name, value) in fields(request.head) {
        // Many servers make no difference between `X-Real-IP` and `X_Real_IP`.
        let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        let is = |other: &str| {
            name.len() == other.len()
                && name.iter().zip(other.bytes()).all(|(&byte, of)| plain(byte) == plain(of))
        };
        if is("via") {
            via.push(value);
            continue;
        }
        let is_ours = is("host")
            || is("content-length")
            || OF_THE_WAY.iter().chain(&FORWARDED).any(|other| is(other))
            || named.iter().any(|other| name.eq_ignore_ascii_case(other));
        if !is_ours && keeps(name) {
            line(name, value, out);
        }
    }
    if let Some(peer) = asked.peer {
        line(b"X-Forwarded-For", peer.ip().to_canonical().to_string().as_bytes(), out);
    }
    line(b"X-Forwarded-Proto", if asked.secured { b"https" } else { b"http" }, out);
    line(b"X-Forwarded-Host", host, out);
    let version = match request.version {
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
        Version::Http2 => "2",
    };
    let own = format!("{version} {PSEUDONYM}");
    via.push(own.as_bytes());
    line(b"Via", &via.join(&b", "[..]), out);
}

fn line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::parse::{self, Parsed};
    use proptest::prelude::*;

    fn head(text: &str) -> String {
        let Parsed::Complete { request, .. } = parse::parse(text.as_bytes(), &parse::Limits::default())
        else {
            panic!("{text}")
        };
        let asked =
            Asked { request: &request, peer: Some(([192, 0, 2, 1], 99).into()), secured: true, scope: 0 };
        let origin = Origin { addr: ([127, 0, 0, 1], 80).into(), authority: "own".to_owned() };
        let mut out = Vec::new();
        write_head(&asked, &origin, b"/t", |name| name != b"X-Drop", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_of_the_way_ends_here() {
        assert_eq!(
            head(
                "POST /t HTTP/1.1\r\nHost: a:1\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-Drop: 1\r\nAccept: b\r\nTE: trailers\r\n\
                 X-Forwarded-For: 6.6.6.6\r\nForwarded: for=evil\r\nVia: 1.0 other\r\nContent-Length: 3\r\n\
                 Expect: 100-continue\r\nProxy-Authorization: x\r\nCookie: c=d\r\n\r\n"
            ),
            "POST /t HTTP/1.1\r\nHost: a:1\r\nAccept: b\r\nCookie: c=d\r\nX-Forwarded-For: 192.0.2.1\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-Host: a:1\r\nVia: 1.0 other, 1.1 cheetah\r\n"
        );
        assert!(head("GET /t HTTP/1.0\r\n\r\n").starts_with("GET /t HTTP/1.1\r\nHost: own\r\n"));
    }

    #[test]
    fn targets_mean_what_routes_take_them_for() {
        for (sent, forwarded) in [
            ("/a%2Fb//c?q=%20&r", "/a%2Fb//c?q=%20&r"),
            ("http://h/x?y", "/x?y"),
            ("http://h", "/"),
            ("http://h?y", "/?y"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b?q", "/b?q"),
            ("/a/.%2e/b", "/b"),
            ("/a/..%2fb", "/b"),
            ("/.hidden/..x", "/.hidden/..x"),
            ("/a.b/c..?/../%2f.", "/a.b/c..?/../%2f."),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a\\..\\b", "/a%5C..%5Cb"),
        ] {
            let mut scratch = Vec::new();
            let resource = target::resolve(sent, &mut scratch).unwrap();
            let got = forwarded_target(sent, resource.path, resource.query);
            assert_eq!(String::from_utf8(got).unwrap(), forwarded, "{sent}");
        }
    }

    proptest! {
        #[test]
        fn what_is_plain_needs_no_cleaning(sent in "/([a-z./?\\\\]|%2[ef]|\\.\\.){0,12}") {
            let mut scratch = Vec::new();
            if let (true, Ok(resource)) = (is_plain(sent.as_bytes()), target::resolve(&sent, &mut scratch)) {
                let mut cleaned = Vec::new();
                write_cleaned_target(&sent, resource.path, resource.query, &mut cleaned);
                prop_assert_eq!(String::from_utf8(cleaned).unwrap(), sent);
            }
        }
    }

    #[test]
    fn origins_are_read() {
        let origin = Origin::parse("http://127.0.0.1:3000/").unwrap();
        assert_eq!(
            (origin.addr, origin.authority.as_str()),
            (([127, 0, 0, 1], 3000).into(), "127.0.0.1:3000")
        );
        assert_eq!(Origin::parse("http://[::1]").unwrap().addr.port(), 80);
        for bad in [
            "127.0.0.1",
            "https://127.0.0.1",
            "http://127.0.0.1/x",
            "http://",
            "http://a@127.0.0.1",
            "http://h:x",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }
}
