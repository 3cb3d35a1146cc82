//! Sums and products modulo a constant, without a state.

use super::*;

/// The word with a constant, a shifted part of itself, or itself.
fn modular(random: &mut Random, op: ModOp, word: Ty, ty: Ty, modulus: u64, other: usize) -> Pipe {
    let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
    let mut pipe = pipe(gauge(random, word), gauge(random, word), tail, Vec::new());
    let mut body = Block::default();
    let input = body.push(Op::In, word);
    let a = to_ty(&mut body, random, input, ty);
    let three = body.push(Op::Const(3), ty);
    let b = match other {
        0 => body.push(Op::Const(random.number() & ty.mask()), ty),
        1 => body.push(Op::Binary(BinaryOp::Shr, a, three), ty),
        _ => a,
    };
    let modulus = body.push(Op::Const(modulus), ty);
    let (a, b) = if random.below(2) == 0 { (a, b) } else { (b, a) };
    let result = body.push(Op::Modular(op, a, b, modulus), ty);
    let out = to_ty(&mut body, random, result, word);
    pipe.out = Some(out);
    pipe.body = body;
    pipe
}

#[test]
fn sums_and_products_modulo_a_constant() {
    let mut random = Random::new(36);
    for word in Ty::INTEGERS {
        for ty in Ty::INTEGERS {
            let half = ty.mask() / 2;
            let moduli = [3, 7, 10, 251, 65521, 0xffff_fffb, half, half + 2, ty.mask() - 1, ty.mask()];
            for modulus in moduli.into_iter().filter(|m| *m <= ty.mask()) {
                for (op, other) in
                    [ModOp::Addmod, ModOp::Mulmod].into_iter().flat_map(|op| [(op, 0), (op, 1), (op, 2)])
                {
                    let pipe = modular(&mut random, op, word, ty, modulus, other);
                    // Products of 64 bits and more are left to others, and so are their quotients.
                    let lane = ty.bits().max(word.bits());
                    let product = op == ModOp::Mulmod && lane == 32 && (other > 0 || modulus > 1 << 31);
                    let may_refuse = lane == 64 || product;
                    // Eight registers a number, or half as many registers.
                    let big = ty.bytes() == 8 * word.bytes();
                    let draws = random.fork();
                    for features in feature_sets() {
                        let mut random = draws.clone();
                        let code = match compile_all(&[&pipe], features) {
                            Err(what) if may_refuse && what.contains("modul") => continue,
                            Err(what)
                                if what.contains("registers") && (big || !features.has(Features::AVX512)) =>
                            {
                                continue;
                            }
                            code => code.unwrap_or_else(|what| panic!("{what}\n{pipe:#?}")),
                        };
                        for len in [0, 1, 31, 64, 100, 255, 600] {
                            let bytes = random.bytes(len);
                            check(&code, &[&pipe], &[], 0, &bytes, &mut random);
                        }
                    }
                }
            }
        }
    }
    // Every byte.
    let all: Vec<u8> = (0..=255).collect();
    for modulus in 1..=255 {
        for op in [ModOp::Addmod, ModOp::Mulmod] {
            let pipe = modular(&mut random, op, Ty::U8, Ty::U8, modulus, 0);
            let draws = random.fork();
            for features in most_and_least() {
                let mut random = draws.clone();
                check(&compile_all(&[&pipe], features).unwrap(), &[&pipe], &[], 0, &all, &mut random);
            }
        }
    }
}
