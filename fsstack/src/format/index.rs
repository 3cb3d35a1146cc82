//! The path index: an open-addressing hash table from a whole path to its inode.
//!
//! A slot holds the upper half of the path's hash and the inode's number. A path's home is the low bits of
//! its hash; the next slots are probed in turn, cyclically, up to the superblock's `max_probe` or an empty
//! slot.

use super::layout::{get_u32, put_u32};
use crate::path;

/// Size of a slot.
pub const SLOT_BYTES: usize = 8;

/// No image may ask for longer probes.
pub const MAX_PROBE: u32 = 64;

/// The inode number that marks an empty slot.
pub const EMPTY: u32 = u32::MAX;

const OFF_TAG: usize = 0;
const OFF_INODE: usize = OFF_TAG + size_of::<u32>();

/// A slot of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Upper 32 bits of the hash; 0 in an empty slot.
    pub tag: u32,
    /// The inode, or [`EMPTY`].
    pub inode: u32,
}

impl Slot {
    /// Reads a slot.
    ///
    /// # Panics
    /// If `record` is not [`SLOT_BYTES`] long.
    pub fn decode(record: &[u8]) -> Slot {
        Slot { tag: get_u32(record, OFF_TAG), inode: get_u32(record, OFF_INODE) }
    }

    fn encode(self, record: &mut [u8]) {
        put_u32(record, OFF_TAG, self.tag);
        put_u32(record, OFF_INODE, self.inode);
    }
}

/// The slots that a path may stand in, nearest first, and the tag it would bear. `slots` is a power of two.
pub fn probe(
    seed: u64,
    path: &[u8],
    slots: usize,
    max_probe: u32,
) -> (u32, impl Iterator<Item = usize> + use<>) {
    let hash = path::hash(seed, path);
    let mask = slots.wrapping_sub(1);
    let home = hash as usize;
    ((hash >> 32) as u32, (0..max_probe as usize).map(move |i| home.wrapping_add(i) & mask))
}

/// Builds the table of `paths` (by inode number), at most half full, with the first seed that keeps probes
/// short. Gives the bytes, the seed and the longest probe.
pub fn build(paths: &[&[u8]]) -> (Vec<u8>, u64, u32) {
    let mut slots = (paths.len() * 2).next_power_of_two();
    loop {
        for seed in 0..16 {
            if let Some((bytes, max_probe)) = try_build(paths, slots, seed) {
                return (bytes, seed, max_probe);
            }
        }
        // Sixteen unlucky seeds at one load: a sparser table. Distinct paths end this for any 64-bit hash
        // worth its name.
        slots *= 2;
    }
}

fn try_build(paths: &[&[u8]], slots: usize, seed: u64) -> Option<(Vec<u8>, u32)> {
    let mut bytes = vec![0; slots * SLOT_BYTES];
    for slot in bytes.chunks_exact_mut(SLOT_BYTES) {
        Slot { tag: 0, inode: EMPTY }.encode(slot);
    }
    let mut longest = 0;
    for (inode, path) in paths.iter().enumerate() {
        let (tag, mut probes) = probe(seed, path, slots, MAX_PROBE);
        let (distance, at) = probes
            .by_ref()
            .enumerate()
            .find(|&(_, at)| Slot::decode(&bytes[at * SLOT_BYTES..][..SLOT_BYTES]).inode == EMPTY)?;
        Slot { tag, inode: inode as u32 }.encode(&mut bytes[at * SLOT_BYTES..][..SLOT_BYTES]);
        longest = longest.max(distance as u32 + 1);
    }
    Some((bytes, longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_found_within_the_longest_probe() {
        let paths: Vec<String> = (0..5000).map(|i| format!("dir{}/file{i}.html", i % 7)).collect();
        let paths: Vec<&[u8]> = paths.iter().map(|path| path.as_bytes()).collect();
        let (bytes, seed, max_probe) = build(&paths);
        assert!(bytes.len() / SLOT_BYTES >= 2 * paths.len());
        assert!(max_probe <= MAX_PROBE);
        for (i, path) in paths.iter().enumerate() {
            let (tag, probes) = probe(seed, path, bytes.len() / SLOT_BYTES, max_probe);
            let found = probes
                .map(|at| Slot::decode(&bytes[at * SLOT_BYTES..][..SLOT_BYTES]))
                .take_while(|slot| slot.inode != EMPTY)
                .find(|slot| slot.inode == i as u32);
            assert_eq!(found, Some(Slot { tag, inode: i as u32 }));
        }
    }
}
