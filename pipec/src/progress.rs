//! A progress bar on a terminal, for runs that take long enough to be watched.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// How long a run stays without a bar.
const PATIENCE: Duration = Duration::from_millis(500);

/// Bytes done of all, or of an unknown number.
pub(crate) struct Progress {
    start: Instant,
    done: u64,
    total: Option<u64>,
    bar: Option<ProgressBar>,
    shows: bool,
}

impl Progress {
    pub(crate) fn new(total: Option<u64>) -> Progress {
        let shows = std::io::stderr().is_terminal();
        Progress { start: Instant::now(), done: 0, total, bar: None, shows }
    }

    pub(crate) fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        if !self.shows {
            return;
        }
        if self.bar.is_none() && self.start.elapsed() > PATIENCE {
            self.bar = Some(new_bar(self.total));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => {
            let template = "{wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
            (ProgressBar::new(total), template)
        }
        None => (ProgressBar::new_spinner(), "{spinner} {binary_bytes} {binary_bytes_per_sec} {elapsed}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
    // A template that does not parse leaves the standard style.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
