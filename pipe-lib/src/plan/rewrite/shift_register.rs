//! Registers that the words are shifted through, as the words themselves: `s << w | x` with words of `w` bits
//! is nothing but the last few words side by side, which loops carry one word at a time.

use super::StatePart;
use crate::analyse::rewrite::{Rewriter, live};
use crate::analyse::{Analysed, Class, PipeFacts};
use crate::ir::{BinaryOp, Block, CompareOp, ConvertOp, Op, Pipe, State, StateId, Ty, UnaryOp, Value};
use crate::plan::target::Targets;

/// Where a word of a state's history is in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegisterPiece {
    pub(crate) shift: u32,
    pub(crate) ty: Ty,
}

impl RegisterPiece {
    pub(crate) fn of(self, state: u64) -> u64 {
        state >> self.shift & self.ty.mask()
    }

    /// The state with the piece put in its place.
    pub(crate) fn put(self, state: u64, value: u64) -> u64 {
        state & !(self.ty.mask() << self.shift) | value << self.shift
    }
}

/// A pipe in which the words take the place of the registers that they were shifted through.
pub(super) struct SplitRegister {
    pub(super) pipe: Pipe,
    /// For each state of it, the state of the pipe before that it is, or is part of.
    pub(super) parts: Vec<(usize, StatePart)>,
}

/// A state that the words are shifted through.
struct History {
    /// What each word brings; of the word's type.
    word: Value,
    /// Where in the state the last word is, then the one before, and so on.
    shifts: Vec<u32>,
}

/// The pipe, of which these are the facts, split, if a loop over several words at once comes of it.
pub(super) fn split(pipe: &Pipe, facts: &PipeFacts, targets: &Targets) -> Option<SplitRegister> {
    let histories: Vec<Option<History>> = (0..pipe.states.len())
        .map(|state| match facts.states[state].class {
            Class::Delay { words } if words > 1 => history(pipe, facts, state),
            _ => None,
        })
        .collect();
    if histories.iter().all(Option::is_none) {
        return None;
    }
    let mut split = facts.normal(pipe);
    let mut parts: Vec<(usize, StatePart)> =
        (0..pipe.states.len()).map(|state| (state, StatePart::Whole)).collect();
    // The words of each history: the last one takes the state's place, the others come at the end.
    let mut numbers: Vec<Vec<StateId>> = Vec::new();
    for (at, history) in histories.iter().enumerate() {
        let mut own = Vec::new();
        for (age, &shift) in history.iter().flat_map(|history| history.shifts.iter().enumerate()) {
            let piece = StatePart::Piece(RegisterPiece { shift, ty: pipe.input.ty });
            if age == 0 {
                own.push(StateId(at as u32));
                split.states[at].ty = pipe.input.ty;
                parts[at].1 = piece;
            } else {
                own.push(StateId(split.states.len() as u32));
                let before = &pipe.states[at];
                split.states.push(State { name: format!("{}_{age}", before.name), ..before.clone() });
                split.states.last_mut()?.ty = pipe.input.ty;
                parts.push((at, piece));
            }
        }
        numbers.push(own);
    }
    let mut rewriter = Rewriter::new(&facts.tables);
    let mut map: Vec<Value> = Vec::with_capacity(facts.body.insts.len());
    let words = Words { pipe, facts, histories: &histories, numbers: &numbers };
    for inst in &facts.body.insts {
        let value = match inst.op {
            Op::State(state) => words.side_by_side(&mut rewriter, state, inst.ty),
            Op::Compare(op @ (CompareOp::Eq | CompareOp::Ne), a, b) => {
                words.compared(&mut rewriter, &map, op == CompareOp::Eq, a, b)
            }
            _ => None,
        };
        let value = match value {
            Some(value) => value,
            None => rewriter.push(inst.op.map_operands(|value| map[value.0 as usize]), inst.ty),
        };
        map.push(value);
    }
    let mut next: Vec<Value> = facts.next.iter().map(|value| map[value.0 as usize]).collect();
    next.resize(split.states.len(), Value(0));
    for (history, own) in histories.iter().zip(&numbers) {
        let Some(history) = history else { continue };
        for (age, state) in own.iter().enumerate() {
            next[state.0 as usize] = match age {
                0 => map[history.word.0 as usize],
                _ => rewriter.push(Op::State(own[age - 1]), pipe.input.ty),
            };
        }
    }
    let out = facts.out.map(|out| map[out.0 as usize]);
    let (block, tables) = rewriter.finish();
    let roots: Vec<Value> = next.iter().copied().chain(out).collect();
    let (body, roots) = live(&block, &roots);
    let (next, out) = roots.split_at(next.len());
    split.next = next.to_vec();
    split.out = out.first().copied();
    split.body = body;
    split.tables = tables;
    // Exports are computed from the states of the pass.
    split.finish = Block::default();
    split.exports = Vec::new();
    let is_wide = targets.run_wide(&Analysed::new(split.clone().into()));
    is_wide.then_some(SplitRegister { pipe: split, parts })
}

struct Words<'a> {
    pipe: &'a Pipe,
    facts: &'a PipeFacts,
    histories: &'a [Option<History>],
    /// For each history, the states that hold its words.
    numbers: &'a [Vec<StateId>],
}

impl Words<'_> {
    /// A history as the register that it was.
    fn side_by_side(&self, rewriter: &mut Rewriter, state: StateId, ty: Ty) -> Option<Value> {
        let history = self.histories[state.0 as usize].as_ref()?;
        let mut whole: Option<Value> = None;
        for (number, &shift) in self.numbers[state.0 as usize].iter().zip(&history.shifts) {
            let word = rewriter.push(Op::State(*number), self.pipe.input.ty);
            let word = rewriter.resize(word, ty);
            let count = rewriter.constant(u64::from(shift), ty);
            let word = rewriter.binary(BinaryOp::Shl, word, count);
            whole = Some(whole.map_or(word, |whole| rewriter.binary(BinaryOp::Or, whole, word)));
        }
        whole
    }

    /// `value == literal` (or not) word by word, where the value is a history before this word or with it,
    /// perhaps masked.
    fn compared(
        &self,
        rewriter: &mut Rewriter,
        map: &[Value],
        equal: bool,
        value: Value,
        literal: Value,
    ) -> Option<Value> {
        let body = &self.facts.body;
        let Op::Const(pattern) = body.inst(literal).op else { return None };
        let (value, mask) = match body.inst(value).op {
            Op::Binary(BinaryOp::And, value, mask) => match body.inst(mask).op {
                Op::Const(mask) => (value, mask),
                _ => return None,
            },
            _ => (value, u64::MAX),
        };
        let ty = self.pipe.input.ty;
        let (state, with_this) = self.histories.iter().enumerate().find_map(|(state, history)| {
            history.as_ref()?;
            let before = body.inst(value).op == Op::State(StateId(state as u32));
            (before || self.facts.next[state] == value).then_some((state, !before))
        })?;
        let history = self.histories[state].as_ref()?;
        let mut all: Option<Value> = None;
        for (age, &shift) in history.shifts.iter().enumerate() {
            let word = match (age, with_this) {
                (0, true) => map[history.word.0 as usize],
                _ => {
                    let number = self.numbers[state][age - usize::from(with_this)];
                    rewriter.push(Op::State(number), ty)
                }
            };
            let piece = RegisterPiece { shift, ty };
            let mask = rewriter.constant(piece.of(mask), ty);
            let word = rewriter.binary(BinaryOp::And, word, mask);
            let pattern = rewriter.constant(piece.of(pattern), ty);
            let same = rewriter.compare(CompareOp::Eq, word, pattern);
            all = Some(all.map_or(same, |all| rewriter.binary(BinaryOp::And, all, same)));
        }
        all.map(|all| if equal { all } else { rewriter.unary(UnaryOp::Not, all) })
    }
}

/// Whether `state` is such a register; words come in at the low end, or at the high end.
fn history(pipe: &Pipe, facts: &PipeFacts, state: usize) -> Option<History> {
    let (body, word) = (&facts.body, pipe.input.ty);
    let ty = pipe.states[state].ty;
    let next = facts.next[state];
    let Op::Binary(BinaryOp::Or | BinaryOp::Add | BinaryOp::Xor, a, b) = body.inst(next).op else {
        return None;
    };
    let moved = |value: Value, by: BinaryOp| match body.inst(value).op {
        Op::Binary(op, x, count) if op == by => Some((x, body.literal(count)?)),
        _ => None,
    };
    let entering = |value: Value| match body.inst(value).op {
        Op::Convert(ConvertOp::Zext, x) if body.ty(x) == word => Some(x),
        _ => None,
    };
    let (bits, width) = (u64::from(word.bits()), u64::from(ty.bits()));
    let is_own = |value: Value| body.inst(value).op == Op::State(StateId(state as u32));
    let count = ty.bits() / word.bits();
    [(a, b), (b, a)].into_iter().find_map(|(old, new)| {
        if let Some((own, by)) = moved(old, BinaryOp::Shl)
            && is_own(own)
            && by == bits
        {
            let shifts = (0..count).map(|age| age * word.bits()).collect();
            return Some(History { word: entering(new)?, shifts });
        }
        let (own, by) = moved(old, BinaryOp::Shr)?;
        let (new, up) = moved(new, BinaryOp::Shl)?;
        let shifts = (0..count).map(|age| ty.bits() - (age + 1) * word.bits()).collect();
        let fits = is_own(own) && by == bits && up == width - bits;
        fits.then_some(History { word: entering(new)?, shifts })
    })
}
