//! What fusing is worth: the very transfers that fill frames, measured against the same work in separate
//! passes.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, ensure};
use pipe_lib::ir::Stripe;
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
    let separate = Transfers::new(CompileOptions::default(), Style::Separate).checksum(None)?;
    for (name, layout) in [("copy + checksum", None), ("copy + checksum + striping", Some(lance))] {
        let fused = Transfers::new(CompileOptions::default(), Style::Fused).checksum(layout)?;
        for size in SIZES {
            let [fused, separate] = rates(&fused, &separate, layout.and_then(|layout| layout.stripe), size)?;
            println!("{name:<37} {size:>9} {fused:>12.1} {separate:>12.1} {:>7.2}", fused / separate);
        }
    }
    Ok(())
}

/// Gigabytes a second of one loop, and of separate passes: `memcpy`, a checksum pass, and if there is a
/// stripe a pass that spreads the bytes.
fn rates(
    fused: &Transfer,
    separate: &Transfer,
    stripe: Option<Stripe>,
    size: usize,
) -> anyhow::Result<[f64; 2]> {
    let source: Vec<u8> = (0..size as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let written = fused.written_len(size).context("a transfer that cannot be addressed")?;
    let (mut by_one_loop, mut by_passes) = (vec![0; written], vec![0; written]);
    let mut staged = vec![0; size];
    let times = ROUND_BYTES / size;
    let mut seconds = [Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS)];
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..times {
            let pieces = [Piece::new(black_box(&source))];
            black_box(fused.copy_sum(&pieces, black_box(&mut by_one_loop))?);
        }
        seconds[0].push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        for _ in 0..times {
            let pieces = [Piece::new(black_box(&source))];
            match stripe {
                None => drop(black_box(separate.copy_sum(&pieces, black_box(&mut by_passes))?)),
                Some(stripe) => {
                    black_box(separate.copy_sum(&pieces, black_box(&mut staged))?);
                    spread(black_box(&staged), stripe, black_box(&mut by_passes));
                }
            }
        }
        seconds[1].push(began.elapsed().as_secs_f64());
    }
    ensure!(by_one_loop == by_passes, "one loop and separate passes disagree");
    Ok(seconds.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        (times * size) as f64 / seconds[ROUNDS / 2] / 1e9
    }))
}

/// A striping pass as one would write it by hand: for the usual stripe, sixteen bytes at a time.
fn spread(from: &[u8], stripe: Stripe, to: &mut [u8]) {
    let (data, period) = (stripe.data as usize, (stripe.data + stripe.gap) as usize);
    if data == 16 && period == 32 {
        let (chunks, rest) = from.as_chunks::<16>();
        let (slots, last) = to.as_chunks_mut::<32>();
        for (slot, chunk) in slots.iter_mut().zip(chunks) {
            slot[..16].copy_from_slice(chunk);
        }
        // What did not fill a slot of the buffer: at most one chunk, and what is left of the bytes.
        let whole = slots.len().min(chunks.len());
        let left = chunks.get(whole).map_or(rest, |chunk| &chunk[..]);
        let target = if whole < slots.len() { &mut slots[whole][..] } else { last };
        target[..left.len()].copy_from_slice(left);
    } else {
        for (slot, chunk) in to.chunks_mut(period).zip(from.chunks(data)) {
            slot[..chunk.len()].copy_from_slice(chunk);
        }
    }
}
