//! A stage's body on all the words of one vector at once.
//!
//! A value of type `t` in a stage of `w`-byte words stands in lanes of `max(t, w)` bytes: one vector where `t` is no wider
//! than the word, `t / w` of them where it is, in the order of the words. A value narrower than its lane is kept zero
//! extended. A `bool` is one condition on `w`-byte lanes.

use crate::ir::{BinaryOp, CompareOp, ConvertOp, Endian, ModOp, Op, StateId, Ty, UnaryOp, Value};
use iced_x86::{Code, Register};

use super::frame::POS;
use super::isa::{Features, Isa};
use super::lanes::{Cmp, Lane};
use super::strategy::Study;
use super::vcode::{Builder, Kind, Mem, Opd, VReg, Width};

/// A value of the body.
#[derive(Clone, Debug)]
pub(super) enum Val {
    /// Vectors in the order of the words.
    Int(Vec<VReg>),
    /// One condition.
    Cond(VReg),
}

/// What the states of a stage look like to its body.
pub(super) enum StateVal {
    /// Not available: the body must not read it.
    None,
    /// The same in every word.
    Value(Val),
}

/// One stage on one vector.
pub(super) struct Body<'a, 'b> {
    pub(super) b: &'a mut Builder,
    pub(super) study: &'a Study<'b>,
    /// The bytes of the stream, as they are.
    pub(super) chunk: VReg,
    /// Bytes between the position in the stream that the code keeps and this vector.
    pub(super) offset: i32,
    pub(super) states: &'a [StateVal],
    values: Vec<Option<Val>>,
    word: Lane,
}

impl<'a, 'b> Body<'a, 'b> {
    pub(super) fn new(
        b: &'a mut Builder,
        study: &'a Study<'b>,
        chunk: VReg,
        offset: i32,
        states: &'a [StateVal],
        values: Vec<Option<Val>>,
    ) -> Body<'a, 'b> {
        let word = Lane::of_bytes(study.pipe.word_bytes());
        Body { b, study, chunk, offset, states, values, word }
    }

    /// Computes every value that is needed: those that depend on no state that changes, or the others.
    pub(super) fn run(&mut self, late: bool) -> Result<(), String> {
        for index in 0..self.values.len() {
            let wanted = self.study.late[index] == late
                && self.study.needed[index]
                && self.study.constants[index].is_none();
            if wanted && self.values[index].is_none() {
                let value = self.value(Value(index as u32))?;
                self.values[index] = value;
            }
        }
        Ok(())
    }

    /// Sets a value that is computed elsewhere.
    pub(super) fn give(&mut self, value: Value, vector: VReg) {
        self.values[value.0 as usize] = Some(Val::Int(vec![vector]));
    }

    /// Sets what a state was before each word, wherever the body reads it.
    pub(super) fn give_state(&mut self, state: StateId, vector: VReg) {
        let study = self.study;
        for (value, inst) in study.pipe.body.iter() {
            if inst.op == Op::State(state) {
                self.give(value, vector);
            }
        }
    }

    /// The lane in which values of a type stand.
    pub(super) fn lane(&self, ty: Ty) -> Lane {
        Lane::of_bytes(ty.bytes()).max(self.word)
    }

    /// The word's lane.
    pub(super) fn word(&self) -> Lane {
        self.word
    }

    fn parts_of(&self, lane: Lane) -> usize {
        lane.bytes() / self.word.bytes()
    }

    fn ty(&self, value: Value) -> Ty {
        self.study.pipe.body.ty(value)
    }

    pub(super) fn constant(&self, value: Value) -> Option<u64> {
        self.study.constants[value.0 as usize]
    }

    /// The vectors of an integer.
    pub(super) fn int(&mut self, value: Value) -> Result<Vec<VReg>, String> {
        if let Some(number) = self.constant(value) {
            let lane = self.lane(self.ty(value));
            let reg = self.b.splat(lane, number);
            return Ok(vec![reg; self.parts_of(lane)]);
        }
        match &self.values[value.0 as usize] {
            Some(Val::Int(parts)) => Ok(parts.clone()),
            _ => Err("a value that is not kept in vectors".into()),
        }
    }

    /// The condition of a `bool`.
    pub(super) fn cond(&mut self, value: Value) -> Result<VReg, String> {
        if let Some(number) = self.constant(value) {
            return Ok(self.b.cond_constant(number != 0));
        }
        match &self.values[value.0 as usize] {
            Some(Val::Cond(cond)) => Ok(*cond),
            _ => Err("a condition that is not kept in vectors".into()),
        }
    }

    /// The bytes that the stage writes.
    pub(super) fn out(&mut self, value: Value) -> Result<VReg, String> {
        let reg = self.int(value)?[0];
        Ok(match self.study.pipe.output.endian {
            Endian::Little => reg,
            Endian::Big => self.b.bswap(self.word, reg),
        })
    }

    fn value(&mut self, value: Value) -> Result<Option<Val>, String> {
        let inst = self.study.pipe.body.inst(value);
        let lane = self.lane(inst.ty);
        let result = match inst.op {
            Op::Const(_) => return Ok(None),
            Op::Param(_) => return Err("an unbound parameter".into()),
            Op::In => Val::Int(vec![match self.study.pipe.input.endian {
                Endian::Little => self.chunk,
                Endian::Big => self.b.bswap(self.word, self.chunk),
            }]),
            Op::State(state) => match &self.states[state.0 as usize] {
                StateVal::Value(value) => value.clone(),
                StateVal::None => return Err("a state that is not known while the loop runs".into()),
            },
            Op::Pos => Val::Int(self.pos()),
            Op::Unary(UnaryOp::Not, a) if inst.ty == Ty::Bool => {
                let a = self.cond(a)?;
                Val::Cond(self.b.cond_not(a))
            }
            Op::Unary(op, a) => {
                let parts = self.int(a)?;
                Val::Int(parts.into_iter().map(|a| self.unary(op, inst.ty, lane, a)).collect())
            }
            Op::Binary(op, a, b) if inst.ty == Ty::Bool => {
                let (a, b) = (self.cond(a)?, self.cond(b)?);
                Val::Cond(match op {
                    BinaryOp::And => self.b.cond_and(a, b),
                    BinaryOp::Or => self.b.cond_or(a, b),
                    BinaryOp::Xor => self.b.cond_xor(a, b),
                    _ => return Err(format!("`{}` of bool", op.name())),
                })
            }
            Op::Binary(op, a, b) => {
                let count = self.constant(b);
                let (left, right) = (self.int(a)?, self.int(b)?);
                let mut parts = Vec::with_capacity(left.len());
                for (a, b) in left.into_iter().zip(right) {
                    parts.push(self.binary(op, inst.ty, lane, a, b, count)?);
                }
                Val::Int(parts)
            }
            Op::Compare(op, a, b) => self.compare(op, a, b)?,
            Op::Select { cond, then, otherwise } if inst.ty == Ty::Bool => {
                let (cond, then, otherwise) = (self.cond(cond)?, self.cond(then)?, self.cond(otherwise)?);
                let differ = self.b.cond_xor(then, otherwise);
                let chosen = self.b.cond_and(differ, cond);
                Val::Cond(self.b.cond_xor(chosen, otherwise))
            }
            Op::Select { cond, then, otherwise } => {
                let (cond, then, otherwise) = (self.cond(cond)?, self.int(then)?, self.int(otherwise)?);
                let conds = self.b.split_cond(self.word, lane, cond);
                let each = conds.into_iter().zip(then.into_iter().zip(otherwise));
                Val::Int(
                    each.map(|(cond, (then, otherwise))| self.b.select(lane, cond, then, otherwise))
                        .collect(),
                )
            }
            Op::Modular(op, a, b, m) => Val::Int(self.modular(op, inst.ty, lane, a, b, m)?),
            Op::Convert(op, a) => self.convert(op, a, inst.ty)?,
            Op::Lookup(table, index) => Val::Int(self.lookup(table.0 as usize, index, inst.ty)?),
            Op::Crc(..) => return Err("a CRC step whose accumulator is not a state of its own".into()),
        };
        Ok(Some(result))
    }

    /// The offset of each word in the stream.
    fn pos(&mut self) -> Vec<VReg> {
        let base = match self.b.isa {
            Isa::Avx512 => {
                self.b.fresh(Kind::Vector, Width::Z, Code::EVEX_Vpbroadcastq_zmm_k1z_r64, &[Opd::Gpr(POS)])
            }
            Isa::Avx2 => {
                let low = self.b.fresh(Kind::Vector, Width::X, Code::VEX_Vmovq_xmm_rm64, &[Opd::Gpr(POS)]);
                self.b.vector(Code::VEX_Vpbroadcastq_ymm_xmmm64, &[Opd::Reg(low, Width::X)])
            }
        };
        let (word, offset) = (self.word.bytes() as u64, self.offset as u64);
        let lanes = self.b.vector_bytes() as u64 / 8;
        (0..self.parts_of(Lane::Q) as u64)
            .map(|part| {
                let step = self.b.lanes_of(Lane::Q, |i| offset + (part * lanes + i) * word);
                self.b.add(Lane::Q, base, step)
            })
            .collect()
    }

    /// Clears what is above the type in a lane wider than it.
    fn fit(&mut self, ty: Ty, lane: Lane, a: VReg) -> VReg {
        if ty.bits() < lane.bits() { self.b.and_imm(lane, a, ty.mask()) } else { a }
    }

    pub(super) fn unary(&mut self, op: UnaryOp, ty: Ty, lane: Lane, a: VReg) -> VReg {
        let spare = lane.bits() - ty.bits();
        match op {
            UnaryOp::Neg => {
                let negated = self.b.neg(lane, a);
                self.fit(ty, lane, negated)
            }
            UnaryOp::Not => {
                let ones = self.b.splat(lane, ty.mask());
                self.bitwise(BinaryOp::Xor, lane, a, ones)
            }
            UnaryOp::Bswap => {
                let swapped = self.b.bswap(lane, a);
                self.b.shr(lane, swapped, spare)
            }
            UnaryOp::Bitrev => {
                let reversed = self.b.bitrev(lane, a);
                self.b.shr(lane, reversed, spare)
            }
            UnaryOp::Popcnt => self.b.popcnt(lane, a),
            UnaryOp::Clz => {
                let zeros = self.b.clz(lane, a);
                if spare == 0 {
                    return zeros;
                }
                let spare = self.b.splat(lane, u64::from(spare));
                self.b.sub(lane, zeros, spare)
            }
            UnaryOp::Ctz => {
                if spare == 0 {
                    return self.b.ctz(lane, a);
                }
                let stop = self.b.splat(lane, 1 << ty.bits());
                let stopped = self.b.or(a, stop);
                self.b.ctz(lane, stopped)
            }
        }
    }

    /// And, or, xor: a swap of bytes moves behind them, where it often meets another one.
    fn bitwise(&mut self, op: BinaryOp, lane: Lane, a: VReg, b: VReg) -> VReg {
        let movable = |body: &Self, x: VReg| {
            body.b.swap_of(lane.bytes(), x).is_some() || body.b.constant_bytes(x).is_some()
        };
        let worth = self.b.swap_of(lane.bytes(), a).is_some() || self.b.swap_of(lane.bytes(), b).is_some();
        if worth && movable(self, a) && movable(self, b) {
            let (a, b) = (self.b.bswap(lane, a), self.b.bswap(lane, b));
            let result = self.bitwise(op, lane, a, b);
            return self.b.bswap(lane, result);
        }
        match op {
            BinaryOp::And => self.b.and(a, b),
            BinaryOp::Or => self.b.or(a, b),
            _ => self.b.xor(a, b),
        }
    }

    /// `count` is the second operand where it is a constant.
    pub(super) fn binary(
        &mut self,
        op: BinaryOp,
        ty: Ty,
        lane: Lane,
        a: VReg,
        b: VReg,
        count: Option<u64>,
    ) -> Result<VReg, String> {
        let bits = ty.bits();
        let spare = lane.bits() - bits;
        let count = count.map(|count| (count % u64::from(bits)) as u32);
        let result = match op {
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => return Ok(self.bitwise(op, lane, a, b)),
            BinaryOp::Add => self.b.add(lane, a, b),
            BinaryOp::Sub => self.b.sub(lane, a, b),
            BinaryOp::Mul => self.b.mul(lane, a, b),
            BinaryOp::Shl => match count {
                Some(count) => self.b.shl(lane, a, count),
                None => {
                    let count = self.b.and_imm(lane, b, u64::from(bits - 1));
                    self.b.shl_by(lane, a, count)
                }
            },
            BinaryOp::Shr => match count {
                Some(count) => return Ok(self.b.shr(lane, a, count)),
                None => {
                    let count = self.b.and_imm(lane, b, u64::from(bits - 1));
                    return Ok(self.b.shr_by(lane, a, count));
                }
            },
            BinaryOp::Sar => {
                let up = self.b.shl(lane, a, spare);
                let shifted = match count {
                    Some(count) => self.b.sar(lane, up, count),
                    None => {
                        let count = self.b.and_imm(lane, b, u64::from(bits - 1));
                        self.b.sar_by(lane, up, count)
                    }
                };
                return Ok(self.b.shr(lane, shifted, spare));
            }
            BinaryOp::Rotl | BinaryOp::Rotr => {
                let left = op == BinaryOp::Rotl;
                match count {
                    Some(count) => {
                        let count = if left { count } else { (bits - count) % bits };
                        self.rotate(ty, lane, a, count)
                    }
                    None => {
                        let count = if left { b } else { self.b.neg(lane, b) };
                        let count = self.b.and_imm(lane, count, u64::from(bits - 1));
                        if spare == 0 {
                            return Ok(self.b.rotl_by(lane, a, count));
                        }
                        let up = self.b.shl_by(lane, a, count);
                        let width = self.b.splat(lane, u64::from(bits));
                        let back = self.b.sub(lane, width, count);
                        let down = self.b.shr_by(lane, a, back);
                        self.b.or(up, down)
                    }
                }
            }
            BinaryOp::Min => return Ok(self.b.min_max(lane, false, false, a, b)),
            BinaryOp::Max => return Ok(self.b.min_max(lane, false, true, a, b)),
            BinaryOp::Smin | BinaryOp::Smax => {
                let (a, b) = (self.b.shl(lane, a, spare), self.b.shl(lane, b, spare));
                let chosen = self.b.min_max(lane, true, op == BinaryOp::Smax, a, b);
                return Ok(self.b.shr(lane, chosen, spare));
            }
            BinaryOp::Addc if spare == 0 => return Ok(self.b.addc(lane, a, b)),
            BinaryOp::Addc => {
                let sum = self.b.add(lane, a, b);
                let carry = self.b.shr(lane, sum, bits);
                let low = self.b.and_imm(lane, sum, ty.mask());
                return Ok(self.b.add(lane, low, carry));
            }
            BinaryOp::Clmul | BinaryOp::Clmulh => {
                let high = op == BinaryOp::Clmulh;
                let product = self.b.clmul(lane, high && spare == 0, a, b);
                let product = product.ok_or("64-bit carry-less multiplication on this processor")?;
                // The whole product of a narrow type fits in the lane.
                if high && spare > 0 { self.b.shr(lane, product, bits) } else { product }
            }
        };
        Ok(self.fit(ty, lane, result))
    }

    fn rotate(&mut self, ty: Ty, lane: Lane, a: VReg, count: u32) -> VReg {
        if ty.bits() == lane.bits() || count == 0 {
            return self.b.rotl(lane, a, count);
        }
        let up = self.b.shl(lane, a, count);
        let down = self.b.shr(lane, a, ty.bits() - count);
        self.b.or(up, down)
    }

    fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Result<Val, String> {
        let ty = self.ty(a);
        if ty == Ty::Bool {
            let (a, b) = (self.cond(a)?, self.cond(b)?);
            let differ = self.b.cond_xor(a, b);
            return Ok(Val::Cond(match op {
                CompareOp::Eq => self.b.cond_not(differ),
                CompareOp::Ne => differ,
                _ => return Err(format!("`{}` of bool", op.name())),
            }));
        }
        let lane = self.lane(ty);
        let spare = lane.bits() - ty.bits();
        let (cmp, signed) = match op {
            CompareOp::Eq => (Cmp::Eq, false),
            CompareOp::Ne => (Cmp::Ne, false),
            CompareOp::Ltu => (Cmp::Ltu, false),
            CompareOp::Leu => (Cmp::Leu, false),
            CompareOp::Lts => (Cmp::Lts, true),
            CompareOp::Les => (Cmp::Les, true),
        };
        let (left, right) = (self.int(a)?, self.int(b)?);
        let mut parts = Vec::with_capacity(left.len());
        for (mut a, mut b) in left.into_iter().zip(right) {
            if signed {
                (a, b) = (self.b.shl(lane, a, spare), self.b.shl(lane, b, spare));
            }
            if matches!(cmp, Cmp::Eq | Cmp::Ne) && self.b.swap_of(lane.bytes(), a).is_some() {
                let other = self.b.swap_of(lane.bytes(), b).is_some() || self.b.constant_bytes(b).is_some();
                if other {
                    (a, b) = (self.b.bswap(lane, a), self.b.bswap(lane, b));
                }
            }
            parts.push(self.b.compare(lane, cmp, a, b));
        }
        Ok(Val::Cond(self.b.join_cond(lane, self.word, &parts)))
    }

    fn modular(
        &mut self,
        op: ModOp,
        ty: Ty,
        lane: Lane,
        a: Value,
        b: Value,
        m: Value,
    ) -> Result<Vec<VReg>, String> {
        let modulus = self.constant(m).ok_or("arithmetic modulo a number that is not constant")?;
        if !(modulus == 0 || modulus.is_power_of_two()) {
            return Err("division by a modulus that is no power of two".into());
        }
        let plain = match op {
            ModOp::Addmod => BinaryOp::Add,
            ModOp::Mulmod => BinaryOp::Mul,
        };
        let (left, right) = (self.int(a)?, self.int(b)?);
        let mut parts = Vec::with_capacity(left.len());
        for (a, b) in left.into_iter().zip(right) {
            let result = self.binary(plain, ty, lane, a, b, None)?;
            parts.push(if modulus == 0 { result } else { self.b.and_imm(lane, result, modulus - 1) });
        }
        Ok(parts)
    }

    fn convert(&mut self, op: ConvertOp, a: Value, to: Ty) -> Result<Val, String> {
        let from = self.ty(a);
        let target = self.lane(to);
        if from == Ty::Bool {
            let cond = self.cond(a)?;
            if to == Ty::Bool {
                return Ok(Val::Cond(cond));
            }
            let number = if op == ConvertOp::Sext { to.mask() } else { 1 };
            let (number, zero) = (self.b.splat(target, number), self.b.splat(Lane::B, 0));
            let conds = self.b.split_cond(self.word, target, cond);
            return Ok(Val::Int(
                conds.into_iter().map(|cond| self.b.select(target, cond, number, zero)).collect(),
            ));
        }
        let source = self.lane(from);
        let mut parts = self.int(a)?;
        if to == Ty::Bool {
            let one = self.b.splat(source, 1);
            let bits: Vec<_> = parts
                .into_iter()
                .map(|part| {
                    let bit = self.b.and(part, one);
                    self.b.compare(source, Cmp::Eq, bit, one)
                })
                .collect();
            return Ok(Val::Cond(self.b.join_cond(source, self.word, &bits)));
        }
        let signed = op == ConvertOp::Sext;
        let spare = source.bits() - from.bits();
        if signed && spare > 0 {
            for part in &mut parts {
                let up = self.b.shl(source, *part, spare);
                *part = self.b.sar(source, up, spare);
            }
        }
        let mut parts = self.resize(signed, source, target, parts);
        let cut = to.bits() < target.bits() && (signed || op == ConvertOp::Trunc);
        if cut {
            parts.iter_mut().for_each(|part| *part = self.b.and_imm(target, *part, to.mask()));
        }
        Ok(Val::Int(parts))
    }

    fn resize(&mut self, signed: bool, from: Lane, to: Lane, parts: Vec<VReg>) -> Vec<VReg> {
        match from.cmp(&to) {
            std::cmp::Ordering::Equal => parts,
            std::cmp::Ordering::Less => {
                parts.into_iter().flat_map(|part| self.b.widen(signed, from, to, part)).collect()
            }
            std::cmp::Ordering::Greater => self.b.narrow(from, to, &parts),
        }
    }

    fn lookup(&mut self, table: usize, index: Value, to: Ty) -> Result<Vec<VReg>, String> {
        let values = std::sync::Arc::clone(&self.study.pipe.tables[table].values);
        let from = self.ty(index);
        if to == Ty::Bool {
            return Err("a look-up of bool".into());
        }
        let source = self.lane(from);
        let parts = self.int(index)?;
        let target = self.lane(to);
        if source == Lane::B && target == Lane::B {
            return Ok(parts.into_iter().map(|part| self.lookup_bytes(&values, part)).collect());
        }
        // Gather 32-bit or 64-bit entries.
        let lane = source.max(target).max(Lane::D);
        let parts = self.resize(false, source, lane, parts);
        let bytes =
            values.iter().flat_map(|value| value.to_le_bytes().into_iter().take(lane.bytes())).collect();
        let entry = self.b.table(bytes);
        let mut found = Vec::with_capacity(parts.len());
        for part in parts {
            let index = self.b.and_imm(lane, part, values.len() as u64 - 1);
            self.b.push(
                Code::Lea_r64_m,
                &[Opd::Gpr(Register::RAX), Opd::Mem(Mem::Pool { entry, disp: 0 })],
                None,
                None,
                None,
                false,
            );
            let mask = self.b.gather_mask();
            let width = self.b.full();
            let mem = Opd::Mem(Mem::Vsib { base: Register::RAX, index, width, scale: lane.bytes() as u8 });
            found.push(match (self.b.isa, lane) {
                (Isa::Avx512, Lane::Q) => {
                    self.b.gather(Code::EVEX_Vpgatherqq_zmm_k1_vm64z, &[mem], Some(mask))
                }
                (Isa::Avx512, _) => self.b.gather(Code::EVEX_Vpgatherdd_zmm_k1_vm32z, &[mem], Some(mask)),
                (Isa::Avx2, Lane::Q) => {
                    self.b.gather(Code::VEX_Vpgatherqq_ymm_vm64y_ymm, &[mem, Opd::Reg(mask, width)], None)
                }
                (Isa::Avx2, _) => {
                    self.b.gather(Code::VEX_Vpgatherdd_ymm_vm32y_ymm, &[mem, Opd::Reg(mask, width)], None)
                }
            });
        }
        Ok(self.resize(false, lane, target, found))
    }

    /// Bytes looked up by bytes, in registers.
    fn lookup_bytes(&mut self, values: &[u64], index: VReg) -> VReg {
        // A byte reaches no more of a longer table.
        let values = &values[..values.len().min(256)];
        let full = self.b.full();
        let v = |reg| Opd::Reg(reg, full);
        if self.b.isa == Isa::Avx512 && self.b.features.has(Features::VBMI) {
            let quarter =
                |b: &mut Builder, n: usize| b.bytes_of(|i| values[(n * 64 + i) % values.len()] as u8);
            let (first, second) = (quarter(self.b, 0), quarter(self.b, 1));
            if values.len() <= 64 {
                return self.b.vector(Code::EVEX_Vpermb_zmm_k1z_zmm_zmmm512, &[v(index), v(first)]);
            }
            let code = Code::EVEX_Vpermi2b_zmm_k1z_zmm_zmmm512;
            let low = self.b.tied(code, index, &[v(first), v(second)]);
            if values.len() <= 128 {
                return low;
            }
            let (third, fourth) = (quarter(self.b, 2), quarter(self.b, 3));
            let high = self.b.tied(code, index, &[v(third), v(fourth)]);
            let top = self.b.mask(Code::EVEX_Vpmovb2m_kr_zmm, &[v(index)]);
            return self.b.select(Lane::B, top, high, low);
        }
        let index = match values.len() {
            256.. => index,
            len => self.b.and_imm(Lane::B, index, len as u64 - 1),
        };
        if values.len() <= 16 {
            let table = self.b.bytes_of(|i| values[i % 16 % values.len()] as u8);
            return self.b.shuffle_bytes(table, index);
        }
        // Sixteen entries at a time: the saturating addition sets the top bit of every index of another sixteen, and
        // the shuffle gives zero for those.
        let mut found = None;
        for (n, sixteen) in values.chunks(16).enumerate() {
            let table = self.b.bytes_of(|i| sixteen[i % 16] as u8);
            let base = self.b.splat(Lane::B, n as u64 * 16);
            let near = self.b.xor(index, base);
            let bias = self.b.splat(Lane::B, 0x70);
            let code = match self.b.isa {
                Isa::Avx512 => Code::EVEX_Vpaddusb_zmm_k1z_zmm_zmmm512,
                Isa::Avx2 => Code::VEX_Vpaddusb_ymm_ymm_ymmm256,
            };
            let control = self.b.binary_code(code, near, bias);
            let part = self.b.shuffle_bytes(table, control);
            found = Some(match found {
                None => part,
                Some(found) => self.b.or(found, part),
            });
        }
        found.unwrap_or(index)
    }
}
