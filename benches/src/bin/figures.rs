//! Prints how fast fused loops are next to memcpy, separate passes, blocked passes and loops fused by hand,
//! and whether the project's promises hold on this machine.

use anyhow::Context;
use benches::cases::{CASES, Case, SIZES};
use benches::contenders::{AUTO, MEMCPY, SEPARATE, contenders};
use benches::harness::{Measured, measure};
use benches::machine::Machine;
use benches::plot::{self, Series};
use clap::Parser;
use serde::Serialize;
use std::fs;
use std::path::PathBuf;

/// Times fused copy loops against their rivals: interleaved rounds, medians, ratios in one run.
#[derive(Debug, Parser)]
#[command(name = "figures")]
struct Args {
    /// Only the cases whose names contain this (default: all).
    #[arg(long, default_value = "")]
    case: String,
    /// Sizes in bytes, with K or M (default: 64 to 64M).
    #[arg(long, value_delimiter = ',', value_parser = parse_size)]
    sizes: Vec<usize>,
    /// Rounds in which everyone has a turn; medians are over these.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Draw the result.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Keep tables, JSON and plot in a folder of this name under benches/record.
    #[arg(long, value_name = "NAME")]
    record: Option<String>,
}

fn parse_size(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let bytes =
        digits.parse::<usize>().ok().and_then(|n| n.checked_mul(unit)).filter(|n| n % 4 == 0 && *n > 0);
    bytes.filter(|&n| n <= 1 << 30).ok_or_else(|| "a size is a multiple of 4 up to 1024M".into())
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    case: &'static str,
    pipeline: &'static str,
    bytes: usize,
    contender: String,
    gbps: f64,
    median_ns: f64,
    lower_quartile_ns: f64,
    upper_quartile_ns: f64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let machine = Machine::here();
    for warning in machine.warnings() {
        eprintln!("warning: {warning}");
    }
    let sizes = if args.sizes.is_empty() { SIZES.to_vec() } else { args.sizes.clone() };
    let mut text = describe(&machine);
    let mut report = Report { machine, rows: Vec::new() };
    let mut panels = Vec::new();
    let cases: Vec<&Case> = CASES.iter().filter(|case| case.name.contains(&args.case)).collect();
    if cases.is_empty() {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        anyhow::bail!("no case's name contains `{}`; there are {}", args.case, names.join(", "));
    }
    for case in cases {
        let results = run_case(case, &sizes, args.rounds)?;
        text.push_str(&table(case, &results));
        panels.push((case.name.to_owned(), series(&results)));
        for (bytes, measured) in &results {
            report.rows.extend(measured.iter().map(|m| row(case, *bytes, m)));
        }
        if !args.json {
            print!("{}", std::mem::take(&mut text));
        }
    }
    let verdict = verdict(&report.rows);
    let json = serde_json::to_string_pretty(&report)?;
    if args.json {
        println!("{json}");
    } else {
        print!("{verdict}");
    }
    let svg = plot::svg(&panels);
    if let Some(path) = &args.svg {
        fs::write(path, &svg).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(name) = &args.record {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("record").join(name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let tables: String = retell(&report) + &verdict;
        for (file, content) in
            [("copy_loops.txt", &tables), ("copy_loops.json", &json), ("copy_loops.svg", &svg)]
        {
            fs::write(folder.join(file), content).with_context(|| format!("writing {file}"))?;
        }
    }
    Ok(())
}

type Results = Vec<(usize, Vec<Measured>)>;

fn run_case(case: &Case, sizes: &[usize], rounds: usize) -> anyhow::Result<Results> {
    let list = contenders(case)?;
    Ok(sizes.iter().map(|&bytes| (bytes, measure(&list, bytes, rounds.max(1)))).collect())
}

fn row(case: &Case, bytes: usize, measured: &Measured) -> Row {
    Row {
        case: case.name,
        pipeline: case.pipeline,
        bytes,
        contender: measured.name.clone(),
        gbps: measured.gbps(bytes),
        median_ns: measured.median_ns,
        lower_quartile_ns: measured.quartiles_ns.0,
        upper_quartile_ns: measured.quartiles_ns.1,
    }
}

fn describe(machine: &Machine) -> String {
    let Machine { cpu, cpus, caches, kernel, rustc, rivals, load, .. } = machine;
    format!(
        "{cpu}, {cpus} online; {}; Linux {kernel}; {rustc}; rivals use {rivals}; load {load}\n",
        caches.join(", ")
    )
}

fn table(case: &Case, results: &Results) -> String {
    let mut out = format!("\n{}: `{}`, GB/s\n{:>14}", case.name, case.pipeline, "");
    for (bytes, _) in results {
        out.push_str(&format!("{:>8}", plot::size(*bytes)));
    }
    let Some((_, first)) = results.first() else { return out };
    for i in 0..first.len() {
        out.push_str(&format!("\n{:>14}", first[i].name));
        for (bytes, measured) in results {
            out.push_str(&format!("{:>8.1}", measured[i].gbps(*bytes)));
        }
    }
    out.push('\n');
    out
}

/// All tables again, for the record.
fn retell(report: &Report) -> String {
    let mut out = describe(&report.machine);
    for warning in report.machine.warnings() {
        out.push_str(&format!("warning: {warning}\n"));
    }
    for case in &CASES {
        let mut results: Results = Vec::new();
        for row in report.rows.iter().filter(|row| row.case == case.name) {
            let measured = Measured {
                name: row.contender.clone(),
                median_ns: row.median_ns,
                quartiles_ns: (row.lower_quartile_ns, row.upper_quartile_ns),
            };
            match results.last_mut() {
                Some((bytes, list)) if *bytes == row.bytes => list.push(measured),
                _ => results.push((row.bytes, vec![measured])),
            }
        }
        if !results.is_empty() {
            out.push_str(&table(case, &results));
        }
    }
    out
}

fn series(results: &Results) -> Vec<Series> {
    let Some((_, first)) = results.first() else { return Vec::new() };
    let line = |i: usize| Series {
        name: first[i].name.clone(),
        points: results.iter().map(|(bytes, measured)| (*bytes, measured[i].gbps(*bytes))).collect(),
    };
    (0..first.len()).map(line).collect()
}

/// The promise: three steps in one loop, on 64 MB, at least twice as fast as the best separate passes and at
/// least 0.8 of memcpy.
fn verdict(rows: &[Row]) -> String {
    let find = |contender: &str| {
        let mut all = rows.iter().filter(|row| row.case == "checksum+byteswap+xor" && row.bytes == 64 << 20);
        all.find(|row| row.contender == contender).map(|row| row.gbps)
    };
    let (Some(engine), Some(separate), Some(memcpy)) = (find(AUTO), find(SEPARATE), find(MEMCPY)) else {
        return String::new();
    };
    let judge = |name: &str, ratio: f64, least: f64| {
        let verdict = if ratio >= least { "holds" } else { "DOES NOT HOLD" };
        format!("checksum+byteswap+xor, 64M: engine / {name} = {ratio:.2}, promised {least}: {verdict}\n")
    };
    format!("\n{}{}", judge("separate passes", engine / separate, 2.0), judge("memcpy", engine / memcpy, 0.8))
}
