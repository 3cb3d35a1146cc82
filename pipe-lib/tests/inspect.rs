//! The pictures of a pipeline: golden ones, and that whatever stands in a text cannot break out of its place.

use pipe_lib::testing::{Generator, Rng};
use pipe_lib::{Library, inspect};

const PIPELINE: &str = "inet_cksum as plain per 1460 | xor32(key = 1) | crc32c | delta8 -> lance";

/// Without the backends' names: they depend on the machine.
fn anywhere(text: &str) -> String {
    ["native", "cranelift", "interp"]
        .iter()
        .fold(text.to_string(), |text, name| text.replace(&format!(", {name}"), ", a backend"))
}

#[test]
fn dot_is_as_it_was() {
    let pipeline = Library::standard().pipeline(PIPELINE).unwrap();
    insta::assert_snapshot!(anywhere(&inspect::dot(pipeline.composition())));
}

#[test]
fn svg_is_as_it_was() {
    let pipeline = Library::standard().pipeline(PIPELINE).unwrap();
    insta::assert_snapshot!(anywhere(&inspect::svg(pipeline.composition())));
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
    check_elements(&inspect::svg(pipeline.composition()));
    let dot = inspect::dot(pipeline.composition());
    assert!(dot.contains(r#"tooltip="\"a\" \\ </title><script>&"#), "{dot}");
}

#[test]
fn any_composition_has_a_picture() {
    for seed in 0..60 {
        let composition = Generator::new(&mut Rng::new(seed)).composition();
        check_elements(&inspect::svg(&composition));
        assert!(inspect::dot(&composition).ends_with("}\n"));
    }
}
