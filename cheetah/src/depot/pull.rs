//! An image on its way from a depot to where it is served: what lies there already is not fetched.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fsstack::device::AtomicFile;

use super::manifest::{MAX_PART_BYTES, Manifest, Part};
use super::publish::each;
use super::{Depot, collect, part_name};

/// What was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The image's name.
    pub image: String,
    /// Its bytes.
    pub bytes: u64,
    /// Of them, those that were fetched.
    pub fetched_bytes: u64,
    /// Whether the file was replaced: it is not if it was that image.
    pub is_new: bool,
}

/// Makes `target` the image that `depot` points to: it is replaced in one step, or stays as it is.
///
/// # Errors
/// If nothing is published, something of it is not there or has another hash than it should have, or the file
/// cannot be written; if `is_over` has become true meanwhile.
pub fn pull(depot: &dyn Depot, target: &Path, is_over: &AtomicBool) -> io::Result<Pulled> {
    let pointer = depot.pointer()?;
    let pointer =
        pointer.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "nothing is published there yet"))?;
    pull_image(depot, &pointer.image()?, target, is_over)
}

fn pull_image(depot: &dyn Depot, image: &str, target: &Path, is_over: &AtomicBool) -> io::Result<Pulled> {
    let gone = |name: &str| io::Error::new(ErrorKind::NotFound, format!("{name} is not there"));
    let manifest = collect::read(depot, image)?;
    let here = match File::open(target) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let known = here.as_ref().map(Manifest::of).transpose()?.unwrap_or_default();
    let (image, bytes) = (image.to_owned(), manifest.bytes());
    if here.is_some() && known == manifest {
        return Ok(Pulled { image, bytes, fetched_bytes: 0, is_new: false });
    }
    let known: HashMap<_, Part> = known.parts().iter().map(|part| (part.hash, *part)).collect();
    let fresh = AtomicFile::create(target)?;
    let fetched = AtomicU64::new(0);
    each(manifest.parts(), |part| {
        if is_over.load(Relaxed) {
            return Err(ErrorKind::Interrupted.into());
        }
        // What was written over since it was looked at is fetched.
        let here = here.as_ref().zip(known.get(&part.hash)).and_then(|(file, part)| part.read(file).ok());
        let contents = match here {
            Some(contents) => contents,
            None => {
                let name = part_name(&part.hash);
                fetched.fetch_add(part.len, Relaxed);
                depot.get(&name, MAX_PART_BYTES)?.ok_or_else(|| gone(&name))?
            }
        };
        part.check(&contents)?;
        fresh.file().write_all_at(&contents, part.offset)
    })?;
    fresh.publish()?;
    Ok(Pulled { image, bytes, fetched_bytes: fetched.into_inner(), is_new: true })
}

/// A thread that keeps a file as it is published.
#[derive(Debug)]
pub struct Puller {
    is_over: Arc<AtomicBool>,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Puller {
    /// Looks every `period` whether `depot` points to another image than what `target` has, and pulls it.
    /// `has` is the name of that, if it is known.
    ///
    /// # Errors
    /// If the system has no thread for it.
    pub fn start(
        depot: Box<dyn Depot>,
        target: PathBuf,
        period: Duration,
        has: Option<String>,
    ) -> io::Result<Puller> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (end, ended) = mpsc::channel::<()>();
        let over = Arc::clone(&is_over);
        let work = move || {
            let mut last = has;
            let mut failed = String::new();
            while ended.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                match follow(&*depot, &target, &mut last, &over) {
                    Ok(()) => failed.clear(),
                    Err(_) if over.load(Relaxed) => return,
                    Err(error) => {
                        // Once as long as it is the same.
                        let error = error.to_string();
                        if error != failed {
                            tracing::error!("{} stays as it is: {error}", target.display());
                        }
                        failed = error;
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("puller".to_owned()).spawn(work)?;
        Ok(Puller { is_over, end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Puller {
    /// Waits for the thread, which leaves off what it does.
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Pulls unless the pointer leads where it led when that was last done.
fn follow(
    depot: &dyn Depot,
    target: &Path,
    last: &mut Option<String>,
    is_over: &AtomicBool,
) -> io::Result<()> {
    let Some(pointer) = depot.pointer()? else { return Ok(()) };
    let image = pointer.image()?;
    if last.as_ref() == Some(&image) {
        return Ok(());
    }
    let pulled = pull_image(depot, &image, target, is_over)?;
    if pulled.is_new {
        let Pulled { bytes, fetched_bytes, .. } = pulled;
        tracing::info!("{} is {image} now, {bytes} bytes, {fetched_bytes} of them fetched", target.display());
    }
    *last = Some(image);
    Ok(())
}
