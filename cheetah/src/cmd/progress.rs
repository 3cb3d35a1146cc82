//! Progress of packing, on a terminal only and only when there is something to wait for.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Fewer bytes than this are packed before a bar could be read.
const WORTH_SHOWING_BYTES: u64 = 64 << 20;

/// A bar over `total_bytes`, hidden where it would not help.
pub(crate) fn bar(total_bytes: u64) -> ProgressBar {
    if total_bytes < WORTH_SHOWING_BYTES || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("packing [{bar:40}] {bytes}/{total_bytes} {eta} {wide_msg}");
    let bar = ProgressBar::new(total_bytes);
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}
