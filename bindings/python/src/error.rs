//! Exceptions.

use pipe_lib::{CompileError, Diagnostics, RunError};
use pyo3::create_exception;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;

create_exception!(pipelib, PipeError, PyValueError, "What was asked for cannot be done, and why.");
create_exception!(pipelib, TextError, PipeError, "Something is wrong in a text in the pipe language.");
create_exception!(
    pipelib,
    MismatchError,
    PipeError,
    "A field of a frame holds something else than it should: `window`, `offset` in the source, `expected`, \
     `found`, and `good`, the bytes before it that were as they should be."
);

pub(crate) fn of_text(error: Diagnostics) -> PyErr {
    TextError::new_err(error.to_string())
}

pub(crate) fn of_compiler(error: CompileError) -> PyErr {
    match error {
        CompileError::Unsupported(_) => PipeError::new_err(error.to_string()),
        _ => TextError::new_err(error.to_string()),
    }
}

pub(crate) fn of_run(py: Python<'_>, error: RunError) -> PyErr {
    let message = error.to_string();
    match error {
        RunError::NoSuchExport { .. } | RunError::NoSuchRegister { .. } => PyKeyError::new_err(message),
        RunError::Mismatch(at) => {
            let error = MismatchError::new_err(message);
            let value = error.value(py);
            let numbers = [
                ("window", at.window),
                ("offset", at.offset),
                ("expected", at.expected),
                ("found", at.found),
                ("good", at.good),
            ];
            match numbers.into_iter().try_for_each(|(name, number)| value.setattr(name, number)) {
                Ok(()) => error,
                Err(other) => other,
            }
        }
        _ => PipeError::new_err(message),
    }
}
