//! Why something was refused: by the compiler, by a backend, by a run.

use crate::compose::{ComposeError, Stage};
use crate::ir::Ty;
use crate::options::Backend;
use std::fmt;
use std::num::NonZeroU64;

/// Why a pipeline could not be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompileError {
    /// The composition breaks a rule.
    Compose(ComposeError),
    /// The backend asked for does not take the pipeline.
    Unsupported(Unsupported),
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::Compose(error) => error.fmt(f),
            CompileError::Unsupported(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CompileError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        // What is inside speaks for itself; behind it comes what is behind that.
        match self {
            CompileError::Compose(error) => error.source(),
            CompileError::Unsupported(error) => error.source(),
        }
    }
}

impl From<ComposeError> for CompileError {
    fn from(error: ComposeError) -> CompileError {
        CompileError::Compose(error)
    }
}

impl From<Unsupported> for CompileError {
    fn from(error: Unsupported) -> CompileError {
        CompileError::Unsupported(error)
    }
}

/// Why a backend does not take a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsupported {
    /// The backend that refused.
    pub backend: Backend,
    /// What it cannot do, as a phrase: "64-bit carry-less multiplication".
    pub what: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} backend cannot do this: {}", self.backend, self.what)
    }
}

impl core::error::Error for Unsupported {}

/// Why a run was refused. Whenever one is returned by a function that transfers a whole stream, not a byte
/// was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// The destination is too small.
    ShortDestination {
        /// Bytes that the transfer takes there.
        needed: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A stage rejects leftover bytes (`tail reject`), and the stream or one of its windows leaves some.
    Leftover {
        /// The stage's instance name.
        instance: String,
        /// Bytes of its words.
        word: usize,
        /// Bytes over.
        leftover: usize,
        /// The stage's window, if it has one.
        window: Option<u64>,
    },
    /// Source and destination overlap without being the same.
    Overlap,
    /// A device that takes accesses of one width only, at an address that is no multiple of it.
    Misaligned {
        /// The layout.
        layout: String,
        /// Bytes of an access.
        store: usize,
    },
    /// This use does not go with the layouts at the pipeline's ends.
    Layout {
        /// The layout.
        layout: String,
        /// What does not go, as a phrase: "running in place".
        what: &'static str,
    },
    /// A length that no frame of that kind has, or that its `whole` refuses.
    FrameLength {
        /// The frame.
        frame: String,
        /// What is wrong with the length, as a phrase.
        what: &'static str,
    },
    /// This use does not go with the frames at the pipeline's ends.
    Frame {
        /// The frame.
        frame: String,
        /// What does not go, as a phrase: "a list of pieces".
        what: &'static str,
    },
    /// A field of a frame holds something else than it should. The only error of a transfer after which the
    /// destination is not as before: windows before this one were delivered. Of this one nothing is, or, in
    /// a stream that does not hold windows back, what came before the mismatch was found.
    Mismatch(Box<Mismatch>),
    /// A transfer too long to address.
    TooLong,
    /// No export of that name.
    NoSuchExport {
        /// The name asked for.
        name: String,
    },
    /// No register of that name.
    NoSuchRegister {
        /// The name asked for.
        name: String,
    },
    /// The register is secret: it can be set, and not be asked for.
    SecretRegister {
        /// The register.
        name: String,
    },
    /// The value does not fit the register.
    ValueTooWide {
        /// The register.
        name: String,
        /// The value given.
        value: u64,
        /// The register's type.
        ty: Ty,
    },
    /// Imports made by another engine.
    ForeignImports,
    /// The export is a list: it has one value a window.
    Windowed {
        /// The export.
        name: String,
    },
    /// The export is one value, not a list.
    NotWindowed {
        /// The export.
        name: String,
    },
    /// The export is the bytes of a digest, not a number.
    IsDigest {
        /// The export.
        name: String,
    },
    /// The export is a number, not a digest.
    NoDigest {
        /// The export.
        name: String,
    },
}

/// What a field of a frame holds, and should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// The frame.
    pub frame: String,
    /// The field, as the language writes it: `put u16be crc16_t10dif.crc`.
    pub field: String,
    /// Number of the window, from 0.
    pub window: u64,
    /// Where the field begins in the source, or, of bytes, the first that differs.
    pub offset: u64,
    /// What the field should hold, as a number.
    pub expected: u64,
    /// What it holds.
    pub found: u64,
    /// Bytes of the stream in the windows before this one, all of them as they should be.
    pub good: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { frame, field, window, offset, expected, found, .. } = self;
        write!(
            f,
            "frame `{frame}`: `{field}` of window {window}, at byte {offset}, is {found:#x} and should be \
             {expected:#x}"
        )
    }
}

impl RunError {
    /// `stage` rejects `leftover` bytes behind its last whole word.
    pub(crate) fn leftover(stage: &Stage, leftover: usize) -> RunError {
        RunError::Leftover {
            instance: stage.name.clone(),
            word: stage.pipe.word_bytes(),
            leftover,
            window: stage.window.map(NonZeroU64::get),
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::ShortDestination { needed, have } => {
                write!(f, "the destination has {have} bytes, the transfer takes {needed}")
            }
            RunError::Leftover { instance, word, leftover, window: None } => {
                write!(
                    f,
                    "`{instance}` takes whole words of {word} bytes only; this length leaves {leftover} over"
                )
            }
            RunError::Leftover { instance, word, leftover, window: Some(window) } => write!(
                f,
                "`{instance}` takes whole words of {word} bytes only; a window of {window} bytes of this stream leaves \
                 {leftover} over"
            ),
            RunError::Overlap => f.write_str("source and destination overlap in part"),
            RunError::Misaligned { layout, store } => {
                write!(
                    f,
                    "layout `{layout}` is accessed {store} bytes at a time; its address is no multiple of that"
                )
            }
            RunError::Layout { layout, what } => write!(f, "{what} does not go with layout `{layout}`"),
            RunError::FrameLength { frame, what } => write!(f, "no length of frame `{frame}`: {what}"),
            RunError::Frame { frame, what } => write!(f, "{what} does not go with frame `{frame}`"),
            RunError::Mismatch(mismatch) => mismatch.fmt(f),
            RunError::TooLong => f.write_str("the transfer is too long to address"),
            RunError::NoSuchExport { name } => write!(f, "the pipeline has no export `{name}`"),
            RunError::NoSuchRegister { name } => write!(f, "the pipeline has no register `{name}`"),
            RunError::SecretRegister { name } => {
                write!(f, "register `{name}` is secret: it can be set, and nobody is shown it")
            }
            RunError::ValueTooWide { name, value, ty } => {
                write!(f, "{value:#x} does not fit register `{name}: {ty}`")
            }
            RunError::ForeignImports => f.write_str("these imports were made by another engine"),
            RunError::Windowed { name } => write!(f, "export `{name}` is a list, one entry a window"),
            RunError::NotWindowed { name } => write!(f, "export `{name}` is one value, not a list"),
            RunError::IsDigest { name } => write!(f, "export `{name}` is a digest: bytes, not a number"),
            RunError::NoDigest { name } => write!(f, "export `{name}` is a number, not a digest"),
        }
    }
}

impl core::error::Error for RunError {}
