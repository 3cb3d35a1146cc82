//! Sums of words and sums of those sums.

use super::*;

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
                    let draws = random.fork();
                    for features in feature_sets() {
                        let mut random = draws.clone();
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
fn fletcher_in_one_s_complement_in_either_order_and_in_two_widths() {
    let mut random = Random::new(35);
    let both = "export a; export b }";
    for body in [
        "u8 { state a: u8; state b: u8; in x; addc a, a, x; addc b, b, a;",
        "u8 { state a: u16; state b: u16; in x; zext w, x; addc a, a, w; addc b, b, a;",
        "u16le tail pass { state a: u16; state b: u16; in x; addc a, a, x; addc b, b, a;",
        "u16be tail zero { state a: u32; state b: u32; in x; zext w, x; addc a, a, w; addc b, b, a;",
        "u32le tail zero { state a: u32; state b: u32; in x; addc a, a, x; addc b, b, a;",
        // The second sum first.
        "u8 { state a: u8; state b: u8; in x; addc b, b, a; addc a, a, x;",
        "u16be tail zero { state a: u16; state b: u16; in x; addc b, b, a; addc a, a, x;",
        "u8 { state a: u32; state b: u32; in x; zext w, x; add b, b, a; add a, a, w;",
        "u8 { state a: u32; state b: u32; in x; zext w, x; addmod b, b, a, 65521; addmod a, a, w, 65521;",
        "u8 { state a: u32 = 1; state b: u64; in x; zext w, x; addmod a, a, w, 65521; zext v, a; addmod b, b, v, 65521;",
        "u8 { state a: u16; state b: u64; in x; zext w, x; zext v, a; addmod b, b, v, 65521; addmod a, a, w, 65521;",
    ] {
        let pipe = inductions::from_text(&format!("{body} {both}"));
        let draws = random.fork();
        for features in feature_sets() {
            let mut random = draws.clone();
            let code = compile_all(&[&pipe], features).unwrap_or_else(|what| panic!("{what}\n{body}"));
            for len in (0..70).chain([127, 128, 129, 255, 256, 257, 300, 511, 512, 700, 1460, 5000]) {
                for zeros in [false, true] {
                    let bytes = if zeros { vec![0; len] } else { random.bytes(len) };
                    // Zero and all ones mean the same and are not.
                    let number = |random: &mut Random, ty: Ty| match random.below(4) {
                        0 => 0,
                        1 => ty.mask(),
                        _ => random.number() & ty.mask(),
                    };
                    let states: Vec<u64> =
                        pipe.states.iter().map(|state| number(&mut random, state.ty)).collect();
                    check(&code, &[&pipe], &states, 0, &bytes, &mut random);
                }
            }
        }
    }
}

#[test]
fn one_s_complement_sums_end_two_at_a_time() {
    let mut random = Random::new(36);
    let big = inductions::from_text("u16be tail zero { state s: u16; in x; addc s, s, x; export s }");
    let little = inductions::from_text("u16le tail pass { state s: u16; in x; addc s, s, x; export s }");
    let count = inductions::from_text("u8 { state n: u32; in x; zext w, x; add n, n, w; export n }");
    for stages in [
        vec![&little],
        vec![&big, &big],
        vec![&little, &little],
        vec![&big, &little],
        vec![&little, &big],
        // Not side by side among the states.
        vec![&big, &count, &little],
        vec![&big, &little, &big],
        vec![&big, &count, &big, &little, &count, &little],
    ] {
        let draws = random.fork();
        for features in feature_sets() {
            let mut random = draws.clone();
            let code = compile_all(&stages, features).unwrap();
            for len in (0..70).chain([100, 127, 128, 255, 300, 1460]) {
                let states: Vec<u64> = stages
                    .iter()
                    .map(|pipe| match random.below(4) {
                        0 => 0,
                        1 => pipe.states[0].ty.mask(),
                        _ => random.number() & pipe.states[0].ty.mask(),
                    })
                    .collect();
                check(&code, &stages, &states, 0, &random.bytes(len), &mut random);
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
        let draws = random.fork();
        for features in feature_sets() {
            let mut random = draws.clone();
            let word = lanes::Lane::of_bytes(word.bytes());
            let longest = carry::sums::longest_call(word, features.isa().unwrap().vector_bytes());
            let code = compile_all(&[&pipe], features).unwrap();
            for len in [longest - 1, longest + 70] {
                check(&code, &[&pipe], &[m - 1, m - 1], 0, &vec![0xff; len], &mut random);
            }
        }
    }
}
