//! A connection whose answers are made on the spot and kept in a [`SendBuffer`]: what is left to write is
//! what comes of the peer's bytes.

use runtime::payload::{PayloadSource, Pieces};
use runtime::time::Instant;

use crate::application::Stream;
use crate::send_buffer::SendBuffer;

/// Bytes that wait to be sent or acknowledged at most before no more are read: a peer that does not read is
/// not read from.
const LIMIT: usize = 256 << 10;

/// What a connection does with the peer's bytes.
pub trait Handler {
    /// Takes all of `bytes`; what it answers goes to `out`.
    fn receive(&mut self, out: &mut SendBuffer, bytes: &[u8]);

    /// There is room in `out`: at the beginning, and when something was acknowledged.
    fn room(&mut self, out: &mut SendBuffer) {
        let _ = out;
    }

    /// No byte will follow. Closes our direction as well, unless told otherwise.
    fn receive_finished(&mut self, out: &mut SendBuffer) {
        out.finish();
    }
}

/// A [`Handler`] as a [`Stream`].
#[derive(Debug)]
pub struct Buffered<H> {
    handler: H,
    out: SendBuffer,
}

impl<H: Handler> Buffered<H> {
    /// Nothing received, nothing to send.
    pub fn new(handler: H) -> Buffered<H> {
        let mut buffered = Buffered { handler, out: SendBuffer::new() };
        buffered.handler.room(&mut buffered.out);
        buffered
    }
}

impl<H: Handler> PayloadSource for Buffered<H> {
    fn end(&self) -> u64 {
        self.out.end()
    }

    fn is_finished(&self) -> bool {
        self.out.is_finished()
    }

    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        self.out.pieces(offset, len, out)
    }

    fn acknowledged(&mut self, offset: u64) {
        self.out.acknowledged(offset);
        self.handler.room(&mut self.out);
    }
}

impl<H: Handler> Stream for Buffered<H> {
    fn receive(&mut self, _now: Instant, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.window());
        self.handler.receive(&mut self.out, &bytes[..taken]);
        taken
    }

    fn window(&self) -> usize {
        LIMIT.saturating_sub(self.out.len())
    }

    fn receive_finished(&mut self, _now: Instant) {
        self.handler.receive_finished(&mut self.out);
    }
}
