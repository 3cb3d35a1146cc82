//! Records of TLS 1.3 (RFC 8446 section 5) and of TLS 1.2 with AES-GCM (RFC 5288), sealed and opened by the
//! composed loop.
//!
//! ```text
//!   TLS 1.3   17 03 03 | length |          content, its type, as one encrypted | tag 16
//!   TLS 1.2   type 03 03 | length | nonce 8 | content encrypted               | tag 16
//! ```

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use pipe_lib::CompileOptions;
use pipe_lib::aead::{AeadError, AesGcm, Nonce, TAG_BYTES};
use runtime::stats::work::{Quantity, count};
use runtime::wiping::without_trace;
use rustls::ConnectionTrafficSecrets;
use smallvec::SmallVec;
use zeroize::Zeroizing;

use super::planned::Planned;

/// Bytes before what is encrypted or the nonce.
pub(super) const HEADER_BYTES: usize = 5;

/// Most bytes of content in a record.
pub(super) const MAX_CONTENT: usize = 1 << 14;

/// Most bytes that a record we make adds: header, nonce, type, tag.
pub(super) const MAX_OVERHEAD: usize = HEADER_BYTES + 8 + 1 + TAG_BYTES;

/// Most bytes behind the header of a record that is read: TLS 1.3 allows 256 more than the content, TLS 1.2
/// needs fewer.
const MAX_SEALED: usize = MAX_CONTENT + 256;

/// Records under one key before it is replaced: fewer than 2^24.5 (RFC 8446 section 5.5).
pub(super) const MAX_RECORDS: u64 = 1 << 24;

/// How much content a record holds. A client can use nothing of a record before all of it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordSize {
    /// What fits in a segment while a connection is young or was idle, so that each that comes can be used;
    /// then 16 KB.
    #[default]
    Adaptive,
    /// So many bytes, from 512 to 16384.
    Fixed(usize),
}

impl RecordSize {
    /// Content of the next record after `sent` bytes since the connection was new or idle.
    pub(super) fn content(self, sent: u64) -> usize {
        /// Fits in a segment of 1448 bytes with all that is added.
        const SMALL: usize = 1400;
        /// About three flights of a window that begins with ten segments.
        const YOUNG: u64 = 48 * 1024;
        match self {
            RecordSize::Adaptive if sent < YOUNG => SMALL,
            RecordSize::Adaptive => MAX_CONTENT,
            RecordSize::Fixed(len) => len.clamp(512, MAX_CONTENT),
        }
    }
}

/// The protocol versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Tls12,
    Tls13,
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentType(pub(super) u8);

impl ContentType {
    pub(super) const ALERT: ContentType = ContentType(21);
    pub(super) const HANDSHAKE: ContentType = ContentType(22);
    pub(super) const DATA: ContentType = ContentType(23);
}

/// What the peer is told when a connection cannot go on (RFC 8446 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alert(pub(super) u8);

impl Alert {
    pub(super) const CLOSE_NOTIFY: Alert = Alert(0);
    pub(super) const UNEXPECTED_MESSAGE: Alert = Alert(10);
    pub(super) const BAD_RECORD_MAC: Alert = Alert(20);
    pub(super) const RECORD_OVERFLOW: Alert = Alert(22);
    pub(super) const HANDSHAKE_FAILURE: Alert = Alert(40);
    pub(super) const ILLEGAL_PARAMETER: Alert = Alert(47);
    pub(super) const DECODE_ERROR: Alert = Alert(50);
    pub(super) const INTERNAL_ERROR: Alert = Alert(80);
    pub(super) const USER_CANCELED: Alert = Alert(90);
}

/// The length of the record that `bytes` begin with, header included, if it has all come.
pub(super) fn whole_record(bytes: &[u8]) -> Result<Option<usize>, Alert> {
    let Some(&[_, _, _, high, low]) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_SEALED {
        return Err(Alert::RECORD_OVERFLOW);
    }
    Ok((bytes.len() >= HEADER_BYTES + len).then_some(HEADER_BYTES + len))
}

/// The key of one direction. Overwritten when dropped.
pub(super) struct Sealer {
    pub(super) aead: AesGcm,
    iv: Zeroizing<[u8; 12]>,
    pub(super) version: Version,
    fused: bool,
}

/// The key of one direction, and how many records it has seen.
#[derive(Debug)]
pub(super) struct Keys {
    /// Shared with the records that are to be sealed under it.
    sealer: Arc<Sealer>,
    /// Number of the next record.
    sequence: u64,
}

/// What stands before the encrypted part of a record.
#[derive(Debug)]
pub(super) struct Prefix {
    bytes: [u8; HEADER_BYTES + 8],
    len: usize,
}

impl Deref for Prefix {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Why there are no keys of ours.
#[derive(Debug)]
pub(super) struct NotOurs;

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Sealer {
    /// The iv, exclusive or the number of the record (RFC 8446 section 5.3; for TLS 1.2 any that never comes
    /// again would do).
    pub(super) fn nonce(&self, sequence: u64) -> [u8; 12] {
        let mut nonce = *self.iv;
        nonce.iter_mut().skip(4).zip(sequence.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
        nonce
    }

    /// What a record of `len` bytes of content is authenticated with: of TLS 1.2 RFC 5246 section 6.2.3.3, of
    /// TLS 1.3 its header.
    pub(super) fn additional(&self, sequence: u64, kind: ContentType, len: usize) -> SmallVec<[u8; 13]> {
        if self.version == Version::Tls13 {
            return SmallVec::from_slice(&self.prefix(sequence, kind, len)[..HEADER_BYTES]);
        }
        let mut additional = SmallVec::from_slice(&sequence.to_be_bytes());
        additional.extend([kind.0, 3, 3]);
        // At most `MAX_CONTENT`.
        additional.extend((len as u16).to_be_bytes());
        additional
    }

    /// What is encrypted behind the content.
    pub(super) fn inner(&self, kind: ContentType) -> SmallVec<[u8; 1]> {
        (self.version == Version::Tls13).then_some(kind.0).into_iter().collect()
    }

    /// What stands before the encrypted part of a record of `len` bytes of content.
    pub(super) fn prefix(&self, sequence: u64, kind: ContentType, len: usize) -> Prefix {
        let mut bytes = [0; HEADER_BYTES + 8];
        let (outer, prefix_len) = match self.version {
            Version::Tls13 => (ContentType::DATA, HEADER_BYTES),
            Version::Tls12 => {
                bytes[HEADER_BYTES..].copy_from_slice(&self.nonce(sequence)[4..]);
                (kind, HEADER_BYTES + 8)
            }
        };
        bytes[..3].copy_from_slice(&[outer.0, 3, 3]);
        // A record has fewer than 2^16 bytes.
        let behind = prefix_len - HEADER_BYTES + len + self.inner(kind).len() + TAG_BYTES;
        bytes[3..5].copy_from_slice(&(behind as u16).to_be_bytes());
        Prefix { bytes, len: prefix_len }
    }
}

impl Keys {
    /// Takes over from `rustls` at record number `sequence`.
    ///
    /// # Errors
    /// If the suite is another than AES-GCM, or the loop would be interpreted.
    pub(super) fn new(
        version: Version,
        sequence: u64,
        secrets: &ConnectionTrafficSecrets,
        fused: bool,
    ) -> Result<Keys, NotOurs> {
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets
        else {
            return Err(NotOurs);
        };
        let options = CompileOptions::new().separate_passes(!fused);
        let aead = AesGcm::with_options(key.as_ref(), &options).map_err(|_| NotOurs)?;
        let iv = Zeroizing::new(iv.as_ref().try_into().map_err(|_| NotOurs)?);
        Ok(Keys { sealer: Arc::new(Sealer { aead, iv, version, fused }), sequence })
    }

    /// Goes over to the next key of TLS 1.3 (RFC 8446 section 7.2), as `rustls` derives it, without a trace.
    /// Whether there is one.
    pub(super) fn renew(
        &mut self,
        fused: bool,
        derive: impl FnOnce() -> Result<(u64, ConnectionTrafficSecrets), rustls::Error>,
    ) -> bool {
        without_trace(|| {
            let Ok((first, secrets)) = derive() else { return false };
            Keys::new(Version::Tls13, first, &secrets, fused).map(|keys| *self = keys).is_ok()
        })
    }

    pub(super) fn version(&self) -> Version {
        self.sealer.version
    }

    /// How many records the key has seen.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// A record of `len` bytes of responses, from `plain` on, that is sealed when it is sent.
    pub(super) fn plan(&mut self, plain: u64, len: usize) -> Planned {
        let planned = Planned::new(Arc::clone(&self.sealer), self.sequence, plain, len);
        self.sequence += 1;
        planned
    }

    /// Seals a record of the pieces of `plain`, `len` bytes together, at most [`MAX_CONTENT`], to the start
    /// of `to`, which has [`MAX_OVERHEAD`] bytes more than that; gives its length.
    pub(super) fn seal(
        &mut self,
        kind: ContentType,
        plain: &[&[u8]],
        len: usize,
        to: &mut [u8],
    ) -> Result<usize, AeadError> {
        let sealer = &*self.sealer;
        let (prefix, inner) = (sealer.prefix(self.sequence, kind, len), sealer.inner(kind));
        let additional = sealer.additional(self.sequence, kind, len);
        let sealed_len = len + inner.len();
        let total = prefix.len() + sealed_len + TAG_BYTES;
        let Some(record) = to.get_mut(..total) else { return Err(AeadError::Lengths) };
        let (head, body) = record.split_at_mut(prefix.len());
        head.copy_from_slice(&prefix);
        let (sealed, tag) = body.split_at_mut(sealed_len);
        let nonce = Nonce::unique(sealer.nonce(self.sequence));
        let made = if sealer.fused {
            let mut pieces: SmallVec<[&[u8]; 16]> = SmallVec::from_slice(plain);
            pieces.extend((!inner.is_empty()).then_some(&inner[..]));
            sealer.aead.seal_pieces(nonce, &additional, &pieces, sealed)?
        } else {
            let mut rest = &mut *sealed;
            for piece in plain.iter().copied().chain([&inner[..]]) {
                let (to, after) = std::mem::take(&mut rest).split_at_mut(piece.len());
                to.copy_from_slice(piece);
                rest = after;
            }
            // Then encrypted and hashed, in a pass each.
            count(Quantity::BytesTouched, 2 * len);
            sealer.aead.seal_in_place(nonce, &additional, sealed)?
        };
        tag.copy_from_slice(&made);
        count(Quantity::BytesCopied, len);
        count(Quantity::BytesTouched, len);
        count(Quantity::BytesSealed, len);
        self.sequence += 1;
        Ok(total)
    }

    /// Opens a whole record to `plain`, which is made as long as its content; gives what that is.
    pub(super) fn open(&mut self, record: &[u8], plain: &mut Vec<u8>) -> Result<ContentType, Alert> {
        let (header, body) = record.split_at_checked(HEADER_BYTES).ok_or(Alert::DECODE_ERROR)?;
        let sealer = &*self.sealer;
        if sealer.version == Version::Tls13 && header[0] != ContentType::DATA.0 {
            return Err(Alert::UNEXPECTED_MESSAGE);
        }
        let (body, tag) = body.split_last_chunk::<TAG_BYTES>().ok_or(Alert::BAD_RECORD_MAC)?;
        let mut nonce = sealer.nonce(self.sequence);
        let (sealed, additional12);
        let additional = match sealer.version {
            Version::Tls13 => {
                // Content, type and padding (RFC 8446 section 5.4).
                if body.len() > MAX_CONTENT + 1 {
                    return Err(Alert::RECORD_OVERFLOW);
                }
                sealed = body;
                header
            }
            Version::Tls12 => {
                let (explicit, rest) = body.split_first_chunk::<8>().ok_or(Alert::BAD_RECORD_MAC)?;
                sealed = rest;
                if sealed.len() > MAX_CONTENT {
                    return Err(Alert::RECORD_OVERFLOW);
                }
                nonce[4..].copy_from_slice(explicit);
                additional12 = sealer.additional(self.sequence, ContentType(header[0]), sealed.len());
                &additional12[..]
            }
        };
        plain.resize(sealed.len(), 0);
        sealer.aead.open(&nonce, additional, sealed, tag, plain).map_err(|_| Alert::BAD_RECORD_MAC)?;
        self.sequence += 1;
        if self.version() == Version::Tls12 {
            return Ok(ContentType(header[0]));
        }
        // The type is the last byte that is not zero; the zeros behind it are padding.
        let end = plain.iter().rposition(|&byte| byte != 0).ok_or(Alert::UNEXPECTED_MESSAGE)?;
        let kind = ContentType(plain[end]);
        plain.truncate(end);
        Ok(kind)
    }
}
