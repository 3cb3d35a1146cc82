//! What turns a pass into something that runs: the interpreter, and the code generators.
//!
//! A backend that cannot take a pass says so with [`Unsupported`] and the next one is asked; it never panics. The
//! engine's driver is the only caller of `PassCode` and keeps its contract.

pub(crate) mod cranelift;

#[cfg(target_arch = "x86_64")]
pub(crate) mod native;

pub(crate) mod crc;
pub(crate) mod guarded;

pub(crate) mod interp;
pub mod oracle;
#[cfg(test)]
pub(crate) mod testing;

use crate::analyse::analyse;
use crate::compose::Composition;
pub(crate) use crate::error::Unsupported;
use crate::features::Features;
use crate::ir::{Layout, Pipe, Stripe};
pub(crate) use crate::options::Backend;
use crate::options::CompileOptions;
use crate::plan::rewrite::Rewritten;
use crate::plan::schedule::{self, Kind};
use crate::plan::{Pass, Plan, rewrite};
use guarded::Guarded;
use smallvec::SmallVec;
use std::cell::Cell;
use std::sync::Arc;

/// Longest stretch that the driver hands to one call of [`PassCode::run`]: code may keep per-lane partial sums that
/// would overflow beyond 2^32 words. A multiple of every gauge.
pub(crate) const MAX_CALL_BYTES: usize = 1 << 30;

/// The code of one pass: all its stages applied to a stretch of the stream, in one loop.
///
/// The contract of [`PassCode::run`], kept by the driver:
/// * `states` points to one `u64` for each state of the pass's stages, flattened in (stage, state) order, each value
///   masked to its type. Read at the start, written back before returning.
/// * `pos` is the offset of `src[0]` from the start of the stream, or of the window for a pass whose stages share one;
///   it is a multiple of the gauge.
/// * `0 < len <= MAX_CALL_BYTES`. A `len` that is no multiple of the gauge ends the stream or the window: each stage takes
///   its whole words, then its tail rule for the `len % word` bytes left. A stage that would reject such a length never
///   gets here.
/// * `src` is readable for `len` bytes, of any alignment.
/// * `dst` is null (read only: nothing is written), equal to `src` (in place), or writable for `len` bytes that do not
///   overlap `src`. When it is neither null nor `src`, all `len` bytes of it are written, even by stages that modify
///   nothing. Nothing outside is read or written.
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

    /// What the loop does, for people to read: its head, body, epilogue and tail as the backend decided on them, in lines under
    /// headings ([`crate::plan::display::heading`]). `stages` are those that the code was made for, `names` their states' in (stage,
    /// state) order.
    fn outline(&self, stages: &[&Pipe], names: &[String]) -> String;

    /// The same for a stretch, of any length, of a transfer of [`streaming_from`] bytes or more: what is written need not
    /// go through the caches, which would only fetch it to have it thrown out again. Other threads may look at it after
    /// [`settle`].
    ///
    /// # Safety
    /// The contract of the trait.
    unsafe fn run_streaming(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.run(states, pos, src, dst, len) }
    }

    /// Whether the functions of [`PassCode::entry`] and [`PassCode::striped`] may be called with these states.
    fn admits(&self, _states: &[u64]) -> bool {
        true
    }

    /// The function behind [`PassCode::run`], if it is one that a short transfer may call without asking anything first but
    /// [`PassCode::admits`].
    fn entry(&self) -> Option<Entry> {
        None
    }

    /// A function that stores to the striped buffer that the code was made for: `dst` is where a run begins, and the
    /// stream's `len` bytes go to their places from there on. Whatever lies in the holes is neither read nor written.
    fn striped(&self) -> Option<Entry> {
        None
    }

    /// Most bytes of a call of [`PassCode::run_striped`]; `None` if the code was not made for a striped buffer at that end.
    fn longest_striped(&self, _end: Striped) -> Option<usize> {
        None
    }

    /// [`PassCode::run`] from or to the striped buffer that the code was made for; the other end is contiguous. What lies in the
    /// holes is neither read nor written.
    ///
    /// # Safety
    /// The contract of the trait, but that the `len` bytes lie in stripes from `src` or `dst` on, where one begins. `dst`
    /// is neither null nor `src`, and `len` at most [`PassCode::longest_striped`].
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
    fn of(composition: &Composition) -> Stripes {
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
#[cfg(target_arch = "x86_64")]
pub(crate) use native::streaming_from;

/// No code here writes around the caches.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn streaming_from() -> usize {
    usize::MAX
}

/// Ends what [`PassCode::run_streaming`] wrote on this thread: stores around the caches may become visible after later
/// ones, and Rust's synchronisation does not know of them.
pub(crate) fn settle() {
    #[cfg(target_arch = "x86_64")]
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

/// Code under the contract of [`PassCode::run`], valid as long as the [`PassCode`] that it was asked of, for calls with a
/// `dst` that is not null. Takes a `len` of 0, too: it then does nothing.
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
}

/// Where code for a pass comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) backend: Backend,
    /// The native backend's instructions, if not every one that there is.
    pub(crate) features: Option<Features>,
    /// The striped buffers that the pass reads from and writes to.
    pub(crate) stripes: Stripes,
    /// Word after word, as written.
    pub(crate) serial: bool,
}

/// Code of a pass.
pub(crate) struct Made {
    /// Where it comes from.
    pub(crate) backend: Backend,
    pub(crate) code: Box<dyn PassCode>,
    /// What the rewrites made of the stages, if that is what was compiled.
    pub(crate) rewritten: Option<Arc<Rewritten>>,
}

impl Made {
    /// The stages that were compiled, of the pass that this is the code of.
    pub(crate) fn stages(&self, composition: &Composition, pass: &Pass) -> Vec<Arc<Pipe>> {
        match &self.rewritten {
            Some(rewritten) => rewritten.stages.clone(),
            None => pass.stages(composition).map(|stage| Arc::clone(&stage.pipe)).collect(),
        }
    }
}

/// Code for all passes of a plan.
type Generated = (Plan, Vec<Made>);

/// A plan for the composition and code for its passes, from the backend asked for.
///
/// The native backend is offered the whole pipeline as one loop first; what it cannot take whole is split by what it takes of
/// it, so that one stage that it refuses costs the others nothing but the seams.
pub(crate) fn generate_all(
    composition: &Composition,
    options: &CompileOptions,
) -> Result<Generated, Unsupported> {
    let &CompileOptions { backend, separate_passes, features, serial } = options;
    // A single pass reads and writes where the stream is; several go by way of a block in the cache.
    let stripes = Stripes::of(composition);
    let with = |plan: Plan, backend: Backend| -> Result<Generated, Unsupported> {
        let stripes = if plan.passes.len() == 1 { stripes } else { Stripes::default() };
        let target = Target { backend, features, stripes, serial };
        let (mut passes, mut code) = (Vec::new(), Vec::new());
        for pass in plan.passes {
            generate_fitting(composition, pass, target, &mut passes, &mut code)?;
        }
        Ok((Plan { passes }, code))
    };
    match backend {
        _ if separate_passes => with(Plan::separate(composition), backend),
        Backend::Interp => with(Plan::fused(composition), backend),
        _ if serial => with(Plan::fused(composition), backend),
        Backend::Cranelift => with(Plan::new(composition), backend),
        Backend::Auto | Backend::Native => {
            let whole = Plan::fused(composition);
            with(whole.clone(), Backend::Native).or_else(|refusal| {
                let split = schedule::schedule(composition, either(features));
                if backend == Backend::Auto || whole != split { with(split, backend) } else { Err(refusal) }
            })
        }
    }
}

/// How each stage runs in a pass of its own, on the backend that is fastest for it.
fn either(features: Option<Features>) -> impl Fn(&Pipe) -> Kind {
    // To ask is to compile in part: all stages together no more than one pass may take.
    let budget = Cell::new(NATIVE_SIZE);
    move |pipe| {
        let facts = analyse(pipe);
        let alone = rewrite::alone(pipe, &facts);
        let takes = |pipe: &Pipe| native_takes(pipe, features, &budget);
        if alone.as_ref().is_some_and(takes) || takes(pipe) {
            Kind::Native
        } else {
            schedule::kind_of(pipe, &facts, alone.as_ref())
        }
    }
}

/// Code for a pass, or for its halves one after the other where the native backend would take it if there were more
/// registers: two passes over blocks that stay in the first-level cache are faster than one in narrower vectors.
fn generate_fitting(
    composition: &Composition,
    pass: Pass,
    target: Target,
    passes: &mut Vec<Pass>,
    code: &mut Vec<Made>,
) -> Result<(), Unsupported> {
    if matches!(target.backend, Backend::Auto | Backend::Native) {
        match generate(composition, &pass, Target { backend: Backend::Native, ..target }) {
            Ok(done) => {
                passes.push(pass);
                code.push(done);
                return Ok(());
            }
            Err(refusal) if refusal.what == OUT_OF_REGISTERS && pass.stages.len() > 1 => {
                for half in pass.halves(composition) {
                    // Only a single pass reaches striped buffers itself.
                    let target = Target { stripes: Stripes::default(), ..target };
                    generate_fitting(composition, half, target, passes, code)?;
                }
                return Ok(());
            }
            Err(refusal) if target.backend == Backend::Native => return Err(refusal),
            Err(_) => {}
        }
    }
    let made = generate(composition, &pass, target)?;
    // What each of them does in vectors may be too much for one loop here, too.
    if pass.stages.len() > 1 && made.code.is_serial() && all_wide(composition, &pass, target) {
        for half in pass.halves(composition) {
            generate_fitting(
                composition,
                half,
                Target { stripes: Stripes::default(), ..target },
                passes,
                code,
            )?;
        }
        return Ok(());
    }
    code.push(made);
    passes.push(pass);
    Ok(())
}

/// Whether each of the stages would run in vectors in a pass of its own.
fn all_wide(composition: &Composition, pass: &Pass, target: Target) -> bool {
    let mut pipes = pass.stages(composition).map(|stage| &*stage.pipe);
    match target.backend {
        _ if target.serial => false,
        Backend::Auto => {
            let kind = either(target.features);
            pipes.all(|pipe| kind(pipe) != Kind::Serial)
        }
        _ => pipes.all(|pipe| schedule::kind(pipe) != Kind::Serial),
    }
}

/// What the native backend says of a pass that it would take if there were more registers.
const OUT_OF_REGISTERS: &str = "more values at once than there are registers";

/// Code for a pass from the backend asked for, with what the rewrites make of its stages.
fn generate(composition: &Composition, pass: &Pass, target: Target) -> Result<Made, Unsupported> {
    let stages: Box<[Arc<Pipe>]> = pass.stages(composition).map(|stage| Arc::clone(&stage.pipe)).collect();
    if let Some(rewritten) = rewritten(composition, pass, target)
        && let Ok((backend, code)) = generate_stages(&rewritten.stages, target)
    {
        let rewritten = Arc::new(rewritten);
        let code = if rewritten.is_unconditional(&stages) {
            code
        } else {
            Box::new(Guarded::new(code, Arc::clone(&rewritten), stages, target))
        };
        return Ok(Made { backend, code, rewritten: Some(rewritten) });
    }
    let (backend, code) = generate_stages(&stages, target)?;
    Ok(Made { backend, code, rewritten: None })
}

/// What the rewrites make of a pass, where they are used.
fn rewritten(composition: &Composition, pass: &Pass, target: Target) -> Option<Rewritten> {
    // The interpreter is what the others are held against: it runs what was written.
    let used = target.backend != Backend::Interp && !target.serial;
    used.then(|| rewrite::rewrite(pass.stages(composition))).flatten()
}

/// Code for stages as they are, when the code for what they were rewritten to may not run.
fn as_written(stages: &[Arc<Pipe>], target: Target) -> Box<dyn PassCode> {
    match generate_stages(stages, target) {
        Ok((_, code)) => code,
        // A backend that was asked for by name may refuse what it took after the rewrites.
        Err(_) => Box::new(interp::InterpCode::new(stages)),
    }
}

/// Code for the fused stages from the backend asked for; `Auto` takes the first that does not refuse.
fn generate_stages(
    stages: &[Arc<Pipe>],
    Target { backend, features, stripes, serial }: Target,
) -> Result<(Backend, Box<dyn PassCode>), Unsupported> {
    let interp = || -> Box<dyn PassCode> { Box::new(interp::InterpCode::new(stages)) };
    let gauge = stages.iter().map(|pipe| pipe.word_bytes()).max().unwrap_or(1);
    let pipes: SmallVec<[&Pipe; 8]> = stages.iter().map(|pipe| &**pipe).collect();
    if matches!(backend, Backend::Auto | Backend::Cranelift)
        && !serial
        && let Some(code) = crc::CrcCode::new(&pipes)
    {
        return Ok((Backend::Cranelift, Box::new(code)));
    }
    match backend {
        Backend::Native if serial => {
            Err(Unsupported { backend, what: "one word after the other".to_owned() })
        }
        Backend::Auto => Ok(if !serial && let Ok(code) = native(&pipes, stripes, features) {
            (Backend::Native, code)
        } else if let Ok(code) = cranelift::compile_as(&pipes, gauge, serial) {
            (Backend::Cranelift, Box::new(code))
        } else {
            (Backend::Interp, interp())
        }),
        Backend::Interp => Ok((Backend::Interp, interp())),
        Backend::Cranelift => {
            Ok((Backend::Cranelift, Box::new(cranelift::compile_as(&pipes, gauge, serial)?)))
        }
        Backend::Native => Ok((Backend::Native, native(&pipes, stripes, features)?)),
    }
}

/// Whether the native backend takes a stage by itself; `budget` is how many machine instructions may still be made to find
/// out.
#[cfg(target_arch = "x86_64")]
fn native_takes(pipe: &Pipe, features: Option<Features>, budget: &Cell<usize>) -> bool {
    if budget.get() == 0 {
        return false;
    }
    let size = native::takes(pipe, features.unwrap_or_else(Features::detected));
    // A refusal comes early, or at the limit.
    budget.set(budget.get().saturating_sub(size.unwrap_or(pipe.body.insts.len())));
    size.is_some()
}

#[cfg(not(target_arch = "x86_64"))]
fn native_takes(_pipe: &Pipe, _features: Option<Features>, _budget: &Cell<usize>) -> bool {
    false
}

/// Most machine instructions that finding out about all stages of a pipeline may take.
const NATIVE_SIZE: usize = 200_000;

/// Code for this processor, with the instructions chosen, or every one it has.
#[cfg(target_arch = "x86_64")]
fn native(
    stages: &[&Pipe],
    stripes: Stripes,
    features: Option<Features>,
) -> Result<Box<dyn PassCode>, Unsupported> {
    Ok(Box::new(native::compile(stages, features.unwrap_or_else(Features::detected), stripes)?))
}

#[cfg(not(target_arch = "x86_64"))]
fn native(
    _stages: &[&Pipe],
    _stripes: Stripes,
    _features: Option<Features>,
) -> Result<Box<dyn PassCode>, Unsupported> {
    Err(Unsupported { backend: Backend::Native, what: "any processor but x86-64".to_owned() })
}
