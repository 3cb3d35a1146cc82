//! Values that depend on the offset in the stream.

use super::*;

#[test]
fn positional_patterns_start_anywhere() {
    let mut random = Random::new(13);
    for word in Ty::INTEGERS {
        for ty in Ty::INTEGERS {
            for period in [1u64, 2, 4, 16, 32, 64, 128] {
                let mut pipe =
                    pipe(gauge(&mut random, word), gauge(&mut random, word), Tail::Partial, Vec::new());
                let mut body = Block::default();
                let input = body.push(Op::In, word);
                let pos = body.push(Op::Pos, Ty::U64);
                let one = body.push(Op::Const(random.next()), Ty::U64);
                let moved = body.push(Op::Binary(BinaryOp::Add, pos, one), Ty::U64);
                let mask = body.push(Op::Const(period - 1), Ty::U64);
                let place = body.push(Op::Binary(BinaryOp::And, moved, mask), Ty::U64);
                let eight = body.push(Op::Const(8), Ty::U64);
                let bits = body.push(Op::Binary(BinaryOp::Mul, place, eight), Ty::U64);
                let key = body.push(Op::Const(random.next()), Ty::U64);
                let turned = body.push(Op::Binary(BinaryOp::Rotr, key, bits), Ty::U64);
                let cut = to_ty(&mut body, &mut random, turned, ty);
                let cut = to_ty(&mut body, &mut random, cut, word);
                let out = body.push(Op::Binary(BinaryOp::Xor, input, cut), word);
                pipe.out = Some(out);
                pipe.body = body;
                take(&pipe, &mut random);
            }
        }
    }
}
