//! Reads by a few threads, where there is no io_uring.

use super::{ReadOrder, ReadQueue};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Threads that read, for all loops of a server. Cheap to clone; they end with the last clone.
#[derive(Clone, Debug)]
pub struct ReadThreads {
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
    is_over: bool,
}

/// Ends the threads when nobody orders any more.
#[derive(Debug)]
struct Last(Arc<Orders>);

impl ReadThreads {
    /// So many of them.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn new(count: usize) -> io::Result<ReadThreads> {
        let orders = Arc::new(Orders::default());
        let last = Arc::new(Last(Arc::clone(&orders)));
        for i in 0..count.max(1) {
            let orders = Arc::clone(&orders);
            thread::Builder::new().name(format!("read-{i}")).spawn(move || orders.work())?;
        }
        Ok(ReadThreads { orders, _last: last })
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
        self.orders.state().orders.push_back(order);
        self.orders.added.notify_one();
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
