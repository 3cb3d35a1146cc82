//! FastCGI 1.0's records: what is written to a program, and what it writes, without any socket.
//!
//! ```text
//!   version 1 | type | request id | content length | padding length | reserved | content | padding
//!       1        1        2               2                1             1
//! ```
//!
//! One request at a time on a connection, always number 1: programs that take several at once are rare, and
//! such a connection would have one slow client hold up the others.

use runtime::buffer::{Aggregate, Shared, Slice};

use super::ask::Ask;

const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;

const RESPONDER: u8 = 1;
const KEEP_CONN: u8 = 1;

const HEADER_BYTES: usize = 8;

/// Longest content of a record that is written: a multiple of 8, so that none needs padding.
const MAX_CONTENT: usize = 65_528;

/// The request as it goes to the program. Its content is not copied.
pub(super) fn encode(ask: &Ask) -> Aggregate {
    let mut params = Vec::new();
    for (name, value) in ask.params.iter() {
        for len in [name.len(), value.len()] {
            match u8::try_from(len) {
                Ok(short @ ..=127) => params.push(short),
                // Longer than a head cannot be.
                _ => params.extend_from_slice(&(len as u32 | 1 << 31).to_be_bytes()),
            }
        }
        params.extend_from_slice(name);
        params.extend_from_slice(value);
    }
    let mut text = Vec::with_capacity(params.len() + 64);
    header(&mut text, BEGIN_REQUEST, 8);
    text.extend_from_slice(&[0, RESPONDER, KEEP_CONN, 0, 0, 0, 0, 0]);
    for part in params.chunks(MAX_CONTENT).chain([&[][..]]) {
        header(&mut text, PARAMS, part.len());
        text.extend_from_slice(part);
    }
    let mut out = Aggregate::new();
    for slice in ask.content.slices() {
        let mut at = 0;
        while at < slice.len() {
            let len = (slice.len() - at).min(MAX_CONTENT);
            header(&mut text, STDIN, len);
            out.push(Slice::from(Shared::from(std::mem::take(&mut text))));
            out.push(slice.part(at..at + len));
            at += len;
        }
    }
    header(&mut text, STDIN, 0);
    out.push(Slice::from(Shared::from(text)));
    out
}

fn header(out: &mut Vec<u8>, kind: u8, len: usize) {
    let [high, low] = (len as u16).to_be_bytes();
    out.extend_from_slice(&[VERSION, kind, 0, 1, high, low, 0, 0]);
}

/// Something that a program has written.
#[derive(Debug)]
pub(super) enum Said {
    /// Bytes of the response.
    Out(Slice),
    /// Bytes for the log.
    Error(Slice),
    /// The request is over.
    End(Ended),
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// As it should.
    Complete,
    /// The program takes no more requests now.
    Overloaded,
    /// The program does not do such things.
    Refused,
}

/// What is no FastCGI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotFastCgi(pub(super) &'static str);

/// Reads records, in pieces of any length.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that are there; all of them while content or padding is read.
    have: usize,
    content_left: usize,
    padding_left: usize,
    /// Of END_REQUEST.
    end: [u8; 8],
    end_len: usize,
}

impl Decoder {
    /// Whether nothing of a record has come without its rest.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0
    }

    /// Takes in `bytes` and tells what was said, the bytes where they lie.
    ///
    /// # Errors
    /// If that is no FastCGI; nothing can be understood from there on.
    pub(super) fn feed(&mut self, bytes: &Slice, mut say: impl FnMut(Said)) -> Result<(), NotFastCgi> {
        let mut at = 0;
        while at < bytes.len() {
            if self.have < HEADER_BYTES {
                let part = (bytes.len() - at).min(HEADER_BYTES - self.have);
                self.header[self.have..self.have + part].copy_from_slice(&bytes.bytes()[at..at + part]);
                (self.have, at) = (self.have + part, at + part);
                if self.have < HEADER_BYTES {
                    break;
                }
                self.begin()?;
            }
            let part = (bytes.len() - at).min(self.content_left);
            if part > 0 {
                match self.header[1] {
                    STDOUT => say(Said::Out(bytes.part(at..at + part))),
                    STDERR => say(Said::Error(bytes.part(at..at + part))),
                    _ => {
                        let end = &bytes.bytes()[at..at + part];
                        self.end[self.end_len..self.end_len + part].copy_from_slice(end);
                        self.end_len += part;
                    }
                }
                (self.content_left, at) = (self.content_left - part, at + part);
            }
            let part = (bytes.len() - at).min(self.padding_left);
            (self.padding_left, at) = (self.padding_left - part, at + part);
            if self.content_left == 0 && self.padding_left == 0 {
                self.have = 0;
                if self.end_len == 8 {
                    self.end_len = 0;
                    say(Said::End(match self.end[4] {
                        0 => Ended::Complete,
                        2 => Ended::Overloaded,
                        _ => Ended::Refused,
                    }));
                }
            }
        }
        Ok(())
    }

    /// The header is whole.
    fn begin(&mut self) -> Result<(), NotFastCgi> {
        let [version, kind, id_high, id_low, high, low, padding, _] = self.header;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if version != VERSION {
            return Err(NotFastCgi("it does not speak FastCGI 1"));
        }
        if !matches!(kind, STDOUT | STDERR | END_REQUEST) {
            return Err(NotFastCgi("it sent a record that no program sends"));
        }
        if [id_high, id_low] != [0, 1] {
            return Err(NotFastCgi("it answered a request that nobody made"));
        }
        if kind == END_REQUEST && len != 8 {
            return Err(NotFastCgi("its end of a request is not 8 bytes long"));
        }
        (self.content_left, self.padding_left) = (len, usize::from(padding));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
        let [high, low] = (content.len() as u16).to_be_bytes();
        let mut bytes = vec![1, kind, 0, 1, high, low, padding, 0];
        bytes.extend_from_slice(content);
        bytes.extend(std::iter::repeat_n(7, usize::from(padding)));
        bytes
    }

    /// Output, complaints, ends, and whether nothing is left of a record.
    type Decoded = (Vec<u8>, Vec<u8>, Vec<Ended>, bool);

    fn decode(pieces: &[&[u8]]) -> Result<Decoded, NotFastCgi> {
        let (mut out, mut errors, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut decoder = Decoder::default();
        for piece in pieces {
            decoder.feed(&Slice::from(Shared::from(piece.to_vec())), |said| match said {
                Said::Out(bytes) => out.extend_from_slice(bytes.bytes()),
                Said::Error(bytes) => errors.extend_from_slice(bytes.bytes()),
                Said::End(end) => ends.push(end),
            })?;
        }
        Ok((out, errors, ends, decoder.is_between()))
    }

    proptest! {
        #[test]
        fn records_in_any_pieces(
            contents in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), any::<bool>(), 0u8..9), 0..6),
            cut in 1usize..13,
        ) {
            let (mut bytes, mut out, mut errors) = (Vec::new(), Vec::new(), Vec::new());
            for (content, is_error, padding) in &contents {
                bytes.extend(record(if *is_error { STDERR } else { STDOUT }, content, *padding));
                if *is_error { errors.extend(content) } else { out.extend(content) }
            }
            bytes.extend(record(END_REQUEST, &[0; 8], 3));
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(decode(&pieces), Ok((out, errors, vec![Ended::Complete], true)));
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(3), Just(6), Just(8), any::<u8>()], 0..80)) {
            let _ = decode(&[&bytes]);
        }
    }

    #[test]
    fn what_no_program_may_say() {
        for bytes in
            [&b"HTTP/1.1 200 OK"[..], &record(BEGIN_REQUEST, &[0; 8], 0), &record(END_REQUEST, &[0; 9], 0)]
        {
            assert!(decode(&[bytes]).is_err());
        }
        let mut other = record(STDOUT, b"x", 0);
        other[3] = 2;
        assert!(decode(&[&other]).is_err());
        let overloaded = record(END_REQUEST, &[0, 0, 0, 0, 2, 0, 0, 0], 0);
        assert_eq!(decode(&[&overloaded]).unwrap().2, [Ended::Overloaded]);
        assert!(!decode(&[&overloaded[..15]]).unwrap().3);
    }
}
