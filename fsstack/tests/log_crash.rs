//! A crash at any write leaves the state before a commit or after it, and nothing that is damaged is taken
//! for sound.

mod common;

use common::crash::{Recorder, State, Step, bytes, crash, done, sound_state, state};
use common::script::{Op, apply, parse};
use fsstack::OpenOptions;
use fsstack::device::{Device, DeviceMut, FileDevice};
use fsstack::image::build::Mtime;
use fsstack::log::{Contents, Generation, Log, LogError, Posix, Progress, Syncing};
use runtime::buffer::{Shared, Slice};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Commits of every kind; gives the state of each, the first one that of the new log.
fn workload(path: &Path, steps: &Arc<Mutex<Vec<Step>>>) -> Vec<State> {
    let file = Arc::new(File::options().read(true).write(true).open(path).unwrap());
    let device = Recorder::new(FileDevice::from(Arc::clone(&file)), steps);
    let mut log = Log::on(file, Box::new(device), &OpenOptions::default()).unwrap();
    let time = Mtime::default();
    let mut states = vec![state(&log.snapshot())];
    for round in 0..14u8 {
        match round % 7 {
            0 => {
                for i in 0..5 {
                    let name = format!("file-{round}-{i}");
                    log.put(name.as_bytes(), time, Contents::from(bytes(3000 * i, round)), b"head").unwrap();
                }
            }
            1 => {
                log.mkdir(format!("d{round}").as_bytes(), time).unwrap();
                log.rename(format!("file-{}-2", round - 1).as_bytes(), format!("d{round}/x").as_bytes())
                    .unwrap();
            }
            2 => {
                let name = format!("d{}/x", round - 1);
                log.write(name.as_bytes(), 100, Slice::from(Shared::from(bytes(900, round))), time).unwrap();
            }
            3 => drop(log.remove(format!("file-{}-3", round - 3).as_bytes()).unwrap()),
            4 => drop(log.truncate(format!("file-{}-4", round - 4).as_bytes(), 50, time).unwrap()),
            // Once more on top, then all in one piece: from then on space is used again.
            5 => drop(log.compact(&[]).unwrap()),
            _ => drop(log.remove_all(format!("d{}", round - 5).as_bytes()).unwrap()),
        }
        log.sync().unwrap();
        states.push(state(&log.snapshot()));
        steps.lock().unwrap().push(Step::Done(states.len() - 1));
    }
    states
}

#[test]
fn after_a_crash_at_any_write_the_state_is_that_before_a_commit_or_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    drop(Log::create(&path, &OpenOptions::default()).unwrap());
    let empty = fs::read(&path).unwrap();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let states = workload(&path, &steps);
    let steps = steps.lock().unwrap();
    let crashed = folder.path().join("b.img");
    let (mut before, mut after) = (0, 0);
    for at in 0..=steps.len() {
        let done = done(&steps[..at]);
        for seed in 0..5u64 {
            fs::write(&crashed, crash(&empty, &steps[..at], seed * 0x9e37_79b9 + at as u64, seed == 0))
                .unwrap();
            let generation = Generation::open(&crashed, &OpenOptions::default())
                .unwrap_or_else(|error| panic!("crash at step {at}, seed {seed}: {error}"));
            let found = state(&generation);
            if found == states[done] {
                before += 1;
            } else {
                assert!(
                    Some(&found) == states.get(done + 1),
                    "crash at step {at}, seed {seed}: neither {done} nor the next"
                );
                after += 1;
            }
            let problems = generation.check(|_| {}).problems;
            assert!(problems.is_empty(), "crash at step {at}, seed {seed}: {problems:?}");
            if seed == 1 {
                // And it can be gone on with.
                let mut log = Log::open(&crashed, &OpenOptions::default()).unwrap();
                log.put(b"again", Mtime::default(), Contents::from(vec![1; 20_000]), b"").unwrap();
                log.sync().unwrap();
                assert_eq!(
                    state(&Generation::open(&crashed, &OpenOptions::default()).unwrap()),
                    state(&log.latest())
                );
            }
        }
    }
    assert!(before > 50 && after > 10, "{before} {after}");
}

/// Changes of every kind, each of which begins a sync, while the one before is on its way; gives the state
/// after each change.
fn begun_workload(path: &Path, steps: &Arc<Mutex<Vec<Step>>>) -> Vec<State> {
    let file = Arc::new(File::options().read(true).write(true).open(path).unwrap());
    let device = Recorder::new(FileDevice::from(Arc::clone(&file)), steps);
    let mut log = Log::on(file, Box::new(device), &OpenOptions::default()).unwrap();
    let ops = parse(include_str!("workloads/killed.txt"));
    let mut states = vec![state(&log.snapshot())];
    let mut begun: Vec<Syncing<usize>> = Vec::new();
    for round in 0..3 {
        for (salt, op) in ops.iter().filter(|op| !matches!(op, Op::Compact | Op::Sync)).enumerate() {
            if apply(&mut log, op, round * 100 + salt as u8).is_err() {
                continue;
            }
            states.push(state(&log.latest()));
            begun.push(log.begin_sync(states.len() - 1));
            // Some of the time it is looked at by the way, now and then waited for.
            if salt % 7 == 6 {
                let (_, there) = log.wait_for(begun.remove(0)).unwrap();
                steps.lock().unwrap().push(Step::Done(there));
            }
            for syncing in std::mem::take(&mut begun) {
                match log.progress(syncing).unwrap() {
                    Progress::Durable(_, there) => steps.lock().unwrap().push(Step::Done(there)),
                    Progress::Going(going) => begun.push(going),
                }
            }
        }
    }
    for syncing in begun {
        let (_, there) = log.wait_for(syncing).unwrap();
        steps.lock().unwrap().push(Step::Done(there));
    }
    states
}

#[test]
fn after_a_crash_while_syncs_are_on_their_way_the_state_is_that_of_one_of_them_or_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    drop(Log::create(&path, &OpenOptions::default()).unwrap());
    let empty = fs::read(&path).unwrap();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let states = begun_workload(&path, &steps);
    let steps = steps.lock().unwrap();
    assert_eq!(done(&steps), states.len() - 1, "all are durable in the end");
    let crashed = folder.path().join("b.img");
    let (mut there, mut ahead) = (0, 0);
    for at in 0..=steps.len() {
        let done = done(&steps[..at]);
        for seed in 0..4u64 {
            let image = crash(&empty, &steps[..at], seed * 0x9e37_79b9 + at as u64, seed == 0);
            fs::write(&crashed, image).unwrap();
            let place = format!("crash at step {at} of {}, seed {seed}", steps.len());
            let found = sound_state(&crashed, &place);
            if found == states[done] {
                there += 1;
            } else {
                assert!(states[done..].contains(&found), "{place}: no state from {done} on");
                ahead += 1;
            }
        }
    }
    assert!(there > 20 && ahead > 10, "{there} {ahead}");
}

/// Writes to a file as long as there is room for that.
struct Scarce {
    device: FileDevice,
    writes_left: Arc<AtomicUsize>,
}

impl Device for Scarce {
    fn len_bytes(&self) -> io::Result<u64> {
        self.device.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.device.read_at(offset, buf)
    }
}

impl DeviceMut for Scarce {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let left = self.writes_left.load(Ordering::Relaxed);
        self.writes_left.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 0 { Err(io::ErrorKind::StorageFull.into()) } else { self.device.write_at(offset, bytes) }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.device.sync()
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.device.discard(offset, len)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.device.cut(len)
    }
}

/// At whichever write there is no more room for: what is changed and synced after it is there.
#[test]
fn a_compaction_that_fails_spoils_no_later_commit() {
    let time = Mtime::default();
    let mut failed = 0;
    for writes in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.img");
        drop(Log::create(&path, &OpenOptions::default()).unwrap());
        let file = Arc::new(File::options().read(true).write(true).open(&path).unwrap());
        let writes_left = Arc::new(AtomicUsize::new(usize::MAX));
        let device =
            Scarce { device: FileDevice::from(Arc::clone(&file)), writes_left: Arc::clone(&writes_left) };
        let mut log = Log::on(file, Box::new(device), &OpenOptions::default()).unwrap();
        log.put(b"a", time, Contents::from(bytes(100_000, 1)), b"").unwrap();
        // What no packed image has, and a segment of its own after packing.
        let posix = Posix { mode: 0o600, uid: 1, gid: 1, ctime: None, atime: None };
        log.set_posix(b"a", Some(posix)).unwrap();
        log.sync().unwrap();
        writes_left.store(writes, Ordering::Relaxed);
        let compacted = log.compact(&[]);
        writes_left.store(usize::MAX, Ordering::Relaxed);
        if compacted.is_ok() {
            break;
        }
        failed += 1;
        for name in [b"b", b"c"] {
            let put = log.put(name, time, Contents::from(bytes(5000, 2)), b"");
            if matches!(put, Err(LogError::Lost)) || matches!(log.sync(), Err(LogError::Lost)) {
                // It is not known which superblock is on the disk: who opens it again finds out.
                drop(log);
                log = Log::open(&path, &OpenOptions::default()).unwrap();
                log.put(name, time, Contents::from(bytes(5000, 2)), b"").unwrap();
                log.sync().unwrap();
            }
        }
        log.put(b"d", time, Contents::from(bytes(5000, 2)), b"").unwrap();
        log.sync().unwrap();
        drop(log);
        let there = Generation::open(&path, &OpenOptions::default()).unwrap();
        let names: Vec<_> =
            there.entries().filter(|entry| entry.is_file()).map(|entry| entry.path().to_vec()).collect();
        assert_eq!(names, [b"a", b"b", b"c", b"d"], "after {writes} writes");
        assert_eq!(there.find("a").unwrap().posix(), Some(&posix));
        assert!(there.check(|_| {}).problems.is_empty());
    }
    assert!(failed >= 3, "{failed}");
}

/// Each flipped bit is an error when the log is opened or checked, or changes nothing.
#[test]
fn a_flipped_bit_is_found_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let steps = Arc::new(Mutex::new(Vec::new()));
    drop(Log::create(&path, &OpenOptions::default()).unwrap());
    let last = workload(&path, &steps).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let damaged = folder.path().join("b.img");
    let (mut found, mut harmless) = (0, 0);
    let mut seed = 1u64;
    for _ in 0..600 {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let mut bytes = whole.clone();
        // The superblocks as often as all the rest.
        let at =
            if seed >> 63 == 0 { (seed >> 20) as usize % 200 } else { (seed >> 20) as usize % bytes.len() };
        let at = if seed >> 62 == 0 { at + 65536 } else { at };
        bytes[at % whole.len()] ^= 1 << (seed >> 13 & 7);
        fs::write(&damaged, bytes).unwrap();
        match Generation::open(&damaged, &OpenOptions::default()) {
            Err(_) => found += 1,
            Ok(generation) if !generation.check(|_| {}).problems.is_empty() => found += 1,
            Ok(generation) => {
                // The other superblock has the generation before, if its segments are there still.
                let state = state(&generation);
                assert!(state == last || generation.number() % 2 == 1, "a flip at {at} changed the tree");
                harmless += 1;
            }
        }
    }
    assert!(found > 50 && harmless > 50, "{found} {harmless}");
}
