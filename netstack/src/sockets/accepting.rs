//! Connections that came in and wait to be accepted.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use super::duplex::Duplex;
use super::wait::{WaitList, call, lock, wait_by};

/// A listener's queue.
#[derive(Debug)]
pub(crate) struct Accepting {
    limit: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    connections: VecDeque<Arc<Duplex>>,
    is_over: bool,
    waiting: WaitList,
}

impl Accepting {
    pub(super) fn new(limit: usize) -> Accepting {
        Accepting { limit, queue: Mutex::default() }
    }

    /// The next connection.
    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arc<Duplex>>> {
        let mut queue = lock(&self.queue);
        match queue.connections.pop_front() {
            Some(connection) => Poll::Ready(Ok(connection)),
            None if queue.is_over => Poll::Ready(Err(super::gone())),
            None => wait_by(queue, cx, |queue| &mut queue.waiting),
        }
    }

    /// Puts one at the end; whether it has room.
    pub(super) fn push(&self, connection: Arc<Duplex>) -> bool {
        let waiting = {
            let mut queue = lock(&self.queue);
            if queue.is_over || queue.connections.len() >= self.limit {
                return false;
            }
            queue.connections.push_back(connection);
            queue.waiting.take()
        };
        call(waiting);
        true
    }

    /// None will come any more; those that nobody has accepted.
    pub(super) fn end(&self) -> Vec<Arc<Duplex>> {
        let (waiting, left) = {
            let mut queue = lock(&self.queue);
            queue.is_over = true;
            (queue.waiting.take(), queue.connections.drain(..).collect())
        };
        call(waiting);
        left
    }
}
