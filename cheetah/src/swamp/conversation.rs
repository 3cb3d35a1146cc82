//! What is said on one connection, by either version of HTTP, without a socket.

use runtime::time::Instant;

use super::exchange::{Asked, Exchange, FirstAnswers, Standing, Told, Verifier};
use super::ledger::Failure;
use super::multiplexed::Multiplexed;
use super::target::Targets;

/// One connection's requests and answers.
#[derive(Debug)]
pub(super) enum Conversation {
    /// HTTP/1.1: one at a time.
    One(Exchange),
    /// HTTP/2.
    Many(Box<Multiplexed>),
}

impl Conversation {
    pub(super) fn new(http2: bool) -> Conversation {
        if http2 {
            Conversation::Many(Box::new(Multiplexed::new()))
        } else {
            Conversation::One(Exchange::default())
        }
    }

    /// A request goes out.
    pub(super) fn ask(&mut self, now: Instant, asked: Asked, targets: &Targets) {
        match self {
            Conversation::One(exchange) => exchange.ask(now, asked),
            Conversation::Many(many) => many.ask(now, asked, targets),
        }
    }

    /// What is to be sent.
    pub(super) fn unsent<'a>(&'a self, targets: &'a Targets) -> &'a [u8] {
        match self {
            Conversation::One(exchange) => exchange.unsent(targets),
            Conversation::Many(many) => many.unsent(),
        }
    }

    /// So much of it needs no keeping here.
    pub(super) fn handed_over(&mut self, bytes: usize) {
        match self {
            Conversation::One(exchange) => exchange.handed_over(bytes),
            Conversation::Many(many) => many.handed_over(bytes),
        }
    }

    /// So much of what was handed over is not sent yet.
    pub(super) fn still_held(&mut self, bytes: usize) {
        match self {
            // Which says nothing but what it was asked to.
            Conversation::One(_) => {}
            Conversation::Many(many) => many.still_held(bytes),
        }
    }

    /// Whether the server would have none of it: nothing was answered, and the next connection had better not
    /// follow at once.
    pub(super) fn is_turned_away(&self) -> bool {
        match self {
            // A cut answer is a failure, and counted.
            Conversation::One(_) => false,
            Conversation::Many(many) => many.is_turned_away(),
        }
    }

    /// Since when the first of the requests under way waits.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        match self {
            Conversation::One(exchange) => exchange.waits_since(),
            Conversation::Many(many) => many.waits_since(),
        }
    }

    /// Bytes have come; what became of requests goes to `told`.
    pub(super) fn on_bytes(
        &mut self,
        bytes: &[u8],
        targets: &Targets,
        first: &mut FirstAnswers,
        verifier: Option<&Verifier>,
        told: &mut Vec<Told>,
    ) -> Standing {
        match self {
            Conversation::One(exchange) => exchange.on_bytes(bytes, first, verifier, told),
            Conversation::Many(many) => many.on_bytes(bytes, targets, first, verifier, told),
        }
    }

    /// No byte will follow.
    pub(super) fn on_end(&mut self, first: &mut FirstAnswers, verifies: bool, told: &mut Vec<Told>) {
        match self {
            Conversation::One(exchange) => exchange.on_end(first, verifies, told),
            Conversation::Many(many) => many.end(Failure::Cut, told),
        }
    }

    /// It is given up for `failure`; `is_late` says of when a request was sent whether that is too long ago.
    /// Who shares a connection with one that is late has not failed.
    pub(super) fn fail(&mut self, failure: Failure, is_late: impl Fn(Instant) -> bool, told: &mut Vec<Told>) {
        let tell = |(asked, at)| {
            let is_to_blame = failure != Failure::Late || is_late(at);
            if is_to_blame { Told::Over(asked, Err(failure)) } else { Told::Again(asked) }
        };
        match self {
            Conversation::One(exchange) => told.extend(exchange.give_up().map(tell)),
            Conversation::Many(many) if failure == Failure::Cut => many.end(Failure::Cut, told),
            Conversation::Many(many) => told.extend(many.give_up().map(tell)),
        }
    }
}
