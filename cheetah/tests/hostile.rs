//! Short runs of what is fuzzed (`cheetah::testing`): random bytes, and random changes of what is right. A
//! failure names its seed.

mod support;

use std::path::Path;

use cheetah::channel::Channel;
use cheetah::http2::PREFACE;
use cheetah::testing::{fuzz_http2, fuzz_records, fuzz_requests};

use runtime::payload::{PayloadSource as _, Pieces};
use support::http2_pair::service;

/// Runs `fuzz` on `count` inputs of `make`, each from a seed of its own.
fn on_random(count: u64, make: impl Fn(&mut fastrand::Rng) -> Vec<u8>, fuzz: impl Fn(&[u8])) {
    for seed in 0..count {
        let input = make(&mut fastrand::Rng::with_seed(seed));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fuzz(&input)));
        if let Err(panic) = outcome {
            eprintln!("seed {seed}: {input:?}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn bytes(rng: &mut fastrand::Rng, most: usize) -> Vec<u8> {
    (0..rng.usize(..=most)).map(|_| rng.u8(..)).collect()
}

/// Lines that requests are made of, and what is nearly one.
fn requests(rng: &mut fastrand::Rng) -> Vec<u8> {
    const LINES: [&[u8]; 26] = [
        b"GET / HTTP/1.1\r\n",
        b"GET /big HTTP/1.1\r\n",
        b"HEAD /big HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"GET / HTTP/1.0\r\n",
        b"GET http://h/big?q HTTP/1.1\r\n",
        b"PUT /%2e%2e/x HTTP/1.1\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"G\0T / HTTP/1.1\r\n",
        b"Host: h\r\n",
        b"Host: h\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive, upgrade\r\n",
        b"Upgrade: h2c\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Range: bytes=0-4,90000-,-1\r\n",
        b"If-None-Match: *\r\n",
        b"Expect: 100-continue\r\n",
        b" folded\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n",
    ];
    let mut input = vec![rng.u8(..)];
    for _ in 0..rng.usize(1..16) {
        match rng.u8(..) {
            0..=9 => input.extend(bytes(rng, 12)),
            10..=89 => input.extend_from_slice(b"\r\n"),
            90..=149 => input.extend_from_slice(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
            _ => input.extend_from_slice(LINES[rng.usize(..LINES.len())]),
        }
    }
    input
}

/// What was found so: the preface is the first that a client says, or none.
#[test]
fn a_preface_behind_blank_lines_is_none() {
    let mut service = service();
    let mut channel = Channel::new(&mut service, None, false);
    for said in [&b"\r\n\r\n"[..], PREFACE] {
        assert_eq!(channel.on_bytes(&mut service, said), said.len());
    }
    let mut pieces = Pieces::new();
    channel.pieces(0, channel.end() as usize, &mut pieces);
    let first = pieces.iter().next().map(|piece| piece.bytes.to_vec());
    assert!(first.as_ref().is_some_and(|bytes| bytes.starts_with(b"HTTP/1.1 ")), "{first:?}");
}

#[test]
fn requests_are_answered_in_the_same_way_however_they_are_cut() {
    on_random(4000, requests, fuzz_requests);
    on_random(1000, |rng| bytes(rng, 300), fuzz_requests);
}

#[test]
fn whatever_comes_by_http2_the_answer_is_http2() {
    on_random(3000, |rng| bytes(rng, 600), fuzz_http2);
}

#[test]
fn records_that_are_damaged_give_nothing_that_was_not_sent() {
    on_random(300, |rng| bytes(rng, 60), fuzz_records);
}

/// What coverage-guided fuzzing starts from, and what any fuzzing has found: a file a case.
#[test]
fn seeds_and_finds_of_fuzzing() {
    for target in ["requests", "http2", "records"] {
        let mut cases = 0;
        for folder in ["seeds", "regressions"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(folder).join(target);
            // Of some nothing was found yet.
            let Ok(files) = std::fs::read_dir(folder) else { continue };
            for file in files {
                let path = file.unwrap().path();
                println!("{}", path.display());
                let input = std::fs::read(path).unwrap();
                match target {
                    "requests" => fuzz_requests(&input),
                    "http2" => fuzz_http2(&input),
                    _ => fuzz_records(&input),
                }
                cases += 1;
            }
        }
        assert!(cases > 0, "nothing for {target}");
    }
}
