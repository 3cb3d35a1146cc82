//! A session on its directory, and how it comes off again: when who asks for it says so, as soon as nothing
//! is open.

use std::io::{self, Write as _};
use std::mem;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fuser::Session;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use signal_hook::iterator::Signals;

use crate::filesystem::Mounted;

/// How soon is tried again what was in use.
const UNMOUNT_EVERY: Duration = Duration::from_millis(100);

/// The try by which it is said what is waited for. A process that was forked off a moment ago has the files
/// of its parent until it runs a program: not worth a word.
const SAID_AT_TRY: u32 = 5;

/// An image on a directory.
pub(crate) struct Mounting {
    place: Place,
    session: JoinHandle<io::Result<()>>,
}

/// Where it is, and by which device it is told from what others mount there.
#[derive(Clone)]
struct Place {
    dir: PathBuf,
    device: u64,
}

impl Mounting {
    /// `session`, served from now on by a thread of its own.
    pub(crate) fn begin(session: Session<Mounted>, dir: &Path) -> io::Result<Mounting> {
        let mut background = session.spawn()?;
        let session = mem::replace(&mut background.guard, thread::spawn(|| Ok(())));
        // At its end it would take off whatever is on the directory by then.
        mem::forget(background);
        let device = rustix::fs::stat(dir)?.st_dev;
        Ok(Mounting { place: Place { dir: dir.to_owned(), device }, session })
    }

    /// Ends with the first of `signals`, or when nothing is open any more.
    pub(crate) fn end_by(&self, mut signals: Signals) {
        let place = self.place.clone();
        thread::spawn(move || {
            signals.forever().next();
            let mut tries = 0_u32;
            while let Err(error) = place.unmount() {
                tries = tries.saturating_add(1);
                if tries == SAID_AT_TRY || signals.pending().next().is_some() {
                    // Who would read it may be gone.
                    let _ = writeln!(io::stderr(), "fsstack-mount: {error}; it ends when it can");
                }
                thread::sleep(UNMOUNT_EVERY);
            }
        });
    }

    /// Returns when it is off its directory.
    pub(crate) fn wait(self) -> io::Result<()> {
        let ended = self.session.join().unwrap_or_else(|_| Err(io::Error::other("the session panicked")));
        if ended.is_err() {
            // Nobody answers there any more.
            let _ = self.place.unmount();
        }
        ended
    }
}

impl Place {
    /// Takes it off if nothing there is in use.
    fn unmount(&self) -> Result<(), String> {
        let in_use = |why: &dyn std::fmt::Display| format!("{} is in use: {why}", self.dir.display());
        if rustix::fs::stat(&self.dir).is_ok_and(|there| there.st_dev != self.device) {
            return Err(format!("something else is mounted on {}", self.dir.display()));
        }
        match rustix::mount::unmount(&self.dir, UnmountFlags::empty()) {
            Ok(()) => Ok(()),
            // The system's program may do for others what it has mounted for them.
            Err(Errno::PERM) => {
                let output = Command::new("fusermount3").arg("-u").arg("--").arg(&self.dir).output();
                match output {
                    Ok(output) if output.status.success() => Ok(()),
                    Ok(output) => Err(in_use(&String::from_utf8_lossy(&output.stderr).trim())),
                    Err(error) => Err(format!("fusermount3 does not run: {error}")),
                }
            }
            Err(error) => Err(in_use(&error)),
        }
    }
}
