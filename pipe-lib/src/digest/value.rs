//! What a digest comes to: bytes, which travel in registers.

use super::DigestKind;
use std::fmt;

/// Bytes of the longest.
pub(crate) const MAX_DIGEST_BYTES: u32 = 64;

const MAX_BYTES: usize = MAX_DIGEST_BYTES as usize;

/// The value of a digest, byte by byte; prints as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DigestValue {
    bytes: [u8; MAX_BYTES],
    len: u8,
}

impl DigestValue {
    /// Of at most 64 bytes.
    pub(crate) fn new(value: &[u8]) -> DigestValue {
        let mut bytes = [0; MAX_BYTES];
        bytes[..value.len()].copy_from_slice(value);
        DigestValue { bytes, len: value.len() as u8 }
    }

    /// From registers.
    pub(crate) fn of_words(words: &[u64], len: usize) -> DigestValue {
        let mut bytes = [0; MAX_BYTES];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        DigestValue { bytes, len: len as u8 }
    }

    /// Into registers.
    pub(crate) fn to_words(self, words: &mut [u64]) {
        for (word, place) in words.iter_mut().zip(self.bytes.chunks_exact(8)) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(place);
            *word = u64::from_le_bytes(bytes);
        }
    }
}

impl std::ops::Deref for DigestValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Display for DigestValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DigestValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The values of a digest with a window, one after the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DigestList<'a> {
    words: &'a [u64],
    kind: DigestKind,
}

impl<'a> DigestList<'a> {
    pub(crate) fn new(words: &'a [u64], kind: DigestKind) -> DigestList<'a> {
        DigestList { words, kind }
    }

    /// As they lie in registers.
    pub(crate) fn words(&self) -> &'a [u64] {
        self.words
    }

    /// How many windows there were.
    pub fn len(&self) -> usize {
        self.words.len() / self.kind.words()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// That of window number `index`.
    pub fn get(&self, index: usize) -> Option<DigestValue> {
        let words = self.words.chunks_exact(self.kind.words()).nth(index)?;
        Some(DigestValue::of_words(words, self.kind.bytes()))
    }

    /// In stream order.
    pub fn iter(&self) -> impl Iterator<Item = DigestValue> + 'a {
        let bytes = self.kind.bytes();
        self.words.chunks_exact(self.kind.words()).map(move |words| DigestValue::of_words(words, bytes))
    }
}

impl fmt::Debug for DigestList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
