//! `fsstack-mount SITE.img DIR`: an image as a directory of the system.
//!
//! [`names`] has the inode numbers, [`volume`] what is done by them, [`filesystem`] what the system asks.

mod filesystem;
mod names;
mod orphan;
mod volume;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use fuser::{Config, MountOption, Session, SessionACL};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::filesystem::Mounted;
use crate::volume::Volume;

/// How soon is tried again what was in use.
const UNMOUNT_EVERY: Duration = Duration::from_millis(100);

/// The try by which it is said what is waited for.
const SAID_AT_TRY: u32 = 5;

/// Mount an image, so that any program can read it, or change it
///
/// Stays until ctrl-c, SIGTERM or `umount DIR`, and then until nothing in it is open. Images have no modes, owners, links or devices: files are 0644 and folders
/// 0755 of who mounts, and asking for anything else is refused.
#[derive(Debug, clap::Parser)]
#[command(name = "fsstack-mount", version)]
struct Arguments {
    /// The image, as `cheetah pack` makes it
    image: PathBuf,
    /// An empty directory
    dir: PathBuf,
    /// Let it be changed; a packed image becomes one that changes
    #[arg(long)]
    write: bool,
    /// Let other users in, too
    #[arg(long)]
    allow_other: bool,
    /// What was changed is on the disk after so many seconds at the latest, and after `fsync` at once
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    sync_every: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let image = || arguments.image.display().to_string();
    let volume = if arguments.write {
        Volume::writable(&arguments.image).with_context(image)?
    } else {
        Volume::fixed(&arguments.image).with_context(image)?
    };
    let mounted = Mounted {
        volume: Arc::new(Mutex::new(volume)),
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
    };

    let mut config = Config::default();
    let name = arguments.image.file_name().map_or_else(image, |name| name.to_string_lossy().into_owned());
    config.mount_options = vec![
        // A comma would end the option.
        MountOption::FSName(name.replace(',', "_")),
        MountOption::Subtype("fsstack".to_owned()),
        MountOption::DefaultPermissions,
        if arguments.write { MountOption::RW } else { MountOption::RO },
    ];
    config.acl = if arguments.allow_other { SessionACL::All } else { SessionACL::Owner };
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let session = Session::new(mounted.clone(), &arguments.dir, &config).with_context(|| {
        let dir = arguments.dir.display();
        format!("cannot mount on {dir}: /dev/fuse is needed, and root or fusermount3 (Debian: fuse3)")
    })?;

    let dir = arguments.dir.clone();
    std::thread::spawn(move || {
        signals.forever().next();
        // A process that was forked off a moment ago has the files of its parent, until it runs a program: not worth a word.
        let mut tries = 0_u32;
        while let Err(error) = unmount(&dir) {
            tries = tries.saturating_add(1);
            if tries == SAID_AT_TRY || signals.pending().next().is_some() {
                eprintln!("fsstack-mount: it is in use: {error}; it ends when it is not");
            }
            std::thread::sleep(UNMOUNT_EVERY);
        }
    });
    let (stop, stopped) = channel::<()>();
    let (keeper, every) = (mounted, Duration::from_secs(arguments.sync_every));
    let keeper = std::thread::spawn(move || {
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            // Tried again, and said to who asks for it by `fsync`.
            let _ = keeper.volume().sync();
        }
    });
    println!("{} is mounted on {}", arguments.image.display(), arguments.dir.display());
    let ran = session.run();
    drop(stop);
    let _ = keeper.join();
    Ok(ran?)
}

/// Takes it off `dir` if nothing there is in use. (The session's own way forgets what it could not unmount.)
fn unmount(dir: &Path) -> std::io::Result<()> {
    match rustix::mount::unmount(dir, UnmountFlags::empty()) {
        // The system's program may do for others what it has mounted for them.
        Err(Errno::PERM) => {
            let output = Command::new("fusermount3").arg("-u").arg("--").arg(dir).output()?;
            let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
            if output.status.success() { Ok(()) } else { Err(std::io::Error::other(said())) }
        }
        other => Ok(other?),
    }
}
