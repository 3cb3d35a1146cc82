//! AES-GCM: published vectors, the `aes-gcm` crate at every length, what was changed is refused, and secrets
//! stay so.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use pipe_lib::aead::{AeadError, AesGcm, MAX_RECORDS, Nonce, NonceSequence};
use pipe_lib::testing::rng::Rng;
use pipe_lib::{Backend, CompileOptions, Features, Library, OnesSum, RunError};

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn random(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.next_u64() as u8).collect()
}

/// A key's length, then key, nonce, additional data, plain text, sealed text and tag.
///
/// Test cases 1 to 4 and 13 to 16 of McGrew and Viega, The Galois/Counter Mode of Operation, appendix B; they
/// are in NIST's CAVS set (gcmEncryptExtIV) as well.
const VECTORS: [[&str; 6]; 8] = [
    [
        "00000000000000000000000000000000",
        "000000000000000000000000",
        "",
        "",
        "",
        "58e2fccefa7e3061367f1d57a4e7455a",
    ],
    [
        "00000000000000000000000000000000",
        "000000000000000000000000",
        "",
        "00000000000000000000000000000000",
        "0388dace60b6a392f328c2b971b2fe78",
        "ab6e47d42cec13bdf53a67b21257bddf",
    ],
    [
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
        "4d5c2af327cd64a62cf35abd2ba6fab4",
    ],
    [
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
        "5bc94fbc3221a5db94fae95ae7121a47",
    ],
    [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "000000000000000000000000",
        "",
        "",
        "",
        "530f8afbc74536b9a963b4f1c4cb738b",
    ],
    [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "000000000000000000000000",
        "",
        "00000000000000000000000000000000",
        "cea7403d4d606b6e074ec5d3baf39d18",
        "d0d1c8a799996bf0265b98b5d48ab919",
    ],
    [
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
        "b094dac5d93471bdec1a502270e3cc6c",
    ],
    [
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        "76fc6ece0f4e1768cddf8853bb2d551b",
    ],
];

#[test]
fn published_vectors() {
    for case in VECTORS {
        let [key, nonce, additional, plain, sealed, tag] = case.map(bytes);
        let key = AesGcm::new(&key).unwrap();
        let nonce: [u8; 12] = nonce.try_into().unwrap();
        let mut record = plain.clone();
        let found = key.seal_in_place(Nonce::unique(nonce), &additional, &mut record).unwrap();
        assert_eq!((&record, &found[..]), (&sealed, &tag[..]), "{case:?}");
        key.open_in_place(&nonce, &additional, &mut record, &found).unwrap();
        assert_eq!(record, plain);
    }
}

fn theirs(key: &[u8], nonce: &[u8; 12], aad: &[u8], msg: &[u8]) -> Vec<u8> {
    let nonce = (*nonce).into();
    let payload = Payload { msg, aad };
    match key.len() {
        16 => aes_gcm::Aes128Gcm::new_from_slice(key).unwrap().encrypt(&nonce, payload).unwrap(),
        _ => aes_gcm::Aes256Gcm::new_from_slice(key).unwrap().encrypt(&nonce, payload).unwrap(),
    }
}

#[test]
fn every_length_as_others_seal_it() {
    let mut rng = Rng::new(0x6c3);
    let text = random(&mut rng, 4096);
    for key_bytes in [16, 32] {
        let key_text = random(&mut rng, key_bytes);
        let key = AesGcm::new(&key_text).unwrap();
        // The longer key takes the same ways through the loops.
        for len in (0..=4096).step_by(if key_bytes == 16 { 1 } else { 37 }) {
            let nonce: [u8; 12] = random(&mut rng, 12).try_into().unwrap();
            let additional = random(&mut rng, len % 67);
            let mut sealed = vec![0; len];
            let tag = key.seal(Nonce::unique(nonce), &additional, &text[..len], &mut sealed).unwrap();
            let expected = theirs(&key_text, &nonce, &additional, &text[..len]);
            assert_eq!(
                (&sealed[..], &tag[..]),
                expected.split_at(len),
                "{key_bytes} bytes of key, {len} of text"
            );
            let mut plain = vec![0; len];
            key.open(&nonce, &additional, &sealed, &tag, &mut plain).unwrap();
            assert_eq!(plain, text[..len]);
        }
    }
}

#[test]
fn what_was_changed_is_refused_and_wiped() {
    let mut rng = Rng::new(0xf0);
    let key = AesGcm::new(&random(&mut rng, 16)).unwrap();
    for len in [1, 15, 16, 17, 64, 300, 1400] {
        let (nonce, text) = ([3; 12], random(&mut rng, len));
        let mut sealed = vec![0; len];
        let tag = key.seal(Nonce::unique(nonce), b"head", &text, &mut sealed).unwrap();
        for _ in 0..40 {
            let (mut head, mut record, mut changed) = (*b"head", sealed.clone(), tag);
            let (at, bit) = (rng.below(len + 20), 1 << rng.below(8));
            match at {
                0..4 => head[at] ^= bit,
                4..20 => changed[at - 4] ^= bit,
                _ => record[at - 20] ^= bit,
            }
            let refused = key.open_in_place(&nonce, &head, &mut record, &changed);
            assert_eq!(refused, Err(AeadError::Forged), "{at}");
            assert!(record.iter().all(|byte| *byte == 0));
        }
        let mut plain = vec![0xee; len];
        assert_eq!(key.open(&[4; 12], b"head", &sealed, &tag, &mut plain), Err(AeadError::Forged));
        assert_eq!(plain, vec![0; len]);
    }
}

#[test]
fn limits() {
    assert_eq!(AesGcm::new(&[0; 24]).unwrap_err(), AeadError::KeyLength(24));
    let key = AesGcm::new(&[0; 16]).unwrap();
    let mut short = [0; 3];
    assert_eq!(key.seal(Nonce::unique([0; 12]), &[], &[0; 4], &mut short), Err(AeadError::Lengths));
    let mut nonces = NonceSequence::new([0xff; 12]);
    assert_eq!(nonces.next_nonce().unwrap().as_bytes(), &[0xff; 12]);
    assert_eq!(nonces.next_nonce().unwrap().as_bytes()[11], 0xfe);
    let last = (2..MAX_RECORDS).fold(None, |_, _| Some(nonces.next_nonce().unwrap()));
    assert!(last.is_some());
    assert_eq!(nonces.next_nonce(), Err(AeadError::UsedUp));
}

fn on(backend: Backend, features: Features) -> CompileOptions {
    let mut options: CompileOptions = backend.into();
    options.features = Some(features);
    options
}

/// Every backend and machine, cut anywhere and in place, with a counter that comes around on the way.
#[test]
fn every_backend_is_one() {
    let mut rng = Rng::new(0xae5);
    let library = Library::standard();
    let machines = [
        "none",
        "avx2",
        "avx2,pclmul,aes",
        "avx2,pclmul,vpclmul,vaes",
        "avx512,pclmul,aes",
        "avx512,vpclmul",
        "avx512,vpclmul,vaes",
    ];
    let mut options: Vec<CompileOptions> = vec![Backend::Interp.into()];
    for machine in machines {
        if let Ok(features) = Features::named(machine) {
            options.push(on(Backend::Auto, features));
        }
    }
    for text in [
        "aes128_gcm_seal",
        "aes128_gcm_open",
        "aes256_gcm_seal",
        "ghash",
        "crc32c as disk | aes128_gcm_seal | inet_cksum as wire",
    ] {
        let pipeline = library.pipeline(text).unwrap();
        let engines: Vec<_> = options.iter().map(|options| pipeline.compile_with(options).unwrap()).collect();
        for len in (0..140).chain([255, 256, 257, 511, 1023, 1400, 4096, 4100]) {
            let source = random(&mut rng, len);
            let seed = rng.next_u64();
            let run = |engine: &pipe_lib::Engine| {
                let mut imports = engine.imports();
                let mut values = Rng::new(seed);
                for register in engine.registers() {
                    let value =
                        if register.name.ends_with("counter") { 0xffff_fffa } else { values.next_u64() };
                    imports.set(&register.name, value & register.ty.mask()).unwrap();
                }
                let mut out = vec![0; len];
                let run = engine.run_with(&imports, &source, &mut out).unwrap();
                let list = |run: &pipe_lib::Run<'_>| {
                    run.exports()
                        .map(|(export, value)| format!("{} {value:?}", export.name))
                        .collect::<Vec<_>>()
                };
                let exports = list(&run);
                let mut place = source.clone();
                let again = engine.with(&imports).unwrap().run_in_place(&mut place).unwrap();
                assert_eq!((&place, list(&again)), (&out, exports.clone()), "in place, {text}, {len}");
                let (mut stream, mut streamed) = (engine.stream_with(&imports).unwrap(), Vec::new());
                let mut rest = &source[..];
                while !rest.is_empty() {
                    let (chunk, after) = rest.split_at((1 + values.below(70)).min(rest.len()));
                    stream.push_to(chunk, &mut streamed).unwrap();
                    rest = after;
                }
                let end = stream.finish().unwrap();
                streamed.extend_from_slice(end.rest());
                assert_eq!((&streamed, list(&end)), (&out, exports.clone()), "streamed, {text}, {len}");
                (out, exports)
            };
            let expected = run(&engines[0]);
            for (engine, options) in engines.iter().zip(&options).skip(1) {
                assert_eq!(run(engine), expected, "{text}, {len} bytes, {options:?}");
            }
        }
    }
}

/// Disk checksum verified, sealed, and summed for the wire: one pass where the processor has the
/// instructions.
#[test]
fn verify_seal_and_sum_are_one_pass() {
    let library = Library::standard();
    for (machine, passes) in [("avx512,vnni,vpclmul,vaes", Some(1)), ("avx2,pclmul,aes", None)] {
        let Ok(features) = Features::named(machine) else { continue };
        let options = on(Backend::Native, features);
        for text in
            ["aes128_gcm_seal", "aes256_gcm_open", "crc32c as disk | aes128_gcm_seal | inet_cksum as wire"]
        {
            let engine = library.pipeline(text).unwrap().compile_with(&options).unwrap();
            assert_eq!(engine.backend(), Backend::Native, "{text}");
            assert!(passes.is_none_or(|passes| passes == engine.passes()), "{text}: {}", engine.passes());
        }
    }
}

#[test]
fn secrets_are_shown_to_nobody() {
    let key = bytes("9f3b5c7d1e2f40516273849596a7b8c9");
    let halves = [&key[..8], &key[8..]].map(|half| u64::from_le_bytes(half.try_into().unwrap()));
    let hides = |what: &str, text: &str| {
        for half in halves {
            for shown in [format!("{half}"), format!("{half:x}"), format!("{:x}", half.swap_bytes())] {
                assert!(!text.contains(&shown), "{what}: {text}");
            }
        }
    };
    let gcm = AesGcm::new(&key).unwrap();
    hides("AesGcm", &format!("{gcm:?} {gcm:#?}"));
    let engine = gcm.engine();
    let mut imports = engine.imports();
    for (name, half) in ["aes128_ctr.k0.low", "aes128_ctr.k0.high"].iter().zip(halves) {
        imports.set(name, half).unwrap();
    }
    hides("imports", &format!("{imports:?} {imports:#?}"));
    hides("prepared", &format!("{:?}", engine.with(&imports).unwrap()));
    let mut out = [0; 64];
    let run = engine.run_with(&imports, &[0; 64], &mut out).unwrap();
    hides("run", &format!("{run:?} {run:#?}"));
    let name = "aes128_ctr.k0.low".to_owned();
    assert_eq!(run.register(&name), Err(RunError::SecretRegister { name }));
    // Hash key alone: few registers, and yet not shown.
    let engine = Library::standard().pipeline("ghash").unwrap().compile().unwrap();
    let mut imports = engine.imports();
    imports.set("ghash.h.low", halves[0]).unwrap();
    hides("imports of few", &format!("{imports:?}"));
    hides("run of few", &format!("{:?}", engine.run_with(&imports, &[], &mut []).unwrap()));
}

/// One's complement sum of 16-bit words, as RFC 1071 has it.
fn naive_sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Registers that one thread uses are nobody else's meanwhile.
#[test]
fn several_threads_seal_with_one_key() {
    let (key_text, text) = ([9; 16], random(&mut Rng::new(0x7a1), 30_000));
    let key = AesGcm::new(&key_text).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3u8 {
            let (key, text) = (&key, &text);
            scope.spawn(move || {
                for number in 0..20u8 {
                    let nonce = [thread, number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
                    let text = &text[usize::from(thread)..][..20_000 + usize::from(number)];
                    let mut sealed = vec![0; text.len()];
                    let tag = key.seal(Nonce::unique(nonce), b"thread", text, &mut sealed).unwrap();
                    let expected = theirs(&key_text, &nonce, b"thread", text);
                    assert_eq!((&sealed[..], &tag[..]), expected.split_at(text.len()));
                }
            });
        }
    });
}

/// However a record is cut, in the plain and on the way out, and whatever of it is wanted again.
#[test]
fn a_record_in_parts_is_the_record() {
    let mut rng = Rng::new(0x5ea1);
    for key_len in [16, 32] {
        let aead = AesGcm::new(&random(&mut rng, key_len)).unwrap();
        for _ in 0..200 {
            let len = rng.below(5000);
            let (plain, additional) = (random(&mut rng, len), random(&mut rng, 13));
            let nonce: [u8; 12] = random(&mut rng, 12).try_into().unwrap();
            let mut whole = vec![0; len];
            let tag = aead.seal(Nonce::unique(nonce), &additional, &plain, &mut whole).unwrap();

            let mut sealing = aead.begin(Nonce::unique(nonce), &additional).unwrap();
            let (mut parts, mut at, mut sum) = (vec![0; len], 0, OnesSum::new());
            let longest = [1, 20, 100, 1500, 6000][rng.below(5)];
            while at < len {
                let end = len.min(at + 1 + rng.below(longest));
                let is_summed = (rng.below(3) > 0).then_some(&mut sum);
                let was_summed = is_summed.is_some();
                aead.seal_next(&mut sealing, &plain[at..end], &mut parts[at..end], is_summed).unwrap();
                if !was_summed {
                    sum.append(naive_sum(&parts[at..end]), end - at);
                }
                at = end;
            }
            assert_eq!((sealing.sealed(), aead.tag(&sealing)), (len as u64, tag), "{len}");
            assert!(parts == whole, "{len}");
            assert_eq!(sum.value(), naive_sum(&whole));

            for _ in 0..5 {
                let from = rng.below(len + 1);
                let end = from + rng.below(len - from + 1);
                let (mut again, mut sum) = (vec![0; end - from], OnesSum::new());
                let plain = &plain[from..end];
                aead.seal_again(&nonce, from as u64, plain, &mut again, Some(&mut sum)).unwrap();
                assert!(again == whole[from..end], "{from}..{end} of {len}");
                assert_eq!(sum.value(), naive_sum(&again));
            }
            let told = format!("{sealing:?}");
            assert!(told.contains("at") && !told.contains("hash"), "{told}");
        }
        let mut sealing = aead.begin(Nonce::unique([0; 12]), b"").unwrap();
        assert_eq!(aead.seal_next(&mut sealing, &[0; 3], &mut [0; 2], None), Err(AeadError::Lengths));
    }
}
