//! What a device may hold after a crash: every write, flush and cut is remembered, and any state between can
//! be made of them.

use fsstack::OpenOptions;
use fsstack::device::{Device, DeviceMut, FileDevice};
use fsstack::log::{Generation, Posix, Special};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What happened to a device.
#[derive(Clone, Debug)]
pub enum Step {
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
pub struct Recorder {
    device: FileDevice,
    steps: Arc<Mutex<Vec<Step>>>,
}

impl Recorder {
    pub fn new(device: FileDevice, steps: &Arc<Mutex<Vec<Step>>>) -> Recorder {
        Recorder { device, steps: Arc::clone(steps) }
    }

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

    fn again(&self) -> Option<Box<dyn DeviceMut + Send>> {
        let device = FileDevice::from(self.device.whole_file()?);
        Some(Box::new(Recorder::new(device, &self.steps)))
    }
}

/// Each path; of a file with its contents, of a link with its target, and how many names it has; its mode and
/// owner.
pub type State = Vec<(Vec<u8>, Option<(Vec<u8>, usize)>, Option<Posix>)>;

pub fn state(generation: &Generation) -> State {
    let entries = generation.entries().map(|entry| {
        let contents = (!entry.is_directory()).then(|| {
            let mut bytes = match entry.special() {
                Some(Special::Symlink(target)) => target.to_vec(),
                _ => Vec::new(),
            };
            while (bytes.len() as u64) < entry.size() {
                bytes.extend_from_slice(entry.fetch(bytes.len() as u64, usize::MAX).unwrap().bytes());
            }
            (bytes, entry.name_count())
        });
        (entry.path().to_vec(), contents, entry.posix().copied())
    });
    entries.collect()
}

pub fn bytes(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(7).wrapping_add(salt)).collect()
}

/// The file after a crash behind `steps`: up to the last sync all is there; of the writes behind it each
/// sector of 512 bytes, as `seed` has it, or with `prefix` all.
pub fn crash(before: &[u8], steps: &[Step], mut seed: u64, prefix: bool) -> Vec<u8> {
    let synced = steps.iter().rposition(|step| matches!(step, Step::Sync)).unwrap_or(0);
    let mut file = before.to_vec();
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

/// How many commits are done behind `steps`, of those that were reported.
pub fn done(steps: &[Step]) -> usize {
    let done = steps.iter().rev().find_map(|step| match step {
        Step::Done(done) => Some(*done),
        _ => None,
    });
    done.unwrap_or(0)
}

/// The state of an image that is sound to its last byte.
pub fn sound_state(image: &Path, place: &str) -> State {
    let generation = Generation::open(image, &OpenOptions::default());
    let generation = generation.unwrap_or_else(|error| panic!("{place}: {error}"));
    let problems = generation.check(|_| {}).problems;
    assert!(problems.is_empty(), "{place}: {problems:?}");
    state(&generation)
}
