//! The function around the loop bodies.
//!
//! ```text
//! fn(states: rdi, pos: rsi, src: rdx, dst: rcx, len: r8)
//!     constants, accumulators
//!     whole vectors                     `unroll` a turn, an accumulator a slot; see `turns`
//!     the rest, masked                  0 < rest < vector; each stage's tail rule
//!     combine, import, export
//! ```
//!
//! rax and r9 are scratch, r10 is the end of the source, r11 the rest; rcx becomes `dst - src` (see `scatter` and `gather` for striped buffers). A leaf: no stack but the
//! red zone, no callee-saved register.

mod gather;
mod outline;
mod prepare;
mod rest;
mod runs;
mod scatter;
#[cfg(test)]
mod tests;
mod turns;

use crate::backend::MAX_CALL_BYTES;
use crate::ir::{Op, State, StateId, Ty, Value};
use iced_x86::{Code, Register};

use crate::backend::native::affine::Affine;
use crate::backend::native::asm::{self, Image};
use crate::backend::native::carried::Carried;
use crate::backend::native::crc::CrcLanes;
use crate::backend::native::horner::Horner;
use crate::backend::native::isa::{Features, Isa};
use crate::backend::native::lanes::Lane;
use crate::backend::native::lower::{Body, StateVal, Val};
use crate::backend::native::onward::Onward;
use crate::backend::native::reduce::{self, Accumulator, Masking};
use crate::backend::native::regalloc::{self, Failure};
use crate::backend::native::strategy::{Fold, Keeping, Study};
use crate::backend::native::sums::{self, Sums};
use crate::backend::native::vcode::{Builder, Item, Kind, Mem, Opd, VReg};
pub(super) use outline::outline;
pub(super) use rest::{Round, round_rest};
pub(super) use runs::Runs;

pub(in crate::backend::native) const STATES: Register = Register::RDI;
pub(in crate::backend::native) const POS: Register = Register::RSI;
const SRC: Register = Register::RDX;
const DST: Register = Register::RCX;
pub(in crate::backend::native) const LEN: Register = Register::R8;
const LIMIT: Register = Register::R9;
const END: Register = Register::R10;
const REST: Register = Register::R11;

/// What the function does with the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stores {
    /// Nothing is written.
    None,
    /// Ordinary stores.
    Plain,
    /// Ordinary stores to a striped buffer.
    Striped(Runs),
}

/// How the function is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) isa: Isa,
    pub(super) features: Features,
    /// The striped buffer that is read, if it is one.
    pub(super) source: Option<Runs>,
    pub(super) stores: Stores,
    /// Vectors in one turn of the main loop.
    pub(super) unroll: usize,
}

/// Most bytes of a call, whatever the states.
const LONGEST_CALL: usize = 1 << 25;

const _: () = assert!(LONGEST_CALL <= MAX_CALL_BYTES);

/// Bytes of a call in which no partial result overflows: a multiple of every vector.
pub(super) fn longest_call(studies: &[Study<'_>], isa: Isa) -> usize {
    let longest = |study: &Study<'_>| {
        let word = Lane::of_bytes(study.pipe.word_bytes());
        let of_state = move |(state, keeping): (&State, &Keeping)| match keeping {
            Keeping::Sum { .. } => Some(sums::longest_call(word, isa.vector_bytes())),
            Keeping::Reduction(fold, addends) => reduce::longest_call(word, state.ty, *fold, addends.len()),
            _ => None,
        };
        study.pipe.states.iter().zip(&study.keeping).filter_map(of_state).min()
    };
    studies.iter().filter_map(longest).min().unwrap_or(LONGEST_CALL).min(LONGEST_CALL)
}

/// Whether the main loop has so little to do that four accumulators a state do not hide how long a dot product takes (six
/// cycles): eight do.
pub(super) fn waits_for_dots(studies: &[Study<'_>], isa: Isa, features: Features) -> bool {
    if isa != Isa::Avx512 || !features.has(Features::VNNI) {
        return false;
    }
    let (mut dots, mut products, mut others) = (0, 0, 0);
    for study in studies {
        for (state, keeping) in study.pipe.states.iter().zip(&study.keeping) {
            match keeping {
                Keeping::Constant => {}
                Keeping::Reduction(Fold::Addc, addends) if state.ty == Ty::U16 => dots += 2 * addends.len(),
                // Multiplications take longer still.
                Keeping::Hash { .. } if state.ty.bytes() <= study.pipe.word_bytes() => products += 1,
                _ => return false,
            }
        }
        let computes = |value: Value| {
            let free = matches!(study.pipe.body.inst(value).op, Op::In | Op::State(_) | Op::Param(_));
            let index = value.0 as usize;
            !free && study.needed[index] && study.constants[index].is_none()
        };
        others += study.pipe.body.iter().filter(|(value, _)| computes(*value)).count();
        others += usize::from(study.pipe.out.is_some() && study.pipe.input != study.pipe.output);
    }
    match (dots, products, others) {
        // Latency is all there is to a hash; a sum alone is no faster for more accumulators, and ends later.
        (0, 1, 0) => true,
        // Two ports: four operations of one vector keep them busy for long enough.
        _ => dots + products > 0 && others > 0 && dots + products + others <= 3,
    }
}

/// Code for stages in stream order; `Err` with a phrase if they cannot be done.
pub(super) fn function(studies: &[Study<'_>], shape: Shape) -> Result<Image, FrameError> {
    let mut frame = Frame::new(studies, shape);
    frame.build().map_err(FrameError::Refused)?;
    regalloc::assemble(&frame.b).map_err(|failure| match failure {
        Failure::OutOfRegisters => FrameError::OutOfRegisters,
        Failure::Encoding(what) => FrameError::Refused(what),
    })
}

/// The number of machine instructions that stages come to with one vector a turn, if they can be done.
pub(super) fn size(studies: &[Study<'_>], isa: Isa, features: Features) -> Option<usize> {
    let mut frame =
        Frame::new(studies, Shape { isa, features, source: None, stores: Stores::Plain, unroll: 1 });
    frame.build().ok()?;
    regalloc::assemble(&frame.b).ok()?;
    Some(frame.b.items.len())
}

/// Why there is no function.
#[derive(Debug)]
pub(super) enum FrameError {
    /// Worth another try with less unrolling.
    OutOfRegisters,
    /// Not with this backend.
    Refused(String),
}

struct StageCode<'a> {
    study: &'a Study<'a>,
    /// Index of the first state in the block of states.
    first_state: usize,
    states: Vec<StateVal>,
    accumulators: Vec<Option<Accumulator>>,
    /// Of the states that are CRCs: the state, the value whose bytes count, the registers.
    crcs: Vec<(usize, Value, CrcLanes)>,
    /// Of the states that are polynomial hashes: the state, what a word adds, the registers.
    hashes: Vec<(usize, Value, Horner)>,
    /// Of the states that are affine together: what a word adds to each, the registers.
    systems: Vec<(Vec<Value>, Affine)>,
    /// Of the states that are carried from word to word: the state, the register.
    carried: Vec<(usize, Carried)>,
    /// Of the states that follow from themselves alone: the state, the register.
    onward: Vec<(usize, Onward)>,
    /// Values of the body that are there before the loop: positional patterns.
    given: Vec<Option<Val>>,
    /// Of the states that are sums: the state, the state of the sums of sums, the value, the registers.
    sums: Vec<(usize, usize, Value, Sums)>,
}

struct Frame<'a> {
    b: Builder,
    stages: Vec<StageCode<'a>>,
    shape: Shape,
    reads_pos: bool,
}

/// Which part of the stream a vector is.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// A whole vector of a loop whose turn has `distance` of them.
    Whole { distance: usize },
    /// The last one, in part.
    Rest { masking: Option<Masking>, round: Round },
}

impl<'a> Frame<'a> {
    fn new(studies: &'a [Study<'a>], shape: Shape) -> Frame<'a> {
        let mut stages = Vec::with_capacity(studies.len());
        let mut first_state = 0;
        for study in studies {
            stages.push(StageCode {
                study,
                first_state,
                states: Vec::new(),
                accumulators: Vec::new(),
                crcs: Vec::new(),
                hashes: Vec::new(),
                systems: Vec::new(),
                sums: Vec::new(),
                carried: Vec::new(),
                onward: Vec::new(),
                given: Vec::new(),
            });
            first_state += study.pipe.states.len();
        }
        let reads_pos = stages.iter().any(|stage| stage.study.reads_pos());
        Frame { b: Builder::new(shape.isa, shape.features), stages, shape, reads_pos }
    }

    fn build(&mut self) -> Result<(), String> {
        let (rest, done) = (self.b.new_label(), self.b.new_label());
        match self.shape.stores {
            Stores::None => {}
            Stores::Plain => self.b.raw(asm::rr(Code::Sub_r64_rm64, DST, SRC)),
            Stores::Striped(runs) => self.enter_scatter(runs),
        }
        self.b.raw(asm::rm(Code::Lea_r64_m, END, SRC, LEN, 0));
        if let Some(runs) = self.shape.source {
            self.enter_gather(runs);
        }
        self.b.items.push(Item::LoadConstants);
        self.prepare()?;
        let short = self.rest_takes_whole().then(|| self.b.new_label());
        self.turns(rest, short)?;
        self.b.bind(rest);
        self.b.raw(asm::rr(Code::Mov_r64_rm64, REST, END));
        self.b.raw(asm::rr(Code::Sub_r64_rm64, REST, SRC));
        // CRCs bring their lanes together with the rest, or without one.
        let has_crc = self.stages.iter().any(|stage| !stage.crcs.is_empty());
        let nothing = if has_crc { self.b.new_label() } else { done };
        self.b.jump(Code::Je_rel32_64, nothing);
        if let Some(short) = short {
            self.b.bind(short);
        }
        self.rest()?;
        if has_crc {
            self.b.jump(Code::Jmp_rel32_64, done);
            self.b.bind(nothing);
            self.each_crc(CrcLanes::add_nothing);
        }
        self.b.bind(done);
        if let Some(runs) = self.shape.source {
            self.leave_gather(runs);
        }
        self.finish()?;
        self.b.items.push(Item::ClearUpper);
        let mut inst = iced_x86::Instruction::default();
        inst.set_code(Code::Retnq);
        self.b.raw(inst);
        Ok(())
    }

    /// Whether what is left may be a whole vector: masks of 64 bits.
    fn rest_takes_whole(&self) -> bool {
        self.shape.isa == Isa::Avx512 && !self.is_ordered()
    }

    fn each_crc(&mut self, f: impl Fn(&CrcLanes, &mut Builder)) {
        for (_, _, crc) in self.stages.iter().flat_map(|stage| &stage.crcs) {
            f(crc, &mut self.b);
        }
    }

    /// One whole vector; `distance` vectors make a turn.
    fn slot(&mut self, slot: usize, disp: i32, distance: usize) -> Result<(), String> {
        self.b.forget();
        let full = self.b.full();
        let from = Mem::Base { base: SRC, index: Register::None, scale: 1, disp };
        let mut load = |code| self.b.fresh(Kind::Vector, full, code, &[Opd::Mem(from)]);
        let mut chunk = match (self.shape.source, self.shape.isa) {
            (Some(runs), _) => self.gather(runs, disp),
            (None, Isa::Avx512) => load(Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512),
            (None, Isa::Avx2) => load(Code::VEX_Vmovdqu_ymm_ymmm256),
        };
        for index in 0..self.stages.len() {
            chunk = self.stage(index, slot, disp, chunk, Part::Whole { distance })?;
        }
        let code = match (self.shape.stores, self.shape.isa) {
            (Stores::None, _) => return Ok(()),
            (Stores::Striped(runs), _) => {
                self.scatter(runs, disp, chunk);
                return Ok(());
            }
            (Stores::Plain, Isa::Avx512) => Code::EVEX_Vmovdqu64_zmmm512_k1z_zmm,
            (Stores::Plain, Isa::Avx2) => Code::VEX_Vmovdqu_ymmm256_ymm,
        };
        let to = Mem::Base { base: SRC, index: DST, scale: 1, disp };
        self.b.push(code, &[Opd::Mem(to), Opd::Reg(chunk, full)], None, None, None, false);
        self.b.items.push(Item::Streamed);
        Ok(())
    }

    /// Applies a stage; gives the bytes after it.
    fn stage(
        &mut self,
        index: usize,
        slot: usize,
        disp: i32,
        chunk: VReg,
        part: Part,
    ) -> Result<VReg, String> {
        // Of a stage that computes nothing, too.
        self.b.check_size()?;
        let masking = match part {
            Part::Whole { .. } => None,
            Part::Rest { masking, .. } => masking,
        };
        let stage = &mut self.stages[index];
        let given = stage.given.clone();
        let mut body = Body::new(&mut self.b, stage.study, chunk, disp, &stage.states, given);
        for (state, onward) in &stage.onward {
            let states = onward.states(body.b, matches!(part, Part::Whole { .. }));
            body.give_state(StateId(*state as u32), states);
        }
        body.run(false)?;
        for (state, carried) in &stage.carried {
            let id = StateId(*state as u32);
            match stage.study.keeping[*state] {
                Keeping::Delay(value) => {
                    body.compute(value)?;
                    let values = body.carried(value)?;
                    let before = carried.before(body.b, values);
                    body.give_carried(id, before);
                    match part {
                        Part::Whole { .. } => carried.advance(body.b, values),
                        Part::Rest { round, .. } => {
                            round_rest(body.b, round);
                            carried.advance_rest(body.b, values);
                        }
                    }
                }
                Keeping::Scan(_, value) => {
                    body.compute(value)?;
                    let words = body.int(value)?[0];
                    let old = carried.copy(body.b);
                    let running = carried.scan(body.b, words, masking.map(|masking| masking.active));
                    let before = old.before(body.b, running);
                    body.give_state(id, Val::Int(vec![before]));
                    body.give(stage.study.pipe.next[*state], running);
                }
                _ => {}
            }
        }
        body.run(true)?;
        for (state, accumulator) in stage.accumulators.iter_mut().enumerate() {
            let (Some(accumulator), Keeping::Reduction(_, addends)) =
                (accumulator, &stage.study.keeping[state])
            else {
                continue;
            };
            for addend in addends {
                accumulator.add(&mut body, slot, addend, masking)?;
                body.b.check_size()?;
            }
        }
        for (_, value, crc) in &stage.crcs {
            let values = body.int(*value)?;
            match part {
                Part::Whole { distance } => crc.add(body.b, slot, distance, &values),
                Part::Rest { round, .. } => crc.add_rest(body.b, &values, |b| round_rest(b, round)),
            }
        }
        for (_, value, hash) in &stage.hashes {
            let words = body.int(*value)?;
            match part {
                Part::Whole { distance } => hash.add(body.b, slot, distance, &words),
                Part::Rest { round, .. } => {
                    round_rest(body.b, round);
                    hash.add_rest(body.b, &words);
                }
            }
        }
        for (values, system) in &stage.systems {
            let words = values.iter().map(|value| body.int(*value)).collect::<Result<Vec<_>, _>>()?;
            match part {
                Part::Whole { distance } => system.add(body.b, slot, distance, &words),
                Part::Rest { round, .. } => {
                    round_rest(body.b, round);
                    system.add_rest(body.b, &words);
                }
            }
            body.b.check_size()?;
        }
        for (_, _, value, sums) in &stage.sums {
            let words = body.int(*value)?[0];
            match part {
                Part::Whole { distance } => sums.add(body.b, slot, distance, words),
                Part::Rest { round, .. } => {
                    round_rest(body.b, round);
                    sums.add_rest(body.b, words);
                }
            }
        }
        match stage.study.pipe.out {
            Some(out) => body.out(out),
            None => Ok(chunk),
        }
    }

    /// Combines the accumulators with the imported states and writes these back.
    fn finish(&mut self) -> Result<(), String> {
        // First, since the others may use the register that says how long the rest is.
        for onward in self.stages.iter().flat_map(|stage| &stage.onward) {
            self.b.forget();
            onward.1.finish(&mut self.b);
        }
        for stage in &mut self.stages {
            for (index, accumulator) in stage.accumulators.iter().enumerate() {
                let Some(accumulator) = accumulator else { continue };
                self.b.forget();
                accumulator.finish(&mut self.b, 8 * (stage.first_state + index) as i32);
            }
            for (index, carried) in &stage.carried {
                self.b.forget();
                carried.finish(&mut self.b, 8 * (stage.first_state + index) as i32);
            }
            for (first, second, _, sums) in &stage.sums {
                self.b.forget();
                let at = |index: &usize| 8 * (stage.first_state + index) as i32;
                sums.finish(&mut self.b, at(first), at(second));
            }
            for (_, _, hash) in &stage.hashes {
                self.b.forget();
                hash.finish(&mut self.b);
            }
            for (_, system) in &stage.systems {
                self.b.forget();
                system.finish(&mut self.b);
            }
            for (_, _, crc) in &stage.crcs {
                self.b.forget();
                crc.finish(&mut self.b);
            }
        }
        Ok(())
    }
}
