//! Pipes whose value at one word depends on the word before, written in plain instructions: as the engine
//! runs them, next to the loop that a program would have, one word after the other, as rustc compiles it.
//!
//! Summing pipes only read; the others copy. Interleaved rounds, medians, as in `figures`.

use clap::Parser;
use pipe_lib::{Backend, CompileOptions, Engine, Library};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Times recurrences written in plain instructions against loops of one word at a time.
#[derive(Debug, Parser)]
#[command(name = "serial")]
struct Args {
    /// Only the cases whose names contain this (default: all).
    #[arg(long, default_value = "")]
    case: String,
    /// Sizes in bytes.
    #[arg(long, value_delimiter = ',', default_values_t = [1460, 4 << 10, 64 << 10, 1 << 20])]
    sizes: Vec<usize>,
    /// Rounds in which everyone has a turn; medians are over these.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
}

/// A pipe, and the same as a loop.
struct Case {
    name: &'static str,
    /// Text of the pipe `p`; its first export, if any, is what the loop returns.
    text: &'static str,
    run: Loop,
}

enum Loop {
    /// Reads bytes, gives a number.
    Sum(fn(&[u8]) -> u64),
    /// Reads bytes, writes as many.
    Map(fn(&[u8], &mut [u8])),
}

const CASES: &[Case] = &[
    Case {
        name: "adler32",
        text: "pipe p : u8 {
            state a: u32 = 1
            state b: u32 = 0
            in x
            zext t, x
            addmod a, a, t, 65521
            addmod b, b, a, 65521
            finish { shl high, b, 16; or value, high, a; export adler = value }
        }",
        run: Loop::Sum(|bytes| {
            let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), byte| {
                let a = (a + u32::from(*byte)) % 65521;
                (a, (b + a) % 65521)
            });
            u64::from(b << 16 | a)
        }),
    },
    Case {
        name: "fletcher32",
        text: "pipe p : u16le tail zero {
            state a: u32 = 0
            state b: u32 = 0
            in x
            zext t, x
            addmod a, a, t, 65535
            addmod b, b, a, 65535
            finish { shl high, b, 16; or value, high, a; export fletcher = value }
        }",
        run: Loop::Sum(|bytes| {
            let (a, b) = bytes.as_chunks::<2>().0.iter().fold((0u32, 0u32), |(a, b), word| {
                let a = (a + u32::from(u16::from_le_bytes(*word))) % 65535;
                (a, (b + a) % 65535)
            });
            u64::from(b << 16 | a)
        }),
    },
    Case {
        name: "crc32 by shifts",
        text: "pipe p : u8 {
            state crc: u32 = 0xffffffff
            in x
            zext t, x
            xor c, crc, t
            and l, c, 1; neg m, l; and m, m, 0xedb88320; shr c, c, 1; xor c, c, m
            and l, c, 1; neg m, l; and m, m, 0xedb88320; shr c, c, 1; xor c, c, m
            and l, c, 1; neg m, l; and m, m, 0xedb88320; shr c, c, 1; xor c, c, m
            and l, c, 1; neg m, l; and m, m, 0xedb88320; shr c, c, 1; xor c, c, m
            and l, c, 1; neg m, l; and m, m, 0xedb88320; shr c, c, 1; xor c, c, m
            and l, c, 1; neg m, l; and m, m, 0xedb88320; shr c, c, 1; xor c, c, m
            and l, c, 1; neg m, l; and m, m, 0xedb88320; shr c, c, 1; xor c, c, m
            and l, c, 1; neg m, l; and m, m, 0xedb88320; shr c, c, 1; xor c, c, m
            mov crc, c
            export crc = not crc
        }",
        // By a table, as a program would have it: five times as fast as by shifts.
        run: Loop::Sum(|bytes| {
            const TABLE: [u32; 256] = table();
            let step = |crc: u32, byte: &u8| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)];
            u64::from(!bytes.iter().fold(u32::MAX, step))
        }),
    },
    Case {
        name: "crc24 by shifts",
        text: "pipe p : u8 {
            state crc: u32 = 0xb704ce
            in x
            zext t, x; shl t, t, 16
            xor c, crc, t
            shl c, c, 1; and b, c, 0x1000000; ne o, b, 0; xor u, c, 0x1864cfb; sel c, o, u, c
            shl c, c, 1; and b, c, 0x1000000; ne o, b, 0; xor u, c, 0x1864cfb; sel c, o, u, c
            shl c, c, 1; and b, c, 0x1000000; ne o, b, 0; xor u, c, 0x1864cfb; sel c, o, u, c
            shl c, c, 1; and b, c, 0x1000000; ne o, b, 0; xor u, c, 0x1864cfb; sel c, o, u, c
            shl c, c, 1; and b, c, 0x1000000; ne o, b, 0; xor u, c, 0x1864cfb; sel c, o, u, c
            shl c, c, 1; and b, c, 0x1000000; ne o, b, 0; xor u, c, 0x1864cfb; sel c, o, u, c
            shl c, c, 1; and b, c, 0x1000000; ne o, b, 0; xor u, c, 0x1864cfb; sel c, o, u, c
            shl c, c, 1; and b, c, 0x1000000; ne o, b, 0; xor u, c, 0x1864cfb; sel c, o, u, c
            mov crc, c
            export crc
        }",
        // As OpenPGP (RFC 4880 section 6.1) has it, but by a table.
        run: Loop::Sum(|bytes| {
            const TABLE: [u32; 256] = table24();
            let step = |crc: u32, byte: &u8| crc << 8 ^ TABLE[usize::from((crc >> 16) as u8 ^ byte)];
            u64::from(bytes.iter().fold(0x00b7_04ce, step) & 0x00ff_ffff)
        }),
    },
    Case {
        name: "delta8, by bytes",
        text: "pipe p : u8 { state previous: u8 = 0; in x; sub y, x, previous; mov previous, x; out y }",
        // As below, but kept from being vectorised.
        run: Loop::Map(|src, dst| {
            let mut previous = 0u8;
            for (x, y) in src.iter().zip(dst) {
                *y = x.wrapping_sub(previous);
                previous = black_box(*x);
            }
        }),
    },
    Case {
        name: "delta8, as rustc vectorises it",
        text: "pipe p : u8 { state previous: u8 = 0; in x; sub y, x, previous; mov previous, x; out y }",
        run: Loop::Map(|src, dst| {
            let mut previous = 0u8;
            for (x, y) in src.iter().zip(dst) {
                *y = x.wrapping_sub(previous);
                previous = *x;
            }
        }),
    },
    Case {
        name: "prefix sum, 8 bits",
        text: "pipe p : u8 { state sum: u8 = 0; in x; add sum, sum, x; out sum }",
        run: Loop::Map(|src, dst| {
            let mut sum = 0u8;
            for (x, y) in src.iter().zip(dst) {
                sum = sum.wrapping_add(*x);
                *y = sum;
            }
        }),
    },
    Case {
        name: "prefix sum, 16 bits",
        text: "pipe p : u16le { state sum: u16 = 0; in x; add sum, sum, x; out sum }",
        run: Loop::Map(|src, dst| {
            let mut sum = 0u16;
            for (x, y) in src.as_chunks().0.iter().zip(dst.as_chunks_mut().0) {
                sum = sum.wrapping_add(u16::from_le_bytes(*x));
                *y = sum.to_le_bytes();
            }
        }),
    },
    Case {
        name: "prefix sum, 32 bits",
        text: "pipe p : u32le { state sum: u32 = 0; in x; add sum, sum, x; out sum }",
        run: Loop::Map(|src, dst| {
            let mut sum = 0u32;
            for (x, y) in src.as_chunks().0.iter().zip(dst.as_chunks_mut().0) {
                sum = sum.wrapping_add(u32::from_le_bytes(*x));
                *y = sum.to_le_bytes();
            }
        }),
    },
    Case {
        name: "running exclusive or, 8 bits",
        text: "pipe p : u8 { state all: u8 = 0; in x; xor all, all, x; out all }",
        run: Loop::Map(|src, dst| {
            let mut all = 0u8;
            for (x, y) in src.iter().zip(dst) {
                all ^= x;
                *y = all;
            }
        }),
    },
    Case {
        name: "running maximum, 8 bits",
        text: "pipe p : u8 { state most: u8 = 0; in x; max most, most, x; out most }",
        run: Loop::Map(|src, dst| {
            let mut most = 0u8;
            for (x, y) in src.iter().zip(dst) {
                most = most.max(*x);
                *y = most;
            }
        }),
    },
    Case {
        name: "polynomial hash, 32 bits",
        text: "pipe p : u8 {
            state hash: u32 = 0
            in x
            zext t, x
            mul hash, hash, 31
            add hash, hash, t
            export hash
        }",
        run: Loop::Sum(|bytes| {
            let step = |hash: u32, byte: &u8| hash.wrapping_mul(31).wrapping_add(u32::from(*byte));
            u64::from(bytes.iter().fold(0, step))
        }),
    },
    Case {
        name: "polynomial hash of words, 64 bits",
        text: "pipe p : u64le {
            state hash: u64 = 0
            in x
            mul hash, hash, 0x100000001b3
            add hash, hash, x
            export hash
        }",
        run: Loop::Sum(|bytes| {
            let words = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
            words.fold(0, |hash, word| hash.wrapping_mul(0x100_0000_01b3).wrapping_add(word))
        }),
    },
];

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let (mut crc, mut bit) = (index as u32, 0);
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

const fn table24() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let (mut crc, mut bit) = ((index as u32) << 16, 0);
        while bit < 8 {
            crc <<= 1;
            crc ^= if crc & 0x0100_0000 != 0 { 0x0186_4cfb } else { 0 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

/// The first export of a run over `src`.
fn read(engine: &Engine, src: &[u8]) -> anyhow::Result<u64> {
    Ok(engine.run_read_only(src)?.value(engine.exports()[0].id()))
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if cfg!(debug_assertions) {
        eprintln!("warning: the build is not optimised");
    }
    let sizes: Vec<usize> = args.sizes.iter().map(|size| size.next_multiple_of(8)).collect();
    println!("GB/s, and the engine's speed over the loop's\n");
    for case in CASES.iter().filter(|case| case.name.contains(&args.case)) {
        let mut library = Library::standard();
        let named = case.text.replacen("pipe p", "pipe measured", 1);
        library
            .load("measured.pipe", &named)
            .map_err(|errors| anyhow::anyhow!("{}: {errors:?}", case.name))?;
        let pipeline =
            library.pipeline("measured").map_err(|errors| anyhow::anyhow!("{}: {errors:?}", case.name))?;
        let compile = |backend| pipeline.compile_with(&CompileOptions::from(backend));
        let (engine, cranelift) = (compile(Backend::Auto)?, compile(Backend::Cranelift)?);
        println!("{} (engine: {})", case.name, engine.backend());
        println!("{:>10} {:>10} {:>10} {:>10} {:>8}", "bytes", "loop", "cranelift", "engine", "ratio");
        for &size in &sizes {
            let [serial, cranelift, engine] = measure(case, size, args.rounds, [&cranelift, &engine])?;
            let rate = |time: f64| size as f64 / time;
            let (a, b, c) = (rate(serial), rate(cranelift), rate(engine));
            println!("{size:>10} {a:>10.2} {b:>10.2} {c:>10.2} {:>8.1}", serial / engine);
        }
        println!();
    }
    Ok(())
}

/// Median nanoseconds of a run of the loop and of each engine, which have to agree.
fn measure(case: &Case, size: usize, rounds: usize, engines: [&Engine; 2]) -> anyhow::Result<[f64; 3]> {
    let mut number = 0x2545_f491_4f6c_dd1du64;
    let noise = std::iter::repeat_with(|| {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        number as u8
    });
    let src: Vec<u8> = noise.take(size).collect();
    let mut dst = vec![1; size];
    let mut turn = |who: usize, repeats: u32| -> anyhow::Result<(Duration, u64)> {
        let mut result = 0;
        let start = Instant::now();
        for _ in 0..repeats {
            let src = black_box(&src[..]);
            match (&case.run, who) {
                (Loop::Sum(run), 0) => result = black_box(run(src)),
                (Loop::Sum(_), _) => result = black_box(read(engines[who - 1], src)?),
                (Loop::Map(run), 0) => run(src, black_box(&mut dst[..])),
                (Loop::Map(_), _) => {
                    black_box(engines[who - 1].run(src, black_box(&mut dst[..]))?);
                }
            }
        }
        let time = start.elapsed();
        if let Loop::Map(_) = case.run {
            result = dst.iter().fold(0, |hash: u64, byte| hash.rotate_left(5).wrapping_add(u64::from(*byte)));
        }
        Ok((time, result))
    };
    let expected = turn(0, 1)?.1;
    let mut repeats = [1u32; 3];
    for (who, repeats) in repeats.iter_mut().enumerate() {
        anyhow::ensure!(turn(who, 1)?.1 == expected, "{}: they do not agree", case.name);
        while *repeats < 1 << 20 && turn(who, *repeats)?.0 < Duration::from_micros(500) {
            *repeats *= 2;
        }
    }
    let mut times = [const { Vec::new() }; 3];
    for round in 0..rounds {
        for step in 0..3 {
            let who = (round + step) % 3;
            times[who].push(turn(who, repeats[who])?.0.as_nanos() as f64 / f64::from(repeats[who]));
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }))
}
