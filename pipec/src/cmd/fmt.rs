//! `pipec fmt`: sources in canonical form.

use super::{Outcome, Status};
use crate::{files, render};
use anyhow::Context as _;
use pipe_lib::Diagnostics;
use pipe_lib::syntax::print;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Put files into canonical form
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Change nothing: name the files that are not in canonical form and fail if there are any
    #[arg(long)]
    check: bool,
    /// Files, changed where they stand; `-` reads the standard input and writes the standard output
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let mut status = Status::Fine;
    for path in &args.paths {
        let text = files::read(path)?;
        let formatted = match print::format_source(&path.display().to_string(), &text) {
            Ok(formatted) => formatted,
            Err(diagnostics) => {
                show(&diagnostics)?;
                status = Status::Refused;
                continue;
            }
        };
        if args.check {
            if formatted != text {
                writeln!(std::io::stdout().lock(), "{}", path.display())?;
                status = Status::Refused;
            }
        } else if path == Path::new("-") {
            std::io::stdout().lock().write_all(formatted.as_bytes())?;
        } else if formatted != text {
            replace(path, &formatted)?;
        }
    }
    Ok(status)
}

fn show(diagnostics: &Diagnostics) -> anyhow::Result<()> {
    render::to_stderr(diagnostics)
}

/// Replaces a file in one step, so that nobody ever sees half of it.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    // Through a link, the file that it leads to is replaced and not the link.
    let path = std::fs::canonicalize(path).with_context(cannot)?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".pipec-fmt");
    let temporary = path.with_file_name(name);
    let permissions = std::fs::metadata(&path).with_context(cannot)?.permissions();
    std::fs::write(&temporary, text)
        .and_then(|()| std::fs::set_permissions(&temporary, permissions))
        .and_then(|()| std::fs::rename(&temporary, &path))
        .inspect_err(|_| {
            let _ = std::fs::remove_file(&temporary);
        })
        .with_context(cannot)
}
