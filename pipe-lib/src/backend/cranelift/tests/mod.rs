//! Cranelift's code against the unfused oracle.

mod lanes;
mod systems;

use super::compile;
use crate::backend::PassCode;
use crate::backend::testing::{Use, Xorshift, compare, compare_many, gauge, listing, random_pipe};
use crate::ir::builder::PipeBuilder;
use crate::ir::{BinaryOp, CompareOp, ConvertOp, CrcOp, Endian, Gauge, Pipe, Tail, Ty};

pub(crate) fn inet_cksum() -> Pipe {
    let mut b = PipeBuilder::new("inet_cksum", Gauge::new(Ty::U16, Endian::Big));
    b.tail(Tail::Zero);
    let sum = b.state("sum", Ty::U16, 0);
    let (x, old) = (b.input(), b.read(sum));
    let new = b.binary(BinaryOp::Addc, old, x);
    b.set(sum, new);
    b.export_state("sum", sum);
    b.finish().unwrap()
}

pub(crate) fn byteswap32() -> Pipe {
    let mut b = PipeBuilder::new("byteswap32", Gauge::new(Ty::U32, Endian::Big));
    b.output_gauge(Gauge::new(Ty::U32, Endian::Little));
    let x = b.input();
    b.output(x);
    b.finish().unwrap()
}

pub(crate) fn xor32(key: u64) -> Pipe {
    let mut b = PipeBuilder::new("xor32", Gauge::new(Ty::U32, Endian::Big));
    b.tail(Tail::Partial);
    let (x, key) = (b.input(), b.literal(Ty::U32, key));
    let y = b.binary(BinaryOp::Xor, x, key);
    b.output(y);
    b.finish().unwrap()
}

fn count_byte(byte: u64) -> Pipe {
    let mut b = PipeBuilder::new("count_byte", Gauge::U8);
    let count = b.state("count", Ty::U64, 0);
    let (x, byte) = (b.input(), b.literal(Ty::U8, byte));
    let hit = b.compare(CompareOp::Eq, x, byte);
    let one = b.convert(ConvertOp::Zext, hit, Ty::U64);
    let old = b.read(count);
    let new = b.binary(BinaryOp::Add, old, one);
    b.set(count, new);
    b.finish().unwrap()
}

fn crc(op: CrcOp, ty: Ty) -> Pipe {
    let mut b = PipeBuilder::new("crc", Gauge::new(ty, Endian::Little));
    let acc = b.state("crc", Ty::U32, 0xffff_ffff);
    let (x, old) = (b.input(), b.read(acc));
    let new = b.crc(op, old, x);
    b.set(acc, new);
    b.finish().unwrap()
}

/// Exclusive or with a key that repeats every four bytes, byte by byte.
fn ws_mask(key: u64) -> Pipe {
    let mut b = PipeBuilder::new("ws_mask", Gauge::U8);
    let (x, pos) = (b.input(), b.pos());
    let three = b.literal(Ty::U64, 3);
    let phase = b.binary(BinaryOp::And, pos, three);
    let eight = b.literal(Ty::U64, 8);
    let shift = b.binary(BinaryOp::Mul, phase, eight);
    let key = b.literal(Ty::U64, key);
    let shifted = b.binary(BinaryOp::Shr, key, shift);
    let byte = b.convert(ConvertOp::Trunc, shifted, Ty::U8);
    let y = b.binary(BinaryOp::Xor, x, byte);
    b.output(y);
    b.finish().unwrap()
}

fn check(stages: &[Pipe], vector: bool) {
    let stages: Vec<&Pipe> = stages.iter().collect();
    let code = compile(&stages, gauge(&stages)).unwrap();
    assert_eq!(code.scalar_because().is_none(), vector, "{:?}", code.scalar_because());
    compare_many(&code, &stages, &mut Xorshift::new(7), 400);
}

#[test]
fn known_pipes() {
    check(&[], true);
    check(&[inet_cksum()], true);
    check(&[byteswap32()], true);
    check(&[inet_cksum(), byteswap32(), xor32(0xdead_beef)], true);
    check(&[xor32(0x0102_0304), inet_cksum(), byteswap32(), inet_cksum()], true);
    check(&[count_byte(0), count_byte(0xff), count_byte(10)], true);
    check(&[ws_mask(0x1234_5678), inet_cksum()], true);
    check(&[inet_cksum(), ws_mask(0x1234_5678), count_byte(3)], true);
}

#[test]
fn remainders_run_word_by_word() {
    for op in [CrcOp::Crc32, CrcOp::Crc32c] {
        for ty in Ty::INTEGERS {
            check(&[crc(op, ty)], false);
        }
    }
}

#[test]
fn random_pipes_with_vector_forms() {
    let mut vector = 0;
    for seed in 0..120 {
        let mut rng = Xorshift::new(seed);
        let stages: Vec<Pipe> = (0..1 + rng.below(3)).map(|_| random_pipe(&mut rng, true)).collect();
        let stages: Vec<&Pipe> = stages.iter().collect();
        let code = compile(&stages, gauge(&stages))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}: {}", listing(&stages)));
        vector += usize::from(code.scalar_because().is_none());
        compare_many(&code, &stages, &mut rng, 60);
    }
    assert!(vector > 20, "only {vector} of them had a vector form");
}

#[test]
fn random_pipes_of_any_kind() {
    for seed in 1000..1120 {
        let mut rng = Xorshift::new(seed);
        let stages: Vec<Pipe> = (0..1 + rng.below(3)).map(|_| random_pipe(&mut rng, false)).collect();
        let stages: Vec<&Pipe> = stages.iter().collect();
        let code = compile(&stages, gauge(&stages))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}: {}", listing(&stages)));
        compare_many(&code, &stages, &mut rng, 60);
    }
}

#[test]
fn extremes_of_extended_words() {
    for op in [BinaryOp::Smax, BinaryOp::Smin, BinaryOp::Max, BinaryOp::Min, BinaryOp::Xor] {
        for word in Ty::INTEGERS {
            for ty in Ty::INTEGERS.into_iter().filter(|ty| ty.bits() > word.bits()) {
                for convert in [ConvertOp::Zext, ConvertOp::Sext] {
                    let mut b = PipeBuilder::new("extreme", Gauge::new(word, Endian::Little));
                    let state = b.state("state", ty, 3);
                    let (x, old) = (b.input(), b.read(state));
                    let wide = b.convert(convert, x, ty);
                    let new = b.binary(op, old, wide);
                    b.set(state, new);
                    check(&[b.finish().unwrap()], true);
                }
            }
        }
    }
}

/// Pipes written in the language.
fn parsed(source: &str, pipeline: &str) -> Vec<Pipe> {
    let mut library = crate::Library::standard();
    library.load("test.pipe", source).unwrap_or_else(|errors| panic!("{errors:?}"));
    let pipeline = library.pipeline(pipeline).unwrap_or_else(|errors| panic!("{errors:?}"));
    pipeline.composition().stages.iter().map(|stage| (*stage.pipe).clone()).collect()
}

#[test]
fn states_that_pass_from_word_to_word() {
    for pipeline in [
        "delta8",
        "undelta8",
        "delta32",
        "undelta32",
        "adler32",
        "fletcher16",
        "fletcher32",
        "delta8 | undelta8 | inet_cksum",
        "adler32 | xor8(key=3) | delta32 | inet_cksum",
    ] {
        check(&parsed("", pipeline), true);
    }
    for op in ["add", "xor", "or", "and", "min", "max", "smin", "smax", "addc", "adds"] {
        for gauge in ["u8", "u16be", "u32le", "u64be"] {
            let ty = &gauge[..gauge.len() - if gauge == "u8" { 0 } else { 2 }];
            // Both values of the state are looked at, and a choice makes some words contribute nothing.
            let source = format!(
                "pipe p : {gauge} tail partial {{ state s: {ty} = 9; in x; eq c, x, 0; mov old, s; {op} t, s, x; \
                 sel s, c, s, t; xor y, old, s; out y; export s }}"
            );
            check(&parsed(&source, "p"), true);
        }
    }
}

#[test]
fn running_reductions_that_take_turns() {
    for pipeline in ["undelta_rgb", "undelta_rgba", "delta_rgb", "xor8(key=9) | undelta_rgb | inet_cksum"] {
        check(&parsed("", pipeline), true);
    }
    for op in ["add", "xor", "or", "and", "min", "max", "smin", "smax", "adds"] {
        for (gauge, ty, depth) in
            [("u8", "u8", 5), ("u8", "u8", 2), ("u16be", "u16", 2), ("u32le", "u32", 3), ("u64be", "u64", 2)]
        {
            let states: String = (1..=depth).map(|at| format!("state s{at}: {ty} = {at}; ")).collect();
            let moves: String = (2..=depth).rev().map(|at| format!("mov s{at}, s{}; ", at - 1)).collect();
            let source = format!(
                "pipe p : {gauge} tail partial {{ {states} in x; {op} y, s{depth}, x; xor z, y, s2; {moves} mov s1, y
                 out z; export s1; export s{depth} }}"
            );
            check(&parsed(&source, "p"), true);
        }
    }
}

#[test]
fn sums_modulo_a_power_of_two() {
    for source in [
        "pipe p : u8 { state s: u8 = 99; in x; shr h, x, 4; add a, s, h; and a, a, 15; and l, x, 15; add s, a, l
         and s, s, 15; shl t, a, 4; or y, t, s; out y; export s }",
        "pipe p : u16le tail partial { state s: u16 = 9999; in x; addmod s, s, x, 0x1000; out s; export s }",
    ] {
        check(&parsed(source, "p"), true);
    }
}

#[test]
fn long_sums_of_sums() {
    for pipeline in ["adler32", "fletcher16", "fletcher32"] {
        let pipes = parsed("", pipeline);
        let stages: Vec<&Pipe> = pipes.iter().collect();
        let code = compile(&stages, gauge(&stages)).unwrap();
        for byte in [0xff, 0x5a] {
            // Longer than one call takes, and not a whole number of registers.
            let data = vec![byte; 2 * super::run::MAX_ORDERED_CHUNKS * 16 + 40];
            let start = crate::backend::testing::initial(&stages);
            let how = crate::backend::testing::Use::Copy;
            crate::backend::testing::compare(&code, &stages, &start, 0, &data, [1, 2], how, &|| {
                pipeline.into()
            });
        }
    }
}

#[test]
fn a_loop_word_too_big_to_compile_is_refused() {
    let mut b = PipeBuilder::new("big", Gauge::U8);
    let state = b.state("state", Ty::U64, 0);
    let (x, mut value) = (b.input(), b.read(state));
    let wide = b.convert(ConvertOp::Zext, x, Ty::U64);
    for _ in 0..4000 {
        let product = b.binary(BinaryOp::Mul, value, wide);
        value = b.binary(BinaryOp::Xor, product, value);
    }
    b.set(state, value);
    let big = b.finish().unwrap();
    assert!(compile(&[&big, &xor32(1)], 4).is_err());
}

#[test]
fn products_modulo_64_bit_literals() {
    for m in [
        1,
        2,
        3,
        255,
        65_521,
        u64::from(u32::MAX),
        1 << 32,
        (1 << 61) - 1,
        1 << 63,
        (1 << 63) + 29,
        u64::MAX,
        0,
    ] {
        // Of the word and of the state, which may be far beyond the modulus.
        let source = format!(
            "pipe p : u64le tail partial {{ state s: u64 = 0xfedcba9876543210; in x; mulmod y, x, s, {m}; \
             mulmod z, x, x, {m}; xor s, s, x; xor o, y, z; out o; export s }}"
        );
        let pipes = parsed(&source, "p");
        let stages: Vec<&Pipe> = pipes.iter().collect();
        compare_many(&compile(&stages, 8).unwrap(), &stages, &mut Xorshift::new(m), 200);
    }
}

/// Every number of words after the last whole chunk, and every number of bytes after them.
#[test]
fn words_after_the_last_chunk() {
    for stages in [
        vec![inet_cksum(), byteswap32(), xor32(0xdead_beef)],
        parsed("", "delta32 | adler32 | inet_cksum"),
        parsed(
            "pipe p : u64be tail partial { state s: u64; in x; add s, s, x; not y, x; out y; export s }",
            "p | xor8(key=9)",
        ),
    ] {
        let stages: Vec<&Pipe> = stages.iter().collect();
        let code = compile(&stages, gauge(&stages)).unwrap();
        assert!(code.functions.by_chunks);
        let mut rng = Xorshift::new(11);
        for len in 1..100 {
            let data = rng.bytes(len);
            let start = crate::backend::testing::initial(&stages);
            for how in [Use::Copy, Use::InPlace, Use::ReadOnly] {
                compare(&code, &stages, &start, 0, &data, [5, 3], how, &|| listing(&stages));
            }
        }
    }
}

#[test]
fn arithmetic_modulo_anything() {
    for ty in Ty::INTEGERS {
        let top = 1 << (ty.bits() - 1);
        for m in [1, 2, 3, 77, 251, top - 1, top, top + 1, ty.mask() - 4, ty.mask(), 0] {
            // By a literal, and by a number that comes with the stream (now and then zero).
            let gauge = if ty == Ty::U8 { "u8".to_owned() } else { format!("{ty}le") };
            let source = format!(
                "pipe p : {gauge} tail partial {{ state s: {ty} = -3; in x; addmod y, x, s, {m}; mulmod z, s, x, {m}; \
                 addmod v, s, {m}, x; mulmod w, s, y, x; xor y, y, z; xor v, v, w; xor o, y, v; xor s, s, x; \
                 out o; export s }}"
            );
            let pipes = parsed(&source, "p");
            let stages: Vec<&Pipe> = pipes.iter().collect();
            compare_many(&compile(&stages, ty.bytes()).unwrap(), &stages, &mut Xorshift::new(m), 50);
        }
    }
}

/// The entry does what the pass does, and nothing for a length of nothing.
#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn entry_of_short_transfers() {
    let stages = [inet_cksum(), byteswap32(), xor32(9)];
    let stages: Vec<&Pipe> = stages.iter().collect();
    let code = compile(&stages, 4).unwrap();
    let entry = code.entry().unwrap();
    let mut rng = Xorshift::new(3);
    for len in 0..200 {
        let src = rng.bytes(len);
        let (mut direct, mut plain) = (vec![1; len + 1], vec![1; len + 1]);
        let mut states = [[0x1234]; 2];
        // SAFETY: one state, `len` bytes to read and `len` to write that do not overlap.
        unsafe {
            (entry.function)(states[0].as_mut_ptr(), 0, src.as_ptr(), direct.as_mut_ptr(), len);
            if len > 0 {
                code.run(states[1].as_mut_ptr(), 0, src.as_ptr(), plain.as_mut_ptr(), len);
            }
        }
        assert_eq!((direct, states[0]), (plain, states[1]), "{len}");
    }
}

/// With the fewest features, no instruction is left that a test of it could stumble over on another machine.
#[test]
#[cfg(target_arch = "x86_64")]
fn what_is_taken_away_is_not_used() {
    use crate::features::Features;
    use cranelift_codegen::settings::Configurable as _;
    let flags = |names: &str| {
        let mut builder = cranelift_codegen::isa::lookup_by_name("x86_64-unknown-linux-gnu").unwrap();
        let all = builder.iter().map(|setting| setting.name).filter(|name| name.starts_with("has_"));
        all.collect::<Vec<_>>().into_iter().for_each(|name| builder.enable(name).unwrap());
        super::keep_to(&mut builder, Features::named(names).unwrap()).unwrap();
        let isa = super::finish(builder, "single_pass").unwrap();
        let on = isa.isa_flags().into_iter().filter(|flag| flag.as_bool() == Some(true));
        on.map(|flag| flag.name).filter(|name| name.contains("avx")).collect::<Vec<_>>()
    };
    assert_eq!(flags("none"), [""; 0]);
    if Features::named("avx2").is_ok() {
        assert_eq!(flags("avx2"), ["has_avx", "has_avx2"]);
    }
}
