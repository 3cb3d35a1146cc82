//! Interleaved runs of the contestants; medians.

use anyhow::Context as _;
use pipe_lib::ir::Frame;
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
    framing: Framing,
}

/// Fields between windows, at an end of the stream.
enum Framing {
    None,
    Sink(Arc<Frame>),
    /// With what makes a stream that has them.
    Source(Arc<Frame>, Engine),
}

impl Framing {
    fn of(composition: &Composition, options: &CompileOptions) -> anyhow::Result<Framing> {
        Ok(match (&composition.source_frame, &composition.sink_frame) {
            (None, None) => Framing::None,
            (None, Some(frame)) => Framing::Sink(Arc::clone(frame)),
            (Some(frame), _) => {
                let (source_frame, sink_frame) = (None, Some(Arc::clone(frame)));
                let maker = Composition { source_frame, sink_frame, ..composition.clone() };
                Framing::Source(Arc::clone(frame), Engine::compile(Arc::new(maker), options)?)
            }
        })
    }
}

/// Where the windows of a stream of `bytes` bytes are: in the stream, in the frame, and how long.
fn windows(frame: &Frame, bytes: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let window = usize::try_from(frame.window()).unwrap_or(usize::MAX);
    let starts = (0..bytes).step_by(window.clamp(1, bytes.max(1)));
    starts.map(move |at| (at, frame.offset(at as u64) as usize, window.min(bytes - at)))
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
        let framing_options = options.clone();
        let options = options.clone().separate_passes(true);
        let blocked = Engine::compile(Arc::new(composition.clone()), &options)?;
        let framing = Framing::of(composition, &framing_options)?;
        Ok(Contestants { fused, separate, blocked, framing })
    }

    /// The passes one after the other, over `source`, or what the first that writes makes of it in `target`.
    fn separate(&self, source: &[u8], target: &mut [u8]) {
        let mut stages = self.separate.iter();
        for engine in stages.by_ref() {
            if engine.composition().modifies() {
                drop(black_box(engine.run(source, target)));
                break;
            }
            drop(black_box(engine.run_read_only(source)));
        }
        for engine in stages {
            drop(black_box(engine.run_in_place(target)));
        }
    }

    fn modifies(&self) -> bool {
        self.fused.composition().modifies()
    }

    pub(super) fn measure(&self, bytes: usize) -> anyhow::Result<Row> {
        let what = || format!("{bytes} bytes");
        self.fused.check_length(bytes as u64).with_context(what)?;
        let lengths = [self.fused.source_len(bytes), self.fused.written_len(bytes)];
        let [Some(read), Some(written)] = lengths else {
            anyhow::bail!("{bytes} bytes are too many with a frame")
        };
        self.fused.out_len(read).with_context(what)?;
        let mut buffers = Buffers::new(bytes.max(read).max(written));
        let memcpy_near_gbps = copied_near(&mut buffers, bytes);
        let (plain, target) = buffers.at(bytes.max(read).max(written), SKEW);
        let plain = &plain[..bytes];
        let mut made = Vec::new();
        let mut scratch = Vec::new();
        match &self.framing {
            Framing::Source(_, maker) => {
                made.resize(read, 0);
                maker.run(plain, &mut made).with_context(what)?;
            }
            Framing::Sink(_) => scratch.resize(bytes, 0),
            Framing::None => {}
        }
        let source = if made.is_empty() { plain } else { &made };
        let mut ways: [Way<'_>; 4] = [
            Box::new(|target| drop(black_box(self.fused.run(source, target)))),
            Box::new(|target| match &self.framing {
                Framing::None => {
                    let Some((first, rest)) = self.separate.split_first() else {
                        return target[..bytes].copy_from_slice(source);
                    };
                    drop(black_box(first.run(source, target)));
                    for engine in rest {
                        drop(black_box(engine.run_in_place(&mut target[..bytes])));
                    }
                }
                Framing::Sink(frame) => {
                    self.separate(source, &mut scratch);
                    let stream = if self.modifies() { &scratch } else { source };
                    for (at, place, n) in windows(frame, bytes) {
                        target[place..place + n].copy_from_slice(&stream[at..at + n]);
                    }
                }
                Framing::Source(frame, _) => {
                    for (at, place, n) in windows(frame, bytes) {
                        target[at..at + n].copy_from_slice(&source[place..place + n]);
                    }
                    self.separate
                        .iter()
                        .for_each(|engine| drop(black_box(engine.run_read_only(&target[..bytes]))));
                }
            }),
            Box::new(|target| drop(black_box(self.blocked.run(source, target)))),
            Box::new(|target| target[..bytes].copy_from_slice(black_box(&source[..bytes]))),
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
