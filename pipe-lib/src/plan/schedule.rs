//! Which stages share a loop.
//!
//! One loop for everything is best when all of it can run in vectors, or none of it. A stage whose state
//! threads from word to word would drag the others down to its own pace, so it gets a pass of its own
//! (fission), over blocks that stay in the first-level cache. What can run in vectors depends on who makes
//! the code: the native backend takes look-ups and CRCs in the same loop as everything else, other code has
//! block code for a CRC, which then is a pass, too.
//!
//! The order of stages is kept except where it cannot matter: stages that pass the stream on unchanged see
//! the same bytes in any order among themselves, so such a pass may move past other such passes, never past
//! one that modifies.

use super::portable::vector_stages;
use super::target::Targets;
use super::wide::{MAX_ITEMS, WidePlan};
use super::{Pass, Plan};
use crate::analyse::{Analysed, Class, Linear};
use crate::compose::{Composition, Stage};
use crate::ir::{CrcOp, Endian, Op, Pipe};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// How a pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PassKind {
    /// Several words at once, by the native backend.
    Native,
    /// Several words at once: every state has a form in lanes of portable vectors.
    Wide,
    /// Block code for one CRC.
    Remainder,
    /// Word after word.
    Serial,
}

impl fmt::Display for PassKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PassKind::Native => "several words at once, in all of this processor's registers",
            PassKind::Wide => "several words at once",
            PassKind::Remainder => "block code for a CRC",
            PassKind::Serial => "word after word",
        })
    }
}

/// The CRC that a pipe is, when it is nothing but one CRC over the bytes of the stream in their order.
pub(crate) fn plain_crc(pipe: &Analysed) -> Option<CrcOp> {
    let facts = pipe.facts();
    let [state] = &facts.states[..] else { return None };
    let Class::Linear(Linear::Crc { crc, operand }) = state.class else { return None };
    let in_order = pipe.input.endian == Endian::Little || pipe.input.bytes() == 1;
    crc.instruction().filter(|_| facts.nomod() && in_order && facts.body.inst(operand).op == Op::In)
}

impl Targets {
    /// Whether a stage by itself runs several words at once on one of them.
    pub(crate) fn run_wide(&self, pipe: &Analysed) -> bool {
        let stages = std::slice::from_ref(pipe);
        WidePlan::new(stages, &self.wide).is_ok() || vector_stages(stages, self.portable.as_ref()).is_ok()
    }
}

/// How stages would run in passes of their own, each on the best of the targets that takes it.
struct Kinds<'a> {
    targets: &'a Targets,
    /// What was found; a pipe that occurs several times is analysed once.
    known: HashMap<*const Pipe, PassKind>,
    /// Machine instructions that the native backend may still be given: a compile must not take seconds.
    budget: usize,
}

impl Kinds<'_> {
    fn of(&mut self, pipe: &Analysed) -> PassKind {
        let key = Arc::as_ptr(pipe.pipe());
        if let Some(kind) = self.known.get(&key) {
            return *kind;
        }
        // What the rewrites make of it is what runs.
        let alone = super::rewrite::alone(pipe, self.targets);
        let wide = alone.iter().chain([pipe]).any(|pipe| self.is_wide(pipe));
        let kind = if wide {
            PassKind::Native
        } else if plain_crc(pipe).is_some() {
            PassKind::Remainder
        } else if vector_stages(&[alone.unwrap_or_else(|| pipe.clone())], self.targets.portable.as_ref())
            .is_ok()
        {
            PassKind::Wide
        } else {
            PassKind::Serial
        };
        self.known.insert(key, kind);
        kind
    }

    fn is_wide(&mut self, pipe: &Analysed) -> bool {
        let size = match WidePlan::new(std::slice::from_ref(pipe), &self.targets.wide) {
            Ok(plan) => plan.size(),
            Err(_) => return false,
        };
        let fits = size <= self.budget;
        self.budget = self.budget.saturating_sub(size);
        fits
    }
}

/// Whether each of the stages runs several words at once in a pass of its own.
pub(crate) fn all_wide<'a>(mut stages: impl Iterator<Item = &'a Analysed>, targets: &Targets) -> bool {
    let mut kinds = Kinds { targets, known: HashMap::new(), budget: MAX_ITEMS };
    stages.all(|stage| kinds.of(stage) != PassKind::Serial)
}

/// A pass that is being put together.
struct PassDraft {
    kind: PassKind,
    pass: Pass,
    modifies: bool,
}

/// Passes in which stages of one kind share a loop.
pub(crate) fn schedule(composition: &Composition, stages: &[Analysed], targets: &Targets) -> Plan {
    let mut of = Kinds { targets, known: HashMap::new(), budget: MAX_ITEMS };
    let kinds: Vec<PassKind> = stages.iter().map(|stage| of.of(stage)).collect();
    let mut drafts: Vec<PassDraft> = Vec::new();
    for (index, (stage, kind)) in composition.stages.iter().zip(&kinds).enumerate() {
        let modifies = stage.pipe.out.is_some();
        match host(&drafts, composition, stage, *kind, modifies) {
            Some(at) => {
                // Passes after the host see the same stream before it and after it: the host moves behind
                // them if the stage modifies what they have to see unmodified.
                let mut draft = drafts.remove(at);
                draft.pass.stages.push(index);
                draft.pass.gauge = draft.pass.gauge.max(stage.pipe.word_bytes());
                draft.modifies |= modifies;
                let to = if modifies { drafts.len() } else { at };
                drafts.insert(to, draft);
            }
            None => drafts.push(PassDraft {
                kind: *kind,
                pass: Pass { stages: vec![index], gauge: stage.pipe.word_bytes() },
                modifies,
            }),
        }
    }
    Plan { passes: drafts.into_iter().map(|draft| draft.pass).collect() }
}

/// The draft that the next stage in stream order may join.
fn host(
    drafts: &[PassDraft],
    composition: &Composition,
    stage: &Stage,
    kind: PassKind,
    modifies: bool,
) -> Option<usize> {
    if kind == PassKind::Remainder {
        return None;
    }
    for (at, draft) in drafts.iter().enumerate().rev() {
        let is_last = at + 1 == drafts.len();
        // A stage that modifies joins an earlier pass only by pulling it behind those that follow.
        let can_move = is_last || !modifies || !draft.modifies;
        if draft.kind == kind && can_move && draft.pass.takes(composition, stage) {
            return Some(at);
        }
        if draft.modifies {
            return None;
        }
    }
    None
}
