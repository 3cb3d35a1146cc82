//! From a composition to a plan and code for it: which stages share a pass, and whose code each pass runs.
//!
//! ```text
//!     facts, once a pipe -> rewrites of a pass -> a plan of all stages in one loop (`plan::wide`), native
//!                                              -> halves, where the registers do not suffice
//!                                              -> passes by what the stages can do (`plan::schedule`)
//! ```

mod digests;
pub(crate) mod guarded;

use crate::analyse::Analysed;
use crate::backend::crc::CrcCode;
#[cfg(native)]
use crate::backend::native;
use crate::backend::{PassCode, Refusal, Stripes, cranelift, interp};
use crate::compose::Composition;
use crate::digest::DigestKind;
use crate::error::Unsupported;
use crate::features::Features;
use crate::options::{Backend, CompileOptions};
use crate::plan::portable::PortablePlan;
use crate::plan::rewrite::{self, Rewritten};
use crate::plan::schedule;
use crate::plan::target::Targets;
#[cfg(native)]
use crate::plan::wide::WidePlan;
use crate::plan::{Pass, Plan};
use guarded::Guarded;
use std::sync::Arc;

/// What code for a pass is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) backend: Backend,
    pub(crate) features: Features,
    /// What the generators can do with these features.
    pub(crate) targets: Targets,
    /// The striped buffers that the pass reads from and writes to.
    pub(crate) stripes: Stripes,
    /// Word after word, as written.
    pub(crate) serial: bool,
}

impl Wanted {
    /// Code from that backend, which may use these features, if not every one that there is.
    pub(crate) fn new(backend: Backend, features: Option<Features>, serial: bool) -> Wanted {
        let features = features.unwrap_or_else(Features::detected);
        let wide = match backend {
            #[cfg(native)]
            Backend::Auto | Backend::Native => native::targets(features),
            _ => Default::default(),
        };
        let targets = Targets { wide, portable: cranelift::target() };
        Wanted { backend, features, targets, stripes: Stripes::default(), serial }
    }
}

/// The plan that the code of a pass was made of.
pub(crate) enum PassPlan {
    #[cfg(native)]
    Native(native::Emitted),
    Portable(Box<cranelift::EmittedLoops>),
    /// Code that is part of the library.
    Crc(CrcCode),
    /// Stage after stage, as they are.
    Interpreted(Box<[Analysed]>),
    /// No code: a digest, which the driver feeds.
    Digest(DigestKind),
}

/// Code of a pass.
pub(crate) struct Made {
    /// Where it comes from.
    pub(crate) backend: Backend,
    pub(crate) code: Box<dyn PassCode>,
    /// What the code was made of.
    pub(crate) plan: PassPlan,
    /// What the rewrites made of the stages, if that is what was compiled.
    pub(crate) rewritten: Option<Arc<Rewritten>>,
    /// The stages that were compiled.
    pub(crate) stages: Box<[Analysed]>,
}

/// A plan for the composition and code for its passes, from the backend asked for.
///
/// The native backend is offered the whole pipeline as one loop first; what it cannot take whole is split by
/// what it takes of it, so that one stage that it refuses costs the others nothing but the seams.
pub(crate) fn select(
    composition: &Composition,
    options: &CompileOptions,
) -> Result<(Plan, Vec<Made>), Unsupported> {
    if composition.stages.iter().any(|stage| stage.pipe.digest.is_some()) {
        return digests::select(composition, options);
    }
    let &CompileOptions { backend, separate_passes, features, serial } = options;
    let stages = Analysed::all(composition.stages.iter().map(|stage| &stage.pipe));
    let selector = |backend| Selector {
        composition,
        stages: &stages,
        wanted: Wanted::new(backend, features, serial),
        passes: Vec::new(),
        made: Vec::new(),
    };
    let split = |backend| Plan::new(composition, &stages, &Wanted::new(backend, features, serial).targets);
    match backend {
        _ if separate_passes => selector(backend).take_all(Plan::separate(composition)),
        Backend::Interp => selector(backend).take_all(Plan::fused(composition)),
        _ if serial => selector(backend).take_all(Plan::fused(composition)),
        Backend::Cranelift => selector(backend).take_all(split(backend)),
        Backend::Auto | Backend::Native => {
            let whole = Plan::fused(composition);
            selector(Backend::Native).take_all(whole.clone()).or_else(|refusal| {
                let split = split(backend);
                if backend == Backend::Auto || whole != split {
                    selector(backend).take_all(split)
                } else {
                    Err(refusal)
                }
            })
        }
    }
}

/// Passes as they get code.
struct Selector<'a> {
    composition: &'a Composition,
    /// Of the composition, in its order.
    stages: &'a [Analysed],
    wanted: Wanted,
    passes: Vec<Pass>,
    made: Vec<Made>,
}

impl Selector<'_> {
    fn take_all(mut self, plan: Plan) -> Result<(Plan, Vec<Made>), Unsupported> {
        // A single pass reads and writes where the stream is; several go by way of a block in the cache.
        if plan.passes.len() == 1 {
            self.wanted.stripes = Stripes::of(self.composition);
        }
        plan.passes.into_iter().try_for_each(|pass| self.take(pass))?;
        Ok((Plan { passes: self.passes }, self.made))
    }

    /// Code for a pass, or for its halves one after the other where the native backend would take it if there
    /// were more registers: two passes over blocks that stay in the first-level cache are faster than one in
    /// narrower vectors.
    fn take(&mut self, pass: Pass) -> Result<(), Unsupported> {
        let backend = self.wanted.backend;
        if matches!(backend, Backend::Auto | Backend::Native) {
            match self.generate(&pass, Wanted { backend: Backend::Native, ..self.wanted }) {
                Ok(made) => {
                    self.keep(pass, made);
                    return Ok(());
                }
                Err((_, Refusal::OutOfRegisters | Refusal::TooLong)) if pass.stages.len() > 1 => {
                    return self.halve(&pass);
                }
                Err(refusal) if backend == Backend::Native => return Err(unsupported(refusal)),
                Err(_) => {}
            }
        }
        let made = self.generate(&pass, self.wanted).map_err(unsupported)?;
        // What each of them does in vectors may be too much for one loop here, too.
        if pass.stages.len() > 1 && made.code.is_serial() && self.all_wide(&pass) {
            return self.halve(&pass);
        }
        self.keep(pass, made);
        Ok(())
    }

    fn keep(&mut self, pass: Pass, made: Made) {
        self.passes.push(pass);
        self.made.push(made);
    }

    fn halve(&mut self, pass: &Pass) -> Result<(), Unsupported> {
        // Only a single pass reaches striped buffers itself.
        self.wanted.stripes = Stripes::default();
        pass.halves(self.composition).into_iter().try_for_each(|half| self.take(half))
    }

    /// Whether each of the stages would run in vectors in a pass of its own.
    fn all_wide(&self, pass: &Pass) -> bool {
        let stages = pass.stages.iter().map(|&index| &self.stages[index]);
        !self.wanted.serial && schedule::all_wide(stages, &self.wanted.targets)
    }

    /// Code for a pass from the backend asked for, with what the rewrites make of its stages.
    fn generate(&self, pass: &Pass, wanted: Wanted) -> Result<Made, (Backend, Refusal)> {
        let stages: Box<[Analysed]> = pass.stages.iter().map(|&index| self.stages[index].clone()).collect();
        // The interpreter is what the others are held against: it runs what was written.
        let rewrites = wanted.backend != Backend::Interp && !wanted.serial;
        let rewritten = rewrites
            .then(|| rewrite::rewrite(pass.stages(self.composition).zip(&stages), &wanted.targets))
            .flatten();
        if let Some(rewritten) = rewritten
            && let Ok(Generated { backend, code, plan }) = generate_stages(&rewritten.stages, wanted)
        {
            let compiled = rewritten.stages.clone().into();
            let rewritten = Arc::new(rewritten);
            let code = if rewritten.is_in_place(&stages) {
                code
            } else {
                Box::new(Guarded::new(code, Arc::clone(&rewritten), stages, wanted))
            };
            return Ok(Made { backend, code, plan, rewritten: Some(rewritten), stages: compiled });
        }
        let Generated { backend, code, plan } = generate_stages(&stages, wanted)?;
        Ok(Made { backend, code, plan, rewritten: None, stages })
    }
}

fn unsupported((backend, refusal): (Backend, Refusal)) -> Unsupported {
    Unsupported { backend, what: refusal.to_string() }
}

/// Code for stages as they are, when the code for what they were rewritten to may not run.
fn as_written(stages: &[Analysed], wanted: Wanted) -> Box<dyn PassCode> {
    match generate_stages(stages, wanted) {
        Ok(Generated { code, .. }) => code,
        // A backend that was asked for by name may refuse what it took after the rewrites.
        Err(_) => Box::new(interp::InterpCode::new(stages)),
    }
}

/// Code, whose it is and what it was made of.
struct Generated {
    backend: Backend,
    code: Box<dyn PassCode>,
    plan: PassPlan,
}

/// Code for the fused stages from the backend asked for; `Auto` takes the first that does not refuse.
fn generate_stages(stages: &[Analysed], wanted: Wanted) -> Result<Generated, (Backend, Refusal)> {
    let Wanted { backend, features, serial, .. } = wanted;
    if matches!(backend, Backend::Auto | Backend::Cranelift)
        && !serial
        && let Some(code) = CrcCode::new(stages, features)
    {
        return Ok(Generated {
            backend: Backend::Cranelift,
            code: Box::new(code),
            plan: PassPlan::Crc(code),
        });
    }
    match backend {
        Backend::Native => native(stages, wanted).map_err(|refusal| (backend, refusal)),
        Backend::Cranelift => portable(stages, wanted),
        Backend::Interp => Ok(interpreted(stages)),
        Backend::Auto => Ok(native(stages, wanted)
            .or_else(|_| portable(stages, wanted))
            .unwrap_or_else(|_| interpreted(stages))),
    }
}

fn interpreted(stages: &[Analysed]) -> Generated {
    let code = Box::new(interp::InterpCode::new(stages));
    Generated { backend: Backend::Interp, code, plan: PassPlan::Interpreted(stages.into()) }
}

fn portable(stages: &[Analysed], wanted: Wanted) -> Result<Generated, (Backend, Refusal)> {
    let plan = PortablePlan::new(stages, wanted.targets.portable.as_ref(), wanted.serial);
    let plan = plan.map_err(|refusal| (Backend::Cranelift, refusal))?;
    let (code, emitted) = cranelift::emit(plan).map_err(|refusal| (refusal.backend, refusal.what.into()))?;
    Ok(Generated {
        backend: Backend::Cranelift,
        code: Box::new(code),
        plan: PassPlan::Portable(Box::new(emitted)),
    })
}

/// Code for this processor.
#[cfg(native)]
fn native(stages: &[Analysed], wanted: Wanted) -> Result<Generated, Refusal> {
    if wanted.serial {
        return Err("one word after the other".to_owned().into());
    }
    let plan = WidePlan::new(stages, &wanted.targets.wide)?;
    let (code, emitted) = native::emit(plan, wanted.stripes)?;
    Ok(Generated { backend: Backend::Native, code: Box::new(code), plan: PassPlan::Native(emitted) })
}

#[cfg(not(native))]
fn native(_stages: &[Analysed], _wanted: Wanted) -> Result<Generated, Refusal> {
    Err(if cfg!(target_arch = "x86_64") {
        "anything, in a build of pipe-lib without its feature `native`"
    } else {
        "any processor but x86-64"
    }
    .to_owned()
    .into())
}

#[cfg(all(test, native))]
mod tests;
