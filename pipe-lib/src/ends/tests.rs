//! Both ends of a device against the map that layouts are defined by, whatever the chunks.

use super::{LayoutSink, LayoutSource, Sink, Source, sink_len, source_len};
use crate::ir::{Layout, Stripe};
use crate::testing::Rng;

const GUARD: usize = 64;

fn layout(rng: &mut Rng) -> Layout {
    let store = [None, Some(1), Some(2), Some(4), Some(8)][rng.below(5)];
    let fixed = store.is_some() && rng.below(4) == 0;
    let unit = store.map_or(1, u32::from);
    let stripe = (!fixed && rng.below(4) > 0)
        .then(|| Stripe { data: unit * (1 + rng.below(40) as u32), gap: unit * rng.below(20) as u32 });
    let pad = [0, 0, 1, 60, 500][rng.below(5)];
    Layout { name: "device".to_owned(), doc: String::new(), stripe, store, fixed, pad }
}

/// A buffer of `len` bytes aligned to eight, between guards.
fn buffer(len: usize) -> Vec<u64> {
    vec![0x5a5a_5a5a_5a5a_5a5a; (len + 2 * GUARD).div_ceil(8)]
}

fn bytes(buffer: &[u64]) -> Vec<u8> {
    buffer.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn what_a_sink_takes_in_any_chunks_lands_by_the_map_and_nowhere_else() {
    let mut rng = Rng::new(31);
    for round in 0..3000 {
        let layout = layout(&mut rng);
        let stream: Vec<u8> = (0..rng.below(700)).map(|at| (at * 7 + round) as u8).collect();
        let len = sink_len(&layout, stream.len()).unwrap();
        let mut memory = buffer(len);
        // SAFETY: within the buffer.
        let base = unsafe { memory.as_mut_ptr().cast::<u8>().add(GUARD) };
        let mut sink = LayoutSink::new(&layout, base);
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let n = 1 + rng.below(rest.len().min(150));
            // SAFETY: the buffer has `sink_len` bytes for the stream.
            unsafe { sink.put(rest.as_ptr(), n) };
            rest = &rest[n..];
        }
        // SAFETY: as above.
        unsafe { sink.end() };
        let store = usize::from(layout.store.unwrap_or(1));
        let mut padded = stream.clone();
        padded.resize(stream.len().max(layout.pad as usize).next_multiple_of(store), 0);
        let mut want = vec![0x5a; 8 * memory.len()];
        for (at, byte) in padded.iter().enumerate() {
            let place = match (layout.fixed, layout.stripe) {
                (true, _) => at % store,
                (false, Some(stripe)) => stripe.offset(at as u64) as usize,
                (false, None) => at,
            };
            assert!(place < len, "{place} of {len}: {layout:?}");
            want[GUARD + place] = *byte;
        }
        assert_eq!(bytes(&memory), want, "{} bytes, {layout:?}", stream.len());
    }
}

#[test]
fn what_a_source_gives_in_any_chunks_is_read_by_the_map() {
    let mut rng = Rng::new(32);
    for round in 0..3000 {
        let layout = layout(&mut rng);
        let count = rng.below(700);
        let len = source_len(&layout, count).unwrap();
        let mut memory = buffer(len);
        for (at, word) in memory.iter_mut().enumerate() {
            *word = (at as u64 + round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        let data = bytes(&memory);
        // SAFETY: within the buffer.
        let base = unsafe { memory.as_ptr().cast::<u8>().add(GUARD) };
        let mut source = LayoutSource::new(&layout, base);
        let mut got = vec![0; count];
        let mut at = 0;
        while at < count {
            let n = 1 + rng.below((count - at).min(150));
            // SAFETY: the buffer has `source_len` bytes for the stream, and `got` room for `n` more.
            unsafe { source.take(got[at..].as_mut_ptr(), n) };
            at += n;
        }
        let store = usize::from(layout.store.unwrap_or(1));
        for (at, byte) in got.iter().enumerate() {
            let place = match (layout.fixed, layout.stripe) {
                (true, _) => at % store,
                (false, Some(stripe)) => stripe.offset(at as u64) as usize,
                (false, None) => at,
            };
            assert_eq!(*byte, data[GUARD + place], "byte {at} of {count}, {layout:?}");
        }
    }
}
