//! In place of Cranelift's backend in builds without the feature `cranelift`: refuses everything, so that `Auto` goes on to
//! the interpreter where the native backend does not take a pass.

use crate::analyse::Analysed;
use crate::backend::interp::InterpCode;
use crate::error::Unsupported;
use crate::options::Backend;

/// Bytes of a vector register, as in the backend itself.
pub(crate) const VECTOR_BYTES: usize = 16;

/// Whether there is code in vectors for a stage by itself: none.
pub(crate) fn has_vectors(_pipe: &Analysed) -> bool {
    false
}

/// No code; the type is one that a pass could have.
pub(crate) fn compile_as(
    _stages: &[Analysed],
    _gauge: usize,
    _serial: bool,
) -> Result<InterpCode, Unsupported> {
    Err(absent())
}

/// No text.
pub(crate) fn clif(_stages: &[Analysed], _gauge: usize, _serial: bool) -> Result<String, Unsupported> {
    Err(absent())
}

fn absent() -> Unsupported {
    let what = "anything, in a build of pipe-lib without its feature `cranelift`".to_owned();
    Unsupported { backend: Backend::Cranelift, what }
}
