//! Reading a file from its start to its end while what was read is worked on: a thread of its own reads ahead
//! into one of few buffers, which go back and forth.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc;

/// Bytes of a buffer: what stays in the second-level cache between the kernel's copy and the digests.
const BUFFER: usize = 256 << 10;

/// Buffers of a stream: one is filled, one worked on, one between.
const BUFFERS: usize = 3;

/// Opens a file, or the standard input as `-`.
///
/// # Errors
/// The system's; a folder is one.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(Box::new(file))
}

/// Gives all bytes to `each`, in order and in pieces; what that gives as an error ends it.
///
/// # Errors
/// Those of reading, and of `each`.
pub(crate) fn read_all<E: From<io::Error>>(
    mut from: impl Read + Send,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut first = vec![0; BUFFER];
    let len = fill(&mut from, &mut first)?;
    each(&first[..len])?;
    if len < BUFFER {
        return Ok(());
    }
    // Longer than one buffer: from here on a thread pays.
    let (give_back, empty) = mpsc::sync_channel::<Vec<u8>>(BUFFERS);
    let (full, filled) = mpsc::sync_channel::<io::Result<(Vec<u8>, usize)>>(BUFFERS);
    let _ = give_back.send(first);
    for _ in 1..BUFFERS {
        let _ = give_back.send(vec![0; BUFFER]);
    }
    std::thread::scope(move |scope| {
        let reader = move || {
            // The channels end where the other side has stopped.
            for mut buffer in empty {
                let result = fill(&mut from, &mut buffer);
                let is_last = !matches!(result, Ok(BUFFER));
                if full.send(result.map(|len| (buffer, len))).is_err() || is_last {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("read".to_owned()).spawn_scoped(scope, reader)?;
        for result in filled {
            let (buffer, len) = result?;
            each(&buffer[..len])?;
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
