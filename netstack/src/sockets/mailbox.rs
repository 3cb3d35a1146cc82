//! A UDP socket's datagrams, both ways, between the application's thread and the stack's.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::task::{Context, Poll};

use runtime::buffer::{Aggregate, Shared, Slice};

use super::wait::{Tell, WaitList, call, lock, wait_by};
use super::{Ending, SocketLimits};

/// What a datagram counts beside its bytes: empty ones are not free.
const OVERHEAD: usize = 64;

/// Datagrams that have come and are not read, and those that are to be sent.
#[derive(Debug)]
pub(crate) struct Mailbox {
    limits: SocketLimits,
    state: Mutex<Letters>,
}

#[derive(Debug, Default)]
struct Letters {
    received: VecDeque<(SocketAddr, Box<[u8]>)>,
    received_bytes: usize,
    dropped: u64,
    /// What became of something that was sent: told once, by whichever call comes next.
    error: Option<io::ErrorKind>,
    /// With the length of each datagram of several, or 0.
    written: VecDeque<(SocketAddr, Aggregate, u16)>,
    written_bytes: usize,
    over: Option<Ending>,
    announced: bool,
    readers: WaitList,
    writers: WaitList,
}

impl Mailbox {
    pub(super) fn new(limits: SocketLimits) -> Mailbox {
        Mailbox { limits, state: Mutex::default() }
    }

    /// Copies the next datagram to `buffer`, as much of it as fits: how much, of how many bytes, and whose. A
    /// socket that is connected hears once that nobody listens there.
    pub(crate) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, usize, SocketAddr)>> {
        let mut letters = lock(&self.state);
        if let Some(error) = letters.error.take() {
            return Poll::Ready(Err(error.into()));
        }
        if let Some((from, bytes)) = letters.received.pop_front() {
            letters.received_bytes -= bytes.len() + OVERHEAD;
            let len = bytes.len().min(buffer.len());
            buffer[..len].copy_from_slice(&bytes[..len]);
            return Poll::Ready(Ok((len, bytes.len(), from)));
        }
        if let Some(ending) = letters.over {
            return Poll::Ready(Err(ending.error()));
        }
        wait_by(letters, cx, |letters| &mut letters.readers)
    }

    /// Takes a datagram to be sent, if there is room for it.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        to: SocketAddr,
        bytes: &[u8],
        segment: u16,
    ) -> Poll<io::Result<Tell>> {
        let mut letters = lock(&self.state);
        if let Some(ending) = letters.over {
            return Poll::Ready(Err(ending.error()));
        }
        if let Some(error) = letters.error.take() {
            return Poll::Ready(Err(error.into()));
        }
        let weight = bytes.len() + OVERHEAD;
        if !letters.written.is_empty() && letters.written_bytes + weight > self.limits.datagram_bytes {
            return wait_by(letters, cx, |letters| &mut letters.writers);
        }
        letters.written_bytes += weight;
        let payload = Aggregate::from(Slice::from(Shared::from(bytes.to_vec())));
        letters.written.push_back((to, payload, segment));
        Poll::Ready(Ok(Tell::new(!std::mem::replace(&mut letters.announced, true))))
    }

    /// Datagrams that came when there was no room.
    pub(crate) fn dropped(&self) -> u64 {
        lock(&self.state).dropped
    }

    /// The stack's side: a datagram has come.
    pub(super) fn received(&self, from: SocketAddr, bytes: &[u8]) {
        let waiting = {
            let mut letters = lock(&self.state);
            let weight = bytes.len() + OVERHEAD;
            if letters.received_bytes + weight > self.limits.datagram_bytes {
                letters.dropped += 1;
                return;
            }
            letters.received_bytes += weight;
            letters.received.push_back((from, bytes.into()));
            letters.readers.take()
        };
        call(waiting);
    }

    /// Something that was sent came to nothing.
    pub(super) fn failed(&self, error: io::ErrorKind) {
        let waiting = {
            let mut letters = lock(&self.state);
            letters.error = Some(error);
            letters.readers.take().and(letters.writers.take())
        };
        call(waiting);
    }

    /// Gives the datagrams to be sent to `send`, in order, until it says that it has no room for one; whether
    /// it had for all.
    pub(super) fn drain(&self, mut send: impl FnMut(SocketAddr, &Aggregate, u16) -> bool) -> bool {
        let (waiting, all) = {
            let mut letters = lock(&self.state);
            letters.announced = false;
            while let Some((to, payload, segment)) = letters.written.front() {
                let weight = payload.len() + OVERHEAD;
                if !send(*to, payload, *segment) {
                    break;
                }
                letters.written.pop_front();
                letters.written_bytes -= weight;
            }
            let all = letters.written.is_empty();
            // What is left is looked at again without being asked.
            letters.announced = !all;
            (letters.writers.take(), all)
        };
        call(waiting);
        all
    }

    pub(super) fn end(&self, ending: Ending) {
        let waiting = {
            let mut letters = lock(&self.state);
            letters.over = Some(ending);
            letters.readers.take().and(letters.writers.take())
        };
        call(waiting);
    }
}
