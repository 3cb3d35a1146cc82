//! Prints what protection information costs that is put in while data are copied, next to `memcpy` of the
//! same data and to ISA-L's `crc16_t10dif_copy` with the fields written behind each block.

use benches::machine::Machine;
use clap::Parser;
use pipe_lib::{Engine, Library};
use std::hint::black_box;
use std::time::Instant;

/// Bytes of data and of protection information in a block.
const DATA: usize = 4096;
const INFORMATION: usize = 8;

/// Times inserting, and taking out and comparing, T10 protection information of type 1: interleaved rounds,
/// medians of the ratios within them.
#[derive(Debug, Parser)]
#[command(name = "frames")]
struct Args {
    /// Blocks of 4096 bytes in a transfer.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,16,256,4096,16384", value_parser = clap::value_parser!(u32).range(1..=65536))]
    blocks: Vec<u32>,
    /// Rounds in which everyone has a turn.
    #[arg(long, default_value_t = 31)]
    rounds: usize,
}

type Transfer<'a> = Box<dyn FnMut(&[u8], &mut [u8]) + 'a>;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let machine = Machine::here(None);
    for warning in machine.warnings() {
        eprintln!("warning: {warning}");
    }
    println!("{}, {} online; load {}", machine.cpu, machine.cpus, machine.load);
    let engine = |text: &str| -> anyhow::Result<Engine> {
        let pipeline = Library::standard().pipeline(text).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        Ok(pipeline.compile()?)
    };
    let insert = engine("crc16_t10dif per 4096 -> t10_pi1_4k")?;
    let strip = engine("t10_pi1_4k -> crc16_t10dif per 4096")?;
    println!("blocks of {DATA} bytes; GB/s of data, medians; ratios to memcpy and to ISA-L within rounds\n");
    println!(
        "{:>7}  {:>7} {:>7} {:>7} {:>7}  {:>13} {:>13} {:>12}",
        "blocks", "memcpy", "ISA-L", "insert", "strip", "insert/memcpy", "strip/memcpy", "insert/ISA-L"
    );
    for &blocks in &args.blocks {
        row(blocks as usize, args.rounds, &insert, &strip);
    }
    Ok(())
}

fn row(blocks: usize, rounds: usize, insert: &Engine, strip: &Engine) {
    let bytes = blocks * DATA;
    let plain: Vec<u8> = (0..bytes as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let mut framed = vec![0; blocks * (DATA + INFORMATION)];
    insert.run(&plain, &mut framed).expect("whole blocks");
    let (source, checked) = (&plain, &framed.clone());
    let mut by_isa_l = vec![0; framed.len()];
    let isa_l = rivals::libraries::t10dif_copy();
    if let Some(copy) = isa_l {
        with_isa_l(copy, source, &mut by_isa_l);
        assert!(by_isa_l == framed, "ISA-L makes the same of it");
    }
    let mut contenders: Vec<Transfer<'_>> = vec![
        Box::new(|src, dst| dst[..src.len()].copy_from_slice(src)),
        Box::new(|src, dst| {
            if let Some(copy) = isa_l {
                with_isa_l(copy, src, dst);
            }
        }),
        Box::new(|src, dst| drop(black_box(insert.run(src, dst).expect("whole blocks")))),
        Box::new(|_, dst| drop(black_box(strip.run(checked, dst).expect("nothing has changed")))),
    ];
    let turns = ((4 << 20) / bytes).clamp(1, 1024);
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..=rounds {
        for index in 0..contenders.len() {
            // Another begins each round.
            let index = (index + round) % contenders.len();
            let start = Instant::now();
            for _ in 0..turns {
                contenders[index](black_box(source), black_box(&mut framed));
            }
            // The first round brings pages and code into place.
            if round > 0 {
                times[index].push(start.elapsed().as_secs_f64() / turns as f64);
            }
        }
    }
    let speed = |index: usize| bytes as f64 / median(times[index].clone()) / 1e9;
    let ratio = |one: usize, other: usize| {
        median(times[other].iter().zip(&times[one]).map(|(other, one)| other / one).collect())
    };
    let or_none = |value: f64| if isa_l.is_some() { format!("{value:.2}") } else { "-".to_owned() };
    println!(
        "{blocks:>7}  {:>7.1} {:>7} {:>7.1} {:>7.1}  {:>13.2} {:>13.2} {:>12}",
        speed(0),
        or_none(speed(1)),
        speed(2),
        speed(3),
        ratio(2, 0),
        ratio(3, 0),
        or_none(ratio(2, 1)),
    );
}

/// The same bytes as type 1 from block 0 on, with an application tag of 0.
fn with_isa_l(copy: fn(&[u8], &mut [u8]) -> u16, src: &[u8], dst: &mut [u8]) {
    for (index, (from, to)) in src.chunks(DATA).zip(dst.chunks_mut(DATA + INFORMATION)).enumerate() {
        let guard = copy(from, to);
        to[DATA..DATA + 2].copy_from_slice(&guard.to_be_bytes());
        to[DATA + 2..DATA + 4].fill(0);
        to[DATA + 4..].copy_from_slice(&(index as u32).to_be_bytes());
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
