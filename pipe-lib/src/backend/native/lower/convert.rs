//! Conversions between types, and look-ups in tables.

use crate::ir::{ConvertOp, Ty, Value};
use iced_x86::Code;
use iced_x86::Register;

use super::{BodyLowering, Val};
use crate::backend::native::isa::{Features, Isa};
use crate::backend::native::lanes::{Cmp, Lane};
use crate::backend::native::vcode::{Builder, Mem, Operand, VReg};

impl BodyLowering<'_> {
    pub(super) fn convert(&mut self, op: ConvertOp, a: Value, to: Ty) -> Result<Val, String> {
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

    pub(super) fn lookup(&mut self, table: usize, index: Value, to: Ty) -> Result<Vec<VReg>, String> {
        let values: &[u64] = &self.plan.pipe.tables[table].values;
        let from = self.ty(index);
        if to == Ty::Bool {
            return Err("a look-up of bool".into());
        }
        let source = self.lane(from);
        let parts = self.int(index)?;
        let target = self.lane(to);
        if source == Lane::B && target == Lane::B {
            return Ok(parts.into_iter().map(|part| self.b.lookup_bytes(values, part)).collect());
        }
        // Gather 32-bit or 64-bit entries.
        let lane = source.max(target).max(Lane::D);
        let parts = self.resize(false, source, lane, parts);
        let entry = self.b.table_of(values, lane.bytes());
        let mut found = Vec::with_capacity(parts.len());
        for part in parts {
            let index = self.b.and_imm(lane, part, values.len() as u64 - 1);
            self.b.push(
                Code::Lea_r64_m,
                &[Operand::Gpr(Register::RAX), Operand::Mem(Mem::Pool { entry, disp: 0 })],
                None,
                None,
                None,
                false,
            );
            let mask = self.b.gather_mask();
            let width = self.b.full();
            let mem =
                Operand::Mem(Mem::Vsib { base: Register::RAX, index, width, scale: lane.bytes() as u8 });
            found.push(match (self.b.isa, lane) {
                (Isa::Avx512, Lane::Q) => {
                    self.b.gather(Code::EVEX_Vpgatherqq_zmm_k1_vm64z, &[mem], Some(mask))
                }
                (Isa::Avx512, _) => self.b.gather(Code::EVEX_Vpgatherdd_zmm_k1_vm32z, &[mem], Some(mask)),
                (Isa::Avx2, Lane::Q) => {
                    self.b.gather(Code::VEX_Vpgatherqq_ymm_vm64y_ymm, &[mem, Operand::Reg(mask, width)], None)
                }
                (Isa::Avx2, _) => {
                    self.b.gather(Code::VEX_Vpgatherdd_ymm_vm32y_ymm, &[mem, Operand::Reg(mask, width)], None)
                }
            });
        }
        Ok(self.resize(false, lane, target, found))
    }
}

impl Builder {
    /// Bytes looked up by bytes, in registers.
    pub(in crate::backend::native) fn lookup_bytes(&mut self, values: &[u64], index: VReg) -> VReg {
        // A byte reaches no more of a longer table.
        let values = &values[..values.len().min(256)];
        let full = self.full();
        let v = |reg| Operand::Reg(reg, full);
        if self.isa == Isa::Avx512 && self.features.has(Features::VBMI) {
            let quarter =
                |b: &mut Builder, n: usize| b.bytes_of(|i| values[(n * 64 + i) % values.len()] as u8);
            let (first, second) = (quarter(self, 0), quarter(self, 1));
            if values.len() <= 64 {
                return self.vector(Code::EVEX_Vpermb_zmm_k1z_zmm_zmmm512, &[v(index), v(first)]);
            }
            let code = Code::EVEX_Vpermi2b_zmm_k1z_zmm_zmmm512;
            let low = self.tied(code, index, &[v(first), v(second)]);
            if values.len() <= 128 {
                return low;
            }
            let (third, fourth) = (quarter(self, 2), quarter(self, 3));
            let high = self.tied(code, index, &[v(third), v(fourth)]);
            let top = self.mask(Code::EVEX_Vpmovb2m_kr_zmm, &[v(index)]);
            return self.select(Lane::B, top, high, low);
        }
        let index = match values.len() {
            256.. => index,
            len => self.and_imm(Lane::B, index, len as u64 - 1),
        };
        if values.len() <= 16 {
            let table = self.bytes_of(|i| values[i % 16 % values.len()] as u8);
            return self.shuffle_bytes(table, index);
        }
        // Sixteen entries at a time: the saturating addition sets the top bit of every index of another
        // sixteen, and the shuffle gives zero for those.
        let mut found = None;
        for (n, sixteen) in values.chunks(16).enumerate() {
            let table = self.bytes_of(|i| sixteen[i % 16] as u8);
            let base = self.splat(Lane::B, n as u64 * 16);
            let near = self.xor(index, base);
            let bias = self.splat(Lane::B, 0x70);
            let code = match self.isa {
                Isa::Avx512 => Code::EVEX_Vpaddusb_zmm_k1z_zmm_zmmm512,
                Isa::Avx2 => Code::VEX_Vpaddusb_ymm_ymm_ymmm256,
            };
            let control = self.binary_code(code, near, bias);
            let part = self.shuffle_bytes(table, control);
            found = Some(match found {
                None => part,
                Some(found) => self.or(found, part),
            });
        }
        found.unwrap_or(index)
    }
}
