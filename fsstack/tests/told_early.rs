//! When the kernel is told of reads: the first at once, many in few calls.

mod ring;

use ring::{BLOCK, FileCacheOf, PastCache, WatchedRing, pattern};
use runtime::stats::work::Work;
use std::fs;

const BLOCKS: usize = 64;

#[test]
fn a_device_that_stands_still_is_told_before_the_turn_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");
    fs::write(&path, pattern(BLOCKS * BLOCK)).unwrap();
    let Some(source) = PastCache::open(&path) else { return };
    let Some(ring) = WatchedRing::new() else { return };
    let cache = FileCacheOf::new(source, BLOCKS);
    // No turn: its loop is at something else.
    let read = ring.begin(&cache, 0, 1);
    assert!(ring.is_woken(), "the device was not told");
    assert!(ring.reader.has_work() && read.outcome().is_none(), "it is ended by a turn");
    ring.fall_asleep();
    assert!(read.outcome().is_some());
}

#[test]
fn many_reads_cost_few_calls() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");
    let bytes = pattern(BLOCKS * BLOCK);
    fs::write(&path, &bytes).unwrap();
    let Some(source) = PastCache::open(&path) else { return };
    let Some(ring) = WatchedRing::new() else { return };
    let cache = FileCacheOf::new(source, BLOCKS);
    let before = Work::of_this_thread();
    let reads: Vec<_> = (0..BLOCKS as u64).map(|index| ring.begin(&cache, index, index + 1)).collect();
    let calls = Work::of_this_thread().since(&before).calls();
    // One, two, three, four, six, eight, eleven, .. are told, as each call adds a quarter.
    assert!((2..=16).contains(&calls), "{calls} calls for {BLOCKS} reads");
    while reads.iter().any(|read| read.outcome().is_none()) {
        ring.reader.turn();
    }
    for (index, read) in reads.into_iter().enumerate() {
        let block = read.outcome().unwrap().slice(0..BLOCK).unwrap();
        assert!(block.bytes() == &bytes[index * BLOCK..][..BLOCK], "other bytes in block {index}");
    }
}
