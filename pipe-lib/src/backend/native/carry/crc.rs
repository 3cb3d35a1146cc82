//! CRCs of any width up to 64 bits by carry-less multiplication, in the same loop as everything else.
//!
//! ```text
//!     acc[*] = 0;  the state, times a negative power of x, in front of the first vector
//!     for each iteration of U copies of V bytes, and each copy c:
//!         acc[c] = acc[c] * x^(8 U V)  +  the vector              every 128-bit lane by itself, modulo P
//!     acc = sum over c of acc[c] * x^(bits behind copy c)
//!     the remainder, shifted to the end of a vector of zeros, is added to acc, whose lanes are moved past it
//!     state = the sum of all lanes, modulo P                      see crc_reduce
//! ```
//!
//! The accumulators hold, 128-bit lane by lane, a polynomial that is congruent to the message so far modulo
//! the CRC's polynomial. The imported state is part of it from the start, so that no first block has to be
//! told apart. One table entry for each length of the remainder has the factors that move every lane past it
//! and to the end of the vector.
//!
//! In a reflected CRC bit 0 of byte 0 has the highest degree: a 128-bit lane as loaded has bit `i` for
//! `x^(127 - i)`, and a product of two 64-bit numbers comes out one degree too low, which the constants
//! correct. For the other kind the bits of each byte are reversed, which gives the same order; where no
//! instruction does that, the bytes of each lane are reversed, and bit `i` is `x^i`.

use iced_x86::{Code, Register};

use super::crc_beside::Beside;
use super::{LoopCarried, LoopPart, Traits, crc_reduce, crc_residue};
use crate::analyse::gf2::{Crc, Padding};
use crate::backend::native::abi::{LEN, Round, STATES, round_remainder};
use crate::backend::native::asm;
use crate::backend::native::isa::{Features, Isa};
use crate::backend::native::lanes::Lane;
use crate::backend::native::lanes::whole::{at, indexed};
use crate::backend::native::lower::BodyLowering;
use crate::backend::native::vcode::{Builder, Operand, RegKind, VReg, Width};
use crate::ir::{Pipe, Tail, Value};

/// The accumulators of one CRC state.
pub(super) struct CrcLanes {
    crc: Crc,
    /// The width of one product, and the number of such parts in a vector.
    width: Width,
    parts: usize,
    /// The lowest bit has the highest degree.
    reflected: bool,
    /// For each copy, a register for each part of its vector. A copy that the `crc32` instruction takes has
    /// none, except that the first copy always has some, perhaps those of another.
    acc: Vec<Vec<VReg>>,
    /// How the copies are shared out, if not all are folded.
    beside: Option<Beside>,
    /// Where the state is, from the start of the states.
    offset: i32,
    /// The value whose bytes count.
    operand: Value,
    /// The words of the stream, and the values that the CRC makes of them.
    word: Lane,
    value: Lane,
    /// Whether a part of a word at the end is one.
    tail_counts: bool,
    /// Bits of message that a vector of words adds.
    vector_bits: usize,
}

impl CrcLanes {
    /// Takes registers and imports the state. For each word the `operand` is taken in.
    pub(super) fn new(
        b: &mut Builder,
        pipe: &Pipe,
        (crc, operand): (Crc, Value),
        copies: usize,
        beside: Option<Beside>,
        offset: i32,
    ) -> Result<CrcLanes, String> {
        let word = Lane::of_bytes(pipe.word_bytes());
        let value = Lane::of_bytes(pipe.body.ty(operand).bytes());
        let wide = b.features.has(Features::VPCLMUL);
        let (width, parts) = match b.isa {
            Isa::Avx512 if wide => (Width::Z, 1),
            Isa::Avx2 if wide => (Width::Y, 1),
            Isa::Avx2 if b.features.has(Features::PCLMUL) => (Width::X, 2),
            _ => return Err("a CRC without carry-less multiplication".into()),
        };
        let folds = |copy| beside.is_none_or(|beside: Beside| beside.folds(copy));
        let mut acc: Vec<Vec<VReg>> = (0..copies)
            .map(|copy| (0..parts).filter(|_| folds(copy)).map(|_| b.pinned_vector()).collect())
            .collect();
        if !folds(0) {
            acc[0] = acc[copies - 1].clone();
        }
        let reflected = crc.reflected || b.features.has(Features::GFNI);
        let tail_counts = matches!(pipe.tail, Tail::Zero | Tail::Partial);
        let vector_bits = b.vector_bytes() * 8 * value.bytes() / word.bytes();
        let lanes = CrcLanes {
            crc,
            width,
            parts,
            reflected,
            acc,
            beside,
            offset,
            operand,
            word,
            value,
            tail_counts,
            vector_bits,
        };
        let inverse = lanes.inverse(b, 0);
        let factor = b.bytes_of(|i| inverse.to_le_bytes()[i % 8]);
        lanes.import(b, 0, factor);
        Ok(lanes)
    }

    /// Whether the vectors of a copy of the unrolled loop are folded.
    fn folds(&self, copy: usize) -> bool {
        self.beside.is_none_or(|beside| beside.folds(copy))
    }

    /// The factor that places the state in front of the vector of copy number `entry`, for the first lane of
    /// the copy before the first one.
    fn inverse(&self, b: &Builder, entry: i64) -> u64 {
        let away = b.vector_bytes() as i64 * 8 - 128 + self.vector_bits as i64 * entry;
        let inverse = match (self.crc.reflected, self.crc.padding) {
            (true, _) => -65,
            (false, Padding::Message(below)) => -i64::from(self.crc.bits + below),
            (false, Padding::Dropped(_)) => -i64::from(self.crc.bits),
        };
        oriented(self.crc.reflected, self.crc.power(inverse - away))
    }

    /// The state, times a factor, into the first lane of a copy.
    fn import(&self, b: &mut Builder, copy: usize, factor: VReg) {
        let from = at(STATES, self.offset);
        let mut state = b.load_quad(from);
        if let Padding::Dropped(_) = self.crc.padding {
            let kept = u64::MAX >> (64 - self.crc.bits);
            let kept = b.bytes_of(|i| kept.to_le_bytes()[i % 8]);
            state = b.and(state, kept);
        }
        let mut product = b.clmul_halves(Width::X, state, factor, 0);
        if self.reflected && !self.crc.reflected {
            product = reversed(b, product);
        }
        b.assign(self.acc[copy][0], product);
        let zero = b.splat(Lane::B, 0);
        self.acc[copy][1..].iter().for_each(|acc| b.assign(*acc, zero));
    }

    /// Takes the values of one vector of words into a copy; `distance` vectors of words make an iteration.
    /// What `beside` has of the vectors before is added to its first bytes.
    fn add(&self, b: &mut Builder, copy: usize, distance: usize, values: &[VReg], beside: Option<Beside>) {
        let vector_bits = b.vector_bytes() as i64 * 8;
        let vectors = self.message(b, values, true);
        let from_before =
            self.vector_bits as i64 * distance as i64 - vector_bits * (vectors.len() as i64 - 1);
        for (number, bytes) in vectors.into_iter().enumerate() {
            let factor = self.factor(b, if number == 0 { from_before } else { vector_bits });
            let bytes = self.in_order(b, bytes);
            self.step(b, copy, factor, bytes, beside.filter(|_| number == 0));
        }
    }

    /// Takes the values of the remainder and adds the lanes together. Leaves in rax how many bytes of whole
    /// words there are.
    fn add_remainder(&self, b: &mut Builder, values: &[VReg], round: Round) {
        let scale = self.value as i32 - self.word as i32;
        let message_bytes = |b: &mut Builder| {
            round_remainder(b, round);
            if scale < 0 {
                b.raw(asm::ri(Code::Shr_rm32_imm8, Register::EAX, -scale));
            } else if scale > 0 {
                b.raw(asm::ri(Code::Shl_rm32_imm8, Register::EAX, scale));
            }
        };
        let vectors = self.message(b, values, false);
        if let [bytes] = vectors[..] {
            message_bytes(b);
            return self.add_last(b, bytes);
        }
        // As many bytes of each vector as there are, perhaps none.
        let (rax, eax, r9) = (Register::RAX, Register::EAX, Register::R9);
        let vector = b.vector_bytes() as i32;
        for (number, bytes) in vectors.into_iter().enumerate() {
            message_bytes(b);
            b.raw(asm::rr(Code::Xor_r32_rm32, Register::R9D, Register::R9D));
            b.raw(asm::ri(Code::Sub_rm32_imm32, eax, vector * number as i32));
            b.raw(asm::rr(Code::Cmovb_r32_rm32, eax, Register::R9D));
            b.raw(asm::ri(Code::Mov_rm64_imm32, r9, vector));
            b.raw(asm::rr(Code::Cmp_r32_rm32, eax, Register::R9D));
            b.raw(asm::rr(Code::Cmova_r32_rm32, eax, Register::R9D));
            let zero = b.splat(Lane::B, 0);
            let moved = b.shift_in(zero, bytes);
            let moved = self.in_order(b, moved);
            let factors = (0..=i64::from(vector)).flat_map(|bytes| self.factors(8 * bytes));
            let factors = factors.flat_map(u64::to_le_bytes).collect();
            let factors = b.table(factors);
            b.raw(asm::ri(Code::Shl_rm32_imm8, eax, 4));
            b.lea_pool(r9, factors);
            let code = match b.isa {
                Isa::Avx512 => Code::EVEX_Vbroadcasti32x4_zmm_k1z_m128,
                Isa::Avx2 => Code::VEX_Vbroadcasti128_ymm_m128,
            };
            let from = Operand::Mem(indexed(r9, rax, 1, 0));
            let full = b.full();
            let factor = b.fresh(RegKind::Vector, full, code, &[from]);
            self.step(b, 0, factor, moved, None);
        }
        self.no_remainder(b);
    }

    /// The values as the message has them: vectors of bytes in the order of the stream. Values narrower than
    /// their words fill part of a vector, its end or its beginning, and the other part is zero.
    fn message(&self, b: &mut Builder, values: &[VReg], at_end: bool) -> Vec<VReg> {
        let mut vectors = values.to_vec();
        if self.value < self.word {
            let zero = b.splat(Lane::B, 0);
            let others = self.word.bytes() / self.value.bytes() - 1;
            vectors.splice(if at_end { 0..0 } else { 1..1 }, std::iter::repeat_n(zero, others));
            vectors = b.narrow(self.word, self.value, &vectors);
        }
        if !self.crc.reflected {
            // The most significant byte comes first.
            vectors.iter_mut().for_each(|vector| *vector = b.bswap(self.value, *vector));
        }
        vectors
    }

    /// Moves what a copy holds by a factor, and adds the bytes of a vector, and to the first ones what
    /// `beside` has of the vectors before.
    fn step(&self, b: &mut Builder, copy: usize, factor: VReg, bytes: VReg, beside: Option<Beside>) {
        let multiply = |b: &mut Builder, acc: VReg| {
            let (even, odd) = self.products(b, acc, factor);
            // The last product goes where the sum will be, which saves a move.
            b.assign(acc, odd);
            even
        };
        // One part after the other takes fewer registers. But beside the `crc32` instruction all products of
        // a vector come first: between those of microcode and others the decoders lose a cycle each time.
        let together = beside.map(|beside| {
            let evens: Vec<VReg> = self.acc[copy].iter().map(|acc| multiply(b, *acc)).collect();
            (evens, beside.before(b, copy))
        });
        for (part, acc) in self.acc[copy].iter().enumerate() {
            let even = together.as_ref().map(|(evens, _)| evens[part]);
            let even = even.unwrap_or_else(|| multiply(b, *acc));
            let bytes = self.part(b, bytes, part);
            let sum = b.xor3(*acc, even, bytes);
            let before = together.as_ref().and_then(|(_, before)| *before).filter(|_| part == 0);
            let sum = before.map_or(sum, |before| b.xor(sum, before));
            b.assign(*acc, sum);
        }
    }

    /// Takes the first rax bytes of a vector and brings the lanes together.
    fn add_last(&self, b: &mut Builder, bytes: VReg) {
        let zero = b.splat(Lane::B, 0);
        let moved = b.shift_in(zero, bytes);
        let moved = self.in_order(b, moved);
        let rows = b.table(self.rows(b.vector_bytes(), b.vector_bytes() + 1));
        let (rax, r9) = (Register::RAX, Register::R9);
        let shift = b.vector_bytes().trailing_zeros() as i32;
        b.raw(asm::ri(Code::Shl_rm32_imm8, Register::EAX, shift));
        b.lea_pool(r9, rows);
        let bytes_of_part = b.vector_bytes() / self.parts;
        let code = match (b.isa, self.width) {
            (Isa::Avx512, _) => Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512,
            (Isa::Avx2, Width::X) => Code::VEX_Vmovdqu_xmm_xmmm128,
            (Isa::Avx2, _) => Code::VEX_Vmovdqu_ymm_ymmm256,
        };
        let mut all = None;
        for part in 0..self.parts {
            let moved = self.part(b, moved, part);
            let disp = (part * bytes_of_part) as i32;
            let row = Operand::Mem(indexed(r9, rax, 1, disp));
            let row = b.fresh(RegKind::Vector, self.width, code, &[row]);
            let (even, odd) = self.products(b, self.acc[0][part], row);
            let to_the_end = self.row_of_nothing(b, part);
            let (low, high) = self.products(b, moved, to_the_end);
            let rest = b.xor(low, high);
            let sum = b.xor3(even, odd, rest);
            all = Some(all.map_or(sum, |all| b.xor(all, sum)));
        }
        all.into_iter().for_each(|all| b.assign(self.acc[0][0], all));
    }

    /// The factors of the lower and the upper half of a lane that move it by `bits`.
    fn factors(&self, bits: i64) -> [u64; 2] {
        let [low, high] = if self.reflected { [bits + 63, bits - 1] } else { [bits, bits + 64] };
        [low, high].map(|exponent| oriented(self.reflected, self.crc.power(exponent)))
    }

    /// The same in every lane.
    fn factor(&self, b: &mut Builder, bits: i64) -> VReg {
        let kind = 2 | u64::from(self.reflected) << 8 | u64::from(self.crc.bits) << 16;
        b.computed([kind, self.crc.poly, bits as u64], |b| {
            let lane = self.factors(bits).map(u64::to_le_bytes).concat();
            b.constant(lane.repeat(b.vector_bytes() / 16))
        })
    }

    /// For each number of bytes below `count`, the factors that move the lanes of a vector past that many
    /// bytes, and each lane to where the last one is.
    fn rows(&self, vector_bytes: usize, count: usize) -> Vec<u8> {
        let lanes = vector_bytes / 16;
        // The exponents of all of them are eight apart.
        let (first, low, high) = if self.reflected { (-1, 8, 0) } else { (0, 0, 8) };
        let mut power = self.crc.power(first);
        let powers: Vec<[u8; 8]> = (0..count + vector_bytes)
            .map(|_| {
                let this = power;
                power = (0..8).fold(power, |power, _| self.crc.times_x(power));
                oriented(self.reflected, this).to_le_bytes()
            })
            .collect();
        let mut rows = Vec::with_capacity(count * vector_bytes);
        for rest in 0..count {
            for lane in (0..lanes).rev() {
                let bytes = rest + 16 * lane;
                rows.extend_from_slice(&powers[bytes + low]);
                rows.extend_from_slice(&powers[bytes + high]);
            }
        }
        rows
    }

    /// A part of the row for no bytes at all.
    fn row_of_nothing(&self, b: &mut Builder, part: usize) -> VReg {
        let vector = b.vector_bytes();
        let row = self.rows(vector, 1);
        let offset = part * vector / self.parts;
        b.bytes_of(|i| row[(offset + i) % vector])
    }

    /// The bytes of each lane so that the products come out right.
    fn in_order(&self, b: &mut Builder, bytes: VReg) -> VReg {
        if self.crc.reflected {
            bytes
        } else if self.reflected {
            b.bitrev(Lane::B, bytes)
        } else {
            let reverse = b.bytes_of(|i| 15 - (i % 16) as u8);
            b.shuffle_bytes(bytes, reverse)
        }
    }

    /// A part of a vector, in the order of the stream.
    fn part(&self, b: &mut Builder, vector: VReg, part: usize) -> VReg {
        if part == 0 {
            return vector;
        }
        let extract = Code::VEX_Vextracti128_xmmm128_ymm_imm8;
        b.vector_of(Width::X, extract, &[Operand::Reg(vector, Width::Y), Operand::Imm(1)])
    }

    /// The products of the lower and of the upper halves of the lanes.
    fn products(&self, b: &mut Builder, a: VReg, factor: VReg) -> (VReg, VReg) {
        let even = b.clmul_halves(self.width, a, factor, 0x00);
        let odd = b.clmul_halves(self.width, a, factor, 0x11);
        (even, odd)
    }
}

impl LoopCarried for CrcLanes {
    fn traits(&self) -> Traits {
        Traits {
            ends_in_remainder: true,
            reads_back: self.beside.is_some_and(Beside::reads_back),
            ..Traits::ORDERED
        }
    }

    /// It is the last copy that takes in what was imported.
    fn begin_unrolled(&self, b: &mut Builder) {
        let copies = self.acc.len();
        if copies == 1 {
            return;
        }
        let zero = b.splat(Lane::B, 0);
        self.acc[..copies - 1].iter().flatten().for_each(|acc| b.assign(*acc, zero));
        let factors = (0..copies as i64).flat_map(|copy| self.inverse(b, copy).to_le_bytes()).collect();
        let factors = b.table(factors);
        b.lea_pool(Register::R9, factors);
        let from = indexed(Register::R9, Register::RAX, 8, 0);
        let factor = b.load_quad(from);
        self.import(b, copies - 1, factor);
    }

    fn step(&mut self, body: &mut BodyLowering<'_>, part: LoopPart) -> Result<(), String> {
        let values = body.int(self.operand)?;
        match part {
            // Single vectors, in an iteration of their own, are folded by the first copy.
            LoopPart::Whole { copy, distance } if distance < self.acc.len() => {
                self.add(body.b, copy, distance, &values, None)
            }
            LoopPart::Whole { copy, distance } => {
                if self.folds(copy) {
                    self.add(body.b, copy, distance, &values, self.beside);
                } else if let Some(beside) = self.beside {
                    beside.before(body.b, copy);
                }
            }
            LoopPart::Remainder { round, .. } => self.add_remainder(body.b, &values, round),
        }
        Ok(())
    }

    fn merge_copies(&self, b: &mut Builder) {
        let message_bits = self.vector_bits as i64;
        let Some((last, others)) = self.acc.split_last().filter(|(_, others)| !others.is_empty()) else {
            return;
        };
        for part in 0..self.parts {
            let mut sum = last[part];
            let folded = others.iter().enumerate().filter(|(copy, _)| self.folds(*copy));
            for (copy, acc) in folded {
                let factor = self.factor(b, message_bits * (others.len() - copy) as i64);
                let (even, odd) = self.products(b, acc[part], factor);
                sum = b.xor3(even, odd, sum);
            }
            b.assign(self.acc[0][part], sum);
        }
    }

    /// Brings the lanes together.
    fn no_remainder(&self, b: &mut Builder) {
        let mut all = None;
        for part in 0..self.parts {
            let row = self.row_of_nothing(b, part);
            let (even, odd) = self.products(b, self.acc[0][part], row);
            all = Some(match all {
                None => b.xor(even, odd),
                Some(all) => b.xor3(even, odd, all),
            });
        }
        all.into_iter().for_each(|all| b.assign(self.acc[0][0], all));
    }

    /// Adds what the remainder, or none, left in the lanes.
    fn finish(&self, b: &mut Builder) {
        let none = b.new_label();
        if self.crc.padding.bits() > 0 {
            // Without a word the register stays as it was imported, with whatever was in it beside the
            // remainder.
            let round = if self.tail_counts { self.word.bytes() as i32 - 1 } else { 0 };
            b.raw(asm::rm(Code::Lea_r64_m, crc_residue::WORDS, LEN, Register::None, round));
            b.raw(asm::ri(
                Code::Shr_rm64_imm8,
                crc_residue::WORDS,
                self.word.bytes().trailing_zeros() as i32,
            ));
            b.raw(asm::rr(Code::Test_rm64_r64, crc_residue::WORDS, crc_residue::WORDS));
            b.jump(Code::Je_rel32_64, none);
        }
        let mut all = self.acc[0][0];
        let mut distance = b.vector_bytes() / self.parts / 2;
        while distance >= 16 {
            let other = b.exchange(all, distance);
            all = b.xor(all, other);
            distance /= 2;
        }
        if self.reflected && !self.crc.reflected {
            all = reversed(b, all);
        }
        crc_reduce::state(b, self.crc, all);
        crc_residue::add_left(b, self.crc, self.value.bits(), self.offset);
        b.store_quad(STATES, self.offset, Register::RAX);
        b.bind(none);
    }

    fn description(&self) -> String {
        let folded = (0..self.acc.len()).filter(|copy| self.folds(*copy)).count();
        let registers = folded * self.parts;
        let beside = if self.beside.is_some() { ", the `crc32` instruction beside them" } else { "" };
        let bits = match self.width {
            Width::X => 128,
            Width::Y => 256,
            Width::Z | Width::K => 512,
        };
        format!(
            "{registers} registers of {bits} bits{beside}, the imported remainder in front of the first bytes"
        )
    }
}

/// A polynomial of degree below 64 as a factor.
fn oriented(reflected: bool, polynomial: u64) -> u64 {
    if reflected { polynomial.reverse_bits() } else { polynomial }
}

/// The bits of each 128-bit lane, reversed.
fn reversed(b: &mut Builder, a: VReg) -> VReg {
    let bits = b.bitrev(Lane::B, a);
    let reverse = b.bytes_of(|i| 15 - (i % 16) as u8);
    b.shuffle_bytes(bits, reverse)
}
