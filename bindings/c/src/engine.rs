//! Libraries of pipes, and engines: pipelines that were compiled.

use crate::status::{Failure, PlStatus, guarded, place, reference, text};
use pipe_lib::{Backend, CompileOptions, Diagnostics, Engine, Features, Imports, Library};
use std::ffi::{CString, c_char};
use std::ptr;

/// Pipes, layouts, frames and named pipelines that texts refer to by name.
pub struct PlLibrary(Library);

/// A pipeline ready to run. Any number of threads may use one at once.
pub struct PlEngine {
    pub(crate) engine: Engine,
    exports: Vec<CString>,
    registers: Vec<CString>,
    backend: CString,
}

/// What a run starts from, in place of the initial values that the pipes state.
pub struct PlImports(pub(crate) Imports);

/// Where the code comes from.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlBackend {
    /// The fastest one that takes the pipeline on this machine.
    Auto = 0,
    /// The word-at-a-time interpreter: takes everything.
    Interp,
    /// Portable machine code, in libraries that were built with it.
    Cranelift,
    /// Our own x86-64 emitter.
    Native,
}

/// How to compile. All of it 0 is the fastest code that this machine can run.
#[repr(C)]
pub struct PlOptions {
    /// Where the code comes from: a PlBackend.
    pub backend: u32,
    /// Each stage in a pass of its own over blocks of the first-level cache: what fusion is compared with.
    pub separate_passes: bool,
    /// Each stage as it was written, word after word: what vectors are compared with.
    pub serial: bool,
    /// The instructions that the native backend may use, "avx2,pclmul"; null for all there are.
    pub features: *const c_char,
}

impl PlOptions {
    /// # Safety
    /// `features` is null or a text.
    unsafe fn options(&self) -> Result<CompileOptions, Failure> {
        const ALL: [(PlBackend, Backend); 4] = [
            (PlBackend::Auto, Backend::Auto),
            (PlBackend::Interp, Backend::Interp),
            (PlBackend::Cranelift, Backend::Cranelift),
            (PlBackend::Native, Backend::Native),
        ];
        // Any number may come from C.
        let Some((_, backend)) = ALL.into_iter().find(|(name, _)| *name as u32 == self.backend) else {
            let message = format!("`options->backend` is {}, which is no PlBackend", self.backend);
            return Err(Failure::new(PlStatus::Argument, message));
        };
        let mut options =
            CompileOptions::new().backend(backend).separate_passes(self.separate_passes).serial(self.serial);
        if !self.features.is_null() {
            // SAFETY: the caller's promise.
            let names = unsafe { text(self.features, "options->features") }?;
            let named = Features::named(names).map_err(|error| Failure::new(PlStatus::Argument, error))?;
            options = options.features(named);
        }
        Ok(options)
    }
}

fn of_text(error: Diagnostics) -> Failure {
    Failure::new(PlStatus::Text, error)
}

/// The standard pipes and layouts, and by name the CRCs of the catalogue. Freed by pl_library_free().
#[unsafe(no_mangle)]
pub extern "C" fn pl_library_standard() -> *mut PlLibrary {
    let mut made = ptr::null_mut();
    guarded(|| {
        made = Box::into_raw(Box::new(PlLibrary(Library::standard())));
        Ok(())
    });
    made
}

/// Adds the items of `source`, a text in the pipe language; `name` stands for it in messages. If it ends with
/// anything but PL_STATUS_OK, nothing was added. Nobody else uses the library meanwhile.
///
/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_library_load(
    library: *mut PlLibrary,
    name: *const c_char,
    source: *const c_char,
) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promises.
        let (library, name, source) =
            unsafe { (place(library, "library")?, text(name, "name")?, text(source, "source")?) };
        library.0.load(name, source).map_err(of_text)
    })
}

/// Frees a library; engines made from it live on. Null is nothing.
///
/// # Safety
/// It is one that was given out, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_library_free(library: *mut PlLibrary) {
    if !library.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(library) });
    }
}

/// Composes and compiles `pipeline`, "inet_cksum as sum | byteswap32 | crc32c", out of the pipes of `library`
/// (null: the standard ones), as `options` say (null: for speed). `*engine` is freed by pl_engine_free(), and
/// is null if this ends with anything but PL_STATUS_OK. Of the same pipeline the process compiles one.
///
/// # Safety
/// See above; texts end with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_compile(
    library: *const PlLibrary,
    pipeline: *const c_char,
    options: *const PlOptions,
    engine: *mut *mut PlEngine,
) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promises.
        let (given, pipeline, options, out) = unsafe {
            (library.as_ref(), text(pipeline, "pipeline")?, options.as_ref(), place(engine, "engine")?)
        };
        *out = ptr::null_mut();
        // SAFETY: the caller's promise.
        let options =
            options.map_or_else(|| Ok(CompileOptions::new()), |options| unsafe { options.options() })?;
        let pipeline = match given {
            Some(library) => library.0.pipeline(pipeline),
            None => Library::standard().pipeline(pipeline),
        };
        let engine = pipeline.map_err(of_text)?.compile_with(&options)?;
        *out = Box::into_raw(Box::new(PlEngine::new(engine)));
        Ok(())
    })
}

impl PlEngine {
    fn new(engine: Engine) -> PlEngine {
        // Names are identifiers with a dot between: no zero in them.
        let c = |name: &str| CString::new(name).unwrap_or_default();
        PlEngine {
            exports: engine.exports().iter().map(|export| c(&export.name)).collect(),
            registers: engine.registers().iter().map(|register| c(&register.name)).collect(),
            backend: c(engine.backend().name()),
            engine,
        }
    }
}

/// Frees an engine. Null is nothing.
///
/// # Safety
/// It is one that was given out, and nobody uses it any more: no imports, run or stream of it is affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_engine_free(engine: *mut PlEngine) {
    if !engine.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(engine) });
    }
}

/// How many results a run has.
///
/// # Safety
/// `engine` is one that was given out, or null, of which there are none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_export_count(engine: *const PlEngine) -> usize {
    // SAFETY: the caller's promise.
    unsafe { engine.as_ref() }.map_or(0, |engine| engine.exports.len())
}

/// The name "instance.name" of result `index`, in stream order; null behind the last. Good as long as the
/// engine.
///
/// # Safety
/// `engine` is one that was given out, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_export_name(engine: *const PlEngine, index: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    name_at(unsafe { engine.as_ref() }.map(|engine| &*engine.exports), index)
}

/// Bits of result `index`, of a digest all of them; 0 behind the last.
///
/// # Safety
/// `engine` is one that was given out, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_export_bits(engine: *const PlEngine, index: usize) -> u32 {
    // SAFETY: the caller's promise.
    let engine = unsafe { engine.as_ref() };
    engine
        .and_then(|engine| engine.engine.exports().get(index))
        .map_or(0, |export| export.digest.map_or(export.ty.bits(), |kind| 8 * kind.bytes() as u32))
}

/// Whether result `index` is a list, one entry a window.
///
/// # Safety
/// `engine` is one that was given out, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_export_windowed(engine: *const PlEngine, index: usize) -> bool {
    // SAFETY: the caller's promise.
    let engine = unsafe { engine.as_ref() };
    engine.and_then(|engine| engine.engine.exports().get(index)).is_some_and(|export| export.windowed)
}

/// The name "instance.name" of register `index`, for pl_imports_set(); null behind the last. Good as long as
/// the engine.
///
/// # Safety
/// `engine` is one that was given out, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_register_name(engine: *const PlEngine, index: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    name_at(unsafe { engine.as_ref() }.map(|engine| &*engine.registers), index)
}

fn name_at(names: Option<&[CString]>, index: usize) -> *const c_char {
    names.and_then(|names| names.get(index)).map_or(ptr::null(), |name| name.as_ptr())
}

/// Where the code comes from: "native", "cranelift" or "interp". Good as long as the engine; null of null.
///
/// # Safety
/// `engine` is one that was given out, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_engine_backend(engine: *const PlEngine) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { engine.as_ref() }.map_or(ptr::null(), |engine| engine.backend.as_ptr())
}

/// Bytes of output that a source of `len` bytes gives, holes of layouts and fields of frames counted: what
/// the destination of pl_run() needs room for. An error for a length that no stream has.
///
/// # Safety
/// `engine` is one that was given out, and `bytes` a place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_out_len(engine: *const PlEngine, len: usize, bytes: *mut usize) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promises.
        let (engine, bytes) = unsafe { (reference(engine, "engine")?, place(bytes, "bytes")?) };
        *bytes = engine.engine.out_len(len)?;
        Ok(())
    })
}

/// Imports for `engine` with every register at its initial value; null only of null. Freed by
/// pl_imports_free(), keys among them overwritten.
///
/// # Safety
/// `engine` is one that was given out, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_imports(engine: *const PlEngine) -> *mut PlImports {
    // SAFETY: the caller's promise.
    let engine = unsafe { engine.as_ref() };
    engine.map_or(ptr::null_mut(), |engine| Box::into_raw(Box::new(PlImports(engine.engine.imports()))))
}

/// Sets the register `name`, "instance.name".
///
/// # Safety
/// `imports` are some that were given out, and nobody else uses them meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_imports_set(
    imports: *mut PlImports,
    name: *const c_char,
    value: u64,
) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promises.
        let (imports, name) = unsafe { (place(imports, "imports")?, text(name, "name")?) };
        Ok(imports.0.set(name, value)?)
    })
}

/// Frees imports. Null is nothing.
///
/// # Safety
/// They are some that were given out, and nobody uses them any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_imports_free(imports: *mut PlImports) {
    if !imports.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(imports) });
    }
}
