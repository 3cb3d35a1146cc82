//! Whole streams: in one call, and what came of them.

use crate::engine::{PlEngine, PlImports};
use crate::status::{Failure, PlStatus, guarded, overlap, place, readable, reference, text, writable};
use pipe_lib::{ExportValue, Prepared, Run, RunError};
use std::ffi::{c_char, c_void};
use std::{ptr, slice};

/// The outcome of a run.
pub struct PlRun(pub(crate) Run<'static>);

/// A piece of a stream: as `struct iovec` has it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PlPiece {
    /// Where it begins; anything if there are no bytes.
    pub data: *mut c_void,
    /// Bytes.
    pub len: usize,
}

/// Where a run reads and writes.
enum Buffers<'a> {
    Copy(&'a [u8], &'a mut [u8]),
    InPlace(&'a mut [u8]),
    ReadOnly(&'a [u8]),
}

/// # Safety
/// `len` bytes at `src` can be read and `room` at `dst` written, and nobody else writes or reads them for
/// `'a`.
unsafe fn buffers<'a>(
    src: *const c_void,
    len: usize,
    dst: *mut c_void,
    room: usize,
) -> Result<Buffers<'a>, Failure> {
    if !dst.is_null() && src.addr() == dst.addr() && len > 0 {
        if room < len {
            return Err(Failure::new(
                PlStatus::ShortDestination,
                format_args!("in place, `room` is at least `len`: {len}, not {room}"),
            ));
        }
        // SAFETY: the caller's promise; what is read is what is written, and is not borrowed twice.
        return Ok(Buffers::InPlace(unsafe { writable(dst, len, "dst") }?));
    }
    if !dst.is_null() && overlap((src.addr(), len), (dst.addr(), room)) {
        return Err(RunError::Overlap.into());
    }
    // SAFETY: the caller's promise, and they do not overlap.
    unsafe {
        let src = readable(src, len, "src")?;
        Ok(if dst.is_null() {
            Buffers::ReadOnly(src)
        } else {
            Buffers::Copy(src, writable(dst, room, "dst")?)
        })
    }
}

/// # Safety
/// Both are such as were given out; the engine and its imports stay for `'a`.
pub(crate) unsafe fn prepared<'a>(
    engine: *const PlEngine,
    imports: *const PlImports,
) -> Result<(&'a PlEngine, Prepared<'a>), Failure> {
    // SAFETY: the caller's promise.
    let (engine, imports) = unsafe { (reference(engine, "engine")?, imports.as_ref()) };
    let prepared = match imports {
        Some(imports) => engine.engine.with(&imports.0)?,
        None => engine.engine.prepared(),
    };
    Ok((engine, prepared))
}

fn transfer<'e>(prepared: Prepared<'e>, buffers: Buffers<'_>, threads: usize) -> Result<Run<'e>, Failure> {
    Ok(match (buffers, threads) {
        (Buffers::Copy(src, dst), 0 | 1) => prepared.run(src, dst)?,
        (Buffers::InPlace(buf), 0 | 1) => prepared.run_in_place(buf)?,
        (Buffers::ReadOnly(src), 0 | 1) => prepared.run_read_only(src)?,
        (Buffers::Copy(src, dst), _) => prepared.run_parallel(src, dst, threads)?,
        (Buffers::InPlace(buf), _) => prepared.run_parallel_in_place(buf, threads)?,
        (Buffers::ReadOnly(src), _) => prepared.run_parallel_read_only(src, threads)?,
    })
}

/// Copies `len` bytes at `src` to `dst`, where there is room for `room` bytes, through the pipeline.
///
/// With `dst` null nothing is written, and only the results are computed; with `dst` = `src` the bytes are
/// changed in place, and with a frame `len` is what the buffer holds with its fields. Otherwise the two do
/// not overlap. The room that is needed is what pl_out_len() says.
///
/// `imports` may be null. `values` is null, or has room for pl_export_count() results, in stream order: of a
/// windowed one the number of its windows, of a digest 0. `written`, if it is not null, gets the bytes
/// written.
///
/// Nothing is allocated but for pipelines with windows, or with more than eight registers.
///
/// # Safety
/// The above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_run(
    engine: *const PlEngine,
    imports: *const PlImports,
    src: *const c_void,
    len: usize,
    dst: *mut c_void,
    room: usize,
    values: *mut u64,
    written: *mut usize,
) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promises.
        let ((_, prepared), buffers) = unsafe { (prepared(engine, imports)?, buffers(src, len, dst, room)?) };
        let run = transfer(prepared, buffers, 1)?;
        // SAFETY: the caller's promise: null, or room for a size.
        if let Some(written) = unsafe { written.as_mut() } {
            *written = run.written;
        }
        if !values.is_null() {
            for (index, (_, value)) in run.exports().enumerate() {
                let value = match value {
                    ExportValue::One(value) => value,
                    ExportValue::Windows(list) => list.len() as u64,
                    ExportValue::Digest(_) => 0,
                    ExportValue::Digests(list) => list.len() as u64,
                };
                // SAFETY: the caller's promise: room for as many as there are exports.
                unsafe { values.add(index).write(value) };
            }
        }
        Ok(())
    })
}

/// pl_run() on up to `threads` threads, whose outcome is kept: lists of windows and registers, too. Long
/// streams are cut into parts of at least 2 MiB; the result is the same to the bit. `*run` is freed by
/// pl_run_free(), and is null if this ends with anything but PL_STATUS_OK.
///
/// # Safety
/// As of pl_run(); `run` is a place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_run_kept(
    engine: *const PlEngine,
    imports: *const PlImports,
    src: *const c_void,
    len: usize,
    dst: *mut c_void,
    room: usize,
    threads: usize,
    run: *mut *mut PlRun,
) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promises.
        let out = unsafe { place(run, "run") }?;
        *out = ptr::null_mut();
        // SAFETY: the caller's promises.
        let ((engine, prepared), buffers) =
            unsafe { (prepared(engine, imports)?, buffers(src, len, dst, room)?) };
        let run = transfer(prepared, buffers, threads)?;
        *out = Box::into_raw(Box::new(PlRun(engine.engine.keep(run))));
        Ok(())
    })
}

/// # Safety
/// `count` pieces at `pieces`, each of whose bytes can be read or written for `'a`.
unsafe fn pieces<'a>(pieces: *const PlPiece, count: usize, what: &str) -> Result<&'a [PlPiece], Failure> {
    match (pieces.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Failure::null(what)),
        // SAFETY: the caller's promise.
        (false, _) => Ok(unsafe { slice::from_raw_parts(pieces, count) }),
    }
}

fn place_of(piece: &PlPiece) -> (usize, usize) {
    (piece.data.addr(), piece.len)
}

/// Gathers the stream from the pieces of `src`, in order, and scatters it over those of `dst`, which may be
/// cut anywhere, in the midst of a word as well: buffers as network stacks have them. With no pieces at
/// `dst`, only the results are computed. No two pieces overlap. `*run` as of pl_run_kept().
///
/// # Safety
/// The above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_run_pieces(
    engine: *const PlEngine,
    imports: *const PlImports,
    src: *const PlPiece,
    src_count: usize,
    dst: *const PlPiece,
    dst_count: usize,
    run: *mut *mut PlRun,
) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promises.
        let out = unsafe { place(run, "run") }?;
        *out = ptr::null_mut();
        // SAFETY: the caller's promises.
        let (from, to) = unsafe { (pieces(src, src_count, "src")?, pieces(dst, dst_count, "dst")?) };
        let others = |at: usize| from.iter().chain(&to[..at]).map(place_of);
        if to.iter().enumerate().any(|(at, piece)| others(at).any(|other| overlap(place_of(piece), other))) {
            return Err(RunError::Overlap.into());
        }
        // SAFETY: the caller's promise; none that is written overlaps another.
        let read = |piece: &PlPiece| unsafe { readable(piece.data, piece.len, "src") };
        // SAFETY: the same.
        let write = |piece: &PlPiece| unsafe { writable(piece.data, piece.len, "dst") };
        let from = from.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        // SAFETY: the caller's promises.
        let (engine, prepared) = unsafe { prepared(engine, imports) }?;
        let run = if to.is_empty() {
            prepared.run_vectored_read_only(&from)?
        } else {
            let mut to = to.iter().map(write).collect::<Result<Vec<_>, _>>()?;
            prepared.run_vectored(&from, &mut to)?
        };
        *out = Box::into_raw(Box::new(PlRun(engine.engine.keep(run))));
        Ok(())
    })
}

/// Bytes of the stream that the run read; 0 of null.
///
/// # Safety
/// `run` is one that was given out, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_run_read(run: *const PlRun) -> usize {
    // SAFETY: the caller's promise.
    unsafe { run.as_ref() }.map_or(0, |run| run.0.read)
}

/// Bytes that the run wrote, from the start of the destination; 0 of null.
///
/// # Safety
/// `run` is one that was given out, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_run_written(run: *const PlRun) -> usize {
    // SAFETY: the caller's promise.
    unsafe { run.as_ref() }.map_or(0, |run| run.0.written)
}

/// The result `name`, "instance.name", that is one value.
///
/// # Safety
/// `run` is one that was given out; `value` is a place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_run_export(run: *const PlRun, name: *const c_char, value: *mut u64) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promises.
        let (run, name, value) =
            unsafe { (reference(run, "run")?, text(name, "name")?, place(value, "value")?) };
        *value = run.0.export(name)?;
        Ok(())
    })
}

/// The result `name` that has one value a window: `*count` of them at `*values`, which are good as long as
/// the run.
///
/// # Safety
/// `run` is one that was given out; `values` and `count` are places.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_run_windows(
    run: *const PlRun,
    name: *const c_char,
    values: *mut *const u64,
    count: *mut usize,
) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promises.
        let (run, name, values, count) = unsafe {
            (reference(run, "run")?, text(name, "name")?, place(values, "values")?, place(count, "count")?)
        };
        let list = run.0.windows(name)?;
        (*values, *count) = (list.as_ptr(), list.len());
        Ok(())
    })
}

/// The digest `name`, "instance.digest", of window `window` (0 without windows): its bytes go to `bytes`,
/// where there is room for `room`, which are pl_export_bits() / 8 at least.
///
/// # Safety
/// `run` is one that was given out; `bytes` is writable for `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_run_digest(
    run: *const PlRun,
    name: *const c_char,
    window: usize,
    bytes: *mut c_void,
    room: usize,
) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promises.
        let (run, name, to) =
            unsafe { (reference(run, "run")?, text(name, "name")?, writable(bytes, room, "bytes")?) };
        let value = match run.0.digest(name) {
            Err(RunError::Windowed { .. }) => run.0.digests(name)?.get(window),
            one => Some(one?).filter(|_| window == 0),
        };
        let value = value.ok_or_else(|| {
            Failure::new(PlStatus::Argument, format_args!("`{name}` has no window {window}"))
        })?;
        let have = to.len();
        let place = to.get_mut(..value.len());
        let short = RunError::ShortDestination { needed: value.len(), have };
        place.ok_or(short)?.copy_from_slice(&value);
        Ok(())
    })
}

/// The final value of the register `name`. Imported into a later run, it goes on where this one stopped.
///
/// # Safety
/// `run` is one that was given out; `value` is a place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_run_register(
    run: *const PlRun,
    name: *const c_char,
    value: *mut u64,
) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promises.
        let (run, name, value) =
            unsafe { (reference(run, "run")?, text(name, "name")?, place(value, "value")?) };
        *value = run.0.register(name)?;
        Ok(())
    })
}

/// Frees a run. Null is nothing.
///
/// # Safety
/// It is one that was given out, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_run_free(run: *mut PlRun) {
    if !run.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(run) });
    }
}
