//! Bytes that Python has: `bytes`, and whatever else shows its memory (`bytearray`, `memoryview`, `mmap`,
//! arrays).

use crate::error::PipeError;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::slice;

/// Bytes from which letting other threads run costs less than they would wait.
const DETACH_FROM: usize = 1 << 14;

/// Memory to read.
pub(crate) enum Source<'py> {
    /// Nobody changes it: other threads may run while it is read.
    Bytes(Bound<'py, PyBytes>),
    /// Other threads of Python could change it, so they wait.
    Shared(PyUntypedBuffer),
}

impl<'py> Source<'py> {
    pub(crate) fn new(object: &Bound<'py, PyAny>) -> PyResult<Source<'py>> {
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Source::Bytes(bytes.clone()));
        }
        Ok(Source::Shared(contiguous(object)?))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Source::Bytes(bytes) => bytes.as_bytes(),
            // SAFETY: the buffer is held, so its memory stays; it is in one piece; and while this thread has
            // the interpreter's lock no Python code changes it.
            Source::Shared(buffer) => unsafe { of(buffer) },
        }
    }

    /// Whether other threads may run while it is read, and it is worth letting them.
    pub(crate) fn lets_others_run(&self) -> bool {
        matches!(self, Source::Bytes(bytes) if bytes.as_bytes().len() >= DETACH_FROM)
    }
}

/// Memory to write.
pub(crate) struct Destination(PyUntypedBuffer);

impl Destination {
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Destination> {
        let buffer = contiguous(object)?;
        if buffer.readonly() {
            return Err(PipeError::new_err(
                "the destination cannot be written: give a bytearray, a writable memoryview or the like",
            ));
        }
        Ok(Destination(buffer))
    }

    /// Whether the two have bytes in common.
    pub(crate) fn overlaps(&self, src: &[u8]) -> bool {
        let (from, to) = (src.as_ptr().addr(), self.0.buf_ptr().addr());
        from < to + self.0.len_bytes() && to < from + src.len()
    }

    /// # Safety
    /// Nothing else refers to these bytes meanwhile: see [`Destination::overlaps`].
    pub(crate) unsafe fn bytes(&mut self) -> &mut [u8] {
        match self.0.len_bytes() {
            0 => &mut [],
            // SAFETY: as of `Source::bytes`; it can be written, and the caller knows of nobody else.
            len => unsafe { slice::from_raw_parts_mut(self.0.buf_ptr().cast(), len) },
        }
    }
}

fn contiguous(object: &Bound<'_, PyAny>) -> PyResult<PyUntypedBuffer> {
    let buffer = PyUntypedBuffer::get(object)?;
    if !buffer.is_c_contiguous() {
        return Err(PipeError::new_err("the buffer is not in one piece: give a copy of it"));
    }
    Ok(buffer)
}

/// # Safety
/// The buffer is in one piece, and nobody writes it for as long as it is borrowed.
unsafe fn of(buffer: &PyUntypedBuffer) -> &[u8] {
    match buffer.len_bytes() {
        0 => &[],
        // SAFETY: the caller's promise.
        len => unsafe { slice::from_raw_parts(buffer.buf_ptr().cast(), len) },
    }
}
