//! CRCs by instruction and by table.

use super::*;

/// A CRC step by the instruction.
pub(super) fn crc_by_instruction(random: &mut Random, op: CrcOp, word: Ty) -> Pipe {
    let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
    let mut pipe = pipe(gauge(random, word), gauge(random, word), tail, vec![state(Ty::U32)]);
    let mut body = Block::default();
    let input = body.push(Op::In, word);
    let old = body.push(Op::State(StateId(0)), Ty::U32);
    let x = if random.below(2) == 0 {
        input
    } else {
        let key = body.push(Op::Const(random.number() & word.mask()), word);
        let x = body.push(Op::Binary(BinaryOp::Add, input, key), word);
        pipe.out = Some(x);
        x
    };
    let next = body.push(Op::Crc(op, old, x), Ty::U32);
    pipe.body = body;
    pipe.next = vec![next];
    pipe
}

/// A CRC step by shifts and a table, as programs have it: the polynomial without its leading term, in the usual order.
fn crc_by_table(ty: Ty, poly: u64, reflected: bool) -> Pipe {
    let bits = ty.bits();
    let crc = gf2::Crc { bits, poly, reflected };
    let start = |index: u64| if reflected { index } else { index << (bits - 8) };
    let values: Vec<u64> =
        (0..256).map(|index| (0..8).fold(start(index), |value, _| crc.step(value))).collect();
    let mut pipe = pipe(Gauge::U8, Gauge::U8, Tail::Reject, vec![state(ty)]);
    let mut body = Block::default();
    let input = body.push(Op::In, Ty::U8);
    let old = body.push(Op::State(StateId(0)), ty);
    let eight = body.push(Op::Const(8 % u64::from(bits)), ty);
    let byte = if bits > 8 { body.push(Op::Convert(ConvertOp::Zext, input), ty) } else { input };
    let index = if reflected || bits == 8 {
        body.push(Op::Binary(BinaryOp::Xor, old, byte), ty)
    } else {
        let down = body.push(Op::Const(u64::from(bits) - 8), ty);
        let top = body.push(Op::Binary(BinaryOp::Shr, old, down), ty);
        body.push(Op::Binary(BinaryOp::Xor, top, byte), ty)
    };
    let found = body.push(Op::Lookup(TableId(0), index), ty);
    let next = if bits == 8 {
        found
    } else {
        let op = if reflected { BinaryOp::Shr } else { BinaryOp::Shl };
        let moved = body.push(Op::Binary(op, old, eight), ty);
        body.push(Op::Binary(BinaryOp::Xor, moved, found), ty)
    };
    pipe.tables = vec![Table { name: "t".into(), ty, values: Arc::from(values) }];
    pipe.body = body;
    pipe.next = vec![next];
    pipe
}

fn check_crc(pipe: &Pipe, random: &mut Random) {
    for features in feature_sets().into_iter().chain([Features::AVX2 | Features::PCLMUL]) {
        if !features.has(Features::PCLMUL) {
            continue;
        }
        let code =
            compile_all(&[pipe], features).unwrap_or_else(|what| panic!("{what} {features:?}\n{pipe:#?}"));
        for len in (0..150).chain([255, 256, 257, 319, 512, 700, 1460, 4096 + 33]) {
            let bytes = random.bytes(len);
            let states = [random.number() & pipe.states[0].ty.mask()];
            check(&code, &[pipe], &states, 0, &bytes, random);
        }
    }
}

#[test]
fn crcs_by_instruction() {
    let mut random = Random::new(7);
    for op in CrcOp::ALL {
        for word in Ty::INTEGERS {
            for _ in 0..3 {
                let pipe = crc_by_instruction(&mut random, *op, word);
                check_crc(&pipe, &mut random);
            }
        }
    }
}

#[test]
fn crcs_of_values_narrower_and_wider_than_their_words() {
    let mut random = Random::new(17);
    for word in Ty::INTEGERS {
        for ty in Ty::INTEGERS.into_iter().filter(|ty| *ty != word) {
            let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
            let mut pipe =
                pipe(gauge(&mut random, word), gauge(&mut random, word), tail, vec![state(Ty::U32)]);
            let mut body = Block::default();
            let input = body.push(Op::In, word);
            let old = body.push(Op::State(StateId(0)), Ty::U32);
            let x = to_ty(&mut body, &mut random, input, ty);
            let next = body.push(Op::Crc(random.pick(CrcOp::ALL), old, x), Ty::U32);
            pipe.body = body;
            pipe.next = vec![next];
            check_crc(&pipe, &mut random);
        }
    }
}

#[test]
fn crcs_of_any_width_and_polynomial_by_table() {
    let mut random = Random::new(8);
    for ty in Ty::INTEGERS {
        for reflected in [false, true] {
            for _ in 0..3 {
                let poly = (random.next() & ty.mask()) | 1;
                let pipe = crc_by_table(ty, poly, reflected);
                let stage = strategy::Stage::of(&pipe);
                assert!(matches!(
                    &strategy::Study::of(&stage).unwrap().keeping[0],
                    strategy::Keeping::Crc(found, _) if *found == gf2::Crc { bits: ty.bits(), poly, reflected }
                ));
                check_crc(&pipe, &mut random);
            }
        }
    }
}

#[test]
fn a_table_with_one_wrong_entry_is_no_crc() {
    let mut pipe = crc_by_table(Ty::U32, 0x04c1_1db7, false);
    let mut values = pipe.tables[0].values.to_vec();
    values[77] ^= 1;
    pipe.tables[0].values = Arc::from(values);
    assert!(strategy::Study::of(&strategy::Stage::of(&pipe)).is_err());
}
