//! Timing: contenders take turns, many short rounds; what is compared are the turns of one round.

use anyhow::Context;
use memmap2::{Advice, MmapMut};
use rivals::Sums;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Something to be timed: moves the bytes from a source to a destination and gives the sums.
pub trait Body {
    /// Once.
    fn run(&self, src: &[u8], dst: &mut [u8]) -> Sums;
    /// `repeats` times. Compiled for each body, so that nothing but its own call stands in the loop.
    fn stretch(&self, slots: &mut Slots<'_>, repeats: u32) -> Duration;
}

impl<F: Fn(&[u8], &mut [u8]) -> Sums> Body for F {
    fn run(&self, src: &[u8], dst: &mut [u8]) -> Sums {
        self(src, dst)
    }

    fn stretch(&self, slots: &mut Slots<'_>, repeats: u32) -> Duration {
        timed(slots, repeats, self)
    }
}

/// How long `run` takes, so many times.
#[inline(always)]
pub fn timed(slots: &mut Slots<'_>, repeats: u32, run: impl Fn(&[u8], &mut [u8]) -> Sums) -> Duration {
    let start = Instant::now();
    for _ in 0..repeats {
        let (src, dst) = slots.turn();
        // By reference, so that the sums stay where they were written: a copy would read two of them at once,
        // and a load wider than the stores it waits for takes longer than a short transfer.
        black_box(&run(black_box(src), black_box(dst)));
    }
    start.elapsed()
}

/// Where the bytes are when a transfer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// The same aligned buffers again and again: as near as the size allows.
    Hot,
    /// Each transfer has other buffers, out of memory several times larger than the last-level cache.
    Cold,
    /// Hot, source at an odd address, destination at another.
    Misaligned,
}

impl Condition {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Condition::Hot => "hot",
            Condition::Cold => "cold",
            Condition::Misaligned => "misaligned",
        }
    }
}

/// Memory for sources and destinations, made once.
#[derive(Debug)]
pub struct Arena {
    src: MmapMut,
    dst: MmapMut,
}

const PAGE: usize = 4096;
/// A destination starts a little further into its page than the source, so that a store is never mistaken for
/// the source of a load 4 KiB away; a multiple of a cache line.
const DST_SKEW: usize = 1088;
const ROOM: usize = 2 * PAGE;

impl Arena {
    /// `bytes` of sources filled with noise and as much of destinations, all pages present, huge ones where
    /// the kernel has them.
    ///
    /// # Errors
    /// If there is not as much memory.
    pub fn new(bytes: usize) -> anyhow::Result<Arena> {
        let map = || -> anyhow::Result<MmapMut> {
            let map = MmapMut::map_anon(bytes + ROOM).context("mapping memory for the buffers")?;
            // Only a wish: a kernel without huge pages refuses it.
            let _ = map.advise(Advice::HugePage);
            Ok(map)
        };
        let (mut src, mut dst) = (map()?, map()?);
        let mut x = 0x2545_f491_4f6c_dd1du64;
        for word in src.as_chunks_mut::<8>().0 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            *word = x.to_ne_bytes();
        }
        dst.fill(1);
        Ok(Arena { src, dst })
    }

    /// Buffers for transfers of `len` bytes that write `written` bytes.
    ///
    /// # Panics
    /// If the arena is too small for one of them.
    pub fn slots(&mut self, len: usize, written: usize, condition: Condition) -> Slots<'_> {
        // Whole pages, so that all slots are aligned alike, and one more, so that they do not all fall on the
        // same sets of a cache.
        let stride = (len.max(written) / PAGE + 2) * PAGE;
        let count = match condition {
            Condition::Cold => ((self.src.len() - ROOM) / stride).max(1),
            _ => 1,
        };
        let (from, to) = if condition == Condition::Misaligned { (1, DST_SKEW + 3) } else { (0, DST_SKEW) };
        assert!(len.max(written) + ROOM <= self.src.len(), "the arena holds one transfer");
        Slots {
            src: &self.src[from..],
            dst: &mut self.dst[to..],
            len,
            written,
            stride,
            count,
            // Far from the one before, so that no prefetcher of streams runs ahead into the next slot.
            jump: jump(count),
            at: 0,
        }
    }
}

/// Buffers that take turns.
#[derive(Debug)]
pub struct Slots<'a> {
    src: &'a [u8],
    dst: &'a mut [u8],
    len: usize,
    written: usize,
    stride: usize,
    count: usize,
    jump: usize,
    at: usize,
}

impl Slots<'_> {
    /// Source and destination of the next transfer.
    #[inline]
    pub fn turn(&mut self) -> (&[u8], &mut [u8]) {
        let at = self.at * self.stride;
        if self.count > 1 {
            self.at += self.jump;
            if self.at >= self.count {
                self.at -= self.count;
            }
        }
        (&self.src[at..at + self.len], &mut self.dst[at..at + self.written])
    }
}

/// How many slots further the next one lies, so that all get their turn: without a factor in common with
/// their number.
fn jump(count: usize) -> usize {
    let has_common_factor = |mut a: usize, mut b: usize| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a != 1
    };
    let mut jump = (count * 5 / 13).max(1);
    while has_common_factor(jump, count) {
        jump += 1;
    }
    jump
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds in which everyone has a turn.
    pub rounds: usize,
    /// A turn repeats the transfer until it lasts this long, so that the clock's grain does not matter.
    pub turn: Duration,
    /// A size is done after this time, once there were five rounds.
    pub limit: Duration,
}

impl Effort {
    /// For choosing among variants, or a first look.
    pub const BRIEF: Effort =
        Effort { rounds: 9, turn: Duration::from_micros(100), limit: Duration::from_millis(400) };
    /// For the record.
    pub const FULL: Effort =
        Effort { rounds: 51, turn: Duration::from_micros(250), limit: Duration::from_millis(4000) };
    const LEAST_ROUNDS: usize = 5;
}

/// Nanoseconds of a transfer in each round.
#[derive(Clone, Debug, Default)]
pub struct Times(pub Vec<f64>);

impl Times {
    /// Median, lower and upper quartile.
    pub fn spread(&self) -> Spread {
        Spread::of(self.0.clone())
    }

    /// How many times as fast as another that took part in the same rounds.
    pub fn speed_over(&self, other: &Times) -> Spread {
        Spread::of(self.0.iter().zip(&other.0).map(|(own, other)| other / own).collect())
    }

    /// In each round the better of two.
    pub fn best(&self, other: &Times) -> Times {
        Times(self.0.iter().zip(&other.0).map(|(a, b)| a.min(*b)).collect())
    }
}

/// A median with quartiles.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Spread {
    /// Half of the values are below.
    pub median: f64,
    /// A quarter of the values is below.
    pub lower: f64,
    /// A quarter of the values is above.
    pub upper: f64,
}

impl Spread {
    /// Of these values; NaN of none.
    pub fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| values.get((values.len().saturating_sub(1)) * quarter / 4).copied();
        let at = |quarter| at(quarter).unwrap_or(f64::NAN);
        Spread { median: at(2), lower: at(1), upper: at(3) }
    }
}

/// Times all bodies: in each round everyone has a turn, beginning with another one each time.
pub fn measure(bodies: &[&dyn Body], slots: &mut Slots<'_>, effort: Effort) -> Vec<Times> {
    let mut repeats = Vec::with_capacity(bodies.len());
    for body in bodies {
        // Once before, since the first run also pays for cold code and pages.
        body.stretch(slots, 1);
        let mut n = 1;
        while n < 1 << 20 {
            let time = body.stretch(slots, n);
            if time >= effort.turn {
                break;
            }
            // To the length of a turn at once, unless the clock's grain hides how far that is.
            let factor = effort.turn.as_nanos() / time.as_nanos().max(1);
            n = (n * (factor as u32 + 1).clamp(2, 16)).min(1 << 20);
        }
        repeats.push(n);
    }
    let mut times = vec![Times::default(); bodies.len()];
    let start = Instant::now();
    for round in 0..effort.rounds {
        if round >= Effort::LEAST_ROUNDS && start.elapsed() > effort.limit {
            break;
        }
        for turn in 0..bodies.len() {
            let i = (round + turn) % bodies.len();
            let time = bodies[i].stretch(slots, repeats[i]);
            times[i].0.push(time.as_nanos() as f64 / f64::from(repeats[i]));
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cold_slots_visit_all_of_the_memory_before_one_again() {
        let mut arena = Arena::new(1 << 20).unwrap();
        for len in [64, 5000, 100_000] {
            let mut slots = arena.slots(len, len, Condition::Cold);
            let count = slots.count;
            assert!(count > 3 && count * slots.stride <= 1 << 20);
            let mut seen: Vec<usize> = (0..count).map(|_| slots.turn().0.as_ptr().addr()).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), count, "{len} bytes");
        }
    }

    #[test]
    fn jumps_reach_every_slot() {
        for count in 1..500 {
            let mut at = 0;
            let mut seen = vec![false; count];
            for _ in 0..count {
                seen[at] = true;
                at = (at + jump(count)) % count;
            }
            assert!(seen.iter().all(|&seen| seen), "{count}");
        }
    }

    #[test]
    fn buffers_are_aligned_as_they_claim() {
        let mut arena = Arena::new(1 << 16).unwrap();
        let mut of = |condition| {
            let mut slots = arena.slots(1000, 2000, condition);
            let (src, dst) = slots.turn();
            assert_eq!((src.len(), dst.len()), (1000, 2000));
            (src.as_ptr().addr() % 64, dst.as_ptr().addr() % 64)
        };
        assert_eq!(of(Condition::Hot), (0, 0));
        assert_eq!(of(Condition::Misaligned), (1, 3));
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let (a, b) = (Times(vec![1.0, 10.0, 2.0]), Times(vec![2.0, 20.0, 4.0]));
        assert_eq!(a.speed_over(&b), Spread { median: 2.0, lower: 2.0, upper: 2.0 });
        assert_eq!(a.best(&Times(vec![3.0, 5.0, 2.0])).0, [1.0, 5.0, 2.0]);
    }
}
