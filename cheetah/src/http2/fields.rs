//! The fields of a request as HTTP/2 has them, checked (RFC 9113 sections 8.2 and 8.3) and written as the
//! head that HTTP/1.1 would have: what follows is the same for both.

use std::ops::Range;

use super::priority::Priority;
use crate::http::hpack;

/// Takes fields in their order.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// Values of pseudo-fields, one behind the other.
    pseudo: Vec<u8>,
    method: Option<Range<usize>>,
    scheme: Option<Range<usize>>,
    authority: Option<Range<usize>>,
    path: Option<Range<usize>>,
    /// The other fields as lines.
    lines: Vec<u8>,
    /// What came in several fields and is one (section 8.2.3).
    cookie: Vec<u8>,
    host: Option<Range<usize>>,
    pub(super) priority: Option<Priority>,
    pub(super) has_length: bool,
    is_malformed: bool,
    is_too_large: bool,
}

/// What is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadFields {
    /// Against the rules: the stream ends (section 8.1.1).
    Malformed,
    /// More bytes than are taken.
    TooLarge,
}

impl Fields {
    /// None yet; the memory of others is used again.
    pub(super) fn reuse(self) -> Fields {
        let Fields { mut pseudo, mut lines, mut cookie, .. } = self;
        for buffer in [&mut pseudo, &mut lines, &mut cookie] {
            buffer.clear();
            buffer.shrink_to(16 * 1024);
        }
        Fields { pseudo, lines, cookie, ..Fields::default() }
    }

    /// The next field. More than `limit` bytes of all are not kept.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8], limit: usize) {
        let so_far = self.pseudo.len() + self.lines.len() + self.cookie.len();
        if so_far + name.len() + value.len() + 4 > limit {
            self.is_too_large = true;
        } else if !is_value(value) || !self.keep(name, value) {
            self.is_malformed = true;
        }
    }

    /// Whether it may stand there.
    fn keep(&mut self, name: &[u8], value: &[u8]) -> bool {
        if name.first() == Some(&b':') {
            let place = match name {
                b":method" => &mut self.method,
                b":scheme" => &mut self.scheme,
                b":authority" => &mut self.authority,
                b":path" => &mut self.path,
                _ => return false,
            };
            let is_first = place.is_none() && self.lines.is_empty() && self.cookie.is_empty();
            *place = Some(self.pseudo.len()..self.pseudo.len() + value.len());
            self.pseudo.extend_from_slice(value);
            // Spaces would make one line of what is two values.
            return is_first && value.iter().all(|byte| !matches!(byte, b' ' | b'\t'));
        }
        if !is_name(name) || hpack::is_of_connection(name) {
            return false;
        }
        match name {
            b"te" => return value.eq_ignore_ascii_case(b"trailers"),
            b"cookie" => {
                if !self.cookie.is_empty() {
                    self.cookie.extend_from_slice(b"; ");
                }
                self.cookie.extend_from_slice(value);
                return true;
            }
            b"priority" => self.priority = Some(Priority::parse(value)),
            b"content-length" => self.has_length = true,
            b"host" => {
                let at = self.lines.len() + 6;
                if self.host.replace(at..at + value.len()).is_some() {
                    return false;
                }
            }
            _ => {}
        }
        for part in [name, b": ", value, b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
        true
    }

    /// Whether they may follow content (section 8.1): no pseudo-fields.
    pub(super) fn are_trailers(&self) -> bool {
        !self.is_malformed && self.pseudo.is_empty()
    }

    /// Appends the head to `out`.
    ///
    /// # Errors
    /// [`BadFields`].
    pub(super) fn write_head(&self, out: &mut Vec<u8>) -> Result<(), BadFields> {
        if self.is_malformed {
            return Err(BadFields::Malformed);
        }
        if self.is_too_large {
            return Err(BadFields::TooLarge);
        }
        let value = |range: &Option<Range<usize>>| range.clone().map(|range| &self.pseudo[range]);
        let (method, authority) = (value(&self.method).ok_or(BadFields::Malformed)?, value(&self.authority));
        let target = match (value(&self.scheme), value(&self.path)) {
            (None, None) if method == b"CONNECT" => authority.ok_or(BadFields::Malformed)?,
            (Some(b"http" | b"https"), Some(path))
                if method != b"CONNECT"
                    && (path.starts_with(b"/") || (path == b"*" && method == b"OPTIONS")) =>
            {
                path
            }
            _ => return Err(BadFields::Malformed),
        };
        let host = self.host.clone().map(|range| &self.lines[range]);
        if let (Some(authority), Some(host)) = (authority, host)
            && !authority.eq_ignore_ascii_case(host)
        {
            return Err(BadFields::Malformed);
        }
        for part in [method, b" ", target, b" HTTP/1.1\r\n"] {
            out.extend_from_slice(part);
        }
        if let (Some(authority), None) = (authority, host) {
            for part in [b"host: ", authority, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(&self.lines);
        if !self.cookie.is_empty() {
            for part in [b"cookie: ", &self.cookie[..], b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// A token without capitals (section 8.2.1).
fn is_name(name: &[u8]) -> bool {
    let is_token =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_token)
}

/// Neither ends a line nor begins or ends with a space.
fn is_value(value: &[u8]) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
        && !is_space(value.first())
        && !is_space(value.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> Result<String, BadFields> {
        let mut all = Fields::default();
        fields.iter().for_each(|(name, value)| all.take(name.as_bytes(), value.as_bytes(), 1000));
        let mut out = Vec::new();
        all.write_head(&mut out).map(|()| String::from_utf8(out).unwrap())
    }

    const GET: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "https"), (":path", "/a?b")];

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        [&GET[..], more].concat()
    }

    #[test]
    fn a_head_is_what_http_1_has() {
        let fields = with(&[
            (":authority", "a:1"),
            ("cookie", "a=b"),
            ("x", "y"),
            ("cookie", "c=d"),
            ("te", "trailers"),
        ]);
        let expected = "GET /a?b HTTP/1.1\r\nhost: a:1\r\nx: y\r\ncookie: a=b; c=d\r\n\r\n";
        assert_eq!(head(&fields).as_deref(), Ok(expected));
        let both = with(&[(":authority", "a"), ("host", "A")]);
        assert_eq!(head(&both).as_deref(), Ok("GET /a?b HTTP/1.1\r\nhost: A\r\n\r\n"));
        let connect = [(":method", "CONNECT"), (":authority", "a:443")];
        assert_eq!(head(&connect).as_deref(), Ok("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"));
    }

    #[test]
    fn what_has_no_place_is_malformed() {
        for more in [
            ("Upper", "x"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("keep-alive", "1"),
            ("proxy-connection", "x"),
            ("te", "gzip"),
            (":status", "200"),
            (":method", "GET"),
            ("", "x"),
            ("a b", "x"),
            ("a:", "x"),
            ("x", "a\r\nb: c"),
            ("x", "a\0"),
            ("x", " a"),
            ("x", "a\t"),
        ] {
            assert_eq!(head(&with(&[more])), Err(BadFields::Malformed), "{more:?}");
        }
        assert_eq!(head(&with(&[("x", "y"), (":authority", "a")])), Err(BadFields::Malformed), "too late");
        assert_eq!(head(&with(&[(":authority", "a"), ("host", "b")])), Err(BadFields::Malformed));
        for missing in 0..3 {
            let mut fields = GET.to_vec();
            fields.remove(missing);
            assert_eq!(head(&fields), Err(BadFields::Malformed), "{missing}");
        }
        for (at, value) in [(1, "ftp"), (2, ""), (2, "a"), (2, "*"), (2, "/ HTTP/1.1"), (0, "GET /x")] {
            let mut fields = GET.to_vec();
            fields[at].1 = value;
            assert_eq!(head(&fields), Err(BadFields::Malformed), "{value}");
        }
        let long = "x".repeat(1000);
        assert_eq!(head(&[&GET[..], &[("x", &long[..])]].concat()), Err(BadFields::TooLarge));
    }
}
