//! Waiting for a change of what is shared between threads, one way for threads and for tasks: who waits
//! leaves a [`Waker`], under the lock by which it saw that there is nothing yet. Who changes something takes
//! the wakers under the same lock, and calls them when it has let go of it. So a change comes either before
//! the look, which sees it, or after the waker was left, and calls it: none is lost.

use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant as Clock;

use smallvec::SmallVec;

/// Locks, whatever a thread that panicked left behind: what is kept under these locks is right after each
/// statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who waits for the same.
///
/// A future that is dropped leaves its waker behind. So once there are many, all are called and marked: who
/// still waits looks again and adds itself, which takes the mark off; who has not done so when there are many
/// again is let go of, as it was called and has not been back since. There are never more than twice as many
/// as wait and thrice [`FEW`].
#[derive(Debug, Default)]
pub(super) struct WaitList {
    waiting: SmallVec<[Waiting; 1]>,
    /// As many are many; less than [`FEW`] are not.
    many: usize,
}

#[derive(Debug)]
struct Waiting {
    waker: Waker,
    was_called: bool,
}

const FEW: usize = 64;

impl WaitList {
    /// Adds one, once however often it looks. Those that are to be called once the lock is open.
    #[must_use]
    fn add(&mut self, cx: &Context<'_>) -> WaitList {
        if let Some(known) = self.waiting.iter_mut().find(|known| known.waker.will_wake(cx.waker())) {
            known.was_called = false;
            return WaitList::default();
        }
        let mut called = WaitList::default();
        if self.waiting.len() >= self.many.max(FEW) {
            self.waiting.retain(|known| !known.was_called);
            self.many = self.waiting.len() + self.waiting.len() / 4 + FEW;
            for known in &mut self.waiting {
                known.was_called = true;
                called.waiting.push(Waiting { waker: known.waker.clone(), was_called: true });
            }
        }
        self.waiting.push(Waiting { waker: cx.waker().clone(), was_called: false });
        called
    }

    /// All of them, for [`call`] once the lock is open.
    pub(super) fn take(&mut self) -> WaitList {
        std::mem::take(self)
    }

    /// Those of another as well.
    pub(super) fn and(mut self, other: WaitList) -> WaitList {
        self.waiting.extend(other.waiting);
        self
    }
}

/// Wakes them.
pub(super) fn call(waiting: WaitList) {
    waiting.waiting.into_iter().for_each(|waiting| waiting.waker.wake());
}

/// Has the task wait by one of the lists under a lock, which opens.
pub(super) fn wait_by<S, T>(
    mut state: MutexGuard<'_, S>,
    cx: &Context<'_>,
    list: impl FnOnce(&mut S) -> &mut WaitList,
) -> Poll<T> {
    let called = list(&mut state).add(cx);
    drop(state);
    call(called);
    Poll::Pending
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
    /// Whether somebody waits for the answer.
    pub(super) fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

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
            None => wait_by(asked, cx, |asked| &mut asked.waiting),
        }
    }
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Futures that look once and are dropped, while some wait on: few are kept, and none of those that wait
    /// is forgotten.
    #[test]
    fn who_does_not_come_back_is_let_go_of() {
        for waiters in [0usize, 1, 63, 64, 65, 300] {
            let counts: Vec<Arc<Count>> = (0..waiters).map(|_| Arc::default()).collect();
            let mut seen = vec![0; waiters];
            let mut list = WaitList::default();
            let mut calls = 0;
            for dropped in 0..10_000 {
                // Who was called looks again, sooner or later.
                for (count, seen) in counts.iter().zip(&mut seen) {
                    let called = count.0.load(Ordering::Relaxed);
                    if dropped == 0 || (called > *seen && dropped % 7 == 0) {
                        *seen = called;
                        let waker = Waker::from(Arc::clone(count));
                        call(list.add(&Context::from_waker(&waker)));
                    }
                }
                let waker = Waker::from(Arc::<Count>::default());
                let called = list.add(&Context::from_waker(&waker));
                calls += called.waiting.len();
                call(called);
                assert!(list.waiting.len() <= 3 * FEW + 4 * waiters, "{} kept", list.waiting.len());
            }
            assert!(calls <= 4 * 10_000, "{calls} calls");
            call(list.take());
            for (count, seen) in counts.iter().zip(seen) {
                assert!(count.0.load(Ordering::Relaxed) > seen, "one of {waiters} sleeps for ever");
            }
        }
    }
}
