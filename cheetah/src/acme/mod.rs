//! Certificates from an authority that speaks ACME (RFC 8555), got and renewed by the server itself.
//!
//! ```text
//!   Renewer, a thread:  what is in the folder ── due? ──▶ order ──▶ proofs, shown at /.well-known/acme-challenge/ (HTTP-01),
//!                            ▲                              │      or in a certificate of their own (TLS-ALPN-01)
//!                            │                              │ the authority asks for them, and signs
//!                            └── certificate and key, in one file that is replaced whole ◀──┘ ──▶ Acceptor shows it
//! ```
//!
//! When it is due says its life, or the authority (`information`).
//!
//! The protocol is `instant-acme`'s, on a client of HTTPS of our own that waits (`client`): one thread asks
//! some twenty things every two months, and needs no runtime for it.

mod client;
mod information;
mod order;
mod renewal;
mod schedule;
mod state;

use std::path::PathBuf;

pub use renewal::{AcmeError, Renewer};
pub use state::StateFolder;

/// The authority that is asked unless another one is named.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// How it is proved that a name is ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// By what is at a path of the name, asked for at port 80 (HTTP-01, RFC 8555 section 8.3).
    #[default]
    Http,
    /// By a certificate that is shown at port 443 (TLS-ALPN-01, RFC 8737).
    TlsAlpn,
}

/// Which certificate, of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeOptions {
    /// The names that it is to be good for.
    pub names: Vec<String>,
    /// The authority's directory.
    pub directory: String,
    /// Whom it may write to, as in `mailto:me@example.org`.
    pub contact: Option<String>,
    /// How names are proved.
    pub proof: Proof,
    /// Certificates in PEM that the authority's own server may have, beside those that the system knows.
    pub root: Option<PathBuf>,
}
