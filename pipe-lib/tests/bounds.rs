//! Programs that are legal but absurd: compiling them takes bounded time and memory, and streams bear odd
//! uses.

use pipe_lib::Library;
use std::fmt::Write;

fn library(source: &str) -> Library {
    let mut library = Library::standard();
    library.load("absurd.pipe", source).expect("legal");
    library
}

fn run(library: &Library, pipeline: &str, input: &[u8]) -> Vec<u8> {
    let engine = library.pipeline(pipeline).expect("known").compile().expect("some backend takes it");
    let mut output = vec![0; input.len()];
    engine.run(input, &mut output).expect("whole words");
    output
}

/// Both arms of each select lead to the same earlier value: following them all would double the work at each
/// level.
#[test]
fn selects_that_share_their_arms_are_not_followed_for_ever() {
    let mut source = "pipe p : u8 { state s: u8; in x; mov s0, s\n".to_owned();
    for i in 0..60 {
        let next = i + 1;
        writeln!(source, "ltu c, x, {next}; add a, s{i}, x; sel s{next}, c, a, s{i}").unwrap();
    }
    source += "mov s, s60; export s }";
    let library = library(&source);
    let engine = library.pipeline("p").unwrap().compile().unwrap();
    // The byte 59 is below 60 only, the last of the bounds.
    assert_eq!(engine.run_read_only(&[59; 3]).unwrap().export("p.s"), Ok(177));
}

#[test]
fn long_chains_do_not_exhaust_the_stack() {
    let mut source = "pipe p : u64le { state s: u64; in x; mov t, s\n".to_owned();
    source += &"add t, t, x\n".repeat(3000);
    source += "mov s, t; export s }";
    let library = library(&source);
    let engine = library.pipeline("p").unwrap().compile().unwrap();
    assert_eq!(engine.run_read_only(&[1, 0, 0, 0, 0, 0, 0, 0]).unwrap().export("p.s"), Ok(3000));
}

/// Each carry-less product of narrow words becomes a hundred machine instructions.
#[test]
fn what_would_make_too_much_code_goes_to_another_backend() {
    let mut source = "pipe p : u32le { in x; mov y, x\n".to_owned();
    source += &"clmul y, y, x\n".repeat(600);
    source += "out y }";
    let library = library(&source);
    let stages = ["p"; 8].join(" | ");
    // 1 is the unit of carry-less multiplication.
    assert_eq!(run(&library, &stages, &[1, 0, 0, 0]), [1, 0, 0, 0]);
}

#[test]
fn a_stream_may_be_read_only_for_a_while() {
    let library = Library::standard();
    let engine = library.pipeline("byteswap64").unwrap().compile().unwrap();
    let mut stream = engine.stream();
    stream.push_read_only(&[1, 2, 3]).unwrap();
    let mut out = [0; 16];
    assert!(stream.push(&[0; 13], &mut out[..13]).is_err(), "the word that was held is written, too");
    assert_eq!(stream.push(&[0; 13], &mut out), Ok(16));
    assert_eq!(out[..8], [0, 0, 0, 0, 0, 3, 2, 1]);
    assert_eq!(stream.held(), 0);
    assert!(stream.finish().unwrap().rest().is_empty());
}
