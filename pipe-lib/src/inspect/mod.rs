//! What the compiler makes of a composition: a picture of its dataflow ([`dot`], [`svg`]), a description of
//! the plan, Cranelift's own form, machine code.

mod dot;
mod graph;
mod plan;
mod svg;

pub use dot::dot;
pub use svg::svg;

use crate::backend::cranelift;
use crate::compose::Composition;
use crate::error::Unsupported;
use crate::options::Backend;
use crate::options::CompileOptions;
use crate::plan::Pass;
use crate::select::{self, Made, PassPlan};
use std::fmt::Write as _;

/// The plan that an engine follows: which stages share a loop, what the loop does, how states are carried and
/// combined, as the backend of each pass decided.
///
/// # Errors
/// [`Unsupported`] where the backend asked for does not take a pass.
pub fn plan(composition: &Composition, options: &CompileOptions) -> Result<String, Unsupported> {
    let (plan, made) = select::select(composition, options)?;
    Ok(plan.describe_code(composition, &made))
}

/// Cranelift's textual form of every pass's functions, after the rewrites.
///
/// # Errors
/// [`Unsupported`] where Cranelift does not take a pass.
pub fn clif(composition: &Composition, options: &CompileOptions) -> Result<String, Unsupported> {
    let options = CompileOptions { backend: Backend::Cranelift, ..options.clone() };
    let (plan, made) = select::select(composition, &options)?;
    let mut text = String::new();
    for (index, (pass, made)) in plan.passes.iter().zip(&made).enumerate() {
        headline(&mut text, index, pass, composition, made);
        let stages = &made.stages;
        if stages.is_empty() {
            let _ = writeln!(text, "; a plain copy\n");
        } else if let PassPlan::Portable(plan) = &made.plan {
            let _ = writeln!(text, "{}", cranelift::clif(plan)?);
        } else if let PassPlan::Digest(_) = made.plan {
            let _ = writeln!(text, "; {NO_CODE}\n");
        } else {
            let _ = writeln!(text, "; {BLOCK_CODE}\n");
        }
    }
    Ok(text)
}

/// The machine code of every pass of the engine that these options give, after the rewrites, disassembled (on
/// x86-64).
///
/// # Errors
/// [`Unsupported`] where the backend asked for does not take a pass, or the machine is another one.
pub fn asm(composition: &Composition, options: &CompileOptions) -> Result<String, Unsupported> {
    let (plan, made) = select::select(composition, options)?;
    let mut text = String::new();
    for (index, (pass, made)) in plan.passes.iter().zip(&made).enumerate() {
        headline(&mut text, index, pass, composition, made);
        if let PassPlan::Digest(_) = made.plan {
            let _ = writeln!(text, "; {NO_CODE}\n");
            continue;
        }
        let (from, functions) = (made.backend, made.code.functions());
        if functions.is_empty() {
            let what = if from == Backend::Interp { "the interpreter's" } else { BLOCK_CODE };
            let _ = writeln!(text, "; {from}: {what}\n");
        }
        for function in functions {
            let _ = writeln!(text, "; {from}: {}", function.what);
            let before = function.at - function.constants.len();
            for (index, constants) in function.constants.chunks(16).enumerate() {
                let bytes: Vec<String> = constants.iter().map(|byte| format!("{byte:02x}")).collect();
                let _ = writeln!(text, "{:6x}  db {}", before + 16 * index, bytes.join(" "));
            }
            let _ = writeln!(text, "{}", disassemble(function.bytes, function.at as u64)?);
        }
    }
    Ok(text)
}

/// What stands for a digest.
const NO_CODE: &str = "another crate's digest, which is fed block by block";

/// What runs where no code is generated.
const BLOCK_CODE: &str = "block code that is part of the library (carry-less products), or a plain copy";

fn headline(text: &mut String, index: usize, pass: &Pass, composition: &Composition, made: &Made) {
    let names: Vec<&str> = pass.stages(composition).map(|stage| stage.name.as_str()).collect();
    let _ = writeln!(text, "; pass {}: {}", index + 1, names.join(" | "));
    for note in made.rewritten.iter().flat_map(|rewritten| &rewritten.notes) {
        let _ = writeln!(text, ";   {note}");
    }
}

#[cfg(native)]
fn disassemble(code: &[u8], at: u64) -> Result<String, Unsupported> {
    use iced_x86::{Decoder, DecoderOptions, Formatter as _, IntelFormatter};
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_branch_leading_zeros(false);
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    let mut text = String::new();
    for instruction in Decoder::with_ip(64, code, at, DecoderOptions::NONE) {
        let mut line = String::new();
        formatter.format(&instruction, &mut line);
        let _ = writeln!(text, "{:6x}  {line}", instruction.ip());
    }
    Ok(text)
}

#[cfg(not(native))]
fn disassemble(_code: &[u8], _at: u64) -> Result<String, Unsupported> {
    let what = "disassemble code of this machine".to_owned();
    Err(Unsupported { backend: Backend::Cranelift, what })
}
