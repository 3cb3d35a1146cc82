//! The interpreted [`PassCode`]: runs everything, word by word. It is the fallback of the engine, and
//! `Backend::Interp`.
//!
//! It goes through the same driver and plan as machine code does. It is not the oracle: see
//! [`super::oracle`].

use super::PassCode;
use crate::analyse::Analysed;
use crate::ir::{Block, Endian, Gauge, Op, Pipe, Table, Tail, Ty, Value, eval};
use crate::outline::heading;
use smallvec::SmallVec;

/// Stages take turns over blocks of this size, so that they stay in the first-level cache.
const BLOCK: usize = 4096;

/// Values of one block; inline for pipes of ordinary length.
type Values<W> = SmallVec<[W; 64]>;

/// Numbers that hold every value of a pipe: `u64`, or `u128` where some have as many bits.
trait InterpNumber: Copy + From<u64> {
    /// The low 64 bits: all of a value that has no more.
    fn low(self) -> u64;

    fn read(gauge: Gauge, bytes: &[u8]) -> Self;

    fn write(self, gauge: Gauge, bytes: &mut [u8]);

    /// An operation on 128 bits.
    fn wide(op: Op, ty: Ty, value: impl Fn(Value) -> Self) -> Self;
}

/// The stages of a pass, interpreted.
#[derive(Debug)]
pub(crate) struct InterpCode {
    stages: Box<[Analysed]>,
    modifies: bool,
}

impl InterpCode {
    /// Takes the stages of any pass of a valid composition.
    pub(crate) fn new(stages: &[Analysed]) -> InterpCode {
        InterpCode { stages: stages.into(), modifies: stages.iter().any(|pipe| pipe.out.is_some()) }
    }

    /// Each stage, one after another, with its states.
    fn each_stage(&self, mut states: &mut [u64], mut f: impl FnMut(&Pipe, &mut [u64])) {
        for pipe in &self.stages {
            let (own, others) = states.split_at_mut(pipe.states.len());
            f(pipe, own);
            states = others;
        }
    }

    /// All stages over a block in place.
    fn block(&self, states: &mut [u64], pos: u64, bytes: &mut [u8]) {
        self.each_stage(states, |pipe, states| match pipe.is_wide() {
            true => run_stage::<u128>(pipe, states, pos, bytes),
            false => run_stage::<u64>(pipe, states, pos, bytes),
        });
    }

    /// All stages over a block that must not be written; they modify nothing.
    fn block_read_only(&self, states: &mut [u64], pos: u64, bytes: &[u8]) {
        self.each_stage(states, |pipe, states| match pipe.is_wide() {
            true => tap_stage::<u128>(pipe, states, pos, bytes),
            false => tap_stage::<u64>(pipe, states, pos, bytes),
        });
    }
}

/// What interpreting does, for people to read.
pub(crate) fn outline(stages: &[Analysed]) -> String {
    let mut text = String::new();
    for (at, pipe) in stages.iter().enumerate() {
        let part = if at == 0 { "body" } else { "" };
        let what = format!("`{}` over {BLOCK} bytes, word after word, interpreted", pipe.name);
        // Writing to a string does not fail.
        let _ = heading(&mut text, part, what);
    }
    let _ = heading(&mut text, "tail", "by each stage's rule");
    text
}

impl PassCode for InterpCode {
    unsafe fn run(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        let count = self.stages.iter().map(|pipe| pipe.states.len()).sum();
        let states: &mut [u64] = if count == 0 {
            &mut []
        } else {
            // SAFETY: the contract gives one initialised word for each state, not used by anyone else
            // meanwhile.
            unsafe { std::slice::from_raw_parts_mut(states, count) }
        };
        let mut scratch = [0; BLOCK];
        let mut at = 0;
        while at < len {
            let n = BLOCK.min(len - at);
            let pos = pos + at as u64;
            // SAFETY: `at + n <= len`, and `src` is readable for `len` bytes.
            let from = unsafe { src.add(at) };
            if dst.is_null() {
                // SAFETY: as above; nothing writes to these bytes while the slice lives.
                let bytes = unsafe { std::slice::from_raw_parts(from, n) };
                if self.modifies {
                    scratch[..n].copy_from_slice(bytes);
                    self.block(states, pos, &mut scratch[..n]);
                } else {
                    self.block_read_only(states, pos, bytes);
                }
            } else {
                // SAFETY: `dst` is writable for `len` bytes.
                let to = unsafe { dst.add(at) };
                if !std::ptr::eq(from, to) {
                    // SAFETY: both are valid for `n` bytes; when not equal, `src` and `dst` do not overlap.
                    unsafe { std::ptr::copy_nonoverlapping(from, to, n) };
                }
                // SAFETY: `to` is valid for `n` bytes, now initialised; `src` is not read again for them.
                self.block(states, pos, unsafe { std::slice::from_raw_parts_mut(to, n) });
            }
            at += n;
        }
    }
}

/// One pipe over whole words and, at the end, over what is left by its tail rule.
fn run_stage<W: InterpNumber>(pipe: &Pipe, states: &mut [u64], pos: u64, bytes: &mut [u8]) {
    let Some(Value(out)) = pipe.out else {
        return tap_stage::<W>(pipe, states, pos, bytes);
    };
    let word = pipe.word_bytes();
    let mut values = Values::<W>::new();
    let mut pos = pos;
    let mut words = bytes.chunks_exact_mut(word);
    for bytes in &mut words {
        step(pipe, states, pos, W::read(pipe.input, bytes), &mut values);
        values[out as usize].write(pipe.output, bytes);
        pos += word as u64;
    }
    let rest = words.into_remainder();
    if rest.is_empty() || matches!(pipe.tail, Tail::Pass | Tail::Reject) {
        return;
    }
    let mut padded = [0; 16];
    padded[..rest.len()].copy_from_slice(rest);
    step(pipe, states, pos, W::read(pipe.input, &padded[..word]), &mut values);
    if pipe.tail == Tail::Partial {
        values[out as usize].write(pipe.output, &mut padded[..word]);
        rest.copy_from_slice(&padded[..rest.len()]);
    }
}

/// The same for a pipe that writes nothing.
fn tap_stage<W: InterpNumber>(pipe: &Pipe, states: &mut [u64], pos: u64, bytes: &[u8]) {
    if states.is_empty() {
        return;
    }
    let word = pipe.word_bytes();
    let mut values = Values::<W>::new();
    let mut pos = pos;
    let mut words = bytes.chunks_exact(word);
    for bytes in &mut words {
        step(pipe, states, pos, W::read(pipe.input, bytes), &mut values);
        pos += word as u64;
    }
    let rest = words.remainder();
    if !rest.is_empty() && matches!(pipe.tail, Tail::Zero | Tail::Partial) {
        let mut padded = [0; 16];
        padded[..rest.len()].copy_from_slice(rest);
        step(pipe, states, pos, W::read(pipe.input, &padded[..word]), &mut values);
    }
}

/// The body once, then the new states.
fn step<W: InterpNumber>(pipe: &Pipe, states: &mut [u64], pos: u64, x: W, values: &mut Values<W>) {
    run_block(&pipe.body, &pipe.tables, states, x, pos, values);
    for (state, next) in states.iter_mut().zip(&pipe.next) {
        *state = values[next.0 as usize].low();
    }
}

/// The value of the last instruction of a block that reads no word, when the registers are `states`.
pub(crate) fn last_value(block: &Block, tables: &[Table], states: &[u64]) -> u64 {
    fn last<W: InterpNumber>(block: &Block, tables: &[Table], states: &[u64]) -> u64 {
        let mut values = Values::<W>::new();
        run_block(block, tables, states, W::from(0), 0, &mut values);
        values.last().map_or(0, |value| value.low())
    }
    if block.insts.iter().any(|inst| matches!(inst.op, Op::WideUnary(..) | Op::WideBinary(..))) {
        last::<u128>(block, tables, states)
    } else {
        last::<u64>(block, tables, states)
    }
}

fn run_block<W: InterpNumber>(
    block: &Block,
    tables: &[Table],
    states: &[u64],
    x: W,
    pos: u64,
    values: &mut Values<W>,
) {
    values.clear();
    for inst in &block.insts {
        let value = |v: Value| values[v.0 as usize].low();
        let result = match inst.op {
            Op::In => {
                values.push(x);
                continue;
            }
            op @ (Op::WideUnary(..) | Op::WideBinary(..)) => {
                let result = W::wide(op, inst.ty, |v| values[v.0 as usize]);
                values.push(result);
                continue;
            }
            Op::Pos => pos,
            Op::State(id) => states[id.0 as usize],
            // What is left are parameters: composing replaced them by constants, and `validate` has checked
            // it.
            op => eval::apply(op, inst.ty, tables, |v| block.ty(v), value).unwrap_or(0),
        };
        values.push(W::from(result));
    }
}

impl InterpNumber for u64 {
    fn low(self) -> u64 {
        self
    }

    fn read(gauge: Gauge, bytes: &[u8]) -> u64 {
        let little = match *bytes {
            [a] => u64::from(a),
            [a, b] => u64::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => 0,
        };
        match gauge.endian {
            Endian::Little => little,
            Endian::Big => little.swap_bytes() >> (64 - 8 * bytes.len()),
        }
    }

    fn write(self, gauge: Gauge, bytes: &mut [u8]) {
        let n = bytes.len();
        let little = match gauge.endian {
            Endian::Little => self,
            Endian::Big => self.swap_bytes() >> (64 - 8 * n),
        };
        bytes.copy_from_slice(&little.to_le_bytes()[..n]);
    }

    fn wide(_: Op, _: Ty, _: impl Fn(Value) -> u64) -> u64 {
        debug_assert!(false, "a pipe with 128 bits is run on numbers of as many");
        0
    }
}

impl InterpNumber for u128 {
    fn low(self) -> u64 {
        self as u64
    }

    fn read(gauge: Gauge, bytes: &[u8]) -> u128 {
        match (<[u8; 16]>::try_from(bytes), gauge.endian) {
            (Ok(bytes), Endian::Little) => u128::from_le_bytes(bytes),
            (Ok(bytes), Endian::Big) => u128::from_be_bytes(bytes),
            (Err(_), _) => u128::from(u64::read(gauge, bytes)),
        }
    }

    fn write(self, gauge: Gauge, bytes: &mut [u8]) {
        match (<&mut [u8; 16]>::try_from(&mut *bytes), gauge.endian) {
            (Ok(bytes), Endian::Little) => *bytes = self.to_le_bytes(),
            (Ok(bytes), Endian::Big) => *bytes = self.to_be_bytes(),
            (Err(_), _) => self.low().write(gauge, bytes),
        }
    }

    fn wide(op: Op, ty: Ty, value: impl Fn(Value) -> u128) -> u128 {
        match op {
            Op::WideUnary(op, a) => eval::wide_unary(op, ty, value(a)),
            Op::WideBinary(op, a, b) => eval::wide_binary(op, value(a), value(b)),
            _ => 0,
        }
    }
}
