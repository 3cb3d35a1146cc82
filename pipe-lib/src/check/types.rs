//! Type inference: one variable a value, joined by what instructions demand (union-find), narrowed by what is
//! known.
//!
//! Inference is local to a block and has no subtyping: either two values have one type or they have nothing
//! to do with each other. What relates different widths (`zext`, `lookup`, comparisons) is checked once all
//! is known.

use crate::ir::Ty;
use crate::source::Span;

/// A type to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Var(u32);

/// What is known of a variable.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The type, and the place that says so.
    ty: Option<(Ty, Span)>,
    /// Something was wrong before: nothing more is said of it.
    poisoned: bool,
}

/// All variables of a block.
#[derive(Debug, Default)]
pub(super) struct Types {
    parent: Vec<u32>,
    known: Vec<Known>,
}

/// Two types that should have been one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clash {
    pub(super) left: (Ty, Span),
    pub(super) right: (Ty, Span),
}

impl Types {
    pub(super) fn fresh(&mut self) -> Var {
        self.parent.push(self.parent.len() as u32);
        self.known.push(Known { ty: None, poisoned: false });
        Var(self.parent.len() as u32 - 1)
    }

    pub(super) fn of(&mut self, ty: Ty, span: Span) -> Var {
        let var = self.fresh();
        self.known[var.0 as usize].ty = Some((ty, span));
        var
    }

    pub(super) fn poisoned(&mut self) -> Var {
        let var = self.fresh();
        self.poison(var);
        var
    }

    pub(super) fn poison(&mut self, var: Var) {
        let root = self.root(var);
        self.known[root].poisoned = true;
    }

    pub(super) fn is_poisoned(&mut self, var: Var) -> bool {
        let root = self.root(var);
        self.known[root].poisoned
    }

    pub(super) fn get(&mut self, var: Var) -> Option<Ty> {
        let root = self.root(var);
        self.known[root].ty.map(|(ty, _)| ty)
    }

    /// Says that both have one type.
    pub(super) fn join(&mut self, a: Var, b: Var) -> Result<(), Clash> {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return Ok(());
        }
        let (x, y) = (self.known[a], self.known[b]);
        let poisoned = x.poisoned || y.poisoned;
        let clash = match (x.ty, y.ty) {
            (Some(left), Some(right)) if left.0 != right.0 && !poisoned => Some(Clash { left, right }),
            _ => None,
        };
        if let Some(clash) = clash {
            return Err(clash);
        }
        self.parent[b] = a as u32;
        self.known[a] = Known { ty: x.ty.or(y.ty), poisoned };
        Ok(())
    }

    fn root(&mut self, var: Var) -> usize {
        let mut at = var.0;
        while self.parent[at as usize] != at {
            let up = self.parent[self.parent[at as usize] as usize];
            self.parent[at as usize] = up;
            at = up;
        }
        at as usize
    }
}
