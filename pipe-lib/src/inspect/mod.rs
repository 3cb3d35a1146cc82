//! What the compiler makes of a composition: as a picture of its dataflow ([`dot`], [`svg`]), as the plan in words, as
//! Cranelift's own form, as machine code.

mod dot;
mod graph;
mod svg;

pub use dot::dot;
pub use svg::svg;

use crate::backend::features::Features;
use crate::backend::{self, Unsupported, cranelift, crc};
use crate::compose::Composition;
use crate::engine::CompileOptions;
use crate::ir::Pipe;
use crate::plan::Plan;
use std::fmt::Write as _;

/// The plan that an engine follows: which stages share a loop, what the loop does, how states are carried and combined.
pub fn plan(composition: &Composition) -> String {
    let generated = backend::generate_all(composition, &CompileOptions::default());
    generated.map_or_else(|_| Plan::new(composition), |(plan, _)| plan).describe(composition)
}

/// Cranelift's textual form of every pass's functions.
///
/// # Errors
/// [`Unsupported`] where Cranelift does not take a pass.
pub fn clif(composition: &Composition) -> Result<String, Unsupported> {
    each_pass(composition, cranelift::clif)
}

/// The machine code of every pass, disassembled (on x86-64): the native backend's where it takes all of them, as an engine
/// prefers it, Cranelift's otherwise. `features` are those that the native backend may use, all without.
///
/// # Errors
/// [`Unsupported`] where Cranelift does not take a pass either, or the machine is another one.
pub fn asm(composition: &Composition, features: Option<Features>) -> Result<String, Unsupported> {
    #[cfg(target_arch = "x86_64")]
    if let Ok(text) = native_asm(composition, features) {
        return Ok(text);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = features;
    each_pass(composition, |stages, gauge| {
        let code = cranelift::compile(stages, gauge)?;
        let (bytes, tail) = code.listing();
        let why = code.scalar_because().map(|why| format!(", one after the other: {why}"));
        let why = why.unwrap_or_default();
        let mut text = format!("; whole words{why}\n{}", disassemble(&bytes[..tail.min(bytes.len())], 0)?);
        if tail < bytes.len() {
            text += &format!("\n; the last bytes\n{}", disassemble(&bytes[tail..], tail as u64)?);
        }
        Ok(text)
    })
}

#[cfg(target_arch = "x86_64")]
fn native_asm(composition: &Composition, features: Option<Features>) -> Result<String, Unsupported> {
    use crate::backend::{Stripes, native};
    let mut text = String::new();
    for (index, pass) in Plan::fused(composition).passes.iter().enumerate() {
        let stages: Vec<&Pipe> = pass.stages(composition).map(|stage| &*stage.pipe).collect();
        let names: Vec<&str> = pass.stages(composition).map(|stage| stage.name.as_str()).collect();
        let code = native::compile(&stages, features.unwrap_or_else(Features::detected), Stripes::default())?;
        let _ = writeln!(text, "; pass {}: {}", index + 1, names.join(" | "));
        let _ = writeln!(text, "; native, any length\n{}", code.disassembly());
    }
    Ok(text)
}

fn each_pass(
    composition: &Composition,
    show: impl Fn(&[&Pipe], usize) -> Result<String, Unsupported>,
) -> Result<String, Unsupported> {
    let mut text = String::new();
    for (index, pass) in Plan::new(composition).passes.iter().enumerate() {
        let stages: Vec<&Pipe> = pass.stages(composition).map(|stage| &*stage.pipe).collect();
        let names: Vec<&str> = pass.stages(composition).map(|stage| stage.name.as_str()).collect();
        let _ = writeln!(text, "; pass {}: {}", index + 1, names.join(" | "));
        if crc::CrcCode::new(&stages).is_some() {
            let _ =
                writeln!(text, "; runs by block code that is part of the library (carry-less products)\n");
        } else {
            let _ = writeln!(text, "{}", show(&stages, pass.gauge)?);
        }
    }
    Ok(text)
}

#[cfg(target_arch = "x86_64")]
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

#[cfg(not(target_arch = "x86_64"))]
fn disassemble(_code: &[u8], _at: u64) -> Result<String, Unsupported> {
    let what = "disassemble code of this machine".to_owned();
    Err(Unsupported { backend: backend::Backend::Cranelift, what })
}
