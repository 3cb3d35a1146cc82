//! `cheetah accelerate http://ORIGIN`: serves what another HTTP server answers, and keeps of it what may be
//! kept.
//!
//! It is `serve --origin /=http://ORIGIN` without a site of its own.

use std::ffi::OsString;

use super::Usage;
use super::serve;

/// Serve what another HTTP server answers, and keep what may be kept (docs/accelerator.md)
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The server: http://HOST or http://HOST:PORT
    #[arg(value_name = "ORIGIN")]
    origin: String,
    /// Options of `cheetah serve`
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !arguments.origin.starts_with("http") {
        let origin = &arguments.origin;
        return Err(Usage(format!(
            "{origin}: give the origin first, as in `accelerate http://127.0.0.1:3000`"
        ))
        .into());
    }
    let mut words = vec![OsString::from("--origin"), format!("/={}", arguments.origin).into()];
    words.extend(arguments.options.iter().cloned());
    serve::run(&words)
}
