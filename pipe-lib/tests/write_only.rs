//! What a pipeline makes of zeros: running without a source.

use pipe_lib::{Backend, Library, RunError};

const BACKENDS: [Backend; 3] = [Backend::Interp, Backend::Cranelift, Backend::Native];

fn library() -> Library {
    let mut library = Library::standard();
    let text = "
        pipe stamp : u32be tail partial { in x; pos p; trunc.u32 low, p; add y, x, low; out y }
        pipe count : u8 { state n: u8 = 250; in x; add n, n, 1; add y, x, n; out y; export n }
        layout gapped { data 4 gap 2 pad 9 }
    ";
    library.load("zeros.pipe", text).unwrap();
    library
}

/// As if a source of zeros were read, with windows and tails, whatever was in the destination.
#[test]
fn zeros_come_without_a_source() {
    let library = library();
    let texts = [
        "stamp",
        "count as first | inet_cksum as sum",
        "stamp | count_byte(b=4) as fours per 7 | xor32(key=0x01020304)",
        "inet_cksum as sum",
        "count | crc32c -> gapped",
    ];
    for text in texts {
        for backend in BACKENDS {
            let pipeline = library.pipeline(text).unwrap();
            let Ok(engine) = pipeline.compile_with(&backend.into()) else { continue };
            for len in (0..40).chain([255, 4096, 10_000]).map(|len| len / 4 * 4) {
                let room = engine.written_len(len).unwrap();
                let (mut out, mut expected) = (vec![0xee; room], vec![0xee; room]);
                let zeros = engine.run(&vec![0; len], &mut expected).unwrap();
                let run = engine.run_write_only(len, &mut out).unwrap();
                assert_eq!(out, expected, "{text}, {len} bytes, {backend}");
                assert_eq!((run.read, run.written), (0, zeros.written), "{text}, {len} bytes, {backend}");
                for name in ["first.n", "sum.cksum"] {
                    assert_eq!(run.export(name), zeros.export(name), "{text}, {len} bytes, {backend}");
                }
                assert_eq!(run.windows("fours.count"), zeros.windows("fours.count"), "{text}, {len} bytes");
            }
        }
    }
}

#[test]
fn nothing_is_written_where_it_does_not_fit() {
    let library = library();
    let mut out = [7; 64];
    let striped = library.pipeline("stamp -> gapped").unwrap().compile().unwrap();
    let needed = striped.written_len(8).unwrap();
    let error = striped.run_write_only(8, &mut out[..needed - 1]).unwrap_err();
    assert_eq!(error, RunError::ShortDestination { needed, have: needed - 1 });
    let whole = library.pipeline("byteswap32").unwrap().compile().unwrap();
    assert!(matches!(whole.run_write_only(6, &mut out), Err(RunError::Leftover { leftover: 2, .. })));
    assert_eq!(out, [7; 64]);
}
