//! Short workloads of every kind, in the manner of CrashMonkey's (`workloads/bounded.txt`): each crashes at
//! each point, with what was written since the last flush there, not there, or there in part and in any
//! order.

mod common;

use common::crash::{Recorder, State, Step, crash, done, sound_state, state};
use common::script::{Op, apply, parse};
use fsstack::OpenOptions;
use fsstack::device::FileDevice;
use fsstack::log::Log;
use std::collections::HashSet;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const WORKLOADS: &str = include_str!("workloads/bounded.txt");

/// Of each point: all is there, and then so often something else.
const SEEDS: u64 = 3;

struct Lab {
    folder: tempfile::TempDir,
    /// What each workload begins with.
    start: Vec<u8>,
}

/// What was looked at.
#[derive(Default)]
struct Seen {
    workloads: u64,
    /// Images, each once.
    images: u64,
    before: u64,
    after: u64,
}

fn lines(kind: &str) -> Vec<&'static str> {
    WORKLOADS.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')).collect()
}

impl Lab {
    fn new() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("start.img");
        let mut log = Log::create(&path, &OpenOptions::default()).unwrap();
        for (salt, op) in parse(lines("start")[0]).iter().enumerate() {
            apply(&mut log, op, 200 + salt as u8).unwrap();
        }
        drop(log);
        let start = fs::read(&path).unwrap();
        Lab { folder, start }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The state after each commit, the first one that of the start, and what was done to the device; `None`
    /// if one of the changes cannot be.
    fn run(&self, ops: &[Op]) -> Option<(Vec<State>, Vec<Step>)> {
        let path = self.path("run.img");
        fs::write(&path, &self.start).unwrap();
        let steps = Arc::new(Mutex::new(Vec::new()));
        let file = Arc::new(File::options().read(true).write(true).open(&path).unwrap());
        let device = Recorder::new(FileDevice::from(Arc::clone(&file)), &steps);
        let mut log = Log::on(file, Box::new(device), &OpenOptions::default()).unwrap();
        let mut states = vec![state(&log.snapshot())];
        for (salt, op) in ops.iter().enumerate() {
            if apply(&mut log, op, salt as u8).ok()? {
                states.push(state(&log.snapshot()));
                steps.lock().unwrap().push(Step::Done(states.len() - 1));
            }
        }
        drop(log);
        let steps = std::mem::take(&mut *steps.lock().unwrap());
        Some((states, steps))
    }

    /// Crashes a workload everywhere.
    fn crash_everywhere(&self, name: &str, ops: &[Op], seen: &mut Seen) {
        let Some((states, steps)) = self.run(ops) else { return };
        seen.workloads += 1;
        let crashed = self.path("crashed.img");
        let mut known = HashSet::new();
        for at in 0..=steps.len() {
            let done = done(&steps[..at]);
            for seed in 0..=SEEDS {
                let image = crash(&self.start, &steps[..at], (seed << 32) + at as u64, seed == 0);
                let mut hash = DefaultHasher::new();
                (done, &image).hash(&mut hash);
                if !known.insert(hash.finish()) {
                    continue;
                }
                seen.images += 1;
                fs::write(&crashed, &image).unwrap();
                let place = format!("{name}, crash at step {at} of {}, seed {seed}", steps.len());
                let found = sound_state(&crashed, &place);
                if found == states[done] {
                    seen.before += 1;
                } else {
                    let next = states.get(done + 1);
                    assert!(
                        Some(&found) == next,
                        "{place}: the state is neither that of commit {done} nor the next"
                    );
                    seen.after += 1;
                }
            }
        }
    }

    /// All sequences of `len` of the file's changes, with and without a `sync` between each two and one at
    /// the end.
    fn all_of_length(&self, len: u32, seen: &mut Seen) {
        self.each_of_length(len, (0, 1), seen);
    }

    /// Each `step`th of them, from one on. The changes that came at each place.
    fn each_of_length(
        &self,
        len: u32,
        (first, step): (usize, usize),
        seen: &mut Seen,
    ) -> Vec<HashSet<usize>> {
        let alphabet: Vec<Op> = lines("op").into_iter().flat_map(parse).collect();
        let mut came = vec![HashSet::new(); len as usize];
        for number in (first..alphabet.len().pow(len)).step_by(step) {
            let mut rest = number;
            let chosen: Vec<&Op> = (came.iter_mut())
                .map(|came| {
                    let op = rest % alphabet.len();
                    rest /= alphabet.len();
                    came.insert(op);
                    &alphabet[op]
                })
                .collect();
            for syncs in 0..1_u32 << (len - 1) {
                let mut ops = Vec::new();
                for (i, &op) in chosen.iter().enumerate() {
                    ops.push(op.clone());
                    if i as u32 + 1 == len || syncs >> i & 1 == 1 {
                        ops.push(Op::Sync);
                    }
                }
                self.crash_everywhere(&format!("{ops:?}"), &ops, seen);
            }
        }
        came
    }
}

#[test]
fn what_others_lost_data_by_loses_none() {
    let lab = Lab::new();
    let mut seen = Seen::default();
    let named = lines("named");
    for line in &named {
        let (name, ops) = line.split_once(':').unwrap();
        lab.crash_everywhere(name, &parse(ops), &mut seen);
    }
    assert_eq!(seen.workloads, named.len() as u64, "each of them can be done");
    assert!(seen.before > 50 && seen.after > 10, "{} {}", seen.before, seen.after);
}

#[test]
fn every_change_is_there_or_not() {
    let lab = Lab::new();
    let mut seen = Seen::default();
    lab.all_of_length(1, &mut seen);
    assert_eq!(seen.workloads, lines("op").len() as u64, "each of them can be done");
    assert!(seen.before > 50 && seen.after > 10, "{} {}", seen.before, seen.after);
}

/// A sample of sequences of three, in which each change stands in each place.
#[test]
fn some_three_changes_are_there_or_not() {
    let lab = Lab::new();
    let mut seen = Seen::default();
    // 26 of the sequences of 25 changes, and with this step each change comes at each place.
    let came = lab.each_of_length(3, (0, 601), &mut seen);
    println!("{} workloads, {} images", seen.workloads, seen.images);
    let all: HashSet<usize> = (0..lines("op").len()).collect();
    assert!(came.iter().all(|came| *came == all), "take another step: {came:?}");
    assert!(seen.workloads > 20 && seen.before > 50 && seen.after > 50, "{} {}", seen.before, seen.after);
}

#[test]
#[ignore = "some hundred workloads: minutes"]
fn every_two_changes_are_there_or_not() {
    let lab = Lab::new();
    let mut seen = Seen::default();
    lab.all_of_length(2, &mut seen);
    println!(
        "{} workloads, {} images: {} before, {} after",
        seen.workloads, seen.images, seen.before, seen.after
    );
}

/// All of them, or of `WORKLOADS_PART=3/40` the third of forty parts.
#[test]
#[ignore = "tens of thousands of workloads: hours"]
fn every_three_changes_are_there_or_not() {
    let lab = Lab::new();
    let mut seen = Seen::default();
    let part = std::env::var("WORKLOADS_PART").unwrap_or_else(|_| "1/1".to_owned());
    let (part, parts) = part.split_once('/').unwrap();
    let (part, parts): (usize, usize) = (part.parse().unwrap(), parts.parse().unwrap());
    assert!((1..=parts).contains(&part), "which part of how many: 1/4 to 4/4");
    lab.each_of_length(3, (part - 1, parts), &mut seen);
    println!(
        "{} workloads, {} images: {} before, {} after",
        seen.workloads, seen.images, seen.before, seen.after
    );
}
