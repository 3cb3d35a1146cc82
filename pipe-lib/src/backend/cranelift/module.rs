//! A pass's functions in a JIT module of Cranelift's, whose memory is the project's: pages of
//! [`crate::code`].
//!
//! The module places functions and seals them; what it is good for beyond that, names and relocations,
//! generated code does not use: it calls and reads by address. So functions may lie anywhere, and in any
//! order.

use super::{Host, unsupported};
use crate::code::{CodeDraft, CodeMemory};
use crate::error::Unsupported;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::{Context, ir};
use cranelift_jit::{BranchProtection, JITBuilder, JITMemoryKind, JITMemoryProvider, JITModule};
use cranelift_module::{Module, ModuleError, ModuleResult, default_libcall_names};
use std::io;
use std::sync::{Arc, OnceLock};

/// Functions of a pass, compiled one by one; each becomes a piece of the code, numbered as they come.
pub(super) struct PassModule<'a> {
    module: JITModule,
    host: &'a Host,
    sealed: Arc<OnceLock<CodeMemory>>,
    context: Context,
}

impl<'a> PassModule<'a> {
    /// Without functions yet.
    pub(super) fn new(host: &'a Host) -> PassModule<'a> {
        let sealed = Arc::new(OnceLock::new());
        let provider = Provider { draft: Some(CodeDraft::new()), sealed: Arc::clone(&sealed) };
        let mut builder = JITBuilder::with_isa(Arc::clone(&host.loops), default_libcall_names());
        builder.memory_provider(Box::new(provider));
        PassModule { module: JITModule::new(builder), host, sealed, context: Context::new() }
    }

    /// A function whose registers are chosen well.
    pub(super) fn define_loop(&mut self, func: ir::Function) -> Result<(), Unsupported> {
        let id = self.module.declare_anonymous_function(&func.signature).map_err(refused)?;
        self.context.clear();
        self.context.func = func;
        self.module.define_function(id, &mut self.context).map_err(refused)?;
        // Before the module meets them: it panics where it cannot resolve a name.
        self.check_relocations()
    }

    /// A function whose registers are chosen fast: by a machine description other than the module's.
    pub(super) fn define_straight(&mut self, func: ir::Function) -> Result<(), Unsupported> {
        self.context.clear();
        self.context.func = func;
        let compiled = self.context.compile(&*self.host.straight, &mut ControlPlane::default());
        let alignment = match compiled {
            Ok(compiled) => compiled.buffer.alignment,
            Err(error) => return Err(unsupported(format!("{:?}", error.inner))),
        };
        self.check_relocations()?;
        let bytes = self.context.compiled_code().map_or(&[][..], |code| code.code_buffer());
        define_bytes(&mut self.module, &self.context.func.signature, alignment, bytes)
    }

    /// Finished machine code, which must not depend on where it lies.
    pub(super) fn define_bytes(&mut self, bytes: &[u8]) -> Result<(), Unsupported> {
        // Nothing in the module calls it: the signature says nothing.
        let signature = self.module.make_signature();
        define_bytes(&mut self.module, &signature, 1, bytes)
    }

    /// The code of all functions, executable from here on. The module goes; the code stays as long as the
    /// result.
    pub(super) fn seal(mut self) -> Result<CodeMemory, Unsupported> {
        self.module.finalize_definitions().map_err(refused)?;
        drop(self.module);
        // The provider, which had the other handle, went with the module.
        let sealed = Arc::into_inner(self.sealed).and_then(OnceLock::into_inner);
        sealed.ok_or_else(|| unsupported("get its code back from Cranelift's module".into()))
    }

    fn check_relocations(&self) -> Result<(), Unsupported> {
        match self.context.compiled_code() {
            Some(code) if !code.buffer.relocs().is_empty() => {
                Err(unsupported("code that depends on where it lies".into()))
            }
            _ => Ok(()),
        }
    }
}

fn define_bytes(
    module: &mut JITModule,
    signature: &ir::Signature,
    alignment: u32,
    bytes: &[u8],
) -> Result<(), Unsupported> {
    let id = module.declare_anonymous_function(signature).map_err(refused)?;
    module.define_function_bytes(id, u64::from(alignment), bytes, &[]).map_err(refused)
}

fn refused(error: ModuleError) -> Unsupported {
    unsupported(match error {
        ModuleError::Compilation(error) => format!("{error:?}"),
        ModuleError::Allocation { err } => format!("get executable memory: {err}"),
        error => error.to_string(),
    })
}

/// Memory for one module: each function becomes a piece of a draft, and the sealed draft is handed out, so
/// that it can outlive the module.
struct Provider {
    /// Until it is sealed.
    draft: Option<CodeDraft>,
    sealed: Arc<OnceLock<CodeMemory>>,
}

impl JITMemoryProvider for Provider {
    fn allocate(&mut self, size: usize, align: u64, kind: JITMemoryKind) -> io::Result<*mut u8> {
        // Tables come from programs: they have no place in executable pages.
        let (JITMemoryKind::Executable, Some(draft)) = (kind, &mut self.draft) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        draft.room(size, usize::try_from(align).unwrap_or(usize::MAX))
    }

    unsafe fn free_memory(&mut self) {
        // What was sealed is whoever took it; what was not goes with the provider.
    }

    // Pages without the mark of branch protection execute its instructions as no-operations.
    fn finalize(&mut self, _: BranchProtection) -> ModuleResult<()> {
        if let Some(draft) = self.draft.take() {
            let code = draft.seal().map_err(|err| ModuleError::Allocation { err })?;
            // Empty: there was one draft.
            let _ = self.sealed.set(code);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::PassCode;
    use crate::backend::cranelift::{compile, host};
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn pipes() -> Vec<crate::ir::Pipe> {
        use crate::backend::cranelift::tests::{inet_cksum, xor32};
        vec![inet_cksum(), xor32(0x1234)]
    }

    /// Engines come and go by the hundred, those that were refused half-way among them, in few pages.
    #[test]
    fn memory_is_given_back() {
        let pipes = pipes();
        let pieces =
            |code: &CodeMemory| (0..3).map(|piece| code.piece(piece).as_ptr().addr()).collect::<Vec<_>>();
        let mut seen = HashSet::new();
        for round in 0..400 {
            let code = compile(&[&pipes[round % 2]], pipes[round % 2].word_bytes()).unwrap();
            let functions = code.functions();
            assert!(!functions.is_empty() && functions.iter().all(|function| !function.bytes.is_empty()));
            drop(functions);
            seen.extend(pieces(&code.code));
            let mut module = PassModule::new(host().unwrap());
            module.define_bytes(&[0xc3; 40]).unwrap();
        }
        let pages: HashSet<usize> = seen.iter().map(|address| address >> 12).collect();
        assert!(pages.len() < 200, "{} pages", pages.len());
    }

    /// Neither while functions are compiled and sealed nor afterwards, whatever else the process does
    /// meanwhile.
    #[test]
    fn no_page_is_ever_writable_and_executable() {
        let done = AtomicBool::new(false);
        let pipes = pipes();
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut looks = 0;
                while !done.load(Ordering::Relaxed) || looks < 5 {
                    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return usize::MAX };
                    let wrong =
                        maps.lines().find(|line| line.split(' ').nth(1).is_some_and(|r| r.contains("wx")));
                    assert_eq!(wrong, None);
                    looks += 1;
                }
                looks
            });
            let mut kept = Vec::new();
            for round in 0..60 {
                kept.push(compile(&[&pipes[round % 2]], pipes[round % 2].word_bytes()).unwrap());
            }
            done.store(true, Ordering::Relaxed);
            assert!(watch.join().unwrap() >= 5);
        });
    }

    #[test]
    fn code_that_is_sealed_has_every_piece_and_no_more() {
        let mut module = PassModule::new(host().unwrap());
        for byte in 1..=3 {
            module.define_bytes(&[byte; 50]).unwrap();
        }
        let code = module.seal().unwrap();
        for byte in 1..=3 {
            assert_eq!(code.piece(usize::from(byte) - 1), [byte; 50]);
        }
        assert_eq!(code.piece(3), []);
    }

    #[test]
    fn there_is_no_room_for_data() {
        let mut provider = Provider { draft: Some(CodeDraft::new()), sealed: Arc::default() };
        for kind in [JITMemoryKind::ReadOnly, JITMemoryKind::Writable] {
            assert!(provider.allocate(8, 8, kind).is_err());
        }
        assert!(provider.allocate(8, 8, JITMemoryKind::Executable).is_ok());
        provider.finalize(BranchProtection::None).unwrap();
        assert!(provider.allocate(8, 8, JITMemoryKind::Executable).is_err(), "after it was sealed");
    }
}
