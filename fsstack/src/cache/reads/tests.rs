//! Reads in place and by queues: each block once, each error to who waited for it, whatever the device does.

mod zeros;

use super::*;
use crate::cache::policy::PolicyName;
use crate::cache::{FileCache, FileNumber, Stats, Wanted};
use proptest::prelude::*;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

const BLOCK: usize = 16 << 10;
/// A block for a file of one, and what is wanted together with it up to another.
fn wanted(file: FileNumber, index: u64, group_end: u64) -> Wanted {
    Wanted { file, index, group_end, owner: 0, owner_bytes: BLOCK as u64, owner_end: 0 }
}

/// A block of 100 bytes, which `read` gives.
struct Made<F>(F, File);

impl<F> fmt::Debug for Made<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Made")
    }
}

impl<F: Fn(&mut [u8]) -> io::Result<usize> + Send + Sync> BlockSource for Made<F> {
    fn file(&self) -> BorrowedFd<'_> {
        self.1.as_fd()
    }

    fn place(&self, _index: u64) -> io::Result<(u64, usize)> {
        Ok((0, 100))
    }

    fn check(&self, _index: u64, _bytes: &[u8]) -> io::Result<Vec<Damage>> {
        Ok(Vec::new())
    }

    fn read_at(&self, _offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (self.0)(buffer)
    }
}

fn made(read: impl Fn(&mut [u8]) -> io::Result<usize> + Send + Sync + 'static) -> Arc<dyn BlockSource> {
    Arc::new(Made(read, File::open("/dev/null").unwrap()))
}

fn filled_with(byte: u8) -> Arc<dyn BlockSource> {
    made(move |buffer| {
        buffer.fill(byte);
        Ok(buffer.len())
    })
}

fn none() -> Arc<dyn BlockSource> {
    made(|_| panic!("it is there"))
}

fn here(block: Block) -> io::Result<Slice> {
    block.part(0..BLOCK)?.here()
}

fn read_here(
    cache: &Arc<FileCache>,
    of: (FileNumber, u64),
    source: &Arc<dyn BlockSource>,
) -> io::Result<Slice> {
    here(cache.read(&wanted(of.0, of.1, of.1 + 1), source, &BlockReader::in_place()))
}

fn cache(blocks: u64) -> (Arc<FileCache>, FileNumber) {
    let cache = Arc::new(FileCache::new(blocks * BLOCK as u64));
    let number = cache.number();
    (cache, number)
}

#[test]
fn a_block_is_read_once_and_belongs_to_its_file() {
    let (cache, a) = cache(4);
    let b = cache.number();
    assert_eq!(
        read_here(&cache, (a, 0), &filled_with(1)).unwrap().bytes()[..101],
        [&[1; 100][..], &[0]].concat()
    );
    assert_eq!(read_here(&cache, (b, 0), &filled_with(2)).unwrap().bytes()[0], 2);
    assert_eq!(read_here(&cache, (a, 1), &filled_with(3)).unwrap().bytes()[0], 3);
    for (file, index, byte) in [(a, 0, 1), (b, 0, 2), (a, 1, 3)] {
        assert_eq!(read_here(&cache, (file, index), &none()).unwrap().bytes()[0], byte);
    }
    let Stats { hits, misses, .. } = cache.stats();
    assert_eq!((hits, misses), (3, 3));
}

#[test]
fn nothing_of_another_block_is_behind_one() {
    let folder = tempfile::tempdir().unwrap();
    let (source, _) = on_disk(folder.path(), &[0xee; BLOCK + 100], false);
    let (cache, file) = cache(0);
    assert!(read_here(&cache, (file, 0), &source).unwrap().bytes().iter().all(|byte| *byte == 0xee));
    let next = read_here(&cache, (file, 1), &source).unwrap();
    assert!(next.bytes()[..100] == [0xee; 100] && next.bytes()[100..].iter().all(|byte| *byte == 0));
}

#[test]
fn what_cannot_be_read_is_asked_for_again() {
    let (cache, file) = cache(0);
    let fails = made(|_| Err(io::Error::from_raw_os_error(5)));
    assert_eq!(read_here(&cache, (file, 0), &fails).unwrap_err().raw_os_error(), Some(5));
    assert!(catch_unwind(AssertUnwindSafe(|| read_here(&cache, (file, 0), &none()))).is_err());
    assert_eq!(read_here(&cache, (file, 0), &filled_with(5)).unwrap().bytes()[0], 5);
    let short = made(|_| Ok(0));
    assert_eq!(read_here(&cache, (file, 1), &short).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn held_blocks_stay_and_others_are_read_beside_the_cache() {
    let (cache, file) = cache(2);
    let held: Vec<Slice> =
        (0..5).map(|i| read_here(&cache, (file, i), &filled_with(i as u8)).unwrap()).collect();
    assert!(held.iter().zip(0u8..).all(|(block, i)| block.bytes()[..100] == [i; 100]));
    assert_eq!(cache.stats().refusals, 3);
    drop(held);
    assert_eq!(read_here(&cache, (file, 4), &filled_with(9)).unwrap().bytes()[0], 9, "it was not kept");
}

#[test]
fn who_looks_for_what_is_being_read_gets_the_same() {
    let (cache, file) = cache(64);
    let (began, wait_began) = mpsc::channel();
    let began = Mutex::new(began);
    let slow = made(move |buffer| {
        began.lock().unwrap().send(()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        buffer.fill(7);
        Ok(buffer.len())
    });
    let first_bytes: Vec<_> = std::thread::scope(|scope| {
        let first = scope.spawn(|| read_here(&cache, (file, 0), &slow).unwrap());
        wait_began.recv().unwrap();
        let others: Vec<_> =
            (0..3).map(|_| scope.spawn(|| read_here(&cache, (file, 0), &none()).unwrap())).collect();
        others.into_iter().chain([first]).map(|thread| thread.join().unwrap()).collect()
    });
    let address = first_bytes[0].bytes().as_ptr();
    assert!(first_bytes.iter().all(|slice| slice.bytes().as_ptr() == address));
    assert_eq!(cache.stats().misses, 1);
}

/// A file of bytes; no part of it is in the kernel's cache if it is read directly.
#[derive(Debug)]
struct OnDisk {
    file: File,
    direct: Option<File>,
    len: u64,
    lasting: Lasting,
}

impl BlockSource for OnDisk {
    fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn direct_file(&self) -> Option<BorrowedFd<'_>> {
        self.direct.as_ref().map(AsFd::as_fd)
    }

    fn lasting(&self) -> Option<&Lasting> {
        Some(&self.lasting)
    }

    fn place(&self, index: u64) -> io::Result<(u64, usize)> {
        let start = index * BLOCK as u64;
        let rest = self.len.checked_sub(start).filter(|&rest| rest > 0);
        let rest = rest.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((start, rest.min(BLOCK as u64) as usize))
    }

    fn check(&self, _index: u64, _bytes: &[u8]) -> io::Result<Vec<Damage>> {
        Ok(Vec::new())
    }
}

fn on_disk(folder: &std::path::Path, bytes: &[u8], direct: bool) -> (Arc<dyn BlockSource>, bool) {
    let path = folder.join("blocks");
    std::fs::write(&path, bytes).unwrap();
    let device = crate::device::FileDevice::new(File::open(&path).unwrap());
    let direct = if direct { device.open_direct().ok() } else { None };
    let is_direct = direct.is_some();
    let file = File::open(&path).unwrap();
    let (len, lasting) = (bytes.len() as u64, Lasting::default());
    (Arc::new(OnDisk { file, direct, len, lasting }), is_direct)
}

/// What was ordered, for a test to do as it likes.
#[derive(Clone, Debug, Default)]
struct Desk(Arc<Mutex<Vec<ReadOrder>>>);

impl ReadQueue for Desk {
    fn submit(&mut self, order: ReadOrder) {
        self.0.lock().unwrap().push(order);
    }

    fn turn(&mut self) {}

    fn has_work(&self) -> bool {
        false
    }
}

/// Counts the calls of each who is woken.
#[derive(Debug, Default)]
struct Woken([AtomicUsize; 4]);

struct Who(Arc<Woken>, u32);

impl std::task::Wake for Who {
    fn wake(self: Arc<Self>) {
        self.0.0[self.1 as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn counts(&self) -> [usize; 4] {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

fn reader(queue: Box<dyn ReadQueue + Send>, woken: &Arc<Woken>) -> BlockReader {
    let woken = Arc::clone(woken);
    BlockReader::queued(queue, move |key| Waker::from(Arc::new(Who(Arc::clone(&woken), key))))
}

/// What a device does with an order.
fn fill(order: ReadOrder, byte: u8) -> Option<ReadOrder> {
    let mut order = order;
    let (_, buffer) = order.rest();
    buffer.fill(byte);
    let len = buffer.len();
    order.advance(Ok(len))
}

/// Sources that no kernel has in memory.
fn absent() -> Arc<dyn BlockSource> {
    filled_with(0)
}

#[test]
fn all_who_wait_for_a_block_wait_for_one_reading() {
    let (cache, file) = cache(4);
    let (desk, woken) = (Desk::default(), Arc::new(Woken::default()));
    let reader = reader(Box::new(desk.clone()), &woken);
    let source = absent();
    let mut held = Vec::new();
    for key in 0..3 {
        reader.begin(key, Vec::new());
        assert!(matches!(cache.read(&wanted(file, 0, 1), &source, &reader), Block::Coming(_)));
        assert!(reader.is_blocked());
        held.push(reader.end());
    }
    let orders = std::mem::take(&mut *desk.0.lock().unwrap());
    assert_eq!((orders.len(), woken.counts()), (1, [0; 4]));
    orders.into_iter().for_each(|order| assert!(fill(order, 7).is_none()));
    assert_eq!(woken.counts(), [1, 1, 1, 0]);
    for (key, held) in (0..).zip(held) {
        reader.begin(key, held);
        let block = here(cache.read(&wanted(file, 0, 1), &source, &reader)).unwrap();
        assert!(block.bytes()[..100] == [7; 100] && !reader.is_blocked());
    }
    assert_eq!(cache.stats().misses, 1);
}

#[test]
fn an_error_is_told_to_who_waited_and_to_nobody_later() {
    let (cache, file) = cache(4);
    let (desk, woken) = (Desk::default(), Arc::new(Woken::default()));
    let reader = reader(Box::new(desk.clone()), &woken);
    let source = absent();
    let ask = |key, held| {
        reader.begin(key, held);
        let block = cache.read(&wanted(file, 0, 1), &source, &reader);
        (block, reader.end())
    };
    let ((_, first), (_, second)) = (ask(0, Vec::new()), ask(1, Vec::new()));
    let order = desk.0.lock().unwrap().pop().unwrap();
    assert!(order.advance(Err(io::Error::from_raw_os_error(5))).is_none());
    for held in [first, second] {
        let (block, _) = ask(0, held);
        assert_eq!(here(block).unwrap_err().raw_os_error(), Some(5));
    }
    let (block, held) = ask(2, Vec::new());
    assert!(matches!(block, Block::Coming(_)), "it is tried again");
    // Given up, it is an error, too.
    desk.0.lock().unwrap().clear();
    assert!(here(ask(2, held).0).is_err());
    assert_eq!(woken.counts(), [1, 1, 1, 0]);
}

/// Whatever was read for who asks stays, so a chain of blocks is gone through to its end in a cache of one
/// frame, which others use meanwhile.
#[test]
fn a_chain_of_blocks_comes_to_its_end() {
    let (cache, file) = cache(1);
    let (desk, woken) = (Desk::default(), Arc::new(Woken::default()));
    let reader = reader(Box::new(desk.clone()), &woken);
    let source = absent();
    let mut held = Vec::new();
    for turn in 0..=10 {
        reader.begin(0, std::mem::take(&mut held));
        let blocked = (0..10).find(|&i| here(cache.read(&wanted(file, i, i + 1), &source, &reader)).is_err());
        held = reader.end();
        assert_eq!(blocked, (turn < 10).then_some(turn), "one more each turn");
        read_here(&cache, (file, 99), &source).unwrap();
        while let Some(order) = desk.0.lock().unwrap().pop() {
            assert!(fill(order, 1).is_none());
        }
    }
}

/// A thread that waits must not wait for a queue that it would have to turn itself.
#[test]
fn who_waits_does_not_wait_for_a_queue() {
    let (cache, file) = cache(4);
    let desk = Desk::default();
    let reader = reader(Box::new(desk.clone()), &Arc::default());
    let source = filled_with(3);
    reader.begin(0, Vec::new());
    assert!(matches!(cache.read(&wanted(file, 0, 1), &source, &reader), Block::Coming(_)));
    assert_eq!(read_here(&cache, (file, 0), &source).unwrap().bytes()[0], 3);
    let order = desk.0.lock().unwrap().pop().unwrap();
    assert!(fill(order, 4).is_none());
    assert_eq!(read_here(&cache, (file, 0), &none()).unwrap().bytes()[0], 4);
}

#[test]
fn short_reads_go_on_where_they_ended() {
    let (cache, file) = cache(4);
    let desk = Desk::default();
    let reader = reader(Box::new(desk.clone()), &Arc::default());
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..BLOCK).map(|i| ((i * 7) >> 3) as u8).collect();
    let (source, is_direct) = on_disk(folder.path(), &bytes, true);
    if !is_direct {
        eprintln!("skipped: no O_DIRECT in {}", folder.path().display());
        return;
    }
    reader.begin(0, Vec::new());
    let _ = cache.read(&wanted(file, 0, 1), &source, &reader);
    let held = reader.end();
    let mut order = desk.0.lock().unwrap().pop();
    for n in [1, 4096, 5000, 3, 16384].into_iter().cycle() {
        let Some(mut rest) = order else { break };
        let (offset, buffer) = rest.rest();
        let n = n.min(buffer.len());
        buffer[..n].copy_from_slice(&bytes[offset as usize..][..n]);
        order = rest.advance(Ok(n));
    }
    reader.begin(0, held);
    assert!(here(cache.read(&wanted(file, 0, 1), &source, &reader)).unwrap().bytes() == bytes);
}

/// A file that has become shorter: its first block has no place any more, and who asks for the second
/// meanwhile hears of it.
#[derive(Debug)]
struct Shrunk {
    file: File,
    cache: Arc<FileCache>,
    number: FileNumber,
    woken: Arc<Woken>,
    /// What the other holds.
    held: Mutex<Vec<BlockRead>>,
}

impl BlockSource for Shrunk {
    fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn place(&self, _index: u64) -> io::Result<(u64, usize)> {
        let other = reader(Box::new(Desk::default()), &self.woken);
        other.begin(2, Vec::new());
        let block = self.cache.read(&wanted(self.number, 1, 2), &absent(), &other);
        assert!(matches!(block, Block::Coming(_)), "with the first");
        self.held.lock().unwrap().extend(other.end());
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn check(&self, _index: u64, _bytes: &[u8]) -> io::Result<Vec<Damage>> {
        Ok(Vec::new())
    }
}

#[test]
fn who_waits_for_what_was_to_be_read_along_hears_that_it_is_not() {
    let (cache, number) = cache(64);
    let woken = Arc::<Woken>::default();
    let shrunk = Arc::new(Shrunk {
        file: File::open("/dev/null").unwrap(),
        cache: Arc::clone(&cache),
        number,
        woken: Arc::clone(&woken),
        held: Mutex::default(),
    });
    let source: Arc<dyn BlockSource> = shrunk.clone();
    let block = cache.read(&wanted(number, 0, 4), &source, &BlockReader::in_place());
    assert_eq!(here(block).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(woken.counts(), [0, 0, 1, 0]);
    let held = shrunk.held.lock().unwrap();
    assert!(matches!(held[0].outcome(), Some(BlockOutcome::Failed(_))));
    for index in 0..4 {
        assert_eq!(read_here(&cache, (number, index), &filled_with(7)).unwrap().bytes()[0], 7);
    }
}

/// What is wanted together is one reading: as far as it is not there, and each block is done when it is
/// there.
#[test]
fn a_run_of_blocks_is_one_reading() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..6 * BLOCK + 5000).map(|i| (i / 777) as u8).collect();
    let (source, is_direct) = on_disk(folder.path(), &bytes, true);
    if !is_direct {
        eprintln!("skipped: no O_DIRECT in {}", folder.path().display());
        return;
    }
    let cache = Arc::new(FileCache::aligned(64 * BLOCK as u64, PolicyName::default()).unwrap());
    let number = cache.number();
    let desk = Desk::default();
    let reader = reader(Box::new(desk.clone()), &Arc::default());
    let ask = |index: u64, end: u64, held| {
        reader.begin(0, held);
        let block = cache.read(&wanted(number, index, end), &source, &reader);
        (block, reader.end())
    };
    let (_, fourth) = ask(4, 5, Vec::new());
    let (_, first) = ask(0, 7, Vec::new());
    let (_, third) = ask(2, 7, Vec::new());
    let (_, fifth) = ask(5, 99, Vec::new());
    let orders = desk.0.lock().unwrap().drain(..).map(|order| (order.blocks(), order)).collect::<Vec<_>>();
    assert_eq!(
        orders.iter().map(|(blocks, _)| *blocks).collect::<Vec<_>>(),
        [1, 4, 2],
        "up to what is there, or the end"
    );
    // The second fails behind its second block.
    for (blocks, mut order) in orders {
        if blocks != 4 {
            order.read_here();
            continue;
        }
        for _ in 0..2 {
            let (offset, buffer) = order.rest();
            let n = buffer.len();
            buffer.copy_from_slice(&bytes[offset as usize..][..n]);
            order = order.advance(Ok(n)).unwrap();
        }
        assert!(order.advance(Err(io::Error::from_raw_os_error(5))).is_none());
    }
    let is_there = |index: usize, held| {
        let (block, _) = ask(index as u64, index as u64 + 1, held);
        here(block).is_ok_and(|block| {
            let wanted = &bytes[index * BLOCK..bytes.len().min((index + 1) * BLOCK)];
            block.bytes().starts_with(wanted) && block.bytes()[wanted.len()..].iter().all(|byte| *byte == 0)
        })
    };
    assert!(is_there(0, first) && is_there(1, Vec::new()), "what was there before the error");
    assert!(!is_there(2, third) && !is_there(3, Vec::new()));
    assert!(is_there(4, fourth) && is_there(5, fifth) && is_there(6, Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Blocks in any order, by io_uring, by threads and directly: the bytes of the file.
    #[test]
    fn every_queue_reads_the_file(
        len in 1usize..20 * BLOCK, places in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
        frames in 1u64..20, direct in any::<bool>(), by_threads in any::<bool>(), run in 1u64..5,
    ) {
        let bytes: Vec<u8> = (0..len as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 19) as u8).collect();
        let folder = tempfile::tempdir().unwrap();
        let (source, _) = on_disk(folder.path(), &bytes, direct);
        let cache = Arc::new(FileCache::aligned(frames * BLOCK as u64, PolicyName::default()).unwrap());
        let number = cache.number();
        let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let queue: Box<dyn ReadQueue + Send> = match UringQueue::new(bell.as_fd()) {
            Ok(queue) if !by_threads => Box::new(queue),
            Ok(_) | Err(_) => Box::new(ReadThreads::new(3)),
        };
        let woken = Arc::new(Woken::default());
        let reader = reader(queue, &woken);
        let blocks: Vec<u64> = places.iter().map(|i| i.index(len.div_ceil(BLOCK)) as u64).collect();
        let mut asked = Vec::new();
        for &index in &blocks {
            reader.begin(0, Vec::new());
            let start = index as usize * BLOCK;
            let range = 0..(len - start).min(BLOCK);
            asked.push((start, cache.read(&wanted(number, index, index + run), &source, &reader).part(range).unwrap(), index));
            drop(reader.end());
        }
        for (start, part, index) in asked {
            let slice = match part {
                BlockPart::Here(slice) => slice,
                BlockPart::Coming(part) => {
                    while !part.has_ended() {
                        reader.turn();
                    }
                    let range = part.range.clone();
                    reader.begin(0, Vec::new());
                    reader.hold(part);
                    cache.read(&wanted(number, index, index + 1), &source, &reader).part(range).unwrap().here().unwrap()
                }
            };
            prop_assert!(slice.bytes() == &bytes[start..start + slice.len()]);
        }
    }
}

/// The kernel may write to its buffers until it is done: a ring that is dropped waits for that.
#[test]
fn a_ring_that_is_dropped_ends_its_reads() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = vec![5; 40 * BLOCK];
    let (source, _) = on_disk(folder.path(), &bytes, true);
    let cache = Arc::new(FileCache::aligned(64 * BLOCK as u64, PolicyName::default()).unwrap());
    let number = cache.number();
    let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    let Ok(queue) = UringQueue::new(bell.as_fd()) else {
        eprintln!("skipped: there is no io_uring here");
        return;
    };
    let reader = reader(Box::new(queue), &Arc::default());
    reader.begin(0, Vec::new());
    for index in 0..40 {
        let _ = cache.read(&wanted(number, index, index + 1), &source, &reader);
    }
    reader.turn();
    let held = reader.end();
    drop(reader);
    assert!(held.iter().all(|read| matches!(read.outcome(), Some(BlockOutcome::Sound(_)))));
    let _ = File::open(folder.path().join("blocks")).unwrap().read_at(&mut [0], 0);
}

/// Whether this process has a thread of that name.
fn has_thread(name: &str) -> bool {
    let mut tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.any(|task| {
        let comm = std::fs::read_to_string(task.unwrap().path().join("comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    })
}

/// A server confines itself first, and its threads with it.
#[test]
fn threads_begin_with_the_first_order_and_end_with_the_last_clone() {
    let (cache, file) = cache(4);
    // As many as no other test has.
    let threads = ReadThreads::new(40);
    let reader = reader(Box::new(threads.clone()), &Arc::default());
    reader.begin(0, Vec::new());
    assert!(!has_thread("read-39"));
    for index in 0..2 {
        let source = filled_with(5);
        let Block::Coming(read) = cache.read(&wanted(file, index, index + 1), &source, &reader) else {
            panic!("no thread is needed");
        };
        assert_eq!(read.wait().slice(0..100).unwrap().bytes(), [5; 100]);
        // A thread has its name when it runs.
        while !has_thread("read-39") {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!has_thread("read-40"));
    }
    drop(reader);
    assert!(has_thread("read-39"));
    drop(threads);
    while has_thread("read-39") {
        std::thread::sleep(Duration::from_millis(1));
    }
}
