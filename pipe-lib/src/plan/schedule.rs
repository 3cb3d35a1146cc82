//! Which stages share a loop.
//!
//! One loop for everything is best when all of it can run in vectors, or none of it. A stage whose state threads from
//! word to word would drag the others down to its own pace, so it gets a pass of its own (fission), over blocks that
//! stay in the first-level cache. What can run in vectors depends on who makes the code: the native backend takes look-ups and
//! CRCs in the same loop as everything else, other code has block code for a CRC, which then is a pass, too.
//!
//! The order of stages is kept except where it cannot matter: stages that pass the stream on unchanged see the same
//! bytes in any order among themselves, so such a pass may move past other such passes, never past one that modifies.

use super::{Pass, Plan};
use crate::analyse::Analysed;
use crate::backend::{cranelift, crc};
use crate::compose::{Composition, Stage};
use crate::ir::Pipe;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// How a pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Several words at once, by the native backend.
    Native,
    /// Several words at once: every state has a form in lanes of portable vectors.
    Wide,
    /// Block code for one CRC.
    Remainder,
    /// Word after word.
    Serial,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Native => "several words at once, in all of this processor's registers",
            Kind::Wide => "several words at once",
            Kind::Remainder => "block code for a CRC",
            Kind::Serial => "word after word",
        })
    }
}

/// How a stage would run in a pass of its own, without the native backend.
pub fn kind(pipe: &Pipe) -> Kind {
    portable_kind(&Analysed::new(Arc::new(pipe.clone())))
}

/// The same with what is known of it.
pub(crate) fn portable_kind(pipe: &Analysed) -> Kind {
    kind_of(pipe, super::rewrite::alone(pipe).as_ref())
}

/// The same with what the rewrites make of it: that is what runs.
pub(crate) fn kind_of(pipe: &Analysed, alone: Option<&Analysed>) -> Kind {
    if crc::plain_crc(pipe).is_some() {
        Kind::Remainder
    } else if cranelift::has_vectors(alone.unwrap_or(pipe)) {
        Kind::Wide
    } else {
        Kind::Serial
    }
}

/// What `kind` says of each pipe; of one that comes several times, once.
pub(super) fn kinds<'a>(
    pipes: impl Iterator<Item = &'a Analysed>,
    kind: impl Fn(&Analysed) -> Kind,
) -> impl Iterator<Item = Kind> {
    let mut known: HashMap<*const Pipe, Kind> = HashMap::new();
    pipes.map(move |pipe| *known.entry(Arc::as_ptr(pipe.pipe())).or_insert_with(|| kind(pipe)))
}

/// A pass that is being put together.
struct Draft {
    kind: Kind,
    pass: Pass,
    modifies: bool,
}

/// Passes for code that runs each stage alone as `kind` says (see [`kind`] for portable code): stages of one kind share a
/// pass.
pub(crate) fn schedule(
    composition: &Composition,
    analysed: &[Analysed],
    kind: impl Fn(&Analysed) -> Kind,
) -> Plan {
    let kinds: Vec<Kind> = kinds(analysed.iter(), kind).collect();
    let mut drafts: Vec<Draft> = Vec::new();
    for (index, (stage, kind)) in composition.stages.iter().zip(&kinds).enumerate() {
        let modifies = stage.pipe.out.is_some();
        match host(&drafts, composition, stage, *kind, modifies) {
            Some(at) => {
                // Passes after the host see the same stream before it and after it: the host moves behind them if the
                // stage modifies what they have to see unmodified.
                let mut draft = drafts.remove(at);
                draft.pass.stages.push(index);
                draft.pass.gauge = draft.pass.gauge.max(stage.pipe.word_bytes());
                draft.modifies |= modifies;
                let to = if modifies { drafts.len() } else { at };
                drafts.insert(to, draft);
            }
            None => drafts.push(Draft {
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
    drafts: &[Draft],
    composition: &Composition,
    stage: &Stage,
    kind: Kind,
    modifies: bool,
) -> Option<usize> {
    if kind == Kind::Remainder {
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
