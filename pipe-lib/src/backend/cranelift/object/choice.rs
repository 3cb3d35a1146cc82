//! Which of the code this processor runs: what it has, held against what each code needs, the best first.

use super::{Draft, ObjectSpec, convention};
use crate::backend::cranelift::loops::memory;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Function, InstBuilder, Signature, StackSlotData, StackSlotKind, UserFuncName, types,
};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_frontend::FunctionBuilder;
use cranelift_module::{DataId, FuncId};

/// `fn(words)`: fills them with what the processor says of itself.
pub(super) fn processor_signature(isa: &OwnedTargetIsa) -> Signature {
    let mut signature = Signature::new(convention(&**isa));
    signature.params.push(AbiParam::new(types::I64));
    signature
}

/// `fn() -> choice`, which it leaves in the memo as well: see [`super::CodeChoice::memo`]. Threads that ask
/// at the same time all write the same.
pub(super) fn build(
    draft: &mut Draft<'_>,
    spec: &ObjectSpec<'_>,
    processor: FuncId,
    memo: DataId,
) -> Function {
    let mut signature = Signature::new(convention(draft.isa()));
    signature.returns.push(AbiParam::new(types::I64));
    let mut func = Function::with_name_signature(UserFuncName::user(0, 3), signature);
    let processor = draft.near(processor, &mut func);
    let memo = draft.data(memo, &mut func);
    let config = draft.isa().frontend_config();
    let mut b = FunctionBuilder::new(&mut func, &mut draft.frontend);
    let block = b.create_block();
    b.switch_to_block(block);
    let count = spec.variants.iter().map(|variant| variant.needs.len()).max().unwrap_or(0);
    let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, 4 * count.next_multiple_of(4) as u32, 4);
    let slot = b.create_sized_stack_slot(slot);
    let words = b.ins().stack_addr(types::I64, slot, 0);
    b.ins().call(processor, &[words]);
    let mut choice = b.ins().iconst(types::I64, 1 + spec.variants.len() as i64);
    for (number, variant) in spec.variants.iter().enumerate().rev() {
        let mut lacks = b.ins().iconst(types::I32, 0);
        for (at, needs) in variant.needs.iter().enumerate().filter(|(_, needs)| **needs != 0) {
            let word = b.ins().load(types::I32, memory(), words, 4 * at as i32);
            let needs = b.ins().iconst(types::I32, i64::from(*needs));
            let missing = b.ins().band_not(needs, word);
            lacks = b.ins().bor(lacks, missing);
        }
        let none = b.ins().icmp_imm_u(IntCC::Equal, lacks, 0);
        let this = b.ins().iconst(types::I64, 1 + number as i64);
        choice = b.ins().select(none, this, choice);
    }
    let memo = b.ins().symbol_value(types::I64, memo);
    b.ins().store(memory(), choice, memo, 0);
    b.ins().return_(&[choice]);
    b.seal_all_blocks();
    b.finalize(config);
    func
}
