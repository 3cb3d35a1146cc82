//! What came of a run.

use crate::error::of_run;
use pipe_lib::ExportValue;
use pyo3::prelude::*;

/// The results of a run by their names, "instance.name": `dict(run)` has them all. Of a stage with a window
/// (`per N`) a result is a list, one entry a window. A digest is `bytes`.
#[pyclass(frozen, module = "pipelib")]
pub(crate) struct Run(pipe_lib::Run<'static>);

/// A result as Python has it.
#[derive(IntoPyObject)]
enum Value {
    One(u64),
    Windows(Vec<u64>),
    Digest(Vec<u8>),
    Digests(Vec<Vec<u8>>),
}

impl From<ExportValue<'_>> for Value {
    fn from(value: ExportValue<'_>) -> Value {
        match value {
            ExportValue::One(value) => Value::One(value),
            ExportValue::Windows(list) => Value::Windows(list.to_vec()),
            ExportValue::Digest(value) => Value::Digest(value.to_vec()),
            ExportValue::Digests(list) => Value::Digests(list.iter().map(|value| value.to_vec()).collect()),
        }
    }
}

impl Run {
    pub(crate) fn new(run: pipe_lib::Run<'static>) -> Run {
        Run(run)
    }
}

#[pymethods]
impl Run {
    /// Bytes of the stream that were read.
    #[getter]
    fn read(&self) -> usize {
        self.0.read
    }

    /// Bytes that were written.
    #[getter]
    fn written(&self) -> usize {
        self.0.written
    }

    fn __getitem__(&self, py: Python<'_>, name: &str) -> PyResult<Value> {
        match self.0.exports().find(|(info, _)| info.name == name) {
            Some((_, value)) => Ok(value.into()),
            None => Err(of_run(py, pipe_lib::RunError::NoSuchExport { name: name.to_owned() })),
        }
    }

    fn __len__(&self) -> usize {
        self.0.exports().count()
    }

    /// The results' names, in stream order.
    fn keys(&self) -> Vec<&str> {
        self.0.exports().map(|(info, _)| &*info.name).collect()
    }

    /// The final value of a register. Imported into a later run, it goes on where this one stopped.
    fn register(&self, py: Python<'_>, name: &str) -> PyResult<u64> {
        self.0.register(name).map_err(|error| of_run(py, error))
    }

    fn __repr__(&self) -> String {
        let mut text = String::from("Run(");
        for (at, (info, value)) in self.0.exports().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            match value {
                ExportValue::One(value) => text += &format!("{comma}{}={value:#x}", info.name),
                ExportValue::Digest(value) => text += &format!("{comma}{}={value}", info.name),
                ExportValue::Digests(list) => {
                    text += &format!("{comma}{}=[{} windows]", info.name, list.len());
                }
                ExportValue::Windows(list) => {
                    text += &format!("{comma}{}=[{} windows]", info.name, list.len());
                }
            }
        }
        text + ")"
    }
}
