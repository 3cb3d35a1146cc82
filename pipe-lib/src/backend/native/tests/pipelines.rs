//! Random stages, several in one loop.

use super::crcs::crc_by_instruction;
use super::reductions::reduction;
use super::*;

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
    let mut taken = Taken::new();
    for seed in 0..rounds {
        let mut random = Random::new(1000 + seed);
        let pipes: Vec<Pipe> = (0..1 + random.below(4)).map(|_| stage(&mut random)).collect();
        let pipes: Vec<&Pipe> = pipes.iter().collect();
        let gauge = pipes.iter().map(|pipe| pipe.word_bytes()).max().unwrap();
        let draws = random.fork();
        for features in feature_sets() {
            let mut random = draws.clone();
            let code = match compile_all(&pipes, features) {
                Ok(code) => code,
                Err(what) if what.contains("registers") || what.contains("carry-less") => {
                    continue;
                }
                Err(what) => panic!("seed {seed}: {what}\n{pipes:#?}"),
            };
            taken.one_more(features);
            for _ in 0..8 {
                let len = random.below(301) + random.pick(&[0, 0, 0, 512]);
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
    // The rest want more registers than there are, or products without carry that the set lacks.
    taken.demand(rounds as usize * 7 / 10, rounds as usize / 2);
}

#[test]
fn a_plain_copy_is_taken_too() {
    let mut random = Random::new(6);
    let draws = random.fork();
    for features in feature_sets() {
        let mut random = draws.clone();
        let code = compile_all(&[], features).unwrap();
        for len in 0..300 {
            let bytes = random.bytes(len);
            check(&code, &[], &[], 0, &bytes, &mut random);
        }
    }
}

/// Where the last bytes are read at once, nothing beyond the page they lie in is.
#[cfg(unix)]
#[test]
fn nothing_is_read_beyond_the_page_of_the_last_byte() {
    const PAGE: usize = 4096;
    let mut map = memmap2::MmapMut::map_anon(2 * PAGE).unwrap();
    let mut random = Random::new(23);
    map[..PAGE].copy_from_slice(&random.bytes(PAGE));
    // SAFETY: the second page is this test's own; from here on nobody may touch it.
    let guarded = unsafe { libc::mprotect(map.as_mut_ptr().add(PAGE).cast(), PAGE, libc::PROT_NONE) };
    assert_eq!(guarded, 0, "{}", std::io::Error::last_os_error());
    for seed in 0..30 {
        let pipe = stage(&mut Random::new(7000 + seed));
        for features in feature_sets() {
            let Ok(code) = compile_all(&[&pipe], features) else { continue };
            for len in (1..70).chain([128, 1000]) {
                let source = &map[PAGE - len..PAGE];
                let mut want = source.to_vec();
                let states: Vec<u64> =
                    pipe.states.iter().map(|state| random.number() & state.ty.mask()).collect();
                let (mut got, mut expected) = (states.clone(), states);
                let mut target = vec![0x5a; len + 64];
                // SAFETY: as many bytes are readable and writable, and all states are there.
                unsafe {
                    code.call(&code.copying, got.as_mut_ptr(), 0, source.as_ptr(), target.as_mut_ptr(), len)
                };
                reference(&pipe, &mut expected, 0, &mut want);
                assert_eq!(target[..len], want, "{len} {features:?} {pipe:#?}");
                assert!(target[len..].iter().all(|byte| *byte == 0x5a), "{len} {features:?} {pipe:#?}");
                assert_eq!(got, expected, "{len} {features:?} {pipe:#?}");
            }
        }
    }
}
