//! A program that answers out of memory which it shares with this server ([`cheetah_program::wire`]): what it
//! says of its answers are names and places of buffers, and the buffers go to clients as they are.
//!
//! It is trusted with its own answers and nothing else. Places are checked against memory that cannot shrink,
//! heads come in messages and are checked as any program's, and what it leaves undone has its time. That
//! bytes change while they are sent garbles that answer, or has its client drop frames whose sum is not
//! right; nobody else's.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cheetah_program::wire::{self, BadMessage, FromProgram, FromServer, Name};
use runtime::buffer::{Aggregate, Shared, SharedMemory, Slice};
use runtime::stats::work::{Quantity, count};
use runtime::time::Instant;
use rustc_hash::FxHashMap;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recvmsg, send, socket_with, socketpair,
};

use super::link::{Exchange, Fate, Link, Tools};
use super::route::{Limits, Start};
use crate::http::foreign::ForeignHead;
use crate::http::response::Status;
use crate::live::ConnectionWaker;

/// Requests that are with the program at once.
const MAX_AT_ONCE: usize = 64;

/// Messages taken in before others get their turn.
const BATCH: usize = 64;

/// Buffers that are known although nobody is being sent them.
const MAX_KEPT: usize = 4096;

/// Ranges that are with clients at once. A program that announces more, of nothing perhaps, is no use.
const MAX_LENT: u64 = 1 << 16;

/// The connection.
#[derive(Debug)]
pub(super) struct NativeLink {
    socket: OwnedFd,
    child: Option<Child>,
    memory: Option<Arc<SharedMemory>>,
    readable: bool,
    writable: bool,
    /// Messages for the program.
    out: VecDeque<Vec<u8>>,
    exchanges: FxHashMap<u32, Under>,
    next_number: u32,
    /// Buffers in use by their names: the same one again is the same bytes.
    known: FxHashMap<Name, Known>,
    /// Names of those that are kept, in the order in which they came.
    kept: VecDeque<Name>,
    lender: Arc<Lender>,
    /// When it last said something, or was last asked after having answered all.
    active: Instant,
    message: Box<[u8]>,
}

/// A request under way.
#[derive(Debug)]
struct Under {
    exchange: Exchange,
    has_head: bool,
    /// When it was given to the program, or the program last said something of it.
    active: Instant,
}

/// A buffer of the program's.
#[derive(Debug)]
struct Known {
    offset: u64,
    len: u32,
    /// Itself, where it is kept.
    kept: Option<Shared>,
    /// Otherwise as long as somebody is sent it.
    lent: std::sync::Weak<Lent>,
}

/// What tells that nobody refers to a buffer any more.
#[derive(Debug)]
struct Lender {
    released: Mutex<Vec<(Name, u64)>>,
    out: AtomicU64,
    waker: Mutex<Option<ConnectionWaker>>,
}

/// A buffer, as long as somebody refers to it.
#[derive(Debug)]
struct Lent {
    memory: Arc<SharedMemory>,
    range: std::ops::Range<usize>,
    name: Name,
    uses: AtomicU64,
    lender: Arc<Lender>,
}

/// The same as the owner of shared bytes.
#[derive(Debug)]
struct Owner(Arc<Lent>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.memory.get(self.0.range.clone()).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let uses = self.uses.load(Ordering::Relaxed);
        self.lender.out.fetch_sub(uses, Ordering::Relaxed);
        self.lender.released.lock().unwrap_or_else(PoisonError::into_inner).push((self.name, uses));
        if let Some(waker) = &*self.lender.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake();
        }
    }
}

impl NativeLink {
    /// Starts the program, or connects to it.
    ///
    /// # Errors
    /// Whatever the system says.
    pub(super) fn start(start: &Start, now: Instant) -> io::Result<NativeLink> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, child) = match start {
            Start::Command(words) => {
                let (ours, theirs) =
                    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
                rustix::io::ioctl_fionbio(&ours, true)?;
                let errors = io::stderr().as_fd().try_clone_to_owned()?;
                let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
                let mut command = Command::new(program);
                // What it prints goes where our own log goes.
                command.args(arguments).stdin(Stdio::from(theirs)).stdout(Stdio::from(errors));
                (ours, Some(command.spawn()?))
            }
            Start::Socket(path) => {
                let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
                connect(&socket, &SocketAddrUnix::new(path)?)?;
                (socket, None)
            }
        };
        let lender = Lender { released: Mutex::default(), out: AtomicU64::new(0), waker: Mutex::default() };
        Ok(NativeLink {
            socket,
            child,
            memory: None,
            readable: true,
            writable: true,
            out: VecDeque::new(),
            exchanges: FxHashMap::default(),
            next_number: 0,
            known: FxHashMap::default(),
            kept: VecDeque::new(),
            lender: Arc::new(lender),
            active: now,
            message: vec![0; wire::MAX_MESSAGE].into(),
        })
    }

    /// Whom to wake when buffers have come back.
    pub(super) fn wake_by(&self, waker: ConnectionWaker) {
        *self.lender.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    /// The program is of no use any more: all its requests fail.
    fn fail(&mut self, status: Status, why: &str) -> Fate {
        for (_, under) in self.exchanges.drain() {
            under.exchange.fail(status, why);
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
        }
        Fate::Close
    }

    /// Takes in a message.
    fn take(&mut self, len: usize, fds: Vec<OwnedFd>, tools: &Tools) -> Result<(), String> {
        self.active = tools.now;
        let message = std::mem::take(&mut self.message);
        let result = self.understand(&message[..len], fds);
        self.message = message;
        result
    }

    fn understand(&mut self, message: &[u8], mut fds: Vec<OwnedFd>) -> Result<(), String> {
        match FromProgram::parse(message).map_err(|BadMessage(why)| why.to_owned())? {
            FromProgram::Hello if self.memory.is_some() => Err("it said HELLO twice".to_owned()),
            FromProgram::Hello => {
                let fd = fds.pop().ok_or("no descriptor of memory came with its HELLO")?;
                let memory = SharedMemory::of_other(fd.as_fd(), wire::MAX_MEMORY);
                self.memory = Some(Arc::new(memory.map_err(|error| error.to_string())?));
                Ok(())
            }
            FromProgram::Answer { request, more, head, ranges } => {
                let mut content = Aggregate::new();
                for range in &ranges {
                    content.push(self.slice(range)?);
                }
                // One that was cancelled meanwhile is no fault.
                let Some(mut under) = self.exchanges.remove(&request) else { return Ok(()) };
                if !under.has_head {
                    match ForeignHead::parse(head) {
                        Ok(head) => under.exchange.output.take_head(head),
                        Err(bad) => {
                            under.exchange.fail(Status::BadGateway, &bad.to_string());
                            return Ok(());
                        }
                    }
                    under.has_head = true;
                }
                under.active = self.active;
                under.exchange.output.take_content(content);
                if more {
                    self.exchanges.insert(request, under);
                } else {
                    under.exchange.output.finish();
                }
                Ok(())
            }
            FromProgram::Forget(names) => {
                for name in names {
                    if let Some(known) = self.known.get_mut(&name)
                        && known.kept.take().is_some()
                    {
                        self.kept.retain(|kept| *kept != name);
                    }
                }
                Ok(())
            }
        }
    }

    /// The part of a buffer that a range is.
    fn slice(&mut self, range: &wire::Range) -> Result<Slice, String> {
        let memory = self.memory.as_ref().ok_or("it answered before its HELLO")?;
        let bad_place = || "a range is no part of its memory".to_owned();
        let from = usize::try_from(range.buffer_offset).map_err(|_| bad_place())?;
        let to = from.checked_add(range.buffer_len as usize).ok_or_else(bad_place)?;
        memory.get(from..to).ok_or_else(bad_place)?;
        let (start, end) = (range.start as usize, range.start as usize + range.len as usize);
        if self.lender.out.load(Ordering::Relaxed) >= MAX_LENT {
            return Err("more than 65536 ranges of its are with clients".to_owned());
        }
        let known = self.known.get(&range.name);
        if known.is_some_and(|known| (known.offset, known.len) != (range.buffer_offset, range.buffer_len)) {
            return Err("a buffer has moved under its name: count its generation up".to_owned());
        }
        let (kept, lent) = known.map_or((None, None), |known| (known.kept.clone(), known.lent.upgrade()));
        let lent = lent.unwrap_or_else(|| {
            let (memory, lender) = (Arc::clone(memory), Arc::clone(&self.lender));
            let uses = AtomicU64::new(0);
            Arc::new(Lent { memory, range: from..to, name: range.name, uses, lender })
        });
        lent.uses.fetch_add(1, Ordering::Relaxed);
        self.lender.out.fetch_add(1, Ordering::Relaxed);
        let is_kept = kept.is_some();
        let weak = Arc::downgrade(&lent);
        let buffer = kept.unwrap_or_else(|| Shared::from_owner(Owner(lent)));
        let keeps = range.flags & wire::KEEP != 0 && !is_kept;
        let kept = (keeps || is_kept).then(|| buffer.clone());
        let (offset, len) = (range.buffer_offset, range.buffer_len);
        self.known.insert(range.name, Known { offset, len, kept, lent: weak });
        if keeps {
            self.kept.push_back(range.name);
            if self.kept.len() > MAX_KEPT
                && let Some(oldest) = self.kept.pop_front()
                && let Some(known) = self.known.get_mut(&oldest)
            {
                known.kept = None;
            }
        }
        Slice::new(buffer, start..end).ok_or_else(|| "a range is no part of its buffer".to_owned())
    }

    /// Tells the program which buffers nobody refers to any more.
    fn release(&mut self) {
        let released =
            std::mem::take(&mut *self.lender.released.lock().unwrap_or_else(PoisonError::into_inner));
        for names in released.chunks(wire::MAX_MESSAGE / 32) {
            for (name, _) in names {
                // It may have been sent again meanwhile, as another one of the same name.
                if self.known.get(name).is_some_and(|known| known.lent.strong_count() == 0) {
                    self.known.remove(name);
                }
            }
            self.out.push_back(FromServer::Release(names.to_vec()).to_bytes());
        }
    }

    /// Sends what waits to be told.
    fn write(&mut self) -> rustix::io::Result<()> {
        while self.writable
            && let Some(message) = self.out.front()
        {
            count(Quantity::CallsToSend, 1);
            match send(&self.socket, message, SendFlags::NOSIGNAL) {
                Ok(_) => drop(self.out.pop_front()),
                Err(Errno::AGAIN) => self.writable = false,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next message, and descriptors that came with it.
    fn read(&mut self) -> rustix::io::Result<(usize, Vec<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        count(Quantity::CallsToReceive, 1);
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut self.message)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let fds = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        Ok((received.bytes, fds.flatten().collect()))
    }

    /// Requests that the program has left lying, whatever else it does.
    fn time_out(&mut self, tools: &Tools) {
        let now = tools.now;
        let is_late =
            |(number, under): (&u32, &Under)| (now >= under.active + tools.limits.timeout).then_some(*number);
        let late: Vec<u32> = self.exchanges.iter().filter_map(is_late).collect();
        for number in late {
            if let Some(under) = self.exchanges.remove(&number) {
                under.exchange.fail(Status::GatewayTimeout, "it leaves a request lying");
                self.out.push_back(FromServer::Cancel(number).to_bytes());
            }
        }
    }

    /// Requests whose clients have gone.
    fn cancel(&mut self) {
        let gone: Vec<u32> = self
            .exchanges
            .iter()
            .filter(|(_, under)| under.exchange.output.is_gone())
            .map(|(n, _)| *n)
            .collect();
        for number in gone {
            self.exchanges.remove(&number);
            self.out.push_back(FromServer::Cancel(number).to_bytes());
        }
    }
}

impl Link for NativeLink {
    fn give(&mut self, exchange: Exchange, now: Instant) {
        while self.exchanges.contains_key(&self.next_number) {
            self.next_number = self.next_number.wrapping_add(1);
        }
        let request = self.next_number;
        self.next_number = request.wrapping_add(1);
        let content_len = exchange.ask.content.len() as u64;
        let params = exchange.ask.params.bytes();
        self.out.push_back(FromServer::Request { request, content_len, params }.to_bytes());
        for slice in exchange.ask.content.slices() {
            for part in slice.bytes().chunks(wire::CONTENT_BYTES) {
                self.out.push_back(FromServer::Content(request, part).to_bytes());
            }
        }
        if self.exchanges.is_empty() {
            self.active = now;
        }
        self.exchanges.insert(request, Under { exchange, has_head: false, active: now });
    }

    fn room(&self) -> usize {
        MAX_AT_ONCE.saturating_sub(self.exchanges.len())
    }

    fn silent_since(&self) -> Option<Instant> {
        None
    }

    fn on_ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    fn turn(&mut self, tools: &mut Tools) -> Fate {
        let mut left = BATCH;
        while self.readable {
            if left == 0 {
                tools.again = true;
                break;
            }
            left -= 1;
            match self.read() {
                Ok((0, _)) => return self.fail(Status::BadGateway, "it ended"),
                Ok((len, fds)) => {
                    if let Err(why) = self.take(len, fds, tools) {
                        return self.fail(Status::BadGateway, &why);
                    }
                }
                Err(Errno::AGAIN) => self.readable = false,
                Err(Errno::INTR) => {}
                Err(_) => return self.fail(Status::BadGateway, "it ended"),
            }
        }
        if !self.exchanges.is_empty() && tools.now >= self.active + tools.limits.timeout {
            return self.fail(Status::GatewayTimeout, "it is silent");
        }
        self.time_out(tools);
        self.cancel();
        self.release();
        if self.write().is_err() {
            return self.fail(Status::BadGateway, "it ended");
        }
        Fate::Keep
    }

    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        self.exchanges.values().map(|under| under.active + limits.timeout).min()
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn take_child(&mut self) -> Option<Child> {
        self.child.take()
    }

    fn give_up(mut self: Box<Self>) {
        self.fail(Status::ServiceUnavailable, "the server ends");
    }
}
