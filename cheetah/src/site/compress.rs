//! Contents in codings that make them shorter, made once, when a site is packed.

use std::io::{Read as _, Write as _};

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

/// `contents` in those of `codings` that make them shorter by a twentieth at least. The same bytes give the
/// same bytes.
pub(super) fn shorter(contents: &[u8], codings: impl Iterator<Item = Coding>) -> Vec<(Coding, Vec<u8>)> {
    let coded = codings.map(|coding| (coding, encode(coding, contents)));
    coded.filter(|(_, bytes)| bytes.len() <= contents.len() - contents.len() / 20).collect()
}

fn encode(coding: Coding, contents: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = match coding {
        Coding::Brotli => {
            let quality = brotli_quality(contents);
            let parameters =
                brotli::enc::BrotliEncoderParams { quality, size_hint: contents.len(), ..Default::default() };
            brotli::BrotliCompress(&mut &contents[..], &mut bytes, &parameters).map(drop)
        }
        Coding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(&mut bytes, flate2::Compression::best());
            encoder.write_all(contents).and_then(|()| encoder.finish().map(drop))
        }
        Coding::Zstd => zstd::bulk::compress(contents, zstd_level(contents)).map(|made| bytes = made),
        // [`deltas`] makes them.
        Coding::Dcz | Coding::Dcb => Err(std::io::ErrorKind::Unsupported.into()),
    };
    // Writing to memory does not fail.
    match written {
        Ok(()) => bytes,
        Err(_) => contents.to_vec(),
    }
}

fn brotli_quality(contents: &[u8]) -> i32 {
    if contents.len() <= MAX_BEST_BYTES { 11 } else { 9 }
}

fn zstd_level(contents: &[u8]) -> i32 {
    if contents.len() <= MAX_BEST_BYTES { 19 } else { 12 }
}

/// `contents` in the codings that take another for their dictionary, for who has `old`: each if that is worth
/// it beside `made`.
pub(super) fn deltas(contents: &[u8], old: &[u8], made: &[(Coding, Vec<u8>)]) -> Vec<(Coding, Vec<u8>)> {
    if contents == old || contents.len().max(old.len()) > MAX_WINDOW_BYTES {
        return Vec::new();
    }
    let hash: [u8; 32] = Sha256::digest(old).into();
    let least = made.iter().map(|(_, bytes)| bytes.len()).min().unwrap_or(contents.len());
    let coded = [(Coding::Dcz, zstd_after(contents, old)), (Coding::Dcb, brotli_after(contents, old))];
    let whole = coded
        .into_iter()
        .filter_map(|(coding, bytes)| Some((coding, [dictionary::header(coding, &hash), bytes?].concat())));
    whole.filter(|(_, bytes)| bytes.len() <= least - least / 20).collect()
}

fn zstd_after(contents: &[u8], old: &[u8]) -> Option<Vec<u8>> {
    const DICTIONARY_OF_ZSTD: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];
    // It would be taken for more than bytes.
    if old.starts_with(&DICTIONARY_OF_ZSTD) {
        return None;
    }
    zstd::bulk::Compressor::with_dictionary(zstd_level(contents), old).ok()?.compress(contents).ok()
}

/// A stream of Brotli that has `old` ahead of it, as draft-vandevenne-shared-brotli-format has a raw
/// dictionary: it is referred to by distances beyond the beginning, and the words that Brotli knows by itself
/// are not used.
fn brotli_after(contents: &[u8], old: &[u8]) -> Option<Vec<u8>> {
    let quality = brotli_quality(contents);
    // Both in one window: 16 MB and less, as every client has them.
    let both = contents.len() + old.len() + 16;
    let lgwin = (16..=24).find(|&bits| both <= 1 << bits)?;
    let parameters =
        brotli::enc::BrotliEncoderParams { quality, lgwin, size_hint: contents.len(), ..Default::default() };
    let (dictionary, is_certain) = without_a_way_across(old, contents)?;
    let mut bytes = Vec::new();
    let [mut input, mut output] = [const { [0; 4096] }; 2].map(Vec::from);
    brotli::BrotliCompressCustomIoCustomDict(
        &mut brotli::IoReaderWrapper(&mut &contents[..]),
        &mut brotli::IoWriterWrapper(&mut bytes),
        &mut input,
        &mut output,
        &parameters,
        brotli::enc::StandardAlloc::default(),
        &mut |_, _, _, _| {},
        &dictionary,
        std::io::ErrorKind::UnexpectedEof.into(),
    )
    .ok()?;
    (is_certain || brotli_of(&bytes, old).is_ok_and(|read| read == contents)).then_some(bytes)
}

/// `old` as the encoder has to see it. A copy that begins in a dictionary has to end there (a client refuses
/// others), but the encoder sees one text and copies across its end, where contents begin. So the last byte
/// becomes one that no copy can take along: between its two neighbours it never stands in `contents`. Where
/// each byte does somewhere (noise of 400 KB), it is one that seldom does, and not certain.
fn without_a_way_across(old: &[u8], contents: &[u8]) -> Option<(Vec<u8>, bool)> {
    let (&first, [start @ .., _]) = (contents.first()?, old) else { return None };
    let mut times = [0_usize; 256];
    for pair in contents.windows(2) {
        times[usize::from(pair[1])] += usize::from(start.last() == Some(&pair[0]));
        times[usize::from(pair[0])] += usize::from(pair[1] == first);
    }
    let byte = (0..=u8::MAX).min_by_key(|&byte| times[usize::from(byte)])?;
    Some(([start, &[byte]].concat(), times[usize::from(byte)] == 0))
}

/// What a client that has `old` reads in a stream of Brotli.
fn brotli_of(stream: &[u8], old: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut decoder = brotli::Decompressor::new(stream, 4096);
    if !decoder.attach_dictionary(old.to_vec().into()) {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut contents = Vec::new();
    decoder.read_to_end(&mut contents)?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut contents = Vec::new();
        match coding {
            Coding::Brotli => brotli::BrotliDecompress(&mut &bytes[..], &mut contents).map(drop).unwrap(),
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut contents).map(drop).unwrap(),
            Coding::Zstd => contents = zstd::decode_all(bytes).unwrap(),
            Coding::Dcz | Coding::Dcb => unreachable!("not made of contents alone"),
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

    /// What a client that has `old` makes of it.
    fn decode_after(coding: Coding, bytes: &[u8], old: &[u8]) -> Vec<u8> {
        let hash: [u8; 32] = Sha256::digest(old).into();
        let stream = bytes.strip_prefix(&dictionary::header(coding, &hash)[..]).unwrap();
        if coding == Coding::Dcz {
            return zstd::bulk::Decompressor::with_dictionary(old)
                .unwrap()
                .decompress(stream, 20 << 20)
                .unwrap();
        }
        brotli_of(stream, old).unwrap()
    }

    #[test]
    fn what_has_changed_is_little_for_who_has_the_rest() {
        let mut noise = [0; 50_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let fresh = [&noise[..20_000], b"something else", &noise[20_000..]].concat();
        let made = deltas(&fresh, &noise, &[]);
        assert_eq!(made.iter().map(|(coding, _)| *coding).collect::<Vec<_>>(), [Coding::Dcz, Coding::Dcb]);
        for (coding, bytes) in made {
            assert!(bytes.len() < 300, "{coding:?}: {}", bytes.len());
            assert!(decode_after(coding, &bytes, &noise) == fresh);
        }
        // Nothing to gain.
        assert!(deltas(&noise, &noise, &[]).is_empty());
        assert!(deltas(&fresh, b"another thing altogether", &[]).is_empty());
        assert!(deltas(&fresh, &noise, &[(Coding::Brotli, vec![0; 60])]).is_empty());
    }

    /// Contents and dictionary together just below, at and beyond a window, and much longer than each other.
    #[test]
    fn a_dictionary_is_reached_from_everywhere() {
        let mut noise = vec![0; 300_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        for (old, tail) in
            [(65_520, 10), (65_530, 30_000), (1000, 200_000), (200_000, 1000), (131_000, 131_056)]
        {
            let old = &noise[..old];
            let fresh = [&noise[noise.len() - tail..], old, b"!", old].concat();
            for (coding, bytes) in deltas(&fresh, old, &[]) {
                assert!(decode_after(coding, &bytes, old) == fresh, "{coding:?}, {}, {tail}", old.len());
            }
        }
    }

    proptest! {
        #[test]
        fn any_change_is_undone_by_who_has_the_older(
            words in proptest::collection::vec("[a-z]{1,12} ", 20..200),
            at in 0usize..20, fresh in "[a-z ]{0,200}",
        ) {
            let old = words.concat();
            let new = [&words[..at].concat()[..], &fresh, &words[at..].concat()].concat();
            for (coding, bytes) in deltas(new.as_bytes(), old.as_bytes(), &[]) {
                prop_assert_eq!(decode_after(coding, &bytes, old.as_bytes()), new.as_bytes());
            }
        }
    }

    /// The end of the older and the beginning of the newer are one run, or together make what comes later.
    #[test]
    fn no_copy_leads_out_of_the_dictionary() {
        let words: String = (0..200).map(|i| format!("{i} ")).collect();
        for fresh in ["      aaaa", "199 199 199 199 ", "a 0 1 2 99 a 0 1 2 "] {
            let new = [fresh, &words, "199 ", fresh].concat();
            let made = deltas(new.as_bytes(), words.as_bytes(), &[]);
            assert_eq!(made.len(), 2);
            for (coding, bytes) in made {
                assert!(
                    decode_after(coding, &bytes, words.as_bytes()) == new.as_bytes(),
                    "{coding:?}, {fresh}"
                );
            }
        }
        assert!(
            without_a_way_across(words.as_bytes(), b"0").is_some_and(|(seen, _)| seen.len() == words.len())
        );
        assert_eq!(without_a_way_across(b"", b"0"), None);
    }

    /// Any byte may do harm: each stands before the first of the contents somewhere. What is made is right or
    /// not there.
    #[test]
    fn what_is_long_and_like_noise_has_both_as_well() {
        let mut noise = vec![0; 600_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let fresh = [&noise[..200_000], b"something else", &noise[200_000..]].concat();
        assert!(without_a_way_across(&noise, &fresh).is_some_and(|(_, is_certain)| !is_certain));
        let made = deltas(&fresh, &noise, &[]);
        assert_eq!(made.len(), 2);
        for (coding, bytes) in made {
            assert!(decode_after(coding, &bytes, &noise) == fresh, "{coding:?}");
        }
        // The end and the beginning are in it together with every byte between them.
        let every: Vec<u8> = (0..=u8::MAX).flat_map(|byte| [b'9', byte, b'0', b'1', b'2', b'3']).collect();
        let (old, new) = ([&every[..], b"99"].concat(), [b"0123", &every[..], &every[..]].concat());
        for (coding, bytes) in deltas(&new, &old, &[]) {
            assert!(decode_after(coding, &bytes, &old) == new, "{coding:?}");
        }
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
