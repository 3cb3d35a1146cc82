//! Waiting for a change of what is shared between threads, one way for threads and for tasks: who waits leaves a
//! [`Waker`], under the lock by which it saw that there is nothing yet. Who changes something takes the wakers under the
//! same lock, and calls them when it has let go of it. So a change comes either before the look, which sees it, or after
//! the waker was left, and calls it: none is lost.

use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant as Clock;

use smallvec::SmallVec;

/// Locks, whatever a thread that panicked left behind: what is kept under these locks is right after each statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who waits for the same.
#[derive(Debug, Default)]
pub(super) struct WaitList(SmallVec<[Waker; 1]>);

impl WaitList {
    /// Adds one, once however often it looks.
    pub(super) fn add(&mut self, cx: &Context<'_>) {
        if !self.0.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.0.push(cx.waker().clone());
        }
    }

    /// All of them, for [`call`] once the lock is open.
    pub(super) fn take(&mut self) -> WaitList {
        std::mem::take(self)
    }

    /// Those of another as well.
    pub(super) fn and(mut self, other: WaitList) -> WaitList {
        self.0.extend(other.0);
        self
    }
}

/// Wakes them.
pub(super) fn call(waiting: WaitList) {
    waiting.0.into_iter().for_each(Waker::wake);
}

/// Whether the stack's thread has to be told of a change, which must be done once the lock is open.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tell(bool);

impl Tell {
    pub(super) const NO: Tell = Tell(false);

    pub(super) fn new(is_needed: bool) -> Tell {
        Tell(is_needed)
    }

    pub(super) fn is_needed(self) -> bool {
        self.0
    }
}

/// A thread that waits. Not by `std::thread::park`, whose token may be meant for somebody else.
#[derive(Debug, Default)]
struct Parker {
    called: Mutex<bool>,
    condition: Condvar,
}

impl Wake for Parker {
    fn wake(self: Arc<Parker>) {
        *lock(&self.called) = true;
        self.condition.notify_one();
    }
}

impl Parker {
    /// Until it is called, or the time has come; whether it was called.
    fn park(&self, deadline: Option<Clock>) -> bool {
        let mut called = lock(&self.called);
        while !*called {
            let Some(deadline) = deadline else {
                called = self.condition.wait(called).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Clock::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.condition.wait_timeout(called, left);
            called = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *called = false;
        true
    }
}

/// Has the thread wait until `poll` is ready. `None` if that is not before `deadline`.
pub(crate) fn block<T>(
    deadline: Option<Clock>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    thread_local! {
        static PARKER: OnceCell<(Arc<Parker>, Waker)> = const { OnceCell::new() };
    }
    PARKER.with(|cell| {
        let (parker, waker) = cell.get_or_init(|| {
            let parker = Arc::<Parker>::default();
            (Arc::clone(&parker), Waker::from(parker))
        });
        let mut cx = Context::from_waker(waker);
        let mut in_time = true;
        loop {
            match poll(&mut cx) {
                Poll::Ready(value) => return Some(value),
                Poll::Pending if !in_time => return None,
                // What came with the time is looked at once more.
                Poll::Pending => in_time = parker.park(deadline),
            }
        }
    })
}

/// What was asked of the thread that has the stack.
pub(crate) struct Answer<T>(Arc<Mutex<Asked<T>>>);

/// The other end: dropped without a word, it says that there will be no answer.
pub(super) struct Promised<T>(Arc<Mutex<Asked<T>>>);

struct Asked<T> {
    answer: Option<T>,
    is_over: bool,
    waiting: WaitList,
}

pub(super) fn ask<T>() -> (Promised<T>, Answer<T>) {
    let asked = Asked { answer: None, is_over: false, waiting: WaitList::default() };
    let asked = Arc::new(Mutex::new(asked));
    (Promised(Arc::clone(&asked)), Answer(asked))
}

impl<T> Promised<T> {
    pub(super) fn keep(self, answer: T) {
        lock(&self.0).answer = Some(answer);
    }
}

impl<T> Drop for Promised<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut asked = lock(&self.0);
            asked.is_over = true;
            asked.waiting.take()
        };
        call(waiting);
    }
}

impl<T> Answer<T> {
    /// The answer, or that the stack has ended.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let mut asked = lock(&self.0);
        match asked.answer.take() {
            Some(answer) => Poll::Ready(Ok(answer)),
            None if asked.is_over => Poll::Ready(Err(super::gone())),
            None => {
                asked.waiting.add(cx);
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}
