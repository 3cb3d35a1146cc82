//! Contents in codings that make them shorter, made once, when a site is packed.

use std::io::Write;

use sha2::{Digest as _, Sha256};

use crate::http::coding::Coding;
use crate::http::dictionary;

/// Shorter ones fit a packet as they are.
pub(super) const MIN_BYTES: u64 = 256;

/// Longer ones would be held in memory, and take minutes.
pub(super) const MAX_BYTES: u64 = 32 << 20;

/// The codings that contents are put in here.
pub(super) const MADE: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

/// The longest that a client needs to take in `dcz`, whatever dictionary it has (RFC 9842 section 5).
const MAX_WINDOW_BYTES: usize = 8 << 20;

/// Brotli's best takes a second a megabyte; above this its second best, ten times as fast, does.
const MAX_BEST_BYTES: usize = 1 << 20;

/// `contents` in those of `codings` that make them shorter by a twentieth at least. The same bytes give the same bytes.
pub(super) fn shorter(contents: &[u8], codings: impl Iterator<Item = Coding>) -> Vec<(Coding, Vec<u8>)> {
    let coded = codings.map(|coding| (coding, encode(coding, contents)));
    coded.filter(|(_, bytes)| bytes.len() <= contents.len() - contents.len() / 20).collect()
}

fn encode(coding: Coding, contents: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = match coding {
        Coding::Brotli => {
            let quality = if contents.len() <= MAX_BEST_BYTES { 11 } else { 9 };
            let parameters =
                brotli::enc::BrotliEncoderParams { quality, size_hint: contents.len(), ..Default::default() };
            brotli::BrotliCompress(&mut &contents[..], &mut bytes, &parameters).map(drop)
        }
        Coding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(&mut bytes, flate2::Compression::best());
            encoder.write_all(contents).and_then(|()| encoder.finish().map(drop))
        }
        Coding::Zstd => zstd::bulk::compress(contents, zstd_level(contents)).map(|made| bytes = made),
        // [`delta`] makes it.
        Coding::Dcz => Err(std::io::ErrorKind::Unsupported.into()),
    };
    // Writing to memory does not fail.
    match written {
        Ok(()) => bytes,
        Err(_) => contents.to_vec(),
    }
}

fn zstd_level(contents: &[u8]) -> i32 {
    if contents.len() <= MAX_BEST_BYTES { 19 } else { 12 }
}

/// `contents` in [`Coding::Dcz`] for who has `old`, if that is worth it beside `made`.
pub(super) fn delta(contents: &[u8], old: &[u8], made: &[(Coding, Vec<u8>)]) -> Option<Vec<u8>> {
    const DICTIONARY_OF_ZSTD: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];
    let is_fit = contents != old
        && !old.starts_with(&DICTIONARY_OF_ZSTD)
        && contents.len().max(old.len()) <= MAX_WINDOW_BYTES;
    if !is_fit {
        return None;
    }
    let mut compressor = zstd::bulk::Compressor::with_dictionary(zstd_level(contents), old).ok()?;
    let frame = compressor.compress(contents).ok()?;
    let hash: [u8; 32] = Sha256::digest(old).into();
    let bytes = [&dictionary::header(&hash)[..], &frame].concat();
    let least = made.iter().map(|(_, bytes)| bytes.len()).min().unwrap_or(contents.len());
    (bytes.len() <= least - least / 20).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut contents = Vec::new();
        match coding {
            Coding::Brotli => brotli::BrotliDecompress(&mut &bytes[..], &mut contents).map(drop).unwrap(),
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut contents).map(drop).unwrap(),
            Coding::Zstd => contents = zstd::decode_all(bytes).unwrap(),
            Coding::Dcz => unreachable!("not made of contents alone"),
        }
        contents
    }

    proptest! {
        #[test]
        fn what_is_made_is_the_same_contents(word in "[a-z ]{1,30}", times in 1usize..200, tail: [u8; 8]) {
            let contents = [word.repeat(times).as_bytes(), &tail].concat();
            for (coding, bytes) in shorter(&contents, MADE.into_iter()) {
                prop_assert!(bytes.len() < contents.len());
                prop_assert_eq!(decode(coding, &bytes), &contents[..]);
            }
        }
    }

    #[test]
    fn what_has_changed_is_little_for_who_has_the_rest() {
        let mut noise = [0; 50_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let fresh = [&noise[..20_000], b"something else", &noise[20_000..]].concat();
        let bytes = delta(&fresh, &noise, &[]).unwrap();
        assert!(bytes.len() < 300, "{}", bytes.len());
        let hash: [u8; 32] = Sha256::digest(noise).into();
        let frame = bytes.strip_prefix(&dictionary::header(&hash)).unwrap();
        let mut decompressor = zstd::bulk::Decompressor::with_dictionary(&noise).unwrap();
        assert!(decompressor.decompress(frame, 100_000).unwrap() == fresh);
        // Nothing to gain.
        assert_eq!(delta(&noise, &noise, &[]), None);
        assert_eq!(delta(&fresh, b"another thing altogether", &[]), None);
        assert_eq!(delta(&fresh, &noise, &[(Coding::Brotli, vec![0; 60])]), None);
    }

    #[test]
    fn text_gets_shorter_in_each_and_noise_in_none() {
        let text: String = (0..500).map(|i| format!("<p class=\"row\">{i}</p>\n")).collect();
        let made = shorter(text.as_bytes(), MADE.into_iter());
        assert_eq!(made.iter().map(|(coding, _)| *coding).collect::<Vec<_>>(), MADE);
        let mut noise = [0; 5000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert!(shorter(&noise, MADE.into_iter()).is_empty());
    }
}
