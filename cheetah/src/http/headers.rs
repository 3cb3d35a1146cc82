//! Response heads made when a site is packed, and the application area that holds them.
//!
//! ```text
//!   0   4  magic "HHD3"
//!   4   2  length of the 200 head        8   2  place of the media type in it     12   2  place of the entity tag
//!   6   2  length of the 304 head       10   2  its length                        14   2  its length
//!  16   8  last modification, seconds since 1970
//!  24   8  length of the file: an area that was made for other contents is not used
//!  32   1  the content coding: 0 for none, then as in `Coding::ALL`
//!  33   1  1 if the same contents are there in another coding, and 2 for each of `DictionaryUse`
//!  34   2  length of the 200 head as HTTP/2 has it
//!  36   2  length of the 304 head as HTTP/2 has it
//!  38   2  zero
//!  40      the 200 head, the 304 head, then both as blocks of HPACK
//! ```
//!
//! Numbers are little-endian. The heads lack `Date`, `Connection` and the empty line, which are patched in
//! when they are sent; so do the blocks. An area with the magic "HHD2" has no blocks: 34 to 40 are zero. One
//! with the magic "HHD1" has its heads at 32, and neither coding nor another one.

use std::ops::Range;

use crate::http::coding::Coding;
use crate::http::conditional::Validators;
use crate::http::date;
use crate::http::dictionary::DictionaryUse;
use crate::http::hpack;
use crate::http::response::{self, Status};

const MAGIC: &[u8; 4] = b"HHD3";
const PREFIX_BYTES: usize = 40;

/// Before there were blocks.
const MAGIC_WITHOUT_BLOCKS: &[u8; 4] = b"HHD2";

/// Before there were codings.
const OLD_MAGIC: &[u8; 4] = b"HHD1";
const OLD_PREFIX_BYTES: usize = 32;

/// What a head says of a file.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// `Content-Type`.
    pub content_type: &'a [u8],
    /// `Content-Encoding`.
    pub coding: Option<Coding>,
    /// Whether the same contents are there in another coding: what is sent depends on `Accept-Encoding`.
    pub varies: bool,
    /// Whether it is the dictionary of its next version, or its older one was that.
    pub dictionary: DictionaryUse,
    /// `Content-Length`.
    pub size: u64,
    /// `ETag` and `Last-Modified`.
    pub validators: Validators<'a>,
}

/// Where things lie in an application area.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// The 200 head.
    pub whole: Range<usize>,
    /// The 304 head.
    pub not_modified: Range<usize>,
    /// The 200 head as HTTP/2 has it; empty if it was not made.
    pub whole_block: Range<usize>,
    /// The 304 head likewise.
    pub not_modified_block: Range<usize>,
    /// The media type.
    pub content_type: Range<usize>,
    /// The entity tag, with quotes.
    pub etag: Range<usize>,
    /// Seconds since 1970.
    pub last_modified: u64,
    /// The content coding.
    pub coding: Option<Coding>,
    /// Whether the contents are there in another one.
    pub varies: bool,
    /// What it has to do with dictionaries.
    pub dictionary: DictionaryUse,
}

impl Area {
    /// Where the head of a response of that status lies, if there is one.
    pub fn head(&self, status: Status) -> Option<Range<usize>> {
        match status {
            Status::Ok => Some(self.whole.clone()),
            Status::NotModified => Some(self.not_modified.clone()),
            _ => None,
        }
    }

    /// Where the same lies as a block of HPACK.
    pub fn block(&self, status: Status) -> Option<Range<usize>> {
        let block = match status {
            Status::Ok => &self.whole_block,
            Status::NotModified => &self.not_modified_block,
            _ => return None,
        };
        (!block.is_empty()).then(|| block.clone())
    }

    /// Reads an area that belongs to a file of `size` bytes; `None` if it is none of ours, or damaged.
    pub fn decode(bytes: &[u8], size: u64) -> Option<Area> {
        let u16_at = |at: usize| Some(usize::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)));
        let u64_at = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        if u64_at(24)? != size {
            return None;
        }
        let has_blocks = bytes.starts_with(MAGIC);
        let (prefix, coding, bits) = if has_blocks || bytes.starts_with(MAGIC_WITHOUT_BLOCKS) {
            let coding = match usize::from(*bytes.get(32)?) {
                0 => None,
                number => Some(*Coding::ALL.get(number - 1)?),
            };
            (PREFIX_BYTES, coding, *bytes.get(33)?)
        } else if bytes.starts_with(OLD_MAGIC) {
            (OLD_PREFIX_BYTES, None, 0)
        } else {
            return None;
        };
        let whole = prefix..prefix + u16_at(4)?;
        let not_modified = whole.end..whole.end + u16_at(6)?;
        let block_lens = if has_blocks { (u16_at(34)?, u16_at(36)?) } else { (0, 0) };
        let whole_block = not_modified.end..not_modified.end + block_lens.0;
        let not_modified_block = whole_block.end..whole_block.end + block_lens.1;
        let within = |at: usize, len: usize| {
            let start = whole.start + at;
            (start + len <= whole.end).then_some(start..start + len)
        };
        let content_type = within(u16_at(8)?, u16_at(10)?)?;
        let etag = within(u16_at(12)?, u16_at(14)?)?;
        let is_head = |range: &Range<usize>| {
            let head = bytes.get(range.clone());
            head.is_some_and(|head| head.starts_with(b"HTTP/1.1 ") && head.ends_with(b"\r\n"))
        };
        if !is_head(&whole) || !is_head(&not_modified) || not_modified_block.end != bytes.len() {
            return None;
        }
        let last_modified = u64_at(16)?;
        Some(Area {
            whole,
            not_modified,
            whole_block,
            not_modified_block,
            content_type,
            etag,
            last_modified,
            coding,
            varies: bits & 1 != 0,
            dictionary: DictionaryUse::of_bits(bits >> 1),
        })
    }
}

impl Area {
    /// What the heads say of a file of `size` bytes, whose area `of` gives parts of.
    pub fn facts<'a>(&self, size: u64, of: impl Fn(Range<usize>) -> &'a [u8]) -> Facts<'a> {
        Facts {
            content_type: of(self.content_type.clone()),
            coding: self.coding,
            varies: self.varies,
            dictionary: self.dictionary,
            size,
            validators: Validators { etag: of(self.etag.clone()), last_modified: self.last_modified },
        }
    }
}

/// Makes the application area of a file.
pub fn encode(facts: &Facts<'_>) -> Vec<u8> {
    let mut whole = Vec::with_capacity(256);
    write(Status::Ok, facts, &mut whole);
    let mut not_modified = Vec::with_capacity(160);
    write(Status::NotModified, facts, &mut not_modified);
    // Where the values landed. Both are short and both fields are there, so neither look-up nor size can
    // fail.
    let place = |value: &[u8], name: &str| {
        let field = [name.as_bytes(), b": ", value, b"\r\n"].concat();
        let at = whole.windows(field.len()).position(|window| window == field).unwrap_or(0);
        ((at + name.len() + 2) as u16, value.len() as u16)
    };
    let (type_at, type_len) = place(facts.content_type, "Content-Type");
    let (etag_at, etag_len) = place(facts.validators.etag, "ETag");
    let mut area = Vec::with_capacity(PREFIX_BYTES + whole.len() + not_modified.len());
    area.extend_from_slice(MAGIC);
    for number in [whole.len() as u16, not_modified.len() as u16, type_at, type_len, etag_at, etag_len] {
        area.extend_from_slice(&number.to_le_bytes());
    }
    area.extend_from_slice(&facts.validators.last_modified.to_le_bytes());
    area.extend_from_slice(&facts.size.to_le_bytes());
    area.push(facts.coding.map_or(0, |coding| coding as u8 + 1));
    area.push(u8::from(facts.varies) | facts.dictionary.bits() << 1);
    let block = |head: &[u8]| {
        let mut block = Vec::with_capacity(head.len());
        hpack::of_head(head, &mut block);
        block
    };
    let (whole_block, not_modified_block) = (block(&whole), block(&not_modified));
    area.extend_from_slice(&(whole_block.len() as u16).to_le_bytes());
    area.extend_from_slice(&(not_modified_block.len() as u16).to_le_bytes());
    area.resize(PREFIX_BYTES, 0);
    area.extend([whole, not_modified, whole_block, not_modified_block].concat());
    area
}

/// Writes the head of a 200 or 304, up to where `Date` goes. A 304 bears the validators and no fields of the
/// content that is not sent (RFC 9110 section 15.4.5).
pub fn write(status: Status, facts: &Facts<'_>, out: &mut Vec<u8>) {
    response::begin(out, status);
    if status != Status::NotModified {
        response::field(out, "Content-Type", facts.content_type);
        response::line(out, format_args!("Content-Length: {}", facts.size));
        write_coding(facts, out);
    }
    write_common(facts, out);
    if status != Status::NotModified {
        write_accept_ranges(out);
    }
}

/// Writes `Content-Encoding`, if there is one.
pub fn write_coding(facts: &Facts<'_>, out: &mut Vec<u8>) {
    if let Some(coding) = facts.coding {
        response::field(out, "Content-Encoding", coding.token().as_bytes());
    }
}

/// Writes what a 304 bears, too: `Vary`, and the validators.
pub fn write_common(facts: &Facts<'_>, out: &mut Vec<u8>) {
    match facts.dictionary {
        _ if !facts.varies => {}
        DictionaryUse::Delta => response::field(out, "Vary", b"Accept-Encoding, Available-Dictionary"),
        DictionaryUse::None | DictionaryUse::Offered => response::field(out, "Vary", b"Accept-Encoding"),
    }
    write_validators(&facts.validators, out);
}

/// Writes `ETag` and `Last-Modified`.
fn write_validators(validators: &Validators<'_>, out: &mut Vec<u8>) {
    response::field(out, "ETag", validators.etag);
    response::field(out, "Last-Modified", &date::format(validators.last_modified));
}

/// Writes `Accept-Ranges`.
pub fn write_accept_ranges(out: &mut Vec<u8>) {
    response::field(out, "Accept-Ranges", b"bytes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts() -> Facts<'static> {
        let validators = Validators { etag: b"\"abc\"", last_modified: 784_111_777 };
        Facts {
            content_type: b"text/html; charset=utf-8",
            coding: None,
            varies: false,
            dictionary: DictionaryUse::None,
            size: 1234,
            validators,
        }
    }

    #[test]
    fn an_area_gives_back_what_was_put_in() {
        let bytes = encode(&facts());
        let area = Area::decode(&bytes, 1234).unwrap();
        assert_eq!(
            std::str::from_utf8(&bytes[area.whole.clone()]).unwrap(),
            "HTTP/1.1 200 OK\r\nServer: cheetah\r\nContent-Type: text/html; charset=utf-8\r\n\
             Content-Length: 1234\r\nETag: \"abc\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Accept-Ranges: bytes\r\n"
        );
        assert_eq!(
            std::str::from_utf8(&bytes[area.not_modified.clone()]).unwrap(),
            "HTTP/1.1 304 Not Modified\r\nServer: cheetah\r\nETag: \"abc\"\r\n\
             Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        );
        assert_eq!(&bytes[area.content_type], b"text/html; charset=utf-8");
        assert_eq!(&bytes[area.etag], b"\"abc\"");
        assert_eq!(area.last_modified, 784_111_777);
        assert_eq!((area.coding, area.varies), (None, false));
    }

    #[test]
    fn codings_are_told() {
        for coding in Coding::ALL {
            let facts = Facts { coding: Some(coding), varies: true, ..facts() };
            let bytes = encode(&facts);
            let area = Area::decode(&bytes, 1234).unwrap();
            assert_eq!((area.coding, area.varies), (Some(coding), true));
            let whole = String::from_utf8(bytes[area.whole].to_vec()).unwrap();
            let token = coding.token();
            assert!(
                whole.contains(&format!("\r\nContent-Encoding: {token}\r\nVary: Accept-Encoding\r\n")),
                "{whole}"
            );
            let not_modified = String::from_utf8(bytes[area.not_modified].to_vec()).unwrap();
            assert!(not_modified.contains("\r\nVary: Accept-Encoding\r\n"), "{not_modified}");
            assert!(!not_modified.contains("Content-Encoding"), "{not_modified}");
        }
    }

    #[test]
    fn uses_of_dictionaries_are_told() {
        for (dictionary, varies, vary) in [
            (DictionaryUse::None, true, Some("Accept-Encoding")),
            (DictionaryUse::Offered, true, Some("Accept-Encoding")),
            (DictionaryUse::Offered, false, None),
            (DictionaryUse::Delta, true, Some("Accept-Encoding, Available-Dictionary")),
        ] {
            let bytes = encode(&Facts { dictionary, varies, ..facts() });
            let area = Area::decode(&bytes, 1234).unwrap();
            assert_eq!((area.dictionary, area.varies), (dictionary, varies));
            for head in [area.whole, area.not_modified] {
                let head = String::from_utf8(bytes[head].to_vec()).unwrap();
                let said = head.lines().find_map(|line| line.strip_prefix("Vary: "));
                assert_eq!(said, vary, "{head}");
            }
        }
    }

    #[test]
    fn areas_of_the_old_kinds_are_read() {
        let new = encode(&facts());
        let new_area = Area::decode(&new, 1234).unwrap();
        let heads = &new[PREFIX_BYTES..new_area.not_modified.end];
        let first = [&OLD_MAGIC[..], &new[4..OLD_PREFIX_BYTES], heads].concat();
        let second = [&MAGIC_WITHOUT_BLOCKS[..], &new[4..34], &[0; 6], heads].concat();
        for old in [first, second] {
            let old_area = Area::decode(&old, 1234).unwrap();
            assert_eq!(old[old_area.whole.clone()], new[new_area.whole.clone()]);
            assert_eq!(old[old_area.etag.clone()], new[new_area.etag.clone()]);
            assert_eq!((old_area.block(Status::Ok), old_area.block(Status::NotModified)), (None, None));
        }
    }

    #[test]
    fn blocks_say_what_heads_say() {
        let bytes = encode(&facts());
        let area = Area::decode(&bytes, 1234).unwrap();
        for status in [Status::Ok, Status::NotModified] {
            let mut lines = String::new();
            let block = &bytes[area.block(status).unwrap()];
            hpack::Decoder::default()
                .decode(block, &mut Vec::new(), |name, value| {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    lines += &format!("{}: {}\r\n", text(name), text(value));
                })
                .unwrap();
            let head = std::str::from_utf8(&bytes[area.head(status).unwrap()]).unwrap();
            let names = |line: &str| {
                line.split_once(": ").map(|(name, value)| format!("{}: {value}\r\n", name.to_lowercase()))
            };
            let fields: String = head.lines().filter_map(names).collect();
            assert_eq!(lines, format!(":status: {}\r\n{fields}", status.code()));
        }
        assert_eq!(area.block(Status::NotFound), None);
    }

    #[test]
    fn an_area_of_other_contents_is_not_used() {
        let bytes = encode(&facts());
        assert_eq!(Area::decode(&bytes, 1235), None);
        assert_eq!(Area::decode(&bytes[..bytes.len() - 1], 1234), None);
        assert_eq!(Area::decode(&[], 0), None);
    }

    proptest! {
        #[test]
        fn a_damaged_area_is_refused_or_stays_in_bounds(at in 0usize..400, value: u8, cut in 0usize..400) {
            let mut bytes = encode(&facts());
            let len = bytes.len();
            bytes[at % len] = value;
            bytes.truncate(cut.max(1));
            if let Some(area) = Area::decode(&bytes, 1234) {
                for range in [area.whole, area.not_modified, area.whole_block, area.not_modified_block, area.content_type, area.etag] {
                    prop_assert!(bytes.get(range).is_some());
                }
            }
        }
    }
}
