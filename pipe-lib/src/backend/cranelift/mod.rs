//! Portable machine code through Cranelift: 128-bit vectors, four chunks a turn, and a fused scalar loop for what has no
//! vector form.
//!
//! The generated functions call nothing and refer to nothing by relocation, so their bytes go straight into
//! [`crate::code::CodeMemory`]; Cranelift's own JIT module, whose memory outlives its code, is not used. Cranelift runs
//! with `opt_level = none`: its optimiser sinks loads to the back edge and spills, and common subexpressions, constants
//! and invariants are dealt with before it sees the code.

mod loops;
mod scalar;
mod vector;

use super::{Backend, MAX_CALL_BYTES, PassCode, Unsupported};
use crate::code::CodeMemory;
use crate::ir::{BinaryOp, Op, Pipe};
use crate::plan::combine::{combine, sums};
use crate::plan::vector::Carry;
use crate::plan::{scalar as scalar_plan, vector as vector_plan};
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Context, ir};
use cranelift_frontend::FunctionBuilderContext;
use std::sync::OnceLock;

/// Bytes of a vector register.
const VECTOR_BYTES: usize = 16;

/// Most registers of partial results that one call leaves in its scratch area.
const MAX_PARTIALS: usize = 32;

/// Most operations of a loop word: register allocation takes longer than in proportion, and a compile must not take
/// seconds whatever the program.
const MAX_WEIGHT: usize = 20_000;

/// Most instructions of a loop word before anything is simplified.
const MAX_RAW: usize = 100_000;

/// Most chunks of one call with states that pass from word to word: 2^14 sums of 2^14 chunks stay below 2^64.
const MAX_ORDERED_CHUNKS: usize = 1 << 14;

/// `fn(states, pos, src, dst, step, len, partials)`: see [`loops::build`].
type WordsFn = unsafe extern "C" fn(*mut u64, u64, *const u8, *mut u8, u64, usize, *mut u8);

/// `fn(states, pos, raw word, t) -> raw word`: see [`loops::build_tail`].
type TailFn = unsafe extern "C" fn(*mut u64, u64, u64, u64) -> u64;

/// One compiled pass.
pub(crate) struct CraneliftCode {
    code: CodeMemory,
    tail_offset: usize,
    gauge: usize,
    modifies: bool,
    /// The first function takes whole chunks only; the words after them go through the second one, one by one. They are
    /// few, and a loop for them would take longer to compile than all the rest.
    by_chunks: bool,
    accumulators: Vec<vector_plan::Accumulator>,
    carries: Vec<vector_plan::Carry>,
    /// Constant tables that the code points into; their addresses do not change when this struct moves.
    _tables: Vec<Box<[u8]>>,
    /// Why there is no vector loop, if there is none.
    scalar_because: Option<String>,
}

/// What a pass becomes before there is machine code.
struct Lowered {
    word: scalar_plan::Fused,
    tail: scalar_plan::Fused,
    vector: Result<vector_plan::VectorBody, String>,
}

impl Lowered {
    fn new(stages: &[&Pipe], gauge: usize) -> Lowered {
        Lowered {
            word: scalar_plan::word(stages, gauge),
            tail: scalar_plan::tail(stages, gauge),
            vector: vector(stages),
        }
    }
}

impl Lowered {
    /// Whether words that are left after the last whole chunk are done one by one, as incomplete ones are.
    fn by_chunks(&self, gauge: usize) -> bool {
        gauge > 1 && self.vector.is_ok()
    }
}

/// The vector form, where this backend has code for it.
fn vector(stages: &[&Pipe]) -> Result<vector_plan::VectorBody, String> {
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return Err("this machine's vectors are not used".into());
    }
    let body = vector_plan::lower(stages)?;
    let partials: usize = body.accumulators.iter().map(|acc| acc.registers()).sum();
    let partials = partials + body.carries.iter().map(|carry| carry.registers()).sum::<usize>();
    if body.period() > VECTOR_BYTES {
        return Err(format!("a pattern of {} bytes in registers of {VECTOR_BYTES}", body.period()));
    }
    if partials > MAX_PARTIALS {
        return Err(format!("{partials} registers of partial results"));
    }
    let size = body.insts.len() * (loops::unroll(&body) + 1);
    if size > MAX_WEIGHT {
        return Err(format!("{size} vector operations (the limit is {MAX_WEIGHT})"));
    }
    vector::check(&body)?;
    Ok(body)
}

/// Compiles the fused `stages` (parameters bound) of a pass whose loop word is `gauge` bytes.
pub(crate) fn compile(stages: &[&Pipe], gauge: usize) -> Result<CraneliftCode, Unsupported> {
    let host = host()?;
    let raw: usize =
        stages.iter().map(|pipe| pipe.body.insts.len() * (gauge / pipe.word_bytes()).max(1)).sum();
    if raw > MAX_RAW {
        return Err(unsupported(format!("{raw} instructions in one loop word (the limit is {MAX_RAW})")));
    }
    let mut lowered = Lowered::new(stages, gauge);
    let size = weight(&lowered.word) + weight(&lowered.tail);
    if size > MAX_WEIGHT {
        return Err(unsupported(format!("{size} operations in one loop word (the limit is {MAX_WEIGHT})")));
    }
    match compile_lowered(&lowered, host, gauge) {
        // A machine may lack a vector instruction; the scalar loop needs none.
        Err(error) if lowered.vector.is_ok() => {
            lowered.vector = Err(error.what);
            compile_lowered(&lowered, host, gauge)
        }
        result => result,
    }
}

/// About the number of instructions that a block takes.
fn weight(fused: &scalar_plan::Fused) -> usize {
    let cost = |op: &Op| match op {
        Op::Binary(BinaryOp::Clmul | BinaryOp::Clmulh, ..) => 256,
        Op::Crc(..) => 40,
        Op::Modular(..) => 24,
        _ => 1,
    };
    fused.block.insts.iter().map(|inst| cost(&inst.op)).sum()
}

fn compile_lowered(lowered: &Lowered, host: &Host, gauge: usize) -> Result<CraneliftCode, Unsupported> {
    let mut tables = scalar::Tables::default();
    let mut context = Context::new();
    let mut frontend = FunctionBuilderContext::new();
    let by_chunks = lowered.by_chunks(gauge);
    let word = (!by_chunks).then_some(&lowered.word);
    let words = loops::build(&host.loops, &mut frontend, word, lowered.vector.as_ref().ok(), &mut tables)
        .map_err(unsupported)?;
    let mut bytes = emit(&mut context, &host.loops, words)?;
    // The second function begins at a cache line of its own.
    bytes.resize(bytes.len().next_multiple_of(64), 0);
    let tail_offset = bytes.len();
    if gauge > 1 {
        context.clear();
        let tail = loops::build_tail(&host.straight, &mut frontend, &lowered.tail, &mut tables)
            .map_err(unsupported)?;
        bytes.extend(emit(&mut context, &host.straight, tail)?);
    }
    let code =
        CodeMemory::new(&bytes).map_err(|error| unsupported(format!("get executable memory: {error}")))?;
    let (accumulators, carries, scalar_because) = match &lowered.vector {
        Ok(body) => (body.accumulators.clone(), body.carries.clone(), None),
        Err(why) => (Vec::new(), Vec::new(), Some(why.clone())),
    };
    Ok(CraneliftCode {
        code,
        tail_offset,
        gauge,
        modifies: lowered.word.out.is_some(),
        by_chunks,
        accumulators,
        carries,
        _tables: tables.into_owned(),
        scalar_because,
    })
}

/// The functions of a pass in Cranelift's own textual form.
pub(crate) fn clif(stages: &[&Pipe], gauge: usize) -> Result<String, Unsupported> {
    let lowered = Lowered::new(stages, gauge);
    let host = host()?;
    let mut tables = scalar::Tables::default();
    let mut frontend = FunctionBuilderContext::new();
    let by_chunks = lowered.by_chunks(gauge);
    let word = (!by_chunks).then_some(&lowered.word);
    let words = loops::build(&host.loops, &mut frontend, word, lowered.vector.as_ref().ok(), &mut tables)
        .map_err(unsupported)?;
    let what = if by_chunks { "whole chunks" } else { "whole words" };
    let mut text = format!("; {what}\n{}", words.display());
    if gauge > 1 {
        let tail = loops::build_tail(&host.straight, &mut frontend, &lowered.tail, &mut tables)
            .map_err(unsupported)?;
        text += &format!("\n; the last bytes\n{}", tail.display());
    }
    Ok(text)
}

impl CraneliftCode {
    /// Why the pass runs word by word, if it does.
    pub(crate) fn scalar_because(&self) -> Option<&str> {
        self.scalar_because.as_deref()
    }

    /// The machine code and the offset at which the function for the last bytes begins.
    pub(crate) fn listing(&self) -> (&[u8], usize) {
        (self.code.bytes(), self.tail_offset)
    }
}

impl CraneliftCode {
    /// Runs over `len` bytes, and takes the partial results into the states.
    ///
    /// # Safety
    /// The contract of [`PassCode::run`] for whole loop words, except that with a `step` of 0 everything is stored at `dst`, which has
    /// room for 64 bytes.
    unsafe fn call(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, step: u64, len: usize) {
        let mut partials = [[0u8; VECTOR_BYTES]; MAX_PARTIALS];
        // SAFETY: the code was compiled from a checked plan for this signature; it reads `len` bytes from `src` and
        // writes `len` bytes to `dst` (or, with a step of 0, up to 64), reads and writes the states, and fills as many
        // partial results as there are, at most `MAX_PARTIALS`. The caller keeps the contract.
        unsafe {
            let words = std::mem::transmute::<*const u8, WordsFn>(self.code.address(0));
            words(states, pos, src, dst, step, len, partials.as_mut_ptr().cast());
        }
        if len < VECTOR_BYTES {
            return;
        }
        // SAFETY: the contract gives one state for each of the pass's states, and `index` is that of one.
        let state = |index: u32| unsafe { &mut *states.add(index as usize) };
        let mut rest = &partials[..];
        let mut take = |registers: usize| {
            let (partial, after) = rest.split_at(registers);
            rest = after;
            partial.as_flattened()
        };
        for acc in &self.accumulators {
            let state = state(acc.state);
            *state = combine(acc, *state, take(acc.registers()));
        }
        for carry in &self.carries {
            let partial = take(carry.registers());
            let last = |lane: u8| {
                let lane = &partial[VECTOR_BYTES - usize::from(lane)..];
                lane.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
            };
            match *carry {
                Carry::Previous { state: index, lane, .. } => *state(index) = last(lane),
                Carry::Running { state: index, ty, lane, .. } => *state(index) = last(lane) & ty.mask(),
                Carry::Sums { sum, sum_of_sums, ty, op, lane, .. } => {
                    let before = [*state(sum), *state(sum_of_sums)];
                    let chunks = (len / VECTOR_BYTES) as u64;
                    let after = sums(op, ty, before, partial, chunks, VECTOR_BYTES as u64 / u64::from(lane));
                    [*state(sum), *state(sum_of_sums)] = after;
                }
            }
        }
    }

    /// Runs over whole loop words.
    ///
    /// # Safety
    /// The contract of [`PassCode::run`]; `len` is a multiple of the gauge.
    unsafe fn words(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        let mut spare = [0u8; 4 * VECTOR_BYTES];
        let stores = !dst.is_null() && (self.modifies || dst.cast_const() != src);
        // The loop stores always; where nothing is to be written, it stores to the same spare line again and again.
        let (mut to, step) = if stores { (dst, usize::MAX) } else { (spare.as_mut_ptr(), 0) };
        let (mut src, mut pos) = (src, pos);
        let looped = if self.by_chunks { len - len % VECTOR_BYTES } else { len };
        // States that pass from word to word must be complete when the scalar loop takes over: then whole chunks and the
        // rest are separate calls. Sums of sums overflow after longer stretches than this one.
        let at_once = |left: usize| match (self.carries.is_empty(), left / VECTOR_BYTES) {
            (true, _) | (false, 0) => left,
            (false, chunks) => chunks.min(MAX_ORDERED_CHUNKS) * VECTOR_BYTES,
        };
        let mut left = looped;
        while left != 0 {
            let n = at_once(left);
            // SAFETY: `n` bytes of the `left` that the caller promised, from `src` and to `dst` (or the spare line).
            unsafe {
                self.call(states, pos, src, to, step as u64, n);
                src = src.add(n);
                to = to.wrapping_add(n & step);
            }
            pos += n as u64;
            left -= n;
        }
        for _ in 0..(len - looped) / self.gauge {
            let word = if stores { to } else { std::ptr::null_mut() };
            // SAFETY: one of the whole words that the loop left.
            unsafe {
                self.tail(states, pos, src, word, self.gauge);
                src = src.add(self.gauge);
            }
            to = to.wrapping_add(self.gauge & step);
            pos += self.gauge as u64;
        }
    }

    /// Runs over the last bytes, or one loop word.
    ///
    /// # Safety
    /// The contract of [`PassCode::run`]; `len` is at most the gauge, which is more than 1.
    unsafe fn tail(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        debug_assert!(len > 0 && len <= self.gauge && (2..=8).contains(&self.gauge));
        let mut raw = [0; 8];
        // SAFETY: `src` is readable for `len <= 8` bytes; the function in code memory has this signature and touches
        // nothing but the states; `dst`, if not null, is writable for `len` bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(src, raw.as_mut_ptr(), len);
            let tail = std::mem::transmute::<*const u8, TailFn>(self.code.address(self.tail_offset));
            let out = tail(states, pos, u64::from_le_bytes(raw), len as u64).to_le_bytes();
            if !dst.is_null() {
                std::ptr::copy_nonoverlapping(out.as_ptr(), dst, len);
            }
        }
    }
}

impl PassCode for CraneliftCode {
    unsafe fn run(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        debug_assert!(len > 0 && len <= MAX_CALL_BYTES);
        let rest = len % self.gauge;
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
}

fn unsupported(what: String) -> Unsupported {
    Unsupported { backend: Backend::Cranelift, what }
}

/// The machine that the process runs on.
struct Host {
    /// For loops: registers are worth the time to choose them well.
    loops: OwnedTargetIsa,
    /// For straight-line code that runs once in a while: registers are taken as they come, in a fraction of the time.
    straight: OwnedTargetIsa,
}

/// The host; found once.
fn host() -> Result<&'static Host, Unsupported> {
    static HOST: OnceLock<Result<Host, String>> = OnceLock::new();
    HOST.get_or_init(|| Ok(Host { loops: target("backtracking")?, straight: target("single_pass")? }))
        .as_ref()
        .map_err(|why| unsupported(why.clone()))
}

fn target(regalloc_algorithm: &str) -> Result<OwnedTargetIsa, String> {
    let mut flags = settings::builder();
    let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
    for (name, value) in [
        ("opt_level", "none"),
        ("regalloc_algorithm", regalloc_algorithm),
        ("enable_verifier", verifier),
        ("is_pic", "false"),
        ("unwind_info", "false"),
        // A loop word with thousands of live values has a frame larger than a guard page.
        ("enable_probestack", "true"),
        ("probestack_strategy", "inline"),
    ] {
        flags.set(name, value).map_err(|error| format!("{name}: {error}"))?;
    }
    let builder = cranelift_native::builder().map_err(str::to_owned)?;
    let isa = builder.finish(settings::Flags::new(flags)).map_err(|error| error.to_string())?;
    if isa.endianness() != ir::Endianness::Little || isa.pointer_bits() != 64 {
        return Err("run on a machine that is not 64-bit little-endian".into());
    }
    Ok(isa)
}

fn emit(context: &mut Context, isa: &OwnedTargetIsa, func: ir::Function) -> Result<Vec<u8>, Unsupported> {
    context.func = func;
    let compiled = context
        .compile(&**isa, &mut ControlPlane::default())
        .map_err(|error| unsupported(format!("{:?}", error.inner)))?;
    if !compiled.buffer.relocs().is_empty() {
        return Err(unsupported("code that depends on where it lies".into()));
    }
    Ok(compiled.code_buffer().to_vec())
}

#[cfg(test)]
mod tests;
