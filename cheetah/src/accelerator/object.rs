//! A response that is kept: its heads made beforehand, its content in blocks, and for which requests it is.

use std::io;

use fsstack::cache::{BlockPart, BlockReader};
use runtime::buffer::{Aggregate, Shared, Slice};
use runtime::payload::Piece;

use super::freshness::{Facts, Freshness, fields_of};
use crate::http::conditional::Validators;
use crate::http::date;
use crate::http::foreign::ForeignHead;
use crate::http::headers;
use crate::http::hpack;
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
    status: Status,
    reason: String,
    /// The fields as the origin sent them, but for those of the way and `Age`.
    fields: Vec<u8>,
    blocks: Vec<Shared>,
    len: u64,
    head: Shared,
    head_block: Shared,
    not_modified: Shared,
    not_modified_block: Shared,
    content_type: Box<[u8]>,
    /// As it came, and without `W/`.
    etag: Option<Box<[u8]>>,
    last_modified: Option<u64>,
    /// Times, and what it says of them.
    pub freshness: Freshness,
    /// For which requests it is.
    pub selecting: Selecting,
}

impl Object {
    /// The response of `head` with content in `blocks`, of which all but the last have 64 KiB; `None` of a status that
    /// is not kept.
    pub fn new(
        head: &ForeignHead,
        blocks: Vec<Shared>,
        freshness: Freshness,
        selecting: Selecting,
    ) -> Option<Object> {
        let status = Status::of_code(head.code)?;
        let mut fields = Vec::with_capacity(head.fields.len() + 40);
        for (name, value) in fields_of(&head.fields) {
            if !name.eq_ignore_ascii_case(b"age") {
                for part in [name, b": ", value, b"\r\n"] {
                    fields.extend_from_slice(part);
                }
            }
        }
        let len = blocks.iter().map(|block| block.len() as u64).sum();
        Some(Object::of(status, head.reason.clone(), fields, (blocks, len), freshness, selecting))
    }

    fn of(
        status: Status,
        reason: String,
        fields: Vec<u8>,
        (blocks, len): (Vec<Shared>, u64),
        freshness: Freshness,
        selecting: Selecting,
    ) -> Object {
        let facts = Facts::of(&fields);
        let content_type = facts.content_type.unwrap_or_default().into();
        let etag = facts.etag.map(Into::into);
        let last_modified = facts.last_modified.and_then(date::parse);
        let mut head = Vec::with_capacity(fields.len() + 80);
        response::line(&mut head, format_args!("HTTP/1.1 {} {reason}", status.code()));
        head.extend_from_slice(&fields);
        if status != Status::NoContent {
            response::line(&mut head, format_args!("Content-Length: {len}"));
        }
        let mut not_modified = Vec::with_capacity(160);
        response::line(&mut not_modified, format_args!("HTTP/1.1 {}", Status::NotModified.line()));
        for (name, value) in fields_of(&fields) {
            // RFC 9110 section 15.4.5.
            let wanted: [&[u8]; 7] = [
                b"cache-control",
                b"content-location",
                b"date",
                b"etag",
                b"expires",
                b"vary",
                b"last-modified",
            ];
            if wanted.iter().any(|other| name.eq_ignore_ascii_case(other)) {
                for part in [name, b": ", value, b"\r\n"] {
                    not_modified.extend_from_slice(part);
                }
            }
        }
        let block = |head: &[u8]| {
            let mut block = Vec::with_capacity(head.len());
            hpack::of_head(head, &mut block);
            Shared::from(block)
        };
        let (head_block, not_modified_block) = (block(&head), block(&not_modified));
        Object {
            status,
            reason,
            blocks,
            len,
            head: Shared::from(head),
            head_block,
            not_modified: Shared::from(not_modified),
            not_modified_block,
            content_type,
            etag,
            last_modified,
            fields,
            freshness,
            selecting,
        }
    }

    /// The same after the origin said by `head`, a 304, that it is still right (RFC 9111 sections 3.2 and 4.3.4).
    #[must_use]
    pub fn freshened(&self, head: &ForeignHead, asked: u64, came: u64) -> Object {
        let of_content: [&[u8]; 5] =
            [b"content-length", b"content-encoding", b"content-range", b"content-type", b"age"];
        let is_new = |name: &[u8]| !of_content.iter().any(|other| name.eq_ignore_ascii_case(other));
        let fresh: Vec<(&[u8], &[u8])> = fields_of(&head.fields).filter(|(name, _)| is_new(name)).collect();
        let is_replaced = |name: &[u8]| fresh.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let kept = fields_of(&self.fields).filter(|(name, _)| !is_replaced(name));
        let mut fields = Vec::with_capacity(self.fields.len() + head.fields.len());
        for (name, value) in kept.chain(fresh.iter().copied()) {
            for part in [name, b": ", value, b"\r\n"] {
                fields.extend_from_slice(part);
            }
        }
        // `Age` is that of the response that came now.
        let age = fields_of(&head.fields).find(|(name, _)| name.eq_ignore_ascii_case(b"age"));
        let mut told = fields.clone();
        if let Some((name, value)) = age {
            for part in [name, b": ", value, b"\r\n"] {
                told.extend_from_slice(part);
            }
        }
        let freshness = Freshness::of(self.status.code(), &told, asked, came);
        let content = (self.blocks.clone(), self.len);
        Object::of(self.status, self.reason.clone(), fields, content, freshness, self.selecting.clone())
    }

    /// Its status.
    pub fn status(&self) -> Status {
        self.status
    }

    /// What it takes of memory, about.
    pub fn bytes(&self) -> u64 {
        let heads = self.fields.len() + 2 * (self.head.len() + self.not_modified.len());
        self.len + (heads + self.selecting.bytes()) as u64 + OVERHEAD_BYTES
    }

    /// The fields with which the origin is asked whether it is still right; none if it cannot be.
    pub fn validators(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for (name, condition) in [(&b"etag"[..], "If-None-Match"), (b"last-modified", "If-Modified-Since")] {
            let own = fields_of(&self.fields).find(|(other, _)| other.eq_ignore_ascii_case(name));
            if let Some((_, value)) = own {
                response::field(&mut lines, condition, value);
            }
        }
        lines
    }

    /// Whether its entity tag, if it has one, may be compared byte for byte.
    pub fn is_strong(&self) -> bool {
        !self.etag.as_deref().is_some_and(|etag| etag.starts_with(b"W/"))
    }

    /// Whether there is something to compare what a request has with.
    pub fn has_validators(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }

    /// What it says in a response with a part of it: all fields but what is said of the part.
    pub fn write_fields(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(&self.fields);
    }

    /// The same as who made it would say it: for who waits for a head that is not ready.
    pub fn to_head(&self, status: Status) -> ForeignHead {
        let mut head =
            ForeignHead { is_signed: true, ..ForeignHead::new(status.code(), self.reason.clone()) };
        if status == Status::NotModified {
            head.reason = status.line()[4..].to_owned();
            let end = self.not_modified.iter().position(|&b| b == b'\n').map_or(0, |at| at + 1);
            head.fields = self.not_modified[end..].to_vec();
        } else {
            head.fields.clone_from(&self.fields);
            head.length = (status != Status::NoContent).then_some(self.len);
        }
        head
    }

    /// All of its content.
    pub fn content(&self) -> Aggregate {
        let mut content = Aggregate::new();
        self.blocks.iter().for_each(|block| content.push(Slice::from(block.clone())));
        content
    }
}

impl Document for Object {
    fn facts(&self) -> headers::Facts<'_> {
        let etag = self.etag.as_deref().unwrap_or_default();
        headers::Facts {
            content_type: &self.content_type,
            coding: None,
            varies: false,
            dictionary: crate::http::dictionary::DictionaryUse::None,
            size: self.len,
            validators: Validators {
                etag: etag.strip_prefix(b"W/").unwrap_or(etag),
                // Without a date nothing is as old as what a request says.
                last_modified: self.last_modified.unwrap_or(u64::MAX),
            },
        }
    }

    fn ready_head(&self, status: Status) -> Option<Piece<'_>> {
        let head = if status == Status::NotModified { &self.not_modified } else { &self.head };
        (status == self.status || status == Status::NotModified)
            .then(|| Piece { hold: Some(head), ..Piece::new(head) })
    }

    fn ready_block(&self, status: Status) -> Option<Piece<'_>> {
        let block = if status == Status::NotModified { &self.not_modified_block } else { &self.head_block };
        (status == self.status || status == Status::NotModified)
            .then(|| Piece { hold: Some(block), ..Piece::new(block) })
    }

    fn is_resident(&self) -> bool {
        true
    }

    fn resident(&self, offset: u64, len: usize) -> Option<Piece<'_>> {
        let offset = usize::try_from(offset).ok()?;
        let block = self.blocks.get(offset / BLOCK_BYTES)?;
        let from = offset % BLOCK_BYTES;
        let to = block.len().min(from.saturating_add(len));
        let bytes = block.get(from..to).filter(|bytes| !bytes.is_empty())?;
        Some(Piece { hold: Some(block), ..Piece::new(bytes) })
    }

    fn read(&self, offset: u64, _reader: &BlockReader) -> io::Result<BlockPart> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let offset = usize::try_from(offset).map_err(|_| end())?;
        let block = self.blocks.get(offset / BLOCK_BYTES).ok_or_else(end)?;
        let slice = Slice::new(block.clone(), offset % BLOCK_BYTES..block.len());
        slice.map(BlockPart::Here).ok_or_else(end)
    }
}
