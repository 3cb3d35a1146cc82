//! All digests of one set in one read: what is a pipe is fused into one read-only pipeline, what is not
//! takes the same block right behind it.

use super::algorithm::{Algorithm, Source};
use super::value::Value;
use anyhow::Context as _;
use pipe_lib::digest::{DigestKind, DigestState};
use pipe_lib::{CompileOptions, Engine, ExportId, Library, Run, RunError, Stream};

/// Bytes that all digests take in turn: still in the second-level cache for the last of them, and long
/// enough for BLAKE3 to fill its vectors.
const BLOCK: usize = 64 << 10;

/// A set of digests, ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    algorithms: Vec<Algorithm>,
    /// The pipes among them.
    engine: Option<Engine>,
    /// Where the value of each comes from.
    outlets: Vec<Outlet>,
}

#[derive(Clone, Copy, Debug)]
enum Outlet {
    Export(ExportId),
    /// The next one that is opaque.
    Opaque(DigestKind),
}

impl Pass {
    pub(crate) fn new(
        algorithms: &[Algorithm],
        library: &Library,
        options: &CompileOptions,
    ) -> anyhow::Result<Pass> {
        let stages = algorithms.iter().enumerate().filter_map(|(at, algorithm)| match &algorithm.source {
            Source::Pipe { stage, .. } => Some(format!("{stage} as d{at}")),
            Source::Opaque(_) => None,
        });
        let text = stages.collect::<Vec<_>>().join(" | ");
        let engine = if text.is_empty() {
            None
        } else {
            let pipeline = library.pipeline(&text).map_err(|error| anyhow::anyhow!("{error}"))?;
            Some(pipeline.compile_with(options).context("the digests do not compile")?)
        };
        let outlet = |(at, algorithm): (usize, &Algorithm)| match &algorithm.source {
            Source::Pipe { export, .. } => {
                let engine = engine.as_ref().context("no engine")?;
                Ok(Outlet::Export(engine.export_id(&format!("d{at}.{export}"))?))
            }
            Source::Opaque(kind) => Ok(Outlet::Opaque(*kind)),
        };
        let outlets = algorithms.iter().enumerate().map(outlet).collect::<anyhow::Result<_>>()?;
        Ok(Pass { algorithms: algorithms.to_vec(), engine, outlets })
    }

    pub(crate) fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// The values of a stream of `len` bytes that several threads read, each its own parts: see
    /// [`Engine::run_parallel_from`]. `None` if not all digests are pipes, which alone can be put together.
    pub(crate) fn of_parts<E: From<RunError> + Send>(
        &self,
        len: u64,
        threads: usize,
        read: impl Fn(u64, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Option<Result<Vec<Value>, E>> {
        let engine = self.engine.as_ref()?;
        let exports = self.outlets.iter().zip(&self.algorithms).map(|(outlet, algorithm)| match outlet {
            Outlet::Export(id) => Some((*id, algorithm.bytes)),
            Outlet::Opaque(_) => None,
        });
        let exports = exports.collect::<Option<Vec<_>>>()?;
        let run = engine.run_parallel_from(len, threads, read);
        let value = |run: &Run<'_>, (id, bytes): (ExportId, usize)| Value::of_number(run.value(id), bytes);
        Some(run.map(|run| exports.into_iter().map(|export| value(&run, export)).collect()))
    }

    /// A stream that begins.
    pub(crate) fn start(&self) -> Running<'_> {
        let opaque = self.outlets.iter().filter_map(|outlet| match outlet {
            Outlet::Opaque(kind) => Some(DigestState::new(*kind, &[])),
            Outlet::Export(_) => None,
        });
        Running { pass: self, stream: self.engine.as_ref().map(Engine::stream), opaque: opaque.collect() }
    }
}

/// A set of digests on their way through a stream.
pub(crate) struct Running<'p> {
    pass: &'p Pass,
    stream: Option<Stream>,
    opaque: Vec<DigestState>,
}

impl Running<'_> {
    /// Takes the next bytes, of any length.
    pub(crate) fn update(&mut self, bytes: &[u8]) -> Result<(), RunError> {
        for block in bytes.chunks(BLOCK) {
            if let Some(stream) = &mut self.stream {
                stream.push_read_only(block)?;
            }
            for opaque in &mut self.opaque {
                opaque.update(block);
            }
        }
        Ok(())
    }

    /// The values, in the order of the set.
    ///
    /// # Errors
    /// A length that a pipe's tail rule refuses.
    pub(crate) fn finish(self) -> Result<Vec<Value>, RunError> {
        let end = self.stream.map(Stream::finish).transpose()?;
        let mut opaque = self.opaque.into_iter();
        let value = |(outlet, algorithm): (&Outlet, &Algorithm)| match outlet {
            Outlet::Export(id) => {
                end.as_ref().map(|end| Value::of_number(end.run.value(*id), algorithm.bytes))
            }
            Outlet::Opaque(_) => opaque.next().map(|state| Value(state.finish().to_vec())),
        };
        Ok(self.pass.outlets.iter().zip(&self.pass.algorithms).filter_map(value).collect())
    }
}
