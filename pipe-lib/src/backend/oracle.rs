//! The oracle: what a pipeline means, as plainly as it can be written.
//!
//! Unfused and whole-buffer: one stage after another over the entire stream, one word after another. It
//! shares with the engines only the meaning of single instructions ([`crate::ir::eval`]). It knows nothing of
//! plans, passes, blocks or the driver, so that it can judge them all. Speed is no concern here.

use crate::compose::frames::{End, find_export};
use crate::compose::{Composition, Stage};
use crate::digest::{DigestState, DigestValue};
use crate::error::RunError;
use crate::ir::{Block, Field, Frame, Layout, Op, Pipe, StateInit, Table, Tail, Term, Value, eval};

/// What a pipeline makes of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The stream after the last stage; as long as the source.
    pub(crate) output: Vec<u8>,
    /// One list for each export, in (stage, export) order: an entry a window, or exactly one entry without
    /// windows.
    pub(crate) exports: Vec<Vec<u64>>,
    /// The registers in the end, in (stage, state) order. Those of a stage with windows, the last of which
    /// the end of the stream ends, are what they start from.
    pub(crate) registers: Vec<u64>,
}

/// A register's value before the first word, in place of its initial one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    /// Index of the stage.
    pub(crate) stage: usize,
    /// Index of the state within the pipe.
    pub(crate) state: usize,
    /// The value, masked to the state's type.
    pub(crate) value: u64,
}

/// Runs `composition` over the stream `source`; layouts at its ends are left out (see
/// [`scatter`]).
///
/// Refuses, as every engine does, a length that a stage's tail rule rejects.
pub(crate) fn run(composition: &Composition, imports: &[Import], source: &[u8]) -> Result<Outcome, RunError> {
    let mut outcome = Outcome { output: source.to_vec(), ..Outcome::default() };
    for (index, stage) in composition.stages.iter().enumerate() {
        let mut initial: Vec<u64> = stage.pipe.states.iter().map(|state| initial_value(state.init)).collect();
        for import in imports.iter().filter(|import| import.stage == index) {
            initial[import.state] = import.value;
        }
        let mut lists = vec![Vec::new(); stage.pipe.exports.len()];
        match stage.window {
            _ if stage.pipe.digest.is_some() => {
                let window = stage.window.map_or(usize::MAX, |window| window.get() as usize);
                let (values, states) = digests(&stage.pipe, initial, &outcome.output, window);
                lists[0] = values;
                outcome.registers.extend(states);
            }
            None => {
                let states = run_stream(stage, &initial, &mut outcome.output)?;
                let values = finish(&stage.pipe, &states);
                outcome.registers.extend(states);
                lists.iter_mut().zip(values).for_each(|(list, value)| list.push(value));
            }
            Some(window) => {
                let window = usize::try_from(window.get()).unwrap_or(usize::MAX);
                for part in outcome.output.chunks_mut(window) {
                    let values = finish(&stage.pipe, &run_stream(stage, &initial, part)?);
                    lists.iter_mut().zip(values).for_each(|(list, value)| list.push(value));
                }
                outcome.registers.extend(initial);
            }
        }
        outcome.exports.extend(lists);
    }
    Ok(outcome)
}

/// A digest of each window at once: its value in words, and the registers.
fn digests(pipe: &Pipe, initial: Vec<u64>, stream: &[u8], window: usize) -> (Vec<u64>, Vec<u64>) {
    let (kind, key, value) = pipe.digest_states().expect("a digest");
    let of = |bytes: &[u8]| {
        let mut state = DigestState::new(kind, &initial[key.clone()]);
        state.update(bytes);
        let mut words = vec![0; value.len()];
        state.finish().to_words(&mut words);
        words
    };
    if window < usize::MAX {
        return (stream.chunks(window).flat_map(of).collect(), initial);
    }
    let words = of(stream);
    let mut states = initial.clone();
    states[value].copy_from_slice(&words);
    (words, states)
}

/// One stage over one stream (or window), in place; gives the registers.
fn run_stream(stage: &Stage, initial: &[u64], stream: &mut [u8]) -> Result<Vec<u64>, RunError> {
    let pipe = &*stage.pipe;
    let word = pipe.word_bytes();
    let mut states = initial.to_vec();
    for (index, bytes) in stream.chunks_mut(word).enumerate() {
        let leftover = bytes.len();
        if leftover < word {
            match pipe.tail {
                Tail::Reject => return Err(RunError::leftover(stage, leftover)),
                Tail::Pass => break,
                Tail::Zero | Tail::Partial => {}
            }
        }
        let mut padded = [0; 16];
        padded[..leftover].copy_from_slice(bytes);
        let x = pipe.input.read(&padded[..word]);
        let values = run_block(&pipe.body, &pipe.tables, &states, x, (index * word) as u64);
        if let Some(Value(out)) = pipe.out
            && (leftover == word || pipe.tail == Tail::Partial)
        {
            pipe.output.write(values[out as usize], &mut padded[..word]);
            bytes.copy_from_slice(&padded[..leftover]);
        }
        states = pipe.next.iter().map(|next| values[next.0 as usize] as u64).collect();
    }
    Ok(states)
}

/// The exports of a pipe whose registers ended as `states`.
fn finish(pipe: &Pipe, states: &[u64]) -> Vec<u64> {
    let values = run_block(&pipe.finish, &pipe.tables, states, 0, 0);
    pipe.exports.iter().map(|export| values[export.value.0 as usize] as u64).collect()
}

fn initial_value(init: StateInit) -> u64 {
    match init {
        StateInit::Const(value) => value,
        StateInit::Param(_) => unreachable!("a composition has no unbound parameters"),
    }
}

/// The values of all instructions of a block.
fn run_block(block: &Block, tables: &[Table], states: &[u64], x: u128, pos: u64) -> Vec<u128> {
    let mut values: Vec<u128> = Vec::with_capacity(block.insts.len());
    for (_, inst) in block.iter() {
        let wide = |v: Value| values[v.0 as usize];
        let value = |v: Value| wide(v) as u64;
        let result = match inst.op {
            Op::In => x,
            Op::WideUnary(op, a) => eval::wide_unary(op, inst.ty, wide(a)),
            Op::WideBinary(op, a, b) => eval::wide_binary(op, wide(a), wide(b)),
            op => u128::from(match op {
                Op::In | Op::WideUnary(..) | Op::WideBinary(..) => unreachable!("handled above"),
                Op::Pos => pos,
                Op::State(id) => states[id.0 as usize],
                Op::Param(_) => unreachable!("a composition has no unbound parameters"),
                Op::Const(literal) => literal,
                Op::Unary(op, a) => eval::unary(op, inst.ty, value(a)),
                Op::Binary(op, a, b) => eval::binary(op, inst.ty, value(a), value(b)),
                Op::Compare(op, a, b) => eval::compare(op, block.ty(a), value(a), value(b)),
                Op::Select { cond, then, otherwise } => {
                    value(if value(cond) == 1 { then } else { otherwise })
                }
                Op::Modular(op, a, b, m) => eval::modular(op, inst.ty, value(a), value(b), value(m)),
                Op::Convert(op, a) => eval::convert(op, block.ty(a), inst.ty, value(a)),
                Op::Lookup(table, index) => {
                    let table = &tables[table.0 as usize].values;
                    table[value(index) as usize % table.len()]
                }
                Op::Crc(op, acc, data) => eval::crc(op, block.ty(data), value(acc), value(data)),
            }),
        };
        values.push(result);
    }
    values
}

/// Writes `stream` into a device's buffer, with its padding, its last whole access and its holes. `buffer`
/// must be large enough. Gives the number of bytes up to the last one that belongs to the transfer.
pub(crate) fn scatter(layout: &Layout, stream: &[u8], buffer: &mut [u8]) -> usize {
    let mut bytes = stream.to_vec();
    let padded = bytes.len().max(usize::try_from(layout.pad).unwrap_or(usize::MAX));
    bytes.resize(padded.next_multiple_of(usize::from(layout.store.unwrap_or(1))), 0);
    let mut end = 0;
    for (i, byte) in bytes.iter().enumerate() {
        let offset = match (layout.fixed, layout.stripe) {
            (true, _) => i % usize::from(layout.store.unwrap_or(1)),
            (false, Some(stripe)) => stripe.offset(i as u64) as usize,
            (false, None) => i,
        };
        buffer[offset] = *byte;
        end = end.max(offset + 1);
    }
    end
}

/// `stream` with the fields of `frame`, at that end of the pipeline, around each window: `exports` as
/// [`run`] gave them, the frame's parameters as given. Bytes of gaps are `gap`.
pub(crate) fn frame(
    composition: &Composition,
    (frame, end): (&Frame, End),
    exports: &[Vec<u64>],
    params: &[u64],
    stream: &[u8],
    gap: u8,
) -> Vec<u8> {
    let size =
        frame.data.map_or(stream.len().max(1), |data| usize::try_from(data.get()).unwrap_or(usize::MAX));
    let mut windows: Vec<&[u8]> = stream.chunks(size).collect();
    if windows.is_empty() && frame.data.is_none() {
        windows.push(&[]);
    }
    let find = |name: &str| {
        let found = find_export(&composition.stages, end, name).expect("it was checked");
        let before = &composition.stages[..found.stage];
        let number = before.iter().map(|stage| stage.pipe.exports.len()).sum::<usize>() + found.export;
        (&composition.stages[found.stage].pipe, number)
    };
    // What an export came to in a window.
    let window_of = |name: &str, window: usize| {
        let (pipe, number) = find(name);
        let words = pipe.digest.map_or(1, |kind| kind.words());
        exports[number][window * words..][..words].to_vec()
    };
    let mut framed = Vec::new();
    for (index, data) in windows.into_iter().enumerate() {
        let put = |fields: &[Field], framed: &mut Vec<u8>| {
            for field in fields {
                match field {
                    Field::Gap(bytes) => framed.resize(framed.len() + *bytes as usize, gap),
                    Field::Bytes(bytes) => framed.extend_from_slice(bytes),
                    Field::Digest { bytes, export } => {
                        let words = window_of(export, index);
                        let value = DigestValue::of_words(&words, 64);
                        framed.extend_from_slice(&value[..*bytes as usize]);
                    }
                    Field::Put { gauge, sum } => {
                        let value = sum.iter().map(|term| match term {
                            Term::Const(value) => u128::from(*value),
                            Term::Param(id) => params[id.0 as usize].into(),
                            Term::Index => index as u128,
                            Term::Length => data.len() as u128,
                            Term::Export(name) => window_of(name, index)[0].into(),
                        });
                        let value = value.sum::<u128>() & u128::from(gauge.ty.mask());
                        let start = framed.len();
                        framed.resize(start + gauge.bytes(), 0);
                        gauge.write(value, &mut framed[start..]);
                    }
                }
            }
        };
        put(&frame.head, &mut framed);
        framed.extend_from_slice(data);
        put(&frame.foot, &mut framed);
    }
    framed
}
