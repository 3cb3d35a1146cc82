//! A record as text.

use crate::bounds::{Limits, NarrowLimits};
use crate::cases::{CASES, Case, SHORT};
use crate::contenders::{HAND, HAND_AVX2, MEMCPY, NATIVE, NATIVE_AVX2, SEPARATE};
use crate::goals;
use crate::harness::Condition;
use crate::machine::Machine;
use crate::plot::size;
use crate::record::{Point, Record};
use std::fmt::Write;

// Writing to a string does not fail: results of `writeln!` are dropped throughout.

/// Everything, the judgement first.
pub fn text(record: &Record) -> String {
    let mut out = describe(&record.machine);
    out.push_str(&limits(record));
    let judged = goals::report(record);
    if !judged.is_empty() {
        let _ = write!(
            out,
            "\nFigures to reach. A ratio is the median over rounds of the ratio within a round (quartiles in brackets);\n\
             BOUNDED: the machine does not allow it, by what was measured above, and nine tenths of what it does allow are\n\
             reached; close: the better quartile reaches it.\n\n{judged}"
        );
    }
    for case in &CASES {
        out.push_str(&throughput(record, case));
    }
    out.push_str(&short(record));
    out.push_str(&compiled(record));
    out
}

/// The machine, and what a reader must know about the run.
pub fn describe(machine: &Machine) -> String {
    let mut out = format!(
        "{}, {} online{}; {}; Linux {}; {}; rivals use {}; huge pages: {}; load {}\n",
        machine.cpu,
        machine.cpus,
        if machine.is_virtual { ", virtual" } else { "" },
        machine.caches.join(", "),
        machine.kernel,
        machine.rustc,
        machine.rivals,
        machine.huge_pages,
        machine.load
    );
    for warning in machine.warnings() {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

#[cfg(target_arch = "x86_64")]
fn limits(record: &Record) -> String {
    let mut out = String::new();
    if let Some(limits) = &record.limits {
        let Limits {
            copy_with_adds,
            clock_ghz,
            adds,
            adds_from_memory,
            shuffles,
            dot_products,
            multiplies,
            loads,
            stores,
        } = limits;
        let _ = write!(
            out,
            "\nOne core at {clock_ghz:.2} GHz, 512-bit instructions a cycle: vpaddq {adds:.2} (from memory {adds_from_memory:.2}), \
             vpshufb {shuffles:.2},\nvpdpbusd {dot_products:.2}, vpclmulqdq {multiplies:.2}, loads {loads:.2}, stores {stores:.2}\n"
        );
        let cycles: Vec<String> = copy_with_adds.iter().map(|cycles| format!("{cycles:.2}")).collect();
        let _ = writeln!(
            out,
            "Cycles a vector of a copy within the first-level cache that adds each vector to 0 to 6 accumulators: {}",
            cycles.join(" ")
        );
    }
    if let Some(limits) = &record.narrow {
        let NarrowLimits { clock_ghz, adds, shuffles, products, adds_a_product, crcs, stores } = limits;
        let _ = write!(
            out,
            "\nOne core at {clock_ghz:.2} GHz, 256-bit instructions a cycle: vpaddq {adds:.2}, vpshufb {shuffles:.2}, \
             stores {stores:.2};\nvpclmulqdq of 128 bits {products:.2}, each in place of {adds_a_product:.1} additions; \
             crc32 of 8 bytes {crcs:.2}\n"
        );
    }
    out
}

/// Nothing is measured elsewhere.
#[cfg(not(target_arch = "x86_64"))]
fn limits(_: &Record) -> String {
    String::new()
}

/// For the JSON form.
#[cfg(target_arch = "x86_64")]
pub(crate) fn limits_json(limits: &Limits) -> serde_json::Value {
    serde_json::json!({
        "clock_ghz": limits.clock_ghz,
        "cycles_of_copy_with_adds": limits.copy_with_adds,
        "per_cycle": {
            "vpaddq": limits.adds, "vpaddq from memory": limits.adds_from_memory, "vpshufb": limits.shuffles,
            "vpdpbusd": limits.dot_products, "vpclmulqdq": limits.multiplies, "load": limits.loads, "store": limits.stores
        }
    })
}

/// Nothing is measured elsewhere.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn limits_json(limits: &Limits) -> serde_json::Value {
    match *limits {}
}

/// A case's tables, one for each condition.
pub fn throughput(record: &Record, case: &Case) -> String {
    let mut out = String::new();
    for condition in [Condition::Hot, Condition::Misaligned, Condition::Cold] {
        let points = record.points_of(case.name, condition);
        // Lengths that are only for the cost of a call have a table of their own.
        let points: Vec<&Point> = points
            .into_iter()
            .filter(|p| p.bytes == 64 || p.bytes == 256 || !SHORT.contains(&p.bytes))
            .collect();
        if points.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n{}: `{}`, {}, GB/s", case.name, case.pipeline, condition.name());
        out.push_str(&table(&points));
        if condition == Condition::Hot {
            let bounds: Vec<_> = points.iter().map(|p| record.bound(case, p.bytes)).collect();
            if bounds.iter().any(Option::is_some) {
                let _ = write!(out, "{:>26}", "(bound of the machine)");
                for bound in &bounds {
                    let _ = write!(out, "{:>8}", bound.as_ref().map_or(String::new(), |b| figure(b.gbps)));
                }
                out.push('\n');
            }
            for name in [HAND_AVX2, HAND] {
                out.push_str(&variants(&points, name));
            }
        }
    }
    out
}

fn table(points: &[&Point]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in points.iter().flat_map(|point| &point.times) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut out = format!("{:>26}", "");
    for point in points {
        let _ = write!(out, "{:>8}", size(point.bytes));
    }
    for name in names {
        let _ = write!(out, "\n{name:>26}");
        for point in points {
            let _ = write!(out, "{:>8}", point.gbps(name).map_or(String::new(), figure));
        }
    }
    out.push('\n');
    out
}

/// Which way of writing a loop was the fastest at which sizes.
fn variants(points: &[&Point], contender: &str) -> String {
    let mut found: Vec<(&str, String)> = Vec::new();
    for point in points {
        let variant = point.variant(contender);
        match found.iter_mut().find(|(known, _)| *known == variant) {
            Some((_, sizes)) => {
                let _ = write!(sizes, " {}", size(point.bytes));
            }
            None => found.push((variant, size(point.bytes))),
        }
    }
    found.retain(|(variant, _)| !variant.is_empty());
    let found: Vec<String> = found.iter().map(|(variant, sizes)| format!("{variant} at {sizes}")).collect();
    if found.is_empty() { String::new() } else { format!("{contender:>26} is {}\n", found.join("; ")) }
}

fn figure(gbps: f64) -> String {
    if gbps < 100.0 { format!("{gbps:.1}") } else { format!("{gbps:.0}") }
}

/// Nanoseconds of short calls.
fn short(record: &Record) -> String {
    let mut out = String::new();
    for case in &CASES {
        let points = record.points_of(case.name, Condition::Hot);
        let points: Vec<&&Point> = points.iter().filter(|point| SHORT.contains(&point.bytes)).collect();
        if points.len() < 4 {
            continue;
        }
        let _ = write!(out, "\n{}: `{}`, a call in ns\n{:>26}", case.name, case.pipeline, "bytes");
        for point in &points {
            let _ = write!(out, "{:>8}", point.bytes);
        }
        for name in [MEMCPY, SEPARATE, HAND_AVX2, HAND, NATIVE, NATIVE_AVX2, "cranelift"] {
            if points.iter().all(|point| point.of(name).is_none()) {
                continue;
            }
            let _ = write!(out, "\n{name:>26}");
            for point in &points {
                let time = point.of(name).map(|times| times.spread().median);
                let _ = write!(out, "{:>8}", time.map_or(String::new(), |ns| format!("{ns:.1}")));
            }
        }
        out.push('\n');
    }
    out
}

fn compiled(record: &Record) -> String {
    let mut out = String::new();
    if !record.compiled.is_empty() {
        out.push_str("\nTo an engine, microseconds, median (quartiles)\n");
    }
    for compiled in &record.compiled {
        let us = compiled.us;
        let _ = writeln!(
            out,
            "{:>42}: {:>7.2} ({:.2} to {:.2})  `{}`",
            compiled.name, us.median, us.lower, us.upper, compiled.pipeline
        );
    }
    out
}
