//! A store whose files are copied before they are sent: what `--without pinning` measures.
//!
//! Otherwise what is sent points into the image or the cache, which keeps it there until it is acknowledged.
//! A server whose cache cannot promise that copies each block into a buffer of its own first, and sends from
//! there, again if it must.

use std::io;
use std::sync::Arc;

use fsstack::cache::{BlockPart, BlockReader};
use runtime::buffer::{Pool, Shared, Slice};
use runtime::payload::{Piece, StoredSums};
use runtime::stats::work::{Quantity, count};

use super::{Document, Found, Listed, Store};
use crate::http::headers::Facts;
use crate::http::response::Status;
use crate::rules::Rules;

/// Bytes in one copy.
const BLOCK_BYTES: usize = 16 << 10;

/// Blocks in pooled memory at once; others get memory of their own.
const MAX_BLOCKS: usize = 4096;

/// The files of another store, copied.
#[derive(Debug)]
pub struct Copied {
    store: Arc<dyn Store>,
    blocks: Pool,
}

#[derive(Debug)]
struct CopiedDocument {
    document: Arc<dyn Document>,
    blocks: Pool,
}

impl Copied {
    /// Copies what `store` has.
    pub fn new(store: Arc<dyn Store>) -> Copied {
        Copied { store, blocks: Pool::new(BLOCK_BYTES, MAX_BLOCKS) }
    }
}

impl Store for Copied {
    fn look_up(&self, path: &[u8], reader: &BlockReader) -> Found {
        match self.store.look_up(path, reader) {
            Found::File(document) => {
                Found::File(Arc::new(CopiedDocument { document, blocks: self.blocks.clone() }))
            }
            other => other,
        }
    }

    fn list(&self, path: &[u8]) -> io::Result<Option<Vec<Listed>>> {
        self.store.list(path)
    }

    fn rules(&self) -> &Rules {
        self.store.rules()
    }
}

impl CopiedDocument {
    fn copy(&self, bytes: &[u8]) -> Slice {
        let bytes = &bytes[..bytes.len().min(BLOCK_BYTES)];
        count(Quantity::BytesCopied, bytes.len());
        count(Quantity::BytesTouched, bytes.len());
        let Some(mut buffer) = self.blocks.take() else { return Slice::from(Shared::from(bytes.to_vec())) };
        buffer[..bytes.len()].copy_from_slice(bytes);
        let mut slice = Slice::from(buffer.freeze());
        slice.truncate(bytes.len());
        slice
    }
}

impl Document for CopiedDocument {
    fn facts(&self) -> Facts<'_> {
        self.document.facts()
    }

    fn ready_head(&self, status: Status) -> Option<Piece<'_>> {
        self.document.ready_head(status)
    }

    fn ready_block(&self, status: Status) -> Option<Piece<'_>> {
        self.document.ready_block(status)
    }

    fn is_resident(&self) -> bool {
        false
    }

    fn resident(&self, _offset: u64, _len: usize) -> Option<Piece<'_>> {
        None
    }

    fn read(&self, offset: u64, reader: &BlockReader) -> io::Result<BlockPart> {
        Ok(BlockPart::Here(match self.document.resident(offset, BLOCK_BYTES) {
            Some(piece) => self.copy(piece.bytes),
            None => match self.document.read(offset, reader)? {
                BlockPart::Here(slice) => self.copy(slice.bytes()),
                coming @ BlockPart::Coming(_) => return Ok(coming),
            },
        }))
    }

    fn stored_sums(&self, offset: u64) -> Option<StoredSums<'_>> {
        self.document.stored_sums(offset).or_else(|| self.document.resident(offset, 1)?.stored)
    }
}
