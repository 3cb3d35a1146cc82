//! From bytes to a checked request head (RFC 9112), on top of `httparse`.
//!
//! A head is parsed only when it may be whole: [`HeadEnd`] watches for its end, so a client that sends one
//! byte at a time costs one look at each byte and not one parse. What does not parse ends the connection,
//! since after it nobody can say where the next request begins.

use std::mem::MaybeUninit;

use super::coding;
use super::decimal;
use super::request::{ContentIs, Method, Request, Version};
use super::response::Status;
use crate::http::conditional::Conditions;

/// Most header fields in a request.
pub const MAX_FIELDS: usize = 64;

/// Sizes beyond which a request is refused.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest request line in bytes; longer is 414.
    pub request_line: usize,
    /// Longest head in bytes, request line included; longer is 431.
    pub head: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { request_line: 8 * 1024, head: 16 * 1024 }
    }
}

/// A watcher for the empty line that ends a head, fed with a buffer that only grows.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadEnd {
    /// Bytes of the buffer already looked at; of one beyond 4 GiB, so many.
    scanned: u32,
}

impl HeadEnd {
    /// Whether nothing was looked at yet.
    pub fn is_fresh(&self) -> bool {
        self.scanned == 0
    }

    /// Whether `buffer` holds the end of a head. Looks at each byte once over all calls, and a few again.
    pub fn seen(&mut self, buffer: &[u8]) -> bool {
        // An empty line is LF LF or LF CR LF; the first LF may be among the last two bytes of what was there
        // before.
        let from = self.scanned.saturating_sub(2) as usize;
        let mut rest = &buffer[from.min(buffer.len())..];
        // Blank lines ahead of a request line end nothing (RFC 9112 section 2.2).
        if from == 0 {
            let blank = rest.iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
            rest = &rest[blank..];
        }
        while let Some(lf) = rest.iter().position(|&b| b == b'\n') {
            rest = &rest[lf + 1..];
            if rest.starts_with(b"\n") || rest.starts_with(b"\r\n") {
                return true;
            }
        }
        self.scanned = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        false
    }
}

/// The outcome of looking for a request head at the front of a buffer.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is looked at once, where it was made; a box would be an allocation a request"
)]
pub enum Parsed<'a> {
    /// A head of `len` bytes.
    Complete {
        /// What it says.
        request: Request<'a>,
        /// Its length, empty line included.
        len: usize,
    },
    /// So far nothing is wrong with it, but it is not all there.
    Partial,
    /// Refused: answer with this status and close the connection.
    Refused(Status),
}

/// Parses the head at the front of `buffer`.
pub fn parse<'a>(buffer: &'a [u8], limits: &Limits) -> Parsed<'a> {
    // More than a head's worth cannot be part of the head.
    let window = &buffer[..buffer.len().min(limits.head)];
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(window, &mut fields) {
        Ok(httparse::Status::Complete(len)) => {
            if len > limits.request_line && request_line_len(window) > limits.request_line {
                return Parsed::Refused(Status::UriTooLong);
            }
            // What one party takes for two lines another takes for one (RFC 9112 section 2.2 allows it, at a
            // risk).
            if has_bare_lf(&window[..len]) {
                return Parsed::Refused(Status::BadRequest);
            }
            match check(&head) {
                Ok(request) => Parsed::Complete { request: Request { head: &window[..len], ..request }, len },
                Err(status) => Parsed::Refused(status),
            }
        }
        Ok(httparse::Status::Partial) => {
            if request_line_len(window) > limits.request_line {
                Parsed::Refused(Status::UriTooLong)
            } else if buffer.len() >= limits.head {
                Parsed::Refused(Status::FieldsTooLarge)
            } else {
                Parsed::Partial
            }
        }
        Err(httparse::Error::TooManyHeaders) => Parsed::Refused(Status::FieldsTooLarge),
        Err(httparse::Error::Version) if names_another_version(window) => {
            Parsed::Refused(Status::VersionNotSupported)
        }
        Err(_) => Parsed::Refused(Status::BadRequest),
    }
}

/// Whether a line of `head` ends without a CR.
fn has_bare_lf(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

/// Length of the first line that is not blank, without its end; all of it if it has no end yet.
fn request_line_len(buffer: &[u8]) -> usize {
    let blank = buffer.iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
    let rest = &buffer[blank..];
    rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
}

/// Whether the request line is one but for its version, `HTTP/x.y`: as opposed to nonsense.
fn names_another_version(buffer: &[u8]) -> bool {
    let blank = buffer.iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
    let line = buffer[blank..].split(|&b| b == b'\n').next().unwrap_or_default().trim_ascii_end();
    let mut words = line.split(|&b| b == b' ');
    let (Some(_method), Some(_target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Reads the fields that matter and refuses what RFC 9112 says to refuse.
fn check<'a>(head: &httparse::Request<'_, 'a>) -> Result<Request<'a>, Status> {
    let (Some(method_name), Some(target), Some(minor)) = (head.method, head.path, head.version) else {
        return Err(Status::BadRequest);
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let mut conditions = Conditions::default();
    let (mut hosts, mut host) = (0, &b""[..]);
    let (mut close, mut keep_alive) = (false, false);
    let mut content_length = None;
    let mut transfer_codings = TransferCodings::None;
    let mut expects_continue = false;
    let mut accept_encoding = coding::Lines::new();
    let (mut accept, mut range, mut available_dictionary) = (Single::None, Single::None, Single::None);
    let (mut if_modified_since, mut if_unmodified_since) = (Single::None, Single::None);
    let mut if_range = Single::None;
    let (mut referer, mut user_agent) = (&b""[..], &b""[..]);
    let (mut authorization, mut content_is) = (Single::None, ContentIs::Plain);
    for field in head.headers.iter() {
        let value = field.value;
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        // By length first: most fields of a browser are none of ours.
        match field.name.len() {
            4 if is("host") => {
                hosts += 1;
                host = value;
                if !is_host(value) {
                    return Err(Status::BadRequest);
                }
            }
            5 if is("range") => range.add(value),
            6 if is("accept") => accept.add(value),
            6 if is("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Status::ExpectationFailed);
                }
                expects_continue = true;
            }
            7 if is("referer") => referer = value,
            8 if is("if-match") => conditions.if_match.push(value),
            8 if is("if-range") => if_range.add(value),
            10 if is("connection") => {
                for option in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            10 if is("user-agent") => user_agent = value,
            13 if is("authorization") => authorization.add(value),
            13 if is("content-range") => content_is = ContentIs::Part,
            16 if is("content-encoding") && !value.eq_ignore_ascii_case(b"identity") => {
                content_is = ContentIs::Coded;
            }
            13 if is("if-none-match") => conditions.if_none_match.push(value),
            14 if is("content-length") => {
                let length = decimal(value).ok_or(Status::BadRequest)?;
                if content_length.is_some_and(|earlier| earlier != length) {
                    return Err(Status::BadRequest);
                }
                content_length = Some(length);
            }
            15 if is("accept-encoding") => accept_encoding.push(value),
            17 if is("if-modified-since") => if_modified_since.add(value),
            20 if is("available-dictionary") => available_dictionary.add(value),
            17 if is("transfer-encoding") => transfer_codings.add(value),
            19 if is("if-unmodified-since") => if_unmodified_since.add(value),
            _ => {}
        }
    }
    // RFC 9112 section 3.2: exactly one Host, except that HTTP/1.0 may leave it out.
    if hosts > 1 || (hosts == 0 && version > Version::Http10) {
        return Err(Status::BadRequest);
    }
    let mut is_chunked = false;
    // Both lengths at once, or a transfer coding from a 1.0 client, is how requests are smuggled (section
    // 6.1).
    match transfer_codings {
        TransferCodings::None => {}
        _ if content_length.is_some() || version == Version::Http10 => return Err(Status::BadRequest),
        TransferCodings::Unframed | TransferCodings::Misplaced => return Err(Status::BadRequest),
        TransferCodings::Unknown => return Err(Status::NotImplemented),
        TransferCodings::Chunked => is_chunked = true,
    }
    conditions.if_modified_since = if_modified_since.get();
    conditions.if_unmodified_since = if_unmodified_since.get();
    conditions.if_range = if_range.get();
    Ok(Request {
        head: &[],
        method: Method::from_token(method_name.as_bytes()),
        method_name,
        target,
        host,
        version,
        keep_alive: !close && (version > Version::Http10 || keep_alive),
        content_length: content_length.unwrap_or(0),
        is_chunked,
        expects_continue: expects_continue && version > Version::Http10,
        accept: accept.get().unwrap_or_default(),
        accept_encoding,
        available_dictionary: available_dictionary.get().unwrap_or_default(),
        range: range.get(),
        conditions,
        authorization: authorization.get().unwrap_or_default(),
        content_is,
        referer,
        user_agent,
    })
}

/// A field that may come once; sent more often, it says nothing.
enum Single<'a> {
    None,
    One(&'a [u8]),
    Many,
}

impl<'a> Single<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Single::None => Single::One(value),
            Single::One(_) | Single::Many => Single::Many,
        };
    }

    fn get(self) -> Option<&'a [u8]> {
        match self {
            Single::One(value) => Some(value),
            Single::None | Single::Many => None,
        }
    }
}

/// The transfer codings of a request (RFC 9112 section 6.1), as far as they decide how it is answered.
#[derive(Clone, Copy)]
enum TransferCodings {
    None,
    /// `chunked` alone.
    Chunked,
    /// A coding that is not known here, then `chunked`: 501.
    Unknown,
    /// No `chunked` yet, so that nobody can say where the content ends: 400.
    Unframed,
    /// Something behind `chunked`: 400, whatever follows.
    Misplaced,
}

impl TransferCodings {
    fn add(&mut self, value: &[u8]) {
        for coding in value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty())
        {
            let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
            *self = match (*self, is_chunked) {
                (TransferCodings::None, true) => TransferCodings::Chunked,
                (TransferCodings::None | TransferCodings::Unframed, false) => TransferCodings::Unframed,
                (TransferCodings::Unframed, true) => TransferCodings::Unknown,
                (TransferCodings::Chunked | TransferCodings::Unknown | TransferCodings::Misplaced, _) => {
                    TransferCodings::Misplaced
                }
            };
        }
    }
}

/// `uri-host [ ":" port ]` (RFC 3986 section 3.2), or empty.
pub(crate) fn is_host(value: &[u8]) -> bool {
    let (is_name, port) = match value.strip_prefix(b"[") {
        Some(literal) => {
            let Some(end) = literal.iter().position(|&b| b == b']') else { return false };
            (is_ip_literal(&literal[..end]), &literal[end + 1..])
        }
        None => {
            let end = value.iter().position(|&b| b == b':').unwrap_or(value.len());
            (is_registered_name(&value[..end]), &value[end..])
        }
    };
    is_name && (port.is_empty() || port[0] == b':' && port[1..].iter().all(u8::is_ascii_digit))
}

/// What stands between the brackets: an IPv6 address, or one of a version yet to come (`v1.fe80`).
fn is_ip_literal(text: &[u8]) -> bool {
    if let [b'v' | b'V', rest @ ..] = text {
        let Some(dot) = rest.iter().position(|&b| b == b'.') else { return false };
        let (version, address) = (&rest[..dot], &rest[dot + 1..]);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&b| is_unreserved_or_sub_delimiter(b) || b == b':');
    }
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

/// `reg-name`, of which an IPv4 address is one.
fn is_registered_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((&b, after)) = rest.split_first() {
        rest = match (b, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
            (b'%', _) => return false,
            _ if is_unreserved_or_sub_delimiter(b) => after,
            _ => return false,
        };
    }
    true
}

fn is_unreserved_or_sub_delimiter(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&b)
}

#[cfg(test)]
mod tests;
