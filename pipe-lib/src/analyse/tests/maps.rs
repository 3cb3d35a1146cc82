//! Maps over GF(2) that are read off a body, against the body evaluated.

use super::{facts, run};
use crate::analyse::{BitMap, map_of};
use crate::ir::{Pipe, StateId};

/// What a body of one state makes of it, for the word 0.
fn next(pipe: &Pipe, state: u64) -> u64 {
    run(&pipe.body, &pipe.tables, &[state], 0, 0)[pipe.next[0].0 as usize]
}

/// The map of a body's state, tried out on each bit and on sums of bits.
#[track_caller]
fn map(body: &str) -> BitMap {
    // As it is written: the normal form has fewer operations.
    let (_, pipe) = facts(body);
    let map = map_of(&pipe, StateId(0), pipe.next[0]).unwrap_or_else(|| panic!("no map: {body}"));
    let (bits, zero) = (pipe.states[0].ty.bits(), next(&pipe, 0));
    let all = (0..bits).map(|bit| 1 << bit);
    for state in all.chain([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0x5555_aaaa_3333_cccc]) {
        let state = state & pipe.states[0].ty.mask();
        assert_eq!(map.apply(state) ^ zero, next(&pipe, state), "{body} of {state:#x}");
    }
    map
}

#[test]
fn are_what_the_operations_do() {
    for step in [
        "rotl h, h, 5",
        "rotr h, h, 5",
        "shl h, h, 3",
        "shr h, h, 9",
        "sar h, h, 9",
        "bswap h, h",
        "bitrev h, h",
        "not h, h",
        "clmul h, h, 0x1b",
        "clmulh h, h, 0x8001001b",
        "clmul h, 0x1b, h",
        "or h, h, 0x0ff0",
        "and h, h, 0x0ff0ff",
        // One bit, spread or moved.
        "and b, h, 0x10; neg m, b; xor h, h, m",
        "and b, h, 0x10; sub m, 0, b; xor h, h, m",
        "and b, h, 0x10; mul m, b, 0x1021; xor h, h, m",
        "and b, h, 0x10; mul m, 0x1021, b; xor h, h, m",
        "trunc.bool d, h; sext m, d; and m, m, 0xedb88320; shr t, h, 1; xor h, t, m",
        "trunc.bool d, h; zext m, d; shl m, m, 7; shr t, h, 1; xor h, t, m",
        "trunc.u8 d, h; sext m, d; rotl t, h, 3; xor h, t, m",
        "trunc.u16 d, h; zext m, d; rotl t, h, 3; xor h, t, m",
        "and b, h, 0x30; shl t, h, 8; shr u, h, 24; add h, t, u; xor h, h, b",
        // Tests of one bit.
        "and b, h, 4; eq d, b, 4; shr t, h, 1; xor u, t, 0xedb88320; sel h, d, u, t",
        "and b, h, 4; ne d, b, 4; shr t, h, 1; xor u, t, 0xedb88320; sel h, d, u, t",
        "and b, h, 4; eq d, b, 3; shr t, h, 1; xor u, t, 0xedb88320; sel h, d, u, t",
        "and b, h, 4; ne d, 3, b; shr t, h, 1; xor u, t, 0xedb88320; sel h, d, u, t",
        "and b, h, 4; ltu d, 3, b; shr t, h, 1; xor u, t, 0xedb88320; sel h, d, u, t",
        "and b, h, 7; leu d, 4, b; shr t, h, 1; xor u, t, 0xedb88320; sel h, d, u, t",
        "lts d, h, 0; shl t, h, 1; xor u, t, 0x04c11db7; sel h, d, u, t",
        // Instructions and what they take apart.
        "crc32 h, h, x",
        "crc32c h, h, h",
        "trunc.u8 d, h; crc32 h, h, d",
    ] {
        map(&format!("u8 {{ state h: u32; in x; {step}; export h }}"));
    }
}

#[test]
fn of_words_and_places_are_none() {
    for step in [
        "zext w, x; mul h, h, w",
        "zext w, x; and h, h, w",
        "and b, h, 0x30; neg m, b; xor h, h, m",
        "and b, h, 0x30; mul m, b, 0x1021; xor h, h, m",
        "and b, h, 0x30; and c, h, 0x10; add h, b, c",
        "sub h, 5, h",
        "ltu d, h, 5; sel h, d, 1, h",
        "popcnt h, h",
    ] {
        let (_, pipe) = facts(&format!("u8 {{ state h: u32; in x; {step}; export h }}"));
        assert!(map_of(&pipe, StateId(0), pipe.next[0]).is_none(), "{step}");
    }
}
