//! Digests that the language does not say: hash functions of other crates, as stages of a pipeline.
//!
//! Such a stage looks at the bytes as they are at its place and passes them on. It has no code: the driver
//! feeds it block by block, between the compiled passes, while a block is in the caches. Its result is put
//! into registers of its own, and so goes wherever results go. Behind the feature `digests`.

mod pipe;
mod state;
mod value;

pub(crate) use pipe::pipe;
pub use state::DigestState;
pub(crate) use value::MAX_DIGEST_BYTES;
pub use value::{DigestList, DigestValue};

use crate::ir::Pipe;
use std::ops::Range;

/// A hash function of another crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DigestKind {
    /// RFC 1321.
    Md5,
    /// FIPS 180-4, like those that follow.
    Sha1,
    /// SHA-2.
    Sha224,
    /// SHA-2.
    Sha256,
    /// SHA-2.
    Sha384,
    /// SHA-2.
    Sha512,
    /// SHA-2.
    Sha512_256,
    /// FIPS 202, like those that follow.
    Sha3_224,
    /// SHA-3.
    Sha3_256,
    /// SHA-3.
    Sha3_384,
    /// SHA-3.
    Sha3_512,
    /// RFC 7693, of 512 bits.
    Blake2b,
    /// RFC 7693, of 256 bits.
    Blake2s,
    /// BLAKE3, of 256 bits.
    Blake3,
    /// xxHash of 64 bits, seed 0; like the others of its family most significant byte first.
    Xxh64,
    /// XXH3 of 64 bits.
    Xxh3,
    /// XXH3 of 128 bits.
    Xxh128,
    /// HighwayHash of 256 bits, with a key that is no secret.
    HighwayHash256,
}

/// Name, title and bytes of a value.
type Parts = (&'static str, &'static str, usize);

impl DigestKind {
    /// All that there are.
    const EVERY: &[DigestKind] = &[
        DigestKind::Md5,
        DigestKind::Sha1,
        DigestKind::Sha224,
        DigestKind::Sha256,
        DigestKind::Sha384,
        DigestKind::Sha512,
        DigestKind::Sha512_256,
        DigestKind::Sha3_224,
        DigestKind::Sha3_256,
        DigestKind::Sha3_384,
        DigestKind::Sha3_512,
        DigestKind::Blake2b,
        DigestKind::Blake2s,
        DigestKind::Blake3,
        DigestKind::Xxh64,
        DigestKind::Xxh3,
        DigestKind::Xxh128,
        DigestKind::HighwayHash256,
    ];

    /// All that are in this build.
    pub const ALL: &[DigestKind] = if cfg!(feature = "digests") { DigestKind::EVERY } else { &[] };

    /// Whether a digest of that name would be in a build with the feature `digests`, and is not in this one.
    pub(crate) fn is_left_out(name: &str) -> bool {
        !cfg!(feature = "digests") && DigestKind::EVERY.iter().any(|kind| kind.name() == name)
    }

    /// The name of its export.
    pub const EXPORT: &str = "digest";

    const fn parts(self) -> Parts {
        match self {
            DigestKind::Md5 => ("md5", "MD5", 16),
            DigestKind::Sha1 => ("sha1", "SHA1", 20),
            DigestKind::Sha224 => ("sha224", "SHA224", 28),
            DigestKind::Sha256 => ("sha256", "SHA256", 32),
            DigestKind::Sha384 => ("sha384", "SHA384", 48),
            DigestKind::Sha512 => ("sha512", "SHA512", 64),
            DigestKind::Sha512_256 => ("sha512_256", "SHA512/256", 32),
            DigestKind::Sha3_224 => ("sha3_224", "SHA3-224", 28),
            DigestKind::Sha3_256 => ("sha3_256", "SHA3-256", 32),
            DigestKind::Sha3_384 => ("sha3_384", "SHA3-384", 48),
            DigestKind::Sha3_512 => ("sha3_512", "SHA3-512", 64),
            DigestKind::Blake2b => ("blake2b", "BLAKE2b", 64),
            DigestKind::Blake2s => ("blake2s", "BLAKE2s", 32),
            DigestKind::Blake3 => ("blake3", "BLAKE3", 32),
            DigestKind::Xxh64 => ("xxh64", "XXH64", 8),
            DigestKind::Xxh3 => ("xxh3", "XXH3", 8),
            DigestKind::Xxh128 => ("xxh128", "XXH128", 16),
            DigestKind::HighwayHash256 => ("highwayhash256", "HighwayHash-256", 32),
        }
    }

    /// As a stage of a pipeline: `sha3_256`.
    pub const fn name(self) -> &'static str {
        self.parts().0
    }

    /// As people and their tools write it: `SHA3-256`.
    pub const fn title(self) -> &'static str {
        self.parts().1
    }

    /// Bytes of a value.
    pub const fn bytes(self) -> usize {
        self.parts().2
    }

    /// Words of 64 bits of its key; it has none, if 0.
    pub const fn key_words(self) -> usize {
        match self {
            DigestKind::HighwayHash256 => 4,
            _ => 0,
        }
    }

    /// Registers that hold a value.
    pub(crate) const fn words(self) -> usize {
        self.bytes().div_ceil(8)
    }
}

impl Pipe {
    /// Which of its states hold the key, and which the value, if it is a digest of another crate.
    pub(crate) fn digest_states(&self) -> Option<(DigestKind, Range<usize>, Range<usize>)> {
        let kind = self.digest?;
        let (key, words) = (kind.key_words(), kind.words());
        Some((kind, 0..key, key..key + words))
    }
}

#[cfg(all(test, feature = "digests"))]
mod tests;
