//! The messages between the server and a program: one a packet of a `SOCK_SEQPACKET` socket, numbers
//! little-endian.
//!
//! ```text
//!   program                                  server
//!     HELLO  version, + descriptor of the memory ──▶
//!            ◀── REQUEST  number, length of content, parameters
//!            ◀── CONTENT  number, bytes                        (until that length)
//!     ANSWER  number, head, ranges of buffers ──▶              (more than once with MORE)
//!            ◀── RELEASE  (buffer, generation, uses)...        nobody looks at them any more
//!            ◀── CANCEL   number                               nobody waits for the answer any more
//!     FORGET  (buffer, generation)... ──▶                      do not keep them
//! ```
//!
//! A buffer has a name, its number and a generation that is new with each filling, as in IO-Lite: the server
//! never looks whether bytes have changed, it knows by the name. The name is of one stretch of the memory as
//! long as it is in use.

/// Of this description.
pub const VERSION: u32 = 1;

/// Longest message.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Most ranges in one answer.
pub const MAX_RANGES: usize = 512;

/// Most memory that a program may share: 1 GiB.
pub const MAX_MEMORY: usize = 1 << 30;

/// Content in one message.
pub const CONTENT_BYTES: usize = 32 * 1024;

/// Program: HELLO.
pub const HELLO: u32 = 1;
/// Program: ANSWER.
pub const ANSWER: u32 = 2;
/// Program: FORGET.
pub const FORGET: u32 = 3;
/// Server: REQUEST.
pub const REQUEST: u32 = 1;
/// Server: CONTENT.
pub const CONTENT: u32 = 2;
/// Server: RELEASE.
pub const RELEASE: u32 = 3;
/// Server: CANCEL.
pub const CANCEL: u32 = 4;

/// In an answer: another one of the same request follows.
pub const MORE: u32 = 1;
/// Of a range: the buffer will be used again, keep what is known of it.
pub const KEEP: u32 = 1;

/// What names the contents of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// Which buffer.
    pub id: u64,
    /// Which filling of it.
    pub generation: u64,
}

/// Part of a filled buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its buffer.
    pub name: Name,
    /// Where in the memory that begins.
    pub buffer_offset: u64,
    /// And its length.
    pub buffer_len: u32,
    /// Where in the buffer the part begins.
    pub start: u32,
    /// And its length.
    pub len: u32,
    /// [`KEEP`] or 0.
    pub flags: u32,
}

const RANGE_BYTES: usize = 40;

/// A message that a program sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromProgram<'a> {
    /// The first one; the descriptor of the memory comes with it.
    Hello,
    /// An answer, or a part of one.
    Answer {
        /// Of which request.
        request: u32,
        /// Whether more of it follows.
        more: bool,
        /// Lines of the head, as a CGI program writes them; empty but in the first part.
        head: &'a [u8],
        /// The content.
        ranges: Vec<Range>,
    },
    /// Buffers that will not be used again.
    Forget(Vec<Name>),
}

/// A message that the server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromServer<'a> {
    /// A request.
    Request {
        /// Its number; it may be used again when it is answered.
        request: u32,
        /// Bytes of content that follow in other messages.
        content_len: u64,
        /// Names and values, each ended by NUL.
        params: &'a [u8],
    },
    /// Content of the request of that number.
    Content(u32, &'a [u8]),
    /// Buffers that the server has let go of, with how many ranges of them it was given.
    Release(Vec<(Name, u64)>),
    /// Nobody waits for the answer to that request.
    Cancel(u32),
}

/// What cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadMessage(pub &'static str);

/// Takes numbers off the front of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], BadMessage> {
        let (front, rest) = self.0.split_at_checked(len).ok_or(BadMessage("a message is cut short"))?;
        self.0 = rest;
        Ok(front)
    }

    fn u32(&mut self) -> Result<u32, BadMessage> {
        Ok(self.take(4)?.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b)))
    }

    fn u64(&mut self) -> Result<u64, BadMessage> {
        Ok(self.take(8)?.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    fn name(&mut self) -> Result<Name, BadMessage> {
        Ok(Name { id: self.u64()?, generation: self.u64()? })
    }

    fn end(&self) -> Result<(), BadMessage> {
        if self.0.is_empty() { Ok(()) } else { Err(BadMessage("a message is longer than what it says")) }
    }
}

fn put(out: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

fn put_name(out: &mut Vec<u8>, name: Name) {
    out.extend_from_slice(&name.id.to_le_bytes());
    out.extend_from_slice(&name.generation.to_le_bytes());
}

impl<'a> FromProgram<'a> {
    /// The message as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            FromProgram::Hello => put(&mut out, &[HELLO, VERSION]),
            FromProgram::Answer { request, more, head, ranges } => {
                let flags = if *more { MORE } else { 0 };
                put(&mut out, &[ANSWER, *request, flags, head.len() as u32, ranges.len() as u32]);
                out.extend_from_slice(head);
                for range in ranges {
                    put_name(&mut out, range.name);
                    out.extend_from_slice(&range.buffer_offset.to_le_bytes());
                    put(&mut out, &[range.buffer_len, range.start, range.len, range.flags]);
                }
            }
            FromProgram::Forget(names) => {
                put(&mut out, &[FORGET, names.len() as u32]);
                names.iter().for_each(|name| put_name(&mut out, *name));
            }
        }
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<FromProgram<'a>, BadMessage> {
        let mut reader = Reader(bytes);
        let message = match reader.u32()? {
            HELLO => {
                if reader.u32()? != VERSION {
                    return Err(BadMessage("it speaks another version of the protocol"));
                }
                FromProgram::Hello
            }
            ANSWER => {
                let (request, flags) = (reader.u32()?, reader.u32()?);
                let (head_len, count) = (reader.u32()? as usize, reader.u32()? as usize);
                if count > MAX_RANGES {
                    return Err(BadMessage("an answer has more than 512 ranges: send it in parts"));
                }
                let head = reader.take(head_len)?;
                let mut ranges = Vec::with_capacity(count);
                for _ in 0..count {
                    ranges.push(Range {
                        name: reader.name()?,
                        buffer_offset: reader.u64()?,
                        buffer_len: reader.u32()?,
                        start: reader.u32()?,
                        len: reader.u32()?,
                        flags: reader.u32()?,
                    });
                }
                FromProgram::Answer { request, more: flags & MORE != 0, head, ranges }
            }
            FORGET => {
                let count = reader.u32()?;
                let names = (0..count.min(MAX_MESSAGE as u32 / 16)).map(|_| reader.name());
                FromProgram::Forget(names.collect::<Result<_, _>>()?)
            }
            _ => return Err(BadMessage("a message of no known kind")),
        };
        reader.end()?;
        Ok(message)
    }
}

impl<'a> FromServer<'a> {
    /// The message as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            FromServer::Request { request, content_len, params } => {
                put(&mut out, &[REQUEST, *request]);
                out.extend_from_slice(&content_len.to_le_bytes());
                out.extend_from_slice(params);
            }
            FromServer::Content(request, bytes) => {
                put(&mut out, &[CONTENT, *request]);
                out.extend_from_slice(bytes);
            }
            FromServer::Release(names) => {
                put(&mut out, &[RELEASE, names.len() as u32]);
                for (name, uses) in names {
                    put_name(&mut out, *name);
                    out.extend_from_slice(&uses.to_le_bytes());
                }
            }
            FromServer::Cancel(request) => put(&mut out, &[CANCEL, *request]),
        }
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<FromServer<'a>, BadMessage> {
        let mut reader = Reader(bytes);
        Ok(match reader.u32()? {
            REQUEST => {
                let (request, content_len) = (reader.u32()?, reader.u64()?);
                FromServer::Request { request, content_len, params: reader.0 }
            }
            CONTENT => FromServer::Content(reader.u32()?, reader.0),
            RELEASE => {
                let count = reader.u32()?;
                let names =
                    (0..count.min(MAX_MESSAGE as u32 / 24)).map(|_| Ok((reader.name()?, reader.u64()?)));
                let names = names.collect::<Result<_, _>>()?;
                reader.end()?;
                FromServer::Release(names)
            }
            CANCEL => FromServer::Cancel(reader.u32()?),
            _ => return Err(BadMessage("a message of no known kind")),
        })
    }
}

/// Bytes of an answer's message but for its head.
pub fn answer_bytes(ranges: usize) -> usize {
    20 + ranges * RANGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(n: u32) -> Range {
        let name = Name { id: u64::from(n) << 33, generation: 7 };
        Range { name, buffer_offset: 1 << 20, buffer_len: 4096, start: n, len: 5, flags: KEEP }
    }

    #[test]
    fn messages_there_and_back() {
        for message in [
            FromProgram::Hello,
            FromProgram::Answer { request: 7, more: true, head: b"A: b\n", ranges: vec![range(1), range(2)] },
            FromProgram::Answer { request: 7, more: false, head: b"", ranges: vec![] },
            FromProgram::Forget(vec![Name { id: 1, generation: 2 }]),
        ] {
            let bytes = message.to_bytes();
            assert_eq!(FromProgram::parse(&bytes), Ok(message.clone()));
            if let FromProgram::Answer { head, ranges, .. } = &message {
                assert_eq!(bytes.len(), answer_bytes(ranges.len()) + head.len());
            }
            for len in 0..bytes.len() {
                assert!(FromProgram::parse(&bytes[..len]).is_err(), "cut at {len}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(FromProgram::parse(&longer).is_err());
        }
        for message in [
            FromServer::Request { request: 3, content_len: 9, params: b"A\0b\0" },
            FromServer::Content(3, b"xyz"),
            FromServer::Release(vec![(Name { id: 1, generation: 2 }, 3)]),
            FromServer::Cancel(3),
        ] {
            assert_eq!(FromServer::parse(&message.to_bytes()), Ok(message.clone()));
        }
    }

    #[test]
    fn numbers_that_promise_more_than_there_is() {
        let mut bytes = Vec::new();
        put(&mut bytes, &[FORGET, u32::MAX]);
        assert!(FromProgram::parse(&bytes).is_err());
        let mut bytes = Vec::new();
        put(&mut bytes, &[ANSWER, 0, 0, 0, MAX_RANGES as u32 + 1]);
        assert!(FromProgram::parse(&bytes).is_err());
        let mut bytes = Vec::new();
        put(&mut bytes, &[ANSWER, 0, 0, u32::MAX, 0]);
        assert!(FromProgram::parse(&bytes).is_err());
        assert!(FromProgram::parse(&[9, 0, 0, 0]).is_err());
    }
}
