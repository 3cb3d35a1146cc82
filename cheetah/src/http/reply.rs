//! Heads of responses of another server (RFC 9112 sections 4 and 6.3): checked, cleared of what speaks of the
//! way, and how long their content is.
//!
//! What two parties could read in two ways is refused: two lengths, a length beside chunks, a transfer coding
//! that is not just `chunked`, a name before a blank, a line that goes on in the next one.

use super::foreign::{self, BadHead, ForeignHead};

/// How the end of a response's content is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Sized(u64),
    /// In chunks.
    Chunked,
    /// It is that of the connection.
    UntilEnd,
}

/// A head of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyHead {
    /// What goes on to whoever asked.
    pub head: ForeignHead,
    /// Where its content ends, if it was a GET that asked.
    pub framing: Framing,
    /// Whether the connection may be used again.
    pub keeps: bool,
}

/// What a head is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// That of the response.
    Final(Box<ReplyHead>),
    /// Of an interim one (1xx), which says nothing that goes on: another head follows.
    Interim,
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadReply {
    /// Its first line is not `HTTP/1.1 200 OK`, or alike.
    StatusLine,
    /// It changes to another protocol, which nobody asked for.
    Switches,
    /// A transfer coding that is not `chunked`, more than one, or one beside a length.
    Framing,
    /// As a program's could be.
    Head(BadHead),
}

impl std::fmt::Display for BadReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadReply::StatusLine => f.write_str("what it says does not begin as HTTP/1.1 does"),
            BadReply::Switches => f.write_str("it changes to another protocol (101)"),
            BadReply::Framing => f.write_str("the end of its content could be found in two ways, or in none"),
            BadReply::Head(bad) => bad.fmt(f),
        }
    }
}

/// Reads a head, all of [`foreign::head_len`] bytes.
///
/// # Errors
/// See [`BadReply`].
pub fn parse(head: &[u8]) -> Result<Reply, BadReply> {
    let mut lines = head.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let (minor, code, reason) = status_line(first).ok_or(BadReply::StatusLine)?;
    match code {
        101 => return Err(BadReply::Switches),
        100..200 => return Ok(Reply::Interim),
        _ => {}
    }
    let mut fields = Vec::with_capacity(24);
    for line in lines.filter(|line| !line.is_empty()) {
        if fields.len() == foreign::MAX_FIELDS {
            return Err(BadReply::Head(BadHead::TooManyFields));
        }
        fields.push(foreign::field_of(line).map_err(BadReply::Head)?);
    }
    let values = |wanted: &'static str| {
        let of = fields.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
        of.map(|(_, value)| *value)
    };
    // What `Connection` names is of the way, too.
    let named: Vec<&[u8]> = values("connection").flat_map(list).collect();
    let names = |name: &[u8]| named.iter().any(|other| other.eq_ignore_ascii_case(name));
    let reason = if reason.is_empty() { foreign::phrase(code).to_owned() } else { reason };
    let mut parsed = ForeignHead::new(code, reason);
    let mut chunked = None;
    for &(name, value) in &fields {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("content-length") {
            parsed.set_length(value).map_err(BadReply::Head)?;
        } else if is("transfer-encoding") {
            let is_known = chunked.is_none() && value.eq_ignore_ascii_case(b"chunked") && minor > 0;
            if !is_known {
                return Err(BadReply::Framing);
            }
            chunked = Some(());
        } else if !(foreign::OF_THE_WAY.iter().any(|other| is(other)) || names(name)) {
            parsed.is_signed |= is("date");
            parsed.push(name, value);
        }
    }
    let framing = match (chunked, parsed.length) {
        (Some(()), Some(_)) => return Err(BadReply::Framing),
        _ if !parsed.may_have_content() => Framing::Sized(0),
        (Some(()), None) => Framing::Chunked,
        (None, Some(length)) => Framing::Sized(length),
        (None, None) => Framing::UntilEnd,
    };
    let keeps = if minor == 0 { names(b"keep-alive") } else { !names(b"close") };
    Ok(Reply::Final(Box::new(ReplyHead { head: parsed, framing, keeps })))
}

/// The members of a list in a field.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// The minor version, the code and the phrase of `HTTP/1.1 200 OK`.
fn status_line(line: &[u8]) -> Option<(u8, u16, String)> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = rest.split_first()?;
    let code = rest.strip_prefix(b" ")?;
    let (digits, reason) = code.split_at_checked(3)?;
    let code = u16::try_from(super::decimal(digits)?).ok().filter(|code| (100..600).contains(code))?;
    let reason = match reason {
        [] => &b""[..],
        [b' ', reason @ ..] => reason,
        _ => return None,
    };
    // What it is made of may be of any coding, and says nothing.
    let is_plain = reason.iter().all(|&b| b == b'\t' || (b' '..0x7f).contains(&b));
    let reason =
        if is_plain { String::from_utf8_lossy(reason.trim_ascii()).into_owned() } else { String::new() };
    minor.is_ascii_digit().then_some((minor - b'0', code, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply(text: &str) -> ReplyHead {
        match parse(text.as_bytes()) {
            Ok(Reply::Final(head)) => *head,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn what_goes_on_and_what_does_not() {
        let got = reply(
            "HTTP/1.1 200 Fine\r\nServer: o\r\nDate: d\r\nConnection: X-Way, keep-alive\r\nX-Way: 1\r\nKeep-Alive: 5\r\n\
             Content-Length: 3\r\nStatus: 500\r\nX-Too:\r\n\r\n",
        );
        assert_eq!((got.head.code, got.head.reason.as_str(), got.framing), (200, "Fine", Framing::Sized(3)));
        assert_eq!(got.head.fields, b"Server: o\r\nDate: d\r\nStatus: 500\r\nX-Too: \r\n");
        assert!(got.keeps && got.head.is_signed);
    }

    #[test]
    fn where_content_ends() {
        let framing = |fields: &str| reply(&format!("HTTP/1.1 200\r\n{fields}\r\n")).framing;
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Framing::Chunked);
        assert_eq!(framing("Content-Length: 5\r\ncontent-length: 5\r\n"), Framing::Sized(5));
        assert_eq!(framing(""), Framing::UntilEnd);
        for none in ["204 No Content", "304 Not Modified"] {
            let got = reply(&format!("HTTP/1.1 {none}\r\nContent-Length: 5\r\n\r\n"));
            assert_eq!((got.framing, got.head.length), (Framing::Sized(0), Some(5)));
        }
        let keeps = |text: &str| reply(text).keeps;
        assert!(
            !keeps("HTTP/1.0 200 OK\r\n\r\n") && keeps("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n")
        );
        assert!(
            keeps("HTTP/1.1 200 OK\r\n\r\n") && !keeps("HTTP/1.1 200 OK\r\nConnection: a, close\r\n\r\n")
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (text, bad) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                BadReply::Head(BadHead::Length),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", BadReply::Head(BadHead::Length)),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", BadReply::Head(BadHead::Length)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", BadReply::Framing),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", BadReply::Framing),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                BadReply::Framing,
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n", BadReply::Framing),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", BadReply::Framing),
            ("HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", BadReply::Head(BadHead::Line)),
            ("HTTP/1.1 200 OK\r\nA: b\r\n Content-Length: 5\r\n\r\n", BadReply::Head(BadHead::Line)),
            ("HTTP/1.1 200 OK\r\nA: b\rX: y\r\n\r\n", BadReply::Head(BadHead::Line)),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", BadReply::Switches),
            ("HTTP/2 200\r\n\r\n", BadReply::StatusLine),
            ("HTTP/1.1  200 OK\r\n\r\n", BadReply::StatusLine),
            ("HTTP/1.1 99 OK\r\n\r\n", BadReply::StatusLine),
            ("HTTP/1.1 600 OK\r\n\r\n", BadReply::StatusLine),
            ("200 OK\r\n\r\n", BadReply::StatusLine),
            ("\r\n", BadReply::StatusLine),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(bad), "{text:?}");
        }
        assert_eq!(parse(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), Ok(Reply::Interim));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_second_head(bytes in prop::collection::vec(prop_oneof![
            Just(b'\n'), Just(b'\r'), Just(b':'), Just(b'A'), Just(b' '), any::<u8>()], 0..60)) {
            let text = [&b"HTTP/1.1 200 "[..], &bytes, b"\r\n\r\n"].concat();
            let len = foreign::head_len(&text).unwrap();
            if let Ok(Reply::Final(reply)) = parse(&text[..len]) {
                let fields = [reply.head.reason.as_bytes(), b"\r\n", &reply.head.fields].concat();
                let lines = fields.split(|&b| b == b'\n').count() - 1;
                prop_assert_eq!(lines, fields.windows(2).filter(|pair| pair == b"\r\n").count());
                prop_assert!(!fields.windows(4).any(|four| four == b"\r\n\r\n"));
                prop_assert!(!fields.contains(&0));
            }
        }
    }
}
