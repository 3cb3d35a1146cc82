//! What the application's thread and the stack's share of a connection.
//!
//! ```text
//!   application                        shared                          the stack's thread
//!   write ──▶ blocks, bounded ─────────────────▶ taken at a look ──▶ Outgoing ──▶ TCP
//!   read  ◀── bytes, bounded: the receive window ◀───────────────── Stream::receive
//!             how it stands: opening, open, over
//! ```
//!
//! The receive buffer, and with it the window, begins with [`FIRST_WINDOW`] and grows by as much as the
//! application reads, so a peer has what it sends kept only by who takes it; what all have grown by is
//! bounded ([`Spare`]).
//!
//! The application asks for a look when there is something for the stack ([`State::announced`]): to send, a
//! window that opens, an end. One request stands for all until the look is made, under the same lock.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use super::outgoing::BLOCK_BYTES;
use super::wait::{Tell, WaitList, call, lock, wait_by};
use super::{Ending, SocketLimits};
use crate::application::{CloseReason, Key};

/// What a connection may receive before anything is read: any that somebody opens, and nobody has accepted,
/// costs that.
const FIRST_WINDOW: usize = 64 << 10;

/// What the receive buffers of all connections may still grow by.
#[derive(Debug)]
pub(super) struct Spare(AtomicUsize);

impl Spare {
    pub(super) fn new(bytes: usize) -> Spare {
        Spare(AtomicUsize::new(bytes))
    }

    /// Takes as much of `wanted` as there is.
    fn take(&self, wanted: usize) -> usize {
        let less = |spare: usize| Some(spare - spare.min(wanted));
        let result = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        result.map_or(0, |before| before.min(wanted))
    }

    fn give(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A connection, as both sides see it.
#[derive(Debug)]
pub(crate) struct Duplex {
    limits: SocketLimits,
    spare: Arc<Spare>,
    state: Mutex<State>,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
    Over(Ending),
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// What the stack knows it by, and the addresses, once it does.
    key: Option<Key>,
    addrs: Option<(SocketAddr, SocketAddr)>,
    received: VecDeque<u8>,
    /// How many bytes that may be; never less than it was.
    capacity: usize,
    /// The window that the stack was told last.
    window: usize,
    /// The peer's FIN has come.
    is_read_out: bool,
    /// The application reads no more: what comes is thrown away.
    reads_shut: bool,
    /// Written and not taken over yet.
    blocks: Vec<Vec<u8>>,
    /// Written and not acknowledged, those among them.
    unacknowledged: usize,
    /// No byte will be written any more.
    writes_shut: bool,
    /// Nobody has the connection any more.
    is_dropped: bool,
    /// It is to be reset.
    is_aborted: bool,
    /// A look was asked for.
    announced: bool,
    readers: WaitList,
    writers: WaitList,
}

/// What the stack's thread finds at a look.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) key: Option<Key>,
    pub(super) blocks: Vec<Vec<u8>>,
    pub(super) is_finished: bool,
    pub(super) is_dropped: bool,
    pub(super) is_aborted: bool,
}

impl Duplex {
    pub(super) fn new(limits: SocketLimits, spare: Arc<Spare>) -> Duplex {
        let limits = SocketLimits { send_bytes: limits.send_bytes.max(1), ..limits };
        let capacity = first_window(&limits);
        let state = State {
            phase: Phase::Opening,
            key: None,
            addrs: None,
            received: VecDeque::new(),
            capacity,
            window: capacity,
            is_read_out: false,
            reads_shut: false,
            blocks: Vec::new(),
            unacknowledged: 0,
            writes_shut: false,
            is_dropped: false,
            is_aborted: false,
            announced: false,
            readers: WaitList::default(),
            writers: WaitList::default(),
        };
        Duplex { limits, spare, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        let grown = self.lock().capacity - first_window(&self.limits);
        self.spare.give(grown);
    }
}

fn first_window(limits: &SocketLimits) -> usize {
    limits.receive_bytes.clamp(1, FIRST_WINDOW)
}

/// The application's side.
impl Duplex {
    /// Whether it is open, or why not.
    pub(crate) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = self.lock();
        match state.phase {
            Phase::Opening => wait_by(state, cx, |state| &mut state.writers),
            Phase::Open => Poll::Ready(Ok(())),
            Phase::Over(Ending::Closed(CloseReason::Finished)) => Poll::Ready(Ok(())),
            Phase::Over(ending) => Poll::Ready(Err(ending.error())),
        }
    }

    /// Copies what has come to `buffers`, one after the other: how much, or 0 when no more will come.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        keeps: bool,
    ) -> Poll<io::Result<(usize, Tell)>> {
        let mut state = self.lock();
        if state.reads_shut || buffers.iter().all(|buffer| buffer.is_empty()) {
            return Poll::Ready(Ok((0, Tell::NO)));
        }
        if state.received.is_empty() {
            return match state.phase {
                _ if state.is_read_out => Poll::Ready(Ok((0, Tell::NO))),
                Phase::Over(ending) => Poll::Ready(Err(ending.error())),
                Phase::Opening | Phase::Open => wait_by(state, cx, |state| &mut state.readers),
            };
        }
        let state = &mut *state;
        let mut len = 0;
        for buffer in buffers {
            let (front, back) = state.received.as_slices();
            let of_front = front.len().saturating_sub(len).min(buffer.len());
            if of_front > 0 {
                buffer[..of_front].copy_from_slice(&front[len..len + of_front]);
            }
            let behind = (len + of_front).saturating_sub(front.len());
            let of_back = back.len().saturating_sub(behind).min(buffer.len() - of_front);
            if of_back > 0 {
                buffer[of_front..of_front + of_back].copy_from_slice(&back[behind..behind + of_back]);
            }
            len += of_front + of_back;
        }
        if keeps {
            return Poll::Ready(Ok((len, Tell::NO)));
        }
        state.received.drain(..len);
        if state.received.is_empty() {
            state.received.shrink_to(BLOCK_BYTES);
        }
        let growth = len.min(self.limits.receive_bytes.saturating_sub(state.capacity));
        if growth > 0 {
            state.capacity += self.spare.take(growth);
        }
        // A window that has opened by a quarter is news, and one that was shut opens by that before all is
        // read.
        let free = state.capacity - state.received.len();
        let tell = free.saturating_sub(state.window) >= state.capacity.div_ceil(4);
        Poll::Ready(Ok((len, state.announce(tell))))
    }

    /// Takes as much of `buffers` as there is room for: how much.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<(usize, Tell)>> {
        let mut state = self.lock();
        if let Phase::Over(ending) = state.phase {
            return Poll::Ready(Err(ending.error()));
        }
        if state.writes_shut {
            let why = "written to after it was shut down for writing";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, why)));
        }
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Poll::Ready(Ok((0, Tell::NO)));
        }
        let room = self.limits.send_bytes.saturating_sub(state.unacknowledged);
        if room == 0 || state.phase == Phase::Opening {
            return wait_by(state, cx, |state| &mut state.writers);
        }
        let mut left = room;
        for buffer in buffers {
            let bytes = &buffer[..buffer.len().min(left)];
            state.write(bytes);
            left -= bytes.len();
        }
        state.unacknowledged += room - left;
        Poll::Ready(Ok((room - left, state.announce(true))))
    }

    /// Whether all that was written is acknowledged.
    pub(crate) fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = self.lock();
        match state.phase {
            _ if state.unacknowledged == 0 => Poll::Ready(Ok(())),
            Phase::Over(ending) => Poll::Ready(Err(ending.error())),
            Phase::Opening | Phase::Open => wait_by(state, cx, |state| &mut state.writers),
        }
    }

    /// No byte will be written any more: what was goes out, and then FIN.
    pub(crate) fn shut_writes(&self) -> Tell {
        let (tell, waiting) = {
            let mut state = self.lock();
            let is_news = !std::mem::replace(&mut state.writes_shut, true);
            (state.announce(is_news), state.writers.take())
        };
        call(waiting);
        tell
    }

    /// What comes from now on, and what has come, is thrown away; reading gives an end.
    pub(crate) fn shut_reads(&self) -> Tell {
        let (tell, waiting) = {
            let mut state = self.lock();
            state.reads_shut = true;
            state.received = VecDeque::new();
            (state.announce(true), state.readers.take())
        };
        call(waiting);
        tell
    }

    /// Nobody will read or write any more. What was written goes out, and then FIN; but if there is something
    /// that was not read, the peer is to know that it was for nothing, by RST (RFC 2525 section 2.17).
    pub(crate) fn release(&self) -> Tell {
        let mut state = self.lock();
        state.is_dropped = true;
        state.writes_shut = true;
        let loses = !state.received.is_empty() && !state.reads_shut;
        state.is_aborted |= loses || state.phase == Phase::Opening;
        state.received = VecDeque::new();
        state.announce(true)
    }

    /// Resets it.
    pub(crate) fn abort(&self) -> Tell {
        let mut state = self.lock();
        state.is_aborted = true;
        state.announce(true)
    }

    /// Our address and the peer's.
    pub(crate) fn addrs(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        self.lock().addrs.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl State {
    fn announce(&mut self, is_news: bool) -> Tell {
        let is_over = matches!(self.phase, Phase::Over(_));
        Tell::new(is_news && !is_over && !std::mem::replace(&mut self.announced, true))
    }

    fn write(&mut self, mut bytes: &[u8]) {
        if let Some(last) = self.blocks.last_mut() {
            let now = (last.capacity() - last.len()).min(bytes.len());
            last.extend_from_slice(&bytes[..now]);
            bytes = &bytes[now..];
        }
        for part in bytes.chunks(BLOCK_BYTES) {
            // Whoever writes little has blocks of that size; they grow with what is written before they are
            // taken.
            let mut block = Vec::with_capacity(part.len().next_power_of_two().clamp(512, BLOCK_BYTES));
            block.extend_from_slice(part);
            self.blocks.push(block);
        }
    }
}

/// The stack's side.
impl Duplex {
    /// The stack knows it by `key`; accepted, it is open.
    pub(super) fn attach(&self, key: Key, local: SocketAddr, remote: SocketAddr, is_open: bool) {
        let mut state = self.lock();
        (state.key, state.addrs) = (Some(key), Some((local, remote)));
        if is_open {
            state.phase = Phase::Open;
        }
    }

    /// Takes what the application asked for the look for.
    pub(super) fn look(&self) -> Look {
        let mut state = self.lock();
        state.announced = false;
        Look {
            key: state.key.filter(|_| !matches!(state.phase, Phase::Over(_))),
            blocks: std::mem::take(&mut state.blocks),
            is_finished: state.writes_shut,
            is_dropped: state.is_dropped,
            is_aborted: state.is_aborted,
        }
    }

    pub(super) fn established(&self) {
        let waiting = {
            let mut state = self.lock();
            state.phase = Phase::Open;
            state.writers.take()
        };
        call(waiting);
    }

    /// Takes bytes of the peer's: how many. Those that nobody will read are all taken; whether they are so,
    /// nobody being there.
    pub(super) fn received(&self, bytes: &[u8]) -> (usize, bool) {
        let (taken, waiting) = {
            let mut state = self.lock();
            if state.is_dropped || state.reads_shut {
                return (bytes.len(), state.is_dropped);
            }
            let taken = bytes.len().min(state.capacity - state.received.len());
            state.received.extend(&bytes[..taken]);
            (taken, state.readers.take())
        };
        call(waiting);
        (taken, false)
    }

    /// The receive window.
    pub(super) fn window(&self) -> usize {
        let mut state = self.lock();
        state.window = state.capacity - state.received.len();
        state.window
    }

    /// What the receive window is when nothing waits to be read.
    pub(super) fn capacity(&self) -> usize {
        self.lock().capacity
    }

    pub(super) fn receive_finished(&self) {
        let waiting = {
            let mut state = self.lock();
            state.is_read_out = true;
            state.readers.take()
        };
        call(waiting);
    }

    /// `len` bytes more have been acknowledged.
    pub(super) fn acknowledged(&self, len: usize) {
        let waiting = {
            let mut state = self.lock();
            let before = state.unacknowledged;
            state.unacknowledged = before.saturating_sub(len);
            // Who waits for room gets an eighth of all at once, not each segment's.
            let room = self.limits.send_bytes.saturating_sub(state.unacknowledged);
            if state.unacknowledged == 0 || room >= self.limits.send_bytes.div_ceil(8) {
                state.writers.take()
            } else {
                WaitList::default()
            }
        };
        call(waiting);
    }

    /// It is over.
    pub(super) fn end(&self, ending: Ending) {
        let waiting = {
            let mut state = self.lock();
            if matches!(state.phase, Phase::Over(_)) {
                return;
            }
            state.phase = Phase::Over(ending);
            state.blocks = Vec::new();
            state.readers.take().and(state.writers.take())
        };
        call(waiting);
    }
}
