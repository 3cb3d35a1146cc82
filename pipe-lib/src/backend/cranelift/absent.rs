//! In place of Cranelift's backend in builds without the feature `cranelift`: refuses everything, so that
//! `Auto` goes on to the interpreter where the native backend does not take a pass.

use crate::backend::interp::InterpCode;
use crate::error::Unsupported;
use crate::options::Backend;
use crate::plan::portable::PortablePlan;
use crate::plan::target::Target;

/// No vectors.
pub(crate) fn target() -> Option<Target> {
    None
}

/// What no code was made as.
pub(crate) enum EmittedLoops {}

impl EmittedLoops {
    /// No lines.
    pub(crate) fn outline(&self, _names: &[String]) -> String {
        match *self {}
    }
}

/// No code; the type is one that a pass could have.
pub(crate) fn emit(_plan: PortablePlan) -> Result<(InterpCode, EmittedLoops), Unsupported> {
    Err(absent())
}

/// No text.
pub(crate) fn clif(emitted: &EmittedLoops) -> Result<String, Unsupported> {
    match *emitted {}
}

fn absent() -> Unsupported {
    let what = "anything, in a build of pipe-lib without its feature `cranelift`".to_owned();
    Unsupported { backend: Backend::Cranelift, what }
}
