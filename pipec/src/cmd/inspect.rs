//! `pipec inspect`: what the compiler makes of a pipeline, stage by stage.

use super::{Outcome, Status};
use crate::files::LibraryArgs;
use crate::parse as value;
use clap::ValueEnum;
use pipe_lib::backend::features::Features;
use pipe_lib::source::{FileId, Sources};
use pipe_lib::syntax::{lexer, parse};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Show what the compiler makes of a pipeline
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The pipeline
    pipeline: String,
    /// Which form to show
    #[arg(long, value_enum, default_value = "ir")]
    emit: Form,
    /// For `--emit asm`: which instructions the native backend may use, as in `avx2,gfni`; all that the processor has, without
    #[arg(long, value_name = "NAMES", value_parser = value::features)]
    features: Option<Features>,
    /// Write to a file instead of the standard output
    #[arg(short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    library: LibraryArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// The words of the pipeline's text
    Tokens,
    /// The syntax tree of the pipeline's text
    Ast,
    /// The typed instructions of every stage
    Ir,
    /// Which stages share a loop, and what each loop does
    Plan,
    /// Cranelift's textual form
    Clif,
    /// The machine code, disassembled
    Asm,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let text = match args.emit {
        Form::Tokens => tokens(&args.pipeline),
        Form::Ast => {
            let mut sources = Sources::default();
            let file: FileId = sources.add("<pipeline>", &*args.pipeline);
            let parsed = parse::parse_pipeline(file, &args.pipeline);
            if !parsed.errors.is_empty() {
                crate::render::to_stderr(&pipe_lib::Diagnostics::new(parsed.errors, sources))?;
                return Ok(Status::Refused);
            }
            format!("{:#?}\n", parsed.tree)
        }
        Form::Ir => {
            let Some(pipeline) = args.library.pipeline(&args.pipeline)? else { return Ok(Status::Refused) };
            pipeline.composition().to_string()
        }
        Form::Plan => {
            let Some(pipeline) = args.library.pipeline(&args.pipeline)? else { return Ok(Status::Refused) };
            pipe_lib::inspect::plan(pipeline.composition())
        }
        Form::Clif => {
            let Some(pipeline) = args.library.pipeline(&args.pipeline)? else { return Ok(Status::Refused) };
            pipe_lib::inspect::clif(pipeline.composition())?
        }
        Form::Asm => {
            let Some(pipeline) = args.library.pipeline(&args.pipeline)? else { return Ok(Status::Refused) };
            pipe_lib::inspect::asm(pipeline.composition(), args.features)?
        }
    };
    write_out(args.output.as_deref(), text.as_bytes())?;
    Ok(Status::Fine)
}

/// Writes to a file, or to the standard output.
pub(crate) fn write_out(path: Option<&std::path::Path>, bytes: &[u8]) -> anyhow::Result<()> {
    use anyhow::Context as _;
    use std::io::Write as _;
    match path {
        Some(path) => std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display())),
        None => Ok(std::io::stdout().lock().write_all(bytes)?),
    }
}

fn tokens(text: &str) -> String {
    let mut out = String::new();
    for (start, token, end) in lexer::lex(text).tokens {
        let _ = writeln!(out, "{start:>4}..{end:<4} {token:?}");
    }
    out
}
