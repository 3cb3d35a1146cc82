//! The function around the loop bodies.
//!
//! ```text
//! fn(states: rdi, pos: rsi, src: rdx, dst: rcx, len: r8)
//!     constants, accumulators
//!     whole vectors                     `unroll` an iteration, each a copy; see `iterations`
//!     the remainder, masked             0 < remainder < vector; each stage's tail rule
//!     combine, import, export
//! ```
//!
//! rax and r9 are scratch, r10 is the end of the source, r11 the remainder; rcx becomes `dst - src` (see
//! `scatter` and `gather` for striped buffers). A leaf: of the stack the red zone, and in front of it what
//! loops read and have no registers for; no callee-saved register.

mod gather;
mod iterations;
mod outline;
mod overlap;
mod part;
mod prepare;
mod remainder;
mod runs;
mod scatter;
#[cfg(test)]
mod tests;

use crate::backend::{MAX_CALL_BYTES, Refusal};
use crate::ir::State;
use crate::plan::wide::{Edges, MAX_ITEMS, SharedCrc, WidePlan};
use iced_x86::{Code, Register};

use crate::backend::native::abi::{DST, END, LEN, LIMIT, POS, REMAINDER, SRC};
use crate::backend::native::asm::{self, Image};
use crate::backend::native::carry::{Due, LoopCarried, LoopPart, reduction, sums};
use crate::backend::native::isa::{Features, Isa};
use crate::backend::native::lanes::Lane;
use crate::backend::native::lanes::whole::{at, indexed};
use crate::backend::native::lower::{BodyLowering, StateVal, Val};
use crate::backend::native::regalloc::{self, AllocFailure};
use crate::backend::native::schedule;
use crate::backend::native::vcode::{Builder, CodeItem, LoopOrder, VReg};
use crate::plan::stage::{StateForm, VectorStage};
pub(super) use outline::Parts;
pub(super) use runs::StripeMap;

/// What the function does with the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stores {
    /// Nothing is written.
    None,
    /// Ordinary stores.
    Plain,
    /// Stores that may become such as go around the caches: what they wrote is not to be read soon.
    Streamable,
    /// Ordinary stores to a striped buffer.
    Striped(StripeMap),
}

/// How the function is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct FunctionShape {
    pub(super) isa: Isa,
    pub(super) features: Features,
    /// The striped buffer that is read, if it is one.
    pub(super) source: Option<StripeMap>,
    pub(super) stores: Stores,
    /// Vectors in one iteration of the main loop.
    pub(super) unroll: usize,
    /// Sets of accumulators for them; see [`WidePlan::sets`](crate::plan::wide::WidePlan).
    pub(super) sets: usize,
    pub(super) edges: Edges,
    pub(super) shared: Option<SharedCrc>,
}

impl FunctionShape {
    /// What a plan says of a function from contiguous memory to contiguous memory.
    pub(super) fn of(plan: &WidePlan, isa: Isa) -> FunctionShape {
        let &WidePlan { target, unroll, sets, edges, shared, .. } = plan;
        let (source, stores, features) = (None, Stores::Plain, target.features);
        FunctionShape { isa, features, source, stores, unroll, sets, edges, shared }
    }
}

/// Most bytes of a call, whatever the states.
const MAX_CALL: usize = 1 << 25;

const _: () = assert!(MAX_CALL <= MAX_CALL_BYTES);

/// Bytes of a call in which no partial result overflows: a multiple of every vector.
pub(super) fn longest_call(plans: &[VectorStage], isa: Isa) -> usize {
    let longest = |plan: &VectorStage| {
        let word = Lane::of_bytes(plan.pipe.word_bytes());
        let of_state = move |(state, form): (&State, &StateForm)| match form {
            StateForm::Sum { .. } => Some(sums::longest_call(word, isa.vector_bytes())),
            StateForm::Reduction(fold, addends) => {
                reduction::longest_call(word, state.ty, *fold, addends.len())
            }
            _ => None,
        };
        plan.pipe.states.iter().zip(&plan.forms).filter_map(of_state).min()
    };
    plans.iter().filter_map(longest).min().unwrap_or(MAX_CALL).min(MAX_CALL)
}

/// Code for stages in stream order, and what it was made from.
pub(super) fn function(stages: &[VectorStage], shape: FunctionShape) -> Result<(Image, Parts), Refusal> {
    let mut frame = FunctionFrame::new(stages, shape);
    match frame.build() {
        Ok(()) => {}
        Err(_) if frame.b.items.len() > MAX_ITEMS => return Err(Refusal::TooLong),
        Err(Refusal::Cannot(what)) => {
            debug_assert!(false, "planned, and not emitted: {what}");
            return Err(Refusal::Cannot(what));
        }
        Err(refusal) => return Err(refusal),
    }
    let image = ordered(&mut frame.b, shape.stores).map_err(|failure| match failure {
        AllocFailure::OutOfRegisters => Refusal::OutOfRegisters,
        AllocFailure::Encoding(what) => Refusal::Cannot(what),
    })?;
    Ok((image, frame.into_parts()))
}

/// The function with its loop in a better order, if there is one that the registers suffice for.
fn ordered(b: &mut Builder, stores: Stores) -> Result<Image, AllocFailure> {
    let as_lowered = schedule::has_long_chains(b).then(|| b.items.clone());
    if let Some(as_lowered) = as_lowered
        && schedule::order(b, stores == Stores::Plain)
    {
        match regalloc::assemble(b) {
            Err(AllocFailure::OutOfRegisters) => (b.items, b.order) = (as_lowered, LoopOrder::AsLowered),
            done => return done,
        }
    }
    regalloc::assemble(b)
}

/// The function on virtual registers.
#[cfg(test)]
pub(super) fn virtual_code(stages: &[VectorStage], shape: FunctionShape) -> Result<Builder, Refusal> {
    let mut frame = FunctionFrame::new(stages, shape);
    frame.build()?;
    Ok(frame.b)
}

/// What the loops carry of a stage, in the order in which it is due, each with its first state.
type Carried = Vec<(usize, Box<dyn LoopCarried>)>;

struct StageCode<'a> {
    plan: &'a VectorStage,
    /// Index of the first state in the block of states.
    first_state: usize,
    states: Vec<StateVal>,
    carried: Carried,
    /// Values of the body that are there before the loop: positional patterns.
    given: Vec<Option<Val>>,
}

impl StageCode<'_> {
    /// One step of what is due then.
    fn step(&mut self, due: Due, body: &mut BodyLowering<'_>, part: LoopPart) -> Result<(), String> {
        let mut carried = self.carried.iter_mut().filter(|(_, carried)| carried.traits().due == due);
        carried.try_for_each(|(_, carried)| carried.step(body, part))
    }
}

struct FunctionFrame<'a> {
    b: Builder,
    stages: Vec<StageCode<'a>>,
    shape: FunctionShape,
    reads_pos: bool,
}

impl<'a> FunctionFrame<'a> {
    fn new(plans: &'a [VectorStage], shape: FunctionShape) -> FunctionFrame<'a> {
        let mut stages = Vec::with_capacity(plans.len());
        let mut first_state = 0;
        for plan in plans {
            stages.push(StageCode {
                plan,
                first_state,
                states: Vec::new(),
                carried: Vec::new(),
                given: Vec::new(),
            });
            first_state += plan.pipe.states.len();
        }
        let reads_pos = stages.iter().any(|stage| stage.plan.reads_pos());
        FunctionFrame { b: Builder::new(shape.isa, shape.features), stages, shape, reads_pos }
    }

    fn build(&mut self) -> Result<(), Refusal> {
        let (remainder, done) = (self.b.new_label(), self.b.new_label());
        match self.shape.stores {
            Stores::None => {}
            Stores::Plain | Stores::Streamable => self.b.raw(asm::rr(Code::Sub_r64_rm64, DST, SRC)),
            Stores::Striped(runs) => self.enter_scatter(runs),
        }
        self.b.raw(asm::rm(Code::Lea_r64_m, END, SRC, LEN, 0));
        if let Some(runs) = self.shape.source {
            self.enter_gather(runs);
        }
        self.b.items.push(CodeItem::LoadConstants);
        self.prepare()?;
        let short = self.shape.edges.takes_whole.then(|| self.b.new_label());
        let overlap = self.overlaps().then(|| (self.b.new_label(), self.b.new_label()));
        if let Some((short, _)) = overlap {
            self.enter_short(short);
        }
        self.iterations(remainder, short)?;
        self.b.bind(remainder);
        self.b.raw(asm::rr(Code::Mov_r64_rm64, REMAINDER, END));
        self.b.raw(asm::rr(Code::Sub_r64_rm64, REMAINDER, SRC));
        let needs_end = self.carried().any(|carried| carried.traits().ends_in_remainder);
        let nothing = if needs_end { self.b.new_label() } else { done };
        self.b.jump(Code::Je_rel32_64, nothing);
        if let Some(short) = short {
            self.b.bind(short);
        }
        match overlap {
            Some((short, masked)) => self.overlapping_end(short, masked)?,
            None => self.remainder()?,
        }
        if needs_end {
            self.b.jump(Code::Jmp_rel32_64, done);
            self.b.bind(nothing);
            self.each_carried(|carried, b| carried.no_remainder(b));
        }
        self.b.bind(done);
        if let Some(runs) = self.shape.source {
            self.leave_gather(runs);
        }
        self.finish();
        let frame = self.keep_frame();
        self.b.items.push(CodeItem::ClearUpper);
        let mut inst = iced_x86::Instruction::default();
        inst.set_code(Code::Retnq);
        self.b.raw(inst);
        if let Some((_, masked)) = overlap {
            // Out of the way of those that are done without it.
            self.b.bind(masked);
            self.remainder()?;
            self.b.jump(Code::Jmp_rel32_64, done);
        }
        debug_assert_eq!(self.b.frame(), frame, "a slot that no room was made for");
        Ok(())
    }

    /// Makes room on the stack at the beginning if any is used, and gives it back here. How many bytes.
    fn keep_frame(&mut self) -> i32 {
        let bytes = self.b.frame();
        if bytes > 0 {
            let rsp = Register::RSP;
            self.b.items.insert(0, CodeItem::Scalar(asm::ri(Code::Sub_rm64_imm32, rsp, bytes)));
            self.b.raw(asm::ri(Code::Add_rm64_imm32, rsp, bytes));
        }
        bytes
    }

    /// All that the loops carry, stage after stage.
    fn carried(&self) -> impl Iterator<Item = &dyn LoopCarried> {
        self.stages.iter().flat_map(|stage| &stage.carried).map(|(_, carried)| &**carried)
    }

    fn each_carried(&mut self, f: impl Fn(&dyn LoopCarried, &mut Builder)) {
        for (_, carried) in self.stages.iter().flat_map(|stage| &stage.carried) {
            f(&**carried, &mut self.b);
        }
    }

    /// One whole vector: number `copy` of the `distance` that an iteration takes.
    fn vector(&mut self, copy: usize, distance: usize) -> Result<(), String> {
        self.b.clear_cse();
        let disp = (copy * self.b.vector_bytes()) as i32;
        let mut chunk = match self.shape.source {
            Some(runs) => self.gather(runs, disp),
            None => self.b.load(at(SRC, disp)),
        };
        let unchanged_from = self.unchanged_from();
        for index in 0..unchanged_from {
            chunk = self.stage(index, chunk, disp, LoopPart::Whole { copy, distance })?;
        }
        self.store_vector(disp, chunk);
        for index in unchanged_from..self.stages.len() {
            chunk = self.stage(index, chunk, disp, LoopPart::Whole { copy, distance })?;
        }
        Ok(())
    }

    fn store_vector(&mut self, disp: i32, chunk: VReg) {
        match self.shape.stores {
            Stores::None => {}
            Stores::Striped(runs) => self.scatter(runs, disp, chunk),
            Stores::Plain | Stores::Streamable => {
                self.b.store(indexed(SRC, DST, 1, disp), chunk);
                self.b.items.push(CodeItem::Streamed);
            }
        }
    }

    /// The stages in front of which a vector is stored: all have been, but what is read back is stored as
    /// soon as nothing changes it any more, so that it is there when it is read.
    fn unchanged_from(&self) -> usize {
        let changes = self.stages.iter().rposition(|stage| stage.plan.pipe.out.is_some());
        let from = changes.map_or(0, |index| index + 1);
        let mut behind = self.stages[from..].iter().flat_map(|stage| &stage.carried);
        if behind.any(|(_, carried)| carried.traits().reads_back) { from } else { self.stages.len() }
    }

    /// Applies a stage; gives the bytes after it.
    fn stage(&mut self, index: usize, chunk: VReg, disp: i32, part: LoopPart) -> Result<VReg, String> {
        // Of a stage that computes nothing, too.
        self.b.check_size()?;
        let stage = &mut self.stages[index];
        let (states, given) = (std::mem::take(&mut stage.states), stage.given.clone());
        let mut body = BodyLowering::new(&mut self.b, stage.plan, chunk, disp, &states, given);
        stage.step(Due::Before, &mut body, part)?;
        body.run(false)?;
        stage.step(Due::Between, &mut body, part)?;
        body.run(true)?;
        stage.step(Due::After, &mut body, part)?;
        let chunk = match stage.plan.pipe.out {
            Some(out) => body.out(out)?,
            None => chunk,
        };
        stage.states = states;
        Ok(chunk)
    }

    /// Combines what the lanes hold with the imported states and writes these back.
    fn finish(&mut self) {
        let all = self.stages.iter().flat_map(|stage| &stage.carried).map(|(_, carried)| &**carried);
        for first in [true, false] {
            let due = |carried: &&dyn LoopCarried| {
                carried.traits().ends_first == first && carried.ones_sum().is_none()
            };
            for carried in all.clone().filter(due) {
                self.b.clear_cse();
                carried.finish(&mut self.b);
            }
        }
        for sums in all.filter_map(LoopCarried::ones_sum).collect::<Vec<_>>().chunks(2) {
            self.b.clear_cse();
            reduction::ones_sums(&mut self.b, sums);
        }
    }
}
