//! The function that other programs call: arguments checked, states in and out, exports.

use super::driver::signature_of;
use super::windows::{Turns, export_value};
use super::{CodeChoice, Draft, ObjectSpec, outcome};
use crate::backend::cranelift::loops::memory;
use crate::backend::cranelift::scalar::ConstantTables;
use crate::backend::cranelift::unsupported;
use crate::error::Unsupported;
use crate::ir::Ty;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Function, InstBuilder, Signature, StackSlotData, StackSlotKind, UserFuncName, Value, types,
};
use cranelift_frontend::FunctionBuilder;
use cranelift_module::FuncId;

/// `fn(state, src, dst, len, exports) -> outcome`, as C calls it. The caller's state is the offset in the
/// stream and the registers, 64 bits each.
pub(super) fn build(
    draft: &mut Draft<'_>,
    spec: &ObjectSpec<'_>,
    gauge: usize,
    portable: FuncId,
    choice: Option<&CodeChoice>,
    tables: &mut ConstantTables,
) -> Result<Function, Unsupported> {
    let mut signature = Signature::new(draft.isa().default_call_conv());
    signature.params.extend([AbiParam::new(types::I64); 5]);
    signature.returns.push(AbiParam::new(types::I32));
    let mut func = Function::with_name_signature(UserFuncName::user(0, 4), signature);
    let portable = draft.near(portable, &mut func);
    let choose =
        choice.map(|choice| (draft.data(choice.memo, &mut func), draft.near(choice.choose, &mut func)));
    let kernels: Vec<_> = choice
        .into_iter()
        .flat_map(|choice| &choice.kernels)
        .map(|ids| ids.map(|id| draft.near(id, &mut func)))
        .collect();
    let kernel_signature = func.import_signature(signature_of(draft.isa()));
    let config = draft.isa().frontend_config();
    let mut builder = FunctionBuilder::new(&mut func, &mut draft.frontend);
    let b = &mut builder;
    let block = b.create_block();
    b.append_block_params_for_function_params(block);
    b.switch_to_block(block);
    let &[state, src, dst, len, exports] = b.block_params(block) else { unreachable!("five parameters") };

    // Everything that is refused is refused before the first byte.
    if spec.reject_word > 1 {
        let rest = b.ins().band_imm_u(len, spec.reject_word as i64 - 1);
        refuse_if(b, rest, outcome::BAD_LENGTH);
    }
    let is_null = b.ins().icmp_imm_u(IntCC::Equal, dst, 0);
    if spec.modifies {
        let some = b.ins().icmp_imm_u(IntCC::NotEqual, len, 0);
        let missing = b.ins().band(is_null, some);
        refuse_if(b, missing, outcome::NO_DESTINATION);
    }
    let (ahead, behind) = (b.ins().isub(dst, src), b.ins().isub(src, dst));
    let within = b.ins().icmp(IntCC::UnsignedLessThan, ahead, len);
    let before = b.ins().icmp(IntCC::UnsignedLessThan, behind, len);
    let overlaps = b.ins().bor(within, before);
    let elsewhere = b.ins().icmp(IntCC::NotEqual, dst, src);
    let overlaps = b.ins().band(overlaps, elsewhere);
    let there = b.ins().icmp_imm_u(IntCC::NotEqual, dst, 0);
    let overlaps = b.ins().band(overlaps, there);
    refuse_if(b, overlaps, outcome::OVERLAP);

    let bytes = 8 * spec.states.len().max(1);
    let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32, 3));
    let registers = b.ins().stack_addr(types::I64, slot, 0);
    let pos = b.declare_var(types::I64);
    let (given, initial, started) = (b.create_block(), b.create_block(), b.create_block());
    b.ins().brif(state, given, &[], initial, &[]);
    b.switch_to_block(given);
    let at = b.ins().load(types::I64, memory(), state, 0);
    if gauge > 1 {
        let within = match spec.cut_window {
            Some(window) => b.ins().urem_imm_u(at, window as i64),
            None => at,
        };
        let rest = b.ins().band_imm_u(within, gauge as i64 - 1);
        refuse_if(b, rest, outcome::ENDED);
    }
    b.def_var(pos, at);
    for (index, (ty, _)) in spec.states.iter().enumerate() {
        let value = b.ins().load(types::I64, memory(), state, 8 + 8 * index as i32);
        let value = if *ty == Ty::U64 { value } else { b.ins().band_imm_u(value, ty.mask() as i64) };
        b.ins().store(memory(), value, registers, 8 * index as i32);
    }
    b.ins().jump(started, &[]);
    b.switch_to_block(initial);
    let zero = b.ins().iconst(types::I64, 0);
    b.def_var(pos, zero);
    for (index, (_, value)) in spec.states.iter().enumerate() {
        let value = b.ins().iconst(types::I64, *value as i64);
        b.ins().store(memory(), value, registers, 8 * index as i32);
    }
    b.ins().jump(started, &[]);
    b.switch_to_block(started);

    let zero = b.ins().iconst(types::I64, 0);
    // In place and nothing to write: reading is enough.
    let to = if spec.modifies { dst } else { b.ins().select(elsewhere, dst, zero) };
    let mut kernel = b.ins().func_addr(types::I64, portable);
    if let Some((memo, choose)) = choose {
        let memo = b.ins().symbol_value(types::I64, memo);
        let known = b.ins().load(types::I64, memory(), memo, 0);
        let chosen = b.declare_var(types::I64);
        b.def_var(chosen, known);
        let (ask, after) = (b.create_block(), b.create_block());
        b.ins().brif(known, after, &[], ask, &[]);
        b.switch_to_block(ask);
        let call = b.ins().call(choose, &[]);
        let answer = b.inst_results(call)[0];
        b.def_var(chosen, answer);
        b.ins().jump(after, &[]);
        b.switch_to_block(after);
        let chosen = b.use_var(chosen);
        let reads = b.ins().icmp_imm_u(IntCC::Equal, to, 0);
        for (number, [copying, reading]) in kernels.into_iter().enumerate() {
            let function = b.ins().func_addr(types::I64, copying);
            let function = if copying == reading {
                function
            } else {
                let reading = b.ins().func_addr(types::I64, reading);
                b.ins().select(reads, reading, function)
            };
            let is = b.ins().icmp_imm_u(IntCC::Equal, chosen, 1 + number as i64);
            kernel = b.ins().select(is, function, kernel);
        }
    }
    let turns = Turns::begin(b, spec, registers, exports, pos);
    let stretch = Stretch { registers, pos, src, to, len };
    call_in_parts(b, kernel, kernel_signature, stretch, spec, &turns, tables).map_err(unsupported)?;
    turns.end(b, spec, tables).map_err(unsupported)?;

    let (put, put_done) = (b.create_block(), b.create_block());
    b.ins().brif(state, put, &[], put_done, &[]);
    b.switch_to_block(put);
    let at = b.use_var(pos);
    b.ins().store(memory(), at, state, 0);
    for index in 0..spec.states.len() as i32 {
        let value = b.ins().load(types::I64, memory(), registers, 8 * index);
        b.ins().store(memory(), value, state, 8 + 8 * index);
    }
    b.ins().jump(put_done, &[]);
    b.switch_to_block(put_done);

    let (give, done) = (b.create_block(), b.create_block());
    b.ins().brif(exports, give, &[], done, &[]);
    b.switch_to_block(give);
    for export in spec.exports {
        let value = export_value(b, export, spec.states, registers, tables).map_err(unsupported)?;
        b.ins().store(memory(), value, exports, export.offset as i32);
    }
    b.ins().jump(done, &[]);
    b.switch_to_block(done);
    let ok = b.ins().iconst(types::I32, outcome::OK);
    b.ins().return_(&[ok]);
    b.seal_all_blocks();
    builder.finalize(config);
    Ok(func)
}

/// Returns that outcome if `condition` is not zero.
fn refuse_if(b: &mut FunctionBuilder<'_>, condition: Value, outcome: i64) {
    let (refuse, go_on) = (b.create_block(), b.create_block());
    b.set_cold_block(refuse);
    b.ins().brif(condition, refuse, &[], go_on, &[]);
    b.switch_to_block(refuse);
    let outcome = b.ins().iconst(types::I32, outcome);
    b.ins().return_(&[outcome]);
    b.switch_to_block(go_on);
}

struct Stretch {
    registers: Value,
    pos: cranelift_frontend::Variable,
    src: Value,
    to: Value,
    len: Value,
}

/// The code over the whole stretch, in calls that its partial results stand.
fn call_in_parts(
    b: &mut FunctionBuilder<'_>,
    kernel: Value,
    signature: cranelift_codegen::ir::SigRef,
    Stretch { registers, pos, src, to, len }: Stretch,
    spec: &ObjectSpec<'_>,
    turns: &Turns,
    tables: &mut ConstantTables,
) -> Result<(), String> {
    let is_null = b.ins().icmp_imm_u(IntCC::Equal, to, 0);
    let (none, all) = (b.ins().iconst(types::I64, 0), b.ins().iconst(types::I64, -1));
    let step = b.ins().select(is_null, none, all);
    let longest = b.ins().iconst(types::I64, spec.longest_call as i64);
    let [from, into, left] = [src, to, len].map(|value| {
        let variable = b.declare_var(types::I64);
        b.def_var(variable, value);
        variable
    });
    let (head, body, after) = (b.create_block(), b.create_block(), b.create_block());
    b.ins().jump(head, &[]);
    b.switch_to_block(head);
    let more = b.use_var(left);
    b.ins().brif(more, body, &[], after, &[]);
    b.switch_to_block(body);
    let n = b.ins().umin(more, longest);
    let n = turns.limited(b, n);
    let (at, source, sink) = (b.use_var(pos), b.use_var(from), b.use_var(into));
    let place = turns.pos(b, spec).unwrap_or(at);
    b.ins().call_indirect(signature, kernel, &[registers, place, source, sink, n]);
    let moved = b.ins().band(n, step);
    let (at, source, sink) = (b.ins().iadd(at, n), b.ins().iadd(source, n), b.ins().iadd(sink, moved));
    let more = b.ins().isub(more, n);
    b.def_var(pos, at);
    b.def_var(from, source);
    b.def_var(into, sink);
    b.def_var(left, more);
    turns.advance(b, n, spec, tables)?;
    b.ins().jump(head, &[]);
    b.switch_to_block(after);
    Ok(())
}
