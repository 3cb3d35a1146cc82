//! Memory and files that a ring was told of once: read by their numbers, and let go of when nobody has them
//! any more.

mod ring;

use ring::{BLOCK, FileCacheOf, PastCache, WatchedRing, may_register, pattern};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

/// Of three parts that are registered by themselves, the last one shorter.
const BLOCKS: usize = 300;

/// Whether nobody has the file locked any more, and so open as it was when it was locked. The kernel closes files in its own
/// time.
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
    // With room for what the same user registers meanwhile.
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
        ring.reader.turn();
        assert!(is_free(&path), "the ring has the file open still");
    }
}
