//! Sums of sums of sums.

use super::*;

/// Each state is a sum of the states before it with random factors, of itself and of the word.
fn sums(random: &mut Random, word: Ty, ty: Ty, side: usize) -> Pipe {
    let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
    let states = (0..side).map(|_| state(ty)).collect();
    let mut pipe = pipe(gauge(random, word), gauge(random, word), tail, states);
    let mut body = Block::default();
    let input = body.push(Op::In, word);
    let x = if word == ty { input } else { body.push(Op::Convert(ConvertOp::Zext, input), ty) };
    let olds: Vec<Value> = (0..side).map(|at| body.push(Op::State(StateId(at as u32)), ty)).collect();
    for row in 0..side {
        let mut sum = body.push(Op::Binary(BinaryOp::Add, x, olds[row]), ty);
        for (column, old) in olds[..row].iter().enumerate() {
            let any = random.number();
            // Of the state before always something, so that all are one system.
            let factor = random.pick(&[1, 1, 3, any | 1]) & ty.mask();
            let factor = if column + 1 < row && random.below(3) == 0 { 0 } else { factor };
            let factor = body.push(Op::Const(factor), ty);
            let product = body.push(Op::Binary(BinaryOp::Mul, *old, factor), ty);
            sum = body.push(Op::Binary(BinaryOp::Add, sum, product), ty);
        }
        pipe.next.push(sum);
    }
    pipe.body = body;
    pipe
}

#[test]
fn sums_of_several_orders() {
    let mut random = Random::new(41);
    let mut found = 0;
    for (word, ty) in [
        (Ty::U8, Ty::U8),
        (Ty::U8, Ty::U16),
        (Ty::U16, Ty::U16),
        (Ty::U16, Ty::U32),
        (Ty::U32, Ty::U32),
        (Ty::U32, Ty::U64),
        (Ty::U64, Ty::U64),
    ] {
        for side in [2, 3, 4, 3, 4] {
            let pipe = sums(&mut random, word, ty, side);
            let stage = Analysed::new(pipe.clone().into());
            let plan = VectorStage::of(&stage, crate::plan::target::LaneOps::All)
                .unwrap_or_else(|what| panic!("{what}\n{pipe:#?}"));
            found += usize::from(matches!(plan.forms[0], StateForm::IteratedSums(..)));
            take(&pipe, &mut random);
        }
    }
    // Of two states some are known as a sum and the sum of its values.
    assert!(found >= 28, "{found}");
}

#[test]
fn fletcher4_runs_wide_on_every_set_of_features() {
    let mut random = Random::new(42);
    let pipeline = crate::Library::standard().pipeline("fletcher4").unwrap();
    let pipe = &pipeline.composition().stages[0].pipe;
    let stage = Analysed::new(std::sync::Arc::clone(pipe));
    let plan = VectorStage::of(&stage, crate::plan::target::LaneOps::All).unwrap();
    assert!(matches!(plan.forms[0], StateForm::IteratedSums(..)));
    take(pipe, &mut random);
}
