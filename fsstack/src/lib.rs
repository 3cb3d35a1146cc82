//! A file system as a library: a checksummed image format whose files carry what a server needs to send them.
//!
//! An image is one file (or a byte vector) that holds a tree of files and directories, written once by
//! [`image::build::Builder`] and opened read-only as a [`fs::Image`]. Beside its bytes each file has an
//! *application area*, opaque to this crate: a server keeps there what it would otherwise compute for each
//! request (a response header, validators, a MIME type). Partial Internet checksums of the contents are kept
//! as well.
//!
//! `docs/image-format.md` describes every byte. Modules stand in the order in which data flow through them
//! when an image is opened and read; [`image`] holds the ways in (building, packing a folder, checking).
//!
//! Bytes of an image are never trusted: [`fs::Image::open`] does work linear in the metadata, and afterwards
//! every lookup and read is total.

#![forbid(unsafe_op_in_unsafe_fn)]

pub mod device;
pub mod format;
pub mod path;

pub mod cache;

pub mod fs;

pub mod image;
pub mod log;
pub mod scrub;

pub use fs::{Image, Inode, InodeId, OpenError, OpenOptions, ReadError};
pub use image::build::{BuildError, BuildOptions, Builder};
