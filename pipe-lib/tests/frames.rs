//! Results in the stream, against fields made by hand: put in, taken out and compared, in every way to run.

use pipe_lib::testing::{Generator, Judge, Rng};
use pipe_lib::{Backend, CompileError, Engine, Library, Mismatch, RunError};

/// CRC-16/T10-DIF, bit by bit.
fn t10(data: &[u8]) -> u16 {
    data.iter().fold(0, |crc, &byte| {
        (0..8)
            .fold(crc ^ (u16::from(byte) << 8), |crc, _| (crc << 1) ^ if crc >> 15 == 1 { 0x8bb7 } else { 0 })
    })
}

/// Blocks of `size` bytes with protection information of type 1.
fn protected(data: &[u8], size: usize, app: u16, lba: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, block) in data.chunks(size).enumerate() {
        out.extend_from_slice(block);
        out.extend_from_slice(&t10(block).to_be_bytes());
        out.extend_from_slice(&app.to_be_bytes());
        out.extend_from_slice(&lba.wrapping_add(index as u32).to_be_bytes());
    }
    out
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * at / 7 + at * 31) as u8).collect()
}

/// The pipeline on every backend that takes it.
fn engines(library: &Library, pipeline: &str) -> Vec<Engine> {
    let pipeline = library.pipeline(pipeline).unwrap_or_else(|errors| panic!("{errors}"));
    let compile = |backend: Backend| match pipeline.compile_with(&backend.into()) {
        Ok(engine) => Some(engine),
        Err(CompileError::Unsupported(_)) => None,
        Err(error) => panic!("{error}"),
    };
    Backend::ALL.into_iter().filter_map(compile).collect()
}

/// What a stream in chunks of `size` bytes gives, and how it ends.
fn streamed(engine: &Engine, input: &[u8], size: usize, hold_back: bool) -> (Vec<u8>, Option<RunError>) {
    let mut stream = engine.stream();
    if hold_back {
        stream = stream.hold_back();
    }
    let mut out = Vec::new();
    for chunk in input.chunks(size) {
        if let Err(error) = stream.push_to(chunk, &mut out) {
            assert_eq!(stream.push(b"", &mut [0; 9000]), Err(error.clone()), "and ever after");
            return (out, Some(error));
        }
        assert_eq!(stream.sink_offset(), out.len() as u64);
        assert_eq!(stream.source_offset() % size as u64, chunk.len() as u64 % size as u64);
    }
    match stream.finish() {
        Ok(end) => {
            out.extend_from_slice(end.rest());
            assert_eq!(end.run.written, out.len());
            (out, None)
        }
        Err(error) => (out, Some(error)),
    }
}

fn mismatch(error: &RunError) -> &Mismatch {
    match error {
        RunError::Mismatch(mismatch) => mismatch,
        other => panic!("{other}"),
    }
}

#[test]
fn protection_information_is_put_in_and_taken_out() {
    let library = Library::standard();
    for (frame, size, blocks) in [("t10_pi1", 512, 5), ("t10_pi1_4k", 4096, 3)] {
        let data = bytes(size * blocks);
        let expected = protected(&data, size, 0xa5, 0xffff_fffe);
        let insert = format!("crc16_t10dif per {size} -> {frame}(app = 0xa5, lba = 0xfffffffe)");
        for engine in engines(&library, &insert) {
            assert_eq!(engine.out_len(data.len()), Ok(expected.len()));
            assert!(matches!(engine.out_len(data.len() - 1), Err(RunError::FrameLength { .. })));
            let mut out = vec![0; expected.len()];
            let run = engine.run(&data, &mut out).unwrap();
            assert_eq!((run.read, run.written), (data.len(), expected.len()));
            assert_eq!(run.windows("crc16_t10dif.crc").unwrap()[1], u64::from(t10(&data[size..2 * size])));
            assert!(out == expected, "{frame} by {}", engine.backend());
            let short = engine.run(&data, &mut out[1..]);
            assert_eq!(
                short.unwrap_err(),
                RunError::ShortDestination { needed: expected.len(), have: expected.len() - 1 }
            );
            for chunk in [1, 7, 511, 512, 513, 5000] {
                let (out, error) = streamed(&engine, &data, chunk, false);
                assert!(error.is_none() && out == expected, "in chunks of {chunk}: {error:?}");
            }
            // In place, data lie between the fields already.
            let mut buffer = expected.clone();
            for block in buffer.chunks_mut(size + 8) {
                block[size..].fill(0xee);
            }
            engine.run_in_place(&mut buffer).unwrap();
            assert!(buffer == expected);
        }
        let strip = format!("{frame}(app = 0xa5, lba = 0xfffffffe) -> crc16_t10dif per {size}");
        for engine in engines(&library, &strip) {
            let mut out = vec![0; data.len()];
            engine.run(&expected, &mut out).unwrap();
            assert!(out == data, "{frame} by {}", engine.backend());
            engine.run_read_only(&expected).unwrap();
            engine.run_in_place(&mut expected.clone()).unwrap();
            for chunk in [1, 7, 519, 520, 521, 5000] {
                for hold_back in [false, true] {
                    let (out, error) = streamed(&engine, &expected, chunk, hold_back);
                    assert!(error.is_none() && out == data, "in chunks of {chunk}: {error:?}");
                }
            }
        }
    }
}

#[test]
fn a_byte_that_changed_is_found_and_named() {
    let library = Library::standard();
    let data = bytes(512 * 4);
    let good = protected(&data, 512, 0, 7);
    let strip = &engines(&library, "t10_pi1(lba = 7) -> crc16_t10dif per 512")[0];
    for at in [0, 511, 512, 513, 514, 516, 519, 520, 1500, 2079] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let (window, within) = (at / 520, at % 520);
        // A byte of the data is found by the guard behind it.
        let field = match within {
            0..514 => 512,
            514..516 => 514,
            _ => 516,
        };
        let mut out = vec![0xcc; data.len()];
        let error = strip.run(&bad, &mut out).unwrap_err();
        let found = mismatch(&error);
        assert_eq!(
            (found.window, found.offset, found.good),
            (window as u64, (window * 520 + field) as u64, (window * 512) as u64),
            "byte {at}: {error}"
        );
        assert!(out[..window * 512] == data[..window * 512], "good windows are there");
        assert!(out[window * 512..(window + 1) * 512].iter().all(|&byte| byte == 0), "the bad one is not");
        assert!(out[(window + 1) * 512..].iter().all(|&byte| byte == 0xcc), "and nothing behind it");
        assert_eq!(mismatch(&strip.run_read_only(&bad).unwrap_err()), found);
        assert_eq!(mismatch(&strip.run_in_place(&mut bad.clone()).unwrap_err()), found);
        for chunk in [1, 100, 520, 521, 1041, 5000] {
            let (out, error) = streamed(strip, &bad, chunk, true);
            assert_eq!(mismatch(&error.unwrap()), found);
            assert!(out == data[..window * 512], "in chunks of {chunk}: {} bytes delivered", out.len());
            let (out, error) = streamed(strip, &bad, chunk, false);
            assert_eq!(mismatch(&error.unwrap()), found);
            assert!(out.len() <= (window + 1) * 512 && out.len() >= window * 512);
        }
    }
}

#[test]
fn the_first_address_is_another_in_each_run() {
    let library = Library::standard();
    let engine = &engines(&library, "crc16_t10dif per 512 -> t10_pi1(app = 1)")[0];
    let data = bytes(1024);
    for lba in [0, 1000, u32::MAX] {
        let mut imports = engine.imports();
        imports.set("t10_pi1.lba", lba.into()).unwrap();
        let mut out = vec![0; 1040];
        engine.run_with(&imports, &data, &mut out).unwrap();
        assert!(out == protected(&data, 512, 1, lba));
        let mut stream = engine.stream_with(&imports).unwrap();
        let mut out = vec![0; 1040];
        assert_eq!(stream.push(&data, &mut out), Ok(1040));
        assert!(out == protected(&data, 512, 1, lba));
    }
}

#[test]
fn one_pipeline_compares_changes_and_puts_in_again() {
    let library = Library::standard();
    let text = "t10_pi1 as old -> crc16_t10dif as was per 512 | xor8(key = 0x5a) | crc16_t10dif per 512 \
                | inet_cksum -> t10_pi1(lba = 100)";
    let data = bytes(512 * 3);
    let changed: Vec<u8> = data.iter().map(|byte| byte ^ 0x5a).collect();
    let (input, expected) = (protected(&data, 512, 0, 0), protected(&changed, 512, 0, 100));
    for engine in engines(&library, text) {
        let mut out = vec![0; expected.len()];
        engine.run(&input, &mut out).unwrap();
        assert!(out == expected, "by {}", engine.backend());
        let mut buffer = input.clone();
        engine.run_in_place(&mut buffer).unwrap();
        assert!(buffer == expected, "in place by {}", engine.backend());
        for chunk in [1, 519, 1041] {
            for hold_back in [false, true] {
                let (out, error) = streamed(&engine, &input, chunk, hold_back);
                assert!(error.is_none() && out == expected, "in chunks of {chunk}: {error:?}");
            }
        }
        // A bad block is not left in place, decrypted but not vouched for.
        let mut buffer = input.clone();
        buffer[600] ^= 1;
        assert_eq!(mismatch(&engine.run_in_place(&mut buffer).unwrap_err()).window, 1);
        assert!(buffer[520..1032].iter().all(|&byte| byte == 0));
    }
}

/// What is held back goes out when a window of the source is good, also while a longer one of the sink is
/// open.
#[test]
fn what_has_gone_out_of_an_open_window_is_not_written_again() {
    let mut library = Library::standard();
    library
        .load(
            "frames.pipe",
            "frame short { data 16 put u8 0x55 }\nframe long { put u32be index data 64 put u8 0xaa }\n",
        )
        .unwrap();
    let data = bytes(16 * 11);
    let input: Vec<u8> = data.chunks(16).flat_map(|window| window.iter().copied().chain([0x55])).collect();
    let mut expected = Vec::new();
    for (index, window) in data.chunks(64).enumerate() {
        expected.extend_from_slice(&(index as u32).to_be_bytes());
        expected.extend(window.iter().map(|byte| byte ^ 1));
        expected.push(0xaa);
    }
    for engine in engines(&library, "short -> xor8(key = 1) -> long") {
        for chunk in [1, 16, 17, 40, 187] {
            let (out, error) = streamed(&engine, &input, chunk, true);
            assert!(
                error.is_none() && out == expected,
                "{} in chunks of {chunk}: {error:?}",
                engine.backend()
            );
        }
    }
}

#[test]
fn uses_that_do_not_go_with_frames_say_so() {
    let library = Library::standard();
    let engine = &engines(&library, "crc16_t10dif per 512 -> t10_pi1")[0];
    let (data, mut out) = (bytes(512), [0; 520]);
    let refused = |error: RunError| matches!(error, RunError::Frame { .. });
    let (one, two) = out.split_at_mut(100);
    assert!(refused(engine.run_vectored(&[&data], &mut [one, two]).unwrap_err()));
    assert!(refused(engine.run_vectored_read_only(&[&data[..100], &data[100..]]).unwrap_err()));
    assert!(engine.serial_because(1 << 30).is_some());
    for (text, what) in [
        ("crc16_t10dif -> t10_pi1", "write `crc16_t10dif per 512`"),
        ("crc32 per 512 -> t10_pi1", "no export `crc16_t10dif.crc`; there is `crc32.crc`"),
        ("-> t10_pi1", "no export `crc16_t10dif.crc`, nor any other"),
        ("lance -> crc16_t10dif per 512 -> t10_pi1", "layout `lance` at the other end"),
        ("crc16_t10dif per 512 -> t10_pi1 per 512", "takes no window"),
        ("crc16_t10dif per 512 -> t10_pi1(1, 2, 3)", "takes 2 arguments"),
        ("crc16_t10dif per 512 -> t10_pi1(app = 65536)", "65536"),
        ("t10_pi1 -> crc16_t10dif per 512 -> t10_pi1", "two instances are named `t10_pi1`"),
    ] {
        let error = library.pipeline(text).unwrap_err().to_string();
        assert!(error.contains(what), "{text}: {error}");
    }
}

/// Random pipelines between random frames, on every backend and in every way to run, against the oracle.
#[test]
fn random_frames_around_random_pipelines() {
    let mut found = 0;
    for seed in 0.. {
        let mut rng = Rng::new(0xf4a3_e500 + seed);
        let composition = Generator::new(&mut rng).composition();
        if composition.frames().next().is_none() {
            continue;
        }
        let text = composition.to_string();
        let judge = Judge::new(composition, &Backend::ALL).unwrap();
        for _ in 0..4 {
            let len = if rng.chance(1, 6) { rng.between(0, 9000) } else { rng.between(0, 120) };
            judge.judge(&mut rng, len).unwrap_or_else(|failure| panic!("seed {seed}: {failure}\n{text}"));
        }
        let len = rng.between(0, 40);
        judge
            .judge_every_split(&mut rng, len)
            .unwrap_or_else(|failure| panic!("seed {seed}: {failure}\n{text}"));
        found += 1;
        if found == 60 {
            break;
        }
    }
}
