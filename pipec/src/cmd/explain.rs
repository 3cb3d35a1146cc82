//! `pipec explain`: what a diagnostic's code means, or what a pipeline is made of.

use super::{Outcome, Status};
use crate::files::LibraryArgs;
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
        writeln!(out, "{}: {}", code.name(), code.title())?;
        return Ok(Status::Fine);
    }
    if looks_like_a_code(&args.what) {
        eprintln!("pipec: no diagnostic has the code {}", args.what.trim());
        return Ok(Status::Refused);
    }
    let Some(pipeline) = args.library.pipeline(&args.what)? else { return Ok(Status::Refused) };
    for stage in &pipeline.composition().stages {
        writeln!(out, "{}: {} -> {}", stage.name, stage.pipe.input, stage.pipe.output)?;
    }
    Ok(Status::Fine)
}

fn looks_like_a_code(text: &str) -> bool {
    let text = text.trim();
    let digits = text.strip_prefix(['E', 'W', 'e', 'w']);
    digits.is_some_and(|digits| digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}
