//! Content in chunks (RFC 9112 section 7.1), as far as it has to be understood to find its end, and the data
//! in it.
//!
//! ```text
//!   5;extension CR LF  hello CR LF  ...  0 CR LF  [ Trailer: field CR LF ]  CR LF
//! ```
//!
//! Strict, since what one party takes for the end another may not: line ends are CR LF, sizes are nothing but
//! hexadecimal digits, and everything together is bounded.

/// Finds the end of chunked content, fed piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkedEnd {
    state: State,
    /// Bytes of the chunk that are left; while its size is read, the size so far.
    left: u32,
    /// Bytes, framing included, that may still come.
    room: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A chunk's size has to begin.
    Size,
    /// More digits may follow.
    MoreSize,
    /// Everything up to CR belongs to an extension.
    Extension,
    /// LF after the size.
    SizeLf,
    Data,
    /// CR and LF after the data.
    DataCr,
    DataLf,
    /// A trailer field may begin, or the end.
    Trailer,
    TrailerField,
    TrailerLf,
    EndLf,
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// All are content, and more will come.
    More,
    /// The content ends behind so many of them.
    End(usize),
    /// Malformed, or more than allowed: nobody can say where the next request begins.
    Bad,
}

impl ChunkedEnd {
    /// At the first byte of content of at most `max` bytes, framing included.
    pub fn new(max: u64) -> ChunkedEnd {
        ChunkedEnd { state: State::Size, left: 0, room: u32::try_from(max).unwrap_or(u32::MAX) }
    }

    /// Lets 4 GiB more come: for content that is bounded elsewhere, or goes on at once.
    pub fn refill(&mut self) {
        self.room = u32::MAX;
    }

    /// Takes in what comes next. After [`Fed::End`] or [`Fed::Bad`] it is of no more use.
    pub fn feed(&mut self, bytes: &[u8]) -> Fed {
        self.feed_to(bytes, |_| {})
    }

    /// As [`ChunkedEnd::feed`], and hands the data to `data`, piece by piece.
    pub fn feed_to(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Fed {
        let mut at = 0;
        while at < bytes.len() {
            let used = if self.state == State::Data { bytes[at..].len().min(self.left as usize) } else { 1 };
            let Some(room) = self.room.checked_sub(used as u32) else { return Fed::Bad };
            self.room = room;
            if self.state == State::Data {
                data(&bytes[at..at + used]);
                self.left -= used as u32;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
            } else {
                let Some(next) = self.step(bytes[at]) else { return Fed::Bad };
                if self.state == State::EndLf {
                    return Fed::End(at + 1);
                }
                self.state = next;
            }
            at += used;
        }
        Fed::More
    }

    /// The state after a byte of framing.
    fn step(&mut self, byte: u8) -> Option<State> {
        Some(match (self.state, byte) {
            (State::Size | State::MoreSize, digit) if digit.is_ascii_hexdigit() => {
                let value = char::from(digit).to_digit(16)?;
                // More than may come at all is refused before it does.
                self.left =
                    self.left.checked_mul(16)?.checked_add(value).filter(|&size| size <= self.room)?;
                State::MoreSize
            }
            (State::MoreSize, b'\r') => State::SizeLf,
            (State::MoreSize, b';' | b' ' | b'\t') => State::Extension,
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b) if is_field_byte(b) => State::Extension,
            (State::SizeLf, b'\n') => {
                if self.left == 0 {
                    State::Trailer
                } else {
                    State::Data
                }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::Trailer, b'\r') => State::EndLf,
            (State::Trailer | State::TrailerField, b) if is_field_byte(b) => State::TrailerField,
            (State::TrailerField, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::Trailer,
            (State::EndLf, b'\n') => State::EndLf,
            _ => return None,
        })
    }
}

/// What may stand in a line: no control characters but the tabulator.
fn is_field_byte(b: u8) -> bool {
    b == b'\t' || b >= b' ' && b != 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(bytes: &[u8]) -> Fed {
        ChunkedEnd::new(1000).feed(bytes)
    }

    #[test]
    fn ends_where_it_ends() {
        for (content, behind) in [
            ("0\r\n\r\n", ""),
            ("0\r\n\r\n", "GET / HTTP/1.1\r\n"),
            ("5\r\nhello\r\n0\r\n\r\n", "\r\n"),
            ("A;name=\"value\"\r\n0\r\n\r\n12345\r\n000\r\nExpires: never\r\nX: y\r\n\r\n", "0\r\n\r\n"),
            ("1 \r\nx\r\n0\r\n\r\n", "x"),
        ] {
            assert_eq!(feed(format!("{content}{behind}").as_bytes()), Fed::End(content.len()), "{content:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_bad_at_once() {
        for content in [
            "\r",
            "g",
            "-",
            "+",
            "0x",
            " ",
            "5\n",
            "5\r\nhello\n",
            "5\r\nhello!",
            "5\r\nhello\r\n\r",
            "5;a\n",
            "5;a\0",
            "0\r\nA: b\n",
            "0\r\n\n",
            "0\r\n\rx",
            // More than the thousand bytes that are allowed.
            "3e9",
            "fff",
        ] {
            let (last, before) = content.as_bytes().split_last().unwrap();
            let mut end = ChunkedEnd::new(1000);
            assert_eq!((end.feed(before), end.feed(&[*last])), (Fed::More, Fed::Bad), "{content:?}");
        }
        // More than 32 bits.
        assert_eq!(ChunkedEnd::new(u64::MAX).feed(b"100000001"), Fed::Bad);
    }

    #[test]
    fn all_together_is_bounded() {
        let mut chunks = ChunkedEnd::new(1000);
        // Six bytes of framing for each byte: 166 fit.
        let took = (0..1000).take_while(|_| chunks.feed(b"1\r\nx\r\n") == Fed::More).count();
        assert_eq!(took, 166);
        let mut extension = ChunkedEnd::new(1000);
        assert_eq!((extension.feed(b"1;"), extension.feed(&[b'a'; 999])), (Fed::More, Fed::Bad));
    }

    proptest! {
        /// Any content, cut into chunks and pieces anywhere.
        #[test]
        fn however_it_comes(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..8),
            trailer in "([A-Za-z]{1,8}: [ -~]{0,12}\r\n){0,3}",
            behind in prop::collection::vec(any::<u8>(), 0..20),
            cuts in prop::collection::vec(1usize..40, 1..20),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
            let len = bytes.len();
            bytes.extend_from_slice(&behind);
            let mut end = ChunkedEnd::new(len as u64);
            let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
            loop {
                let until = bytes.len().min(at + cuts.next().unwrap());
                match end.feed(&bytes[at..until]) {
                    Fed::More => at = until,
                    Fed::End(used) => break prop_assert_eq!(at + used, len),
                    Fed::Bad => return Err(TestCaseError::fail("bad")),
                }
            }
        }

        /// No bytes make it panic, or take more than it may.
        #[test]
        fn nonsense_is_harmless(bytes in prop::collection::vec(prop_oneof![Just(b'0'), Just(b'f'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..200)) {
            match ChunkedEnd::new(100).feed(&bytes) {
                Fed::More => prop_assert!(bytes.len() <= 100),
                Fed::End(len) => prop_assert!(len <= 100.min(bytes.len())),
                Fed::Bad => {}
            }
        }
    }
}
