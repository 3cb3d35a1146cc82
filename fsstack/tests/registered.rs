//! Memory and files that a ring was told of once: read by their numbers, and let go of when nobody has them
//! any more.

mod ring;

use ring::{BLOCK, FileCacheOf, PastCache, WatchedRing, alone, may_register, pattern};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

/// Of three parts that are registered by themselves, the last one shorter.
const BLOCKS: usize = 300;

/// Whether nobody has the file locked any more, and so open as it was when it was locked. The kernel closes
/// files in its own time.
fn is_free(path: &Path) -> bool {
    let again = File::open(path).unwrap();
    (0..6000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        flock(&again, FlockOperation::NonBlockingLockExclusive).is_ok()
    })
}

#[test]
fn what_is_registered_is_read_by_number_and_let_go() {
    let Some(ring) = WatchedRing::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");
    let bytes = pattern(BLOCKS * BLOCK - 5000);
    fs::write(&path, &bytes).unwrap();
    let _alone = alone();
    // With room for what another process of the same user registers meanwhile.
    let has_room = may_register(8 * bytes.len());
    // Each time another file, and another cache.
    for round in 1..=3 {
        let Some(source) = PastCache::open(&path) else { return };
        // Goes with the opening, of which the ring must keep none.
        flock(&source.direct, FlockOperation::LockExclusive).unwrap();
        let cache = FileCacheOf::new(source, BLOCKS);
        ring.read(&cache, 0..BLOCKS as u64, &bytes);
        let (by_number, all) = (ring.counts().reads, (round * BLOCKS) as u64);
        if has_room {
            assert_eq!(by_number, all);
        } else {
            eprintln!("not all can be registered here: {by_number} of {all} reads");
            assert!(by_number <= all);
        }
        drop(cache);
        ring.fall_asleep();
        assert!(is_free(&path), "the ring has the file open still");
    }
}

/// The last who has an image or its cache may be another loop, and this one has nothing to do.
#[test]
fn idle_rings_hear_of_what_is_gone() {
    let _alone = alone();
    let (Some(one), Some(other)) = (WatchedRing::new(), WatchedRing::new()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");
    let bytes = pattern(BLOCKS * BLOCK);
    fs::write(&path, &bytes).unwrap();
    let Some(source) = PastCache::open(&path) else { return };
    flock(&source.direct, FlockOperation::LockExclusive).unwrap();
    let cache = FileCacheOf::new(source, BLOCKS);
    one.read(&cache, 0..20, &bytes);
    other.read(&cache, 120..150, &bytes);
    one.fall_asleep();
    other.fall_asleep();
    drop(cache);
    for ring in [one, other] {
        assert!(ring.is_woken(), "the ring has memory and a file that nobody reads");
        ring.fall_asleep();
        assert_eq!(ring.counts().parts, 0);
    }
}

/// Sites have a cache each, and those that are replaced are there for a while.
#[test]
fn several_caches_are_registered_at_once() {
    let Some(ring) = WatchedRing::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");
    let bytes = pattern(BLOCKS * BLOCK);
    fs::write(&path, &bytes).unwrap();
    let open = || PastCache::open(&path).map(|source| FileCacheOf::new(source, BLOCKS));
    let (Some(first), Some(second), Some(third)) = (open(), open(), open()) else { return };
    let _alone = alone();
    let has_room = may_register(16 * bytes.len());
    let mut reads = 0;
    let mut fill = |cache: &FileCacheOf, parts: usize| {
        // All its frames are read to, whatever is in them.
        let unread = FileCacheOf { file: cache.cache.number(), ..cache.clone() };
        ring.read(&unread, 0..BLOCKS as u64, &bytes);
        reads += BLOCKS as u64;
        let counts = ring.counts();
        assert!(counts.reads + counts.reads_elsewhere == reads && counts.parts <= parts, "{counts:?}");
        if has_room {
            assert_eq!((counts.reads, counts.parts, counts.refused), (reads, parts, 0));
        }
    };
    fill(&first, 3);
    fill(&second, 6);
    fill(&third, 9);
    drop(second);
    ring.fall_asleep();
    fill(&first, 6);
    fill(&third, 6);
    // By numbers that another had.
    let Some(fourth) = open() else { return };
    [&fourth, &third, &first].iter().for_each(|cache| fill(cache, 9));
}

#[test]
fn blocks_that_are_read_together_are_from_a_registered_file() {
    let _alone = alone();
    let Some(ring) = WatchedRing::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");
    let bytes = pattern(40 * BLOCK);
    fs::write(&path, &bytes).unwrap();
    let Some(source) = PastCache::open(&path) else { return };
    let cache = FileCacheOf::new(source, BLOCKS);
    let read = ring.begin(&cache, 7, 12);
    while read.outcome().is_none() {
        ring.reader.turn();
    }
    assert_eq!((ring.counts().reads, ring.counts().reads_elsewhere), (0, 1));
    let outcome = read.outcome().unwrap();
    assert_eq!(outcome.slice(0..BLOCK).unwrap().bytes(), &bytes[7 * BLOCK..][..BLOCK]);
    for index in 8..12 {
        let outcome = cache.known(index).unwrap();
        assert_eq!(outcome.slice(0..BLOCK).unwrap().bytes(), &bytes[index as usize * BLOCK..][..BLOCK]);
    }
}

#[test]
fn more_caches_than_are_registered_are_read_to() {
    let Some(ring) = WatchedRing::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");
    let bytes = pattern(2 * BLOCK);
    fs::write(&path, &bytes).unwrap();
    let Some(source) = PastCache::open(&path) else { return };
    let _alone = alone();
    let has_room = may_register(4 << 20);
    for round in 1..=2 {
        let mut caches: Vec<_> = (0..40).map(|_| FileCacheOf::new(source.clone(), 2)).collect();
        caches.iter().for_each(|cache| ring.read(cache, 0..2, &bytes));
        let counts = ring.counts();
        assert!(
            counts.reads <= 64 * round && counts.reads + counts.reads_elsewhere == 80 * round,
            "{counts:?}"
        );
        if has_room {
            assert_eq!((counts.reads, counts.parts), (64 * round, 32));
        }
        // In another order than they came.
        while !caches.is_empty() {
            caches.swap_remove(caches.len() * 3 / 7);
            if caches.len() % 5 == 0 {
                ring.fall_asleep();
            }
        }
        assert_eq!(ring.counts().parts, 0);
    }
}

/// Each part takes a while, and clients wait.
#[test]
fn a_big_cache_is_let_go_of_over_several_turns() {
    const PARTS: usize = 10;
    let Some(ring) = WatchedRing::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");
    let bytes = pattern(PARTS * 128 * BLOCK);
    fs::write(&path, &bytes).unwrap();
    let Some(source) = PastCache::open(&path) else { return };
    let _alone = alone();
    if !may_register(4 * bytes.len()) {
        eprintln!("skipped: not so much memory can be registered here");
        return;
    }
    let cache = FileCacheOf::new(source, PARTS * 128);
    ring.read(&cache, 0..PARTS as u64 * 128, &bytes);
    assert_eq!(ring.counts().parts, PARTS);
    // Who still sends blocks of it does not hold it up.
    let held = cache.known(5).unwrap();
    ring.fall_asleep();
    drop(cache);
    assert!(ring.is_woken());
    let mut turns = 0;
    while ring.reader.has_work() {
        let before = ring.counts().parts;
        ring.reader.turn();
        assert!(before - ring.counts().parts <= 8);
        turns += 1;
    }
    assert_eq!((ring.counts().parts, turns), (0, 2));
    assert_eq!(held.slice(0..BLOCK).unwrap().bytes(), &bytes[5 * BLOCK..][..BLOCK]);
}
