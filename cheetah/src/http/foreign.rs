//! Heads of responses that others make: programs, as RFC 3875 section 6 has it; other servers' are in
//! [`super::reply`].
//!
//! What comes from there is checked as strictly as what comes from a client: a line that could end a head
//! early, or two lengths, are refused. Fields that speak of the way and not of the content (`Connection`,
//! `Transfer-Encoding`, ...) are left out, for the way is ours.

use std::fmt;

use super::response::Status;

/// Longest head of a program's response in bytes.
pub const MAX_HEAD: usize = 16 * 1024;

/// Most fields in one.
pub(super) const MAX_FIELDS: usize = 100;

/// A checked head, but for the lines that are this server's: status line, `Server`, `Date`, framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignHead {
    /// The status code, 200 to 599.
    pub code: u16,
    /// The phrase behind it; may be empty.
    pub reason: String,
    /// The other fields, each line with its end.
    pub fields: Vec<u8>,
    /// `Content-Length`, if it was said.
    pub length: Option<u64>,
    /// Whether the fields say when the response was made, and by which server if that is to be said: another
    /// server's do.
    pub is_signed: bool,
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// It does not end within [`MAX_HEAD`] bytes.
    TooLong,
    /// More than 100 fields.
    TooManyFields,
    /// No field at all: a program's response begins with `Content-Type: ...`, `Status: ...` or `Location:
    /// ...`.
    Empty,
    /// A line that is no field.
    Line,
    /// `Status` that is no number from 200 to 599.
    Status,
    /// `Content-Length` that is no number, or two that differ.
    Length,
}

impl fmt::Display for BadHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadHead::TooLong => "its head does not end within 16384 bytes (an empty line ends it)",
            BadHead::TooManyFields => "its head has more than 100 fields",
            BadHead::Empty => {
                "it has no head: write `Content-Type: ...` and an empty line before the content"
            }
            BadHead::Line => "a line of its head is no field: write `Name: value`",
            BadHead::Status => "its Status is no number from 200 to 599",
            BadHead::Length => "its Content-Length is no number, or there are two",
        })
    }
}

/// Length of the head at the front of `bytes`, the empty line included, if all of it is there. Lines end in
/// LF or CR LF.
pub fn head_len(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    for at in memchr::memchr_iter(b'\n', bytes) {
        if matches!(&bytes[start..at], b"" | b"\r") {
            return Some(at + 1);
        }
        start = at + 1;
    }
    None
}

impl ForeignHead {
    /// Reads a program's head, [`head_len`] bytes.
    ///
    /// # Errors
    /// See [`BadHead`].
    pub fn parse(head: &[u8]) -> Result<ForeignHead, BadHead> {
        let mut parsed = ForeignHead::new(0, String::new());
        let mut has_location = false;
        let mut count = 0;
        for line in head.split(|&b| b == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            count += 1;
            if count > MAX_FIELDS {
                return Err(BadHead::TooManyFields);
            }
            let (name, value) = field_of(line)?;
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            if is("status") {
                (parsed.code, parsed.reason) = status(value).ok_or(BadHead::Status)?;
            } else if is("content-length") {
                parsed.set_length(value)?;
            } else if !(OF_THE_WAY.iter().chain(&OURS).any(|other| is(other))) {
                has_location |= is("location");
                parsed.push(name, value);
            }
        }
        if count == 0 {
            return Err(BadHead::Empty);
        }
        if parsed.code == 0 {
            parsed.code = if has_location { 302 } else { 200 };
        }
        if parsed.reason.is_empty() {
            parsed.reason = phrase(parsed.code).to_owned();
        }
        Ok(parsed)
    }

    /// A head without fields.
    pub(crate) fn new(code: u16, reason: String) -> ForeignHead {
        ForeignHead { code, reason, fields: Vec::new(), length: None, is_signed: false }
    }

    /// Appends a field.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        for part in [name, b": ", value, b"\r\n"] {
            self.fields.extend_from_slice(part);
        }
    }

    pub(super) fn set_length(&mut self, value: &[u8]) -> Result<(), BadHead> {
        let length = super::decimal(value).ok_or(BadHead::Length)?;
        if self.length.is_some_and(|earlier| earlier != length) {
            return Err(BadHead::Length);
        }
        self.length = Some(length);
        Ok(())
    }

    /// Whether content may follow a head of this status (RFC 9110 section 6.4.1).
    pub fn may_have_content(&self) -> bool {
        self.code != 204 && self.code != 304
    }
}

/// Name and value of a line that is a field.
pub(super) fn field_of(line: &[u8]) -> Result<(&[u8], &[u8]), BadHead> {
    let colon = line.iter().position(|&b| b == b':').ok_or(BadHead::Line)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let is_field = is_token(name) && value.iter().all(|&b| is_value_byte(b));
    if is_field { Ok((name, value)) } else { Err(BadHead::Line) }
}

/// Fields that this server writes itself where a program answers.
const OURS: [&str; 2] = ["date", "server"];

/// Fields that end here (RFC 9110 section 7.6.1).
pub(super) const OF_THE_WAY: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
];

fn status(value: &[u8]) -> Option<(u16, String)> {
    let digits = value.get(..3)?;
    let code = u16::try_from(super::decimal(digits)?).ok().filter(|code| (200..600).contains(code))?;
    match &value[3..] {
        [] => Some((code, String::new())),
        [b' ', reason @ ..] => Some((code, String::from_utf8_lossy(reason.trim_ascii()).into_owned())),
        _ => None,
    }
}

pub(super) fn phrase(code: u16) -> &'static str {
    match code {
        201 => "Created",
        202 => "Accepted",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        401 => "Unauthorized",
        409 => "Conflict",
        410 => "Gone",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        _ => Status::of_code(code).map_or("", |status| &status.line()[4..]),
    }
}

/// Whether it could be a field's name (RFC 9110 section 5.6.2).
pub(crate) fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&b| is_token_byte(b))
}

fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn is_value_byte(b: u8) -> bool {
    b == b'\t' || b >= b' ' && b != 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<ForeignHead, BadHead> {
        ForeignHead::parse(text.as_bytes())
    }

    #[test]
    fn heads_of_programs() {
        let head = parse("Content-Type: text/plain\nX-A:  b \r\n\r\n").unwrap();
        assert_eq!((head.code, head.reason.as_str(), head.length), (200, "OK", None));
        assert_eq!(head.fields, b"Content-Type: text/plain\r\nX-A: b\r\n");
        let head = parse("Status: 404 Not here\ncontent-length: 5\nContent-Length: 5\n\n").unwrap();
        assert_eq!((head.code, head.reason.as_str(), head.length), (404, "Not here", Some(5)));
        assert!(head.fields.is_empty());
        assert_eq!(parse("Location: /else\n\n").unwrap().code, 302);
        assert_eq!(parse("Location: /else\nStatus: 201\n\n").unwrap().reason, "Created");
        assert_eq!(
            parse("Transfer-Encoding: chunked\nDate: x\nConnection: upgrade\n\n").unwrap().fields,
            b""
        );
    }

    #[test]
    fn what_could_be_taken_for_something_else_is_refused() {
        for (text, bad) in [
            ("\n", BadHead::Empty),
            ("", BadHead::Empty),
            ("no field\n\n", BadHead::Line),
            ("A b: c\n\n", BadHead::Line),
            (": c\n\n", BadHead::Line),
            ("A: b\rSet-Cookie: c\n\n", BadHead::Line),
            ("A: b\0\n\n", BadHead::Line),
            (" folded: x\n\n", BadHead::Line),
            ("Status: 99\n\n", BadHead::Status),
            ("Status: 101 Switching\n\n", BadHead::Status),
            ("Status: 600\n\n", BadHead::Status),
            ("Status: 2000\n\n", BadHead::Status),
            ("Content-Length: 5\nContent-Length: 6\n\n", BadHead::Length),
            ("Content-Length: -1\n\n", BadHead::Length),
        ] {
            assert_eq!(parse(text), Err(bad), "{text:?}");
        }
        let many = "A: b\n".repeat(101);
        assert_eq!(parse(&many), Err(BadHead::TooManyFields));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_second_head(bytes in prop::collection::vec(prop_oneof![
            Just(b'\n'), Just(b'\r'), Just(b':'), Just(b'A'), Just(b' '), any::<u8>()], 0..60)) {
            if let Some(len) = head_len(&bytes) {
                prop_assert!(len <= bytes.len());
                if let Ok(head) = ForeignHead::parse(&bytes[..len]) {
                    let text = head.fields;
                    let lines = text.split(|&b| b == b'\n').count() - 1;
                    let ends = text.windows(2).filter(|pair| pair == b"\r\n").count();
                    prop_assert_eq!(lines, ends);
                    prop_assert!(!text.starts_with(b"\r\n"));
                    prop_assert!(!text.windows(4).any(|four| four == b"\r\n\r\n"));
                    prop_assert!(!text.contains(&0));
                }
            }
        }
    }
}
