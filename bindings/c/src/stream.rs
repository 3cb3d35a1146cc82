//! Streams that come in chunks.

use crate::engine::{PlEngine, PlImports};
use crate::run::PlRun;
use crate::status::{Failure, PlStatus, guarded, overlap, place, readable, reference, writable};
use pipe_lib::{RunError, Stream};
use std::ffi::c_void;
use std::ptr;

/// A stream under way.
pub struct PlStream(Stream);

/// A stream through `engine` that starts from `imports` (null: from the initial values). With `hold_back`,
/// nothing of a frame's window is given out before all its fields were found to hold what they should.
/// `*stream` is freed by pl_stream_finish() or pl_stream_free(), and is null if this ends with anything but
/// PL_STATUS_OK.
///
/// # Safety
/// Handles are such as were given out; `stream` is a place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_stream(
    engine: *const PlEngine,
    imports: *const PlImports,
    hold_back: bool,
    stream: *mut *mut PlStream,
) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promises.
        let (engine, imports, out) =
            unsafe { (reference(engine, "engine")?, imports.as_ref(), place(stream, "stream")?) };
        *out = ptr::null_mut();
        let stream = match imports {
            Some(imports) => engine.engine.stream_with(&imports.0)?,
            None => engine.engine.stream(),
        };
        let stream = if hold_back { stream.hold_back() } else { stream };
        *out = Box::into_raw(Box::new(PlStream(stream)));
        Ok(())
    })
}

/// Bytes of room that a chunk of `len` bytes needs in pl_stream_push(), and, with `len` 0, what
/// pl_stream_finish() may; 0 of null or of what cannot be addressed.
///
/// # Safety
/// `stream` is one that was given out, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_stream_room(stream: *const PlStream, len: usize) -> usize {
    // SAFETY: the caller's promise.
    let stream = unsafe { stream.as_ref() };
    let room = |stream: &Stream| if len == 0 { stream.room_at_end() } else { stream.room(len) };
    stream.and_then(|stream| room(&stream.0)).unwrap_or(0)
}

/// Puts the next `len` bytes at `chunk` into the stream, and what it gives out for them at `out`, where there
/// is room for `room` bytes: as many as pl_stream_room() says. `written`, if it is not null, gets how many
/// there were: not always `len`, since the bytes of an unfinished word wait. `out` = null and `room` = 0 for
/// a stream whose output nobody wants. Chunk and `out` do not overlap.
///
/// Unless it is PL_STATUS_OK, nothing was written and the stream is where it was; after PL_STATUS_MISMATCH, what was
/// written is what came before it, and all further chunks are refused.
///
/// # Safety
/// The above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_stream_push(
    stream: *mut PlStream,
    chunk: *const c_void,
    len: usize,
    out: *mut c_void,
    room: usize,
    written: *mut usize,
) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promises.
        let stream = unsafe { &mut place(stream, "stream")?.0 };
        if overlap((chunk.addr(), len), (out.addr(), room)) {
            return Err(RunError::Overlap.into());
        }
        // SAFETY: the caller's promises, and they do not overlap.
        let (chunk, to) = unsafe { (readable(chunk, len, "chunk")?, writable(out, room, "out")?) };
        let given = if out.is_null() {
            stream.push_read_only(chunk)?;
            0
        } else {
            stream.push(chunk, to)?
        };
        // SAFETY: the caller's promise: null, or a place.
        if let Some(written) = unsafe { written.as_mut() } {
            *written = given;
        }
        Ok(())
    })
}

/// Ends the stream and frees it, whatever comes of it: leftover bytes, last windows, results. What was held
/// back goes to `out`, where there is room for `room` bytes (as pl_stream_room() with `len` 0 says);
/// `written`, if it is not null, gets how many there were. `*run`, if `run` is not null, has the results. `out` = null
/// and `room` = 0 for a stream whose output nobody wants.
///
/// # Safety
/// `stream` is one that was given out, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_stream_finish(
    stream: *mut PlStream,
    out: *mut c_void,
    room: usize,
    written: *mut usize,
    run: *mut *mut PlRun,
) -> PlStatus {
    guarded(|| {
        // SAFETY: the caller's promise.
        if let Some(run) = unsafe { run.as_mut() } {
            *run = ptr::null_mut();
        }
        if stream.is_null() {
            return Err(Failure::null("stream"));
        }
        // SAFETY: the caller gives it back.
        let PlStream(stream) = *unsafe { Box::from_raw(stream) };
        // SAFETY: the caller's promise.
        let to = unsafe { writable(out, room, "out") }?;
        let before = stream.sink_offset();
        let end = if out.is_null() { stream.finish()? } else { stream.finish_into(to)? };
        // SAFETY: the caller's promise: null, or a place.
        if let Some(written) = unsafe { written.as_mut() } {
            let all = if out.is_null() { before } else { end.run.written as u64 };
            *written = all.saturating_sub(before) as usize;
        }
        // SAFETY: the caller's promise: null, or a place.
        if let Some(run) = unsafe { run.as_mut() } {
            *run = Box::into_raw(Box::new(PlRun(end.run)));
        }
        Ok(())
    })
}

/// Gives a stream up. Null is nothing.
///
/// # Safety
/// It is one that was given out, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pl_stream_free(stream: *mut PlStream) {
    if !stream.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(stream) });
    }
}
