//! Code made ahead of time: a pipeline as an object file that other programs link, and how C and Rust call
//! it.
//!
//! The object holds the loop as portable code, and where there is native code, the loop for each of several
//! sets of instructions; which of them runs is found out at the first call. It needs nothing of this library,
//! and nothing in it depends on where it is loaded.
//!
//! ```
//! use pipe_lib::{Library, emit::{EmitOptions, emit}};
//!
//! let pipeline = Library::standard().pipeline("inet_cksum as sum | byteswap32")?;
//! let emitted = emit(pipeline.composition(), &EmitOptions::new("send")?)?;
//! assert!(emitted.c_header().contains("int send(struct send_state *state"));
//! std::fs::write(std::env::temp_dir().join("send.o"), emitted.object())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod interface;
pub(crate) mod processor;
mod text;

use crate::analyse::Analysed;
#[cfg(native)]
use crate::backend::native;
use crate::backend::{MAX_CALL_BYTES, cranelift};
use crate::compose::Composition;
use crate::features::Features;
use crate::ir::{Op, Tail};
use crate::plan::Plan;
use crate::plan::portable::PortablePlan;
#[cfg(native)]
use crate::plan::{rewrite, target::Targets, wide::WidePlan};
use cranelift::object::{CodeBytes, ExportSpec, ObjectMachine, ObjectSpec, ProcessorCode, WindowSpec};
use interface::Interface;
use std::fmt;
use std::num::NonZeroU64;

/// Sets of instructions that there is code for unless others are named: Ice Lake and Zen 4, Alder Lake,
/// Haswell, each with what came after.
pub const MACHINES: [&str; 3] = [
    "avx512,vbmi,bitalg,vpopcntdq,gfni,vnni,pclmul,vpclmul,vaes",
    "avx2,gfni,avxvnni,pclmul,vpclmul,vaes",
    "avx2,pclmul",
];

/// Why there is no code for other programs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmitError {
    /// A name that is no identifier of C and Rust, or means something there.
    Name(String),
    /// What the pipeline has that there is no code for, as a phrase, and what to do instead.
    Cannot(String),
    /// A target that is none of [`EmitTarget::NAMES`].
    Target(String),
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EmitError::Name(name) => {
                write!(f, "`{name}` cannot name a function of C and Rust; write letters, digits and `_`")
            }
            EmitError::Cannot(what) => write!(f, "no code for other programs: {what}"),
            EmitError::Target(name) => {
                write!(f, "no target is called `{name}`; there are {}", EmitTarget::NAMES.join(" and "))
            }
        }
    }
}

impl core::error::Error for EmitError {}

/// Which machines the object is for: unless named, those of this one's kind and system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmitTarget(ObjectMachine);

impl EmitTarget {
    /// What targets are called. Objects for them are ELF.
    pub const NAMES: [&str; 2] = ["x86_64", "aarch64"];
}

impl std::str::FromStr for EmitTarget {
    type Err = EmitError;

    fn from_str(name: &str) -> Result<EmitTarget, EmitError> {
        match name {
            "x86_64" => Ok(EmitTarget(ObjectMachine::X86)),
            "aarch64" => Ok(EmitTarget(ObjectMachine::Arm)),
            _ => Err(EmitError::Target(name.to_owned())),
        }
    }
}

/// What to call the function, and which processors to have code for.
#[derive(Clone, Debug)]
pub struct EmitOptions {
    name: String,
    target: EmitTarget,
    /// None: as it comes.
    machines: Option<Vec<Features>>,
}

impl EmitOptions {
    /// A function of that name, with code for [`MACHINES`].
    ///
    /// # Errors
    /// [`EmitError::Name`].
    pub fn new(name: &str) -> Result<EmitOptions, EmitError> {
        if !interface::is_identifier(name) {
            return Err(EmitError::Name(name.to_owned()));
        }
        Ok(EmitOptions { name: name.to_owned(), target: EmitTarget::default(), machines: None })
    }

    /// For machines of another kind.
    #[must_use]
    pub fn target(self, target: EmitTarget) -> EmitOptions {
        EmitOptions { target, ..self }
    }

    /// With code for these sets of x86-64's instructions, the best first; without any, what is portable
    /// alone. Only builds for x86-64 with the feature `native` have such code.
    #[must_use]
    pub fn machines(self, machines: Vec<Features>) -> EmitOptions {
        EmitOptions { machines: Some(machines), ..self }
    }

    /// The sets that there is to be code for.
    fn sets(&self) -> Result<Vec<Features>, EmitError> {
        let EmitTarget(machine) = self.target;
        match &self.machines {
            Some(machines) if !machine.is_x86() && !machines.is_empty() => Err(EmitError::Cannot(
                "sets of instructions are x86-64's; for other targets there is portable code alone"
                    .to_owned(),
            )),
            Some(machines) if !cfg!(native) && !machines.is_empty() => Err(EmitError::Cannot(
                "sets of instructions take our own emitter, which is not in this build; there is portable \
                 code alone"
                    .to_owned(),
            )),
            Some(machines) => Ok(machines.clone()),
            None if machine.is_x86() => {
                Ok(MACHINES.iter().filter_map(|names| Features::of_machine(names).ok()).collect())
            }
            None => Ok(Vec::new()),
        }
    }
}

/// An object file, and what is said of it.
#[derive(Debug)]
pub struct EmittedObject {
    object: Vec<u8>,
    interface: Interface,
    codes: Vec<String>,
}

impl EmittedObject {
    /// The file.
    pub fn object(&self) -> &[u8] {
        &self.object
    }

    /// Declarations for C (C99 and C++).
    pub fn c_header(&self) -> String {
        text::c_header(&self.interface)
    }

    /// A module for Rust: the declarations, and a safe function around them.
    pub fn rust_module(&self) -> String {
        text::rust_module(&self.interface)
    }

    /// For each set of instructions what came of it, and what the portable code is: a line each.
    pub fn codes(&self) -> &[String] {
        &self.codes
    }
}

/// The object for a composition.
///
/// # Errors
/// [`EmitError::Cannot`]: layouts and frames, values of 128 bits and secret states, which the
/// library has a driver for, and what has no portable code.
pub fn emit(composition: &Composition, options: &EmitOptions) -> Result<EmittedObject, EmitError> {
    refuse_what_needs_the_library(composition)?;
    let [pass] = &Plan::fused(composition).passes[..] else {
        return Err(EmitError::Cannot(
            "windows that end within words of other stages, or that several stages count offsets in; make \
             them equal, or a function of each part"
                .to_owned(),
        ));
    };
    let cannot = |what: String| EmitError::Cannot(what);
    let stages = Analysed::all(composition.stages.iter().map(|stage| &stage.pipe));
    let EmitTarget(machine) = options.target;
    let mut plan = PortablePlan::new(&stages, machine.vectors().as_ref(), false)
        .map_err(|refusal| cannot(refusal.to_string()))?;
    let interface = Interface::new(composition, &options.name);
    let mut longest_call = MAX_CALL_BYTES;
    let (variants, mut codes) = variants(composition, &stages, &options.sets()?, &mut longest_call);
    let registers = interface.registers.iter().chain(&interface.firsts);
    let states: Vec<_> = registers.map(|register| (register.ty, register.initial)).collect();
    let (exports, windows) = results(composition, &interface);
    let spec = ObjectSpec {
        machine,
        name: &options.name,
        modifies: interface.modifies,
        reject_word: interface.reject_word,
        states: &states,
        exports: &exports,
        windows: &windows,
        pos_window: pass.pos_window(composition).map(NonZeroU64::get),
        cut_window: interface.cut_window,
        variants: &variants,
        processor: processor::WORDS_CODE,
        longest_call,
    };
    let object =
        cranelift::object::write(&mut plan, &spec).map_err(|unsupported| cannot(unsupported.what))?;
    codes.push(match &plan.vector {
        Ok(_) => "portable: 128-bit vectors".to_owned(),
        Err(why) => format!("portable: word by word ({why})"),
    });
    Ok(EmittedObject { object, interface, codes })
}

fn refuse_what_needs_the_library(composition: &Composition) -> Result<(), EmitError> {
    let cannot = |what: String| Err(EmitError::Cannot(what));
    if composition.stages.is_empty() {
        return cannot("there are no stages: `memcpy` is that function".to_owned());
    }
    if composition.source.is_some() || composition.sink.is_some() {
        return cannot("a layout, which the library's driver reaches; leave it out".to_owned());
    }
    if composition.frames().next().is_some() {
        return cannot("a frame, which the library's driver writes and compares; leave it out".to_owned());
    }
    for stage in &composition.stages {
        let name = &stage.name;
        if let Some(window) = stage.window.map(NonZeroU64::get) {
            // Sums of an offset within a window and a length are to fit 64 bits.
            if window > i64::MAX as u64 {
                return cannot(format!("`{name}` has windows of 2^63 bytes or more; leave them out"));
            }
            let word = stage.pipe.word_bytes();
            if stage.pipe.tail == Tail::Reject && !window.is_multiple_of(word as u64) {
                return cannot(format!(
                    "`{name}` rejects what is left of each of its windows of {window} bytes; take a multiple of \
                     {word}"
                ));
            }
        }
        if let Some(kind) = stage.pipe.digest {
            return cannot(format!(
                "`{name}` is {} of another crate, which the library's driver feeds; leave it out",
                kind.title()
            ));
        }
        if stage.pipe.holds_secrets() {
            return cannot(format!("`{name}` has secret states, which the library overwrites after a run"));
        }
        let reads_stream = |op: Op| matches!(op, Op::In | Op::Pos);
        if stage.pipe.finish.insts.iter().any(|inst| reads_stream(inst.op)) {
            return cannot(format!("exports of `{name}` that depend on the stream"));
        }
    }
    Ok(())
}

/// The exports of the stages without windows, and for each length of windows what its stages have.
fn results<'a>(
    composition: &'a Composition,
    interface: &Interface,
) -> (Vec<ExportSpec<'a>>, Vec<WindowSpec<'a>>) {
    let mut exports = Vec::new();
    let mut windows: Vec<WindowSpec<'_>> = Vec::new();
    let mut offsets = interface.exports.iter().map(|export| export.offset);
    let (mut base, mut first) = (0, interface.registers.len());
    for stage in &composition.stages {
        let states = stage.pipe.states.len();
        let of_stage = stage.pipe.exports.iter().zip(&mut offsets).map(|(export, offset)| ExportSpec {
            finish: &stage.pipe.finish,
            tables: &stage.pipe.tables,
            value: export.value,
            base,
            offset,
        });
        match stage.window.map(NonZeroU64::get) {
            None => exports.extend(of_stage),
            Some(bytes) => {
                let known = windows.iter().position(|window| window.bytes == bytes);
                let index = known.unwrap_or_else(|| {
                    windows.push(WindowSpec { bytes, states: Vec::new(), exports: Vec::new() });
                    windows.len() - 1
                });
                windows[index].exports.extend(of_stage);
                windows[index].states.extend((0..states).map(|state| (base + state, first + state)));
                first += states;
            }
        }
        base += states;
    }
    (exports, windows)
}

/// Code for sets of instructions, and what came of each.
#[cfg(native)]
fn variants(
    composition: &Composition,
    stages: &[Analysed],
    sets: &[Features],
    longest_call: &mut usize,
) -> (Vec<ProcessorCode>, Vec<String>) {
    let (mut variants, mut lines): (Vec<ProcessorCode>, Vec<String>) = (Vec::new(), Vec::new());
    for features in sets {
        let targets = Targets { wide: native::targets(*features), portable: cranelift::target() };
        let rewritten = rewrite::rewrite(composition.stages.iter().zip(stages), &targets);
        // What rests on the states' values is for the library to check.
        let rewritten = rewritten.filter(|rewritten| rewritten.is_in_place(stages));
        let compiled = rewritten.as_ref().map_or(stages, |rewritten| &rewritten.stages);
        let made = WidePlan::new(compiled, &targets.wide).and_then(|plan| native::emit_loose(&plan));
        let code = match made {
            Ok(code) => code,
            Err(refusal) => {
                lines.push(format!("{features}: none ({refusal})"));
                continue;
            }
        };
        *longest_call = (*longest_call).min(code.longest_call);
        let bytes = |native::LooseFunction { bytes, entry }| CodeBytes { bytes, entry };
        let code = ProcessorCode {
            needs: processor::needed(*features).to_vec(),
            copying: bytes(code.copying),
            reading: code.reading.map(bytes),
        };
        // A machine with less runs the very same code: then that is the one that is asked for.
        if let Some(last) = variants.last_mut()
            && (&last.copying, &last.reading) == (&code.copying, &code.reading)
            && last.needs.iter().zip(&code.needs).all(|(more, less)| more & less == *less)
        {
            last.needs = code.needs;
        } else {
            variants.push(code);
        }
        lines.push(format!("{features}: native"));
    }
    (variants, lines)
}

/// There is none but what is portable.
#[cfg(not(native))]
fn variants(
    _composition: &Composition,
    _stages: &[Analysed],
    _sets: &[Features],
    _longest_call: &mut usize,
) -> (Vec<ProcessorCode>, Vec<String>) {
    (Vec::new(), Vec::new())
}
