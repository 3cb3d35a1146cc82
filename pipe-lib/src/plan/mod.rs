//! From a composition to the passes that the driver runs over the data.

#![forbid(unsafe_code)]

pub(crate) mod induction;
pub(crate) mod join;
pub(crate) mod portable;
pub(crate) mod rewrite;
pub(crate) mod scalar;
pub(crate) mod schedule;
pub(crate) mod stage;
pub(crate) mod target;
pub(crate) mod wide;

use crate::analyse::Analysed;
use crate::compose::{Composition, Stage};
use crate::ir::Op;
use std::fmt;
use std::num::NonZeroU64;
use target::Targets;

/// Why there is no plan for stages, or no code for a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// More values at once than there are registers: fewer stages may do.
    OutOfRegisters,
    /// More code than a function may have: fewer stages may do.
    TooLong,
    /// What cannot be done, as a phrase.
    Cannot(String),
}

impl From<String> for Refusal {
    fn from(what: String) -> Refusal {
        Refusal::Cannot(what)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::OutOfRegisters => f.write_str("more values at once than there are registers"),
            Refusal::TooLong => write!(f, "more than {} machine instructions", wide::MAX_ITEMS),
            Refusal::Cannot(what) => f.write_str(what),
        }
    }
}

/// Passes in stream order. A plan of one pass runs over the whole stretch at once; several run over L1-sized
/// blocks, each in place on what the one before wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In stream order; empty for a plain copy (a composition without stages).
    pub(crate) passes: Vec<Pass>,
}

/// Stages that run fused, in one loop.
///
/// Either all stages have the same window (or none), or each window is a multiple of `gauge` and the stages
/// that read `pos` share one window. In the second case the driver cuts stretches at the ends of the windows,
/// where no bytes are left over, and resets only the states of the stages whose window ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Indices into [`Composition::stages`], ascending. Those of a later pass may be smaller where the order
    /// is free.
    pub(crate) stages: Vec<usize>,
    /// Bytes of one loop word: the least common multiple of the stages' words, which is the largest, since
    /// all are powers of two.
    pub(crate) gauge: usize,
}

impl Pass {
    /// The pass's stages, in stream order.
    pub(crate) fn stages<'a>(
        &'a self,
        composition: &'a Composition,
    ) -> impl Iterator<Item = &'a Stage> + Clone + 'a {
        self.stages.iter().map(|&index| &composition.stages[index])
    }

    /// Whether `stage` can join the pass: see the conditions on [`Pass`].
    fn takes(&self, composition: &Composition, stage: &Stage) -> bool {
        if self.stages(composition).all(|other| other.window == stage.window) {
            return true;
        }
        let gauge = self.gauge.max(stage.pipe.word_bytes()) as u64;
        let mut all = self.stages(composition).chain([stage]);
        let mut readers = all.clone().filter(|stage| reads_pos(stage)).map(|stage| stage.window);
        let first = readers.next();
        let agree = first.is_none_or(|first| readers.all(|window| window == first));
        agree && all.all(|stage| stage.window.is_none_or(|window| window.get().is_multiple_of(gauge)))
    }

    /// The earlier and the later half of the stages. What holds for the windows of all stages holds for those
    /// of each half.
    pub(crate) fn halves(&self, composition: &Composition) -> [Pass; 2] {
        let (first, second) = self.stages.split_at(self.stages.len() / 2);
        [first, second].map(|stages| {
            let mut half = Pass { stages: stages.to_vec(), gauge: 1 };
            half.gauge = half.stages(composition).map(|stage| stage.pipe.word_bytes()).max().unwrap_or(1);
            half
        })
    }

    /// The window that its code counts offsets in, if not in the whole stream: that of the stages that read
    /// `pos`, or of all, since it may cut a word.
    pub(crate) fn pos_window(&self, composition: &Composition) -> Option<NonZeroU64> {
        let first = self.stages(composition).next()?;
        let is_common = self.stages(composition).all(|stage| stage.window == first.window);
        let counts = if is_common { Some(first) } else { self.stages(composition).find(|s| reads_pos(s)) };
        counts.and_then(|stage| stage.window)
    }

    /// Whether some stage writes words (else the stream passes through the pass unchanged).
    pub(crate) fn modifies(&self, composition: &Composition) -> bool {
        self.stages(composition).any(|stage| stage.pipe.out.is_some())
    }
}

fn reads_pos(stage: &Stage) -> bool {
    stage.pipe.body.insts.iter().any(|inst| inst.op == Op::Pos)
}

impl Plan {
    /// Every stage a pass of its own: nothing is fused.
    pub(crate) fn separate(composition: &Composition) -> Plan {
        let alone =
            |(index, stage): (usize, &Stage)| Pass { stages: vec![index], gauge: stage.pipe.word_bytes() };
        Plan { passes: composition.stages.iter().enumerate().map(alone).collect() }
    }

    /// Puts neighbours into one pass as far as their windows allow, whatever their states need.
    pub(crate) fn fused(composition: &Composition) -> Plan {
        let mut passes: Vec<Pass> = Vec::new();
        for (index, stage) in composition.stages.iter().enumerate() {
            let word = stage.pipe.word_bytes();
            match passes.last_mut() {
                Some(pass) if pass.takes(composition, stage) => {
                    pass.stages.push(index);
                    pass.gauge = pass.gauge.max(word);
                }
                _ => passes.push(Pass { stages: vec![index], gauge: word }),
            }
        }
        Plan { passes }
    }

    /// Fuses what runs well in one loop on some of the `targets`: see [`schedule`].
    pub(crate) fn new(composition: &Composition, stages: &[Analysed], targets: &Targets) -> Plan {
        schedule::schedule(composition, stages, targets)
    }
}

#[cfg(test)]
mod tests;
