//! AES-GCM by NIST's CAVS and Wycheproof's vectors: all of them with nonces of 96 bits and tags of 128.

use pipe_lib::aead::{AeadError, AesGcm, Nonce};
use pipe_lib::{Backend, CompileOptions, Features};

const CAVS: &str = include_str!("vectors/cavs-gcm.txt");
const WYCHEPROOF: &str = include_str!("vectors/wycheproof-aes-gcm.txt");

fn bytes(text: &str) -> Vec<u8> {
    match text {
        "-" => Vec::new(),
        text => {
            (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
        }
    }
}

/// Seals and opens every case; gives how many there are, and how many of them must be refused.
fn judge(vectors: &str, options: &CompileOptions) -> [usize; 2] {
    let mut counts = [0; 2];
    let mut keys = std::collections::HashMap::new();
    for line in vectors.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [key, nonce, additional, plain, sealed, tag] = fields[..] else { panic!("{line}") };
        let key = keys.entry(key).or_insert_with(|| AesGcm::with_options(&bytes(key), options).unwrap());
        let nonce: [u8; 12] = bytes(nonce).try_into().unwrap();
        let tag: [u8; 16] = bytes(tag).try_into().unwrap();
        let (additional, sealed) = (bytes(additional), bytes(sealed));
        let mut record = sealed.clone();
        let opened = key.open_in_place(&nonce, &additional, &mut record, &tag);
        counts[0] += 1;
        if plain == "!" {
            counts[1] += 1;
            assert_eq!(opened, Err(AeadError::Forged), "{line}");
            assert!(record.iter().all(|byte| *byte == 0), "{line}");
            continue;
        }
        let plain = bytes(plain);
        assert_eq!((opened, &record), (Ok(()), &plain), "{line}");
        let made = key.seal_in_place(Nonce::unique(nonce), &additional, &mut record).unwrap();
        assert_eq!((made, record), (tag, sealed), "{line}");
    }
    counts
}

/// As this machine runs it, interpreted, and natively on vectors of 256 bits, with AES in every lane of them
/// and in their halves, where there are such.
#[test]
fn all_published_cases() {
    let narrow = ["avx2,pclmul,vpclmul,aes,vaes", "avx2,pclmul,aes"].map(|names| Features::named(names).ok());
    let native = |features| CompileOptions::from(Backend::Native).features(features);
    let mut ways = vec![CompileOptions::default(), Backend::Interp.into()];
    ways.extend(narrow.into_iter().flatten().map(native));
    for options in ways {
        assert_eq!(judge(CAVS, &options), [1500, 387]);
        assert_eq!(judge(WYCHEPROOF, &options), [133, 54]);
    }
}
