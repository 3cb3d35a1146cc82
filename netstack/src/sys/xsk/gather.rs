//! Frames that arrive in several chunks, put together: who takes them wants them in one piece.

/// Bytes of the longest frame that is put together: an IP packet of any length in a tagged Ethernet frame.
pub(super) const MAX_GATHERED_LEN: usize = 65_535 + 18;

/// What has come of a frame whose end has not.
#[derive(Debug, Default)]
pub(super) struct Gather {
    bytes: Vec<u8>,
    state: GatherState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum GatherState {
    /// The next piece begins a frame.
    #[default]
    Idle,
    /// It goes on.
    Inside,
    /// It goes on, and is of no use: too long, or a piece of it was not there.
    Skipping,
}

/// What a piece made of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gathered {
    /// More of it has to come.
    Part,
    /// It is whole: [`Gather::frame`].
    Whole,
    /// It has ended, and was of no use.
    Useless,
}

impl Gather {
    /// Whether the next piece is not a frame's first.
    pub(super) fn is_inside(&self) -> bool {
        self.state != GatherState::Idle
    }

    /// A piece, and whether another follows. An empty one is one that was not to be had.
    pub(super) fn take(&mut self, piece: &[u8], continues: bool) -> Gathered {
        if self.state == GatherState::Idle {
            self.bytes.clear();
            self.state = GatherState::Inside;
        }
        let fits = self.bytes.len() + piece.len() <= MAX_GATHERED_LEN;
        if piece.is_empty() || !fits {
            self.state = GatherState::Skipping;
        }
        let is_useful = self.state == GatherState::Inside;
        if is_useful {
            self.bytes.extend_from_slice(piece);
        }
        if continues {
            return Gathered::Part;
        }
        self.state = GatherState::Idle;
        if is_useful { Gathered::Whole } else { Gathered::Useless }
    }

    /// The last one that was whole.
    pub(super) fn frame(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_lengths_become_frames() {
        let mut gather = Gather::default();
        for (pieces, len) in [(1usize, 1usize), (2, 3840), (3, 3000), (17, 3840), (7, 1)] {
            let frame: Vec<u8> = (0..pieces * len).map(|at| (at * 7 / 3) as u8).collect();
            for (index, piece) in frame.chunks(len).enumerate() {
                let is_last = index + 1 == pieces;
                let expected = if is_last { Gathered::Whole } else { Gathered::Part };
                assert_eq!(gather.take(piece, !is_last), expected, "{pieces} of {len}");
                assert_eq!(gather.is_inside(), !is_last);
            }
            assert_eq!(gather.frame(), frame);
        }
    }

    #[test]
    fn a_frame_that_never_ends_takes_bounded_memory_and_the_next_one_is_whole() {
        let mut gather = Gather::default();
        let piece = [7; 3840];
        for _ in 0..100_000 {
            assert_eq!(gather.take(&piece, true), Gathered::Part);
        }
        assert!(gather.bytes.capacity() <= 2 * MAX_GATHERED_LEN, "{}", gather.bytes.capacity());
        assert_eq!(gather.take(&piece, false), Gathered::Useless);
        assert_eq!((gather.take(&[1, 2], true), gather.take(&[3], false)), (Gathered::Part, Gathered::Whole));
        assert_eq!(gather.frame(), [1, 2, 3]);
    }

    #[test]
    fn a_frame_with_a_piece_that_is_not_there_is_none() {
        let mut gather = Gather::default();
        assert_eq!(gather.take(&[1], true), Gathered::Part);
        assert_eq!(gather.take(&[], true), Gathered::Part);
        assert_eq!(gather.take(&[2], false), Gathered::Useless);
        assert_eq!(gather.take(&[], false), Gathered::Useless);
        assert_eq!(gather.take(&[2], false), Gathered::Whole);
        let longest = vec![5; MAX_GATHERED_LEN];
        assert_eq!(gather.take(&longest, false), Gathered::Whole);
        assert_eq!(
            (gather.take(&longest, true), gather.take(&[1], false)),
            (Gathered::Part, Gathered::Useless)
        );
    }
}
