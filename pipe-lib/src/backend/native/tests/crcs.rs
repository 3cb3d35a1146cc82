//! CRCs by instruction and by table.

use super::*;
use crate::analyse::gf2::{Crc, Padding};

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

/// A CRC step by shifts and a table, as programs have it: of a word's bytes one after the other, in a
/// register of type `ty`.
fn crc_by_table(crc: Crc, ty: Ty, word: Ty, tail: Tail) -> Pipe {
    let register = ty.bits();
    // Where a byte meets the register, and what is looked up goes back.
    let (start, down, mask): (u32, u32, Option<u64>) = match (crc.reflected, crc.padding) {
        (true, _) => (0, 0, None),
        (false, Padding::Message(_)) => (register - 8, register - 8, None),
        (false, Padding::Dropped(_)) if crc.bits < 8 => (0, 0, None),
        (false, Padding::Dropped(_)) => (crc.bits - 8, crc.bits - 8, Some(u64::MAX >> (64 - crc.bits))),
    };
    let short = crc.bits < 8 && matches!(crc.padding, Padding::Dropped(_));
    let eight = |index: u64| {
        if short {
            // The remainder of a byte by a register of eight bits.
            let upper = Crc { padding: Padding::Message(8 - crc.bits), ..crc };
            (0..8).fold(index, |value, _| upper.step(value)) >> (8 - crc.bits)
        } else {
            (0..8).fold(index << start, |value, _| crc.step(value))
        }
    };
    let gauge = Gauge::new(word, Endian::Little);
    let mut pipe = pipe(gauge, gauge, tail, vec![state(ty)]);
    let mut body = Block::default();
    let input = body.push(Op::In, word);
    let mut register_now = body.push(Op::State(StateId(0)), ty);
    let bytes = word.bytes() as u64;
    for at in 0..bytes {
        // The most significant byte is the first one where bits are in natural order.
        let at = if crc.reflected { at } else { bytes - 1 - at };
        let count = body.push(Op::Const(8 * at), word);
        let byte = body.push(Op::Binary(BinaryOp::Shr, input, count), word);
        let byte = if word == Ty::U8 { byte } else { body.push(Op::Convert(ConvertOp::Trunc, byte), Ty::U8) };
        let old = register_now;
        let index = if short {
            let up = body.push(Op::Const(8 - u64::from(crc.bits)), Ty::U8);
            let low = if ty == Ty::U8 { old } else { body.push(Op::Convert(ConvertOp::Trunc, old), Ty::U8) };
            let old = body.push(Op::Binary(BinaryOp::Shl, low, up), Ty::U8);
            body.push(Op::Binary(BinaryOp::Xor, old, byte), Ty::U8)
        } else {
            let down = body.push(Op::Const(u64::from(down)), ty);
            let top = body.push(Op::Binary(BinaryOp::Shr, old, down), ty);
            let byte = if ty == Ty::U8 { byte } else { body.push(Op::Convert(ConvertOp::Zext, byte), ty) };
            body.push(Op::Binary(BinaryOp::Xor, top, byte), ty)
        };
        let found = body.push(Op::Lookup(TableId(0), index), ty);
        let mut next = found;
        if ty != Ty::U8 && !short {
            let eight = body.push(Op::Const(8), ty);
            let op = if crc.reflected { BinaryOp::Shr } else { BinaryOp::Shl };
            let moved = body.push(Op::Binary(op, old, eight), ty);
            next = body.push(Op::Binary(BinaryOp::Xor, moved, found), ty);
        }
        if let Some(mask) = mask {
            let mask = body.push(Op::Const(mask), ty);
            next = body.push(Op::Binary(BinaryOp::And, next, mask), ty);
        }
        register_now = next;
    }
    let values: Vec<u64> = (0..256).map(eight).collect();
    pipe.tables = vec![Table { name: "t".into(), ty, values: Arc::from(values) }];
    pipe.body = body;
    pipe.next = vec![register_now];
    pipe
}

fn check_crc(pipe: &Pipe, random: &mut Random) {
    let lengths = (0..150).chain([255, 256, 257, 319, 512, 700, 1460, 4096 + 33]).collect::<Vec<_>>();
    check_crc_of(pipe, &lengths, random);
}

fn check_crc_of(pipe: &Pipe, lengths: &[usize], random: &mut Random) {
    let draws = random.fork();
    for features in feature_sets().into_iter().chain([Features::AVX2 | Features::PCLMUL]) {
        let random = &mut draws.clone();
        if !features.has(Features::PCLMUL) || !Features::detected().has(features) {
            continue;
        }
        let code =
            compile_all(&[pipe], features).unwrap_or_else(|what| panic!("{what} {features:?}\n{pipe:#?}"));
        for &len in lengths {
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
                let crc = Crc::whole(ty.bits(), poly, reflected);
                let pipe = crc_by_table(crc, ty, Ty::U8, Tail::Reject);
                assert_eq!(found(&pipe), Some(crc));
                check_crc(&pipe, &mut random);
            }
        }
    }
}

/// What the one state is taken for.
fn found(pipe: &Pipe) -> Option<Crc> {
    match VectorStage::of(&Analysed::new(pipe.clone().into()), crate::plan::target::LaneOps::All)
        .unwrap()
        .forms[0]
    {
        StateForm::Crc(found, _) => Some(found),
        _ => None,
    }
}

/// What is imported beside the remainder counts, too: a few words of message, or nothing.
#[test]
fn remainders_narrower_than_their_registers() {
    let mut random = Random::new(18);
    let lengths: Vec<usize> = (0..34).chain([63, 64, 65, 71, 128, 130, 257, 600]).collect();
    for bits in 1..64 {
        for place in 0..3 {
            let smallest = Ty::INTEGERS.into_iter().find(|ty| ty.bits() > bits).unwrap();
            let wider = random.pick(&Ty::INTEGERS);
            let ty = if wider.bits() > bits { wider } else { smallest };
            let padding = ty.bits() - bits;
            let (reflected, padding) = [
                (true, Padding::Message(padding)),
                (false, Padding::Message(padding)),
                (false, Padding::Dropped(padding)),
            ][place];
            let poly = (random.next() & (u64::MAX >> (64 - bits))) | 1;
            let crc = Crc { bits, poly, reflected, padding };
            let word = random.pick(&[Ty::U8, Ty::U8, Ty::U16, Ty::U32, Ty::U64]);
            let tail = random.pick(&[Tail::Zero, Tail::Partial, Tail::Pass]);
            let pipe = crc_by_table(crc, ty, word, tail);
            match found(&pipe) {
                Some(found) => assert_eq!(found, crc, "{ty} {word}"),
                // A short polynomial may divide x^n - 1 for a word of n bits; then nothing is multiplied by
                // anything.
                None => assert!(bits <= 8, "{crc:?} {ty} {word}"),
            }
            check_crc_of(&pipe, &lengths, &mut random);
        }
    }
}

#[test]
fn a_table_with_one_wrong_entry_is_no_crc() {
    let mut pipe = crc_by_table(Crc::whole(32, 0x04c1_1db7, false), Ty::U32, Ty::U8, Tail::Reject);
    let mut values = pipe.tables[0].values.to_vec();
    values[77] ^= 1;
    pipe.tables[0].values = Arc::from(values);
    assert!(VectorStage::of(&Analysed::new(pipe.clone().into()), crate::plan::target::LaneOps::All).is_err());
}

/// With vectors of 256 bits, where the bytes of the CRC lie in memory as they are; and without 512-bit
/// multiplication every CRC is taken by such vectors.
#[test]
fn the_crc32_instruction_works_beside_narrow_vectors() {
    let detected = Features::detected();
    if !detected.has(Features::AVX2 | Features::PCLMUL) {
        println!("skipped: no AVX2 or no carry-less multiplication");
        return;
    }
    let narrow = Features::AVX2 | Features::PCLMUL;
    let without_wide = detected.without(Features::VPCLMUL);
    let plan = |text: &str, features| {
        let pipeline = crate::Library::standard().pipeline(text).unwrap();
        let options = crate::CompileOptions {
            backend: crate::Backend::Native,
            features: Some(features),
            ..crate::CompileOptions::default()
        };
        crate::inspect::plan(pipeline.composition(), &options).unwrap()
    };
    for text in ["crc32c", "inet_cksum | crc32c", "inet_cksum | byteswap32 | crc32c"] {
        for features in [narrow, without_wide] {
            let plan = plan(text, features);
            assert!(plan.contains("`crc32` instruction beside"), "{text}, {features}:\n{plan}");
        }
    }
    for text in ["crc32", "crc32c | byteswap32", "byteswap32 | crc16_t10dif", "crc64_nvme"] {
        for features in [narrow, without_wide] {
            let plan = plan(text, features);
            assert!(!plan.contains("`crc32` instruction beside"), "{text}, {features}:\n{plan}");
        }
    }
}

/// The instruction's sums have one register: of two CRCs that could have it, one gets it, in one loop.
#[test]
fn the_crc32_instruction_works_for_one_of_two_states() {
    let features = Features::AVX2 | Features::PCLMUL;
    if !Features::detected().has(features) {
        println!("skipped: no AVX2 or no carry-less multiplication");
        return;
    }
    let twice = "pipe twice : u32le {
        state a: u32 = 1; state b: u32 = 2
        in x; crc32c a, a, x; xor y, x, 5; crc32c b, b, x; export a; export b
    }";
    let mut library = crate::Library::standard();
    library.load("twice.pipe", twice).unwrap();
    let mut random = Random::new(77);
    for text in ["crc32c as a | crc32c as b", "crc32c as a | xor32(key=7) | crc32c as b", "twice"] {
        let pipeline = library.pipeline(text).unwrap();
        let run = |backend| {
            let options = crate::CompileOptions { backend, ..Default::default() }.features(Some(features));
            pipeline.compile_with(&options).unwrap()
        };
        let (native, interpreter) = (run(crate::Backend::Native), run(crate::Backend::Interp));
        for len in (0..600).step_by(4).chain([4096, 5000]) {
            let src: Vec<u8> = (0..len).map(|_| random.number() as u8).collect();
            let (mut is, mut wanted) = (vec![0; len], vec![0; len]);
            let found = native.run(&src, &mut is).unwrap();
            let oracle = interpreter.run(&src, &mut wanted).unwrap();
            assert_eq!(is, wanted, "{text}, {len}");
            assert!(found.exports().eq(oracle.exports()), "{text}, {len}");
        }
    }
}
