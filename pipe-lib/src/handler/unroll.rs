//! From a pipeline to straight-line code: the body of every stage once for each word of the prefix, with
//! `pos` a number. What a word at one place does not do disappears by that: `sel` by a comparison of `pos`.

use super::straight::{Numbering, StraightLine};
use super::{Answer, AnswerField, HandlerError, MAX_PREFIX_BYTES, Verdict};
use crate::compose::frames::{End, find_export};
use crate::compose::{Composition, Stage};
use crate::ir::{BinaryOp, CompareOp, ConvertOp, Field, Op, Pipe, StateInit, Term, Ty, Value};

/// Instructions that unrolling may look at: a bound of the time that it takes.
const MAX_INSTRUCTIONS: usize = 1 << 18;

/// Steps that may be left: a bound of the time that a frame takes.
const MAX_STEPS: usize = 4096;

/// What a handler gives.
pub(super) struct Unrolled {
    pub(super) line: StraightLine,
    pub(super) verdict: Value,
    pub(super) counters: Vec<(String, Value)>,
    pub(super) answer: Option<Answer>,
    /// Where it is steered to.
    pub(super) core: Option<Value>,
}

pub(super) fn unroll(composition: &Composition) -> Result<Unrolled, HandlerError> {
    check(composition)?;
    let mut numbering = Numbering::default();
    let mut exports: Vec<(&Stage, &str, Value)> = Vec::new();
    // In the order of `find_export`: of each stage, each export.
    let mut by_stage: Vec<Vec<Value>> = Vec::new();
    for stage in &composition.stages {
        let values = unroll_stage(&mut numbering, &stage.pipe);
        let names = stage.pipe.exports.iter().map(|export| export.name.as_str());
        exports.extend(names.zip(&values).map(|(name, value)| (stage, name, *value)));
        by_stage.push(values);
    }
    let mut cores = exports.iter().filter(|(_, name, _)| *name == CORE);
    let core = cores.next().map(|(_, _, value)| *value);
    if let Some((stage, ..)) = cores.next() {
        return Err(HandlerError::new(format!("a second export `core`, of `{}`; keep one", stage.name)));
    }
    let mut core = core.map(|value| widened(&mut numbering, value, Ty::U64));
    let can = Can { answer: composition.sink_frame.is_some(), steer: core.is_some() };
    let mut verdict = verdict(&mut numbering, &exports, can)?;
    let mut answer = None;
    if let Some(frame) = &composition.sink_frame {
        let mut fields = Vec::new();
        for field in &frame.head {
            fields.push(match field {
                Field::Gap(bytes) => AnswerField::Keep(*bytes as usize),
                Field::Bytes(bytes) => AnswerField::Bytes(bytes.clone()),
                // Its stage was refused.
                Field::Digest { bytes, .. } => AnswerField::Keep(*bytes as usize),
                Field::Put { gauge, sum } => {
                    let mut total = numbering.constant(0, gauge.ty);
                    for term in sum {
                        let value = match term {
                            Term::Const(value) => numbering.constant(*value & gauge.ty.mask(), gauge.ty),
                            Term::Param(id) => {
                                let value = frame.params[id.0 as usize].default.unwrap_or_default();
                                numbering.constant(value & gauge.ty.mask(), gauge.ty)
                            }
                            Term::Export(name) => {
                                let found = find_export(&composition.stages, End::Sink, name)
                                    .ok_or_else(|| HandlerError::new(format!("no export `{name}`")))?;
                                let value = by_stage[found.stage][found.export];
                                widened(&mut numbering, value, gauge.ty)
                            }
                            Term::Index | Term::Length => {
                                return Err(HandlerError::new(
                                    "an answer has no windows: put an export in place of `index` or `length`",
                                ));
                            }
                        };
                        total = numbering.compute(Op::Binary(BinaryOp::Add, total, value), gauge.ty);
                    }
                    AnswerField::Number { gauge: *gauge, value: total }
                }
            });
        }
        let length = exports.iter().find(|(_, name, _)| *name == LENGTH).map(|(_, _, value)| *value);
        answer = Some(Answer { fields, head_bytes: frame.head_bytes() as usize, length });
    }
    let is_used = |name: &str| {
        name == VERDICT
            || name == CORE
            || answer.is_some() && (name == LENGTH || named_by_frame(composition, name))
    };
    let mut counters: Vec<(String, Value)> = Vec::new();
    for (stage, name, value) in &exports {
        if !is_used(name) {
            let clash = exports.iter().filter(|(_, other, _)| other == name).count() > 1;
            let name = if clash { format!("{}.{name}", stage.name) } else { (*name).to_owned() };
            counters.push((name, widened(&mut numbering, *value, Ty::U64)));
        }
    }
    let fields = answer.iter_mut().flat_map(|answer| {
        let numbers = answer.fields.iter_mut().filter_map(|field| match field {
            AnswerField::Number { value, .. } => Some(value),
            _ => None,
        });
        numbers.chain(&mut answer.length)
    });
    let results = std::iter::once(&mut verdict).chain(&mut core);
    let results = results.chain(counters.iter_mut().map(|(_, value)| value));
    let line = numbering.finish(results.chain(fields));
    if line.steps.len() > MAX_STEPS {
        return Err(HandlerError::new(format!(
            "{} steps for a frame; the most is {MAX_STEPS}: look at fewer words, by `pos`",
            line.steps.len()
        )));
    }
    Ok(Unrolled { line, verdict, counters, answer, core })
}

/// The export that says what becomes of a frame.
const VERDICT: &str = "verdict";

/// The export that says which core gets a frame that is steered.
const CORE: &str = "core";

/// The export that says how long an answer is.
const LENGTH: &str = "length";

fn named_by_frame(composition: &Composition, export: &str) -> bool {
    let fields = composition.sink_frame.iter().flat_map(|frame| &frame.head);
    fields.into_iter().any(|field| match field {
        Field::Put { sum, .. } => sum.iter().any(|term| match term {
            Term::Export(name) => name == export || name.ends_with(&format!(".{export}")),
            _ => false,
        }),
        _ => false,
    })
}

fn check(composition: &Composition) -> Result<(), HandlerError> {
    if composition.source.is_some() || composition.sink.is_some() || composition.source_frame.is_some() {
        return Err(HandlerError::new(
            "a layout, or a frame at the start: a handler looks at frames as they arrive, and ends at most in \
             a frame that is its answer",
        ));
    }
    if let Some(frame) = &composition.sink_frame {
        if frame.data.is_some() || !frame.foot.is_empty() {
            return Err(HandlerError::new(format!(
                "the answer `{}` has fields behind `data`, or windows: put all fields before a `data` without \
                 number, which stands for what follows in the frame that arrived",
                frame.name
            )));
        }
        if frame.head_bytes() > MAX_ANSWER_BYTES {
            return Err(HandlerError::new(format!(
                "the answer `{}` has {} bytes of fields; the most is {MAX_ANSWER_BYTES}",
                frame.name,
                frame.head_bytes()
            )));
        }
    }
    let mut instructions = 0;
    for stage in &composition.stages {
        let pipe = &stage.pipe;
        if let Some(kind) = pipe.digest {
            return Err(HandlerError::new(format!(
                "`{}`: {} of another crate has no code that could run as frames arrive; take a pipe's checksum",
                stage.name,
                kind.title()
            )));
        }
        let refuse = |what: &str| Err(HandlerError::new(format!("`{}` {what}", stage.name)));
        if pipe.out.is_some() {
            return refuse("writes words: a handler looks at a frame, and answers by `-> frame`");
        }
        if stage.window.is_some() {
            return refuse("has windows: leave out `per`, and choose words by `pos`");
        }
        if pipe.is_wide() {
            return refuse("computes on 128 bits: take narrower words");
        }
        if pipe.holds_secrets() {
            return refuse("has a secret, which nobody gives it");
        }
        let looks_up = |op: &Op| matches!(op, Op::Lookup(..));
        if pipe.body.insts.iter().chain(&pipe.finish.insts).any(|inst| looks_up(&inst.op)) {
            return refuse("looks into a table: a handler has no memory; compare instead");
        }
        instructions +=
            MAX_PREFIX_BYTES / pipe.word_bytes() * pipe.body.insts.len() + pipe.finish.insts.len();
    }
    if instructions > MAX_INSTRUCTIONS {
        return Err(HandlerError::new(format!(
            "{instructions} instructions in {MAX_PREFIX_BYTES} bytes; the most is {MAX_INSTRUCTIONS}"
        )));
    }
    Ok(())
}

/// Longest head of an answer: what fits in one Ethernet frame.
const MAX_ANSWER_BYTES: u64 = 1514;

/// The exports of a pipe that has seen the whole prefix.
fn unroll_stage(numbering: &mut Numbering, pipe: &Pipe) -> Vec<Value> {
    let mut states: Vec<Value> = pipe
        .states
        .iter()
        .map(|state| match state.init {
            StateInit::Const(value) => numbering.constant(value, state.ty),
            StateInit::Param(_) => unreachable!("a composition has no unbound parameters"),
        })
        .collect();
    let word = pipe.word_bytes();
    for offset in (0..MAX_PREFIX_BYTES).step_by(word) {
        let values = unroll_block(numbering, pipe, false, &states, offset);
        states = pipe.next.iter().map(|next| values[next.0 as usize]).collect();
    }
    let values = unroll_block(numbering, pipe, true, &states, 0);
    pipe.exports.iter().map(|export| values[export.value.0 as usize]).collect()
}

fn unroll_block(
    numbering: &mut Numbering,
    pipe: &Pipe,
    finish: bool,
    states: &[Value],
    offset: usize,
) -> Vec<Value> {
    let block = if finish { &pipe.finish } else { &pipe.body };
    let mut values: Vec<Value> = Vec::with_capacity(block.insts.len());
    for (_, inst) in block.iter() {
        let value = match inst.op {
            Op::In => numbering.load(offset as u16, pipe.input),
            Op::Pos => numbering.constant(offset as u64, Ty::U64),
            Op::State(id) => states[id.0 as usize],
            op => numbering.compute(op.map_operands(|v| values[v.0 as usize]), inst.ty),
        };
        values.push(value);
    }
    values
}

/// What else than letting go of a frame a handler can do.
#[derive(Clone, Copy)]
struct Can {
    answer: bool,
    steer: bool,
}

/// The one export called `verdict`; numbers beyond those that mean something are `pass`.
fn verdict(
    numbering: &mut Numbering,
    exports: &[(&Stage, &str, Value)],
    can: Can,
) -> Result<Value, HandlerError> {
    let mut named = exports.iter().filter(|(_, name, _)| *name == VERDICT);
    let Some((_, _, value)) = named.next() else {
        return Err(HandlerError::new(
            "no export `verdict`: write `export verdict = ..`, 0 to pass, 1 to drop, 2 to leave the frame to the \
             kernel, 3 to answer it, 4 to steer it to the core that the export `core` says",
        ));
    };
    if let Some((stage, ..)) = named.next() {
        return Err(HandlerError::new(format!(
            "`{}` has a second export `verdict`: give it as a handler of its own",
            stage.name
        )));
    }
    let value = widened(numbering, *value, Ty::U64);
    // Who has no answer cannot give it, and who names no core cannot steer.
    let kinds =
        if can.steer { Verdict::ALL.len() } else { Verdict::Answer as usize + usize::from(can.answer) };
    let kinds = numbering.constant(kinds as u64, Ty::U64);
    let pass = numbering.constant(0, Ty::U64);
    let is_known = numbering.compute(Op::Compare(CompareOp::Ltu, value, kinds), Ty::Bool);
    let known = numbering.compute(Op::Select { cond: is_known, then: value, otherwise: pass }, Ty::U64);
    if can.answer || !can.steer {
        return Ok(known);
    }
    let answer = numbering.constant(Verdict::Answer as u64, Ty::U64);
    let is_answer = numbering.compute(Op::Compare(CompareOp::Eq, known, answer), Ty::Bool);
    Ok(numbering.compute(Op::Select { cond: is_answer, then: pass, otherwise: known }, Ty::U64))
}

/// The value as one of a wider type, or of the same.
fn widened(numbering: &mut Numbering, value: Value, ty: Ty) -> Value {
    if numbering.ty(value) == ty { value } else { numbering.compute(Op::Convert(ConvertOp::Zext, value), ty) }
}
