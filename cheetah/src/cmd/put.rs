//! `cheetah put SITE.img PATH [FILE]`: puts a file into an image.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context;
use cheetah::site::{change, pack};
use runtime::buffer::{Shared, Slice};

use super::image::{open_to_change, plain};

/// Put a file into an image, which is made if it is not there; on the disk when the command ends
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The image file
    image: PathBuf,
    /// The file's path in the image; folders above it are made
    path: String,
    /// Where its contents are (default: the standard input)
    file: Option<PathBuf>,
    /// Overwrite the file in the image from this byte on, and leave the rest of it
    #[arg(long, value_name = "OFFSET")]
    at: Option<u64>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (mut source, time): (Box<dyn Read>, SystemTime) = match &arguments.file {
        None => (Box::new(io::stdin().lock()), SystemTime::now()),
        Some(path) => {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            let time = file.metadata()?.modified()?;
            (Box::new(file), time)
        }
    };
    let mtime = pack::mtime(time.min(SystemTime::now()));
    let path = plain(&arguments.path);
    let mut log = open_to_change(&arguments.image, arguments.at.is_none())?;
    let done = match arguments.at {
        None => {
            log.make_parents(path, mtime).and_then(|()| change::put(&mut log, path, mtime, source).map(drop))
        }
        Some(mut at) => loop {
            let mut bytes = Vec::new();
            source.by_ref().take(1 << 20).read_to_end(&mut bytes)?;
            let len = bytes.len() as u64;
            if len == 0 {
                break Ok(());
            }
            if let Err(error) = log.write(path, at, Slice::from(Shared::from(bytes)), mtime) {
                break Err(error);
            }
            at += len;
        },
    };
    done.and_then(|()| log.sync()).with_context(|| format!("`{}`", arguments.path))?;
    Ok(())
}
