//! TLS 1.3 and 1.2 as a layer between a transport and a connection, sans-IO: sealed bytes come in and go out,
//! what they hold passes to and from HTTP.
//!
//! The handshake is `rustls`'s: key exchange, signatures, tickets, ALPN, SNI. When it is done and an AES-GCM
//! suite was agreed on, the traffic secrets are taken over, and records are sealed and opened by the loop
//! that `pipe_lib::aead` composes: straight from the pages that a response points to, in one pass, into the
//! buffer that is sent. With another suite, or on a processor where that loop would be interpreted, `rustls`
//! goes on and seals records itself.
//!
//! ```text
//!                 handshake done                    close_notify, alert
//!   Handshake ──────────────────▶ Records (ours) ──────────────────────▶ Over
//!       │                                                                ▲
//!       └── records by rustls ── another suite, no compiled loop ────────┘
//! ```
//!
//! Follows RFC 8446 (TLS 1.3), RFC 5246 and RFC 5288 (TLS 1.2 with AES-GCM).

mod certificates;
mod outgoing;
mod planned;
mod record;
mod session;

pub use certificates::{Acceptor, CertificateError, KeyFiles, Preference};
pub use planned::Plain;
pub use record::RecordSize;
pub use session::{Session, Sink, Workspace};
