//! AES-GCM (NIST SP 800-38D) with the standard pipes `aes128_gcm_seal`, `aes128_gcm_open` and those of 256
//! bits: encrypted and hashed in one pass. Around the pass come what it does once a record: the encrypted
//! first counter, the additional data, the tag.
//!
//! ```
//! use pipe_lib::aead::{AesGcm, NonceSequence};
//!
//! let key = AesGcm::new(&[7; 16])?;
//! let mut nonces = NonceSequence::new([1; 12]);
//! let mut record = *b"attack at dawn";
//! let nonce = nonces.next_nonce()?;
//! let sent = *nonce.as_bytes();
//! let tag = key.seal_in_place(nonce, b"header", &mut record)?;
//! key.open_in_place(&sent, b"header", &mut record, &tag)?;
//! assert_eq!(&record, b"attack at dawn");
//! assert!(key.open_in_place(&sent, b"another", &mut record, &tag).is_err());
//! assert_eq!(record, [0; 14]);
//! # Ok::<(), pipe_lib::aead::AeadError>(())
//! ```

mod parts;

pub use parts::Sealing;

use crate::engine::Engine;
use crate::ir::WideBinary;
use crate::library::Library;
use crate::options::{Backend, CompileOptions};
use crate::run::Imports;
use crate::wide;
use std::fmt;
use std::sync::{Mutex, OnceLock};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of a tag.
pub const TAG_BYTES: usize = 16;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;

/// Most bytes under one nonce (SP 800-38D, 5.2.1.1): then the counter of 32 bits would come around.
pub const MAX_RECORD_BYTES: u64 = (1 << 36) - 32;

/// Most records under one key (RFC 8446, 5.5: 2^24.5 of the longest).
pub const MAX_RECORDS: u64 = 23_726_566;

/// Why nothing was sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AeadError {
    /// A key of another length than 16 or 32 bytes.
    KeyLength(usize),
    /// More than [`MAX_RECORD_BYTES`].
    TooLong,
    /// The destination has not as many bytes as the source.
    Lengths,
    /// The key has sealed [`MAX_RECORDS`]: take another one.
    UsedUp,
    /// The tag is not that of these bytes: they were not sealed so. Nothing of them is given.
    Forged,
    /// The pipes do not run here, as a phrase.
    Engine(String),
}

impl fmt::Display for AeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AeadError::KeyLength(len) => write!(f, "a key of {len} bytes; write one of 16 or 32"),
            AeadError::TooLong => write!(f, "more than {MAX_RECORD_BYTES} bytes under one nonce"),
            AeadError::Lengths => f.write_str("the destination has another length than the source"),
            AeadError::UsedUp => write!(f, "{MAX_RECORDS} records under one key; take another key"),
            AeadError::Forged => {
                f.write_str("the tag does not match: the bytes were changed, or sealed otherwise")
            }
            AeadError::Engine(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for AeadError {}

/// What one record is sealed under, and no other with that key: it is used up by sealing.
#[derive(Debug, PartialEq, Eq)]
pub struct Nonce([u8; NONCE_BYTES]);

impl Nonce {
    /// A nonce of the caller's, who sees to it that none comes twice with one key.
    pub const fn unique(bytes: [u8; NONCE_BYTES]) -> Nonce {
        Nonce(bytes)
    }

    /// Its bytes, for who opens.
    pub const fn as_bytes(&self) -> &[u8; NONCE_BYTES] {
        &self.0
    }
}

/// The nonces of a connection's records, as TLS 1.3 has them (RFC 8446, 5.3): the number of the record,
/// exclusive or the start.
#[derive(Clone, Debug)]
pub struct NonceSequence {
    start: [u8; NONCE_BYTES],
    next: u64,
}

impl NonceSequence {
    /// From record number 0.
    pub const fn new(start: [u8; NONCE_BYTES]) -> NonceSequence {
        NonceSequence { start, next: 0 }
    }

    /// The next record's.
    ///
    /// # Errors
    /// [`AeadError::UsedUp`] after [`MAX_RECORDS`].
    pub fn next_nonce(&mut self) -> Result<Nonce, AeadError> {
        if self.next >= MAX_RECORDS {
            return Err(AeadError::UsedUp);
        }
        let mut nonce = self.start;
        nonce.iter_mut().skip(4).zip(self.next.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
        self.next += 1;
        Ok(Nonce(nonce))
    }
}

/// A key, and the engines that seal and open with it. What is a key in it is overwritten when it is dropped.
pub struct AesGcm {
    round_keys: Zeroizing<Vec<u128>>,
    hash_key: Zeroizing<u128>,
    /// Its square: the two products that make a tag need not wait for each other.
    hash_key_squared: Zeroizing<u128>,
    options: CompileOptions,
    seal: Keyed,
    open: Keyed,
    /// Once it was asked for.
    seal_and_sum: OnceLock<Keyed>,
}

impl fmt::Debug for AesGcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AesGcm").field("key_bits", &self.key_bits()).finish_non_exhaustive()
    }
}

/// An engine, and where it takes what changes from record to record.
struct Keyed {
    engine: Engine,
    /// With the keys in it.
    imports: Imports,
    /// The same for whoever has it at the moment, so that records need no copy of the keys. What changes from
    /// record to record is set for each.
    spare: Mutex<Imports>,
    nonce: usize,
    counter: usize,
    hash: usize,
    /// Where the Internet checksum of what is written is, if it is made.
    sum: Option<usize>,
}

impl Keyed {
    fn new(
        pipeline: &str,
        options: &CompileOptions,
        round_keys: &[u128],
        hash_key: u128,
    ) -> Result<Keyed, AeadError> {
        let made = Library::standard().pipeline(pipeline).map_err(|error| error.to_string());
        let engine = made.and_then(|made| made.compile_with(options).map_err(|error| error.to_string()));
        let engine = engine.map_err(AeadError::Engine)?;
        let place = |name: &str| {
            let found = engine
                .registers()
                .iter()
                .find(|register| register.name.split_once('.').is_some_and(|(_, state)| state == name));
            found
                .map(|register| register.index)
                .ok_or_else(|| AeadError::Engine(format!("no state `{name}`")))
        };
        let mut imports = engine.imports();
        for (number, key) in round_keys.iter().enumerate() {
            put(&mut imports, place(&format!("k{number}.low"))?, *key);
        }
        put(&mut imports, place("h.low")?, hash_key);
        let (nonce, counter, hash) = (place("nonce.low")?, place("counter")?, place("y.low")?);
        let sum = place("sum").ok();
        let spare = Mutex::new(imports.clone());
        Ok(Keyed { engine, imports, spare, nonce, counter, hash, sum })
    }

    /// Runs from that nonce, number of a block and hash on; gives the hash, and the sum if it is made.
    fn run(
        &self,
        (nonce, counter, hash): (u128, u32, u128),
        run: impl FnOnce(&Engine, &mut Imports) -> Result<(), crate::RunError>,
    ) -> Result<(u128, u64), AeadError> {
        let mut copy;
        let mut spare = self.spare.try_lock();
        let imports = match &mut spare {
            Ok(spare) => &mut **spare,
            // Another thread seals with this key, too.
            Err(_) => {
                copy = self.imports.clone();
                &mut copy
            }
        };
        put(imports, self.nonce, nonce);
        put(imports, self.hash, hash);
        imports.registers[self.counter] = counter.into();
        if let Some(sum) = self.sum {
            imports.registers[sum] = 0;
        }
        run(&self.engine, imports).map_err(|error| AeadError::Engine(error.to_string()))?;
        let [low, high] = [0, 1].map(|half| u128::from(imports.registers[self.hash + half]));
        Ok((high << 64 | low, self.sum.map_or(0, |sum| imports.registers[sum])))
    }
}

/// Sets the two registers of 128 bits.
fn put(imports: &mut Imports, low: usize, value: u128) {
    imports.registers[low] = value as u64;
    imports.registers[low + 1] = (value >> 64) as u64;
}

impl AesGcm {
    /// AES-128-GCM with a key of 16 bytes, AES-256-GCM with one of 32.
    ///
    /// # Errors
    /// [`AeadError::KeyLength`].
    pub fn new(key: &[u8]) -> Result<AesGcm, AeadError> {
        AesGcm::with_options(key, &CompileOptions::default())
    }

    /// [`AesGcm::new`] with engines compiled as told: in separate passes, to see what one is worth.
    ///
    /// # Errors
    /// [`AeadError::KeyLength`].
    pub fn with_options(key: &[u8], options: &CompileOptions) -> Result<AesGcm, AeadError> {
        let round_keys = wide::expand_key(key).ok_or(AeadError::KeyLength(key.len()))?;
        let round_keys = Zeroizing::new(round_keys);
        let hash_key = Zeroizing::new(wide::encrypt(&round_keys, 0).swap_bytes());
        let bits = 8 * key.len();
        let keyed =
            |what: &str| Keyed::new(&format!("aes{bits}_gcm_{what}"), options, &round_keys, *hash_key);
        let (seal, open) = (keyed("seal")?, keyed("open")?);
        Ok(AesGcm {
            options: options.clone(),
            seal,
            open,
            seal_and_sum: OnceLock::new(),
            round_keys,
            hash_key_squared: Zeroizing::new(wide::binary(WideBinary::Gfmul128, *hash_key, *hash_key)),
            hash_key,
        })
    }

    fn key_bits(&self) -> usize {
        32 * (self.round_keys.len() - 7)
    }

    /// What encrypts, hashes and sums what is written, in one pass.
    fn seal_and_sum(&self) -> Result<&Keyed, AeadError> {
        if let Some(keyed) = self.seal_and_sum.get() {
            return Ok(keyed);
        }
        let pipeline = format!("aes{}_gcm_seal | inet_cksum", self.key_bits());
        let keyed = Keyed::new(&pipeline, &self.options, &self.round_keys, *self.hash_key)?;
        Ok(self.seal_and_sum.get_or_init(|| keyed))
    }

    fn times(&self, hash: u128) -> u128 {
        wide::binary(WideBinary::Gfmul128, hash, *self.hash_key)
    }

    /// GHASH of additional data, the last block not multiplied yet.
    fn hash_additional(&self, additional: &[u8]) -> u128 {
        let blocks = additional.chunks(16).map(|bytes| {
            let mut block = [0; 16];
            block[..bytes.len()].copy_from_slice(bytes);
            u128::from_be_bytes(block)
        });
        blocks.reduce(|hash, block| self.times(hash) ^ block).unwrap_or(0)
    }

    /// The tag of blocks whose hash that is, the last one not multiplied yet; lengths are in bytes.
    fn tag_of(&self, nonce: u128, hash: u128, additional_len: u64, len: u64) -> [u8; TAG_BYTES] {
        // The counter is 1 for the tag.
        let mask = wide::encrypt(&self.round_keys, nonce | 1 << 120).swap_bytes();
        let lengths = u128::from(additional_len) << 67 | u128::from(len) << 3;
        let squared = wide::binary(WideBinary::Gfmul128, hash, *self.hash_key_squared);
        (squared ^ self.times(lengths) ^ mask).to_be_bytes()
    }

    /// Whether records go through machine code here, not through the interpreter, whose speed is that of a
    /// block at a time.
    pub fn is_compiled(&self) -> bool {
        [&self.seal, &self.open].iter().all(|keyed| keyed.engine.backend() != Backend::Interp)
    }

    /// What sealing runs on.
    pub fn engine(&self) -> &Engine {
        &self.seal.engine
    }

    /// Encrypts `plain` to `sealed`, of the same length; gives the tag of that and of `additional`.
    ///
    /// # Errors
    /// [`AeadError::Lengths`] and [`AeadError::TooLong`].
    pub fn seal(
        &self,
        nonce: Nonce,
        additional: &[u8],
        plain: &[u8],
        sealed: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], AeadError> {
        if plain.len() != sealed.len() {
            return Err(AeadError::Lengths);
        }
        self.run(&self.seal, &nonce.0, additional, plain.len(), |engine, imports| {
            engine.advance(imports, plain, sealed)
        })
    }

    /// [`AesGcm::seal`] of bytes that lie in several places, as one record.
    ///
    /// # Errors
    /// [`AeadError::Lengths`] and [`AeadError::TooLong`].
    pub fn seal_pieces(
        &self,
        nonce: Nonce,
        additional: &[u8],
        plain: &[&[u8]],
        sealed: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], AeadError> {
        if plain.iter().map(|piece| piece.len()).sum::<usize>() != sealed.len() {
            return Err(AeadError::Lengths);
        }
        self.run(&self.seal, &nonce.0, additional, sealed.len(), |engine, imports| {
            engine.advance_by(imports, |prepared| prepared.run_vectored(plain, &mut [sealed]))
        })
    }

    /// [`AesGcm::seal`] where the bytes are.
    ///
    /// # Errors
    /// [`AeadError::TooLong`].
    pub fn seal_in_place(
        &self,
        nonce: Nonce,
        additional: &[u8],
        record: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], AeadError> {
        self.run(&self.seal, &nonce.0, additional, record.len(), |engine, imports| {
            engine.advance_in_place(imports, record)
        })
    }

    /// Decrypts `sealed` to `plain`, of the same length, if the tag is right. If it is not, `plain` is zeros.
    ///
    /// # Errors
    /// [`AeadError::Forged`], and those of [`AesGcm::seal`].
    pub fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        additional: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_BYTES],
        plain: &mut [u8],
    ) -> Result<(), AeadError> {
        if plain.len() != sealed.len() {
            return Err(AeadError::Lengths);
        }
        let found = self.run(&self.open, nonce, additional, sealed.len(), |engine, imports| {
            engine.advance(imports, sealed, plain)
        });
        verified(found?, tag, plain)
    }

    /// [`AesGcm::open`] where the bytes are.
    ///
    /// # Errors
    /// [`AeadError::Forged`] and [`AeadError::TooLong`].
    pub fn open_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        additional: &[u8],
        record: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), AeadError> {
        let found = self.run(&self.open, nonce, additional, record.len(), |engine, imports| {
            engine.advance_in_place(imports, record)
        });
        verified(found?, tag, record)
    }

    /// Runs an engine over a record of `len` bytes; gives the tag.
    fn run(
        &self,
        keyed: &Keyed,
        nonce: &[u8; NONCE_BYTES],
        additional: &[u8],
        len: usize,
        run: impl FnOnce(&Engine, &mut Imports) -> Result<(), crate::RunError>,
    ) -> Result<[u8; TAG_BYTES], AeadError> {
        if len as u64 > MAX_RECORD_BYTES || additional.len() as u64 >= 1 << 61 {
            return Err(AeadError::TooLong);
        }
        let mut block = [0; 16];
        block[..NONCE_BYTES].copy_from_slice(nonce);
        let nonce = u128::from_le_bytes(block);
        // The first block's counter is 2.
        let (hash, _) = keyed.run((nonce, 2, self.hash_additional(additional)), run)?;
        Ok(self.tag_of(nonce, hash, additional.len() as u64, len as u64))
    }
}

/// Nothing of `plain` is given unless both tags are one; how far they are, no time tells.
fn verified(found: [u8; TAG_BYTES], tag: &[u8; TAG_BYTES], plain: &mut [u8]) -> Result<(), AeadError> {
    let differ = found.iter().zip(tag).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    if differ == 0 {
        return Ok(());
    }
    plain.zeroize();
    Err(AeadError::Forged)
}

#[cfg(test)]
mod tests {
    use super::{AesGcm, Nonce};

    /// Registers that another thread has at the moment are not waited for.
    #[test]
    fn registers_in_use_are_copied() {
        let key = AesGcm::new(&[9; 16]).unwrap();
        let seal = || {
            let mut record = [7; 333];
            let tag = key.seal_in_place(Nonce::unique([1; 12]), b"header", &mut record).unwrap();
            (record.to_vec(), tag)
        };
        let alone = seal();
        let held = key.seal.spare.lock().unwrap();
        assert_eq!(seal(), alone);
        drop(held);
        assert_eq!(seal(), alone);
    }
}
