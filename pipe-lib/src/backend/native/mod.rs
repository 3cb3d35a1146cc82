//! The native backend: x86-64 loops as wide as the processor has registers, emitted through `iced-x86`'s encoder.
//!
//! A pass becomes one function for stretches of any length: import of the states, a loop over several vectors, a loop
//! over one, one masked vector for what is left (with each stage's tail rule), combination and export of the states.
//!
//! What flows where:
//!
//! * [`isa`]: which instructions there are;
//! * `strategy`: how each state of a stage is kept in a vector loop (reduction, CRC, delay, ...), or why it cannot be;
//! * `lower`: a stage's block on the lanes of one vector, in terms of `lanes` (one operation on every lane, expanded where
//!   the processor has no such instruction), into `vcode` (machine instructions on virtual registers);
//! * `regalloc`: real registers for straight-line code, constants rematerialised from a pool;
//! * `frame`: the function around the loop bodies; `asm`: encoding, labels, alignment;
//! * `memory`: executable pages, never writable at the same time.
//!
//! What it cannot do it refuses with [`super::Unsupported`]: serial states and divisions stay with Cranelift.

mod asm;
mod frame;
mod isa;
mod lanes;
mod lower;
mod memory;
mod reduce;
mod regalloc;
mod strategy;
mod vcode;

#[cfg(test)]
mod tests;

use super::{Backend, PassCode, Unsupported};
use crate::compose::Composition;
use crate::ir::Pipe;
use crate::plan::Pass;
use frame::{FrameError, Shape, Stores};
use iced_x86::Formatter;
pub(crate) use isa::Features;

/// Vectors in one turn of the main loop, most first: fewer where the registers do not suffice.
const UNROLLS: [usize; 3] = [4, 2, 1];

const PLAIN: usize = 0;
const READ_ONLY: usize = 1;

/// The machine code of a pass.
pub(crate) struct NativePass {
    code: memory::Code,
    modifies: bool,
}

/// Compiles a pass for this processor, as far as `features` allow.
pub(crate) fn compile(
    composition: &Composition,
    pass: &Pass,
    features: Features,
) -> Result<NativePass, Unsupported> {
    let pipes: Vec<&Pipe> = pass.stages(composition).map(|stage| &*stage.pipe).collect();
    compile_pipes(&pipes, features).map_err(|what| Unsupported { backend: Backend::Native, what })
}

/// Compiles stages in stream order, all of one window.
fn compile_pipes(pipes: &[&Pipe], features: Features) -> Result<NativePass, String> {
    let isa = features.isa().ok_or("a processor without AVX2")?;
    let function = |stores| {
        for unroll in UNROLLS {
            match frame::function(pipes, Shape { isa, features, stores, unroll }) {
                Ok(image) => return Ok(image),
                Err(FrameError::OutOfRegisters) => {}
                Err(FrameError::Refused(what)) => return Err(what),
            }
        }
        Err("more values at once than there are registers".to_owned())
    };
    let images = [function(Stores::Plain)?, function(Stores::None)?];
    let code = memory::Code::new(&images).map_err(|error| format!("executable memory: {error}"))?;
    Ok(NativePass { code, modifies: pipes.iter().any(|pipe| pipe.out.is_some()) })
}

impl NativePass {
    /// Runs over any length, with the tail rules for what is no whole loop word.
    ///
    /// # Safety
    /// The contract of [`PassCode`].
    unsafe fn run(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        let read_only = dst.is_null() || (!self.modifies && std::ptr::eq(dst, src));
        // SAFETY: handed on from the caller.
        unsafe { self.code.call(if read_only { READ_ONLY } else { PLAIN }, states, pos, src, dst, len) }
    }

    /// The copying function's instructions as text, one a line.
    pub(crate) fn disassembly(&self) -> String {
        let (ip, bytes) = self.code.instructions(PLAIN);
        let mut decoder = iced_x86::Decoder::with_ip(64, bytes, ip, iced_x86::DecoderOptions::NONE);
        let mut formatter = iced_x86::IntelFormatter::new();
        formatter.options_mut().set_rip_relative_addresses(true);
        let mut text = String::new();
        for inst in &mut decoder {
            text.push_str(&format!("{:5x}  ", inst.ip()));
            formatter.format(&inst, &mut text);
            text.push('\n');
        }
        text
    }
}

impl PassCode for NativePass {
    unsafe fn words(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        // SAFETY: the same contract.
        unsafe { self.run(states, pos, src, dst, len) }
    }

    unsafe fn tail(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        // SAFETY: the same contract.
        unsafe { self.run(states, pos, src, dst, len) }
    }
}
