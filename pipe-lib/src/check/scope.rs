//! What the names of a pipe stand for.

use crate::ir::{ParamId, StateId, TableId, Ty};
use crate::source::Span;
use std::collections::HashMap;

/// What a declared name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeclaredName {
    /// A parameter.
    Param(ParamId, Ty),
    /// A persistent register.
    State(StateId, Ty),
    /// A persistent register of 128 bits: this one of the lower half, and the next one.
    WideState(StateId),
    /// A constant table.
    Table(TableId),
    /// A declaration that is wrong itself: nothing more is said of it.
    Broken,
}

/// The declarations of a pipe by name.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    names: HashMap<String, (DeclaredName, Span)>,
}

impl Scope {
    /// Declares a name; gives the place of an earlier declaration of it. Then nothing more is said of either.
    pub(crate) fn declare(&mut self, name: &str, what: DeclaredName, span: Span) -> Option<Span> {
        match self.names.get_mut(name) {
            Some((declared, earlier)) => {
                *declared = DeclaredName::Broken;
                Some(*earlier)
            }
            None => {
                self.names.insert(name.to_string(), (what, span));
                None
            }
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<(DeclaredName, Span)> {
        self.names.get(name).copied()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }
}
