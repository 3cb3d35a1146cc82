//! What the loops that touch content cost alone on this processor, beside the servers' figures. It is an
//! estimate of what there is to save, and no upper bound: in a server each pass finds other data in the
//! caches.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pipe_lib::aead::AesGcm;
use pipe_lib::{CompileOptions, Engine, Imports, Library};

use super::load::contents;
use super::varied::ContentSource;

/// Bytes that a loop is given at once, as a record of TLS has them.
const BLOCK: usize = 16 << 10;

/// Bytes in all: what stays in the second-level cache or near it, and what does not.
const HOT: usize = 512 << 10;
const COLD: usize = 64 << 20;

/// What source and destination lie apart within a page.
const APART: usize = 2048 + 128;

/// Each loop in turn, so often, or for as long; the best counts.
const ROUNDS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(3);

/// What takes how long.
#[derive(Clone, Debug)]
pub(super) struct LoopCost {
    /// In words.
    pub(super) name: &'static str,
    /// Seconds for 10^9 bytes.
    pub(super) s_a_gb: f64,
}

/// A loop under measurement.
struct TimedLoop {
    name: &'static str,
    passes: Vec<TimedPass>,
    best_s: f64,
}

/// One reading of a block.
enum TimedPass {
    Copy,
    /// Reads and gives a result.
    Read(KeyedLoop),
    /// Reads and writes.
    Write(KeyedLoop),
}

struct KeyedLoop {
    engine: Engine,
    imports: Imports,
}

impl KeyedLoop {
    fn new(pipeline: &str, separate: bool) -> anyhow::Result<KeyedLoop> {
        let pipeline =
            Library::standard().pipeline(pipeline).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        let engine = pipeline.compile_with(&CompileOptions::new().separate_passes(separate))?;
        let mut imports = engine.imports();
        // Which key it is does not matter to how long it takes.
        for (number, register) in
            engine.registers().iter().enumerate().filter(|(_, register)| register.secret)
        {
            imports.set(&register.name, (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))?;
        }
        Ok(KeyedLoop { engine, imports })
    }
}

impl TimedPass {
    fn run(&self, from: &[u8], to: &mut [u8]) -> anyhow::Result<()> {
        match self {
            TimedPass::Copy => to.copy_from_slice(black_box(from)),
            TimedPass::Read(it) => drop(black_box(it.engine.with(&it.imports)?.run_read_only(from)?)),
            TimedPass::Write(it) => drop(black_box(it.engine.run_with(&it.imports, from, to)?)),
        }
        Ok(())
    }
}

const VERIFY: &str = "verify: crc32c, a pass of its own";
const VERIFY_AND_SEAL: &str = "verify and seal in one loop";
const SEAL: &str = "seal in one loop (AES-128-GCM)";
const SEAL_APART: &str = "copy, encrypt, hash in a pass each";
const COPY_AND_SUM: &str = "copy and sum in one loop";
const COPY_THEN_SUM: &str = "copy, then sum";

/// Measures those that a server of such content may run, over content that is as hot.
///
/// # Errors
/// If one has no code here.
pub(super) fn measure(content: ContentSource, tls: bool) -> anyhow::Result<Vec<LoopCost>> {
    // Interpreted they would take minutes, and bound nothing.
    anyhow::ensure!(AesGcm::new(&[1; 16])?.is_compiled(), "no machine code for AES-GCM here");
    let is_cold = content == ContentSource::Cold;
    measure_over(if is_cold { COLD } else { HOT }, is_cold, tls)
}

fn measure_over(bytes: usize, verified: bool, tls: bool) -> anyhow::Result<Vec<LoopCost>> {
    let one = |pipeline: &str| KeyedLoop::new(pipeline, false);
    let of = |name, passes| TimedLoop { name, passes, best_s: f64::INFINITY };
    let mut all = vec![of("copy (memcpy)", vec![TimedPass::Copy])];
    if tls {
        all.push(of(SEAL, vec![TimedPass::Write(one("aes128_gcm_seal")?)]));
        all.push(of(SEAL_APART, vec![TimedPass::Write(KeyedLoop::new("aes128_gcm_seal", true)?)]));
    } else {
        all.push(of("sum (inet_cksum)", vec![TimedPass::Read(one("inet_cksum")?)]));
        all.push(of(COPY_AND_SUM, vec![TimedPass::Write(one("inet_cksum")?)]));
        all.push(of(COPY_THEN_SUM, vec![TimedPass::Copy, TimedPass::Read(one("inet_cksum")?)]));
    }
    if verified {
        all.push(of(VERIFY, vec![TimedPass::Read(one("crc32c")?)]));
    }
    if verified && tls {
        all.push(of(VERIFY_AND_SEAL, vec![TimedPass::Write(one("crc32c as disk | aes128_gcm_seal")?)]));
    }
    let from = contents(bytes, 0);
    // Processors copy slowly between places of the same offset in a page.
    let mut to = vec![0; bytes + APART];
    let to = &mut to[APART..];
    let began = Instant::now();
    // The first brings pages and code into place.
    for round in 0..=ROUNDS {
        if round > 1 && began.elapsed() > PATIENCE {
            break;
        }
        for timed in &mut all {
            let began = Instant::now();
            for (from, to) in from.chunks(BLOCK).zip(to.chunks_mut(BLOCK)) {
                timed.passes.iter().try_for_each(|pass| pass.run(from, to)).context(timed.name)?;
            }
            if round > 0 {
                timed.best_s = timed.best_s.min(began.elapsed().as_secs_f64());
            }
        }
    }
    let cost = |timed: &TimedLoop| LoopCost { name: timed.name, s_a_gb: timed.best_s * 1e9 / bytes as f64 };
    Ok(all.iter().map(cost).collect())
}

/// What one loop in place of several saves at most, of those measured.
pub(super) fn savings(bounds: &[LoopCost]) -> Vec<LoopCost> {
    let time = |name: &str| bounds.iter().find(|bound| bound.name == name).map(|bound| bound.s_a_gb);
    let saved = |name, apart: &[&str], together: &str| {
        let apart: f64 = apart.iter().map(|one| time(one)).sum::<Option<f64>>()?;
        Some(LoopCost { name, s_a_gb: apart - time(together)? })
    };
    [
        saved("one loop to copy and sum saves", &[COPY_THEN_SUM], COPY_AND_SUM),
        saved("one loop to seal saves", &[SEAL_APART], SEAL),
        saved("verifying while sealing saves", &[VERIFY, SEAL], VERIFY_AND_SEAL),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every loop has code here, and takes time.
    #[test]
    fn loops_are_measured() {
        for (verified, tls, loops, saved) in [(false, false, 4, 1), (true, false, 5, 1), (true, true, 5, 2)] {
            let bounds = measure_over(2 * BLOCK, verified, tls).unwrap();
            assert_eq!((bounds.len(), savings(&bounds).len()), (loops, saved));
            assert!(bounds.iter().all(|bound| bound.s_a_gb > 0.0 && bound.s_a_gb.is_finite()), "{bounds:?}");
        }
    }

    #[test]
    fn what_is_saved_is_the_difference() {
        let bound = |name, s_a_gb| LoopCost { name, s_a_gb };
        let all = [bound(VERIFY, 0.05), bound(SEAL, 0.2), bound(VERIFY_AND_SEAL, 0.21)];
        let saved = savings(&all);
        assert_eq!(saved.len(), 1);
        assert!((saved[0].s_a_gb - 0.04).abs() < 1e-9);
    }
}
