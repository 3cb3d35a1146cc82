//! Runs that go on where the last one ended, with the registers where they are.

use super::{Engine, Prepared};
use crate::backend::{self, MAX_CALL_BYTES};
use crate::error::RunError;
use crate::run::{Imports, Run};
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
        if !self.is_one_call_from(imports) || src.len() != dst.len() {
            return self.advance_by(imports, |prepared| prepared.run(src, dst));
        }
        self.program.check_length(src.len() as u64)?;
        // SAFETY: `src` is readable and `dst` writable for as many bytes, and slices do not overlap.
        unsafe { self.advance_plain(imports, src.as_ptr(), dst.as_mut_ptr(), src.len()) };
        Ok(())
    }

    /// [`Engine::advance`] where the bytes are.
    ///
    /// # Errors
    /// Those of a run. Then the registers are as before.
    pub(crate) fn advance_in_place(&self, imports: &mut Imports, buf: &mut [u8]) -> Result<(), RunError> {
        // What writes nothing would be asked to copy onto itself.
        if !self.is_one_call_from(imports) || !self.program.modifies {
            return self.advance_by(imports, |prepared| prepared.run_in_place(buf));
        }
        self.program.check_length(buf.len() as u64)?;
        let ptr = buf.as_mut_ptr();
        // SAFETY: `buf` is readable and writable; source and destination are the same.
        unsafe { self.advance_plain(imports, ptr, ptr, buf.len()) };
        Ok(())
    }

    /// The same by any way to run.
    ///
    /// # Errors
    /// Those of the run. Then the registers are as before.
    pub(crate) fn advance_by(
        &self,
        imports: &mut Imports,
        run: impl for<'e> FnOnce(Prepared<'e>) -> Result<Run<'e>, RunError>,
    ) -> Result<(), RunError> {
        let run = run(self.with(imports)?)?;
        // They may be keys.
        let registers = Zeroizing::new(run.registers().to_vec());
        drop(run);
        let changed = imports.registers.iter_mut().zip(registers.iter());
        changed.for_each(|(to, from)| *to = *from);
        Ok(())
    }

    fn is_one_call_from(&self, imports: &Imports) -> bool {
        self.program.is_plain && Arc::ptr_eq(&imports.engine, &self.program)
    }

    /// # Safety `src` is readable and `dst` writable for `len` bytes, and they are the same or do not
    /// overlap. The engine is a plain one, and the imports are its.
    unsafe fn advance_plain(&self, imports: &mut Imports, src: *const u8, dst: *mut u8, len: usize) {
        let code = &self.program.passes[0].code;
        let states = imports.registers.as_mut_ptr();
        let streams = len >= self.program.streaming_from;
        let mut at = 0;
        while at < len {
            let n = (len - at).min(MAX_CALL_BYTES);
            // SAFETY: the caller's promise; the plain engine's one pass has all registers.
            unsafe {
                if streams {
                    code.run_streaming(states, at as u64, src.add(at), dst.add(at), n);
                } else {
                    code.run(states, at as u64, src.add(at), dst.add(at), n);
                }
            }
            at += n;
        }
        if streams {
            backend::settle();
        }
    }
}
