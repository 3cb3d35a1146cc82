//! Rewritten passes against the oracle, and each rewrite with what must not be rewritten beside it.

use super::{Rewritten, rewrite};
use crate::Library;
use crate::analyse::ANALYSES;
use crate::analyse::Analysed;
use crate::backend::PassCode;
use crate::backend::interp::InterpCode;
use crate::backend::testing::{Xorshift, compare_many};
use crate::compose::Stage;
use crate::ir::Pipe;
use crate::options::Backend;
use crate::select::Wanted;
use crate::select::guarded::Guarded;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pipes beside the standard ones.
const PIPES: &str = "
    pipe mask32(m: u32) : u32le tail pass { in x; and y, x, m; out y }
    pipe low32(m: u32) : u32le tail partial { in x; and y, x, m; add y, y, 3; out y }
    pipe up32 : u32be tail partial { in x; shr y, x, 8; xor y, y, x; out y }
    pipe turn32 : u32le tail partial { in x; bswap y, x; out y }
    pipe down32 : u32be tail partial { in x; shl y, x, 8; xor y, y, x; out y }
    pipe swap32 : u32be -> u32le tail pass { in x; out x }
    pipe swap64 : u64le tail zero { in x; bswap y, x; out y }
    pipe sum16 : u16le tail zero { state s: u16 = 0; in x; addc s, s, x; export s }
    pipe sum32 : u32be tail pass { state s: u32 = 7; in x; add s, s, x; export s }
    pipe places : u8 { state s: u64 = 0; in x; pos p; zext w, x; mul w, w, p; add s, s, w; export s }
    pipe copy32 : u32le tail partial { in x; out x }
    pipe seek : u8 {
        state last: u32; state n: u64; in x; zext w, x; shl l, last, 8; or last, l, w; eq c, last, 0x01000001; zext b, c; add n, n, b
        export n; export last
    }
    pipe echo : u16be tail partial {
        state last: u64 = 7; in x; zext w, x; shl w, w, 48; trunc y, last; shr l, last, 16; add last, l, w; sub y, x, y; out y; export last
    }
    pipe three : u8 {
        state a: u32; state b: u16 = 1; state n: u16; in x; and m, a, 0xffff00; ne c, m, 0x10200; zext.u32 w, x; shl l, a, 8; xor a, l, w
        zext.u16 k, c; adds n, n, k; zext v, x; shr u, b, 8; shl v, v, 8; or b, u, v; trunc y, b; out y
        export a; export b; export n
    }
";

fn stages(pipeline: &str) -> Vec<Stage> {
    let mut library = Library::standard();
    library.load("test.pipe", PIPES).unwrap_or_else(|errors| panic!("{errors:?}"));
    let pipeline = library.pipeline(pipeline).unwrap_or_else(|errors| panic!("{errors:?}"));
    pipeline.composition().stages.clone()
}

fn rewritten(pipeline: &str) -> Option<Rewritten> {
    rewritten_of(&stages(pipeline))
}

fn rewritten_of(stages: &[Stage]) -> Option<Rewritten> {
    let analysed = Analysed::all(stages.iter().map(|stage| &stage.pipe));
    rewrite(stages.iter().zip(&analysed), &Wanted::new(Backend::Cranelift, None, false).targets)
}

/// The rewritten stages in the interpreter, as the engine would run them.
fn interpreted(rewritten: Rewritten, stages: &[Stage]) -> Guarded {
    let code: Box<dyn PassCode> = Box::new(InterpCode::new(&rewritten.stages));
    let as_written = Analysed::all(stages.iter().map(|stage| &stage.pipe)).into();
    let wanted = Wanted::new(Backend::Interp, None, false);
    Guarded::new(code, Arc::new(rewritten), as_written, wanted)
}

#[test]
fn random_pipelines_compute_the_same_before_and_after() {
    const MENU: [&str; 22] = [
        "byteswap16",
        "byteswap32",
        "byteswap32",
        "byteswap64",
        "swap32",
        "swap64",
        "xor8(key=7)",
        "xor8(key=0)",
        "xor32(key=0x01020304)",
        "mask32(m=0xff00ffff)",
        "low32(m=0xffff)",
        "up32",
        "down32",
        "inet_cksum",
        "inet_cksum",
        "sum16",
        "sum32",
        "seek",
        "echo",
        "three",
        "copy32",
        "turn32",
    ];
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..4000 {
        let mut rng = Xorshift::new(seed);
        let names: Vec<String> =
            (0..2 + rng.below(5)).map(|at| format!("{} as s{at}", rng.pick(&MENU))).collect();
        let stages = stages(&names.join(" | "));
        let Some(after) = rewritten_of(&stages) else { continue };
        for (kind, word) in [
            ("history", "kept by themselves"),
            ("gone", "gone"),
            ("one stage", "fewer"),
            ("twin", "start alike"),
            ("swap", "byte order"),
        ] {
            let times = after.notes.iter().filter(|note| note.contains(word)).count();
            *seen.entry(kind).or_default() += times as u32;
        }
        *seen.entry("swapped twin").or_default() +=
            after.links.iter().filter(|link| link.swapped).count() as u32;
        let code = interpreted(after, &stages);
        let pipes: Vec<&Pipe> = stages.iter().map(|stage| &*stage.pipe).collect();
        compare_many(&code, &pipes, &mut rng, 12);
    }
    for kind in ["history", "gone", "one stage", "twin", "swap", "swapped twin"] {
        assert!(seen.get(kind).is_some_and(|times| *times >= 20), "hardly tested: {kind} in {seen:?}");
    }
}

#[track_caller]
fn becomes(pipeline: &str, expected: &[&str]) {
    let rewritten = rewritten(pipeline).unwrap_or_else(|| panic!("{pipeline} stays as it is"));
    let found: Vec<&str> = rewritten.stages.iter().map(|pipe| pipe.name.as_str()).collect();
    assert_eq!(found, expected, "{pipeline}: {:?}", rewritten.notes);
}

#[track_caller]
fn stays(pipeline: &str) {
    if let Some(rewritten) = rewritten(pipeline) {
        panic!("{pipeline}: {:?}", rewritten.notes);
    }
}

#[test]
fn equal_taps_are_one() {
    becomes("inet_cksum as a | crc32c | inet_cksum as b", &["inet_cksum", "crc32c"]);
    becomes("adler32 as a | adler32 as b | adler32 as c", &["adler32"]);
    // Other bytes, other windows, other start, other tail.
    stays("inet_cksum as a | xor8(key=1) | inet_cksum as b");
    stays("inet_cksum as a per 8 | inet_cksum as b per 16");
    stays("inet_cksum as a | sum32");
}

#[test]
fn sums_cross_byte_swaps() {
    // Both are there, but only one is computed.
    becomes("inet_cksum as a | byteswap32 | inet_cksum as b", &["inet_cksum", "byteswap32"]);
    let twice = rewritten("inet_cksum as a | byteswap32 | inet_cksum as b").unwrap();
    assert!(twice.links[0].swapped && twice.holds(&[0x1234, 0x3412]) && !twice.holds(&[0x1234, 0x1234]));
    // Bytes swapped and swapped back, with a look in between.
    becomes("byteswap32 | inet_cksum | byteswap32 as back", &["inet_cksum"]);
    // The swap would leave a remainder in the order of the stream where the sum reads it; a sum does not
    // depend on position.
    stays("swap32 | inet_cksum | swap32 as back");
    stays("byteswap32 | places | byteswap32 as back");
    // A narrower swap than the tap's words.
    stays("byteswap16 | sum32 | byteswap16 as back");
}

#[test]
fn neighbours_without_states_are_one_stage() {
    becomes("byteswap32 | byteswap32 as back", &[]);
    becomes("xor32(key=1) | xor32(key=3) as again", &["xor32_xor32"]);
    becomes("mask32(m=0xff00) | mask32(m=0x0ff0) as again | inet_cksum", &["mask32_mask32", "inet_cksum"]);
    becomes("xor8(key=0) | inet_cksum", &["inet_cksum"]);
    // A byte that depends on a later one, behind a stage that writes what it makes of zeros.
    stays("turn32 | turn32 as again");
    stays("xor32(key=1) | byteswap64");
    // Seen in between.
    stays("xor32(key=1) | crc32c | xor32(key=3) as again");
}

#[test]
fn long_stages_stay_apart() {
    let ops: String = (0..200).map(|at| format!("mul x, x, 3; add x, x, {at}; ")).collect();
    let mut library = Library::standard();
    let text = format!("pipe p : u32be tail pass {{ in x; {ops} out x }}");
    library.load("long.pipe", &text).unwrap_or_else(|errors| panic!("{errors:?}"));
    let names: Vec<String> = (0..16).map(|at| format!("p as p{at}")).collect();
    let pipeline = library.pipeline(&names.join(" | ")).unwrap();
    let after = rewritten_of(&pipeline.composition().stages).expect("two are one stage");
    let sizes: Vec<usize> = after.stages.iter().map(|pipe| pipe.body.insts.len()).collect();
    assert!(sizes.len() < 16 && sizes.iter().all(|size| *size <= 2048), "{sizes:?}");
}

#[test]
fn instances_of_one_pipe_are_analysed_once() {
    let states: String = (0..60).map(|at| format!("state q{at}: u32; ")).collect();
    let moves: String = (1..60).rev().map(|at| format!("mov q{at}, q{}; ", at - 1)).collect();
    let text = format!(
        "pipe p : u32le {{ state t: u32; {states} in x; ltu c, q59, 1000; sel d, c, q59, t
            ltu e, d, 9000; sel d, e, x, d; mul t, t, d; {moves} mov q0, x; export t }}"
    );
    let mut library = Library::standard();
    library.load("queue.pipe", &text).unwrap_or_else(|errors| panic!("{errors:?}"));
    let analyses = |instances: usize| {
        let names: Vec<String> = (0..instances).map(|at| format!("p as p{at}")).collect();
        let pipeline = library.pipeline(&names.join(" | ")).unwrap();
        let before = ANALYSES.get();
        let composition = pipeline.composition();
        let stages = Analysed::all(composition.stages.iter().map(|stage| &stage.pipe));
        let targets = Wanted::new(Backend::Cranelift, None, false).targets;
        let plan = crate::plan::Plan::new(composition, &stages, &targets);
        let _ = rewritten_of(&composition.stages);
        let _ = plan.describe(composition);
        ANALYSES.get() - before
    };
    let one = analyses(1);
    assert!(one > 0 && one <= 6, "{one}");
    assert!(analyses(20) <= one + 20, "{} instead of {one}", analyses(20));
}

#[test]
fn every_backend_runs_what_was_rewritten() {
    let mut library = Library::standard();
    library.load("test.pipe", PIPES).unwrap();
    for text in [
        "inet_cksum as a | byteswap32 | inet_cksum as b | crc32c as c | crc32c as d",
        "byteswap32 | byteswap32 as back",
        "byteswap32 | inet_cksum | byteswap32 as back",
        "adler32 | xor8(key=9)",
        "xor8(key=0)",
        "inet_cksum as a per 12 | xor8(key=0) | inet_cksum as b per 12",
    ] {
        let pipeline = library.pipeline(text).unwrap();
        let backends = [Backend::Interp, Backend::Cranelift, Backend::Native, Backend::Auto];
        let judge = crate::testing::Judge::new(pipeline.composition().clone(), &backends).unwrap();
        let mut rng = crate::testing::Rng::new(1);
        for len in (0..40).map(|n| 4 * n).chain([1000, 4096, 10_000]) {
            judge.judge(&mut rng, len).unwrap_or_else(|failure| panic!("{text}: {failure:?}"));
        }
    }
}

#[test]
fn imports_that_differ_undo_a_merger() {
    let mut library = Library::standard();
    library.load("test.pipe", PIPES).unwrap();
    for (text, name) in
        [("inet_cksum as a | inet_cksum as b", "b.sum"), ("adler32 as a | adler32 as b", "a.a")]
    {
        let pipeline = library.pipeline(text).unwrap();
        let data: Vec<u8> = (0..1000).map(|i| (i * 7) as u8).collect();
        let values = [Backend::Interp, Backend::Cranelift, Backend::Auto].map(|backend| {
            let engine = pipeline.compile_with(&backend.into()).unwrap();
            let mut imports = engine.imports();
            imports.set(name, 0xfff7).unwrap();
            let run = engine.with(&imports).unwrap().run_read_only(&data).unwrap();
            engine.exports().iter().map(|export| run.export(&export.name).unwrap()).collect::<Vec<u64>>()
        });
        assert_eq!(values[0], values[1], "{text}");
        assert_eq!(values[0], values[2], "{text}");
    }
}

/// CRC-24 of OpenPGP as programs in C have it, in a register of 32 bits whose top bit is taken by a shift or
/// a comparison alone: carry-less multiplication where the register has no more than 24 bits at the start,
/// and what was written where an import has.
#[test]
fn crcs_in_wider_registers_run_as_such_from_what_fits() {
    for step in [
        "shr b, c, 23; shl c, c, 1; and c, c, 0xffffff; mul m, b, 0x864cfb; xor c, c, m",
        "shr b, c, 23; shl c, c, 1; neg m, b; and m, m, 0x1864cfb; xor c, c, m",
        "leu d, 0x800000, c; shl t, c, 1; xor u, t, 0x1864cfb; sel c, d, u, t",
    ] {
        let step = format!("{step}\n").repeat(8);
        let text = format!(
            "pipe p : u8 {{ state c: u32 = 0xb704ce; in x; zext w, x; shl w, w, 16; xor c, c, w\n{step} export c }}"
        );
        let mut library = Library::standard();
        library.load("crc24.pipe", &text).unwrap_or_else(|errors| panic!("{errors:?}"));
        let pipeline = library.pipeline("p | xor8(key=7) | p as after").unwrap();
        let backends = [Backend::Interp, Backend::Cranelift, Backend::Auto];
        let judge = crate::testing::Judge::new(pipeline.composition().clone(), &backends).unwrap();
        let mut rng = crate::testing::Rng::new(24);
        for len in (0..40).chain([1000, 4096, 10_000]) {
            judge.judge(&mut rng, len).unwrap_or_else(|failure| panic!("{step}: {failure:?}"));
        }
        let engine = library.pipeline("p").unwrap().compile().unwrap();
        #[cfg(native)]
        {
            use crate::Features;
            let is_wide = Features::detected().has(Features::AVX2 | Features::PCLMUL);
            assert_eq!(engine.backend() == Backend::Native, is_wide, "{step}");
        }
        // RFC 9580's example is the empty message; this is the catalogue's check value.
        let plain = engine.run_read_only(b"123456789").unwrap();
        assert_eq!(plain.export("p.c").unwrap(), 0x21_cf02, "{step}");
        let oracle = library.pipeline("p").unwrap().compile_with(&Backend::Interp.into()).unwrap();
        let data: Vec<u8> = (0..777).map(|i| (i * 7) as u8).collect();
        let values = [engine, oracle].map(|engine| {
            [0xff_ffff, 0x100_0000, 0xffff_ffff].map(|from| {
                let mut imports = engine.imports();
                imports.set("p.c", from).unwrap();
                engine.with(&imports).unwrap().run_read_only(&data).unwrap().export("p.c").unwrap()
            })
        });
        assert_eq!(values[0], values[1], "{step}");
    }
}
