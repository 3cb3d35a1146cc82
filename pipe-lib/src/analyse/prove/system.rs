//! States that depend on each other and are affine together: sums of sums of sums, pairs of linear
//! recurrences, weights.

use super::deps::Deps;
use super::{Budget, ring};
use crate::analyse::class::{Class, Linear, StateFacts};
use crate::analyse::rewrite::Rewriter;
use crate::ir::{StateId, Table, Value};

/// What is known of the body.
pub(super) struct BodyFacts<'a> {
    pub(super) rewriter: &'a mut Rewriter,
    pub(super) tables: &'a [Table],
    /// What each state is no more than.
    pub(super) bounds: &'a [u64],
    /// What each value is no more than, as far as the new values of the states.
    pub(super) most: &'a [u64],
    /// Whether no state takes part in a value but those that are known without all of the words before.
    pub(super) resolved: &'a dyn Fn(Value) -> bool,
    pub(super) deps: &'a [Deps],
    pub(super) next: &'a [Value],
    pub(super) out: Option<Value>,
}

impl BodyFacts<'_> {
    /// Gives serial states, with all that depend on each other, the class of a system where they are one.
    pub(super) fn name_systems(mut self, states: &mut [StateFacts], budget: &mut Budget) {
        let mut done = vec![false; states.len()];
        for state in 0..states.len() {
            if done[state] || !matches!(states[state].class, Class::Serial { .. }) {
                continue;
            }
            let members = self.connected(state, states);
            members.iter().for_each(|member| done[*member] = true);
            let seen = |member: &usize| self.out.is_some_and(|out| self.deps[out.0 as usize].has(*member));
            if members.len() < 2 || members.iter().any(seen) {
                continue;
            }
            let ids: Box<[StateId]> = members.iter().map(|member| StateId(*member as u32)).collect();
            let next: Vec<Value> = members.iter().map(|member| self.next[*member]).collect();
            let system = ring::system(self.rewriter.block(), self.most, self.resolved, &ids, &next, budget);
            let Some(ring::RingSystem { modulus, matrix }) = system else { continue };
            let matrix: Box<[u64]> = matrix.into();
            for member in members {
                let operand =
                    ids.iter().fold(self.next[member], |value, id| self.rewriter.at_zero(value, *id));
                let operand = match modulus {
                    0 => operand,
                    _ => {
                        let mut congruent = ring::Congruent {
                            rewriter: self.rewriter,
                            tables: self.tables,
                            states: self.bounds,
                            most: self.most.to_vec(),
                            steps: ring::MAX_SUMS,
                        };
                        congruent.to(operand, modulus)
                    }
                };
                let (states_of, matrix) = (ids.clone(), matrix.clone());
                states[member].class =
                    Class::Linear(Linear::System { modulus, states: states_of, matrix, operand });
            }
        }
    }

    /// The states, ascending, that `state` depends on or that depend on it, through any number of others; not
    /// those that are known without all of the words before.
    fn connected(&mut self, state: usize, states: &[StateFacts]) -> Vec<usize> {
        let mut found = vec![state];
        let mut at = 0;
        while let Some(&one) = found.get(at) {
            let goes_by = |a: usize, b: usize| self.deps[self.next[a].0 as usize].has(b);
            for (other, known) in states.iter().enumerate() {
                let changes =
                    !matches!(known.class, Class::Invariant | Class::Positional | Class::Delay { .. });
                if changes && !found.contains(&other) && (goes_by(one, other) || goes_by(other, one)) {
                    found.push(other);
                }
            }
            at += 1;
        }
        found.sort_unstable();
        found
    }
}
