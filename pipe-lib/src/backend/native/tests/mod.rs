//! Every operation, every width, every way to keep a state, random pipelines: against a plain evaluation of
//! the IR, word by word, stage by stage.

mod affine;
mod carried;
mod crcs;
mod hashes;
mod inductions;
mod iterated_sums;
mod modular;
mod operations;
mod pipelines;
mod positional;
mod reductions;
mod streaming;
mod striped;
mod sums;

use super::*;
use crate::ir::{
    BinaryOp, Block, CompareOp, ConvertOp, CrcOp, Declared, Endian, Export, Gauge, ModOp, Op, Pipe, State,
    StateId, StateInit, Table, TableId, Tail, Ty, UnaryOp, Value,
};
use std::sync::Arc;

/// A small generator (xorshift64*), so that a failure can be repeated from its seed.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A generator for every set of features alike: what is drawn next depends on no set that the machine
    /// lacks.
    fn fork(&mut self) -> Random {
        Random::new(self.next())
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Numbers with long runs of equal bits are as likely as any others.
    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next(),
            1 => self.next() & self.next() & self.next(),
            2 => self.next() | self.next() | self.next(),
            _ => {
                self.pick(&[0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, u64::MAX, 1 << 31, 1 << 63, 7, 31, 64])
            }
        }
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
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
    pipe.body.evaluate(&pipe.tables, |leaf| match leaf {
        Op::In => word,
        Op::State(state) => states[state.0 as usize],
        Op::Pos => pos,
        leaf => unreachable!("{leaf:?}"),
    })
}

/// A stage over a whole stream, in place.
fn reference(pipe: &Pipe, states: &mut [u64], start: u64, bytes: &mut [u8]) {
    let size = pipe.word_bytes();
    let len = bytes.len();
    for at in (0..len).step_by(size) {
        let real = size.min(len - at);
        if real < size && matches!(pipe.tail, Tail::Pass | Tail::Reject) {
            break;
        }
        let mut word = [0; 8];
        word[..real].copy_from_slice(&bytes[at..at + real]);
        let values = word_values(pipe, states, start + at as u64, pipe.input.read(&word[..size]) as u64);
        for (state, next) in states.iter_mut().zip(&pipe.next) {
            *state = values[next.0 as usize];
        }
        if let Some(out) = pipe.out
            && (real == size || pipe.tail == Tail::Partial)
        {
            pipe.output.write(values[out.0 as usize].into(), &mut word[..size]);
            bytes[at..at + real].copy_from_slice(&word[..real]);
        }
    }
}

/// A pipe without a name of its own.
fn pipe(input: Gauge, output: Gauge, tail: Tail, states: Vec<State>) -> Pipe {
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
        digest: None,
    }
}

fn state(ty: Ty) -> State {
    State { name: "s".into(), ty, init: StateInit::Const(0), secret: false }
}

/// The sets of instructions to try: what there is, and what is left of it step by step.
fn feature_sets() -> Vec<Features> {
    let all = Features::detected();
    let mut sets = vec![
        all,
        all.without(Features::VBMI | Features::GFNI | Features::BITALG | Features::VPOPCNTDQ),
        all.without(Features::VNNI | Features::AVX_VNNI),
        all.without(Features::VPCLMUL),
        all.without(Features::AVX512),
        all.without(Features::AVX512 | Features::VPCLMUL),
        Features::AVX2,
    ];
    sets.retain(|set| all.has(*set) && set.isa().is_some());
    let mut seen: Vec<Features> = Vec::new();
    sets.retain(|set| {
        !seen.contains(set) && {
            seen.push(*set);
            true
        }
    });
    sets
}

/// The set with the most features and that with the least, where there are any.
fn most_and_least() -> Vec<Features> {
    let sets = feature_sets();
    sets.first().into_iter().chain(sets.last()).copied().collect()
}

/// How many compositions each set of features took. Sixteen registers hold less than thirty-two, so that what
/// is demanded is said for either.
struct Taken(Vec<(Features, usize)>);

impl Taken {
    fn new() -> Taken {
        Taken(feature_sets().into_iter().map(|set| (set, 0)).collect())
    }

    fn one_more(&mut self, features: Features) {
        self.0.iter_mut().filter(|(set, _)| *set == features).for_each(|(_, count)| *count += 1);
    }

    /// Asserts that each set took as many as is demanded of its width.
    fn demand(&self, avx512: usize, avx2: usize) {
        for (set, count) in &self.0 {
            let least = if set.has(Features::AVX512) { avx512 } else { avx2 };
            assert!(*count >= least, "{set} took {count}, at least {least} are demanded");
        }
    }
}

fn analysed(pipes: &[&Pipe]) -> Vec<Analysed> {
    pipes.iter().map(|pipe| Analysed::new((*pipe).clone().into())).collect()
}

fn compile_all(pipes: &[&Pipe], features: Features) -> Result<NativeCode, String> {
    compile(&analysed(pipes), features, Stripes::default()).map_err(|refusal| refusal.to_string())
}

/// Runs compiled stages over `bytes` from `start` with given states: copy at some alignment, in place, and
/// read only.
fn check(code: &NativeCode, pipes: &[&Pipe], states: &[u64], start: u64, bytes: &[u8], random: &mut Random) {
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

fn take(pipe: &Pipe, random: &mut Random) {
    let draws = random.fork();
    for features in feature_sets() {
        let random = &mut draws.clone();
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
