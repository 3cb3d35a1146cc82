//! Timing: contenders take turns, many short rounds, medians.

use crate::contenders::Contender;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// A stretch is repeated until it lasts this long, so that the clock's grain does not matter.
const STRETCH: Duration = Duration::from_micros(250);

/// What a contender reached at one size.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The contender.
    pub name: String,
    /// Median time of one run.
    pub median_ns: f64,
    /// The lower and the upper quartile.
    pub quartiles_ns: (f64, f64),
}

impl Measured {
    /// Gigabytes (10^9) of payload a second.
    pub fn gbps(&self, bytes: usize) -> f64 {
        bytes as f64 / self.median_ns
    }
}

/// Source and destination, aligned to a page; the destination a little further, so that a store is never
/// mistaken for the source of a load 4 KiB away.
#[derive(Debug)]
pub struct Buffers {
    src: Vec<u8>,
    dst: Vec<u8>,
    len: usize,
}

const PAGE: usize = 4096;
const DST_SKEW: usize = 1088;

impl Buffers {
    /// Buffers of `len` bytes, the source filled with noise.
    pub fn new(len: usize) -> Buffers {
        let mut x = 0x2545_f491_4f6c_dd1du64;
        let noise = std::iter::repeat_with(|| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        });
        let src = noise.take(len + 2 * PAGE).collect();
        Buffers { src, dst: vec![1; len + 2 * PAGE], len }
    }

    /// Source and destination.
    pub fn both(&mut self) -> (&[u8], &mut [u8]) {
        let from = self.src.as_ptr().align_offset(PAGE);
        let to = self.dst.as_ptr().align_offset(PAGE) + DST_SKEW;
        (&self.src[from..from + self.len], &mut self.dst[to..to + self.len])
    }
}

/// Times all contenders on `bytes` bytes, source and destination as hot as that size allows: `rounds` rounds,
/// in each of which everyone has a turn, beginning with another one each time.
pub fn measure(contenders: &[Contender], bytes: usize, rounds: usize) -> Vec<Measured> {
    let mut buffers = Buffers::new(bytes);
    let (src, dst) = buffers.both();
    let repeats: Vec<u32> = contenders
        .iter()
        .map(|contender| {
            let mut repeats = 1;
            // Twice, since the first run also pays for cold code and pages.
            stretch(contender, src, dst, 2);
            while repeats < 1 << 20 && stretch(contender, src, dst, repeats) < STRETCH {
                repeats *= 2;
            }
            repeats
        })
        .collect();
    let mut times: Vec<Vec<f64>> = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let i = (round + turn) % contenders.len();
            let time = stretch(&contenders[i], src, dst, repeats[i]);
            times[i].push(time.as_nanos() as f64 / f64::from(repeats[i]));
        }
    }
    let mut measured = Vec::new();
    for (contender, mut times) in contenders.iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let at = |quarter: usize| times[(times.len() - 1) * quarter / 4];
        measured.push(Measured {
            name: contender.name.clone(),
            median_ns: at(2),
            quartiles_ns: (at(1), at(3)),
        });
    }
    measured
}

fn stretch(contender: &Contender, src: &[u8], dst: &mut [u8], repeats: u32) -> Duration {
    let start = Instant::now();
    for _ in 0..repeats {
        black_box((contender.run)(black_box(src), black_box(&mut *dst)));
    }
    start.elapsed()
}
