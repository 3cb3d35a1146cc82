//! `pipec explain`: what a diagnostic's code means, or what a pipeline is made of.

use super::{Outcome, Status};
use crate::files::LibraryArgs;
use pipe_lib::analyse::{analyse, hints};
use pipe_lib::compose::Stage;
use pipe_lib::diagnostic::Code;
use std::io::Write as _;

/// Explain the code of a diagnostic, or what is known of a pipeline
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A code such as E0203, or a pipeline
    #[arg(value_name = "CODE|PIPELINE")]
    what: String,
    #[command(flatten)]
    library: LibraryArgs,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let mut out = std::io::stdout().lock();
    if let Some(code) = Code::from_name(args.what.trim()) {
        write!(out, "{}", code.page())?;
        return Ok(Status::Fine);
    }
    if looks_like_a_code(&args.what) {
        eprintln!("pipec: no diagnostic has the code {}", args.what.trim());
        return Ok(Status::Refused);
    }
    let Some(pipeline) = args.library.pipeline(&args.what)? else { return Ok(Status::Refused) };
    let composition = pipeline.composition();
    if let Some(layout) = &composition.source {
        writeln!(out, "from {layout}")?;
    }
    if let Some(frame) = &composition.source_frame {
        writeln!(out, "from {frame}")?;
    }
    for stage in &composition.stages {
        explain_stage(&mut out, stage)?;
    }
    if let Some(layout) = &composition.sink {
        writeln!(out, "to {layout}")?;
    }
    if let Some(frame) = &composition.sink_frame {
        writeln!(out, "to {frame}")?;
    }
    writeln!(out, "loop gauge: {} bytes", composition.gauge())?;
    Ok(Status::Fine)
}

fn explain_stage(out: &mut impl std::io::Write, stage: &Stage) -> std::io::Result<()> {
    let pipe = &stage.pipe;
    let facts = analyse(pipe);
    write!(out, "{}", stage.name)?;
    if stage.name != pipe.name {
        write!(out, " ({})", pipe.name)?;
    }
    write!(out, ": {}", pipe.input)?;
    if pipe.output != pipe.input {
        write!(out, " -> {}", pipe.output)?;
    }
    write!(out, ", tail {}", pipe.tail.name())?;
    if let Some(window) = stage.window {
        write!(out, ", a stream of its own every {window} bytes")?;
    }
    writeln!(out)?;
    for line in pipe.doc.lines() {
        writeln!(out, "    | {}", line.trim())?;
    }
    let mut known = vec![if facts.nomod() { "passes the stream unchanged" } else { "modifies the stream" }];
    if facts.commutative() {
        known.push("commutative: the words may come in any order");
    }
    known.extend(match (facts.positional, facts.nomod(), pipe.states.is_empty()) {
        (true, false, true) => Some("positional: each word by itself and its place in the stream"),
        (true, false, false) => Some("positional: what it writes depends on the place in the stream"),
        (true, true, _) => Some("positional: what it keeps depends on the place in the stream"),
        (false, _, true) => Some("stateless: each word by itself"),
        (false, _, false) => None,
    });
    for line in known {
        writeln!(out, "    {line}")?;
    }
    if let Some(kind) = pipe.digest {
        writeln!(out, "    digest: {} bytes, of another crate, which is fed block by block", kind.bytes())?;
        return Ok(());
    }
    for ((state, known), hint) in pipe.states.iter().zip(&facts.states).zip(hints(pipe, &facts)) {
        writeln!(out, "    state {}: {}: {}", state.name, state.ty, known.class)?;
        if let Some(why) = known.why_not_better() {
            writeln!(out, "        {why}")?;
        }
        if let Some(hint) = hint {
            writeln!(out, "        {hint}")?;
        }
    }
    Ok(())
}

fn looks_like_a_code(text: &str) -> bool {
    let text = text.trim();
    let digits = text.strip_prefix(['E', 'W', 'e', 'w']);
    digits.is_some_and(|digits| digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}
