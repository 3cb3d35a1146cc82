//! `pipec inspect`: what the compiler makes of a pipeline, stage by stage.

mod front;

use super::{Outcome, Status};
use crate::files::LibraryArgs;
use crate::parse as value;
use clap::ValueEnum;
use pipe_lib::Features;
use pipe_lib::{Backend, CompileOptions};
use std::path::PathBuf;

/// Show what the compiler makes of a pipeline
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The pipeline
    pipeline: String,
    /// Which form to show; tokens and ast are those of the pipeline and of all that it names
    #[arg(long, value_enum, default_value = "ir")]
    emit: Form,
    /// For plan and asm: where the code comes from
    #[arg(long, default_value = "auto", value_parser = value::backend)]
    backend: Backend,
    /// For plan, clif and asm: one word after the other, as written
    #[arg(long)]
    serial: bool,
    /// For plan and asm: which instructions the native backend may use, as in `avx2,gfni`; all that the
    /// processor has, without
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
    /// The words of the texts, with their places
    Tokens,
    /// The syntax trees of the texts
    Ast,
    /// The typed instructions of every stage
    Ir,
    /// Which stages share a loop, and what each loop does
    Plan,
    /// Cranelift's textual form
    Clif,
    /// The machine code, disassembled
    Asm,
    /// The dataflow, for Graphviz
    Dot,
    /// The dataflow, as a picture
    Svg,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let Some(library) = args.library.load()? else { return Ok(Status::Refused) };
    let pipeline = match library.pipeline(&args.pipeline) {
        Ok(pipeline) => pipeline,
        // Any text has tokens: where the lexer stumbles is what one wants to see.
        Err(_) if args.emit == Form::Tokens => {
            write_out(args.output.as_deref(), front::tokens(&library, &args.pipeline).as_bytes())?;
            return Ok(Status::Fine);
        }
        Err(diagnostics) => {
            crate::render::to_stderr(&diagnostics)?;
            return Ok(Status::Refused);
        }
    };
    let composition = pipeline.composition();
    let options = CompileOptions::from(args.backend).features(args.features).serial(args.serial);
    let text = match args.emit {
        Form::Tokens => front::tokens(&library, &args.pipeline),
        Form::Ast => front::trees(&library, &args.pipeline),
        Form::Ir => composition.to_string(),
        Form::Plan => pipe_lib::inspect::plan(composition, &options)?,
        Form::Clif => pipe_lib::inspect::clif(composition, &options)?,
        Form::Asm => pipe_lib::inspect::asm(composition, &options)?,
        Form::Dot => pipe_lib::inspect::dot(composition, &options),
        Form::Svg => pipe_lib::inspect::svg(composition, &options),
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
