//! How long it takes to get an engine: from a composition by each backend, and from the cache.

use crate::harness::Spread;
use anyhow::anyhow;
use pipe_lib::Features;
use pipe_lib::{Backend, CompileOptions, Engine, Library};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

/// A measured way to an engine.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Compiled {
    /// What was done.
    pub name: &'static str,
    /// The pipeline.
    pub pipeline: &'static str,
    /// Microseconds.
    pub us: Spread,
}

/// Three pipes.
pub const THREE: &str = "inet_cksum as s0 | byteswap32 | xor32(key=0xdeadbeef)";
/// Eight pipes, of which three are taps.
pub const EIGHT: &str = "inet_cksum as plain | xor32(key=0xdeadbeef) | inet_cksum as masked | byteswap32 | \
                         xor8(key=0x55) | byteswap16 | rot13 | inet_cksum as last";

/// Names of what is measured, for the goals.
pub const NATIVE_THREE: &str = "native, 3 pipes";
/// As above.
pub const CRANELIFT_EIGHT: &str = "Cranelift, 8 pipes with 3 taps";
/// As above.
pub const CACHED_THREE: &str = "cached, 3 pipes";

/// Measures all of them, `rounds` times each, with these features or all that there are.
///
/// # Errors
/// If a pipeline does not compose.
pub fn measure(rounds: usize, features: Option<Features>) -> anyhow::Result<Vec<Compiled>> {
    let library = Library::standard();
    let parse = |text: &str| library.pipeline(text).map_err(|errors| anyhow!("`{text}`: {errors:?}"));
    let mut all = Vec::new();
    for (name, pipeline, backend) in [
        (NATIVE_THREE, THREE, Backend::Native),
        ("Cranelift, 3 pipes", THREE, Backend::Cranelift),
        ("native, 8 pipes with 3 taps", EIGHT, Backend::Native),
        (CRANELIFT_EIGHT, EIGHT, Backend::Cranelift),
    ] {
        let composition = Arc::new(parse(pipeline)?.composition().clone());
        let options = CompileOptions::from(backend).features(features);
        let compile = || Engine::compile(Arc::clone(&composition), &options);
        if compile().is_err() {
            continue;
        }
        all.push(Compiled { name, pipeline, us: microseconds(rounds, 1, compile) });
    }
    let pipeline = parse(THREE)?;
    pipeline.compile()?;
    let cached = microseconds(rounds, 100, || pipeline.compile());
    all.push(Compiled { name: CACHED_THREE, pipeline: THREE, us: cached });
    let text = microseconds(rounds, 1, || parse(THREE));
    all.push(Compiled { name: "from text to a checked pipeline, 3 pipes", pipeline: THREE, us: text });
    Ok(all)
}

/// Time of each call; what it makes is dropped outside.
fn microseconds<T>(rounds: usize, repeats: u32, make: impl Fn() -> T) -> Spread {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let mut made = Vec::with_capacity(repeats as usize);
        let start = Instant::now();
        for _ in 0..repeats {
            made.push(black_box(make()));
        }
        times.push(start.elapsed().as_nanos() as f64 / 1e3 / f64::from(repeats));
    }
    Spread::of(times)
}
