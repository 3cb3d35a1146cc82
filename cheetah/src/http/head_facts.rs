//! What the heads of a file say, without their words: an application area of some 90 bytes in place of some 540. The words are
//! the same for every file and stand once, in the program, which makes the heads when the file is first looked up.
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

/// The area; `None` if something is longer than it has room for.
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
    Some(area)
}

/// Reads an area that belongs to a file of `size` bytes; `None` if it is none of ours, or says what no head may.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::headers;
    use proptest::prelude::*;

    fn facts(coding: Option<Coding>) -> Facts<'static> {
        Facts {
            content_type: b"text/html; charset=utf-8",
            coding,
            varies: coding.is_some(),
            dictionary: if coding.is_some() { DictionaryUse::Offered } else { DictionaryUse::None },
            size: 1234,
            validators: Validators { etag: b"\"abc\"", last_modified: 784_111_777 },
        }
    }

    #[test]
    fn heads_made_of_it_are_those_that_would_be_stored() {
        for coding in [None, Some(Coding::ALL[0]), Some(Coding::ALL[1])] {
            let facts = facts(coding);
            let (short, long) = (encode(&facts).unwrap(), headers::encode(&facts));
            assert_eq!(headers::encode(&decode(&short, 1234).unwrap()), long);
            assert!(short.len() * 5 < long.len(), "{} of {}", short.len(), long.len());
        }
    }

    #[test]
    fn what_no_head_may_say_is_refused() {
        let good = encode(&facts(None)).unwrap();
        assert!(decode(&good, 1235).is_none());
        for at in [0, 4, 6, 7, PREFIX_BYTES + 3, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] = if at == 4 { 99 } else { b'\n' };
            assert!(decode(&bad, 1234).is_none(), "byte {at}");
        }
        assert!(decode(&good[..good.len() - 1], 1234).is_none());
        let long = [b'x'; 256];
        assert!(encode(&Facts { content_type: &long, ..facts(None) }).is_none());
    }

    proptest! {
        #[test]
        fn of_any_bytes_heads_are_whole(at in 0usize..60, value: u8) {
            let mut bytes = encode(&facts(None)).unwrap();
            let len = bytes.len();
            bytes[at % len] = value;
            if let Some(facts) = decode(&bytes, 1234) {
                let area = headers::encode(&facts);
                prop_assert!(headers::Area::decode(&area, 1234).is_some());
            }
        }
    }
}
