//! What is known of a response that is kept, beside its content, in one run of bytes: in memory it is that,
//! and in an image it is the application area of the file that has the content.
//!
//! ```text
//!   0   4  magic "HAC1"
//!   4   2  status code
//!   6   2  zero
//!   8   8  when it came, seconds since 1970
//!  16   8  how old it was then, in seconds
//!  24   8  how old it may become
//!  32   8  length of the content: a record that was made for another one is not used
//!  40   4  length of the key                     56   4  of the 304 head
//!  44   4  of what it is selected by             60   4  of the head as HTTP/2 has it
//!  48   4  of the head                           64   4  of the 304 head as HTTP/2 has it
//!  52   4  of the fields in the head that are the origin's
//!  68      all of them in this order, but for the fields
//! ```
//!
//! Numbers are little-endian. What it is selected by: the length of a name (2) and of its value (4), the
//! name, the value, and so on. Heads lack what stands in the text behind them: `Age`, `Cache-Status`,
//! `Connection` and the empty line.

use std::ops::Range;

use super::freshness::{Facts, Freshness, fields_of};
use super::object::{Selecting, push_field};
use crate::http::date;
use crate::http::hpack;
use crate::http::response::{self, Status};

const MAGIC: &[u8; 4] = b"HAC1";
const PREFIX_BYTES: usize = 68;

/// What a record is made of.
pub(super) struct Parts<'a> {
    pub(super) key: &'a [u8],
    pub(super) status: Status,
    pub(super) reason: &'a str,
    /// Lines, each with its end.
    pub(super) fields: &'a [u8],
    pub(super) len: u64,
    pub(super) freshness: &'a Freshness,
    pub(super) selecting: &'a Selecting,
}

/// Where things lie in a record, and what was read of it.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) status: Status,
    pub(super) len: u64,
    pub(super) key: Range<usize>,
    pub(super) head: Range<usize>,
    pub(super) reason: Range<usize>,
    pub(super) fields: Range<usize>,
    pub(super) not_modified: Range<usize>,
    pub(super) head_block: Range<usize>,
    pub(super) not_modified_block: Range<usize>,
    pub(super) content_type: Range<usize>,
    /// With `W/`, if it has that.
    pub(super) etag: Option<Range<usize>>,
    pub(super) last_modified: Option<u64>,
}

/// Makes a record, heads included.
pub(super) fn encode(parts: &Parts<'_>) -> Vec<u8> {
    let mut head = Vec::with_capacity(parts.fields.len() + 80);
    response::line(&mut head, format_args!("HTTP/1.1 {} {}", parts.status.code(), parts.reason));
    head.extend_from_slice(parts.fields);
    if parts.status != Status::NoContent {
        response::line(&mut head, format_args!("Content-Length: {}", parts.len));
    }
    let mut not_modified = Vec::with_capacity(160);
    response::line(&mut not_modified, format_args!("HTTP/1.1 {}", Status::NotModified.line()));
    for (name, value) in fields_of(parts.fields) {
        // RFC 9110 section 15.4.5.
        const WANTED: [&[u8]; 7] =
            [b"cache-control", b"content-location", b"date", b"etag", b"expires", b"vary", b"last-modified"];
        if WANTED.iter().any(|other| name.eq_ignore_ascii_case(other)) {
            push_field(name, value, &mut not_modified);
        }
    }
    let block = |head: &[u8]| {
        let mut block = Vec::with_capacity(head.len());
        hpack::of_head(head, &mut block);
        block
    };
    let (head_block, not_modified_block) = (block(&head), block(&not_modified));
    let selecting = parts.selecting.encode();
    let mut record = Vec::with_capacity(
        PREFIX_BYTES + parts.key.len() + selecting.len() + 2 * (head.len() + not_modified.len()),
    );
    record.extend_from_slice(MAGIC);
    record.extend_from_slice(&parts.status.code().to_le_bytes());
    record.extend_from_slice(&[0; 2]);
    let Freshness { came, initial_age, lifetime, .. } = *parts.freshness;
    for number in [came, initial_age, lifetime, parts.len] {
        record.extend_from_slice(&number.to_le_bytes());
    }
    let all = [parts.key, &selecting, &head, &not_modified, &head_block, &not_modified_block];
    let [key, selects, whole, without, block, block_without] = all.map(<[u8]>::len);
    for len in [key, selects, whole, parts.fields.len(), without, block, block_without] {
        // Heads are of 16 KiB at most, and what asks for them.
        record.extend_from_slice(&(len as u32).to_le_bytes());
    }
    all.iter().for_each(|part| record.extend_from_slice(part));
    record
}

/// Reads a record; `None` if it is none, or damaged.
pub(super) fn decode(record: &[u8]) -> Option<(Places, Freshness, Selecting)> {
    if !record.starts_with(MAGIC) {
        return None;
    }
    let u32_at = |at: usize| Some(u32::from_le_bytes(*record.get(at..)?.first_chunk()?) as usize);
    let u64_at = |at: usize| Some(u64::from_le_bytes(*record.get(at..)?.first_chunk()?));
    let status = Status::of_code(u16::from_le_bytes(*record.get(4..)?.first_chunk()?))?;
    let mut at = PREFIX_BYTES;
    let mut next = |len: usize| {
        let part = at..at.checked_add(len)?;
        at = part.end;
        (part.end <= record.len()).then_some(part)
    };
    let key = next(u32_at(40)?)?;
    let selects = next(u32_at(44)?)?;
    let head = next(u32_at(48)?)?;
    let not_modified = next(u32_at(56)?)?;
    let head_block = next(u32_at(60)?)?;
    let not_modified_block = next(u32_at(64)?)?;
    let is_head = |range: &Range<usize>| {
        let head = &record[range.clone()];
        head.starts_with(b"HTTP/1.1 ") && head.ends_with(b"\r\n")
    };
    if not_modified_block.end != record.len() || !is_head(&head) || !is_head(&not_modified) {
        return None;
    }
    let line_end = head.start + record[head.clone()].iter().position(|&b| b == b'\n')? + 1;
    let fields = line_end..line_end.checked_add(u32_at(52)?).filter(|&end| end <= head.end)?;
    // Behind `HTTP/1.1 200 `.
    let reason = (head.start + 13).min(line_end - 2)..line_end - 2;
    let (whole, len) = (record, u64_at(32)?);
    let facts = Facts::of(&whole[fields.clone()]);
    // Parts of the record, all of them.
    let place = |part: &[u8]| {
        let from = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        from..from + part.len()
    };
    let places = Places {
        status,
        len,
        content_type: facts.content_type.map_or(0..0, place),
        etag: facts.etag.map(place),
        last_modified: facts.last_modified.and_then(date::parse),
        key,
        head,
        reason,
        fields,
        not_modified,
        head_block,
        not_modified_block,
    };
    let control = facts.control();
    let freshness = Freshness { came: u64_at(8)?, initial_age: u64_at(16)?, lifetime: u64_at(24)?, control };
    Some((places, freshness, Selecting::decode(&record[selects])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> Vec<u8> {
        let fields = b"Content-Type: text/css\r\nETag: W/\"a\"\r\nVary: Accept-Language\r\n\
                       Cache-Control: max-age=60\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nX: y\r\n";
        let asked = [(&b"accept-language"[..], &b"de"[..])];
        encode(&Parts {
            key: b"ph\0/a",
            status: Status::Ok,
            reason: "Fine",
            fields,
            len: 7,
            freshness: &Freshness::of(200, fields, 100, 101),
            selecting: &Selecting::of(fields, asked.iter().copied()),
        })
    }

    #[test]
    fn a_record_gives_back_what_was_put_in() {
        let record = record();
        let (places, freshness, selecting) = decode(&record).unwrap();
        let of = |range: &Range<usize>| std::str::from_utf8(&record[range.clone()]).unwrap();
        assert_eq!((of(&places.key), of(&places.reason)), ("ph\0/a", "Fine"));
        assert_eq!((of(&places.content_type), of(&places.etag.unwrap())), ("text/css", "W/\"a\""));
        assert_eq!((places.last_modified, places.len, places.status), (Some(784_111_777), 7, Status::Ok));
        assert!(of(&places.head).starts_with("HTTP/1.1 200 Fine\r\nContent-Type: text/css\r\n"));
        assert!(of(&places.head).ends_with("X: y\r\nContent-Length: 7\r\n"));
        assert!(of(&places.fields).ends_with("X: y\r\n"));
        let short = of(&places.not_modified);
        assert!(short.starts_with("HTTP/1.1 304 Not Modified\r\nETag") && !short.contains("X: y"), "{short}");
        assert_eq!((freshness.came, freshness.lifetime, freshness.control.max_age), (101, 60, Some(60)));
        assert!(selecting.selects([(&b"Accept-Language"[..], &b"de"[..])].into_iter()));
        assert!(!selecting.selects([(&b"Accept-Language"[..], &b"en"[..])].into_iter()));
    }

    proptest! {
        #[test]
        fn damaged_records_are_none_or_sound(at in 0usize..400, byte in any::<u8>(), cut in any::<bool>()) {
            let mut record = record();
            let at = at % record.len();
            if cut {
                record.truncate(at);
            } else {
                record[at] = byte;
            }
            if let Some((places, _, _)) = decode(&record) {
                for range in [places.key, places.head, places.reason, places.fields, places.content_type] {
                    prop_assert!(record.get(range).is_some());
                }
                for range in [places.not_modified, places.head_block, places.not_modified_block] {
                    prop_assert!(record.get(range).is_some());
                }
            }
        }
    }
}
