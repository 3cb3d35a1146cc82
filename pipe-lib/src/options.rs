//! How to compile: which backend, with which instructions, fused or not.

use crate::features::Features;
use std::fmt;

/// How to compile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CompileOptions {
    /// Where the code comes from.
    pub backend: Backend,
    /// Runs every stage as a pass of its own over L1-sized blocks, instead of fusing them into one loop: what fusion is
    /// compared with.
    pub separate_passes: bool,
    /// Which instructions the native backend may use; all that the processor has, without.
    pub features: Option<Features>,
    /// Every stage as it was written, word after word: what vectors, block code and rewrites are compared with. The native
    /// backend has no such form and refuses; `Auto` then is Cranelift.
    pub serial: bool,
}

impl From<Backend> for CompileOptions {
    fn from(backend: Backend) -> CompileOptions {
        CompileOptions { backend, ..CompileOptions::default() }
    }
}

/// Which backend an engine's code comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
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
