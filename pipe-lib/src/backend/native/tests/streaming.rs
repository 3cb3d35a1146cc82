//! Stores around the caches.

use super::pipelines::stage;
use super::*;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction};

/// Instructions of a function.
fn decoded(code: &NativeCode, place: &Range<usize>) -> Vec<Instruction> {
    // Both as if they were at address 0: jumps and constants are relative.
    Decoder::with_ip(64, &code.code.bytes()[place.clone()], 0, DecoderOptions::NONE).into_iter().collect()
}

/// The function that goes around the caches is the ordinary one with other stores of whole vectors, and has
/// some.
fn check_instructions(code: &NativeCode) {
    let (plain, streaming) = (decoded(code, &code.copying), decoded(code, &code.streaming));
    assert_eq!(plain.len(), streaming.len());
    let mut streamed = 0;
    for (plain, streaming) in plain.iter().zip(&streaming) {
        let around = match plain.code() {
            Code::EVEX_Vmovdqu64_zmmm512_k1z_zmm => Code::EVEX_Vmovntdq_m512_zmm,
            Code::VEX_Vmovdqu_ymmm256_ymm => Code::VEX_Vmovntdq_m256_ymm,
            _ => Code::INVALID,
        };
        if streaming.code() == around {
            // Everything but the code is the same.
            let mut expected = *plain;
            expected.set_code(around);
            assert!(streaming.eq_all_bits(&expected), "{plain} {streaming}");
            streamed += 1;
        } else {
            assert!(streaming.eq_all_bits(plain), "{plain} {streaming}");
        }
    }
    assert!(streamed > 0);
}

#[test]
fn streaming_stores_write_the_same() {
    let mut random = Random::new(14);
    // Both functions made, and calls that did not fall back on the ordinary one: from an aligned destination,
    // and with a head before it.
    let (mut compiled, mut aligned, mut with_head) = (0, 0, 0);
    for seed in 0..40 {
        let mut random_stage = Random::new(5000 + seed);
        let pipes: Vec<Pipe> = (0..1 + random_stage.below(3)).map(|_| stage(&mut random_stage)).collect();
        let pipes: Vec<&Pipe> = pipes.iter().collect();
        let draws = random.fork();
        for features in feature_sets() {
            let mut random = draws.clone();
            let Ok(code) = compile_all(&pipes, features) else { continue };
            compiled += 1;
            check_instructions(&code);
            let states: Vec<u64> = pipes
                .iter()
                .flat_map(|pipe| &pipe.states)
                .map(|state| random.number() & state.ty.mask())
                .collect();
            for len in [1, 63, 64, 65, STREAMED_FROM, STREAMED_FROM + 1, 1460, 5000] {
                let bytes = random.bytes(len);
                let mut target = [vec![0x5a; len + 256], vec![0x5a; len + 256]];
                let mut got = [states.clone(), states.clone()];
                let to = random.below(64);
                match to.wrapping_neg() % code.vector_bytes {
                    0 => aligned += 1,
                    head if len >= STREAMED_FROM && head % code.gauge == 0 => with_head += 1,
                    _ => {}
                }
                // SAFETY: buffers of that length which do not overlap, and all states.
                unsafe {
                    let (plain, streamed) = (target[0][to..].as_mut_ptr(), target[1].as_mut_ptr());
                    code.call(&code.copying, got[0].as_mut_ptr(), 0, bytes.as_ptr(), plain, len);
                    // As the driver's buffers would lie, `to` bytes behind some multiple of 64.
                    let streamed = streamed.add(streamed.addr().wrapping_neg() % 64 + to);
                    code.run_streaming(got[1].as_mut_ptr(), 0, bytes.as_ptr(), streamed, len);
                    assert_eq!(
                        std::slice::from_raw_parts(streamed, len),
                        &target[0][to..to + len],
                        "{len} {pipes:#?}"
                    );
                }
                assert_eq!(got[0], got[1], "{len} {pipes:#?}");
                assert_eq!(
                    target[1].iter().filter(|byte| **byte != 0x5a).count(),
                    target[0].iter().filter(|byte| **byte != 0x5a).count()
                );
            }
        }
    }
    if !feature_sets().is_empty() {
        assert!(compiled > 20 && aligned > 0 && with_head > 20, "{compiled} {aligned} {with_head}");
    }
}
