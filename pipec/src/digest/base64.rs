//! Base64 (RFC 4648 section 4), as S3's headers have checksums: with padding, and strict.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Four characters for each three bytes, the last ones padded by `=`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits: u32, at| bits << 8 | u32::from(*group.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let index = bits >> (18 - 6 * at) & 63;
            text.push(if at <= group.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    text
}

/// The bytes, if `text` is what [`encode`] makes of them.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.chunks(4) {
        let digits = group.iter().take_while(|&&c| c != b'=');
        let values: Option<Vec<u32>> = digits
            .map(|digit| ALPHABET.iter().position(|known| known == digit).map(|value| value as u32))
            .collect();
        let values = values.filter(|values| values.len() >= 2)?;
        let bits = (0..4).fold(0, |bits, at| bits << 6 | values.get(at).unwrap_or(&0));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..values.len()]);
    }
    // Padding in the middle, other characters behind it, bits that are not zero: all made differently.
    (encode(&bytes).as_bytes() == text).then_some(bytes)
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
