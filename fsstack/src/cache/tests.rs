//! The cache against a map and a list.

use super::policy::{Clock, Lru};
use super::*;
use crate::device::MemoryDevice;
use proptest::prelude::*;

const BLOCK: usize = 16;

fn device(blocks: u8) -> MemoryDevice {
    MemoryDevice::from((0..blocks).flat_map(|block| [block; BLOCK]).collect::<Vec<u8>>())
}

#[derive(Clone, Debug)]
enum Step {
    /// Read a block at once.
    Read(u8),
    /// Read a block and hold on to it.
    Hold(u8),
    /// Let go of what was held first.
    Release,
    /// Begin to read a block.
    Begin(u8),
    /// Begin to read several, of one group.
    Together(u8, u8),
    /// End, or give up, what was begun first.
    End { fails: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..20).prop_map(Step::Read),
        2 => (0u8..20).prop_map(Step::Hold),
        2 => Just(Step::Release),
        2 => (0u8..20).prop_map(Step::Begin),
        2 => (0u8..20, 2u8..5).prop_map(|(first, count)| Step::Together(first, count)),
        2 => any::<bool>().prop_map(|fails| Step::End { fails }),
    ]
}

fn run(mut cache: BlockCache<impl Policy>, frames: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let device = device(20);
    let (mut held, mut begun): (Vec<(u8, Shared)>, Vec<Fill>) = (Vec::new(), Vec::new());
    for step in steps {
        match *step {
            Step::Read(block) | Step::Hold(block) => match cache.read_through(block.into(), &device) {
                Ok(bytes) => {
                    prop_assert_eq!(&bytes[..], &[block; BLOCK]);
                    if matches!(step, Step::Hold(_)) {
                        held.push((block, bytes));
                    }
                }
                Err(error) => {
                    prop_assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    let being_read = begun.iter().any(|fill| fill.block() == block.into());
                    let mut pinned: Vec<u8> = held.iter().map(|(block, _)| *block).collect();
                    pinned.sort_unstable();
                    pinned.dedup();
                    prop_assert!(
                        being_read || pinned.len() + begun.len() >= frames,
                        "refused with room to spare"
                    );
                }
            },
            Step::Release if !held.is_empty() => drop(held.remove(0)),
            Step::Begin(block) => match cache.lookup(block.into()) {
                Lookup::Missing(fill) => {
                    prop_assert!(begun.iter().all(|other| other.block() != fill.block()), "one fill a block");
                    begun.push(fill);
                }
                Lookup::Ready(bytes) => prop_assert_eq!(&bytes[..], &[block; BLOCK]),
                Lookup::Pending | Lookup::Full => {}
            },
            Step::Together(first, count) => {
                let mut of_group: Vec<Fill> = Vec::new();
                for block in first..first + count {
                    let Lookup::Missing(mut fill) = cache.lookup((block % 20).into()) else { continue };
                    if let Some(first) = of_group.first_mut() {
                        cache.join(first, &mut fill);
                    }
                    of_group.push(fill);
                }
                begun.append(&mut of_group);
            }
            Step::End { fails } if !begun.is_empty() => {
                let mut fill = begun.remove(0);
                prop_assert!(fill.buffer().iter().all(|&byte| byte == 0), "no bytes of another block");
                let block = fill.block() as u8;
                if fails {
                    fill.buffer().fill(0xee);
                    cache.abandon(fill);
                } else {
                    fill.buffer().fill(block);
                    prop_assert_eq!(&cache.complete(fill)[..], &[block; BLOCK]);
                }
            }
            Step::Release | Step::End { .. } => {}
        }
        for (block, bytes) in &held {
            prop_assert_eq!(&bytes[..], &[*block; BLOCK], "a pinned block never changes");
        }
        prop_assert!(cache.by_block.len() + cache.free.len() == frames, "each frame is somewhere, once");
    }
    Ok(())
}

proptest! {
    #[test]
    fn blocks_are_always_their_own(frames in 1u32..8, steps in prop::collection::vec(step(), 0..80)) {
        run(BlockCache::new(BLOCK, frames, Lru::new()), frames as usize, &steps)?;
        run(BlockCache::new(BLOCK, frames, Clock::new()), frames as usize, &steps)?;
    }

    #[test]
    fn lru_gives_up_what_was_not_used_longest(frames in 1usize..8, blocks in prop::collection::vec(0u8..20, 0..200)) {
        let device = device(20);
        let mut cache = BlockCache::new(BLOCK, frames as u32, Lru::new());
        let (mut recent, mut hits): (Vec<u8>, u64) = (Vec::new(), 0);
        for block in blocks {
            if let Some(i) = recent.iter().position(|&known| known == block) {
                recent.remove(i);
                hits += 1;
            } else if recent.len() == frames {
                recent.remove(0);
            }
            recent.push(block);
            cache.read_through(block.into(), &device).unwrap();
            prop_assert_eq!(cache.stats().hits, hits);
        }
    }
}

/// Reads blocks as one group.
fn read_together(cache: &mut BlockCache<impl Policy>, blocks: std::ops::Range<u64>) -> Vec<Shared> {
    let mut fills: Vec<Fill> = Vec::new();
    for block in blocks {
        let Lookup::Missing(mut fill) = cache.lookup(block) else { panic!("block {block} is there") };
        if let Some(first) = fills.first_mut() {
            cache.join(first, &mut fill);
        }
        fills.push(fill);
    }
    fills.into_iter().map(|fill| cache.complete(fill)).collect()
}

#[test]
fn a_group_is_given_up_whole_and_a_use_of_one_keeps_all() {
    let mut cache = BlockCache::new(BLOCK, 8, Lru::new());
    drop(read_together(&mut cache, 0..3));
    drop(read_together(&mut cache, 10..13));
    drop(read_together(&mut cache, 20..22));
    // The oldest but for this.
    assert!(matches!(cache.lookup(1), Lookup::Ready(_)));
    drop(read_together(&mut cache, 30..31));
    let there =
        |cache: &BlockCache<Lru>, blocks: std::ops::Range<u64>| blocks.filter(|&b| cache.contains(b)).count();
    assert_eq!([there(&cache, 0..3), there(&cache, 10..13), there(&cache, 20..22)], [3, 0, 2]);
    assert_eq!(cache.stats().given_up, 3);
    // Two more fit where three were.
    drop(read_together(&mut cache, 40..42));
    assert_eq!(cache.stats().given_up, 3);
}

#[test]
fn what_is_held_of_a_group_stays_and_goes_later() {
    let mut cache = BlockCache::new(BLOCK, 4, Clock::new());
    let mut held = read_together(&mut cache, 0..4);
    held.truncate(2);
    drop(read_together(&mut cache, 10..12));
    assert!(cache.contains(0) && cache.contains(1) && !cache.contains(2) && !cache.contains(3));
    assert!(
        held.iter()
            .zip(0..)
            .all(|(block, i)| block.len() == BLOCK && matches!(cache.lookup(i), Lookup::Ready(_)))
    );
    drop(held);
    drop(read_together(&mut cache, 20..24));
    assert!((20..24).all(|block| cache.contains(block)));
}

#[test]
fn the_last_block_may_be_short_and_there_is_none_after_it() {
    let device = MemoryDevice::from(vec![9; BLOCK + 3]);
    let mut cache = BlockCache::new(BLOCK, 2, Lru::new());
    let last = cache.read_through(1, &device).unwrap();
    assert_eq!((&last[..3], &last[3..]), (&[9; 3][..], &[0; BLOCK - 3][..]));
    for block in [2, u64::MAX] {
        assert_eq!(cache.read_through(block, &device).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
    assert!(cache.read_through(0, &device).is_ok(), "a failed fill gives its frame back");
}

#[test]
fn a_second_chance_is_given_once() {
    let device = device(20);
    let mut cache = BlockCache::new(BLOCK, 3, Clock::new());
    for block in [0, 1, 2, 0] {
        cache.read_through(block, &device).unwrap();
    }
    // The hand passes over block 0, which was used again, and takes 1.
    cache.read_through(3, &device).unwrap();
    assert!(matches!(cache.lookup(0), Lookup::Ready(_)));
    let Lookup::Missing(fill) = cache.lookup(1) else { panic!("block 1 was given up") };
    cache.abandon(fill);
}
