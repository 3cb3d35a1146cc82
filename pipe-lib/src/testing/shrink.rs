//! Making a failing case small: fewer stages, shorter streams, fewer registers and instructions, as long as
//! it fails.

use super::{Failure, Judge, Rng};
use crate::analyse::rewrite::live;
use crate::compose::Composition;
use crate::ir::{Block, Op, Pipe, StateId, StateInit, Tail, Value};
use crate::options::CompileOptions;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Cases tried at most: each compiles and runs a pipeline many times.
const TRIES: usize = 4000;
/// Random streams tried for each case.
const STREAMS: u64 = 12;

/// The smallest case found that still fails, on the backend that failed.
pub fn shrink(composition: Composition, failure: Failure) -> (Composition, Failure) {
    let options = failure.options.clone();
    shrink_by(composition, failure, |composition, len| fails(composition, len, &options))
}

/// The same for any judgement: `fails` gives the failure of a composition on a stream of that length, if
/// there is one.
pub fn shrink_by(
    mut composition: Composition,
    mut failure: Failure,
    mut fails: impl FnMut(&Composition, usize) -> Option<Failure>,
) -> (Composition, Failure) {
    let mut tries = TRIES;
    // Where the last step was found the next one is likely: what comes before has just failed to fail.
    let mut from = 0;
    loop {
        let smaller = candidates(&composition, failure.len).enumerate().skip(from).find_map(|(at, case)| {
            let (small, len) = case;
            if len == failure.len && small == composition {
                return None;
            }
            tries = tries.checked_sub(1)?;
            // What cannot be composed is no case.
            small.validate().ok()?;
            let failure = fails(&small, len)?;
            Some((at, small, failure))
        });
        match smaller {
            Some(found) => (from, composition, failure) = found,
            None if from == 0 => return (composition, failure),
            None => from = 0,
        }
    }
}

/// How the pipeline fails on some stream of that length, if it does.
fn fails(composition: &Composition, len: usize, options: &CompileOptions) -> Option<Failure> {
    match Judge::with_options(composition.clone(), [options.clone()]) {
        Ok(judge) => (0..STREAMS).find_map(|seed| judge.judge(&mut Rng::new(seed), len).err()),
        Err(failure) => Some(failure),
    }
}

/// Smaller cases, the boldest first.
fn candidates(composition: &Composition, len: usize) -> impl Iterator<Item = (Composition, usize)> {
    let whole = composition.clone();
    let shorter =
        [len / 2, len.saturating_sub(8), len.saturating_sub(1)].into_iter().filter(move |n| *n < len);
    let shorter = shorter.map({
        let whole = whole.clone();
        move |len| (whole.clone(), len)
    });
    let stages = 0..composition.stages.len();
    let without_stage = stages.clone().map({
        let whole = whole.clone();
        move |at| changed(&whole, |smaller| drop(smaller.stages.remove(at)))
    });
    let without_window = stages.clone().filter(|&at| composition.stages[at].window.is_some()).map({
        let whole = whole.clone();
        move |at| changed(&whole, |smaller| smaller.stages[at].window = None)
    });
    let source = whole.source.is_some().then(|| changed(&whole, |smaller| smaller.source = None));
    let sink = whole.sink.is_some().then(|| changed(&whole, |smaller| smaller.sink = None));
    let source_frame =
        whole.source_frame.is_some().then(|| changed(&whole, |smaller| smaller.source_frame = None));
    let sink_frame = whole.sink_frame.is_some().then(|| changed(&whole, |smaller| smaller.sink_frame = None));
    let pipes = stages.flat_map(move |at| {
        let whole = whole.clone();
        let pipes = smaller_pipes(Arc::clone(&whole.stages[at].pipe));
        pipes.map(move |pipe| changed(&whole, |smaller| smaller.stages[at].pipe = Arc::new(pipe)))
    });
    let same_length =
        without_stage.chain(without_window).chain(source).chain(sink).chain(source_frame).chain(sink_frame);
    // Without a stage or its window a frame may lack its results.
    let same_length: Vec<Composition> = same_length.filter(|c| c.validate().is_ok()).collect();
    same_length
        .into_iter()
        .map(move |c| (c, len))
        .chain(shorter)
        .chain(pipes.filter(|c| c.validate().is_ok()).map(move |c| (c, len)))
}

fn changed(whole: &Composition, change: impl FnOnce(&mut Composition)) -> Composition {
    let mut smaller = whole.clone();
    change(&mut smaller);
    smaller
}

/// Pipes with less in them.
fn smaller_pipes(pipe: Arc<Pipe>) -> impl Iterator<Item = Pipe> {
    let mut pruned = Pipe::clone(&pipe);
    prune(&mut pruned);
    // Where it is dead code that fails, it has to stay.
    let tidy: fn(&mut Pipe) = if pruned == *pipe { prune } else { |_| {} };
    let mut simple: Vec<Pipe> = vec![pruned];
    let mut offer = |change: &dyn Fn(&mut Pipe)| {
        let mut smaller = Pipe::clone(&pipe);
        change(&mut smaller);
        tidy(&mut smaller);
        simple.push(smaller);
    };
    for at in 0..pipe.exports.len() {
        offer(&|smaller| drop(smaller.exports.remove(at)));
    }
    offer(&|smaller| smaller.out = None);
    for at in 0..pipe.states.len() {
        offer(&|smaller| remove_state(smaller, at));
        offer(&|smaller| smaller.states[at].init = StateInit::Const(0));
    }
    offer(&|smaller| smaller.tail = Tail::Zero);
    offer(&|smaller| smaller.output = smaller.input);
    let places = (0..pipe.finish.insts.len()).map(|at| (PipePart::Finish, at));
    let places: Vec<_> =
        places.chain((0..pipe.body.insts.len()).map(|at| (PipePart::Body, at))).rev().collect();
    let by_inst = places.into_iter().flat_map(move |(part, at)| without_inst(&pipe, part, at));
    let by_inst = by_inst.map(move |mut smaller| {
        tidy(&mut smaller);
        smaller
    });
    simple.into_iter().chain(by_inst)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PipePart {
    Body,
    Finish,
}

impl PipePart {
    fn of(self, pipe: &mut Pipe) -> &mut Block {
        match self {
            PipePart::Body => &mut pipe.body,
            PipePart::Finish => &mut pipe.finish,
        }
    }
}

/// The pipe with one of its instructions replaced: by one of those that it depends on, or by zero.
fn without_inst(pipe: &Pipe, part: PipePart, at: usize) -> Vec<Pipe> {
    let mut zero = pipe.clone();
    let inst = part.of(&mut zero).insts[at];
    let mut smaller = Vec::new();
    let mut needed: BTreeSet<Value> = inst.op.operands().collect();
    while let Some(value) = needed.pop_last()
        && smaller.len() < 3
    {
        let earlier = part.of(&mut zero).inst(value);
        needed.extend(earlier.op.operands());
        if earlier.ty == inst.ty {
            let mut pipe = pipe.clone();
            rename(&mut pipe, part, Value(at as u32), value);
            smaller.push(pipe);
        }
    }
    if !matches!(inst.op, Op::Const(0)) {
        part.of(&mut zero).insts[at].op = Op::Const(0);
        smaller.push(zero);
    }
    smaller
}

/// Every use of `old` becomes one of `new`.
fn rename(pipe: &mut Pipe, part: PipePart, old: Value, new: Value) {
    let renamed = |value: Value| if value == old { new } else { value };
    part.of(pipe).insts.iter_mut().for_each(|inst| inst.op = inst.op.map_operands(renamed));
    match part {
        PipePart::Body => {
            pipe.out = pipe.out.map(renamed);
            pipe.next.iter_mut().for_each(|next| *next = renamed(*next));
        }
        PipePart::Finish => pipe.exports.iter_mut().for_each(|export| export.value = renamed(export.value)),
    }
}

/// Takes a state out; where it was read stands what it started from.
fn remove_state(pipe: &mut Pipe, at: usize) {
    let init = match pipe.states[at].init {
        StateInit::Const(value) => value,
        StateInit::Param(_) => 0,
    };
    pipe.states.remove(at);
    pipe.next.remove(at);
    for inst in pipe.body.insts.iter_mut().chain(&mut pipe.finish.insts) {
        if let Op::State(StateId(id)) = inst.op {
            inst.op = match (id as usize).cmp(&at) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => Op::Const(init),
                std::cmp::Ordering::Greater => Op::State(StateId(id - 1)),
            };
        }
    }
}

/// Drops instructions that nothing depends on.
fn prune(pipe: &mut Pipe) {
    let roots: Vec<Value> = pipe.next.iter().copied().chain(pipe.out).collect();
    let (body, roots) = live(&pipe.body, &roots);
    pipe.body = body;
    pipe.out = pipe.out.and(roots.last().copied());
    pipe.next = roots[..pipe.states.len()].to_vec();
    let roots: Vec<Value> = pipe.exports.iter().map(|export| export.value).collect();
    let (finish, roots) = live(&pipe.finish, &roots);
    pipe.finish = finish;
    pipe.exports.iter_mut().zip(roots).for_each(|(export, value)| export.value = value);
    let mut insts = pipe.body.insts.iter().chain(&pipe.finish.insts);
    if !insts.any(|inst| matches!(inst.op, Op::Lookup(..))) {
        pipe.tables.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::verify::verify;
    use crate::ir::{BinaryOp, Op};
    use crate::options::Backend;
    use crate::testing::Generator;

    /// A judge that finds fault with every multiplication: what is left is one, and the registers that it
    /// needs.
    #[test]
    fn what_does_not_matter_goes() {
        let faulty = |composition: &Composition, len: usize| {
            let multiplies = |pipe: &Pipe| {
                let mut pipe = pipe.clone();
                prune(&mut pipe);
                pipe.body.iter().any(|(_, inst)| matches!(inst.op, Op::Binary(BinaryOp::Mul, ..)))
            };
            let found = len >= 3 && composition.stages.iter().any(|stage| multiplies(&stage.pipe));
            found.then(|| Failure {
                options: Backend::Interp.into(),
                how: String::new(),
                len,
                what: "multiplies".to_owned(),
            })
        };
        let mut found = 0;
        for seed in 0..400 {
            let composition = Generator::new(&mut Rng::new(seed)).composition();
            let Some(failure) = faulty(&composition, 100) else { continue };
            found += 1;
            let (small, failure) = shrink_by(composition, failure, faulty);
            assert_eq!((small.stages.len(), failure.len), (1, 3), "seed {seed}: {small}");
            let pipe = &small.stages[0].pipe;
            assert!(small.source.is_none() && small.sink.is_none() && small.stages[0].window.is_none());
            // The product, its operands, and something to depend on it, perhaps of another width or by a
            // choice.
            assert!(pipe.body.insts.len() <= 7 && pipe.states.len() <= 1, "seed {seed}: {small}");
            assert!(pipe.exports.is_empty(), "seed {seed}: {small}");
            verify(pipe).unwrap();
        }
        assert!(found > 20, "{found}");
    }
}
