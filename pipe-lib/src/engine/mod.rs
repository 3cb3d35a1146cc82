//! An engine: a composition made runnable.
//!
//! `build` makes the `Program` that it runs, `prepared` has the ways to run, `advance` the one that goes on
//! from the last, `framed` those with results in the stream, `parallel` those on several cores, `reading`
//! those over what is read meanwhile.

mod advance;
mod build;
mod framed;
#[cfg(feature = "parallel")]
mod parallel;
mod prepared;
#[cfg(feature = "parallel")]
mod reading;

pub use prepared::Prepared;

use crate::compose::Composition;
use crate::ends;
use crate::error::{CompileError, RunError};
use crate::options::{Backend, CompileOptions};
use crate::program::{Direct, ExportId, ExportInfo, Program, RegisterInfo};
use crate::run::{Imports, Run};
use crate::select::{self, Made, PassPlan};
use build::ProgramBuilder;
use std::fmt;
use std::sync::Arc;

/// A pipeline ready to run. Cheap to clone, shared between threads; its code is freed with the last handle.
#[derive(Clone)]
pub struct Engine {
    pub(crate) program: Arc<Program>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.program.fmt(f)
    }
}

impl Engine {
    /// Compiles a composition, without looking into a cache.
    pub fn compile(composition: Arc<Composition>, options: &CompileOptions) -> Result<Engine, CompileError> {
        composition.validate()?;
        let (plan, code) = select::select(&composition, options)?;
        let mut builder = ProgramBuilder::new(&composition);
        let mut backend = None;
        for (pass, Made { backend: from, code, plan, .. }) in plan.passes.iter().zip(code) {
            if matches!(plan, PassPlan::Digest(_)) {
                builder.pass(pass, code);
                continue;
            }
            // With code from several backends, the engine is as fast as the slowest: report that one.
            let rank = |backend: Backend| Backend::ALL.iter().position(|&b| b == backend);
            backend = Some(backend.map_or(from, |known| if rank(from) < rank(known) { from } else { known }));
            builder.pass(pass, code);
        }
        // Without stages, and of digests alone, there is no code at all, only a copy.
        let backend = backend.unwrap_or(options.backend);
        Ok(Engine { program: Arc::new(builder.finish(Arc::clone(&composition), backend)) })
    }

    /// The same engine, which takes every transfer for one that the caches do not hold: so that short ones
    /// can test what long ones do. Of a handle that is not shared yet.
    pub(crate) fn taken_for_big(mut self) -> Engine {
        let program = Arc::get_mut(&mut self.program).expect("nobody else has this engine yet");
        program.streaming_from = 0;
        program.direct = Direct::none();
        self
    }

    /// What the engine was made from.
    pub fn composition(&self) -> &Composition {
        &self.program.composition
    }

    /// Where the code comes from; never `Auto`, except for a plain copy and digests of other crates alone,
    /// which need none.
    pub fn backend(&self) -> Backend {
        self.program.backend
    }

    /// Number of passes over the data (in L1-sized blocks if more than one).
    pub fn passes(&self) -> usize {
        self.program.passes.len()
    }

    /// Bytes of one loop word: the least common multiple of the stages' words.
    pub fn gauge(&self) -> usize {
        self.program.composition.gauge()
    }

    /// Names and types of what a run exports, in stream order.
    pub fn exports(&self) -> &[ExportInfo] {
        &self.program.exports
    }

    /// An export for [`Run::value`], by its name `instance.name`: asked for once, it saves each run the look
    /// at names.
    ///
    /// # Errors
    /// [`RunError::NoSuchExport`].
    pub fn export_id(&self, name: &str) -> Result<ExportId, RunError> {
        self.program.export_id(name)
    }

    /// Names and types of the registers that [`Imports`] can set.
    pub fn registers(&self) -> &[RegisterInfo] {
        &self.program.registers
    }

    /// Bytes of output that a source of `len` bytes gives: what [`Engine::run`] writes.
    ///
    /// # Errors
    /// A length that no stream has: of a frame that does not end with a window, one that a tail rule
    /// rejects, or more than can be addressed.
    pub fn out_len(&self, len: usize) -> Result<usize, RunError> {
        let stream = match &self.program.source_frame {
            Some(plan) => plan.stream_len(len)?,
            None => self.stream_len(len),
        };
        if let Some(plan) = &self.program.sink_frame {
            plan.check_whole(stream as u64)?;
        }
        self.check_length(stream as u64)?;
        self.written_len(stream).ok_or(RunError::TooLong)
    }

    /// Bytes that a stream of `len` bytes takes up in the destination: `len` itself, or what the layout or
    /// the frame at the end makes of it. `None` if that cannot be addressed.
    pub fn written_len(&self, len: usize) -> Option<usize> {
        if let Some(plan) = &self.program.sink_frame {
            return plan.framed_len(len);
        }
        self.program.composition.sink.as_ref().map_or(Some(len), |layout| ends::sink_len(layout, len))
    }

    /// Bytes of the source buffer that a stream of `len` bytes is read from.
    pub fn source_len(&self, len: usize) -> Option<usize> {
        if let Some(plan) = &self.program.source_frame {
            return plan.framed_len(len);
        }
        self.program.composition.source.as_ref().map_or(Some(len), |layout| ends::source_len(layout, len))
    }

    /// Bytes of the stream that a source buffer of `len` bytes holds; of a length that no frame has, those of
    /// its whole windows (see [`Engine::out_len`]).
    pub fn stream_len(&self, len: usize) -> usize {
        if let Some(plan) = &self.program.source_frame {
            let whole = || {
                (len / (plan.window as usize).saturating_add(plan.head + plan.foot)) * plan.window as usize
            };
            return plan.stream_len(len).unwrap_or_else(|_| whole());
        }
        self.program.composition.source.as_ref().map_or(len, |layout| ends::stream_len(layout, len))
    }

    /// Whether a stream of `len` bytes is one that all tail rules take.
    pub fn check_length(&self, len: u64) -> Result<(), RunError> {
        self.program.check_length(len)
    }

    /// Imports with every register at its initial value, to be changed by [`Imports::set`].
    pub fn imports(&self) -> Imports {
        Imports { engine: Arc::clone(&self.program), registers: self.program.initial.clone() }
    }

    /// Runs with `imports` in place of the registers' initial values.
    pub fn with<'e>(&'e self, imports: &'e Imports) -> Result<Prepared<'e>, RunError> {
        if !Arc::ptr_eq(&imports.engine, &self.program) {
            return Err(RunError::ForeignImports);
        }
        Ok(Prepared::new(&self.program, &imports.registers))
    }

    /// A run from the registers' initial values, before it is said over what.
    pub fn prepared(&self) -> Prepared<'_> {
        Prepared::of(&self.program)
    }

    /// The outcome of a run of this engine as one that outlives every handle of it.
    ///
    /// # Panics
    /// If another engine ran.
    pub fn keep(&self, run: Run<'_>) -> Run<'static> {
        run.sharing(Arc::clone(&self.program))
    }

    /// Copies `src` to the start of `dst` through the pipeline. `dst` has at least [`Engine::written_len`]
    /// bytes.
    #[inline]
    pub fn run(&self, src: &[u8], dst: &mut [u8]) -> Result<Run<'_>, RunError> {
        self.prepared().run(src, dst)
    }

    /// [`Engine::run`] with imports.
    pub fn run_with<'e>(
        &'e self,
        imports: &'e Imports,
        src: &[u8],
        dst: &mut [u8],
    ) -> Result<Run<'e>, RunError> {
        self.with(imports)?.run(src, dst)
    }

    /// Runs over `buf` in place.
    pub fn run_in_place(&self, buf: &mut [u8]) -> Result<Run<'_>, RunError> {
        self.prepared().run_in_place(buf)
    }

    /// Runs over `src` for the exports alone.
    #[inline]
    pub fn run_read_only(&self, src: &[u8]) -> Result<Run<'_>, RunError> {
        self.prepared().run_read_only(src)
    }

    /// Writes what the pipeline makes of a stream of `len` zero bytes.
    pub fn run_write_only(&self, len: usize, dst: &mut [u8]) -> Result<Run<'_>, RunError> {
        self.prepared().run_write_only(len, dst)
    }

    /// Gathers the stream from pieces and scatters it over pieces, of any length each; see
    /// [`Prepared::run_vectored`].
    pub fn run_vectored(&self, src: &[&[u8]], dst: &mut [&mut [u8]]) -> Result<Run<'_>, RunError> {
        self.prepared().run_vectored(src, dst)
    }

    /// [`Engine::run_read_only`] over a stream that lies in pieces.
    pub fn run_vectored_read_only(&self, src: &[&[u8]]) -> Result<Run<'_>, RunError> {
        self.prepared().run_vectored_read_only(src)
    }

    /// [`Engine::run_in_place`] over a stream that lies in pieces.
    pub fn run_vectored_in_place(&self, pieces: &mut [&mut [u8]]) -> Result<Run<'_>, RunError> {
        self.prepared().run_vectored_in_place(pieces)
    }

    /// [`Engine::run`] on addresses; see [`Prepared::run_raw`].
    ///
    /// # Safety
    /// That of [`Prepared::run_raw`].
    pub unsafe fn run_raw(&self, src: *const u8, len: usize, dst: *mut u8) -> Result<Run<'_>, RunError> {
        // SAFETY: the caller's promise.
        unsafe { self.prepared().run_raw(src, len, dst) }
    }
}

#[cfg(test)]
mod tests;
