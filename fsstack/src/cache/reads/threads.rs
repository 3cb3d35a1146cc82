//! Reads by a few threads, where there is no io_uring.

use super::{ReadOrder, ReadQueue};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Threads that read, for all loops of a server. Cheap to clone; they begin with the first order, so that
/// they are confined as who gives it is, and end with the last clone.
#[derive(Clone, Debug)]
pub struct ReadThreads {
    count: usize,
    orders: Arc<Orders>,
    _last: Arc<Last>,
}

#[derive(Debug, Default)]
struct Orders {
    state: Mutex<OrderState>,
    added: Condvar,
}

#[derive(Debug, Default)]
struct OrderState {
    orders: VecDeque<ReadOrder>,
    /// How many threads there are.
    threads: usize,
    is_over: bool,
}

/// Ends the threads when nobody orders any more.
#[derive(Debug)]
struct Last(Arc<Orders>);

impl ReadThreads {
    /// So many of them, or as many as the system has; where it has none, orders are errors of who waits.
    pub fn new(count: usize) -> ReadThreads {
        let orders = Arc::new(Orders::default());
        let last = Arc::new(Last(Arc::clone(&orders)));
        ReadThreads { count: count.max(1), orders, _last: last }
    }

    /// Starts the threads. How many there are now.
    fn start(&self) -> usize {
        let start = |number: &usize| {
            let orders = Arc::clone(&self.orders);
            thread::Builder::new().name(format!("read-{number}")).spawn(move || orders.work()).is_ok()
        };
        (0..self.count).take_while(start).count()
    }
}

impl Orders {
    fn state(&self) -> MutexGuard<'_, OrderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(order) = self.next() {
            order.read_here();
        }
    }

    fn next(&self) -> Option<ReadOrder> {
        let mut state = self.state();
        loop {
            if let Some(order) = state.orders.pop_front() {
                return Some(order);
            }
            if state.is_over {
                return None;
            }
            state = self.added.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl ReadQueue for ReadThreads {
    fn submit(&mut self, order: ReadOrder) {
        let mut state = self.orders.state();
        if state.threads == 0 {
            state.threads = self.start();
        }
        if state.threads > 0 {
            state.orders.push_back(order);
            self.orders.added.notify_one();
        } else {
            // Who waits is told when it is dropped, which may be another's order.
            drop(state);
            drop(order);
        }
    }

    /// They begin and end by themselves.
    fn turn(&mut self) {}

    fn has_work(&self) -> bool {
        false
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        self.0.state().is_over = true;
        self.0.added.notify_all();
    }
}
