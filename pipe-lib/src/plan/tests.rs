//! Fused scalar blocks against the unfused oracle, with no code generator in between, and what schedules look
//! like.

use super::{Plan, scalar};
use crate::analyse::Analysed;
use crate::backend::testing::{Xorshift, gauge, initial, listing, oracle, random_pipe};
use crate::features::Features;
use crate::ir::{Op, Pipe, StateId, Tail};
use crate::select::{Wanted, select};
use crate::testing::{Generator, Judge, Rng as Random};
use crate::{Backend, CompileOptions, Library, inspect};

/// Runs a fused block as a code generator's function would.
fn run(fused: &scalar::Fused, states: &mut [u64], t: u64, raw: u64, pos: u64) -> u64 {
    let values = fused.block.evaluate(&fused.tables, |leaf| match leaf {
        Op::In => raw,
        Op::Pos => pos,
        Op::State(StateId(state)) => states.get(state as usize).copied().unwrap_or(t),
        leaf => unreachable!("{leaf:?}"),
    });
    for (state, next) in states.iter_mut().zip(&fused.next) {
        *state = values[next.0 as usize];
    }
    fused.out.map_or(raw, |out| values[out.0 as usize])
}

#[test]
fn fused_blocks_agree_with_the_stages_one_by_one() {
    for seed in 0..300 {
        let mut rng = Xorshift::new(seed);
        let pipes: Vec<Pipe> = (0..1 + rng.below(3)).map(|_| random_pipe(&mut rng, seed % 2 == 0)).collect();
        let stages: Vec<&Pipe> = pipes.iter().collect();
        let gauge = gauge(&stages);
        let (word, tail) = (scalar::word(&stages, gauge), scalar::tail(&stages, gauge));
        for _ in 0..10 {
            let len = stages
                .iter()
                .filter(|pipe| pipe.tail == Tail::Reject)
                .fold(rng.below(4 * gauge), |len, pipe| len / pipe.word_bytes() * pipe.word_bytes());
            let data = rng.bytes(len);
            let (mut expected, mut expected_states) = (data.clone(), initial(&stages));
            oracle(&stages, &mut expected_states, 0, &mut expected);
            let mut states = initial(&stages);
            let mut found = Vec::new();
            for (i, piece) in data.chunks(gauge).enumerate() {
                let mut raw = [0; 8];
                raw[..piece.len()].copy_from_slice(piece);
                let block = if piece.len() == gauge { &word } else { &tail };
                let out =
                    run(block, &mut states, piece.len() as u64, u64::from_le_bytes(raw), (i * gauge) as u64);
                found.extend_from_slice(&out.to_le_bytes()[..piece.len()]);
            }
            assert_eq!(
                (found, states),
                (expected, expected_states),
                "seed {seed}: {len} bytes, {}",
                listing(&stages)
            );
        }
    }
}

#[track_caller]
fn passes(pipeline: &str, expected: &[&str]) {
    let pipeline = Library::standard().pipeline(pipeline).unwrap();
    let composition = pipeline.composition();
    let stages = Analysed::all(composition.stages.iter().map(|stage| &stage.pipe));
    let targets = Wanted::new(Backend::Cranelift, None, false).targets;
    let plan = Plan::new(composition, &stages, &targets);
    let found: Vec<String> = plan
        .passes
        .iter()
        .map(|pass| pass.stages(composition).map(|stage| stage.name.as_str()).collect::<Vec<_>>().join(" | "))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn what_is_wide_shares_a_loop() {
    passes("inet_cksum | byteswap32 | xor32(key=1)", &["inet_cksum | byteswap32 | xor32"]);
    passes("inet_cksum | byteswap32 | crc32c", &["inet_cksum | byteswap32", "crc32c"]);
    // The sum moves past the CRC: both only look. The swap cannot.
    passes("inet_cksum | crc32c | xor8(key=1)", &["crc32c", "inet_cksum | xor8"]);
    passes("crc32c | inet_cksum | byteswap32", &["crc32c", "inet_cksum | byteswap32"]);
    passes("byteswap32 | crc32c | xor8(key=1)", &["byteswap32", "crc32c", "xor8"]);
    passes("byteswap32 | crc32c | inet_cksum", &["byteswap32 | inet_cksum", "crc32c"]);
    passes("crc32 | crc32c", &["crc32", "crc32c"]);
}

#[test]
fn windows_that_fit_the_loop_word_share_a_loop() {
    passes("inet_cksum per 1460 | byteswap32", &["inet_cksum | byteswap32"]);
    passes("inet_cksum per 1462 | byteswap32", &["inet_cksum", "byteswap32"]);
}

#[track_caller]
fn reads(pipeline: &str, parts: &[&str]) {
    let pipeline = Library::standard().pipeline(pipeline).unwrap();
    let text = inspect::plan(pipeline.composition(), &Backend::Cranelift.into()).unwrap();
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
}

#[test]
fn a_plan_reads_without_the_code() {
    reads(
        "inet_cksum | byteswap32 | xor32(key=0xdeadbeef) | crc32c",
        &[
            "2 passes",
            "pass 1: inet_cksum | byteswap32 | xor32",
            "state sum: u16 is reduction by addc",
            "bswap",
            "bytes swapped",
            "the first one copies, the others work in place\n",
            "pass 2: crc32c",
        ],
    );
    reads("inet_cksum as a | byteswap32 | inet_cksum as b", &["rewrite ", "b.sum is a.sum, bytes swapped"]);
    reads("inet_cksum -> lance", &["layout `lance`: runs of 16 bytes, holes of 16"]);
    reads("fnv1a64", &["serial: ", "word after word, because of this", "mul"]);
    reads("byteswap32 | byteswap32 as back", &["gone", "a plain copy"]);
}

#[test]
#[cfg(native)]
fn what_has_too_few_registers_is_cut_in_halves() {
    let taps =
        (0..60).map(|byte| format!("count_byte(b = {byte}) as s{byte}")).collect::<Vec<_>>().join(" | ");
    let text = format!("xor8(key = 3) | {taps}");
    let pipeline = Library::standard().pipeline(&text).unwrap();
    let Ok(engine) = pipeline.compile_with(&Backend::Native.into()) else { return };
    assert!(engine.passes() > 1 && engine.passes() < 20, "{} passes", engine.passes());
    let data: Vec<u8> = (0..10_007u32).map(|i| ((i * i) >> 3) as u8).collect();
    let mut written = vec![0; data.len()];
    let run = engine.run(&data, &mut written).unwrap();
    for byte in 0..60u8 {
        let count = data.iter().filter(|x| **x ^ 3 == byte).count() as u64;
        assert_eq!(run.export(&format!("s{byte}.count")), Ok(count));
    }
    assert!(data.iter().zip(&written).all(|(a, b)| a ^ 3 == *b));
}

/// Stages of every kind: wide in each backend, in one of them, in none.
const KINDS: &str = "
    pipe toggle : u8 { state n: u8; in x; not n, n; xor y, x, n; out y }
    pipe hash : u8 { state h: u8 = 7; in x; mul h, h, x; export h }
    pipe jump : u8 { state s: u8; in x; rotl s, s, x; xor y, x, s; out y }
    pipe shift : u8 { in x; and n, x, 7; shr y, 0xa5, n; xor y, y, x; out y }
    pipe square : u8 { table t: u8 = [ LIST ]; in x; lookup y, t, x; out y }
    pipe before : u8 { state a: u8; state b: u8; in x; xor y, x, a; mov a, b; mov b, x; out y }
    pipe fibonacci : u16le tail zero { state s: u16; in x; mul s, s, s; add s, s, x; export s }
";

/// The stages that make `Auto`'s code take one word after the other although alone they would not, as text.
fn dragged_down(composition: &crate::compose::Composition, options: &CompileOptions) -> Option<String> {
    let (plan, made) = select(composition, options).unwrap();
    let apart = CompileOptions { separate_passes: true, ..options.clone() };
    let (places, alone) = select(composition, &apart).unwrap();
    // Digests go before the others.
    let alone = |stage: usize| &alone[places.passes.iter().position(|pass| pass.stages == [stage]).unwrap()];
    let serial = plan.passes.iter().zip(&made).filter(|(_, made)| made.code.is_serial());
    let mut stages = serial.flat_map(|(pass, _)| &pass.stages);
    let wide =
        stages.find(|stage| alone(**stage).backend != Backend::Interp && !alone(**stage).code.is_serial())?;
    Some(format!("`{}` of\n{}", composition.stages[*wide].name, plan.describe_code(composition, &made)))
}

#[test]
fn what_is_wide_alone_is_wide_in_company() {
    let list: Vec<String> = (0..256u32).map(|x| (x * x % 251).to_string()).collect();
    let mut library = Library::standard();
    library
        .load("kinds.pipe", &KINDS.replace("LIST", &list.join(", ")))
        .unwrap_or_else(|errors| panic!("{errors:?}"));
    let mut options = vec![CompileOptions::default(), Backend::Cranelift.into()];
    options.extend(["", "avx2"].into_iter().filter_map(|names| {
        let features = Features::named(names).ok()?;
        Some(CompileOptions { features: Some(features), ..CompileOptions::default() })
    }));
    let texts = [
        "toggle | square | shift | rot13",
        "jump | square | shift | rot13",
        "jump | crc32 | adler32 | rot13",
        "square | hash | shift | crc32c | inet_cksum | fibonacci | before | rot13 | crc32 as again",
        "hash | fibonacci | fnv1a64 | newline_count | before | square",
    ];
    // Between them, one stage each that nothing runs wide, and that nothing is put to.
    for text in texts {
        let pipeline = library.pipeline(text).unwrap_or_else(|errors| panic!("{errors:?}"));
        for options in &options {
            assert_eq!(dragged_down(pipeline.composition(), options), None, "{text}, {options:?}");
        }
    }
    for seed in 0..150 {
        let composition = Generator::new(&mut Random::new(seed)).composition();
        // Of 128 bits, Cranelift has no values.
        let wide = composition.stages.iter().any(|stage| stage.pipe.is_wide());
        for options in options.iter().filter(|options| !wide || options.backend != Backend::Cranelift) {
            assert_eq!(dragged_down(&composition, options), None, "seed {seed}, {options:?}");
        }
    }
}

#[test]
#[cfg(native)]
fn a_crc_stays_with_what_the_native_backend_takes() {
    let Ok(features) = Features::named("avx2,pclmul") else { return };
    let mut library = Library::standard();
    library
        .load("kinds.pipe", "pipe jump : u8 { state s: u8; in x; rotl s, s, x; xor y, x, s; out y }")
        .unwrap();
    let pipeline = library.pipeline("jump | byteswap32 | crc32c | adler32 | rot13").unwrap();
    let options = CompileOptions { features: Some(features), ..CompileOptions::default() };
    let (plan, made) = select(pipeline.composition(), &options).unwrap();
    assert_eq!(
        plan.passes.iter().map(|pass| &pass.stages[..]).collect::<Vec<_>>(),
        [&[0][..], &[1, 2, 3, 4]]
    );
    assert_eq!(made[1].backend, Backend::Native);
}

/// What is proved and planned knows of code generators by the targets that they publish alone.
#[test]
fn nothing_here_imports_a_backend() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source.join("plan"), source.join("analyse")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_test = path.file_stem().is_some_and(|name| name == "tests");
            if path.is_dir() && !is_test {
                folders.push(path);
            } else if path.is_file() && !is_test {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                assert!(!code.contains("crate::backend"), "{}", path.display());
                files += 1;
            }
        }
    }
    assert!(files > 30, "{files}");
}

/// What each word contributes becomes a literal only when it is computed in as few bits as are wanted: the
/// running result is that literal, or what it was before.
#[test]
fn a_running_result_may_come_out_as_a_literal() {
    let mut rng = Random::new(29);
    for (op, mask) in
        [("min", "and w, w, 0x400000000000"), ("and", "and w, w, 0x4000"), ("max", "or w, w, 0x40ff")]
    {
        for (states, result) in [
            ("state s: u8 = 0xcf", format!("{op} s, s, t; out s")),
            (
                "state r: u8 = 0xcf; state g: u8; state b: u8 = 0xfe",
                format!("{op} y, b, t; mov b, g; mov g, r; mov r, y; out y"),
            ),
        ] {
            let text =
                format!("pipe p : u8 {{ {states}; in x; sext.u64 w, x; {mask}; trunc t, w; {result} }}");
            let mut library = Library::standard();
            library.load("p.pipe", &text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let composition = library.pipeline("p").unwrap().composition().clone();
            let backends = [Backend::Interp, Backend::Cranelift, Backend::Native, Backend::Auto];
            let judge =
                Judge::new(composition, &backends).unwrap_or_else(|failure| panic!("{text}: {failure}"));
            for len in [0, 1, 15, 64, 300] {
                judge.judge(&mut rng, len).unwrap_or_else(|failure| panic!("{text}: {failure}"));
            }
        }
    }
}
