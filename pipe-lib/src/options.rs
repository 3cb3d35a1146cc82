//! How to compile: which backend, with which instructions, fused or not.

use crate::features::Features;
use std::fmt;

/// How to compile.
///
/// ```
/// use pipe_lib::{Backend, CompileOptions};
/// let options = CompileOptions::new().backend(Backend::Interp).separate_passes(true);
/// assert_eq!(options.backend, Backend::Interp);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CompileOptions {
    /// Where the code comes from.
    pub backend: Backend,
    /// Runs every stage as a pass of its own over L1-sized blocks, instead of fusing them into one loop: what
    /// fusion is compared with.
    pub separate_passes: bool,
    /// Which instructions the native backend may use; all that the processor has, without.
    pub features: Option<Features>,
    /// Every stage as it was written, word after word: what vectors, block code and rewrites are compared
    /// with. The native backend has no such form and refuses; `Auto` then is Cranelift.
    pub serial: bool,
}

impl CompileOptions {
    /// The fastest code that this machine can run.
    #[must_use]
    pub fn new() -> CompileOptions {
        CompileOptions::default()
    }

    /// With code from `backend`.
    #[must_use]
    pub fn backend(self, backend: Backend) -> CompileOptions {
        CompileOptions { backend, ..self }
    }

    /// With every stage in a pass of its own, or not: see [`CompileOptions::separate_passes`].
    #[must_use]
    pub fn separate_passes(self, separate_passes: bool) -> CompileOptions {
        CompileOptions { separate_passes, ..self }
    }

    /// With the instructions that the native backend may use; `None` for all there are.
    #[must_use]
    pub fn features(self, features: impl Into<Option<Features>>) -> CompileOptions {
        CompileOptions { features: features.into(), ..self }
    }

    /// Word after word, or not: see [`CompileOptions::serial`].
    #[must_use]
    pub fn serial(self, serial: bool) -> CompileOptions {
        CompileOptions { serial, ..self }
    }
}

impl From<Backend> for CompileOptions {
    fn from(backend: Backend) -> CompileOptions {
        CompileOptions::new().backend(backend)
    }
}

/// Which backend an engine's code comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Backend {
    /// The fastest one that takes the pipeline on this machine.
    #[default]
    Auto,
    /// The word-at-a-time interpreter: takes everything.
    Interp,
    /// Portable machine code through Cranelift.
    Cranelift,
    /// Our own x86-64 emitter.
    Native,
}

impl Backend {
    /// The backends that can be asked for by name, `Auto` included.
    pub const ALL: [Backend; 4] = [Backend::Auto, Backend::Interp, Backend::Cranelift, Backend::Native];

    /// The backend's name on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Auto => "auto",
            Backend::Interp => "interp",
            Backend::Cranelift => "cranelift",
            Backend::Native => "native",
        }
    }

    /// The backend of that name.
    pub fn from_name(name: &str) -> Option<Backend> {
        Backend::ALL.into_iter().find(|backend| backend.name() == name)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
