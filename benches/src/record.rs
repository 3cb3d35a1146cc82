//! What a run found: every contender's times at every point, and the machine.

use crate::bounds::{self, Bound, Limits, NarrowLimits};
use crate::cases::Case;
use crate::compile::Compiled;
use crate::contenders::{COPY, COPY_NT, Contender, MEMCPY};
use crate::harness::{Condition, Times};
use crate::machine::Machine;
use serde::Serialize;

/// Everyone's times for a case, a size and a condition.
#[derive(Clone, Debug)]
pub struct Point {
    /// Its name.
    pub case: &'static str,
    /// Where the bytes were.
    pub condition: Condition,
    /// Payload of a transfer.
    pub bytes: usize,
    /// By contender; of variants of the same name the fastest here.
    pub times: Vec<(String, Times)>,
    /// Which variants those are: contender, variant.
    pub variants: Vec<(String, String)>,
}

impl Point {
    /// From the times of all who took part.
    pub fn new(
        case: &'static str,
        condition: Condition,
        bytes: usize,
        list: &[&Contender],
        measured: Vec<Times>,
    ) -> Point {
        let mut point = Point { case, condition, bytes, times: Vec::new(), variants: Vec::new() };
        for (contender, times) in list.iter().zip(measured) {
            let known = point.times.iter().position(|(name, _)| *name == contender.name);
            if known.is_some_and(|i| point.times[i].1.spread().median <= times.spread().median) {
                continue;
            }
            match known {
                Some(i) => point.times[i].1 = times,
                None => point.times.push((contender.name.clone(), times)),
            }
            if !contender.note.is_empty() {
                point.variants.retain(|(name, _)| *name != contender.name);
                point.variants.push((contender.name.clone(), contender.note.clone()));
            }
        }
        point
    }

    /// Which variant of a contender was the fastest here.
    pub fn variant(&self, contender: &str) -> &str {
        self.variants.iter().find(|(name, _)| name == contender).map_or("", |(_, variant)| variant)
    }

    /// The times of a contender.
    pub fn of(&self, contender: &str) -> Option<&Times> {
        self.times.iter().find(|(name, _)| name == contender).map(|(_, times)| times)
    }

    /// Median throughput of a contender.
    pub fn gbps(&self, contender: &str) -> Option<f64> {
        self.of(contender).map(|times| self.bytes as f64 / times.spread().median)
    }
}

/// A whole run.
#[derive(Debug)]
pub struct Record {
    /// Where and when.
    pub machine: Machine,
    /// What the core can do, where that could be measured.
    pub limits: Option<Limits>,
    /// The same of AVX2, if that is what engines and rivals were kept to.
    pub narrow: Option<NarrowLimits>,
    /// In the order of measurement.
    pub points: Vec<Point>,
    /// Ways to an engine.
    pub compiled: Vec<Compiled>,
}

impl Record {
    /// The point of a case, a size and a condition.
    pub fn point(&self, case: &str, bytes: usize, condition: Condition) -> Option<&Point> {
        self.points.iter().find(|p| p.case == case && p.bytes == bytes && p.condition == condition)
    }

    /// The points of a case and a condition, by size.
    pub fn points_of(&self, case: &str, condition: Condition) -> Vec<&Point> {
        self.points.iter().filter(|p| p.case == case && p.condition == condition).collect()
    }

    /// What the machine allows for a case of a size, hot.
    pub fn bound(&self, case: &Case, bytes: usize) -> Option<Bound> {
        let point = self.point(case.name, bytes, Condition::Hot);
        let copies = [MEMCPY, COPY, COPY_NT].into_iter().filter_map(|copy| point?.gbps(copy));
        let fastest = copies.max_by(f64::total_cmp);
        bounds::of(case, self.limits.as_ref(), self.narrow.as_ref(), fastest)
    }

    /// All of it, a row a line.
    ///
    /// # Errors
    /// None in practice: numbers and strings serialise.
    pub fn json(&self) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Row<'a> {
            case: &'a str,
            condition: Condition,
            bytes: usize,
            contender: &'a str,
            variant: &'a str,
            gbps: f64,
            median_ns: f64,
            lower_quartile_ns: f64,
            upper_quartile_ns: f64,
            rounds: usize,
        }
        let mut rows = Vec::new();
        for point in &self.points {
            for (contender, times) in &point.times {
                let spread = times.spread();
                rows.push(serde_json::to_string(&Row {
                    case: point.case,
                    condition: point.condition,
                    bytes: point.bytes,
                    contender,
                    variant: point.variant(contender),
                    gbps: round(point.bytes as f64 / spread.median),
                    median_ns: round(spread.median),
                    lower_quartile_ns: round(spread.lower),
                    upper_quartile_ns: round(spread.upper),
                    rounds: times.0.len(),
                })?);
            }
        }
        let limits = self.limits.as_ref().map(crate::report::limits_json);
        let compiled: Result<Vec<String>, _> = self.compiled.iter().map(serde_json::to_string).collect();
        Ok(format!(
            "{{\"machine\": {},\n\"limits\": {},\n\"compiled\": [\n{}\n],\n\"rows\": [\n{}\n]}}\n",
            serde_json::to_string(&self.machine)?,
            serde_json::to_string(&limits)?,
            compiled?.join(",\n"),
            rows.join(",\n"),
        ))
    }
}

/// To four digits: more are noise.
fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}
