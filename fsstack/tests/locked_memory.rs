//! A user who may lock little memory: what is registered is read by number, the rest as ever, and the kernel
//! is asked for more once for each cache. Alone in its process, of which it lowers a limit.

mod ring;

use ring::{BLOCK, FileCacheOf, PastCache, WatchedRing, may_register, pattern};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::set_thread_res_uid;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// Of six parts.
const BLOCKS: usize = 6 * 128;

/// Of which two can be locked.
const LIMIT: u64 = 5 << 20;

#[test]
fn what_may_not_be_locked_is_asked_for_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");
    let bytes = pattern(BLOCKS * BLOCK);
    fs::write(&path, &bytes).unwrap();
    let Some(source) = PastCache::open(&path) else { return };
    setrlimit(Resource::Memlock, Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) }).unwrap();
    let read = || {
        // Of this thread alone, with which its capabilities go. Who may not is somebody with a limit already,
        // or not asked.
        let uid = rustix::process::Uid::from_raw(50_000 + std::process::id() % 10_000);
        let is_alone = set_thread_res_uid(uid, uid, uid).is_ok();
        if may_register(bytes.len()) {
            eprintln!("skipped: the limit is not for this user");
            return;
        }
        let Some(ring) = WatchedRing::new() else { return };
        let cache = FileCacheOf::new(source.clone(), BLOCKS);
        // One after the other, from all parts in turn.
        for index in 0..BLOCKS as u64 {
            ring.read(&cache, [index % 6 * 128 + index / 6], &bytes);
        }
        let counts = ring.counts();
        assert_eq!(counts.refused, 1, "{counts:?}");
        assert!(counts.parts <= 2, "{counts:?}");
        assert_eq!(counts.reads, counts.parts as u64 * 128, "{counts:?}");
        // The limit is for all rings of a user together, even of the same memory.
        let Some(second) = WatchedRing::new() else { return };
        let again = FileCacheOf { file: cache.cache.number(), ..cache.clone() };
        second.read(&again, (0..BLOCKS as u64).step_by(64), &bytes);
        if is_alone {
            assert_eq!(counts.parts, 2, "{counts:?}");
            assert_eq!((second.counts().parts, second.counts().refused), (0, 1), "{:?}", second.counts());
        }
        drop((cache, again));
        [&ring, &second].iter().for_each(|ring| ring.fall_asleep());
        assert_eq!(ring.counts().parts, 0);
        // Older kernels take their time.
        for _ in 0..200 {
            if may_register(4 << 20) {
                break;
            }
            sleep(Duration::from_millis(50));
        }
        // With another cache there is another try.
        let cache = FileCacheOf::new(source.clone(), BLOCKS);
        second.read(&cache, 0..BLOCKS as u64, &bytes);
        if is_alone {
            assert_eq!((second.counts().parts, second.counts().refused), (2, 2), "{:?}", second.counts());
        }
    };
    std::thread::scope(|scope| scope.spawn(read).join().unwrap());
}
