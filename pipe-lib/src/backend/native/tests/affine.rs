//! Hashes modulo a number, and states that depend on each other.

use super::*;

/// `s = matrix s + x`, in states of type `ty`; `modulus` 0 wraps. Every other state takes a number of its own
/// with each word.
fn affine(random: &mut Random, word: Ty, ty: Ty, modulus: u64, matrix: &[u64]) -> Pipe {
    let side = matrix.len().isqrt();
    let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
    let states = (0..side).map(|_| state(ty)).collect();
    let mut pipe = pipe(gauge(random, word), gauge(random, word), tail, states);
    let mut body = Block::default();
    let input = body.push(Op::In, word);
    let x = match word.bits().cmp(&ty.bits()) {
        std::cmp::Ordering::Less => body.push(Op::Convert(ConvertOp::Zext, input), ty),
        _ => to_ty(&mut body, random, input, ty),
    };
    let modulus_value = body.push(Op::Const(modulus), ty);
    let olds: Vec<Value> = (0..side).map(|at| body.push(Op::State(StateId(at as u32)), ty)).collect();
    for row in 0..side {
        let mut sum = if row % 2 == 0 { x } else { body.push(Op::Const(random.number() & ty.mask()), ty) };
        if modulus != 0 {
            let zero = body.push(Op::Const(0), ty);
            sum = body.push(Op::Modular(ModOp::Addmod, sum, zero, modulus_value), ty);
        }
        for (column, old) in olds.iter().enumerate() {
            let factor = body.push(Op::Const(matrix[row * side + column] & ty.mask()), ty);
            sum = if modulus == 0 {
                let product = body.push(Op::Binary(BinaryOp::Mul, *old, factor), ty);
                body.push(Op::Binary(BinaryOp::Add, sum, product), ty)
            } else {
                let product = body.push(Op::Modular(ModOp::Mulmod, *old, factor, modulus_value), ty);
                body.push(Op::Modular(ModOp::Addmod, sum, product, modulus_value), ty)
            };
        }
        pipe.next.push(sum);
    }
    pipe.body = body;
    pipe
}

/// Runs over many lengths where there are registers enough, and counts where there were.
fn take_if_it_fits(pipe: &Pipe, random: &mut Random, taken: &mut Taken) {
    let draws = random.fork();
    for features in feature_sets() {
        let random = &mut draws.clone();
        let code = match compile_all(&[pipe], features) {
            Ok(code) => code,
            Err(what) if what == Refusal::OutOfRegisters.to_string() => continue,
            Err(what) => panic!("{what}\n{pipe:#?}"),
        };
        taken.one_more(features);
        for len in
            [0, 1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 65, 127, 128, 200, 255, 256, 300, 511, 520, 700, 1460]
        {
            let bytes = random.bytes(len);
            let states: Vec<u64> =
                pipe.states.iter().map(|state| random.number() & state.ty.mask()).collect();
            check(&code, &[pipe], &states, 0, &bytes, random);
        }
    }
}

#[test]
fn hashes_modulo_a_number() {
    let mut random = Random::new(21);
    let mut taken = Taken::new();
    for word in Ty::INTEGERS {
        for ty in [Ty::U16, Ty::U32, Ty::U64] {
            for modulus in [2, 251, 65521, 65536, 1_000_003, 998_244_353, 0x7fff_ffff, 0x7fff_fffe] {
                if modulus > ty.mask() || (word == Ty::U64 && ty == Ty::U64) {
                    continue;
                }
                let any = random.next() % modulus;
                let factor = random.pick(&[31, 257, modulus - 1, any]);
                if factor % modulus < 2 {
                    continue;
                }
                let pipe = affine(&mut random, word, ty, modulus, &[factor % modulus]);
                take_if_it_fits(&pipe, &mut random, &mut taken);
            }
        }
    }
    taken.demand(50, 36);
}

#[test]
fn systems_of_states() {
    let mut random = Random::new(22);
    let mut taken = Taken::new();
    for round in 0..48 {
        let side = 2 + round % 3;
        let word = random.pick(&Ty::INTEGERS);
        let ty = random.pick(&[Ty::U8, Ty::U16, Ty::U32, Ty::U64]);
        let modulus = match round % 2 {
            1 => random.pick(&[2, 251, 65521, 0x7fff_ffff]),
            _ => 0,
        };
        let modulus = if modulus > ty.mask() || word == Ty::U64 { 0 } else { modulus };
        let triangular = random.below(2) == 0;
        let entry = |random: &mut Random, at: usize| match (at % side).cmp(&(at / side)) {
            std::cmp::Ordering::Greater if triangular => 0,
            std::cmp::Ordering::Equal if triangular => 1,
            _ => {
                let any = random.number();
                let entry = random.pick(&[0, 1, 1, 3, 8, any]);
                if modulus == 0 { entry } else { entry % modulus }
            }
        };
        let mut matrix: Vec<u64> = (0..side * side).map(|at| entry(&mut random, at)).collect();
        // Each depends on the one before.
        (1..side).for_each(|row| matrix[row * side + row - 1] = 1);
        matrix[1] = 3 % modulus.max(4);
        let pipe = affine(&mut random, word, ty, modulus, &matrix);
        let stage = Analysed::new(pipe.clone().into());
        let plan = VectorStage::of(&stage, crate::plan::target::LaneOps::All)
            .unwrap_or_else(|what| panic!("{what}\n{pipe:#?}"));
        assert!(matches!(plan.forms[0], StateForm::Linear(..)), "{pipe:#?}");
        take_if_it_fits(&pipe, &mut random, &mut taken);
    }
    taken.demand(28, 8);
}

/// States of which the word's halves, in any combination, are what is added: side by side in a lane where
/// the combination can be undone.
#[test]
fn systems_of_halves() {
    let mut random = Random::new(23);
    let mut taken = Taken::new();
    let mut paired = 0;
    for round in 0..24 {
        let number = |random: &mut Random| {
            let any = random.number() & Ty::U32.mask();
            random.pick(&[0, 1, 1, 2, 3, 0xffff_ffff, any])
        };
        let [mut matrix, mut of_halves] = [(); 2].map(|()| [(); 4].map(|()| number(&mut random)));
        // Each state depends on the other.
        (matrix[1], matrix[2]) = (matrix[1].max(1), matrix[2].max(1));
        of_halves[3] |= u64::from(round % 3 > 0);
        let ty = Ty::U32;
        let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
        let (from, to) = (gauge(&mut random, Ty::U64), gauge(&mut random, Ty::U64));
        let mut pipe = pipe(from, to, tail, vec![state(ty), state(ty)]);
        let body = &mut pipe.body;
        let input = body.push(Op::In, Ty::U64);
        let count = body.push(Op::Const(32), Ty::U64);
        let upper = body.push(Op::Binary(BinaryOp::Shr, input, count), Ty::U64);
        let halves = [input, upper].map(|half| body.push(Op::Convert(ConvertOp::Trunc, half), ty));
        let olds = [0, 1].map(|at| body.push(Op::State(StateId(at)), ty));
        for row in 0..2 {
            let mut sum = body.push(Op::Const(0), ty);
            let terms = olds.into_iter().zip(&matrix[2 * row..]);
            for (value, factor) in terms.chain(halves.into_iter().zip(&of_halves[2 * row..])) {
                let factor = body.push(Op::Const(*factor), ty);
                let product = body.push(Op::Binary(BinaryOp::Mul, value, factor), ty);
                sum = body.push(Op::Binary(BinaryOp::Add, sum, product), ty);
            }
            pipe.next.push(sum);
        }
        let stage = Analysed::new(pipe.clone().into());
        let plan = VectorStage::of(&stage, crate::plan::target::LaneOps::All).unwrap();
        let StateForm::Linear(system, _) = &plan.forms[0] else { panic!("{:?}: {pipe:#?}", plan.forms) };
        let [a, b, c, d] = of_halves;
        let can_be_undone = a.wrapping_mul(d).wrapping_sub(b.wrapping_mul(c)) & 1 == 1;
        assert_eq!(system.halves.is_some(), can_be_undone, "{pipe:#?}");
        paired += usize::from(can_be_undone);
        take_if_it_fits(&pipe, &mut random, &mut taken);
    }
    assert!((8..24).contains(&paired), "{paired}");
    taken.demand(24, 24);
}
