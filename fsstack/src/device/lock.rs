//! Locks on ranges of a file, between processes and between openings of one process. Holds `unsafe`: a system
//! call that no wrapper has.
//!
//! Open file description locks (`fcntl(2)`): they end with the last handle of the opening, so with the
//! process, and those of one opening never keep each other out.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// A range of a file that is locked as long as this lives.
#[derive(Debug)]
pub struct RangeLock {
    file: Arc<File>,
    start: u64,
    len: u64,
}

impl RangeLock {
    /// Locks a range against [`RangeLock::exclusive`] of others; `None` if somebody has it for himself. The
    /// file must be open for reading.
    ///
    /// # Errors
    /// What the system says.
    pub fn shared(file: &Arc<File>, start: u64, len: u64) -> io::Result<Option<RangeLock>> {
        RangeLock::take(file, start, len, libc::F_RDLCK)
    }

    /// Locks a range for nobody but this opening of the file, which must be open for writing; `None` if
    /// somebody has a lock on any byte of it.
    ///
    /// # Errors
    /// What the system says.
    pub fn exclusive(file: &Arc<File>, start: u64, len: u64) -> io::Result<Option<RangeLock>> {
        RangeLock::take(file, start, len, libc::F_WRLCK)
    }

    /// The end of a lock that some other opening has on a byte of the range, if there is one.
    ///
    /// # Errors
    /// What the system says.
    pub fn held_by_others(file: &File, start: u64, len: u64) -> io::Result<Option<u64>> {
        let mut lock = describe(start, len, libc::F_WRLCK)?;
        call(file, libc::F_OFD_GETLK, &mut lock)?;
        if i32::from(lock.l_type) == libc::F_UNLCK {
            return Ok(None);
        }
        let (from, len) = (lock.l_start.max(0) as u64, lock.l_len.max(0) as u64);
        // Length 0 is "to the end of everything".
        Ok(Some(if len == 0 { u64::MAX } else { from + len }))
    }

    fn take(file: &Arc<File>, start: u64, len: u64, kind: i32) -> io::Result<Option<RangeLock>> {
        let mut lock = describe(start, len, kind)?;
        match call(file, libc::F_OFD_SETLK, &mut lock) {
            Ok(()) => Ok(Some(RangeLock { file: Arc::clone(file), start, len })),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for RangeLock {
    fn drop(&mut self) {
        if let Ok(mut lock) = describe(self.start, self.len, libc::F_UNLCK) {
            // Unlocking a range of an open file does not fail; and if it did, closing the file would do it.
            let _ = call(&self.file, libc::F_OFD_SETLK, &mut lock);
        }
    }
}

fn describe(start: u64, len: u64, kind: i32) -> io::Result<libc::flock> {
    let offset =
        |value: u64| libc::off_t::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    Ok(libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: offset(start)?,
        l_len: offset(len)?,
        // Must be 0 for locks of this kind.
        l_pid: 0,
    })
}

fn call(file: &File, command: i32, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the descriptor is that of an open file, and the kernel reads and writes one `flock` at the
    // pointer, which is one, and lives through the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_keep_each_other_out_of_ranges_that_overlap() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || Arc::new(File::options().read(true).write(true).open(file.path()).unwrap());
        let (one, two) = (open(), open());
        let shared = RangeLock::shared(&one, 8192, 4096).unwrap().unwrap();
        assert!(RangeLock::exclusive(&two, 8192 + 4095, 10).unwrap().is_none());
        assert_eq!(RangeLock::held_by_others(&two, 0, 1 << 20).unwrap(), Some(8192 + 4096));
        assert_eq!(RangeLock::held_by_others(&one, 0, 1 << 20).unwrap(), None, "its own");
        let other = RangeLock::shared(&two, 8192, 4096).unwrap();
        assert!(other.is_some() && RangeLock::exclusive(&two, 0, 8192).unwrap().is_some());
        drop((shared, other));
        assert!(RangeLock::exclusive(&two, 8192, 4096).unwrap().is_some());
    }
}
