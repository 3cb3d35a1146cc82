//! Every operation on every type in words of every width.

use super::*;

/// A pipe of word type `word` that computes `make(a, b)` on operands of type `ty`, derived from the word.
fn single(
    random: &mut Random,
    word: Ty,
    ty: Ty,
    make: impl Fn(&mut Block, &mut Random, Value, Value) -> Value,
) -> Pipe {
    let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
    let mut pipe = pipe(gauge(random, word), gauge(random, word), tail, Vec::new());
    let mut body = Block::default();
    let input = body.push(Op::In, word);
    let a = to_ty(&mut body, random, input, ty);
    // A second operand with other bits: a multiple and a rotation of the first, or a constant.
    let b = match random.below(3) {
        0 => body.push(Op::Const(random.number() & ty.mask()), ty),
        1 => {
            let factor = body.push(Op::Const(0x9e37_79b9_7f4a_7c15 & ty.mask()), ty);
            body.push(Op::Binary(BinaryOp::Mul, a, factor), ty)
        }
        _ => {
            let three = body.push(Op::Const(3), ty);
            body.push(Op::Binary(BinaryOp::Shr, a, three), ty)
        }
    };
    let result = make(&mut body, random, a, b);
    let result = if body.ty(result) == Ty::Bool {
        body.push(Op::Convert(ConvertOp::Zext, result), ty)
    } else {
        result
    };
    let out = to_ty(&mut body, random, result, word);
    pipe.body = body;
    pipe.out = Some(out);
    pipe
}

fn try_single(random: &mut Random, pipe: &Pipe) {
    let draws = random.fork();
    for features in feature_sets() {
        let random = &mut draws.clone();
        match compile_all(&[pipe], features) {
            Ok(code) => {
                for _ in 0..3 {
                    let len = random.below(300);
                    let bytes = random.bytes(len);
                    check(&code, &[pipe], &[], 0, &bytes, random);
                }
            }
            // Only what the folder's documentation says it leaves to others.
            Err(what) => assert!(
                what.contains("registers") || what.contains("carry-less") || what.contains("modul"),
                "{what}\n{pipe:#?}"
            ),
        }
    }
}

#[test]
fn every_operation_on_every_type_in_every_word() {
    let mut random = Random::new(1);
    for word in Ty::INTEGERS {
        for ty in Ty::INTEGERS {
            for op in UnaryOp::ALL {
                let pipe = single(&mut random, word, ty, |body, _, a, _| body.push(Op::Unary(*op, a), ty));
                try_single(&mut random, &pipe);
            }
            for op in BinaryOp::ALL {
                for _ in 0..3 {
                    let pipe =
                        single(&mut random, word, ty, |body, _, a, b| body.push(Op::Binary(*op, a, b), ty));
                    try_single(&mut random, &pipe);
                }
            }
            for op in CompareOp::ALL {
                for _ in 0..2 {
                    let pipe = single(&mut random, word, ty, |body, random, a, b| {
                        let cond = body.push(Op::Compare(*op, a, b), Ty::Bool);
                        if random.below(2) == 0 {
                            return cond;
                        }
                        let other = body.push(Op::Compare(CompareOp::Ltu, b, a), Ty::Bool);
                        let both = body.push(
                            Op::Binary(
                                random.pick(&[BinaryOp::And, BinaryOp::Or, BinaryOp::Xor]),
                                cond,
                                other,
                            ),
                            Ty::Bool,
                        );
                        let not = body.push(Op::Unary(UnaryOp::Not, both), Ty::Bool);
                        body.push(Op::Select { cond: not, then: a, otherwise: b }, ty)
                    });
                    try_single(&mut random, &pipe);
                }
            }
            for to in Ty::INTEGERS {
                let pipe = single(&mut random, word, ty, |body, random, a, b| {
                    let there = to_ty(body, random, a, to);
                    let back = to_ty(body, random, there, ty);
                    body.push(Op::Binary(BinaryOp::Xor, back, b), ty)
                });
                try_single(&mut random, &pipe);
            }
        }
    }
}

#[test]
fn shifts_by_every_constant() {
    let mut random = Random::new(2);
    let ops = [BinaryOp::Shl, BinaryOp::Shr, BinaryOp::Sar, BinaryOp::Rotl, BinaryOp::Rotr];
    for ty in Ty::INTEGERS {
        for op in ops {
            for count in 0..u64::from(ty.bits()) + 2 {
                let pipe = single(&mut random, ty, ty, |body, _, a, _| {
                    let count = body.push(Op::Const(count & ty.mask()), ty);
                    body.push(Op::Binary(op, a, count), ty)
                });
                let draws = random.fork();
                for features in most_and_least() {
                    let mut random = draws.clone();
                    let code = compile_all(&[&pipe], features).unwrap();
                    let bytes = random.bytes(130);
                    check(&code, &[&pipe], &[], 0, &bytes, &mut random);
                }
            }
        }
    }
}

#[test]
fn look_ups() {
    let mut random = Random::new(3);
    for word in Ty::INTEGERS {
        for elements in Ty::INTEGERS {
            for log_len in [0, 1, 3, 4, 5, 6, 7, 8, 11] {
                let values: Vec<u64> = (0..1 << log_len).map(|_| random.next() & elements.mask()).collect();
                let mut pipe = single(&mut random, word, word, |body, _, a, b| {
                    let found = body.push(Op::Lookup(TableId(0), a), elements);
                    let found = match elements.bits().cmp(&word.bits()) {
                        std::cmp::Ordering::Equal => found,
                        std::cmp::Ordering::Less => body.push(Op::Convert(ConvertOp::Sext, found), word),
                        std::cmp::Ordering::Greater => body.push(Op::Convert(ConvertOp::Trunc, found), word),
                    };
                    body.push(Op::Binary(BinaryOp::Add, found, b), word)
                });
                pipe.tables = vec![Table { name: "t".into(), ty: elements, values: Arc::from(values) }];
                try_single(&mut random, &pipe);
            }
        }
    }
}
