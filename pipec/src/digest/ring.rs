//! A file read ahead by io_uring: a few reads are under way while what the one before has read is worked on.
//! What is in the page cache is copied by threads of the kernel's; what is read past it, by nobody.

use super::read::{self, BUFFER, Buffer};
use io_uring::{IoUring, Probe, opcode, squeue, types};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// Reads under way, or with what is worked on.
const DEPTH: usize = 4;

/// A file on its way through.
pub(super) struct Ahead<'f> {
    file: &'f File,
    direct: bool,
    /// Bytes that it had when it was opened: no read begins behind them.
    len: u64,
    /// Where what was worked on ends.
    at: u64,
    /// Read number `n` goes to buffer `n % DEPTH`.
    buffers: [Buffer; DEPTH],
    /// What came of the read into each buffer, if it came: bytes, or an error.
    results: [Option<i32>; DEPTH],
    under_way: usize,
    ring: IoUring,
}

impl<'f> Ahead<'f> {
    /// Of a regular file of more than the buffers hold, for a ring takes its time; `None` if it is none, or
    /// if there is no io_uring here.
    ///
    /// # Errors
    /// If its size cannot be had.
    pub(super) fn of(file: &'f File, direct: bool) -> io::Result<Option<Ahead<'f>>> {
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() <= (DEPTH * BUFFER) as u64 {
            return Ok(None);
        }
        let entries = DEPTH as u32;
        let few_interrupts = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries);
        // Kernels before 6.1 do not know these; forbidden is it altogether.
        let Ok(ring) = few_interrupts.or_else(|_| IoUring::new(entries)) else { return Ok(None) };
        // Before 5.6 there are rings without this operation; a ring may also be kept from it.
        let mut known = Probe::new();
        let is_known = ring.submitter().register_probe(&mut known).is_ok();
        if !is_known || !known.is_supported(opcode::Read::CODE) {
            return Ok(None);
        }
        Ok(Some(Ahead {
            file,
            direct,
            len: metadata.len(),
            at: 0,
            buffers: std::array::from_fn(|_| Buffer::new()),
            results: [None; DEPTH],
            under_way: 0,
            ring,
        }))
    }

    /// Where the file ended.
    pub(super) fn end(&self) -> u64 {
        self.at
    }

    /// Gives what the file had when it was opened to `each`, in order; less, if it is shorter by now.
    ///
    /// # Errors
    /// Those of reading, and of `each`.
    pub(super) fn read<E: From<io::Error>>(
        &mut self,
        each: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let reads = self.len.div_ceil(BUFFER as u64);
        for number in 0..reads.min(DEPTH as u64) {
            self.begin(number)?;
        }
        self.ring.submit()?;
        for number in 0..reads {
            let bytes = self.end_of(number)?;
            each(&self.buffers[slot(number)].bytes()[..bytes])?;
            self.at += bytes as u64;
            if bytes < BUFFER && self.at < self.len {
                return Ok(());
            }
            if number + (DEPTH as u64) < reads {
                self.begin(number + DEPTH as u64)?;
                self.ring.submit()?;
            }
        }
        Ok(())
    }

    /// Puts a read in line.
    fn begin(&mut self, number: u64) -> io::Result<()> {
        let bytes = self.buffers[slot(number)].bytes();
        let (at, len) = (bytes.as_mut_ptr(), bytes.len() as u32);
        let read =
            opcode::Read::new(types::Fd(self.file.as_raw_fd()), at, len).offset(number * BUFFER as u64);
        let entry = read.build().user_data(slot(number) as u64);
        // The kernel would copy here and now what it has in memory, before anything is worked on.
        let entry = if self.direct { entry } else { entry.flags(squeue::Flags::ASYNC) };
        // SAFETY: the buffer is not looked at until its result has come, and given up only when all have; the
        // file is open as long.
        unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        self.under_way += 1;
        Ok(())
    }

    /// Waits for a read; gives the bytes that there are, fewer than a buffer's only at the end.
    fn end_of(&mut self, number: u64) -> io::Result<usize> {
        let result = loop {
            self.gather();
            match self.results[slot(number)].take() {
                Some(result) => break result,
                None => self.wait()?,
            }
        };
        let read = match result {
            read @ 0.. => read as usize,
            error => match io::Error::from_raw_os_error(-error) {
                interrupted if interrupted.kind() == io::ErrorKind::Interrupted => 0,
                error => return Err(error),
            },
        };
        let from = number * BUFFER as u64;
        let wanted = (self.len - from).min(BUFFER as u64) as usize;
        if read >= wanted {
            return Ok(read);
        }
        // Cut short, or the file is. Past the page cache reads begin at blocks.
        let read = if self.direct { read - read % 4096 } else { read };
        let rest = &mut self.buffers[slot(number)].bytes()[read..];
        Ok(read + read::read_at(self.file, from + read as u64, rest, wanted - read)?)
    }

    fn gather(&mut self) {
        for done in self.ring.completion() {
            self.results[done.user_data() as usize % DEPTH] = Some(done.result());
            self.under_way -= 1;
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        while self.under_way > 0 {
            if self.wait().is_err() {
                // The kernel may still write to them.
                std::mem::forget(std::mem::replace(
                    &mut self.buffers,
                    std::array::from_fn(|_| Buffer::none()),
                ));
                return;
            }
            self.gather();
        }
    }
}

const fn slot(number: u64) -> usize {
    (number % DEPTH as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::super::read::{BUFFER, read_path};
    use super::{Ahead, DEPTH};
    use std::fs::File;
    use std::io::{self, Write as _};
    use std::path::Path;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len as u32).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect()
    }

    fn all_of(path: &Path, direct: bool) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        read_path(path, direct, |piece| {
            all.extend_from_slice(piece);
            Ok::<(), io::Error>(())
        })?;
        Ok(all)
    }

    /// Around whole buffers, and as many as there are, and more.
    #[test]
    fn files_of_all_lengths_come_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, bytes((DEPTH + 1) * BUFFER)).unwrap();
        if Ahead::of(&File::open(&path).unwrap(), false).unwrap().is_none() {
            eprintln!(
                "skipped: reading by io_uring, which is not to be had here; what reads instead is tried"
            );
        }
        for buffers in [0, 1, 2, DEPTH, DEPTH + 1, 3 * DEPTH] {
            for more in [-1, 0, 1, 4096] {
                let Some(len) = (buffers * BUFFER).checked_add_signed(more) else { continue };
                let data = bytes(len);
                std::fs::write(&path, &data).unwrap();
                assert!(all_of(&path, false).unwrap() == data, "{len} bytes");
                match all_of(&path, true) {
                    Ok(read) => assert!(read == data, "{len} bytes past the page cache"),
                    Err(error) => eprintln!("skipped: {error}"),
                }
            }
        }
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_read_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let data = bytes(9 * BUFFER);
        std::fs::write(&path, &data).unwrap();
        // Longer: what is written behind the end comes, too.
        let mut writer = File::options().append(true).open(&path).unwrap();
        let mut all = Vec::new();
        read_path(&path, false, |piece| {
            if all.is_empty() {
                writer.write_all(b"more")?;
            }
            all.extend_from_slice(piece);
            Ok::<(), io::Error>(())
        })
        .unwrap();
        assert!(all == [&data[..], b"more"].concat());
        // Shorter: what is gone is not made up.
        let file = File::open(&path).unwrap();
        let Some(mut ahead) = Ahead::of(&file, false).unwrap() else {
            return eprintln!("skipped: no io_uring here");
        };
        writer.set_len(2 * BUFFER as u64 + 5).unwrap();
        let mut len = 0;
        ahead
            .read(&mut |piece: &[u8]| {
                len += piece.len();
                Ok::<(), io::Error>(())
            })
            .unwrap();
        assert_eq!((len, ahead.end()), (2 * BUFFER + 5, 2 * BUFFER as u64 + 5));
    }

    /// With reads under way, which nobody waits for any more but the end.
    #[test]
    fn an_error_of_who_works_on_it_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, bytes(9 * BUFFER)).unwrap();
        let mut pieces = 0;
        let result = read_path(&path, false, |_| {
            pieces += 1;
            if pieces == 3 { Err(io::Error::other("enough")) } else { Ok(()) }
        });
        assert_eq!((result.unwrap_err().to_string(), pieces), ("enough".to_owned(), 3));
    }
}
