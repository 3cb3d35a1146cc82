//! Memory and files that a ring was told of once: read by their numbers, and let go of when nobody has them
//! any more.

use fsstack::cache::policy::PolicyName;
use fsstack::cache::reads::{Block, Damage, ReadOrder, ReadQueue, UringQueue};
use fsstack::cache::{BlockReader, BlockSource, FileCache, Wanted};
use fsstack::device::FileDevice;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

const BLOCK: usize = 16 << 10;
/// Of three parts that are registered by themselves, the last one shorter.
const BLOCKS: usize = 300;

/// A file that is read past the kernel's cache; its last block is a short one.
#[derive(Debug)]
struct Direct {
    file: File,
    direct: File,
    len: usize,
}

impl Direct {
    /// `None`, said in a line, if its file system has no such reads.
    fn open(path: &Path) -> Option<Arc<Direct>> {
        let file = File::open(path).unwrap();
        let len = file.metadata().unwrap().len() as usize;
        match FileDevice::new(file.try_clone().unwrap()).open_direct() {
            Ok(direct) => Some(Arc::new(Direct { file, direct, len })),
            Err(error) => {
                eprintln!("skipped: no O_DIRECT at {}: {error}", path.display());
                None
            }
        }
    }
}

impl BlockSource for Direct {
    fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn direct_file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.direct.as_fd())
    }

    fn is_lasting(&self) -> bool {
        true
    }

    fn place(&self, index: u64) -> io::Result<(u64, usize)> {
        let start = index as usize * BLOCK;
        Ok((start as u64, BLOCK.min(self.len - start)))
    }

    fn check(&self, _index: u64, _bytes: &[u8]) -> io::Result<Vec<Damage>> {
        Ok(Vec::new())
    }
}

/// A ring that the test looks at.
#[derive(Clone, Debug)]
struct Watched(Arc<Mutex<UringQueue>>);

impl ReadQueue for Watched {
    fn submit(&mut self, order: ReadOrder) {
        self.0.lock().unwrap().submit(order);
    }

    fn turn(&mut self) {
        self.0.lock().unwrap().turn();
    }

    fn has_work(&self) -> bool {
        self.0.lock().unwrap().has_work()
    }
}

struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn what_is_registered_is_read_by_number_and_let_go() {
    let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    let Ok(queue) = UringQueue::new(bell.as_fd()) else {
        eprintln!("skipped: there is no io_uring here");
        return;
    };
    let queue = Watched(Arc::new(Mutex::new(queue)));
    let reader = BlockReader::queued(Box::new(queue.clone()), |_| Waker::from(Arc::new(Nobody)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");
    let len = BLOCKS * BLOCK - 5000;
    let bytes: Vec<u8> = (0..len as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 23) as u8).collect();
    fs::write(&path, &bytes).unwrap();
    // Each time another file, and another cache.
    for round in 1..=3 {
        let Some(direct) = Direct::open(&path) else { return };
        // Goes with the opening, of which the ring must keep none.
        flock(&direct.direct, FlockOperation::LockExclusive).unwrap();
        let source: Arc<dyn BlockSource> = direct;
        let cache = Arc::new(FileCache::aligned((BLOCKS * BLOCK) as u64, PolicyName::default()).unwrap());
        let file = cache.number();
        let mut reads = Vec::new();
        for index in 0..BLOCKS as u64 {
            reader.begin(0, Vec::new());
            let wanted =
                Wanted { file, index, group_end: index + 1, owner: 0, owner_bytes: len as u64, owner_end: 0 };
            match cache.read(&wanted, &source, &reader) {
                Block::Coming(read) => reads.push(read),
                Block::Here(outcome) => panic!("{outcome:?}"),
            }
            drop(reader.end());
        }
        for (read, bytes) in reads.iter().zip(bytes.chunks(BLOCK)) {
            let outcome = loop {
                match read.outcome() {
                    Some(outcome) => break outcome,
                    None => reader.turn(),
                }
            };
            let block = outcome.slice(0..BLOCK).unwrap();
            assert!(block.bytes().starts_with(bytes), "other bytes");
            assert!(block.bytes()[bytes.len()..].iter().all(|byte| *byte == 0), "bytes of another block");
        }
        match queue.0.lock().unwrap().registered_reads() {
            0 => eprintln!("nothing can be registered here"),
            registered => assert_eq!(registered, (round * BLOCKS) as u64),
        }
        drop((reads, source, cache));
        reader.turn();
        let again = File::open(&path).unwrap();
        // The kernel closes it in its own time.
        let is_free = (0..3000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            flock(&again, FlockOperation::NonBlockingLockExclusive).is_ok()
        });
        assert!(is_free, "the ring has the file open still");
    }
}
