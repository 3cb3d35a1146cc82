//! A digest under way, fed with bytes.

use super::{DigestKind, DigestValue};

/// A digest of the bytes so far. Resumable at any byte, and cheap to copy.
#[derive(Clone)]
pub struct DigestState {
    kind: DigestKind,
    #[cfg(feature = "digests")]
    inner: inner::CrateDigest,
}

impl std::fmt::Debug for DigestState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} under way", self.kind.title())
    }
}

impl DigestState {
    /// Of nothing so far. `key` has as many words as the digest takes; what is missing is zero.
    pub fn new(kind: DigestKind, key: &[u64]) -> DigestState {
        // Without the feature there is no kind to be had, and no composition with one is taken.
        #[cfg(not(feature = "digests"))]
        let _ = key;
        DigestState {
            kind,
            #[cfg(feature = "digests")]
            inner: inner::CrateDigest::new(kind, key),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        #[cfg(feature = "digests")]
        self.inner.update(bytes);
        #[cfg(not(feature = "digests"))]
        let _ = bytes;
    }

    /// The value, most significant byte first where it is a number.
    pub fn finish(self) -> DigestValue {
        #[cfg(feature = "digests")]
        return self.inner.finish();
        #[cfg(not(feature = "digests"))]
        DigestValue::new(&[0; 64][..self.kind.bytes()])
    }
}

#[cfg(feature = "digests")]
mod inner {
    use super::{DigestKind, DigestValue};
    use digest::Digest;
    use highway::{HighwayHash, HighwayHasher, Key};
    use std::hash::Hasher as _;
    use twox_hash::{XxHash3_64, XxHash3_128, XxHash64};

    /// One of RustCrypto's.
    pub(super) trait Cryptographic: Send + Sync {
        fn update(&mut self, bytes: &[u8]);
        fn finish(self: Box<Self>) -> DigestValue;
        fn copied(&self) -> Box<dyn Cryptographic>;
    }

    impl<D: Digest + Clone + Send + Sync + 'static> Cryptographic for D {
        fn update(&mut self, bytes: &[u8]) {
            Digest::update(self, bytes);
        }

        fn finish(self: Box<Self>) -> DigestValue {
            DigestValue::new(&Digest::finalize(*self))
        }

        fn copied(&self) -> Box<dyn Cryptographic> {
            Box::new(self.clone())
        }
    }

    pub(super) enum CrateDigest {
        Cryptographic(Box<dyn Cryptographic>),
        Blake3(Box<blake3::Hasher>),
        Xxh64(Box<XxHash64>),
        Xxh3(Box<XxHash3_64>),
        Xxh128(Box<XxHash3_128>),
        Highway(Box<HighwayHasher>),
    }

    impl Clone for CrateDigest {
        fn clone(&self) -> CrateDigest {
            match self {
                CrateDigest::Cryptographic(digest) => CrateDigest::Cryptographic(digest.copied()),
                CrateDigest::Blake3(hasher) => CrateDigest::Blake3(hasher.clone()),
                CrateDigest::Xxh64(hasher) => CrateDigest::Xxh64(hasher.clone()),
                CrateDigest::Xxh3(hasher) => CrateDigest::Xxh3(hasher.clone()),
                CrateDigest::Xxh128(hasher) => CrateDigest::Xxh128(hasher.clone()),
                CrateDigest::Highway(hasher) => CrateDigest::Highway(hasher.clone()),
            }
        }
    }

    fn cryptographic<D: Cryptographic + Default + 'static>() -> CrateDigest {
        CrateDigest::Cryptographic(Box::new(D::default()))
    }

    impl CrateDigest {
        pub(super) fn new(kind: DigestKind, key: &[u64]) -> CrateDigest {
            match kind {
                DigestKind::Md5 => cryptographic::<md5::Md5>(),
                DigestKind::Sha1 => cryptographic::<sha1::Sha1>(),
                DigestKind::Sha224 => cryptographic::<sha2::Sha224>(),
                DigestKind::Sha256 => cryptographic::<sha2::Sha256>(),
                DigestKind::Sha384 => cryptographic::<sha2::Sha384>(),
                DigestKind::Sha512 => cryptographic::<sha2::Sha512>(),
                DigestKind::Sha512_256 => cryptographic::<sha2::Sha512_256>(),
                DigestKind::Sha3_224 => cryptographic::<sha3::Sha3_224>(),
                DigestKind::Sha3_256 => cryptographic::<sha3::Sha3_256>(),
                DigestKind::Sha3_384 => cryptographic::<sha3::Sha3_384>(),
                DigestKind::Sha3_512 => cryptographic::<sha3::Sha3_512>(),
                DigestKind::Blake2b => cryptographic::<blake2::Blake2b512>(),
                DigestKind::Blake2s => cryptographic::<blake2::Blake2s256>(),
                DigestKind::Blake3 => CrateDigest::Blake3(Box::new(blake3::Hasher::new())),
                DigestKind::Xxh64 => CrateDigest::Xxh64(Box::new(XxHash64::with_seed(0))),
                DigestKind::Xxh3 => CrateDigest::Xxh3(Box::new(XxHash3_64::with_seed(0))),
                DigestKind::Xxh128 => CrateDigest::Xxh128(Box::new(XxHash3_128::with_seed(0))),
                DigestKind::HighwayHash256 => {
                    let word = |at| key.get(at).copied().unwrap_or(0);
                    let key = Key(std::array::from_fn(word));
                    CrateDigest::Highway(Box::new(HighwayHasher::new(key)))
                }
            }
        }

        pub(super) fn update(&mut self, bytes: &[u8]) {
            match self {
                CrateDigest::Cryptographic(digest) => digest.update(bytes),
                CrateDigest::Blake3(hasher) => {
                    hasher.update(bytes);
                }
                CrateDigest::Xxh64(hasher) => hasher.write(bytes),
                CrateDigest::Xxh3(hasher) => hasher.write(bytes),
                CrateDigest::Xxh128(hasher) => hasher.write(bytes),
                CrateDigest::Highway(hasher) => hasher.append(bytes),
            }
        }

        pub(super) fn finish(self) -> DigestValue {
            match self {
                CrateDigest::Cryptographic(digest) => digest.finish(),
                CrateDigest::Blake3(hasher) => DigestValue::new(hasher.finalize().as_bytes()),
                CrateDigest::Xxh64(hasher) => DigestValue::new(&hasher.finish().to_be_bytes()),
                CrateDigest::Xxh3(hasher) => DigestValue::new(&hasher.finish().to_be_bytes()),
                CrateDigest::Xxh128(hasher) => DigestValue::new(&hasher.finish_128().to_be_bytes()),
                CrateDigest::Highway(hasher) => DigestValue::of_words(&hasher.finalize256(), 32),
            }
        }
    }
}
