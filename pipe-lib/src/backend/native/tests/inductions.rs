//! Inductions, and what depends on them and on the words before.

use super::*;
use crate::Library;

/// Judges the pipe with every set of instructions; only those with half the registers, or states of eight
/// registers, may have too few.
fn take(pipe: &Pipe, random: &mut Random) {
    let wide = pipe.states.iter().any(|state| state.ty.bytes() == 8 * pipe.word_bytes());
    let draws = random.fork();
    for features in feature_sets() {
        let random = &mut draws.clone();
        let code = match compile_all(&[pipe], features) {
            Err(what) if what.contains("registers") && (wide || !features.has(Features::AVX512)) => continue,
            code => code.unwrap_or_else(|what| panic!("{what} {features:?}\n{pipe:#?}")),
        };
        for len in (0..70).chain([127, 128, 129, 255, 256, 257, 300, 511, 512, 700, 1460]) {
            let bytes = random.bytes(len);
            let states: Vec<u64> =
                pipe.states.iter().map(|state| random.number() & state.ty.mask()).collect();
            let start = (random.below(1000) * pipe.word_bytes()) as u64;
            check(&code, &[pipe], &states, start, &bytes, random);
        }
    }
}

/// The word combined with the state before it or after it, and a sum of the state's values.
fn turning(
    random: &mut Random,
    word: Ty,
    ty: Ty,
    step: impl Fn(&mut Block, Value) -> Value,
    seen: bool,
) -> Pipe {
    let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
    let mut pipe = pipe(gauge(random, word), gauge(random, word), tail, vec![state(ty), state(Ty::U16)]);
    let mut body = Block::default();
    let input = body.push(Op::In, word);
    let old = body.push(Op::State(StateId(0)), ty);
    let next = step(&mut body, old);
    let seen = if seen { old } else { next };
    let number = if ty == Ty::Bool { body.push(Op::Convert(ConvertOp::Zext, seen), word) } else { seen };
    let key = to_ty(&mut body, random, number, word);
    let out = body.push(Op::Binary(BinaryOp::Xor, input, key), word);
    let sum = body.push(Op::State(StateId(1)), Ty::U16);
    let add = to_ty(&mut body, random, key, Ty::U16);
    let sum = body.push(Op::Binary(BinaryOp::Add, sum, add), Ty::U16);
    pipe.out = Some(out);
    pipe.next = vec![next, sum];
    pipe.body = body;
    pipe
}

#[test]
fn counters_and_keys_that_rotate() {
    let mut random = Random::new(31);
    for word in Ty::INTEGERS {
        for ty in Ty::INTEGERS {
            for op in
                [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Xor, BinaryOp::Rotl, BinaryOp::Rotr]
            {
                let (c, seen) = (random.number() & ty.mask(), random.below(2) == 0);
                let step = |body: &mut Block, old: Value| {
                    let c = body.push(Op::Const(c), ty);
                    body.push(Op::Binary(op, old, c), ty)
                };
                take(&turning(&mut random, word, ty, step, seen), &mut random);
            }
        }
    }
}

#[test]
fn two_operations_a_word() {
    let mut random = Random::new(32);
    for word in Ty::INTEGERS {
        for ty in Ty::INTEGERS {
            let (c, d) = (random.number() & ty.mask() | 1, random.number() & ty.mask());
            // A linear congruence, its mirror, a key that rotates and changes.
            for form in 0..3 {
                let step = |body: &mut Block, old: Value| {
                    let (c, d) = (body.push(Op::Const(c), ty), body.push(Op::Const(d), ty));
                    let (first, second) = match form {
                        0 => (BinaryOp::Mul, BinaryOp::Add),
                        1 => (BinaryOp::Sub, BinaryOp::Mul),
                        _ => (BinaryOp::Rotl, BinaryOp::Xor),
                    };
                    let (a, b) = if form == 1 { (d, old) } else { (old, c) };
                    let once = body.push(Op::Binary(first, a, b), ty);
                    body.push(Op::Binary(second, once, if form == 1 { c } else { d }), ty)
                };
                take(&turning(&mut random, word, ty, step, true), &mut random);
            }
        }
    }
}

#[test]
fn counters_modulo_a_number_and_toggles() {
    let mut random = Random::new(33);
    for word in Ty::INTEGERS {
        for ty in Ty::INTEGERS {
            for modulus in [1, 2, 7, 251, ty.mask() - 1, ty.mask(), ty.mask() / 2 + 2] {
                let c = random.number() & ty.mask();
                let step = |body: &mut Block, old: Value| {
                    let (c, m) = (body.push(Op::Const(c), ty), body.push(Op::Const(modulus), ty));
                    body.push(Op::Modular(ModOp::Addmod, old, c, m), ty)
                };
                take(&turning(&mut random, word, ty, step, true), &mut random);
            }
        }
        for seen in [false, true] {
            let step = |body: &mut Block, old: Value| body.push(Op::Unary(UnaryOp::Not, old), Ty::Bool);
            take(&turning(&mut random, word, Ty::Bool, step, seen), &mut random);
        }
        // Any function of a byte: a shift register with feedback, and a counter that starts again.
        for form in 0..2 {
            let ty = Ty::U8;
            let step = |body: &mut Block, old: Value| {
                let one = body.push(Op::Const(1), ty);
                if form == 0 {
                    let half = body.push(Op::Binary(BinaryOp::Shr, old, one), ty);
                    let low = body.push(Op::Binary(BinaryOp::And, old, one), ty);
                    let mask = body.push(Op::Unary(UnaryOp::Neg, low), ty);
                    let taps = body.push(Op::Const(0xb8), ty);
                    let taps = body.push(Op::Binary(BinaryOp::And, mask, taps), ty);
                    return body.push(Op::Binary(BinaryOp::Xor, half, taps), ty);
                }
                let more = body.push(Op::Binary(BinaryOp::Add, old, one), ty);
                let (last, zero) = (body.push(Op::Const(10), ty), body.push(Op::Const(0), ty));
                let again = body.push(Op::Compare(CompareOp::Ltu, last, more), Ty::Bool);
                body.push(Op::Select { cond: again, then: zero, otherwise: more }, ty)
            };
            take(&turning(&mut random, word, ty, step, true), &mut random);
        }
    }
}

/// A pipe of the language.
pub(super) fn from_text(body: &str) -> Pipe {
    let mut library = Library::standard();
    library.load("test.pipe", &format!("pipe p : {body}")).unwrap_or_else(|errors| panic!("{errors:?}"));
    let pipeline = library.pipeline("p").unwrap_or_else(|errors| panic!("{errors:?}"));
    (*pipeline.composition().stages[0].pipe).clone()
}

#[test]
fn what_goes_by_the_words_before_and_by_the_place() {
    let mut random = Random::new(34);
    for body in [
        // Changes, words, ends of lines, a checksum of bytes that are taken in turns.
        "u8 { state p: u8; state n: u64; in x; ne e, x, p; mov p, x; zext k, e; add n, n, k; export n }",
        "u8 { state prev: bool = true; state n: u64; in x; leu sp, x, 32; not ns, sp; and st, prev, ns; zext o, st
              add n, n, o; mov prev, sp; export n }",
        "u8 { state cr: bool; state n: u64; in x; eq lf, x, '\\n'; and hit, cr, lf; zext k, hit; add n, n, k
              eq cr, x, '\\r'; export n }",
        "u8 { state s: u32; state odd: bool; in x; zext w, x; shl hi, w, 8; sel v, odd, w, hi; add s, s, v
              not odd, odd; export s }",
        "u16be tail zero { state p: u16; state n: u16; in x; xor e, x, p; mov p, x; or n, n, e; export n }",
        // The word before the one before, the difference of differences, a running sum of differences.
        "u8 { state p: u8; state q: u8; in x; xor y, x, q; mov q, p; mov p, x; out y }",
        "u32le tail pass { state p: u32; state d: u32; in x; sub e, x, p; sub y, e, d; mov d, e; mov p, x; out y }",
        "u8 { state p: u8; state s: u8; in x; xor v, x, p; mov p, x; add s, s, v; out s }",
        // A counter of the word before the one at hand.
        "u8 { state n: u8; state m: u8; in x; xor y, x, m; mov m, n; add n, n, 3; out y }",
        // Patterns over bytes.
        "u8 { in x; pos p; and k, p, 1; eq z, k, 0; not nx, x; sel y, z, nx, x; out y }",
        "u8 { state s: u8; in x; pos p; and k, p, 8; eq z, k, 0; sel v, z, x, 0; add s, s, v; export s }",
    ] {
        take(&from_text(body), &mut random);
    }
}

#[test]
fn shift_registers_with_feedback() {
    let mut random = Random::new(37);
    for word in Ty::INTEGERS {
        for ty in [Ty::U8, Ty::U16, Ty::U32] {
            for form in 0..4 {
                let mask = ty.mask();
                let (poly, flip) = (random.number() & mask | 1, random.number() & mask);
                let (count, seen) = (1 + random.below(8), random.below(2) == 0);
                let tap = 1 + random.below(ty.bits() as usize - 1) as u64;
                let step = |body: &mut Block, mut old: Value| {
                    let one = body.push(Op::Const(1), ty);
                    for _ in 0..count {
                        let by = |op, a, b| Op::Binary(op, a, b);
                        let literal = body.push(Op::Const(if form == 1 { tap } else { poly }), ty);
                        old = if form == 1 {
                            // Two bits added come in at the upper end.
                            let far = body.push(by(BinaryOp::Shr, old, literal), ty);
                            let sum = body.push(by(BinaryOp::Xor, far, old), ty);
                            let bit = body.push(by(BinaryOp::And, sum, one), ty);
                            let up = body.push(Op::Const(u64::from(ty.bits()) - 1), ty);
                            let top = body.push(by(BinaryOp::Shl, bit, up), ty);
                            let rest = body.push(by(BinaryOp::Shr, old, one), ty);
                            body.push(by(BinaryOp::Or, rest, top), ty)
                        } else {
                            // The bit that goes out is added where the polynomial has ones.
                            let bit = body.push(by(BinaryOp::And, old, one), ty);
                            let rest = body.push(by(BinaryOp::Shr, old, one), ty);
                            let term = body.push(by(BinaryOp::Mul, bit, literal), ty);
                            body.push(by(BinaryOp::Xor, rest, term), ty)
                        };
                    }
                    let flip = body.push(Op::Const(if form == 3 { flip } else { 0 }), ty);
                    body.push(Op::Binary(BinaryOp::Xor, old, flip), ty)
                };
                take(&turning(&mut random, word, ty, step, seen), &mut random);
            }
        }
    }
}
