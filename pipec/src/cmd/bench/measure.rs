//! Interleaved runs of the contestants; medians.

use anyhow::Context as _;
use pipe_lib::{CompileOptions, Composition, Engine, testing::Rng};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Samples of each contestant, and the time after which fewer will do.
const SAMPLES: usize = 21;
const FEWEST: usize = 3;
const PATIENCE: Duration = Duration::from_secs(4);
/// A sample repeats short runs until it takes about this long.
const SAMPLE: Duration = Duration::from_micros(200);

/// Speeds at one length, in 10^9 bytes of stream a second.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(super) struct Row {
    pub(super) bytes: usize,
    pub(super) fused_gbps: f64,
    pub(super) separate_gbps: f64,
    pub(super) blocked_gbps: f64,
    pub(super) memcpy_gbps: f64,
    /// `memcpy` where the destination stands two bytes further into its page than the source: see
    /// [`Buffers`].
    pub(super) memcpy_near_gbps: f64,
}

/// Where all contestants find their bytes.
///
/// The C library's `memcpy` copies some lengths by `rep movsb`, which on AMD's family 25 is slower by a
/// factor of 15 to 30 if the destination stands a few bytes further into its page than the source, whatever
/// pages these are. Buffers as an allocator happens to give them would show either. Here both begin with a
/// cache line, as far apart in their pages as keeps stores from being mistaken for the sources of later
/// loads; and `memcpy` is timed where the trap is, too.
struct Buffers {
    source: Vec<u8>,
    target: Vec<u8>,
}

const PAGE: usize = 4096;
/// How much further into its page than the source the destination begins.
const SKEW: usize = 1088;
/// From the source's offset in its page to the destination's, where `rep movsb` is slow.
const NEAR: usize = 2;

impl Buffers {
    fn new(bytes: usize) -> Buffers {
        Buffers { source: Rng::new(bytes as u64).bytes(bytes + PAGE), target: vec![0; bytes + 2 * PAGE] }
    }

    /// Source and destination, `skew` further into its page.
    fn at(&mut self, bytes: usize, skew: usize) -> (&[u8], &mut [u8]) {
        let (from, to) = (self.source.as_ptr().align_offset(PAGE), self.target.as_ptr().align_offset(PAGE));
        (&self.source[from..from + bytes], &mut self.target[to + skew..to + skew + bytes])
    }
}

/// A way to do the work, given the destination.
type Way<'a> = Box<dyn FnMut(&mut [u8]) + 'a>;

/// The same work done in three ways.
pub(super) struct Contestants {
    /// One loop.
    pub(super) fused: Engine,
    /// A loop a stage, each over the whole stream: the first copies, the others run in place.
    separate: Vec<Engine>,
    /// A loop a stage, taking turns over L1-sized blocks.
    blocked: Engine,
}

impl Contestants {
    pub(super) fn new(
        fused: Engine,
        composition: &Composition,
        options: &CompileOptions,
    ) -> anyhow::Result<Contestants> {
        let alone = |stage: &pipe_lib::compose::Stage| {
            let composition = Composition { stages: vec![stage.clone()], ..Composition::default() };
            Engine::compile(Arc::new(composition), options)
        };
        let separate = composition.stages.iter().map(alone).collect::<Result<_, _>>()?;
        let options = options.clone().separate_passes(true);
        let blocked = Engine::compile(Arc::new(composition.clone()), &options)?;
        Ok(Contestants { fused, separate, blocked })
    }

    pub(super) fn measure(&self, bytes: usize) -> anyhow::Result<Row> {
        self.fused.check_length(bytes as u64).with_context(|| format!("{bytes} bytes"))?;
        let mut buffers = Buffers::new(bytes);
        let memcpy_near_gbps = copied_near(&mut buffers, bytes);
        let (source, target) = buffers.at(bytes, SKEW);
        let mut ways: [Way<'_>; 4] = [
            Box::new(|target| drop(black_box(self.fused.run(source, target)))),
            Box::new(|target| {
                let Some((first, rest)) = self.separate.split_first() else {
                    return target.copy_from_slice(source);
                };
                drop(black_box(first.run(source, target)));
                for engine in rest {
                    drop(black_box(engine.run_in_place(target)));
                }
            }),
            Box::new(|target| drop(black_box(self.blocked.run(source, target)))),
            Box::new(|target| target.copy_from_slice(black_box(source))),
        ];
        // Once to warm up and to see how many runs make a sample.
        let counts: Vec<u32> = ways.iter_mut().map(|way| calibrate(way, target)).collect();
        let mut times: [Vec<f64>; 4] = Default::default();
        let start = Instant::now();
        for sample in 0..SAMPLES {
            if sample >= FEWEST && start.elapsed() > PATIENCE {
                break;
            }
            for ((way, &count), times) in ways.iter_mut().zip(&counts).zip(&mut times) {
                let start = Instant::now();
                for _ in 0..count {
                    way(target);
                    black_box(&mut *target);
                }
                times.push(start.elapsed().as_secs_f64() / f64::from(count));
            }
        }
        let [fused_gbps, separate_gbps, blocked_gbps, memcpy_gbps] =
            times.map(|mut times| gbps(bytes, &mut times));
        Ok(Row { bytes, fused_gbps, separate_gbps, blocked_gbps, memcpy_gbps, memcpy_near_gbps })
    }
}

/// Speed of `memcpy` where its trap is.
fn copied_near(buffers: &mut Buffers, bytes: usize) -> f64 {
    let (source, target) = buffers.at(bytes, NEAR);
    let mut way: Way<'_> = Box::new(|target| target.copy_from_slice(black_box(source)));
    let count = calibrate(&mut way, target);
    let mut times = Vec::with_capacity(FEWEST);
    for _ in 0..FEWEST {
        let start = Instant::now();
        for _ in 0..count {
            way(target);
            black_box(&mut *target);
        }
        times.push(start.elapsed().as_secs_f64() / f64::from(count));
    }
    gbps(bytes, &mut times)
}

/// By the median of some times in seconds; to three digits after the point.
fn gbps(bytes: usize, times: &mut [f64]) -> f64 {
    let gbps = bytes as f64 / median(times).max(1e-12) / 1e9;
    (gbps * 1000.0).round() / 1000.0
}

/// Runs that make up a sample.
fn calibrate(way: &mut dyn FnMut(&mut [u8]), target: &mut [u8]) -> u32 {
    way(target);
    let mut count = 1;
    loop {
        let start = Instant::now();
        for _ in 0..count {
            way(target);
            black_box(&mut *target);
        }
        if start.elapsed() >= SAMPLE || count >= 1 << 20 {
            return count;
        }
        count *= 2;
    }
}

/// The middle one, or the mean of the middle two.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_placed_alike_whatever_the_allocator_gives() {
        for bytes in [1, 256, 1460, 4096, 70_000] {
            let mut buffers = Buffers::new(bytes);
            for skew in [SKEW, NEAR] {
                let (source, target) = buffers.at(bytes, skew);
                assert_eq!((source.len(), target.len()), (bytes, bytes));
                assert_eq!((source.as_ptr().addr() % PAGE, target.as_ptr().addr() % PAGE), (0, skew));
            }
        }
    }
}
