//! Where the code of all engines lives: chunks of pages that are taken for one piece of code each, and given back.
//!
//! A page is written before anybody may execute it, and sealed: from then on until its owner has dropped it, it is executable
//! and not writable, at any address. So code never shares a page, and writing one piece disturbs none of the others. (The
//! alternative is one memory mapped twice, writable here and executable there: pieces could share pages and be written
//! without a call to the system, 1.3 us less; but then there is an address, all the time, at which running code can be
//! overwritten.)
//!
//! Pages that were given back stay as they are, *stale*, until there are some of them in a chunk, so that one call to the
//! system makes many of them writable again: with a mapping for each piece, it takes four calls for each. What stale pages
//! hold in memory is thereby bounded: [`MOST_STALE`] for each chunk in which there is code, and one chunk without.

use super::pages::Pages;
use super::slots::{CHUNK_PAGES, Slots};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Stale pages of a chunk, from which on they are made clean.
const MOST_STALE: usize = 16;

/// Memory for code. Any thread may ask it for some and give it back.
#[derive(Debug, Default)]
struct Arena {
    /// By address.
    chunks: Mutex<BTreeMap<usize, Chunk>>,
    keeps_addresses: AtomicBool,
}

#[derive(Debug)]
struct Chunk {
    pages: Pages,
    slots: Slots,
}

/// Sealed pages that hold somebody's code; given back on drop.
#[derive(Debug)]
pub(super) struct Slot {
    arena: &'static Arena,
    base: *const u8,
    pages: usize,
    /// Of code that is longer than a chunk.
    own: Option<Pages>,
}

// SAFETY: memory that nobody writes to before it is dropped.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

/// That of the process.
static GLOBAL: Arena = Arena { chunks: Mutex::new(BTreeMap::new()), keeps_addresses: AtomicBool::new(false) };

/// A copy of `bytes` in sealed pages, shown to `publish` before.
///
/// # Errors
/// What the operating system answers when it has no memory, or forbids executable pages.
pub(super) fn store(bytes: &[u8], publish: fn(&[u8])) -> io::Result<Slot> {
    GLOBAL.store(bytes, publish)
}

/// From now on no address is used twice: pages that are given back become inaccessible, without memory behind them.
// Only the native backend tells `perf` of its code.
#[cfg(target_arch = "x86_64")]
pub(super) fn keep_addresses() {
    GLOBAL.keeps_addresses.store(true, Ordering::Relaxed);
}

impl Arena {
    fn store(&'static self, bytes: &[u8], publish: fn(&[u8])) -> io::Result<Slot> {
        let count = bytes.len().div_ceil(page_bytes()).max(1);
        let own = if count > CHUNK_PAGES { Some(Pages::map(count * page_bytes())?) } else { None };
        let base = match &own {
            Some(pages) => pages.base(),
            None => self.take(count)?,
        };
        // SAFETY: `count` pages that are writable and nobody else's.
        unsafe {
            base.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            publish(std::slice::from_raw_parts(base, bytes.len()));
        }
        // From here on given back on drop, also if they cannot be sealed.
        let slot = Slot { arena: self, base, pages: count, own };
        match &slot.own {
            Some(pages) => pages.seal(&(0..count * page_bytes()))?,
            None => {
                let chunks = self.chunks();
                let (chunk, range) = chunk_of(&chunks, base.addr(), count)?;
                chunk.pages.seal(&bytes_of(&range))?;
            }
        }
        Ok(slot)
    }

    fn chunks(&self) -> MutexGuard<'_, BTreeMap<usize, Chunk>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first clean pages, or those that can be made clean; a new chunk if there are none.
    fn take(&self, count: usize) -> io::Result<*mut u8> {
        let mut chunks = self.chunks();
        let mut taken = chunks.values_mut().find_map(|chunk| chunk.take(count));
        if taken.is_none() {
            let mut stale = chunks.values_mut().filter(|chunk| chunk.slots.could_take(count));
            taken = stale.find_map(|chunk| {
                chunk.recycle();
                chunk.take(count)
            });
        }
        if let Some(base) = taken {
            return Ok(base);
        }
        let pages = Pages::map(CHUNK_PAGES * page_bytes())?;
        let mut chunk = Chunk { pages, slots: Slots::default() };
        let base = chunk.take(count).ok_or(io::ErrorKind::OutOfMemory)?;
        chunks.insert(chunk.pages.base().addr(), chunk);
        Ok(base)
    }

    fn give_back(&self, base: usize, count: usize) {
        let mut chunks = self.chunks();
        let Some((&at, chunk)) = chunks.range_mut(..=base).next_back() else { return };
        let range = pages_of(base - at, count);
        if self.keeps_addresses.load(Ordering::Relaxed) {
            // Taken for ever. If this fails, the code stays where it is.
            let _ = chunk.pages.close(&bytes_of(&range));
            return;
        }
        chunk.slots.release(&range);
        if chunk.slots.is_unused() {
            // One chunk without code is kept for the next.
            let spare = chunks.values().filter(|chunk| chunk.slots.is_unused()).count();
            if spare > 1 {
                chunks.remove(&at);
                return;
            }
        }
        if let Some(chunk) = chunks.get_mut(&at)
            && chunk.slots.stale() >= MOST_STALE
        {
            chunk.recycle();
        }
    }
}

impl Chunk {
    fn take(&mut self, count: usize) -> Option<*mut u8> {
        let first = self.slots.take(count)?;
        Some(self.pages.base().wrapping_add(first * page_bytes()))
    }

    /// Makes stale pages clean; those that the system does not allow it for stay.
    fn recycle(&mut self) {
        let mut from = 0;
        while let Some(range) = self.slots.stale_from(from) {
            from = range.end;
            if self.pages.open(&bytes_of(&range)).is_ok() {
                self.slots.clean(&range);
            }
        }
    }
}

/// The chunk of `count` pages from that address on, and which of its pages they are.
fn chunk_of(
    chunks: &BTreeMap<usize, Chunk>,
    base: usize,
    count: usize,
) -> io::Result<(&Chunk, Range<usize>)> {
    let (at, chunk) = chunks.range(..=base).next_back().ok_or(io::ErrorKind::NotFound)?;
    Ok((chunk, pages_of(base - at, count)))
}

/// Numbers of the `count` pages from that offset in bytes on.
fn pages_of(offset: usize, count: usize) -> Range<usize> {
    let first = offset / page_bytes();
    first..first + count
}

fn bytes_of(pages: &Range<usize>) -> Range<usize> {
    pages.start * page_bytes()..pages.end * page_bytes()
}

fn page_bytes() -> usize {
    static FOUND: OnceLock<usize> = OnceLock::new();
    *FOUND.get_or_init(Pages::page_bytes)
}

impl Slot {
    /// The address of the first byte.
    pub(super) fn base(&self) -> *const u8 {
        self.base
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        match self.own.take() {
            None => self.arena.give_back(self.base.addr(), self.pages),
            Some(pages) if self.arena.keeps_addresses.load(Ordering::Relaxed) => {
                let _ = pages.close(&(0..self.pages * page_bytes()));
                std::mem::forget(pages);
            }
            Some(pages) => drop(pages),
        }
    }
}

#[cfg(test)]
mod tests;
