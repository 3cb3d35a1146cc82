//! Libraries of pipes, and engines.

use crate::buffer::{Destination, Source};
use crate::error::{PipeError, of_compiler, of_run, of_text};
use crate::run::Run;
use crate::stream::Stream;
use pipe_lib::{Backend, CompileOptions, Features, Prepared, RunError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// The standard pipes and layouts, the catalogue's CRCs, and what is loaded beside.
#[pyclass(module = "pipelib")]
pub(crate) struct Library(pipe_lib::Library);

#[pymethods]
impl Library {
    #[new]
    fn new() -> Library {
        Library(pipe_lib::Library::standard())
    }

    /// Adds the items of a text in the pipe language; `name` stands for it in messages.
    #[pyo3(signature = (text, name = "<text>"))]
    fn load(&mut self, text: &str, name: &str) -> PyResult<()> {
        self.0.load(name, text).map_err(of_text)
    }

    /// The names of all pipes that were loaded, the standard ones included.
    fn pipes(&self) -> Vec<&str> {
        self.0.pipes().map(|pipe| &*pipe.name).collect()
    }

    /// Composes and compiles a pipeline. `backend` is "auto", "interp", "cranelift" or "native"; `features`
    /// keeps the native backend to instructions by name, "avx2,pclmul"; `separate_passes` and `serial` are
    /// what fusion and vectors are compared with.
    #[pyo3(signature = (pipeline, *, backend = "auto", features = None, separate_passes = false, serial = false))]
    fn compile(
        &self,
        pipeline: &str,
        backend: &str,
        features: Option<&str>,
        separate_passes: bool,
        serial: bool,
    ) -> PyResult<Engine> {
        let backend = Backend::from_name(backend).ok_or_else(|| {
            let names = Backend::ALL.map(Backend::name).join(", ");
            PipeError::new_err(format!("there is no backend `{backend}`: {names}"))
        })?;
        let features = features.map(Features::named).transpose();
        let features = features.map_err(|error| PipeError::new_err(error.to_string()))?;
        let options = CompileOptions::new()
            .backend(backend)
            .features(features)
            .separate_passes(separate_passes)
            .serial(serial);
        let pipeline = self.0.pipeline(pipeline).map_err(of_text)?;
        pipeline.compile_with(&options).map(Engine).map_err(of_compiler)
    }
}

/// `Library().compile(...)`: out of the standard pipes alone.
#[pyfunction]
#[pyo3(signature = (pipeline, *, backend = "auto", features = None, separate_passes = false, serial = false))]
pub(crate) fn compile(
    pipeline: &str,
    backend: &str,
    features: Option<&str>,
    separate_passes: bool,
    serial: bool,
) -> PyResult<Engine> {
    Library::new().compile(pipeline, backend, features, separate_passes, serial)
}

/// A pipeline ready to run; threads may share one.
///
/// A source is `bytes` or whatever shows its memory (`bytearray`, `memoryview`, `mmap`, an array of NumPy's).
/// Over `bytes` other threads of Python run meanwhile; over what could change they wait. `imports` is a
/// dictionary from registers' names, "instance.name", to numbers; long streams are cut over `threads`.
#[pyclass(frozen, module = "pipelib")]
pub(crate) struct Engine(pipe_lib::Engine);

/// What to do with a stream.
enum Way<'a> {
    Copy(&'a [u8], &'a mut [u8]),
    InPlace(&'a mut [u8]),
    Digest(&'a [u8]),
}

fn transfer<'e>(prepared: Prepared<'e>, way: Way<'_>, threads: usize) -> Result<pipe_lib::Run<'e>, RunError> {
    match (way, threads) {
        (Way::Copy(src, dst), 0 | 1) => prepared.run(src, dst),
        (Way::InPlace(buf), 0 | 1) => prepared.run_in_place(buf),
        (Way::Digest(src), 0 | 1) => prepared.run_read_only(src),
        (Way::Copy(src, dst), _) => prepared.run_parallel(src, dst, threads),
        (Way::InPlace(buf), _) => prepared.run_parallel_in_place(buf, threads),
        (Way::Digest(src), _) => prepared.run_parallel_read_only(src, threads),
    }
}

/// Does that while other threads of Python run, or wait.
pub(crate) fn beside<T: Send>(py: Python<'_>, is_detached: bool, work: impl FnOnce() -> T + Send) -> T {
    if is_detached { py.detach(work) } else { work() }
}

impl Engine {
    /// Calls what Python says of the values: before any memory of Python's is borrowed.
    fn imports(
        &self,
        py: Python<'_>,
        imports: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<pipe_lib::Imports>> {
        let Some(given) = imports else { return Ok(None) };
        let mut imports = self.0.imports();
        // A list that nobody else has: a value's `__index__` may do anything with the dictionary.
        for item in given.items() {
            let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
            imports.set(name.extract()?, value.extract()?).map_err(|error| of_run(py, error))?;
        }
        Ok(Some(imports))
    }

    /// One run, beside other threads if `is_detached`. No code of Python's runs in it.
    fn go(
        &self,
        py: Python<'_>,
        imports: Option<&pipe_lib::Imports>,
        way: Way<'_>,
        threads: usize,
        is_detached: bool,
    ) -> PyResult<Run> {
        let prepared = match imports {
            Some(imports) => self.0.with(imports).map_err(|error| of_run(py, error))?,
            None => self.0.prepared(),
        };
        let run = beside(py, is_detached, || transfer(prepared, way, threads));
        Ok(Run::new(self.0.keep(run.map_err(|error| of_run(py, error))?)))
    }
}

#[pymethods]
impl Engine {
    /// Where the code comes from: "native", "cranelift" or "interp".
    #[getter]
    fn backend(&self) -> &'static str {
        self.0.backend().name()
    }

    /// The results' names, in stream order.
    #[getter]
    fn exports(&self) -> Vec<&str> {
        self.0.exports().iter().map(|export| &*export.name).collect()
    }

    /// The names of the registers that `imports` can set.
    #[getter]
    fn registers(&self) -> Vec<&str> {
        self.0.registers().iter().map(|register| &*register.name).collect()
    }

    /// Bytes of output that a source of `length` bytes gives.
    fn out_len(&self, py: Python<'_>, length: usize) -> PyResult<usize> {
        self.0.out_len(length).map_err(|error| of_run(py, error))
    }

    /// Copies `source` through the pipeline: what came out, and the results.
    #[pyo3(signature = (source, *, imports = None, threads = 1))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        source: &Bound<'py, PyAny>,
        imports: Option<&Bound<'py, PyDict>>,
        threads: usize,
    ) -> PyResult<(Bound<'py, PyBytes>, Run)> {
        let imports = self.imports(py, imports)?;
        let source = Source::new(source)?;
        let src = source.bytes();
        let len = self.out_len(py, src.len())?;
        let is_detached = source.lets_others_run();
        let mut run = None;
        let out = PyBytes::new_with(py, len, |dst| {
            run = Some(self.go(py, imports.as_ref(), Way::Copy(src, dst), threads, is_detached)?);
            Ok(())
        })?;
        run.map(|run| (out, run)).ok_or_else(|| PipeError::new_err("nothing ran"))
    }

    /// Copies `source` through the pipeline to the start of `destination`, which can be written and does not
    /// overlap it. Nothing is allocated for the bytes.
    #[pyo3(signature = (source, destination, *, imports = None, threads = 1))]
    fn run_into<'py>(
        &self,
        py: Python<'py>,
        source: &Bound<'py, PyAny>,
        destination: &Bound<'py, PyAny>,
        imports: Option<&Bound<'py, PyDict>>,
        threads: usize,
    ) -> PyResult<Run> {
        let imports = self.imports(py, imports)?;
        let source = Source::new(source)?;
        let mut destination = Destination::new(destination)?;
        if destination.overlaps(source.bytes()) {
            return Err(of_run(py, RunError::Overlap));
        }
        // SAFETY: they do not overlap, and no other thread of Python runs.
        let dst = unsafe { destination.bytes() };
        self.go(py, imports.as_ref(), Way::Copy(source.bytes(), dst), threads, false)
    }

    /// Runs over `buffer` in place.
    #[pyo3(signature = (buffer, *, imports = None, threads = 1))]
    fn run_in_place<'py>(
        &self,
        py: Python<'py>,
        buffer: &Bound<'py, PyAny>,
        imports: Option<&Bound<'py, PyDict>>,
        threads: usize,
    ) -> PyResult<Run> {
        let imports = self.imports(py, imports)?;
        let mut buffer = Destination::new(buffer)?;
        // SAFETY: nothing else refers to it, and no other thread of Python runs.
        let bytes = unsafe { buffer.bytes() };
        self.go(py, imports.as_ref(), Way::InPlace(bytes), threads, false)
    }

    /// The results alone: nothing is written.
    #[pyo3(signature = (source, *, imports = None, threads = 1))]
    fn digest<'py>(
        &self,
        py: Python<'py>,
        source: &Bound<'py, PyAny>,
        imports: Option<&Bound<'py, PyDict>>,
        threads: usize,
    ) -> PyResult<Run> {
        let imports = self.imports(py, imports)?;
        let source = Source::new(source)?;
        self.go(py, imports.as_ref(), Way::Digest(source.bytes()), threads, source.lets_others_run())
    }

    /// A stream that comes in chunks. With `hold_back`, nothing of a frame's window is given out before all
    /// its fields were found to hold what they should.
    #[pyo3(signature = (*, imports = None, hold_back = false))]
    fn stream(
        &self,
        py: Python<'_>,
        imports: Option<&Bound<'_, PyDict>>,
        hold_back: bool,
    ) -> PyResult<Stream> {
        let stream = match self.imports(py, imports)? {
            Some(imports) => self.0.stream_with(&imports).map_err(|error| of_run(py, error))?,
            None => self.0.stream(),
        };
        Ok(Stream::new(if hold_back { stream.hold_back() } else { stream }))
    }

    fn __repr__(&self) -> String {
        format!("<Engine {} by {}>", self.0.composition(), self.backend())
    }
}
