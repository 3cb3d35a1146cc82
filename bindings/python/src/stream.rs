//! Streams that come in chunks.

use crate::buffer::Source;
use crate::engine::beside;
use crate::error::{PipeError, of_run};
use crate::run::Run;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A stream under way: `push` its chunks, then `finish`.
#[pyclass(module = "pipelib")]
pub(crate) struct Stream(Option<pipe_lib::Stream>);

impl Stream {
    pub(crate) fn new(stream: pipe_lib::Stream) -> Stream {
        Stream(Some(stream))
    }

    fn under_way(&mut self) -> PyResult<&mut pipe_lib::Stream> {
        self.0.as_mut().ok_or_else(|| PipeError::new_err("the stream is finished"))
    }
}

#[pymethods]
impl Stream {
    /// Puts the next chunk in; what it gives out, which need not be as many bytes, since those of an
    /// unfinished word wait.
    fn push<'py>(&mut self, py: Python<'py>, chunk: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let source = Source::new(chunk)?;
        let mut out = Vec::new();
        let (stream, bytes) = (self.under_way()?, source.bytes());
        let pushed = beside(py, source.lets_others_run(), || stream.push_to(bytes, &mut out));
        pushed.map_err(|error| of_run(py, error))?;
        Ok(PyBytes::new(py, &out))
    }

    /// Puts the next chunk of a stream in whose output nobody wants.
    fn digest<'py>(&mut self, py: Python<'py>, chunk: &Bound<'py, PyAny>) -> PyResult<()> {
        let source = Source::new(chunk)?;
        let (stream, bytes) = (self.under_way()?, source.bytes());
        let pushed = beside(py, source.lets_others_run(), || stream.push_read_only(bytes));
        pushed.map_err(|error| of_run(py, error))
    }

    /// Ends the stream: the last bytes, held back until now, and the results.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, Run)> {
        self.under_way()?;
        let Some(stream) = self.0.take() else { return Err(PipeError::new_err("the stream is finished")) };
        let end = stream.finish().map_err(|error| of_run(py, error))?;
        let rest = PyBytes::new(py, end.rest());
        Ok((rest, Run::new(end.run)))
    }
}
