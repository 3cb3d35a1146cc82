//! Blocks that clients send, and the dynamic table that they share with us (RFC 7541 sections 2.3, 3 and 6).

use std::collections::VecDeque;

use super::huffman;
use super::static_table::STATIC_TABLE;

/// Bytes of the dynamic table, as RFC 7541 section 4.1 counts them: the size that holds unless something else
/// is said.
pub const MAX_TABLE_BYTES: usize = 4096;

/// What an entry counts beside its text.
const ENTRY_OVERHEAD: usize = 32;

/// No string of a block that is worth decoding is longer.
const MAX_INTEGER: usize = 1 << 24;

/// A block that cannot be decoded; what follows on the connection cannot be, either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBlock;

impl From<huffman::BadCode> for BadBlock {
    fn from(_: huffman::BadCode) -> BadBlock {
        BadBlock
    }
}

/// One direction of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The newest first.
    pub(super) entries: VecDeque<Entry>,
    pub(super) size: usize,
    /// What the peer wants to use, below [`MAX_TABLE_BYTES`].
    limit: Option<usize>,
}

/// A field: its name, then its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) text: Box<[u8]>,
    name_len: usize,
}

impl Entry {
    fn size(&self) -> usize {
        self.text.len() + ENTRY_OVERHEAD
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        self.text.split_at(self.name_len)
    }
}

/// What is left of a block.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    /// An integer whose first byte has `prefix` bits of it (section 5.1).
    fn integer(&mut self, prefix: u32) -> Result<usize, BadBlock> {
        let most = (1_usize << prefix) - 1;
        let (&first, mut rest) = self.0.split_first().ok_or(BadBlock)?;
        let mut value = usize::from(first) & most;
        if value == most {
            let mut shift = 0;
            loop {
                let (&byte, after) = rest.split_first().ok_or(BadBlock)?;
                rest = after;
                value += usize::from(byte & 127) << shift;
                if value > MAX_INTEGER || shift > 21 {
                    return Err(BadBlock);
                }
                if byte & 128 == 0 {
                    break;
                }
                shift += 7;
            }
        }
        self.0 = rest;
        Ok(value)
    }

    /// Appends a string (section 5.2).
    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), BadBlock> {
        let is_coded = *self.0.first().ok_or(BadBlock)? & 128 != 0;
        let len = self.integer(7)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(BadBlock)?;
        self.0 = rest;
        if is_coded {
            huffman::decode(bytes, out)?;
        } else {
            out.extend_from_slice(bytes);
        }
        Ok(())
    }
}

impl Decoder {
    /// Gives the fields of a block, in order, to `take`: name and value. `scratch` is for strings.
    ///
    /// # Errors
    /// [`BadBlock`]; the connection is of no use any more.
    pub fn decode(
        &mut self,
        block: &[u8],
        scratch: &mut Vec<u8>,
        mut take: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), BadBlock> {
        let mut input = Input(block);
        let mut has_fields = false;
        while let Some(&first) = input.0.first() {
            if first & 0xe0 == 0x20 {
                // A change of size stands at the beginning (section 4.2).
                let limit = input.integer(5)?;
                if has_fields || limit > MAX_TABLE_BYTES {
                    return Err(BadBlock);
                }
                self.limit = Some(limit);
                self.shrink_to(limit);
                continue;
            }
            has_fields = true;
            if first & 0x80 != 0 {
                let (name, value) = self.get(input.integer(7)?)?;
                take(name, value);
                continue;
            }
            let enters = first & 0x40 != 0;
            let index = input.integer(if enters { 6 } else { 4 })?;
            scratch.clear();
            if index == 0 {
                input.string(scratch)?;
            } else {
                scratch.extend_from_slice(self.get(index)?.0);
            }
            let name_len = scratch.len();
            input.string(scratch)?;
            let (name, value) = scratch.split_at(name_len);
            take(name, value);
            if enters {
                self.insert(Entry { text: scratch[..].into(), name_len });
            }
        }
        Ok(())
    }

    fn get(&self, index: usize) -> Result<(&[u8], &[u8]), BadBlock> {
        let at = index.checked_sub(1).ok_or(BadBlock)?;
        match STATIC_TABLE.get(at) {
            Some((name, value)) => Ok((name.as_bytes(), value.as_bytes())),
            None => self.entries.get(at - STATIC_TABLE.len()).map(Entry::parts).ok_or(BadBlock),
        }
    }

    /// What is bigger than the table empties it (section 4.4).
    fn insert(&mut self, entry: Entry) {
        let (limit, size) = (self.limit.unwrap_or(MAX_TABLE_BYTES), entry.size());
        self.shrink_to(limit.saturating_sub(size));
        if size <= limit {
            self.size += size;
            self.entries.push_front(entry);
        }
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size
            && let Some(last) = self.entries.pop_back()
        {
            self.size -= last.size();
        }
    }
}
