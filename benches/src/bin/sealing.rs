//! Prints what AES-128-GCM costs next to `ring` and OpenSSL: sealing alone, sealing with the Internet
//! checksum in the same loop, and verify, seal and sum of what is not in the caches in one pass and in three.

use benches::machine::Machine;
use clap::Parser;
use pipe_lib::aead::{AesGcm, Nonce};
use pipe_lib::{Engine, Library};
use rivals::sealing::aes128_gcm;
use std::hint::black_box;
use std::time::Instant;

/// Times sealing, interleaved: rounds in which everyone has a turn; medians of the ratios within them.
#[derive(Debug, Parser)]
#[command(name = "sealing")]
struct Args {
    /// Bytes of a record.
    #[arg(long, value_delimiter = ',', default_value = "1400,4096,16384")]
    records: Vec<usize>,
    /// Bytes that are sealed in records of 16 KiB one after the other, from memory.
    #[arg(long, default_value_t = 128 << 20)]
    cold: usize,
    /// Rounds in which everyone has a turn.
    #[arg(long, default_value_t = 31)]
    rounds: usize,
}

const KEY: [u8; 16] = *b"sixteen key byte";
const ADDITIONAL: [u8; 5] = [23, 3, 3, 64, 17];

/// Bytes of a record of the cold transfer.
const RECORD: usize = 16384;

type Turn<'a> = (String, Box<dyn FnMut(u64) + 'a>);

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let machine = Machine::here(None);
    for warning in machine.warnings() {
        eprintln!("warning: {warning}");
    }
    println!("{}, {} online; load {}", machine.cpu, machine.cpus, machine.load);
    let key = AesGcm::new(&KEY)?;
    anyhow::ensure!(
        key.is_compiled(),
        "no machine code for AES-GCM here: it would be the interpreter's time"
    );
    println!("\nhot, in place; the ratios are their time to ours\n");
    for &bytes in &args.records {
        alone(&key, bytes, args.rounds);
    }
    println!("\nhot, copying: with the Internet checksum of what is written in the same loop, and without\n");
    for &bytes in &args.records {
        summed(bytes, args.rounds)?;
    }
    println!(
        "\ncold: CRC-32C of what is read, sealed, Internet checksum of what is written; records of {RECORD}\n"
    );
    cold(args.cold.next_multiple_of(RECORD), args.rounds.min(11))
}

fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [7; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce
}

fn text(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

fn alone(key: &AesGcm, bytes: usize, rounds: usize) {
    let plain = text(bytes);
    let mut others = aes128_gcm(KEY);
    let mut ours = plain.clone();
    let tag = key.seal_in_place(Nonce::unique(nonce(1)), &ADDITIONAL, &mut ours).expect("a short record");
    for other in &mut others {
        let mut record = plain.clone();
        assert_eq!(
            other.in_place(nonce(1), &ADDITIONAL, &mut record),
            tag,
            "{} seals the same",
            other.name()
        );
        assert_eq!(record, ours);
    }
    let mut record = plain.clone();
    let mut turns: Vec<Turn<'_>> = vec![(
        "ours".to_owned(),
        Box::new(move |number| {
            let tag = key.seal_in_place(Nonce::unique(nonce(number)), &ADDITIONAL, black_box(&mut record));
            drop(black_box(tag));
        }),
    )];
    for mut other in others {
        let mut record = plain.clone();
        let name = other.name().to_owned();
        let turn = move |number| {
            black_box(other.in_place(nonce(number), &ADDITIONAL, black_box(&mut record)));
        };
        turns.push((name, Box::new(turn)));
    }
    report(&format!("{bytes}"), bytes, turns, rounds);
}

/// A pipeline with keys: which ones does not matter to how long it takes.
struct Sealer {
    engine: Engine,
    imports: pipe_lib::Imports,
}

impl Sealer {
    fn new(pipeline: &str) -> anyhow::Result<Sealer> {
        let pipeline =
            Library::standard().pipeline(pipeline).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        let engine = pipeline.compile()?;
        let mut imports = engine.imports();
        for (number, register) in engine.registers().iter().enumerate() {
            if register.secret {
                let value = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                imports.set(&register.name, value)?;
            }
        }
        Ok(Sealer { engine, imports })
    }

    fn seal(&mut self, number: u64, plain: &[u8], sealed: &mut [u8]) {
        self.imports.set("aes128_ctr.nonce.low", number).expect("there is one");
        let run = self.engine.run_with(&self.imports, plain, sealed).expect("any length");
        black_box(run.export("ghash.tag.low").and(run.export("ghash.tag.high")).expect("there is one"));
    }
}

fn summed(bytes: usize, rounds: usize) -> anyhow::Result<()> {
    let plain = text(bytes);
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for (name, pipeline) in [("seal and sum", "aes128_gcm_seal | inet_cksum"), ("seal", "aes128_gcm_seal")] {
        let mut sealer = Sealer::new(pipeline)?;
        let (plain, mut sealed) = (&plain, plain.clone());
        turns.push((
            name.to_owned(),
            Box::new(move |number| sealer.seal(number, black_box(plain), black_box(&mut sealed))),
        ));
    }
    report(&format!("{bytes}"), bytes, turns, rounds);
    Ok(())
}

fn cold(bytes: usize, rounds: usize) -> anyhow::Result<()> {
    let plain = text(bytes);
    let mut sealer = Sealer::new("crc32c as disk | aes128_gcm_seal | inet_cksum as wire")?;
    let sum = rivals::libraries::inet().remove(0);
    let mut sealed = vec![0; bytes];
    let sealed = std::cell::RefCell::new(&mut sealed);
    let records = || plain.chunks(RECORD).zip(0..).map(|(record, number)| (number as usize * RECORD, record));
    let mut turns: Vec<Turn<'_>> = Vec::new();
    turns.push((
        "one pass".to_owned(),
        Box::new(|number| {
            let mut sealed = sealed.borrow_mut();
            for (at, record) in records() {
                sealer.seal(number + at as u64, record, &mut sealed[at..at + RECORD]);
            }
        }),
    ));
    for crc in rivals::libraries::crc32c() {
        for mut other in aes128_gcm(KEY) {
            let name = format!("{}, {}, {}", crc.name, other.name(), sum.name);
            let (sealed, records) = (&sealed, &records);
            let turn = move |number: u64| {
                let mut sealed = sealed.borrow_mut();
                for (at, record) in records() {
                    let sealed = &mut sealed[at..at + RECORD];
                    black_box((crc.run)(record));
                    black_box(other.copy(nonce(number + at as u64), &ADDITIONAL, record, sealed));
                    black_box((sum.run)(sealed));
                }
            };
            turns.push((name, Box::new(turn)));
        }
    }
    report("cold", bytes, turns, rounds);
    Ok(())
}

/// Everyone in turn; the first one's speed next to each other's.
fn report(what: &str, bytes: usize, mut turns: Vec<Turn<'_>>, rounds: usize) {
    let repeats = ((4 << 20) / bytes).clamp(1, 2048);
    let mut times = vec![Vec::new(); turns.len()];
    let mut number = 0;
    for round in 0..=rounds {
        for index in 0..turns.len() {
            // Another begins each round.
            let index = (index + round) % turns.len();
            let start = Instant::now();
            for _ in 0..repeats {
                number += 1;
                turns[index].1(number << 32);
            }
            // The first round brings pages and code into place.
            if round > 0 {
                times[index].push(start.elapsed().as_secs_f64() / repeats as f64);
            }
        }
    }
    for (index, (name, _)) in turns.iter().enumerate() {
        let speed = bytes as f64 / median(times[index].clone()) / 1e9;
        let ratio = median(times[index].iter().zip(&times[0]).map(|(theirs, ours)| theirs / ours).collect());
        println!("{what:>7}  {speed:>7.2} GB/s  {ratio:>5.2}  {name}");
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
