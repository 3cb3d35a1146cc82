//! What no tool checks: lines of comments that `rustfmt` does not wrap, modules that the map does not have,
//! names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Columns of a line of comment or of a document.
const WIDTH: usize = 110;

/// Types that may have one name in two files of pipe-lib, and why.
const TWICE: [&str; 12] = [
    // An item of the language as it is written (`syntax::ast`), and what it means (`ir`, `compose`,
    // `analyse`): code names the first by its module.
    "Attribute",
    "Frame",
    "Inst",
    "Layout",
    "Param",
    "Pipe",
    "Pipeline",
    "Stage",
    "Table",
    "Term",
    // Code memory of one system or another: one of the two is compiled.
    "CodeDraft",
    // What Cranelift's code was made as, or nothing in builds without it.
    "EmittedLoops",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            sources(&path, all);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            all.push(path);
        }
    }
}

fn all_sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    folders.iter().for_each(|folder| sources(&root().join(folder), &mut paths));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// A comment of words: drawings, tables and examples are as wide as they are.
fn is_wide_comment(line: &str) -> bool {
    let text = line.trim_start();
    let Some(text) = ["///", "//!", "// "].iter().find_map(|mark| text.strip_prefix(mark)) else {
        return false;
    };
    let is_drawn = text.starts_with("    ")
        || text.trim_start().contains("  ")
        || text.contains("--")
        || !text.is_ascii();
    line.chars().count() > WIDTH && !is_drawn
}

#[test]
fn comments_are_wrapped() {
    let mut wide = Vec::new();
    for (path, text) in
        all_sources(&["pipe-lib", "pipec", "benches", "runtime", "netstack", "fsstack", "cheetah"])
    {
        let mut is_example = false;
        for (at, line) in text.lines().enumerate() {
            is_example ^= line
                .trim_start()
                .trim_start_matches('/')
                .trim_start_matches('!')
                .trim_start()
                .starts_with("```");
            if !is_example && is_wide_comment(line) {
                wide.push(format!("{}:{}", path.display(), at + 1));
            }
        }
    }
    assert!(wide.is_empty(), "{} comments beyond {WIDTH} columns: {wide:#?}", wide.len());
}

#[test]
fn the_map_has_every_module() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let lib = fs::read_to_string(root().join("pipe-lib/src/lib.rs")).unwrap();
    let modules = lib.lines().filter_map(|line| {
        let name = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "))?;
        name.strip_suffix(';')
    });
    let missing: Vec<&str> = modules
        .filter(|name| ![format!("`{name}`"), format!("`{name}/`")].iter().any(|word| map.contains(word)))
        .collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name {missing:?}");
}

#[test]
fn bounds_are_called_max() {
    let mut others = Vec::new();
    for (path, text) in all_sources(&["pipe-lib/src", "pipec/src"]) {
        for line in text.lines().filter(|line| line.contains("const ")) {
            let name =
                line.split("const ").nth(1).and_then(|rest| rest.split([':', ' ']).next()).unwrap_or("");
            if ["MOST_", "LONGEST_", "LARGEST_", "BIGGEST_"].iter().any(|word| name.starts_with(word)) {
                others.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn a_type_is_found_by_its_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in all_sources(&["pipe-lib/src"]) {
        if path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs") {
            continue;
        }
        for line in text.lines() {
            let line = line.trim_start();
            let line = ["pub(crate) ", "pub(super) ", "pub "]
                .iter()
                .find_map(|seen| line.strip_prefix(seen))
                .unwrap_or(line);
            let Some(rest) = line.strip_prefix("struct ").or_else(|| line.strip_prefix("enum ")) else {
                continue;
            };
            let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
            places.entry(name).or_default().push(path.display().to_string());
        }
    }
    let twice: Vec<_> = places
        .into_iter()
        .filter(|(name, files)| files.len() > 1 && !TWICE.contains(&name.as_str()))
        .collect();
    assert!(twice.is_empty(), "{twice:#?}");
}
