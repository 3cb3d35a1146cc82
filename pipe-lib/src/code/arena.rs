//! Where the code of all engines lives: chunks of pages that are taken for one piece of code each, and given
//! back.
//!
//! A page is written before anybody may execute it, and sealed: from then on until its owner has dropped it,
//! it is executable and not writable, at any address. So code never shares a page, and writing one piece
//! disturbs none of the others. (The alternative is one memory mapped twice, writable here and executable
//! there: pieces could share pages and be written without a call to the system, 1.3 us less; but then there
//! is an address, all the time, at which running code can be overwritten.)
//!
//! Pages that were given back stay as they are, *stale*, until there are some of them in a chunk, so that one
//! call to the system makes many of them writable again: with a mapping for each piece, it takes four calls
//! for each. What stale pages hold in memory is thereby bounded: [`MAX_STALE`] for each chunk in which there
//! is code, and one chunk without.

use super::pages::Pages;
use super::slots::{CHUNK_PAGES, Slots};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Stale pages of a chunk, from which on they are made clean.
const MAX_STALE: usize = 16;

/// Memory for code. Any thread may ask it for some and give it back.
#[derive(Debug, Default)]
struct Arena {
    /// By address.
    chunks: Mutex<BTreeMap<usize, PageRun>>,
    keeps_addresses: AtomicBool,
}

#[derive(Debug)]
struct PageRun {
    pages: Pages,
    slots: Slots,
}

/// Pages in a row that are somebody's: written while they belong to a [`CodeDraft`], sealed from then on.
/// Given back on drop.
#[derive(Debug)]
pub(super) struct CodePages {
    arena: &'static Arena,
    base: *mut u8,
    pages: usize,
    /// Of code that is longer than a chunk.
    own: Option<Pages>,
}

// SAFETY: memory that only the draft it belongs to writes to, by `&mut`, and nobody once it is sealed.
unsafe impl Send for CodePages {}
// SAFETY: as above.
unsafe impl Sync for CodePages {}

/// Sealed pages.
pub(super) type Sealed = SmallVec<[CodePages; 1]>;

/// Pages that are written, piece by piece, and cannot be executed yet. Given back on drop.
#[derive(Debug)]
pub(super) struct CodeDraft {
    arena: &'static Arena,
    /// Not sealed yet; mostly one. Pieces need not be neighbours, but share pages where they are.
    slots: Sealed,
    /// Bytes of the last slot that are taken.
    used: usize,
}

/// That of the process.
static GLOBAL: Arena = Arena { chunks: Mutex::new(BTreeMap::new()), keeps_addresses: AtomicBool::new(false) };

impl CodeDraft {
    /// Without pages yet.
    pub(super) fn new() -> CodeDraft {
        GLOBAL.draft()
    }

    /// Room for `size` bytes at a multiple of `align`, writable until the draft is sealed or dropped.
    ///
    /// # Errors
    /// What the operating system answers when it has no memory.
    pub(super) fn room(&mut self, size: usize, align: usize) -> io::Result<*mut u8> {
        if !align.is_power_of_two() || align > page_bytes() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if size > isize::MAX as usize {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut start = self.used.next_multiple_of(align);
        let have = self.slots.last().map_or(0, |slot| slot.pages * page_bytes());
        let end = start.checked_add(size).ok_or(io::ErrorKind::OutOfMemory)?;
        let more = end.saturating_sub(have).div_ceil(page_bytes());
        let arena = self.arena;
        if have == 0 || (more != 0 && !self.slots.last_mut().is_some_and(|slot| arena.grow(slot, more))) {
            self.slots.push(arena.open(size.div_ceil(page_bytes()).max(1))?);
            start = 0;
        }
        self.used = start + size;
        // There is one: it was there, or was pushed.
        let slot = self.slots.last().ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(slot.base.wrapping_add(start))
    }

    /// From here on the pages are executable and not writable; `publish` is shown what they hold before.
    ///
    /// # Errors
    /// What the operating system answers when it forbids executable pages.
    pub(super) fn seal(self, publish: fn(&[u8])) -> io::Result<Sealed> {
        for slot in &self.slots {
            // SAFETY: the slot's own pages, which are readable and to which nobody writes any more.
            publish(unsafe { std::slice::from_raw_parts(slot.base, slot.pages * page_bytes()) });
            self.arena.seal(slot)?;
        }
        Ok(self.slots)
    }
}

/// From now on no address is used twice: pages that are given back become inaccessible, without memory behind
/// them.
// Only the native backend tells `perf` of its code.
#[cfg(native)]
pub(super) fn keep_addresses() {
    GLOBAL.keeps_addresses.store(true, Ordering::Relaxed);
}

impl Arena {
    fn draft(&'static self) -> CodeDraft {
        CodeDraft { arena: self, slots: Sealed::new(), used: 0 }
    }

    /// `count` pages that are writable and nobody else's.
    fn open(&'static self, count: usize) -> io::Result<CodePages> {
        let own = if count > CHUNK_PAGES { Some(Pages::map(count * page_bytes())?) } else { None };
        let base = match &own {
            Some(pages) => pages.base(),
            None => self.take(count)?,
        };
        Ok(CodePages { arena: self, base, pages: count, own })
    }

    /// Gives `slot` the `count` pages behind it too, if they are clean.
    fn grow(&self, slot: &mut CodePages, count: usize) -> bool {
        if slot.own.is_some() {
            return false;
        }
        let mut chunks = self.chunks();
        let Some((&at, chunk)) = chunks.range_mut(..=slot.base.addr()).next_back() else { return false };
        let taken = chunk.slots.take_at(pages_of(slot.base.addr() - at, slot.pages).end, count);
        if taken {
            slot.pages += count;
        }
        taken
    }

    fn seal(&self, slot: &CodePages) -> io::Result<()> {
        if let Some(pages) = &slot.own {
            return pages.seal(&(0..slot.pages * page_bytes()));
        }
        let chunks = self.chunks();
        let (chunk, range) = chunk_of(&chunks, slot.base.addr(), slot.pages)?;
        chunk.pages.seal(&bytes_of(&range))
    }

    fn chunks(&self) -> MutexGuard<'_, BTreeMap<usize, PageRun>> {
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
        let mut chunk = PageRun { pages, slots: Slots::default() };
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
            && chunk.slots.stale() >= MAX_STALE
        {
            chunk.recycle();
        }
    }
}

impl PageRun {
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
    chunks: &BTreeMap<usize, PageRun>,
    base: usize,
    count: usize,
) -> io::Result<(&PageRun, Range<usize>)> {
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

impl Drop for CodePages {
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
