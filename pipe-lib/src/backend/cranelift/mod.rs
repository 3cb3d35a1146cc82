//! Portable machine code through Cranelift: 128-bit vectors, four chunks an iteration, and a fused scalar
//! loop for what has no vector form.
//!
//! `module` brings the functions of a pass into executable memory, through Cranelift's JIT module. Cranelift
//! runs with `opt_level = none`: its optimiser sinks loads to the back edge and spills, and common
//! subexpressions, constants and invariants are dealt with before it sees the code.

mod bits;
pub(super) mod body;
mod builder;
mod combine;
mod leaves;
mod loops;
mod module;
#[cfg(feature = "emit")]
pub(crate) mod object;
mod outline;
mod run;
mod scalar;
mod vector;

use super::{Entry, Listed, PassCode};
#[cfg(test)]
use crate::analyse::Analysed;
use crate::code::CodeMemory;
use crate::error::Unsupported;
use crate::features::Features;
use crate::options::Backend;
use crate::plan::portable::{PortablePlan, VECTOR_BYTES};
use crate::plan::target::{LaneOps, StateKinds, Systems, Target};
use body::LaneLoop;
use cranelift_codegen::ir;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use module::PassModule;
use run::{Functions, TailFn, WordsFn};
use std::sync::{Arc, OnceLock};

/// The function for whole words is the code's first piece.
const WORDS: usize = 0;

/// The function for the last bytes is the second, for gauges beyond 1.
const TAIL: usize = 1;

/// One compiled pass.
pub(crate) struct CraneliftCode {
    /// Shared with nobody, but pointed to by the code: an `Arc` stays where it is and may be pointed to.
    functions: Arc<Functions>,
    /// Pieces: [`WORDS`], [`TAIL`] for gauges beyond 1, then the stub.
    code: CodeMemory,
    entry: Option<Entry>,
    /// Constant tables that the code points into; their addresses do not change when this struct moves.
    _tables: Vec<Box<[u8]>>,
    /// Why there is no vector loop, if there is none.
    scalar_because: Option<String>,
}

/// The vectors that there is code for on this machine.
pub(crate) fn target() -> Option<Target> {
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64")).then(vectors)
}

/// Those that there is code for at all: of 128 bits, with the same operations on every kind of machine.
fn vectors() -> Target {
    Target {
        features: Features::NONE,
        vector_bytes: VECTOR_BYTES,
        registers: 16,
        crcs: false,
        clmul64: false,
        clmul128: false,
        aes: false,
        masks: false,
        waits: false,
        states: StateKinds {
            systems: Systems::Wrapping,
            steps: false,
            residues: true,
            around: true,
            mixed: true,
        },
        lanes: LaneOps::Common,
    }
}

/// Plans and compiles, with vectors where there is a form in vectors.
#[cfg(test)]
pub(crate) fn compile(stages: &[&crate::ir::Pipe], gauge: usize) -> Result<CraneliftCode, Unsupported> {
    let stages: Vec<Analysed> = stages.iter().map(|pipe| Analysed::new(Arc::new((*pipe).clone()))).collect();
    let plan = PortablePlan::new(&stages, target().as_ref(), false)
        .map_err(|refusal| unsupported(refusal.to_string()))?;
    assert_eq!(plan.gauge, gauge);
    Ok(emit(plan)?.0)
}

/// What code was made as.
pub(crate) struct EmittedLoops {
    plan: PortablePlan,
    lanes: Option<LaneLoop>,
}

/// Code for a plan, and what it was made as.
pub(crate) fn emit(mut plan: PortablePlan) -> Result<(CraneliftCode, EmittedLoops), Unsupported> {
    let host = host()?;
    let mut lanes = LaneLoop::of(&mut plan);
    let code = match compile_plan(&plan, lanes.as_ref(), host) {
        // A machine may lack a vector instruction; the scalar loop needs none.
        Err(error) if lanes.is_some() => {
            plan.vector = Err(error.what);
            lanes = None;
            compile_plan(&plan, None, host)?
        }
        result => result?,
    };
    Ok((code, EmittedLoops { plan, lanes }))
}

fn compile_plan(
    plan: &PortablePlan,
    lanes: Option<&LaneLoop>,
    host: &Host,
) -> Result<CraneliftCode, Unsupported> {
    let gauge = plan.gauge;
    let mut tables = scalar::ConstantTables::default();
    let mut module = PassModule::new(host);
    let mut frontend = FunctionBuilderContext::new();
    let by_chunks = plan.by_chunks();
    let word = (!by_chunks).then_some(&plan.word);
    let words = loops::build(&host.loops, &mut frontend, word, lanes, &mut tables).map_err(unsupported)?;
    module.define_loop(words)?;
    if gauge > 1 {
        let tail =
            loops::build_tail(&host.straight, &mut frontend, &plan.tail, &mut tables).map_err(unsupported)?;
        module.define_straight(tail)?;
    }
    let (accumulators, carries) = match lanes {
        Some(LaneLoop { body, .. }) => (body.accumulators.clone(), body.carries.clone()),
        None => (Vec::new(), Vec::new()),
    };
    let scalar_because = plan.vector.as_ref().err().cloned();
    // The stub is part of the code and needs the functions' address; the functions need the code's.
    let mut functions = Arc::new(Functions {
        words: run::missing,
        tail: None,
        gauge,
        modifies: plan.word.out.is_some(),
        by_chunks,
        accumulators: accumulators.into(),
        carries: carries.into(),
    });
    let stub = run::stub(Arc::as_ptr(&functions));
    if let Some(stub) = &stub {
        module.define_bytes(stub)?;
    }
    let code = module.seal()?;
    if let Some(functions) = Arc::get_mut(&mut functions) {
        // SAFETY: functions of these signatures were compiled to these pieces.
        unsafe {
            functions.words = std::mem::transmute::<*const u8, WordsFn>(code.piece(WORDS).as_ptr());
            functions.tail =
                (gauge > 1).then(|| std::mem::transmute::<*const u8, TailFn>(code.piece(TAIL).as_ptr()));
        }
    }
    let last = if gauge > 1 { TAIL + 1 } else { TAIL };
    // SAFETY: the stub is that piece; it points to what `CraneliftCode` owns beside it.
    let entry = stub.map(|_| unsafe { run::entry(code.piece(last).as_ptr()) });
    Ok(CraneliftCode { functions, code, entry, _tables: tables.into_owned(), scalar_because })
}

/// The functions of a pass in Cranelift's own textual form.
pub(crate) fn clif(EmittedLoops { plan, lanes }: &EmittedLoops) -> Result<String, Unsupported> {
    let host = host()?;
    let mut tables = scalar::ConstantTables::default();
    let mut frontend = FunctionBuilderContext::new();
    let by_chunks = plan.by_chunks();
    let word = (!by_chunks).then_some(&plan.word);
    let words =
        loops::build(&host.loops, &mut frontend, word, lanes.as_ref(), &mut tables).map_err(unsupported)?;
    let what = whole(by_chunks, plan.vector.as_ref().err().map(String::as_str));
    let mut text = format!("; {what}\n{}", words.display());
    if plan.gauge > 1 {
        let tail =
            loops::build_tail(&host.straight, &mut frontend, &plan.tail, &mut tables).map_err(unsupported)?;
        text += &format!("\n; {}\n{}", last(by_chunks), tail.display());
    }
    Ok(text)
}

/// What the first function is for.
fn whole(by_chunks: bool, scalar_because: Option<&str>) -> String {
    match scalar_because {
        Some(why) => format!("whole words, one after the other: {why}"),
        None if by_chunks => "whole chunks".to_owned(),
        None => "whole chunks, then whole words".to_owned(),
    }
}

/// What the second one is for.
const fn last(by_chunks: bool) -> &'static str {
    if by_chunks { "a word after the last whole chunk, or the last bytes" } else { "the last bytes" }
}

#[cfg(test)]
impl CraneliftCode {
    /// Why the pass runs word by word, if it does.
    pub(crate) fn scalar_because(&self) -> Option<&str> {
        self.scalar_because.as_deref()
    }
}

impl PassCode for CraneliftCode {
    fn functions(&self) -> Vec<Listed<'_>> {
        let by_chunks = self.functions.by_chunks;
        let what = whole(by_chunks, self.scalar_because.as_deref());
        let words = self.code.piece(WORDS);
        let mut functions = vec![Listed { what, bytes: words, at: 0, constants: &[] }];
        if self.functions.gauge > 1 {
            let what = last(by_chunks).to_owned();
            functions.push(Listed {
                what,
                bytes: self.code.piece(TAIL),
                at: words.len().next_multiple_of(64),
                constants: &[],
            });
        }
        functions
    }

    fn is_serial(&self) -> bool {
        self.scalar_because.is_some()
    }

    unsafe fn run(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        debug_assert!(len > 0);
        // SAFETY: the caller's contract.
        unsafe { self.functions.run(states, pos, src, dst, len) }
    }

    fn entry(&self) -> Option<Entry> {
        self.entry
    }
}

fn unsupported(what: String) -> Unsupported {
    Unsupported { backend: Backend::Cranelift, what }
}

/// The machine that the process runs on.
struct Host {
    /// For loops: registers are worth the time to choose them well.
    loops: OwnedTargetIsa,
    /// For straight-line code that runs rarely: its single-pass register allocator takes a fraction of the
    /// time.
    straight: OwnedTargetIsa,
}

/// The host; found once.
fn host() -> Result<&'static Host, Unsupported> {
    #[cfg(all(test, target_arch = "x86_64"))]
    if named::IN_USE.get() {
        return Ok(named::host());
    }
    static HOST: OnceLock<Result<Host, String>> = OnceLock::new();
    HOST.get_or_init(|| Ok(Host { loops: isa("backtracking")?, straight: isa("single_pass")? }))
        .as_ref()
        .map_err(|why| unsupported(why.clone()))
}

fn isa(regalloc_algorithm: &str) -> Result<OwnedTargetIsa, String> {
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
    let mut builder = cranelift_native::builder().map_err(str::to_owned)?;
    #[cfg(target_arch = "x86_64")]
    keep_to_cap(&mut builder).map_err(|error| error.to_string())?;
    finish(builder, regalloc_algorithm)
}

fn finish(
    builder: cranelift_codegen::isa::Builder,
    regalloc_algorithm: &str,
) -> Result<OwnedTargetIsa, String> {
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
    let isa = builder.finish(settings::Flags::new(flags)).map_err(|error| error.to_string())?;
    if isa.endianness() != ir::Endianness::Little || isa.pointer_bits() != 64 {
        return Err("run on a machine that is not 64-bit little-endian".into());
    }
    Ok(isa)
}

/// Takes away what the processor has and the process is to do without ([`Features::CAP`]).
#[cfg(target_arch = "x86_64")]
fn keep_to_cap(builder: &mut cranelift_codegen::isa::Builder) -> Result<(), settings::SetError> {
    if Features::is_capped() { keep_to(builder, Features::detected()) } else { Ok(()) }
}

#[cfg(target_arch = "x86_64")]
fn keep_to(
    builder: &mut cranelift_codegen::isa::Builder,
    features: Features,
) -> Result<(), settings::SetError> {
    let groups: [(Features, &[&str]); 6] = [
        (Features::AVX2, &["has_avx", "has_avx2", "has_fma", "has_bmi1", "has_bmi2", "has_lzcnt"]),
        (Features::AVX512, &["has_avx512f", "has_avx512dq", "has_avx512vl"]),
        (Features::VBMI, &["has_avx512vbmi"]),
        (Features::BITALG, &["has_avx512bitalg"]),
        (Features::VNNI, &["has_avx512vnni"]),
        (Features::AVX_VNNI, &["has_avx_vnni"]),
    ];
    let gone = groups.iter().filter(|(group, _)| !features.has(*group)).flat_map(|(_, names)| *names);
    gone.copied().try_for_each(|name| builder.set(name, "false"))
}

/// A machine by name, so that goldens of code are the same on every x86-64 machine.
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) mod named {
    use super::{Host, finish};
    use cranelift_codegen::settings::Configurable as _;
    use std::cell::Cell;
    use std::sync::OnceLock;

    thread_local! {
        /// Whether this thread compiles for it.
        pub(crate) static IN_USE: Cell<bool> = const { Cell::new(false) };
    }

    /// x86-64-v3: AVX2 and no AVX-512.
    const FLAGS: [&str; 11] = [
        "has_sse3",
        "has_ssse3",
        "has_sse41",
        "has_sse42",
        "has_popcnt",
        "has_avx",
        "has_avx2",
        "has_fma",
        "has_bmi1",
        "has_bmi2",
        "has_lzcnt",
    ];

    pub(super) fn host() -> &'static Host {
        static HOST: OnceLock<Host> = OnceLock::new();
        HOST.get_or_init(|| {
            let target = |regalloc_algorithm| {
                let mut builder = cranelift_codegen::isa::lookup_by_name("x86_64-unknown-linux-gnu").unwrap();
                FLAGS.iter().for_each(|flag| builder.enable(flag).unwrap());
                finish(builder, regalloc_algorithm).unwrap()
            };
            Host { loops: target("backtracking"), straight: target("single_pass") }
        })
    }
}

#[cfg(test)]
mod tests;
