//! Digests as stages: at every place in a pipeline, by every way to run, against the crates themselves.

use super::{DigestKind, DigestState, DigestValue};
use crate::error::RunError;
use crate::run::ExportValue;
use crate::{Backend, CompileOptions, Engine, Library};

fn data(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 11) as u8).collect()
}

fn of(kind: DigestKind, bytes: &[u8]) -> DigestValue {
    let mut state = DigestState::new(kind, &[]);
    state.update(bytes);
    state.finish()
}

fn engines(text: &str) -> Vec<Engine> {
    let library = Library::standard();
    let pipeline = library.pipeline(text).unwrap();
    let options = [Backend::Auto, Backend::Interp, Backend::Cranelift].map(CompileOptions::from);
    let separate = CompileOptions::new().separate_passes(true);
    options.into_iter().chain([separate]).map(|options| pipeline.compile_with(&options).unwrap()).collect()
}

/// Lengths around blocks, of the driver and of the functions.
const LENGTHS: [usize; 12] = [0, 1, 55, 64, 65, 137, 4095, 4096, 4100, 16_384, 16_385, 70_001];

#[test]
fn every_one_is_a_stage_by_its_name() {
    let library = Library::standard();
    let bytes = data(5000);
    for &kind in DigestKind::ALL {
        let engine = library.pipeline(kind.name()).unwrap().compile().unwrap();
        let name = format!("{}.digest", kind.name());
        let run = engine.run_read_only(&bytes).unwrap();
        let value = run.digest(&name).unwrap();
        assert_eq!((value.len(), value), (kind.bytes(), of(kind, &bytes)), "{kind:?}");
        assert_eq!(run.export(&name), Err(RunError::IsDigest { name: name.clone() }));
        assert_eq!(run.digests(&name), Err(RunError::NotWindowed { name }));
        assert!(engine.registers().iter().all(|register| !register.name.contains("word")), "{kind:?}");
    }
}

/// Before, between and behind stages that change bytes, beside stages that do not.
#[test]
fn what_it_sees_is_the_stream_at_its_place() {
    for text in [
        "crc32c | sha256 as before | xor8(key=0x5a)",
        "xor8(key=0x5a) | blake3 as behind | crc32c",
        "sha1 as before | xor8(key=0x5a) | md5 as between | inet_cksum | xor8(key=0xf0) | xxh3 as behind",
        "xor8(key=0x5a) | crc32 | sha512 as between | xxh128 as also | adler32 | undelta8 | sha3_256 as behind",
    ] {
        let engines = engines(text);
        for len in LENGTHS {
            let source = data(len);
            let stages = &engines[0].composition().stages;
            // By hand: the stages before it, and then the function.
            let seen = |at: usize| {
                let writes = stages[..at].iter().filter(|stage| stage.pipe.out.is_some());
                let mut bytes = source.clone();
                for stage in writes {
                    let (library, pipe) = (Library::standard(), &stage.pipe);
                    let text = match (&*pipe.name, at) {
                        ("xor8", _) if stage.name == "xor8" => "xor8(key=0x5a)",
                        ("xor8", _) => "xor8(key=0xf0)",
                        (name, _) => name,
                    };
                    let engine = library.pipeline(text).unwrap().compile_with(&Backend::Interp.into());
                    engine.unwrap().run_in_place(&mut bytes).unwrap();
                }
                bytes
            };
            let output = seen(stages.len());
            for engine in &engines {
                let label = format!("{text} {len} {engine:?}");
                let mut buffers = [vec![0; len], source.clone(), Vec::new(), Vec::new()];
                let [copy, place, streamed, pieces] = &mut buffers;
                let mut stream = engine.stream();
                for chunk in source.chunks(777) {
                    stream.push_to(chunk, streamed).unwrap();
                }
                let end = stream.finish().unwrap();
                streamed.extend_from_slice(end.rest());
                let (head, tail) = source.split_at(len / 3);
                pieces.resize(len, 0);
                let (to_head, to_tail) = pieces.split_at_mut(len / 2);
                let runs = [
                    engine.run(&source, copy).unwrap(),
                    engine.run_in_place(place).unwrap(),
                    end.run.clone(),
                    engine.run_vectored(&[head, tail], &mut [to_head, to_tail]).unwrap(),
                    engine.run_read_only(&source).unwrap(),
                    engine.run_parallel_read_only(&source, 2).unwrap(),
                ];
                for (way, run) in runs.iter().enumerate() {
                    for (at, stage) in stages.iter().enumerate() {
                        let Some(kind) = stage.pipe.digest else { continue };
                        let value = run.digest(&format!("{}.digest", stage.name)).unwrap();
                        assert_eq!(value, of(kind, &seen(at)), "{label} {} way {way}", stage.name);
                    }
                }
                for buffer in buffers {
                    assert!(buffer == output, "{label}");
                }
            }
        }
    }
}

#[test]
fn windows_are_streams_of_their_own() {
    let text =
        "crc32c per 1000 | sha1 as each per 1000 | xor8(key=1) | sha256 as all | xor8(key=2) | md5 per 64";
    for engine in engines(text) {
        for len in LENGTHS {
            let source = data(len);
            let (mut out, mut streamed) = (vec![0; len], Vec::new());
            let mut stream = engine.stream();
            for chunk in source.chunks(1013) {
                stream.push_to(chunk, &mut streamed).unwrap();
            }
            let end = stream.finish().unwrap();
            let runs = [engine.run(&source, &mut out).unwrap(), end.run.clone()];
            let changed: Vec<u8> = source.iter().map(|byte| byte ^ 1).collect();
            for run in runs {
                let each: Vec<_> = run.digests("each.digest").unwrap().iter().collect();
                let expected: Vec<_> = source.chunks(1000).map(|part| of(DigestKind::Sha1, part)).collect();
                assert_eq!(each, expected, "{len} {engine:?}");
                assert_eq!(run.digest("all.digest").unwrap(), of(DigestKind::Sha256, &changed));
                let count = run.digests("md5.digest").unwrap().len();
                assert_eq!(count, len.div_ceil(64));
                assert!(matches!(run.digest("each.digest"), Err(RunError::Windowed { .. })));
                let kinds = run.exports().filter(|(_, value)| matches!(value, ExportValue::Digests(_)));
                assert_eq!(kinds.count(), 2);
            }
        }
    }
}

/// Windows that the stream fills can be cut at; a digest of all of it cannot.
#[test]
fn on_several_cores_only_where_windows_end() {
    let library = Library::standard();
    let source = data((4 << 20) + 12_345);
    let engine = |text: &str| library.pipeline(text).unwrap().compile().unwrap();
    let whole = engine("crc32c | sha256");
    let why = whole.serial_because(source.len() as u64).unwrap();
    assert_eq!(why, "`sha256`: SHA256 takes its bytes one after the other");
    let parts = engine("crc32c | xxh3 per 65536");
    assert_eq!(parts.serial_because(source.len() as u64), None);
    let prepared = parts.prepared();
    let cut = prepared.run_parts_read_only(&source, 3, 1 << 20).unwrap();
    let one = parts.run_read_only(&source).unwrap();
    assert_eq!(cut.digests("xxh3.digest"), one.digests("xxh3.digest"));
    assert_eq!(cut.export("crc32c.crc"), one.export("crc32c.crc"));
    assert_eq!(one.digests("xxh3.digest").unwrap().len(), source.len().div_ceil(65_536));
}

#[test]
fn a_copy_of_a_stream_goes_on_by_itself() {
    let engine = Library::standard().pipeline("sha256 | highwayhash256(k0=7)").unwrap().compile().unwrap();
    let mut stream = engine.stream();
    stream.push_read_only(b"begin ").unwrap();
    let mut other = stream.clone();
    stream.push_read_only(b"one").unwrap();
    other.push_read_only(b"two").unwrap();
    let value = |bytes: &[u8]| of(DigestKind::Sha256, bytes);
    assert_eq!(stream.finish().unwrap().digest("sha256.digest").unwrap(), value(b"begin one"));
    assert_eq!(other.finish().unwrap().digest("sha256.digest").unwrap(), value(b"begin two"));
}

/// The key is that of the run.
#[test]
fn a_key_is_a_parameter_or_imported() {
    let library = Library::standard();
    let engine = library.pipeline("highwayhash256(k0=1, k1=2, k2=3, k3=4) as h").unwrap().compile().unwrap();
    let mut state = DigestState::new(DigestKind::HighwayHash256, &[1, 2, 3, 4]);
    state.update(b"abc");
    let value = state.finish();
    assert_eq!(engine.run_read_only(b"abc").unwrap().digest("h.digest").unwrap(), value);
    let plain = library.pipeline("highwayhash256 as h").unwrap().compile().unwrap();
    assert_ne!(plain.run_read_only(b"abc").unwrap().digest("h.digest").unwrap(), value);
    let mut imports = plain.imports();
    for (at, word) in [1, 2, 3, 4].into_iter().enumerate() {
        imports.set(&format!("h.key{at}"), word).unwrap();
    }
    assert!(imports.set("h.word0", 1).is_err());
    let run = plain.with(&imports).unwrap().run_read_only(b"abc").unwrap();
    assert_eq!(run.digest("h.digest").unwrap(), value);
}

/// MinIO's test of itself when it starts: each digest is of those before it, the last one is known.
#[test]
fn the_chain_by_which_minio_tests_itself() {
    let engine = Library::standard().pipeline("minio_hash").unwrap().compile().unwrap();
    let (mut message, mut last) = (Vec::new(), String::new());
    for _ in 0..32 {
        let value = engine.run_read_only(&message).unwrap().digest("highwayhash256.digest").unwrap();
        message.extend_from_slice(&value);
        last = value.to_string();
    }
    assert_eq!(last, "39c0407ed3f01b18d22c85db4aeff11e060ca5f43131b0126731ca197cd42313");
}

/// Digests before and behind each block, and of all of it behind the last.
#[test]
fn results_in_the_stream() {
    let mut library = Library::standard();
    let frames = "frame blocks { put bytes32 highwayhash256.digest data 1000 put u32le crc32c.crc }\n\
                  frame whole { data put bytes20 sha256.digest }";
    library.load("frames", frames).unwrap();
    let engine = |text: &str| library.pipeline(text).unwrap().compile().unwrap();
    let plain = engine("crc32c per 1000 | minio_hash per 1000 -> blocks");
    let check = engine("blocks -> crc32c per 1000 | minio_hash per 1000 | xor8(key=1)");
    for len in [0, 1, 999, 1000, 1001, 5000, 40_123] {
        let source = data(len);
        let mut framed = vec![0; plain.out_len(len).unwrap()];
        plain.run(&source, &mut framed).unwrap();
        let mut expected = Vec::new();
        for block in source.chunks(1000) {
            let digest = engine("minio_hash").run_read_only(block).unwrap().digest("highwayhash256.digest");
            expected.extend_from_slice(&digest.unwrap());
            expected.extend_from_slice(block);
            let crc = engine("crc32c").run_read_only(block).unwrap().export("crc32c.crc").unwrap();
            expected.extend_from_slice(&(crc as u32).to_le_bytes());
        }
        assert!(framed == expected, "{len}");
        let (mut streamed, mut stream) = (Vec::new(), plain.stream());
        for chunk in source.chunks(333) {
            stream.push_to(chunk, &mut streamed).unwrap();
        }
        streamed.extend_from_slice(stream.finish().unwrap().rest());
        assert!(streamed == expected, "{len} streamed");
        let mut back = vec![0; len];
        check.run(&framed, &mut back).unwrap();
        let changed: Vec<u8> = source.iter().map(|byte| byte ^ 1).collect();
        assert!(back == changed, "{len}");
        // One bit anywhere is found, and nothing of that block or behind it is given out.
        for at in (0..framed.len()).step_by(97) {
            framed[at] ^= 4;
            let mut out = vec![0xee; len];
            let Err(RunError::Mismatch(wrong)) = check.run(&framed, &mut out) else { panic!("{len} {at}") };
            assert_eq!(wrong.window, at as u64 / 1036);
            let good = wrong.good as usize;
            assert!(out[..good] == changed[..good], "{len} {at}");
            let mut stream = check.stream().hold_back();
            let mut given = Vec::new();
            let pushed = framed.chunks(511).try_for_each(|part| stream.push_to(part, &mut given).map(drop));
            let ended = pushed.and_then(|()| stream.finish().map(drop));
            assert!(matches!(ended, Err(RunError::Mismatch(_))), "{len} {at}");
            assert!(given == changed[..given.len()] && given.len() <= good, "{len} {at}");
            framed[at] ^= 4;
        }
    }
    // The first bytes of a longer digest, behind the whole stream.
    let tail = engine("sha256 -> whole");
    let mut framed = vec![0; 23];
    tail.run(b"abc", &mut framed).unwrap();
    assert_eq!(framed[3..], of(DigestKind::Sha256, b"abc")[..20]);
}

/// What a frame asks for that there is not is said, with what to write instead.
#[test]
fn fields_that_do_not_fit() {
    let mut library = Library::standard();
    let frames = "frame long { data put bytes33 sha256.digest }\n\
                  frame number { data put u64be sha256.digest }\n\
                  frame bytes { data put bytes4 crc32.crc }";
    library.load("frames", frames).unwrap();
    for (text, said) in [
        ("sha256 -> long", "`sha256.digest` has 32 bytes, fewer than `bytes33`"),
        ("sha256 -> number", "write `put bytes32 sha256.digest`"),
        ("crc32 -> bytes", "`crc32.crc` is a number; write `put u32be crc32.crc`"),
    ] {
        let error = library.pipeline(text).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    for (text, said) in [
        ("frame f { data put bytes65 sha256.digest }", "the widths are `bytes1` to `bytes64`"),
        ("frame f { data put bytes32 sha256.digest + 1 }", "write `put bytes32 sha256.digest`"),
        ("test sha256 { input \"\" expect digest = 1 }", "is bytes, no number"),
        ("test sha256 { input \"\" expect digest = x\"00\" }", "SHA256 has 32 bytes, not 1"),
        ("test crc32 { input \"\" expect crc = x\"00\" }", "is a number, no digest"),
    ] {
        let error = library.clone().load("wrong", text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn code_for_other_programs_has_none() {
    let pipeline = Library::standard().pipeline("crc32 | sha256").unwrap();
    #[cfg(feature = "emit")]
    {
        let options = crate::emit::EmitOptions::new("f").unwrap();
        let error = crate::emit::emit(pipeline.composition(), &options).unwrap_err().to_string();
        assert!(error.contains("`sha256` is SHA256 of another crate"), "{error}");
    }
    let error = crate::handler::Handler::new(pipeline.composition()).unwrap_err().to_string();
    assert!(error.contains("`sha256`"), "{error}");
}
