//! What fusing is worth: the very transfers that fill frames, measured against the same work in separate passes.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Context;
use pipe_lib::{CompileOptions, Library};
use runtime::payload::Piece;
use runtime::transfer::{Style, Transfer, Transfers};

/// Payload of a segment on Ethernet, of a jumbo frame, and of a super-segment.
const SIZES: [usize; 3] = [1460, 8960, 65_160];

/// Interleaved rounds; the median counts.
const ROUNDS: usize = 31;

/// Bytes moved in one round.
const ROUND_BYTES: usize = 4 << 20;

/// Measures and prints a table.
pub(super) fn print() -> anyhow::Result<()> {
    println!(
        "{:<37} {:>9} {:>12} {:>12} {:>7}",
        "GB/s, medians of interleaved runs", "bytes", "one loop", "passes", "ratio"
    );
    let library = Library::standard();
    let lance = library.layout("lance").context("the standard library has no layout `lance`")?;
    for (name, layout) in [("copy + checksum", None), ("copy + checksum + striping", Some(lance))] {
        let mut transfer = |style| Transfers::new(CompileOptions::default(), style).checksum(layout);
        let (fused, separate) = (transfer(Style::Fused)?, transfer(Style::Separate)?);
        for size in SIZES {
            let [fused, separate] = rates([&fused, &separate], size)?;
            println!("{name:<37} {size:>9} {fused:>12.1} {separate:>12.1} {:>7.2}", fused / separate);
        }
    }
    Ok(())
}

/// Gigabytes a second of each transfer.
fn rates(transfers: [&Transfer; 2], size: usize) -> anyhow::Result<[f64; 2]> {
    let source: Vec<u8> = (0..size as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let longest = transfers.iter().filter_map(|transfer| transfer.written_len(size)).max().unwrap_or(size);
    let mut frame = vec![0; longest];
    let times = ROUND_BYTES / size;
    let mut seconds = [Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS)];
    for _ in 0..ROUNDS {
        for (transfer, seconds) in transfers.iter().zip(&mut seconds) {
            let began = Instant::now();
            for _ in 0..times {
                let pieces = [Piece { bytes: black_box(&source), sum: None }];
                black_box(transfer.copy_sum(&pieces, black_box(&mut frame))?);
            }
            seconds.push(began.elapsed().as_secs_f64());
        }
    }
    Ok(seconds.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        (times * size) as f64 / seconds[ROUNDS / 2] / 1e9
    }))
}
