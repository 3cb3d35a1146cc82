//! Striped buffers: runs of the stream with holes between them, as in `layout lance { data 16 gap 16 }`.
//!
//! Where a run and its hole are together two, four or eight times as long as the run, the run at `x` of the
//! stream is at `base + scale * x`. The addressing mode does all the arithmetic, and the loops around need
//! not know of holes.

use crate::backend::native::isa::Isa;
use crate::ir::Stripe;

/// A striped buffer that the loops store to or load from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::native) struct StripeMap {
    /// Bytes of a run.
    pub(super) run: usize,
    /// How many runs would fill a run and its hole.
    pub(super) scale: usize,
}

/// Bytes of a vector of AVX-512, whose masks are by the byte.
pub(super) const VECTOR: usize = 64;

impl StripeMap {
    /// The stripe, if it is one that an addressing mode reaches.
    pub(in crate::backend::native) fn of(stripe: Stripe, isa: Isa) -> Option<StripeMap> {
        let (run, period) = (stripe.data as usize, stripe.data as usize + stripe.gap as usize);
        // A vector is one run or some: a run of two vectors has no hole between them.
        let fits = matches!(run, 8 | 16 | 32 | 64) && run <= isa.vector_bytes() && period.is_multiple_of(run);
        (fits && matches!(period / run, 2 | 4 | 8)).then(|| StripeMap { run, scale: period / run })
    }

    /// Bytes of a run and its hole.
    pub(super) fn period(self) -> usize {
        self.run * self.scale
    }

    /// Bytes of the stream that one masked load or store takes.
    pub(super) fn bytes(self) -> usize {
        if self.period() <= VECTOR { VECTOR / self.scale } else { self.run }
    }

    /// Bytes of the destination or the source from one masked store or load to the next.
    pub(super) fn distance(self) -> usize {
        self.bytes() * self.scale
    }

    /// The bytes of a masked load or store that are no hole.
    pub(super) fn pattern(self) -> u64 {
        let run = u64::MAX >> (64 - self.run);
        let starts = (0..self.distance().min(VECTOR)).step_by(self.period());
        starts.fold(0, |pattern, start| pattern | run << start)
    }

    /// For each quadword of a masked store, which one of the vector goes there.
    pub(super) fn order(self, store: usize) -> Vec<u8> {
        let mut next = (store * self.bytes() / 8) as u64;
        let quadwords = (0..VECTOR).step_by(8).map(|byte| {
            let is_data = self.pattern() >> byte & 1;
            next += is_data;
            (next - is_data) * is_data
        });
        quadwords.flat_map(u64::to_le_bytes).collect()
    }

    /// For each quadword of a vector, which one of a masked load goes there. Those of other loads are taken
    /// from a hole, which is zero.
    pub(super) fn places(self, load: usize) -> Vec<u8> {
        let quadwords = (0..VECTOR).step_by(8).map(|byte| {
            let at = byte.checked_sub(load * self.bytes()).filter(|&at| at < self.bytes());
            at.map_or(self.run, |at| at / self.run * self.period() + at % self.run) as u64 / 8
        });
        quadwords.flat_map(u64::to_le_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::StripeMap;
    use crate::backend::native::isa::Isa;
    use crate::ir::Stripe;

    #[test]
    fn where_the_bytes_go() {
        let of = |data, gap| StripeMap::of(Stripe { data, gap }, Isa::Avx512);
        let lance = of(16, 16).unwrap();
        assert_eq!((lance.bytes(), lance.distance(), lance.pattern()), (32, 64, 0x0000_ffff_0000_ffff));
        let order: Vec<u8> = lance.order(1).into_iter().step_by(8).collect();
        assert_eq!(order, [4, 5, 0, 0, 6, 7, 0, 0]);
        let far = of(32, 224).unwrap();
        assert_eq!((far.bytes(), far.distance(), far.pattern()), (32, 256, 0xffff_ffff));
        let widest = of(64, 64).unwrap();
        assert_eq!((widest.bytes(), widest.distance(), widest.pattern()), (64, 128, u64::MAX));
        let places = |load| lance.places(load).into_iter().step_by(8).collect::<Vec<_>>();
        assert_eq!((places(0), places(1)), (vec![0, 1, 4, 5, 2, 2, 2, 2], vec![2, 2, 2, 2, 0, 1, 4, 5]));
        assert_eq!(far.places(1).into_iter().step_by(8).collect::<Vec<_>>(), [4, 4, 4, 4, 0, 1, 2, 3]);
        assert_eq!(widest.order(0).into_iter().step_by(8).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
        for (data, gap) in [(16, 0), (16, 8), (16, 32), (4, 4), (12, 12), (128, 128), (8, 120)] {
            assert_eq!(of(data, gap), None, "{data} {gap}");
        }
        let narrow = |data, gap| StripeMap::of(Stripe { data, gap }, Isa::Avx2);
        assert_eq!(narrow(16, 16), of(16, 16));
        assert_eq!(narrow(64, 64), None, "a run of two vectors has no hole between them");
    }
}
