//! A [`PayloadSource`] that keeps the bytes itself: for answers that lie nowhere else.

use std::collections::VecDeque;

use runtime::payload::{PayloadSource, Piece, Pieces};

/// Bytes that were given and are not acknowledged. Copies what it is given; a source with buffers or files of
/// its own is better off without.
#[derive(Clone, Debug, Default)]
pub struct SendBuffer {
    bytes: VecDeque<u8>,
    /// Offset in the stream of the first of them.
    start: u64,
    is_finished: bool,
}

impl SendBuffer {
    /// Nothing to send yet.
    pub fn new() -> SendBuffer {
        SendBuffer::default()
    }

    /// Appends. Nothing bounds it but the caller: what it takes at once, and [`SendBuffer::len`].
    pub fn push(&mut self, bytes: &[u8]) {
        debug_assert!(!self.is_finished, "after the end");
        self.bytes.extend(bytes);
    }

    /// No byte will follow.
    pub fn finish(&mut self) {
        self.is_finished = true;
    }

    /// Whether the end was told.
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Bytes kept.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether everything given has been acknowledged.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl PayloadSource for SendBuffer {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn is_finished(&self) -> bool {
        self.is_finished
    }

    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX).min(self.bytes.len());
        let end = from.saturating_add(len).min(self.bytes.len());
        let (front, back) = self.bytes.as_slices();
        let middle = front.len();
        let parts = [
            &front[from.min(middle)..end.min(middle)],
            &back[from.max(middle) - middle..end.max(middle) - middle],
        ];
        for bytes in parts.into_iter().filter(|bytes| !bytes.is_empty()) {
            out.push(Piece::new(bytes));
        }
        end - from
    }

    fn acknowledged(&mut self, offset: u64) {
        let gone = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.bytes.drain(..gone.min(self.bytes.len()));
        self.start = self.start.max(offset);
        if self.bytes.is_empty() {
            self.bytes.shrink_to(4096);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_can_be_had_again_until_it_is_acknowledged() {
        let mut buffer = SendBuffer::new();
        let mut all = Vec::new();
        let mut acknowledged = 0;
        for round in 0..200u64 {
            let more: Vec<u8> = (0..(round * 37) % 97).map(|i| (round + i) as u8).collect();
            buffer.push(&more);
            all.extend_from_slice(&more);
            assert_eq!(buffer.end(), all.len() as u64);
            for (from, len) in
                [(acknowledged, buffer.len()), (acknowledged + buffer.len() / 3, buffer.len() / 2)]
            {
                let mut pieces = Pieces::new();
                buffer.pieces(from as u64, len, &mut pieces);
                let got: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes).copied().collect();
                assert_eq!(got, &all[from..from + len]);
            }
            acknowledged += buffer.len() * 2 / 3;
            buffer.acknowledged(acknowledged as u64);
        }
        buffer.finish();
        buffer.acknowledged(all.len() as u64);
        assert!(buffer.is_finished() && buffer.is_empty());
    }
}
