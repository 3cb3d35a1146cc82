//! Response heads that are not kept ready: errors, redirects, partial content.

use std::io::Write;

/// The status codes that this server gives (RFC 9110 section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// 200
    Ok,
    /// 204
    NoContent,
    /// 206
    PartialContent,
    /// 301
    MovedPermanently,
    /// 304
    NotModified,
    /// 400
    BadRequest,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 408
    RequestTimeout,
    /// 411
    LengthRequired,
    /// 412
    PreconditionFailed,
    /// 413
    ContentTooLarge,
    /// 414
    UriTooLong,
    /// 416
    RangeNotSatisfiable,
    /// 417
    ExpectationFailed,
    /// 431 (RFC 6585)
    FieldsTooLarge,
    /// 501
    NotImplemented,
    /// 505
    VersionNotSupported,
}

impl Status {
    /// Every status, in ascending order: for counters.
    pub const ALL: [Status; 18] = [
        Status::Ok,
        Status::NoContent,
        Status::PartialContent,
        Status::MovedPermanently,
        Status::NotModified,
        Status::BadRequest,
        Status::NotFound,
        Status::MethodNotAllowed,
        Status::RequestTimeout,
        Status::LengthRequired,
        Status::PreconditionFailed,
        Status::ContentTooLarge,
        Status::UriTooLong,
        Status::RangeNotSatisfiable,
        Status::ExpectationFailed,
        Status::FieldsTooLarge,
        Status::NotImplemented,
        Status::VersionNotSupported,
    ];

    /// The code and the phrase as they stand in the status line.
    pub const fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::NoContent => "204 No Content",
            Status::PartialContent => "206 Partial Content",
            Status::MovedPermanently => "301 Moved Permanently",
            Status::NotModified => "304 Not Modified",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::LengthRequired => "411 Length Required",
            Status::PreconditionFailed => "412 Precondition Failed",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::UriTooLong => "414 URI Too Long",
            Status::RangeNotSatisfiable => "416 Range Not Satisfiable",
            Status::ExpectationFailed => "417 Expectation Failed",
            Status::FieldsTooLarge => "431 Request Header Fields Too Large",
            Status::NotImplemented => "501 Not Implemented",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    /// The code as a number.
    pub fn code(self) -> u16 {
        self.line().as_bytes()[..3].iter().fold(0, |n, &d| n * 10 + u16::from(d - b'0'))
    }
}

/// The methods that resources here allow.
pub const ALLOW: &str = "GET, HEAD, OPTIONS";

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

/// Writes one field whose value is bytes.
pub fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a short page that says what a status means, for people, without the head's end. With `head_only` the body is
/// left out but its length still told. Returns where the head ends in `out`.
pub fn page_head(out: &mut Vec<u8>, status: Status, body_len: usize) {
    begin(out, status);
    line(out, format_args!("Content-Type: text/html; charset=utf-8"));
    line(out, format_args!("Content-Length: {body_len}"));
    if status == Status::MethodNotAllowed {
        line(out, format_args!("Allow: {ALLOW}"));
    }
}

/// Writes the page's body.
pub fn page_body(out: &mut Vec<u8>, status: Status) {
    let text = status.line();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{text}</title></head>\n\
         <body><h1>{text}</h1><hr><p>{SERVER}</p></body></html>\n"
    );
}

/// Length of [`page_body`] in bytes.
pub fn page_body_len(status: Status) -> usize {
    let mut body = Vec::with_capacity(256);
    page_body(&mut body, status);
    body.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_and_are_complete() {
        let codes: Vec<u16> = Status::ALL.iter().map(|s| s.code()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        assert!(Status::ALL.iter().enumerate().all(|(i, &s)| s as usize == i));
    }

    #[test]
    fn a_page_is_as_long_as_it_says() {
        for status in Status::ALL {
            let mut body = Vec::new();
            page_body(&mut body, status);
            assert_eq!(body.len(), page_body_len(status));
        }
    }
}
