//! All stages of a pass as one straight-line block over vector registers of any width.
//!
//! Every pipe keeps the number of bytes, so one register full of stream (a *chunk*) goes in and one comes out, and each
//! stage works on the chunk's lanes of its own word's size. A value of a type wider than the word takes several
//! registers, one of a narrower type sits zero-extended in the word's lanes, a `bool` is a lane of ones or zeros.
//! Reductions contribute their operands to accumulators that a backend keeps per unroll slot.
//!
//! What has no form here (a state that threads from word to word, a look-up, modular arithmetic outside a reduction) is
//! an `Err` with the reason; the scalar block then does the pass.

use crate::analyse::rewrite::{Rewriter, evaluate, live};
use crate::analyse::{Class, Linear, PipeFacts, Reduce, analyse};
use crate::ir::{
    BinaryOp, Block, CompareOp, ConvertOp, Endian, Op, Pipe, StateId, Table, Ty, UnaryOp, Value,
};
use std::collections::HashMap;

/// Names the result of a vector instruction: one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reg(pub u32);

/// A vector operation, lane by lane unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VectorOp {
    /// The chunk as read from memory.
    Chunk,
    /// A literal in every lane.
    Splat(u64),
    /// A state that the loop does not change, in every lane.
    Held(u32),
    /// Bytes that depend on the offset in the stream alone: the index of a [`VectorBody::phases`] entry.
    Phase(u32),
    /// `neg`, `not`, `bswap`, `bitrev`, `popcnt`.
    Unary(UnaryOp, Reg),
    /// Any but `addc` and carry-less products; counts of shifts and rotates are splats.
    Binary(BinaryOp, Reg, Reg),
    /// Lanes of ones where it holds, of zeros elsewhere.
    Compare(CompareOp, Reg, Reg),
    /// Lane masks choose between the second and the third.
    Select(Reg, Reg, Reg),
    /// The low or high half of the lanes, in stream order, at twice the width.
    Extend {
        /// Lanes of half the width.
        from: Reg,
        /// The later half of the stream's words.
        high: bool,
        /// Copies of the sign bit enter (masks stay masks).
        signed: bool,
    },
    /// The low halves of all lanes of two registers, in stream order.
    Narrow(Reg, Reg),
    /// The lanes of `of` one word later: the first lane is the last one of the chunk before, or the state.
    Previous {
        /// What the state becomes at each word.
        of: Reg,
        /// Index of the [`VectorBody::carries`] entry.
        carry: u32,
    },
    /// For each lane, the state combined with all operands up to that lane.
    Running {
        /// What each word contributes.
        of: Reg,
        /// Index of the [`VectorBody::carries`] entry, a [`Carry::Running`].
        carry: u32,
    },
}

impl VectorOp {
    /// The operands, in order.
    pub fn operands(&self) -> impl Iterator<Item = Reg> + use<> {
        let (a, b, c) = match *self {
            VectorOp::Chunk | VectorOp::Splat(_) | VectorOp::Held(_) | VectorOp::Phase(_) => {
                (None, None, None)
            }
            VectorOp::Unary(_, a)
            | VectorOp::Extend { from: a, .. }
            | VectorOp::Previous { of: a, .. }
            | VectorOp::Running { of: a, .. } => (Some(a), None, None),
            VectorOp::Binary(_, a, b) | VectorOp::Compare(_, a, b) | VectorOp::Narrow(a, b) => {
                (Some(a), Some(b), None)
            }
            VectorOp::Select(a, b, c) => (Some(a), Some(b), Some(c)),
        };
        [a, b, c].into_iter().flatten()
    }

    /// Whether the value is the same for every chunk of a call.
    pub const fn invariant(&self) -> bool {
        matches!(self, VectorOp::Splat(_) | VectorOp::Held(_) | VectorOp::Phase(_))
    }
}

/// One vector instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VectorInst {
    /// What is computed.
    pub op: VectorOp,
    /// Bytes of a lane of the result: 1, 2, 4 or 8.
    pub lane: u8,
}

/// How an accumulator takes its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accumulate {
    /// Lane by lane with the operation itself; one register, lanes of the operands' width.
    Lanes,
    /// A sum of unsigned lanes in two registers of 64-bit lanes, `s1 += v` and `s2 += v >> 32`, where `v` is the operand
    /// (lanes up to 32 bits, first added in pairs up to 32-bit lanes when the sum must be `exact`), or
    /// `s1 += v & 0xffffffff` for lanes of 64 bits. Nothing is lost in 2^32 steps: see [`super::combine`].
    Sum {
        /// The true sum is needed, not only its residue modulo `2^width - 1`.
        exact: bool,
    },
}

/// A reduction's place in the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accumulator {
    /// Flat index of the state.
    pub state: u32,
    /// The state's type.
    pub ty: Ty,
    /// The operation.
    pub op: Reduce,
    /// The form of the partial results.
    pub form: Accumulate,
    /// Bytes of an operand's lane.
    pub lane: u8,
    /// The partial result's bytes are to be swapped before it is added to the state: the sum of swapped words is the
    /// swapped sum (RFC 1071, section 2B), so the swap left the loop.
    pub swapped: bool,
    /// What each chunk contributes, all in the same way.
    pub operands: Vec<Reg>,
}

impl Accumulator {
    /// Registers of one set of partial results.
    pub const fn registers(&self) -> usize {
        match self.form {
            Accumulate::Lanes => 1,
            Accumulate::Sum { .. } => 2,
        }
    }

    /// The lane value that changes nothing.
    pub const fn identity(&self) -> u64 {
        match self.form {
            Accumulate::Sum { .. } => 0,
            Accumulate::Lanes => match self.ty {
                Ty::Bool => {
                    if matches!(self.op, Reduce::And) {
                        u64::MAX
                    } else {
                        0
                    }
                }
                ty => self.op.identity(ty),
            },
        }
    }
}

/// What passes from chunk to chunk, in their order: a register that one chunk leaves to the next.
///
/// Before the first chunk it holds the state, as said below; after the last one the state is read from it. A loop that has
/// any of these takes the chunks one after the other, though several may be in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carry {
    /// The last lane is the state: what `of` was for the chunk before.
    Previous {
        /// Flat index of the state.
        state: u32,
        /// Bytes of a lane.
        lane: u8,
        /// What the state becomes at each word.
        of: Reg,
    },
    /// Every lane is the state: all operands so far, combined.
    Running {
        /// Flat index of the state.
        state: u32,
        /// The state's type.
        ty: Ty,
        /// By what operands are combined.
        op: Reduce,
        /// Bytes of a lane.
        lane: u8,
    },
    /// A sum and the sum of its values at every word: three registers of 64-bit lanes that start at zero. For each chunk
    /// `b += a`, then `a += x` and `w += weight * x`, where the weight of the lane at `i` is the number of words of the
    /// chunk that come after it (itself included, if `includes_word`). See [`super::combine::sums`].
    Sums {
        /// Flat index of the sum.
        sum: u32,
        /// Flat index of the sum of sums.
        sum_of_sums: u32,
        /// The type of both.
        ty: Ty,
        /// [`Reduce::Add`] or [`Reduce::Addmod`].
        op: Reduce,
        /// Bytes of an operand's lane.
        lane: u8,
        /// Whether a word's own contribution is in the sum that is summed.
        includes_word: bool,
        /// What each word contributes to the sum.
        of: Reg,
    },
}

impl Carry {
    /// Registers that pass from chunk to chunk.
    pub const fn registers(&self) -> usize {
        match self {
            Carry::Previous { .. } | Carry::Running { .. } => 1,
            Carry::Sums { .. } => 3,
        }
    }

    /// The value outside the dependency of chunk on chunk that the carry reads, if it reads one by itself.
    const fn of(&mut self) -> Option<&mut Reg> {
        match self {
            Carry::Previous { of, .. } | Carry::Sums { of, .. } => Some(of),
            Carry::Running { .. } => None,
        }
    }
}

/// Lane values that repeat along the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// The bytes of one period, lane after lane, starting at offset 0; the length is a power of two.
    pub bytes: Vec<u8>,
}

/// Straight-line vector code of a whole pass.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VectorBody {
    /// Instructions; the index is the [`Reg`].
    pub insts: Vec<VectorInst>,
    /// Tables of positional lanes.
    pub phases: Vec<Phase>,
    /// The chunk to be written; `None` when it is the one read.
    pub out: Option<Reg>,
    /// The reductions.
    pub accumulators: Vec<Accumulator>,
    /// States that pass from chunk to chunk.
    pub carries: Vec<Carry>,
}

impl VectorBody {
    /// The instruction that defines `reg`.
    pub fn inst(&self, reg: Reg) -> VectorInst {
        self.insts[reg.0 as usize]
    }

    /// The literal that `reg` holds in every lane, if it does.
    pub fn splat(&self, reg: Reg) -> Option<u64> {
        match self.inst(reg).op {
            VectorOp::Splat(value) => Some(value),
            _ => None,
        }
    }

    /// The longest period of a positional value, in bytes; 1 when there is none.
    pub fn period(&self) -> usize {
        self.phases.iter().map(|phase| phase.bytes.len()).max().unwrap_or(1)
    }
}

/// Lowers the stages of a pass; the reason if they have no vector form.
pub fn lower(stages: &[&Pipe]) -> Result<VectorBody, String> {
    let mut lowering = Lowering::default();
    let chunk = lowering.emit(VectorOp::Chunk, 1);
    let mut current = chunk;
    let mut base = 0;
    for pipe in stages {
        current = lowering.stage(pipe, base, current)?;
        base += pipe.states.len() as u32;
    }
    lowering.body.out = Some(current).filter(|out| *out != chunk);
    Ok(lowering.live())
}

/// A value of a stage: its registers in stream order.
#[derive(Clone, Debug)]
struct Group {
    lane: u8,
    regs: Vec<Reg>,
}

#[derive(Default)]
struct Lowering {
    body: VectorBody,
    known: HashMap<VectorInst, Reg>,
}

impl Lowering {
    fn emit(&mut self, op: VectorOp, lane: u8) -> Reg {
        if let VectorOp::Unary(twice @ (UnaryOp::Bswap | UnaryOp::Not), a) = op
            && let VectorInst { op: VectorOp::Unary(once, x), lane: inner } = self.body.inst(a)
            && once == twice
            && inner == lane
        {
            return x;
        }
        let inst = VectorInst { op, lane };
        if let Some(reg) = self.known.get(&inst) {
            return *reg;
        }
        self.body.insts.push(inst);
        let reg = Reg((self.body.insts.len() - 1) as u32);
        self.known.insert(inst, reg);
        reg
    }

    fn splat(&mut self, value: u64, lane: u8) -> Reg {
        self.emit(VectorOp::Splat(value & mask(lane)), lane)
    }

    fn binary(&mut self, op: BinaryOp, a: Reg, b: Reg, lane: u8) -> Reg {
        self.emit(VectorOp::Binary(op, a, b), lane)
    }

    /// Lowers one stage; gives the chunk that leaves it.
    fn stage(&mut self, pipe: &Pipe, base: u32, chunk: Reg) -> Result<Reg, String> {
        let facts = analyse(pipe);
        let ordered_states =
            facts.states.iter().filter(|state| !matches!(state.class, Class::Held | Class::Reduction { .. }));
        if ordered_states.count() > MAX_ORDERED {
            return Err(format!("more than {MAX_ORDERED} states that pass from word to word"));
        }
        // The byte orders of the gauges become instructions, so that the rewrites see them.
        let mut rewriter = Rewriter::new(&facts.tables);
        let map = rewriter.splice(&facts.body, 0, |rewriter, inst| match inst.op {
            Op::In => {
                let raw = rewriter.push(Op::In, inst.ty);
                Some(if pipe.input.endian == Endian::Big { rewriter.unary(UnaryOp::Bswap, raw) } else { raw })
            }
            _ => None,
        });
        let rename = |value: Value| map[value.0 as usize];
        let out = facts.out.map(|out| {
            let out = rename(out);
            if pipe.output.endian == Endian::Big { rewriter.unary(UnaryOp::Bswap, out) } else { out }
        });
        let mut terms = Vec::new();
        let mut sums: Vec<Sums> = Vec::new();
        let mut ordered: Vec<Ordered> = Vec::new();
        for (state, known) in facts.states.iter().enumerate() {
            match &known.class {
                Class::Held => {}
                Class::Reduction { op, operand } => {
                    terms.push(Term::new(
                        &mut rewriter,
                        base + state as u32,
                        pipe.states[state].ty,
                        *op,
                        rename(*operand),
                        pipe.input.ty,
                    ));
                }
                Class::Delay { .. } => {
                    ordered.push(Ordered { state, next: rename(facts.next[state]), scan: None })
                }
                Class::Scan { op, operand } => match summed(&facts, state) {
                    Some((sum_of_sums, includes_word)) => {
                        let term = rename(*operand);
                        let narrow = narrowed(&mut rewriter, term, pipe.input.ty, NARROW_DEPTH);
                        sums.push(Sums {
                            state,
                            sum_of_sums,
                            op: *op,
                            includes_word,
                            term: narrow.unwrap_or(term),
                        });
                    }
                    None => ordered.push(Ordered {
                        state,
                        next: rename(facts.next[state]),
                        scan: Some((*op, rename(*operand))),
                    }),
                },
                Class::Linear(Linear::SumOfSums { of, .. })
                    if summed(&facts, of.0 as usize).is_some_and(|(b, _)| b == state) => {}
                class => return Err(format!("state `{}` is {class}", pipe.states[state].name)),
            }
        }
        let (block, tables) = rewriter.finish();
        let mut roots: Vec<Value> = out.into_iter().collect();
        roots.extend(terms.iter().map(|term| term.operand));
        roots.extend(sums.iter().map(|sums| sums.term));
        roots.extend(
            ordered.iter().flat_map(|state| [state.next].into_iter().chain(state.scan.map(|(_, x)| x))),
        );
        let (block, roots) = live(&block, &roots);
        let mut roots = roots.into_iter();
        let mut next = || roots.next().ok_or("a value went missing");
        let out = match out {
            Some(_) => Some(next()?),
            None => None,
        };
        for term in &mut terms {
            term.operand = next()?;
        }
        for sums in &mut sums {
            sums.term = next()?;
        }
        for state in &mut ordered {
            state.next = next()?;
            if let Some((_, operand)) = &mut state.scan {
                *operand = next()?;
            }
        }

        let mut stage = Stage::new(self, &block, &tables, pipe, base, chunk);
        stage.order(&ordered)?;
        for term in &terms {
            stage.accumulate(term, term.operand)?;
        }
        for sums in &sums {
            stage.sum(sums)?;
        }
        match out {
            None => Ok(chunk),
            Some(out) => match stage.lower(out)?.regs[..] {
                [reg] => Ok(reg),
                _ => Err("an output of more than one register".into()),
            },
        }
    }

    /// The body without instructions that nothing needs.
    fn live(self) -> VectorBody {
        let mut body = self.body;
        let mut needed = vec![false; body.insts.len()];
        let roots = body.out.into_iter().chain(body.accumulators.iter().flat_map(|acc| acc.operands.clone()));
        roots.for_each(|root| needed[root.0 as usize] = true);
        body.carries.iter_mut().filter_map(Carry::of).for_each(|of| needed[of.0 as usize] = true);
        // A running state is carried on whether or not anything looks at it.
        for (i, inst) in body.insts.iter().enumerate() {
            needed[i] |= matches!(inst.op, VectorOp::Running { .. });
        }
        for i in (0..body.insts.len()).rev() {
            if needed[i] {
                body.insts[i].op.operands().for_each(|operand| needed[operand.0 as usize] = true);
            }
        }
        let mut map = vec![Reg(u32::MAX); body.insts.len()];
        let mut insts = Vec::new();
        for (i, inst) in body.insts.iter().enumerate() {
            if needed[i] {
                map[i] = Reg(insts.len() as u32);
                insts.push(VectorInst { op: renamed(inst.op, &map), lane: inst.lane });
            }
        }
        body.insts = insts;
        body.out = body.out.map(|out| map[out.0 as usize]);
        for acc in &mut body.accumulators {
            acc.operands.iter_mut().for_each(|operand| *operand = map[operand.0 as usize]);
        }
        body.carries.iter_mut().filter_map(Carry::of).for_each(|of| *of = map[of.0 as usize]);
        body
    }
}

fn renamed(op: VectorOp, map: &[Reg]) -> VectorOp {
    let f = |reg: Reg| map[reg.0 as usize];
    match op {
        VectorOp::Chunk | VectorOp::Splat(_) | VectorOp::Held(_) | VectorOp::Phase(_) => op,
        VectorOp::Unary(op, a) => VectorOp::Unary(op, f(a)),
        VectorOp::Binary(op, a, b) => VectorOp::Binary(op, f(a), f(b)),
        VectorOp::Compare(op, a, b) => VectorOp::Compare(op, f(a), f(b)),
        VectorOp::Select(a, b, c) => VectorOp::Select(f(a), f(b), f(c)),
        VectorOp::Extend { from, high, signed } => VectorOp::Extend { from: f(from), high, signed },
        VectorOp::Narrow(a, b) => VectorOp::Narrow(f(a), f(b)),
        VectorOp::Previous { of, carry } => VectorOp::Previous { of: f(of), carry },
        VectorOp::Running { of, carry } => VectorOp::Running { of: f(of), carry },
    }
}

/// All ones in a lane of `lane` bytes.
const fn mask(lane: u8) -> u64 {
    u64::MAX >> (64 - 8 * lane as u32)
}

/// A state that passes from word to word, before lowering.
struct Ordered {
    /// Index in the stage.
    state: usize,
    /// Its new value.
    next: Value,
    /// For a scan: the operation and what each word contributes.
    scan: Option<(Reduce, Value)>,
}

/// A sum and its sum of sums, before lowering. States by index in the stage.
struct Sums {
    state: usize,
    sum_of_sums: usize,
    op: Reduce,
    includes_word: bool,
    /// What each word contributes to the sum, narrowed if it can be.
    term: Value,
}

/// The state that sums state `of` up at every word (and whether it does so after the word), if that is the only one that
/// looks at `of`.
fn summed(facts: &PipeFacts, of: usize) -> Option<(usize, bool)> {
    let mut found = None;
    for (state, known) in facts.states.iter().enumerate() {
        if let Class::Linear(Linear::SumOfSums { of: summed, includes_word, .. }) = known.class
            && summed.0 as usize == of
        {
            if found.is_some() {
                return None;
            }
            found = Some((state, includes_word));
        }
    }
    let (sum_of_sums, _) = found?;
    let looked_at = |value: Value| depends(&facts.body, value, StateId(of as u32));
    let others = (0..facts.next.len()).filter(|state| *state != of && *state != sum_of_sums);
    let alone = !facts.out.is_some_and(looked_at) && !others.map(|state| facts.next[state]).any(looked_at);
    found.filter(|_| alone)
}

/// Whether `value` is computed from `state`.
fn depends(block: &Block, value: Value, state: StateId) -> bool {
    let mut known = vec![false; value.0 as usize + 1];
    for (v, inst) in block.iter().take(value.0 as usize + 1) {
        known[v.0 as usize] =
            inst.op == Op::State(state) || inst.op.operands().any(|operand| known[operand.0 as usize]);
    }
    known[value.0 as usize]
}

/// A reduction before lowering.
struct Term {
    state: u32,
    ty: Ty,
    op: Reduce,
    form: Accumulate,
    swapped: bool,
    operand: Value,
}

impl Term {
    fn new(rewriter: &mut Rewriter, state: u32, ty: Ty, op: Reduce, mut operand: Value, word: Ty) -> Term {
        let mut swapped = false;
        let form = match op {
            Reduce::Addc => {
                if let Op::Unary(UnaryOp::Bswap, raw) = rewriter.block().inst(operand).op
                    && ty == Ty::U16
                {
                    swapped = true;
                    operand = raw;
                }
                match narrowed(rewriter, operand, word, NARROW_DEPTH) {
                    Some(narrow) if ty.bits() > word.bits() => {
                        operand = narrow;
                        Accumulate::Sum { exact: true }
                    }
                    _ => Accumulate::Sum { exact: false },
                }
            }
            Reduce::Add | Reduce::Addmod(_) => match narrowed(rewriter, operand, word, NARROW_DEPTH) {
                Some(narrow) if ty.bits() > word.bits() => {
                    operand = narrow;
                    Accumulate::Sum { exact: true }
                }
                _ if matches!(op, Reduce::Add) => Accumulate::Lanes,
                _ => Accumulate::Sum { exact: true },
            },
            _ => Accumulate::Lanes,
        };
        Term { state, ty, op, form, swapped, operand }
    }
}

/// States that may pass from word to word in one stage: each takes a register for the whole loop.
const MAX_ORDERED: usize = 6;

/// Bound of the search for a narrower form.
const NARROW_DEPTH: u32 = 8;

/// A value of type `ty` with the same number as `value`, where that is plain: zero extensions, small literals, and
/// choices between such. Summing narrow lanes takes fewer registers.
fn narrowed(rewriter: &mut Rewriter, value: Value, ty: Ty, depth: u32) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let inst = rewriter.block().inst(value);
    if inst.ty.bits() <= ty.bits() {
        return None;
    }
    match inst.op {
        Op::Convert(ConvertOp::Zext, x) if rewriter.block().ty(x).bits() <= ty.bits() => {
            Some(rewriter.resize(x, ty))
        }
        Op::Convert(ConvertOp::Zext, x) => narrowed(rewriter, x, ty, depth),
        Op::Const(c) if c <= ty.mask() => Some(rewriter.constant(c, ty)),
        Op::Select { cond, then, otherwise } => {
            let then = narrowed(rewriter, then, ty, depth)?;
            let otherwise = narrowed(rewriter, otherwise, ty, depth)?;
            Some(rewriter.select(cond, then, otherwise))
        }
        _ => None,
    }
}

/// Lowering of one stage's block.
struct Stage<'a> {
    to: &'a mut Lowering,
    block: &'a Block,
    tables: &'a [Table],
    base: u32,
    chunk: Reg,
    /// Bytes of the stage's word: the narrowest lane.
    word: u8,
    state_types: Vec<Ty>,
    done: HashMap<Value, Group>,
    positional: Vec<Positional>,
    /// All values at the offsets 0, 1, 2, ... words, as far as they were asked for and depend on nothing else.
    numbers: Vec<Vec<Option<u64>>>,
    /// What the words before decide: for a state its new value, for the new value of a scan the carry and its operand.
    delayed: HashMap<StateId, (Value, u32)>,
    running: HashMap<Value, (Value, u32)>,
}

impl<'a> Stage<'a> {
    fn new(
        to: &'a mut Lowering,
        block: &'a Block,
        tables: &'a [Table],
        pipe: &Pipe,
        base: u32,
        chunk: Reg,
    ) -> Stage<'a> {
        Stage {
            to,
            block,
            tables,
            base,
            chunk,
            word: pipe.input.bytes() as u8,
            state_types: pipe.states.iter().map(|state| state.ty).collect(),
            done: HashMap::new(),
            positional: positional(block),
            numbers: Vec::new(),
            delayed: HashMap::new(),
            running: HashMap::new(),
        }
    }

    /// Declares the states that pass from word to word, and makes sure that their new values are computed.
    fn order(&mut self, states: &[Ordered]) -> Result<(), String> {
        for Ordered { state, next, scan } in states {
            let ty = self.state_types[*state];
            let flat = self.base + *state as u32;
            let lane = self.lane(ty);
            if lane != self.word || ty == Ty::Bool {
                return Err(format!("a {ty} that passes from word to word of {} bytes", self.word));
            }
            if let Some((op, operand)) = scan {
                let narrow = (ty.bytes() as u8) < lane;
                let signed = matches!(op, Reduce::Smin | Reduce::Smax | Reduce::Addc);
                if matches!(op, Reduce::Addmod(_)) || (narrow && signed) {
                    return Err(format!("a running {op} of {ty}"));
                }
                let carry = self.carry(Carry::Running { state: flat, ty, op: *op, lane });
                self.running.insert(*next, (*operand, carry));
            }
            // The register is known once the new value is lowered.
            let carry = self.carry(Carry::Previous { state: flat, lane, of: Reg(0) });
            self.delayed.insert(StateId(*state as u32), (*next, carry));
        }
        for Ordered { state, next, .. } in states {
            let group = self.lower(*next)?;
            let (_, carry) = self.delayed[&StateId(*state as u32)];
            if let (Carry::Previous { of, .. }, [reg]) =
                (&mut self.to.body.carries[carry as usize], &group.regs[..])
            {
                *of = *reg;
            }
        }
        Ok(())
    }

    fn carry(&mut self, carry: Carry) -> u32 {
        self.to.body.carries.push(carry);
        (self.to.body.carries.len() - 1) as u32
    }

    /// A sum and its sum of sums.
    fn sum(&mut self, sums: &Sums) -> Result<(), String> {
        let group = self.lower(sums.term)?;
        let [of] = group.regs[..] else { return Err("a sum of sums of values wider than the word".into()) };
        if group.lane == 8 {
            return Err("a sum of sums of 64-bit words".into());
        }
        self.carry(Carry::Sums {
            sum: self.base + sums.state as u32,
            sum_of_sums: self.base + sums.sum_of_sums as u32,
            ty: self.state_types[sums.state],
            op: sums.op,
            lane: group.lane,
            includes_word: sums.includes_word,
            of,
        });
        Ok(())
    }

    fn accumulate(&mut self, term: &Term, operand: Value) -> Result<(), String> {
        let group = self.lower(operand)?;
        let narrow =
            term.form == Accumulate::Lanes && term.ty.is_integer() && group.lane > term.ty.bytes() as u8;
        if narrow && matches!(term.op, Reduce::Smin | Reduce::Smax) {
            return Err(format!("{} of a type narrower than the word", term.op));
        }
        let acc = Accumulator {
            state: term.state,
            ty: term.ty,
            op: term.op,
            form: term.form,
            lane: group.lane,
            swapped: term.swapped,
            operands: group.regs,
        };
        self.to.body.accumulators.push(acc);
        Ok(())
    }

    /// The lane that a value of type `ty` has.
    fn lane(&self, ty: Ty) -> u8 {
        self.word.max(ty.bytes() as u8)
    }

    fn splat(&mut self, value: u64, lane: u8) -> Group {
        let reg = self.to.splat(value, lane);
        Group { lane, regs: vec![reg; usize::from(lane / self.word)] }
    }

    fn lower(&mut self, value: Value) -> Result<Group, String> {
        if let Some(group) = self.done.get(&value) {
            return Ok(group.clone());
        }
        // Operands come before their users, so a walk in order needs no recursion; only what `value` needs is lowered.
        let mut needed = vec![false; value.0 as usize + 1];
        needed[value.0 as usize] = true;
        for v in (0..=value.0).rev().map(Value) {
            let wanted = needed[v.0 as usize] && !self.done.contains_key(&v);
            if wanted && !self.positional[v.0 as usize].table_wanted() && !self.running.contains_key(&v) {
                self.block.inst(v).op.operands().for_each(|operand| needed[operand.0 as usize] = true);
            }
        }
        for v in (0..=value.0).map(Value) {
            if needed[v.0 as usize] && !self.done.contains_key(&v) {
                let group = self.inst(v)?;
                self.done.insert(v, group);
            }
        }
        Ok(self.done[&value].clone())
    }

    fn operand(&self, value: Value) -> Group {
        self.done[&value].clone()
    }

    fn inst(&mut self, value: Value) -> Result<Group, String> {
        if self.positional[value.0 as usize].table_wanted() {
            return self.phase(value);
        }
        let inst = self.block.inst(value);
        let lane = self.lane(inst.ty);
        if let Some((operand, carry)) = self.running.get(&value).copied() {
            let [of] = self.lower(operand)?.regs[..] else {
                return Err("a running value of two registers".into());
            };
            let reg = self.to.emit(VectorOp::Running { of, carry }, lane);
            return Ok(self.fitted(Group { lane, regs: vec![reg] }, inst.ty));
        }
        match inst.op {
            Op::State(state) if self.delayed.contains_key(&state) => {
                // A chain of delays ends at something that does not look back.
                let (next, carry) = self.delayed[&state];
                let [of] = self.lower(next)?.regs[..] else { return Err("a delay of two registers".into()) };
                let reg = self.to.emit(VectorOp::Previous { of, carry }, lane);
                Ok(Group { lane, regs: vec![reg] })
            }
            Op::In => Ok(Group { lane: self.word, regs: vec![self.chunk] }),
            Op::Const(value) if inst.ty == Ty::Bool => {
                Ok(self.splat(0u64.wrapping_sub(value & 1), self.word))
            }
            Op::Const(value) => Ok(self.splat(value, lane)),
            Op::State(StateId(state)) => {
                if self.state_types[state as usize] == Ty::Bool {
                    return Err("a state of type bool that the loop reads".into());
                }
                let reg = self.to.emit(VectorOp::Held(self.base + state), lane);
                Ok(Group { lane, regs: vec![reg; usize::from(lane / self.word)] })
            }
            Op::Unary(op, a) => self.unary(op, inst.ty, a),
            Op::Binary(op, a, b) => self.binary(op, inst.ty, a, b),
            Op::Compare(op, a, b) => self.compare(op, a, b),
            Op::Select { cond, then, otherwise } => {
                let then = self.operand(then);
                let otherwise = self.operand(otherwise);
                let cond = self.resized(self.operand(cond), then.lane, true);
                let otherwise =
                    if inst.ty == Ty::Bool { self.resized(otherwise, then.lane, true) } else { otherwise };
                let regs = (0..then.regs.len())
                    .map(|i| {
                        let op = VectorOp::Select(cond.regs[i], then.regs[i], otherwise.regs[i]);
                        self.to.emit(op, then.lane)
                    })
                    .collect();
                Ok(Group { lane: then.lane, regs })
            }
            Op::Convert(op, a) => self.convert(op, inst.ty, a),
            Op::Pos => Err("an offset that does not repeat within one register".into()),
            Op::Param(_) => Err("an unbound parameter".into()),
            Op::Modular(op, ..) => Err(format!("`{}` outside a reduction", op.name())),
            Op::Lookup(..) => Err("`lookup`".into()),
            Op::Crc(op, ..) => Err(format!("`{}` outside a remainder of its own", op.name())),
        }
    }

    fn map(&mut self, a: &Group, mut f: impl FnMut(&mut Lowering, Reg) -> Reg) -> Group {
        Group { lane: a.lane, regs: a.regs.iter().map(|reg| f(self.to, *reg)).collect() }
    }

    fn map2(&mut self, a: &Group, b: &Group, mut f: impl FnMut(&mut Lowering, Reg, Reg) -> Reg) -> Group {
        let regs = a.regs.iter().zip(&b.regs).map(|(a, b)| f(self.to, *a, *b)).collect();
        Group { lane: a.lane, regs }
    }

    /// Zeroes the bits above a type narrower than its lane.
    fn fitted(&mut self, group: Group, ty: Ty) -> Group {
        if ty.bytes() as u8 >= group.lane || ty == Ty::Bool {
            return group;
        }
        let bits = self.to.splat(ty.mask(), group.lane);
        let lane = group.lane;
        self.map(&group, |to, reg| to.binary(BinaryOp::And, reg, bits, lane))
    }

    fn unary(&mut self, op: UnaryOp, ty: Ty, a: Value) -> Result<Group, String> {
        let a = self.operand(a);
        let lane = a.lane;
        let narrow = ty != Ty::Bool && (ty.bytes() as u8) < lane;
        match op {
            UnaryOp::Neg | UnaryOp::Not => {
                let group = self.map(&a, |to, reg| to.emit(VectorOp::Unary(op, reg), lane));
                Ok(self.fitted(group, ty))
            }
            UnaryOp::Popcnt => Ok(self.map(&a, |to, reg| to.emit(VectorOp::Unary(op, reg), lane))),
            UnaryOp::Bswap | UnaryOp::Bitrev => {
                let group = self.map(&a, |to, reg| to.emit(VectorOp::Unary(op, reg), lane));
                if !narrow {
                    return Ok(group);
                }
                // The reversed value came out at the top of the wider lane.
                let count = self.to.splat(u64::from(lane) * 8 - u64::from(ty.bits()), lane);
                Ok(self.map(&group, |to, reg| to.binary(BinaryOp::Shr, reg, count, lane)))
            }
            UnaryOp::Clz | UnaryOp::Ctz => Err(format!("`{}` in lanes", op.name())),
        }
    }

    fn binary(&mut self, op: BinaryOp, ty: Ty, a: Value, b: Value) -> Result<Group, String> {
        use BinaryOp as B;
        let count = match self.block.inst(b).op {
            Op::Const(count) => Some(count % u64::from(ty.bits())),
            _ => None,
        };
        let (a, mut b) = (self.operand(a), self.operand(b));
        let lane = a.lane;
        if ty == Ty::Bool {
            b = self.resized(b, lane, true);
            return Ok(self.map2(&a, &b, |to, a, b| to.binary(op, a, b, lane)));
        }
        let narrow = (ty.bytes() as u8) < lane;
        match op {
            B::And | B::Or | B::Xor | B::Min | B::Max => {
                Ok(self.map2(&a, &b, |to, a, b| to.binary(op, a, b, lane)))
            }
            B::Add | B::Sub | B::Mul => {
                let group = self.map2(&a, &b, |to, a, b| to.binary(op, a, b, lane));
                Ok(self.fitted(group, ty))
            }
            B::Smin | B::Smax | B::Sar if narrow => {
                Err(format!("`{}` on a type narrower than the word", op.name()))
            }
            B::Smin | B::Smax => Ok(self.map2(&a, &b, |to, a, b| to.binary(op, a, b, lane))),
            B::Shl | B::Shr | B::Sar => {
                let count = count.ok_or_else(|| format!("`{}` by a count that varies", op.name()))?;
                let count = self.to.splat(count, lane);
                let group = self.map(&a, |to, a| to.binary(op, a, count, lane));
                Ok(self.fitted(group, ty))
            }
            B::Rotl | B::Rotr => {
                let count = count.ok_or_else(|| format!("`{}` by a count that varies", op.name()))?;
                let bits = u64::from(ty.bits());
                let left = if op == B::Rotl { count } else { (bits - count) % bits };
                if left == 0 {
                    return Ok(a);
                }
                if !narrow {
                    let count = self.to.splat(left, lane);
                    return Ok(self.map(&a, |to, a| to.binary(B::Rotl, a, count, lane)));
                }
                let (up, down) = (self.to.splat(left, lane), self.to.splat(bits - left, lane));
                let group = self.map(&a, |to, a| {
                    let high = to.binary(B::Shl, a, up, lane);
                    let low = to.binary(B::Shr, a, down, lane);
                    to.binary(B::Or, high, low, lane)
                });
                Ok(self.fitted(group, ty))
            }
            B::Addc if narrow => {
                // The carry is in the lane, above the type.
                let bits = self.to.splat(u64::from(ty.bits()), lane);
                let sum = self.map2(&a, &b, |to, a, b| {
                    let sum = to.binary(B::Add, a, b, lane);
                    let carry = to.binary(B::Shr, sum, bits, lane);
                    to.binary(B::Add, sum, carry, lane)
                });
                Ok(self.fitted(sum, ty))
            }
            B::Addc => Ok(self.map2(&a, &b, |to, a, b| {
                // A carry made the sum smaller than an operand; a mask is -1, so subtracting it adds the carry.
                let sum = to.binary(B::Add, a, b, lane);
                let carry = to.emit(VectorOp::Compare(CompareOp::Ltu, sum, a), lane);
                to.binary(B::Sub, sum, carry, lane)
            })),
            B::Clmul | B::Clmulh => Err(format!("`{}` in lanes", op.name())),
        }
    }

    fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Result<Group, String> {
        let ty = self.block.ty(a);
        let (a, mut b) = (self.operand(a), self.operand(b));
        let lane = a.lane;
        if ty == Ty::Bool {
            // Masks are 0 and -1.
            b = self.resized(b, lane, true);
        } else if (ty.bytes() as u8) < lane && matches!(op, CompareOp::Lts | CompareOp::Les) {
            return Err(format!("`{}` on a type narrower than the word", op.name()));
        }
        if ty == Ty::Bool && !matches!(op, CompareOp::Eq | CompareOp::Ne) {
            return Err(format!("`{}` on bool", op.name()));
        }
        Ok(self.map2(&a, &b, |to, a, b| to.emit(VectorOp::Compare(op, a, b), lane)))
    }

    fn convert(&mut self, op: ConvertOp, ty: Ty, a: Value) -> Result<Group, String> {
        let from = self.block.ty(a);
        let mut group = self.operand(a);
        let lane = self.lane(ty);
        if ty == Ty::Bool {
            let one = self.to.splat(1, group.lane);
            let source = group.lane;
            return Ok(self.map(&group, |to, reg| {
                let bit = to.binary(BinaryOp::And, reg, one, source);
                to.emit(VectorOp::Compare(CompareOp::Eq, bit, one), source)
            }));
        }
        if from == Ty::Bool {
            let mask = self.resized(group, lane, true);
            let bits = if op == ConvertOp::Sext { ty.mask() } else { 1 };
            let bits = self.to.splat(bits, lane);
            return Ok(self.map(&mask, |to, reg| to.binary(BinaryOp::And, reg, bits, lane)));
        }
        if op == ConvertOp::Sext {
            if (from.bytes() as u8) < group.lane {
                // Up to the top of the lane and back, copying the sign.
                let source = group.lane;
                let count = self.to.splat(u64::from(source) * 8 - u64::from(from.bits()), source);
                group = self.map(&group, |to, reg| {
                    let up = to.binary(BinaryOp::Shl, reg, count, source);
                    to.binary(BinaryOp::Sar, up, count, source)
                });
            }
            let wide = self.resized(group, lane, true);
            return Ok(self.fitted(wide, ty));
        }
        let group = self.resized(group, lane, false);
        Ok(self.fitted(group, ty))
    }

    /// The same lanes at another width: extended by zeros or signs, or cut to their low parts.
    fn resized(&mut self, mut group: Group, lane: u8, signed: bool) -> Group {
        while group.lane < lane {
            let wide = group.lane * 2;
            let mut regs = Vec::with_capacity(group.regs.len() * 2);
            for from in &group.regs {
                for high in [false, true] {
                    // A chunk may be a literal of a stage with other lanes: that is no shortcut.
                    let inst = self.to.body.inst(*from);
                    regs.push(match inst.op {
                        VectorOp::Splat(value) if inst.lane == group.lane => {
                            let sign = value >> (8 * group.lane - 1) & 1 == 1;
                            let above = if signed && sign { mask(wide) & !mask(group.lane) } else { 0 };
                            self.to.splat(value | above, wide)
                        }
                        _ => self.to.emit(VectorOp::Extend { from: *from, high, signed }, wide),
                    });
                }
            }
            group = Group { lane: wide, regs };
        }
        while group.lane > lane {
            let half = group.lane / 2;
            let mut regs = Vec::with_capacity(group.regs.len() / 2);
            for pair in group.regs.chunks(2) {
                let last = pair[pair.len() - 1];
                let inst = self.to.body.inst(pair[0]);
                regs.push(match inst.op {
                    VectorOp::Splat(value) if last == pair[0] && inst.lane == group.lane => {
                        self.to.splat(value, half)
                    }
                    _ => self.to.emit(VectorOp::Narrow(pair[0], last), half),
                });
            }
            group = Group { lane: half, regs };
        }
        group
    }

    /// A value that depends on the offset alone and repeats soon: its lanes come from a table.
    fn phase(&mut self, value: Value) -> Result<Group, String> {
        let ty = self.block.ty(value);
        let lane = self.lane(ty);
        if lane != self.word {
            return Err("a positional value wider than the word".into());
        }
        let period = (1usize << self.positional[value.0 as usize].bits).max(usize::from(lane));
        let mut bytes = Vec::with_capacity(period);
        for pos in (0..period as u64).step_by(usize::from(lane)) {
            let number =
                self.at(value, pos).ok_or("a positional value that cannot be computed beforehand")?;
            let number = if ty == Ty::Bool { 0u64.wrapping_sub(number) } else { number };
            bytes.extend_from_slice(&number.to_le_bytes()[..usize::from(lane)]);
        }
        let phases = &mut self.to.body.phases;
        let phase = Phase { bytes };
        let index = match phases.iter().position(|known| *known == phase) {
            Some(index) => index,
            None if phases.len() == MAX_PHASES => {
                return Err(format!("more than {MAX_PHASES} positional values"));
            }
            None => {
                phases.push(phase);
                phases.len() - 1
            }
        };
        let reg = self.to.emit(VectorOp::Phase(index as u32), lane);
        Ok(Group { lane, regs: vec![reg] })
    }

    /// The number that a value has at offset `pos` (a multiple of the word), if it depends on that alone.
    fn at(&mut self, value: Value, pos: u64) -> Option<u64> {
        let index = (pos / u64::from(self.word)) as usize;
        while self.numbers.len() <= index {
            let pos = self.numbers.len() as u64 * u64::from(self.word);
            let mut numbers: Vec<Option<u64>> = Vec::with_capacity(self.block.insts.len());
            for (_, inst) in self.block.iter() {
                let mut args = [Some(0); 3];
                let mut operand_ty = inst.ty;
                for (slot, operand) in args.iter_mut().zip(inst.op.operands()) {
                    *slot = numbers[operand.0 as usize];
                    operand_ty = self.block.ty(operand);
                }
                numbers.push(match (inst.op, args) {
                    (Op::Pos, _) => Some(pos),
                    (op, [Some(a), Some(b), Some(c)]) => {
                        evaluate(&op, inst.ty, operand_ty, [a, b, c], self.tables)
                    }
                    _ => None,
                });
            }
            self.numbers.push(numbers);
        }
        self.numbers[index][value.0 as usize]
    }
}

/// What is known of a value's dependence on the offset.
#[derive(Clone, Copy, Debug)]
struct Positional {
    /// Depends on `pos` and on nothing else that varies.
    alone: bool,
    /// A function of this many low bits of `pos`.
    bits: u32,
    /// Its own low `k` bits are a function of the low `k` bits of `pos`, for every `k`.
    closed: bool,
}

/// Tables of positional values in one pass: each costs a register, and time to compute.
const MAX_PHASES: usize = 8;

/// Longest period, in bytes as a power of two, that is put into a table.
const PHASE_BITS: u32 = 6;

impl Positional {
    const fn table_wanted(&self) -> bool {
        self.alone && self.bits > 0 && self.bits <= PHASE_BITS
    }
}

fn positional(block: &Block) -> Vec<Positional> {
    let mut known: Vec<Positional> = Vec::with_capacity(block.insts.len());
    for (_, inst) in block.iter() {
        let operands = || inst.op.operands().map(|operand| known[operand.0 as usize]);
        let bits = operands().map(|operand| operand.bits).max().unwrap_or(0);
        let alone = operands().all(|operand| operand.alone);
        let closed = operands().all(|operand| operand.closed);
        let literal = |value: Value| match block.inst(value).op {
            Op::Const(c) => Some(c),
            _ => None,
        };
        known.push(match inst.op {
            Op::Pos => Positional { alone: true, bits: 64, closed: true },
            Op::Const(_) => Positional { alone: true, bits: 0, closed: true },
            Op::In | Op::State(_) | Op::Param(_) => Positional { alone: false, bits: 0, closed: false },
            Op::Binary(BinaryOp::And, _, mask) if closed && literal(mask).is_some() => {
                let width = 64 - literal(mask).unwrap_or(u64::MAX).leading_zeros();
                Positional { alone, bits: bits.min(width), closed }
            }
            Op::Convert(ConvertOp::Trunc, _) if closed => {
                Positional { alone, bits: bits.min(inst.ty.bits()), closed }
            }
            Op::Binary(op, ..) => {
                use BinaryOp as B;
                let keeps = matches!(op, B::Add | B::Sub | B::Mul | B::And | B::Or | B::Xor);
                Positional { alone, bits, closed: closed && keeps }
            }
            Op::Unary(op, _) => {
                Positional { alone, bits, closed: closed && matches!(op, UnaryOp::Neg | UnaryOp::Not) }
            }
            Op::Convert(op, _) => Positional { alone, bits, closed: closed && op == ConvertOp::Zext },
            _ => Positional { alone, bits, closed: false },
        });
    }
    known
}
