//! `fsstack-mount SITE.img DIR`: an image as a directory of the system.
//!
//! [`names`] has the inode numbers, [`volume`] what is done by them, [`filesystem`] what the system asks,
//! [`mounting`] how it comes on its directory and off again.

mod filesystem;
mod mounting;
mod names;
mod orphan;
mod volume;

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use fuser::{Config, MountOption, Session, SessionACL};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::filesystem::Mounted;
use crate::mounting::Mounting;
use crate::volume::Volume;

/// Mount an image, so that any program can read it, or change it
///
/// Stays until ctrl-c, SIGTERM or `umount DIR`, and then until nothing in it is open. What was packed is of
/// who mounts, files with mode 0644 and folders with 0755; what is changed or made here keeps its mode, owner
/// and times.
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
    let mounted = Mounted { volume: Arc::new(Mutex::new(volume)) };

    let mut config = Config::default();
    let name = arguments.image.file_name().map_or_else(image, |name| name.to_string_lossy().into_owned());
    config.mount_options = vec![
        // A comma would end the option.
        MountOption::FSName(name.replace(',', "_")),
        MountOption::Subtype("fsstack".to_owned()),
        MountOption::DefaultPermissions,
        // Whoever made the image gives nobody rights by it.
        MountOption::NoSuid,
        MountOption::NoDev,
        if arguments.write { MountOption::RW } else { MountOption::RO },
    ];
    config.acl = if arguments.allow_other { SessionACL::All } else { SessionACL::Owner };
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let session = Session::new(mounted.clone(), &arguments.dir, &config).with_context(|| {
        let dir = arguments.dir.display();
        format!("cannot mount on {dir}: /dev/fuse is needed, and root or fusermount3 (Debian: fuse3)")
    })?;

    let mounting = Mounting::begin(session, &arguments.dir)?;
    mounting.end_by(signals);
    let (stop, stopped) = channel::<()>();
    let (keeper, every) = (mounted, Duration::from_secs(arguments.sync_every));
    let keeper = std::thread::spawn(move || {
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            // Tried again, and said to who asks for it by `fsync`.
            let _ = keeper.volume().sync();
        }
    });
    println!("{} is mounted on {}", arguments.image.display(), arguments.dir.display());
    let ran = mounting.wait();
    drop(stop);
    let _ = keeper.join();
    Ok(ran?)
}
