//! Look-ups in small tables: a register of indices becomes a register of entries.

use super::VectorOp;
use super::lanes::StageLowering;
use super::lower::Group;
use crate::ir::{BinaryOp, Op, Table, Ty, Value};
use crate::plan::stage::{MAX_BYTE_ENTRIES, MAX_WIDE_ENTRIES};

impl StageLowering<'_> {
    /// The entries of `table` that `index` is the index of, modulo its length.
    pub(super) fn lookup(&mut self, table: &Table, index: Value) -> Result<Group, String> {
        let (ty, len) = (table.ty, table.values.len());
        let most = if ty.bytes() == 1 { MAX_BYTE_ENTRIES } else { MAX_WIDE_ENTRIES };
        if len > most || !len.is_power_of_two() || ty == Ty::Bool {
            return Err(format!("`lookup` in {len} entries of {ty}"));
        }
        if let Op::Const(index) = self.block.inst(index).op {
            let value = table.values[index as usize % len];
            return Ok(self.splat(value, self.lane(ty)));
        }
        // In range, an index has a byte.
        let index = self.operand(index);
        let most = self.to.splat(len as u64 - 1, index.lane);
        let lane = index.lane;
        let index = if len == 256 && lane == 1 {
            index
        } else {
            self.map(&index, |to, reg| to.binary(BinaryOp::And, reg, most, lane))
        };
        let index = self.resized(index, self.word, false);
        let mut entries: Option<Group> = None;
        for byte in 0..ty.bytes() {
            let bytes: Vec<u8> = table.values.iter().map(|value| value.to_le_bytes()[byte]).collect();
            let lane = self.word;
            let plane = self.table(bytes);
            let part = self.map(&index, |to, reg| to.emit(VectorOp::Lookup(plane, reg), lane));
            // The other bytes of a lane have looked up the first entry.
            let part = self.fitted(part, Ty::U8);
            let part = self.resized(part, self.lane(ty), false);
            let lane = part.lane;
            let part = match byte {
                0 => part,
                _ => {
                    let count = self.to.splat(8 * byte as u64, lane);
                    self.map(&part, |to, reg| to.binary(BinaryOp::Shl, reg, count, lane))
                }
            };
            entries = Some(match entries {
                None => part,
                Some(all) => self.map2(&all, &part, |to, a, b| to.binary(BinaryOp::Or, a, b, lane)),
            });
        }
        entries.ok_or_else(|| "a table of nothing".into())
    }

    fn table(&mut self, bytes: Vec<u8>) -> u32 {
        let tables = &mut self.to.body.tables;
        let at = tables.iter().position(|table| *table == bytes).unwrap_or_else(|| {
            tables.push(bytes);
            tables.len() - 1
        });
        at as u32
    }
}
