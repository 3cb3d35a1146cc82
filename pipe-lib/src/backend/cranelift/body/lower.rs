//! From the stages of a pass to one block: what each state's form asks for, and the order in which stages see
//! a chunk.

use super::carried::{Ordered, ReductionTerm, SumPair, added, narrowed};
use super::lanes::StageLowering;
use super::narrow::narrow;
use super::system::SystemTerm;
use super::{Carry, Reg, VectorBody, VectorInst, VectorOp};
use crate::analyse::Reduce;
use crate::analyse::rewrite::{Rewriter, live};
use crate::ir::{BinaryOp, Endian, Op, StateId, UnaryOp, Value};
use crate::plan::induction::Step;
use crate::plan::stage::{NARROW_DEPTH, StateForm, VectorStage};
use std::collections::HashMap;

/// Lowers the stages of a pass; the reason if together they take too much.
pub(crate) fn lower(stages: &[VectorStage]) -> Result<VectorBody, String> {
    let mut lowering = Lowering::default();
    let chunk = lowering.emit(VectorOp::Chunk, 1);
    let mut current = chunk;
    let mut base = 0;
    for stage in stages {
        current = lowering.stage(stage, base, current)?;
        base += stage.pipe.states.len() as u32;
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
    fn stage(&mut self, stage: &VectorStage, base: u32, chunk: Reg) -> Result<Reg, String> {
        let pipe = &*stage.pipe;
        // The byte orders of the gauges become instructions, so that the rewrites see them.
        let mut rewriter = Rewriter::new(&pipe.tables);
        let map = rewriter.splice(&pipe.body, 0, |rewriter, inst| match inst.op {
            Op::In => {
                let raw = rewriter.push(Op::In, inst.ty);
                Some(if pipe.input.endian == Endian::Big { rewriter.unary(UnaryOp::Bswap, raw) } else { raw })
            }
            _ => None,
        });
        let rename = |value: Value| map[value.0 as usize];
        let out = pipe.out.map(|out| {
            let out = rename(out);
            if pipe.output.endian == Endian::Big { rewriter.unary(UnaryOp::Bswap, out) } else { out }
        });
        let mut terms = Vec::new();
        let mut sums: Vec<SumPair> = Vec::new();
        let mut ordered: Vec<Ordered> = Vec::new();
        let mut systems: Vec<SystemTerm<'_>> = Vec::new();
        let mut inductions: Vec<(usize, Step)> = Vec::new();
        for (state, form) in stage.forms.iter().enumerate() {
            let ty = pipe.states[state].ty;
            let next = rename(pipe.next[state]);
            let term = |rewriter: &mut Rewriter, op: Reduce, operand: Value| {
                ReductionTerm::new(rewriter, base + state as u32, ty, op, operand, pipe.input.ty)
            };
            match form {
                StateForm::Constant | StateForm::SumOfSums => {}
                StateForm::Reduction(op, addends) => {
                    let operand = added(&mut rewriter, *op, addends, rename);
                    terms.push(term(&mut rewriter, *op, operand));
                }
                StateForm::Sum { modulus, word, second: None, .. } => {
                    let word = rewriter.resize(rename(*word), pipe.input.ty);
                    terms.push(term(&mut rewriter, Reduce::Addmod(*modulus), word));
                }
                StateForm::Sum { modulus, end_around, word, second: Some(second) } => sums.push(SumPair {
                    state,
                    sum_of_sums: second.state.0 as usize,
                    op: match modulus {
                        _ if *end_around => Reduce::Addc,
                        0 => Reduce::Add,
                        modulus => Reduce::Addmod(*modulus),
                    },
                    includes_word: second.includes_word,
                    term: {
                        let (word, ty) = (rename(*word), pipe.input.ty);
                        let narrow = narrowed(&mut rewriter, word, ty, NARROW_DEPTH);
                        narrow.unwrap_or_else(|| rewriter.resize(word, ty))
                    },
                }),
                StateForm::Induction(step) if stage.short_step(state).is_some() => {
                    inductions.push((state, step.clone()));
                }
                StateForm::Induction(_) if stage.settles(state) => ordered.push(Ordered::plain(state, next)),
                StateForm::Delay(_) => ordered.push(Ordered::plain(state, next)),
                StateForm::Scan(running) => ordered.push(Ordered::running(state, next, running, rename)),
                StateForm::Lagged(running, states) => {
                    ordered.push(Ordered {
                        turns: states.clone(),
                        ..Ordered::running(state, next, running, rename)
                    });
                }
                StateForm::Linear(system, operands) => systems.push(SystemTerm {
                    system,
                    operands: operands.iter().map(|operand| rename(*operand)).collect(),
                }),
                StateForm::Member if carried_along(stage, state) => {}
                // Of states that take turns: what the one before it was.
                StateForm::Member => ordered.push(Ordered::plain(state, next)),
                StateForm::Crc(..)
                | StateForm::IteratedSums(..)
                | StateForm::Field(..)
                | StateForm::Induction(_) => {
                    return Err(format!(
                        "state `{}`, which the target does not carry",
                        pipe.states[state].name
                    ));
                }
            }
        }
        let (block, tables) = rewriter.finish();
        let mut roots: Vec<Value> = out.into_iter().collect();
        roots.extend(terms.iter().map(|term| term.operand));
        roots.extend(sums.iter().map(|sums| sums.term));
        roots.extend(systems.iter().flat_map(|system| &system.operands));
        roots.extend(ordered.iter().flat_map(Ordered::values));
        // What a running value comes from is not looked into: it is there as a whole.
        let scans: Vec<Value> =
            ordered.iter().filter(|state| state.running.is_some()).map(|state| state.next).collect();
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
        for operand in systems.iter_mut().flat_map(|system| &mut system.operands) {
            *operand = next()?;
        }
        for state in &mut ordered {
            state.next = next()?;
            if let Some(running) = &mut state.running {
                running.operand = next()?;
            }
            // Narrowed, a word may turn out to give the same result whatever was before: no reduction is
            // left, and the result may be the very operand, which would be looked for without end.
            let last = state.turns.last().map_or(state.state, |last| *last);
            if state.running.is_some() && !block.depends_on(state.next, StateId(last as u32)) {
                *state = Ordered::plain(state.state, state.next);
            }
        }

        let mut stage = StageLowering::new(self, &block, &tables, pipe, base, chunk);
        stage.declare_inductions(&inductions);
        stage.order(&ordered)?;
        for term in &terms {
            stage.accumulate(term)?;
        }
        for sums in &sums {
            stage.sum(sums)?;
        }
        for system in &systems {
            stage.system(system)?;
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
        body.carries.iter_mut().flat_map(Carry::of).for_each(|of| needed[of.0 as usize] = true);
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
        body.carries.iter_mut().flat_map(Carry::of).for_each(|of| *of = map[of.0 as usize]);
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

/// Whether a state is one of a linear recurrence.
fn carried_along(stage: &VectorStage, state: usize) -> bool {
    let has =
        |form: &StateForm| matches!(form, StateForm::Linear(system, _) if system.states.contains(&state));
    stage.forms.iter().any(has)
}

/// All ones in a lane of `lane` bytes.
pub(super) const fn mask(lane: u8) -> u64 {
    u64::MAX >> (64 - 8 * lane as u32)
}
