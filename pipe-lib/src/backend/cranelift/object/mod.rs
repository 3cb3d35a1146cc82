//! Functions for other programs, as an object file: the pass as portable code, code for sets of instructions
//! as it was emitted elsewhere, and between them and the caller a function that checks, chooses and exports.
//!
//! ```text
//! NAME              arguments checked, states in and out, exports   (`entry`), window by window (`windows`)
//!   NAME.choose     which code this processor runs; asked once      (`choice`)
//!     NAME.processor  what it has: finished code
//!   NAME.portable   the contract of `PassCode::run`                 (`driver`, `combine`)
//!     NAME.words, NAME.tail                                         (as in a process)
//!   NAME.code0 ...  the same contract: finished code, for the null destination another
//! ```
//!
//! All refer to each other relative to where they are; there is no reference to anything outside the object.

mod choice;
mod combine;
mod driver;
mod entry;
mod windows;

use super::builder::is_x86;
use super::scalar::ConstantTables;
use super::{finish, loops, unsupported, vectors};
use crate::backend::cranelift::body::LaneLoop;
use crate::error::Unsupported;
use crate::ir::{Block, Table, Ty};
use crate::plan::portable::PortablePlan;
use crate::plan::target::Target;
use cranelift_codegen::ir::{self, ExternalName, FuncRef, Function, GlobalValue};
use cranelift_codegen::isa::{CallConv, LookupError, OwnedTargetIsa};
use cranelift_codegen::{Context, FinalizedRelocTarget};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::{
    DataDescription, DataId, FuncId, Linkage, Module, ModuleError, default_libcall_names,
};
use cranelift_object::{ObjectBuilder, ObjectModule};
use object::SymbolScope;
use object::write::{StandardSection, SymbolSection};

/// Which machines an object is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ObjectMachine {
    /// Those of this one's kind and system.
    #[default]
    Host,
    /// x86-64, as ELF.
    X86,
    /// AArch64, as ELF.
    Arm,
}

impl ObjectMachine {
    /// The vectors that there are portable loops for.
    pub(crate) fn vectors(self) -> Option<Target> {
        match self {
            ObjectMachine::Host => super::target(),
            ObjectMachine::X86 | ObjectMachine::Arm => Some(vectors()),
        }
    }

    /// Whether this machine's code runs there.
    pub(crate) fn is_x86(self) -> bool {
        match self {
            ObjectMachine::Host => cfg!(target_arch = "x86_64"),
            ObjectMachine::X86 => true,
            ObjectMachine::Arm => false,
        }
    }
}

/// What is to be in the object.
pub(crate) struct ObjectSpec<'a> {
    pub(crate) machine: ObjectMachine,
    /// The exported function's symbol.
    pub(crate) name: &'a str,
    /// Whether some stage writes words.
    pub(crate) modifies: bool,
    /// Bytes of a word of which a length has to be a multiple; 1 if it may be any.
    pub(crate) reject_word: usize,
    /// Types and first values of the states, flattened, and behind them of those that windows begin with.
    pub(crate) states: &'a [(Ty, u64)],
    /// Of stages without windows.
    pub(crate) exports: &'a [ExportSpec<'a>],
    pub(crate) windows: &'a [WindowSpec<'a>],
    /// The window within which the code counts offsets, if it does.
    pub(crate) pos_window: Option<u64>,
    /// The window at whose end a word may be cut, if there is one.
    pub(crate) cut_window: Option<u64>,
    /// Code for processors, the best first.
    pub(crate) variants: &'a [ProcessorCode],
    /// Finished code that fills the words that [`ProcessorCode::needs`] is held against; with variants alone.
    pub(crate) processor: &'a [u8],
    /// Most bytes of a call of any of the code.
    pub(crate) longest_call: usize,
}

/// Stages whose windows are equally long.
pub(crate) struct WindowSpec<'a> {
    pub(crate) bytes: u64,
    /// Their states, each with the number of the one behind all states that it begins a window as.
    pub(crate) states: Vec<(usize, usize)>,
    /// Their exports; in the caller's structure there is the address of a list, or null.
    pub(crate) exports: Vec<ExportSpec<'a>>,
}

/// How an export follows from the states of its stage.
pub(crate) struct ExportSpec<'a> {
    pub(crate) finish: &'a Block,
    pub(crate) tables: &'a [Table],
    pub(crate) value: crate::ir::Value,
    /// Number of the stage's first state.
    pub(crate) base: usize,
    /// Where it, or the address of its list, is in the caller's structure.
    pub(crate) offset: usize,
}

/// Finished code for one set of instructions.
pub(crate) struct ProcessorCode {
    /// Bits that the processor's words have, each of them.
    pub(crate) needs: Vec<u32>,
    pub(crate) copying: CodeBytes,
    /// For calls with a null destination; without, there are none.
    pub(crate) reading: Option<CodeBytes>,
}

/// Constants and code, to be placed at a multiple of 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CodeBytes {
    pub(crate) bytes: Vec<u8>,
    /// Where its instructions begin.
    pub(crate) entry: usize,
}

/// What the exported function gives.
pub(crate) mod outcome {
    /// Done.
    pub(crate) const OK: i64 = 0;
    /// A length that a tail rule rejects.
    pub(crate) const BAD_LENGTH: i64 = 1;
    /// Source and destination overlap in part.
    pub(crate) const OVERLAP: i64 = 2;
    /// There is something to write, and nowhere to.
    pub(crate) const NO_DESTINATION: i64 = 3;
    /// The stream has ended: its last piece was no multiple of the word.
    pub(crate) const ENDED: i64 = 4;
}

/// The object file.
pub(crate) fn write(plan: &mut PortablePlan, spec: &ObjectSpec<'_>) -> Result<Vec<u8>, Unsupported> {
    let isa = isa(spec.machine)?;
    let mut lanes = LaneLoop::of(plan);
    if lanes.as_ref().is_some_and(|lanes| !combine::is_simple(&lanes.body)) {
        plan.vector = Err("partial results that the library puts together".to_owned());
        lanes = None;
    }
    match write_plan(plan, lanes.as_ref(), spec, &isa) {
        // A machine may lack a vector instruction; the scalar loop needs none.
        Err(error) if lanes.is_some() => {
            plan.vector = Err(error.what);
            write_plan(plan, None, spec, &isa)
        }
        result => result,
    }
}

/// The least of that kind that code can be for.
fn isa(machine: ObjectMachine) -> Result<OwnedTargetIsa, Unsupported> {
    let made = || {
        let builder = match machine {
            ObjectMachine::Host => {
                let host = cranelift_native::builder().map_err(str::to_owned)?;
                cranelift_codegen::isa::lookup(host.triple().clone())
            }
            ObjectMachine::X86 => cranelift_codegen::isa::lookup_by_name("x86_64-unknown-linux-gnu"),
            ObjectMachine::Arm => cranelift_codegen::isa::lookup_by_name("aarch64-unknown-linux-gnu"),
        };
        let missing = "its code generator is not in this build: make one with the feature `cross`";
        let builder = builder.map_err(|error| match error {
            LookupError::SupportDisabled => missing.to_owned(),
            LookupError::Unsupported => error.to_string(),
        })?;
        finish(builder, "backtracking")
    };
    made().map_err(unsupported)
}

fn write_plan(
    plan: &PortablePlan,
    lanes: Option<&LaneLoop>,
    spec: &ObjectSpec<'_>,
    isa: &OwnedTargetIsa,
) -> Result<Vec<u8>, Unsupported> {
    let mut draft = Draft::new(isa.clone(), spec.name)?;
    // The only data beside the tables, which code knows by number, is in front of them.
    let memo = if spec.variants.is_empty() { None } else { Some(draft.memo()?) };
    let mut tables = ConstantTables::in_object(u32::from(memo.is_some()));
    let by_chunks = plan.by_chunks();
    let word = (!by_chunks).then_some(&plan.word);
    let words = loops::build(isa, &mut draft.frontend, word, lanes, &mut tables).map_err(unsupported)?;
    let tail = (plan.gauge > 1)
        .then(|| loops::build_tail(isa, &mut draft.frontend, &plan.tail, &mut tables))
        .transpose()
        .map_err(unsupported)?;
    let words = draft.define(".words", Linkage::Local, words)?;
    let tail = tail.map(|tail| draft.define(".tail", Linkage::Local, tail)).transpose()?;
    let portable = driver::build(&mut draft, plan, lanes, words, tail);
    let portable = draft.define(".portable", Linkage::Local, portable)?;
    let mut loose = Vec::new();
    let mut kernels = Vec::new();
    for (number, variant) in spec.variants.iter().enumerate() {
        let copying = draft.declare(&format!(".code{number}"), &driver::signature(isa))?;
        loose.push((copying, &variant.copying));
        let reading = match &variant.reading {
            Some(code) => {
                let reading = draft.declare(&format!(".reading{number}"), &driver::signature(isa))?;
                loose.push((reading, code));
                reading
            }
            None => copying,
        };
        kernels.push([copying, reading]);
    }
    let processor_code = CodeBytes { bytes: spec.processor.to_vec(), entry: 0 };
    let choice = match memo {
        Some(memo) => {
            let processor = draft.declare(".processor", &choice::processor_signature(isa))?;
            loose.push((processor, &processor_code));
            let choose = choice::build(&mut draft, spec, processor, memo);
            let choose = draft.define(".choose", Linkage::Local, choose)?;
            Some(CodeChoice { memo, choose, kernels })
        }
        None => None,
    };
    let entry = entry::build(&mut draft, spec, plan.gauge, portable, choice.as_ref(), &mut tables)?;
    if let Some(what) = tables.missing {
        return Err(unsupported(what.to_owned()));
    }
    draft.define("", Linkage::Export, entry)?;
    draft.define_tables(tables.into_owned(), memo)?;
    draft.finish(&loose)
}

/// How the code that runs is chosen.
struct CodeChoice {
    /// What was chosen, once it was: 0 before, the number of the code plus 1, or one more than the last for
    /// what is portable.
    memo: DataId,
    choose: FuncId,
    /// For each code, the functions for destinations that are there and for those that are null.
    kernels: Vec<[FuncId; 2]>,
}

/// An object on the way.
struct Draft<'a> {
    module: ObjectModule,
    frontend: FunctionBuilderContext,
    name: &'a str,
}

impl<'a> Draft<'a> {
    fn new(isa: OwnedTargetIsa, name: &'a str) -> Result<Draft<'a>, Unsupported> {
        let builder = ObjectBuilder::new(isa, name, default_libcall_names()).map_err(refused)?;
        Ok(Draft { module: ObjectModule::new(builder), frontend: FunctionBuilderContext::new(), name })
    }

    fn isa(&self) -> &dyn cranelift_codegen::isa::TargetIsa {
        self.module.isa()
    }

    fn symbol(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.name)
    }

    /// A function whose bytes come last.
    fn declare(&mut self, suffix: &str, signature: &ir::Signature) -> Result<FuncId, Unsupported> {
        let symbol = self.symbol(suffix);
        self.module.declare_function(&symbol, Linkage::Import, signature).map_err(refused)
    }

    fn define(&mut self, suffix: &str, linkage: Linkage, func: Function) -> Result<FuncId, Unsupported> {
        let symbol = self.symbol(suffix);
        let id = self.module.declare_function(&symbol, linkage, &func.signature).map_err(refused)?;
        let mut context = Context::for_function(func);
        self.module.define_function(id, &mut context).map_err(refused)?;
        let relocations = context.compiled_code().map_or(&[][..], |code| code.buffer.relocs());
        let known = |target: &FinalizedRelocTarget| {
            matches!(
                target,
                FinalizedRelocTarget::ExternalName(ExternalName::User(_)) | FinalizedRelocTarget::Func(_)
            )
        };
        // What the least processors have no instruction for would be a call of Cranelift's library.
        match relocations.iter().find(|relocation| !known(&relocation.target)) {
            Some(relocation) => Err(unsupported(format!("a call of {:?}", relocation.target))),
            None => Ok(id),
        }
    }

    /// A reference to a function that is near, wherever its bytes come from.
    fn near(&mut self, id: FuncId, func: &mut Function) -> FuncRef {
        let reference = self.module.declare_func_in_func(id, func);
        func.dfg.ext_funcs[reference].colocated = true;
        reference
    }

    fn data(&mut self, id: DataId, func: &mut Function) -> GlobalValue {
        self.module.declare_data_in_func(id, func)
    }

    /// A number that is zero at first.
    fn memo(&mut self) -> Result<DataId, Unsupported> {
        let symbol = self.symbol(".choice");
        let id = self.module.declare_data(&symbol, Linkage::Local, true, false).map_err(refused)?;
        let mut data = DataDescription::new();
        data.define_zeroinit(8);
        data.set_align(8);
        self.module.define_data(id, &data).map_err(refused)?;
        Ok(id)
    }

    /// The tables, which must be the first data of the module but for that: code knows them by number.
    fn define_tables(&mut self, tables: Vec<Box<[u8]>>, memo: Option<DataId>) -> Result<(), Unsupported> {
        let first = usize::from(memo.is_some());
        for (number, bytes) in tables.into_iter().enumerate() {
            let symbol = self.symbol(&format!(".table{number}"));
            let id = self.module.declare_data(&symbol, Linkage::Local, false, false).map_err(refused)?;
            if id.as_u32() as usize != first + number {
                return Err(unsupported("tables that are not the first data".to_owned()));
            }
            let mut data = DataDescription::new();
            data.define(bytes);
            data.set_align(64);
            self.module.define_data(id, &data).map_err(refused)?;
        }
        Ok(())
    }

    /// The file, with finished code at the end of the text.
    fn finish(self, loose: &[(FuncId, &CodeBytes)]) -> Result<Vec<u8>, Unsupported> {
        let mut product = self.module.finish();
        for (id, code) in loose {
            let symbol = product.function_symbol(*id);
            let section = product.object.section_id(StandardSection::Text);
            let at = product.object.append_section_data(section, &code.bytes, 64);
            let symbol = product.object.symbol_mut(symbol);
            symbol.section = SymbolSection::Section(section);
            symbol.scope = SymbolScope::Compilation;
            symbol.value = at + code.entry as u64;
            symbol.size = (code.bytes.len() - code.entry) as u64;
        }
        product.emit().map_err(|error| unsupported(format!("an object file: {error}")))
    }
}

/// The convention of finished code.
fn convention(isa: &dyn cranelift_codegen::isa::TargetIsa) -> CallConv {
    if is_x86(isa) { CallConv::SystemV } else { isa.default_call_conv() }
}

fn refused(error: ModuleError) -> Unsupported {
    unsupported(match error {
        ModuleError::Compilation(error) => format!("{error:?}"),
        error => error.to_string(),
    })
}
