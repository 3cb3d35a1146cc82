//! Prints how fast fused loops are next to memcpy, separate passes, blocked passes and loops fused by hand,
//! whether the project's figures are reached on this machine, and what the machine allows.

use anyhow::Context;
use benches::cases::{CASES, Case, SHORT, SIZES};
use benches::contenders::{self, COPY, COPY_NT, Contender, MEMCPY, SEPARATE};
use benches::harness::{Arena, Body, Condition, Effort, measure};
use benches::machine::Machine;
use benches::plot::{self, Panel, Series, size};
use benches::record::{Point, Record};
use benches::{compile, report};
use clap::Parser;
use pipe_lib::Features;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Times fused copy loops against their rivals: interleaved rounds, medians, ratios in one run.
#[derive(Debug, Parser)]
#[command(name = "figures")]
struct Args {
    /// Only the cases whose names contain this (default: all).
    #[arg(long, default_value = "")]
    case: String,
    /// Sizes in bytes, with K or M (default: 64 to 256M).
    #[arg(long, value_delimiter = ',', value_parser = parse_size)]
    sizes: Vec<usize>,
    /// Rounds in which everyone has a turn (default: 51, or as many as fit into the time a size has).
    #[arg(long)]
    rounds: Option<usize>,
    /// Nine short rounds, sizes to 1M, hot only: a first look, some 20 seconds.
    #[arg(long)]
    quick: bool,
    /// Keep engines and rivals to these instructions, as in `avx2,pclmul`: as on a machine that has no others
    #[arg(long, value_name = "NAMES", value_parser = |names: &str| Features::named(names).map_err(|e| e.to_string()))]
    features: Option<Features>,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Keep text, JSON and plots in a folder of this name under benches/record.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    record: Option<String>,
}

fn parse_size(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let bytes = digits.parse::<usize>().ok().and_then(|n| n.checked_mul(unit)).filter(|n| n % 4 == 0);
    bytes.filter(|&n| n <= LARGEST).ok_or_else(|| "a size is a multiple of 4 up to 256M".into())
}

fn parse_name(text: &str) -> Result<String, String> {
    let is_plain =
        text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && !text.starts_with('.');
    if is_plain && !text.is_empty() {
        Ok(text.into())
    } else {
        Err("a name of letters, digits and dashes".into())
    }
}

const LARGEST: usize = 256 << 20;
/// Sources, and as much again of destinations: together four times the largest last-level cache that is
/// common.
const ARENA: usize = 512 << 20;
/// Sizes for buffers that are not hot.
const COLD: [usize; 6] = [64, 256, 1460, 4 << 10, 64 << 10, 1 << 20];
const MISALIGNED: [usize; 5] = [256, 1460, 4 << 10, 16 << 10, 64 << 10];
/// Cases that are measured in these conditions, and for the cost of a call.
const COLD_CASES: [&str; 4] =
    ["checksum+byteswap", "checksum+byteswap+xor", "checksum+byteswap+crc32c", "five pipes"];
const SHORT_CASES: [&str; 2] = ["checksum", "checksum+byteswap"];

/// What a run has while it goes on.
struct Bench {
    arena: Arena,
    effort: Effort,
    record: Record,
    features: Option<Features>,
    started: Instant,
}

impl Bench {
    fn point(
        &mut self,
        name: &'static str,
        list: &[Contender],
        condition: Condition,
        bytes: usize,
        written: usize,
    ) {
        let list: Vec<&Contender> = list
            .iter()
            .filter(|contender| contender.least <= bytes)
            .filter(|contender| condition != Condition::Misaligned || !contender.needs_alignment)
            .collect();
        let bodies: Vec<&dyn Body> = list.iter().map(|contender| &*contender.body).collect();
        let mut slots = self.arena.slots(bytes, written, condition);
        let times = measure(&bodies, &mut slots, self.effort);
        self.record.points.push(Point::new(name, condition, bytes, &list, times));
    }

    fn case(&mut self, case: &Case, sizes: &[usize], is_whole: bool) -> anyhow::Result<()> {
        let list = contenders::contenders(case, self.features)?;
        let mut sizes = sizes.to_vec();
        if SHORT_CASES.contains(&case.name) && is_whole {
            sizes.extend(SHORT);
        }
        sizes.sort_unstable();
        sizes.dedup();
        let mut points: Vec<(Condition, usize)> =
            sizes.into_iter().map(|bytes| (Condition::Hot, bytes)).collect();
        if COLD_CASES.contains(&case.name) && is_whole {
            points.extend(MISALIGNED.map(|bytes| (Condition::Misaligned, bytes)));
            points.extend(COLD.map(|bytes| (Condition::Cold, bytes)));
        }
        for (condition, bytes) in points {
            let written = case.written_len(bytes);
            if written <= ARENA {
                self.point(case.name, &list, condition, bytes, written);
            }
        }
        Ok(())
    }

    fn progress(&self, what: &str) {
        eprintln!("[{:>4} s] {what}", self.started.elapsed().as_secs());
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let machine = Machine::here(args.features);
    eprint!("{}", report::describe(&machine));
    let cases: Vec<&Case> = CASES.iter().filter(|case| case.name.contains(&args.case)).collect();
    if cases.is_empty() {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        anyhow::bail!("no case's name contains `{}`; there are {}", args.case, names.join(", "));
    }
    let mut effort = if args.quick { Effort::BRIEF } else { Effort::FULL };
    if let Some(rounds) = args.rounds {
        effort = Effort { rounds: rounds.max(1), limit: Duration::MAX, ..effort };
    }
    let sizes = match () {
        () if !args.sizes.is_empty() => args.sizes.clone(),
        () if args.quick => SIZES.into_iter().filter(|&bytes| bytes <= 1 << 20).collect(),
        () => SIZES.to_vec(),
    };
    // Conditions and short calls belong to the whole of it.
    let is_whole = args.sizes.is_empty() && !args.quick;
    let mut bench = Bench {
        arena: Arena::new(ARENA)?,
        effort,
        record: Record { machine, limits: None, narrow: None, points: Vec::new(), compiled: Vec::new() },
        features: args.features,
        started: Instant::now(),
    };

    bench.progress("what the machine can do");
    #[cfg(target_arch = "x86_64")]
    {
        let allowed = contenders::allowed(args.features);
        match allowed.isa {
            rivals::Isa::Avx512 => bench.record.limits = rivals::limits::Limits::measure(),
            rivals::Isa::Avx2 if allowed.clmul && !allowed.wide_clmul => {
                bench.record.narrow = rivals::limits::NarrowLimits::measure();
            }
            _ => {}
        }
    }
    for (i, case) in cases.iter().enumerate() {
        bench.progress(&format!("{} of {}: {}", i + 1, cases.len(), case.name));
        bench.case(case, &sizes, is_whole)?;
        eprint!("{}", native_in_a_line(&bench.record, case));
    }
    bench.progress("compiling");
    bench.record.compiled = compile::measure(if args.quick { 31 } else { 201 }, args.features)?;
    bench.progress("done");

    let record = &bench.record;
    if args.json {
        print!("{}", record.json()?);
    } else {
        print!("{}", report::text(record));
    }
    if let Some(name) = &args.record {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("record").join(name);
        keep(record, &folder)?;
        eprintln!("kept in {}", folder.display());
    }
    Ok(())
}

/// For whoever watches: native against memcpy and separate passes, by size.
fn native_in_a_line(record: &Record, case: &Case) -> String {
    let mut line = String::from("        native / memcpy, separate:");
    for point in record.points_of(case.name, Condition::Hot) {
        let Some(own) = point.of("native") else { continue };
        let over = |name| point.of(name).map_or(f64::NAN, |other| own.speed_over(other).median);
        line.push_str(&format!("  {} {:.2} {:.2}", size(point.bytes), over(MEMCPY), over(SEPARATE)));
    }
    line + "\n"
}

fn keep(record: &Record, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let Machine { cpu, kernel, rustc, load, .. } = &record.machine;
    let heading = format!("{cpu}, one core; Linux {kernel}; {rustc}; load {load}");
    let heading = heading.as_str();
    let panels = |condition, is_wanted: fn(usize) -> bool| -> Vec<Panel> {
        CASES.iter().filter_map(|case| panel(record, case, condition, is_wanted)).collect()
    };
    let is_size = |bytes: usize| SIZES.contains(&bytes);
    let mut others = panels(Condition::Cold, is_size);
    others.extend(panels(Condition::Misaligned, is_size));
    let calls: Vec<Panel> = CASES.iter().filter_map(|case| calls(record, case)).collect();
    for (file, content) in [
        ("figures.txt", report::text(record)),
        ("figures.json", record.json()?),
        ("hot.svg", plot::svg(heading, &panels(Condition::Hot, is_size))),
        ("cold-and-misaligned.svg", plot::svg(heading, &others)),
        ("calls.svg", plot::svg(heading, &calls)),
    ] {
        fs::write(folder.join(file), content).with_context(|| format!("writing {file}"))?;
    }
    Ok(())
}

/// Contenders that would only repeat another's line.
const NOT_DRAWN: [&str; 6] =
    ["blocked 16K", "rustc SSE2", "rustc AVX2", "crc-fast alone (CRC-32)", COPY, COPY_NT];

fn panel(record: &Record, case: &Case, condition: Condition, is_wanted: fn(usize) -> bool) -> Option<Panel> {
    let points: Vec<&Point> =
        record.points_of(case.name, condition).into_iter().filter(|point| is_wanted(point.bytes)).collect();
    let series = series(&points, |point, name| point.gbps(name));
    let title = format!("{}, {}", case.name, condition.name());
    (points.len() > 1).then_some(Panel { title, unit: "GB/s of payload over bytes of a transfer", series })
}

fn calls(record: &Record, case: &Case) -> Option<Panel> {
    let mut points = record.points_of(case.name, Condition::Hot);
    points.retain(|point| SHORT.contains(&point.bytes));
    let mut series = series(&points, |point, name| point.of(name).map(|times| times.spread().median));
    series.retain(|series| !series.name.contains("alone") && !series.name.starts_with("blocked"));
    let title = format!("{}, a short call", case.name);
    (points.len() > 3).then_some(Panel { title, unit: "ns over bytes", series })
}

fn series(points: &[&Point], value: impl Fn(&Point, &str) -> Option<f64>) -> Vec<Series> {
    let Some(last) = points.last() else { return Vec::new() };
    let names = last.times.iter().map(|(name, _)| name).filter(|name| !NOT_DRAWN.contains(&name.as_str()));
    names
        .map(|name| Series {
            name: name.clone(),
            points: points.iter().filter_map(|point| Some((point.bytes, value(point, name)?))).collect(),
        })
        .collect()
}
