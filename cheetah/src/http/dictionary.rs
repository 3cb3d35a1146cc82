//! Compression dictionary transport (RFC 9842): a client that has a file's older version is sent what has
//! changed since.
//!
//! ```text
//!   200, Use-As-Dictionary: match="/app.js"        the client keeps the contents, and knows them by their SHA-256
//!   GET /app.js, Available-Dictionary: :pZGm…=:
//!   200, Content-Encoding: dcz                     Zstandard, with those contents as its dictionary
//! ```
//!
//! Or `dcb`, Brotli with them. Contents in either begin with the dictionary's hash (sections 4 and 5), so
//! they tell themselves for whom they are good.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::coding::Coding;

/// A SHA-256.
pub type Sha256Hash = [u8; 32];

/// What contents in `dcz` begin with: the head of a skippable frame of 32 bytes.
const DCZ_MAGIC: [u8; 8] = [0x5e, 0x2a, 0x4d, 0x18, 0x20, 0, 0, 0];

/// What contents in `dcb` begin with.
const DCB_MAGIC: [u8; 4] = *b"\xffDCB";

/// What a file has to do with dictionaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DictionaryUse {
    /// Nothing.
    #[default]
    None,
    /// Its contents are offered as one, for its next version.
    Offered,
    /// That, and it is there compressed by its older version: what is sent depends on `Available-Dictionary`.
    Delta,
}

impl DictionaryUse {
    /// As [`DictionaryUse::bits`] gave it.
    pub fn of_bits(bits: u8) -> DictionaryUse {
        match bits {
            1 => DictionaryUse::Offered,
            2 => DictionaryUse::Delta,
            _ => DictionaryUse::None,
        }
    }

    /// A number below 4.
    pub fn bits(self) -> u8 {
        self as u8
    }
}

/// What contents in `coding` begin with that were compressed with the contents of that hash; nothing in a
/// coding without dictionaries.
pub fn header(coding: Coding, hash: &Sha256Hash) -> Vec<u8> {
    match coding {
        Coding::Brotli | Coding::Zstd | Coding::Gzip => Vec::new(),
        Coding::Dcz => [&DCZ_MAGIC[..], hash].concat(),
        Coding::Dcb => [&DCB_MAGIC[..], hash].concat(),
    }
}

/// The hash in an `Available-Dictionary` field: bytes as structured fields have them (RFC 9651 section
/// 3.3.5).
pub fn available(value: &[u8]) -> Option<Sha256Hash> {
    let text = value.strip_prefix(b":")?.strip_suffix(b":")?;
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// Writes that the contents at `path` are the dictionary of what will be there; not of a path with what
/// patterns of URLs mean something by (section 2.1.1).
pub fn write_use_as(path: &[u8], text: &mut Vec<u8>) {
    let is_plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if path.iter().all(is_plain) {
        text.extend_from_slice(b"Use-As-Dictionary: match=\"");
        text.extend_from_slice(path);
        text.extend_from_slice(b"\"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_bytes_of_a_structured_field() {
        // The RFC's own example: section 2.2.
        let field = b":pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=:";
        let hash = available(field).unwrap();
        assert_eq!(hash[..4], [0xa5, 0x91, 0xa6, 0xd4]);
        for wrong in [
            &b""[..],
            b"::",
            b"pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=",
            b":pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=",
            b":pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFA==:",
            b":AAAA:",
            b":\xff:",
        ] {
            assert_eq!(available(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn contents_begin_with_what_they_need() {
        let hash = [7; 32];
        for (coding, len, start) in [
            (Coding::Dcz, 40, &b"\x5e\x2a\x4d\x18\x20\0\0\0\x07"[..]),
            (Coding::Dcb, 36, &b"\xff\x44\x43\x42\x07"[..]),
            (Coding::Brotli, 0, b""),
        ] {
            let header = header(coding, &hash);
            assert!(header.len() == len && header.starts_with(start), "{coding:?}: {header:?}");
        }
    }

    #[test]
    fn paths_are_no_patterns() {
        let written = |path: &str| {
            let mut text = Vec::new();
            write_use_as(path.as_bytes(), &mut text);
            String::from_utf8(text).unwrap()
        };
        assert_eq!(written("/a/b-1.min.js"), "Use-As-Dictionary: match=\"/a/b-1.min.js\"\r\n");
        for path in ["/a*", "/a:b", "/{a}", "/(a)", "/a?b", "/a\"b", "/a b", "/\u{e4}", "/a\\b"] {
            assert_eq!(written(path), "", "{path}");
        }
    }

    #[test]
    fn every_use_is_read_as_it_was_written() {
        for of in [DictionaryUse::None, DictionaryUse::Offered, DictionaryUse::Delta] {
            assert_eq!(DictionaryUse::of_bits(of.bits()), of);
        }
    }
}
