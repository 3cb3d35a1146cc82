//! Digests of files: which there are, how one read feeds them all, and lists of them.
//!
//! What the pipe language says (CRCs and sums) runs as one read-only pass of a composed pipeline; digests of
//! other crates take the same block while it is in the caches. Neither the command line nor
//! what is printed is here.

pub(crate) mod algorithm;
pub(crate) mod base64;
pub(crate) mod list;
pub(crate) mod name;
pub(crate) mod pass;
pub(crate) mod read;
#[cfg(target_os = "linux")]
mod ring;
pub(crate) mod value;

pub(crate) use algorithm::Algorithm;
pub(crate) use pass::Pass;
pub(crate) use value::Value;
