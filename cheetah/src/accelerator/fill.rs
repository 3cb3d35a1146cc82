//! A response that comes, and goes to all who asked for it meanwhile: one request to the origin for all of
//! them.
//!
//! ```text
//!   leader's link ──▶ Fill ──▶ blocks, which become an Object
//!                       ├────▶ Sender of who followed, and has the head
//!                       └────▶ wakes who follows, and waits for it
//! ```
//!
//! Bytes are copied once, into blocks; who came late begins with these, and gets the rest as it comes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::buffer::{Aggregate, Shared, Slice};
use runtime::stats::work::{Quantity, count};

use super::object::{BLOCK_BYTES, Object, Selecting};
use crate::http::foreign::ForeignHead;
use crate::http::response::Status;
use crate::live::{ConnectionWaker, Sender};

/// A response that is being fetched.
#[derive(Debug)]
pub struct Fill {
    pub(super) key: Box<[u8]>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    outcome: Outcome,
    blocks: Vec<Shared>,
    /// The end of it, shorter than a block.
    tail: Vec<u8>,
    /// It may be kept when it is whole.
    is_kept: bool,
    is_cancelled: bool,
    receivers: Vec<Sender>,
    wakers: Vec<ConnectionWaker>,
    /// The link that reads it.
    leader: Option<ConnectionWaker>,
}

#[derive(Debug)]
enum Outcome {
    NotYet,
    /// A head for all who have the same in what it varies by.
    Shared(Box<ForeignHead>, Selecting),
    Kept(Arc<Object>),
    Again,
    Alone,
    Failed(Status),
}

/// What becomes of who follows.
#[derive(Debug)]
pub enum Decided {
    /// Nobody knows yet.
    NotYet,
    /// It can have the same: [`Fill::join`].
    Join,
    /// This, which was there and is still right.
    Kept(Arc<Object>),
    /// What came says nothing of it: it begins anew.
    Again,
    /// What came is not for others: it asks by itself.
    Alone,
    /// The origin failed.
    Failed(Status),
}

impl Fill {
    pub(super) fn new(key: Box<[u8]>) -> Fill {
        let state = State {
            outcome: Outcome::NotYet,
            blocks: Vec::new(),
            tail: Vec::new(),
            is_kept: false,
            is_cancelled: false,
            receivers: Vec::new(),
            wakers: Vec::new(),
            leader: None,
        };
        Fill { key, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes who follows once it is known what becomes of it.
    pub fn wake(&self, waker: ConnectionWaker) {
        let mut state = self.lock();
        if matches!(state.outcome, Outcome::NotYet) {
            state.wakers.push(waker);
        } else {
            waker.wake();
        }
    }

    /// What becomes of who follows with a request that has the fields `asked`.
    pub fn decided<'a>(&self, asked: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Decided {
        match &self.lock().outcome {
            Outcome::NotYet => Decided::NotYet,
            Outcome::Shared(_, selecting) if selecting.selects(asked.clone()) => Decided::Join,
            Outcome::Shared(..) | Outcome::Alone => Decided::Alone,
            Outcome::Kept(object) if object.selecting.selects(asked) => Decided::Kept(Arc::clone(object)),
            Outcome::Kept(_) => Decided::Alone,
            Outcome::Again => Decided::Again,
            Outcome::Failed(status) => Decided::Failed(*status),
        }
    }

    /// Gives `sender` what has come, and what comes; back if that is not for others any more.
    ///
    /// # Errors
    /// The sender, if it has to get its response otherwise.
    pub fn join(&self, sender: Sender, note: &[u8]) -> Result<(), Sender> {
        let mut state = self.lock();
        let Outcome::Shared(head, _) = &state.outcome else { return Err(sender) };
        let mut head = (**head).clone();
        head.push(b"Cache-Status", note);
        sender.send_head(head);
        let mut content = Aggregate::new();
        state.blocks.iter().for_each(|block| content.push(Slice::from(block.clone())));
        if !state.tail.is_empty() {
            content.push(Slice::from(Shared::from(state.tail.clone())));
        }
        sender.push(content);
        if let Some(leader) = &state.leader {
            sender.wake_by(leader.clone());
        }
        state.receivers.push(sender);
        Ok(())
    }

    /// The response is for all who have the same in what it varies by; it is kept once it is whole.
    pub fn share(&self, head: ForeignHead, selecting: Selecting) {
        let mut state = self.lock();
        state.is_kept = true;
        state.decide(Outcome::Shared(Box::new(head), selecting));
    }

    /// What was there is still right.
    pub fn keep(&self, object: Arc<Object>) {
        self.lock().decide(Outcome::Kept(object));
    }

    /// The response is not for others.
    pub fn refuse(&self) {
        self.lock().decide(Outcome::Alone);
    }

    /// Takes content in, as long as that is no more than `max`; whether it is still kept.
    pub fn push(&self, bytes: &Aggregate, max: u64) -> bool {
        let mut state = self.lock();
        for receiver in &state.receivers {
            receiver.push(bytes.clone());
        }
        if !state.is_kept {
            return false;
        }
        let so_far = state.blocks.len() * BLOCK_BYTES + state.tail.len();
        if (so_far + bytes.len()) as u64 > max {
            // Who has begun goes on; nobody can begin any more.
            (state.is_kept, state.outcome) = (false, Outcome::Alone);
            (state.blocks, state.tail) = (Vec::new(), Vec::new());
            return false;
        }
        count(Quantity::BytesCopied, bytes.len());
        for slice in bytes.slices() {
            let mut rest = slice.bytes();
            while !rest.is_empty() {
                let part = rest.len().min(BLOCK_BYTES - state.tail.len());
                state.tail.extend_from_slice(&rest[..part]);
                rest = &rest[part..];
                if state.tail.len() == BLOCK_BYTES {
                    let block = std::mem::take(&mut state.tail);
                    state.blocks.push(Shared::from(block));
                }
            }
        }
        true
    }

    /// Whether all who get it directly can take more.
    pub fn has_room(&self) -> bool {
        let state = self.lock();
        state.is_kept || state.receivers.iter().all(|receiver| receiver.is_gone() || receiver.has_room())
    }

    /// Whether all who follow have taken what came before.
    pub fn is_at_pace(&self) -> bool {
        self.lock().receivers.iter().all(Sender::has_room)
    }

    /// Whom to wake when who follows can take more, or is gone.
    pub fn wake_leader_by(&self, waker: ConnectionWaker) {
        let mut state = self.lock();
        state.receivers.iter().for_each(|receiver| receiver.wake_by(waker.clone()));
        state.leader = Some(waker);
    }

    /// Whether it is to go on without its leader: to be kept, or for somebody else who waits for it.
    pub fn is_wanted(&self) -> bool {
        let state = self.lock();
        state.is_kept || state.is_followed()
    }

    /// Whether somebody beside the leader waits for it.
    pub fn is_followed(&self) -> bool {
        self.lock().is_followed()
    }

    /// What comes is not kept: something has changed meanwhile.
    pub(super) fn cancel(&self) {
        self.lock().is_cancelled = true;
    }

    /// Who looks only now gets what was made of what came.
    pub fn settle(&self, object: Arc<Object>) {
        self.lock().outcome = Outcome::Kept(object);
    }

    /// All has come. The blocks, if they are to be kept.
    pub fn finish(&self) -> Option<Vec<Shared>> {
        let mut state = self.lock();
        state.receivers.drain(..).for_each(Sender::finish);
        if !state.is_kept || state.is_cancelled {
            if matches!(state.outcome, Outcome::Shared(..)) {
                state.outcome = Outcome::Again;
            }
            return None;
        }
        let mut blocks = std::mem::take(&mut state.blocks);
        let tail = std::mem::take(&mut state.tail);
        if !tail.is_empty() {
            blocks.push(Shared::from(tail));
        }
        // Nobody begins with what was taken out of it.
        state.outcome = Outcome::Again;
        Some(blocks)
    }

    /// There is no more: who waits for the head gets `status`.
    pub fn fail(&self, status: Status) {
        let mut state = self.lock();
        state.is_kept = false;
        (state.blocks, state.tail) = (Vec::new(), Vec::new());
        state.receivers.drain(..).for_each(|receiver| receiver.fail(status));
        state.decide(Outcome::Failed(status));
    }
}

impl State {
    fn is_followed(&self) -> bool {
        !self.wakers.is_empty() || self.receivers.iter().any(|receiver| !receiver.is_gone())
    }

    /// Decides once, and tells who waits for it.
    fn decide(&mut self, outcome: Outcome) {
        if matches!(self.outcome, Outcome::NotYet) {
            self.outcome = outcome;
        } else if matches!((&self.outcome, &outcome), (Outcome::Shared(..), Outcome::Failed(_))) {
            self.outcome = Outcome::Alone;
        }
        self.wakers.drain(..).for_each(|waker| waker.wake());
    }
}
