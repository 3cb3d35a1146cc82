//! Changes of a site: what `pack` makes for each file of a folder is made for one that comes alone.

use std::cell::RefCell;
use std::io::{self, Read};

use fsstack::image::build::Mtime;
use fsstack::log::{ChangeError, Contents, Generation, Log, LogError, OpenFile, Receipt};

use super::entry::etag_of;
use super::pack::{Observed, Seen, is_typed_alike, name};
use crate::http::coding::Coding;
use crate::http::content_type::{coding, content_type};

/// Puts a file with its ready-made heads at `path`. Versions of it in codings, which were made of what it
/// was, are removed.
///
/// # Errors
/// If it cannot stand there or be read; or, of a big one, be written.
pub fn put(log: &mut Log, path: &[u8], mtime: Mtime, contents: impl Read) -> Result<Receipt, LogError> {
    let seen = RefCell::new(Seen::default());
    let mut reader = Observed { inner: contents, seen: &seen };
    let receipt =
        log.put_from(path, mtime, &mut reader, |content| seen.borrow().area_at(path, content.size, mtime))?;
    remove_coded(log, path)?;
    Ok(receipt)
}

/// As [`put`], of contents that are in memory.
///
/// # Errors
/// If it cannot stand there; or, of much that waits for its commit, be written.
pub fn put_contents(
    log: &mut Log,
    path: &[u8],
    mtime: Mtime,
    contents: Contents,
) -> Result<Receipt, LogError> {
    let mut seen = Seen::default();
    contents.parts().iter().for_each(|part| seen.update(part.bytes()));
    let area = seen.area_at(path, contents.len(), mtime);
    let receipt = log.put(path, mtime, contents, &area)?;
    remove_coded(log, path)?;
    Ok(receipt)
}

/// Moves a file or folder. A file whose new name makes it another media type gets new heads, unless it has
/// other names: then it keeps those that it has by these.
///
/// # Errors
/// If there is nothing at `from`, or it cannot stand at `to`.
pub fn rename(log: &mut Log, from: &[u8], to: &[u8]) -> Result<Receipt, LogError> {
    let is_same =
        from == to || log.latest().find(to).is_some_and(|entry| entry.names().any(|name| name == from));
    let receipt = log.rename(from, to)?;
    if is_same {
        // Nothing was done, and versions in codings are of what is there still.
        return Ok(receipt);
    }
    remove_coded(log, to)?;
    let has_other_names = log.latest().find(to).is_some_and(|entry| entry.name_count() > 1);
    if has_other_names || is_typed_alike(from, to) {
        Ok(receipt)
    } else {
        Ok(remake_heads(log, to)?.unwrap_or(receipt))
    }
}

/// Gives a file another name, under which it is served with the heads that it has.
///
/// # Errors
/// If there is no file at `existing`, or something stands at `path`.
pub fn link(log: &mut Log, existing: &[u8], path: &[u8]) -> Result<Receipt, LogError> {
    let receipt = log.link(existing, path)?;
    remove_coded(log, path)?;
    Ok(receipt)
}

/// Removes versions in codings of a file that was another when they were made.
fn remove_coded(log: &mut Log, path: &[u8]) -> Result<(), LogError> {
    if coding(name(path)).is_some() {
        return Ok(());
    }
    for coding in Coding::ALL {
        let coded = [path, coding.suffix().as_bytes()].concat();
        if log.latest().find(&coded).is_some_and(|entry| entry.is_file()) {
            log.remove(&coded)?;
        }
    }
    Ok(())
}

/// Makes the heads of all files that have none: their contents were changed in part. A file with several
/// names gets those of the first that is in no coding and whose ending tells a type, if there is one.
///
/// # Errors
/// If one cannot be read.
pub fn make_missing_heads(log: &mut Log) -> Result<(), LogError> {
    let latest = log.latest();
    for entry in latest.entries().filter(|entry| entry.is_file()) {
        // Once for each file.
        if entry.names().next().is_some_and(|first| first != entry.path()) {
            continue;
        }
        if etag_of(entry.app()?, entry.size()).is_none() {
            let by = entry.names().min_by_key(|path| strangeness(path)).unwrap_or(entry.path());
            remake_heads(log, by)?;
        }
    }
    Ok(())
}

/// How little a name says of what a file is to everybody.
fn strangeness(path: &[u8]) -> u8 {
    let name = name(path);
    match (coding(name), content_type(name, None).as_str()) {
        (None, "application/octet-stream") => 1,
        (None, _) => 0,
        (Some(_), _) => 2,
    }
}

/// Reads a file whole and makes its heads anew; nothing is done for a folder.
fn remake_heads(log: &mut Log, path: &[u8]) -> Result<Option<Receipt>, LogError> {
    let latest: Generation = log.latest();
    let entry = latest.find(path).ok_or(ChangeError::NotFound)?;
    let Some(file) = entry.to_file() else { return Ok(None) };
    let mut seen = Seen::default();
    let mut at = 0;
    while at < file.size() {
        let bytes = file.fetch(at, 1 << 20)?;
        seen.update(bytes.bytes());
        at += bytes.len() as u64;
    }
    let (mtime, area) = (entry.mtime(), seen.area_at(path, file.size(), entry.mtime()));
    log.set_attributes(path, mtime, &area).map(Some)
}

/// A file of a generation, from front to back.
#[derive(Debug)]
pub struct FileContents {
    file: OpenFile,
    at: u64,
}

impl FileContents {
    /// From its first byte on.
    pub fn of(file: OpenFile) -> FileContents {
        FileContents { file, at: 0 }
    }
}

impl Read for FileContents {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.fetch(self.at, buf.len()).map_err(io::Error::other)?;
        buf[..bytes.len()].copy_from_slice(bytes.bytes());
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}
