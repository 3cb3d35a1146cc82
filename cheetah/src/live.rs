//! Bodies that grow while they are sent: a channel from whoever makes the bytes, in any thread, to the
//! connection that sends them, and the call that wakes the connection's loop.
//!
//! ```text
//!   Sender::send(slice) ──► what waits, bounded ──► Receiver::take, when the peer has taken what was before
//!           └── wakes ──► Wakes: keys of connections, and the loop out of its wait
//! ```
//!
//! Bytes are buffers and are not copied. A sender that goes without [`Sender::finish`] breaks the body off,
//! so that nobody takes half of it for the whole.
//!
//! Of a response whose head is made elsewhere, too ([`with_head`]), that comes first, or a status that says
//! why there is none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Wake;
use std::thread::{self, ThreadId};

use runtime::buffer::{Aggregate, Slice};
use runtime::event_loop::Waker;

use crate::http::foreign::ForeignHead;
use crate::http::response::Status;

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// That was all.
    Finished,
    /// There is more, and nobody has it.
    Broken,
}

/// Why bytes were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// As much as allowed waits already.
    Full,
    /// Nobody receives any more.
    Gone,
}

/// The end that gives bytes.
#[derive(Debug)]
pub struct Sender {
    state: Arc<Mutex<State>>,
}

/// The end that sends them to a peer.
#[derive(Debug)]
pub struct Receiver {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    waiting: Aggregate,
    limit: usize,
    end: Option<End>,
    gone: bool,
    waker: Option<ConnectionWaker>,
    /// Who is to look when there is room again, or nobody receives any more.
    sender_waker: Option<ConnectionWaker>,
    head: Head,
}

/// The head, where it is made by the sender.
#[derive(Debug)]
enum Head {
    /// Not made by the sender, or taken already.
    None,
    Awaited,
    Made(Result<Box<ForeignHead>, Status>),
}

/// Two ends of a body of which at most `limit` bytes wait to be taken.
pub fn channel(limit: usize) -> (Sender, Receiver) {
    ends(limit, Head::None)
}

/// The same of a response whose head the sender makes.
pub fn with_head(limit: usize) -> (Sender, Receiver) {
    ends(limit, Head::Awaited)
}

fn ends(limit: usize, head: Head) -> (Sender, Receiver) {
    let waiting = Aggregate::new();
    let state = State { waiting, limit, end: None, gone: false, waker: None, sender_waker: None, head };
    let state = Arc::new(Mutex::new(state));
    (Sender { state: Arc::clone(&state) }, Receiver { state })
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sender {
    /// Appends to the body.
    ///
    /// # Errors
    /// If too much waits already, or nobody receives any more.
    pub fn send(&self, bytes: Slice) -> Result<(), SendError> {
        let mut state = lock(&self.state);
        if state.gone {
            return Err(SendError::Gone);
        }
        if state.waiting.len() + bytes.len() > state.limit {
            return Err(SendError::Full);
        }
        state.waiting.push(bytes);
        state.wake();
        Ok(())
    }

    /// Gives the head, before any bytes.
    pub fn send_head(&self, head: ForeignHead) {
        let mut state = lock(&self.state);
        state.head = Head::Made(Ok(Box::new(head)));
        state.wake();
    }

    /// Appends to the body, however much waits already: for who looks at [`Sender::has_room`] before it gets
    /// more.
    pub fn push(&self, bytes: Aggregate) {
        let mut state = lock(&self.state);
        if !state.gone {
            state.waiting.append(bytes);
            state.wake();
        }
    }

    /// Whether less waits than allowed.
    pub fn has_room(&self) -> bool {
        let state = lock(&self.state);
        state.waiting.len() < state.limit
    }

    /// Whom to wake when there is room again, or nobody receives any more.
    pub fn wake_by(&self, waker: ConnectionWaker) {
        lock(&self.state).sender_waker = Some(waker);
    }

    /// There is no more. If nobody has seen the head yet, there is a response of that status instead;
    /// otherwise the body is broken off.
    pub fn fail(self, status: Status) {
        let mut state = lock(&self.state);
        if !matches!(state.head, Head::None) {
            state.head = Head::Made(Err(status));
            state.waiting = Aggregate::new();
        }
        // Dropping breaks off, and wakes.
    }

    /// That was all.
    pub fn finish(self) {
        lock(&self.state).end = Some(End::Finished);
        // Dropping wakes.
    }

    /// Whether nobody receives any more.
    pub fn is_gone(&self) -> bool {
        lock(&self.state).gone
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.end.get_or_insert(End::Broken);
        state.sender_waker = None;
        state.wake();
    }
}

impl Receiver {
    /// Whom to wake when there is something to take.
    pub fn wake_by(&self, waker: ConnectionWaker) {
        lock(&self.state).waker = Some(waker);
    }

    /// The head, once, when it has come; or the status of a response instead of it.
    pub fn take_head(&self) -> Option<Result<Box<ForeignHead>, Status>> {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut state.head, Head::None) {
            Head::Made(head) => Some(head),
            // Whoever was to make it is gone.
            Head::Awaited if state.end.is_some() => Some(Err(Status::BadGateway)),
            head => {
                state.head = head;
                None
            }
        }
    }

    /// Length of all of the body, if it has ended and nothing of it was taken.
    pub fn whole_len(&self) -> Option<u64> {
        let state = lock(&self.state);
        (state.end == Some(End::Finished)).then_some(state.waiting.len() as u64)
    }

    /// All that waits, and the end if that is behind it.
    pub fn take(&self) -> (Aggregate, Option<End>) {
        let mut state = lock(&self.state);
        if let Some(waker) = &state.sender_waker
            && state.waiting.len() >= state.limit
        {
            waker.wake();
        }
        (std::mem::take(&mut state.waiting), state.end)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.gone = true;
        state.waiting = Aggregate::new();
        if let Some(waker) = state.sender_waker.take() {
            waker.wake();
        }
    }
}

impl State {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }
}

/// The connections of one loop that have something to look at.
#[derive(Clone, Debug, Default)]
pub struct Wakes {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    any: AtomicBool,
    keys: Mutex<Vec<u32>>,
    event_loop: OnceLock<(Waker, ThreadId)>,
}

/// Wakes one connection, from any thread.
#[derive(Clone, Debug)]
pub struct ConnectionWaker {
    wakes: Wakes,
    key: u32,
}

impl Wakes {
    /// The loop to wake, once there is one: of this thread. What its own thread wakes costs no call, for it
    /// looks at [`Wakes::is_empty`] before it waits.
    pub fn set_loop(&self, waker: Waker) {
        let _ = self.inner.event_loop.set((waker, thread::current().id()));
    }

    /// Whether nothing was woken since the last [`Wakes::take`].
    pub fn is_empty(&self) -> bool {
        !self.inner.any.load(Ordering::Acquire)
    }

    /// What wakes the connection `key`.
    pub fn connection(&self, key: u32) -> ConnectionWaker {
        ConnectionWaker { wakes: self.clone(), key }
    }

    /// The connections that were woken since this was last asked. One may have ended meanwhile, and its key
    /// be another's.
    pub fn take(&self) -> Vec<u32> {
        if !self.inner.any.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        ConnectionWaker::wake(&self);
    }
}

impl ConnectionWaker {
    /// Has the loop look at the connection.
    pub fn wake(&self) {
        let inner = &self.wakes.inner;
        let mut keys = inner.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if !keys.contains(&self.key) {
            keys.push(self.key);
        }
        drop(keys);
        inner.any.store(true, Ordering::Release);
        if let Some((event_loop, thread)) = inner.event_loop.get()
            && *thread != thread::current().id()
        {
            // A loop that cannot be woken has ended.
            let _ = event_loop.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::buffer::Shared;

    fn slice(text: &str) -> Slice {
        Slice::from(Shared::from(text.as_bytes().to_vec()))
    }

    #[test]
    fn what_waits_is_bounded_and_wakes() {
        let wakes = Wakes::default();
        let (sender, receiver) = channel(5);
        receiver.wake_by(wakes.connection(7));
        assert!(wakes.take().is_empty());
        sender.send(slice("abc")).unwrap();
        assert_eq!(sender.send(slice("def")), Err(SendError::Full));
        sender.send(slice("de")).unwrap();
        assert_eq!((wakes.take(), wakes.take()), (vec![7], vec![]));
        let (bytes, end) = receiver.take();
        assert_eq!((bytes.len(), end), (5, None));
        sender.send(slice("fgh")).unwrap();
        sender.finish();
        assert_eq!(wakes.take(), [7]);
        let (bytes, end) = receiver.take();
        assert_eq!((bytes.len(), end), (3, Some(End::Finished)));
    }

    #[test]
    fn a_head_comes_first_or_a_status_instead() {
        let head = || ForeignHead::parse(b"Status: 201\n\n").unwrap();
        let (sender, receiver) = with_head(5);
        assert_eq!(receiver.take_head(), None);
        sender.send_head(head());
        assert_eq!(receiver.take_head().unwrap().unwrap().code, 201);
        sender.fail(Status::GatewayTimeout);
        assert_eq!((receiver.take_head(), receiver.take().1), (None, Some(End::Broken)), "seen already");
        let (sender, receiver) = with_head(5);
        sender.send_head(head());
        sender.push(slice("half").into());
        sender.fail(Status::GatewayTimeout);
        assert_eq!(receiver.take_head(), Some(Err(Status::GatewayTimeout)));
        assert_eq!(receiver.take().0.len(), 0);
        let (sender, receiver) = with_head(5);
        drop(sender);
        assert_eq!(receiver.take_head(), Some(Err(Status::BadGateway)));
    }

    #[test]
    fn a_sender_that_was_full_hears_of_room_and_of_the_end() {
        let wakes = Wakes::default();
        let (sender, receiver) = with_head(5);
        sender.wake_by(wakes.connection(3));
        sender.push(slice("abcd").into());
        assert!(sender.has_room());
        receiver.take();
        assert!(wakes.is_empty(), "it did not wait");
        sender.push(slice("abcdef").into());
        assert!(!sender.has_room());
        receiver.take();
        assert_eq!((wakes.take(), sender.has_room()), (vec![3], true));
        drop(receiver);
        assert_eq!((wakes.take(), sender.is_gone()), (vec![3], true));
    }

    #[test]
    fn either_end_notices_that_the_other_is_gone() {
        let (sender, receiver) = channel(5);
        drop(receiver);
        assert!(sender.is_gone());
        assert_eq!(sender.send(slice("a")), Err(SendError::Gone));
        let (sender, receiver) = channel(5);
        drop(sender);
        assert_eq!(receiver.take().1, Some(End::Broken));
    }
}
