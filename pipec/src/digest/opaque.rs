//! Digests that are other crates', fed block by block.

use digest::DynDigest;
use twox_hash::{XxHash3_64, XxHash3_128, XxHash64};

/// Behind the names of digests, where some are not built in.
pub(super) const NOTE: &str = "";

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512_256,
    Sha3_224,
    Sha3_256,
    Sha3_384,
    Sha3_512,
    Blake2b,
    Blake2s,
    Blake3,
    Xxh64,
    Xxh3,
    Xxh128,
}

impl Kind {
    pub(crate) const ALL: &[Kind] = &[
        Kind::Md5,
        Kind::Sha1,
        Kind::Sha224,
        Kind::Sha256,
        Kind::Sha384,
        Kind::Sha512,
        Kind::Sha512_256,
        Kind::Sha3_224,
        Kind::Sha3_256,
        Kind::Sha3_384,
        Kind::Sha3_512,
        Kind::Blake2b,
        Kind::Blake2s,
        Kind::Blake3,
        Kind::Xxh64,
        Kind::Xxh3,
        Kind::Xxh128,
    ];

    /// Name, tag as coreutils, RHash and `xxhsum` write it, and bytes.
    const fn parts(self) -> (&'static str, &'static str, usize) {
        match self {
            Kind::Md5 => ("md5", "MD5", 16),
            Kind::Sha1 => ("sha1", "SHA1", 20),
            Kind::Sha224 => ("sha224", "SHA224", 28),
            Kind::Sha256 => ("sha256", "SHA256", 32),
            Kind::Sha384 => ("sha384", "SHA384", 48),
            Kind::Sha512 => ("sha512", "SHA512", 64),
            Kind::Sha512_256 => ("sha512/256", "SHA512/256", 32),
            Kind::Sha3_224 => ("sha3-224", "SHA3-224", 28),
            Kind::Sha3_256 => ("sha3-256", "SHA3-256", 32),
            Kind::Sha3_384 => ("sha3-384", "SHA3-384", 48),
            Kind::Sha3_512 => ("sha3-512", "SHA3-512", 64),
            Kind::Blake2b => ("blake2b", "BLAKE2b", 64),
            Kind::Blake2s => ("blake2s", "BLAKE2s", 32),
            Kind::Blake3 => ("blake3", "BLAKE3", 32),
            Kind::Xxh64 => ("xxh64", "XXH64", 8),
            Kind::Xxh3 => ("xxh3", "XXH3", 8),
            Kind::Xxh128 => ("xxh128", "XXH128", 16),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        self.parts().0
    }

    pub(crate) const fn tag(self) -> &'static str {
        self.parts().1
    }

    pub(crate) const fn bytes(self) -> usize {
        self.parts().2
    }

    /// A digest of nothing so far.
    pub(crate) fn start(self) -> State {
        match self {
            Kind::Md5 => State::rust_crypto::<md5::Md5>(),
            Kind::Sha1 => State::rust_crypto::<sha1::Sha1>(),
            Kind::Sha224 => State::rust_crypto::<sha2::Sha224>(),
            Kind::Sha256 => State::rust_crypto::<sha2::Sha256>(),
            Kind::Sha384 => State::rust_crypto::<sha2::Sha384>(),
            Kind::Sha512 => State::rust_crypto::<sha2::Sha512>(),
            Kind::Sha512_256 => State::rust_crypto::<sha2::Sha512_256>(),
            Kind::Sha3_224 => State::rust_crypto::<sha3::Sha3_224>(),
            Kind::Sha3_256 => State::rust_crypto::<sha3::Sha3_256>(),
            Kind::Sha3_384 => State::rust_crypto::<sha3::Sha3_384>(),
            Kind::Sha3_512 => State::rust_crypto::<sha3::Sha3_512>(),
            Kind::Blake2b => State::rust_crypto::<blake2::Blake2b512>(),
            Kind::Blake2s => State::rust_crypto::<blake2::Blake2s256>(),
            Kind::Blake3 => State::Blake3(Box::new(blake3::Hasher::new())),
            Kind::Xxh64 => State::Xxh64(XxHash64::with_seed(0)),
            Kind::Xxh3 => State::Xxh3(Box::new(XxHash3_64::with_seed(0))),
            Kind::Xxh128 => State::Xxh128(Box::new(XxHash3_128::with_seed(0))),
        }
    }
}

/// A digest under way.
pub(crate) enum State {
    RustCrypto(Box<dyn DynDigest + Send>),
    Blake3(Box<blake3::Hasher>),
    Xxh64(XxHash64),
    Xxh3(Box<XxHash3_64>),
    Xxh128(Box<XxHash3_128>),
}

impl State {
    fn rust_crypto<D: DynDigest + Default + Send + 'static>() -> State {
        State::RustCrypto(Box::new(D::default()))
    }

    pub(crate) fn update(&mut self, block: &[u8]) {
        use std::hash::Hasher as _;
        match self {
            State::RustCrypto(digest) => digest.update(block),
            State::Blake3(hasher) => {
                hasher.update(block);
            }
            State::Xxh64(hasher) => hasher.write(block),
            State::Xxh3(hasher) => hasher.write(block),
            State::Xxh128(hasher) => hasher.write(block),
        }
    }

    /// The value, most significant byte first where it is a number.
    pub(crate) fn finish(self) -> Vec<u8> {
        use std::hash::Hasher as _;
        match self {
            State::RustCrypto(digest) => digest.finalize().into_vec(),
            State::Blake3(hasher) => hasher.finalize().as_bytes().to_vec(),
            State::Xxh64(hasher) => hasher.finish().to_be_bytes().to_vec(),
            State::Xxh3(hasher) => hasher.finish().to_be_bytes().to_vec(),
            State::Xxh128(hasher) => hasher.finish_128().to_be_bytes().to_vec(),
        }
    }
}
