//! What the function does, for people to read: told by the parts that the code is made from.

use super::{Carried, FunctionFrame};
use crate::backend::native::carry::LoopCarried;
use crate::ir::{Op, Ty, Value};
use crate::outline::{bytes, heading, operation};
use crate::plan::stage::{Addend, LinearSystem, StateForm, VectorStage};
use crate::plan::wide::WidePlan;
use std::fmt;

/// What a function was made from, as far as it is told of.
pub(in crate::backend::native) struct Parts {
    /// For each stage, the index of its first state and what the loops carry.
    stages: Vec<(usize, Carried)>,
    aligns: bool,
    enters_within: bool,
    takes_whole: bool,
    overlaps: bool,
}

impl FunctionFrame<'_> {
    pub(super) fn into_parts(self) -> Parts {
        let (aligns, enters_within) = (self.aligns(), self.enters_within());
        let (takes_whole, overlaps) = (self.shape.edges.takes_whole, self.overlaps());
        let stages = self.stages.into_iter().map(|stage| (stage.first_state, stage.carried)).collect();
        Parts { stages, aligns, enters_within, takes_whole, overlaps }
    }
}

/// A stage that is told of.
struct StageParts<'a> {
    plan: &'a VectorStage,
    first_state: usize,
    carried: &'a Carried,
}

impl Parts {
    /// The outline of the loops that were made of `plan`; `names` are the states', in (stage, state) order.
    pub(in crate::backend::native) fn outline(&self, plan: &WidePlan, names: &[String]) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(plan, names, &mut text);
        text
    }

    fn stages<'a>(&'a self, plan: &'a WidePlan) -> impl Iterator<Item = StageParts<'a>> {
        let part = |(plan, (first_state, carried)): (&'a VectorStage, &'a (usize, Carried))| StageParts {
            plan,
            first_state: *first_state,
            carried,
        };
        plan.stages.iter().zip(&self.stages).map(part)
    }

    fn carried(&self) -> impl Iterator<Item = &dyn LoopCarried> {
        self.stages.iter().flat_map(|(_, carried)| carried).map(|(_, carried)| &**carried)
    }

    fn write(&self, plan: &WidePlan, names: &[String], f: &mut String) -> fmt::Result {
        let (unroll, vector_bytes) = (plan.unroll, plan.target.vector_bytes);
        let vector = bytes(vector_bytes);
        let mut head = Lines::new("head");
        for stage in self.stages(plan) {
            stage.each_state(names, |name, state, form| {
                if let Some(how) = stage.kept(state, form) {
                    head.line(f, format_args!("{name}: {how}"))?;
                }
                Ok(())
            })?;
            for (value, inst) in stage.plan.pipe.body.iter().filter(|(value, _)| stage.is_pattern(*value)) {
                let period = stage.plan.periods[value.0 as usize].unwrap_or(1);
                let name = &stage.plan.pipe.name;
                head.line(
                    f,
                    format_args!(
                        "{name}: v{} {} by the offset, alike every {}",
                        value.0,
                        inst.ty,
                        bytes(period)
                    ),
                )?;
            }
        }
        if self.aligns {
            head.line(
                f,
                "of long stretches, as much under a mask as takes the destination to a whole vector",
            )?;
        }
        let turn = match (unroll, self.enters_within) {
            (1, _) => format!("for each vector of {vector}:"),
            (_, true) => {
                format!(
                    "{unroll} vectors of {vector} an iteration, entered where whole iterations are left; for each:"
                )
            }
            (_, false) => format!("{unroll} vectors of {vector} an iteration, then one by one; for each:"),
        };
        heading(f, "body", turn)?;
        for stage in self.stages(plan) {
            stage.write_body(names, unroll, vector_bytes, f)?;
        }
        let modifies = plan.modifies();
        let store = if modifies { "store" } else { "store as read (nothing, when reading only)" };
        heading(f, "", store)?;
        let mut epilogue = Lines::new("epilogue");
        for stage in self.stages(plan) {
            stage.each_state(names, |name, state, form| match stage.ended(state, form) {
                Some(how) => epilogue.line(f, format_args!("{name}: {how}")),
                None => Ok(()),
            })?;
        }
        heading(
            f,
            "tail",
            format_args!("the last 1 to {}: the same once, under masks", bytes(vector_bytes - 1)),
        )?;
        if self.takes_whole {
            heading(f, "", format_args!("stretches of no more than {vector} are that alone"))?;
        }
        if self.overlaps {
            heading(
                f,
                "",
                format_args!(
                    "behind a whole vector, of whole words: the last {vector}, counting what is new"
                ),
            )?;
        }
        if self.carried().any(|carried| carried.traits().ends_in_remainder) {
            heading(f, "", "a CRC's bytes moved to the end of a vector of zeros")?;
        }
        Ok(())
    }
}

/// Lines under one heading, which stands beside the first of them.
struct Lines {
    heading: &'static str,
}

impl Lines {
    const fn new(heading: &'static str) -> Lines {
        Lines { heading }
    }

    fn line(&mut self, f: &mut String, text: impl fmt::Display) -> fmt::Result {
        heading(f, std::mem::take(&mut self.heading), text)
    }
}

impl StageParts<'_> {
    fn each_state(
        &self,
        names: &[String],
        mut f: impl FnMut(&str, usize, &StateForm) -> fmt::Result,
    ) -> fmt::Result {
        self.plan.forms.iter().enumerate().try_for_each(|(state, form)| {
            f(names.get(self.first_state + state).map_or("?", String::as_str), state, form)
        })
    }

    /// What a state is during the loop.
    fn kept(&self, state: usize, form: &StateForm) -> Option<String> {
        Some(match form {
            StateForm::Constant => "in every lane of a register".to_owned(),
            _ => self.carried_by(state)?.description(),
        })
    }

    /// What carries a state, if it is the first of those that are carried together.
    fn carried_by(&self, state: usize) -> Option<&dyn LoopCarried> {
        self.carried.iter().find(|(first, _)| *first == state).map(|(_, carried)| &**carried)
    }

    /// What becomes of it behind the loop.
    fn ended(&self, state: usize, form: &StateForm) -> Option<String> {
        Some(match form {
            StateForm::Constant | StateForm::SumOfSums | StateForm::Member => return None,
            StateForm::Reduction(fold, _) => {
                let swapped = self.carried_by(state).is_some_and(LoopCarried::is_swapped);
                let swap = if swapped { ", bytes swapped" } else { "" };
                format!("copies and lanes together{swap}, then {} with the imported value", fold)
            }
            StateForm::Crc(crc, _) => format!(
                "copies and lanes each times a power of x, together; {} bits of remainder by two products (Barrett)",
                crc.bits
            ),
            StateForm::Linear(system, _) => {
                let what = if system.states.len() == 1 { "factor" } else { "matrix" };
                format!("copies and lanes each times a power of the {what}, together")
            }
            StateForm::IteratedSums(..) => {
                "lanes together by the polynomials that powers of the matrix are, as the imported values"
                    .to_owned()
            }
            StateForm::Field(..) => "lanes each times a power of the factor, together".to_owned(),
            StateForm::Sum { modulus: 0, .. } => {
                "copies and lanes together, the imported values added".to_owned()
            }
            StateForm::Sum { modulus, end_around: true, .. } => {
                format!(
                    "copies and lanes together, the imported values added, modulo {modulus}, which stands for 0"
                )
            }
            StateForm::Sum { modulus, .. } => {
                format!("copies and lanes together, the imported values added, modulo {modulus}")
            }
            StateForm::Induction(_) if self.plan.pipe.states[state].ty == Ty::Bool => {
                "turned if the rest has an odd number of words".to_owned()
            }
            StateForm::Induction(_) => "the lane of the word that would be next".to_owned(),
            StateForm::Delay(_) | StateForm::Scan(..) => "the last lane".to_owned(),
            StateForm::Lagged(_, states) => format!("the last {} lanes", states.len()),
        })
    }

    /// Whether a value is loaded ready-made.
    fn is_pattern(&self, value: Value) -> bool {
        let index = value.0 as usize;
        self.plan.needed[index] && self.plan.periods[index].is_some()
    }

    fn write_body(
        &self,
        names: &[String],
        unroll: usize,
        vector_bytes: usize,
        f: &mut String,
    ) -> fmt::Result {
        let plan = self.plan;
        let pipe = &plan.pipe;
        let show = |value: Value| shown(plan, value);
        heading(f, "", format_args!("{}:", pipe.name))?;
        let given = |value: Value| {
            let scan = |(state, next): (usize, &Value)| {
                let form = &plan.forms[state];
                (*next == value && matches!(form, StateForm::Scan(..) | StateForm::Lagged(..)))
                    .then_some(state)
            };
            pipe.next.iter().enumerate().find_map(scan)
        };
        for (value, inst) in pipe.body.iter() {
            let index = value.0 as usize;
            if !plan.needed[index] || plan.constants[index].is_some() || self.is_pattern(value) {
                continue;
            }
            let name =
                |state: usize| names.get(self.first_state + state).map_or("?", String::as_str).to_owned();
            let what = match (inst.op, given(value)) {
                (_, Some(state)) => {
                    let (StateForm::Scan(scan) | StateForm::Lagged(scan, _)) = &plan.forms[state] else {
                        continue;
                    };
                    let by = match scan.kept {
                        Some(kept) => format!("{} modulo {}", scan.fold, kept + 1),
                        None => scan.fold.to_string(),
                    };
                    match &plan.forms[state] {
                        StateForm::Lagged(_, states) => format!(
                            "running {by} over {} with the result {} words before, from {}",
                            show(scan.operand),
                            states.len(),
                            states.iter().rev().map(|state| name(*state)).collect::<Vec<_>>().join(", ")
                        ),
                        _ => format!("running {by} over {}, from {}", show(scan.operand), name(state)),
                    }
                }
                (Op::In, _) => format!("the word ({})", pipe.input),
                (Op::State(state), _) => match &plan.forms[state.0 as usize] {
                    StateForm::Delay(before) => format!("{} of the word before", show(*before)),
                    StateForm::Induction(_) | StateForm::Scan(..) | StateForm::Lagged(..) => {
                        format!("{} before the word", name(state.0 as usize))
                    }
                    _ => name(state.0 as usize),
                },
                (op, _) => operation(&op, show),
            };
            heading(f, "", format_args!("  v{index} {} = {what}", inst.ty))?;
        }
        self.each_state(names, |name, state, form| match form {
            StateForm::Reduction(fold, addends) => addends.iter().try_for_each(|addend| {
                heading(f, "", format_args!("  {name}: {} {}", fold, contribution(plan, addend)))
            }),
            StateForm::Crc(_, value) => {
                let bytes = pipe.body.ty(*value).bytes();
                let bits = 8 * vector_bytes * bytes / pipe.word_bytes() * unroll;
                heading(
                    f,
                    "",
                    format_args!("  {name}: times x^{bits} mod P without carry, xor {}", show(*value)),
                )
            }
            StateForm::IteratedSums(_, value) => heading(
                f,
                "",
                format_args!(
                    "  {name}: plus {}, and each of the others plus the one before it",
                    show(*value)
                ),
            ),
            StateForm::Linear(system, values) if system.modulus == 0 && values.len() == 1 => {
                let words = unroll * vector_bytes / pipe.word_bytes();
                let (factor, value) = (system.matrix[0], show(values[0]));
                heading(f, "", format_args!("  {name}: times {factor:#x}^{words}, plus {value}"))
            }
            StateForm::Field(factor, value) => {
                let words = unroll * vector_bytes / pipe.word_bytes();
                let factor = names.get(self.first_state + factor.0 as usize).map_or("?", String::as_str);
                let value = show(*value);
                heading(
                    f,
                    "",
                    format_args!(
                        "  {name}: times ({factor} and its upper half)^{words} in GF(2^128), xor {value}"
                    ),
                )
            }
            StateForm::Sum { word, second, .. } => {
                let both = second.and_then(|second| names.get(self.first_state + second.state.0 as usize));
                let and = both.map_or(String::new(), |second| format!(" and, times its weight, to {second}"));
                heading(f, "", format_args!("  {} to {name}{and}", show(*word)))
            }
            StateForm::Linear(LinearSystem { matrix, halves: Some(halves), .. }, _) if unroll > 1 => {
                let words = unroll * vector_bytes / pipe.word_bytes();
                let (word, of) = (show(halves.word), halves.matrix);
                heading(
                    f,
                    "",
                    format_args!(
                        "  {name}: {of:?} times z; z times a matrix similar to {matrix:?}^{words}, plus the halves of {word}"
                    ),
                )
            }
            StateForm::Linear(system, values) => {
                let words = unroll * vector_bytes / pipe.word_bytes();
                let values: Vec<String> = values.iter().map(|value| show(*value)).collect();
                let modulus = match system.modulus {
                    0 => String::new(),
                    modulus => format!(", modulo {modulus}"),
                };
                let (matrix, values) = (&system.matrix, values.join(" and "));
                heading(f, "", format_args!("  {name}: times {matrix:?}^{words}, plus {values}{modulus}"))
            }
            // A vector has an even number of words.
            StateForm::Induction(_) if pipe.states[state].ty == Ty::Bool => Ok(()),
            StateForm::Induction(_) => {
                let words = vector_bytes / pipe.word_bytes();
                heading(f, "", format_args!("  {name}: {words} words on, in one step"))
            }
            StateForm::Constant
            | StateForm::Member
            | StateForm::SumOfSums
            | StateForm::Delay(_)
            | StateForm::Scan(..)
            | StateForm::Lagged(..) => Ok(()),
        })?;
        match pipe.out {
            Some(out) => heading(f, "", format_args!("  writes {} ({})", show(out), pipe.output)),
            None => Ok(()),
        }
    }
}

/// A value of the body: its number, or what it is for every word.
fn shown(plan: &VectorStage, value: Value) -> String {
    match plan.constants[value.0 as usize] {
        Some(number) => format!("{number:#x}"),
        None => format!("v{}", value.0),
    }
}

fn contribution(plan: &VectorStage, addend: &Addend) -> String {
    let negated = if addend.negated { "minus " } else { "" };
    let guard = addend.only_if.map_or(String::new(), |(cond, holds)| {
        format!(" where {}v{}", if holds { "" } else { "not " }, cond.0)
    });
    format!("{negated}{}{guard}", shown(plan, addend.value))
}
