//! Polynomial hashes.

use super::*;

/// `h = h * factor + x`.
fn hash(random: &mut Random, word: Ty, ty: Ty, factor: u64) -> Pipe {
    let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
    let mut pipe = pipe(gauge(random, word), gauge(random, word), tail, vec![state(ty)]);
    let mut body = Block::default();
    let input = body.push(Op::In, word);
    let old = body.push(Op::State(StateId(0)), ty);
    let factor = body.push(Op::Const(factor & ty.mask()), ty);
    let x = to_ty(&mut body, random, input, ty);
    let moved = body.push(Op::Binary(BinaryOp::Mul, old, factor), ty);
    let next = body.push(Op::Binary(BinaryOp::Add, moved, x), ty);
    pipe.body = body;
    pipe.next = vec![next];
    pipe
}

#[test]
fn polynomial_hashes_by_any_factor() {
    let mut random = Random::new(15);
    for word in Ty::INTEGERS {
        for ty in Ty::INTEGERS {
            for factor in [31, 33, 32, 6, 0x0100_0000_01b3, random.next() | 1, u64::MAX] {
                let pipe = hash(&mut random, word, ty, factor);
                // Eight vectors of accumulators for one of words: half of the registers of AVX2, the rest for
                // what is added.
                if ty.bytes() == 8 * word.bytes() {
                    let draws = random.fork();
                    for features in feature_sets().into_iter().filter(|set| set.has(Features::AVX512)) {
                        let mut random = draws.clone();
                        let code = compile_all(&[&pipe], features).unwrap();
                        for len in [0, 1, 63, 64, 65, 128, 191, 200, 256, 300, 320, 1460] {
                            let (bytes, start) = (random.bytes(len), [random.next()]);
                            check(&code, &[&pipe], &start, 0, &bytes, &mut random);
                        }
                    }
                    continue;
                }
                take(&pipe, &mut random);
            }
        }
    }
}

#[test]
fn a_hash_is_kept_as_one() {
    let mut random = Random::new(16);
    let stage = Analysed::new(hash(&mut random, Ty::U8, Ty::U32, 31).into());
    let plan = VectorStage::of(&stage, crate::plan::target::LaneOps::All).unwrap();
    assert!(matches!(&plan.forms[0], StateForm::Linear(system, _) if system.matrix == [31]));
}
