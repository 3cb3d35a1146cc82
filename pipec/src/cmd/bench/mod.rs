//! `pipec bench`: one fused loop against separate passes, L1-blocked passes and memcpy.

mod measure;
mod svg;

use super::{Outcome, Status};
use crate::files::LibraryArgs;
use crate::parse;
use anyhow::Context as _;
use measure::{Contestants, Row};
use pipe_lib::Features;
use pipe_lib::{Backend, CompileOptions, Engine};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Measure a pipeline: fused, as separate passes, as passes over blocks, and memcpy
///
/// With a frame, the separate passes end in a copy of each window to its place, or begin with one from there;
/// their fields are not written or compared.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The pipeline
    pipeline: String,
    /// Lengths of the stream, with K, M or G for powers of 1024
    #[arg(long, value_delimiter = ',', default_value = "256,1460,64K,1M,64M", value_parser = parse::size)]
    sizes: Vec<usize>,
    /// Where the code comes from
    #[arg(long, default_value = "auto", value_parser = parse::backend)]
    backend: Backend,
    /// Which instructions the native backend may use, as in `avx2,gfni`; all that the processor has, without
    #[arg(long, value_name = "NAMES", value_parser = parse::features)]
    features: Option<Features>,
    /// One word after the other, as written: what vectors and rewrites are compared with
    #[arg(long)]
    serial: bool,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
    /// Draw the result into a file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    library: LibraryArgs,
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Report {
    pipeline: String,
    backend: &'static str,
    compile_us: f64,
    rows: Vec<Row>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let Some(pipeline) = args.library.pipeline(&args.pipeline)? else { return Ok(Status::Refused) };
    let composition = pipeline.composition();
    if composition.source.is_some() || composition.sink.is_some() {
        anyhow::bail!("`bench` compares loops over contiguous memory: leave the layouts out");
    }
    if composition.frames().count() > 1 {
        anyhow::bail!("`bench` compares with copies to or from one frame: leave the other one out");
    }
    if composition.source_frame.is_some() && composition.modifies() {
        anyhow::bail!(
            "`bench` makes what it reads by the same stages, and some write: leave those or the frame out"
        );
    }
    let options = CompileOptions::from(args.backend).features(args.features).serial(args.serial);
    let (fused, compile_us) = compile(&Arc::new(composition.clone()), &options)?;
    let contestants = Contestants::new(fused, composition, &options)?;
    if cfg!(debug_assertions) {
        writeln!(std::io::stderr(), "warning: this is a debug build; its driver and interpreter are slow")?;
    }
    let mut rows = Vec::new();
    for &size in &args.sizes {
        rows.push(contestants.measure(size)?);
    }
    let backend = contestants.fused.backend().name();
    let report = Report { pipeline: args.pipeline.clone(), backend, compile_us, rows };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        print_table(&mut out, &report, again_ns(&pipeline, &options)?)?;
    }
    if let Some(path) = &args.svg {
        let plot = svg::plot(&report.pipeline, &report.rows);
        std::fs::write(path, plot).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(Status::Fine)
}

/// An engine, and the median time that compiling takes, in microseconds.
fn compile(
    composition: &Arc<pipe_lib::Composition>,
    options: &CompileOptions,
) -> anyhow::Result<(Engine, f64)> {
    // The first one in a process pays for what is set up once.
    let engine = Engine::compile(Arc::clone(composition), options)?;
    let mut times = Vec::new();
    for _ in 0..15 {
        let start = Instant::now();
        let engine = Engine::compile(Arc::clone(composition), options)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        drop(engine);
    }
    Ok((engine, (measure::median(&mut times) * 10.0).round() / 10.0))
}

/// Median time of compiling what was compiled before, in nanoseconds: a look-up in the cache.
fn again_ns(pipeline: &pipe_lib::Pipeline, options: &CompileOptions) -> anyhow::Result<f64> {
    const LOOKUPS: u32 = 100;
    pipeline.compile_with(options)?;
    let mut times = Vec::new();
    for _ in 0..15 {
        let start = Instant::now();
        for _ in 0..LOOKUPS {
            std::hint::black_box(pipeline.compile_with(options)?);
        }
        times.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(LOOKUPS));
    }
    Ok(measure::median(&mut times))
}

fn print_table(out: &mut impl std::io::Write, report: &Report, again_ns: f64) -> std::io::Result<()> {
    let Report { pipeline, backend, compile_us, .. } = report;
    writeln!(out, "{pipeline}\n{backend} backend, compiled in {compile_us} us, again in {again_ns:.0} ns\n")?;
    writeln!(
        out,
        "{:>12} {:>10} {:>10} {:>10} {:>10}   (GB/s)",
        "bytes", "fused", "separate", "blocked", "memcpy"
    )?;
    for row in &report.rows {
        let Row { bytes, fused_gbps, separate_gbps, blocked_gbps, memcpy_gbps, .. } = row;
        writeln!(
            out,
            "{bytes:>12} {fused_gbps:>10.2} {separate_gbps:>10.2} {blocked_gbps:>10.2} {memcpy_gbps:>10.2}"
        )?;
    }
    let trapped: Vec<String> = report
        .rows
        .iter()
        .filter(|row| row.memcpy_near_gbps < 0.5 * row.memcpy_gbps)
        .map(|row| format!("{:.2} at {}", row.memcpy_near_gbps, row.bytes))
        .collect();
    if !trapped.is_empty() {
        writeln!(
            out,
            "\nmemcpy with the destination a few bytes further into its page than the source (`rep movsb` is slow there): \
             {}.\nThe table's buffers are placed alike for all, 1088 bytes apart in their pages.",
            trapped.join(", ")
        )?;
    }
    Ok(())
}
