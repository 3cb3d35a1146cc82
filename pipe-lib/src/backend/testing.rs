//! What the tests of every backend share: an oracle without any fusion, random pipes, and the comparison of
//! the two.
//!
//! The oracle is deliberately the plainest reading of the rules: one stage after the other over the whole
//! buffer, one word at a time, each instruction by [`crate::ir::eval`].

use super::PassCode;
use crate::ir::builder::PipeBuilder;
use crate::ir::{
    BinaryOp, Block, CompareOp, ConvertOp, CrcOp, Endian, Gauge, ModOp, Op, Pipe, StateInit, Tail, Ty,
    UnaryOp, Value,
};

/// A small generator (xorshift64*): the same seed gives the same pipes everywhere.
pub(crate) struct Xorshift(u64);

impl Xorshift {
    pub(crate) fn new(seed: u64) -> Xorshift {
        Xorshift(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound.max(1)
    }

    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Bytes with runs of zeros and ones: the edges of carries and comparisons.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let style = self.below(4);
        (0..len)
            .map(|_| match (style, self.below(4)) {
                (0, _) => 0,
                (1, 0) => 0xff,
                (1, 1) => 0,
                (2, _) => 0xff,
                _ => self.next() as u8,
            })
            .collect()
    }
}

/// The values of all instructions of a block.
fn values(block: &Block, pipe: &Pipe, states: &[u64], input: u64, pos: u64) -> Vec<u64> {
    block.evaluate(&pipe.tables, |leaf| match leaf {
        Op::In => input,
        Op::Pos => pos,
        Op::State(state) => states[state.0 as usize],
        leaf => unreachable!("{leaf:?}"),
    })
}

/// All stages over the whole of `data`, in place; the last `data.len() % word` bytes by each stage's tail
/// rule.
pub(crate) fn oracle(stages: &[&Pipe], states: &mut [u64], pos: u64, data: &mut [u8]) {
    let mut base = 0;
    for pipe in stages {
        let mine = &mut states[base..base + pipe.states.len()];
        base += pipe.states.len();
        let word = pipe.word_bytes();
        let mut offset = pos;
        for piece in data.chunks_mut(word) {
            let real = piece.len();
            if real < word && matches!(pipe.tail, Tail::Pass | Tail::Reject) {
                break;
            }
            let mut padded = vec![0; word];
            padded[..real].copy_from_slice(piece);
            let values = values(&pipe.body, pipe, mine, pipe.input.read(&padded) as u64, offset);
            let next: Vec<u64> = pipe.next.iter().map(|value| values[value.0 as usize]).collect();
            mine.copy_from_slice(&next);
            if let Some(out) = pipe.out
                && (real == word || pipe.tail == Tail::Partial)
            {
                pipe.output.write(values[out.0 as usize].into(), &mut padded);
                piece.copy_from_slice(&padded[..real]);
            }
            offset += word as u64;
        }
    }
}

/// The initial states of the stages.
pub(crate) fn initial(stages: &[&Pipe]) -> Vec<u64> {
    let init = stages.iter().flat_map(|pipe| &pipe.states).map(|state| match state.init {
        StateInit::Const(value) => value,
        StateInit::Param(_) => 0,
    });
    init.collect()
}

/// The loop word of the stages.
pub(crate) fn gauge(stages: &[&Pipe]) -> usize {
    stages.iter().map(|pipe| pipe.word_bytes()).max().unwrap_or(1)
}

/// How a run uses its buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Copy,
    InPlace,
    ReadOnly,
}

/// Runs `code` over `data` as the driver would and compares bytes and states with the oracle. `offsets` are
/// the alignments of source and destination, `pos` the position of the first byte.
#[allow(clippy::too_many_arguments)]
pub(crate) fn compare(
    code: &dyn PassCode,
    stages: &[&Pipe],
    start: &[u64],
    pos: u64,
    data: &[u8],
    offsets: [usize; 2],
    how: Use,
    what: &dyn Fn() -> String,
) {
    const GUARD: usize = 128;
    let mut expected = data.to_vec();
    let mut expected_states = start.to_vec();
    oracle(stages, &mut expected_states, pos, &mut expected);

    let frame = |offset: usize| vec![0xa5u8; data.len() + 2 * GUARD + offset];
    let mut src = frame(offsets[0]);
    let at = GUARD + offsets[0];
    src[at..at + data.len()].copy_from_slice(data);
    let mut dst = frame(offsets[1]);
    let to = GUARD + offsets[1];
    let mut states = start.to_vec();
    let from = src[at..].as_mut_ptr();
    let into = match how {
        Use::Copy => dst[to..].as_mut_ptr(),
        Use::InPlace => from,
        Use::ReadOnly => std::ptr::null_mut(),
    };
    // SAFETY: both buffers hold `data.len()` bytes from there on; there is a state for each of the stages'.
    unsafe {
        if !data.is_empty() {
            code.run(states.as_mut_ptr(), pos, from, into, data.len());
        }
    }
    let label = || format!("{} bytes at {pos}, alignments {offsets:?}, {how:?}: {}", data.len(), what());
    assert_eq!(states, expected_states, "states after {}", label());
    match how {
        Use::Copy => {
            assert_eq!(&dst[to..to + data.len()], expected, "output of {}", label());
            assert_eq!(&src[at..at + data.len()], data, "source of {}", label());
        }
        Use::InPlace => assert_eq!(&src[at..at + data.len()], expected, "output of {}", label()),
        Use::ReadOnly => assert_eq!(&src[at..at + data.len()], data, "source of {}", label()),
    }
    for (buffer, begin) in [(&src, at), (&dst, to)] {
        let outside = buffer[..begin].iter().chain(&buffer[begin + data.len()..]);
        assert!(outside.copied().all(|byte| byte == 0xa5), "a byte outside was written: {}", label());
    }
}

/// `compare` over many lengths, alignments and uses.
pub(crate) fn compare_many(code: &dyn PassCode, stages: &[&Pipe], rng: &mut Xorshift, rounds: usize) {
    let gauge = gauge(stages);
    let rejects: Vec<usize> =
        stages.iter().filter(|pipe| pipe.tail == Tail::Reject).map(|pipe| pipe.word_bytes()).collect();
    for round in 0..rounds {
        let len = match round % 4 {
            0 => rng.below(20),
            1 => rng.below(130),
            _ => rng.below(301),
        };
        let len = rejects.iter().fold(len, |len, word| len / word * word);
        let data = rng.bytes(len);
        let mut start = initial(stages);
        if round % 3 == 1 {
            let types: Vec<Ty> = stages.iter().flat_map(|pipe| &pipe.states).map(|state| state.ty).collect();
            start = types.iter().map(|ty| rng.next() & ty.mask()).collect();
        }
        let pos = if round % 2 == 0 { 0 } else { (rng.below(1 << 20) * gauge) as u64 };
        let offsets = [rng.below(64), rng.below(64)];
        let how = rng.pick(&[Use::Copy, Use::Copy, Use::InPlace, Use::ReadOnly]);
        compare(code, stages, &start, pos, &data, offsets, how, &|| listing(stages));
    }
}

/// The stages, one instruction a line.
pub(crate) fn listing(stages: &[&Pipe]) -> String {
    let mut text = String::new();
    for pipe in stages {
        text += &format!("\n{} -> {} tail {}", pipe.input, pipe.output, pipe.tail.name());
        for (value, inst) in pipe.body.iter() {
            text += &format!("\n  {} {} = {:?}", value.0, inst.ty, inst.op);
        }
        let types: Vec<_> = pipe.states.iter().map(|state| state.ty.name()).collect();
        let next: Vec<_> = pipe.next.iter().map(|value| value.0).collect();
        text += &format!("\n  states {types:?} next {next:?} out {:?}", pipe.out.map(|out| out.0));
    }
    text
}

const INTEGERS: [Ty; 4] = Ty::INTEGERS;

/// A random well-typed pipe. `parallel` keeps to what has a vector form more often than not.
pub(crate) fn random_pipe(rng: &mut Xorshift, parallel: bool) -> Pipe {
    let ty = rng.pick(&INTEGERS);
    let endian = |rng: &mut Xorshift| rng.pick(&[Endian::Little, Endian::Big]);
    let mut b = PipeBuilder::new("random", Gauge::new(ty, endian(rng)));
    b.output_gauge(Gauge::new(ty, endian(rng)));
    b.tail(rng.pick(&[Tail::Reject, Tail::Zero, Tail::Partial, Tail::Pass]));
    let x = b.input();
    let mut pool = vec![x];
    if rng.below(4) == 0 {
        let pos = b.pos();
        let mask = rng.pick(&[3u64, 7, 15, 63, 0xffff]);
        let mask = b.literal(Ty::U64, mask);
        pool.push(b.binary(BinaryOp::And, pos, mask));
    }
    let table = (!parallel && rng.below(3) == 0).then(|| {
        let ty = rng.pick(&INTEGERS);
        let values: Vec<u64> = (0..1 << rng.below(6)).map(|_| rng.next() & ty.mask()).collect();
        (b.table("table", ty, &values), ty)
    });
    let mut states = Vec::new();
    for i in 0..rng.below(4) {
        let ty = if rng.below(6) == 0 { Ty::Bool } else { rng.pick(&INTEGERS) };
        let init = rng.next() & ty.mask();
        let state = b.state(&format!("s{i}"), ty, init);
        states.push((state, ty));
        if !parallel {
            pool.push(b.read(state));
        }
    }
    for _ in 0..rng.below(12) {
        let value = random_inst(&mut b, rng, &pool, table, parallel);
        pool.push(value);
    }
    for (state, ty) in states {
        let term = of_type(&mut b, rng, &pool, ty);
        let old = b.read(state);
        let ops: &[BinaryOp] = if ty == Ty::Bool {
            &[BinaryOp::And, BinaryOp::Or, BinaryOp::Xor]
        } else {
            use BinaryOp as B;
            &[
                B::Add,
                B::Addc,
                B::Adds,
                B::Xor,
                B::Or,
                B::And,
                B::Min,
                B::Max,
                B::Smin,
                B::Smax,
                B::Sub,
                B::Addc,
                B::Add,
            ]
        };
        let op = rng.pick(ops);
        let mut next = if ty != Ty::Bool && rng.below(10) == 0 {
            let m = rng.pick(&[255u64, 251, 65_521, 65_535, 3]) & ty.mask();
            let m = b.literal(ty, m);
            b.modular(ModOp::Addmod, old, term, m)
        } else {
            b.binary(op, old, term)
        };
        if rng.below(4) == 0 {
            let cond = of_type(&mut b, rng, &pool, Ty::Bool);
            next = b.select(cond, next, old);
        }
        if !parallel && rng.below(4) == 0 {
            next = of_type(&mut b, rng, &pool, ty);
        }
        b.set(state, next);
    }
    if rng.below(3) > 0 {
        let out = of_type(&mut b, rng, &pool, ty);
        b.output(out);
    }
    b.finish().unwrap()
}

/// A value of type `ty` from the pool, converted if there is none.
fn of_type(b: &mut PipeBuilder, rng: &mut Xorshift, pool: &[Value], ty: Ty) -> Value {
    let value = rng.pick(pool);
    let from = b.ty(value);
    if from == ty {
        value
    } else if ty == Ty::Bool && rng.below(2) == 0 {
        let other = b.literal(from, rng.next() & from.mask());
        b.compare(rng.pick(CompareOp::ALL), value, other)
    } else if from.bits() < ty.bits() {
        let op = rng.pick(&[ConvertOp::Zext, ConvertOp::Sext]);
        b.convert(op, value, ty)
    } else {
        b.convert(ConvertOp::Trunc, value, ty)
    }
}

fn random_inst(
    b: &mut PipeBuilder,
    rng: &mut Xorshift,
    pool: &[Value],
    table: Option<(crate::ir::TableId, Ty)>,
    parallel: bool,
) -> Value {
    let a = rng.pick(pool);
    let ty = b.ty(a);
    if ty == Ty::Bool {
        let other = of_type(b, rng, pool, Ty::Bool);
        return match rng.below(5) {
            0 => b.unary(UnaryOp::Not, a),
            1 => {
                let to = rng.pick(&INTEGERS);
                b.convert(rng.pick(&[ConvertOp::Zext, ConvertOp::Sext]), a, to)
            }
            2 => {
                let to = rng.pick(&INTEGERS);
                let (x, y) = (of_type(b, rng, pool, to), of_type(b, rng, pool, to));
                b.select(a, x, y)
            }
            3 => b.compare(rng.pick(&[CompareOp::Eq, CompareOp::Ne]), a, other),
            _ => b.binary(rng.pick(&[BinaryOp::And, BinaryOp::Or, BinaryOp::Xor]), a, other),
        };
    }
    let other =
        if rng.below(2) == 0 { b.literal(ty, rng.next() & ty.mask()) } else { of_type(b, rng, pool, ty) };
    match rng.below(12) {
        0 | 1 => b.unary(rng.pick(UnaryOp::ALL), a),
        2 => b.compare(rng.pick(CompareOp::ALL), a, other),
        3 => {
            let to = rng.pick(&INTEGERS);
            if to == ty { a } else { of_type(b, rng, &[a], to) }
        }
        4 if !parallel => {
            let m = rng.next() & ty.mask() & rng.pick(&[0, 0xff, u64::MAX]);
            let m = b.literal(ty, m);
            let op = if ty == Ty::U64 { ModOp::Addmod } else { rng.pick(ModOp::ALL) };
            b.modular(op, a, other, m)
        }
        5 if !parallel => {
            let acc = of_type(b, rng, pool, Ty::U32);
            b.crc(rng.pick(CrcOp::ALL), acc, a)
        }
        6 if table.is_some() => match table {
            Some((table, _)) => b.lookup(table, a),
            None => a,
        },
        7 => {
            // Counts of shifts are literals more often than not.
            let count = b.literal(ty, rng.below(ty.bits() as usize) as u64);
            use BinaryOp as B;
            b.binary(rng.pick(&[B::Shl, B::Shr, B::Sar, B::Rotl, B::Rotr]), a, count)
        }
        _ => {
            use BinaryOp as B;
            let ops: &[BinaryOp] = if parallel {
                &[
                    B::Add,
                    B::Sub,
                    B::Mul,
                    B::And,
                    B::Or,
                    B::Xor,
                    B::Min,
                    B::Max,
                    B::Smin,
                    B::Smax,
                    B::Addc,
                    B::Adds,
                    B::Subs,
                    B::Sadds,
                    B::Ssubs,
                ]
            } else {
                BinaryOp::ALL
            };
            b.binary(rng.pick(ops), a, other)
        }
    }
}
