//! Prints how fast each CRC of the published catalogue runs, next to the fastest of the same width: whatever
//! its polynomial and its order of bits, it is carry-less multiplication that computes it.

use benches::machine::Machine;
use clap::Parser;
use pipe_lib::library::{CatalogueCrc, catalogue};
use pipe_lib::{Backend, CompileOptions, Engine, Features, Library};
use std::hint::black_box;
use std::time::Instant;

/// Times every CRC of the catalogue, which only reads: interleaved rounds, medians of the ratios within them.
#[derive(Debug, Parser)]
#[command(name = "catalogue")]
struct Args {
    /// Bytes of a message.
    #[arg(long, default_value_t = 64 << 10)]
    bytes: usize,
    /// Rounds in which everyone has a turn.
    #[arg(long, default_value_t = 31)]
    rounds: usize,
    /// Only these instructions, as on a lesser machine: `avx2,pclmul`.
    #[arg(long)]
    features: Option<String>,
    /// A line for each CRC as well.
    #[arg(long)]
    all: bool,
}

/// What the slowest of a width should be of the fastest.
const AT_LEAST: f64 = 0.5;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let features = args.features.as_deref().map(Features::named).transpose()?;
    let machine = Machine::here(features);
    for warning in machine.warnings() {
        eprintln!("warning: {warning}");
    }
    println!("{}, {} online; load {}", machine.cpu, machine.cpus, machine.load);
    let message: Vec<u8> =
        (0..args.bytes as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    println!("{} bytes; GB/s, medians; the slowest of a width to its fastest within rounds\n", args.bytes);
    println!("{:>5} {:>5} {:>8} {:>8} {:>8}  slowest", "width", "CRCs", "fastest", "slowest", "ratio");
    let mut least = f64::INFINITY;
    let mut widths: Vec<u32> = catalogue().iter().map(|crc| crc.width).collect();
    widths.dedup();
    for width in widths {
        let crcs: Vec<&CatalogueCrc> = catalogue().iter().filter(|crc| crc.width == width).collect();
        let timed = measure(&crcs, &message, features, args.rounds)?;
        let rate = |times: &[f64]| args.bytes as f64 / median(times.to_vec());
        let by_speed = |a: &&(usize, f64), b: &&(usize, f64)| a.1.total_cmp(&b.1);
        let rates: Vec<(usize, f64)> = timed.iter().map(|times| rate(times)).enumerate().collect();
        let (Some(&(fastest, high)), Some(&(slowest, low))) =
            (rates.iter().max_by(by_speed), rates.iter().min_by(by_speed))
        else {
            continue;
        };
        let ratio =
            median(timed[fastest].iter().zip(&timed[slowest]).map(|(fast, slow)| fast / slow).collect());
        least = least.min(ratio);
        println!("{width:>5} {:>5} {high:>8.1} {low:>8.1} {ratio:>8.2}  {}", crcs.len(), crcs[slowest].title);
        if args.all {
            rates.iter().for_each(|(at, rate)| println!("{:>21.1}  {}", rate, crcs[*at].title));
        }
    }
    let verdict = if least >= AT_LEAST { "reached" } else { "MISSED" };
    println!("\n{verdict} slowest / fastest of the same width: at least {AT_LEAST}; {least:.2}");
    Ok(())
}

/// Nanoseconds of each round, for each CRC.
fn measure(
    crcs: &[&CatalogueCrc],
    message: &[u8],
    features: Option<Features>,
    rounds: usize,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let library = Library::standard();
    let engine = |crc: &&CatalogueCrc| -> anyhow::Result<Engine> {
        let pipeline = library.pipeline(&crc.name).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        Ok(pipeline.compile_with(&CompileOptions::from(Backend::Auto).features(features))?)
    };
    let engines = crcs.iter().map(engine).collect::<anyhow::Result<Vec<Engine>>>()?;
    let turns = ((1 << 20) / message.len().max(1)).clamp(1, 1024);
    let mut times = vec![Vec::new(); engines.len()];
    for round in 0..=rounds {
        for index in 0..engines.len() {
            // Another begins each round.
            let index = (index + round) % engines.len();
            let start = Instant::now();
            for _ in 0..turns {
                black_box(engines[index].run_read_only(black_box(message))?);
            }
            // The first one is for the caches.
            if round > 0 {
                times[index].push(start.elapsed().as_nanos() as f64 / turns as f64);
            }
        }
    }
    Ok(times)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
