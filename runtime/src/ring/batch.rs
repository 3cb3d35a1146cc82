//! Sends to many sockets by one system call, from where the bytes lie.

#![allow(unsafe_code, reason = "the kernel reads bytes at addresses that queue entries name")]

use super::{Operation, SocketRing};
use crate::stats::work::{Quantity, count};
use io_uring::opcode;
use io_uring::types::Fd;
use rustix::io::Errno;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Bytes of one slice that are sent at most.
const MAX_BYTES: usize = 1 << 30;

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Whose.
    pub key: u32,
    /// Bytes that the socket took: perhaps not all. [`Errno::AGAIN`] if it is full.
    pub result: Result<usize, Errno>,
}

/// Memory of batches, kept from one to the next.
#[derive(Default)]
pub(super) struct Kept {
    sends: Vec<Send>,
    headers: Vec<libc::msghdr>,
    slices: Vec<libc::iovec>,
    ended: Vec<Sent>,
}

#[derive(Clone)]
struct Send {
    key: u32,
    socket: RawFd,
    slices: Range<usize>,
    flags: i32,
}

impl Kept {
    pub(super) fn end(&mut self, key: u32, result: Result<usize, Errno>) {
        self.ended.push(Sent { key, result });
    }
}

/// Sends that are begun together, of bytes that live for `'a`. Nothing is told to the kernel before
/// [`SendBatch::send`].
#[derive(Debug)]
pub struct SendBatch<'r, 'a> {
    ring: &'r mut SocketRing,
    borrowed: PhantomData<(&'a [u8], BorrowedFd<'a>)>,
}

impl SocketRing {
    /// An empty batch.
    pub fn batch<'a>(&mut self) -> SendBatch<'_, 'a> {
        let Kept { sends, headers, slices, ended } = &mut self.batch;
        sends.clear();
        headers.clear();
        slices.clear();
        ended.clear();
        SendBatch { ring: self, borrowed: PhantomData }
    }

    /// What became of the last batch's sends.
    pub fn sent(&self) -> &[Sent] {
        &self.batch.ended
    }
}

impl<'a> SendBatch<'_, 'a> {
    /// Bytes of the send that is being made.
    pub fn bytes(&mut self, bytes: &'a [u8]) {
        let start = bytes.as_ptr().expose_provenance();
        let slice =
            libc::iovec { iov_base: std::ptr::with_exposed_provenance_mut(start), iov_len: bytes.len() };
        self.ring.batch.slices.push(slice);
    }

    /// Slices of the send that is being made.
    pub fn slices(&self) -> usize {
        self.ring.batch.slices.len() - self.ended_slices()
    }

    fn ended_slices(&self) -> usize {
        self.ring.batch.sends.last().map_or(0, |send| send.slices.end)
    }

    /// Forgets the send that is being made.
    pub fn forget(&mut self) {
        let keep = self.ended_slices();
        self.ring.batch.slices.truncate(keep);
    }

    /// The send that was being made is one to `socket`. With `more`, what follows at once may ride on its
    /// last segment (`MSG_MORE`).
    pub fn end(&mut self, key: u32, socket: BorrowedFd<'a>, more: bool) {
        // It never waits: what the socket has no room for now is not sent.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | if more { libc::MSG_MORE } else { 0 };
        let slices = self.ended_slices()..self.ring.batch.slices.len();
        self.ring.batch.sends.push(Send { key, socket: socket.as_raw_fd(), slices, flags });
    }

    /// Whether nothing is to be sent.
    pub fn is_empty(&self) -> bool {
        self.ring.batch.sends.is_empty()
    }

    /// Sends all; [`SocketRing::sent`] tells what became of each.
    ///
    /// # Errors
    /// As [`SocketRing::wait`].
    pub fn send(self) -> io::Result<()> {
        let SendBatch { ring, .. } = self;
        let Kept { sends, headers, slices, .. } = &mut ring.batch;
        headers.extend(sends.iter().map(|send| {
            // SAFETY: all zeros are one without address, slices or control data.
            let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
            let own = &mut slices[send.slices.clone()];
            (header.msg_iov, header.msg_iovlen) = (own.as_mut_ptr(), own.len() as _);
            header
        }));
        let total = sends.len();
        let mut told = 0;
        while ring.batch.ended.len() < total {
            told += ring.tell(told);
            count(Quantity::CallsToSend, 1);
            let under_way = told - ring.batch.ended.len();
            if let Err(error) = ring.enter(under_way, None) {
                ring.take_ended();
                // What the kernel has not looked at it never will, for there will be no call. It has none of
                // the others under way, for they do not wait.
                let unseen = ring.ring.submission().len();
                if told - ring.batch.ended.len() > unseen {
                    std::process::abort();
                }
                return Err(error);
            }
            ring.take_ended();
        }
        Ok(())
    }
}

impl SocketRing {
    /// Puts sends from number `from` on in the queue, as far as there is room; how many.
    fn tell(&mut self, from: usize) -> usize {
        let SocketRing { ring, batch, .. } = self;
        let mut queue = ring.submission();
        let mut told = 0;
        for (send, header) in batch.sends[from..].iter().zip(&batch.headers[from..]) {
            let socket = Fd(send.socket);
            let entry = match &batch.slices[send.slices.clone()] {
                [one] => opcode::Send::new(socket, one.iov_base.cast(), one.iov_len.min(MAX_BYTES) as u32)
                    .flags(send.flags)
                    .build(),
                _ => opcode::SendMsg::new(socket, header).flags(send.flags as u32).build(),
            };
            let entry = entry.user_data(Operation::Send.of(send.key));
            // SAFETY: the bytes are borrowed, headers and slices are not touched, until `send` returns: it
            // does when the kernel is done with each of them, or will never look at them.
            if unsafe { queue.push(&entry) }.is_err() {
                break;
            }
            told += 1;
        }
        told
    }
}
