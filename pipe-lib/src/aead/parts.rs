//! Records that are sealed in parts, each straight to where it is sent from: a segment ends anywhere in a
//! record. What a peer did not get is made once more from the plain bytes; of what was sealed only the tag is
//! kept.
//!
//! ```text
//!   plain   |--- head ---|------------- page -------------|-- page --|
//!   runs     ....[16]16 16 16 16 16 16 16 16 16 16 16 16 .|. 16 16 16 ..
//!   sealed  |------ segment ------|------ segment ------|-- segment --|
//! ```
//!
//! Whole blocks of 16 bytes go through the composed loop; the blocks that a part begins or ends within are
//! done here, byte by byte.

use super::{AeadError, AesGcm, MAX_RECORD_BYTES, NONCE_BYTES, Nonce, TAG_BYTES};
use crate::ones_sum::OnesSum;
use crate::wide;
use std::fmt;

/// Bytes of a block.
const BLOCK: usize = 16;

/// How far a record is sealed.
#[derive(Clone)]
pub struct Sealing {
    /// Its first 12 bytes, zeros above.
    nonce: u128,
    additional_len: u64,
    /// Bytes that are sealed.
    at: u64,
    /// GHASH of the whole blocks so far, the last one not multiplied yet.
    hash: u128,
    /// What there is of the block that has begun, first byte most significant.
    begun: u128,
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Sealing {
    fn new(nonce: &[u8; NONCE_BYTES], at: u64) -> Sealing {
        let mut block = [0; BLOCK];
        block[..NONCE_BYTES].copy_from_slice(nonce);
        Sealing { nonce: u128::from_le_bytes(block), additional_len: 0, at, hash: 0, begun: 0 }
    }

    /// Bytes of the record that are sealed.
    pub fn sealed(&self) -> u64 {
        self.at
    }

    /// The counter's block that block `number` of the record is encrypted by. 1 is the tag's.
    fn counter(&self, number: u32) -> u128 {
        self.nonce | u128::from(number.swap_bytes()) << 96
    }

    /// The number of the block that byte `at` lies in: records are shorter than the counter can tell.
    fn number(&self) -> u32 {
        (self.at / BLOCK as u64) as u32 + 2
    }
}

impl AesGcm {
    /// Begins a record with its additional data.
    ///
    /// # Errors
    /// [`AeadError::TooLong`].
    pub fn begin(&self, nonce: Nonce, additional: &[u8]) -> Result<Sealing, AeadError> {
        if additional.len() as u64 >= 1 << 61 {
            return Err(AeadError::TooLong);
        }
        let mut sealing = Sealing::new(&nonce.0, 0);
        sealing.additional_len = additional.len() as u64;
        sealing.hash = self.hash_additional(additional);
        Ok(sealing)
    }

    /// Encrypts the next bytes of a record to `sealed`, of the same length; appends to `sum`, if it is
    /// wanted, what is written, in the same pass.
    ///
    /// # Errors
    /// [`AeadError::Lengths`] and [`AeadError::TooLong`].
    pub fn seal_next(
        &self,
        sealing: &mut Sealing,
        plain: &[u8],
        sealed: &mut [u8],
        mut sum: Option<&mut OnesSum>,
    ) -> Result<(), AeadError> {
        if plain.len() != sealed.len() {
            return Err(AeadError::Lengths);
        }
        if plain.len() as u64 > MAX_RECORD_BYTES - sealing.at.min(MAX_RECORD_BYTES) {
            return Err(AeadError::TooLong);
        }
        let (mut plain, mut sealed) = (plain, sealed);
        while !plain.is_empty() {
            let within = sealing.at as usize % BLOCK;
            let whole = plain.len() - plain.len() % BLOCK;
            let now = if within > 0 || whole == 0 { plain.len().min(BLOCK - within) } else { whole };
            let (from, plain_after) = plain.split_at(now);
            let (to, sealed_after) = std::mem::take(&mut sealed).split_at_mut(now);
            if within > 0 || whole == 0 {
                self.seal_within_block(sealing, from, to, sum.as_deref_mut());
            } else {
                self.seal_blocks(sealing, from, to, sum.as_deref_mut())?;
            }
            (plain, sealed) = (plain_after, sealed_after);
        }
        Ok(())
    }

    /// The tag of a record whose last byte is sealed.
    pub fn tag(&self, sealing: &Sealing) -> [u8; TAG_BYTES] {
        let mut hash = sealing.hash;
        if !sealing.at.is_multiple_of(BLOCK as u64) {
            hash = self.times(hash) ^ sealing.begun;
        }
        self.tag_of(sealing.nonce, hash, sealing.additional_len, sealing.at)
    }

    /// Encrypts once more bytes of a record that were sealed before under this nonce, from byte `from` on.
    /// They have to be the bytes that they were then: of others both could be found out.
    ///
    /// # Errors
    /// Those of [`AesGcm::seal_next`].
    pub fn seal_again(
        &self,
        nonce: &[u8; NONCE_BYTES],
        from: u64,
        plain: &[u8],
        sealed: &mut [u8],
        sum: Option<&mut OnesSum>,
    ) -> Result<(), AeadError> {
        // What is hashed meanwhile is nobody's.
        self.seal_next(&mut Sealing::new(nonce, from), plain, sealed, sum)
    }

    /// Part of a block, up to its end at most.
    fn seal_within_block(
        &self,
        sealing: &mut Sealing,
        plain: &[u8],
        sealed: &mut [u8],
        sum: Option<&mut OnesSum>,
    ) {
        let within = sealing.at as usize % BLOCK;
        let key = wide::encrypt(&self.round_keys, sealing.counter(sealing.number())).to_le_bytes();
        let mut block = [0; BLOCK];
        for (at, (to, from)) in (within..).zip(sealed.iter_mut().zip(plain)) {
            *to = from ^ key[at];
            block[at] = *to;
        }
        sealing.begun |= u128::from_be_bytes(block);
        sealing.at += plain.len() as u64;
        if sealing.at.is_multiple_of(BLOCK as u64) {
            sealing.hash = self.times(sealing.hash) ^ sealing.begun;
            sealing.begun = 0;
        }
        if let Some(sum) = sum {
            // From the block's start on words are whole again; bytes before the part count nothing.
            let words = u128::from_be_bytes(block) << (8 * within);
            let total: u32 = (0..8).map(|word| (words >> (16 * word)) as u32 & 0xffff).sum();
            let total = (total & 0xffff) + (total >> 16);
            sum.append((total + (total >> 16)) as u16, plain.len());
        }
    }

    /// Whole blocks.
    fn seal_blocks(
        &self,
        sealing: &mut Sealing,
        plain: &[u8],
        sealed: &mut [u8],
        sum: Option<&mut OnesSum>,
    ) -> Result<(), AeadError> {
        let keyed = match &sum {
            Some(_) => self.seal_and_sum()?,
            None => &self.seal,
        };
        let before = (sealing.nonce, sealing.number(), sealing.hash);
        let (hash, added) = keyed.run(before, |engine, imports| engine.advance(imports, plain, sealed))?;
        sealing.hash = hash;
        sealing.at += plain.len() as u64;
        if let Some(sum) = sum {
            sum.append(added as u16, plain.len());
        }
        Ok(())
    }
}
