//! What is kept of other servers' responses, and when it may be used (RFC 9111, for a cache that many clients
//! share).
//!
//! ```text
//!   request ── key ──▶ Cache::look_up ──▶ a fresh object      answered as a packed file is
//!                                     ├─▶ a stale one         used while it is validated, or once it is
//!                                     └─▶ nothing             Cache::begin: who is first asks the origin, others follow
//!
//!   response ─▶ Freshness::of, may_store ─▶ Fill: bytes go to all who wait, and into blocks ─▶ Object ─▶ Cache::put
//!                                                                              in an image, too: Archive, and its thread
//! ```
//!
//! Nothing here knows of sockets or reads a clock: seconds since 1970 are told. Our own code and no crate for
//! the rules: a look-up may not allocate, and borrows the request where it was parsed.

mod archive;
mod cache;
mod control;
mod fill;
mod freshness;
mod object;
mod record;

pub use archive::{ArchiveError, ArchiveOptions, Archivist, MIN_IMAGE_BYTES};
pub use cache::{Begun, Cache, Counters, Found, Hit, Lead, Limits, Snapshot, begin_key, write_key};
pub use control::{Asks, Directives};
pub use fill::{Decided, Fill};
pub use freshness::{Freshness, Use, may_store};
pub use object::{Object, Selecting};

/// What we are called in `Via` and `Cache-Status`.
pub(crate) const PSEUDONYM: &str = "cheetah";
