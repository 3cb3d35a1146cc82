//! Prints how long it takes to compile a pipeline: the first one of the process, and later ones.

use benches::machine::Machine;
use clap::Parser;
use pipe_lib::{Backend, CompileOptions, Engine, Features, Library};
use std::sync::Arc;
use std::time::Instant;

/// Pipelines by how much there is to do.
const CASES: [(&str, &str); 4] = [
    ("one pipe", "inet_cksum"),
    ("three pipes", "inet_cksum | byteswap32 | xor32(key=0xdeadbeef)"),
    ("three pipes, one a CRC", "inet_cksum | byteswap32 | crc32c"),
    (
        "eight pipes, three of them taps",
        "inet_cksum as plain | xor32(key=0xdeadbeef) | inet_cksum as masked | byteswap32 | ascii_upper | xor8(key=3) | \
         rot13 | inet_cksum as sent",
    ),
];

/// Times compiling without looking into a cache: interleaved rounds, medians.
#[derive(Debug, Parser)]
#[command(name = "compile")]
struct Args {
    /// Rounds in which every case has a turn.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Only the cases whose names contain this (default: all).
    #[arg(long, default_value = "")]
    case: String,
    /// Only this backend.
    #[arg(long, value_parser = |name: &str| [Backend::Native, Backend::Cranelift].into_iter().find(|b| b.name() == name).ok_or("native or cranelift"))]
    backend: Option<Backend>,
    /// Only these instructions, as on a lesser machine: `avx2,pclmul`.
    #[arg(long)]
    features: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let features = args.features.as_deref().map(Features::named).transpose()?;
    let machine = Machine::here(features);
    for warning in machine.warnings() {
        eprintln!("warning: {warning}");
    }
    println!("{}, {} online; load {}; microseconds", machine.cpu, machine.cpus, machine.load);
    println!("{:>9} {:>8} {:>8} {:>8}  pipeline", "backend", "first", "median", "least");
    let library = Library::standard();
    for backend in [Backend::Native, Backend::Cranelift] {
        if args.backend.is_some_and(|only| only != backend) {
            continue;
        }
        let mut cases = Vec::new();
        for (name, text) in CASES.into_iter().filter(|(name, _)| name.contains(&args.case)) {
            let pipeline = library.pipeline(text).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
            cases.push((name, Arc::new(pipeline.composition().clone()), Vec::new()));
        }
        let options = CompileOptions::from(backend).features(features);
        for _ in 0..=args.rounds {
            for (_, composition, times) in &mut cases {
                let start = Instant::now();
                let engine = Engine::compile(Arc::clone(composition), &options)?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
                drop(engine);
            }
        }
        for (name, _, times) in &mut cases {
            let first = times.remove(0);
            times.sort_unstable_by(f64::total_cmp);
            let median = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
            let least = times.first().copied().unwrap_or(f64::NAN);
            println!("{:>9} {first:8.0} {median:8.0} {least:8.0}  {name}", backend.name());
        }
    }
    Ok(())
}
