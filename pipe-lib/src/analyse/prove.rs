//! The proof of a state's class, from the dataflow of its new value.
//!
//! It is by shape, after [`super::rewrite`] has brought the body to a normal form: a state is a reduction when
//! its new value is a chain of one associative and commutative operation through which the old value passes exactly
//! once, every other operand being free of states, and when nothing else looks at it.

use super::class::{Class, Linear, PipeFacts, Reduce, StateFacts};
use super::rewrite::{self, Rewriter};
use crate::ir::{BinaryOp, Block, CompareOp, CrcOp, ModOp, Op, Pipe, StateId, Ty, UnaryOp, Value};

/// What a value depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Deps {
    input: bool,
    pos: bool,
    /// One bit a state, 64 to a word.
    states: Vec<u64>,
}

impl Deps {
    fn union(&mut self, other: &Deps) {
        self.input |= other.input;
        self.pos |= other.pos;
        if self.states.len() < other.states.len() {
            self.states.resize(other.states.len(), 0);
        }
        self.states.iter_mut().zip(&other.states).for_each(|(a, b)| *a |= b);
    }

    fn set(&mut self, state: usize) {
        if self.states.len() <= state / 64 {
            self.states.resize(state / 64 + 1, 0);
        }
        self.states[state / 64] |= 1 << (state % 64);
    }

    fn has(&self, state: usize) -> bool {
        self.states.get(state / 64).is_some_and(|word| word >> (state % 64) & 1 == 1)
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.states.len() * 64).filter(|state| self.has(*state))
    }
}

/// Dependences of every value, held states and (where a set is given) others left out.
fn dependences(block: &Block, ignore: &[bool]) -> Vec<Deps> {
    let mut all: Vec<Deps> = Vec::with_capacity(block.insts.len());
    for (_, inst) in block.iter() {
        let mut deps = Deps::default();
        match inst.op {
            Op::In => deps.input = true,
            Op::Pos => deps.pos = true,
            Op::State(state) if !ignore[state.0 as usize] => deps.set(state.0 as usize),
            _ => {}
        }
        for operand in inst.op.operands() {
            let (before, operand) = (&mut deps, &all[operand.0 as usize]);
            before.union(operand);
        }
        all.push(deps);
    }
    all
}

/// Classifies a pipe whose parameters are bound (unbound ones count as constants).
pub fn analyse(pipe: &Pipe) -> PipeFacts {
    let mut rewriter = Rewriter::new(&pipe.tables);
    let map = rewriter.splice(&pipe.body, 0, |_, _| None);
    let rename = |value: Value| map[value.0 as usize];
    let next: Vec<Value> = pipe.next.iter().copied().map(rename).collect();
    let out = pipe
        .out
        .map(rename)
        .filter(|out| !(pipe.input == pipe.output && matches!(rewriter.block().inst(*out).op, Op::In)));

    let is_state =
        |block: &Block, value: Value, state: usize| block.inst(value).op == Op::State(StateId(state as u32));
    let held: Vec<bool> = next.iter().enumerate().map(|(s, v)| is_state(rewriter.block(), *v, s)).collect();
    let deps = dependences(rewriter.block(), &held);
    let dep = |value: Value| &deps[value.0 as usize];

    // Shapes first, each state by itself.
    let mut shapes: Vec<Shape> = Vec::with_capacity(next.len());
    for (state, value) in next.iter().enumerate() {
        let shape = if held[state] {
            Shape::Held
        } else {
            let mut chain = Chain { rewriter: &mut rewriter, deps: &deps, state, steps: MAX_STEPS };
            match chain.follow(*value) {
                Some(Link::Step(op, operand)) => Shape::Reduce(op, operand),
                _ => chain.linear(*value),
            }
        };
        shapes.push(shape);
    }

    // Then who looks at whom: the output, or the new value of another state.
    let observed = |state: usize| -> Option<String> {
        if out.is_some_and(|out| dep(out).has(state)) {
            return Some("the output depends on it".into());
        }
        let other = (0..next.len()).find(|other| *other != state && dep(next[*other]).has(state))?;
        Some(format!("`{}` depends on it", pipe.states[other].name))
    };
    let autonomous = autonomous_states(&next, &deps);
    let delays = delays(&next, &deps);

    let mut states: Vec<StateFacts> = Vec::with_capacity(next.len());
    for (state, shape) in shapes.iter().enumerate() {
        let class = match shape {
            Shape::Held => Class::Held,
            Shape::Reduce(op, operand) => match observed(state) {
                None => Class::Reduction { op: *op, operand: *operand },
                Some(_) if autonomous[state] => Class::Positional,
                Some(_) => Class::Scan { op: *op, operand: *operand },
            },
            _ if autonomous[state] => Class::Positional,
            Shape::Crc(op, operand) => match observed(state) {
                None => Class::Linear(Linear::Crc { op: *op, operand: *operand }),
                Some(why) => Class::Serial { why: format!("a remainder, but {why}") },
            },
            Shape::Sum { op, term } => sum_of_sums(*op, *term, &shapes, &next, rewriter.block())
                .filter(|_| observed(state).is_none())
                .unwrap_or_else(|| Class::Serial { why: why_serial(pipe, state, dep(next[state])) }),
            Shape::Other => match delays[state] {
                Some(words) => Class::Delay { words },
                None => Class::Serial { why: why_serial(pipe, state, dep(next[state])) },
            },
        };
        states.push(StateFacts { class });
    }

    let positional = out.is_some_and(|out| dep(out).pos || dep(out).iter().any(|s| autonomous[s]))
        || next.iter().enumerate().any(|(s, v)| dep(*v).pos && !autonomous[s])
        || states.iter().any(|state| {
            matches!(&state.class, Class::Reduction { operand, .. }
            if deps.get(operand.0 as usize).is_some_and(|deps| deps.pos))
        });
    let (block, tables) = rewriter.finish();
    let mut roots: Vec<Value> = next.clone();
    roots.extend(out);
    roots.extend(states.iter().filter_map(|state| operand_of(&state.class)));
    let (body, roots) = rewrite::live(&block, &roots);
    let mut roots = roots.into_iter();
    let next: Vec<Value> = roots.by_ref().take(next.len()).collect();
    let out = out.and_then(|_| roots.next());
    for state in &mut states {
        if let Class::Reduction { operand, .. }
        | Class::Scan { operand, .. }
        | Class::Linear(Linear::Crc { operand, .. }) = &mut state.class
            && let Some(renamed) = roots.next()
        {
            *operand = renamed;
        }
    }
    PipeFacts { body, tables, out, next, states, positional }
}

const fn operand_of(class: &Class) -> Option<Value> {
    match class {
        Class::Reduction { operand, .. }
        | Class::Scan { operand, .. }
        | Class::Linear(Linear::Crc { operand, .. }) => Some(*operand),
        _ => None,
    }
}

fn why_serial(pipe: &Pipe, state: usize, deps: &Deps) -> String {
    let others: Vec<String> = deps
        .iter()
        .filter(|other| *other != state)
        .map(|other| format!("`{}`", pipe.states[other].name))
        .collect();
    if deps.has(state) && others.is_empty() {
        "each new value is computed from the one before by more than one associative operation".into()
    } else if deps.has(state) {
        format!("each new value depends on the one before and on {}", others.join(", "))
    } else {
        format!("it depends on {}, which depends on it", others.join(", "))
    }
}

/// What the expression of a state's new value looks like.
enum Shape {
    Held,
    Reduce(Reduce, Value),
    Crc(CrcOp, Value),
    /// The old value plus something that depends on states.
    Sum {
        op: Reduce,
        term: Value,
    },
    Other,
}

/// The way of a state's old value to its new one.
enum Link {
    /// The old value itself.
    Unchanged,
    /// `op(old, operand)`.
    Step(Reduce, Value),
}

/// Steps on the way from a state's old value to its new one: both arms of a select are followed and may share parts,
/// so the search needs a bound. Beyond it the state has no better class.
const MAX_STEPS: u32 = 512;

struct Chain<'a> {
    rewriter: &'a mut Rewriter,
    deps: &'a [Deps],
    state: usize,
    /// Steps left.
    steps: u32,
}

impl Chain<'_> {
    /// Whether a value of the original body depends on no state (appended values are built of free ones only).
    fn free(&self, value: Value) -> bool {
        self.deps.get(value.0 as usize).is_none_or(|deps| deps.states.iter().all(|word| *word == 0))
    }

    fn follow(&mut self, value: Value) -> Option<Link> {
        self.steps = self.steps.checked_sub(1)?;
        let inst = self.rewriter.block().inst(value);
        match inst.op {
            Op::State(state) if state.0 as usize == self.state => Some(Link::Unchanged),
            Op::Binary(BinaryOp::Sub, a, b) if self.free(b) => {
                let negated = self.rewriter.unary(UnaryOp::Neg, b);
                self.extend(a, Reduce::Add, negated)
            }
            Op::Binary(op, a, b) => {
                let op = Reduce::of(op)?;
                match (self.free(a), self.free(b)) {
                    (true, false) => self.extend(b, op, a),
                    (false, true) => self.extend(a, op, b),
                    _ => None,
                }
            }
            Op::Unary(UnaryOp::Not, a) => {
                let ones = self.rewriter.constant(u64::MAX, inst.ty);
                self.extend(a, Reduce::Xor, ones)
            }
            Op::Modular(ModOp::Addmod, a, b, m) => {
                let m = self.rewriter.as_const(m)?;
                let op = if m == 0 { Reduce::Add } else { Reduce::Addmod(m) };
                match (self.free(a), self.free(b)) {
                    (true, false) => self.extend(b, op, a),
                    (false, true) => self.extend(a, op, b),
                    _ => None,
                }
            }
            Op::Select { cond, then, otherwise } if self.free(cond) => {
                self.select(inst.ty, cond, then, otherwise)
            }
            Op::Select { cond, then, otherwise } => self.extremum(cond, then, otherwise),
            _ => None,
        }
    }

    /// `op(chain(inner), operand)`.
    fn extend(&mut self, inner: Value, op: Reduce, operand: Value) -> Option<Link> {
        match self.follow(inner)? {
            Link::Unchanged => Some(Link::Step(op, operand)),
            Link::Step(first, x) if first == op => {
                let both = match op {
                    Reduce::Addmod(m) => {
                        let ty = self.rewriter.block().ty(operand);
                        let m = self.rewriter.constant(m, ty);
                        self.rewriter.push(Op::Modular(ModOp::Addmod, x, operand, m), ty)
                    }
                    _ => self.rewriter.binary(op.binary()?, x, operand),
                };
                Some(Link::Step(op, both))
            }
            Link::Step(..) => None,
        }
    }

    /// `cond ? chain : chain` with a condition free of states: the side not taken contributes the neutral element.
    /// Not for `addmod`, which reduces an imported value even when it adds 0.
    fn select(&mut self, ty: Ty, cond: Value, then: Value, otherwise: Value) -> Option<Link> {
        let (then, otherwise) = (self.follow(then)?, self.follow(otherwise)?);
        let op = match (&then, &otherwise) {
            (Link::Unchanged, Link::Unchanged) => return Some(Link::Unchanged),
            (Link::Step(a, _), Link::Step(b, _)) if a == b => *a,
            (Link::Step(op, _), Link::Unchanged) | (Link::Unchanged, Link::Step(op, _))
                if !matches!(op, Reduce::Addmod(_)) =>
            {
                *op
            }
            _ => return None,
        };
        let side = |link: Link, rewriter: &mut Rewriter| match link {
            Link::Step(_, operand) => operand,
            Link::Unchanged => rewriter.constant(op.identity(ty), ty),
        };
        let then = side(then, self.rewriter);
        let otherwise = side(otherwise, self.rewriter);
        let operand = self.rewriter.select(cond, then, otherwise);
        Some(Link::Step(op, operand))
    }

    /// `s < x ? s : x` and its kin: a minimum or maximum written out.
    fn extremum(&mut self, cond: Value, then: Value, otherwise: Value) -> Option<Link> {
        let Op::Compare(op, p, q) = self.rewriter.block().inst(cond).op else { return None };
        let picks_smaller = match (then == p && otherwise == q, then == q && otherwise == p) {
            (true, false) => true,
            (false, true) => false,
            _ => return None,
        };
        let op = match (op, picks_smaller) {
            (CompareOp::Ltu | CompareOp::Leu, true) => Reduce::Min,
            (CompareOp::Ltu | CompareOp::Leu, false) => Reduce::Max,
            (CompareOp::Lts | CompareOp::Les, true) => Reduce::Smin,
            (CompareOp::Lts | CompareOp::Les, false) => Reduce::Smax,
            _ => return None,
        };
        match (self.free(p), self.free(q)) {
            (true, false) => self.extend(q, op, p),
            (false, true) => self.extend(p, op, q),
            _ => None,
        }
    }

    /// Shapes that are no reductions but combine with a length.
    fn linear(&mut self, value: Value) -> Shape {
        let block = self.rewriter.block();
        let own = |v: Value| block.inst(v).op == Op::State(StateId(self.state as u32));
        match block.inst(value).op {
            Op::Crc(op, acc, x) if own(acc) && self.free(x) => Shape::Crc(op, x),
            Op::Binary(BinaryOp::Add, a, b) if own(a) || own(b) => {
                Shape::Sum { op: Reduce::Add, term: if own(a) { b } else { a } }
            }
            Op::Modular(ModOp::Addmod, a, b, m) if own(a) || own(b) => match self.rewriter.as_const(m) {
                Some(m) if m != 0 => Shape::Sum { op: Reduce::Addmod(m), term: if own(a) { b } else { a } },
                _ => Shape::Other,
            },
            _ => Shape::Other,
        }
    }
}

fn sum_of_sums(op: Reduce, term: Value, shapes: &[Shape], next: &[Value], block: &Block) -> Option<Class> {
    (0..shapes.len()).find_map(|of| {
        let same = matches!(shapes[of], Shape::Reduce(inner, _) if inner == op);
        let includes_word = term == next[of];
        let before = block.inst(term).op == Op::State(StateId(of as u32));
        (same && (includes_word || before)).then_some(Class::Linear(Linear::SumOfSums {
            op,
            of: StateId(of as u32),
            includes_word,
        }))
    })
}

/// States whose new value depends, through any number of words, on states alone.
fn autonomous_states(next: &[Value], deps: &[Deps]) -> Vec<bool> {
    let mut autonomous: Vec<bool> = next.iter().map(|v| !deps[v.0 as usize].input).collect();
    loop {
        let before = autonomous.clone();
        for (state, value) in next.iter().enumerate() {
            autonomous[state] &= deps[value.0 as usize].iter().all(|other| before[other]);
        }
        if autonomous == before {
            return autonomous;
        }
    }
}

/// For each state that is a function of the last `k` words alone, that `k`.
fn delays(next: &[Value], deps: &[Deps]) -> Vec<Option<u32>> {
    let mut delays: Vec<Option<u32>> = vec![None; next.len()];
    // A chain of k delays is known after k rounds.
    for _ in 0..next.len() {
        let before = delays.clone();
        for (state, value) in next.iter().enumerate() {
            let deps = &deps[value.0 as usize];
            delays[state] = deps.iter().try_fold(1, |most, other| Some(most.max(before[other]? + 1)));
        }
        if delays == before {
            break;
        }
    }
    delays
}
