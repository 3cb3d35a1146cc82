//! What the function does, for people to read: told by the parts that the code is made from.

use super::{Frame, Shape, StageCode};
use crate::backend::native::carry::LoopCarried;
use crate::backend::native::strategy::{Addend, Fold, Keeping, Study};
use crate::ir::{Op, Ty, Value};
use crate::plan::display::{bytes, heading, operation};
use std::fmt;

/// The outline of the function that these stages and this shape give; `names` are the states', in (stage, state) order.
pub(in crate::backend::native) fn outline(studies: &[Study<'_>], shape: Shape, names: &[String]) -> String {
    let mut frame = Frame::new(studies, shape);
    // What was made once can be made again.
    let built = frame.build();
    debug_assert!(built.is_ok(), "{built:?}");
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = frame.write(names, &mut text);
    text
}

impl Frame<'_> {
    fn write(&self, names: &[String], f: &mut String) -> fmt::Result {
        let unroll = self.shape.unroll;
        let vector = bytes(self.b.vector_bytes());
        let mut head = Lines::new("head");
        for stage in &self.stages {
            stage.each_state(names, |name, state, keeping| {
                if let Some(how) = stage.kept(state, keeping) {
                    head.line(f, format_args!("{name}: {how}"))?;
                }
                Ok(())
            })?;
            for (value, inst) in stage.study.pipe.body.iter().filter(|(value, _)| stage.is_pattern(*value)) {
                let period = stage.study.periods[value.0 as usize].unwrap_or(1);
                let name = &stage.study.pipe.name;
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
        if self.aligns() {
            head.line(
                f,
                "of long stretches, as much under a mask as takes the destination to a whole vector",
            )?;
        }
        let turn = match (unroll, self.enters_within()) {
            (1, _) => format!("for each vector of {vector}:"),
            (_, true) => {
                format!("{unroll} vectors of {vector} a turn, entered where whole turns are left; for each:")
            }
            (_, false) => format!("{unroll} vectors of {vector} a turn, then one by one; for each:"),
        };
        heading(f, "body", turn)?;
        for stage in &self.stages {
            stage.write_body(names, unroll, self.b.vector_bytes(), f)?;
        }
        let modifies = self.stages.iter().any(|stage| stage.study.pipe.out.is_some());
        let store = if modifies { "store" } else { "store as read (nothing, when reading only)" };
        heading(f, "", store)?;
        let mut epilogue = Lines::new("epilogue");
        for stage in &self.stages {
            stage.each_state(names, |name, state, keeping| match stage.ended(state, keeping) {
                Some(how) => epilogue.line(f, format_args!("{name}: {how}")),
                None => Ok(()),
            })?;
        }
        heading(
            f,
            "tail",
            format_args!("the last 1 to {}: the same once, under masks", bytes(self.b.vector_bytes() - 1)),
        )?;
        if self.remainder_takes_whole() {
            heading(f, "", format_args!("stretches of no more than {vector} are that alone"))?;
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

impl StageCode<'_> {
    fn each_state(
        &self,
        names: &[String],
        mut f: impl FnMut(&str, usize, &Keeping) -> fmt::Result,
    ) -> fmt::Result {
        self.study.keeping.iter().enumerate().try_for_each(|(state, keeping)| {
            f(names.get(self.first_state + state).map_or("?", String::as_str), state, keeping)
        })
    }

    /// What a state is during the loop.
    fn kept(&self, state: usize, keeping: &Keeping) -> Option<String> {
        Some(match keeping {
            Keeping::Constant => "in every lane of a register".to_owned(),
            _ => self.carried_by(state)?.description(),
        })
    }

    /// What carries a state, if it is the first of those that are carried together.
    fn carried_by(&self, state: usize) -> Option<&dyn LoopCarried> {
        self.carried.iter().find(|(first, _)| *first == state).map(|(_, carried)| &**carried)
    }

    /// What becomes of it behind the loop.
    fn ended(&self, state: usize, keeping: &Keeping) -> Option<String> {
        Some(match keeping {
            Keeping::Constant | Keeping::SumOfSums | Keeping::Member => return None,
            Keeping::Reduction(fold, _) => {
                let swapped = self.carried_by(state).is_some_and(LoopCarried::is_swapped);
                let swap = if swapped { ", bytes swapped" } else { "" };
                format!("slots and lanes together{swap}, then {} with the imported value", name_of(*fold))
            }
            Keeping::Crc(crc, _) => format!(
                "slots and lanes each times a power of x, together; {} bits of remainder by two products (Barrett)",
                crc.bits
            ),
            Keeping::Linear(system, _) => {
                let what = if system.states.len() == 1 { "factor" } else { "matrix" };
                format!("slots and lanes each times a power of the {what}, together")
            }
            Keeping::IteratedSums(..) => {
                "lanes together by the polynomials that powers of the matrix are, as the imported values"
                    .to_owned()
            }
            Keeping::Sum { modulus: 0, .. } => {
                "slots and lanes together, the imported values added".to_owned()
            }
            Keeping::Sum { modulus, end_around: true, .. } => {
                format!(
                    "slots and lanes together, the imported values added, modulo {modulus}, which stands for 0"
                )
            }
            Keeping::Sum { modulus, .. } => {
                format!("slots and lanes together, the imported values added, modulo {modulus}")
            }
            Keeping::Induction(_) if self.study.pipe.states[state].ty == Ty::Bool => {
                "turned if the rest has an odd number of words".to_owned()
            }
            Keeping::Induction(_) => "the lane of the word that would be next".to_owned(),
            Keeping::Delay(_) | Keeping::Scan(..) => "the last lane".to_owned(),
        })
    }

    /// Whether a value is loaded ready-made.
    fn is_pattern(&self, value: Value) -> bool {
        let index = value.0 as usize;
        self.study.needed[index] && self.study.periods[index].is_some()
    }

    fn write_body(
        &self,
        names: &[String],
        unroll: usize,
        vector_bytes: usize,
        f: &mut String,
    ) -> fmt::Result {
        let study = self.study;
        let pipe = study.pipe;
        let show = |value: Value| shown(study, value);
        heading(f, "", format_args!("{}:", pipe.name))?;
        let given = |value: Value| {
            let scan = |(state, next): (usize, &Value)| {
                (*next == value && matches!(study.keeping[state], Keeping::Scan(..))).then_some(state)
            };
            pipe.next.iter().enumerate().find_map(scan)
        };
        for (value, inst) in pipe.body.iter() {
            let index = value.0 as usize;
            if !study.needed[index] || study.constants[index].is_some() || self.is_pattern(value) {
                continue;
            }
            let name =
                |state: usize| names.get(self.first_state + state).map_or("?", String::as_str).to_owned();
            let what = match (inst.op, given(value)) {
                (_, Some(state)) => {
                    let Keeping::Scan(fold, operand) = study.keeping[state] else { continue };
                    format!("running {} over {}, from {}", name_of(fold), show(operand), name(state))
                }
                (Op::In, _) => format!("the word ({})", pipe.input),
                (Op::State(state), _) => match study.keeping[state.0 as usize] {
                    Keeping::Delay(before) => format!("{} of the word before", show(before)),
                    Keeping::Induction(_) | Keeping::Scan(..) => {
                        format!("{} before the word", name(state.0 as usize))
                    }
                    _ => name(state.0 as usize),
                },
                (op, _) => operation(&op, show),
            };
            heading(f, "", format_args!("  v{index} {} = {what}", inst.ty))?;
        }
        self.each_state(names, |name, state, keeping| match keeping {
            Keeping::Reduction(fold, addends) => addends.iter().try_for_each(|addend| {
                heading(f, "", format_args!("  {name}: {} {}", name_of(*fold), contribution(study, addend)))
            }),
            Keeping::Crc(_, value) => {
                let bytes = pipe.body.ty(*value).bytes();
                let bits = 8 * vector_bytes * bytes / pipe.word_bytes() * unroll;
                heading(
                    f,
                    "",
                    format_args!("  {name}: times x^{bits} mod P without carry, xor {}", show(*value)),
                )
            }
            Keeping::IteratedSums(_, value) => heading(
                f,
                "",
                format_args!(
                    "  {name}: plus {}, and each of the others plus the one before it",
                    show(*value)
                ),
            ),
            Keeping::Linear(system, values) if system.modulus == 0 && values.len() == 1 => {
                let words = unroll * vector_bytes / pipe.word_bytes();
                let (factor, value) = (system.matrix[0], show(values[0]));
                heading(f, "", format_args!("  {name}: times {factor:#x}^{words}, plus {value}"))
            }
            Keeping::Sum { word, second, .. } => {
                let both = second.and_then(|second| names.get(self.first_state + second.state.0 as usize));
                let and = both.map_or(String::new(), |second| format!(" and, times its weight, to {second}"));
                heading(f, "", format_args!("  {} to {name}{and}", show(*word)))
            }
            Keeping::Linear(system, values) => {
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
            Keeping::Induction(_) if pipe.states[state].ty == Ty::Bool => Ok(()),
            Keeping::Induction(_) => {
                let words = vector_bytes / pipe.word_bytes();
                heading(f, "", format_args!("  {name}: {words} words on, in one step"))
            }
            Keeping::Constant
            | Keeping::Member
            | Keeping::SumOfSums
            | Keeping::Delay(_)
            | Keeping::Scan(..) => Ok(()),
        })?;
        match pipe.out {
            Some(out) => heading(f, "", format_args!("  writes {} ({})", show(out), pipe.output)),
            None => Ok(()),
        }
    }
}

/// A value of the body: its number, or what it is for every word.
fn shown(study: &Study<'_>, value: Value) -> String {
    match study.constants[value.0 as usize] {
        Some(number) => format!("{number:#x}"),
        None => format!("v{}", value.0),
    }
}

fn contribution(study: &Study<'_>, addend: &Addend) -> String {
    let negated = if addend.negated { "minus " } else { "" };
    let guard = addend.only_if.map_or(String::new(), |(cond, holds)| {
        format!(" where {}v{}", if holds { "" } else { "not " }, cond.0)
    });
    format!("{negated}{}{guard}", shown(study, addend.value))
}

const fn name_of(fold: Fold) -> &'static str {
    match fold {
        Fold::Add => "add",
        Fold::Addc => "addc",
        Fold::Xor => "xor",
        Fold::And => "and",
        Fold::Or => "or",
        Fold::Min => "min",
        Fold::Max => "max",
        Fold::Smin => "smin",
        Fold::Smax => "smax",
    }
}
