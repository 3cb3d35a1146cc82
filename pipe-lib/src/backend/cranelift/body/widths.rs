//! Values at other widths: extended, cut, fitted into wider lanes.

use super::VectorOp;
use super::lanes::StageLowering;
use super::lower::{Group, mask};
use crate::ir::{BinaryOp, CompareOp, ConvertOp, Ty, Value};

impl StageLowering<'_> {
    /// Zeroes the bits above a type narrower than its lane.
    pub(super) fn fitted(&mut self, group: Group, ty: Ty) -> Group {
        if ty.bytes() as u8 >= group.lane || ty == Ty::Bool {
            return group;
        }
        let bits = self.to.splat(ty.mask(), group.lane);
        let lane = group.lane;
        self.map(&group, |to, reg| to.binary(BinaryOp::And, reg, bits, lane))
    }

    /// Counts of shifts below the bits of `ty`: the literal one, or `b` without its upper bits.
    pub(super) fn counts(&mut self, b: Group, literal: Option<u64>, ty: Ty, lane: u8) -> Group {
        let most = self.to.splat(u64::from(ty.bits()) - 1, lane);
        match literal {
            Some(count) => {
                let count = self.to.splat(count, lane);
                self.map(&b, |_, _| count)
            }
            None => self.map(&b, |to, reg| to.binary(BinaryOp::And, reg, most, lane)),
        }
    }

    /// The signed numbers of type `ty` in the whole of their lanes.
    pub(super) fn signed(&mut self, group: Group, ty: Ty) -> Group {
        let lane = group.lane;
        if ty.bytes() as u8 >= lane {
            return group;
        }
        // Up to the top of the lane and back, copying the sign.
        let count = self.to.splat(u64::from(lane) * 8 - u64::from(ty.bits()), lane);
        self.map(&group, |to, reg| {
            let up = to.binary(BinaryOp::Shl, reg, count, lane);
            to.binary(BinaryOp::Sar, up, count, lane)
        })
    }

    pub(super) fn convert(&mut self, op: ConvertOp, ty: Ty, a: Value) -> Result<Group, String> {
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
            group = self.signed(group, from);
            let wide = self.resized(group, lane, true);
            return Ok(self.fitted(wide, ty));
        }
        let group = self.resized(group, lane, false);
        Ok(self.fitted(group, ty))
    }

    /// The same lanes at another width: extended by zeros or signs, or cut to their low parts.
    pub(super) fn resized(&mut self, mut group: Group, lane: u8, signed: bool) -> Group {
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
}
