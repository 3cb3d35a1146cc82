//! The thread that owns what is changed, and waits for the disk.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::Promise;
use crate::store::{ChangeWriter, WantedChange};

/// Changes that become one commit at most.
const MAX_BATCH: usize = 4096;

/// What the thread is told.
pub(super) enum Order {
    /// Make this, and leave there what it came to.
    Change(WantedChange, Promise),
    /// Make what was ordered before, and end.
    Finish,
}

/// A thread that makes changes, as many as have come at once: they share one wait for the disk, while the next ones come.
#[derive(Debug)]
pub struct Committer {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn start(writer: impl ChangeWriter + 'static) -> io::Result<Committer> {
        let (orders, received) = mpsc::channel();
        let thread =
            thread::Builder::new().name("committer".to_owned()).spawn(move || run(writer, &received))?;
        Ok(Committer { orders, thread })
    }

    pub(super) fn orders(&self) -> Sender<Order> {
        self.orders.clone()
    }

    /// Waits until all that was ordered is on the disk.
    ///
    /// # Errors
    /// If the thread panicked.
    pub fn finish(self) -> io::Result<()> {
        // It hears this, or has ended.
        let _ = self.orders.send(Order::Finish);
        self.thread.join().map_err(|_| io::Error::other("the committing thread panicked"))
    }
}

fn run(mut writer: impl ChangeWriter, orders: &Receiver<Order>) {
    let mut is_over = false;
    while !is_over {
        let Ok(first) = orders.recv() else { return };
        let (mut changes, mut tickets) = (Vec::new(), Vec::new());
        for order in std::iter::once(first).chain(orders.try_iter()).take(MAX_BATCH) {
            match order {
                Order::Change(change, ticket) => {
                    changes.push(change);
                    tickets.push(ticket);
                }
                Order::Finish => {
                    is_over = true;
                    break;
                }
            }
        }
        let outcomes = if changes.is_empty() { Vec::new() } else { writer.commit(&changes) };
        // Their memory is free before anyone is told.
        drop(changes);
        for (ticket, outcome) in tickets.into_iter().zip(outcomes) {
            ticket.keep(outcome);
        }
    }
}
