//! A request as a program gets it: parameters (RFC 3875 section 4.1) and content.

use std::net::SocketAddr;

use runtime::buffer::{Aggregate, Buffer, Pool, Slice};
use runtime::stats::work::{Quantity, count};

use super::origin;
use super::route::{Config, Route, Target};
use crate::accelerator::{Asks, write_key};
use crate::http::reply;
use crate::http::request::{Method, Request};
use crate::http::response::{SERVER, Status};

/// A request, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a, 'b> {
    /// Its head.
    pub request: &'a Request<'b>,
    /// The client.
    pub peer: Option<SocketAddr>,
    /// Whether it came by HTTPS.
    pub secured: bool,
    /// Whose routes count.
    pub scope: u32,
}

/// Names and values, each ended by NUL.
#[derive(Clone, Debug, Default)]
pub struct Params {
    bytes: Vec<u8>,
}

impl Params {
    /// Appends a parameter, unless it holds a NUL.
    fn push(&mut self, name: &[u8], value: &[u8]) {
        if name.contains(&0) || value.contains(&0) {
            return;
        }
        for part in [name, value] {
            self.bytes.extend_from_slice(part);
            self.bytes.push(0);
        }
    }

    /// All of them, as they are kept.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The value of one.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut parts = self.bytes.split(|&b| b == 0);
        std::iter::from_fn(move || Some((parts.next().filter(|name| !name.is_empty())?, parts.next()?)))
    }
}

/// A request for a program, on its way to it.
#[derive(Debug)]
pub struct Ask {
    /// Number of the route.
    pub(super) route: usize,
    pub(super) params: Params,
    pub(super) content: Aggregate,
    /// The end of the content, in a buffer that has room.
    open: Option<(Buffer, usize)>,
    max_content: u64,
    pub(super) is_head: bool,
    /// Whether it may be asked twice (RFC 9110 section 9.2.1).
    pub(super) is_safe: bool,
    /// What another server gets instead of parameters.
    head: Vec<u8>,
    /// Whether it has content, though that may be empty.
    has_content: bool,
    /// What the cache has to know of it, if there is one.
    pub(super) caching: Option<Box<Caching>>,
}

/// What has to be known of a request to keep what is answered, or to answer it with what is kept.
#[derive(Clone, Debug)]
pub(super) struct Caching {
    pub(super) key: Box<[u8]>,
    /// The client's head.
    pub(super) head: Box<[u8]>,
    pub(super) asks: Asks,
    pub(super) is_get: bool,
    /// It asks for a part, or under conditions that only the origin can tell.
    pub(super) is_partial: bool,
    /// It forgets instead of asking, if it may.
    pub(super) is_purge: bool,
}

impl Caching {
    pub(super) fn new(request: &Request<'_>, key: &[u8]) -> Caching {
        Caching {
            key: key.into(),
            head: request.head.into(),
            asks: Asks::of(fields(request.head)),
            is_get: request.method == Method::Get,
            is_partial: request.range.is_some() || has_preconditions(request) || drops_fields(request),
            is_purge: request.method_name == "PURGE",
        }
    }
}

/// Whether it names fields that end here, and that a response might vary by: the origin does not see them.
fn drops_fields(request: &Request<'_>) -> bool {
    const HARMLESS: [&str; 5] = ["close", "keep-alive", "te", "upgrade", "http2-settings"];
    fields(request.head)
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"))
        .flat_map(|(_, value)| reply::list(value))
        .any(|option| !HARMLESS.iter().any(|other| option.eq_ignore_ascii_case(other.as_bytes())))
}

/// Whether it is to be answered only if the origin has what it names.
pub(super) fn has_preconditions(request: &Request<'_>) -> bool {
    !request.conditions.if_match.is_empty() || request.conditions.if_unmodified_since.is_some()
}

impl Ask {
    /// The request `asked` for `route`, the `number`th, below whose prefix its `path` is `rest`.
    pub(super) fn new(
        asked: &Asked<'_, '_>,
        (number, route): (usize, &Route),
        (path, rest): (&[u8], &[u8]),
        query: Option<&str>,
        more: &Config,
    ) -> Ask {
        let max_content = more.limits.max_content;
        let request = asked.request;
        if let Target::Origin(origin) = route.target() {
            let target = origin::forwarded_target(request.target, path, query);
            let mut head = Vec::with_capacity(request.head.len() + 128);
            origin::write_head(asked, origin, &target, |_| true, &mut head);
            let caching = more.cache.is_some().then(|| {
                let mut key = Vec::with_capacity(target.len() + 40);
                write_key(asked.secured, origin::forwarded_host(asked, origin), &target, &mut key);
                Box::new(Caching::new(request, &key))
            });
            return Ask { head, caching, ..Ask::without_params(request, number, max_content) };
        }
        let mut params = Params { bytes: Vec::with_capacity(request.head.len() * 2 + 256) };
        params.push(b"GATEWAY_INTERFACE", b"CGI/1.1");
        params.push(b"SERVER_SOFTWARE", SERVER.as_bytes());
        params.push(b"SERVER_PROTOCOL", request.version.name().as_bytes());
        params.push(b"REQUEST_METHOD", request.method_name.as_bytes());
        params.push(b"REQUEST_URI", request.target.as_bytes());
        params.push(b"SCRIPT_NAME", route.prefix().as_bytes());
        params.push(b"PATH_INFO", rest);
        params.push(b"QUERY_STRING", query.unwrap_or_default().as_bytes());
        if let Some(peer) = asked.peer {
            params.push(b"REMOTE_ADDR", peer.ip().to_canonical().to_string().as_bytes());
            params.push(b"REMOTE_PORT", peer.port().to_string().as_bytes());
        }
        if asked.secured {
            params.push(b"HTTPS", b"on");
        }
        let mut host = &b""[..];
        for (name, value) in fields(request.head) {
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            if is("host") {
                host = value;
            }
            if is("content-type") {
                params.push(b"CONTENT_TYPE", value);
            } else if !(is("content-length") || is("proxy") || name.contains(&b'_')) {
                // `Proxy` would become HTTP_PROXY, which many clients take for theirs; and of `X_A` and `X-A`
                // nobody could say which was sent.
                let mut upper = b"HTTP_".to_vec();
                upper.extend(name.iter().map(|&b| if b == b'-' { b'_' } else { b.to_ascii_uppercase() }));
                params.push(&upper, value);
            }
        }
        let (name, port) = name_and_port(host);
        params.push(b"SERVER_NAME", name);
        params.push(b"SERVER_PORT", port.unwrap_or(if asked.secured { b"443" } else { b"80" }));
        for (name, value) in &more.params {
            params.push(name.as_bytes(), value.as_bytes());
        }
        Ask { params, ..Ask::without_params(request, number, max_content) }
    }

    fn without_params(request: &Request<'_>, number: usize, max_content: u64) -> Ask {
        let has_content = request.is_chunked
            || request.content_length > 0
            || matches!(request.method_name, "POST" | "PUT" | "PATCH");
        Ask {
            route: number,
            params: Params::default(),
            content: Aggregate::new(),
            open: None,
            max_content,
            is_head: request.method == Method::Head,
            is_safe: matches!(request.method, Method::Get | Method::Head | Method::Options),
            head: Vec::new(),
            has_content,
            caching: None,
        }
    }

    /// The same request under the condition that what is kept is not right any more: `validators` are lines.
    pub(super) fn set_validators(&mut self, validators: &[u8]) {
        let conditions: [&[u8]; 4] = [b"if-none-match", b"if-modified-since", b"if-range", b"range"];
        let mut head = Vec::with_capacity(self.head.len() + validators.len());
        for line in self.head.split_inclusive(|&b| b == b'\n') {
            let name = line.split(|&b| b == b':').next().unwrap_or_default();
            if !conditions.iter().any(|other| name.eq_ignore_ascii_case(other)) {
                head.extend_from_slice(line);
            }
        }
        head.extend_from_slice(validators);
        self.head = head;
    }

    /// The head as another server gets it, once all of the content has come.
    pub(super) fn head_for_origin(&self) -> Vec<u8> {
        let mut head = self.head.clone();
        if self.has_content {
            head.extend_from_slice(format!("Content-Length: {}\r\n", self.content.len()).as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Most bytes of content that are taken.
    pub fn max_content(&self) -> u64 {
        self.max_content
    }

    /// Takes content in, into buffers of `pool`.
    ///
    /// # Errors
    /// What the client is told if there is too much of it, or of everybody's together.
    pub(super) fn add_content(&mut self, pool: &Pool, mut bytes: &[u8]) -> Result<(), Status> {
        let so_far = self.content.len() + self.open.as_ref().map_or(0, |(_, len)| *len);
        if (so_far + bytes.len()) as u64 > self.max_content {
            return Err(Status::ContentTooLarge);
        }
        count(Quantity::BytesCopied, bytes.len());
        while !bytes.is_empty() {
            let (mut buffer, len) = match self.open.take() {
                Some(open) => open,
                None => (pool.take().ok_or(Status::ServiceUnavailable)?, 0),
            };
            let part = bytes.len().min(buffer.len() - len);
            buffer[len..len + part].copy_from_slice(&bytes[..part]);
            bytes = &bytes[part..];
            self.open = Some((buffer, len + part));
            if self.open.as_ref().is_some_and(|(buffer, len)| *len == buffer.len()) {
                self.close();
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        if let Some((buffer, len)) = self.open.take() {
            let mut slice = Slice::from(buffer.freeze());
            slice.truncate(len);
            self.content.push(slice);
        }
    }

    /// All of the content has come.
    pub(super) fn finish(&mut self) {
        self.close();
        if !self.content.is_empty() {
            self.params.push(b"CONTENT_LENGTH", self.content.len().to_string().as_bytes());
        }
    }
}

/// The fields of a head that was checked.
pub(super) fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    let lines = head.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines = lines.skip_while(|line| line.is_empty()).skip(1);
    lines.filter_map(|line| {
        let colon = line.iter().position(|&b| b == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

/// `host:port` of a `Host` field that was checked; an IPv6 address has colons between its brackets.
fn name_and_port(host: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = host.iter().rposition(|&b| b == b']').map_or(0, |at| at + 1);
    match host[end..].iter().position(|&b| b == b':') {
        Some(colon) => {
            let port = &host[end + colon + 1..];
            (&host[..end + colon], (!port.is_empty()).then_some(port))
        }
        None => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::route::Address;
    use super::*;
    use crate::http::parse::{self, Parsed};
    use std::collections::BTreeMap;

    fn params(text: &str, secured: bool) -> BTreeMap<String, String> {
        let Parsed::Complete { request, .. } = parse::parse(text.as_bytes(), &parse::Limits::default())
        else {
            panic!("{text}")
        };
        let asked = Asked { request: &request, peer: Some(([192, 0, 2, 1], 99).into()), secured, scope: 0 };
        let route = Route::new("/app", Target::FastCgi(Address::Unix("/s".into()))).unwrap();
        let more = Config { params: vec![("APP".to_owned(), "x".to_owned())], ..Config::default() };
        let ask = Ask::new(&asked, (0, &route), (b"/app/p q", b"/p q"), Some("a=%20b"), &more);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let count = ask.params.iter().count();
        let map: BTreeMap<_, _> = ask.params.iter().map(|(name, value)| (text(name), text(value))).collect();
        assert_eq!(map.len(), count, "each once");
        map
    }

    #[test]
    fn a_request_becomes_parameters() {
        let params = params(
            "POST /app/p%20q?a=%20b HTTP/1.1\r\nHost: [::1]:8080\r\nX-Long-Name:  v \r\nProxy: evil\r\nX_Y: no\r\n\
             Content-Type: text/plain\r\nContent-Length: 3\r\nCookie: a=b\r\n\r\n",
            false,
        );
        for (name, value) in [
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", "/app/p%20q?a=%20b"),
            ("SCRIPT_NAME", "/app"),
            ("PATH_INFO", "/p q"),
            ("QUERY_STRING", "a=%20b"),
            ("SERVER_NAME", "[::1]"),
            ("SERVER_PORT", "8080"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("REMOTE_ADDR", "192.0.2.1"),
            ("HTTP_X_LONG_NAME", "v"),
            ("HTTP_COOKIE", "a=b"),
            ("CONTENT_TYPE", "text/plain"),
            ("APP", "x"),
        ] {
            assert_eq!(params.get(name).map(String::as_str), Some(value), "{name}");
        }
        for name in ["HTTP_PROXY", "HTTP_X_Y", "HTTP_CONTENT_TYPE", "HTTPS", "CONTENT_LENGTH"] {
            assert_eq!(params.get(name), None, "{name}");
        }
    }

    #[test]
    fn a_request_without_host_or_by_https() {
        let params = params("GET /app HTTP/1.0\r\n\r\n", true);
        assert_eq!((params["SERVER_NAME"].as_str(), params["SERVER_PORT"].as_str()), ("", "443"));
        assert_eq!(params["HTTPS"], "on");
    }
}
