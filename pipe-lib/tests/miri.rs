//! The interpreter, the driver and both ends in every way to run, small enough for Miri: `just miri`.
//!
//! Under Miri every load and store through a raw pointer is looked at: bounds, borrows, memory that nobody
//! wrote. Generated code is out of its reach, so the crate is built without its generators there.

use pipe_lib::testing::{Judge, Rng};
use pipe_lib::{Backend, Library};

/// Pipes of each word size and tail rule, with states of each kind that matters to who drives them.
const PIPES: &str = "
    pipe sum : u16be tail zero { state s: u16; in x; addc s, s, x; export s }
    pipe swap : u32be -> u32le tail pass { in x; out x }
    pipe mask : u32le tail partial { in x; xor y, x, 0x12345678; out y }
    pipe delta : u8 { state last: u8; in x; sub y, x, last; mov last, x; out y }
    pipe whole : u64le { state s: u64; in x; pos p; add s, s, x; xor s, s, p; export s }
    layout striped { data 8  gap 8 }
    layout narrow { store 2 }
    layout fifo { store 4  fixed }
    layout padded { pad 20 }
";

#[test]
fn small_streams_in_every_way() {
    let mut library = Library::empty();
    library.load("miri.pipe", PIPES).unwrap_or_else(|errors| panic!("{errors:?}"));
    let mut rng = Rng::new(7);
    for (text, lengths) in [
        ("sum | mask | delta", &[0, 1, 7, 23][..]),
        ("sum per 6 | swap as turned", &[0, 5, 12, 17][..]),
        ("swap | whole", &[0, 8, 24][..]),
        ("sum | mask -> striped", &[0, 3, 20][..]),
        ("striped -> delta | sum", &[1, 16, 21][..]),
        ("delta -> narrow", &[6][..]),
        ("mask -> fifo", &[8][..]),
        ("mask -> padded", &[0, 9, 24][..]),
    ] {
        let pipeline = library.pipeline(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        let judge = Judge::new(pipeline.composition().clone(), &[Backend::Interp])
            .unwrap_or_else(|failure| panic!("{text}: {failure}"));
        assert_ne!(judge.engines().count(), 0, "{text}");
        for &len in lengths {
            judge.judge(&mut rng, len).unwrap_or_else(|failure| panic!("{text}: {failure}"));
        }
    }
}
