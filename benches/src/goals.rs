//! The figures that the project wants to reach, as data, and whether a run reached them.

use crate::cases::{Case, SIX};
use crate::compile::{CACHED_THREE, CRANELIFT_EIGHT, NATIVE_THREE};
use crate::contenders::{HAND, HAND_AVX2, MEMCPY, NATIVE, NATIVE_READING, SEPARATE};
use crate::harness::{Condition, Spread};
use crate::plot::size;
use crate::record::Record;
use rivals::Isa;
use std::fmt::Write;

/// A ratio of speeds, at several points.
struct Ratio {
    what: &'static str,
    cases: &'static [&'static str],
    /// Bytes, from and to.
    sizes: (usize, usize),
    /// The fastest of these, by its median, is what it is compared with.
    over: &'static [&'static str],
    /// The contender that the figure is about.
    of: &'static str,
    /// It is to be so many times as fast.
    at_least: f64,
    /// The widest vectors of the engines and rivals that the figure is of; of any, if `None`.
    on: Option<Isa>,
}

const K: usize = 1 << 10;
const M: usize = 1 << 20;

/// Cases of two or more stages.
const STAGES: [&str; 7] = [
    "checksum+byteswap",
    "checksum+xor",
    "byteswap+xor",
    "checksum+byteswap+xor",
    "checksum+xor+checksum",
    "checksum+byteswap+crc32c",
    "five pipes",
];

/// Loops by hand with either width.
const HANDS: [&str; 2] = [HAND, HAND_AVX2];

const RATIOS: [Ratio; 18] = [
    Ratio {
        what: "native / hand-written AVX-512 fused loop, six combinations, 1460 B to 64 KB",
        cases: &SIX,
        sizes: (1460, 64 * K),
        over: &HANDS,
        of: NATIVE,
        at_least: 0.95,
        on: Some(Isa::Avx512),
    },
    Ratio {
        what: "native / memcpy, checksum + byteswap32, 4 KB and 16 KB",
        cases: &["checksum+byteswap"],
        sizes: (4 * K, 16 * K),
        over: &[MEMCPY],
        of: NATIVE,
        at_least: 1.0,
        on: Some(Isa::Avx512),
    },
    Ratio {
        what: "native / memcpy, checksum + byteswap32, 1460 B",
        cases: &["checksum+byteswap"],
        sizes: (1460, 1460),
        over: &[MEMCPY],
        of: NATIVE,
        at_least: 0.8,
        on: Some(Isa::Avx512),
    },
    Ratio {
        what: "native / memcpy at 16 MB and more (non-temporal), checksum + byteswap32",
        cases: &["checksum+byteswap"],
        sizes: (16 * M, usize::MAX),
        over: &[MEMCPY],
        of: NATIVE,
        at_least: 1.3,
        on: Some(Isa::Avx512),
    },
    Ratio {
        what: "native / best separate passes, two or more stages, every size from 256 B",
        cases: &STAGES,
        sizes: (256, usize::MAX),
        over: &[SEPARATE],
        of: NATIVE,
        at_least: 1.5,
        on: Some(Isa::Avx512),
    },
    Ratio {
        what: "native / best separate passes, two or more stages, from 4 KB",
        cases: &STAGES,
        sizes: (4 * K, usize::MAX),
        over: &[SEPARATE],
        of: NATIVE,
        at_least: 2.5,
        on: Some(Isa::Avx512),
    },
    Ratio {
        what: "checksum + byteswap32 + CRC32C: native / CRC32C alone by the best library, 4 KB to 1 MB",
        cases: &["checksum+byteswap+crc32c"],
        sizes: (4 * K, M),
        over: &["crc-fast alone", "ISA-L alone"],
        of: NATIVE,
        at_least: 0.9,
        on: Some(Isa::Avx512),
    },
    Ratio {
        what: "a call of 64 B, checksum: direct call of the hand-written loop / run and read the sum, at most 1.2 times as long",
        cases: &["checksum", "checksum+byteswap"],
        sizes: (64, 64),
        over: &HANDS,
        of: NATIVE,
        at_least: 1.0 / 1.2,
        on: Some(Isa::Avx512),
    },
    Ratio {
        what: "five pipes (checksum, xor, byteswap, CRC32C, Adler-32) / separate passes, 64 KB",
        cases: &["five pipes"],
        sizes: (64 * K, 64 * K),
        over: &[SEPARATE],
        of: NATIVE,
        at_least: 4.0,
        on: Some(Isa::Avx512),
    },
    Ratio {
        what: "a device's layout as part of the loop: native / sum and striping in separate passes, 1460 B to 64 KB",
        cases: &["checksum to lance"],
        sizes: (1460, 64 * K),
        over: &[SEPARATE],
        of: NATIVE,
        at_least: 1.0,
        on: Some(Isa::Avx512),
    },
    Ratio {
        what: "AVX2: native / the best loop by hand, six combinations, 64 B, 256 B and 1460 B",
        cases: &SIX,
        sizes: (64, 1460),
        over: &HANDS,
        of: NATIVE,
        at_least: 0.95,
        on: Some(Isa::Avx2),
    },
    Ratio {
        what: "AVX2: native / the best loop by hand, six combinations, 4 KB to 64 KB",
        cases: &SIX,
        sizes: (4 * K, 64 * K),
        over: &HANDS,
        of: NATIVE,
        at_least: 0.97,
        on: Some(Isa::Avx2),
    },
    Ratio {
        what: "AVX2: sum to a striped buffer (`lance`) / sum and striping in separate passes, 1460 B to 64 KB",
        cases: &["checksum to lance"],
        sizes: (1460, 64 * K),
        over: &[SEPARATE],
        of: NATIVE,
        at_least: 1.5,
        on: Some(Isa::Avx2),
    },
    Ratio {
        what: "AVX2: five pipes (checksum, xor, byteswap, CRC32C, Adler-32) / separate passes, 64 KB",
        cases: &["five pipes"],
        sizes: (64 * K, 64 * K),
        over: &[SEPARATE],
        of: NATIVE,
        at_least: 3.0,
        on: Some(Isa::Avx2),
    },
    Ratio {
        what: "five pipes / the best loop by hand, 4 KB to 64 KB",
        cases: &["five pipes"],
        sizes: (4 * K, 64 * K),
        over: &HANDS,
        of: NATIVE,
        at_least: 0.95,
        on: None,
    },
    Ratio {
        what: "AVX2: CRC32C and copy / CRC32C alone by the best library that is here, 4 KB to 1 MB",
        cases: &["crc32c"],
        sizes: (4 * K, M),
        over: &["crc-fast alone", "ISA-L alone"],
        of: NATIVE,
        at_least: 1.0,
        on: Some(Isa::Avx2),
    },
    Ratio {
        what: "CRC32C and copy / the best loop by hand, 4 KB to 64 KB",
        cases: &["crc32c"],
        sizes: (4 * K, 64 * K),
        over: &HANDS,
        of: NATIVE,
        at_least: 0.95,
        on: None,
    },
    Ratio {
        what: "AVX2: CRC32C alone: native, reading only / the best library with these instructions, 4 KB to 1 MB",
        cases: &["crc32c"],
        sizes: (4 * K, M),
        over: &["ISA-L alone, 128 bits", "crc32c alone"],
        of: NATIVE_READING,
        at_least: 1.9,
        on: Some(Isa::Avx2),
    },
];

/// Times to get an engine: name, at most so many microseconds.
const TIMES: [(&str, f64); 3] = [(NATIVE_THREE, 50.0), (CRANELIFT_EIGHT, 1000.0), (CACHED_THREE, 1.0)];

/// How a figure came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    /// The median is short, but the better quartile is not.
    Close,
    Missed,
    /// The machine does not allow it, and native is near what it does allow.
    Bounded,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Verdict::Reached => "reached ",
            Verdict::Close => "close   ",
            Verdict::Missed => "MISSED  ",
            Verdict::Bounded => "BOUNDED ",
        }
    }
}

/// What part of a bound is near it.
const NEAR: f64 = 0.9;

/// One point of a ratio.
struct Found {
    at: String,
    rival: String,
    ratio: Spread,
    /// What the machine allows, as the same ratio, and why.
    bound: Option<(f64, String)>,
}

impl Found {
    fn verdict(&self, at_least: f64) -> Verdict {
        if self.ratio.median >= at_least {
            Verdict::Reached
        } else if self
            .bound
            .as_ref()
            .is_some_and(|(bound, _)| *bound < at_least && self.ratio.median >= NEAR * bound)
        {
            Verdict::Bounded
        } else if self.ratio.upper >= at_least {
            Verdict::Close
        } else {
            Verdict::Missed
        }
    }
}

impl Ratio {
    fn found(&self, record: &Record) -> Vec<Found> {
        let mut all = Vec::new();
        if self.on.is_some_and(|isa| isa.name() != record.machine.rivals) {
            return all;
        }
        for point in &record.points {
            let is_meant = point.condition == Condition::Hot
                && self.cases.contains(&point.case)
                && (self.sizes.0..=self.sizes.1).contains(&point.bytes);
            if !is_meant {
                continue;
            }
            let median = |name: &str| point.of(name).map(|times| times.spread().median);
            let rivals = self.over.iter().filter_map(|name| Some((*name, median(name)?)));
            let Some((rival, rival_ns)) = rivals.min_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
            let (Some(own), Some(other)) = (point.of(self.of), point.of(rival)) else { continue };
            let bound = Case::named(point.case)
                .and_then(|case| record.bound(case, point.bytes))
                .map(|bound| (bound.gbps * rival_ns / point.bytes as f64, bound.why));
            all.push(Found {
                at: format!("{} {}", point.case, size(point.bytes)),
                rival: rival.into(),
                ratio: own.speed_over(other),
                bound,
            });
        }
        all
    }
}

/// A line or some for each figure: whether it was reached, where it is worst, and what bounds it.
pub fn report(record: &Record) -> String {
    let mut out = String::new();
    for ratio in &RATIOS {
        let found = ratio.found(record);
        if !found.is_empty() {
            describe(&mut out, ratio, &found);
        }
    }
    for (name, at_most) in TIMES {
        for compiled in record.compiled.iter().filter(|compiled| compiled.name == name) {
            let Spread { median, lower, upper } = compiled.us;
            let verdict = match () {
                () if median <= at_most => Verdict::Reached,
                () if lower <= at_most => Verdict::Close,
                () => Verdict::Missed,
            };
            // Writing to a string does not fail.
            let _ = writeln!(
                out,
                "{} {name}: at most {at_most} us\n         {median:.2} us ({lower:.2} to {upper:.2})",
                verdict.name()
            );
        }
    }
    out
}

fn describe(out: &mut String, goal: &Ratio, found: &[Found]) {
    let at_least = goal.at_least;
    let count = |verdict| found.iter().filter(|found| found.verdict(at_least) == verdict).count();
    let order = [Verdict::Missed, Verdict::Bounded, Verdict::Close, Verdict::Reached];
    let verdict = order.into_iter().find(|&verdict| count(verdict) > 0).unwrap_or(Verdict::Reached);
    let rest: String =
        [(Verdict::Close, "close"), (Verdict::Bounded, "bounded"), (Verdict::Missed, "missed")]
            .into_iter()
            .filter(|&(verdict, _)| count(verdict) > 0)
            .map(|(verdict, name)| format!(", {} {name}", count(verdict)))
            .collect();
    let mean = found.iter().map(|found| found.ratio.median.ln()).sum::<f64>() / found.len() as f64;
    let _ = writeln!(out, "{} {}: at least {at_least:.2}", verdict.name(), goal.what);
    let _ = writeln!(
        out,
        "         {} of {} points reach it{}; geometric mean {:.2}",
        count(Verdict::Reached),
        found.len(),
        rest,
        mean.exp()
    );
    // The worst points, each with what the machine allows there.
    let mut worst: Vec<&Found> = found.iter().collect();
    let rank = |found: &Found| order.iter().position(|&verdict| verdict == found.verdict(at_least));
    worst.sort_by(|a, b| rank(a).cmp(&rank(b)).then(a.ratio.median.total_cmp(&b.ratio.median)));
    let short = worst.iter().filter(|found| found.verdict(at_least) != Verdict::Reached).count();
    for found in worst.iter().take(short.clamp(1, 8)) {
        let Spread { median, lower, upper } = found.ratio;
        let _ =
            write!(out, "         {}: {median:.2} ({lower:.2} to {upper:.2}) of {}", found.at, found.rival);
        let _ = match &found.bound {
            // A bound far above says nothing: what is missing is in the code, or in the start and end of a
            // loop.
            Some((bound, why)) if *bound < at_least => {
                writeln!(
                    out,
                    "; at most {bound:.2} is possible ({:.0} % of it reached): {why}",
                    100.0 * median / bound
                )
            }
            Some((bound, _)) => writeln!(out, "; bound {bound:.2}"),
            None => writeln!(out),
        };
    }
    if short > 8 {
        let _ = writeln!(out, "         and {} more", short - 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Times;
    use crate::machine::Machine;
    use crate::record::Point;

    fn found(ratio: f64, upper: f64, bound: Option<f64>) -> Found {
        Found {
            at: String::new(),
            rival: String::new(),
            ratio: Spread { median: ratio, lower: ratio, upper },
            bound: bound.map(|bound| (bound, String::new())),
        }
    }

    #[test]
    fn a_bound_excuses_only_what_comes_near_it() {
        assert_eq!(found(1.1, 1.2, Some(0.8)).verdict(1.0), Verdict::Reached);
        assert_eq!(found(0.9, 1.1, Some(2.0)).verdict(1.0), Verdict::Close);
        assert_eq!(found(0.9, 0.95, Some(2.0)).verdict(1.0), Verdict::Missed);
        assert_eq!(found(0.75, 0.8, Some(0.8)).verdict(1.0), Verdict::Bounded);
        assert_eq!(found(0.5, 0.6, Some(0.8)).verdict(1.0), Verdict::Missed);
        assert_eq!(found(0.5, 0.6, None).verdict(1.0), Verdict::Missed);
    }

    #[test]
    fn every_figure_names_cases_and_rivals_that_exist() {
        for ratio in &RATIOS {
            for name in ratio.cases {
                let case = Case::named(name).unwrap_or_else(|| panic!("no case {name}"));
                // Libraries kept to narrow products are looked for only where there are no wider ones.
                let narrow = ratio.of == NATIVE_READING;
                let features = narrow.then(|| pipe_lib::Features::named("avx2,pclmul").ok()).flatten();
                let list = crate::contenders::contenders(case, features).unwrap();
                if rivals::Allowed::here().isa == Isa::Avx512 && rivals::Allowed::here().wide_clmul {
                    assert!(
                        list.iter().any(|contender| ratio.over.contains(&contender.name.as_str())),
                        "{name} lacks {:?}",
                        ratio.over
                    );
                }
            }
        }
    }

    #[test]
    fn a_record_is_judged_by_its_worst_point() {
        let point = |bytes, native: f64| Point {
            case: "checksum+byteswap",
            condition: Condition::Hot,
            bytes,
            times: vec![(NATIVE.into(), Times(vec![native; 3])), (MEMCPY.into(), Times(vec![100.0; 3]))],
            variants: Vec::new(),
        };
        let mut record = Record {
            machine: Machine { rivals: Isa::Avx512.name(), ..Machine::here(None) },
            limits: None,
            narrow: None,
            points: vec![point(4 * K, 90.0), point(16 * K, 200.0), point(1460, 100.0)],
            compiled: Vec::new(),
        };
        let text = report(&record);
        assert!(text.contains("MISSED   native / memcpy, checksum + byteswap32, 4 KB and 16 KB"), "{text}");
        assert!(
            text.contains("1 of 2 points reach it") && text.contains("checksum+byteswap 16K: 0.50"),
            "{text}"
        );
        assert!(text.contains("reached  native / memcpy, checksum + byteswap32, 1460 B"), "{text}");
        assert!(!text.contains("five pipes"), "what was not measured is not judged: {text}");
        record.points.clear();
        assert_eq!(report(&record), "");
    }
}
