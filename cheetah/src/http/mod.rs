//! HTTP as far as a server of files needs it: pure functions from bytes to decisions and back.
//!
//! Nothing here knows of sockets, images or clocks. Order of the flow: [`parse`] gives a [`request`], its
//! [`target`] names a file, [`chunked`] finds the end of its content, [`conditional`] and [`range`] say how
//! much of it to send, [`response`] writes the head, closed by the lines that [`date`] keeps ready;
//! [`foreign`] heads are a program's, or in a [`reply`] another server's; [`headers`] are heads made
//! beforehand, [`content_type`] what they say of a file; [`hpack`] is how HTTP/2 writes heads, `frame` what
//! it cuts all into, [`abuse`] what its clients may not do without end.

pub mod abuse;
pub mod accept;
pub mod chunked;
pub mod coding;
pub mod conditional;
pub mod content_type;
pub mod date;
pub mod dictionary;
pub mod foreign;
pub(crate) mod frame;
pub mod head_facts;
pub mod headers;
pub mod hpack;
pub mod parse;
pub mod range;
pub mod reply;
pub mod request;
pub mod response;
pub mod target;

/// A number as fields have it: digits and nothing else, and no more than fit.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &d| n.checked_mul(10)?.checked_add(u64::from(d - b'0')))
}
