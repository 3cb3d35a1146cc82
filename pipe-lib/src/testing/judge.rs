//! The judge: runs a pipeline in every way there is and compares with the oracle.

use super::rng::Rng;
use super::ways::Case;
use crate::backend::oracle::{self, Import};
use crate::compose::Composition;
use crate::engine::Engine;
use crate::error::CompileError;
use crate::options::Backend;
use crate::options::CompileOptions;
use crate::run::Imports;
use std::fmt;
use std::sync::Arc;

/// A backend that does not do what the oracle does.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was asked for.
    pub options: CompileOptions,
    /// How it ran: "in place", "stream in chunks of ...".
    pub how: String,
    /// Length of the stream.
    pub len: usize,
    /// What differs.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fusion = if self.options.separate_passes { " without fusion" } else { "" };
        let serial = if self.options.serial { " word after word" } else { "" };
        write!(
            f,
            "{}{fusion}{serial} ({}, {} bytes): {}",
            self.options.backend, self.how, self.len, self.what
        )
    }
}

impl core::error::Error for Failure {}

/// The engines of one composition.
#[derive(Debug)]
pub struct Judge {
    composition: Arc<Composition>,
    engines: Vec<(CompileOptions, Engine)>,
}

impl Judge {
    /// Compiles with each of `backends`, with and without fusion; those that refuse the pipeline are left
    /// out.
    pub fn new(composition: Composition, backends: &[Backend]) -> Result<Judge, Failure> {
        // Fusing or not makes no difference to a single stage.
        let forms = composition.stages.len().clamp(1, 2);
        let options = backends.iter().flat_map(|&backend| {
            let forms = [false, true].into_iter().take(forms);
            forms.map(move |separate_passes| CompileOptions {
                backend,
                separate_passes,
                features: None,
                serial: false,
            })
        });
        Judge::with_options(composition, options)
    }

    /// Compiles in each of these ways; backends that refuse the pipeline are left out.
    pub fn with_options(
        composition: Composition,
        options: impl IntoIterator<Item = CompileOptions>,
    ) -> Result<Judge, Failure> {
        let composition = Arc::new(composition);
        let mut engines = Vec::new();
        for options in options {
            match Engine::compile(Arc::clone(&composition), &options) {
                Ok(engine) => {
                    // Every other engine does what it does for transfers that the caches do not hold.
                    let is_big = (engines.len() + composition.gauge().ilog2() as usize).is_multiple_of(2);
                    engines.push((options, if is_big { engine.taken_for_big() } else { engine }));
                }
                Err(CompileError::Unsupported(_)) => {}
                Err(error) => {
                    let how = "compiling".to_owned();
                    return Err(Failure { options, how, len: 0, what: error.to_string() });
                }
            }
        }
        Ok(Judge { composition, engines })
    }

    /// What is judged.
    pub fn composition(&self) -> &Composition {
        &self.composition
    }

    /// The engines, and how each was asked for.
    pub fn engines(&self) -> impl Iterator<Item = (&CompileOptions, &Engine)> {
        self.engines.iter().map(|(options, engine)| (options, engine))
    }

    /// Runs every engine over a random stream of `len` bytes, in every way.
    pub fn judge(&self, rng: &mut Rng, len: usize) -> Result<(), Failure> {
        self.judge_some(rng, len, usize::MAX)
    }

    /// Runs every engine over a random stream of `len` bytes, in up to `ways` different ways, chosen at
    /// random for each.
    pub fn judge_some(&self, rng: &mut Rng, len: usize, ways: usize) -> Result<(), Failure> {
        let stream = rng.bytes(len);
        self.each(rng, &stream, |case| case.run(ways))
    }

    /// Runs every engine over a random stream of `len` bytes that comes in two chunks, cut at every place.
    pub fn judge_every_split(&self, rng: &mut Rng, len: usize) -> Result<(), Failure> {
        let stream = rng.bytes(len);
        self.each(rng, &stream, |case| case.every_split())
    }

    fn each(
        &self,
        rng: &mut Rng,
        stream: &[u8],
        run: impl Fn(&mut Case<'_>) -> Result<(), (String, String)>,
    ) -> Result<(), Failure> {
        let imports = self.random_imports(rng);
        let expected = oracle::run(&self.composition, &imports, stream);
        let seed = rng.next_u64();
        for (options, engine) in &self.engines {
            // The same splits and alignments for each backend.
            let rng = Rng::new(seed);
            let mut case = Case {
                engine,
                imports: self.imports_for(engine, &imports),
                expected: &expected,
                stream,
                rng,
            };
            run(&mut case).map_err(|(how, what)| Failure {
                options: options.clone(),
                how,
                len: stream.len(),
                what,
            })?;
        }
        Ok(())
    }

    fn random_imports(&self, rng: &mut Rng) -> Vec<Import> {
        let mut imports = Vec::new();
        if rng.chance(1, 3) {
            for (stage, instance) in self.composition.stages.iter().enumerate() {
                let shown = instance.pipe.digest_states().map_or(usize::MAX, |(_, key, _)| key.end);
                for (state, register) in instance.pipe.states.iter().enumerate().take(shown) {
                    if rng.chance(1, 2) {
                        imports.push(Import { stage, state, value: rng.edge() & register.ty.mask() });
                    }
                }
            }
        }
        imports
    }

    fn imports_for(&self, engine: &Engine, imports: &[Import]) -> Imports {
        let mut result = engine.imports();
        for import in imports {
            let stage = &self.composition.stages[import.stage];
            let name = format!("{}.{}", stage.name, stage.pipe.states[import.state].name);
            result.set(&name, import.value).expect("a register of this pipeline");
        }
        result
    }
}
