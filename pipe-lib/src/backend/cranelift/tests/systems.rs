//! Linear recurrences, sums of sums with the carry around the end, and extremes of types narrower than their
//! lanes.

use super::lanes::check;

#[test]
fn hashes_and_systems() {
    for (word, ty, wide) in [
        ("u8", "u8", true),
        ("u8", "u16", true),
        ("u8", "u32", true),
        ("u8", "u64", true),
        ("u16be", "u32", true),
        ("u16le", "u64", true),
        ("u32le", "u32", true),
        ("u32be", "u16", true),
        // Two numbers in a vector, and products of many instructions.
        ("u32le", "u64", false),
        ("u64be", "u64", false),
    ] {
        let from = word.trim_end_matches(['b', 'l', 'e']);
        let bits = |ty: &str| ty[1..].parse::<u32>().unwrap();
        let widen = match bits(from).cmp(&bits(ty)) {
            std::cmp::Ordering::Less => format!("zext.{ty} w, x"),
            std::cmp::Ordering::Equal => "mov w, x".to_owned(),
            std::cmp::Ordering::Greater => format!("trunc.{ty} w, x"),
        };
        for factor in [33, 77, 16, 255] {
            let source = format!(
                "pipe p : {word} tail zero {{ state h: {ty} = 201; in x; {widen}; mul h, h, {factor}; add h, h, w
                 export h }}"
            );
            check(&source, wide);
        }
    }
    for source in [
        "pipe p : u32be tail zero { state a: u32 = 7; state b: u32 = 9; in x; add a, a, b; add a, a, x; add b, b, a
         xor y, x, 5; add b, b, y; out y; export a; export b }",
        "pipe p : u16le { state a: u32; state b: u32; in x; zext.u32 w, x; mul t, a, 3; sub t, t, b; mul b, b, 5
         add b, b, a; add b, b, w; add a, t, w; export a; export b }",
    ] {
        check(source, true);
    }
}

#[test]
fn sums_of_sums_around_the_end() {
    for word in ["u8", "u16be", "u32le"] {
        let ty = word.trim_end_matches(['b', 'l', 'e']);
        let source = format!(
            "pipe p : {word} tail zero {{ state a: {ty} = 3; state b: {ty}; in x; addc a, a, x; addc b, b, a
             export a; export b }}"
        );
        check(&source, true);
    }
}

#[test]
fn extremes_of_narrow_numbers() {
    for op in ["smin", "smax"] {
        for (word, ty) in [("u16be", "u8"), ("u32le", "u8"), ("u32be", "u16"), ("u64le", "u32")] {
            let source = format!(
                "pipe p : {word} {{ state s: {ty} = 5; state t: {ty} = 200; in x; trunc.{ty} y, x; {op} s, s, y
                 {op} t, t, y; export s; export t }}"
            );
            check(&source, true);
        }
    }
}
