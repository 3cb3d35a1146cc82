//! Programs behind the Cheetah server, long-lived, that answer out of memory which both share.
//!
//! The server starts the program (`cheetah serve --program /prefix=COMMAND`) with a socket as its standard input, by which
//! requests come and answers go. The content of an answer does not: the program fills buffers of a [`Pool`]
//! whose memory the server has mapped, and says which parts of which buffers to send. They are on the wire
//! without ever having been copied, and a buffer that is kept ([`Program::keep`]) is summed for TCP once for
//! all the answers that it is a part of.
//!
//! ```no_run
//! use cheetah_program::{Memory, Program};
//!
//! let mut program = Program::start(Memory { buffer_bytes: 64 * 1024, buffers: 256 })?;
//! while let Some(request) = program.next()? {
//!     let mut buffer = program.buffer()?;
//!     let text = format!("hello, {}\n", request.param("REMOTE_ADDR"));
//!     buffer[..text.len()].copy_from_slice(text.as_bytes());
//!     let buffer = buffer.freeze();
//!     program.answer(&request, "Content-Type: text/plain\n", &[(&buffer, 0..text.len())])?;
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A buffer may be written again when nobody refers to it any more: the server tells when it does not, and
//! [`Program::buffer`] waits for that. The messages are described in [`wire`]; there is a header for C beside
//! this crate.

#![forbid(unsafe_code)]

pub mod wire;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime::buffer::{Buffer, Pool, Shared, SharedMemory};
use rustc_hash::{FxHashMap, FxHashSet};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use wire::{FromProgram, FromServer, Name};

/// How much memory the program shares.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Length of a buffer.
    pub buffer_bytes: usize,
    /// How many there are.
    pub buffers: usize,
}

/// A request, with all of its content.
#[derive(Clone, Debug)]
pub struct Request {
    number: u32,
    params: Vec<u8>,
    content_len: u64,
    /// Its content.
    pub content: Vec<u8>,
}

impl Request {
    /// The value of a parameter as CGI has them (`PATH_INFO`, `QUERY_STRING`, `HTTP_COOKIE`); empty if there
    /// is none. What is not UTF-8 is replaced.
    pub fn param(&self, name: &str) -> String {
        let found = self.params().find(|(other, _)| *other == name.as_bytes());
        found.map_or(String::new(), |(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    /// All of them.
    pub fn params(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut parts = self.params.split(|&b| b == 0);
        std::iter::from_fn(move || Some((parts.next().filter(|name| !name.is_empty())?, parts.next()?)))
    }
}

/// What the server has of a buffer.
#[derive(Debug)]
struct Lent {
    /// Keeps the buffer from being used again.
    buffer: Shared,
    /// Ranges of it that were sent.
    uses: u64,
}

/// The program's end.
#[derive(Debug)]
pub struct Program {
    socket: OwnedFd,
    pool: Pool,
    /// Requests that are whole.
    ready: VecDeque<Request>,
    /// Those whose content comes.
    coming: FxHashMap<u32, Request>,
    lent: FxHashMap<Name, Lent>,
    kept: FxHashSet<Name>,
    cancelled: FxHashSet<u32>,
    message: Box<[u8]>,
    is_over: bool,
}

impl Program {
    /// Begins, on the socket that is the standard input.
    ///
    /// # Errors
    /// If that is no such socket, or there is no memory.
    pub fn start(memory: Memory) -> io::Result<Program> {
        Program::on(std::io::stdin().as_fd().try_clone_to_owned()?, memory)
    }

    /// Begins on a socket to the server.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub fn on(socket: OwnedFd, memory: Memory) -> io::Result<Program> {
        let (regions, fd) = SharedMemory::create(memory.buffer_bytes, memory.buffers)?;
        say(socket.as_fd(), &FromProgram::Hello.to_bytes(), Some(fd.as_fd()))?;
        Ok(Program {
            socket,
            pool: Pool::of_regions(regions),
            ready: VecDeque::new(),
            coming: FxHashMap::default(),
            lent: FxHashMap::default(),
            kept: FxHashSet::default(),
            cancelled: FxHashSet::default(),
            message: vec![0; wire::MAX_MESSAGE].into(),
            is_over: false,
        })
    }

    /// Waits for a request. `None` when the server has ended.
    ///
    /// # Errors
    /// Whatever the system says, and [`io::ErrorKind::InvalidData`] if the server cannot be understood.
    #[expect(
        clippy::should_implement_trait,
        reason = "it may fail, and what it gives is answered by the same object"
    )]
    pub fn next(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some(request) = self.ready.pop_front() {
                return Ok(Some(request));
            }
            if self.is_over {
                return Ok(None);
            }
            self.hear()?;
        }
    }

    /// A buffer to fill. Waits, if all are in use, until the server has let go of one.
    ///
    /// # Errors
    /// As [`Program::next`]; [`io::ErrorKind::OutOfMemory`] if the program itself holds all of them, and
    /// [`io::ErrorKind::BrokenPipe`] when the server has ended.
    pub fn buffer(&mut self) -> io::Result<Buffer> {
        loop {
            if let Some(buffer) = self.pool.take() {
                return Ok(buffer);
            }
            if self.is_over {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if self.lent.keys().all(|name| self.kept.contains(name)) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            self.hear()?;
        }
    }

    /// The buffer will be a part of other answers: what the server knows of it stays known, until
    /// [`Program::forget`].
    pub fn keep(&mut self, buffer: &Shared) {
        self.kept.insert(name(buffer));
    }

    /// The opposite.
    ///
    /// # Errors
    /// If the server cannot be told.
    pub fn forget(&mut self, buffer: &Shared) -> io::Result<()> {
        let name = name(buffer);
        if self.kept.remove(&name) && self.lent.contains_key(&name) {
            say(self.socket.as_fd(), &FromProgram::Forget(vec![name]).to_bytes(), None)?;
        }
        Ok(())
    }

    /// Whether nobody waits for the answer any more. An answer does no harm then.
    pub fn is_cancelled(&self, request: &Request) -> bool {
        self.cancelled.contains(&request.number)
    }

    /// Answers with a head, lines as a CGI program writes them, and parts of buffers.
    ///
    /// # Errors
    /// If the server cannot be told, or [`io::ErrorKind::InvalidInput`] for a buffer of another pool, a part
    /// that it does not have, and a head longer than 16 KiB.
    pub fn answer(
        &mut self,
        request: &Request,
        head: &str,
        content: &[(&Shared, Range<usize>)],
    ) -> io::Result<()> {
        self.answer_part(request, head, content, false)
    }

    /// Answers with what there is of an answer: the head in the first part, and whether `more` follow.
    ///
    /// # Errors
    /// As [`Program::answer`].
    pub fn answer_part(
        &mut self,
        request: &Request,
        head: &str,
        content: &[(&Shared, Range<usize>)],
        more: bool,
    ) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        if head.len() > 16 * 1024 {
            return Err(invalid());
        }
        let mut ranges = Vec::with_capacity(content.len());
        for (buffer, part) in content {
            buffer.get(part.clone()).ok_or_else(invalid)?;
            let offset = buffer.region_offset().ok_or_else(invalid)?;
            let name = name(buffer);
            ranges.push(wire::Range {
                name,
                buffer_offset: offset as u64,
                buffer_len: u32::try_from(buffer.len()).map_err(|_| invalid())?,
                start: part.start as u32,
                len: part.len() as u32,
                flags: if self.kept.contains(&name) { wire::KEEP } else { 0 },
            });
        }
        let mut head = head.as_bytes();
        let mut parts = ranges.chunks(wire::MAX_RANGES).peekable();
        loop {
            let ranges = parts.next().unwrap_or_default().to_vec();
            let more = more || parts.peek().is_some();
            let message = FromProgram::Answer { request: request.number, more, head, ranges }.to_bytes();
            say(self.socket.as_fd(), &message, None)?;
            head = &[];
            if parts.peek().is_none() {
                break;
            }
        }
        for (buffer, _) in content {
            let lent = self.lent.entry(name(buffer));
            lent.or_insert_with(|| Lent { buffer: (*buffer).clone(), uses: 0 }).uses += 1;
        }
        if !more {
            self.cancelled.remove(&request.number);
        }
        Ok(())
    }

    /// Takes in one message, waiting for it.
    fn hear(&mut self) -> io::Result<()> {
        let len = match recv(&self.socket, &mut self.message[..], RecvFlags::empty()) {
            Ok((len, _)) => len,
            Err(Errno::INTR) => return Ok(()),
            Err(Errno::CONNRESET) => 0,
            Err(error) => return Err(error.into()),
        };
        if len == 0 {
            self.is_over = true;
            return Ok(());
        }
        let invalid = |bad: wire::BadMessage| io::Error::new(io::ErrorKind::InvalidData, bad.0);
        match FromServer::parse(&self.message[..len]).map_err(invalid)? {
            FromServer::Request { request: number, content_len, params } => {
                self.cancelled.remove(&number);
                let request = Request { number, params: params.to_vec(), content_len, content: Vec::new() };
                if content_len == 0 {
                    self.ready.push_back(request);
                } else {
                    self.coming.insert(number, request);
                }
            }
            FromServer::Content(number, bytes) => {
                if let Some(mut request) = self.coming.remove(&number) {
                    request.content.extend_from_slice(bytes);
                    if request.content.len() as u64 >= request.content_len {
                        self.ready.push_back(request);
                    } else {
                        self.coming.insert(number, request);
                    }
                }
            }
            FromServer::Release(names) => {
                for (name, uses) in names {
                    // What was sent after the server had let go is another use.
                    if let Some(lent) = self.lent.get_mut(&name) {
                        lent.uses = lent.uses.saturating_sub(uses);
                        if lent.uses == 0
                            && let Some(lent) = self.lent.remove(&name)
                        {
                            drop(lent.buffer);
                        }
                    }
                }
            }
            FromServer::Cancel(number) => {
                self.coming.remove(&number);
                self.ready.retain(|request| request.number != number);
                self.cancelled.insert(number);
            }
        }
        Ok(())
    }
}

fn name(buffer: &Shared) -> Name {
    let name = buffer.name();
    Name { id: name.id, generation: name.generation }
}

fn say(socket: BorrowedFd<'_>, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
