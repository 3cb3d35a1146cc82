//! Windows of emitted code: how far into each the stream has come, results taken down at their ends, states
//! that begin anew there.
//!
//! ```text
//! gone[w] = pos mod w                               at the call's start, for each length w of windows
//! repeat  n = min(what is left, w - gone[w] ..)     one call of the code
//!         gone[w] += n; where it is w: results into the lists, states to their first values, gone[w] = 0
//! at the end, where gone[w] is not 0: the results so far into the lists
//! ```

use super::{ExportSpec, ObjectSpec, WindowSpec};
use crate::backend::cranelift::loops::{memory, narrowed};
use crate::backend::cranelift::scalar::{self, ConstantTables};
use crate::ir::{Op, StateId, Ty};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::{FunctionBuilder, Variable};

/// The windows that a call is in.
pub(super) struct Turns {
    /// For each of [`ObjectSpec::windows`].
    windows: Vec<Turn>,
    /// Addresses of the states and of the caller's structure of exports, which may be null.
    registers: Value,
    exports: Value,
}

struct Turn {
    bytes: u64,
    /// Bytes from the window's start.
    gone: Variable,
    /// Windows since the call began.
    number: Variable,
}

impl Turns {
    /// At `pos` of the stream.
    pub(super) fn begin(
        b: &mut FunctionBuilder<'_>,
        spec: &ObjectSpec<'_>,
        registers: Value,
        exports: Value,
        pos: Variable,
    ) -> Turns {
        let at = b.use_var(pos);
        let mut turn = |window: &WindowSpec<'_>| {
            let (gone, number) = (b.declare_var(types::I64), b.declare_var(types::I64));
            let within = b.ins().urem_imm_u(at, window.bytes as i64);
            b.def_var(gone, within);
            let zero = b.ins().iconst(types::I64, 0);
            b.def_var(number, zero);
            Turn { bytes: window.bytes, gone, number }
        };
        let windows = spec.windows.iter().map(&mut turn).collect();
        Turns { windows, registers, exports }
    }

    /// At most `n` bytes: as many as no window ends before.
    pub(super) fn limited(&self, b: &mut FunctionBuilder<'_>, n: Value) -> Value {
        self.windows.iter().fold(n, |n, turn| {
            let gone = b.use_var(turn.gone);
            let whole = b.ins().iconst(types::I64, turn.bytes as i64);
            let left = b.ins().isub(whole, gone);
            b.ins().umin(n, left)
        })
    }

    /// The offset that the code counts from, if it is one within a window.
    pub(super) fn pos(&self, b: &mut FunctionBuilder<'_>, spec: &ObjectSpec<'_>) -> Option<Value> {
        let turn = self.windows.iter().find(|turn| Some(turn.bytes) == spec.pos_window)?;
        Some(b.use_var(turn.gone))
    }

    /// `n` bytes are done.
    pub(super) fn advance(
        &self,
        b: &mut FunctionBuilder<'_>,
        n: Value,
        spec: &ObjectSpec<'_>,
        tables: &mut ConstantTables,
    ) -> Result<(), String> {
        for (turn, window) in self.windows.iter().zip(spec.windows) {
            let gone = b.use_var(turn.gone);
            let gone = b.ins().iadd(gone, n);
            b.def_var(turn.gone, gone);
            let (ends, after) = (b.create_block(), b.create_block());
            let is_whole = b.ins().icmp_imm_u(IntCC::Equal, gone, turn.bytes as i64);
            b.ins().brif(is_whole, ends, &[], after, &[]);
            b.switch_to_block(ends);
            self.take(b, turn, window, spec, tables)?;
            for (state, first) in &window.states {
                let value = b.ins().load(types::I64, memory(), self.registers, 8 * *first as i32);
                b.ins().store(memory(), value, self.registers, 8 * *state as i32);
            }
            let number = b.use_var(turn.number);
            let number = b.ins().iadd_imm_s(number, 1);
            b.def_var(turn.number, number);
            let zero = b.ins().iconst(types::I64, 0);
            b.def_var(turn.gone, zero);
            b.ins().jump(after, &[]);
            b.switch_to_block(after);
        }
        Ok(())
    }

    /// The call is over: what windows that have begun come to so far.
    pub(super) fn end(
        &self,
        b: &mut FunctionBuilder<'_>,
        spec: &ObjectSpec<'_>,
        tables: &mut ConstantTables,
    ) -> Result<(), String> {
        for (turn, window) in self.windows.iter().zip(spec.windows) {
            let (begun, after) = (b.create_block(), b.create_block());
            let gone = b.use_var(turn.gone);
            b.ins().brif(gone, begun, &[], after, &[]);
            b.switch_to_block(begun);
            self.take(b, turn, window, spec, tables)?;
            b.ins().jump(after, &[]);
            b.switch_to_block(after);
        }
        Ok(())
    }

    /// The results of a window into those lists that the caller has.
    fn take(
        &self,
        b: &mut FunctionBuilder<'_>,
        turn: &Turn,
        window: &WindowSpec<'_>,
        spec: &ObjectSpec<'_>,
        tables: &mut ConstantTables,
    ) -> Result<(), String> {
        let (wanted, after) = (b.create_block(), b.create_block());
        b.ins().brif(self.exports, wanted, &[], after, &[]);
        b.switch_to_block(wanted);
        for export in &window.exports {
            let list = b.ins().load(types::I64, memory(), self.exports, export.offset as i32);
            let (put, next) = (b.create_block(), b.create_block());
            b.ins().brif(list, put, &[], next, &[]);
            b.switch_to_block(put);
            let value = export_value(b, export, spec.states, self.registers, tables)?;
            let number = b.use_var(turn.number);
            let bytes = i64::from(b.func.dfg.value_type(value).bytes());
            let place = b.ins().imul_imm_s(number, bytes);
            let place = b.ins().iadd(list, place);
            b.ins().store(memory(), value, place, 0);
            b.ins().jump(next, &[]);
            b.switch_to_block(next);
        }
        b.ins().jump(after, &[]);
        b.switch_to_block(after);
        Ok(())
    }
}

/// An export as the registers are now.
pub(super) fn export_value(
    b: &mut FunctionBuilder<'_>,
    export: &ExportSpec<'_>,
    states: &[(Ty, u64)],
    registers: Value,
    tables: &mut ConstantTables,
) -> Result<Value, String> {
    let values = scalar::block(b, export.finish, export.tables, tables, |b, op| {
        let Op::State(StateId(state)) = op else { return b.ins().iconst(types::I64, 0) };
        let index = export.base + state as usize;
        let raw = b.ins().load(types::I64, memory(), registers, 8 * index as i32);
        narrowed(b, raw, states[index].0)
    })?;
    Ok(values[export.value.0 as usize])
}
