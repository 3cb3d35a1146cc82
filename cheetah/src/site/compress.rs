//! Contents in codings that make them shorter, made once, when a site is packed.

use std::io::Write;

use crate::http::coding::Coding;

/// Shorter ones fit a packet as they are.
pub(super) const MIN_BYTES: u64 = 256;

/// Longer ones would be held in memory, and take minutes.
pub(super) const MAX_BYTES: u64 = 32 << 20;

/// The codings that contents are put in here. Zstandard is served where a file lies there in it.
pub(super) const MADE: [Coding; 2] = [Coding::Brotli, Coding::Gzip];

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
        Coding::Zstd => Err(std::io::ErrorKind::Unsupported.into()),
    };
    // Writing to memory does not fail.
    match written {
        Ok(()) => bytes,
        Err(_) => contents.to_vec(),
    }
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
            Coding::Zstd => unreachable!("not made"),
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
    fn text_gets_shorter_in_both_and_noise_in_none() {
        let text: String = (0..500).map(|i| format!("<p class=\"row\">{i}</p>\n")).collect();
        let made = shorter(text.as_bytes(), MADE.into_iter());
        assert_eq!(made.iter().map(|(coding, _)| *coding).collect::<Vec<_>>(), MADE);
        let mut noise = [0; 5000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert!(shorter(&noise, MADE.into_iter()).is_empty());
    }
}
