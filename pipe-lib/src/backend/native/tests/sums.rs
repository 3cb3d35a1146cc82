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
        for features in feature_sets() {
            let word = lanes::Lane::of_bytes(word.bytes());
            let longest = super::super::sums::longest_call(word, features.isa().unwrap().vector_bytes());
            let code = compile_all(&[&pipe], features).unwrap();
            for len in [longest - 1, longest + 70] {
                check(&code, &[&pipe], &[m - 1, m - 1], 0, &vec![0xff; len], &mut random);
            }
        }
    }
}
