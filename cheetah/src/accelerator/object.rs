//! A response that is kept: its heads made beforehand, its content in blocks or in a file of an image, and
//! for which requests it is.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fsstack::cache::{BlockPart, BlockReader};
use fsstack::{Image, Inode, InodeId, ReadError};
use runtime::buffer::{Aggregate, Shared, Slice};
use runtime::payload::{Piece, StoredSums};

use super::freshness::{Freshness, fields_of};
use super::record::{self, Parts, Places};
use crate::http::conditional::Validators;
use crate::http::dictionary::DictionaryUse;
use crate::http::foreign::ForeignHead;
use crate::http::headers;
use crate::http::reply::list;
use crate::http::response::{self, Status};
use crate::store::Document;

/// Bytes of content in one block.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

/// What an object takes beside its bytes, about.
const OVERHEAD_BYTES: u64 = 1024;

/// The fields of a request that its response depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selecting(Vec<Selected>);

/// Its name, in small letters, and its values together.
type Selected = (Box<[u8]>, Box<[u8]>);

impl Selecting {
    /// What `Vary` in the fields of a response names, of the request that has `asked`.
    pub fn of<'a>(fields: &[u8], asked: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Selecting {
        let vary = fields_of(fields).filter(|(name, _)| name.eq_ignore_ascii_case(b"vary"));
        let mut names: Vec<Box<[u8]>> =
            vary.flat_map(|(_, value)| list(value)).map(|name| name.to_ascii_lowercase().into()).collect();
        names.sort();
        names.dedup();
        Selecting(names.into_iter().map(|name| (name.clone(), values(&name, asked.clone()).into())).collect())
    }

    /// Whether a request that has `asked` has the same.
    pub fn selects<'a>(&self, asked: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> bool {
        self.0.iter().all(|(name, value)| **value == values(name, asked.clone()))
    }

    /// As it stands in a record.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes());
        for (name, value) in &self.0 {
            // Both are of heads, of 16 KiB at most.
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(value);
        }
        bytes
    }

    /// Reads what stands in a record; `None` if it is damaged.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Selecting> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let name_len = usize::from(u16::from_le_bytes(*bytes.first_chunk()?));
            let value_len = u32::from_le_bytes(*bytes.get(2..)?.first_chunk()?) as usize;
            let (name, rest) = bytes.get(6..)?.split_at_checked(name_len)?;
            let (value, rest) = rest.split_at_checked(value_len)?;
            fields.push((name.into(), value.into()));
            bytes = rest;
        }
        Some(Selecting(fields))
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
    }
}

/// All values of a field, as one list, without blanks around its members.
fn values<'a>(wanted: &[u8], fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let own = fields.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
    own.flat_map(|(_, value)| list(value)).collect::<Vec<_>>().join(&b","[..])
}

/// A response that is kept.
#[derive(Debug)]
pub struct Object {
    /// Which response it is, wherever its content is.
    serial: u64,
    /// All that is known of it: memory of its own, or of the image that has it.
    record: Slice,
    places: Places,
    content: Content,
    /// Times, and what it says of them.
    pub freshness: Freshness,
    /// For which requests it is.
    pub selecting: Selecting,
}

/// Where the content is. A clone is the same.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Of these all but the last have 64 KiB.
    Blocks(Arc<Vec<Shared>>),
    File(StoredFile),
}

/// A file of an image, which is there as long as this is.
#[derive(Clone, Debug)]
pub(super) struct StoredFile {
    pub(super) image: Arc<Image>,
    pub(super) id: InodeId,
}

impl Content {
    pub(super) fn is(&self, other: &Content) -> bool {
        match (self, other) {
            (Content::Blocks(one), Content::Blocks(other)) => Arc::ptr_eq(one, other),
            (Content::File(one), Content::File(other)) => {
                Arc::ptr_eq(&one.image, &other.image) && one.id == other.id
            }
            _ => false,
        }
    }
}

impl StoredFile {
    fn inode(&self) -> Inode<'_> {
        self.image.inode(self.id)
    }
}

impl Object {
    /// The response of `head` to a request for `key`, with content in `blocks`, of which all but the last
    /// have 64 KiB; `None` of a status that is not kept.
    pub fn new(
        key: &[u8],
        head: &ForeignHead,
        blocks: Vec<Shared>,
        freshness: Freshness,
        selecting: Selecting,
    ) -> Option<Object> {
        let status = Status::of_code(head.code)?;
        let mut fields = Vec::with_capacity(head.fields.len() + 40);
        for (name, value) in fields_of(&head.fields) {
            if !name.eq_ignore_ascii_case(b"age") {
                push_field(name, value, &mut fields);
            }
        }
        let len = blocks.iter().map(|block| block.len() as u64).sum();
        let parts = Parts {
            key,
            status,
            reason: &head.reason,
            fields: &fields,
            len,
            freshness: &freshness,
            selecting: &selecting,
        };
        Object::of(Slice::from(Shared::from(record::encode(&parts))), Content::Blocks(Arc::new(blocks)))
    }

    /// What `record` says, with that content; `None` if they do not belong together, or the record is
    /// damaged.
    pub(super) fn of(record: Slice, content: Content) -> Option<Object> {
        let (places, freshness, selecting) = record::decode(record.bytes())?;
        let len = match &content {
            Content::Blocks(blocks) => blocks.iter().map(|block| block.len() as u64).sum(),
            Content::File(file) => file.inode().size(),
        };
        static SERIALS: AtomicU64 = AtomicU64::new(0);
        let serial = SERIALS.fetch_add(1, Ordering::Relaxed);
        (places.len == len).then_some(Object { serial, record, places, content, freshness, selecting })
    }

    /// The same after the origin said by `head`, a 304, that it is still right (RFC 9111 sections 3.2 and
    /// 4.3.4); `None` if that cannot be kept.
    #[must_use]
    pub fn freshened(&self, head: &ForeignHead, asked: u64, came: u64) -> Option<Object> {
        let of_content: [&[u8]; 5] =
            [b"content-length", b"content-encoding", b"content-range", b"content-type", b"age"];
        let is_new = |name: &[u8]| !of_content.iter().any(|other| name.eq_ignore_ascii_case(other));
        let fresh: Vec<(&[u8], &[u8])> = fields_of(&head.fields).filter(|(name, _)| is_new(name)).collect();
        let is_replaced = |name: &[u8]| fresh.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let kept = fields_of(self.fields()).filter(|(name, _)| !is_replaced(name));
        let mut fields = Vec::with_capacity(self.fields().len() + head.fields.len());
        for (name, value) in kept.chain(fresh.iter().copied()) {
            push_field(name, value, &mut fields);
        }
        // `Age` is that of the response that came now.
        let age = fields_of(&head.fields).find(|(name, _)| name.eq_ignore_ascii_case(b"age"));
        let mut told = fields.clone();
        if let Some((name, value)) = age {
            push_field(name, value, &mut told);
        }
        let freshness = Freshness::of(self.status().code(), &told, asked, came);
        let reason = String::from_utf8_lossy(self.part(&self.places.reason));
        let parts = Parts {
            key: self.key(),
            status: self.status(),
            reason: &reason,
            fields: &fields,
            len: self.places.len,
            freshness: &freshness,
            selecting: &self.selecting,
        };
        Object::of(Slice::from(Shared::from(record::encode(&parts))), self.content.clone())
    }

    /// The same, with its content elsewhere.
    pub(super) fn with_content(&self, content: Content) -> Option<Object> {
        Some(Object::of(self.record.clone(), content)?.known_as(self))
    }

    /// What was read of the disk, which is that response.
    pub(super) fn known_as(self, other: &Object) -> Object {
        Object { serial: other.serial, ..self }
    }

    /// Whether both are one response, wherever its content is.
    pub(super) fn is(&self, other: &Object) -> bool {
        self.serial == other.serial
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        &self.record.bytes()[range.clone()]
    }

    fn piece_of(&self, range: &Range<usize>) -> Piece<'_> {
        Piece { hold: Some(self.record.buffer()), ..Piece::new(self.part(range)) }
    }

    fn fields(&self) -> &[u8] {
        self.part(&self.places.fields)
    }

    /// What it was asked for by.
    pub(super) fn key(&self) -> &[u8] {
        self.part(&self.places.key)
    }

    /// All that is known of it beside its content.
    pub(super) fn record(&self) -> &Slice {
        &self.record
    }

    /// Where the content is.
    pub(super) fn place(&self) -> &Content {
        &self.content
    }

    /// Its status.
    pub fn status(&self) -> Status {
        self.places.status
    }

    /// What it takes of memory, about.
    pub fn bytes(&self) -> u64 {
        let content = match &self.content {
            Content::Blocks(_) => self.places.len,
            Content::File(_) => 0,
        };
        content + (self.record.len() + self.selecting.bytes()) as u64 + OVERHEAD_BYTES
    }

    /// The fields with which the origin is asked whether it is still right; none if it cannot be.
    pub fn validators(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for (name, condition) in [(&b"etag"[..], "If-None-Match"), (b"last-modified", "If-Modified-Since")] {
            let own = fields_of(self.fields()).find(|(other, _)| other.eq_ignore_ascii_case(name));
            if let Some((_, value)) = own {
                response::field(&mut lines, condition, value);
            }
        }
        lines
    }

    fn etag(&self) -> &[u8] {
        self.places.etag.as_ref().map_or(&[], |range| self.part(range))
    }

    /// Whether its entity tag, if it has one, may be compared byte for byte.
    pub fn is_strong(&self) -> bool {
        !self.etag().starts_with(b"W/")
    }

    /// Whether there is something to compare what a request has with.
    pub fn has_validators(&self) -> bool {
        self.places.etag.is_some() || self.places.last_modified.is_some()
    }

    /// What it says in a response with a part of it: all fields but what is said of the part.
    pub fn write_fields(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(self.fields());
    }

    /// The same as who made it would say it: for who waits for a head that is not ready.
    pub fn to_head(&self, status: Status) -> ForeignHead {
        let reason = String::from_utf8_lossy(self.part(&self.places.reason)).into_owned();
        let mut head = ForeignHead { is_signed: true, ..ForeignHead::new(status.code(), reason) };
        if status == Status::NotModified {
            head.reason = status.line()[4..].to_owned();
            let lines = self.part(&self.places.not_modified);
            let end = lines.iter().position(|&b| b == b'\n').map_or(0, |at| at + 1);
            head.fields = lines[end..].to_vec();
        } else {
            head.fields = self.fields().to_vec();
            head.length = (status != Status::NoContent).then_some(self.places.len);
        }
        head
    }

    /// That part of its content, which may have to be read first.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn content(&self, range: Range<u64>) -> io::Result<Aggregate> {
        let mut content = Aggregate::new();
        let mut at = range.start;
        while at < range.end {
            let mut slice = self.fetch(at)?;
            slice.truncate(usize::try_from(range.end - at).unwrap_or(usize::MAX));
            if slice.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += slice.len() as u64;
            content.push(slice);
        }
        Ok(content)
    }
}

pub(super) fn push_field(name: &[u8], value: &[u8], fields: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        fields.extend_from_slice(part);
    }
}

fn read_error(error: ReadError) -> io::Error {
    match error {
        ReadError::Device(kind) => kind.into(),
        other => io::Error::other(other),
    }
}

impl Document for Object {
    fn facts(&self) -> headers::Facts<'_> {
        let etag = self.etag();
        headers::Facts {
            content_type: self.part(&self.places.content_type),
            coding: None,
            varies: false,
            dictionary: DictionaryUse::None,
            size: self.places.len,
            validators: Validators {
                etag: etag.strip_prefix(b"W/").unwrap_or(etag),
                // Without a date nothing is as old as what a request says.
                last_modified: self.places.last_modified.unwrap_or(u64::MAX),
            },
        }
    }

    fn ready_head(&self, status: Status) -> Option<Piece<'_>> {
        let Places { not_modified, head, .. } = &self.places;
        let range = if status == Status::NotModified { not_modified } else { head };
        (status == self.status() || status == Status::NotModified).then(|| self.piece_of(range))
    }

    fn ready_block(&self, status: Status) -> Option<Piece<'_>> {
        let Places { not_modified_block, head_block, .. } = &self.places;
        let range = if status == Status::NotModified { not_modified_block } else { head_block };
        (status == self.status() || status == Status::NotModified).then(|| self.piece_of(range))
    }

    fn is_resident(&self) -> bool {
        match &self.content {
            Content::Blocks(_) => true,
            Content::File(file) => file.image.is_resident(),
        }
    }

    fn resident(&self, offset: u64, len: usize) -> Option<Piece<'_>> {
        let blocks = match &self.content {
            Content::Blocks(blocks) => blocks,
            Content::File(file) => return file.inode().piece(offset, len).ok().flatten(),
        };
        let offset = usize::try_from(offset).ok()?;
        let block = blocks.get(offset / BLOCK_BYTES)?;
        let from = offset % BLOCK_BYTES;
        let to = block.len().min(from.saturating_add(len));
        let bytes = block.get(from..to).filter(|bytes| !bytes.is_empty())?;
        Some(Piece { hold: Some(block), ..Piece::new(bytes) })
    }

    fn read(&self, offset: u64, reader: &BlockReader) -> io::Result<BlockPart> {
        let blocks = match &self.content {
            Content::Blocks(blocks) => blocks,
            Content::File(file) => {
                return file.inode().fetch_by(offset, usize::MAX, reader).map_err(read_error);
            }
        };
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let offset = usize::try_from(offset).map_err(|_| end())?;
        let block = blocks.get(offset / BLOCK_BYTES).ok_or_else(end)?;
        let slice = Slice::new(block.clone(), offset % BLOCK_BYTES..block.len());
        slice.map(BlockPart::Here).ok_or_else(end)
    }

    fn stored_sums(&self, offset: u64) -> Option<StoredSums<'_>> {
        match &self.content {
            Content::Blocks(_) => None,
            Content::File(file) => file.inode().stored_sums(offset).ok().flatten(),
        }
    }
}
