//! The pipe language and its run-time compiler, for Python.
//!
//! What is written here for Python's readers is in `pipelib.pyi`, too, where editors look.

mod buffer;
mod engine;
mod error;
mod run;
mod stream;

use pyo3::prelude::*;

/// Small data-manipulation steps ("pipes"), composed at run time into one machine-code loop.
///
/// >>> import pipelib
/// >>> engine = pipelib.compile("inet_cksum as sum | byteswap32 | crc32c")
/// >>> out, run = engine.run(b"0123456789abcdef")
/// >>> out[:4], hex(run["crc32c.crc"])
/// (b'3210', '0x9a2b3063')
#[pymodule]
#[pyo3(name = "pipelib", gil_used = true)]
mod module {
    #[pymodule_export]
    use crate::engine::{Engine, Library, compile};
    #[pymodule_export]
    use crate::error::{MismatchError, PipeError, TextError};
    #[pymodule_export]
    use crate::run::Run;
    #[pymodule_export]
    use crate::stream::Stream;
}
