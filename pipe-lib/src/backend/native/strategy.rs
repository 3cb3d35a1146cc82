//! How each state of a stage can be kept in a loop over vectors, read off the shape of its update.
//!
//! This is about code, not about proofs for people: it only has to recognise what the lowering can do, and says why it
//! cannot where it cannot.

use super::gf2::{self, Crc};
use crate::ir::{BinaryOp, ConvertOp, ModOp, Op, Pipe, StateId, Ty, UnaryOp, Value, eval};

/// An associative and commutative operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Add,
    Addc,
    Xor,
    And,
    Or,
    Min,
    Max,
    Smin,
    Smax,
}

/// What one word adds to a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addend {
    pub(super) value: Value,
    /// The word counts only where this condition has that value.
    pub(super) only_if: Option<(Value, bool)>,
    /// The value is subtracted.
    pub(super) negated: bool,
}

/// How a state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keeping {
    /// It never changes.
    Constant,
    /// Partial results in lanes, combined at the end.
    Reduction(Fold, Vec<Addend>),
    /// A CRC of the bytes of a value.
    Crc(Crc, Value),
    /// The sum of a value's numbers modulo a constant (0: two to the type's width); the value has the word's type, and
    /// the sum of the sums may be kept by another state.
    Sum { modulus: u64, word: Value, second: Option<StateId> },
    /// Part of that state's [`Keeping::Sum`].
    SumOfSums,
    /// The value that the previous word computed.
    Delay(Value),
    /// A running reduction, of which the body reads every step: the contribution of a word, which depends on no state.
    Scan(Fold, Value),
}

/// What is known of a pipe before its code is made.
pub(super) struct Study<'a> {
    pub(super) pipe: &'a Pipe,
    /// For each state, how it is kept.
    pub(super) keeping: Vec<Keeping>,
    /// For each value of the body: its number, if it is the same for every word of every stream.
    pub(super) constants: Vec<Option<u64>>,
    /// For each value of the body: whether the vector code needs it.
    pub(super) needed: Vec<bool>,
    /// For each value of the body: whether it depends on a state that changes.
    pub(super) late: Vec<bool>,
    /// For each value of the body: the bytes after which it repeats itself, if it depends on nothing but the offset in the
    /// stream; a power of two, no more than [`LONGEST_PERIOD`].
    pub(super) periods: Vec<Option<usize>>,
}

/// Positional values with a longer period are computed from the offset.
const LONGEST_PERIOD: usize = 32;

impl<'a> Study<'a> {
    /// Studies a pipe whose parameters are bound. The error is a phrase: what stands in the way.
    pub(super) fn of(pipe: &'a Pipe) -> Result<Study<'a>, String> {
        let body = &pipe.body;
        let constants = constants(pipe, None);
        if pipe.states.len() > 64 {
            return Err("more than 64 states in one stage".into());
        }
        let live = reachable(pipe, pipe.next.iter().copied().chain(pipe.out));
        let mut uses = vec![0u32; body.insts.len()];
        for (value, inst) in body.iter().filter(|(value, _)| live[value.0 as usize]) {
            if constants[value.0 as usize].is_none() {
                inst.op.operands().for_each(|operand| uses[operand.0 as usize] += 1);
            }
        }
        pipe.next.iter().copied().chain(pipe.out).for_each(|root| uses[root.0 as usize] += 1);
        let mut state_uses = vec![0u32; pipe.states.len()];
        // The states that change and that a value depends on.
        let mut depends = vec![0u64; body.insts.len()];
        let changes = |state: StateId| body.inst(pipe.next[state.0 as usize]).op != Op::State(state);
        for (value, inst) in body.iter() {
            if let Op::State(state) = inst.op {
                state_uses[state.0 as usize] += uses[value.0 as usize];
                if changes(state) {
                    depends[value.0 as usize] = 1 << state.0;
                }
            } else if constants[value.0 as usize].is_none() {
                depends[value.0 as usize] =
                    inst.op.operands().fold(0, |set, operand| set | depends[operand.0 as usize]);
            }
        }
        let view =
            View { pipe, constants: &constants, uses: &uses, state_uses: &state_uses, depends: &depends };
        let mut keeping = Vec::with_capacity(pipe.states.len());
        let sums: Vec<_> = (0..pipe.states.len()).map(|index| view.sum(StateId(index as u32))).collect();
        for (index, state) in pipe.states.iter().enumerate() {
            let id = StateId(index as u32);
            if let Some(sum) = &sums[index] {
                keeping.push(sum.clone());
                continue;
            }
            let second = |sum: &Option<Keeping>| matches!(sum, Some(Keeping::Sum { second, .. }) if *second == Some(id));
            if sums.iter().any(second) {
                keeping.push(Keeping::SumOfSums);
                continue;
            }
            keeping.push(view.keeping(id).ok_or_else(|| {
                format!(
                    "state `{}` of pipe `{}` is neither a reduction nor a CRC nor a delay",
                    state.name, pipe.name
                )
            })?);
        }
        let roots = keeping.iter().flat_map(|keeping| match keeping {
            Keeping::Constant | Keeping::SumOfSums => Vec::new(),
            Keeping::Reduction(_, addends) => addends
                .iter()
                .flat_map(|addend| [Some(addend.value), addend.only_if.map(|(cond, _)| cond)])
                .flatten()
                .collect(),
            Keeping::Crc(_, value)
            | Keeping::Delay(value)
            | Keeping::Scan(_, value)
            | Keeping::Sum { word: value, .. } => vec![*value],
        });
        let periods = periods(pipe, &constants);
        let given: Vec<Value> = pipe
            .next
            .iter()
            .zip(&keeping)
            .filter(|(_, k)| matches!(k, Keeping::Scan(..)))
            .map(|(next, _)| *next)
            .collect();
        let mut needed = vec![false; body.insts.len()];
        roots.chain(pipe.out).for_each(|root| needed[root.0 as usize] = true);
        for (index, inst) in body.insts.iter().enumerate().rev() {
            // What is loaded ready-made needs no operands.
            if needed[index] && periods[index].is_none() && !given.contains(&Value(index as u32)) {
                inst.op.operands().for_each(|operand| needed[operand.0 as usize] = true);
            }
        }
        let late = depends.iter().map(|set| *set != 0).collect();
        Ok(Study { pipe, keeping, constants, needed, late, periods })
    }

    /// The value for each of `count` words from the start of a period.
    pub(super) fn pattern(&self, value: Value, count: usize) -> Vec<u64> {
        let word = self.pipe.word_bytes();
        let period = self.periods[value.0 as usize].unwrap_or(word);
        let once: Vec<u64> = (0..period / word)
            .map(|index| constants(self.pipe, Some((index * word) as u64))[value.0 as usize].unwrap_or(0))
            .collect();
        once.iter().copied().cycle().take(count).collect()
    }

    /// Whether the code needs the offset in the stream.
    pub(super) fn reads_pos(&self) -> bool {
        let needed = |value: Value| self.needed[value.0 as usize] && self.periods[value.0 as usize].is_none();
        self.pipe.body.iter().any(|(value, inst)| inst.op == Op::Pos && needed(value))
    }
}

/// The values that depend on the low bits of the offset alone.
fn periods(pipe: &Pipe, constants: &[Option<u64>]) -> Vec<Option<usize>> {
    /// What is known of a value that depends on the offset only.
    #[derive(Clone, Copy)]
    struct Low {
        /// Bit `i` depends on no bit of the offset above `i`.
        carries_up: bool,
        /// Number of low bits of the offset that decide the value.
        bits: u32,
    }
    let body = &pipe.body;
    let mut known: Vec<Option<Low>> = Vec::with_capacity(body.insts.len());
    for (value, inst) in body.iter() {
        if constants[value.0 as usize].is_some() {
            known.push(Some(Low { carries_up: true, bits: 0 }));
            continue;
        }
        let operands: Option<Vec<Low>> =
            inst.op.operands().map(|operand| known[operand.0 as usize]).collect();
        let low = match (inst.op, operands) {
            (Op::In | Op::State(_) | Op::Param(_), _) | (_, None) => None,
            (Op::Pos, _) => Some(Low { carries_up: true, bits: 64 }),
            (op, Some(operands)) => {
                let bits = operands.iter().map(|low| low.bits).max().unwrap_or(0);
                let all_up = operands.iter().all(|low| low.carries_up);
                let carries_up = all_up
                    && match op {
                        Op::Binary(BinaryOp::Shl, _, count) => constants[count.0 as usize].is_some(),
                        Op::Unary(UnaryOp::Not | UnaryOp::Neg, _)
                        | Op::Convert(ConvertOp::Zext | ConvertOp::Trunc, _) => true,
                        Op::Binary(op, ..) => matches!(
                            op,
                            BinaryOp::Add
                                | BinaryOp::Sub
                                | BinaryOp::Mul
                                | BinaryOp::And
                                | BinaryOp::Or
                                | BinaryOp::Xor
                        ),
                        _ => false,
                    };
                // Nothing above the top bit that is kept matters.
                let kept = match op {
                    Op::Binary(BinaryOp::And, a, b) => [a, b]
                        .iter()
                        .filter_map(|operand| constants[operand.0 as usize])
                        .map(|mask| 64 - mask.leading_zeros())
                        .min()
                        .unwrap_or(64),
                    _ => inst.ty.bits(),
                };
                Some(Low { carries_up, bits: if carries_up { bits.min(kept) } else { bits } })
            }
        };
        known.push(low);
    }
    let of = |(index, low): (usize, &Option<Low>)| {
        let low = (*low)?;
        let usable = constants[index].is_none()
            && body.insts[index].ty.is_integer()
            && low.bits <= LONGEST_PERIOD.trailing_zeros();
        usable.then(|| (1usize << low.bits).max(pipe.word_bytes()))
    };
    known.iter().enumerate().map(of).collect()
}

/// Marks what `roots` need.
fn reachable(pipe: &Pipe, roots: impl Iterator<Item = Value>) -> Vec<bool> {
    let mut marked = vec![false; pipe.body.insts.len()];
    roots.for_each(|root| marked[root.0 as usize] = true);
    for (value, inst) in pipe.body.insts.iter().enumerate().rev() {
        if marked[value] {
            inst.op.operands().for_each(|operand| marked[operand.0 as usize] = true);
        }
    }
    marked
}

/// The values that are constants, computed; with an offset in the stream, also those that depend on nothing else.
fn constants(pipe: &Pipe, pos: Option<u64>) -> Vec<Option<u64>> {
    let body = &pipe.body;
    let mut known: Vec<Option<u64>> = Vec::with_capacity(body.insts.len());
    for inst in &body.insts {
        let get = |value: Value| known[value.0 as usize];
        let folded = match inst.op {
            Op::Const(number) => Some(number),
            Op::In | Op::State(_) | Op::Param(_) => None,
            Op::Pos => pos,
            Op::Unary(op, a) => get(a).map(|a| eval::unary(op, inst.ty, a)),
            Op::Binary(op, a, b) => get(a).zip(get(b)).map(|(a, b)| eval::binary(op, inst.ty, a, b)),
            Op::Compare(op, a, b) => get(a).zip(get(b)).map(|(x, y)| eval::compare(op, body.ty(a), x, y)),
            Op::Select { cond, then, otherwise } => {
                get(cond).and_then(|cond| get(if cond != 0 { then } else { otherwise }))
            }
            Op::Modular(op, a, b, m) => {
                get(a).zip(get(b)).zip(get(m)).map(|((a, b), m)| eval::modular(op, inst.ty, a, b, m))
            }
            Op::Convert(op, a) => get(a).map(|x| eval::convert(op, body.ty(a), inst.ty, x)),
            Op::Lookup(table, index) => get(index).map(|index| {
                let values = &pipe.tables[table.0 as usize].values;
                values[(index % values.len() as u64) as usize]
            }),
            Op::Crc(op, acc, x) => get(acc).zip(get(x)).map(|(acc, v)| eval::crc(op, body.ty(x), acc, v)),
        };
        known.push(folded);
    }
    known
}

struct View<'a> {
    pipe: &'a Pipe,
    constants: &'a [Option<u64>],
    uses: &'a [u32],
    /// Over all the instructions that read a state.
    state_uses: &'a [u32],
    depends: &'a [u64],
}

impl View<'_> {
    fn keeping(&self, state: StateId) -> Option<Keeping> {
        let next = self.pipe.next[state.0 as usize];
        let inst = self.pipe.body.inst(next);
        if inst.op == Op::State(state) {
            return Some(Keeping::Constant);
        }
        if let Op::Crc(op, acc, x) = inst.op
            && self.is_only_use(state, acc)
            && self.uses[next.0 as usize] == 1
            && self.depends[x.0 as usize] == 0
        {
            let poly = u64::from(op.reflected_poly().reverse_bits());
            return Some(Keeping::Crc(Crc { bits: 32, poly, reflected: true }, x));
        }
        if let Some((fold, addends)) = self.guarded(state).or_else(|| self.chain(state)) {
            return Some(Keeping::Reduction(fold, addends));
        }
        if self.depends[next.0 as usize] == 0 {
            return Some(Keeping::Delay(next));
        }
        if let Op::Binary(op, ..) = inst.op
            && let Some((fold, on, off, false)) = self.step(inst.op, inst.ty)
            && self.pipe.body.inst(on).op == Op::State(state)
            && matches!(op, BinaryOp::Add | BinaryOp::Xor | BinaryOp::Or | BinaryOp::Max)
            && inst.ty == self.pipe.input.ty
        {
            return Some(Keeping::Scan(fold, off));
        }
        // Plain instructions that amount to a CRC of the words; nothing else may look at the state.
        if self.stays_private(state)
            && let Some(input) = self.pipe.body.iter().find(|(_, inst)| inst.op == Op::In)
            && let Some(crc) = gf2::recognise(self.pipe, state)
        {
            return Some(Keeping::Crc(crc, input.0));
        }
        None
    }

    /// `a = (a + x) mod m`, perhaps with `b = (b + a) mod m` after it.
    fn sum(&self, state: StateId) -> Option<Keeping> {
        let next = self.pipe.next[state.0 as usize];
        let (x, modulus) = self.plus(state, next)?;
        if self.depends[x.0 as usize] != 0 {
            return None;
        }
        // The number before it was extended: it has to be a word's.
        let word = match self.pipe.body.inst(x).op {
            Op::Convert(ConvertOp::Zext, narrow) => narrow,
            _ => x,
        };
        let of_words = self.constants[word.0 as usize].is_none()
            && self.pipe.body.ty(word) == self.pipe.input.ty
            && self.pipe.input.ty != Ty::U64
            && modulus < 1 << 32;
        let second = (0..self.pipe.states.len() as u32).map(StateId).find(|other| {
            *other != state
                && self.plus(*other, self.pipe.next[other.0 as usize]) == Some((next, modulus))
                && self.uses[self.pipe.next[other.0 as usize].0 as usize] == 1
                && self.pipe.states[other.0 as usize].ty == self.pipe.states[state.0 as usize].ty
        });
        let uses = 1 + u32::from(second.is_some());
        // A plain sum by itself is a reduction like others.
        (of_words && self.uses[next.0 as usize] == uses && (modulus != 0 || second.is_some()))
            .then_some(Keeping::Sum { modulus, word, second })
    }

    /// The other operand and the modulus of `next = (state + operand) mod m`.
    fn plus(&self, state: StateId, next: Value) -> Option<(Value, u64)> {
        let inst = self.pipe.body.inst(next);
        let (a, b, modulus) = match inst.op {
            Op::Modular(ModOp::Addmod, a, b, m) => (a, b, self.constants[m.0 as usize]?),
            Op::Binary(BinaryOp::Add, a, b) => (a, b, 0),
            _ => return None,
        };
        let x = match (self.is_only_use(state, a), self.is_only_use(state, b)) {
            (true, false) => b,
            (false, true) => a,
            _ => return None,
        };
        Some((x, modulus))
    }

    /// Whether what the state had goes nowhere but into its own next value.
    fn stays_private(&self, state: StateId) -> bool {
        let bit = 1 << state.0;
        let others = self.pipe.next.iter().enumerate().filter(|(index, _)| *index != state.0 as usize);
        others
            .map(|(_, next)| *next)
            .chain(self.pipe.out)
            .all(|root| self.depends[root.0 as usize] & bit == 0)
    }

    /// Whether `value` is the state, read nowhere else.
    fn is_only_use(&self, state: StateId, value: Value) -> bool {
        self.pipe.body.inst(value).op == Op::State(state) && self.state_uses[state.0 as usize] == 1
    }

    /// `state = a op b op state op c`: the operands besides the state, none of which depends on a state that changes.
    fn chain(&self, state: StateId) -> Option<(Fold, Vec<Addend>)> {
        let body = &self.pipe.body;
        let mut fold = None;
        let mut addends = Vec::new();
        let mut at = self.pipe.next[state.0 as usize];
        loop {
            let inst = body.inst(at);
            if inst.op == Op::State(state) {
                return (self.state_uses[state.0 as usize] == 1).then_some((fold?, addends));
            }
            if self.uses[at.0 as usize] != 1 {
                return None;
            }
            let (here, on, off, negated) = self.step(inst.op, inst.ty)?;
            if *fold.get_or_insert(here) != here {
                return None;
            }
            addends.push(Addend { value: off, only_if: None, negated });
            at = on;
        }
    }

    /// One operation on the way from a state to its next value: what it is, the operand on the way, the other one.
    fn step(&self, op: Op, ty: Ty) -> Option<(Fold, Value, Value, bool)> {
        let (op, a, b) = match op {
            Op::Binary(op, a, b) => (op, a, b),
            // Modulo two to the width: an addition like any other.
            Op::Modular(ModOp::Addmod, a, b, m) if self.constants[m.0 as usize] == Some(0) => {
                (BinaryOp::Add, a, b)
            }
            _ => return None,
        };
        let (free_a, free_b) = (self.depends[a.0 as usize] == 0, self.depends[b.0 as usize] == 0);
        let (on, off) = match (free_a, free_b) {
            (false, true) => (a, b),
            (true, false) => (b, a),
            _ => return None,
        };
        let fold = match op {
            BinaryOp::Add => Fold::Add,
            BinaryOp::Sub if on == a => return ty.is_integer().then_some((Fold::Add, on, off, true)),
            BinaryOp::Addc => Fold::Addc,
            BinaryOp::Xor => Fold::Xor,
            BinaryOp::And => Fold::And,
            BinaryOp::Or => Fold::Or,
            BinaryOp::Min => Fold::Min,
            BinaryOp::Max => Fold::Max,
            BinaryOp::Smin => Fold::Smin,
            BinaryOp::Smax => Fold::Smax,
            _ => return None,
        };
        Some((fold, on, off, false))
    }

    /// `state = cond ? state op x : state`, or the other way round.
    fn guarded(&self, state: StateId) -> Option<(Fold, Vec<Addend>)> {
        let body = &self.pipe.body;
        let next = self.pipe.next[state.0 as usize];
        let Op::Select { cond, then, otherwise } = body.inst(next).op else { return None };
        let is_state = |value: Value| body.inst(value).op == Op::State(state);
        let (changed, when) = match (is_state(then), is_state(otherwise)) {
            (false, true) => (then, true),
            (true, false) => (otherwise, false),
            _ => return None,
        };
        let inst = body.inst(changed);
        let (fold, on, off, negated) = self.step(inst.op, inst.ty)?;
        let alone = is_state(on)
            && self.uses[next.0 as usize] == 1
            && self.uses[changed.0 as usize] == 1
            && self.state_uses[state.0 as usize] == 2
            && self.depends[cond.0 as usize] == 0
            && self.constants[cond.0 as usize].is_none();
        alone.then(|| (fold, vec![Addend { value: off, only_if: Some((cond, when)), negated }]))
    }
}
