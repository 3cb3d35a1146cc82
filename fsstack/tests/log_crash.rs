//! A crash at any write leaves the state before a commit or after it, and nothing that is damaged is taken for sound.

use fsstack::OpenOptions;
use fsstack::device::{Device, DeviceMut, FileDevice};
use fsstack::image::build::Mtime;
use fsstack::log::{Contents, Generation, Log};
use runtime::buffer::{Shared, Slice};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What happened to a device.
#[derive(Clone, Debug)]
enum Step {
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    Discard {
        offset: u64,
        len: u64,
    },
    Cut(u64),
    Sync,
    /// So many commits were reported as done.
    Done(usize),
}

/// Writes to a file and remembers what.
struct Recorder {
    device: FileDevice,
    steps: Arc<Mutex<Vec<Step>>>,
}

impl Recorder {
    fn note(&self, step: Step) {
        self.steps.lock().unwrap().push(step);
    }
}

impl Device for Recorder {
    fn len_bytes(&self) -> io::Result<u64> {
        self.device.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.device.read_at(offset, buf)
    }
}

impl DeviceMut for Recorder {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.note(Step::Write { offset, bytes: bytes.into() });
        self.device.write_at(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.note(Step::Sync);
        Ok(())
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.note(Step::Discard { offset, len });
        self.device.discard(offset, len)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.note(Step::Cut(len));
        self.device.cut(len)
    }
}

type State = Vec<(Vec<u8>, Option<Vec<u8>>)>;

fn state(generation: &Generation) -> State {
    let entries = generation.entries().map(|entry| {
        let contents = entry.is_file().then(|| {
            let mut bytes = Vec::new();
            while (bytes.len() as u64) < entry.size() {
                bytes.extend_from_slice(entry.fetch(bytes.len() as u64, usize::MAX).unwrap().bytes());
            }
            bytes
        });
        (entry.path().to_vec(), contents)
    });
    entries.collect()
}

fn bytes(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(7).wrapping_add(salt)).collect()
}

/// Commits of every kind; gives the state of each, the first one that of the new log.
fn workload(path: &Path, steps: &Arc<Mutex<Vec<Step>>>) -> Vec<State> {
    let file = Arc::new(File::options().read(true).write(true).open(path).unwrap());
    let device = Recorder { device: FileDevice::from(Arc::clone(&file)), steps: Arc::clone(steps) };
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

/// The file after a crash behind the first `at` steps: up to the last sync all is there; of the writes behind it each sector
/// of 512 bytes, as `seed` has it, or with `prefix` all.
fn crash(empty: &[u8], steps: &[Step], mut seed: u64, prefix: bool) -> Vec<u8> {
    let synced = steps.iter().rposition(|step| matches!(step, Step::Sync)).unwrap_or(0);
    let mut file = empty.to_vec();
    let mut there = |i: usize| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        prefix || i < synced || seed >> 63 == 1
    };
    for (i, step) in steps.iter().enumerate() {
        match step {
            Step::Write { offset, bytes } => {
                for (sector, chunk) in bytes.chunks(512).enumerate() {
                    let from = *offset as usize + 512 * sector;
                    if there(i) {
                        file.resize(file.len().max(from + chunk.len()), 0);
                        file[from..from + chunk.len()].copy_from_slice(chunk);
                    }
                }
            }
            Step::Discard { offset, len } if there(i) => {
                let range = (*offset as usize).min(file.len())..((offset + len) as usize).min(file.len());
                file[range].fill(0);
            }
            Step::Cut(len) if there(i) => file.truncate(*len as usize),
            _ => {}
        }
    }
    file
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
        let done = steps[..at].iter().rev().find_map(|step| match step {
            Step::Done(done) => Some(*done),
            _ => None,
        });
        let done = done.unwrap_or(0);
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
