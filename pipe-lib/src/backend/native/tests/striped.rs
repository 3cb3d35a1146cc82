//! Stores to striped buffers.

use super::pipelines::stage;
use super::*;
use crate::ir::Stripe;

#[test]
fn striped_stores_write_the_same_and_nothing_else() {
    let mut random = Random::new(15);
    for seed in 0..40 {
        let mut random_stage = Random::new(7000 + seed);
        let pipes: Vec<Pipe> = (0..1 + random_stage.below(3)).map(|_| stage(&mut random_stage)).collect();
        let pipes: Vec<&Pipe> = pipes.iter().collect();
        let draws = random.fork();
        for features in feature_sets() {
            let mut random = draws.clone();
            let data = [8, 16, 32, 64][random.below(4)];
            let stripe = Stripe { data, gap: data * [1, 3, 7][random.below(3)] };
            let Ok(code) = compile(&analysed(&pipes), features, Stripes { source: None, sink: Some(stripe) })
            else {
                continue;
            };
            let Some(place) = &code.to_stripes else {
                // A run of two vectors has no hole between them.
                assert!(data == 64 && code.vector_bytes == 32, "{stripe:?} {pipes:#?}");
                continue;
            };
            let states: Vec<u64> = pipes
                .iter()
                .flat_map(|pipe| &pipe.states)
                .map(|state| random.number() & state.ty.mask())
                .collect();
            for len in [1, 8, 31, 63, 64, 65, 200, 256, 1000, 1460] {
                let bytes = random.bytes(len);
                let mut plain = vec![0; len];
                let to = random.below(64);
                let mut target = vec![0x5a; stripe.offset(len as u64) as usize + 128];
                let mut got = [states.clone(), states.clone()];
                // SAFETY: buffers of that length which do not overlap, and all states.
                unsafe {
                    code.call(&code.copying, got[0].as_mut_ptr(), 0, bytes.as_ptr(), plain.as_mut_ptr(), len);
                    code.call(place, got[1].as_mut_ptr(), 0, bytes.as_ptr(), target[to..].as_mut_ptr(), len);
                }
                let mut want = vec![0x5a; target.len()];
                for (at, byte) in plain.iter().enumerate() {
                    want[to + stripe.offset(at as u64) as usize] = *byte;
                }
                assert_eq!(target, want, "{len} {stripe:?} {pipes:#?}");
                assert_eq!(got[0], got[1], "{len} {stripe:?} {pipes:#?}");
            }
        }
    }
}

#[test]
fn striped_loads_read_the_same_and_no_hole() {
    let mut random = Random::new(16);
    for seed in 0..60 {
        let mut random_stage = Random::new(7000 + seed);
        let pipes: Vec<Pipe> = (0..1 + random_stage.below(3)).map(|_| stage(&mut random_stage)).collect();
        let pipes: Vec<&Pipe> = pipes.iter().collect();
        let draws = random.fork();
        for features in feature_sets() {
            let mut random = draws.clone();
            let data = [8, 16, 32, 64][random.below(4)];
            let stripe = Stripe { data, gap: data * [1, 3, 7][random.below(3)] };
            let stripes = Stripes { source: Some(stripe), sink: None };
            let Ok(code) = compile(&analysed(&pipes), features, stripes) else { continue };
            let Some(place) = &code.from_stripes else {
                // A run of two vectors has no hole between them.
                assert!(data == 64 && code.vector_bytes == 32, "{stripe:?} {pipes:#?}");
                continue;
            };
            let states: Vec<u64> = pipes
                .iter()
                .flat_map(|pipe| &pipe.states)
                .map(|state| random.number() & state.ty.mask())
                .collect();
            for len in [1, 8, 31, 63, 64, 65, 200, 256, 1000, 1460] {
                let bytes = random.bytes(len);
                let from = random.below(64);
                let end = from + stripe.offset(len as u64 - 1) as usize + 1;
                // What lies in the holes must not matter.
                let mut striped = random.bytes(end);
                for (at, byte) in bytes.iter().enumerate() {
                    striped[from + stripe.offset(at as u64) as usize] = *byte;
                }
                let (mut plain, mut target) = (vec![0x5a; len + 64], vec![0x5a; len + 64]);
                let mut got = [states.clone(), states.clone()];
                // SAFETY: buffers of that length which do not overlap, and all states.
                unsafe {
                    code.call(&code.copying, got[0].as_mut_ptr(), 0, bytes.as_ptr(), plain.as_mut_ptr(), len);
                    code.call(
                        place,
                        got[1].as_mut_ptr(),
                        0,
                        striped[from..].as_ptr(),
                        target.as_mut_ptr(),
                        len,
                    );
                }
                assert_eq!(target, plain, "{len} {stripe:?} {pipes:#?}");
                assert_eq!(got[0], got[1], "{len} {stripe:?} {pipes:#?}");
            }
        }
    }
}
