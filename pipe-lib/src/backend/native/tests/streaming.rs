//! Stores around the caches.

use super::pipelines::stage;
use super::*;

#[test]
fn streaming_stores_write_the_same() {
    let mut random = Random::new(14);
    // Both functions made, and calls that did not fall back on the ordinary one: from an aligned destination, and with a
    // head before it.
    let (mut compiled, mut aligned, mut with_head) = (0, 0, 0);
    for seed in 0..40 {
        let mut random_stage = Random::new(5000 + seed);
        let pipes: Vec<Pipe> = (0..1 + random_stage.below(3)).map(|_| stage(&mut random_stage)).collect();
        let pipes: Vec<&Pipe> = pipes.iter().collect();
        for features in feature_sets() {
            let Ok(code) = compile_all(&pipes, features) else { continue };
            assert!(code.streaming().is_some(), "{pipes:#?}");
            compiled += 1;
            let states: Vec<u64> = pipes
                .iter()
                .flat_map(|pipe| &pipe.states)
                .map(|state| random.number() & state.ty.mask())
                .collect();
            for len in [1, 63, 64, 65, 200, 1000, 1460] {
                let bytes = random.bytes(len);
                let mut target = [vec![0x5a; len + 256], vec![0x5a; len + 256]];
                let mut got = [states.clone(), states.clone()];
                let to = random.below(64);
                match to.wrapping_neg() % code.vector_bytes {
                    0 => aligned += 1,
                    head if head < len && head % code.gauge == 0 => with_head += 1,
                    _ => {}
                }
                // SAFETY: buffers of that length which do not overlap, and all states.
                unsafe {
                    let (plain, streamed) = (target[0][to..].as_mut_ptr(), target[1].as_mut_ptr());
                    code.call(&code.copying, got[0].as_mut_ptr(), 0, bytes.as_ptr(), plain, len);
                    // As the driver's buffers would lie, `to` bytes behind some multiple of 64.
                    let streamed = streamed.add(streamed.addr().wrapping_neg() % 64 + to);
                    code.stream(got[1].as_mut_ptr(), 0, bytes.as_ptr(), streamed, len);
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
