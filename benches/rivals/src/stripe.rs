//! Stores in the layout of a LANCE's buffer: 16 bytes of data, then a hole of 16 that keeps what it had.

#[cfg(target_arch = "x86_64")]
use crate::simd::{Acc, Simd};
#[cfg(target_arch = "x86_64")]
use crate::{MAX_SUMS, Sums};

/// Data, and as much again that is left out.
const PIECE: usize = 16;

/// Length of the striped form of `len` bytes: nothing is left out after the last piece.
pub const fn striped_len(len: usize) -> usize {
    len + len.saturating_sub(1) / PIECE * PIECE
}

/// The pass alone: pieces of 16 bytes, which compile to vector moves, and a shorter last one.
pub(crate) fn pass(src: &[u8], dst: &mut [u8]) {
    let (pieces, rest) = src.as_chunks::<PIECE>();
    let (slots, last) = dst.as_chunks_mut::<{ 2 * PIECE }>();
    for (piece, slot) in pieces.iter().zip(&mut *slots) {
        slot[..PIECE].copy_from_slice(piece);
    }
    // Without a hole behind it the last full piece has no slot.
    let (data, tail) = match pieces.get(slots.len()) {
        Some(piece) => (&piece[..], &mut *last),
        None => (rest, last),
    };
    tail[..data.len()].copy_from_slice(data);
}

/// Sum and stripe in one loop: a vector is summed, and its pieces are stored from the cache line it came
/// from.
///
/// # Safety
/// The machine has the features.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "plain loops keep vectors in registers")]
pub(crate) unsafe fn fused<S: Simd, A: Acc<S>>(src: &[u8], dst: &mut [u8]) -> Sums {
    let len = src.len();
    assert!(dst.len() >= striped_len(len), "the destination holds the striped form");
    // SAFETY: `at + i < len` for each source byte; a full piece at `at` goes to `2 * at`, which lies below
    // the striped length as long as the source goes on.
    unsafe {
        let mut accs = [A::zero(); 4];
        let (from, to) = (src.as_ptr(), dst.as_mut_ptr());
        let mut at = 0;
        while at + 4 * S::BYTES <= len {
            for i in 0..4 {
                accs[i].add(S::load(from.add(at + S::BYTES * i)));
            }
            for i in 0..4 * S::BYTES / PIECE {
                let piece = from.add(at + PIECE * i).cast::<[u8; PIECE]>().read();
                to.add(2 * (at + PIECE * i)).cast::<[u8; PIECE]>().write(piece);
            }
            at += 4 * S::BYTES;
        }
        let mut acc = accs[0];
        for i in 1..4 {
            acc.merge(accs[i]);
        }
        if at < len {
            pass(&src[at..], &mut dst[2 * at..]);
        }
        while at < len {
            let part = (len - at).min(S::BYTES);
            acc.add(S::load_part(from.add(at), part));
            at += part;
        }
        let mut sums = [0; MAX_SUMS];
        sums[0] = u32::from(acc.total());
        sums
    }
}
