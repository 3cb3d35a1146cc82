//! Fused scalar blocks against the unfused oracle (no code generator in between), and what schedules look like.

use super::{Plan, scalar};
use crate::Library;
use crate::analyse::rewrite::evaluate;
use crate::backend::testing::{Rng, gauge, initial, listing, oracle, random_pipe};
use crate::ir::{Op, Pipe, StateId, Tail};

/// Runs a fused block as a code generator's function would.
fn run(fused: &scalar::Fused, states: &mut [u64], t: u64, raw: u64, pos: u64) -> u64 {
    let mut values: Vec<u64> = Vec::new();
    for (_, inst) in fused.block.iter() {
        let mut args = [0; 3];
        let mut ty = inst.ty;
        for (slot, operand) in args.iter_mut().zip(inst.op.operands()) {
            *slot = values[operand.0 as usize];
            ty = fused.block.ty(operand);
        }
        values.push(match inst.op {
            Op::In => raw,
            Op::Pos => pos,
            Op::State(StateId(state)) => states.get(state as usize).copied().unwrap_or(t),
            op => evaluate(&op, inst.ty, ty, args, &fused.tables).unwrap(),
        });
    }
    for (state, next) in states.iter_mut().zip(&fused.next) {
        *state = values[next.0 as usize];
    }
    fused.out.map_or(raw, |out| values[out.0 as usize])
}

#[test]
fn fused_blocks_agree_with_the_stages_one_by_one() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
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
    let plan = Plan::new(composition);
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
    let text = Plan::new(pipeline.composition()).describe(pipeline.composition());
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
            "pass 2: crc32c",
        ],
    );
    reads("inet_cksum as a | byteswap32 | inet_cksum as b", &["rewrite ", "b.sum is a.sum, bytes swapped"]);
    reads("inet_cksum -> lance", &["layout `lance`: runs of 16 bytes, holes of 16"]);
    reads("fnv1a64", &["serial: ", "word after word, because of this", "mul"]);
    reads("byteswap32 | byteswap32 as back", &["gone", "a plain copy"]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_has_too_few_registers_is_cut_in_halves() {
    use crate::Backend;
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
