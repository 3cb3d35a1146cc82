//! Whether each way sees what is wrong.

use super::Case;
use crate::backend::oracle::{self, Outcome};
use crate::testing::Rng;
use crate::{Backend, Library};

fn judged(pipeline: &str, len: usize, change: impl Fn(&mut Outcome)) -> Vec<String> {
    let engine =
        Library::standard().pipeline(pipeline).unwrap().compile_with(&Backend::Interp.into()).unwrap();
    let stream = Rng::new(1).bytes(len);
    let mut expected = oracle::run(engine.composition(), &[], &stream).unwrap();
    change(&mut expected);
    let mut seen: Vec<String> = Vec::new();
    for seed in 0..40 {
        let (imports, rng) = (engine.imports(), Rng::new(seed + 40 * len as u64));
        let mut case =
            Case { engine: &engine, imports, expected: &Ok(expected.clone()), stream: &stream, rng };
        if let Err((how, what)) = case.run(1) {
            seen.push(format!("{how}: {what}"));
        }
    }
    seen
}

#[test]
fn what_goes_through_layouts_counts_in_each_way() {
    for pipeline in
        ["byteswap16 -> lance", "lance -> delta8 | inet_cksum per 6 -> min60", "lance -> byteswap32"]
    {
        let right = judged(pipeline, 64, |_| {});
        assert!(right.is_empty(), "{right:?}");
        let changes: [fn(&mut Outcome); 3] = [
            |outcome| outcome.output[63] ^= 1,
            |outcome| outcome.output[15] ^= 1,
            |outcome| outcome.output[0] ^= 1,
        ];
        let seen: Vec<_> = (64..88)
            .step_by(4)
            .zip(changes.into_iter().cycle())
            .flat_map(|(len, change)| judged(pipeline, len, change))
            .collect();
        assert!(seen.iter().any(|what| what.contains("by Chunks")), "{seen:?}");
        let is_pictured = seen.iter().any(|what| what.contains("output Picture"));
        assert_eq!(is_pictured, !pipeline.ends_with("byteswap32"), "{seen:?}");
    }
    let seen = judged("lance -> delta8", 64, |outcome| outcome.registers[0] ^= 1);
    assert!(seen.iter().any(|what| what.contains("by Addresses") && what.contains("register")), "{seen:?}");
}

#[test]
fn registers_count_in_each_way() {
    for pipeline in ["delta8", "xor8(key=3) | inet_cksum per 16", "crc32c per 7 | fletcher16"] {
        let (right, wrong) =
            (judged(pipeline, 64, |_| {}), |outcome: &mut Outcome| outcome.registers[0] ^= 1);
        assert!(right.is_empty(), "{right:?}");
        let seen = judged(pipeline, 64, wrong);
        assert!(seen.len() == 40 && seen.iter().all(|what| what.contains("register")), "{seen:?}");
        for how in ["copied, in parts", "in place, in parts", "read only, in parts", "stream in", "gather"] {
            assert!(seen.iter().any(|what| what.contains(how)), "{how} is not among {seen:?}");
        }
    }
}
