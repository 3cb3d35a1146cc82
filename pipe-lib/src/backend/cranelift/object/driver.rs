//! The contract of [`PassCode::run`](crate::backend::PassCode::run) as code: whole chunks, the words after
//! them, the last bytes. What `super::super::run` does in a process.

use super::{Draft, combine, convention};
use crate::backend::cranelift::VECTOR_BYTES;
use crate::backend::cranelift::body::LaneLoop;
use crate::backend::cranelift::loops::memory;
use crate::backend::cranelift::scalar::scalar_type;
use crate::ir::Ty;
use crate::plan::portable::{MAX_PARTIALS, PortablePlan};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, FuncRef, Function, InstBuilder, Signature, StackSlotData, StackSlotKind, UserFuncName, Value,
    types,
};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_frontend::{FunctionBuilder, Variable};
use cranelift_module::FuncId;

/// `fn(states, pos, src, dst, len)`.
pub(super) fn signature(isa: &OwnedTargetIsa) -> Signature {
    signature_of(&**isa)
}

pub(super) fn signature_of(isa: &dyn cranelift_codegen::isa::TargetIsa) -> Signature {
    let mut signature = Signature::new(convention(isa));
    signature.params.extend([AbiParam::new(types::I64); 5]);
    signature
}

/// Where the stretch has got to.
struct Cursor {
    src: Variable,
    to: Variable,
    pos: Variable,
    /// All ones, or zero to store everything in one place.
    step: Value,
}

impl Cursor {
    fn advance(&self, b: &mut FunctionBuilder<'_>, n: Value) {
        let (src, to, pos) = (b.use_var(self.src), b.use_var(self.to), b.use_var(self.pos));
        let moved = b.ins().band(n, self.step);
        let (src, to, pos) = (b.ins().iadd(src, n), b.ins().iadd(to, moved), b.ins().iadd(pos, n));
        b.def_var(self.src, src);
        b.def_var(self.to, to);
        b.def_var(self.pos, pos);
    }
}

/// The function for a plan, which calls the two of [`super::loops`].
pub(super) fn build(
    draft: &mut Draft<'_>,
    plan: &PortablePlan,
    lanes: Option<&LaneLoop>,
    words: FuncId,
    tail: Option<FuncId>,
) -> Function {
    let signature = signature_of(draft.isa());
    let mut func = Function::with_name_signature(UserFuncName::user(0, 2), signature);
    let words = draft.near(words, &mut func);
    let tail = tail.map(|tail| draft.near(tail, &mut func));
    let config = draft.isa().frontend_config();
    let mut builder = FunctionBuilder::new(&mut func, &mut draft.frontend);
    let b = &mut builder;
    let block = b.create_block();
    b.append_block_params_for_function_params(block);
    b.switch_to_block(block);
    let &[states, pos, src, dst, len] = b.block_params(block) else { unreachable!("five parameters") };
    let slot = |size: usize| StackSlotData::new(StackSlotKind::ExplicitSlot, size as u32, 4);
    let spare = b.create_sized_stack_slot(slot(64));
    let spare = b.ins().stack_addr(types::I64, spare, 0);
    let partials = b.create_sized_stack_slot(slot(MAX_PARTIALS * VECTOR_BYTES));
    let partials = b.ins().stack_addr(types::I64, partials, 0);
    // The loop stores always; where nothing is to be written, to the same spare line again and again.
    let reads = b.ins().icmp_imm_u(IntCC::Equal, dst, 0);
    let to = b.ins().select(reads, spare, dst);
    let (none, all) = (b.ins().iconst(types::I64, 0), b.ins().iconst(types::I64, -1));
    let step = b.ins().select(reads, none, all);
    let cursor = Cursor {
        src: b.declare_var(types::I64),
        to: b.declare_var(types::I64),
        pos: b.declare_var(types::I64),
        step,
    };
    b.def_var(cursor.src, src);
    b.def_var(cursor.to, to);
    b.def_var(cursor.pos, pos);

    let gauge = plan.gauge as i64;
    let whole = b.ins().band_imm_s(len, -gauge);
    let rest = b.ins().isub(len, whole);
    let chunks = if lanes.is_some() { b.ins().band_imm_s(whole, -(VECTOR_BYTES as i64)) } else { whole };
    let call = |b: &mut FunctionBuilder<'_>, n: Value| {
        let (src, to, pos) = (b.use_var(cursor.src), b.use_var(cursor.to), b.use_var(cursor.pos));
        b.ins().call(words, &[states, pos, src, to, cursor.step, n, partials]);
    };
    unless_zero(b, chunks, |b| {
        call(b, chunks);
        if let Some(lanes) = lanes {
            combine::take(b, &lanes.body, states, partials);
        }
        cursor.advance(b, chunks);
    });
    let after = b.ins().isub(whole, chunks);
    if let Some(tail) = tail.filter(|_| plan.by_chunks()) {
        words_one_by_one(b, &cursor, tail, states, gauge, after);
    } else if lanes.is_some() {
        unless_zero(b, after, |b| {
            call(b, after);
            cursor.advance(b, after);
        });
    }
    if let Some(tail) = tail {
        unless_zero(b, rest, |b| last_bytes(b, &cursor, tail, states, rest));
    }
    b.ins().return_(&[]);
    b.seal_all_blocks();
    builder.finalize(config);
    func
}

/// What to do if a number is not zero.
fn unless_zero(b: &mut FunctionBuilder<'_>, n: Value, what: impl FnOnce(&mut FunctionBuilder<'_>)) {
    let (does, after) = (b.create_block(), b.create_block());
    b.ins().brif(n, does, &[], after, &[]);
    b.switch_to_block(does);
    what(b);
    b.ins().jump(after, &[]);
    b.switch_to_block(after);
}

/// `left` bytes of whole words, each through the function for the last bytes.
fn words_one_by_one(
    b: &mut FunctionBuilder<'_>,
    cursor: &Cursor,
    tail: FuncRef,
    states: Value,
    gauge: i64,
    left: Value,
) {
    let more = b.declare_var(types::I64);
    b.def_var(more, left);
    let (head, body, after) = (b.create_block(), b.create_block(), b.create_block());
    b.ins().jump(head, &[]);
    b.switch_to_block(head);
    let left = b.use_var(more);
    b.ins().brif(left, body, &[], after, &[]);
    b.switch_to_block(body);
    let ty = scalar_type(Ty::from_bytes(gauge as usize).unwrap_or(Ty::U64));
    let (src, to, pos) = (b.use_var(cursor.src), b.use_var(cursor.to), b.use_var(cursor.pos));
    let raw = b.ins().load(ty, memory(), src, 0);
    let raw = if ty == types::I64 { raw } else { b.ins().uextend(types::I64, raw) };
    let gauge = b.ins().iconst(types::I64, gauge);
    let call = b.ins().call(tail, &[states, pos, raw, gauge]);
    let out = b.inst_results(call)[0];
    let out = if ty == types::I64 { out } else { b.ins().ireduce(ty, out) };
    b.ins().store(memory(), out, to, 0);
    cursor.advance(b, gauge);
    let left = b.use_var(more);
    let left = b.ins().isub(left, gauge);
    b.def_var(more, left);
    b.ins().jump(head, &[]);
    b.switch_to_block(after);
}

/// The last `rest` bytes, fewer than a word: read and written one by one.
fn last_bytes(b: &mut FunctionBuilder<'_>, cursor: &Cursor, tail: FuncRef, states: Value, rest: Value) {
    let (src, to, pos) = (b.use_var(cursor.src), b.use_var(cursor.to), b.use_var(cursor.pos));
    let word = b.declare_var(types::I64);
    let zero = b.ins().iconst(types::I64, 0);
    b.def_var(word, zero);
    each_byte(b, rest, |b, at| {
        let from = b.ins().iadd(src, at);
        let byte = b.ins().load(types::I8, memory(), from, 0);
        let byte = b.ins().uextend(types::I64, byte);
        let place = b.ins().ishl_imm_u(at, 3);
        let byte = b.ins().ishl(byte, place);
        let known = b.use_var(word);
        let known = b.ins().bor(known, byte);
        b.def_var(word, known);
    });
    let raw = b.use_var(word);
    let call = b.ins().call(tail, &[states, pos, raw, rest]);
    let out = b.inst_results(call)[0];
    each_byte(b, rest, |b, at| {
        let place = b.ins().ishl_imm_u(at, 3);
        let byte = b.ins().ushr(out, place);
        let byte = b.ins().ireduce(types::I8, byte);
        let to = b.ins().iadd(to, at);
        b.ins().store(memory(), byte, to, 0);
    });
}

/// A loop over the numbers below `count`, which is not zero.
fn each_byte(b: &mut FunctionBuilder<'_>, count: Value, what: impl FnOnce(&mut FunctionBuilder<'_>, Value)) {
    let index = b.declare_var(types::I64);
    let zero = b.ins().iconst(types::I64, 0);
    b.def_var(index, zero);
    let (body, after) = (b.create_block(), b.create_block());
    b.ins().jump(body, &[]);
    b.switch_to_block(body);
    let at = b.use_var(index);
    what(b, at);
    let next = b.ins().iadd_imm_s(at, 1);
    b.def_var(index, next);
    let more = b.ins().icmp(IntCC::UnsignedLessThan, next, count);
    b.ins().brif(more, body, &[], after, &[]);
    b.switch_to_block(after);
}
