//! Each policy against a plain model of the same paper, and all of them on a trace.

use std::collections::{HashSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::cache::{Asker, BlockCache, Lookup};

/// A cache that only says what was there: `true` for a hit.
trait Model {
    fn access(&mut self, block: u64, owner_frames: u64) -> bool;
}

/// The real thing, run the same way.
struct Real(BlockCache<AnyPolicy>);

impl Real {
    fn new(name: PolicyName, frames: u32) -> Real {
        Real(BlockCache::new(16, frames, name.policy(frames)))
    }
}

impl Model for Real {
    fn access(&mut self, block: u64, owner_frames: u64) -> bool {
        let asker = Asker { owner: block, owner_bytes: owner_frames * 16, hint: Hint::None };
        match self.0.lookup_for(block, asker) {
            Lookup::Ready(_) => true,
            Lookup::Missing(fill) => {
                self.0.complete(fill);
                false
            }
            Lookup::Pending | Lookup::Full => panic!("nothing is held"),
        }
    }
}

struct NaiveLru(usize, Vec<u64>);

impl Model for NaiveLru {
    fn access(&mut self, block: u64, _: u64) -> bool {
        let hit = self.1.contains(&block);
        self.1.retain(|&known| known != block);
        if self.1.len() == self.0 {
            self.1.remove(0);
        }
        self.1.push(block);
        hit
    }
}

/// Newest at the front, as the paper draws it; the hand counts from the oldest.
struct NaiveSieve {
    frames: usize,
    queue: Vec<(u64, bool)>,
    hand: usize,
}

impl Model for NaiveSieve {
    fn access(&mut self, block: u64, _: u64) -> bool {
        if let Some(entry) = self.queue.iter_mut().find(|(known, _)| *known == block) {
            entry.1 = true;
            return true;
        }
        if self.queue.len() == self.frames {
            loop {
                let at = if self.hand < self.queue.len() { self.hand } else { 0 };
                if !self.queue[at].1 {
                    self.queue.remove(at);
                    self.hand = if at == self.queue.len() { 0 } else { at };
                    break;
                }
                self.queue[at].1 = false;
                self.hand = at + 1;
                if self.hand == self.queue.len() {
                    self.hand = 0;
                }
            }
        }
        self.queue.push((block, false));
        false
    }
}

struct NaiveS3Fifo {
    frames: usize,
    small: VecDeque<(u64, u8)>,
    main: VecDeque<(u64, u8)>,
    ghost: VecDeque<u64>,
}

impl NaiveS3Fifo {
    fn evict(&mut self) {
        let small_frames = (self.frames / 10).max(1);
        if self.small.len() >= small_frames {
            while let Some((block, uses)) = self.small.pop_front() {
                if uses > 1 {
                    self.main.push_back((block, 0));
                    continue;
                }
                self.ghost.retain(|&known| known != block);
                self.ghost.push_back(block);
                if self.ghost.len() > self.frames - small_frames {
                    self.ghost.pop_front();
                }
                return;
            }
        }
        while let Some((block, uses)) = self.main.pop_front() {
            if uses == 0 {
                return;
            }
            self.main.push_back((block, uses - 1));
        }
    }
}

impl Model for NaiveS3Fifo {
    fn access(&mut self, block: u64, _: u64) -> bool {
        if let Some(entry) =
            self.small.iter_mut().chain(self.main.iter_mut()).find(|(known, _)| *known == block)
        {
            entry.1 = (entry.1 + 1).min(3);
            return true;
        }
        if self.small.len() + self.main.len() == self.frames {
            self.evict();
        }
        if self.ghost.contains(&block) {
            self.ghost.retain(|&known| known != block);
            self.main.push_back((block, 0));
        } else {
            self.small.push_back((block, 0));
        }
        false
    }
}

struct NaiveGdsf {
    frames: usize,
    /// Block, uses, worth, in the order in which worth was last given.
    all: Vec<(u64, u64, u64)>,
    level: u64,
}

impl Model for NaiveGdsf {
    fn access(&mut self, block: u64, owner_frames: u64) -> bool {
        let found = self.all.iter().position(|(known, ..)| *known == block);
        let uses = found.map_or(0, |at| self.all.remove(at).1) + 1;
        if found.is_none() && self.all.len() == self.frames {
            let least = (0..self.all.len()).min_by_key(|&i| (self.all[i].2, i)).unwrap();
            self.level = self.level.max(self.all.remove(least).2);
        }
        self.all.push((block, uses, self.level + uses * (1 << 20) / owner_frames));
        found.is_some()
    }
}

fn naive(name: PolicyName, frames: usize) -> Option<Box<dyn Model>> {
    Some(match name {
        // A map of bits and a hand is all that it is: `a_second_chance_is_given_once` tells its steps.
        PolicyName::Clock => return None,
        PolicyName::Lru => Box::new(NaiveLru(frames, Vec::new())),
        PolicyName::Sieve => Box::new(NaiveSieve { frames, queue: Vec::new(), hand: 0 }),
        PolicyName::S3Fifo => Box::new(NaiveS3Fifo {
            frames,
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghost: VecDeque::new(),
        }),
        PolicyName::Gdsf => Box::new(NaiveGdsf { frames, all: Vec::new(), level: 0 }),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn each_policy_does_what_its_paper_says(
        frames in 1u32..24,
        blocks in prop::collection::vec((0u64..40, 0u64..6), 0..600),
    ) {
        for name in PolicyName::ALL {
            let Some(mut naive) = naive(name, frames as usize) else { continue };
            let mut real = Real::new(name, frames);
            for (at, &(block, skew)) in blocks.iter().enumerate() {
                // Some blocks are asked for much more than others, and files differ in size.
                let block = if skew < 4 { block % 10 } else { block };
                let owner_frames = block % 7 + 1;
                let (real, naive) = (real.access(block, owner_frames), naive.access(block, owner_frames));
                prop_assert_eq!(real, naive, "{}, access {}", name.as_str(), at);
            }
        }
    }

    /// Whatever is pinned is never named, and what is not is found, however the uses went.
    #[test]
    fn a_victim_may_go_and_there_is_one_if_any_may(
        frames in 1u32..12,
        steps in prop::collection::vec((0u32..12, any::<u16>()), 0..200),
    ) {
        for name in PolicyName::ALL {
            let mut policy = name.policy(frames);
            let mut inside = HashSet::new();
            for &(frame, mask) in &steps {
                let frame = FrameId(frame % frames);
                if inside.insert(frame) {
                    let told = Told { block: frame.0.into(), owner: 0, owner_frames: 1, frames: 1, hint: Hint::None };
                    policy.filled(frame, &told);
                } else if mask & 0x8000 != 0 {
                    policy.used(frame);
                } else {
                    let may_go = |frame: FrameId| mask >> frame.0 & 1 == 1;
                    let victim = policy.victim(&mut |frame| may_go(frame));
                    prop_assert_eq!(victim.is_some(), inside.iter().any(|&f| may_go(f)), "{}", name.as_str());
                    if let Some(victim) = victim {
                        prop_assert!(may_go(victim) && inside.remove(&victim));
                    }
                }
            }
        }
    }
}

/// A generator that gives the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((u128::from(self.0 >> 1) * u128::from(end)) >> 63) as u64
    }
}

/// Blocks by Zipf's law with exponent 1: block `i` is asked for `1 / (i + 1)` as often as block 0.
struct Zipf(Vec<u64>);

impl Zipf {
    fn new(blocks: u64) -> Zipf {
        let mut sum = 0;
        Zipf(
            (1..=blocks)
                .map(|i| {
                    sum += (1 << 32) / i;
                    sum
                })
                .collect(),
        )
    }

    fn next(&self, random: &mut Random) -> u64 {
        let at = random.below(self.0[self.0.len() - 1]);
        self.0.partition_point(|&end| end <= at) as u64
    }
}

/// Hits of 10,000 accesses, of every policy, on a trace.
fn hits(frames: u32, trace: &[u64]) -> Vec<(PolicyName, u64)> {
    let hits_of = |name| {
        let mut cache = Real::new(name, frames);
        let hits = trace.iter().filter(|&&block| cache.access(block, 1)).count();
        (name, hits as u64 * 10_000 / trace.len() as u64)
    };
    PolicyName::ALL.into_iter().map(hits_of).collect()
}

/// The figures of the module's table: the cache holds a tenth of all blocks.
#[test]
fn hit_ratios_on_a_zipf_trace_and_with_scans() {
    let (blocks, mut random) = (5000, Random(1));
    let zipf = Zipf::new(blocks);
    let plain: Vec<u64> = (0..60_000).map(|_| zipf.next(&mut random)).collect();
    let mut scans = Vec::new();
    for (i, &block) in plain.iter().enumerate() {
        scans.push(block);
        // A reader that goes through 300 blocks that nobody wants again.
        if i % 3000 == 2999 {
            scans.extend((0..1500).map(|k| blocks + (i + k) as u64));
        }
    }
    let (plain, scans) = (hits(500, &plain), hits(500, &scans));
    let of = |table: &[(PolicyName, u64)], name| table.iter().find(|(n, _)| *n == name).unwrap().1;
    let shown = |table: &[(PolicyName, u64)]| {
        table.iter().map(|(name, hits)| format!("{} {hits}", name.as_str())).collect::<Vec<_>>().join(", ")
    };
    println!("zipf: {}\nwith scans: {}", shown(&plain), shown(&scans));
    for table in [&plain, &scans] {
        for better in [PolicyName::Sieve, PolicyName::S3Fifo, PolicyName::Gdsf] {
            assert!(of(table, better) > of(table, PolicyName::Lru) + 200, "{}", shown(table));
        }
    }
}

/// A policy of the application's own.
#[test]
fn an_application_may_bring_its_own_policy() {
    /// Gives up what came last.
    #[derive(Default)]
    struct Mru(Vec<FrameId>);
    impl Policy for Mru {
        fn filled(&mut self, frame: FrameId, _: &Told) {
            self.0.push(frame);
        }
        fn victim(&mut self, may_go: &mut dyn FnMut(FrameId) -> bool) -> Option<FrameId> {
            let at = self.0.iter().rposition(|&frame| may_go(frame))?;
            Some(self.0.remove(at))
        }
    }
    let mut cache = Real(BlockCache::new(16, 3, Box::new(Mru::default()) as AnyPolicy));
    let hits: Vec<bool> = [1, 2, 3, 4, 1, 2, 3].map(|block| cache.access(block, 1)).into();
    assert_eq!(hits, [false, false, false, false, true, true, false]);
}

/// A reader of a file that fills the cache several times takes nothing of what small files have there,
/// whatever the policy.
#[test]
fn a_file_that_fills_the_cache_leaves_it_as_it_was() {
    for name in PolicyName::ALL {
        let mut cache = Real::new(name, 10);
        (0..9).for_each(|block| assert!(!cache.access(block, 1)));
        for block in 100..200 {
            let asker = Asker { owner: 1, owner_bytes: 1600, hint: Hint::of(1600, 160) };
            let Lookup::Missing(fill) = cache.0.lookup_for(block, asker) else { panic!() };
            cache.0.complete(fill);
        }
        assert!((0..9).all(|block| cache.access(block, 1)), "{}", name.as_str());
    }
}

/// What was to be wanted once, and is wanted again, is like all others from then on.
#[test]
fn what_is_wanted_again_after_all_stays() {
    for name in PolicyName::ALL {
        let mut cache = Real::new(name, 4);
        let once = |cache: &mut Real, block| match cache
            .0
            .lookup_for(block, Asker { owner: 1, owner_bytes: 160, hint: Hint::Once })
        {
            Lookup::Missing(fill) => drop(cache.0.complete(fill)),
            other => assert!(matches!(other, Lookup::Ready(_))),
        };
        once(&mut cache, 7);
        once(&mut cache, 7);
        (100..120).for_each(|block| once(&mut cache, block));
        assert!(cache.access(7, 1), "{}", name.as_str());
        assert_eq!(cache.0.stats().given_up, 17, "{}", name.as_str());
    }
}

/// Two who read a big file, one some blocks behind the other, in a cache that is full of others' blocks.
#[test]
fn who_reads_a_big_file_a_little_later_finds_it() {
    for name in PolicyName::ALL {
        let mut cache = Real::new(name, 64);
        (0..64).for_each(|block| assert!(!cache.access(block, 1)));
        let mut once = |block| match cache
            .0
            .lookup_for(block, Asker { owner: 1, owner_bytes: 16_000, hint: Hint::Once })
        {
            Lookup::Missing(fill) => {
                cache.0.complete(fill);
                false
            }
            other => matches!(other, Lookup::Ready(_)),
        };
        (1000..1005).for_each(|block| assert!(!once(block)));
        for block in 1005..1900 {
            assert!(!once(block) && once(block - 5), "{} {block}", name.as_str());
        }
    }
}
