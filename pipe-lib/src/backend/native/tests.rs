//! Every operation, every width, random pipelines: against a plain evaluation of the IR, word by word, stage by stage.

use super::*;
use crate::ir::{
    BinaryOp, Block, CompareOp, ConvertOp, CrcOp, Declared, Endian, Export, Gauge, ModOp, Op, State, StateId,
    StateInit, Table, TableId, Tail, Ty, UnaryOp, Value, eval,
};
use std::sync::Arc;

/// A small generator (xorshift64*), so that a failure can be repeated from its seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Numbers with long runs of equal bits are as likely as any others.
    pub(super) fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next(),
            1 => self.next() & self.next() & self.next(),
            2 => self.next() | self.next() | self.next(),
            _ => {
                self.pick(&[0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, u64::MAX, 1 << 31, 1 << 63, 7, 31, 64])
            }
        }
    }

    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let style = self.below(4);
        (0..len)
            .map(|_| match style {
                0 => 0,
                1 => 0xff,
                2 => self.number() as u8,
                _ => self.next() as u8,
            })
            .collect()
    }
}

/// The value of every instruction for one word.
fn word_values(pipe: &Pipe, states: &[u64], pos: u64, word: u64) -> Vec<u64> {
    let mut values: Vec<u64> = Vec::new();
    let body = &pipe.body;
    for inst in &body.insts {
        let get = |value: Value| values[value.0 as usize];
        values.push(match inst.op {
            Op::In => word,
            Op::State(state) => states[state.0 as usize],
            Op::Param(_) => unreachable!("parameters are bound"),
            Op::Const(number) => number,
            Op::Pos => pos,
            Op::Unary(op, a) => eval::unary(op, inst.ty, get(a)),
            Op::Binary(op, a, b) => eval::binary(op, inst.ty, get(a), get(b)),
            Op::Compare(op, a, b) => eval::compare(op, body.ty(a), get(a), get(b)),
            Op::Select { cond, then, otherwise } => get(if get(cond) != 0 { then } else { otherwise }),
            Op::Modular(op, a, b, m) => eval::modular(op, inst.ty, get(a), get(b), get(m)),
            Op::Convert(op, a) => eval::convert(op, body.ty(a), inst.ty, get(a)),
            Op::Lookup(table, index) => {
                let values = &pipe.tables[table.0 as usize].values;
                values[get(index) as usize % values.len()]
            }
            Op::Crc(op, acc, x) => eval::crc(op, body.ty(x), get(acc), get(x)),
        });
    }
    values
}

/// A stage over a whole stream, in place.
pub(super) fn reference(pipe: &Pipe, states: &mut [u64], start: u64, bytes: &mut [u8]) {
    let size = pipe.word_bytes();
    let len = bytes.len();
    for at in (0..len).step_by(size) {
        let real = size.min(len - at);
        if real < size && matches!(pipe.tail, Tail::Pass | Tail::Reject) {
            break;
        }
        let mut word = [0; 8];
        word[..real].copy_from_slice(&bytes[at..at + real]);
        let values = word_values(pipe, states, start + at as u64, pipe.input.read(&word[..size]));
        for (state, next) in states.iter_mut().zip(&pipe.next) {
            *state = values[next.0 as usize];
        }
        if let Some(out) = pipe.out
            && (real == size || pipe.tail == Tail::Partial)
        {
            pipe.output.write(values[out.0 as usize], &mut word[..size]);
            bytes[at..at + real].copy_from_slice(&word[..real]);
        }
    }
}

/// A pipe without a name of its own.
pub(super) fn pipe(input: Gauge, output: Gauge, tail: Tail, states: Vec<State>) -> Pipe {
    Pipe {
        name: "p".into(),
        doc: String::new(),
        input,
        output,
        tail,
        declared: Declared::default(),
        states,
        params: Vec::new(),
        tables: Vec::new(),
        body: Block::default(),
        out: None,
        next: Vec::new(),
        finish: Block::default(),
        exports: Vec::<Export>::new(),
    }
}

pub(super) fn state(ty: Ty) -> State {
    State { name: "s".into(), ty, init: StateInit::Const(0) }
}

/// The sets of instructions to try: what there is, and what is left of it step by step.
pub(super) fn feature_sets() -> Vec<Features> {
    let all = Features::detected();
    let mut sets = vec![
        all,
        all.without(Features::VBMI | Features::GFNI | Features::BITALG | Features::VPOPCNTDQ),
        all.without(Features::VNNI),
        all.without(Features::AVX512),
        Features::restricted_to("avx2").unwrap(),
    ];
    sets.retain(|set| set.isa().is_some());
    sets.dedup();
    sets
}

pub(super) fn compile_all(pipes: &[&Pipe], features: Features) -> Result<NativeCode, String> {
    compile_stages(pipes, features)
}

/// Runs compiled stages over `bytes` from `start` with given states: copy at some alignment, in place, and read only.
pub(super) fn check(
    code: &NativeCode,
    pipes: &[&Pipe],
    states: &[u64],
    start: u64,
    bytes: &[u8],
    random: &mut Random,
) {
    let mut want_states = states.to_vec();
    let mut want = bytes.to_vec();
    let mut first = 0;
    for pipe in pipes {
        let count = pipe.states.len();
        reference(pipe, &mut want_states[first..first + count], start, &mut want);
        first += count;
    }
    if bytes.is_empty() {
        return;
    }
    let (from, to) = (random.below(64), random.below(64));
    let mut source = vec![0xa5; from + bytes.len() + 64];
    source[from..from + bytes.len()].copy_from_slice(bytes);
    let mut target = vec![0x5a; to + bytes.len() + 64];
    let say = || {
        format!("{pipes:#?}\nlen {} start {start} states {states:x?}\n{}", bytes.len(), code.disassembly())
    };

    let mut got = states.to_vec();
    // SAFETY: the buffers are as long as said and do not overlap; the states are as many as the pipes have.
    unsafe {
        code.run(got.as_mut_ptr(), start, source[from..].as_ptr(), target[to..].as_mut_ptr(), bytes.len());
    }
    assert_eq!(&target[to..to + bytes.len()], &want[..], "copy\n{}", say());
    assert_eq!(got, want_states, "states after a copy\n{}", say());
    assert!(target[..to].iter().chain(&target[to + bytes.len()..]).all(|byte| *byte == 0x5a), "{}", say());

    let mut got = states.to_vec();
    // SAFETY: as above; read only.
    unsafe {
        code.run(got.as_mut_ptr(), start, source[from..].as_ptr(), std::ptr::null_mut(), bytes.len());
    }
    assert_eq!(got, want_states, "states after reading\n{}", say());

    let mut got = states.to_vec();
    let place = source[from..].as_mut_ptr();
    // SAFETY: as above; in place.
    unsafe { code.run(got.as_mut_ptr(), start, place, place, bytes.len()) }
    assert_eq!(&source[from..from + bytes.len()], &want[..], "in place\n{}", say());
    assert_eq!(got, want_states, "states in place\n{}", say());
    assert!(
        source[..from].iter().chain(&source[from + bytes.len()..]).all(|byte| *byte == 0xa5),
        "{}",
        say()
    );
}

fn gauge(random: &mut Random, ty: Ty) -> Gauge {
    Gauge::new(ty, random.pick(&[Endian::Little, Endian::Big]))
}

/// Brings `value` to another integer type.
fn to_ty(body: &mut Block, random: &mut Random, value: Value, ty: Ty) -> Value {
    let from = body.ty(value);
    match from.bits().cmp(&ty.bits()) {
        std::cmp::Ordering::Equal => value,
        std::cmp::Ordering::Less => {
            let op = random.pick(&[ConvertOp::Zext, ConvertOp::Sext]);
            body.push(Op::Convert(op, value), ty)
        }
        std::cmp::Ordering::Greater => body.push(Op::Convert(ConvertOp::Trunc, value), ty),
    }
}

/// A pipe of word type `word` that computes `make(a, b)` on operands of type `ty`, derived from the word.
fn single(
    random: &mut Random,
    word: Ty,
    ty: Ty,
    make: impl Fn(&mut Block, &mut Random, Value, Value) -> Value,
) -> Pipe {
    let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
    let mut pipe = pipe(gauge(random, word), gauge(random, word), tail, Vec::new());
    let mut body = Block::default();
    let input = body.push(Op::In, word);
    let a = to_ty(&mut body, random, input, ty);
    // A second operand with other bits: a multiple and a rotation of the first, or a constant.
    let b = match random.below(3) {
        0 => body.push(Op::Const(random.number() & ty.mask()), ty),
        1 => {
            let factor = body.push(Op::Const(0x9e37_79b9_7f4a_7c15 & ty.mask()), ty);
            body.push(Op::Binary(BinaryOp::Mul, a, factor), ty)
        }
        _ => {
            let three = body.push(Op::Const(3), ty);
            body.push(Op::Binary(BinaryOp::Shr, a, three), ty)
        }
    };
    let result = make(&mut body, random, a, b);
    let result = if body.ty(result) == Ty::Bool {
        body.push(Op::Convert(ConvertOp::Zext, result), ty)
    } else {
        result
    };
    let out = to_ty(&mut body, random, result, word);
    pipe.body = body;
    pipe.out = Some(out);
    pipe
}

fn try_single(random: &mut Random, pipe: &Pipe) {
    for features in feature_sets() {
        match compile_all(&[pipe], features) {
            Ok(code) => {
                for _ in 0..3 {
                    let len = random.below(300);
                    let bytes = random.bytes(len);
                    check(&code, &[pipe], &[], 0, &bytes, random);
                }
            }
            // Only what the folder's documentation says it leaves to others.
            Err(what) => assert!(
                what.contains("registers") || what.contains("carry-less") || what.contains("modul"),
                "{what}\n{pipe:#?}"
            ),
        }
    }
}

#[test]
fn every_operation_on_every_type_in_every_word() {
    let mut random = Random::new(1);
    for word in Ty::INTEGERS {
        for ty in Ty::INTEGERS {
            for op in UnaryOp::ALL {
                let pipe = single(&mut random, word, ty, |body, _, a, _| body.push(Op::Unary(*op, a), ty));
                try_single(&mut random, &pipe);
            }
            for op in BinaryOp::ALL {
                for _ in 0..3 {
                    let pipe =
                        single(&mut random, word, ty, |body, _, a, b| body.push(Op::Binary(*op, a, b), ty));
                    try_single(&mut random, &pipe);
                }
            }
            for op in CompareOp::ALL {
                for _ in 0..2 {
                    let pipe = single(&mut random, word, ty, |body, random, a, b| {
                        let cond = body.push(Op::Compare(*op, a, b), Ty::Bool);
                        if random.below(2) == 0 {
                            return cond;
                        }
                        let other = body.push(Op::Compare(CompareOp::Ltu, b, a), Ty::Bool);
                        let both = body.push(
                            Op::Binary(
                                random.pick(&[BinaryOp::And, BinaryOp::Or, BinaryOp::Xor]),
                                cond,
                                other,
                            ),
                            Ty::Bool,
                        );
                        let not = body.push(Op::Unary(UnaryOp::Not, both), Ty::Bool);
                        body.push(Op::Select { cond: not, then: a, otherwise: b }, ty)
                    });
                    try_single(&mut random, &pipe);
                }
            }
            for to in Ty::INTEGERS {
                let pipe = single(&mut random, word, ty, |body, random, a, b| {
                    let there = to_ty(body, random, a, to);
                    let back = to_ty(body, random, there, ty);
                    body.push(Op::Binary(BinaryOp::Xor, back, b), ty)
                });
                try_single(&mut random, &pipe);
            }
        }
    }
}

#[test]
fn shifts_by_every_constant() {
    let mut random = Random::new(2);
    let ops = [BinaryOp::Shl, BinaryOp::Shr, BinaryOp::Sar, BinaryOp::Rotl, BinaryOp::Rotr];
    for ty in Ty::INTEGERS {
        for op in ops {
            for count in 0..u64::from(ty.bits()) + 2 {
                let pipe = single(&mut random, ty, ty, |body, _, a, _| {
                    let count = body.push(Op::Const(count & ty.mask()), ty);
                    body.push(Op::Binary(op, a, count), ty)
                });
                for features in [feature_sets()[0], *feature_sets().last().unwrap()] {
                    let code = compile_all(&[&pipe], features).unwrap();
                    let bytes = random.bytes(130);
                    check(&code, &[&pipe], &[], 0, &bytes, &mut random);
                }
            }
        }
    }
}

#[test]
fn look_ups() {
    let mut random = Random::new(3);
    for word in Ty::INTEGERS {
        for elements in Ty::INTEGERS {
            for log_len in [0, 1, 3, 4, 5, 6, 7, 8, 11] {
                let values: Vec<u64> = (0..1 << log_len).map(|_| random.next() & elements.mask()).collect();
                let mut pipe = single(&mut random, word, word, |body, _, a, b| {
                    let found = body.push(Op::Lookup(TableId(0), a), elements);
                    let found = match elements.bits().cmp(&word.bits()) {
                        std::cmp::Ordering::Equal => found,
                        std::cmp::Ordering::Less => body.push(Op::Convert(ConvertOp::Sext, found), word),
                        std::cmp::Ordering::Greater => body.push(Op::Convert(ConvertOp::Trunc, found), word),
                    };
                    body.push(Op::Binary(BinaryOp::Add, found, b), word)
                });
                pipe.tables = vec![Table { name: "t".into(), ty: elements, values: Arc::from(values) }];
                try_single(&mut random, &pipe);
            }
        }
    }
}

/// A reduction of type `ty` in words of type `word`.
pub(super) fn reduction(random: &mut Random, word: Ty, ty: Ty, op: BinaryOp) -> Pipe {
    let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
    let mut pipe = pipe(gauge(random, word), gauge(random, word), tail, vec![state(ty)]);
    let mut body = Block::default();
    let input = body.push(Op::In, word);
    let sum = body.push(Op::State(StateId(0)), ty);
    let changed = if random.below(2) == 0 {
        input
    } else {
        let key = body.push(Op::Const(random.number() & word.mask()), word);
        body.push(Op::Binary(random.pick(&[BinaryOp::Xor, BinaryOp::Mul]), input, key), word)
    };
    let x = if ty == Ty::Bool {
        let limit = body.push(Op::Const(random.pick(&[0, 1, 0x80, 0xff]) & word.mask()), word);
        body.push(Op::Compare(random.pick(CompareOp::ALL), changed, limit), Ty::Bool)
    } else if random.below(3) == 0 && ty != word {
        let limit = body.push(Op::Const(random.number() & word.mask()), word);
        let cond = body.push(Op::Compare(CompareOp::Ltu, changed, limit), Ty::Bool);
        body.push(Op::Convert(random.pick(&[ConvertOp::Zext, ConvertOp::Sext]), cond), ty)
    } else {
        to_ty(&mut body, random, changed, ty)
    };
    let (a, b) = if random.below(2) == 0 || op == BinaryOp::Sub { (sum, x) } else { (x, sum) };
    let mut next = body.push(Op::Binary(op, a, b), ty);
    if random.below(4) == 0 {
        let limit = body.push(Op::Const(random.number() & word.mask()), word);
        let cond = body.push(Op::Compare(random.pick(CompareOp::ALL), input, limit), Ty::Bool);
        let (then, otherwise) = if random.below(2) == 0 { (next, sum) } else { (sum, next) };
        next = body.push(Op::Select { cond, then, otherwise }, ty);
    }
    if random.below(2) == 0 {
        pipe.out = Some(changed);
    }
    pipe.next = vec![next];
    pipe.body = body;
    pipe
}

#[test]
fn reductions() {
    let mut random = Random::new(4);
    let ops = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Addc,
        BinaryOp::Xor,
        BinaryOp::And,
        BinaryOp::Or,
        BinaryOp::Min,
        BinaryOp::Max,
        BinaryOp::Smin,
        BinaryOp::Smax,
    ];
    for word in Ty::INTEGERS {
        for ty in Ty::INTEGERS.into_iter().chain([Ty::Bool]) {
            for op in ops {
                if ty == Ty::Bool && !matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor) {
                    continue;
                }
                for _ in 0..4 {
                    let pipe = reduction(&mut random, word, ty, op);
                    for features in feature_sets() {
                        let code = match compile_all(&[&pipe], features) {
                            Ok(code) => code,
                            Err(what) if what.contains("registers") => continue,
                            Err(what) => panic!("{what}\n{pipe:#?}"),
                        };
                        for _ in 0..4 {
                            let len = random.below(700);
                            let bytes = random.bytes(len);
                            let states = [random.number() & ty.mask()];
                            check(&code, &[&pipe], &states, 0, &bytes, &mut random);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn one_s_complement_sums_keep_their_zero_rule() {
    let mut random = Random::new(5);
    for ty in Ty::INTEGERS {
        for endian in [Endian::Little, Endian::Big] {
            let mut pipe = pipe(Gauge::new(ty, endian), Gauge::new(ty, endian), Tail::Zero, vec![state(ty)]);
            let mut body = Block::default();
            let input = body.push(Op::In, ty);
            let sum = body.push(Op::State(StateId(0)), ty);
            let next = body.push(Op::Binary(BinaryOp::Addc, sum, input), ty);
            pipe.body = body;
            pipe.next = vec![next];
            for features in feature_sets() {
                let code = compile_all(&[&pipe], features).unwrap();
                for len in [0, 1, 2, 7, 8, 64, 100, 257, 1460] {
                    for fill in [0u8, 0xff, 1] {
                        for states in [[0], [ty.mask()], [1]] {
                            check(&code, &[&pipe], &states, 0, &vec![fill; len], &mut random);
                        }
                    }
                }
            }
        }
    }
}

/// A random value of `ty` made of what is there.
fn grow(random: &mut Random, body: &mut Block, steps: usize, word: Ty) -> Vec<Value> {
    let mut pool = vec![body.push(Op::In, word)];
    if random.below(4) == 0 {
        pool.push(body.push(Op::Pos, Ty::U64));
    }
    for _ in 0..steps {
        let a = random.pick(&pool);
        let ty = body.ty(a);
        let value = match random.below(8) {
            0 if ty.is_integer() => body.push(Op::Unary(random.pick(UnaryOp::ALL), a), ty),
            1 | 2 if ty.is_integer() => {
                let other = random.pick(&pool);
                let b = if body.ty(other) == ty {
                    other
                } else {
                    body.push(Op::Const(random.number() & ty.mask()), ty)
                };
                let op = random.pick(BinaryOp::ALL);
                let heavy = matches!(op, BinaryOp::Clmul | BinaryOp::Clmulh);
                body.push(Op::Binary(if heavy { BinaryOp::Xor } else { op }, a, b), ty)
            }
            3 if ty.is_integer() => {
                let b = body.push(Op::Const(random.number() & ty.mask()), ty);
                body.push(Op::Compare(random.pick(CompareOp::ALL), a, b), Ty::Bool)
            }
            4 if ty == Ty::Bool => body.push(Op::Unary(UnaryOp::Not, a), ty),
            5 if ty == Ty::Bool => {
                let values: Vec<Value> =
                    pool.iter().copied().filter(|value| body.ty(*value) == word).collect();
                let (then, otherwise) = (random.pick(&values), random.pick(&values));
                body.push(Op::Select { cond: a, then, otherwise }, word)
            }
            _ => {
                let to = random.pick(&Ty::INTEGERS);
                if ty == Ty::Bool {
                    body.push(Op::Convert(random.pick(&[ConvertOp::Zext, ConvertOp::Sext]), a), to)
                } else {
                    to_ty(body, random, a, to)
                }
            }
        };
        pool.push(value);
    }
    pool
}

/// A random stage: a few operations, perhaps an output, perhaps reductions of something computed.
pub(super) fn stage(random: &mut Random) -> Pipe {
    let word = random.pick(&Ty::INTEGERS);
    if random.below(3) == 0 {
        let ty = random.pick(&Ty::INTEGERS);
        let op = random.pick(&[BinaryOp::Add, BinaryOp::Addc, BinaryOp::Xor, BinaryOp::Min]);
        return reduction(random, word, ty, op);
    }
    if random.below(6) == 0 {
        let op = random.pick(CrcOp::ALL);
        return crc_by_instruction(random, op, word);
    }
    let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
    let mut body = Block::default();
    let steps = random.below(8);
    let pool = grow(random, &mut body, steps, word);
    let mut states = Vec::new();
    let mut next = Vec::new();
    let integers: Vec<Value> = pool.iter().copied().filter(|value| body.ty(*value).is_integer()).collect();
    for _ in 0..random.below(3) {
        let x = random.pick(&integers);
        let ty = body.ty(x);
        let id = StateId(states.len() as u32);
        states.push(state(ty));
        let old = body.push(Op::State(id), ty);
        let op = random.pick(&[BinaryOp::Add, BinaryOp::Addc, BinaryOp::Max, BinaryOp::Xor, BinaryOp::Or]);
        next.push(body.push(Op::Binary(op, old, x), ty));
    }
    let out = (random.below(3) != 0).then(|| {
        let value = random.pick(&integers);
        to_ty(&mut body, random, value, word)
    });
    let mut pipe = pipe(gauge(random, word), gauge(random, word), tail, states);
    pipe.body = body;
    pipe.next = next;
    pipe.out = out;
    pipe
}

#[test]
fn random_pipelines_at_every_length_and_alignment() {
    let rounds = std::env::var("NATIVE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(150);
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..rounds {
        let mut random = Random::new(1000 + seed);
        let pipes: Vec<Pipe> = (0..1 + random.below(4)).map(|_| stage(&mut random)).collect();
        let pipes: Vec<&Pipe> = pipes.iter().collect();
        let gauge = pipes.iter().map(|pipe| pipe.word_bytes()).max().unwrap();
        for features in feature_sets() {
            let code = match compile_all(&pipes, features) {
                Ok(code) => code,
                Err(what) if what.contains("registers") || what.contains("carry-less") => {
                    refused += 1;
                    continue;
                }
                Err(what) => panic!("seed {seed}: {what}\n{pipes:#?}"),
            };
            taken += 1;
            for _ in 0..8 {
                let len = random.below(301);
                let bytes = random.bytes(len);
                let states: Vec<u64> = pipes
                    .iter()
                    .flat_map(|pipe| &pipe.states)
                    .map(|state| random.number() & state.ty.mask())
                    .collect();
                let start = (random.below(1000) * gauge) as u64;
                check(&code, &pipes, &states, start, &bytes, &mut random);
            }
        }
    }
    assert!(taken > refused * 4, "only {taken} taken, {refused} refused for want of registers");
}

#[test]
fn a_plain_copy_is_taken_too() {
    let mut random = Random::new(6);
    for features in feature_sets() {
        let code = compile_all(&[], features).unwrap();
        for len in 0..300 {
            let bytes = random.bytes(len);
            check(&code, &[], &[], 0, &bytes, &mut random);
        }
    }
}

/// A CRC step by the instruction.
pub(super) fn crc_by_instruction(random: &mut Random, op: CrcOp, word: Ty) -> Pipe {
    let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
    let mut pipe = pipe(gauge(random, word), gauge(random, word), tail, vec![state(Ty::U32)]);
    let mut body = Block::default();
    let input = body.push(Op::In, word);
    let old = body.push(Op::State(StateId(0)), Ty::U32);
    let x = if random.below(2) == 0 {
        input
    } else {
        let key = body.push(Op::Const(random.number() & word.mask()), word);
        let x = body.push(Op::Binary(BinaryOp::Add, input, key), word);
        pipe.out = Some(x);
        x
    };
    let next = body.push(Op::Crc(op, old, x), Ty::U32);
    pipe.body = body;
    pipe.next = vec![next];
    pipe
}

/// A CRC step by shifts and a table, as programs have it: the polynomial without its leading term, in the usual order.
fn crc_by_table(ty: Ty, poly: u64, reflected: bool) -> Pipe {
    let bits = ty.bits();
    let crc = gf2::Crc { bits, poly, reflected };
    let start = |index: u64| if reflected { index } else { index << (bits - 8) };
    let values: Vec<u64> =
        (0..256).map(|index| (0..8).fold(start(index), |value, _| crc.step(value))).collect();
    let mut pipe = pipe(Gauge::U8, Gauge::U8, Tail::Reject, vec![state(ty)]);
    let mut body = Block::default();
    let input = body.push(Op::In, Ty::U8);
    let old = body.push(Op::State(StateId(0)), ty);
    let eight = body.push(Op::Const(8 % u64::from(bits)), ty);
    let byte = if bits > 8 { body.push(Op::Convert(ConvertOp::Zext, input), ty) } else { input };
    let index = if reflected || bits == 8 {
        body.push(Op::Binary(BinaryOp::Xor, old, byte), ty)
    } else {
        let down = body.push(Op::Const(u64::from(bits) - 8), ty);
        let top = body.push(Op::Binary(BinaryOp::Shr, old, down), ty);
        body.push(Op::Binary(BinaryOp::Xor, top, byte), ty)
    };
    let found = body.push(Op::Lookup(TableId(0), index), ty);
    let next = if bits == 8 {
        found
    } else {
        let op = if reflected { BinaryOp::Shr } else { BinaryOp::Shl };
        let moved = body.push(Op::Binary(op, old, eight), ty);
        body.push(Op::Binary(BinaryOp::Xor, moved, found), ty)
    };
    pipe.tables = vec![Table { name: "t".into(), ty, values: Arc::from(values) }];
    pipe.body = body;
    pipe.next = vec![next];
    pipe
}

fn check_crc(pipe: &Pipe, random: &mut Random) {
    for features in feature_sets().into_iter().chain([Features::restricted_to("avx2,pclmul").unwrap()]) {
        if !features.has(Features::PCLMUL) {
            continue;
        }
        let code =
            compile_all(&[pipe], features).unwrap_or_else(|what| panic!("{what} {features:?}\n{pipe:#?}"));
        for len in (0..150).chain([255, 256, 257, 319, 512, 700, 1460, 4096 + 33]) {
            let bytes = random.bytes(len);
            let states = [random.number() & pipe.states[0].ty.mask()];
            check(&code, &[pipe], &states, 0, &bytes, random);
        }
    }
}

#[test]
fn crcs_by_instruction() {
    let mut random = Random::new(7);
    for op in CrcOp::ALL {
        for word in Ty::INTEGERS {
            for _ in 0..3 {
                let pipe = crc_by_instruction(&mut random, *op, word);
                check_crc(&pipe, &mut random);
            }
        }
    }
}

#[test]
fn crcs_of_any_width_and_polynomial_by_table() {
    let mut random = Random::new(8);
    for ty in Ty::INTEGERS {
        for reflected in [false, true] {
            for _ in 0..3 {
                let poly = (random.next() & ty.mask()) | 1;
                let pipe = crc_by_table(ty, poly, reflected);
                assert!(matches!(
                    &strategy::Study::of(&pipe).unwrap().keeping[0],
                    strategy::Keeping::Crc(found, _) if *found == gf2::Crc { bits: ty.bits(), poly, reflected }
                ));
                check_crc(&pipe, &mut random);
            }
        }
    }
}

#[test]
fn a_table_with_one_wrong_entry_is_no_crc() {
    let mut pipe = crc_by_table(Ty::U32, 0x04c1_1db7, false);
    let mut values = pipe.tables[0].values.to_vec();
    values[77] ^= 1;
    pipe.tables[0].values = Arc::from(values);
    assert!(strategy::Study::of(&pipe).is_err());
}

/// Adler's and Fletcher's shape: two sums, modulo `m`.
fn two_sums(random: &mut Random, word: Ty, ty: Ty, m: u64, second: bool) -> Pipe {
    let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
    let states = vec![state(ty); 1 + usize::from(second)];
    let mut pipe = pipe(gauge(random, word), gauge(random, word), tail, states);
    let mut body = Block::default();
    let input = body.push(Op::In, word);
    let modulus = body.push(Op::Const(m), ty);
    let a = body.push(Op::State(StateId(0)), ty);
    let x = if ty == word { input } else { body.push(Op::Convert(ConvertOp::Zext, input), ty) };
    let a = body.push(Op::Modular(ModOp::Addmod, a, x, modulus), ty);
    pipe.next = vec![a];
    if second {
        let b = body.push(Op::State(StateId(1)), ty);
        pipe.next.push(body.push(Op::Modular(ModOp::Addmod, b, a, modulus), ty));
    }
    pipe.body = body;
    pipe
}

#[test]
fn sums_and_sums_of_sums() {
    let mut random = Random::new(9);
    let moduli = [0, 1, 2, 250, 251, 65521, 65535, 0xffff_fffb, 0xffff_ffff];
    for word in [Ty::U8, Ty::U16, Ty::U32] {
        for ty in Ty::INTEGERS.into_iter().filter(|ty| ty.bits() >= word.bits()) {
            for m in moduli.into_iter().filter(|m| *m <= ty.mask()) {
                for second in [false, true] {
                    let pipe = two_sums(&mut random, word, ty, m, second);
                    for features in feature_sets() {
                        let code = match compile_all(&[&pipe], features) {
                            Ok(code) => code,
                            Err(what) => panic!("{what}\n{pipe:#?}"),
                        };
                        for len in [0, 1, 2, 3, 17, 63, 64, 65, 128, 200, 255, 256, 300, 512, 600, 1460, 5000]
                        {
                            let bytes = random.bytes(len);
                            let states: Vec<u64> =
                                pipe.states.iter().map(|_| random.number() & ty.mask()).collect();
                            check(&code, &[&pipe], &states, 0, &bytes, &mut random);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn long_sums_do_not_overflow() {
    let mut random = Random::new(10);
    for (word, m) in [(Ty::U8, 65521), (Ty::U16, 65535), (Ty::U32, 0xffff_ffff)] {
        let pipe = two_sums(&mut random, word, Ty::U64, m, true);
        // Just below, at and above what one call may take, on the widest and the narrowest vectors.
        let longest = sums::longest_call(lanes::Lane::of_bytes(word.bytes()));
        for features in [feature_sets()[0], Features::restricted_to("avx2").unwrap()] {
            let code = compile_all(&[&pipe], features).unwrap();
            for len in [longest - 1, longest + 70] {
                check(&code, &[&pipe], &[m - 1, m - 1], 0, &vec![0xff; len], &mut random);
            }
        }
    }
}

fn take(pipe: &Pipe, random: &mut Random) {
    for features in feature_sets() {
        let code = compile_all(&[pipe], features).unwrap_or_else(|what| panic!("{what}\n{pipe:#?}"));
        for len in (0..70).chain([127, 128, 129, 255, 256, 257, 300, 511, 512, 700, 1460]) {
            let bytes = random.bytes(len);
            let states: Vec<u64> =
                pipe.states.iter().map(|state| random.number() & state.ty.mask()).collect();
            let start = (random.below(1000) * pipe.word_bytes()) as u64;
            check(&code, &[pipe], &states, start, &bytes, random);
        }
    }
}

#[test]
fn the_value_of_the_word_before() {
    let mut random = Random::new(11);
    for word in Ty::INTEGERS {
        for ty in Ty::INTEGERS.into_iter().filter(|ty| ty.bits() <= word.bits()) {
            for _ in 0..4 {
                let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
                let mut pipe =
                    pipe(gauge(&mut random, word), gauge(&mut random, word), tail, vec![state(ty)]);
                let mut body = Block::default();
                let input = body.push(Op::In, word);
                let old = body.push(Op::State(StateId(0)), ty);
                let cut = to_ty(&mut body, &mut random, input, ty);
                let next =
                    if random.below(2) == 0 { body.push(Op::Unary(UnaryOp::Not, cut), ty) } else { cut };
                let y = body.push(Op::Binary(BinaryOp::Sub, cut, old), ty);
                let out = to_ty(&mut body, &mut random, y, word);
                pipe.out = Some(out);
                pipe.next = vec![next];
                pipe.body = body;
                take(&pipe, &mut random);
            }
        }
    }
}

#[test]
fn running_reductions() {
    let mut random = Random::new(12);
    for word in Ty::INTEGERS {
        for op in [BinaryOp::Add, BinaryOp::Xor, BinaryOp::Or, BinaryOp::Max] {
            for form in 0..3 {
                let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
                let mut pipe =
                    pipe(gauge(&mut random, word), gauge(&mut random, word), tail, vec![state(word)]);
                let mut body = Block::default();
                let input = body.push(Op::In, word);
                let old = body.push(Op::State(StateId(0)), word);
                let next = body.push(Op::Binary(op, old, input), word);
                let out = match form {
                    0 => next,
                    // What it was before the word, and both.
                    1 => old,
                    _ => body.push(Op::Binary(BinaryOp::Sub, next, old), word),
                };
                pipe.out = Some(out);
                pipe.next = vec![next];
                pipe.body = body;
                take(&pipe, &mut random);
            }
        }
    }
}

#[test]
fn positional_patterns_start_anywhere() {
    let mut random = Random::new(13);
    for word in Ty::INTEGERS {
        for ty in Ty::INTEGERS {
            for period in [1u64, 2, 4, 16, 32, 64, 128] {
                let mut pipe =
                    pipe(gauge(&mut random, word), gauge(&mut random, word), Tail::Partial, Vec::new());
                let mut body = Block::default();
                let input = body.push(Op::In, word);
                let pos = body.push(Op::Pos, Ty::U64);
                let one = body.push(Op::Const(random.next()), Ty::U64);
                let moved = body.push(Op::Binary(BinaryOp::Add, pos, one), Ty::U64);
                let mask = body.push(Op::Const(period - 1), Ty::U64);
                let place = body.push(Op::Binary(BinaryOp::And, moved, mask), Ty::U64);
                let eight = body.push(Op::Const(8), Ty::U64);
                let bits = body.push(Op::Binary(BinaryOp::Mul, place, eight), Ty::U64);
                let key = body.push(Op::Const(random.next()), Ty::U64);
                let turned = body.push(Op::Binary(BinaryOp::Rotr, key, bits), Ty::U64);
                let cut = to_ty(&mut body, &mut random, turned, ty);
                let cut = to_ty(&mut body, &mut random, cut, word);
                let out = body.push(Op::Binary(BinaryOp::Xor, input, cut), word);
                pipe.out = Some(out);
                pipe.body = body;
                take(&pipe, &mut random);
            }
        }
    }
}

#[test]
fn streaming_stores_write_the_same() {
    let mut random = Random::new(14);
    for seed in 0..40 {
        let mut random_stage = Random::new(5000 + seed);
        let pipes: Vec<Pipe> = (0..1 + random_stage.below(3)).map(|_| stage(&mut random_stage)).collect();
        let pipes: Vec<&Pipe> = pipes.iter().collect();
        for features in feature_sets() {
            let Ok(code) = compile_all(&pipes, features) else { continue };
            let states: Vec<u64> = pipes
                .iter()
                .flat_map(|pipe| &pipe.states)
                .map(|state| random.number() & state.ty.mask())
                .collect();
            for len in [1, 63, 64, 65, 200, 1000, 1460] {
                let bytes = random.bytes(len);
                let mut target = [vec![0x5a; len + 256], vec![0x5a; len + 256]];
                let mut got = [states.clone(), states.clone()];
                let to = random.below(64);
                // SAFETY: buffers of that length which do not overlap, and all states.
                unsafe {
                    let (plain, streamed) = (target[0][to..].as_mut_ptr(), target[1].as_mut_ptr());
                    code.call(&code.copying, got[0].as_mut_ptr(), 0, bytes.as_ptr(), plain, len);
                    // As the driver's buffers would lie, `to` bytes behind some multiple of 64.
                    let streamed = streamed.add(streamed.addr().wrapping_neg() % 64 + to);
                    code.stream(got[1].as_mut_ptr(), 0, bytes.as_ptr(), streamed, len);
                    assert_eq!(
                        std::slice::from_raw_parts(streamed, len),
                        &target[0][to..to + len],
                        "{len} {pipes:#?}"
                    );
                }
                assert_eq!(got[0], got[1], "{len} {pipes:#?}");
                assert_eq!(
                    target[1].iter().filter(|byte| **byte != 0x5a).count(),
                    target[0].iter().filter(|byte| **byte != 0x5a).count()
                );
            }
        }
    }
}
