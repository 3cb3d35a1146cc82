//! Finding the end of an answer, fed piece by piece (RFC 9112 section 6.3), and what it was like.

use crate::http::chunked::{ChunkedEnd, Fed};

/// Longest head.
const MAX_HEAD: usize = 64 << 10;

/// Fields of a head.
const MAX_FIELDS: usize = 64;

/// An answer that is coming in.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// Of a head that came in parts.
    head: Vec<u8>,
    state: State,
    /// Of the answer under way, once its head is whole.
    pub(super) status: u16,
    /// Bytes of content so far; of chunked content with its framing.
    pub(super) content_bytes: u64,
    keeps: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Sized(u64),
    Chunked(ChunkedEnd),
    UntilEnd,
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More will come.
    More,
    /// It is whole.
    Whole {
        /// Whether another may be asked for on the connection.
        keeps: bool,
    },
    /// Not what an answer is.
    Bad,
}

impl Reply {
    /// Forgets the answer before.
    pub(super) fn reset(&mut self) {
        self.head.clear();
        self.state = State::Head;
        (self.status, self.content_bytes, self.keeps) = (0, 0, false);
    }

    /// Whether nothing of it has come.
    pub(super) fn is_untouched(&self) -> bool {
        matches!(self.state, State::Head) && self.head.is_empty()
    }

    /// Whether what is content is known byte by byte.
    pub(super) fn is_plain(&self) -> bool {
        !matches!(self.state, State::Chunked(_))
    }

    /// Takes in what comes next, showing content to `content`. Bytes behind a whole answer are an answer that
    /// nobody asked for.
    pub(super) fn feed(&mut self, bytes: &[u8], mut content: impl FnMut(&[u8])) -> Progress {
        let mut rest = bytes;
        if matches!(self.state, State::Head) {
            let taken = if self.head.is_empty() {
                self.read_head(bytes)
            } else {
                self.head.extend_from_slice(bytes);
                let head = std::mem::take(&mut self.head);
                let before = head.len() - bytes.len();
                let taken = self.read_head(&head);
                self.head = head;
                taken.map(|taken| taken.map(|taken| taken - before))
            };
            match taken {
                Err(()) => return Progress::Bad,
                Ok(None) => {
                    if self.head.is_empty() {
                        self.head.extend_from_slice(bytes);
                    }
                    return if self.head.len() > MAX_HEAD { Progress::Bad } else { Progress::More };
                }
                Ok(Some(taken)) => rest = &bytes[taken..],
            }
        }
        self.content_bytes += rest.len() as u64;
        match &mut self.state {
            State::Head => Progress::Bad,
            State::Sized(left) => {
                let Some(after) = left.checked_sub(rest.len() as u64) else { return Progress::Bad };
                *left = after;
                content(rest);
                if after == 0 { Progress::Whole { keeps: self.keeps } } else { Progress::More }
            }
            State::Chunked(end) => match end.feed(rest) {
                Fed::More => Progress::More,
                Fed::End(at) if at == rest.len() => Progress::Whole { keeps: self.keeps },
                Fed::End(_) | Fed::Bad => Progress::Bad,
            },
            State::UntilEnd => {
                content(rest);
                Progress::More
            }
        }
    }

    /// No byte will follow.
    pub(super) fn end(&self) -> Progress {
        match self.state {
            State::UntilEnd => Progress::Whole { keeps: false },
            _ => Progress::Bad,
        }
    }

    /// The length of the head at the front of `bytes`, if it is whole.
    fn read_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, ()> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let len = match head.parse(bytes) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(()),
        };
        self.status = head.code.ok_or(())?;
        self.keeps = head.version == Some(1);
        let (mut size, mut is_chunked) = (None, false);
        for field in &*head.headers {
            if field.name.eq_ignore_ascii_case("Content-Length") {
                size =
                    Some(std::str::from_utf8(field.value).ok().and_then(|text| text.parse().ok()).ok_or(())?);
            } else if field.name.eq_ignore_ascii_case("Transfer-Encoding") {
                is_chunked = field.value.to_ascii_lowercase().ends_with(b"chunked");
            } else if field.name.eq_ignore_ascii_case("Connection") {
                self.keeps = !field.value.eq_ignore_ascii_case(b"close");
            }
        }
        self.state = match (self.status, is_chunked, size) {
            // Interim answers are of use to who expects one.
            (100..200, ..) => return Err(()),
            (204 | 304, ..) => State::Sized(0),
            (_, true, _) => State::Chunked(ChunkedEnd::new(u64::from(u32::MAX))),
            (_, false, Some(size)) => State::Sized(size),
            (_, false, None) => State::UntilEnd,
        };
        Ok(Some(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of `bytes`, cut in two at every place.
    fn all_cuts(bytes: &[u8]) -> (Progress, u16, Vec<u8>) {
        let mut results = Vec::new();
        for cut in 0..bytes.len() {
            let (mut reply, mut content) = (Reply::default(), Vec::new());
            let mut progress = Progress::More;
            for part in [&bytes[..cut], &bytes[cut..]] {
                if !part.is_empty() && progress == Progress::More {
                    progress = reply.feed(part, |bytes| content.extend_from_slice(bytes));
                }
            }
            if progress == Progress::More {
                progress = reply.end();
            }
            results.push((progress, reply.status, content));
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{results:?}");
        results.pop().unwrap()
    }

    #[test]
    fn answers_end_where_they_say() {
        let keeps = Progress::Whole { keeps: true };
        let ends = Progress::Whole { keeps: false };
        let ok = b"HTTP/1.1 200 OK\r\n";
        let of = |rest: &str| all_cuts(&[&ok[..], rest.as_bytes()].concat());
        assert_eq!(of("Content-Length: 5\r\n\r\nhello"), (keeps, 200, b"hello".to_vec()));
        assert_eq!(of("Content-Length: 0\r\nConnection: close\r\n\r\n"), (ends, 200, vec![]));
        assert_eq!(of("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"), (keeps, 200, vec![]));
        assert_eq!(of("\r\nall"), (ends, 200, b"all".to_vec()));
        assert_eq!(all_cuts(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"), (ends, 200, b"x".to_vec()));
        assert_eq!(all_cuts(b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"), (keeps, 304, vec![]));
        assert_eq!(of("Content-Length: 2\r\n\r\nx").0, Progress::Bad, "cut short");
        assert_eq!(of("Content-Length: x\r\n\r\n").0, Progress::Bad);
        assert_eq!(all_cuts(b"nonsense\r\n\r\n").0, Progress::Bad);
        let mut reply = Reply::default();
        let two = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy";
        assert_eq!(reply.feed(two, |_| {}), Progress::Bad, "more than was asked for");
        assert_eq!(Reply::default().feed(&vec![b'H'; MAX_HEAD + 1], |_| {}), Progress::Bad);
    }
}
