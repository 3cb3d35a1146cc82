//! A record of content that is sealed when it is sent: segment by segment, each time from the page to the
//! frame. What was lost is sealed again from the page, under the same number; kept of a record is only its
//! tag.
//!
//! ```text
//!              | header |            content, its type            | tag |
//!   segments  ─────────────┼──────────────┼──────────────┼──────────────┼───
//!   first time, in order:    hashed as it goes, then the tag is known
//!   again:                   encrypted again                  as it was
//! ```
//!
//! A segment may be lost before it was made, by a device that had no room: what follows it makes up for that.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

use netstack::wire::checksum;
use pipe_lib::OnesSum;
use pipe_lib::aead::{Nonce, Sealing, TAG_BYTES};
use runtime::stats::work::{Quantity, count};

use super::record::{ContentType, Sealer};

/// Who has the bytes that records are made of, until the peer has acknowledged them.
pub trait Plain {
    /// Visits the bytes `[offset, offset + len)` of the stream of responses piece by piece, in order.
    fn visit(&self, offset: u64, len: usize, take: &mut dyn FnMut(&[u8]));
}

/// A record of content to be.
pub(super) struct Planned {
    sealer: Arc<Sealer>,
    /// Its number under the key.
    sequence: u64,
    /// Where its content begins in the stream of responses.
    plain: u64,
    len: usize,
    progress: RefCell<Progress>,
}

/// What was made of a record so far, from its first byte on.
enum Progress {
    NotBegun,
    /// As most one record of a connection, so what it has more lies elsewhere.
    Begun(Box<Sealing>),
    Sealed([u8; TAG_BYTES]),
    /// Its bytes could not be had. It never gets a tag, so that nobody accepts it.
    Spoilt,
}

impl fmt::Debug for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planned")
            .field("sequence", &self.sequence)
            .field("plain", &self.plain)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// Why bytes are encrypted.
enum Pass<'a> {
    /// The first time, in order: they are hashed, too.
    First(&'a mut Sealing),
    /// Once more, under this nonce.
    Again(&'a [u8; 12]),
}

/// Bytes that were hashed for the tag alone, and given to nobody.
const SCRATCH: usize = 1024;

impl Planned {
    pub(super) fn new(sealer: Arc<Sealer>, sequence: u64, plain: u64, len: usize) -> Planned {
        Planned { sealer, sequence, plain, len, progress: RefCell::new(Progress::NotBegun) }
    }

    /// Where its content ends in the stream of responses.
    pub(super) fn plain_end(&self) -> u64 {
        self.plain + self.len as u64
    }

    /// Bytes of the whole record.
    pub(super) fn sealed_len(&self) -> usize {
        let (kind, sealer) = (ContentType::DATA, &self.sealer);
        sealer.prefix(self.sequence, kind, self.len).len() + self.encrypted_len() + TAG_BYTES
    }

    /// Content and its type.
    fn encrypted_len(&self) -> usize {
        self.len + self.sealer.inner(ContentType::DATA).len()
    }

    /// Writes the bytes from `from` on of the record over all of `to`, and appends them to `sum` if there is
    /// one.
    pub(super) fn make(&self, from: usize, to: &mut [u8], mut sum: Option<&mut OnesSum>, plain: &dyn Plain) {
        let mut progress = self.progress.borrow_mut();
        let prefix = self.sealer.prefix(self.sequence, ContentType::DATA, self.len);
        let encrypted_end = prefix.len() + self.encrypted_len();
        let (mut at, mut to) = (from, to);
        while !to.is_empty() {
            let part_end = match at {
                _ if at < prefix.len() => prefix.len(),
                _ if at < encrypted_end => encrypted_end,
                _ => encrypted_end + TAG_BYTES,
            };
            let len = to.len().min(part_end - at);
            if len == 0 {
                debug_assert!(false, "beyond the record");
                return;
            }
            let (now, later) = std::mem::take(&mut to).split_at_mut(len);
            if at >= prefix.len() && at < encrypted_end {
                self.encrypt(&mut progress, at - prefix.len(), now, sum.as_deref_mut(), plain);
            } else {
                let tag;
                let bytes = if at < prefix.len() {
                    &prefix[at..]
                } else {
                    tag = self.tag(&mut progress, plain);
                    &tag[at - encrypted_end..]
                };
                now.copy_from_slice(&bytes[..len]);
                if let Some(sum) = sum.as_deref_mut() {
                    sum.append(checksum::sum(now), len);
                }
            }
            (at, to) = (at + len, later);
        }
    }

    /// The encrypted bytes from `from` on.
    fn encrypt(
        &self,
        progress: &mut Progress,
        from: usize,
        to: &mut [u8],
        mut sum: Option<&mut OnesSum>,
        plain: &dyn Plain,
    ) {
        self.hash_until(progress, from, plain);
        let (mut again, mut first) = (to, &mut [][..]);
        if let Progress::Begun(sealing) = progress {
            let done = sealing.sealed() as usize;
            (again, first) = again.split_at_mut(done.saturating_sub(from).min(again.len()));
        }
        let nonce = self.sealer.nonce(self.sequence);
        let is_spoilt = matches!(progress, Progress::Spoilt);
        let again_made =
            is_spoilt || self.pass(from, &mut again, sum.as_deref_mut(), plain, &mut Pass::Again(&nonce));
        let mut first_made = true;
        if let Progress::Begun(sealing) = progress
            && !first.is_empty()
        {
            let at = sealing.sealed() as usize;
            first_made = self.pass(at, &mut first, sum.as_deref_mut(), plain, &mut Pass::First(sealing));
            if sealing.sealed() as usize == self.encrypted_len() {
                let tag = self.sealer.aead.tag(sealing);
                *progress = Progress::Sealed(tag);
            }
        }
        if is_spoilt || !again_made || !first_made {
            self.spoil(progress);
            // What could not be made is zeros, whose sum is nothing: an encrypted zero would tell the key's
            // stream.
            again.fill(0);
            first.fill(0);
            if let Some(sum) = sum {
                sum.append(0, again.len() + first.len());
            }
        }
    }

    /// Seals the plain bytes from `from` on to `to`, of which what is left to do stays; whether nothing is.
    fn pass(
        &self,
        from: usize,
        to: &mut &mut [u8],
        mut sum: Option<&mut OnesSum>,
        plain: &dyn Plain,
        pass: &mut Pass<'_>,
    ) -> bool {
        let (at, end) = (Cell::new(from), from + to.len());
        let mut is_sound = true;
        let is_summed = sum.is_some();
        let mut take = |bytes: &[u8]| {
            let len = bytes.len().min(to.len());
            if !is_sound || len == 0 {
                return;
            }
            let (now, later) = std::mem::take(to).split_at_mut(len);
            let (aead, bytes, sum) = (&self.sealer.aead, &bytes[..len], sum.as_deref_mut());
            let sealed = match pass {
                Pass::First(sealing) => aead.seal_next(sealing, bytes, now, sum),
                Pass::Again(nonce) => aead.seal_again(nonce, at.get() as u64, bytes, now, sum),
            };
            if sealed.is_ok() {
                at.set(at.get() + len);
                *to = later;
            } else {
                // Never of a record's length.
                is_sound = false;
                now.fill(0);
            }
        };
        let content = self.len.min(end).saturating_sub(from);
        if content > 0 {
            plain.visit(self.plain + from as u64, content, &mut take);
        }
        if at.get() >= self.len {
            take(&self.sealer.inner(ContentType::DATA));
        }
        count(Quantity::BytesCopied, content);
        count(Quantity::BytesTouched, content);
        count(Quantity::BytesSealed, content);
        count(Quantity::BytesSummed, if is_summed { content } else { 0 });
        is_sound && to.is_empty()
    }

    /// Sees to it that all encrypted bytes before `until` are hashed: usually they are.
    fn hash_until(&self, progress: &mut Progress, until: usize, plain: &dyn Plain) {
        if let Progress::NotBegun = progress {
            let sealer = &self.sealer;
            let additional = sealer.additional(self.sequence, ContentType::DATA, self.len);
            match sealer.aead.begin(Nonce::unique(sealer.nonce(self.sequence)), &additional) {
                Ok(sealing) => *progress = Progress::Begun(Box::new(sealing)),
                Err(_) => self.spoil(progress),
            }
        }
        let Progress::Begun(sealing) = progress else { return };
        let mut is_sound = true;
        while is_sound && (sealing.sealed() as usize) < until {
            let at = sealing.sealed() as usize;
            let mut scratch = [0; SCRATCH];
            let mut to = &mut scratch[..SCRATCH.min(until - at)];
            is_sound = self.pass(at, &mut to, None, plain, &mut Pass::First(sealing));
        }
        if !is_sound {
            self.spoil(progress);
        } else if sealing.sealed() as usize == self.encrypted_len() {
            let tag = self.sealer.aead.tag(sealing);
            *progress = Progress::Sealed(tag);
        }
    }

    fn tag(&self, progress: &mut Progress, plain: &dyn Plain) -> [u8; TAG_BYTES] {
        self.hash_until(progress, self.encrypted_len(), plain);
        match progress {
            Progress::Sealed(tag) => *tag,
            _ => [0; TAG_BYTES],
        }
    }

    fn spoil(&self, progress: &mut Progress) {
        if !matches!(progress, Progress::Spoilt) {
            tracing::error!("a record cannot be sealed, for its bytes are not there any more");
            *progress = Progress::Spoilt;
        }
    }

    /// Whether it can never be accepted.
    pub(super) fn is_spoilt(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Spoilt)
    }
}

#[cfg(test)]
mod tests;
