//! A pipe together with what was proved of it.

use super::{PipeFacts, analyse};
use crate::ir::Pipe;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// A pipe whose parameters are bound, with its facts. They are proved once, when first asked for, and shared
/// by every step from the composition to the code.
#[derive(Clone, Debug)]
pub(crate) struct Analysed {
    pipe: Arc<Pipe>,
    facts: Facts,
    normal: Arc<OnceLock<Arc<Pipe>>>,
}

/// Facts that may not have been asked for yet; instances of one pipe share them.
pub(crate) type Facts = Arc<OnceLock<PipeFacts>>;

impl Analysed {
    pub(crate) fn new(pipe: Arc<Pipe>) -> Analysed {
        Analysed::with(pipe, Facts::default())
    }

    /// The pipe with facts that hold for it.
    pub(crate) fn with(pipe: Arc<Pipe>, facts: Facts) -> Analysed {
        Analysed { pipe, facts, normal: Arc::default() }
    }

    /// All of them, in order; what is the same pipe is one.
    pub(crate) fn all<'a>(pipes: impl Iterator<Item = &'a Arc<Pipe>>) -> Vec<Analysed> {
        let mut known: HashMap<*const Pipe, Analysed> = HashMap::new();
        let one = |pipe: &Arc<Pipe>| {
            known.entry(Arc::as_ptr(pipe)).or_insert_with(|| Analysed::new(Arc::clone(pipe))).clone()
        };
        pipes.map(one).collect()
    }

    pub(crate) fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    pub(crate) fn facts(&self) -> &PipeFacts {
        self.facts.get_or_init(|| analyse(&self.pipe))
    }

    /// Where the facts are, for another pipe that they hold for.
    pub(crate) fn shared_facts(&self) -> Facts {
        Arc::clone(&self.facts)
    }

    /// The pipe in normal form; facts speak of its values.
    pub(crate) fn normal(&self) -> &Pipe {
        self.shared_normal()
    }

    /// The same, for who keeps it.
    pub(crate) fn shared_normal(&self) -> &Arc<Pipe> {
        self.normal.get_or_init(|| Arc::new(self.facts().normal(&self.pipe)))
    }
}

impl Deref for Analysed {
    type Target = Pipe;

    fn deref(&self) -> &Pipe {
        &self.pipe
    }
}
