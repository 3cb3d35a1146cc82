//! Base64 (RFC 4648 section 4), as S3's headers have checksums: with padding, and strict.

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;

/// Four characters for each three bytes, the last ones padded by `=`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes, if `text` is what [`encode`] makes of them.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    /// RFC 4648 section 10.
    const VECTORS: [(&str, &str); 7] = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ];

    #[test]
    fn published_vectors_both_ways() {
        for (bytes, text) in VECTORS {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes.as_bytes()));
        }
    }

    #[test]
    fn what_no_encoder_makes_is_refused() {
        for text in ["Zg", "Zg=", "Z===", "====", "Zh==", "Zg==Zg==", "Zm9=", "Zm 9", "Zm9v\n", "Zm9-"] {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
    }
}
