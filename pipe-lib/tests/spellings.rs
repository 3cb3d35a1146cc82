//! What programs write in ways of their own runs wide, or what is said of it names what to write instead; and
//! the bytes are those of the code that is meant.

use pipe_lib::testing::{Judge, Rng};
use pipe_lib::{Backend, Features, Library};

/// A library with a pipe, and what is said of it.
fn load(text: &str) -> (Library, String) {
    let mut library = Library::standard();
    let missing = |_: &str, _: &str| Err("no such file".to_string());
    let warnings = library.load_with("mine.pipe", text, missing).unwrap_or_else(|errors| panic!("{errors}"));
    (library, warnings.to_string())
}

/// The pipeline is one native loop over vectors where the processor has AVX2, and all backends agree.
fn is_wide(library: &Library, pipeline: &str) {
    let pipeline = library.pipeline(pipeline).unwrap_or_else(|errors| panic!("{errors}"));
    let engine = pipeline.compile().unwrap();
    let has_avx2 = Features::detected().names().any(|name| name == "avx2");
    let native = cfg!(all(target_arch = "x86_64", feature = "native")) && has_avx2;
    assert_eq!(engine.backend() == Backend::Native, native, "{pipeline:?}");
    let judge = Judge::new(pipeline.composition().clone(), &Backend::ALL).unwrap();
    let mut rng = Rng::new(31);
    for len in (0..70).chain([255, 1460, 4099]) {
        judge.judge_some(&mut rng, len, 3).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// Fletcher's sums folded by halves, as HDF5 has them (`H5_checksum_fletcher32`).
fn folded_by_halves(bytes: &[u8]) -> u32 {
    let words: Vec<u32> =
        bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0))).collect();
    let fold = |sum: u32| (sum & 0xffff) + (sum >> 16);
    let (mut a, mut b) = (0, 0);
    for some in words.chunks(360) {
        for word in some {
            a += word;
            b += a;
        }
        (a, b) = (fold(a), fold(b));
    }
    fold(b) << 16 | fold(a)
}

#[test]
fn fletcher_folded_by_halves_is_told_to_add_around_the_end() {
    let by_halves = "pipe p : u16be tail zero {
        state a: u32 = 0
        state b: u32 = 0
        in x
        zext w, x
        add a, a, w
        and l, a, 0xffff
        shr h, a, 16
        add a, l, h
        add b, b, a
        and l, b, 0xffff
        shr h, b, 16
        add b, l, h
        export a
        export b
    }";
    let (_, said) = load(by_halves);
    assert_eq!(said.matches("write `addc d, a, b` on `u16`").count(), 2, "{said}");
    // What it says is what the standard pipe has.
    let library = Library::standard();
    is_wide(&library, "fletcher32_hdf5");
    let engine = library.pipeline("fletcher32_hdf5").unwrap().compile().unwrap();
    let mut rng = Rng::new(5);
    for len in (0..100).chain([719, 720, 721, 5000, 70_000]) {
        let bytes = rng.bytes(len);
        let run = engine.run_read_only(&bytes).unwrap();
        let sum = run.export("fletcher32_hdf5.fletcher").unwrap();
        assert_eq!(sum, u64::from(folded_by_halves(&bytes)), "{len} bytes");
    }
}

/// TIFF's predictor on samples of four bits, the upper half of each byte first: `lag` samples a pixel.
fn nibbles(bytes: &[u8], lag: usize, back: bool) -> Vec<u8> {
    let split: Vec<u8> = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect();
    let mut out = split.clone();
    for at in lag..split.len() {
        let before = if back { out[at - lag] } else { split[at - lag] };
        out[at] = if back { split[at] + before } else { split[at].wrapping_sub(before) } & 15;
    }
    out.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
}

#[test]
fn predictors_of_four_bits_are_wide() {
    let (library, said) = load(
        "pipe difference : u8 {
            state last: u8 = 0
            in x
            shr high, x, 4
            and low, x, 15
            sub a, high, last
            sub b, low, high
            and b, b, 15
            shl y, a, 4
            or y, y, b
            mov last, low
            out y
        }
        pipe sum : u8 {
            state last: u8 = 0
            in x
            shr high, x, 4
            add high, high, last
            and high, high, 15
            add low, x, high
            and low, low, 15
            shl y, high, 4
            or y, y, low
            mov last, low
            out y
        }
        // Two samples a pixel: each half has its own.
        pipe sum_of_pairs : u8 {
            state a: u8 = 0
            state b: u8 = 0
            in x
            shr high, x, 4
            add a, a, high
            and a, a, 15
            add b, b, x
            and b, b, 15
            shl y, a, 4
            or y, y, b
            out y
        }",
    );
    assert!(said.is_empty(), "{said}");
    let mut rng = Rng::new(4);
    for (pipe, lag, back) in [("difference", 1, false), ("sum", 1, true), ("sum_of_pairs", 2, true)] {
        is_wide(&library, pipe);
        let engine = library.pipeline(pipe).unwrap().compile().unwrap();
        for len in [1, 2, 63, 64, 300, 4099] {
            let bytes = rng.bytes(len);
            let mut out = vec![0; len];
            engine.run(&bytes, &mut out).unwrap();
            assert_eq!(out, nibbles(&bytes, lag, back), "{pipe}, {len} bytes");
        }
    }
}

#[test]
fn predictors_of_three_bytes_a_pixel_are_wide() {
    let library = Library::standard();
    let mut rng = Rng::new(3);
    for (pipe, back) in [("delta_rgb", false), ("undelta_rgb", true)] {
        is_wide(&library, pipe);
        let engine = library.pipeline(pipe).unwrap().compile().unwrap();
        for len in [1, 3, 64, 100, 1460, 4099] {
            let bytes = rng.bytes(len);
            let mut expected = bytes.clone();
            for at in 3..len {
                expected[at] = match back {
                    true => bytes[at].wrapping_add(expected[at - 3]),
                    false => bytes[at].wrapping_sub(bytes[at - 3]),
                };
            }
            let mut out = vec![0; len];
            engine.run(&bytes, &mut out).unwrap();
            assert_eq!(out, expected, "{pipe}, {len} bytes");
        }
    }
}

/// The words before, kept in one register as C programs do.
#[test]
fn results_before_in_one_register_are_told_to_have_a_state_each() {
    for (shifts, op) in
        [("shr p, p, 8; zext.u32 w, y; shl w, w, 16", "or"), ("shl p, p, 8; zext w, y", "add")]
    {
        let (library, _) = load(&format!(
            "pipe p : u8 {{ state p: u32 = 0; in x; trunc.u8 old, p; add y, x, old; {shifts}; {op} p, p, w; out y }}"
        ));
        let pipeline = library.pipeline("p").unwrap();
        let facts = pipe_lib::analyse::analyse(&pipeline.composition().stages[0].pipe);
        let class = facts.states[0].class.to_string();
        assert!(class.contains("a state for each of them"), "{class}");
        assert!(class.contains("`undelta_rgb`"), "{class}");
    }
}

#[test]
fn a_literal_beyond_the_word_type_says_what_to_write() {
    let said = |body: &str| {
        let text = format!("pipe p : u8 {{ in x; {body}; out y }}");
        Library::standard().load("p.pipe", &text).unwrap_err().to_string()
    };
    for body in
        ["add y, x, 300", "sub y, x, 0x1ff", "and y, x, 0xffff", "ltu c, x, 256; zext y, c", "adds y, x, 300"]
    {
        let said = said(body);
        assert!(said.contains("does not fit `u8`"), "{said}");
        assert!(said.contains("widen the other operands: `zext.u16 w, a`"), "{said}");
    }
    // Of the narrowest type that holds it; of none, only what the type holds.
    assert!(said("add y, x, 70000").contains("`zext.u32 w, a`"));
    assert!(said("add y, x, -200").contains("`zext.u16 w, a`"));
    // And what is said is so.
    let (library, warnings) = load("pipe p : u8 { in x; zext.u16 w, x; add s, w, 300; trunc y, s; out y }");
    assert!(warnings.is_empty(), "{warnings}");
    is_wide(&library, "p");
}
