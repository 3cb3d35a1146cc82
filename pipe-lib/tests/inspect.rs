//! The pictures of a pipeline: golden ones, and that whatever stands in a text cannot break out of its place.

use pipe_lib::Features;
use pipe_lib::testing::{Generator, Rng};
use pipe_lib::{Backend, CompileOptions, Library, inspect};

const PIPELINE: &str = "inet_cksum as plain per 1460 | xor32(key = 1) | crc32c | delta8 -> lance";

/// Cranelift's: what the picture is of does not depend on the machine.
fn portable() -> CompileOptions {
    Backend::Cranelift.into()
}

#[test]
fn dot_is_as_it_was() {
    let pipeline = Library::standard().pipeline(PIPELINE).unwrap();
    insta::assert_snapshot!(inspect::dot(pipeline.composition(), &portable()));
}

#[test]
fn svg_is_as_it_was() {
    let pipeline = Library::standard().pipeline(PIPELINE).unwrap();
    insta::assert_snapshot!(inspect::svg(pipeline.composition(), &portable()));
}

/// Every element of an SVG document is closed, and text is escaped.
fn check_elements(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("an element ends");
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap_or("");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{svg}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        for entity in text.split('&').skip(1) {
            assert!(["lt;", "gt;", "amp;", "quot;"].iter().any(|known| entity.starts_with(known)), "{text}");
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn documentation_stays_in_its_place() {
    let mut library = Library::standard();
    let text =
        "/// \"a\" \\ </title><script>&\npipe odd : u8 { state s: u8; in x; mul s, s, x; out s; export s }";
    library.load("odd.pipe", text).unwrap();
    let pipeline = library.pipeline("odd as b | odd | odd").unwrap();
    check_elements(&inspect::svg(pipeline.composition(), &CompileOptions::default()));
    let dot = inspect::dot(pipeline.composition(), &CompileOptions::default());
    assert!(dot.contains(r#"tooltip="\"a\" \\ </title><script>&"#), "{dot}");
}

#[test]
fn any_composition_has_a_picture() {
    for seed in 0..60 {
        let composition = Generator::new(&mut Rng::new(seed)).composition();
        check_elements(&inspect::svg(&composition, &CompileOptions::default()));
        assert!(inspect::dot(&composition, &CompileOptions::default()).ends_with("}\n"));
    }
}

/// The comments in what is shown: which functions there are.
fn labels(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("; ")).collect()
}

#[test]
fn what_is_shown_is_what_runs() {
    let library = Library::standard();
    let shown = |pipeline: &str, options: &CompileOptions| {
        let pipeline = library.pipeline(pipeline).unwrap();
        let composition = pipeline.composition();
        (inspect::clif(composition, options).unwrap(), inspect::asm(composition, options).unwrap())
    };
    let cranelift = CompileOptions::from(Backend::Cranelift);
    // Both forms bear the same labels.
    for pipeline in ["inet_cksum", "newline_count", "fnv1a64", "delta32 | xor8(key = 3)"] {
        let (clif, asm) = shown(pipeline, &cranelift);
        let asm = asm.replace("cranelift: ", "");
        assert_eq!(labels(&asm), labels(&clif), "{pipeline}");
        assert!(labels(&clif).len() >= 2, "{clif}");
    }
    // Two swaps are none, and nothing is left to run but one sum.
    let (clif, asm) = shown("byteswap32 | inet_cksum as a | byteswap32 as b | inet_cksum as c", &cranelift);
    let (one, _) = shown("inet_cksum", &cranelift);
    let functions = |clif: &str| clif.lines().filter(|line| line.contains("load.i8x16")).count();
    assert_eq!(functions(&clif), functions(&one), "{clif}");
    assert!(labels(&asm)[0].contains("byteswap32 | a | b | c"), "{asm}");
}

#[test]
fn the_serial_form_is_what_it_says() {
    let pipeline = Library::standard().pipeline("newline_count | crc32c").unwrap();
    let serial = CompileOptions::new().serial(true);
    let composition = pipeline.composition();
    let plan = inspect::plan(composition, &serial).unwrap();
    assert!(plan.contains("word after word, because of this: as was asked for"), "{plan}");
    let asm = inspect::asm(composition, &serial).unwrap();
    assert!(labels(&asm).contains(&"cranelift: whole words, one after the other: as was asked for"), "{asm}");
    assert!(inspect::clif(composition, &serial).unwrap().contains("one after the other: as was asked for"));
    let engine = pipeline.compile_with(&serial).unwrap();
    assert_eq!((engine.backend(), engine.passes()), (Backend::Cranelift, 1));
    let native = CompileOptions::from(Backend::Native).serial(true);
    assert!(pipeline.compile_with(&native).is_err());
    // It is another engine than the usual one, and computes the same.
    let stream: Vec<u8> = (0..5000u32).map(|i| (i * i % 253) as u8).collect();
    let usual = pipeline.compile().unwrap();
    assert_ne!(usual.backend(), Backend::Interp);
    for name in ["newline_count.count", "crc32c.crc"] {
        let values =
            [&usual, &engine].map(|engine| engine.run_read_only(&stream).unwrap().export(name).unwrap());
        assert_eq!(values[0], values[1], "{name}");
    }
}

/// The plan by a backend with these features; `None` where the processor has not got them.
fn planned(pipeline: &str, backend: Backend, features: &str) -> Option<String> {
    let features = Some(Features::named(features).ok()?);
    let pipeline = Library::standard().pipeline(pipeline).unwrap();
    let options = CompileOptions::from(backend).features(features);
    Some(inspect::plan(pipeline.composition(), &options).unwrap())
}

/// README's example.
const EXAMPLE: &str = "inet_cksum | byteswap32 | crc32c";

#[test]
fn the_plan_of_512_bits_is_as_it_was() {
    let features = "avx2,avx512,vbmi,gfni,vnni,pclmul,vpclmul";
    let Some(plan) = planned(EXAMPLE, Backend::Native, features) else { return };
    insta::assert_snapshot!(plan);
    let states = "adler32 as a | delta8 | count_byte(b = 10) as n | xor32(key = 7) | fletcher16 -> lance";
    insta::assert_snapshot!(planned(states, Backend::Auto, features).unwrap());
}

#[test]
fn plans_tell_of_states_that_follow_from_themselves_and_of_stripes() {
    let mut library = Library::standard();
    let text = "pipe key : u8 { state c: u32 = 3; in x; trunc.u8 k, c; xor y, x, k; add c, c, 7; export c; out y }
        pipe toggle : u8 { state t: bool; in x; sel y, t, x, 0; not t, t; out y }
        pipe turns : u8 { state k: u8 = 3; in x; addmod k, k, 5, 17; xor y, x, k; export k; out y }
        pipe ones : u16be tail zero { state a: u16; state b: u16; in x; addc a, a, x; addc b, b, a; export a; export b }";
    library.load("states.pipe", text).unwrap();
    let Ok(features) = Features::named("avx2,avx512,vbmi,gfni,vnni") else { return };
    let options = CompileOptions::from(Backend::Native).features(features);
    let plan = |text: &str| inspect::plan(library.pipeline(text).unwrap().composition(), &options).unwrap();
    insta::assert_snapshot!(plan("key | toggle | turns | ones"));
    let (loads, stores) = ("loads straight from the striped", "stores straight to the striped");
    for (text, expected) in [
        ("inet_cksum", (false, false)),
        ("lance -> inet_cksum", (true, false)),
        ("inet_cksum -> lance", (false, true)),
    ] {
        let plan = plan(text);
        assert_eq!((plan.contains(loads), plan.contains(stores)), expected, "{plan}");
    }
}

#[test]
fn the_plan_of_256_bits_is_as_it_was() {
    let Some(plan) = planned(EXAMPLE, Backend::Native, "avx2,pclmul") else { return };
    insta::assert_snapshot!(plan);
}

#[test]
fn the_portable_plan_is_as_it_was() {
    let text = "inet_cksum as a | byteswap32 | inet_cksum as b | fnv1a64 | delta8";
    insta::assert_snapshot!(planned(text, Backend::Cranelift, "").unwrap());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn machine_code_has_what_the_plan_says() {
    let features = "avx2,avx512,vbmi,gfni,vnni,pclmul,vpclmul";
    let (Some(plan), Ok(features)) = (planned(EXAMPLE, Backend::Native, features), Features::named(features))
    else {
        return;
    };
    let pipeline = Library::standard().pipeline(EXAMPLE).unwrap();
    let options = CompileOptions::from(Backend::Native).features(features);
    let asm = inspect::asm(pipeline.composition(), &options).unwrap();
    let copying = asm.split("; native: ").nth(1).unwrap();
    // As many whole vectors are stored in an iteration as the plan says; each goes into two dot products and
    // meets an accumulator of the CRC's that was multiplied twice.
    let vectors = plan
        .lines()
        .find_map(|line| line.trim().strip_prefix("body")?.split_whitespace().next()?.parse().ok());
    let turn: usize = vectors.unwrap();
    let count = |of: &str| copying.lines().filter(|line| line.contains(of)).count();
    assert_eq!((turn, count("vmovdqu64 [rdx+rcx")), (4, 4), "{plan}{copying}");
    // The last bytes once more.
    assert_eq!(count("vpdpbusd zmm"), 2 * (turn + 1), "{copying}");
    assert!(count("vpclmulhqhqdq zmm") > turn && count("vpclmullqlqdq zmm") > turn, "{copying}");
    let portable = CompileOptions::from(Backend::Cranelift);
    let clif = inspect::clif(pipeline.composition(), &portable).unwrap();
    assert!(
        clif.contains("; whole chunks\n") && clif.contains("load.i8x16") && clif.contains("bswap"),
        "{clif}"
    );
}

#[test]
fn digests_of_other_crates_are_passes_without_code() {
    let pipeline = Library::standard().pipeline("inet_cksum | sha256 as digest | byteswap32").unwrap();
    let composition = pipeline.composition();
    let options = CompileOptions::new().backend(Backend::Cranelift);
    let plan = inspect::plan(composition, &options).unwrap();
    let expected = "2 passes over blocks of 16384 bytes, which stay in the first-level cache;\n\
                    pass 2 copies, those before it look, the others work in place\n\n\
                    pass 1: digest\n";
    assert!(plan.starts_with(expected), "{plan}");
    assert!(plan.contains("each block is fed to SHA256, 32 bytes, of another crate"), "{plan}");
    assert!(plan.contains("pass 2: inet_cksum | byteswap32"), "{plan}");
    let code = "another crate's digest, which is fed block by block";
    assert!(inspect::clif(composition, &options).unwrap().contains(code));
    if cfg!(target_arch = "x86_64") {
        assert!(inspect::asm(composition, &options).unwrap().contains(code));
    }
}
