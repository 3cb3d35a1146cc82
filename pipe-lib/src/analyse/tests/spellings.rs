//! A table of spellings: the class depends on what a program means, not on how it is written; and what only
//! looks alike.

use super::facts;
use crate::Library;
use crate::analyse::analyse;

/// The class of the first state, in short.
fn class_of(body: &str) -> String {
    let text = facts(body).0.states[0].class.to_string();
    text.split(':').next().unwrap_or_default().to_owned()
}

#[track_caller]
fn all_are(class: &str, bodies: &[&str]) {
    for body in bodies {
        assert_eq!(class_of(body), class, "{body}");
    }
    let refused: Vec<String> = bodies
        .iter()
        .filter_map(|body| Some((*body, word_by_word(body)?)))
        .map(|(body, why)| format!("{why}: {body}"))
        .collect();
    if !WORD_BY_WORD.contains(&class) {
        assert!(refused.is_empty(), "{}", refused.join("\n"));
    }
}

/// What the loops have no form in vectors for.
const WORD_BY_WORD: [&str; 5] = [
    // Of what is cut to 16 bits in 32.
    "reduction by addmod 65536",
    "serial",
    "linear (a map of bits over GF(2))",
    "delay of 8 words",
    "delay of 9 words",
];

/// Why the widest loop that there is does not take the pipe.
fn word_by_word(body: &str) -> Option<String> {
    #[cfg(native)]
    {
        use crate::analyse::Analysed;
        use crate::backend::Stripes;
        use crate::backend::native::{Features, compile};
        let features = Features::detected();
        // Without carry-less multiplication CRCs are left to the others.
        if features.has(Features::AVX512 | Features::PCLMUL) {
            let pipe = Analysed::new(facts(body).1.into());
            // What runs is what the rewrites make of it.
            let pipe = crate::plan::rewrite::alone(
                &pipe,
                &crate::select::Wanted::new(crate::Backend::Auto, None, false).targets,
            )
            .unwrap_or(pipe);
            return compile(&[pipe], features, Stripes::default()).err().map(|why| why.to_string());
        }
    }
    let _ = body;
    None
}

#[test]
fn crcs() {
    const C: &str = "linear (32-bit CRC, polynomial 0x04c11db7, reflected)";
    let bitwise = |step: &str| {
        format!(
            "u8 {{ state c: u32 = 0; in x; zext w, x; xor c, c, w\n{} export c }}",
            format!("{step}\n").repeat(8)
        )
    };
    all_are(
        C,
        &[
            "u8 { state c: u32 = 0xffffffff; in x; crc32 c, c, x; export c }",
            "u64le { state c: u32 = 0; in x; crc32 c, c, x; export c }",
            // A word taken apart.
            "u16le { state c: u32 = 0; in x; trunc.u8 lo, x; shr h, x, 8; trunc.u8 hi, h; crc32 c, c, lo; crc32 c, c, hi; export c }",
            // Bit by bit: a choice, a mask, a product, a carry-less product of the bit.
            &bitwise("and b, c, 1; shr t, c, 1; xor u, t, 0xedb88320; ne d, b, 0; sel c, d, u, t"),
            &bitwise("and b, c, 1; shr t, c, 1; xor u, t, 0xedb88320; eq d, b, 1; sel c, d, u, t"),
            &bitwise("and b, c, 1; eq d, b, 0; shr t, c, 1; xor u, t, 0xedb88320; sel c, d, t, u"),
            &bitwise("and b, c, 1; neg m, b; and m, m, 0xedb88320; shr t, c, 1; xor c, t, m"),
            &bitwise("and b, c, 1; sub m, 0, b; and m, m, 0xedb88320; shr t, c, 1; xor c, t, m"),
            &bitwise("and b, c, 1; mul m, b, 0xedb88320; shr t, c, 1; xor c, t, m"),
            &bitwise("and b, c, 1; clmul m, b, 0xedb88320; shr t, c, 1; xor c, t, m"),
            &bitwise("trunc.bool d, c; shr t, c, 1; xor u, t, 0xedb88320; sel c, d, u, t"),
            &bitwise("trunc.bool d, c; sext m, d; and m, m, 0xedb88320; shr t, c, 1; xor c, t, m"),
            // What enters is another function of the word, linear or not.
            "u8 { state c: u32 = 0; in x; mul y, x, x; crc32 c, c, y; export c }",
            "u8 { state c: u32 = 0; in x; popcnt y, x; crc32 c, c, y; export c }",
        ],
    );
    let upper = |step: &str| {
        format!(
            "u8 {{ state c: u16 = 0; in x; zext w, x; shl w, w, 8; xor c, c, w\n{} export c }}",
            format!("{step}\n").repeat(8)
        )
    };
    all_are(
        "linear (16-bit CRC, polynomial 0x1021)",
        &[
            &upper("lts d, c, 0; shl t, c, 1; xor u, t, 0x1021; sel c, d, u, t"),
            &upper("leu d, 0x8000, c; shl t, c, 1; xor u, t, 0x1021; sel c, d, u, t"),
            &upper("ltu d, c, 0x8000; shl t, c, 1; xor u, t, 0x1021; sel c, d, t, u"),
            &upper("leu d, c, 0x7fff; shl t, c, 1; xor u, t, 0x1021; sel c, d, t, u"),
            &upper("ltu d, 0x7fff, c; shl t, c, 1; xor u, t, 0x1021; sel c, d, u, t"),
            &upper("lts d, 0xffff, c; shl t, c, 1; xor u, t, 0x1021; sel c, d, t, u"),
            &upper("les d, 0, c; shl t, c, 1; xor u, t, 0x1021; sel c, d, t, u"),
            &upper("les d, c, 0xffff; shl t, c, 1; xor u, t, 0x1021; sel c, d, u, t"),
            &upper("and b, c, 0x8000; eq d, 0x8000, b; shl t, c, 1; xor u, t, 0x1021; sel c, d, u, t"),
            &upper("and b, c, 0x8000; ltu d, 0, b; shl t, c, 1; xor u, t, 0x1021; sel c, d, u, t"),
            &upper("and b, c, 0x8000; ltu d, b, 0x8000; shl t, c, 1; xor u, t, 0x1021; sel c, d, t, u"),
            &upper("and b, c, 0x8000; ne d, b, 0; shl t, c, 1; xor u, t, 0x1021; sel c, d, u, t"),
            &upper("sar m, c, 15; and m, m, 0x1021; shl t, c, 1; xor c, t, m"),
            // In shifts of whole bytes, without table or loop.
            "u8 { state c: u16 = 0; in x; zext w, x; rotl c, c, 8; xor c, c, w; and l, c, 0xff; shr l, l, 4; xor c, c, l; \
             shl m, c, 12; xor c, c, m; and n, c, 0xff; shl n, n, 5; xor c, c, n; export c }",
        ],
    );
    // Comparisons with other numbers tell more than the sign.
    all_are(
        "serial",
        &[
            &upper("les d, c, 5; shl t, c, 1; xor u, t, 0x1021; sel c, d, u, t"),
            &upper("lts d, c, 1; shl t, c, 1; xor u, t, 0x1021; sel c, d, u, t"),
            &upper("leu d, 0x7000, c; shl t, c, 1; xor u, t, 0x1021; sel c, d, u, t"),
            &upper("ltu d, c, 0x8001; shl t, c, 1; xor u, t, 0x1021; sel c, d, t, u"),
            &upper("lts d, 5, c; shl t, c, 1; xor u, t, 0x1021; sel c, d, t, u"),
            &upper("les d, 1, c; shl t, c, 1; xor u, t, 0x1021; sel c, d, t, u"),
        ],
    );
    for std in ["crc16_t10dif", "crc64_nvme", "crc32", "crc32c"] {
        let pipeline = Library::standard().pipeline(std).unwrap();
        let class = analyse(&pipeline.composition().stages[0].pipe).states[0].class.to_string();
        assert!(class.contains("-bit CRC"), "{std} is {class}");
    }
    // One step too few, a bit of the word twice, an addition among the exclusive ors.
    let seven = bitwise("and b, c, 1; mul m, b, 0xedb88320; shr t, c, 1; xor c, t, m").replacen(
        "and b, c, 1; mul m, b, 0xedb88320; shr t, c, 1; xor c, t, m\n",
        "",
        1,
    );
    assert_eq!(class_of(&seven), "linear (a map of bits over GF(2))");
    // Of what is left of a word.
    let masked = bitwise("and b, c, 1; mul m, b, 0xedb88320; shr t, c, 1; xor c, t, m")
        .replace("zext w, x;", "and y, x, 0x0f; zext w, y;");
    assert_eq!(class_of(&masked), C);
    // With a constant beside.
    let complemented = bitwise("and b, c, 1; mul m, b, 0xedb88320; shr t, c, 1; xor c, t, m")
        .replace(" export", " xor c, c, 5; export");
    assert_eq!(class_of(&complemented), "linear (a map of bits over GF(2))");
    // The bit that is tested for is never alone.
    assert_eq!(
        class_of(&bitwise("and b, c, 4; eq d, b, 3; shr t, c, 1; xor u, t, 0xedb88320; sel c, d, u, t")),
        "delay of 4 words"
    );
    // Narrower than the register, masked or at its upper end; and what forgets a bit too many, or none.
    let narrow = |up: u32, step: &str, last: &str| {
        let step = format!("{step}\n").repeat(8);
        format!(
            "u8 {{ state c: u32 = 0; in x; zext w, x; shl w, w, {up}; xor c, c, w\n{step}{last}; export c }}"
        )
    };
    let step = "shr b, c, 23; and b, b, 1; mul m, b, 0x864cfb; shl c, c, 1; xor c, c, m";
    all_are(
        "linear (24-bit CRC, polynomial 0x864cfb)",
        &[
            &narrow(16, step, "and c, c, 0xffffff"),
            &narrow(16, &format!("{step}; and c, c, 0xffffff"), "mov c, c"),
            &narrow(
                16,
                "shl c, c, 1; and b, c, 0x1000000; ne d, b, 0; xor u, c, 0x1864cfb; sel c, d, u, c",
                "mov c, c",
            ),
        ],
    );
    all_are(
        "linear (24-bit CRC, polynomial 0x864cfb, at the upper end of its register)",
        &[&narrow(24, "sar m, c, 31; and m, m, 0x864cfb00; shl c, c, 1; xor c, c, m", "mov c, c")],
    );
    all_are(
        "linear (a map of bits over GF(2))",
        &[
            &narrow(16, step, "and c, c, 0x7fffff"),
            &narrow(16, step, "and c, c, 0x1ffffff"),
            &narrow(15, step, "and c, c, 0xffffff"),
        ],
    );
    all_are(
        "serial",
        &[
            &bitwise("and b, c, 1; mul m, b, 0xedb88320; shr t, c, 1; add c, t, m"),
            &bitwise("and b, c, 3; mul m, b, 0xedb88320; shr t, c, 1; xor c, t, m"),
            "u8 { state c: u32 = 0; in x; zext w, x; xor c, c, w; and b, c, 1; mul m, b, w; shr t, c, 1; xor c, t, m; export c }",
        ],
    );
}

#[test]
fn maps_over_gf2() {
    all_are(
        "linear (a map of bits over GF(2))",
        &[
            "u8 { state h: u32 = 0; in x; zext w, x; rotl h, h, 5; xor h, h, w; export h }",
            "u32le { state h: u32 = 0; in x; mul y, x, 0x9e3779b1; rotl h, h, 13; xor h, h, y; export h }",
            "u8 { state h: u16 = 0; in x; zext w, x; shl t, h, 7; xor h, h, t; shr t, h, 9; xor h, h, t; xor h, h, w; not h, h; export h }",
            // What two numbers of the word make of it.
            "u8 { state h: u8 = 0; in x; ltu c, x, 9; add y, x, 1; rotl g, h, 5; xor a, g, y; not b, a; sel h, c, a, b; export h }",
            "u8 { state h: u8 = 0; in x; ltu c, x, 9; shl y, x, x; rotl g, h, 5; xor a, g, y; not b, a; sel h, c, a, b; export h }",
            // A choice by the word between two ways to the same map.
            "u8 { state h: u8 = 0; in x; ltu c, x, 9; rotl a, h, 3; not b, a; sel h, c, a, b; export h }",
        ],
    );
    // Nothing is left of the state after a while.
    all_are(
        "delay of 4 words",
        &["u8 { state h: u32 = 0; in x; zext w, x; shl h, h, 8; or h, h, w; export h }"],
    );
    all_are(
        "delay of 8 words",
        &["u8 { state h: u64 = 0; in x; zext w, x; shl h, h, 8; xor h, h, w; out x; export h }"],
    );
    // Bits of each word, in a register of nine; looked at, it is the last nine bits.
    all_are(
        "linear (0x2 times the state, plus, modulo 512)",
        &["or", "xor", "add"].map(|by| {
            format!("u8 {{ state r: u16; in x; shl r, r, 1; and t, x, 1; zext w, t; {by} r, r, w; and r, r, 0x1ff; export r }}")
        }).each_ref().map(String::as_str),
    );
    all_are(
        "delay of 9 words",
        &["or", "xor", "add"].map(|by| {
            format!("u8 {{ state r: u16; in x; shl r, r, 1; and t, x, 1; zext w, t; {by} r, r, w; and r, r, 0x1ff; trunc y, r; xor y, y, x; out y; export r }}")
        }).each_ref().map(String::as_str),
    );
    all_are(
        "serial",
        &[
            // The map depends on the word.
            "u8 { state h: u8 = 0; in x; ltu c, x, 9; rotl a, h, 3; rotl b, h, 4; sel h, c, a, b; export h }",
            "u8 { state h: u8 = 0; in x; rotl h, h, x; xor h, h, 1; export h }",
            "u8 { state h: u8 = 0; in x; rotl t, h, 1; and t, t, h; xor h, t, x; export h }",
        ],
    );
}

/// Numbers that are added have no bit in common, or a carry may pass from one to the next.
#[test]
fn sums_of_numbers_as_sums_of_bits() {
    let halves = |low: &str, by: &str| {
        format!(
            "u8 {{ state h: u8; in x; rotl r, h, 1; and a, r, 0xf0; and b, r, {low}; shr b, b, 1; {by}; xor h, h, x; \
             export h }}"
        )
    };
    all_are(
        "linear (a map of bits over GF(2))",
        &[&halves("0x0f", "add h, a, b"), &halves("0x0f", "add h, b, a"), &halves("0x1f", "add h, a, b")],
    );
    all_are("serial", &[&halves("0x3f", "add h, a, b"), &halves("0x3f", "add h, b, a")]);
    // Less than another number than 0: no mask of ones.
    let masked = |from: u32| {
        let step = format!("and b, c, 1; sub m, {from}, b; and m, m, 0xedb88320; shr t, c, 1; xor c, t, m\n");
        format!("u8 {{ state c: u32; in x; zext w, x; xor c, c, w\n{} export c }}", step.repeat(8))
    };
    all_are("linear (32-bit CRC, polynomial 0x04c11db7, reflected)", &[&masked(0)]);
    all_are("serial", &[&masked(32), &masked(0x21)]);
}

/// A remainder of 8 bits, the shortest that is told to be a CRC, fills its register.
#[test]
fn short_remainders() {
    let step = "shr b, c, 7; mul m, b, 0x07; shl c, c, 1; xor c, c, m\n".repeat(8);
    all_are(
        "linear (8-bit CRC, polynomial 0x07)",
        &[&format!("u8 {{ state c: u8; in x; xor c, c, x\n{step} export c }}")],
    );
}

#[test]
fn affine_recurrences() {
    all_are(
        "linear (0x1f times the state, plus)",
        &[
            "u8 { state h: u32 = 0; in x; zext w, x; mul h, h, 31; add h, h, w; export h }",
            "u8 { state h: u32 = 0; in x; zext w, x; shl t, h, 5; sub t, t, h; add h, t, w; export h }",
            // In twice the width, and cut.
            "u8 { state h: u32 = 0; in x; zext.u64 w, x; zext.u64 g, h; mul g, g, 31; add g, g, w; trunc h, g; export h }",
            "u8 { state h: u32 = 0; in x; zext w, x; mul y, w, w; ltu c, x, 7; mul a, h, 31; add b, a, y; sel h, c, a, b; export h }",
        ],
    );
    all_are(
        "linear (0x21 times the state, plus)",
        &["u8 { state h: u32 = 5381; in x; zext w, x; shl t, h, 5; add t, t, h; add h, t, w; export h }"],
    );
    all_are(
        "linear (0x100 times the state, plus, modulo 65521)",
        &[
            "u8 { state h: u32 = 0; in x; zext w, x; mulmod h, h, 256, 65521; addmod h, h, w, 65521; export h }",
            "u8 { state h: u16 = 0; in x; zext.u64 w, x; zext.u64 g, h; mul g, g, 256; add g, g, w; addmod g, g, 0, 65521; trunc h, g; export h }",
        ],
    );
    // A product that just fits; a difference and a complement where the word wraps at the modulus.
    all_are(
        "linear (0x6 times the state, plus, modulo 251)",
        &[
            "u8 { state a: u8; in x; zext.u16 g, a; zext.u16 w, x; mul g, g, 257; addmod g, g, w, 251; trunc a, g; export a }",
        ],
    );
    all_are(
        "linear (0xff times the state, plus)",
        &["u8 { state s: u8; in x; not t, s; add s, t, x; export s }"],
    );
    all_are(
        "reduction by addmod 251",
        &[
            "u8 { state a: u8; in x; zext.u16 g, a; zext.u16 w, x; add g, g, 1; and g, g, 0x1ff; addmod g, g, w, 251; trunc a, g; export a }",
        ],
    );
    all_are(
        "serial",
        &[
            // A product that just does not, bits that are cut off, a difference that wraps elsewhere.
            "u8 { state a: u8; in x; zext.u16 g, a; zext.u16 w, x; mul g, g, 258; addmod g, g, w, 251; trunc a, g; export a }",
            "u8 { state a: u8; in x; zext.u16 g, a; zext.u16 w, x; add g, g, 1; and g, g, 0xff; addmod g, g, w, 251; trunc a, g; export a }",
            "u8 { state a: u16; in x; zext w, x; neg t, a; addmod a, t, w, 251; export a }",
            // On one of its ways the number may be the modulus itself.
            "u8 { state a: u16; in x; eq c, x, 0; addmod t, a, 5, 251; addmod u, a, 0, 251; add v, u, 1; sel a, c, t, v; export a }",
        ],
    );
    all_are(
        "linear (0xffff times the state, plus)",
        &["u16le { state s: u16 = 0; in x; sub s, x, s; export s }"],
    );
    all_are(
        "serial",
        &[
            // FNV-1a: exclusive or and product are of two rings; FNV-1, too.
            "u8 { state h: u64 = 0; in x; zext w, x; xor h, h, w; mul h, h, 0x100000001b3; export h }",
            "u8 { state h: u64 = 0; in x; zext w, x; mul h, h, 0x100000001b3; xor h, h, w; export h }",
            // A factor that depends on the word; a sum that may wrap before it is reduced.
            "u8 { state h: u32 = 0; in x; zext w, x; mul h, h, w; add h, h, 1; export h }",
            "u8 { state h: u32 = 0; in x; zext w, x; mul h, h, 256; add h, h, w; addmod h, h, 0, 65521; export h }",
            // What is cut off and widened again is not what it was.
            "u8 { state h: u32 = 0; in x; zext w, x; trunc.u8 t, h; zext t, t; mul t, t, 3; add h, t, w; export h }",
            "u8 { state h: u32 = 0; in x; zext w, x; mul h, h, h; add h, h, w; export h }",
        ],
    );
}

#[test]
fn reductions_by_other_names() {
    all_are(
        "reduction by addc",
        &[
            "u16be { state s: u16; in x; add t, s, x; ltu c, t, s; zext d, c; add s, t, d; export s }",
            "u16be { state s: u16; in x; add t, s, x; ltu c, t, x; add u, t, 1; sel s, c, u, t; export s }",
            "u16be { state s: u16; in x; zext.u32 a, s; zext.u32 b, x; add t, a, b; shr h, t, 16; trunc h, h; trunc l, t; add s, l, h; export s }",
        ],
    );
    all_are(
        "reduction by addmod 65536",
        &["u8 { state s: u32; in x; zext w, x; add s, s, w; and s, s, 0xffff; export s }"],
    );
    all_are(
        "reduction by addmod 255",
        &[
            "u8 { state s: u16; in x; zext.u32 a, s; zext.u32 b, x; add a, a, b; addmod a, a, 0, 255; trunc s, a; export s }",
        ],
    );
    all_are(
        "reduction by add",
        &[
            // Guarded counters.
            "u8 { state n: u32; in x; ltu c, x, 32; zext b, c; add n, n, b; export n }",
            "u8 { state n: u32; in x; ltu c, x, 32; add m, n, 1; sel n, c, n, m; export n }",
            "u8 { state n: u32; in x; ltu c, x, 32; sel d, c, 5, 0; sub n, n, d; export n }",
            "u8 { state n: u32; in x; ltu c, x, 32; sext d, c; and d, d, 9; add n, n, d; export n }",
            // By the ring, where no chain is in sight.
            "u8 { state n: u32; in x; zext w, x; mul t, n, 3; add t, t, w; shl u, n, 1; sub n, t, u; export n }",
        ],
    );
    // States that are reset, or set, under a condition.
    for (class, bodies) in [
        (
            "reduction by and",
            [
                "u8 { state s: u16 = 7; in x; eq c, x, 0; sel s, c, 0, s; export s }",
                "u8 { state s: u8; in x; ltu c, 9, x; and t, s, x; sel s, c, t, 0; export s }",
                "u8 { state s: bool = true; in x; eq c, x, 0; sel s, c, false, s; export s }",
            ],
        ),
        (
            "reduction by or",
            [
                "u8 { state s: u16 = 7; in x; eq c, x, 0; sel s, c, 0xffff, s; export s }",
                "u8 { state s: u8; in x; ltu c, 9, x; or t, s, x; sel s, c, t, 0xff; export s }",
                "u8 { state s: bool; in x; eq c, x, 0; sel s, c, true, s; export s }",
            ],
        ),
        (
            "reduction by smin",
            [
                "u8 { state s: u16 = 7; in x; eq c, x, 0; sel s, c, 0x8000, s; export s }",
                "u8 { state s: u8 = 7; in x; eq c, x, 0; smin t, s, x; sel s, c, 0x80, t; export s }",
                "u32le { state s: u32 = 7; in x; eq c, x, 0; sel s, c, s, 0x80000000; export s }",
            ],
        ),
        (
            "reduction by smax",
            [
                "u8 { state s: u16 = 7; in x; eq c, x, 0; sel s, c, 0x7fff, s; export s }",
                "u8 { state s: u8 = 7; in x; eq c, x, 0; smax t, s, x; sel s, c, 0x7f, t; export s }",
                "u32le { state s: u32 = 7; in x; eq c, x, 0; sel s, c, s, 0x7fffffff; export s }",
            ],
        ),
        (
            "reduction by min",
            [
                "u8 { state s: u8 = 7; in x; eq c, x, 7; min t, s, x; sel s, c, 0, t; export s }",
                "u8 { state s: u16 = 7; in x; zext w, x; eq c, x, 7; min t, s, w; sel s, c, t, 0; export s }",
                "u32le { state s: u32 = 7; in x; eq c, x, 7; min t, s, x; sel s, c, 0, t; export s }",
            ],
        ),
    ] {
        all_are(class, &bodies);
    }
    // Another number, or of another operation than the one beside it.
    all_are(
        "serial",
        &[
            "u8 { state s: u16 = 7; in x; eq c, x, 0; sel s, c, 1, s; export s }",
            "u8 { state s: u8; in x; eq c, x, 0; add t, s, x; sel s, c, 0, t; export s }",
            "u8 { state s: u8; in x; eq c, x, 0; or t, s, x; sel s, c, 0, t; export s }",
        ],
    );
    all_are(
        "reduction by max",
        &[
            "u8 { state m: u8; in x; ltu c, m, x; sel m, c, x, m; export m }",
            "u8 { state m: u8; in x; leu c, x, m; sel m, c, m, x; export m }",
            "u8 { state m: u8; in x; ltu c, x, 99; max t, m, x; sel m, c, t, m; export m }",
        ],
    );
    all_are(
        "serial",
        &[
            // The carry of another sum; a minimum of three that drops one; a counter that stops.
            "u16be { state s: u16; in x; add t, s, x; ltu c, t, 9; zext d, c; add s, t, d; export s }",
            "u8 { state m: u8; in x; ltu c, m, x; xor y, x, 1; sel m, c, y, m; export m }",
            "u8 { state n: u8; in x; ltu c, n, 200; eq e, x, 10; and c, c, e; zext d, c; add n, n, d; export n }",
            "u8 { state s: u32; in x; zext w, x; add s, s, w; and s, s, 0xfffe; export s }",
        ],
    );
}

#[test]
fn scans_and_delays() {
    for op in ["add", "xor", "or", "and", "min", "max", "smin", "smax", "addc", "adds"] {
        let text = format!("u8 {{ state s: u8 = 1; in x; {op} s, s, x; out s; export s }}");
        assert_eq!(class_of(&text), format!("scan by {op}"));
        // The value before the word, which is an exclusive scan.
        let text = format!("u8 {{ state s: u8 = 1; in x; mov y, s; {op} s, s, x; out y; export s }}");
        assert_eq!(class_of(&text), format!("scan by {op}"));
    }
    all_are(
        "delay of 1 word",
        &[
            "u8 { state p: u8; in x; sub y, x, p; mov p, x; out y; export p }",
            "u8 { state p: u8; in x; xor y, x, p; mov p, x; out y; export p }",
            "u8 { state p: u8; in x; xor y, x, p; mul p, x, x; out y; export p }",
        ],
    );
    all_are(
        "delay of 3 words",
        &[
            "u8 { state r: u8; state q: u8; state p: u8; in x; xor y, x, r; mov r, q; mov q, p; mov p, x; out y; export r }",
        ],
    );
    // Results that take turns: pixels of three bytes, two channels.
    all_are(
        "lagged scan by add, with the result 3 words before",
        &[
            "u8 { state r: u8; state g: u8; state b: u8; in x; add y, x, r; mov r, g; mov g, b; mov b, y; out y }",
            "u8 { state b: u8; state g: u8; state r: u8; in x; sub y, r, x; mov r, g; mov g, b; mov b, y; out y; export g }",
            "u8 { state b: u8; state r: u8; state g: u8; in x; ltu c, x, 9; add y, r, x; sel y, c, r, y; xor z, y, g; mov r, g; mov g, b; mov b, y; out z }",
        ],
    );
    all_are(
        "lagged scan by max, with the result 2 words before",
        &["u16le { state l: u16; state r: u16; in x; max y, x, l; mov l, r; mov r, y; out y; export r }"],
    );
    // One of them is changed on the way, is the sum of two, or is another's; and conditions.
    all_are(
        "serial",
        &[
            "u8 { state r: u8; state g: u8; state b: u8; in x; add y, x, r; xor r, g, 1; mov g, b; mov b, y; out y }",
            "u8 { state r: u8; state g: u8; state b: u8; in x; add y, x, r; add y, y, g; mov r, g; mov g, b; mov b, y; out y }",
            "u8 { state a: bool; state b: bool; in x; trunc.bool t, x; xor n, b, t; mov b, a; mov a, n; export a }",
        ],
    );
    all_are(
        "scan by addmod 16",
        &[
            "u8 { state s: u8; in x; shr h, x, 4; add a, s, h; and a, a, 15; and l, x, 15; add s, a, l; and s, s, 15; shl t, a, 4; or y, t, s; out y }",
        ],
    );
    // What is counted or summed may depend on the words before; so may hashes.
    all_are(
        "reduction by add",
        &[
            "u8 { state n: u32; state p: u8; in x; ne c, x, p; zext b, c; add n, n, b; mov p, x; export n }",
            "u8 { state n: u64; state p: u8; state q: u8; in x; eq c, q, 13; eq d, x, 10; and c, c, d; add m, n, 1; sel n, c, m, n; \
             mov q, p; mov p, x; export n }",
            "u8 { state n: u64; state l: u32; in x; zext w, x; shl l, l, 8; or l, l, w; eq c, l, 0x0d0a0d0a; zext b, c; add n, n, b; \
             export n }",
        ],
    );
    all_are(
        "linear (0x1f times the state, plus)",
        &[
            "u8 { state h: u32; state p: u8; in x; xor y, x, p; zext w, y; mul h, h, 31; add h, h, w; mov p, x; export h }",
        ],
    );
    all_are(
        "reduction by adds",
        &[
            "u8 { state n: u8; state p: u8; in x; ltu c, p, x; zext b, c; adds n, n, b; mov p, x; export n }",
            "u8 { state n: u32; in x; zext w, x; adds n, n, w; adds n, n, 7; export n }",
            "u16be { state n: u16; in x; eq c, x, 9; adds m, n, x; sel n, c, n, m; export n }",
        ],
    );
    // The output feeds back.
    all_are("serial", &["u8 { state p: u8; in x; mul t, p, p; xor y, x, t; mov p, y; out y; export p }"]);
}

/// The classes of Adler's two sums.
fn adler(body: &str) -> Vec<String> {
    facts(body).0.states.iter().map(|state| state.class.to_string()).collect()
}

#[test]
fn sums_of_sums() {
    let modulo = |m: &str| vec![format!("scan by addmod {m}"), format!("linear (sum of sums by addmod {m})")];
    assert_eq!(
        adler(
            "u8 { state a: u32 = 1; state b: u32; in x; zext w, x; addmod a, a, w, 65521; addmod b, b, a, 65521; export a; export b }"
        ),
        modulo("65521")
    );
    // 16-bit words, sums of the word's width or wider, end-around carries; the reduction left to the end.
    assert_eq!(
        adler(
            "u16le { state a: u32; state b: u32; in x; zext w, x; addmod a, a, w, 65535; addmod b, b, a, 65535; export a; export b }"
        ),
        modulo("65535")
    );
    assert_eq!(
        adler("u16le { state a: u16; state b: u16; in x; addc a, a, x; addc b, b, a; export a; export b }"),
        ["scan by addc", "linear (sum of sums by addc)"]
    );
    assert_eq!(
        adler(
            "u8 { state a: u32 = 1; state b: u64; in x; zext w, x; addmod a, a, w, 65521; zext v, a; addmod b, b, v, 65521; export a; export b }"
        ),
        modulo("65521")
    );
    assert_eq!(
        adler(
            "u8 { state a: u32; state b: u32; in x; zext w, x; add b, b, a; add a, a, w; export a; export b }"
        ),
        ["scan by add", "linear (sum of sums by add)"]
    );
    // Different moduli; sums reduced by comparing, from which an imported value may differ.
    let serial = |body: &str| adler(body).iter().any(|class| class.starts_with("serial"));
    assert!(serial(
        "u8 { state a: u32; state b: u32; in x; zext w, x; addmod a, a, w, 65521; addmod b, b, a, 65519; export a; export b }"
    ));
    assert!(serial(
        "u8 { state a: u32 = 1; in x; zext w, x; add t, a, w; ltu c, t, 65521; sub u, t, 65521; sel a, c, t, u; export a }"
    ));
    assert!(serial(
        "u8 { state a: u32; in x; zext w, x; add t, a, w; ltu c, t, 65521; sub u, t, 65520; sel a, c, t, u; export a }"
    ));
}

/// A CRC of 24 bits in a register of 32, as programs in C have it, masked at each bit or at the end of the
/// word. Where the top bit is taken by a mask, it is proved; where by a shift or a comparison alone, it is a
/// CRC only from a register of 24 bits: it runs as one, and looks at the register first.
#[test]
fn registers_wider_than_their_crc() {
    const CLASS: &str = "linear (24-bit CRC, polynomial 0x864cfb)";
    let body = |first: &str, step: &str, last: &str| {
        let step = format!("{step}\n").repeat(8);
        format!(
            "u8 {{ state c: u32 = 0xb704ce; in x; {first} zext w, x; shl w, w, 16; xor c, c, w\n{step}{last} export c }}"
        )
    };
    let cut = "and c, c, 0xffffff;";
    for (step, last) in [
        ("shl c, c, 1; and b, c, 0x1000000; ne d, b, 0; xor u, c, 0x1864cfb; sel c, d, u, c", ""),
        ("shl c, c, 1; and b, c, 0x1000000; ne d, b, 0; xor u, c, 0x1864cfb; sel c, d, u, c", cut),
        ("shr b, c, 23; and b, b, 1; shl c, c, 1; mul m, b, 0x864cfb; xor c, c, m", cut),
        ("shr b, c, 23; trunc.bool d, b; shl t, c, 1; xor u, t, 0x864cfb; sel c, d, u, t", cut),
    ] {
        all_are(CLASS, &[&body("", step, last)]);
    }
    for (step, last) in [
        ("shr b, c, 23; shl c, c, 1; and c, c, 0xffffff; mul m, b, 0x864cfb; xor c, c, m", ""),
        ("shr b, c, 23; shl c, c, 1; neg m, b; and m, m, 0x1864cfb; xor c, c, m", ""),
        ("shr b, c, 23; ne d, b, 0; shl t, c, 1; xor u, t, 0x1864cfb; sel c, d, u, t", ""),
        ("leu d, 0x800000, c; shl t, c, 1; xor u, t, 0x1864cfb; sel c, d, u, t", ""),
        ("ltu d, c, 0x800000; shl t, c, 1; xor u, t, 0x1864cfb; sel c, d, t, u", ""),
        ("shl c, c, 1; shr b, c, 24; mul m, b, 0x1864cfb; xor c, c, m", cut),
    ] {
        let (found, pipe) = facts(&body("", step, last));
        assert!(matches!(found.states[0].class, crate::analyse::Class::Serial { .. }), "{step}");
        let hint = crate::analyse::hints(&pipe, &found)[0].clone();
        let expected = format!(
            "up to 0xffffff, as it starts and stays, it is {CLASS}; `and c, c, 0xffffff` before it is read makes \
             it so for what is imported, too"
        );
        assert_eq!(hint, Some(expected), "{step}");
        assert_eq!(word_by_word(&body("", step, last)), None, "{step}");
        all_are(CLASS, &[&body(cut, step, last)]);
    }
    // What cutting down does not help.
    let (found, pipe) = facts("u8 { state c: u32; in x; zext w, x; mul c, c, w; xor c, c, w; export c }");
    assert_eq!(crate::analyse::hints(&pipe, &found), [None]);
}
