//! A small generator of pseudo-random numbers: the same sequence for a seed on every machine and in every
//! version.

use std::collections::VecDeque;

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), or a tape of bytes
/// from a fuzzer first, so that each decision follows from a byte that the fuzzer can change.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
    tape: VecDeque<u8>,
}

impl Rng {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Rng {
        Rng { state: seed, tape: VecDeque::new() }
    }

    /// Decisions as the bytes of `tape` say, then the sequence of seed 0.
    pub fn from_tape(tape: &[u8]) -> Rng {
        Rng { state: 0, tape: tape.iter().copied().collect() }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        if !self.tape.is_empty() {
            return (0..8).fold(0, |word, _| word << 8 | u64::from(self.tape.pop_front().unwrap_or(0)));
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 for a bound of 0); slightly biased for huge bounds, which is no concern
    /// here.
    pub fn below(&mut self, bound: usize) -> usize {
        if let 1..=256 = bound
            && let Some(byte) = self.tape.pop_front()
        {
            return usize::from(byte) % bound;
        }
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True `n` times out of `of`.
    pub fn chance(&mut self, n: usize, of: usize) -> bool {
        self.below(of) < n
    }

    /// One of the items.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// A number that tends to lie where things go wrong: small ones, all ones, single bits, or any.
    pub fn edge(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(4) as u64,
            1 => u64::MAX - self.below(3) as u64,
            2 => 1 << self.below(64),
            3 => (1u64 << self.below(64)).wrapping_sub(1),
            _ => self.next_u64(),
        }
    }

    /// Bytes for a stream: any, or runs of zeros and ones, where carries and minima go wrong.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let style = self.below(4);
        (0..len)
            .map(|_| match style {
                0 => 0xff,
                1 => *self.pick(&[0, 0, 0xff, 0x80, 1]),
                _ => self.next_u64() as u8,
            })
            .collect()
    }
}
