//! What an engine runs: the code of its passes, its registers and exports, and the rules by which lengths and
//! uses are refused.

use crate::backend::{Entry, PassCode};
use crate::compose::Composition;
use crate::digest::{DigestKind, DigestState, DigestValue};
use crate::error::RunError;
use crate::export::ExportExpr;
use crate::framing::FramePlan;
use crate::ir::{Tail, Ty};
use crate::options::Backend;
use crate::plan::join::Rules;
use crate::registers::{FEW, Registers};
use smallvec::SmallVec;
use std::fmt;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// What an engine knows of its pipeline.
pub(crate) struct Program {
    pub(crate) composition: Arc<Composition>,
    pub(crate) backend: Backend,
    pub(crate) passes: Box<[PassRun]>,
    /// Registers of all stages, pass by pass, before the first word.
    pub(crate) initial: Registers,
    /// Place of each stage's first register.
    pub(crate) stage_base: Box<[usize]>,
    pub(crate) exports: Box<[ExportInfo]>,
    /// How each export is got from the registers.
    pub(crate) export_exprs: Box<[ExportExpr]>,
    pub(crate) registers: Box<[RegisterInfo]>,
    /// Bytes of the largest word of a stage without window that rejects leftover bytes; 1 if there is none.
    pub(crate) reject_word: usize,
    /// Whether some stage with a window rejects leftover bytes.
    pub(crate) rejects_windows: bool,
    /// Whether some stage has a window.
    pub(crate) windowed: bool,
    /// Whether some stage writes words.
    pub(crate) modifies: bool,
    /// The first pass that copies where source and destination are not the same: those before it are digests,
    /// which only look.
    pub(crate) copies: usize,
    /// Bytes of a block when there are several passes.
    pub(crate) block: usize,
    /// Bytes from which a transfer as a whole is more than the caches hold.
    pub(crate) streaming_from: usize,
    /// One pass and no window: code can be called for any stretch of whole words.
    pub(crate) is_one_call: bool,
    /// That, and no layout: a run is one call.
    pub(crate) is_plain: bool,
    /// The call itself, if it is one and there are few registers.
    pub(crate) direct: Direct,
    /// The same where nothing is written.
    pub(crate) reading: Direct,
    /// Most bytes of a call that loads from the striped buffer at the start, if the engine is one pass
    /// without windows, and its code can.
    pub(crate) from_stripes: Option<usize>,
    /// The same of a call that stores to the striped buffer at the end.
    pub(crate) to_stripes: Option<usize>,
    /// The fields that are taken out of what is read, and those that are put into what is written.
    pub(crate) source_frame: Option<FramePlan>,
    pub(crate) sink_frame: Option<FramePlan>,
    /// How the states of each stage pass over a cut; found when a run is first to be split over threads.
    pub(crate) rules: OnceLock<Box<[Result<Rules, String>]>>,
}

/// A pass, ready to run.
pub(crate) struct PassRun {
    pub(crate) code: Box<dyn PassCode>,
    pub(crate) gauge: usize,
    /// Whether some stage writes words.
    pub(crate) modifies: bool,
    /// Place of the pass's first register among all.
    pub(crate) base: usize,
    /// The windows that occur, each once.
    pub(crate) windows: SmallVec<[Window; 1]>,
    /// The window within which `pos` counts.
    pub(crate) pos_window: Option<u64>,
    /// The digest that the pass is, if it is one: the only stage.
    pub(crate) digest: Option<DigestPass>,
}

/// A pass that feeds a digest of another crate.
#[derive(Clone, Debug)]
pub(crate) struct DigestPass {
    pub(crate) kind: DigestKind,
    /// Place among the digests under way.
    pub(crate) index: usize,
    /// The registers of its key and of its value.
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

impl DigestPass {
    /// One of nothing so far, with the key that is among these registers.
    pub(crate) fn start(&self, registers: &[u64]) -> DigestState {
        DigestState::new(self.kind, &registers[self.key.clone()])
    }
}

/// The stages of a pass that share a window.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) bytes: u64,
    pub(crate) stages: Vec<usize>,
}

impl Program {
    /// The digests of other crates, in the order of their indices.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &DigestPass> {
        self.passes.iter().filter_map(|pass| pass.digest.as_ref())
    }
}

impl PassRun {
    /// Bytes from offset `at` to where the next window ends.
    pub(crate) fn to_boundary(&self, at: u64) -> u64 {
        self.windows.iter().map(|window| window.bytes - at % window.bytes).min().unwrap_or(u64::MAX)
    }

    pub(crate) fn pos(&self, at: u64) -> u64 {
        match self.pos_window {
            None => at,
            Some(window) => at % window,
        }
    }
}

/// Name and type of something a pipeline gives at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportInfo {
    /// `instance.name`.
    pub name: String,
    /// Type of the value; of a digest, that of the words in which its bytes travel.
    pub ty: Ty,
    /// The digest of another crate whose bytes the value is, if it is no number.
    pub digest: Option<DigestKind>,
    /// Whether there is one value a window, rather than exactly one.
    pub windowed: bool,
    pub(crate) stage: usize,
    pub(crate) id: ExportId,
}

impl ExportInfo {
    /// By what [`Run::value`](crate::Run::value) finds it without looking at names.
    pub fn id(&self) -> ExportId {
        self.id
    }
}

/// An export of one engine, for runs of that engine: see [`Engine::export_id`](crate::Engine::export_id). It
/// says where the value is, so that a short transfer does not look that up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExportId {
    /// Among the engine's exports.
    pub(crate) index: u32,
    /// The register that has the value, of the first [`FEW`]; [`ExportId::ELSEWHERE`] if it is another, or
    /// has to be computed, or is a list.
    pub(crate) register: u8,
    /// The bits of it that are turned over.
    pub(crate) flip: u64,
}

impl ExportId {
    pub(crate) const ELSEWHERE: u8 = u8::MAX;

    /// `elsewhere`: the value is not what the expression says.
    pub(crate) fn new(index: usize, expr: &ExportExpr, elsewhere: bool) -> ExportId {
        let (register, flip) = match *expr {
            ExportExpr::Register { index, flip } if usize::from(index) < FEW && !elsewhere => (index, flip),
            _ => (ExportId::ELSEWHERE, 0),
        };
        ExportId { index: index as u32, register, flip }
    }
}

/// Name and type of a register that can be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegisterInfo {
    /// Whether it is a key or the like: it can be set, and nobody is shown it.
    pub secret: bool,
    /// `instance.name`.
    pub name: String,
    /// Type of the value.
    pub ty: Ty,
    pub(crate) index: usize,
}

/// How a short transfer from contiguous memory is one call of generated code: to contiguous memory or to
/// stripes.
#[derive(Clone, Copy)]
pub(crate) struct Direct {
    pub(crate) entry: Entry,
    /// Transfers of fewer bytes are of the first kind: to contiguous memory or, if that is what it is for, to
    /// nowhere, with at most [`PAIR`](crate::registers::PAIR) registers. None are, if 0.
    pub(crate) plain_below: usize,
    /// Whether transfers may be of the other kind: to contiguous memory or to stripes, with at most [`FEW`]
    /// registers.
    pub(crate) is_any: bool,
    /// Bits of a length that a tail rule rejects.
    pub(crate) rejected: usize,
    /// Bytes of the hole behind each run of a striped buffer; 0 without stripes, to whom alone the others
    /// belong.
    pub(crate) gap: usize,
    /// Bytes of a run, as a shift.
    pub(crate) run_shift: u32,
    /// Fewest bytes of a transfer; shorter ones are padded.
    pub(crate) shortest: usize,
}

impl Direct {
    /// No direct call.
    pub(crate) fn none() -> Direct {
        let entry = Entry { function: nothing, longest: 0 };
        Direct { entry, plain_below: 0, is_any: false, rejected: 0, gap: 0, run_shift: 0, shortest: 0 }
    }

    /// Whether a transfer of `len` bytes may be made this way.
    #[inline(always)]
    pub(crate) fn takes(&self, len: usize) -> bool {
        len <= self.entry.longest && len & self.rejected == 0
    }

    /// Bytes of the destination that a transfer of `len` bytes, at most [`Entry::longest`], takes.
    #[inline(always)]
    pub(crate) fn written(&self, len: usize) -> usize {
        len + (len.saturating_sub(1) >> self.run_shift) * self.gap
    }
}

/// In place of an entry where there is none.
#[cfg(target_arch = "x86_64")]
unsafe extern "sysv64" fn nothing(_: *mut u64, _: u64, _: *const u8, _: *mut u8, _: usize) {}
#[cfg(not(target_arch = "x86_64"))]
unsafe extern "C" fn nothing(_: *mut u64, _: u64, _: *const u8, _: *mut u8, _: usize) {}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages: Vec<&str> = self.composition.stages.iter().map(|stage| stage.name.as_str()).collect();
        f.debug_struct("Engine")
            .field("stages", &stages)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

impl Program {
    pub(crate) fn export_id(&self, name: &str) -> Result<ExportId, RunError> {
        let found = self.exports.iter().find(|export| export.name == name);
        found.map(ExportInfo::id).ok_or_else(|| RunError::NoSuchExport { name: name.to_owned() })
    }

    pub(crate) fn stage_registers(&self, stage: usize) -> Range<usize> {
        let base = self.stage_base[stage];
        base..base + self.composition.stages[stage].pipe.states.len()
    }

    /// The digest that a stage left in its registers.
    pub(crate) fn digest_value(&self, stage: usize, kind: DigestKind, registers: &[u64]) -> DigestValue {
        let value = &registers[self.stage_registers(stage)][kind.key_words()..];
        DigestValue::of_words(value, kind.bytes())
    }

    /// Refuses a stream whose length a tail rule rejects; names the first stage that does.
    #[inline]
    pub(crate) fn check_length(&self, len: u64) -> Result<(), RunError> {
        if len & (self.reject_word as u64 - 1) == 0 && !self.rejects_windows {
            Ok(())
        } else {
            self.rejects(len)
        }
    }

    #[cold]
    fn rejects(&self, len: u64) -> Result<(), RunError> {
        for stage in self.composition.stages.iter().filter(|stage| stage.pipe.tail == Tail::Reject) {
            let word = stage.pipe.word_bytes() as u64;
            let window = stage.window.map_or(u64::MAX, NonZeroU64::get);
            let in_whole_windows = if len >= window { window % word } else { 0 };
            let leftover = if in_whole_windows != 0 { in_whole_windows } else { len % window % word };
            if leftover != 0 {
                return Err(RunError::leftover(stage, leftover as usize));
            }
        }
        Ok(())
    }

    pub(crate) fn has_layouts(&self) -> bool {
        self.composition.source.is_some() || self.composition.sink.is_some()
    }

    /// Whether the stream is more than a buffer at some end.
    pub(crate) fn has_ends(&self) -> bool {
        self.has_layouts() || self.has_frames()
    }

    pub(crate) fn has_frames(&self) -> bool {
        self.source_frame.is_some() || self.sink_frame.is_some()
    }

    /// Refuses a use that does not go with layouts or frames, naming one.
    pub(crate) fn refuse_layouts(&self, what: &'static str) -> Result<(), RunError> {
        if let Some(plan) = self.source_frame.as_ref().or(self.sink_frame.as_ref()) {
            return Err(plan.refuse(what));
        }
        match self.composition.source.as_ref().or(self.composition.sink.as_ref()) {
            Some(layout) => Err(RunError::Layout { layout: layout.name.clone(), what }),
            None => Ok(()),
        }
    }
}
