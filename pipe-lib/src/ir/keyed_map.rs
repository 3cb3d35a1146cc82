//! A hash map for keys of a few words that are looked up for each instruction of a compile.
//!
//! The standard library's hash costs more than what it guards here. This one multiplies each word and folds
//! the product; programs come from anywhere, so it is keyed, once a process, by a number that nobody outside
//! knows.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

/// A map by such a hash. Nothing may depend on its order.
pub(crate) type KeyedMap<K, V> = HashMap<K, V, ProcessKey>;

/// Begins with the key of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessKey(u64);

impl Default for ProcessKey {
    fn default() -> ProcessKey {
        static KEY: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
        ProcessKey(*KEY)
    }
}

impl BuildHasher for ProcessKey {
    type Hasher = FoldedProduct;

    fn build_hasher(&self) -> FoldedProduct {
        FoldedProduct(self.0)
    }
}

/// Both halves of a product, for each word.
pub(crate) struct FoldedProduct(u64);

impl Hasher for FoldedProduct {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        // Any odd number whose bits look like noise: the fraction of the golden ratio.
        let product = u128::from(self.0 ^ n) * 0x9e37_79b9_7f4a_7c15;
        // The next word meets another number even if both were zero.
        self.0 = (product as u64 ^ (product >> 64) as u64).wrapping_add(0xbf58_476d_1ce4_e5b9);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
}
