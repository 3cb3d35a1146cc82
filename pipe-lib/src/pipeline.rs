//! A composed pipeline, ready to be compiled as often as one likes.

use crate::cache::{EngineCache, Key};
use crate::compose::{ComposeError, Composition};
use crate::engine::Engine;
use crate::error::CompileError;
use crate::options::CompileOptions;
use std::sync::Arc;

/// A checked composition; compiles, or takes from a process-wide cache of 256 engines
/// ([`EngineCache::global`]).
///
/// [`Engine::compile`] looks into no cache.
#[derive(Clone, Debug)]
pub struct Pipeline {
    key: Key,
}

impl Pipeline {
    /// Checks a composition made by [`crate::compose::Composer`] or by hand.
    pub fn from_composition(composition: Composition) -> Result<Pipeline, ComposeError> {
        composition.validate()?;
        Ok(Pipeline { key: Key::new(Arc::new(composition)) })
    }

    /// What is composed.
    pub fn composition(&self) -> &Composition {
        self.key.composition()
    }

    /// An engine for this machine: the one compiled before, or a new one.
    pub fn compile(&self) -> Result<Engine, CompileError> {
        self.compile_with(&CompileOptions::default())
    }

    /// An engine compiled as asked for.
    pub fn compile_with(&self, options: &CompileOptions) -> Result<Engine, CompileError> {
        EngineCache::global().get(&self.key, options)
    }
}
