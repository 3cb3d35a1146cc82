//! `pipec check`: diagnostics with source excerpts.

use super::{Outcome, Status};
use crate::{files, render};
use pipe_lib::Library;
use std::path::PathBuf;

/// Check files: syntax, names, types, pipelines and tests
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Files to check, `-` for the standard input
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Print diagnostics as a JSON list on the standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let mut status = Status::Fine;
    let mut all = Vec::new();
    // Each file stands on its own, besides the standard pipes and what it uses.
    for path in &args.paths {
        let mut library = Library::standard();
        let diagnostics = match files::load_file(&mut library, path)? {
            Ok(warnings) => warnings,
            Err(diagnostics) => {
                status = Status::Refused;
                diagnostics
            }
        };
        if !args.json {
            render::to_stderr(&diagnostics)?;
        } else if let serde_json::Value::Array(list) = render::to_json(&diagnostics) {
            all.extend(list);
        }
    }
    if args.json {
        use std::io::Write as _;
        writeln!(std::io::stdout().lock(), "{}", serde_json::Value::from(all))?;
    }
    Ok(status)
}
