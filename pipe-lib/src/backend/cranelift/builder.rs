//! What loops are written with: Cranelift's builder, and which processors the code is for where they differ.

use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use std::ops::{Deref, DerefMut};

/// [`FunctionBuilder`] for one kind of processor, which may be another than this machine's.
pub(super) struct LoopBuilder<'a> {
    builder: FunctionBuilder<'a>,
    /// Whether x86-64's own shuffles and products are there.
    pub(super) x86: bool,
}

impl<'a> LoopBuilder<'a> {
    pub(super) fn new(
        func: &'a mut Function,
        frontend: &'a mut FunctionBuilderContext,
        isa: &dyn TargetIsa,
    ) -> LoopBuilder<'a> {
        LoopBuilder { builder: FunctionBuilder::new(func, frontend), x86: is_x86(isa) }
    }

    /// The function is whole: all its blocks are known.
    pub(super) fn finish(mut self, isa: &dyn TargetIsa) {
        self.builder.seal_all_blocks();
        self.builder.finalize(isa.frontend_config());
    }
}

/// Whether code for it is x86-64's.
pub(super) fn is_x86(isa: &dyn TargetIsa) -> bool {
    isa.name() == "x64"
}

impl<'a> Deref for LoopBuilder<'a> {
    type Target = FunctionBuilder<'a>;

    fn deref(&self) -> &FunctionBuilder<'a> {
        &self.builder
    }
}

impl<'a> DerefMut for LoopBuilder<'a> {
    fn deref_mut(&mut self) -> &mut FunctionBuilder<'a> {
        &mut self.builder
    }
}
