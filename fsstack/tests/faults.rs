//! A device that does everything wrong: errors, short, torn, lost and misdirected readings, done late and in
//! any order. With checksums compared, whoever reads gets the bytes that were packed, or an error, and no
//! fault outlives the reading that had it. (What writes suffer is in `log_crash.rs` and `log_workloads.rs`.)

mod common;

use common::{FileSpec, Tree, build};
use fsstack::cache::policy::PolicyName;
use fsstack::cache::reads::{ReadOrder, ReadQueue};
use fsstack::cache::{BlockPart, BlockReader, FileCache};
use fsstack::fs::Access;
use fsstack::{BuildOptions, Image, Inode, OpenError, OpenOptions};
use proptest::prelude::*;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

const PAGE: usize = 4096;

/// How often each happened.
#[derive(Clone, Copy, Debug, Default)]
struct Happened {
    errors: u32,
    short: u32,
    torn: u32,
    lost: u32,
    misdirected: u32,
    reordered: u32,
    delayed: u32,
    right: u32,
}

/// The device: what it has, what it was asked for and how many turns that takes still.
#[derive(Debug)]
struct Faulty {
    bytes: Arc<[u8]>,
    orders: Vec<(u32, ReadOrder)>,
    random: fastrand::Rng,
    happened: Arc<Mutex<Happened>>,
}

impl Faulty {
    /// Does a part of an order, somehow. Gives what is left of it.
    fn read(&mut self, mut order: ReadOrder) -> Option<ReadOrder> {
        let mut happened = self.happened.lock().unwrap();
        let (offset, room) = order.rest();
        let right = &self.bytes[offset as usize..];
        let len = room.len().min(right.len());
        let (room, right) = (&mut room[..len], &right[..len]);
        let done = match self.random.u8(0..16) {
            0 => {
                happened.errors += 1;
                let code = [libc::EIO, libc::EINTR, libc::ENXIO][self.random.usize(0..3)];
                Err(io::Error::from_raw_os_error(code))
            }
            1 | 2 => {
                happened.short += 1;
                let part = self.random.usize(1..=len);
                room[..part].copy_from_slice(&right[..part]);
                Ok(part)
            }
            3 | 4 => {
                happened.torn += 1;
                // Sectors of it; the others hold what was there before.
                for (room, right) in room.chunks_mut(512).zip(right.chunks(512)) {
                    if self.random.bool() {
                        room.copy_from_slice(right);
                    }
                }
                Ok(len)
            }
            5 => {
                happened.lost += 1;
                Ok(len)
            }
            6 | 7 => {
                happened.misdirected += 1;
                let places = (self.bytes.len() - len) / PAGE;
                let from = PAGE * self.random.usize(0..=places);
                room.copy_from_slice(&self.bytes[from..from + len]);
                Ok(len)
            }
            _ => {
                happened.right += 1;
                room.copy_from_slice(right);
                Ok(len)
            }
        };
        order.advance(done)
    }
}

impl ReadQueue for Faulty {
    fn submit(&mut self, order: ReadOrder) {
        let turns = self.random.u32(0..4);
        self.happened.lock().unwrap().delayed += u32::from(turns > 0);
        self.orders.push((turns, order));
    }

    fn turn(&mut self) {
        let mut orders = std::mem::take(&mut self.orders);
        self.random.shuffle(&mut orders);
        self.happened.lock().unwrap().reordered += u32::from(orders.len() > 1);
        for (turns, order) in orders {
            let left = match turns.checked_sub(1) {
                Some(turns) => Some((turns, order)),
                None => self.read(order).map(|order| (self.random.u32(0..2), order)),
            };
            self.orders.extend(left);
        }
    }

    fn has_work(&self) -> bool {
        !self.orders.is_empty()
    }
}

struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}
}

fn tree() -> Tree {
    let spec = |seed: usize, len: usize| FileSpec {
        content: (0..len).map(|i| ((i * 31) ^ (i >> 7) ^ (seed * 97)) as u8).collect(),
        app: vec![seed as u8; 100],
        mtime: Default::default(),
    };
    let sizes = [0, 1, 700, 5_000, 16_384, 33_333, 100_000, 200_000];
    let name = |i: usize| format!("d{}/{i}", i % 3).into_bytes();
    sizes.iter().enumerate().map(|(i, &len)| (name(i), spec(i, len))).collect()
}

/// Somebody who reads a file from front to back, a part at a time.
struct Client<'a> {
    inode: Inode<'a>,
    content: &'a [u8],
    at: usize,
    held: Vec<fsstack::cache::reads::BlockRead>,
    failures: u32,
}

impl Client<'_> {
    /// Asks once. Whether all is read.
    fn ask(&mut self, key: u32, reader: &BlockReader) -> bool {
        if self.at == self.content.len() {
            return true;
        }
        reader.begin(key, std::mem::take(&mut self.held));
        let asked = self.inode.fetch_by(self.at as u64, usize::MAX, reader);
        self.held = reader.end();
        match asked {
            Ok(BlockPart::Here(part)) => {
                assert!(!part.is_empty());
                let right = &self.content[self.at..][..part.len()];
                assert!(part.bytes() == right, "wrong bytes at {} of {:?}", self.at, self.inode.path());
                self.at += part.len();
                self.held.clear();
            }
            Ok(BlockPart::Coming(_)) => {}
            Err(_) => {
                self.failures += 1;
                assert!(self.failures < 2000, "it never gets on");
                self.held.clear();
            }
        }
        false
    }
}

/// Reads all files at once, with a cache of so many blocks, by a device of that seed.
fn read_all(seed: u64, blocks: u64) -> Option<Happened> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let tree = tree();
    let bytes: Arc<[u8]> = build(&BuildOptions::default(), &tree).into();
    fs::write(&path, &bytes).unwrap();
    // Past the kernel's cache, so that all goes by the device.
    let cache = Arc::new(FileCache::aligned(blocks << 14, PolicyName::default()).unwrap());
    let options = OpenOptions {
        access: Access::Blocks,
        verify: true,
        direct: true,
        cache: Some(cache),
        ..OpenOptions::default()
    };
    let image = match Image::open(&path, &options) {
        Ok(image) => image,
        Err(OpenError::Io(error)) => {
            eprintln!("skipped: no O_DIRECT in {}: {error}", folder.path().display());
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let happened = Arc::new(Mutex::new(Happened::default()));
    let random = fastrand::Rng::with_seed(seed);
    let device = Faulty { bytes, orders: Vec::new(), random, happened: Arc::clone(&happened) };
    let reader = BlockReader::queued(Box::new(device), |_| Waker::from(Arc::new(Nobody)));
    for _ in 0..3 {
        let mut clients: Vec<Client<'_>> = tree
            .iter()
            .map(|(path, file)| Client {
                inode: image.lookup(&path[..]).unwrap(),
                content: &file.content,
                at: 0,
                held: Vec::new(),
                failures: 0,
            })
            .collect();
        let mut turns = 0;
        while (0..).zip(&mut clients).fold(false, |any, (key, client)| any | !client.ask(key, &reader)) {
            reader.turn();
            turns += 1;
            assert!(turns < 100_000, "somebody waits for ever");
        }
    }
    let happened = *happened.lock().unwrap();
    Some(happened)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_device_does_no_wrong_byte_is_read(seed: u64, blocks in 1u64..40) {
        read_all(seed, blocks);
    }
}

/// The test above would not notice a device that does nothing wrong.
#[test]
fn each_fault_happens() {
    let Some(happened) = read_all(7, 4) else { return };
    let Happened { errors, short, torn, lost, misdirected, reordered, delayed, right } = happened;
    let all = [errors, short, torn, lost, misdirected, reordered, delayed, right];
    assert!(all.iter().all(|&times| times > 0), "{happened:?}");
}
