//! An image on its way into a depot.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::manifest::{MAX_MANIFEST_BYTES, Manifest, Part};
use super::{Depot, Pointer, collect, image_name, invalid, part_name};

/// Objects that are under way at once: a bucket takes its time with each.
pub(super) const AT_ONCE: usize = 8;

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The image's name.
    pub image: String,
    /// Its parts, and how many of them were not there yet.
    pub parts: usize,
    /// See above.
    pub new_parts: usize,
    /// Bytes of the image, and of the parts that were not there.
    pub bytes: u64,
    /// See above.
    pub new_bytes: u64,
}

/// Puts `image` into `depot`, and has the pointer lead to it. `sent` is told the bytes that are there now.
///
/// # Errors
/// If the image cannot be read, or changes meanwhile; if the depot cannot be written, or somebody else has
/// published something since this began: then the pointer leads there. If somebody collects just now
/// ([`super::collect()`]).
pub fn publish(image: &File, depot: &dyn Depot, sent: &(dyn Fn(u64) + Sync)) -> io::Result<Published> {
    let old = depot.pointer()?;
    let manifest = Manifest::of(image)?;
    let text = manifest.to_string();
    if text.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(invalid("the image is too big to be published".to_owned()));
    }
    let mut seen = HashSet::new();
    let different: Vec<Part> =
        manifest.parts().iter().filter(|part| seen.insert(part.hash)).copied().collect();
    let name = manifest.name();
    let new = Mutex::new((0, 0));
    let told = Mutex::new(HashSet::new());
    loop {
        // First, so that whoever collects from here on sees what is needed; nobody pulls by it before the
        // pointer leads to it.
        depot.put(&image_name(&name), text.as_bytes())?;
        let began = collect::Since::now();
        if let Some(why) = collect::in_the_way(depot)? {
            return Err(io::Error::other(why));
        }
        each(&different, |part| {
            let name = part_name(&part.hash);
            if !depot.has(&name)? {
                depot.put(&name, &part.read(image)?)?;
                let mut new = new.lock().unwrap_or_else(PoisonError::into_inner);
                *new = (new.0 + 1, new.1 + part.len);
            }
            if told.lock().unwrap_or_else(PoisonError::into_inner).insert(part.hash) {
                sent(part.len);
            }
            Ok(())
        })?;
        // Otherwise (also if the machine slept) what was found there at first may be gone: once more, with
        // little to send.
        if began.elapsed() < collect::MIN_GRACE / 2 {
            break;
        }
    }
    if !depot.set_pointer(&Pointer::bytes_to(&name), old.as_ref())? {
        let other = depot.pointer()?.map_or_else(|| Ok("nothing".to_owned()), |pointer| pointer.image())?;
        return Err(io::Error::other(format!(
            "somebody else has published {other} meanwhile: see whether yours is to replace it, and publish again"
        )));
    }
    // Who is in the midst of pulling the one that was served can end that, and going back costs nothing, for
    // the time of grace.
    if let Some(before) = old.and_then(|old| old.image().ok()).filter(|before| *before != name)
        && let Some(text) = depot.get(&image_name(&before), MAX_MANIFEST_BYTES)?
    {
        depot.put(&image_name(&before), &text)?;
    }
    let (new_parts, new_bytes) = new.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Published {
        image: name,
        parts: manifest.parts().len(),
        new_parts,
        bytes: manifest.bytes(),
        new_bytes,
    })
}

/// Does `work` with each part, several at once; the first error ends it.
pub(super) fn each(parts: &[Part], work: impl Fn(&Part) -> io::Result<()> + Sync) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(parts.len()) {
            scope.spawn(|| {
                while let Some(part) = parts.get(next.fetch_add(1, Relaxed)) {
                    if let Err(error) = work(part) {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        next.store(parts.len(), Relaxed);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
