//! The function around the loop bodies.
//!
//! ```text
//! fn(states: rdi, pos: rsi, src: rdx, dst: rcx, len: r8)
//!     constants, accumulators
//!     loop over `unroll` vectors        an accumulator a slot
//!     loop over one vector
//!     the rest, masked                  0 < rest < vector; each stage's tail rule
//!     combine, import, export
//! ```
//!
//! rax and r9 are scratch, r10 is the end of the source, r11 the rest; rcx becomes `dst - src`. A leaf: no stack but the
//! red zone, no callee-saved register.

use crate::backend::MAX_CALL_BYTES;
use crate::ir::{Pipe, StateId, Tail, Ty, Value};
use iced_x86::{Code, Register};

use super::asm::{self, Image};
use super::carried::Carried;
use super::crc::CrcLanes;
use super::isa::{Features, Isa};
use super::lanes::Lane;
use super::lower::{Body, StateVal, Val};
use super::reduce::{Accumulator, Masking};
use super::regalloc::{self, Failure};
use super::strategy::{Keeping, Study};
use super::sums::{self, Sums};
use super::vcode::{Builder, Item, Kind, Mem, Opd, VReg, Width};

pub(super) const STATES: Register = Register::RDI;
pub(super) const POS: Register = Register::RSI;
const SRC: Register = Register::RDX;
const DST: Register = Register::RCX;
const LEN: Register = Register::R8;
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
    /// Stores around the caches; the destination is aligned to a vector.
    Streaming,
}

/// How the function is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) isa: Isa,
    pub(super) features: Features,
    pub(super) stores: Stores,
    /// Vectors in one turn of the main loop.
    pub(super) unroll: usize,
}

/// Most bytes of a call: dot products add up to 510 to 32-bit lanes for each vector.
const LONGEST_CALL: usize = 1 << 27;

/// Most machine instructions of a function before registers: a compile must not take seconds whatever the program.
const MAX_ITEMS: usize = 200_000;

const _: () = assert!((LONGEST_CALL as u64 / 32) * 510 <= u32::MAX as u64 && LONGEST_CALL <= MAX_CALL_BYTES);

/// Bytes of a call in which no partial result overflows: a multiple of every vector.
pub(super) fn longest_call(stages: &[&Pipe]) -> usize {
    let longest = |pipe: &&Pipe| {
        let study = Study::of(pipe).ok()?;
        let sums = study.keeping.iter().any(|keeping| matches!(keeping, Keeping::Sum { .. }));
        sums.then(|| sums::longest_call(Lane::of_bytes(pipe.word_bytes())))
    };
    stages.iter().filter_map(longest).min().unwrap_or(LONGEST_CALL)
}

/// Code for stages in stream order; `Err` with a phrase if they cannot be done.
pub(super) fn function(stages: &[&Pipe], shape: Shape) -> Result<Image, FrameError> {
    let mut frame = Frame::new(stages, shape).map_err(FrameError::Refused)?;
    frame.build().map_err(FrameError::Refused)?;
    regalloc::assemble(&frame.b).map_err(|failure| match failure {
        Failure::OutOfRegisters => FrameError::OutOfRegisters,
        Failure::Encoding(what) => FrameError::Refused(what),
    })
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
    study: Study<'a>,
    /// Index of the first state in the block of states.
    first_state: usize,
    states: Vec<StateVal>,
    accumulators: Vec<Option<Accumulator>>,
    /// Of the states that are CRCs: the state, the value whose bytes count, the registers.
    crcs: Vec<(usize, Value, CrcLanes)>,
    /// Of the states that are carried from word to word: the state, the register.
    carried: Vec<(usize, Carried)>,
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

/// How many of the rest's bytes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Whole words of that many bytes.
    Down(usize),
    /// Started words.
    Up(usize),
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
    fn new(pipes: &[&'a Pipe], shape: Shape) -> Result<Frame<'a>, String> {
        let mut stages = Vec::with_capacity(pipes.len());
        let mut first_state = 0;
        for pipe in pipes {
            let study = Study::of(pipe)?;
            stages.push(StageCode {
                study,
                first_state,
                states: Vec::new(),
                accumulators: Vec::new(),
                crcs: Vec::new(),
                sums: Vec::new(),
                carried: Vec::new(),
                given: Vec::new(),
            });
            first_state += pipe.states.len();
        }
        let reads_pos = stages.iter().any(|stage| stage.study.reads_pos());
        Ok(Frame { b: Builder::new(shape.isa, shape.features), stages, shape, reads_pos })
    }

    fn build(&mut self) -> Result<(), String> {
        let vector = self.b.vector_bytes() as i32;
        let unroll = self.shape.unroll;
        let turn = vector * unroll as i32;
        let (single, rest, done) = (self.b.new_label(), self.b.new_label(), self.b.new_label());
        if self.shape.stores != Stores::None {
            self.b.raw(asm::rr(Code::Sub_r64_rm64, DST, SRC));
        }
        self.b.raw(asm::rm(Code::Lea_r64_m, END, SRC, LEN, 0));
        self.b.items.push(Item::LoadConstants);
        self.prepare()?;
        if unroll > 1 {
            self.b.raw(asm::ri(Code::Cmp_rm64_imm32, LEN, turn));
            self.b.jump(Code::Jb_rel32_64, single);
            self.b.raw(asm::rm(Code::Lea_r64_m, LIMIT, END, Register::None, -turn));
            self.stages.iter().flat_map(|stage| &stage.crcs).for_each(|(_, _, crc)| crc.enter(&mut self.b));
            self.b.items.push(Item::Weight(64));
            self.b.items.push(Item::Align);
            let head = self.b.new_label();
            self.b.bind(head);
            for slot in 0..unroll {
                self.slot(slot, slot as i32 * vector, unroll)?;
            }
            self.advance(turn);
            self.b.raw(asm::rr(Code::Cmp_r64_rm64, SRC, LIMIT));
            self.b.jump(Code::Jbe_rel32_64, head);
            self.b.items.push(Item::Weight(1));
            self.b.forget();
            self.stages.iter().flat_map(|stage| &stage.crcs).for_each(|(_, _, crc)| crc.leave(&mut self.b));
            self.stages
                .iter()
                .flat_map(|stage| &stage.sums)
                .for_each(|(_, _, _, sums)| sums.leave(&mut self.b));
        }
        self.b.items.push(Item::Weight(if unroll > 1 { 4 } else { 64 }));
        if unroll == 1 {
            self.b.items.push(Item::Align);
        }
        self.b.bind(single);
        self.b.raw(asm::rm(Code::Lea_r64_m, Register::RAX, SRC, Register::None, vector));
        self.b.raw(asm::rr(Code::Cmp_r64_rm64, Register::RAX, END));
        self.b.jump(Code::Ja_rel32_64, rest);
        self.slot(0, 0, 1)?;
        self.advance(vector);
        self.b.jump(Code::Jmp_rel32_64, single);
        self.b.items.push(Item::Weight(1));
        self.b.bind(rest);
        self.b.raw(asm::rr(Code::Mov_r64_rm64, REST, END));
        self.b.raw(asm::rr(Code::Sub_r64_rm64, REST, SRC));
        self.b.jump(Code::Je_rel32_64, done);
        self.rest()?;
        self.b.bind(done);
        self.finish()?;
        if self.shape.stores == Stores::Streaming {
            let mut fence = iced_x86::Instruction::default();
            fence.set_code(Code::Sfence);
            self.b.raw(fence);
        }
        let mut inst = iced_x86::Instruction::default();
        inst.set_code(Code::VEX_Vzeroupper);
        self.b.raw(inst);
        inst.set_code(Code::Retnq);
        self.b.raw(inst);
        Ok(())
    }

    fn advance(&mut self, bytes: i32) {
        self.b.raw(asm::ri(Code::Add_rm64_imm32, SRC, bytes));
        if self.reads_pos {
            self.b.raw(asm::ri(Code::Add_rm64_imm32, POS, bytes));
        }
    }

    /// Registers for what is carried around the loops.
    fn prepare(&mut self) -> Result<(), String> {
        for stage in &mut self.stages {
            let pipe = stage.study.pipe;
            let word = Lane::of_bytes(pipe.word_bytes());
            for (index, state) in pipe.states.iter().enumerate() {
                let slot = 8 * (stage.first_state + index) as i32;
                match &stage.study.keeping[index] {
                    Keeping::Constant => {
                        let value = constant_state(&mut self.b, state.ty, word, slot);
                        stage.states.push(StateVal::Value(value));
                        stage.accumulators.push(None);
                    }
                    Keeping::Reduction(fold, addends) => {
                        stage.states.push(StateVal::None);
                        stage.accumulators.push(Some(Accumulator::new(
                            &mut self.b,
                            &stage.study,
                            state.ty,
                            *fold,
                            addends,
                            self.shape.unroll,
                        )));
                    }
                    Keeping::Crc(crc, value) => {
                        let ty = pipe.body.ty(*value);
                        if ty.bytes() != pipe.word_bytes() {
                            return Err(format!(
                                "a CRC of {ty} values in words of {} bytes",
                                pipe.word_bytes()
                            ));
                        }
                        let lanes = CrcLanes::new(&mut self.b, *crc, self.shape.unroll, slot)?;
                        stage.crcs.push((index, *value, lanes));
                        stage.states.push(StateVal::None);
                        stage.accumulators.push(None);
                    }
                    Keeping::Sum { modulus, word: value, second } => {
                        let sums = Sums::new(
                            &mut self.b,
                            word,
                            state.ty,
                            *modulus,
                            second.is_some(),
                            pipe.tail,
                            self.shape.unroll,
                        );
                        let other = second.map_or(index, |second| second.0 as usize);
                        stage.sums.push((index, other, *value, sums));
                        stage.states.push(StateVal::None);
                        stage.accumulators.push(None);
                    }
                    Keeping::SumOfSums => {
                        stage.states.push(StateVal::None);
                        stage.accumulators.push(None);
                    }
                    Keeping::Delay(_) | Keeping::Scan(..) => {
                        let fits = state.ty.is_integer() && state.ty.bytes() <= pipe.word_bytes();
                        if !fits {
                            return Err(format!("a state of type {} carried from word to word", state.ty));
                        }
                        stage.carried.push((index, Carried::new(&mut self.b, word, state.ty, slot)));
                        stage.states.push(StateVal::None);
                        stage.accumulators.push(None);
                    }
                }
            }
            for (value, inst) in pipe.body.iter() {
                let index = value.0 as usize;
                let period = stage.study.periods[index].filter(|_| stage.study.needed[index]);
                // Each pattern keeps a register; with too many of them there is no code, so why evaluate on.
                let pinned = self.b.kinds.iter().filter(|kind| **kind == Kind::PinnedVector).count();
                if period.is_some() && pinned >= self.b.isa.registers() {
                    return Err("more positional patterns than registers".to_owned());
                }
                let pattern = period.map(|period| pattern(&mut self.b, &stage.study, value, inst.ty, period));
                stage.given.push(pattern);
            }
        }
        Ok(())
    }

    /// One whole vector; `distance` vectors make a turn.
    fn slot(&mut self, slot: usize, disp: i32, distance: usize) -> Result<(), String> {
        self.b.forget();
        let full = self.b.full();
        let code = match self.shape.isa {
            Isa::Avx512 => Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512,
            Isa::Avx2 => Code::VEX_Vmovdqu_ymm_ymmm256,
        };
        let from = Mem::Base { base: SRC, index: Register::None, scale: 1, disp };
        let mut chunk = self.b.fresh(Kind::Vector, full, code, &[Opd::Mem(from)]);
        for index in 0..self.stages.len() {
            chunk = self.stage(index, slot, disp, chunk, Part::Whole { distance })?;
        }
        let code = match (self.shape.stores, self.shape.isa) {
            (Stores::None, _) => return Ok(()),
            (Stores::Plain, Isa::Avx512) => Code::EVEX_Vmovdqu64_zmmm512_k1z_zmm,
            (Stores::Plain, Isa::Avx2) => Code::VEX_Vmovdqu_ymmm256_ymm,
            (Stores::Streaming, Isa::Avx512) => Code::EVEX_Vmovntdq_m512_zmm,
            (Stores::Streaming, Isa::Avx2) => Code::VEX_Vmovntdq_m256_ymm,
        };
        let to = Mem::Base { base: SRC, index: DST, scale: 1, disp };
        self.b.push(code, &[Opd::Mem(to), Opd::Reg(chunk, full)], None, None, None, false);
        Ok(())
    }

    /// What is left: less than a vector.
    fn rest(&mut self) -> Result<(), String> {
        self.b.forget();
        let mut chunk = self.load_rest();
        let mut clean = true;
        for index in 0..self.stages.len() {
            let pipe = self.stages[index].study.pipe;
            let word = pipe.word_bytes();
            if word > 1 && !clean && matches!(pipe.tail, Tail::Zero | Tail::Partial) {
                // Earlier stages may have left anything behind the end.
                let real = self.counting(Round::Down(1), Lane::B);
                let zero = self.b.splat(Lane::B, 0);
                chunk = self.b.select(Lane::B, real, chunk, zero);
                clean = true;
            }
            let round = match pipe.tail {
                Tail::Zero | Tail::Partial => Round::Up(word),
                Tail::Pass | Tail::Reject => Round::Down(word),
            };
            let stage = &self.stages[index];
            let scans = stage.study.keeping.iter().any(|keeping| matches!(keeping, Keeping::Scan(..)));
            let reduces = scans || stage.accumulators.iter().any(Option::is_some);
            let active = reduces.then(|| self.counting(round, Lane::of_bytes(word)));
            let zero_beyond = clean && pipe.tail != Tail::Pass;
            let before = chunk;
            let masking = active.map(|active| Masking { active, zero_beyond });
            chunk = self.stage(index, 0, 0, chunk, Part::Rest { masking, round })?;
            if pipe.out.is_some() {
                clean = false;
                if word > 1 && matches!(pipe.tail, Tail::Zero | Tail::Pass) {
                    let whole = self.counting(Round::Down(word), Lane::B);
                    chunk = self.b.select(Lane::B, whole, chunk, before);
                }
            }
        }
        if self.shape.stores != Stores::None {
            self.store_rest(chunk);
        }
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
        if self.b.items.len() > MAX_ITEMS {
            return Err(format!("more than {MAX_ITEMS} machine instructions"));
        }
        let masking = match part {
            Part::Whole { .. } => None,
            Part::Rest { masking, .. } => masking,
        };
        let stage = &mut self.stages[index];
        let given = stage.given.clone();
        let mut body = Body::new(&mut self.b, &stage.study, chunk, disp, &stage.states, given);
        body.run(false)?;
        for (state, carried) in &stage.carried {
            let id = StateId(*state as u32);
            match stage.study.keeping[*state] {
                Keeping::Delay(value) => {
                    let values = body.int(value)?[0];
                    let before = carried.before(body.b, values);
                    body.give_state(id, before);
                    match part {
                        Part::Whole { .. } => carried.advance(body.b, values),
                        Part::Rest { round, .. } => {
                            round_rest(body.b, round);
                            carried.advance_rest(body.b, values);
                        }
                    }
                }
                Keeping::Scan(fold, value) => {
                    let mut words = body.int(value)?[0];
                    if let Some(masking) = masking {
                        let zero = body.b.splat(Lane::B, 0);
                        let lane = body.word();
                        words = body.b.select(lane, masking.active, words, zero);
                    }
                    let old = carried.copy(body.b);
                    let running = carried.scan(body.b, fold, words);
                    let before = old.before(body.b, running);
                    body.give_state(id, before);
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
            }
        }
        for (state, value, crc) in &stage.crcs {
            let Keeping::Crc(kind, _) = stage.study.keeping[*state] else { continue };
            let mut bytes = body.int(*value)?[0];
            if !kind.reflected {
                // The most significant byte comes first.
                let word = body.word();
                bytes = body.b.bswap(word, bytes);
            }
            match part {
                Part::Whole { distance } => crc.add(body.b, slot, distance, bytes),
                Part::Rest { round, .. } => {
                    round_rest(body.b, round);
                    crc.add_rest(body.b, bytes);
                }
            }
        }
        for (_, _, value, sums) in &stage.sums {
            let words = body.int(*value)?[0];
            match part {
                Part::Whole { .. } => sums.add(body.b, slot, words),
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

    /// The condition, on lanes of `lane`, of the part of the rest that counts.
    fn counting(&mut self, round: Round, lane: Lane) -> VReg {
        let (rax, eax) = (Register::RAX, Register::EAX);
        round_rest(&mut self.b, round);
        match self.shape.isa {
            Isa::Avx512 => {
                let lane_shift = lane.bytes().trailing_zeros();
                if lane_shift > 0 {
                    self.b.raw(asm::ri(Code::Shr_rm32_imm8, eax, lane_shift as i32));
                }
                self.b.raw(asm::ri(Code::Mov_rm64_imm32, Register::R9, -1));
                self.b.raw(asm::rrr(Code::VEX_Bzhi_r64_rm64_r64, Register::R9, Register::R9, rax));
                self.b.fresh(Kind::Mask, Width::K, Code::VEX_Kmovq_kr_r64, &[Opd::Gpr(Register::R9)])
            }
            Isa::Avx2 => {
                self.b.raw(asm::r(Code::Neg_rm64, rax));
                let mut bytes = vec![0xff; 32];
                bytes.extend([0; 32]);
                let entry = self.b.table(bytes);
                let table = Opd::Mem(Mem::Pool { entry, disp: 32 });
                self.b.push(Code::Lea_r64_m, &[Opd::Gpr(Register::R9), table], None, None, None, false);
                let at = Mem::Base { base: Register::R9, index: rax, scale: 1, disp: 0 };
                self.b.fresh(Kind::Vector, Width::Y, Code::VEX_Vmovdqu_ymm_ymmm256, &[Opd::Mem(at)])
            }
        }
    }

    /// The rest of the source, zeros behind it.
    fn load_rest(&mut self) -> VReg {
        match self.shape.isa {
            Isa::Avx512 => {
                let real = self.counting(Round::Down(1), Lane::B);
                let from = Mem::Base { base: SRC, index: Register::None, scale: 1, disp: 0 };
                let code = Code::EVEX_Vmovdqu8_zmm_k1z_zmmm512;
                self.b.masked(code, real, None, &[Opd::Mem(from)])
            }
            Isa::Avx2 => {
                let zero = self.b.splat(Lane::B, 0);
                let buffer = Mem::Base { base: Register::RSP, index: Register::None, scale: 1, disp: -32 };
                let store = Code::VEX_Vmovdqu_ymmm256_ymm;
                self.b.push(store, &[Opd::Mem(buffer), Opd::Reg(zero, Width::Y)], None, None, None, false);
                self.copy_rest((SRC, Register::R9, 0), (Register::RSP, Register::R9, -32));
                let load = Code::VEX_Vmovdqu_ymm_ymmm256;
                self.b.fresh(Kind::Vector, Width::Y, load, &[Opd::Mem(buffer)])
            }
        }
    }

    fn store_rest(&mut self, chunk: VReg) {
        match self.shape.isa {
            Isa::Avx512 => {
                let real = self.counting(Round::Down(1), Lane::B);
                let to = Mem::Base { base: SRC, index: DST, scale: 1, disp: 0 };
                let operands = [Opd::Mem(to), Opd::Reg(chunk, Width::Z)];
                let code = Code::EVEX_Vmovdqu8_zmmm512_k1z_zmm;
                self.b.push(code, &operands, None, None, Some(real), false);
            }
            Isa::Avx2 => {
                let buffer = Mem::Base { base: Register::RSP, index: Register::None, scale: 1, disp: -32 };
                let store = Code::VEX_Vmovdqu_ymmm256_ymm;
                self.b.push(store, &[Opd::Mem(buffer), Opd::Reg(chunk, Width::Y)], None, None, None, false);
                // The destination's address, for once: the rest is the last thing that is written.
                self.b.raw(asm::rr(Code::Add_r64_rm64, DST, SRC));
                self.copy_rest((Register::RSP, Register::R9, -32), (DST, Register::R9, 0));
            }
        }
    }

    /// Copies r11 < 32 bytes: 16, 8, 4, 2 and 1, as its bits say. r9 counts.
    fn copy_rest(&mut self, from: (Register, Register, i32), to: (Register, Register, i32)) {
        self.b.raw(asm::rr(Code::Xor_r32_rm32, Register::R9D, Register::R9D));
        let steps = [
            (16, Code::VEX_Vmovdqu_xmm_xmmm128, Code::VEX_Vmovdqu_xmmm128_xmm, Register::XMM0),
            (8, Code::Mov_r64_rm64, Code::Mov_rm64_r64, Register::RAX),
            (4, Code::Mov_r32_rm32, Code::Mov_rm32_r32, Register::EAX),
            (2, Code::Movzx_r32_rm16, Code::Mov_rm16_r16, Register::EAX),
            (1, Code::Movzx_r32_rm8, Code::Mov_rm8_r8, Register::EAX),
        ];
        for (bytes, load, store, through) in steps {
            let skip = self.b.new_label();
            self.b.raw(asm::ri(Code::Test_rm32_imm32, Register::R11D, bytes));
            self.b.items.push(Item::Jump(Code::Je_rel32_64, skip));
            if bytes == 16 {
                // Through a register of the allocator's choice: others hold accumulators.
                let mem = Mem::Base { base: from.0, index: from.1, scale: 1, disp: from.2 };
                let value = self.b.fresh(Kind::Vector, Width::X, load, &[Opd::Mem(mem)]);
                let mem = Mem::Base { base: to.0, index: to.1, scale: 1, disp: to.2 };
                self.b.push(store, &[Opd::Mem(mem), Opd::Reg(value, Width::X)], None, None, None, false);
            } else {
                self.b.raw(asm::rm(load, through, from.0, from.1, from.2));
                let part = match bytes {
                    2 => Register::AX,
                    1 => Register::AL,
                    _ => through,
                };
                self.b.raw(asm::mr(store, to.0, to.1, to.2, part));
            }
            self.b.raw(asm::ri(Code::Add_rm64_imm8, Register::R9, bytes));
            self.b.items.push(Item::Bind(skip));
        }
    }

    /// Combines the accumulators with the imported states and writes these back.
    fn finish(&mut self) -> Result<(), String> {
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
            for (index, _, crc) in &stage.crcs {
                self.b.forget();
                crc.finish(&mut self.b, 8 * (stage.first_state + index) as i32);
            }
        }
        Ok(())
    }
}

/// Registers with what a positional value is for each word of a vector, from the place in its period at which the stretch
/// begins.
fn pattern(b: &mut Builder, study: &Study<'_>, value: Value, ty: Ty, period: usize) -> Val {
    let word = study.pipe.word_bytes();
    let lane = Lane::of_bytes(ty.bytes().max(word));
    let vector = b.vector_bytes();
    let numbers = study.pattern(value, (vector + period) / word);
    let bytes =
        numbers.iter().flat_map(|number| number.to_le_bytes().into_iter().take(lane.bytes())).collect();
    let entry = b.table(bytes);
    let (rax, r9) = (Register::RAX, Register::R9);
    b.raw(asm::rr(Code::Mov_r64_rm64, rax, POS));
    b.raw(asm::ri(Code::And_rm32_imm8, Register::EAX, period as i32 - 1));
    let scale = lane.bytes().trailing_zeros() as i32 - word.trailing_zeros() as i32;
    if scale > 0 {
        b.raw(asm::ri(Code::Shl_rm32_imm8, Register::EAX, scale));
    }
    b.push(Code::Lea_r64_m, &[Opd::Gpr(r9), Opd::Mem(Mem::Pool { entry, disp: 0 })], None, None, None, false);
    let code = match b.isa {
        Isa::Avx512 => Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512,
        Isa::Avx2 => Code::VEX_Vmovdqu_ymm_ymmm256,
    };
    let full = b.full();
    let parts = (0..lane.bytes() / word).map(|part| {
        let from = Mem::Base { base: r9, index: rax, scale: 1, disp: (part * vector) as i32 };
        let pinned = b.pinned_vector();
        b.push(code, &[Opd::Reg(pinned, full), Opd::Mem(from)], Some(pinned), None, None, false);
        pinned
    });
    Val::Int(parts.collect())
}

/// rax: how many bytes of the rest count.
fn round_rest(b: &mut Builder, round: Round) {
    let eax = Register::EAX;
    b.raw(asm::rr(Code::Mov_r32_rm32, eax, Register::R11D));
    let (word, up) = match round {
        Round::Down(word) => (word, false),
        Round::Up(word) => (word, true),
    };
    if word > 1 {
        if up {
            b.raw(asm::ri(Code::Add_rm32_imm8, eax, word as i32 - 1));
        }
        b.raw(asm::ri(Code::And_rm32_imm8, eax, -(word as i32)));
    }
}

/// A state that never changes, in every lane.
fn constant_state(b: &mut Builder, ty: Ty, word: Lane, slot: i32) -> Val {
    let from = Opd::Mem(Mem::Base { base: STATES, index: Register::None, scale: 1, disp: slot });
    let lane = Lane::of_bytes(ty.bytes()).max(word);
    let code = match b.isa {
        Isa::Avx512 => [
            Code::EVEX_Vpbroadcastb_zmm_k1z_xmmm8,
            Code::EVEX_Vpbroadcastw_zmm_k1z_xmmm16,
            Code::EVEX_Vpbroadcastd_zmm_k1z_xmmm32,
            Code::EVEX_Vpbroadcastq_zmm_k1z_xmmm64,
        ],
        Isa::Avx2 => [
            Code::VEX_Vpbroadcastb_ymm_xmmm8,
            Code::VEX_Vpbroadcastw_ymm_xmmm16,
            Code::VEX_Vpbroadcastd_ymm_xmmm32,
            Code::VEX_Vpbroadcastq_ymm_xmmm64,
        ],
    }[lane as usize];
    let full = b.full();
    let loaded = b.fresh(Kind::Vector, full, code, &[from]);
    if ty == Ty::Bool {
        let zero = b.splat(Lane::B, 0);
        let cond = match b.isa {
            Isa::Avx512 => b.compare(lane, super::lanes::Cmp::Ne, loaded, zero),
            Isa::Avx2 => b.sub(lane, zero, loaded),
        };
        let pinned = if b.is_mask(cond) { b.pinned_mask() } else { b.pinned_vector() };
        b.assign(pinned, cond);
        return Val::Cond(pinned);
    }
    let pinned = b.pinned_vector();
    b.assign(pinned, loaded);
    Val::Int(vec![pinned; lane.bytes() / word.bytes()])
}
