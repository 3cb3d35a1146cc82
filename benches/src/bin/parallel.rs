//! Prints how a big transfer speeds up when it runs on several cores, next to `memcpy` on as many.

use benches::machine::Machine;
use clap::Parser;
use pipe_lib::{CompileOptions, Engine, Library};
use std::time::Instant;

/// Pipelines of growing work a byte: from what memory limits to what the core does.
const PIPELINES: [&str; 4] = [
    "inet_cksum",
    "inet_cksum | byteswap32",
    "inet_cksum | byteswap32 | crc32c",
    "inet_cksum as plain | xor32(key=0xdeadbeef) | inet_cksum as masked | crc32c | adler32",
];

/// Times one transfer on 1, 2, ... threads: interleaved rounds, medians, ratios in one run.
#[derive(Debug, Parser)]
#[command(name = "parallel")]
struct Args {
    /// Sizes in megabytes.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256", value_parser = clap::value_parser!(u32).range(1..=4096))]
    megabytes: Vec<u32>,
    /// Numbers of threads.
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: Vec<u8>,
    /// Pipelines instead of the usual ones.
    #[arg(long = "pipeline")]
    pipelines: Vec<String>,
    /// Runs each stage as a pass of its own.
    #[arg(long)]
    separate: bool,
    /// Rounds in which everyone has a turn; medians are over these.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

/// Something that moves all of a source to a destination on so many threads.
type Transfer<'a> = Box<dyn Fn(&[u8], &mut [u8], usize) + 'a>;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let machine = Machine::here(None);
    for warning in machine.warnings() {
        eprintln!("warning: {warning}");
    }
    println!("{}, {} online; load {}; GB/s", machine.cpu, machine.cpus, machine.load);
    let library = Library::standard();
    let usual = PIPELINES.map(str::to_owned);
    let pipelines: &[String] = if args.pipelines.is_empty() { &usual } else { &args.pipelines };
    let options = CompileOptions::new().separate_passes(args.separate);
    let engines: Vec<Engine> = pipelines
        .iter()
        .map(|text| {
            let pipeline = library.pipeline(text).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
            Ok(pipeline.compile_with(&options)?)
        })
        .collect::<anyhow::Result<_>>()?;
    let mut contenders: Vec<(&str, Transfer<'_>)> = vec![("memcpy", Box::new(memcpy))];
    for (text, engine) in pipelines.iter().zip(&engines) {
        contenders.push((
            text,
            Box::new(|src, dst, threads| {
                let run = engine.run_parallel(src, dst, threads).expect("lengths are whole words");
                std::hint::black_box(run.read);
            }),
        ));
    }
    for megabytes in &args.megabytes {
        table(&contenders, (*megabytes as usize) << 20, &args);
    }
    Ok(())
}

fn table(contenders: &[(&str, Transfer<'_>)], bytes: usize, args: &Args) {
    let src: Vec<u8> = (0..bytes as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let mut dst = vec![0; bytes];
    // One turn is long enough for the clock.
    let turns = ((64 << 20) / bytes).clamp(1, 64);
    let mut times = vec![vec![Vec::new(); args.threads.len()]; contenders.len()];
    for round in 0..=args.rounds {
        for ((_, transfer), times) in contenders.iter().zip(&mut times) {
            for (threads, times) in args.threads.iter().zip(times) {
                let start = Instant::now();
                (0..turns).for_each(|_| transfer(&src, &mut dst, usize::from(*threads)));
                // The first round brings pages and code into place.
                if round > 0 {
                    times.push(start.elapsed().as_secs_f64() / turns as f64);
                }
            }
        }
    }
    println!("\n{} MB", bytes >> 20);
    for ((name, _), times) in contenders.iter().zip(&mut times) {
        let speeds: Vec<f64> = times.iter_mut().map(|times| bytes as f64 / median(times) / 1e9).collect();
        let line: Vec<String> =
            args.threads.iter().zip(&speeds).map(|(n, speed)| format!("{n}: {speed:6.1}")).collect();
        let gain = speeds.last().unwrap_or(&0.0) / speeds.first().unwrap_or(&1.0);
        println!("  {}  gain {gain:.2}  {name}", line.join("  "));
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The C library's copy, of one part on each thread.
fn memcpy(src: &[u8], dst: &mut [u8], threads: usize) {
    let part = src.len().div_ceil(threads);
    let mut parts = src.chunks(part).zip(dst.chunks_mut(part));
    let first = parts.next();
    std::thread::scope(|scope| {
        for (src, dst) in parts {
            scope.spawn(|| dst.copy_from_slice(src));
        }
        if let Some((src, dst)) = first {
            dst.copy_from_slice(src);
        }
    });
}
