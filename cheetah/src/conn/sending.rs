//! The bytes of the responses in the queue, as who sends them asks for them: by their offset, again until
//! they are acknowledged.

use runtime::payload::{self, PayloadSource, Piece, Pieces};

use super::Conn;
use crate::body::Body;
use crate::response::Response;

impl Conn {
    /// Offset of the first byte that the peer has not taken yet.
    pub fn acknowledged_end(&self) -> u64 {
        self.acknowledged
    }

    /// Visits the bytes `[offset, offset + len)` piece by piece, as far as they are at hand, until `visit`
    /// says no.
    pub fn for_each_piece<'a>(&'a self, offset: u64, len: usize, mut visit: impl FnMut(Piece<'a>) -> bool) {
        let end = self.end.min(offset.saturating_add(len as u64));
        let mut at = offset;
        for response in self.queue.iter().skip_while(|response| response.end <= offset) {
            let until = response.end.min(end);
            if at >= until {
                return;
            }
            let more = response.visit(&mut at, until, &mut visit);
            if !more || at < until {
                return;
            }
        }
    }

    /// Whether the bytes `[offset, offset + len)` stay what they are as long as they are held: those of a
    /// body that is made while it is sent may lie in memory that a program can write to.
    pub fn are_settled(&self, offset: u64, len: usize) -> bool {
        let end = offset.saturating_add(len as u64);
        let mut those = self.queue.iter().filter(|response| response.start < end && offset < response.end);
        those.all(|response| !matches!(response.body, Body::Live(_)))
    }

    /// The end of the head or body that the byte at `offset` belongs to, if there is that byte.
    pub fn part_end(&self, offset: u64) -> Option<u64> {
        let response = self.queue.iter().find(|response| offset < response.end)?;
        Some(if offset < response.body_start { response.body_start } else { response.end })
    }
}

impl PayloadSource for Conn {
    fn end(&self) -> u64 {
        self.end
    }

    fn is_finished(&self) -> bool {
        !self.is_reading() && !self.is_open()
    }

    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        payload::gather(out, |visit| self.for_each_piece(offset, len, visit))
    }

    fn acknowledged(&mut self, offset: u64) {
        self.acknowledged = self.acknowledged.max(offset.min(self.end));
        // Responses that were taken wait for [`Conn::resume`].
        if let Some(Response { body, body_start, .. }) = self.queue.front_mut() {
            body.release(self.acknowledged.saturating_sub(*body_start));
        }
    }
}
