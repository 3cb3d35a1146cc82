//! A document that was made for who asked.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::LazyLock;

use fsstack::cache::{BlockPart, BlockReader};
use runtime::buffer::{Shared, Slice};
use runtime::payload::Piece;

use super::Document;
use crate::http::conditional::Validators;
use crate::http::dictionary::DictionaryUse;
use crate::http::headers::Facts;
use crate::http::response::Status;

/// Bytes with a media type and no file behind them.
#[derive(Debug)]
pub struct Made {
    bytes: Shared,
    content_type: &'static str,
    etag: String,
    made: u64,
}

impl Made {
    /// These bytes, made at the second `now` since 1970.
    pub fn new(content_type: &'static str, bytes: Vec<u8>, now: u64) -> Made {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let etag = format!("\"{:016x}\"", KEY.hash_one(&bytes));
        Made { bytes: Shared::from(bytes), content_type, etag, made: now }
    }
}

impl Document for Made {
    fn facts(&self) -> Facts<'_> {
        Facts {
            content_type: self.content_type.as_bytes(),
            coding: None,
            varies: false,
            dictionary: DictionaryUse::None,
            size: self.bytes.len() as u64,
            validators: Validators { etag: self.etag.as_bytes(), last_modified: self.made },
        }
    }

    fn ready_head(&self, _status: Status) -> Option<Piece<'_>> {
        None
    }

    fn is_resident(&self) -> bool {
        true
    }

    fn resident(&self, offset: u64, len: usize) -> Option<Piece<'_>> {
        let from = usize::try_from(offset).ok().filter(|&from| from < self.bytes.len())?;
        let to = self.bytes.len().min(from.saturating_add(len));
        Some(Piece { hold: Some(&self.bytes), ..Piece::new(&self.bytes[from..to]) })
    }

    fn read(&self, offset: u64, _reader: &BlockReader) -> io::Result<BlockPart> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let slice = Slice::new(self.bytes.clone(), from..self.bytes.len());
        slice.map(BlockPart::Here).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
