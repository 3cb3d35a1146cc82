//! The kernel is told of a read at once, if the device has nothing else to do.

mod ring;

use ring::{BLOCK, FileCacheOf, PastCache, WatchedRing, pattern};
use std::fs;

#[test]
fn a_device_that_stands_still_is_told_before_the_turn_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");
    fs::write(&path, pattern(BLOCK)).unwrap();
    let Some(source) = PastCache::open(&path) else { return };
    let Some(ring) = WatchedRing::new() else { return };
    let cache = FileCacheOf::new(source, 1);
    // No turn: its loop is at something else.
    let read = ring.begin(&cache, 0, 1);
    assert!(ring.is_woken(), "the device was not told");
    assert!(ring.reader.has_work() && read.outcome().is_none(), "it is ended by a turn");
    ring.fall_asleep();
    assert!(read.outcome().is_some());
}
