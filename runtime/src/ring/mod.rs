//! Sockets by io_uring: what is to be done with many of them is said, and what was done is heard, by one
//! system call.
//!
//! ```text
//!   keep_receiving, await_readable, close ┐
//!   SendBatch: bytes from where they lie ──┴─▶ one io_uring_enter ──▶ RingEvent: bytes, ends
//! ```
//!
//! A [`SocketRing`] belongs to one thread. Bytes that come are in memory that the kernel takes from what all
//! sockets share, when they come: an idle connection has none ([`ReceivedBytes`]). Bytes that are sent are
//! only borrowed: a batch of sends is over when its call returns, for none of them waits. Who is who goes by
//! numbers that the caller chooses; one must not be given to another socket as long as something is under way
//! for it.
//!
//! The ring can do these things only (`IORING_REGISTER_RESTRICTIONS`), whoever gets hold of it. What it
//! needs, the youngest part of which came with Linux 6.1, is tried out by [`SocketRing::probe`].

#![allow(unsafe_code, reason = "the kernel reads memory that queue entries name")]

mod batch;
mod buffers;
#[cfg(test)]
mod tests;

pub use batch::{SendBatch, Sent};
pub use buffers::ReceivedBytes;

use crate::stats::work::{Quantity, count};
use buffers::Provided;
use io_uring::cqueue;
use io_uring::register::Restriction;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

/// Entries that the kernel is told of by one call; beyond, there is a call in between.
const ENTRIES: u32 = 256;

/// Ended operations that wait to be looked at in the ring itself; beyond, the kernel keeps them aside.
const ENDED: u32 = 4096;

/// How long the end of a ring waits for what is under way.
const END_PATIENCE: Duration = Duration::from_secs(2);

// What `linux/io_uring.h` calls them; the crate has no names for these.
const UNREGISTER_PROVIDED: u8 = 23;
const SYNC_CANCEL: u8 = 24;

/// Something has happened to a socket.
#[derive(Debug)]
pub enum RingEvent {
    /// Bytes have come, `None` at the end of the stream; or receiving has failed: [`Errno::NOBUFS`] says that
    /// all memory was taken just then, [`Errno::CANCELED`] that [`SocketRing::cancel`] was called.
    Received {
        /// Whose.
        key: u32,
        /// What.
        bytes: Result<Option<ReceivedBytes>, Errno>,
        /// Whether receiving goes on; otherwise nothing is under way any more.
        goes_on: bool,
    },
    /// What [`SocketRing::await_readable`] waited for has come; or the wait was cancelled.
    Readable {
        /// Whose.
        key: u32,
    },
}

/// What an operation is, in what the kernel hands back, above its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Operation {
    Receive,
    Readable,
    Send,
    /// Of which nobody wants to hear.
    Silent,
}

impl Operation {
    const ALL: [Operation; 4] = [Operation::Receive, Operation::Readable, Operation::Send, Operation::Silent];

    fn of(self, key: u32) -> u64 {
        (self as u64) << 32 | u64::from(key)
    }

    fn read(user_data: u64) -> Option<(Operation, u32)> {
        let operation = Operation::ALL.get((user_data >> 32) as usize)?;
        Some((*operation, user_data as u32))
    }
}

/// The ring of one thread.
pub struct SocketRing {
    ring: ManuallyDrop<IoUring>,
    provided: ManuallyDrop<Rc<Provided>>,
    ended: VecDeque<RingEvent>,
    batch: batch::Kept,
    /// The kernel refuses calls: none is made any more.
    is_broken: bool,
}

impl SocketRing {
    /// A ring for the calling thread, which alone may use it.
    ///
    /// # Errors
    /// If there is no io_uring here, or one that is too old: it may be forbidden (`kernel.io_uring_disabled`,
    /// a container).
    pub fn new() -> io::Result<SocketRing> {
        let ring: IoUring = IoUring::builder()
            .setup_cqsize(ENDED)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_r_disabled()
            .dontfork()
            .build(ENTRIES)?;
        if !(ring.params().is_feature_nodrop() && ring.params().is_feature_ext_arg()) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let provided = Provided::register(&ring)?;
        let operations = [
            opcode::RecvMulti::CODE,
            opcode::PollAdd::CODE,
            opcode::SendMsg::CODE,
            opcode::Send::CODE,
            opcode::AsyncCancel2::CODE,
            opcode::Close::CODE,
        ];
        let flags = Flags::BUFFER_SELECT | Flags::SKIP_SUCCESS;
        let mut allowed = vec![
            Restriction::sqe_flags_allowed(flags.bits()),
            Restriction::register_op(UNREGISTER_PROVIDED),
            Restriction::register_op(SYNC_CANCEL),
        ];
        allowed.extend(operations.map(Restriction::sqe_op));
        ring.submitter().register_restrictions(&mut allowed)?;
        ring.submitter().register_enable_rings()?;
        Ok(SocketRing {
            ring: ManuallyDrop::new(ring),
            provided: ManuallyDrop::new(provided),
            ended: VecDeque::new(),
            batch: batch::Kept::default(),
            is_broken: false,
        })
    }

    /// Whether there can be one here that does what it should, tried out with a pair of sockets.
    ///
    /// # Errors
    /// What is missing.
    pub fn probe() -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let mut ring = SocketRing::new()?;
        ring.keep_receiving(near.as_fd(), 1)?;
        for said in [&b"a"[..], b"bc"] {
            let mut batch = ring.batch();
            batch.bytes(said);
            batch.end(2, far.as_fd(), false);
            batch.send()?;
            let all_sent = matches!(ring.sent(), [Sent { key: 2, result: Ok(n) }] if *n == said.len());
            ring.wait(Some(Duration::from_secs(1)))?;
            let heard = match ring.next_event() {
                Some(RingEvent::Received { key: 1, bytes: Ok(Some(bytes)), goes_on: true }) => {
                    *bytes == *said
                }
                _ => false,
            };
            if !(all_sent && heard) {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "it does not do what it should"));
            }
        }
        ring.close(far)?;
        ring.wait(Some(Duration::from_secs(1)))?;
        match ring.next_event() {
            Some(RingEvent::Received { key: 1, bytes: Ok(None), goes_on: false }) => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::Unsupported, "it does not close what it should")),
        }
    }

    /// Receives from `socket` until its end, an error, or [`SocketRing::cancel`].
    ///
    /// # Errors
    /// Whatever the system says, as for all that follow; then nothing is under way.
    pub fn keep_receiving(&mut self, socket: BorrowedFd<'_>, key: u32) -> io::Result<()> {
        let receive = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), buffers::GROUP).build();
        self.push(receive.user_data(Operation::Receive.of(key)))
    }

    /// Waits, once, until `socket` can be read.
    ///
    /// # Errors
    /// As said.
    pub fn await_readable(&mut self, socket: BorrowedFd<'_>, key: u32) -> io::Result<()> {
        let events = (libc::POLLIN | libc::POLLPRI | libc::POLLRDHUP) as u32;
        let poll = opcode::PollAdd::new(Fd(socket.as_raw_fd()), events).build();
        self.push(poll.user_data(Operation::Readable.of(key)))
    }

    /// Ends all that is under way for `socket`: each then ends with an event, perhaps of something that was
    /// quicker.
    ///
    /// # Errors
    /// As said.
    pub fn cancel(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let all = CancelBuilder::fd(Fd(socket.as_raw_fd())).all();
        let cancel = opcode::AsyncCancel2::new(all).build().flags(Flags::SKIP_SUCCESS);
        self.push(cancel.user_data(Operation::Silent.of(0)))
    }

    /// Closes `socket`, with the next call. What is under way for it keeps it open: cancel that first.
    ///
    /// # Errors
    /// As said; the socket is closed nevertheless.
    pub fn close(&mut self, socket: OwnedFd) -> io::Result<()> {
        let close = opcode::Close::new(Fd(socket.as_raw_fd())).build().flags(Flags::SKIP_SUCCESS);
        self.push(close.user_data(Operation::Silent.of(0)))?;
        // The kernel's from here on.
        let _ = socket.into_raw_fd();
        Ok(())
    }

    /// Says what was said since the last call, and waits up to `timeout` (for ever if `None`) until there is
    /// an event; not if there is one already. An interrupted wait ends early.
    ///
    /// # Errors
    /// If the kernel refuses, which it will go on doing.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.take_ended();
        let is_ready = !self.ended.is_empty() || timeout.is_some_and(|timeout| timeout.is_zero());
        if is_ready && !self.has_work() {
            return Ok(());
        }
        count(Quantity::CallsToWait, 1);
        self.enter(usize::from(!is_ready), timeout)?;
        self.take_ended();
        Ok(())
    }

    /// What has happened, in order.
    pub fn next_event(&mut self) -> Option<RingEvent> {
        self.ended.pop_front()
    }

    /// Whether a call would get further now: something was said, or something has ended that the kernel has
    /// yet to tell.
    fn has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    fn push(&mut self, entry: Entry) -> io::Result<()> {
        // SAFETY: none of the entries that come by here names memory: the sends, which do, have their own
        // way.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            count(Quantity::OtherCalls, 1);
            self.enter(0, None)?;
            self.take_ended();
        }
        Ok(())
    }

    /// One call. What it could not do, for want of memory, say, is done by the next.
    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let time = timeout.map(|time| Timespec::new().sec(time.as_secs()).nsec(time.subsec_nanos()));
        let args = match &time {
            Some(time) if want > 0 => SubmitArgs::new().timespec(time),
            _ => SubmitArgs::new(),
        };
        match self.ring.submitter().submit_with_args(want, &args) {
            Ok(_) => Ok(()),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::TIME | Errno::INTR) => Ok(()),
                // Others may give some back; ended operations are looked at meanwhile.
                Some(Errno::AGAIN | Errno::BUSY | Errno::NOMEM) => {
                    std::thread::yield_now();
                    Ok(())
                }
                _ => {
                    self.is_broken = true;
                    Err(error)
                }
            },
        }
    }

    /// Looks at what has ended.
    fn take_ended(&mut self) {
        let SocketRing { ring, provided, ended, batch, .. } = self;
        for entry in ring.completion() {
            let Some((operation, key)) = Operation::read(entry.user_data()) else { continue };
            let (result, flags) = (entry.result(), entry.flags());
            let result = usize::try_from(result).map_err(|_| Errno::from_raw_os_error(result.wrapping_neg()));
            match operation {
                Operation::Receive => {
                    let bytes = result.map(|len| {
                        let taken = cqueue::buffer_select(flags).map(|id| provided.taken(id, len));
                        taken.filter(|bytes| !bytes.is_empty())
                    });
                    ended.push_back(RingEvent::Received { key, bytes, goes_on: cqueue::more(flags) });
                }
                Operation::Readable => ended.push_back(RingEvent::Readable { key }),
                Operation::Send => batch.end(key, result),
                Operation::Silent => {}
            }
        }
    }
}

impl Drop for SocketRing {
    /// Ends what is under way: until then the kernel may write to memory that it was given.
    fn drop(&mut self) {
        let patience = Timespec::new().sec(END_PATIENCE.as_secs());
        // What was said, but not told yet, is: sockets are closed by it.
        let _ = self.enter(0, None);
        let ended = self.ring.submitter().register_sync_cancel(Some(patience), CancelBuilder::any());
        let is_over =
            ended.is_ok() || ended.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let _ = self.enter(0, None);
        let is_given_back = self.ring.submitter().unregister_buf_ring(buffers::GROUP).is_ok();
        self.ended.clear();
        // SAFETY: not used again, each of them.
        unsafe {
            ManuallyDrop::drop(&mut self.ring);
            // Otherwise its memory is never used for anything else.
            if is_over && is_given_back {
                ManuallyDrop::drop(&mut self.provided);
            }
        }
    }
}

impl fmt::Debug for SocketRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketRing").field("ended", &self.ended.len()).finish_non_exhaustive()
    }
}
