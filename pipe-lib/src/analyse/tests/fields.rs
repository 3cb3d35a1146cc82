//! Polynomials over GF(2^128): what is one, and what only looks alike.

use super::facts;

/// How many states are halves of a number in the field.
#[track_caller]
fn halves_are(expected: usize, bodies: &[&str]) {
    for body in bodies {
        let (facts, _) = facts(body);
        let classes: Vec<String> = facts.states.iter().map(|state| state.class.to_string()).collect();
        let found =
            classes.iter().filter(|class| *class == "linear (times a number in GF(2^128), plus)").count();
        assert_eq!(found, expected, "{body}: {classes:?}");
    }
}

#[test]
fn polynomials() {
    halves_are(
        2,
        &[
            "u128be { state h: u128; state y: u128; in x; gfmul128 y, y, h; xor y, y, x; export y }",
            "u128be { state h: u128; state y: u128; in x; gfmul128 y, h, y; xor y, x, y; export y }",
            // What is added goes by the word before.
            "u128be { state h: u128; state p: u128; state y: u128; in x; xor v, x, p; mov p, x; gfmul128 y, y, h; xor y, y, v; export y }",
        ],
    );
    halves_are(
        4,
        &[
            "u128be { state h: u128; state g: u128; state y: u128; state z: u128; in x; gfmul128 y, y, h; xor y, y, x; \
           gfmul128 z, z, g; xor z, z, x; export y; export z }",
        ],
    );
}

#[test]
fn no_polynomials() {
    let with = |rest: &str| format!("u128be {{ state h: u128; state y: u128; {rest} }}");
    let bodies = [
        // The factor changes, by itself or with the word.
        with("in x; gfmul128 y, y, h; xor y, y, x; xor h, h, x; export y"),
        with("in x; gfmul128 y, y, x; xor y, y, h; export y"),
        // Somebody looks at what the number was.
        with("in x; gfmul128 y, y, h; xor y, y, x; out y; export y"),
        with("state n: u128; in x; gfmul128 y, y, h; xor y, y, x; xor n, n, y; export n"),
        with("state n: u64; in x; gfmul128 y, y, h; xor y, y, x; trunc l, y; xor n, n, l; export n"),
        // At one half of it alone, before it moves on.
        with(
            "state n: u64; in x; trunc l, y; xor n, n, l; gfmul128 y, y, h; xor y, y, x; export n; export y",
        ),
        with(
            "state n: u64; in x; gfmul128 y, y, h; xor y, y, x; shr u, y, 64; trunc l, u; xor n, n, l; export n",
        ),
        // Added is what it was itself, or nothing.
        with("in x; gfmul128 t, y, h; xor t, t, x; xor y, t, y; export y"),
        with("in x; gfmul128 y, y, h; export y"),
        // Two numbers that take turns.
        with("state z: u128; in x; gfmul128 t, z, h; mov z, y; xor y, t, x; export y; export z"),
    ];
    halves_are(0, &bodies.each_ref().map(String::as_str));
}
