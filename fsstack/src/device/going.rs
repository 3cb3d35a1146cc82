//! A flush, a block and another flush on their way to a device, while it is used otherwise: three entries of
//! io_uring that wait for each other, or a thread.

#![allow(unsafe_code, reason = "the kernel reads memory that a queue entry names")]

use super::{DeviceMut, RangeLock};
use io_uring::{IoUring, Probe, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// A block that is not to be there before all that was written earlier is.
pub(crate) struct SealingBlock {
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
    /// What keeps others away, for as long as it may be written.
    pub(crate) _lock: Option<Arc<RangeLock>>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Sealed {
    /// All is there.
    Done,
    /// What was written earlier may not be there; the block was not written.
    NotFlushed(io::Error),
    /// The block may be there, or be there in part.
    Unknown,
}

impl SealingBlock {
    /// Flushes, writes and flushes here, and waits for each.
    pub(crate) fn write(&self, device: &mut dyn DeviceMut) -> Sealed {
        if let Err(error) = device.sync() {
            return Sealed::NotFlushed(error);
        }
        match device.write_at(self.offset, &self.bytes).and_then(|()| device.sync()) {
            Ok(()) => Sealed::Done,
            Err(_) => Sealed::Unknown,
        }
    }
}

/// Has blocks written, one after the other.
pub(crate) struct Sealer {
    /// Counted up when one is there, or will not be.
    bell: Arc<OwnedFd>,
    /// While nothing is on its way.
    ring: Option<IoUring>,
}

/// A block on its way. Let go of, it waits.
pub(crate) struct Going(Way);

enum Way {
    /// It is over, and nobody asked yet.
    Over(Sealed),
    Ring(Box<Chain>),
    Thread(Hand),
}

impl Sealer {
    /// # Errors
    /// If the system has no descriptors left.
    pub(crate) fn new() -> io::Result<Sealer> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let ring = ring(bell.as_fd()).ok();
        Ok(Sealer { bell, ring })
    }

    /// Becomes readable when something is over.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Forgets that it rang.
    pub(crate) fn hear(&self) {
        // An eventfd that was not counted up has nothing to read.
        let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
    }

    /// Begins, and waits for nothing but a device of which there is only one.
    pub(crate) fn begin(&mut self, device: &mut dyn DeviceMut, block: SealingBlock) -> Going {
        let block = Arc::new(block);
        match (device.whole_file(), self.ring.take()) {
            (Some(file), Some(ring)) => {
                // A ring that takes nothing is none.
                if let Some(chain) = Chain::begin(ring, file, &block) {
                    return Going(Way::Ring(Box::new(chain)));
                }
            }
            (_, ring) => self.ring = ring,
        }
        let hand = device.again().and_then(|again| Hand::begin(again, &block, &self.bell));
        Going(hand.map(Way::Thread).unwrap_or_else(|| {
            let sealed = block.write(device);
            ring_bell(&self.bell);
            Way::Over(sealed)
        }))
    }

    /// What became of it, if that is known.
    pub(crate) fn look(&mut self, going: Going) -> Result<Sealed, Going> {
        match going.0 {
            Way::Over(sealed) => Ok(sealed),
            Way::Thread(hand) => hand.look().map_err(|hand| Going(Way::Thread(hand))),
            Way::Ring(mut chain) => {
                chain.take_ended();
                if chain.ended < chain.told {
                    return Err(Going(Way::Ring(chain)));
                }
                Ok(self.take_back(*chain))
            }
        }
    }

    /// What became of it, for which it waits.
    pub(crate) fn wait(&mut self, going: Going) -> Sealed {
        match going.0 {
            Way::Over(sealed) => sealed,
            Way::Thread(hand) => hand.wait(),
            Way::Ring(mut chain) => {
                chain.wait();
                self.take_back(*chain)
            }
        }
    }

    fn take_back(&mut self, chain: Chain) -> Sealed {
        let (sealed, ring) = chain.into_end();
        self.ring = ring;
        sealed
    }
}

fn ring_bell(bell: &OwnedFd) {
    // Fails where it was counted up 2^64 times and nobody listened.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

fn ring(bell: BorrowedFd<'_>) -> io::Result<IoUring> {
    let ring = IoUring::new(CHAIN_ENTRIES.next_power_of_two())?;
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known)?;
    if ![opcode::Fsync::CODE, opcode::Write::CODE].iter().all(|code| known.is_supported(*code)) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    ring.submitter().register_eventfd(bell.as_raw_fd())?;
    Ok(ring)
}

/// Flush, block, flush.
const CHAIN_ENTRIES: u32 = 3;

/// Three entries of a ring, of which each begins when the one before is done, and not at all if that failed
/// or fell short.
struct Chain {
    ring: ManuallyDrop<IoUring>,
    /// What the kernel has.
    held: ManuallyDrop<(Arc<File>, Arc<SealingBlock>)>,
    /// How many of them it has: all, unless it had no memory.
    told: u32,
    ended: u32,
    /// What each came to: bytes, or a negated error.
    results: [i32; CHAIN_ENTRIES as usize],
}

impl Chain {
    /// `None` if the kernel takes none of it, or never would.
    fn begin(mut ring: IoUring, file: Arc<File>, block: &Arc<SealingBlock>) -> Option<Chain> {
        let fd = types::Fd(file.as_raw_fd());
        let len = u32::try_from(block.bytes.len()).ok()?;
        let flush = || opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
        let write = opcode::Write::new(fd, block.bytes.as_ptr(), len).offset(block.offset).build();
        let linked = squeue::Flags::IO_LINK;
        let entries =
            [flush().user_data(0).flags(linked), write.user_data(1).flags(linked), flush().user_data(2)];
        // SAFETY: the block's bytes, on the heap, and the file are kept by the `Chain`, untouched, until the
        // kernel has told the end of all that it was told; see `drop`.
        unsafe { ring.submission().push_multiple(&entries) }.ok()?;
        let told = loop {
            match ring.submit() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                told => {
                    break told.ok().and_then(|told| u32::try_from(told).ok()).filter(|&told| told > 0)?;
                }
            }
        };
        Some(Chain {
            ring: ManuallyDrop::new(ring),
            held: ManuallyDrop::new((file, Arc::clone(block))),
            told,
            ended: 0,
            results: [-libc::ECANCELED; CHAIN_ENTRIES as usize],
        })
    }

    fn take_ended(&mut self) {
        for entry in self.ring.completion() {
            if let Some(result) = self.results.get_mut(entry.user_data() as usize) {
                *result = entry.result();
                self.ended += 1;
            }
        }
    }

    /// Until all is over, or the ring says no more.
    fn wait(&mut self) {
        /// `IORING_ENTER_GETEVENTS`.
        const GET_EVENTS: u32 = 1;
        self.take_ended();
        while self.ended < self.told {
            // Tells the kernel nothing: what it did not take of a chain must not begin by itself.
            // SAFETY: no argument is given.
            match unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 1, GET_EVENTS, None) } {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
            self.take_ended();
        }
    }

    /// What it came to, and the ring if it can be used again.
    fn into_end(mut self) -> (Sealed, Option<IoUring>) {
        let sealed = self.sealed();
        if self.ended < CHAIN_ENTRIES {
            return (sealed, None);
        }
        // SAFETY: the kernel is done with both, and neither is used again, as the chain is forgotten.
        let ring = unsafe {
            ManuallyDrop::drop(&mut self.held);
            ManuallyDrop::take(&mut self.ring)
        };
        std::mem::forget(self);
        (sealed, Some(ring))
    }

    fn sealed(&self) -> Sealed {
        let [flushed, written, sealed] = self.results;
        if self.ended < self.told {
            return Sealed::Unknown;
        }
        if flushed < 0 {
            return Sealed::NotFlushed(io::Error::from_raw_os_error(-flushed));
        }
        if self.told == 1 {
            return Sealed::NotFlushed(io::ErrorKind::OutOfMemory.into());
        }
        let is_whole = usize::try_from(written).is_ok_and(|written| written == self.held.1.bytes.len());
        if is_whole && sealed >= 0 { Sealed::Done } else { Sealed::Unknown }
    }
}

impl Drop for Chain {
    /// Waits: until then the kernel reads the block.
    fn drop(&mut self) {
        self.wait();
        if self.ended == self.told {
            // SAFETY: the kernel is done with both, and neither is used again. Otherwise they are never given
            // up.
            unsafe {
                ManuallyDrop::drop(&mut self.ring);
                ManuallyDrop::drop(&mut self.held);
            }
        }
    }
}

/// A thread that writes a block.
struct Hand {
    sealed: Arc<Mutex<Option<Sealed>>>,
    thread: Option<JoinHandle<()>>,
}

/// Leaves word and rings, however the thread ends.
struct Word {
    sealed: Arc<Mutex<Option<Sealed>>>,
    bell: Arc<OwnedFd>,
}

impl Drop for Word {
    fn drop(&mut self) {
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(Sealed::Unknown);
        ring_bell(&self.bell);
    }
}

impl Hand {
    /// `None` if there are no threads.
    fn begin(
        mut device: Box<dyn DeviceMut + Send>,
        block: &Arc<SealingBlock>,
        bell: &Arc<OwnedFd>,
    ) -> Option<Hand> {
        let sealed = Arc::new(Mutex::new(None));
        let word = Word { sealed: Arc::clone(&sealed), bell: Arc::clone(bell) };
        let block = Arc::clone(block);
        let run = move || {
            let sealed = block.write(&mut *device);
            *word.sealed.lock().unwrap_or_else(PoisonError::into_inner) = Some(sealed);
        };
        let thread = thread::Builder::new().name("sync".to_owned()).spawn(run).ok()?;
        Some(Hand { sealed, thread: Some(thread) })
    }

    fn look(self) -> Result<Sealed, Hand> {
        let sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner).take();
        sealed.ok_or(self)
    }

    fn wait(mut self) -> Sealed {
        self.join();
        self.look().unwrap_or(Sealed::Unknown)
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // One that panicked has left word.
            let _ = thread.join();
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::FileDevice;

    /// A ring that says no more, of which the kernel may still do what it was told.
    #[test]
    fn what_may_still_be_written_stays_locked() {
        for is_broken in [false, true] {
            let path = tempfile::NamedTempFile::new().unwrap();
            let open = || Arc::new(File::options().read(true).write(true).open(path.path()).unwrap());
            let (file, other) = (open(), open());
            let lock = Arc::new(RangeLock::exclusive(&file, 0, 4096).unwrap().unwrap());
            let mut sealer = Sealer::new().unwrap();
            let block = SealingBlock { offset: 0, bytes: vec![7; 4096], _lock: Some(Arc::clone(&lock)) };
            let mut going = sealer.begin(&mut FileDevice::from(file), block);
            let Going(Way::Ring(chain)) = &mut going else {
                println!("skipped: there is no io_uring here");
                return;
            };
            chain.wait();
            assert_eq!((chain.ended, chain.results), (CHAIN_ENTRIES, [0, 4096, 0]));
            if is_broken {
                let nothing = File::open("/dev/null").unwrap();
                // SAFETY: of two open descriptors; the second then is one that no ring is behind.
                let there = unsafe { libc::dup2(nothing.as_raw_fd(), chain.ring.as_raw_fd()) };
                assert_eq!(there, chain.ring.as_raw_fd());
                chain.told += 1;
                assert!(matches!(chain.sealed(), Sealed::Unknown));
            }
            drop((going, lock));
            assert_eq!(RangeLock::exclusive(&other, 0, 4096).unwrap().is_none(), is_broken);
        }
    }
}
