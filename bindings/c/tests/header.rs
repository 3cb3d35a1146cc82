//! `include/pipelib.h` is what the functions' text makes of it. `BLESS=1 cargo test -p pipelib-c --test header`
//! writes it anew.

use cbindgen::{Config, EnumConfig, ExportConfig, Language, RenameRule, Style};
use std::path::Path;

/// What C's readers need not be told: Rust's heading for what the text before it says.
fn without_safety_sections(header: &str) -> String {
    let mut out = String::new();
    let mut is_safety = false;
    for line in header.lines() {
        match line.trim() {
            "* # Safety" => is_safety = true,
            "*/" => is_safety = false,
            _ => {}
        }
        if !is_safety {
            out += line;
            out.push('\n');
        }
    }
    // The empty line before such a heading.
    out.replace(" *\n */", " */")
}

#[test]
fn the_header_says_what_the_library_does() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = Config {
        language: Language::C,
        style: Style::Type,
        cpp_compat: true,
        include_guard: Some("PIPELIB_H".to_owned()),
        header: Some(
            "/* The pipe language and its run-time compiler: small data-manipulation steps (\"pipes\"), composed at\n \
             * run time into one machine-code loop. Made of the library's text; link with -lpipelib.\n \
             *\n \
             * Handles are given out by one function and freed by another. Engines may be used by any number of\n \
             * threads at once, all else by one at a time. Texts are UTF-8 and end with a zero.\n */"
                .to_owned(),
        ),
        usize_is_size_t: true,
        export: ExportConfig { include: vec!["PlBackend".to_owned()], ..ExportConfig::default() },
        line_length: 110,
        enumeration: EnumConfig {
            rename_variants: RenameRule::ScreamingSnakeCase,
            prefix_with_name: true,
            ..EnumConfig::default()
        },
        ..Config::default()
    };
    let mut made = Vec::new();
    let bindings =
        cbindgen::Builder::new().with_config(config).with_crate(here).with_parse_deps(false).generate();
    bindings.expect("the crate can be read").write(&mut made);
    let made = without_safety_sections(&String::from_utf8(made).expect("UTF-8"));
    let path = here.join("include/pipelib.h");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &made).expect("the header can be written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "include/pipelib.h is not what the text makes of it: BLESS=1 cargo test -p pipelib-c"
    );
}
