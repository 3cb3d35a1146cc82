//! States that depend on each other: the class by example, and what it claims, tried out.

use super::{classes, facts, run};
use crate::analyse::{Class, Linear, analyse};
use crate::backend::testing::Xorshift;
use crate::testing::Judge;
use crate::{Backend, Library};

const BODIES: [&str; 9] = [
    // Three and four nested sums, before or after the word; with weights.
    "u8 { state a: u32; state b: u32; state c: u32; in x; zext w, x; add a, a, w; add b, b, a; add c, c, b; export c }",
    "u8 { state a: u32; state b: u32; state c: u32; in x; zext w, x; add c, c, b; add b, b, a; add a, a, w; export c }",
    "u16le { state a: u64; state b: u64; state c: u64; state d: u64; in x; zext w, x; add a, a, w; add b, b, a; add c, c, b; \
     add d, d, c; export d }",
    "u8 { state a: u32 = 1; state b: u32; in x; zext w, x; add a, a, w; mul t, a, 3; add b, b, t; export b }",
    // Fibonacci's recurrence, and a pair of linear congruences.
    "u32le { state a: u32; state b: u32; in x; add t, a, b; mov a, b; add b, t, x; export b }",
    "u8 { state a: u64 = 7; state b: u64; in x; zext w, x; mul s, a, 0x5851f42d4c957f2d; mul t, b, 0xd1342543de82ef95; \
     add a, s, b; sub b, w, t; add b, b, a; export a; export b }",
    // Modulo a prime, through a select on the word.
    "u8 { state a: u32 = 1; state b: u32; state c: u32; in x; zext w, x; addmod a, a, w, 65521; addmod b, b, a, 65521; \
     addmod c, c, b, 65521; export c }",
    "u16be { state a: u32; state b: u32; in x; zext w, x; mulmod t, b, 257, 1000003; addmod a, a, t, 1000003; \
     addmod a, a, w, 1000003; mulmod u, a, 31, 1000003; addmod b, b, u, 1000003; export b }",
    "u8 { state a: u16; state b: u16; in x; zext w, x; eq c, x, 10; sel d, c, 5, w; add t, a, d; sub u, b, a; mov a, u; \
     add b, t, u; export a; export b }",
];

#[test]
fn systems() {
    let sums = "u8 { state a: u32; state b: u32; state c: u32; in x; zext w, x; ";
    classes(
        &format!("{sums} add a, a, w; add b, b, a; add c, c, b; export c }}"),
        &["linear (affine together with 2 more)"; 3],
    );
    classes(
        &format!("{sums} addmod a, a, w, 251; addmod b, b, a, 251; addmod c, c, b, 251; export c }}"),
        &["linear (affine together with 2 more, modulo 251)"; 3],
    );
    // Two sums stay what they were.
    classes(
        "u8 { state a: u32; state b: u32; in x; zext w, x; add a, a, w; add b, b, a; export b }",
        &["scan by add", "linear (sum of sums by add)"],
    );
    for body in BODIES {
        let (facts, _) = facts(body);
        for state in &facts.states {
            assert!(matches!(state.class, Class::Linear(Linear::System { .. })), "{body}: {}", state.class);
        }
    }
    for body in [
        // Looked at as they grow; products of states; different moduli and types; too many.
        "u8 { state a: u32; state b: u32; state c: u32; in x; zext w, x; add a, a, w; add b, b, a; add c, c, b; trunc y, c; out y; \
         export c }",
        "u8 { state a: u32; state b: u32; in x; zext w, x; mul t, a, b; add a, a, w; add b, b, t; export b }",
        "u8 { state a: u32; state b: u32; in x; zext w, x; addmod a, a, w, 251; mulmod t, a, 3, 241; addmod b, b, t, 241; export b }",
        "u8 { state a: u32; state b: u64; in x; zext w, x; mul a, a, 3; add a, a, w; zext t, a; mul b, b, 5; add b, b, t; export b }",
        "u8 { state a: u8; state b: u8; state c: u8; state d: u8; state e: u8; in x; add a, a, x; add b, b, a; add c, c, b; \
         add d, d, c; add e, e, d; export e }",
        "u8 { state a: u8; state b: u8; in x; xor t, a, b; add a, a, x; add b, b, t; export b }",
    ] {
        let (facts, _) = facts(body);
        let serial = facts.states.iter().any(|state| matches!(state.class, Class::Serial { .. }));
        assert!(serial, "{body}");
    }
}

#[test]
fn what_a_system_claims_holds() {
    for (seed, body) in BODIES.into_iter().enumerate() {
        let (_, pipe) = facts(body);
        let facts = analyse(&pipe);
        let mut rng = Xorshift::new(seed as u64);
        let ty = pipe.states[0].ty;
        for words in [0, 1, 2, 7, 64, 1001] {
            let mut start: Vec<u64> = pipe.states.iter().map(|_| rng.next() & ty.mask()).collect();
            let Class::Linear(Linear::System { modulus, matrix, .. }) = &facts.states[0].class else {
                panic!("{}", facts.states[0].class)
            };
            if words == 0 {
                // Without a word nothing is reduced.
                start.iter_mut().filter(|_| *modulus != 0).for_each(|state| *state %= *modulus);
            }
            let moved = Linear::power_of(*modulus, matrix, ty, words, &start);
            // From zero and from `start` over the same words: the difference is the matrix's power applied to
            // the start.
            let (mut from, mut zero) = (start, vec![0; moved.len()]);
            for _ in 0..words {
                let word = rng.next() & pipe.input.ty.mask();
                for states in [&mut from, &mut zero] {
                    let values = run(&pipe.body, &pipe.tables, states, word, 0);
                    *states = pipe.next.iter().map(|next| values[next.0 as usize]).collect();
                }
                let operands = run(&facts.body, &facts.tables, &from, word, 0);
                for state in &facts.states {
                    let Class::Linear(Linear::System { operand, .. }) = &state.class else { continue };
                    let again = run(&facts.body, &facts.tables, &zero, word, 0);
                    assert_eq!(operands[operand.0 as usize], again[operand.0 as usize], "{body}");
                }
            }
            let modulus = if *modulus == 0 { 1u128 << ty.bits() } else { u128::from(*modulus) };
            for ((from, zero), moved) in from.iter().zip(&zero).zip(&moved) {
                let sum = ((u128::from(*zero) + u128::from(*moved)) % modulus) as u64;
                assert_eq!(sum, *from, "{body}, {words} words");
            }
        }
    }
}

#[test]
fn what_goes_by_places_and_by_words_before_is_the_same_everywhere() {
    let bodies = [
        // Hashes of words under a key that rotates, of differences, of both; modulo a number.
        "u8 { state h: u32; state t: u8; in x; xor v, x, t; add t, t, 3; zext w, v; mul h, h, 31; add h, h, w; export h; export t }",
        "u16le { state h: u32; state t: u32 = 9; state p: u16; in x; sub d, x, p; mov p, x; rotl t, t, 5; zext w, d; add w, w, t; \
         mul h, h, 31; add h, h, w; export h }",
        "u8 { state h: u32; state t: u8; in x; xor v, x, t; mul t, t, 5; add t, t, 1; zext w, v; mulmod h, h, 257, 1000003; \
         addmod h, h, w, 1000003; export h; export t }",
        // Systems of such words.
        "u8 { state a: u32; state b: u32; state c: u32; state t: u32; in x; zext w, x; mul t, t, 5; add t, t, 1; add w, w, t; \
         add a, a, w; add b, b, a; add c, c, b; export c; export t }",
        "u8 { state a: u32; state b: u32; state c: u32; state t: u8; state p: u8; in x; add t, t, 7; xor v, x, p; add v, v, t; \
         mov p, x; zext w, v; addmod a, a, w, 65521; addmod b, b, a, 65521; addmod c, c, b, 65521; export c }",
        // Sums that stop, of changes in places of one kind; remainders of differences.
        "u8 { state n: u16; state p: u8; state odd: bool; in x; ne e, x, p; mov p, x; and e, e, odd; not odd, odd; zext o, e; \
         add t, n, o; ltu k, t, n; sel n, k, 65535, t; export n }",
        "u8 { state n: u64; state p: u8; state q: u8; in x; eq c, q, 65; eq d, x, 65; and c, c, d; add m, n, 1; sel n, c, m, n; \
         mov q, p; mov p, x; export n }",
        "u8 { state r: u32 = 0xffffffff; state p: u8; in x; xor d, x, p; mov p, x; crc32 r, r, d; export r }",
        // What is added is reduced by another number, or would not fit unless it were reduced.
        "u16le { state h: u32; in x; zext w, x; addmod y, w, 9, 7; addmod z, w, y, 1000003; mulmod h, h, 257, 1000003; \
         addmod h, h, z, 1000003; export h }",
        "u8 { state h: u8; in x; addmod y, x, x, 251; addmod z, y, x, 251; mulmod h, h, 3, 251; addmod h, h, z, 251; export h }",
        // A word that is shifted into another one late.
        "u8 { state p: u8; state l: u16; state n: u32; in x; zext w, p; shl l, l, 8; or l, l, w; mov p, x; eq c, l, 0x4141; \
         zext o, c; add n, n, o; export n; export l }",
        "u8 { state t: u8; state l: u16; in x; xor v, x, t; add t, t, 3; zext w, v; shl l, l, 8; or l, l, w; export l }",
    ];
    for (seed, body) in bodies.into_iter().enumerate() {
        let mut library = Library::standard();
        library.load("test.pipe", &format!("pipe p : {body}")).unwrap_or_else(|errors| panic!("{errors:?}"));
        let pipeline = library.pipeline("p").unwrap_or_else(|errors| panic!("{errors:?}"));
        let judge = Judge::new(pipeline.composition().clone(), &Backend::ALL).unwrap();
        let mut rng = crate::testing::Rng::new(seed as u64);
        for len in [0, 2, 62, 64, 200, 700, 3000] {
            judge.judge_some(&mut rng, len, 6).unwrap_or_else(|failure| panic!("{body}: {failure}"));
        }
    }
}
