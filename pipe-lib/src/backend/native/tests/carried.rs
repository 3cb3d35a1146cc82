//! States that are carried from word to word.

use super::*;

#[test]
fn the_value_of_the_word_before() {
    let mut random = Random::new(11);
    for word in Ty::INTEGERS {
        for ty in Ty::INTEGERS.into_iter().filter(|ty| ty.bits() <= word.bits()) {
            for _ in 0..4 {
                let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
                let mut pipe =
                    pipe(gauge(&mut random, word), gauge(&mut random, word), tail, vec![state(ty)]);
                let mut body = Block::default();
                let input = body.push(Op::In, word);
                let old = body.push(Op::State(StateId(0)), ty);
                let cut = to_ty(&mut body, &mut random, input, ty);
                let next =
                    if random.below(2) == 0 { body.push(Op::Unary(UnaryOp::Not, cut), ty) } else { cut };
                let y = body.push(Op::Binary(BinaryOp::Sub, cut, old), ty);
                let out = to_ty(&mut body, &mut random, y, word);
                pipe.out = Some(out);
                pipe.next = vec![next];
                pipe.body = body;
                take(&pipe, &mut random);
            }
        }
    }
}

#[test]
fn running_reductions() {
    let mut random = Random::new(12);
    for word in Ty::INTEGERS {
        for op in [
            BinaryOp::Add,
            BinaryOp::Xor,
            BinaryOp::Or,
            BinaryOp::And,
            BinaryOp::Min,
            BinaryOp::Max,
            BinaryOp::Smin,
            BinaryOp::Smax,
        ] {
            for form in 0..3 {
                let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
                let mut pipe =
                    pipe(gauge(&mut random, word), gauge(&mut random, word), tail, vec![state(word)]);
                let mut body = Block::default();
                let input = body.push(Op::In, word);
                let old = body.push(Op::State(StateId(0)), word);
                let next = body.push(Op::Binary(op, old, input), word);
                let out = match form {
                    0 => next,
                    // What it was before the word, and both.
                    1 => old,
                    _ => body.push(Op::Binary(BinaryOp::Sub, next, old), word),
                };
                pipe.out = Some(out);
                pipe.next = vec![next];
                pipe.body = body;
                take(&pipe, &mut random);
            }
        }
    }
}

#[test]
fn delays_of_several_words() {
    let mut random = Random::new(13);
    for word in Ty::INTEGERS {
        for depth in [2, 3, 5] {
            let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
            let states = (0..depth).map(|_| state(word)).collect();
            let mut pipe = pipe(gauge(&mut random, word), gauge(&mut random, word), tail, states);
            let mut body = Block::default();
            let input = body.push(Op::In, word);
            let olds: Vec<Value> =
                (0..depth).map(|at| body.push(Op::State(StateId(at as u32)), word)).collect();
            let mixed = body.push(Op::Unary(UnaryOp::Not, input), word);
            // Any of the states may be the first of the line.
            let first = random.below(depth);
            let place = |age: usize| (first + age * (depth - 1)) % depth;
            pipe.next = vec![mixed; depth];
            for age in 1..depth {
                pipe.next[place(age)] = olds[place(age - 1)];
            }
            let out = body.push(Op::Binary(BinaryOp::Sub, input, olds[place(depth - 1)]), word);
            pipe.out = Some(out);
            pipe.body = body;
            take(&pipe, &mut random);
        }
    }
}

/// `depth` results that take turns, of words of type `word`: reads what `reads` says of them, and the result.
fn turns(random: &mut Random, word: Ty, depth: usize, op: BinaryOp, reads: usize) -> Pipe {
    let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
    let states = (0..depth).map(|_| state(word)).collect();
    let mut pipe = pipe(gauge(random, word), gauge(random, word), tail, states);
    let mut body = Block::default();
    let input = body.push(Op::In, word);
    let olds: Vec<Value> = (0..depth).map(|at| body.push(Op::State(StateId(at as u32)), word)).collect();
    // Any of the states may be the first of the line.
    let first = random.below(depth);
    let place = |age: usize| (first + age * (depth - 1)) % depth;
    let changed = body.push(Op::Unary(UnaryOp::Not, input), word);
    let result = body.push(Op::Binary(op, olds[place(depth - 1)], changed), word);
    pipe.next = vec![result; depth];
    for age in 1..depth {
        pipe.next[place(age)] = olds[place(age - 1)];
    }
    pipe.out = Some(match reads {
        0 => result,
        _ => body.push(Op::Binary(BinaryOp::Xor, result, olds[place(reads % depth)]), word),
    });
    pipe.body = body;
    pipe
}

#[test]
fn running_reductions_that_take_turns() {
    let mut random = Random::new(14);
    for word in Ty::INTEGERS {
        for depth in 2..=16 / word.bytes() {
            for op in [
                BinaryOp::Add,
                BinaryOp::Xor,
                BinaryOp::Or,
                BinaryOp::And,
                BinaryOp::Min,
                BinaryOp::Max,
                BinaryOp::Smin,
                BinaryOp::Smax,
                BinaryOp::Adds,
            ] {
                let reads = random.below(depth + 1);
                let pipe = turns(&mut random, word, depth, op, reads);
                take(&pipe, &mut random);
            }
        }
    }
}
