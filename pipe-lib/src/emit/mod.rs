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
use crate::ir::Op;
use crate::plan::portable::PortablePlan;
#[cfg(native)]
use crate::plan::{rewrite, target::Targets, wide::WidePlan};
use cranelift::object::{CodeBytes, ExportSpec, ObjectSpec, ProcessorCode};
use interface::Interface;
use std::fmt;

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
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EmitError::Name(name) => {
                write!(f, "`{name}` cannot name a function of C and Rust; write letters, digits and `_`")
            }
            EmitError::Cannot(what) => write!(f, "no code for other programs: {what}"),
        }
    }
}

impl core::error::Error for EmitError {}

/// What to call the function, and which processors to have code for.
#[derive(Clone, Debug)]
pub struct EmitOptions {
    name: String,
    machines: Vec<Features>,
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
        let machines = MACHINES.iter().filter_map(|names| Features::of_machine(names).ok()).collect();
        Ok(EmitOptions { name: name.to_owned(), machines })
    }

    /// With code for these sets of instructions, the best first; without any, what is portable alone.
    #[must_use]
    pub fn machines(self, machines: Vec<Features>) -> EmitOptions {
        EmitOptions { machines, ..self }
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
/// [`EmitError::Cannot`]: windows, layouts and frames, values of 128 bits and secret states, which the
/// library has a driver for, and what has no portable code.
pub fn emit(composition: &Composition, options: &EmitOptions) -> Result<EmittedObject, EmitError> {
    refuse_what_needs_the_library(composition)?;
    let cannot = |what: String| EmitError::Cannot(what);
    let stages = Analysed::all(composition.stages.iter().map(|stage| &stage.pipe));
    let mut plan = PortablePlan::new(&stages, cranelift::target().as_ref(), false)
        .map_err(|refusal| cannot(refusal.to_string()))?;
    let interface = Interface::new(composition, &options.name);
    let mut longest_call = MAX_CALL_BYTES;
    let (variants, mut codes) = variants(composition, &stages, options, &mut longest_call);
    let states: Vec<_> = interface.registers.iter().map(|register| (register.ty, register.initial)).collect();
    let mut exports = Vec::new();
    let mut offsets = interface.exports.iter().map(|export| export.offset);
    let mut base = 0;
    for stage in &composition.stages {
        let of_stage = stage.pipe.exports.iter().zip(&mut offsets);
        exports.extend(of_stage.map(|(export, offset)| ExportSpec {
            finish: &stage.pipe.finish,
            tables: &stage.pipe.tables,
            value: export.value,
            base,
            offset,
        }));
        base += stage.pipe.states.len();
    }
    let spec = ObjectSpec {
        name: &options.name,
        modifies: interface.modifies,
        reject_word: interface.reject_word,
        states: &states,
        exports: &exports,
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
        if let Some(window) = stage.window {
            return cannot(format!(
                "`{name} per {window}` gives a list, which the library keeps; leave the window out, and call \
                 the function for each window"
            ));
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

/// Code for sets of instructions, and what came of each.
#[cfg(native)]
fn variants(
    composition: &Composition,
    stages: &[Analysed],
    options: &EmitOptions,
    longest_call: &mut usize,
) -> (Vec<ProcessorCode>, Vec<String>) {
    let (mut variants, mut lines): (Vec<ProcessorCode>, Vec<String>) = (Vec::new(), Vec::new());
    for features in &options.machines {
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
    _options: &EmitOptions,
    _longest_call: &mut usize,
) -> (Vec<ProcessorCode>, Vec<String>) {
    (Vec::new(), Vec::new())
}
