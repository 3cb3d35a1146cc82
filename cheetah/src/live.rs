//! Bodies that grow while they are sent: a channel from whoever makes the bytes, in any thread, to the connection that sends
//! them, and the call that wakes the connection's loop.
//!
//! ```text
//!   Sender::send(slice) ──► what waits, bounded ──► Receiver::take, when the peer has taken what was before
//!           └── wakes ──► Wakes: keys of connections, and the loop out of its wait
//! ```
//!
//! Bytes are buffers and are not copied. A sender that goes without [`Sender::finish`] breaks the body off, so that nobody
//! takes half of it for the whole.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use runtime::buffer::{Aggregate, Slice};
use runtime::event_loop::Waker;

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
}

/// Two ends of a body of which at most `limit` bytes wait to be taken.
pub fn channel(limit: usize) -> (Sender, Receiver) {
    let state = State { waiting: Aggregate::new(), limit, end: None, gone: false, waker: None };
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
        state.wake();
    }
}

impl Receiver {
    /// Whom to wake when there is something to take.
    pub fn wake_by(&self, waker: ConnectionWaker) {
        lock(&self.state).waker = Some(waker);
    }

    /// All that waits, and the end if that is behind it.
    pub fn take(&self) -> (Aggregate, Option<End>) {
        let mut state = lock(&self.state);
        (std::mem::take(&mut state.waiting), state.end)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.gone = true;
        state.waiting = Aggregate::new();
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
    event_loop: OnceLock<Waker>,
}

/// Wakes one connection, from any thread.
#[derive(Clone, Debug)]
pub struct ConnectionWaker {
    wakes: Wakes,
    key: u32,
}

impl Wakes {
    /// The loop to wake, once there is one.
    pub fn set_loop(&self, waker: Waker) {
        let _ = self.inner.event_loop.set(waker);
    }

    /// What wakes the connection `key`.
    pub fn connection(&self, key: u32) -> ConnectionWaker {
        ConnectionWaker { wakes: self.clone(), key }
    }

    /// The connections that were woken since this was last asked. One may have ended meanwhile, and its key be another's.
    pub fn take(&self) -> Vec<u32> {
        if !self.inner.any.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner))
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
        if let Some(event_loop) = inner.event_loop.get() {
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
