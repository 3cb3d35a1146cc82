//! The thread that owns what is changed, and waits for the disk.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fsstack::log::policy::{AsItComes, Flush, Waiting};

use super::Promise;
use crate::store::{ChangeWriter, WantedChange, Wish};

/// Changes that become one commit at most.
const MAX_BATCH: usize = 4096;

/// What the thread is told.
pub(super) enum Order {
    /// Make this, which was ordered then, and leave there what it came to.
    Change(WantedChange, Promise, Instant),
    /// Make what was ordered before, and end.
    Finish,
}

impl Order {
    /// To make a change, from now on.
    pub(super) fn change(change: WantedChange, promise: Promise) -> Order {
        Order::Change(change, promise, Instant::now())
    }
}

/// A thread that makes changes, as many as have come at once: they share one wait for the disk, while the
/// next ones come.
#[derive(Debug)]
pub struct Committer {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

impl Committer {
    /// Starts the thread. Changes wait for no others.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn start(writer: impl ChangeWriter + 'static) -> io::Result<Committer> {
        Committer::start_with(writer, Arc::new(AsItComes))
    }

    /// Starts the thread. `flush` says how long changes wait for others.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn start_with(writer: impl ChangeWriter + 'static, flush: Arc<dyn Flush>) -> io::Result<Committer> {
        let (orders, received) = mpsc::channel();
        let run = move || run(writer, &received, &*flush);
        let thread = thread::Builder::new().name("committer".to_owned()).spawn(run)?;
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

fn run(mut writer: impl ChangeWriter, orders: &Receiver<Order>, flush: &dyn Flush) {
    let mut is_over = false;
    while !is_over {
        let Ok(first) = orders.recv() else { return };
        let (mut changes, mut tickets) = (Vec::new(), Vec::new());
        let mut waiting = Waiting::default();
        let mut begun = None;
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Change(change, ticket, ordered) => {
                    begun.get_or_insert(ordered);
                    waiting.changes += 1;
                    if let Wish::Put(contents) = &change.wish {
                        waiting.bytes += contents.len();
                    }
                    changes.push(change);
                    tickets.push(ticket);
                }
                Order::Finish => {
                    is_over = true;
                    break;
                }
            }
            if changes.len() == MAX_BATCH {
                break;
            }
            next = orders.try_recv().ok().or_else(|| {
                waiting.since = begun.map_or(Duration::ZERO, |begun: Instant| begun.elapsed());
                orders.recv_timeout(flush.wait(&waiting)?).ok()
            });
        }
        let outcomes = if changes.is_empty() { Vec::new() } else { writer.commit(&changes) };
        // Their memory is free before anyone is told.
        drop(changes);
        for (ticket, outcome) in tickets.into_iter().zip(outcomes) {
            ticket.keep(outcome);
        }
    }
}
