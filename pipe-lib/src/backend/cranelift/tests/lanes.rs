//! What has a vector form: counts of bits, shifts by counts of the stream, look-ups, offsets, inductions, and
//! states that pass from word to word.

use super::{compile, parsed};
use crate::backend::testing::{Xorshift, compare_many, gauge};
use crate::ir::Pipe;

const GAUGES: [(&str, &str, usize); 4] =
    [("u8", "u8", 1), ("u16be", "u16", 2), ("u32le", "u32", 4), ("u64be", "u64", 8)];
const TYPES: [(&str, usize); 4] = [("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8)];

/// Holds the pipe `p` of a source against the oracle; says whether it has a vector loop.
#[track_caller]
fn is_vector(source: &str) -> bool {
    let pipes = parsed(source, "p");
    let stages: Vec<&Pipe> = pipes.iter().collect();
    let code = compile(&stages, gauge(&stages)).unwrap();
    compare_many(&code, &stages, &mut Xorshift::new(source.len() as u64), 40);
    code.scalar_because().is_none()
}

#[track_caller]
pub(super) fn check(source: &str, vector: bool) {
    assert_eq!(is_vector(source), vector, "{source}");
}

/// `to = from` of another type.
fn convert(to: &str, (to_ty, to_bytes): (&str, usize), from: &str, from_bytes: usize) -> String {
    match from_bytes.cmp(&to_bytes) {
        std::cmp::Ordering::Less => format!("zext.{to_ty} {to}, {from}; "),
        std::cmp::Ordering::Equal => format!("mov {to}, {from}; "),
        std::cmp::Ordering::Greater => format!("trunc.{to_ty} {to}, {from}; "),
    }
}

/// A pipe of one gauge that computes in another type.
fn through(tables: &str, gauge: (&str, &str, usize), ty: (&str, usize), body: &str) -> String {
    let (name, word_ty, word) = gauge;
    let (before, after) = (convert("a", ty, "x", word), convert("o", (word_ty, word), "y", ty.1));
    format!("{tables} pipe p : {name} tail partial {{ in x; {before}{body}; {after}out o }}")
}

#[test]
fn counts_of_bits() {
    for gauge in GAUGES {
        for ty in TYPES {
            for op in ["clz", "ctz", "popcnt"] {
                let vector = op == "popcnt" || gauge.2.max(ty.1) < 8;
                check(&through("", gauge, ty, &format!("{op} y, a")), vector);
            }
        }
    }
}

#[test]
fn shifts_by_counts_of_the_stream() {
    for gauge in GAUGES {
        for ty in TYPES {
            let lane = gauge.2.max(ty.1);
            for op in ["shl", "shr", "sar", "rotl", "rotr"] {
                let source = through("", gauge, ty, &format!("not b, a; xor b, b, 0x35; {op} y, b, a"));
                // Rotates of narrow types are made of both shifts.
                check(&source, lane < 4 || (lane == 4 && op == "shl"));
            }
        }
    }
}

#[test]
fn signed_operations_on_types_narrower_than_the_word() {
    for gauge in GAUGES {
        for ty in TYPES {
            for body in [
                "sub b, a, 3; smin y, a, b",
                "mul b, a, a; smax y, a, b",
                "sar y, a, 3",
                "mul b, a, 5; lts c, a, b; sel y, c, a, b",
                "add b, a, 77; les c, b, a; sel y, c, 9, b",
            ] {
                check(&through("", gauge, ty, body), true);
            }
        }
    }
}

#[test]
fn look_ups() {
    let table = |ty: &str, len: usize| {
        let entries: Vec<String> = (0..len).map(|i| (i * 0x9e37_79b9 % 251).to_string()).collect();
        format!("table t: {ty} = [{}]", entries.join(", "))
    };
    for gauge in GAUGES {
        for ty in TYPES {
            for len in [1, 2, 8, 16, 32, 64, 128, 256] {
                let (before, after) =
                    (convert("a", ty, "x", gauge.2), convert("o", (gauge.1, gauge.2), "e", 1));
                let table = table("u8", len);
                let body = format!("in x; {before}lookup e, t, a; {after}out o");
                check(&format!("{table} pipe p : {} tail partial {{ {body} }}", gauge.0), true);
            }
            let sixteen = format!("table t: {} = [-1, 2 repeat 6, 200, 0x54, 1, 9 repeat 6]", ty.0);
            check(&through(&sixteen, gauge, ty, "lookup y, t, a"), true);
        }
    }
    check(&through(&table("u16", 32), GAUGES[0], TYPES[1], "lookup y, t, a"), false);
    check(&through(&table("u8", 512), GAUGES[1], TYPES[0], "zext.u16 i, a; lookup y, t, i"), false);
}

#[test]
fn offsets_in_the_stream() {
    for gauge in GAUGES {
        for ty in TYPES {
            for body in [
                "pos p; trunc q, p; xor y, a, q",
                "pos p; shr s, p, 2; trunc q, s; add y, a, q",
                "pos p; mul s, p, 37; and s, s, 0xff; trunc q, s; add y, a, q",
                "pos p; ltu c, p, 100; sel y, c, a, 7",
                "pos p; and s, p, 0x78; shl k, 1, s; trunc q, k; xor y, a, q",
            ] {
                let body = if ty.1 == 8 { body.replace("trunc", "mov") } else { body.to_owned() };
                check(&through("", gauge, ty, &body), true);
            }
        }
    }
}

/// Counts that depend on the offset: in lanes wider than the word they are no tables.
#[test]
fn shifts_by_the_offset() {
    for gauge in GAUGES {
        for ty in TYPES {
            let lane = gauge.2.max(ty.1);
            for op in ["shl", "shr", "sar", "rotl", "rotr"] {
                for of in ["0x95", "a"] {
                    let body =
                        format!("pos p; and n, p, 7; trunc c, n; mov b, {of}; {op} k, b, c; xor y, a, k");
                    let body = if ty.1 == 8 { body.replace("trunc", "mov") } else { body };
                    let is_ready = of != "a" && ty.1 <= gauge.2;
                    check(&through("", gauge, ty, &body), is_ready || lane < 4 || op == "shl");
                }
            }
        }
    }
}

#[test]
fn states_that_follow_from_themselves() {
    for gauge in GAUGES {
        for ty in TYPES {
            for next in [
                "add s, s, 3",
                "sub s, s, 9",
                "xor s, s, 0x5a",
                "mul s, s, 5",
                "rotl s, s, 3",
                "rotr s, s, 1",
                "not s, s",
            ] {
                let (before, after) =
                    (convert("a", ty, "x", gauge.2), convert("o", (gauge.1, gauge.2), "y", ty.1));
                for after_step in [false, true] {
                    // The value before the step, or the one after it.
                    let body = if after_step {
                        format!("{next}; xor y, a, s")
                    } else {
                        format!("xor y, a, s; {next}")
                    };
                    let source = format!(
                        "pipe p : {} tail partial {{ state s: {} = 0xa7; in x; {before}{body}; {after}out o; export s }}",
                        gauge.0, ty.0
                    );
                    let wide = ty.1 / gauge.2 > 4 || (next.starts_with("mul") && ty.1.max(gauge.2) == 8);
                    check(&source, !wide);
                }
            }
        }
        let pipe = |states: &str, body: &str| {
            format!("pipe p : {} tail zero {{ {states}; in x; {body} out y }}", gauge.0)
        };
        check(&pipe("state k: bool = true", "not v, x; sel y, k, x, v; not k, k;"), true);
        // What a counter was a word ago, and two; and states that go round in a circle.
        check(
            &pipe(
                "state n: u8; state m: u8; state l: u8",
                "zext.u64 w, l; trunc.u8 v, w; eq c, v, 9; sel y, c, x, 3; mov l, m; mov m, n; add n, n, 7;",
            ),
            true,
        );
        check(
            &pipe(
                "state a: u8 = 1; state b: u8",
                "eq c, a, 21; sel y, c, x, 3; add t, a, b; mov a, b; mov b, t;",
            ),
            false,
        );
    }
}

#[test]
fn states_of_any_type_that_pass_from_word_to_word() {
    for gauge in GAUGES {
        for ty in TYPES {
            let (before, after) =
                (convert("a", ty, "x", gauge.2), convert("o", (gauge.1, gauge.2), "y", ty.1));
            let pipe = |states: &str, body: &str| {
                format!("pipe p : {} tail partial {{ {states}; in x; {before}{body} {after}out o }}", gauge.0)
            };
            let state = |value: u32| format!("state s: {} = {value}", ty.0);
            check(&pipe(&state(7), "sub y, a, s; mov s, a;"), true);
            check(&pipe(&state(7), "mul v, a, a; xor y, v, s; mov s, v;"), true);
            for op in ["add", "xor", "or", "max"] {
                let vector = ty.1 / gauge.2 <= 4;
                check(&pipe(&state(1), &format!("mov v, s; {op} s, s, a; xor y, s, v;")), vector);
            }
        }
        let pipe = |body: &str| {
            format!(
                "pipe p : {} tail partial {{ state k: bool = true; in x; ltu c, x, 100; {body} out y; export k }}",
                gauge.0
            )
        };
        check(&pipe("sel y, k, x, 5; mov k, c;"), true);
        for op in ["and", "or", "xor"] {
            check(&pipe(&format!("{op} k, k, c; sel y, k, x, 5;")), true);
        }
    }
    // The state is a bit of something wider than the word.
    check(
        "pipe p : u16le tail zero { state k: bool; state h: u16; in x; sext.u64 w, h; trunc.bool c, w; sel x, k, x, 3; \
         mov k, c; out x; export k }",
        true,
    );
}

#[test]
fn sums_modulo_a_literal_outside_reductions() {
    for gauge in GAUGES {
        for (ty, bytes) in TYPES {
            let top = 1u64 << (8 * bytes - 1);
            for (m, vector) in [
                (top - top / 2 + 5, true),
                (top - 1, true),
                (top, true),
                (top + 1, true),
                (u64::MAX >> (64 - 8 * bytes), true),
                (0, true),
                (10, false),
            ] {
                let body = format!("addmod b, a, 77, {m}; addmod y, b, a, {m}");
                check(&through("", gauge, (ty, bytes), &body), vector);
            }
        }
    }
}
