//! The thread that owns what is changed: it makes changes while those before are on their way to the disk.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fsstack::log::policy::{AsItComes, Flush, Waiting};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::Promise;
use crate::store::{ChangeWriter, Outcome, WantedChange, Wish};

/// Changes that are begun together at most.
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

/// Where orders are given.
#[derive(Clone, Debug)]
pub(super) struct Orders(Arc<Line>);

/// What all who give orders share.
#[derive(Debug)]
struct Line {
    /// `None` once nobody has it.
    sender: Option<Sender<Order>>,
    /// An eventfd, which the thread waits at.
    bell: Arc<OwnedFd>,
}

impl Orders {
    /// Gives one; a thread that has ended lets go of it at once.
    pub(super) fn give(&self, order: Order) {
        if let Some(sender) = &self.0.sender {
            let _ = sender.send(order);
        }
        self.0.ring();
    }
}

impl Line {
    fn ring(&self) {
        // Writing to an eventfd of ours fails only where it is full: then it is readable.
        let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
    }
}

impl Drop for Line {
    /// The thread hears that there is nobody left.
    fn drop(&mut self) {
        self.sender = None;
        self.ring();
    }
}

/// A thread that makes changes: those that have come together, and the next ones while they are on their way
/// to the disk; then these share one wait for it.
#[derive(Debug)]
pub struct Committer {
    orders: Orders,
    thread: JoinHandle<()>,
}

impl Committer {
    /// Starts the thread. Changes wait for no others.
    ///
    /// # Errors
    /// If the system has no more threads or descriptors.
    pub fn start(writer: impl ChangeWriter + 'static) -> io::Result<Committer> {
        Committer::start_with(writer, Arc::new(AsItComes))
    }

    /// Starts the thread. `flush` says how long changes wait for others.
    ///
    /// # Errors
    /// If the system has no more threads or descriptors.
    pub fn start_with(writer: impl ChangeWriter + 'static, flush: Arc<dyn Flush>) -> io::Result<Committer> {
        let (sender, received) = mpsc::channel();
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let rung = Arc::clone(&bell);
        let run = move || Work::new(writer, flush).run(&received, &rung);
        let thread = thread::Builder::new().name("committer".to_owned()).spawn(run)?;
        Ok(Committer { orders: Orders(Arc::new(Line { sender: Some(sender), bell })), thread })
    }

    pub(super) fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Waits until all that was ordered is on the disk.
    ///
    /// # Errors
    /// If the thread panicked.
    pub fn finish(self) -> io::Result<()> {
        // It hears this, or has ended.
        self.orders.give(Order::Finish);
        self.thread.join().map_err(|_| io::Error::other("the committing thread panicked"))
    }
}

/// What has come and is not begun.
#[derive(Default)]
struct Batch {
    changes: Vec<WantedChange>,
    tickets: Vec<Promise>,
    bytes: u64,
    /// When the first was ordered.
    since: Option<Instant>,
    /// When it is begun though others may come.
    due: Option<Instant>,
}

impl Batch {
    fn add(&mut self, change: WantedChange, ticket: Promise, ordered: Instant) {
        self.since.get_or_insert(ordered);
        if let Wish::Put(contents) = &change.wish {
            self.bytes += contents.len();
        }
        self.changes.push(change);
        self.tickets.push(ticket);
    }

    fn waiting(&self) -> Waiting {
        let since = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        Waiting { changes: self.changes.len(), bytes: self.bytes, since }
    }
}

/// The thread's own.
struct Work<W> {
    writer: W,
    flush: Arc<dyn Flush>,
    batch: Batch,
    /// Of what was begun, who waits for it.
    begun: VecDeque<Vec<Promise>>,
    /// Nobody orders any more.
    is_over: bool,
}

impl<W: ChangeWriter> Work<W> {
    fn new(writer: W, flush: Arc<dyn Flush>) -> Work<W> {
        Work { writer, flush, batch: Batch::default(), begun: VecDeque::new(), is_over: false }
    }

    fn run(mut self, orders: &Receiver<Order>, bell: &OwnedFd) {
        loop {
            // Before the orders are looked at: who rings after that is heard.
            let _ = rustix::io::read(bell, &mut [0; 8]);
            let may_be_more = self.take(orders);
            if self.is_due() {
                self.begin();
            }
            self.tell_finished();
            if may_be_more {
                // For what is left nobody rings again.
                continue;
            }
            if self.batch.changes.is_empty() && self.is_over {
                if self.begun.is_empty() {
                    return;
                }
            } else if self.is_due() {
                continue;
            }
            self.wait(bell);
        }
    }

    /// Takes the orders that are there, as many as are begun together. Whether there may be others, which it
    /// did not look at.
    fn take(&mut self, orders: &Receiver<Order>) -> bool {
        let before = self.batch.changes.len();
        while self.batch.changes.len() < MAX_BATCH && !self.is_over {
            match orders.try_recv() {
                Ok(Order::Change(change, ticket, ordered)) => self.batch.add(change, ticket, ordered),
                Ok(Order::Finish) | Err(TryRecvError::Disconnected) => self.is_over = true,
                Err(TryRecvError::Empty) => break,
            }
        }
        if self.batch.changes.len() > before {
            let wait = self.flush.wait(&self.batch.waiting()).unwrap_or(Duration::ZERO);
            self.batch.due = Instant::now().checked_add(wait);
        }
        self.batch.changes.len() >= MAX_BATCH
    }

    fn is_due(&self) -> bool {
        let Batch { changes, due, .. } = &self.batch;
        let is_time = || due.is_some_and(|due| due <= Instant::now());
        !changes.is_empty() && (self.is_over || changes.len() >= MAX_BATCH || is_time())
    }

    fn begin(&mut self) {
        let Batch { changes, tickets, .. } = std::mem::take(&mut self.batch);
        self.begun.push_back(tickets);
        if let Some(outcomes) = self.writer.begin(changes) {
            self.tell_finished();
            self.tell(outcomes);
        }
    }

    fn tell_finished(&mut self) {
        if !self.begun.is_empty() {
            for outcomes in self.writer.finished() {
                self.tell(outcomes);
            }
        }
    }

    /// Tells who waits for what was begun first.
    fn tell(&mut self, outcomes: Vec<Outcome>) {
        let tickets = self.begun.pop_front().into_iter().flatten();
        tickets.zip(outcomes).for_each(|(ticket, outcome)| ticket.keep(outcome));
    }

    /// Until an order comes, what was begun may be over, or it is time to begin.
    fn wait(&self, bell: &OwnedFd) {
        let left = |due: Instant| due.saturating_duration_since(Instant::now());
        let timeout = self.batch.due.filter(|_| !self.batch.changes.is_empty()).map(left);
        let timeout = timeout.map(|left| Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let begun = self.writer.bell().filter(|_| !self.begun.is_empty());
        let mut ends = vec![PollFd::new(bell, PollFlags::IN)];
        ends.extend(begun.as_ref().map(|bell| PollFd::new(bell, PollFlags::IN)));
        // Interrupted, it looks again.
        let _ = poll(&mut ends, timeout.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Ticket;
    use super::*;
    use crate::store::ChangeMade;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Says that it began the first changes, and waits with them.
    struct Slow {
        began: Sender<()>,
        goes_on: Receiver<()>,
        made: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    impl ChangeWriter for Slow {
        fn commit(&mut self, changes: &[WantedChange]) -> Vec<Outcome> {
            // The test is over with both after the first.
            let _ = self.began.send(());
            let _ = self.goes_on.recv();
            self.made.fetch_add(changes.len(), Ordering::Relaxed);
            self.most.fetch_max(changes.len(), Ordering::Relaxed);
            changes.iter().map(|_| Ok(ChangeMade { is_new: true, etag: Vec::new() })).collect()
        }
    }

    fn deletion() -> WantedChange {
        WantedChange { path: b"a".to_vec(), wish: Wish::Delete, conditions: None }
    }

    #[test]
    fn more_than_are_begun_together_are_made_though_nobody_rings_again() {
        const PATIENCE: Duration = Duration::from_secs(60);
        for (last, ends) in [(2 * MAX_BATCH, false), (2 * MAX_BATCH + 5, false), (2 * MAX_BATCH + 5, true)] {
            let (began, has_begun) = mpsc::channel();
            let (go_on, goes_on) = mpsc::channel();
            let (made, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let writer = Slow { began, goes_on, made: Arc::clone(&made), most: Arc::clone(&most) };
            let committer = Committer::start(writer).unwrap();
            let orders = committer.orders();
            let tickets: Vec<Arc<Ticket>> = (0..=last).map(|_| Arc::default()).collect();
            orders.give(Order::change(deletion(), Promise(Arc::clone(&tickets[0]))));
            has_begun.recv_timeout(PATIENCE).unwrap();
            for ticket in &tickets[1..] {
                orders.give(Order::change(deletion(), Promise(Arc::clone(ticket))));
            }
            if ends {
                orders.give(Order::Finish);
            }
            drop(go_on);
            let deadline = Instant::now() + PATIENCE;
            let waits = || match ends {
                true => !committer.thread.is_finished(),
                false => tickets.iter().any(|ticket| Arc::strong_count(ticket) > 1),
            };
            while waits() {
                assert!(Instant::now() < deadline, "{} of {last} are made", made.load(Ordering::Relaxed));
                thread::sleep(Duration::from_millis(1));
            }
            committer.finish().unwrap();
            assert_eq!((made.load(Ordering::Relaxed), most.load(Ordering::Relaxed)), (last + 1, MAX_BATCH));
        }
    }
}
