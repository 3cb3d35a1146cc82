//! Looks for damage in images while they are served: round after round, so many bytes a second, behind
//! whatever else is to be done. What is found is logged with the files that it is in, and counted; nothing is
//! repaired, for there is no second copy.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use fsstack::scrub::{Scrub, Step};
use runtime::stats::work::{Quantity, Work, count};

/// Between two rounds, however small the images are.
const PAUSE: Duration = Duration::from_secs(1);

/// Scrubs the images at `paths`, `rate` bytes a second, until `stopped` has no sender any more. `tell` is
/// given what was counted since it was last.
pub(crate) fn run(paths: &[PathBuf], rate: u64, stopped: &Receiver<()>, mut tell: impl FnMut(Work)) {
    // What serves goes first. Without that it is a little slower.
    let _ = rustix::process::setpriority_process(None, 19);
    let mut counted = Work::of_this_thread();
    let is_over = |pause| stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected);
    loop {
        for path in paths {
            let mut scrub = match Scrub::begin(path) {
                Ok(scrub) => scrub,
                Err(error) => {
                    tracing::error!("{} cannot be scrubbed: {error}", path.display());
                    continue;
                }
            };
            loop {
                let bytes = match scrub.step() {
                    Ok(None) => break,
                    Ok(Some(Step { bytes, damages })) => {
                        count(Quantity::BytesScrubbed, bytes as usize);
                        count(Quantity::PagesFoundDamaged, damages.len());
                        for damage in damages {
                            tracing::error!("{}: scrubbing found {damage}", path.display());
                        }
                        bytes
                    }
                    Err(error) => {
                        tracing::error!("{}: scrubbing cannot read it: {error}", path.display());
                        Scrub::STEP_BYTES
                    }
                };
                let now = Work::of_this_thread();
                tell(now.since(&counted));
                counted = now;
                if is_over(Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64)) {
                    return;
                }
            }
        }
        if is_over(PAUSE) {
            return;
        }
    }
}
