//! From the stages of a pass to one block: the form that each state takes, and the order in which stages see
//! a chunk.

use super::induction::{endless, step};
use super::lanes::StageLowering;
use super::narrow::narrow;
use super::{Accumulate, Carry, Reg, VectorBody, VectorInst, VectorOp};
use crate::analyse::rewrite::{Rewriter, live};
use crate::analyse::{Analysed, Class, Linear, PipeFacts, Reduce};
use crate::ir::{BinaryOp, ConvertOp, Endian, Op, StateId, Ty, UnaryOp, Value};
use crate::plan::induction::Step;
use std::collections::HashMap;

/// Lowers the stages of a pass; the reason if they have no vector form.
pub(crate) fn lower(stages: &[Analysed]) -> Result<VectorBody, String> {
    if stages.iter().any(|pipe| pipe.is_wide()) {
        return Err("values of 128 bits".into());
    }
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
pub(super) struct Group {
    pub(super) lane: u8,
    pub(super) regs: Vec<Reg>,
}

#[derive(Default)]
pub(super) struct Lowering {
    pub(super) body: VectorBody,
    pub(super) known: HashMap<VectorInst, Reg>,
}

impl Lowering {
    pub(super) fn emit(&mut self, op: VectorOp, lane: u8) -> Reg {
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

    /// An instruction of its own, whether or not there is one like it: for what changes something.
    pub(super) fn emit_anew(&mut self, op: VectorOp, lane: u8) -> Reg {
        self.body.insts.push(VectorInst { op, lane });
        Reg((self.body.insts.len() - 1) as u32)
    }

    pub(super) fn splat(&mut self, value: u64, lane: u8) -> Reg {
        self.emit(VectorOp::Splat(value & mask(lane)), lane)
    }

    pub(super) fn binary(&mut self, op: BinaryOp, a: Reg, b: Reg, lane: u8) -> Reg {
        self.emit(VectorOp::Binary(op, a, b), lane)
    }

    /// Lowers one stage; gives the chunk that leaves it.
    fn stage(&mut self, pipe: &Analysed, base: u32, chunk: Reg) -> Result<Reg, String> {
        let facts = pipe.facts();
        let ordered_states = facts
            .states
            .iter()
            .filter(|state| !matches!(state.class, Class::Invariant | Class::Reduction { .. }));
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
        let mut sums: Vec<SumPair> = Vec::new();
        let mut ordered: Vec<Ordered> = Vec::new();
        let mut inductions: Vec<(usize, Step)> = Vec::new();
        for (state, known) in facts.states.iter().enumerate() {
            match &known.class {
                Class::Invariant => {}
                Class::Reduction { op, operand } => {
                    terms.push(ReductionTerm::new(
                        &mut rewriter,
                        base + state as u32,
                        pipe.states[state].ty,
                        *op,
                        rename(*operand),
                        pipe.input.ty,
                    ));
                }
                Class::Positional if step(pipe.normal(), state).is_some() => {
                    inductions.extend(step(pipe.normal(), state).map(|step| (state, step)));
                }
                // Reads only the words before, and only through states that end somewhere.
                Class::Positional if !endless(pipe.normal(), facts, state) => {
                    ordered.push(Ordered::plain(state, rename(facts.next[state])))
                }
                // One that is computed from its own old value would have no end here.
                Class::Delay { .. } if !facts.body.depends_on(facts.next[state], StateId(state as u32)) => {
                    ordered.push(Ordered::plain(state, rename(facts.next[state])))
                }
                Class::Scan { op, operand } => match summed(facts, state) {
                    Some((sum_of_sums, includes_word)) => {
                        let term = rename(*operand);
                        let narrow = narrowed(&mut rewriter, term, pipe.input.ty, NARROW_DEPTH);
                        sums.push(SumPair {
                            state,
                            sum_of_sums,
                            op: *op,
                            includes_word,
                            term: narrow.unwrap_or(term),
                        });
                    }
                    None => ordered.push(Ordered {
                        scan: Some((*op, rename(*operand))),
                        ..Ordered::plain(state, rename(facts.next[state]))
                    }),
                },
                Class::Lagged { op, operand, states } if states[0].0 as usize == state => {
                    ordered.push(Ordered {
                        scan: Some((*op, rename(*operand))),
                        turns: states.iter().map(|state| state.0 as usize).collect(),
                        ..Ordered::plain(state, rename(facts.next[state]))
                    });
                }
                // What the one before it was.
                Class::Lagged { .. } => ordered.push(Ordered::plain(state, rename(facts.next[state]))),
                Class::Linear(Linear::SumOfSums { of, .. })
                    if summed(facts, of.0 as usize).is_some_and(|(b, _)| b == state) => {}
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
        // What a running value comes from is not looked into: it is there as a whole.
        let scans: Vec<Value> =
            ordered.iter().filter(|state| state.scan.is_some()).map(|state| state.next).collect();
        let (block, tables, roots) = narrow(&block, &tables, &roots, &scans);
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
            // Narrowed, a word may turn out to give the same result whatever was before: no reduction is
            // left, and the result may be the very operand, which would be looked for without end.
            let last = state.turns.last().map_or(state.state, |last| *last);
            if state.scan.is_some() && !block.depends_on(state.next, StateId(last as u32)) {
                *state = Ordered::plain(state.state, state.next);
            }
        }

        let mut stage = StageLowering::new(self, &block, &tables, pipe, base, chunk);
        stage.declare_inductions(&inductions)?;
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
        VectorOp::Chunk
        | VectorOp::Splat(_)
        | VectorOp::Invariant(_)
        | VectorOp::Phase(_)
        | VectorOp::Offset { .. }
        | VectorOp::Induction(_) => op,
        VectorOp::Later { of, carry } => VectorOp::Later { of: f(of), carry },
        VectorOp::Lookup(table, index) => VectorOp::Lookup(table, f(index)),
        VectorOp::Slide { before, of } => VectorOp::Slide { before: f(before), of: f(of) },
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
pub(super) const fn mask(lane: u8) -> u64 {
    u64::MAX >> (64 - 8 * lane as u32)
}

/// A state that passes from word to word, before lowering.
pub(super) struct Ordered {
    /// Index in the stage.
    pub(super) state: usize,
    /// Its new value.
    pub(super) next: Value,
    /// For a scan: the operation and what each word contributes.
    pub(super) scan: Option<(Reduce, Value)>,
    /// For a scan: the states that have its last results, this one first.
    pub(super) turns: Vec<usize>,
}

impl Ordered {
    fn plain(state: usize, next: Value) -> Ordered {
        Ordered { state, next, scan: None, turns: vec![state] }
    }
}

/// A sum and its sum of sums, before lowering. States by index in the stage.
pub(super) struct SumPair {
    pub(super) state: usize,
    pub(super) sum_of_sums: usize,
    pub(super) op: Reduce,
    pub(super) includes_word: bool,
    /// What each word contributes to the sum, narrowed if it can be.
    pub(super) term: Value,
}

/// The state that sums state `of` at every word, and whether it does so after the word, if that is the only
/// one that reads `of`.
fn summed(facts: &PipeFacts, of: usize) -> Option<(usize, bool)> {
    let mut found = None;
    for (state, known) in facts.states.iter().enumerate() {
        if let Class::Linear(Linear::SumOfSums { op, of: summed, includes_word }) = known.class
            && summed.0 as usize == of
            && op != Reduce::Addc
        {
            if found.is_some() {
                return None;
            }
            found = Some((state, includes_word));
        }
    }
    let (sum_of_sums, _) = found?;
    let looked_at = |value: Value| facts.body.depends_on(value, StateId(of as u32));
    let others = (0..facts.next.len()).filter(|state| *state != of && *state != sum_of_sums);
    let alone = !facts.out.is_some_and(looked_at) && !others.map(|state| facts.next[state]).any(looked_at);
    found.filter(|_| alone)
}

/// A reduction before lowering.
pub(super) struct ReductionTerm {
    pub(super) state: u32,
    pub(super) ty: Ty,
    pub(super) op: Reduce,
    pub(super) form: Accumulate,
    pub(super) swapped: bool,
    pub(super) operand: Value,
}

impl ReductionTerm {
    fn new(
        rewriter: &mut Rewriter,
        state: u32,
        ty: Ty,
        op: Reduce,
        mut operand: Value,
        word: Ty,
    ) -> ReductionTerm {
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
            Reduce::Add | Reduce::Adds | Reduce::Addmod(_) => {
                match narrowed(rewriter, operand, word, NARROW_DEPTH) {
                    Some(narrow) if ty.bits() > word.bits() => {
                        operand = narrow;
                        Accumulate::Sum { exact: true }
                    }
                    _ if op == Reduce::Add => Accumulate::Lanes,
                    _ => Accumulate::Sum { exact: true },
                }
            }
            _ => Accumulate::Lanes,
        };
        ReductionTerm { state, ty, op, form, swapped, operand }
    }
}

/// States that may pass from word to word in one stage: each takes a register for the whole loop.
const MAX_ORDERED: usize = 6;

/// Bound of the search for a narrower form.
const NARROW_DEPTH: u32 = 8;

/// A value of type `ty` with the same number as `value`, where that is plain: zero extensions, small
/// literals, and choices between such. Summing narrow lanes takes fewer registers.
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
