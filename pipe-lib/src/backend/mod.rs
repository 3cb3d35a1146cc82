//! What turns a pass into something that runs: the interpreter and the code generators.
//!
//! A backend that cannot take a pass refuses with [`Unsupported`](crate::Unsupported) and the next one is
//! asked; it never panics. The engine's driver is the only caller of `PassCode` and keeps its contract.

#[cfg(feature = "cranelift")]
pub(crate) mod cranelift;
#[cfg(not(feature = "cranelift"))]
#[path = "cranelift/absent.rs"]
pub(crate) mod cranelift;

#[cfg(native)]
pub(crate) mod native;

pub(crate) mod crc;
pub(crate) mod ebpf;
pub(crate) mod interp;
// Judges the backends, in tests and for whoever asks for the feature.
#[cfg(any(test, feature = "testing"))]
pub(crate) mod oracle;
#[cfg(test)]
pub(crate) mod testing;

use crate::compose::Composition;
use crate::ir::{Layout, Stripe};
pub(crate) use crate::plan::Refusal;
use std::sync::Arc;

/// Longest stretch that the driver hands to one call of [`PassCode::run`]: code may keep per-lane partial
/// sums that would overflow beyond 2^32 words. A multiple of every gauge.
pub(crate) const MAX_CALL_BYTES: usize = 1 << 30;

/// The code of one pass: all its stages applied to a stretch of the stream, in one loop.
///
/// The contract of [`PassCode::run`], kept by the driver:
/// * `states` points to one `u64` for each state of the pass's stages, flattened in (stage, state) order,
///   each value masked to its type. Read at the start, written back before returning.
/// * `pos` is the offset of `src[0]` from the start of the stream, or of the window for a pass whose stages
///   share one; it is a multiple of the gauge.
/// * `0 < len <= MAX_CALL_BYTES`. A `len` that is no multiple of the gauge ends the stream or the window:
///   each stage takes its whole words, then its tail rule for the `len % word` bytes left. A stage that would
///   reject such a length never gets here.
/// * `src` is readable for `len` bytes, of any alignment.
/// * `dst` is null (read only: nothing is written), equal to `src` (in place), or writable for `len` bytes
///   that do not overlap `src`. When it is neither null nor `src`, all `len` bytes of it are written, even by
///   stages that modify nothing. Nothing outside is read or written.
///
/// A trait, not a table of functions: the interpreter has its stages beside the code, guarded code looks at
/// the states and chooses, and Cranelift's loop and tail are two functions. Where a table would save
/// something, on short transfers, there is [`PassCode::entry`], and the engine calls that.
pub(crate) trait PassCode: Send + Sync {
    /// Runs over `len` bytes of the stream, tails included.
    ///
    /// # Safety
    /// The contract of the trait.
    unsafe fn run(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize);

    /// The machine code, for people to read: its functions, or none where it is no generated code.
    fn functions(&self) -> Vec<Listed<'_>> {
        Vec::new()
    }

    /// Whether machine code takes one word after the other.
    fn is_serial(&self) -> bool {
        false
    }

    /// [`PassCode::run`] for a stretch, of any length, of a transfer of [`streaming_from`] bytes or more. The
    /// output need not go through the caches, which would evict it before it is read. Other threads may read
    /// it only after [`settle`].
    ///
    /// # Safety
    /// The contract of the trait.
    unsafe fn run_streaming(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.run(states, pos, src, dst, len) }
    }

    /// The function behind [`PassCode::run`], if a short transfer may call it without any checks.
    fn entry(&self) -> Option<Entry> {
        None
    }

    /// The same for calls that write nothing, whose `dst` is null.
    fn reading(&self) -> Option<Entry> {
        None
    }

    /// A function that stores to the striped buffer that the code was made for: `dst` is where a run begins,
    /// and the stream's `len` bytes go to their places from there on. What is in the holes is neither read
    /// nor written.
    fn striped(&self) -> Option<Entry> {
        None
    }

    /// Most bytes of a call of [`PassCode::run_striped`]; `None` if the code was not made for a striped
    /// buffer at that end.
    fn longest_striped(&self, _end: Striped) -> Option<usize> {
        None
    }

    /// [`PassCode::run`] from or to the striped buffer that the code was made for; the other end is
    /// contiguous. What is in the holes is neither read nor written.
    ///
    /// # Safety
    /// The contract of the trait, except that the `len` bytes are in stripes from `src` or `dst` on, where
    /// one begins. `dst` is neither null nor `src`, and `len` at most [`PassCode::longest_striped`].
    unsafe fn run_striped(
        &self,
        _end: Striped,
        _states: *mut u64,
        _pos: u64,
        _src: *const u8,
        _dst: *mut u8,
        _len: usize,
    ) {
        debug_assert!(false, "no code for striped buffers");
    }
}

/// Which end of a transfer is a striped buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Striped {
    Source,
    Sink,
}

/// The striped buffers at the ends of a pipeline, if code is to reach them itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stripes {
    pub(crate) source: Option<Stripe>,
    pub(crate) sink: Option<Stripe>,
}

impl Stripes {
    /// Those of a pipeline that is a single pass.
    pub(crate) fn of(composition: &Composition) -> Stripes {
        let stripe = |layout: &Option<Arc<Layout>>| {
            layout.as_ref().filter(|layout| layout.store.is_none() && !layout.fixed)?.stripe
        };
        Stripes { source: stripe(&composition.source), sink: stripe(&composition.sink) }
    }

    pub(crate) fn at(self, end: Striped) -> Option<Stripe> {
        match end {
            Striped::Source => self.source,
            Striped::Sink => self.sink,
        }
    }
}

/// Bytes from which a transfer as a whole is more than the caches hold; the first question allocates.
#[cfg(native)]
pub(crate) use native::streaming_from;

/// No code here writes around the caches.
#[cfg(not(native))]
pub(crate) fn streaming_from() -> usize {
    usize::MAX
}

/// Ends what [`PassCode::run_streaming`] wrote on this thread: stores around the caches may become visible
/// after later ones, and Rust's synchronisation does not know of them.
pub(crate) fn settle() {
    #[cfg(native)]
    // SAFETY: orders stores, nothing else; every x86-64 processor has it.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// `fn(states, pos, src, dst, len)` with the registers that the generated code expects.
#[cfg(target_arch = "x86_64")]
pub(crate) type Function = unsafe extern "sysv64" fn(*mut u64, u64, *const u8, *mut u8, usize);
#[cfg(not(target_arch = "x86_64"))]
pub(crate) type Function = unsafe extern "C" fn(*mut u64, u64, *const u8, *mut u8, usize);

/// Code under the contract of [`PassCode::run`], valid as long as the [`PassCode`] that gave it, for calls
/// with a `dst` that is not null. Accepts a `len` of 0, too, and then does nothing.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) function: Function,
    /// Most bytes of a call.
    pub(crate) longest: usize,
}

/// A function of generated code.
pub(crate) struct Listed<'a> {
    /// Which stretches it is for, and how it goes about them.
    pub(crate) what: String,
    pub(crate) bytes: &'a [u8],
    /// Where it begins in the code of its pass.
    pub(crate) at: usize,
    /// What stands before it there and is read by it.
    pub(crate) constants: &'a [u8],
}
