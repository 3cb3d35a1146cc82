//! One request and its response.
//!
//! ```text
//!              peer: END_STREAM            we: END_STREAM, or RST_STREAM of either
//!   open ────────────────────────▶ ... ────────────────────────▶ closed ── all acknowledged ──▶ forgotten
//! ```
//!
//! Its frames that are on their way point to it, so it stays until the peer has acknowledged them.

use std::sync::Arc;
use std::time::Duration;

use fsstack::cache::reads::BlockRead;
use runtime::payload::Piece;
use runtime::time::Instant;

use super::priority::Priority;
use crate::access_log::Line;
use crate::body::{Awaited, Body};
use crate::http::response::Status;
use crate::programs::Ask;
use crate::store::Document;
use crate::upload::Upload;

/// A stream of a client's.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) priority: Priority,
    /// Whether it counts among those that the client may have at once.
    pub(super) is_open: bool,
    /// The peer has sent its last byte.
    pub(super) peer_ended: bool,
    /// We have, or will send no more.
    pub(super) is_ended: bool,
    pub(super) ending: Ending,
    /// Since when the response is whole, if the request is not.
    pub(super) answered_early: Option<Instant>,
    /// What takes the content of the request.
    pub(super) content: Taker,
    /// Of it, so much is still to come by what the head says.
    pub(super) content_left: Option<u64>,
    /// What may still be sent, and received.
    pub(super) window: i64,
    pub(super) receive_window: i64,
    /// Received and not yet given back to the window.
    pub(super) owed: u32,
    pub(super) has_head: bool,
    pub(super) document: Option<Arc<dyn Document>>,
    pub(super) body: Body,
    /// Of the body: put into frames, and taken by the peer.
    pub(super) sent: u64,
    pub(super) taken: u64,
    /// What comes next of it is being read.
    pub(super) awaits_disk: bool,
    /// Whether it has its place in the schedule.
    pub(super) is_scheduled: bool,
    /// Parts of the connection's queue that point here.
    pub(super) parts: u32,
    /// When its response was begun, if it takes a time of its own.
    pub(super) began: Option<Instant>,
    /// Written down when it is over.
    pub(super) line: Option<Box<Line>>,
}

/// What ends a stream, and so what frames of it are that come later (RFC 9113 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// `END_STREAM` of both: there are none.
    Whole,
    /// `RST_STREAM` of the peer: there are none.
    PeerReset,
    /// Ours, of which the peer may not have heard: nothing.
    Reset,
}

/// What takes the content of a request.
#[derive(Debug)]
pub(super) enum Taker {
    /// Nobody: it is thrown away.
    Nobody,
    /// The disk.
    Upload(Box<Upload>),
    /// A program.
    Program(Box<(Ask, Awaited)>),
    /// Nobody, and the request is answered when these have been read: its head, and they.
    Parked(Box<(Vec<u8>, Vec<BlockRead>)>),
}

impl Stream {
    pub(super) fn new(id: u32, priority: Priority, window: i64, receive_window: i64) -> Stream {
        Stream {
            id,
            priority,
            is_open: true,
            peer_ended: false,
            is_ended: false,
            ending: Ending::Whole,
            answered_early: None,
            content: Taker::Nobody,
            content_left: None,
            window,
            receive_window,
            owed: 0,
            has_head: false,
            document: None,
            body: Body::Empty,
            sent: 0,
            taken: 0,
            awaits_disk: false,
            is_scheduled: false,
            parts: 0,
            began: None,
            line: None,
        }
    }

    pub(super) fn ready_block(&self, status: Status) -> Option<Piece<'_>> {
        self.document.as_ref()?.ready_block(status)
    }

    /// Whether somebody else has to do something before it goes on: a disk, or a program.
    pub(super) fn waits(&self) -> bool {
        let waits = match self.content {
            Taker::Upload(_) => self.peer_ended,
            Taker::Parked(_) => true,
            Taker::Nobody | Taker::Program(_) => self.body.is_open() || self.awaits_disk,
        };
        waits && !self.is_ended
    }

    /// When the peer, which has the response, has had time enough to see that the rest of its request is not
    /// wanted.
    pub(super) fn gives_up_at(&self, linger: Duration) -> Option<Instant> {
        self.answered_early.filter(|_| !self.peer_ended).map(|since| since + linger)
    }

    /// Content that is there and in no frame.
    pub(super) fn unsent(&self) -> u64 {
        if self.has_head && !self.is_ended { self.body.len() - self.sent } else { 0 }
    }
}
