//! From a composition to a plan and code for it: which stages share a pass, and whose code each pass runs.
//!
//! ```text
//!     facts, once a pipe -> rewrites of a pass -> native, all stages in one loop
//!                                              -> halves, where the registers do not suffice
//!                                              -> passes by what the stages can do (`plan::schedule`), native or portable
//! ```

pub(crate) mod guarded;

use crate::analyse::Analysed;
use crate::backend::{PassCode, Refusal, Stripes, cranelift, crc, interp};
use crate::compose::Composition;
use crate::error::Unsupported;
use crate::features::Features;
use crate::options::{Backend, CompileOptions};
use crate::plan::rewrite::{self, Rewritten};
use crate::plan::schedule::{self, Kind};
use crate::plan::{Pass, Plan};
use guarded::Guarded;
use std::cell::Cell;
use std::sync::Arc;

/// Where code for a pass comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) backend: Backend,
    /// The native backend's instructions, if not every one that there is.
    pub(crate) features: Option<Features>,
    /// The striped buffers that the pass reads from and writes to.
    pub(crate) stripes: Stripes,
    /// Word after word, as written.
    pub(crate) serial: bool,
}

/// Code of a pass.
pub(crate) struct Made {
    /// Where it comes from.
    pub(crate) backend: Backend,
    pub(crate) code: Box<dyn PassCode>,
    /// What the rewrites made of the stages, if that is what was compiled.
    pub(crate) rewritten: Option<Arc<Rewritten>>,
    /// The stages that were compiled.
    pub(crate) stages: Box<[Analysed]>,
}

/// A plan for the composition and code for its passes, from the backend asked for.
///
/// The native backend is offered the whole pipeline as one loop first; what it cannot take whole is split by what it takes of
/// it, so that one stage that it refuses costs the others nothing but the seams.
pub(crate) fn select(
    composition: &Composition,
    options: &CompileOptions,
) -> Result<(Plan, Vec<Made>), Unsupported> {
    let &CompileOptions { backend, separate_passes, features, serial } = options;
    let stages = Analysed::all(composition.stages.iter().map(|stage| &stage.pipe));
    let selector = |backend| Selector {
        composition,
        stages: &stages,
        target: Target { backend, features, stripes: Stripes::default(), serial },
        passes: Vec::new(),
        made: Vec::new(),
    };
    match backend {
        _ if separate_passes => selector(backend).take_all(Plan::separate(composition)),
        Backend::Interp => selector(backend).take_all(Plan::fused(composition)),
        _ if serial => selector(backend).take_all(Plan::fused(composition)),
        Backend::Cranelift => selector(backend).take_all(Plan::portable(composition, &stages)),
        Backend::Auto | Backend::Native => {
            let whole = Plan::fused(composition);
            selector(Backend::Native).take_all(whole.clone()).or_else(|refusal| {
                let split = schedule::schedule(composition, &stages, kinds(features));
                if backend == Backend::Auto || whole != split {
                    selector(backend).take_all(split)
                } else {
                    Err(refusal)
                }
            })
        }
    }
}

/// How each stage runs in a pass of its own, on the backend that is fastest for it.
fn kinds(features: Option<Features>) -> impl Fn(&Analysed) -> Kind {
    // To ask is to compile in part: all stages together no more than one pass may take.
    let budget = Cell::new(MAX_ASKED);
    move |pipe| {
        let alone = rewrite::alone(pipe);
        let takes = |pipe: &Analysed| native_takes(pipe, features, &budget);
        if alone.as_ref().is_some_and(takes) || takes(pipe) {
            Kind::Native
        } else {
            schedule::kind_of(pipe, alone.as_ref())
        }
    }
}

/// Passes as they get code.
struct Selector<'a> {
    composition: &'a Composition,
    /// Of the composition, in its order.
    stages: &'a [Analysed],
    target: Target,
    passes: Vec<Pass>,
    made: Vec<Made>,
}

impl Selector<'_> {
    fn take_all(mut self, plan: Plan) -> Result<(Plan, Vec<Made>), Unsupported> {
        // A single pass reads and writes where the stream is; several go by way of a block in the cache.
        if plan.passes.len() == 1 {
            self.target.stripes = Stripes::of(self.composition);
        }
        plan.passes.into_iter().try_for_each(|pass| self.take(pass))?;
        Ok((Plan { passes: self.passes }, self.made))
    }

    /// Code for a pass, or for its halves one after the other where the native backend would take it if there were more
    /// registers: two passes over blocks that stay in the first-level cache are faster than one in narrower vectors.
    fn take(&mut self, pass: Pass) -> Result<(), Unsupported> {
        let backend = self.target.backend;
        if matches!(backend, Backend::Auto | Backend::Native) {
            match self.generate(&pass, Target { backend: Backend::Native, ..self.target }) {
                Ok(made) => {
                    self.keep(pass, made);
                    return Ok(());
                }
                Err((_, Refusal::OutOfRegisters)) if pass.stages.len() > 1 => return self.halve(&pass),
                Err(refusal) if backend == Backend::Native => return Err(unsupported(refusal)),
                Err(_) => {}
            }
        }
        let made = self.generate(&pass, self.target).map_err(unsupported)?;
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
        self.target.stripes = Stripes::default();
        pass.halves(self.composition).into_iter().try_for_each(|half| self.take(half))
    }

    /// Whether each of the stages would run in vectors in a pass of its own.
    fn all_wide(&self, pass: &Pass) -> bool {
        let mut stages = pass.stages.iter().map(|&index| &self.stages[index]);
        match self.target.backend {
            _ if self.target.serial => false,
            Backend::Auto => {
                let kind = kinds(self.target.features);
                stages.all(|stage| kind(stage) != Kind::Serial)
            }
            _ => stages.all(|stage| schedule::portable_kind(stage) != Kind::Serial),
        }
    }

    /// Code for a pass from the backend asked for, with what the rewrites make of its stages.
    fn generate(&self, pass: &Pass, target: Target) -> Result<Made, (Backend, Refusal)> {
        let stages: Box<[Analysed]> = pass.stages.iter().map(|&index| self.stages[index].clone()).collect();
        // The interpreter is what the others are held against: it runs what was written.
        let rewrites = target.backend != Backend::Interp && !target.serial;
        let rewritten =
            rewrites.then(|| rewrite::rewrite(pass.stages(self.composition).zip(&stages))).flatten();
        if let Some(rewritten) = rewritten
            && let Ok((backend, code)) = generate_stages(&rewritten.stages, target)
        {
            let compiled = rewritten.stages.clone().into();
            let rewritten = Arc::new(rewritten);
            let code = if rewritten.is_unconditional(&stages) {
                code
            } else {
                Box::new(Guarded::new(code, Arc::clone(&rewritten), stages, target))
            };
            return Ok(Made { backend, code, rewritten: Some(rewritten), stages: compiled });
        }
        let (backend, code) = generate_stages(&stages, target)?;
        Ok(Made { backend, code, rewritten: None, stages })
    }
}

fn unsupported((backend, refusal): (Backend, Refusal)) -> Unsupported {
    Unsupported { backend, what: refusal.to_string() }
}

/// Code for stages as they are, when the code for what they were rewritten to may not run.
fn as_written(stages: &[Analysed], target: Target) -> Box<dyn PassCode> {
    match generate_stages(stages, target) {
        Ok((_, code)) => code,
        // A backend that was asked for by name may refuse what it took after the rewrites.
        Err(_) => Box::new(interp::InterpCode::new(stages)),
    }
}

/// Code for the fused stages from the backend asked for; `Auto` takes the first that does not refuse.
fn generate_stages(
    stages: &[Analysed],
    Target { backend, features, stripes, serial }: Target,
) -> Result<(Backend, Box<dyn PassCode>), (Backend, Refusal)> {
    let interp = || -> Box<dyn PassCode> { Box::new(interp::InterpCode::new(stages)) };
    let gauge = stages.iter().map(|pipe| pipe.word_bytes()).max().unwrap_or(1);
    if matches!(backend, Backend::Auto | Backend::Cranelift)
        && !serial
        && let Some(code) = crc::CrcCode::new(stages, features.unwrap_or_else(Features::detected))
    {
        return Ok((Backend::Cranelift, Box::new(code)));
    }
    match backend {
        Backend::Native if serial => Err((backend, "one word after the other".to_owned().into())),
        Backend::Auto => Ok(if !serial && let Ok(code) = native(stages, stripes, features) {
            (Backend::Native, code)
        } else if let Ok(code) = cranelift::compile_as(stages, gauge, serial) {
            (Backend::Cranelift, Box::new(code))
        } else {
            (Backend::Interp, interp())
        }),
        Backend::Interp => Ok((Backend::Interp, interp())),
        Backend::Cranelift => {
            let code = cranelift::compile_as(stages, gauge, serial);
            Ok((backend, Box::new(code.map_err(|refusal| (refusal.backend, refusal.what.into()))?)))
        }
        Backend::Native => {
            Ok((backend, native(stages, stripes, features).map_err(|refusal| (backend, refusal))?))
        }
    }
}

/// Most machine instructions that finding out about all stages of a pipeline may take.
const MAX_ASKED: usize = 200_000;

/// Whether the native backend takes a stage by itself; `budget` is how many machine instructions may still be made to find
/// out.
#[cfg(target_arch = "x86_64")]
fn native_takes(pipe: &Analysed, features: Option<Features>, budget: &Cell<usize>) -> bool {
    if budget.get() == 0 {
        return false;
    }
    let size = crate::backend::native::takes(pipe, features.unwrap_or_else(Features::detected));
    // A refusal comes early, or at the limit.
    budget.set(budget.get().saturating_sub(size.unwrap_or(pipe.body.insts.len())));
    size.is_some()
}

#[cfg(not(target_arch = "x86_64"))]
fn native_takes(_pipe: &Analysed, _features: Option<Features>, _budget: &Cell<usize>) -> bool {
    false
}

/// Code for this processor, with the instructions chosen, or every one it has.
#[cfg(target_arch = "x86_64")]
fn native(
    stages: &[Analysed],
    stripes: Stripes,
    features: Option<Features>,
) -> Result<Box<dyn PassCode>, Refusal> {
    let features = features.unwrap_or_else(Features::detected);
    Ok(Box::new(crate::backend::native::compile(stages, features, stripes)?))
}

#[cfg(not(target_arch = "x86_64"))]
fn native(
    _stages: &[Analysed],
    _stripes: Stripes,
    _features: Option<Features>,
) -> Result<Box<dyn PassCode>, Refusal> {
    Err("any processor but x86-64".to_owned().into())
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
