//! A stream that is nowhere in memory as a whole: whoever runs it reads it piece by piece, on several cores
//! if it may be cut, each of which reads its own parts.

use super::Engine;
use super::parallel::{CACHE_LINE, Cut, LEAST_PART, PartialRun, lcm};
use crate::drive::Progress;
use crate::error::RunError;
use crate::plan::join::Orbit;
use crate::run::Run;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes of a piece, but for the last one of a part: what stays in the second-level cache between who fills
/// it and the loop.
const PIECE: usize = 256 << 10;

/// Pieces begin at multiples of this, in the stream and in memory: a page, as reading past its cache wants
/// it.
pub(crate) const ALIGNMENT: usize = 4096;

/// Parts a thread, so that one who is late does not keep the others waiting for long.
const PARTS_A_THREAD: usize = 4;

impl Engine {
    /// Runs over a stream of `len` bytes for the exports alone, on up to `threads` threads, the caller's
    /// included.
    ///
    /// `read` is asked to fill a piece of the stream from an offset on; offset, address and length are
    /// multiples of 4,096. Of the piece at the end, what lies beyond `len` is not looked at, and need not be
    /// filled. Pieces of different parts of the stream are asked for at the same time. The result is the same
    /// to the bit as in one piece; a stream that is too short, or a pipeline that [`Engine::serial_because`]
    /// gives a reason for, is read from its start to its end.
    ///
    /// # Errors
    /// The first of `read`'s, after which no more is read; a length that a tail rule rejects; layouts and
    /// frames.
    pub fn run_parallel_from<E: From<RunError> + Send>(
        &self,
        len: u64,
        threads: usize,
        read: impl Fn(u64, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<Run<'_>, E> {
        self.run_from(len, threads, LEAST_PART, &read)
    }

    fn run_from<E: From<RunError> + Send>(
        &self,
        len: u64,
        threads: usize,
        least: usize,
        read: &(impl Fn(u64, &mut [u8]) -> Result<(), E> + Sync),
    ) -> Result<Run<'_>, E> {
        let program = &*self.program;
        program.refuse_layouts("reading by call")?;
        program.check_length(len)?;
        let read_bytes = usize::try_from(len).map_err(|_| RunError::TooLong)?;
        let initial = &program.initial;
        let cut = Cut { program, initial, total: len };
        let parts = cut.unread(threads, least).unwrap_or_else(|| {
            let progress = Progress::new(program, initial);
            vec![PartialRun::unread(0, read_bytes, progress)]
        });
        let count = parts.len();
        let waiting = Mutex::new(parts.into_iter());
        let done = Mutex::new(Ok(Vec::with_capacity(count)));
        let failed = AtomicBool::new(false);
        let work = || {
            let mut buffer = Buffer::new(PIECE.min(read_bytes.next_multiple_of(ALIGNMENT)));
            while !failed.load(Ordering::Relaxed) {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(part) = next else { break };
                let result = self.read_part(part, len, &mut buffer, read, &failed);
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                match (result, &mut *done) {
                    (Ok(part), Ok(parts)) => parts.push(part),
                    (Err(error), Ok(_)) => {
                        failed.store(true, Ordering::Relaxed);
                        *done = Err(error);
                    }
                    (_, Err(_)) => {}
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(count) {
                // Without memory for a thread, fewer do the work.
                let _ = std::thread::Builder::new().name("pipe".to_owned()).spawn_scoped(scope, work);
            }
            work();
        });
        let mut parts = done.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        parts.sort_unstable_by_key(|part: &PartialRun| part.at);
        // There is at least one part.
        let progress = cut.joined(parts).unwrap_or_else(|| Progress::new(program, initial));
        Ok(self.prepared().outcome(progress, read_bytes, 0))
    }

    fn read_part<E>(
        &self,
        mut part: PartialRun,
        total: u64,
        buffer: &mut Buffer,
        read: &impl Fn(u64, &mut [u8]) -> Result<(), E>,
        failed: &AtomicBool,
    ) -> Result<PartialRun, E> {
        let mut left = part.len;
        let mut at = part.at;
        while left > 0 && !failed.load(Ordering::Relaxed) {
            let n = PIECE.min(left);
            let piece = buffer.piece(n.next_multiple_of(ALIGNMENT));
            read(at, piece)?;
            let last = at + n as u64 == total;
            // SAFETY: `n` bytes of the piece are readable; nothing is written. All passes have got as far as
            // `at`: pieces but the last one of the stream are multiples of every word.
            unsafe { part.progress.part(&self.program, piece.as_ptr(), std::ptr::null_mut(), at, n, last) };
            at += n as u64;
            left -= n;
        }
        Ok(part)
    }
}

impl Cut<'_> {
    /// Parts that begin at multiples of [`ALIGNMENT`], ready to be read; `None` if there is but one.
    fn unread(&self, threads: usize, least: usize) -> Option<Vec<PartialRun>> {
        let bytes = self.part_bytes(threads.saturating_mul(PARTS_A_THREAD).max(threads), least as u64)?;
        let unit = lcm(self.unit()?, (ALIGNMENT as u64).max(CACHE_LINE))
            .filter(|unit| *unit <= 64 * least as u64)?;
        let bytes = bytes.checked_next_multiple_of(unit)?;
        let delays = self.stages().any(|(_, rules)| rules.delay_bytes() != 0);
        if threads <= 1 || delays || bytes >= self.total {
            return None;
        }
        let mut orbits: Vec<Orbit> = self.stages().map(|_| Orbit::default()).collect();
        let mut parts = Vec::new();
        let mut at = 0;
        while at < self.total {
            let mut registers = self.initial.clone();
            if at != 0 {
                for ((range, rules), orbit) in self.stages().zip(&mut orbits) {
                    rules.start(&mut registers[range], at, orbit).ok()?;
                }
            }
            let len = usize::try_from(bytes.min(self.total - at)).ok()?;
            let progress = Progress::resumed(self.program, registers, self.initial, at);
            parts.push(PartialRun::unread(at, len, progress));
            at += bytes;
        }
        Some(parts)
    }
}

/// Memory that begins at a multiple of [`ALIGNMENT`].
struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new(len: usize) -> Buffer {
        let memory = vec![0; len + ALIGNMENT];
        let start = memory.as_ptr().addr().wrapping_neg() % ALIGNMENT;
        Buffer { memory, start }
    }

    fn piece(&mut self, len: usize) -> &mut [u8] {
        &mut self.memory[self.start..self.start + len]
    }
}

#[cfg(test)]
mod tests {
    use super::ALIGNMENT;
    use crate::error::RunError;
    use crate::{Backend, Library};
    use std::sync::Mutex;

    #[derive(Debug, PartialEq)]
    enum Failed {
        Run(RunError),
        Read(u64),
    }

    impl From<RunError> for Failed {
        fn from(error: RunError) -> Failed {
            Failed::Run(error)
        }
    }

    /// Every digest as from one piece of memory: of states that join, of one that is serial, of a delay and
    /// of windows; lengths around pieces, parts and words.
    #[test]
    fn the_same_as_in_one_piece() {
        let library = Library::standard();
        let data: Vec<u8> = (0..1_500_003u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect();
        for text in [
            "crc32 | crc32c | adler32 | inet_cksum | fletcher32",
            "crc64_nvme | fnv1a64",
            "crc32c per 4096 | min_max_u8",
            "crc32c per 1460 | inet_cksum per 3000",
            "delta8 | crc32",
            "sum_bsd | cksum_posix",
        ] {
            let engine = library.pipeline(text).unwrap().compile().unwrap();
            for len in [0, 1, 4095, 4096, 262_144, 262_145, 700_001, 1_048_576, 1_500_003] {
                let data = &data[..len];
                let expected = engine.run_read_only(data);
                for threads in [1, 2, 5] {
                    let asked = Mutex::new(Vec::new());
                    let read = |at: u64, piece: &mut [u8]| {
                        let n = piece.len().min(data.len() - at as usize);
                        piece[..n].copy_from_slice(&data[at as usize..][..n]);
                        piece[n..].fill(0xee);
                        let aligned = [at as usize, piece.as_ptr().addr(), piece.len()];
                        assert!(aligned.iter().all(|value| value % ALIGNMENT == 0), "{aligned:x?}");
                        asked.lock().unwrap().push((at, n));
                        Ok::<_, Failed>(())
                    };
                    let run = engine.run_from(len as u64, threads, 65_536, &read);
                    match (&run, &expected) {
                        (Ok(run), Ok(expected)) => {
                            assert!(run.exports().eq(expected.exports()), "{text} {len} {threads}");
                            assert_eq!(run.read, len);
                        }
                        (Err(Failed::Run(error)), Err(expected)) => assert_eq!(error, expected),
                        _ => panic!("{run:?} {expected:?}"),
                    }
                    // Every byte once.
                    let mut asked = asked.into_inner().unwrap();
                    asked.sort_unstable();
                    let end = asked.iter().fold(0, |end, (at, n)| {
                        assert_eq!(*at, end);
                        end + *n as u64
                    });
                    assert!(run.is_err() || end == len as u64);
                }
            }
        }
    }

    #[test]
    fn an_error_of_reading_ends_it() {
        let engine =
            Library::standard().pipeline("crc32").unwrap().compile_with(&Backend::Interp.into()).unwrap();
        for threads in [1, 3] {
            let read = |at: u64, _: &mut [u8]| if at >= 1 << 20 { Err(Failed::Read(at)) } else { Ok(()) };
            let run = engine.run_from(1 << 40, threads, 65_536, &read);
            assert!(matches!(run, Err(Failed::Read(at)) if at >= 1 << 20), "{run:?}");
        }
    }
}
