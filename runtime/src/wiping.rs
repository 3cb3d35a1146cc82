//! Work that leaves nothing behind in memory: what it gave back to the allocator and what lies below its
//! stack is overwritten.
//!
//! For code of others that handles secrets and does not do so itself. It reaches what is freed *in* the work
//! and by its thread, and 48 KiB of the stack; not registers, nor what the system wrote to disk.

#![allow(unsafe_code, reason = "a global allocator: it passes calls on, and writes to blocks that come back")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::arch::asm;
use std::cell::Cell;

/// Bytes of the stack that are overwritten.
const STACK_BYTES: usize = 48 * 1024;

thread_local! {
    /// How many pieces of such work this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// The system's allocator, which overwrites what is given back in [`without_trace`] and [`with_freed_wiped`].
/// Without it as the program's `#[global_allocator]` only the stack is overwritten.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wiping;

/// Does `work`, and overwrites what it left in memory that is no longer used.
///
/// Only what it gives back is to be kept: let it put secrets where they stay (in a `Box`), so that none
/// travel over the stack of the caller.
#[inline(never)]
pub fn without_trace<R>(work: impl FnOnce() -> R) -> R {
    struct Below;
    impl Drop for Below {
        fn drop(&mut self) {
            overwrite_stack();
        }
    }
    let _below = Below;
    with_freed_wiped(|| apart(work))
}

/// Does `work`, and overwrites what it gave back to the allocator, but not what lies below its stack: for
/// work that is done often.
pub fn with_freed_wiped<R>(work: impl FnOnce() -> R) -> R {
    struct Inside;
    impl Drop for Inside {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _inside = Inside;
    work()
}

/// In a frame of its own, which lies below that of the caller whatever is inlined.
#[inline(never)]
fn apart<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Overwrites what earlier calls have left below the caller's frame.
#[inline(never)]
fn overwrite_stack() {
    let mut below = [0_u8; STACK_BYTES];
    keep(below.as_mut_ptr());
}

/// Nothing is known of who reads what lies at `at`, so it has to be written.
fn keep(at: *mut u8) {
    // SAFETY: there are no instructions.
    unsafe { asm!("/* {0} */", in(reg) at, options(nostack, preserves_flags)) };
}

// SAFETY: all calls are the system's allocator's. A block is written to before it is given back, when it is
// still its owner's, who uses it no more.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has as many bytes, and nobody uses them any more; the rest as the caller's.
        unsafe {
            wipe(block, layout.size());
            System.dealloc(block, layout);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !is_inside() {
            // SAFETY: as the caller's.
            return unsafe { System.realloc(block, layout, size) };
        }
        // Not in place and not by the system, which would leave what it moves.
        // SAFETY: the caller's size does not overflow with this alignment, and both blocks have as many bytes
        // as are copied.
        unsafe {
            let moved = System.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

/// Overwrites a block that is about to be given back, if this thread does such work.
///
/// # Safety
/// The block has as many bytes, and they are the caller's.
unsafe fn wipe(block: *mut u8, bytes: usize) {
    if is_inside() {
        // SAFETY: handed on from the caller.
        unsafe { block.write_bytes(0, bytes) };
        keep(block);
    }
}

/// Whether this thread does such work; not when it ends, when there is no telling.
fn is_inside() -> bool {
    DEPTH.try_with(Cell::get).is_ok_and(|depth| depth > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of 64 bytes that are all 7 is given back.
    fn given_back() -> [u8; 64] {
        let mut block = [7; 64];
        // SAFETY: they are as many.
        unsafe { wipe(block.as_mut_ptr(), block.len()) };
        block
    }

    #[test]
    fn what_is_given_back_is_overwritten_inside_alone() {
        assert_eq!(given_back(), [7; 64]);
        assert_eq!(without_trace(given_back), [0; 64]);
        assert_eq!(with_freed_wiped(given_back), [0; 64]);
        assert_eq!(without_trace(|| (with_freed_wiped(given_back), given_back())), ([0; 64], [0; 64]));
        assert_eq!(given_back(), [7; 64]);
    }

    #[test]
    fn what_grows_keeps_its_bytes() {
        let layout = Layout::from_size_align(40, 8).unwrap();
        // SAFETY: of each block as many bytes are used as were asked for.
        let seen = without_trace(|| unsafe {
            let block = Wiping.alloc(layout);
            (0..40).for_each(|at| block.add(at).write(at as u8));
            let block = Wiping.realloc(block, layout, 5000);
            let grown = Layout::from_size_align(5000, 8).unwrap();
            let block = Wiping.realloc(block, grown, 24);
            let seen: Vec<u8> = (0..24).map(|at| block.add(at).read()).collect();
            Wiping.dealloc(block, Layout::from_size_align(24, 8).unwrap());
            seen
        });
        assert_eq!(seen, (0..24).collect::<Vec<u8>>());
    }

    #[test]
    fn work_that_panics_ends_it() {
        let work = std::panic::catch_unwind(|| without_trace(|| panic!("as told")));
        assert!(work.is_err());
        assert!(!is_inside());
    }
}
