//! Taps: two that see the same bytes, and a byte swap between them.

use super::{StageDraft, StateLink, Work, reverses_bytes};
use crate::analyse::{Class, Reduce};
use crate::ir::{Endian, Gauge, Op, Pipe, Tail, Ty};
use std::sync::Arc;

/// How the states of a tap follow from those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Same,
    /// One's complement sums of 16-bit words in the other byte order.
    Swapped,
}

impl Work {
    /// Taps that compute what an earlier one computes.
    pub(super) fn merge_taps(&mut self) {
        let mut at = 0;
        while at < self.drafts.len() {
            match self.twin(at) {
                Some((from, relation)) => {
                    let draft = self.drafts.remove(at);
                    let kept = &self.drafts[from];
                    for (state, from) in draft.states.iter().zip(&kept.states) {
                        let swapped = relation == Relation::Swapped;
                        self.links.push(StateLink { state: *state, from: *from, swapped });
                    }
                    let how = match relation {
                        Relation::Same => "what",
                        Relation::Swapped => "with its bytes swapped what",
                    };
                    let note =
                        format!("`{}` is {how} `{}` computes, if they start alike", draft.name, kept.name);
                    self.notes.push(note);
                }
                None => at += 1,
            }
        }
    }

    /// An earlier tap from whose states those of the tap at `at` follow.
    fn twin(&self, at: usize) -> Option<(usize, Relation)> {
        let draft = &self.drafts[at];
        if draft.states.is_empty() || !draft.pipe.is_tap() {
            return None;
        }
        // Whether a byte swap was crossed on the way back.
        let mut swapped = false;
        for earlier in (0..at).rev() {
            let other = &self.drafts[earlier];
            if other.pipe.is_tap() {
                if let Some(relation) = relation(draft, other, swapped)
                    && draft.window == other.window
                    && draft.starts_as(other, relation == Relation::Swapped)
                {
                    return Some((earlier, relation));
                }
            } else if !swapped && crosses(draft, other) {
                swapped = true;
            } else {
                return None;
            }
        }
        None
    }

    /// A byte swap, taps, and the same swap again: the taps read the other order and the swaps go.
    pub(super) fn cross_swaps(&mut self) {
        let mut at = 0;
        while at < self.drafts.len() {
            let Some(second) = self.closing_swap(at) else {
                at += 1;
                continue;
            };
            let taps: Vec<&str> =
                self.drafts[at + 1..second].iter().map(|draft| draft.name.as_str()).collect();
            if !taps.is_empty() {
                let note = format!(
                    "{} in the other byte order, before `{}`: the order of words does not matter",
                    taps.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
                    self.drafts[at].name
                );
                self.notes.push(note);
                for draft in &mut self.drafts[at + 1..second] {
                    draft.pipe = Arc::new(turned(&draft.pipe));
                }
                // The composition of neighbours takes the swaps out.
                let swap = self.drafts.remove(at);
                self.drafts.insert(second - 1, swap);
            }
            at = second + 1;
        }
    }

    /// The swap that undoes the one at `at`, if all between are taps that may cross it.
    fn closing_swap(&self, at: usize) -> Option<usize> {
        let first = &self.drafts[at];
        if !reverses_bytes(&first.pipe) || first.pipe.tail == Tail::Partial {
            return None;
        }
        for (later, draft) in self.drafts.iter().enumerate().skip(at + 1) {
            if draft.pipe.is_tap() {
                if !crosses(draft, first) {
                    return None;
                }
            } else {
                let undoes = reverses_bytes(&draft.pipe)
                    && draft.pipe.word_bytes() == first.pipe.word_bytes()
                    && draft.pipe.tail != Tail::Partial
                    && draft.window == first.window;
                return undoes.then_some(later);
            }
        }
        None
    }
}

/// Whether the tap reads, before the swap and in the other byte order, the same words as behind it, perhaps
/// in another order that does not matter to it.
fn crosses(tap: &StageDraft, swap: &StageDraft) -> bool {
    let (size, word) = (swap.pipe.word_bytes(), tap.pipe.word_bytes());
    reverses_bytes(&swap.pipe)
        && tap.window == swap.window
        && word <= size
        && (swap.pipe.tail == Tail::Reject
            || (word == size && matches!(tap.pipe.tail, Tail::Pass | Tail::Reject)))
        && tap.facts().commutative()
}

/// The tap on words in the other byte order.
fn turned(pipe: &Pipe) -> Pipe {
    let mut pipe = pipe.clone();
    for gauge in [&mut pipe.input, &mut pipe.output] {
        *gauge = Gauge::new(gauge.ty, other(gauge.endian));
    }
    pipe
}

const fn other(endian: Endian) -> Endian {
    match endian {
        Endian::Big => Endian::Little,
        Endian::Little => Endian::Big,
    }
}

/// How the states of `tap` follow from those of `from` on the same bytes; `swapped` if its words are read in
/// the other byte order.
fn relation(tap: &StageDraft, from: &StageDraft, swapped: bool) -> Option<Relation> {
    let (a, b) = (&tap.pipe, &from.pipe);
    let same_tail = a.tail == b.tail || a.word_bytes() == 1;
    let same_types = a.states.iter().map(|state| state.ty).eq(b.states.iter().map(|state| state.ty));
    if a.input.ty != b.input.ty || !same_tail || !same_types {
        return None;
    }
    let (own, others) = (tap.facts(), from.facts());
    if own.body != others.body || own.tables != others.tables || own.next != others.next {
        return None;
    }
    let endian = if swapped { other(a.input.endian) } else { a.input.endian };
    if endian == b.input.endian || a.word_bytes() == 1 {
        return Some(Relation::Same);
    }
    // sum(bswap16 x) = bswap16(sum x) in one's complement.
    let is_sum = a.input.ty == Ty::U16
        && own.states.len() == 1
        && a.states[0].ty == Ty::U16
        && matches!(own.states[0].class, Class::Reduction { op: Reduce::Addc, operand }
            if own.body.inst(operand).op == Op::In);
    is_sum.then_some(Relation::Swapped)
}
