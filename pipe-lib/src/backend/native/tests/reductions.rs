//! States that are reductions.

use super::*;

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
        let key = body.push(Op::Const(random.number() & word.mask() | 1), word);
        body.push(Op::Binary(random.pick(&[BinaryOp::Xor, BinaryOp::Mul]), input, key), word)
    };
    let x = if ty == Ty::Bool {
        let limit = body.push(Op::Const(random.number() & word.mask()), word);
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
        BinaryOp::Adds,
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
                    let draws = random.fork();
                    for features in feature_sets() {
                        let mut random = draws.clone();
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

/// Words counted in wider numbers take as few registers as sums of the words: what is added fits a word.
#[test]
fn literals_are_added_in_lanes_of_words() {
    let mut random = Random::new(31);
    for (word, ty) in [(Ty::U8, Ty::U64), (Ty::U8, Ty::U16), (Ty::U16, Ty::U64), (Ty::U32, Ty::U64)] {
        for number in [1, 0x7f, word.mask()] {
            for op in [BinaryOp::Add, BinaryOp::Adds] {
                let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
                let mut counter =
                    pipe(gauge(&mut random, word), gauge(&mut random, word), tail, vec![state(ty)]);
                let mut body = Block::default();
                let sum = body.push(Op::State(StateId(0)), ty);
                let one = body.push(Op::Const(number), ty);
                counter.next = vec![body.push(Op::Binary(op, sum, one), ty)];
                counter.body = body;
                let draws = random.fork();
                for features in feature_sets() {
                    let mut random = draws.clone();
                    let pipes = [&counter, &counter];
                    let code =
                        compile_all(&pipes, features).unwrap_or_else(|why| panic!("{word} {ty}: {why}"));
                    for len in [0, 1, 3, 17, 64, 65, 255, 600, 5000] {
                        let bytes = random.bytes(len);
                        let states = [random.number() & ty.mask(), random.number() & ty.mask()];
                        check(&code, &pipes, &states, 0, &bytes, &mut random);
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
            let draws = random.fork();
            for features in feature_sets() {
                let mut random = draws.clone();
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

/// Iterations of the main loop that begin at any copy, destinations that are aligned first, with states and
/// offsets that would tell a vector taken twice.
#[test]
fn every_number_of_vectors() {
    let mut random = Random::new(15);
    for with_pos in [false, true] {
        let gauge = Gauge::new(Ty::U16, Endian::Big);
        let mut pipe = pipe(gauge, gauge, Tail::Partial, vec![state(Ty::U16)]);
        let mut body = Block::default();
        let input = body.push(Op::In, Ty::U16);
        let sum = body.push(Op::State(StateId(0)), Ty::U16);
        let next = body.push(Op::Binary(BinaryOp::Addc, sum, input), Ty::U16);
        if with_pos {
            let pos = body.push(Op::Pos, Ty::U64);
            let factor = body.push(Op::Const(0x9e37_79b9_7f4a_7c15), Ty::U64);
            let product = body.push(Op::Binary(BinaryOp::Mul, pos, factor), Ty::U64);
            let forty = body.push(Op::Const(40), Ty::U64);
            let high = body.push(Op::Binary(BinaryOp::Shr, product, forty), Ty::U64);
            let key = body.push(Op::Convert(ConvertOp::Trunc, high), Ty::U16);
            pipe.out = Some(body.push(Op::Binary(BinaryOp::Xor, input, key), Ty::U16));
        }
        pipe.body = body;
        pipe.next = vec![next];
        let draws = random.fork();
        for features in feature_sets() {
            let mut random = draws.clone();
            let code = compile_all(&[&pipe], features).unwrap();
            for vectors in (0..=19).chain(31..=34).chain([63]) {
                for rest in [0, 1, 37] {
                    let bytes: Vec<u8> = (0..64 * vectors + rest).map(|_| random.next() as u8).collect();
                    let start = (random.below(1000) * 2) as u64;
                    check(&code, &[&pipe], &[random.number() & 0xffff], start, &bytes, &mut random);
                }
            }
        }
    }
}

/// More than one call may add up: as many bytes as fit the longest one, and some, each of them or two of them
/// an addend, or two of them many. What counts may all be in one half of the lanes, and the destination be
/// aligned first.
#[test]
fn one_s_complement_sums_of_long_calls() {
    let len = (1 << 20) + 70;
    let mut dst = vec![0; len + 2];
    for (word, addends) in [(Ty::U8, 1), (Ty::U16, 1), (Ty::U16, 3), (Ty::U16, 64), (Ty::U16, 65)] {
        let gauge = Gauge::new(word, Endian::Little);
        let mut pipe = pipe(gauge, gauge, Tail::Zero, vec![state(Ty::U16)]);
        let mut body = Block::default();
        let input = body.push(Op::In, word);
        let mut sum = body.push(Op::State(StateId(0)), Ty::U16);
        let addend = match word {
            Ty::U8 => body.push(Op::Convert(ConvertOp::Zext, input), Ty::U16),
            _ => input,
        };
        for _ in 0..addends {
            sum = body.push(Op::Binary(BinaryOp::Addc, sum, addend), Ty::U16);
        }
        pipe.next = vec![sum];
        pipe.body = body;
        for features in feature_sets() {
            let code = compile_all(&[&pipe], features).unwrap();
            for counts in [|_| true, |at| at / 4 % 2 == 0, |at| at / 4 % 2 == 1] as [fn(usize) -> bool; 3] {
                let bytes: Vec<u8> = (0..len).map(|at| if counts(at) { 0xff } else { 0 }).collect();
                for (at, to) in [(0, std::ptr::null_mut()), (62, dst[2..].as_mut_ptr())] {
                    let sum = match word {
                        Ty::U8 => bytes[at..].iter().map(|byte| u64::from(*byte)).sum(),
                        _ => 0xffff,
                    };
                    for start in [0, 0xffff] {
                        let mut states = [start];
                        // SAFETY: as many bytes as there are, nowhere or to as many, and the one state.
                        unsafe { code.run(states.as_mut_ptr(), 0, bytes[at..].as_ptr(), to, len - at) }
                        // A sum of something is never 0.
                        let want = (sum - 1) % 0xffff + 1;
                        assert_eq!(states, [want], "{word}, {addends} addends from {at} on, {features:?}");
                    }
                }
            }
        }
    }
}
