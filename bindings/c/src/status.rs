//! How a call ended, and what there is to say of it.

use pipe_lib::{CompileError, RunError};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

/// How a call ended. Unless it is PL_STATUS_OK, pl_message() says what was wrong and what to write instead.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlStatus {
    /// As asked for.
    Ok = 0,
    /// A null pointer, text that is not UTF-8, or a name with a zero in it.
    Argument,
    /// Something is wrong in a text in the pipe language; the message says where.
    Text,
    /// The backend asked for does not take the pipeline.
    Unsupported,
    /// No export or register of that name.
    NoSuchName,
    /// The value does not fit the register.
    ValueTooWide,
    /// The register is secret: it can be set, and not be asked for.
    Secret,
    /// The export is one value where a list was asked for, or a list where one value was.
    Windowed,
    /// The imports were made for another engine.
    ForeignImports,
    /// The destination is too small. Nothing was written.
    ShortDestination,
    /// Source and destination overlap without being the same. Nothing was written.
    Overlap,
    /// A length that no stream of this pipeline has. Nothing was written.
    Length,
    /// A device's buffer that does not lie as its layout demands. Nothing was written.
    Misaligned,
    /// This use does not go with the layout or the frame at an end of the pipeline. Nothing was written.
    Use,
    /// A field of a frame holds something else than it should; pl_mismatch() has the numbers. What came
    /// before the bad window was written.
    Mismatch,
    /// A fault of this library: please report the message.
    Bug,
}

/// What a field of a frame held, and should have held.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PlMismatch {
    /// Number of the window, from 0.
    pub window: u64,
    /// Where the field begins in the source, or, of bytes, the first that differs.
    pub offset: u64,
    /// What the field should hold.
    pub expected: u64,
    /// What it holds.
    pub found: u64,
    /// Bytes of the stream in the windows before this one, all of them as they should be.
    pub good: u64,
}

/// What was wrong, on its way to the caller.
pub(crate) struct Failure {
    status: PlStatus,
    message: String,
    mismatch: Option<PlMismatch>,
}

impl Failure {
    pub(crate) fn new(status: PlStatus, message: impl fmt::Display) -> Failure {
        Failure { status, message: message.to_string(), mismatch: None }
    }

    /// `what` is a null pointer.
    pub(crate) fn null(what: &str) -> Failure {
        Failure::new(PlStatus::Argument, format_args!("`{what}` is a null pointer"))
    }
}

impl From<CompileError> for Failure {
    fn from(error: CompileError) -> Failure {
        let status = match error {
            CompileError::Unsupported(_) => PlStatus::Unsupported,
            _ => PlStatus::Text,
        };
        Failure::new(status, error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        let status = match &error {
            RunError::ShortDestination { .. } => PlStatus::ShortDestination,
            RunError::Leftover { .. } | RunError::FrameLength { .. } | RunError::TooLong => PlStatus::Length,
            RunError::Overlap => PlStatus::Overlap,
            RunError::Misaligned { .. } => PlStatus::Misaligned,
            RunError::Mismatch(_) => PlStatus::Mismatch,
            RunError::NoSuchExport { .. } | RunError::NoSuchRegister { .. } => PlStatus::NoSuchName,
            RunError::SecretRegister { .. } => PlStatus::Secret,
            RunError::ValueTooWide { .. } => PlStatus::ValueTooWide,
            RunError::ForeignImports => PlStatus::ForeignImports,
            RunError::Windowed { .. } | RunError::NotWindowed { .. } => PlStatus::Windowed,
            // Layouts and frames, and what may come later: a use that does not go.
            _ => PlStatus::Use,
        };
        let mut failure = Failure::new(status, &error);
        if let RunError::Mismatch(m) = error {
            failure.mismatch = Some(PlMismatch {
                window: m.window,
                offset: m.offset,
                expected: m.expected,
                found: m.found,
                good: m.good,
            });
        }
        failure
    }
}

#[derive(Default)]
struct Last {
    message: CString,
    mismatch: PlMismatch,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
}

/// Does `work` and keeps what was wrong for [`pl_message`].
pub(crate) fn guarded(work: impl FnOnce() -> Result<(), Failure>) -> PlStatus {
    // What a panic leaves half done is only what the caller frees.
    let failure = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return PlStatus::Ok,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
            Failure::new(PlStatus::Bug, said.unwrap_or("a panic without words"))
        }
    };
    LAST.with_borrow_mut(|last| {
        // A zero would end the text early; there is none in what this library says but in names it was given.
        last.message = CString::new(failure.message.replace('\0', "\\0")).unwrap_or_default();
        last.mismatch = failure.mismatch.unwrap_or_default();
    });
    failure.status
}

/// What was wrong with the last call of this thread that did not end with PL_STATUS_OK, in UTF-8: of a text,
/// with line and column. Good until the next such call of the thread; "" if there was none.
#[unsafe(no_mangle)]
pub extern "C" fn pl_message() -> *const c_char {
    LAST.with_borrow(|last| last.message.as_ptr())
}

/// The numbers of the last PL_STATUS_MISMATCH of this thread.
#[unsafe(no_mangle)]
pub extern "C" fn pl_mismatch() -> PlMismatch {
    LAST.with_borrow(|last| last.mismatch)
}

/// The text at `text`, which the caller calls `what`.
///
/// # Safety
/// It is null, or ends with a zero and stays as it is for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|error| Failure::new(PlStatus::Argument, format_args!("`{what}`: {error}")))
}

/// What `pointer` points to, which the caller calls `what`.
///
/// # Safety
/// It is null, or points to what stays as it is for `'a`.
pub(crate) unsafe fn reference<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(what))
}

/// The place at `pointer`, which the caller calls `what`.
///
/// # Safety
/// It is null, or nobody else uses what it points to for `'a`.
pub(crate) unsafe fn place<'a, T>(pointer: *mut T, what: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_mut() }.ok_or_else(|| Failure::null(what))
}

/// That there are `len` bytes at `pointer`, as far as it can be seen; the caller calls it `what`.
fn check(pointer: *const c_void, len: usize, what: &str) -> Result<(), Failure> {
    if isize::try_from(len).is_err() {
        return Err(Failure::new(
            PlStatus::Argument,
            format_args!("`{what}` is longer than an address space"),
        ));
    }
    if pointer.is_null() && len > 0 { Err(Failure::null(what)) } else { Ok(()) }
}

/// The bytes that the caller calls `what`; of none, `pointer` may be anything.
///
/// # Safety
/// Unless it is null, `len` bytes can be read there, and nobody writes them for `'a`.
pub(crate) unsafe fn readable<'a>(
    pointer: *const c_void,
    len: usize,
    what: &str,
) -> Result<&'a [u8], Failure> {
    check(pointer, len, what)?;
    // SAFETY: the caller's promise; it is not null.
    Ok(if len == 0 { &[] } else { unsafe { slice::from_raw_parts(pointer.cast(), len) } })
}

/// The same of bytes to write.
///
/// # Safety
/// Unless it is null, `len` bytes can be written there, and nobody else reads or writes them for `'a`.
pub(crate) unsafe fn writable<'a>(
    pointer: *mut c_void,
    len: usize,
    what: &str,
) -> Result<&'a mut [u8], Failure> {
    check(pointer, len, what)?;
    // SAFETY: the caller's promise; it is not null.
    Ok(if len == 0 { &mut [] } else { unsafe { slice::from_raw_parts_mut(pointer.cast(), len) } })
}

/// Whether two stretches, by address and length, have bytes in common.
pub(crate) fn overlap(one: (usize, usize), other: (usize, usize)) -> bool {
    let ((from, len), (to, room)) = (one, other);
    len > 0 && room > 0 && from < to.saturating_add(room) && to < from.saturating_add(len)
}
