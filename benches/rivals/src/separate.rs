//! Steps run one after the other.

use crate::{Allowed, MAX_SUMS, Passes, Step, Sums, fold};

/// A pass for each step, over the whole buffer or over blocks.
#[derive(Clone, Debug)]
pub struct Separate {
    steps: Vec<Step>,
    passes: Passes,
}

impl Separate {
    /// These steps, with the best instructions that are allowed.
    ///
    /// # Panics
    /// If there are more than [`MAX_SUMS`] summing steps.
    pub fn new(steps: &[Step], allowed: Allowed) -> Separate {
        assert!(steps.iter().filter(|step| step.sums()).count() <= MAX_SUMS, "at most {MAX_SUMS} sums");
        Separate { steps: steps.to_vec(), passes: Passes::best(allowed) }
    }

    /// A pass over the whole buffer for each step. The first step that changes the stream does the copy; sums
    /// before it read the source. Both are of the same length, a multiple of 4; a destination that is striped
    /// is longer.
    pub fn whole(&self, src: &[u8], dst: &mut [u8]) -> Sums {
        self.blocked(src, dst, crate::MAX_LEN)
    }

    /// The same over blocks of `block` bytes, a multiple of 32: all steps for one block before the next.
    pub fn blocked(&self, src: &[u8], dst: &mut [u8], block: usize) -> Sums {
        let mut totals = Totals { value: [0; MAX_SUMS] };
        for (n, step) in self.steps.iter().filter(|step| step.sums()).enumerate() {
            totals.value[n] = match step {
                Step::Crc32c => u32::MAX,
                Step::Adler32 => 1,
                _ => 0,
            };
        }
        let widen = if self.steps.last() == Some(&Step::Stripe) { 2 } else { 1 };
        for (src, dst) in src.chunks(block).zip(dst.chunks_mut(block * widen)) {
            self.block(src, dst, &mut totals);
        }
        for (n, step) in self.steps.iter().filter(|step| step.sums()).enumerate() {
            if *step == Step::Crc32c {
                totals.value[n] = !totals.value[n];
            }
        }
        totals.value
    }

    fn block(&self, src: &[u8], dst: &mut [u8], totals: &mut Totals) {
        let (mut is_copied, mut n) = (false, 0);
        for &step in &self.steps {
            if step.sums() {
                totals.add(n, step, if is_copied { dst } else { src }, &self.passes);
                n += 1;
                continue;
            }
            match step {
                Step::Swap32 if is_copied => (self.passes.swap32_in_place)(dst),
                Step::Swap32 => (self.passes.swap32)(src, dst),
                Step::Xor32(key) if is_copied => (self.passes.xor32_in_place)(dst, key),
                Step::Xor32(key) => (self.passes.xor32)(src, dst, key),
                _ => crate::stripe::pass(src, dst),
            }
            is_copied = true;
        }
        if !is_copied {
            dst.copy_from_slice(src);
        }
    }
}

/// Sums between blocks: folded, or the register of a CRC before the final complement.
struct Totals {
    value: Sums,
}

impl Totals {
    fn add(&mut self, n: usize, step: Step, bytes: &[u8], passes: &Passes) {
        let value = &mut self.value[n];
        *value = match step {
            Step::Crc32c => (passes.crc32c)(*value, bytes),
            Step::Adler32 => (passes.adler32)(*value, bytes),
            _ => u32::from(fold(u64::from(*value) + u64::from((passes.inet)(bytes)))),
        };
    }
}
