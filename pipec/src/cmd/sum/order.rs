//! Work on several things at a time, told in their order.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Results that may wait for an earlier one: one big file must not gather the results of a million small
/// ones behind it.
const AHEAD: usize = 1024;

struct Shared<I, R> {
    items: std::iter::Enumerate<I>,
    /// What is done and not told yet.
    done: BTreeMap<usize, R>,
    told: usize,
    taken: usize,
    is_over: bool,
}

/// Gives each item to `work`, on up to `jobs` threads, and its result to `tell`, on the caller's thread and
/// in the items' order; what `tell` gives as an error ends it.
///
/// # Errors
/// Those of `tell`.
pub(super) fn in_order<T, R: Send, E>(
    jobs: usize,
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> R + Sync,
    mut tell: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    if jobs <= 1 {
        return items.map(work).try_for_each(tell);
    }
    let shared = Mutex::new(Shared {
        items: items.enumerate(),
        done: BTreeMap::new(),
        told: 0,
        taken: 0,
        is_over: false,
    });
    let changed = Condvar::new();
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let wait = |guard| -> MutexGuard<'_, _> { changed.wait(guard).unwrap_or_else(PoisonError::into_inner) };
    let worker = || {
        let mut state = lock();
        loop {
            while !state.is_over && state.taken - state.told >= AHEAD {
                state = wait(state);
            }
            let next = if state.is_over { None } else { state.items.next() };
            let Some((index, item)) = next else {
                state.is_over = true;
                changed.notify_all();
                return;
            };
            state.taken += 1;
            drop(state);
            let result = work(item);
            state = lock();
            state.done.insert(index, result);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        let started = (0..jobs)
            .filter(|_| {
                std::thread::Builder::new().name("sum".to_owned()).spawn_scoped(scope, worker).is_ok()
            })
            .count();
        if started == 0 {
            // Without memory for a thread, one after the other.
            let mut state = lock();
            return state.items.by_ref().try_for_each(|(_, item)| tell(work(item)));
        }
        let mut state = lock();
        loop {
            let next = state.told;
            match state.done.remove(&next) {
                Some(result) => {
                    state.told += 1;
                    drop(state);
                    changed.notify_all();
                    let told = tell(result);
                    state = lock();
                    if told.is_err() {
                        state.is_over = true;
                        changed.notify_all();
                        return told;
                    }
                }
                None if state.is_over && state.told == state.taken => return Ok(()),
                None => state = wait(state),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{AHEAD, in_order};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_come_in_order_and_not_far_ahead() {
        for jobs in [1, 2, 7] {
            let (told, furthest) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let mut results = Vec::new();
            let work = |item: usize| {
                if item == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                furthest.fetch_max(item - told.load(Ordering::SeqCst).min(item), Ordering::SeqCst);
                item * 3
            };
            let tell = |result| {
                results.push(result);
                told.fetch_add(1, Ordering::SeqCst);
                Ok::<(), ()>(())
            };
            in_order(jobs, 0..5 * AHEAD, work, tell).unwrap();
            assert_eq!(results, (0..5 * AHEAD).map(|item| item * 3).collect::<Vec<_>>());
            assert!(furthest.load(Ordering::SeqCst) <= AHEAD + jobs);
        }
    }

    #[test]
    fn an_error_ends_it() {
        for jobs in [1, 3] {
            let mut count = 0;
            let tell = |item| {
                count += 1;
                if item == 5 { Err(item) } else { Ok(()) }
            };
            assert_eq!(in_order(jobs, 0.., |item| item, tell), Err(5));
            assert_eq!(count, 6);
        }
    }
}
