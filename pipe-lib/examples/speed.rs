//! Throughput of a pipeline's loop over sizes: `speed PIPELINE [BACKEND]`. A quick look for who works on the
//! code generators; the figures that count come from `benches`.

use pipe_lib::{Backend, CompileOptions, Library};
use std::time::Instant;

fn main() {
    let mut args = std::env::args().skip(1);
    let text = args.next().unwrap_or_else(|| "inet_cksum | byteswap32 | xor32(key=0xdeadbeef)".into());
    let backend = args.next().and_then(|name| Backend::from_name(&name)).unwrap_or_default();
    let pipeline = Library::standard().pipeline(&text).expect("a pipeline");
    let started = Instant::now();
    let options = CompileOptions::from(backend);
    let fused = pipeline.compile_with(&options).expect("an engine");
    let compile_us = started.elapsed().as_micros();
    let separate = pipeline.compile_with(&options.separate_passes(true)).expect("an engine");
    println!("{text}: {} ({} passes), compiled in {compile_us} us", fused.backend(), fused.passes());
    println!("{:>10} {:>8} {:>8} {:>8}   GB/s (fused, separate blocked, memcpy)", "bytes", "", "", "");
    for size in [64usize, 256, 1460, 4096, 16384, 65536, 1 << 20, 16 << 20, 64 << 20] {
        let src: Vec<u8> = (0..size).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut dst = vec![0u8; size];
        let turns = ((64 << 20) / size).clamp(3, 200_000);
        let mut best = [0f64; 3];
        for _ in 0..7 {
            for (kind, best) in best.iter_mut().enumerate() {
                let started = Instant::now();
                for _ in 0..turns {
                    match kind {
                        0 => drop(fused.run(&src, &mut dst).expect("a run")),
                        1 => drop(separate.run(&src, &mut dst).expect("a run")),
                        _ => {
                            dst.copy_from_slice(&src);
                            std::hint::black_box(&mut dst);
                        }
                    }
                }
                let rate = (size * turns) as f64 / started.elapsed().as_secs_f64() / 1e9;
                *best = best.max(rate);
            }
        }
        println!("{size:>10} {:>8.2} {:>8.2} {:>8.2}", best[0], best[1], best[2]);
    }
}
