//! Straight-line code over the first bytes of a frame: values numbered in the order of their computation,
//! each computed once, constants folded, nothing that no result needs.

use crate::ir::{BinaryOp, CompareOp, ConvertOp, Gauge, Op, Ty, Value, eval};
use std::collections::HashMap;
use std::fmt;

/// What gives a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FrameSource {
    /// A word of the frame.
    Load {
        /// Offset of its first byte.
        offset: u16,
        gauge: Gauge,
    },
    /// A constant, or a computation from earlier values: never `In`, `Pos`, `State` or `Param`.
    Compute(Op),
}

/// A value and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FrameStep {
    pub(crate) source: FrameSource,
    pub(crate) ty: Ty,
}

impl FrameStep {
    /// The values that it is computed from.
    pub(crate) fn operands(&self) -> impl Iterator<Item = Value> + use<> {
        let op = match self.source {
            FrameSource::Load { .. } => None,
            FrameSource::Compute(op) => Some(op),
        };
        op.into_iter().flat_map(|op| op.operands())
    }

    /// The number, if it is one.
    pub(crate) fn constant(&self) -> Option<u64> {
        match self.source {
            FrameSource::Compute(Op::Const(value)) => Some(value),
            _ => None,
        }
    }
}

/// Steps in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct StraightLine {
    pub(crate) steps: Vec<FrameStep>,
}

impl StraightLine {
    pub(crate) fn step(&self, value: Value) -> FrameStep {
        self.steps[value.0 as usize]
    }

    /// Bytes of the frame that are looked at: up to the end of the last word loaded.
    pub(crate) fn prefix_bytes(&self) -> usize {
        let ends = self.steps.iter().map(|step| match step.source {
            FrameSource::Load { offset, gauge } => usize::from(offset) + gauge.bytes(),
            FrameSource::Compute(_) => 0,
        });
        ends.max().unwrap_or(0)
    }

    /// All values for a frame of at least [`StraightLine::prefix_bytes`].
    pub(crate) fn evaluate(&self, frame: &[u8], values: &mut Vec<u64>) {
        values.clear();
        for step in &self.steps {
            let value = |v: Value| values[v.0 as usize];
            let result = match step.source {
                FrameSource::Load { offset, gauge } => {
                    let bytes = &frame[usize::from(offset)..][..gauge.bytes()];
                    gauge.read(bytes) as u64
                }
                FrameSource::Compute(op) => compute(op, step.ty, |v| self.step(v).ty, value),
            };
            values.push(result);
        }
    }
}

/// What an operation makes of numbers. There are no tables: [`super::unroll`] refuses them.
fn compute(op: Op, ty: Ty, type_of: impl Fn(Value) -> Ty, value: impl Fn(Value) -> u64) -> u64 {
    let result = eval::apply(op, ty, &[], type_of, value);
    debug_assert!(result.is_some(), "{op:?} has no place in straight-line code");
    result.unwrap_or(0)
}

/// Makes straight-line code, every value once.
#[derive(Debug, Default)]
pub(crate) struct Numbering {
    line: StraightLine,
    known: HashMap<FrameStep, Value>,
}

impl Numbering {
    pub(crate) fn constant(&mut self, value: u64, ty: Ty) -> Value {
        self.number(FrameStep { source: FrameSource::Compute(Op::Const(value)), ty })
    }

    pub(crate) fn load(&mut self, offset: u16, gauge: Gauge) -> Value {
        self.number(FrameStep { source: FrameSource::Load { offset, gauge }, ty: gauge.ty })
    }

    pub(crate) fn ty(&self, value: Value) -> Ty {
        self.line.step(value).ty
    }

    /// The value of `op`, folded where something is known of its operands.
    pub(crate) fn compute(&mut self, op: Op, ty: Ty) -> Value {
        if !matches!(op, Op::Const(_)) && op.operands().all(|v| self.constant_of(v).is_some()) {
            let number = |v| self.constant_of(v).unwrap_or_default();
            return self.constant(compute(op, ty, |v| self.ty(v), number), ty);
        }
        if let Some(same) = self.same_as(op, ty) {
            return same;
        }
        self.number(FrameStep { source: FrameSource::Compute(op), ty })
    }

    fn constant_of(&self, value: Value) -> Option<u64> {
        self.line.step(value).constant()
    }

    /// A value that is there already and is what `op` gives.
    fn same_as(&mut self, op: Op, ty: Ty) -> Option<Value> {
        let is = |v: Value, number: u64| self.constant_of(v) == Some(number);
        match op {
            Op::Select { cond, then, otherwise } => match self.constant_of(cond) {
                Some(1) => Some(then),
                Some(_) => Some(otherwise),
                None => (then == otherwise).then_some(then),
            },
            Op::Binary(op, a, b) => match op {
                BinaryOp::And if is(a, 0) || is(b, ty.mask()) || a == b => Some(a),
                BinaryOp::And if is(b, 0) || is(a, ty.mask()) => Some(b),
                BinaryOp::Or | BinaryOp::Add | BinaryOp::Xor | BinaryOp::Addc | BinaryOp::Adds
                    if is(a, 0) =>
                {
                    Some(b)
                }
                BinaryOp::Or
                | BinaryOp::Add
                | BinaryOp::Xor
                | BinaryOp::Addc
                | BinaryOp::Adds
                | BinaryOp::Sub
                | BinaryOp::Subs
                | BinaryOp::Shl
                | BinaryOp::Shr
                | BinaryOp::Sar
                | BinaryOp::Rotl
                | BinaryOp::Rotr
                    if is(b, 0) =>
                {
                    Some(a)
                }
                _ => None,
            },
            Op::Compare(op, a, b) if a == b => {
                let holds = matches!(op, CompareOp::Eq | CompareOp::Leu | CompareOp::Les);
                Some(self.constant(u64::from(holds), Ty::Bool))
            }
            Op::Convert(ConvertOp::Trunc, a) => match self.line.step(a).source {
                FrameSource::Compute(Op::Convert(ConvertOp::Zext, narrow)) if self.ty(narrow) == ty => {
                    Some(narrow)
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn number(&mut self, step: FrameStep) -> Value {
        let next = Value(self.line.steps.len() as u32);
        let steps = &mut self.line.steps;
        *self.known.entry(step).or_insert_with(|| {
            steps.push(step);
            next
        })
    }

    /// The steps that `results` need, in order; each result gets its number among them.
    pub(crate) fn finish<'a>(self, results: impl IntoIterator<Item = &'a mut Value>) -> StraightLine {
        let mut results: Vec<&mut Value> = results.into_iter().collect();
        let steps = self.line.steps;
        let mut is_needed = vec![false; steps.len()];
        results.iter().for_each(|result| is_needed[result.0 as usize] = true);
        for index in (0..steps.len()).rev() {
            if is_needed[index] {
                steps[index].operands().for_each(|operand| is_needed[operand.0 as usize] = true);
            }
        }
        let mut place = vec![Value(0); steps.len()];
        let mut kept: Vec<FrameStep> = Vec::new();
        for (index, step) in steps.iter().enumerate().filter(|(index, _)| is_needed[*index]) {
            place[index] = Value(kept.len() as u32);
            let source = match step.source {
                FrameSource::Compute(op) => FrameSource::Compute(op.map_operands(|v| place[v.0 as usize])),
                load @ FrameSource::Load { .. } => load,
            };
            kept.push(FrameStep { source, ty: step.ty });
        }
        results.iter_mut().for_each(|result| **result = place[result.0 as usize]);
        StraightLine { steps: kept }
    }
}

/// A line a value: `v3: bool = eq v1 v2`.
impl fmt::Display for StraightLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            write!(f, "v{index}: {} = ", step.ty)?;
            match step.source {
                FrameSource::Load { offset, gauge } => write!(f, "load {gauge} {offset}")?,
                FrameSource::Compute(Op::Const(number)) => write!(f, "{number:#x}")?,
                FrameSource::Compute(op) => {
                    f.write_str(name(op))?;
                    op.operands().try_for_each(|operand| write!(f, " v{}", operand.0))?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The mnemonic of an operation.
pub(crate) fn name(op: Op) -> &'static str {
    match op {
        Op::In => "in",
        Op::State(_) => "state",
        Op::Param(_) => "param",
        Op::Const(_) => "const",
        Op::Pos => "pos",
        Op::Unary(op, _) => op.name(),
        Op::Binary(op, ..) => op.name(),
        Op::Compare(op, ..) => op.name(),
        Op::Select { .. } => "sel",
        Op::Modular(op, ..) => op.name(),
        Op::Convert(op, _) => op.name(),
        Op::Lookup(..) => "lookup",
        Op::Crc(op, ..) => op.name(),
        Op::WideUnary(op, _) => op.name(),
        Op::WideBinary(op, ..) => op.name(),
    }
}
