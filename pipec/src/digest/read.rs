//! Reading a file while what was read is worked on: from its start to its end, ahead into one of few
//! buffers, which go back and forth, by the kernel (`ring`) or else by a thread of its own; or in any order,
//! by whoever works on the parts.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc;

/// Bytes of a buffer: what stays in the second-level cache between the kernel's copy and the digests.
pub(super) const BUFFER: usize = 256 << 10;

/// Buffers of a stream: one is filled, one worked on, one between.
const BUFFERS: usize = 3;

/// Where buffers begin in memory: at a page, as reading past the page cache wants it.
const ALIGNMENT: usize = 4096;

/// Opens a file, or the standard input as `-`.
///
/// # Errors
/// The system's; a folder is one.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    Ok(Box::new(open_file(path, false)?))
}

/// Gives all bytes of a file, or of the standard input as `-`, to `each`, in order and in pieces; what that
/// gives as an error ends it. `direct`: past the page cache, but for the standard input.
///
/// # Errors
/// Those of [`open`], of reading, and of `each`.
pub(crate) fn read_path<E: From<io::Error>>(
    path: &Path,
    direct: bool,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    if path == Path::new("-") {
        return read_all(io::stdin(), each);
    }
    let file = open_file(path, direct)?;
    #[cfg(target_os = "linux")]
    if let Some(mut ahead) = super::ring::Ahead::of(&file, direct)? {
        ahead.read(&mut each)?;
        if direct {
            return Ok(());
        }
        // What was written behind the end meanwhile.
        let mut rest = &file;
        std::io::Seek::seek(&mut rest, io::SeekFrom::Start(ahead.end()))?;
        return read_all(rest, each);
    }
    if direct { read_all(Direct::new(file)?, each) } else { read_all(file, each) }
}

/// Opens a file; `direct`, to be read past the page cache.
///
/// # Errors
/// The system's; a folder is one, and a file system that has no such reads.
pub(crate) fn open_file(path: &Path, direct: bool) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(target_os = "linux")]
    if direct {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(libc::O_DIRECT);
    }
    #[cfg(not(target_os = "linux"))]
    if direct {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "reading past the page cache is for Linux"));
    }
    let file = options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput if direct => {
            io::Error::new(error.kind(), "its file system has no reads past the page cache")
        }
        _ => error,
    })?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(file)
}

/// Fills the buffer from `at` on with at least `wanted` bytes, or as many as there are; gives how many. Past
/// the page cache, the buffer has to be as long as whole blocks, and there is no asking for more behind the
/// end.
///
/// # Errors
/// Those of reading.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, at: u64, buffer: &mut [u8], wanted: usize) -> io::Result<usize> {
    use std::os::unix::fs::FileExt as _;
    let mut len = 0;
    while len < wanted {
        match file.read_at(&mut buffer[len..], at + len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// A file that is read past the page cache, where nothing may be asked for behind its end.
struct Direct {
    file: File,
    left: u64,
}

impl Direct {
    /// # Errors
    /// If its size cannot be had.
    fn new(file: File) -> io::Result<Direct> {
        // A device says 0, and comes to its end by itself.
        let metadata = file.metadata()?;
        let left = if metadata.is_file() { metadata.len() } else { u64::MAX };
        Ok(Direct { file, left })
    }
}

impl Read for Direct {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let read = self.file.read(buffer)?;
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

/// Gives all bytes to `each`, in order and in pieces; what that gives as an error ends it.
///
/// # Errors
/// Those of reading, and of `each`.
fn read_all<E: From<io::Error>>(
    mut from: impl Read + Send,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut first = Buffer::new();
    let len = fill(&mut from, first.bytes())?;
    each(&first.bytes()[..len])?;
    if len < BUFFER {
        return Ok(());
    }
    // Longer than one buffer: from here on a thread pays.
    let (give_back, empty) = mpsc::sync_channel::<Buffer>(BUFFERS);
    let (full, filled) = mpsc::sync_channel::<io::Result<(Buffer, usize)>>(BUFFERS);
    let _ = give_back.send(first);
    for _ in 1..BUFFERS {
        let _ = give_back.send(Buffer::new());
    }
    std::thread::scope(move |scope| {
        let reader = move || {
            // The channels end where the other side has stopped.
            for mut buffer in empty {
                let result = fill(&mut from, buffer.bytes());
                let is_last = !matches!(result, Ok(BUFFER));
                if full.send(result.map(|len| (buffer, len))).is_err() || is_last {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("read".to_owned()).spawn_scoped(scope, reader)?;
        for result in filled {
            let (mut buffer, len) = result?;
            each(&buffer.bytes()[..len])?;
            let _ = give_back.send(buffer);
        }
        // The channels' ends that moved in here go with an error, too, so that the reader does not wait.
        Ok(())
    })
}

/// Fills the buffer as far as there are bytes.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match from.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// [`BUFFER`] bytes that begin at a multiple of [`ALIGNMENT`].
pub(super) struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    pub(super) fn new() -> Buffer {
        let memory = vec![0; BUFFER + ALIGNMENT];
        let start = memory.as_ptr().addr().wrapping_neg() % ALIGNMENT;
        Buffer { memory, start }
    }

    /// One without bytes.
    pub(super) const fn none() -> Buffer {
        Buffer { memory: Vec::new(), start: 0 }
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + BUFFER]
    }
}
