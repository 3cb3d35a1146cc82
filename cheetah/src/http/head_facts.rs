//! What the heads of a file say, without their words: an application area of some 90 bytes in place of some
//! 540. The words are the same for every file and stand once, in the program, which makes the heads when a
//! file is looked up, of a packed image of 64 MiB and more, and otherwise of all files when the image is
//! opened.
//!
//! ```text
//!   0   4  magic "HHF1"
//!   4   1  the content coding: 0 for none, then as in `Coding::ALL`
//!   5   1  1 if the same contents are there in another coding, and 2 for each of `DictionaryUse`
//!   6   1  length of the media type      7   1  length of the entity tag
//!   8   8  last modification, seconds since 1970
//!  16   8  length of the file: an area that was made for other contents is not used
//!  24      the media type, the entity tag with quotes
//! ```
//!
//! Numbers are little-endian.

use crate::http::coding::Coding;
use crate::http::conditional::Validators;
use crate::http::dictionary::DictionaryUse;
use crate::http::headers::Facts;

const MAGIC: &[u8; 4] = b"HHF1";
const PREFIX_BYTES: usize = 24;

/// The area; `None` if something is longer than it has room for, or is what no head may say.
pub fn encode(facts: &Facts<'_>) -> Option<Vec<u8>> {
    let Facts { content_type, coding, varies, dictionary, size, validators } = facts;
    let len = |value: &[u8]| u8::try_from(value.len()).ok();
    let mut area = MAGIC.to_vec();
    area.push(coding.map_or(0, |coding| coding as u8 + 1));
    area.push(u8::from(*varies) | dictionary.bits() << 1);
    area.extend([len(content_type)?, len(validators.etag)?]);
    area.extend_from_slice(&validators.last_modified.to_le_bytes());
    area.extend_from_slice(&size.to_le_bytes());
    area.extend_from_slice(content_type);
    area.extend_from_slice(validators.etag);
    decode(&area, *size).is_some().then_some(area)
}

/// Reads an area that belongs to a file of `size` bytes; `None` if it is none of ours, or says what no head
/// may.
pub fn decode(bytes: &[u8], size: u64) -> Option<Facts<'_>> {
    let (prefix, values) = bytes.split_first_chunk::<PREFIX_BYTES>()?;
    let u64_at = |at: usize| Some(u64::from_le_bytes(*prefix[at..].first_chunk()?));
    if !prefix.starts_with(MAGIC) || u64_at(16)? != size {
        return None;
    }
    let (type_len, etag_len) = (usize::from(prefix[6]), usize::from(prefix[7]));
    // Nothing that would end a field early.
    if values.len() != type_len + etag_len || values.iter().any(u8::is_ascii_control) {
        return None;
    }
    let (content_type, etag) = values.split_at(type_len);
    // A condition that names it could never be true otherwise.
    let opaque = etag.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if content_type.is_empty() || opaque.iter().any(|byte| matches!(byte, b'"' | b' ')) {
        return None;
    }
    let coding = match usize::from(prefix[4]) {
        0 => None,
        number => Some(*Coding::ALL.get(number - 1)?),
    };
    Some(Facts {
        content_type,
        coding,
        varies: prefix[5] & 1 != 0,
        dictionary: DictionaryUse::of_bits(prefix[5] >> 1),
        size,
        validators: Validators { etag, last_modified: u64_at(8)? },
    })
}
