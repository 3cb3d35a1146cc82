//! Calls of the generated functions: whole chunks, the words after them, the last bytes. Takes partial
//! results into states.

use super::VECTOR_BYTES;
use super::body::{Accumulator, Carry};
use super::combine::{combine, sums};
use crate::backend::{Entry, Function, MAX_CALL_BYTES};
use crate::plan::portable::MAX_PARTIALS;
use std::mem::MaybeUninit;

/// Most chunks of one call with states that pass from word to word: 2^14 sums of 2^14 chunks stay below 2^64.
pub(super) const MAX_ORDERED_CHUNKS: usize = 1 << 14;

/// `fn(states, pos, src, dst, step, len, partials)`: see [`super::loops::build`].
pub(super) type WordsFn = unsafe extern "C" fn(*mut u64, u64, *const u8, *mut u8, u64, usize, *mut Register);

/// `fn(states, pos, raw word, t) -> raw word`: see [`super::loops::build_tail`].
pub(super) type TailFn = unsafe extern "C" fn(*mut u64, u64, u64, u64) -> u64;

/// In the place of the loop until there is code.
pub(super) unsafe extern "C" fn missing(
    _: *mut u64,
    _: u64,
    _: *const u8,
    _: *mut u8,
    _: u64,
    _: usize,
    _: *mut Register,
) {
}

/// A register of partial results.
pub(super) type Register = [u8; VECTOR_BYTES];

/// The functions of a pass, and what is needed to call them. They live as long as the code memory that they
/// are in.
pub(super) struct Functions {
    pub(super) words: WordsFn,
    /// For gauges beyond 1.
    pub(super) tail: Option<TailFn>,
    pub(super) gauge: usize,
    pub(super) modifies: bool,
    /// The first function takes whole chunks only; the words after them go through the second one, one by
    /// one. They are few, and a loop for them would take longer to compile than all the rest.
    pub(super) by_chunks: bool,
    pub(super) accumulators: Box<[Accumulator]>,
    pub(super) carries: Box<[Carry]>,
}

impl Functions {
    /// The contract of [`PassCode::run`](crate::backend::PassCode::run), and for a `len` of 0 nothing.
    ///
    /// # Safety
    /// That contract.
    #[inline]
    pub(super) unsafe fn run(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        debug_assert!(len <= MAX_CALL_BYTES);
        let rest = len & (self.gauge - 1);
        let whole = len - rest;
        // SAFETY: the caller's contract, for both parts of the stretch; a null `dst` stays null.
        unsafe {
            if whole != 0 {
                self.words(states, pos, src, dst, whole);
            }
            if rest != 0 {
                let to = if dst.is_null() { dst } else { dst.add(whole) };
                self.tail(states, pos + whole as u64, src.add(whole), to, rest);
            }
        }
    }

    /// Runs over whole loop words.
    ///
    /// # Safety
    /// The contract of [`Functions::run`]; `len` is a multiple of the gauge.
    #[inline]
    unsafe fn words(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        let mut spare = MaybeUninit::<[Register; 4]>::uninit();
        let stores = !dst.is_null() && (self.modifies || dst.cast_const() != src);
        // The loop stores always; where nothing is to be written, it stores to the same spare line again and
        // again.
        let (mut to, step) = if stores { (dst, usize::MAX) } else { (spare.as_mut_ptr().cast(), 0) };
        let (mut src, mut pos) = (src, pos);
        let mut rest = if self.by_chunks { len % VECTOR_BYTES } else { 0 };
        let mut left = len - rest;
        while left != 0 {
            // States that pass from word to word must be complete when the scalar loop takes over: then whole
            // chunks and the remainder are separate calls. Sums of sums overflow after longer stretches than
            // this one.
            let n = match (self.carries.is_empty(), left / VECTOR_BYTES) {
                (true, _) | (false, 0) => left,
                (false, chunks) => chunks.min(MAX_ORDERED_CHUNKS) * VECTOR_BYTES,
            };
            // SAFETY: `n` bytes of the `left` that the caller promised, from `src` and to `dst` (or the spare
            // line).
            unsafe {
                self.call(states, pos, src, to, step as u64, n);
                src = src.add(n);
                to = to.wrapping_add(n & step);
            }
            pos += n as u64;
            left -= n;
        }
        while rest != 0 {
            let word = if stores { to } else { std::ptr::null_mut() };
            // SAFETY: one of the whole words that the loop left.
            unsafe {
                self.tail(states, pos, src, word, self.gauge);
                src = src.add(self.gauge);
            }
            to = to.wrapping_add(self.gauge & step);
            pos += self.gauge as u64;
            rest -= self.gauge;
        }
    }

    /// Runs over `len` bytes, and takes the partial results into the states.
    ///
    /// # Safety
    /// The contract of [`Functions::run`] for whole loop words, except that with a `step` of 0 everything is
    /// stored at `dst`, which has room for 64 bytes.
    #[inline]
    unsafe fn call(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, step: u64, len: usize) {
        let mut partials = MaybeUninit::<[Register; MAX_PARTIALS]>::uninit();
        let registers: *mut Register = partials.as_mut_ptr().cast();
        // SAFETY: the code was compiled from a checked plan for this signature; it reads `len` bytes from
        // `src` and writes `len` bytes to `dst` (or, with a step of 0, up to 64), reads and writes the
        // states, and fills as many partial results as there are, at most `MAX_PARTIALS`. The caller keeps
        // the contract.
        unsafe { (self.words)(states, pos, src, dst, step, len, registers) };
        if len < VECTOR_BYTES {
            return;
        }
        // SAFETY: the contract gives one state for each of the pass's states, and `index` is that of one.
        let state = |index: u32| unsafe { &mut *states.add(index as usize) };
        let mut next = 0;
        let mut take = |count: usize| {
            next += count;
            // SAFETY: the function has written all registers of the accumulators, then those of the carries.
            unsafe { std::slice::from_raw_parts(registers.add(next - count), count) }.as_flattened()
        };
        for acc in &self.accumulators {
            let state = state(acc.state);
            *state = combine(acc, *state, take(acc.registers()));
        }
        for carry in &self.carries {
            let partial = take(carry.registers());
            let last = |lane: u8| little(&partial[VECTOR_BYTES - usize::from(lane)..]);
            match *carry {
                Carry::Previous { state: index, lane, .. } => *state(index) = last(lane),
                Carry::Running { ref states, ty, lane, .. } => {
                    // The oldest first.
                    for (index, from) in states.iter().rev().zip(partial.chunks_exact(usize::from(lane))) {
                        *state(*index) = little(from) & ty.mask();
                    }
                }
                Carry::Induction { state: index, ty, lane, .. } => {
                    *state(index) = little(&partial[..usize::from(lane)]) & ty.mask();
                }
                Carry::System { ref system, .. } => {
                    for (index, value) in system.states.iter().zip(system.finish(partial)) {
                        *state(*index) = value;
                    }
                }
                Carry::Sums { sum, sum_of_sums, ty, op, lane, .. } => {
                    let before = [*state(sum), *state(sum_of_sums)];
                    let chunks = (len / VECTOR_BYTES) as u64;
                    let after = sums(op, ty, before, partial, chunks, VECTOR_BYTES as u64 / u64::from(lane));
                    [*state(sum), *state(sum_of_sums)] = after;
                }
            }
        }
    }

    /// Runs over the last bytes, or one loop word.
    ///
    /// # Safety
    /// The contract of [`Functions::run`]; `len` is at most the gauge, which is more than 1.
    #[inline]
    unsafe fn tail(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        debug_assert!(len > 0 && len <= self.gauge && (2..=8).contains(&self.gauge));
        let Some(tail) = self.tail else { return };
        // SAFETY: `src` is readable for `len <= 8` bytes; the function touches nothing but the states; `dst`,
        // if not null, is writable for `len` bytes.
        unsafe {
            let out = tail(states, pos, read(src, len), len as u64);
            if !dst.is_null() {
                write(out, dst, len);
            }
        }
    }
}

/// [`Functions::run`] with the functions as the last argument: what [`stub`] jumps to.
///
/// # Safety
/// The contract of [`Functions::run`], and that of [`Entry`]; `functions` is valid.
#[cfg(target_arch = "x86_64")]
unsafe extern "sysv64" fn run_with(
    states: *mut u64,
    pos: u64,
    src: *const u8,
    dst: *mut u8,
    len: usize,
    functions: *const Functions,
) {
    // SAFETY: the caller's promise.
    unsafe { (*functions).run(states, pos, src, dst, len) }
}

/// [`Functions::run`] with the functions as the last argument: what [`stub`] jumps to.
///
/// # Safety
/// The contract of [`Functions::run`], and that of [`Entry`]; `functions` is valid.
#[cfg(target_arch = "aarch64")]
unsafe extern "C" fn run_with(
    states: *mut u64,
    pos: u64,
    src: *const u8,
    dst: *mut u8,
    len: usize,
    functions: *const Functions,
) {
    // SAFETY: the caller's promise.
    unsafe { (*functions).run(states, pos, src, dst, len) }
}

/// Code with the signature of [`Function`] that loads the address of `functions` into the sixth argument's
/// register and jumps to [`run_with`]: the engine can call it without any checks.
#[cfg(target_arch = "x86_64")]
pub(super) fn stub(functions: *const Functions) -> Option<Vec<u8>> {
    let mut code = vec![0x49, 0xb9]; // mov r9, functions
    code.extend((functions as u64).to_le_bytes());
    code.extend([0x48, 0xb8]); // mov rax, run_with
    code.extend((run_with as *const () as u64).to_le_bytes());
    code.extend([0xff, 0xe0]); // jmp rax
    Some(code)
}

/// Code with the signature of [`Function`] that loads the address of `functions` into the sixth argument's
/// register and jumps to [`run_with`]: the engine can call it without any checks.
#[cfg(target_arch = "aarch64")]
pub(super) fn stub(functions: *const Functions) -> Option<Vec<u8>> {
    let mut code = Vec::new();
    let mut literal = |register: u32, value: u64| {
        for part in 0..4u32 {
            let bits = (value >> (16 * part)) as u32 & 0xffff;
            // movz for the first sixteen bits, movk for the others.
            let op = if part == 0 { 0xd280_0000 } else { 0xf280_0000 };
            code.extend((op | part << 21 | bits << 5 | register).to_le_bytes());
        }
    };
    literal(5, functions as u64);
    literal(16, run_with as *const () as u64);
    code.extend(0xd61f_0200u32.to_le_bytes()); // br x16
    Some(code)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn stub(_functions: *const Functions) -> Option<Vec<u8>> {
    None
}

/// The stub at `address` as an entry.
///
/// # Safety
/// [`stub`]'s code is there, and what it points to stays.
pub(super) unsafe fn entry(address: *const u8) -> Entry {
    // SAFETY: the caller's promise.
    let function = unsafe { std::mem::transmute::<*const u8, Function>(address) };
    Entry { function, longest: MAX_CALL_BYTES }
}

/// A number of up to 8 bytes, the least significant one first.
fn little(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// `len` bytes (1 to 8) as a little-endian number, by two loads that may overlap.
///
/// # Safety
/// `src` is readable for `len` bytes.
#[inline]
unsafe fn read(src: *const u8, len: usize) -> u64 {
    // SAFETY: both loads are within the `len` bytes.
    unsafe {
        let two = |low: u64, high: u64, size: usize| low | high << (8 * (len - size));
        match len {
            8.. => src.cast::<u64>().read_unaligned(),
            4.. => {
                let at = |offset: usize| u64::from(src.add(offset).cast::<u32>().read_unaligned());
                two(at(0), at(len - 4), 4)
            }
            2.. => {
                let at = |offset: usize| u64::from(src.add(offset).cast::<u16>().read_unaligned());
                two(at(0), at(len - 2), 2)
            }
            _ => u64::from(*src),
        }
    }
}

/// The low `len` bytes (1 to 8) of a little-endian number, by two stores that may overlap.
///
/// # Safety
/// `dst` is writable for `len` bytes.
#[inline]
unsafe fn write(word: u64, dst: *mut u8, len: usize) {
    // SAFETY: both stores are within the `len` bytes.
    unsafe {
        let high = |size: usize| word >> (8 * (len - size));
        match len {
            8.. => dst.cast::<u64>().write_unaligned(word),
            4.. => {
                dst.cast::<u32>().write_unaligned(word as u32);
                dst.add(len - 4).cast::<u32>().write_unaligned(high(4) as u32);
            }
            2.. => {
                dst.cast::<u16>().write_unaligned(word as u16);
                dst.add(len - 2).cast::<u16>().write_unaligned(high(2) as u16);
            }
            _ => *dst = word as u8,
        }
    }
}
