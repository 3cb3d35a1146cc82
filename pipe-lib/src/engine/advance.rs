//! Runs that go on where the last one ended, with the registers where they are.

use super::Engine;
use crate::backend::{self, MAX_CALL_BYTES};
use crate::error::RunError;
use crate::run::Imports;
use std::sync::Arc;
use zeroize::Zeroizing;

impl Engine {
    /// Copies `src` to the start of `dst`, which is as long, through the pipeline, from the registers in
    /// `imports` on, and leaves them there as they are then: nothing is copied or allocated for a run. For a
    /// stream in stretches of whole words.
    ///
    /// # Errors
    /// Those of a run. Then the registers are as before.
    pub(crate) fn advance(&self, imports: &mut Imports, src: &[u8], dst: &mut [u8]) -> Result<(), RunError> {
        let program = &*self.program;
        if !program.is_plain || !Arc::ptr_eq(&imports.engine, &self.program) || src.len() != dst.len() {
            let run = self.run_with(imports, src, dst)?;
            // They may be keys.
            let registers = Zeroizing::new(run.registers().to_vec());
            drop(run);
            let changed = imports.registers.iter_mut().zip(registers.iter());
            changed.for_each(|(to, from)| *to = *from);
            return Ok(());
        }
        program.check_length(src.len() as u64)?;
        let states = imports.registers.as_mut_ptr();
        let streams = src.len() >= program.streaming_from;
        let mut at = 0;
        for (from, to) in src.chunks(MAX_CALL_BYTES).zip(dst.chunks_mut(MAX_CALL_BYTES)) {
            let (code, len) = (&program.passes[0].code, from.len());
            // SAFETY: `from` is readable and `to` writable for `len` bytes and they do not overlap; the plain
            // engine's one pass has all registers, and `states` are this engine's.
            unsafe {
                if streams {
                    code.run_streaming(states, at, from.as_ptr(), to.as_mut_ptr(), len);
                } else {
                    code.run(states, at, from.as_ptr(), to.as_mut_ptr(), len);
                }
            }
            at += len as u64;
        }
        if streams {
            backend::settle();
        }
        Ok(())
    }
}
