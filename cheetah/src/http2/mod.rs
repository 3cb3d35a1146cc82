//! HTTP/2 (RFC 9113) as a sans-IO state machine: what [`crate::conn::Conn`] is for HTTP/1.1, behind the same
//! calls, with the same answers and bodies.
//!
//! ```text
//!   bytes ──▶ frame ──▶ hpack ──▶ fields ──▶ a head as HTTP/1.1 has it ──▶ answer, upload, program
//!     ▲                                                                        │
//!     └── outgoing: headers of frames, blocks and contents in their pages ◀── schedule of streams
//! ```
//!
//! A connection comes here by what TLS agreed on (ALPN `h2`), or since it begins with the preface. Frames are
//! made only as far ahead as the transport needs, so that an urgent response overtakes others; once made they
//! stay what they are until the peer has acknowledged them, since they may be asked for again. What a client
//! may do without end is bounded by [`crate::http::abuse`]; its heads by the limits of HTTP/1.1, its streams
//! by [`MAX_STREAMS`].

mod connection;
mod control;
mod fields;
mod outgoing;
mod priority;
mod requests;
mod responses;
mod stream;

pub use crate::http::frame::{ErrorCode, PREFACE};
pub use connection::Http2;

/// Streams that a client may have open at once.
pub const MAX_STREAMS: usize = 128;

/// What a client may send of one stream before we give it more.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The same of all streams of a connection. Content is taken in as it comes, so this holds no memory.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Windows until something else is said (RFC 9113 section 6.9.2).
const INITIAL_WINDOW: i64 = 65_535;

/// No window may be larger (section 6.9.1).
const MAX_WINDOW: i64 = (1 << 31) - 1;
