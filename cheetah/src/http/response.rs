//! Response heads that are not kept ready: errors, redirects, partial content.

use std::io::Write;
use std::ops::Range;
use std::sync::LazyLock;

use runtime::buffer::Shared;

/// The status codes that this server gives (RFC 9110 section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// 200
    Ok,
    /// 201
    Created,
    /// 204
    NoContent,
    /// 206
    PartialContent,
    /// 301
    MovedPermanently,
    /// 302
    Found,
    /// 303
    SeeOther,
    /// 304
    NotModified,
    /// 307
    TemporaryRedirect,
    /// 308
    PermanentRedirect,
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 406
    NotAcceptable,
    /// 408
    RequestTimeout,
    /// 409
    Conflict,
    /// 410
    Gone,
    /// 412
    PreconditionFailed,
    /// 413
    ContentTooLarge,
    /// 414
    UriTooLong,
    /// 415
    UnsupportedMediaType,
    /// 416
    RangeNotSatisfiable,
    /// 417
    ExpectationFailed,
    /// 421
    MisdirectedRequest,
    /// 431 (RFC 6585)
    FieldsTooLarge,
    /// 500
    InternalServerError,
    /// 501
    NotImplemented,
    /// 502
    BadGateway,
    /// 503
    ServiceUnavailable,
    /// 504
    GatewayTimeout,
    /// 505
    VersionNotSupported,
    /// 507 (RFC 4918)
    InsufficientStorage,
}

impl Status {
    /// Every status, in ascending order: for counters.
    pub const ALL: [Status; 34] = [
        Status::Ok,
        Status::Created,
        Status::NoContent,
        Status::PartialContent,
        Status::MovedPermanently,
        Status::Found,
        Status::SeeOther,
        Status::NotModified,
        Status::TemporaryRedirect,
        Status::PermanentRedirect,
        Status::BadRequest,
        Status::Unauthorized,
        Status::Forbidden,
        Status::NotFound,
        Status::MethodNotAllowed,
        Status::NotAcceptable,
        Status::RequestTimeout,
        Status::Conflict,
        Status::Gone,
        Status::PreconditionFailed,
        Status::ContentTooLarge,
        Status::UriTooLong,
        Status::UnsupportedMediaType,
        Status::RangeNotSatisfiable,
        Status::ExpectationFailed,
        Status::MisdirectedRequest,
        Status::FieldsTooLarge,
        Status::InternalServerError,
        Status::NotImplemented,
        Status::BadGateway,
        Status::ServiceUnavailable,
        Status::GatewayTimeout,
        Status::VersionNotSupported,
        Status::InsufficientStorage,
    ];

    /// The code and the phrase as they stand in the status line.
    pub const fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::Created => "201 Created",
            Status::NoContent => "204 No Content",
            Status::PartialContent => "206 Partial Content",
            Status::MovedPermanently => "301 Moved Permanently",
            Status::Found => "302 Found",
            Status::SeeOther => "303 See Other",
            Status::NotModified => "304 Not Modified",
            Status::TemporaryRedirect => "307 Temporary Redirect",
            Status::PermanentRedirect => "308 Permanent Redirect",
            Status::BadRequest => "400 Bad Request",
            Status::Unauthorized => "401 Unauthorized",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::NotAcceptable => "406 Not Acceptable",
            Status::RequestTimeout => "408 Request Timeout",
            Status::Conflict => "409 Conflict",
            Status::Gone => "410 Gone",
            Status::PreconditionFailed => "412 Precondition Failed",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::UriTooLong => "414 URI Too Long",
            Status::UnsupportedMediaType => "415 Unsupported Media Type",
            Status::RangeNotSatisfiable => "416 Range Not Satisfiable",
            Status::ExpectationFailed => "417 Expectation Failed",
            Status::MisdirectedRequest => "421 Misdirected Request",
            Status::FieldsTooLarge => "431 Request Header Fields Too Large",
            Status::InternalServerError => "500 Internal Server Error",
            Status::NotImplemented => "501 Not Implemented",
            Status::BadGateway => "502 Bad Gateway",
            Status::ServiceUnavailable => "503 Service Unavailable",
            Status::GatewayTimeout => "504 Gateway Timeout",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
            Status::InsufficientStorage => "507 Insufficient Storage",
        }
    }

    /// Whether it sends who asked to another address.
    pub const fn is_redirect(self) -> bool {
        use Status::{Found, MovedPermanently, PermanentRedirect, SeeOther, TemporaryRedirect};
        matches!(self, MovedPermanently | Found | SeeOther | TemporaryRedirect | PermanentRedirect)
    }

    /// The status of that code, if it is one of these.
    pub fn of_code(code: u16) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.code() == code)
    }

    /// The code as a number.
    pub fn code(self) -> u16 {
        self.line().as_bytes()[..3].iter().fold(0, |n, &d| n * 10 + u16::from(d - b'0'))
    }
}

/// The methods that resources here allow.
pub const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Those that they allow where files may be put and deleted.
pub const ALLOW_CHANGES: &str = "GET, HEAD, OPTIONS, PUT, DELETE";

/// What the `Server` field says.
pub const SERVER: &str = "cheetah";

/// Writes status line and `Server` field.
pub fn begin(out: &mut Vec<u8>, status: Status) {
    line(out, format_args!("HTTP/1.1 {}", status.line()));
    line(out, format_args!("Server: {SERVER}"));
}

/// Writes one line of a head.
pub fn line(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(text);
    out.extend_from_slice(b"\r\n");
}

/// Writes a number, digit by digit: what each response bears costs less so than by way of a format.
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes one field whose value is bytes.
pub fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes `Content-Range` for the bytes `part`, which is not empty, of `size` (RFC 9110 section 14.4).
pub fn content_range(out: &mut Vec<u8>, part: &Range<u64>, size: u64) {
    line(out, format_args!("Content-Range: bytes {}-{}/{size}", part.start, part.end - 1));
}

/// Writes the head of a short page that says what a status means, without the head's end. `body_len` is the
/// length of [`page`], also where it is not sent; `allow` are the methods that would do where one does not.
pub fn page_head(out: &mut Vec<u8>, status: Status, body_len: usize, allow: &str) {
    begin(out, status);
    line(out, format_args!("Content-Type: text/html; charset=utf-8"));
    line(out, format_args!("Content-Length: {body_len}"));
    match status {
        Status::MethodNotAllowed => line(out, format_args!("Allow: {allow}")),
        // RFC 6750 section 3.
        Status::Unauthorized => line(out, format_args!("WWW-Authenticate: Bearer realm=\"{SERVER}\"")),
        _ => {}
    }
}

/// The page that says to people what `status` means: one buffer for the whole process.
pub fn page(status: Status) -> &'static Shared {
    static PAGES: LazyLock<Vec<Shared>> =
        LazyLock::new(|| Status::ALL.iter().map(|status| Shared::from(page_text(*status))).collect());
    &PAGES[status as usize]
}

fn page_text(status: Status) -> Vec<u8> {
    let text = status.line();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{text}</title></head>\n\
         <body><h1>{text}</h1><hr><p>{SERVER}</p></body></html>\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written() {
        for number in [0, 9, 10, 1_234_567_890, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn codes_ascend_and_are_complete() {
        let codes: Vec<u16> = Status::ALL.iter().map(|s| s.code()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        assert!(Status::ALL.iter().enumerate().all(|(i, &s)| s as usize == i));
    }

    #[test]
    fn every_status_has_its_own_page() {
        for status in Status::ALL {
            let page = String::from_utf8(page(status).to_vec()).unwrap();
            assert!(page.contains(&format!("<title>{}</title>", status.line())), "{page}");
        }
    }
}
