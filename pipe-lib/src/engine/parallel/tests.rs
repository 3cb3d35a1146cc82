//! Runs in parts against runs in one: every bit of the output, every export, every register.

use super::LEAST_PART;
use crate::engine::{Engine, Prepared};
use crate::error::RunError;
use crate::options::CompileOptions;
use crate::plan::join::STEPS;
use crate::run::{ExportValue, Imports, Run};
use crate::testing::{Generator, Rng};
use crate::{Backend, Library};
use std::sync::Arc;

fn engine(source: &str, pipeline: &str, backend: Backend) -> Engine {
    let mut library = Library::standard();
    library.load("test.pipe", source).unwrap_or_else(|errors| panic!("{errors:?}"));
    let pipeline = library.pipeline(pipeline).unwrap_or_else(|errors| panic!("{errors:?}"));
    pipeline.compile_with(&backend.into()).unwrap()
}

fn random_imports(rng: &mut Rng, engine: &Engine) -> Imports {
    let mut imports = engine.imports();
    for register in engine.registers() {
        if rng.chance(1, 3) {
            imports.set(&register.name, rng.edge() & register.ty.mask()).unwrap();
        }
    }
    imports
}

/// What a run came to, for comparison.
fn outcome(engine: &Engine, run: Result<Run<'_>, RunError>, output: &[u8]) -> String {
    let run = match run {
        Ok(run) => run,
        Err(error) => return error.to_string(),
    };
    let mut text = format!("{} {}\n", run.read, run.written);
    for (info, value) in run.exports() {
        match value {
            ExportValue::One(value) => text += &format!("{} {value:x}\n", info.name),
            ExportValue::Windows(values) => text += &format!("{} {values:x?}\n", info.name),
            ExportValue::Digest(value) => text += &format!("{} {value}\n", info.name),
            ExportValue::Digests(values) => text += &format!("{} {values:?}\n", info.name),
        }
    }
    for register in engine.registers() {
        text += &format!("{} {:x}\n", register.name, run.register(&register.name).unwrap());
    }
    text + &format!("{output:x?}")
}

/// Copy, in place and read only, each in parts of at least `least` bytes, against the same in one.
fn check(
    engine: &Engine,
    imports: &Imports,
    stream: &[u8],
    [threads, least]: [usize; 2],
    label: &dyn std::fmt::Display,
) {
    let prepared: Prepared<'_> = engine.with(imports).unwrap();
    let same = |what: &str, expected: String, got: String| {
        let len = stream.len();
        assert_eq!(got, expected, "{what}, {len} bytes, {threads} threads, parts of {least} bytes: {label}");
    };
    let room = engine.written_len(engine.stream_len(stream.len())).unwrap();
    let (mut expected, mut got) = (vec![0xa5; room], vec![0xa5; room]);
    let one = outcome(engine, prepared.run(stream, &mut expected), &expected);
    let run = prepared.run_parts(stream, &mut got, threads, least);
    same("copy", one, outcome(engine, run, &got));
    let (mut expected, mut got) = (stream.to_vec(), stream.to_vec());
    let one = outcome(engine, prepared.run_in_place(&mut expected), &expected);
    let run = prepared.run_parts_in_place(&mut got, threads, least);
    same("in place", one, outcome(engine, run, &got));
    let one = outcome(engine, prepared.run_read_only(stream), &[]);
    same("read only", one, outcome(engine, prepared.run_parts_read_only(stream, threads, least), &[]));
}

#[test]
fn any_pipeline_in_parts_does_what_it_does_in_one() {
    let mut split = 0;
    for seed in 0..240 {
        let mut rng = Rng::new(seed);
        let composition = Arc::new(Generator::new(&mut rng).composition());
        let backend = *rng.pick(&[Backend::Interp, Backend::Interp, Backend::Auto]);
        let separate_passes = rng.chance(1, 4);
        let Ok(engine) = Engine::compile(
            composition,
            &CompileOptions { backend, separate_passes, features: None, serial: false },
        ) else {
            panic!("these take everything")
        };
        let engine = if rng.chance(1, 2) { engine.taken_for_big() } else { engine };
        for _ in 0..6 {
            let imports = random_imports(&mut rng, &engine);
            let longest = *rng.pick(&[40, 400, 12_000]);
            let len = rng.between(0, longest);
            let stream = rng.bytes(len);
            let (threads, least) = (rng.between(1, 8), rng.between(1, len / 2 + 1));
            check(&engine, &imports, &stream, [threads, least], &format_args!("seed {seed}"));
            split += usize::from(engine.serial_because(len as u64).is_none());
        }
    }
    assert!(split > 400, "only {split} of 1440 could be cut at all");
}

/// Whether it runs in parts, and that it does what it does in one.
fn is_cut(source: &str, pipeline: &str) -> bool {
    let mut rng = Rng::new(1);
    let mut cuts = Vec::new();
    for backend in [Backend::Interp, Backend::Cranelift, Backend::Auto] {
        let engine = engine(source, pipeline, backend);
        for (len, threads) in [(20_000, 2), (20_001, 3), (12_347, 8)] {
            let imports = if threads == 3 { random_imports(&mut rng, &engine) } else { engine.imports() };
            let stream = rng.bytes(len);
            check(&engine, &imports, &stream, [threads, 1], &pipeline);
            let prepared = engine.with(&imports).unwrap();
            // SAFETY: the stream is readable, and nothing is written.
            let parts = unsafe { prepared.parts(stream.as_ptr(), std::ptr::null_mut(), len, threads, 1) };
            cuts.push(parts.is_some());
        }
    }
    assert!(cuts.iter().all(|cut| *cut == cuts[0]), "{pipeline}: {cuts:?}");
    cuts[0]
}

#[test]
fn no_word_is_stepped_through_twice_before_the_parts_start() {
    // A counter modulo 1000 that comes round only after a while, and a delay, for which each part warms up.
    let source = "pipe p : u8 {
        state k: u32 = 5000; state last: u8
        in x; add t, k, 1; ltu c, t, 1000; sub u, t, 999; ltu d, t, 2000; sel u, d, 0, u; sel k, c, t, u
        trunc key, k; xor y, x, key; xor y, y, last; mov last, x; out y
    }";
    let engine = engine(source, "p", Backend::Interp);
    let stream = Rng::new(3).bytes(40_000);
    let before = STEPS.get();
    check(&engine, &engine.imports(), &stream, [16, 1], &"p");
    let steps = STEPS.get() - before;
    // Three runs in parts.
    assert!(steps > 3 * 1000 && steps < 3 * 1020, "{steps}");
}

/// States that are combinable with a length, in plain instructions.
const LINEAR: &str = "
    pipe horner : u8 { state h: u64 = 5381; in x; mul t, h, 33; zext w, x; add h, t, w; export h }
    pipe modular : u8 {
        state h: u32 = 1; in x; mulmod t, h, 257, 1000003; zext w, x; addmod h, t, w, 1000003; export h
    }
    pipe lfsr : u16le tail partial {
        state s: u16 = 1; in x; shl a, s, 1; shr b, s, 15; shl c, b, 5; or r, a, b; xor q, r, c; xor s, q, x; export s
    }
    pipe ring_sums : u16be tail zero { state a: u16; state b: u16; in x; addc a, a, x; addc b, b, a; export b }
    pipe wide_words : u8 { state crc: u32 = 7; in x; zext.u32 w, x; crc32 crc, crc, w; export crc }
    pipe keyed : u8 {
        state h: u32 = 5; state t: u8 = 3; state p: u8 = 1
        in x; add t, t, 7; xor v, x, t; xor v, v, p; mov p, x; zext w, v; mul h, h, 31; add h, h, w; export h
    }
    pipe sums_of_keyed : u8 {
        state a: u32 = 1; state b: u32; state c: u32; state t: u32 = 9
        in x; zext w, x; mul t, t, 5; add t, t, 1; xor w, w, t; add a, a, w; add b, b, a; add c, c, b; export c
    }
    pipe late_words : u8 {
        state p: u8 = 65; state l: u16 = 0x4100; state n: u32
        in x; zext w, p; shl l, l, 8; or l, l, w; mov p, x; and g, l, 0x0f03; eq c, g, 1; zext o, c; add n, n, o; export n; export l
    }
";

#[test]
fn standard_pipes_are_cut() {
    for pipeline in [
        "inet_cksum",
        "byteswap32 as a | inet_cksum",
        "crc32",
        "crc32c | xor8(key = 3)",
        "crc32 | crc32c | adler32",
        "adler32",
        "fletcher16 | fletcher32",
        "ws_mask(key = 0x12345678) | inet_cksum as cipher",
        "delta8",
        "delta8 as a | delta8 as b | inet_cksum",
        "min_max_u8 | newline_count",
        "crc16_t10dif | crc64_nvme",
        "horner | modular | lfsr | ring_sums | wide_words",
        "keyed | sums_of_keyed | late_words",
        "inet_cksum per 1460 | crc32c",
        "crc32 per 1000 | adler32 per 1000 | delta8",
        "fnv1a64 per 512 | undelta8 per 256",
        // No window ends within the stream.
        "crc32c per 1000000",
    ] {
        // Streams of odd length: 32-bit words reject them, which is the same answer in parts.
        assert!(is_cut(LINEAR, pipeline), "{pipeline}");
        assert_eq!(engine(LINEAR, pipeline, Backend::Interp).serial_because(20_000), None, "{pipeline}");
    }
}

#[test]
fn states_that_do_not_look_at_the_stream_are_forwarded() {
    let key = |update: &str| {
        format!(
            "pipe p : u8 tail partial {{ state k: u32 = 0x12345678; state j: u32 = 77; in x; \
             trunc.u8 low, k; xor y, x, low; out y; {update}; export k }}"
        )
    };
    for update in [
        "rotr k, k, 8",
        "add k, k, 7",
        "mul t, k, 1664525; add k, t, 1013904223",
        "shl a, k, 13; xor b, k, a; shr c, b, 17; xor d, b, c; shl e, d, 5; xor k, d, e",
        "not k, k",
        "bswap k, k",
        // Two that depend on one another.
        "add k, k, j; add j, j, 3",
        "xor t, k, j; mov k, j; rotl j, t, 1",
        // One comes round, after some words that do not.
        "eq c, k, 9; add t, k, 1; and m, t, 15; sel k, c, 0, m",
        "min k, k, 100",
        // Copies of the offset.
        "pos p; trunc.u32 k, p",
        "pos p; trunc.u32 j, p; mov k, j",
        // One that is forgotten after a word, and one that goes by it.
        "mov t, k; crc32c k, j, t; mov j, 0xfffd",
    ] {
        assert!(is_cut(&key(update), "p"), "{update}");
    }
    // This one takes every value there is before it comes round (Klimov and Shamir, 2002), and is not affine.
    assert!(!is_cut(&key("mul t, k, k; or u, t, 5; add k, k, u"), "p"));
}

#[test]
fn what_has_to_wait_runs_on_one_thread() {
    for pipeline in ["fnv1a64", "undelta8", "undelta32 | inet_cksum", "fnv1a64 per 40000 | fnv1a64 as b"] {
        assert!(!is_cut("", pipeline), "{pipeline}");
        let why = engine("", pipeline, Backend::Interp).serial_because(1 << 20).unwrap();
        assert!(why.contains("state `"), "{why}");
    }
    let layout = engine("", "inet_cksum -> lance", Backend::Interp);
    assert!(layout.serial_because(1 << 20).unwrap().contains("lance"));
}

#[test]
fn refusals_are_those_of_one_thread() {
    let engine = engine("", "byteswap32", Backend::Auto);
    let stream = vec![1; 3 * LEAST_PART + 1];
    let mut out = vec![0xa5; stream.len()];
    let error = engine.run_parallel(&stream, &mut out, 2).unwrap_err();
    assert_eq!(error, engine.run(&stream, &mut out).unwrap_err());
    let short = engine.run_parallel(&stream[..1 << 19], &mut out[..100], 2).unwrap_err();
    assert!(matches!(short, RunError::ShortDestination { needed, have: 100 } if needed == 1 << 19));
    assert!(out.iter().all(|byte| *byte == 0xa5));
}

#[test]
fn big_streams_through_the_public_calls() {
    let engine = engine("", "inet_cksum as a | byteswap32 | crc32c | inet_cksum as b", Backend::Auto);
    let stream = Rng::new(5).bytes(3 * LEAST_PART + 4096);
    let (mut one, mut two) = (vec![0; stream.len()], vec![0; stream.len()]);
    let expected = outcome(&engine, engine.run(&stream, &mut one), &[]);
    for threads in [0, 1, 2, 5] {
        two.fill(0);
        assert_eq!(outcome(&engine, engine.run_parallel(&stream, &mut two, threads), &[]), expected);
        assert!(one == two, "{threads} threads");
        let mut place = stream.clone();
        assert_eq!(outcome(&engine, engine.run_parallel_in_place(&mut place, threads), &[]), expected);
        assert!(one == place, "{threads} threads in place");
        let run = engine.run_parallel_read_only(&stream, threads).unwrap();
        let id = engine.exports()[2].id();
        assert_eq!(run.value(id), engine.run_read_only(&stream).unwrap().value(id));
    }
}

/// Fast-forwarding has numbers of 64 bits.
#[test]
fn what_goes_by_numbers_of_128_bits_is_not_fast_forwarded() {
    let mut library = Library::standard();
    let text = "pipe spin : u128le tail zero { state y: u128; in x; aesenc y, y, y; xor z, x, y; out z }";
    library.load("spin.pipe", text).unwrap();
    let engine = library.pipeline("spin").unwrap().compile().unwrap();
    let why = engine.serial_because(1 << 20).unwrap();
    assert!(why.contains("128 bits"), "{why}");
    check(&engine, &engine.imports(), &[7; 5000], [3, 1024], &"spin");
}
