//! The table of TCP's rules (`docs/tcp-rules.md`) against what is there: every test that it names exists,
//! every file, and no number is missing.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// What stands between backticks in `text`.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn rows(text: &str) -> Vec<[&str; 4]> {
    text.lines()
        .filter(|line| {
            line.starts_with("| ") && !line.starts_with("| rule") && !line.starts_with("| section")
        })
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            cells.try_into().unwrap_or_else(|cells| panic!("four columns, not {cells:?}"))
        })
        .collect()
}

/// Whether `name` is a packet script, or `FILE.rs::TEST` a function of a file of tests or of the source.
fn exists(name: &str) -> bool {
    let Some((file, test)) = name.split_once("::") else {
        return root().join("tests/scripts").join(name).is_file();
    };
    ["tests", "src"].iter().any(|folder| {
        fs::read_to_string(root().join(folder).join(file))
            .is_ok_and(|text| text.contains(&format!("fn {test}(")))
    })
}

#[test]
fn every_test_that_is_named_exists() {
    let text = fs::read_to_string(root().join("../docs/tcp-rules.md")).unwrap();
    let rows = rows(&text);
    assert!(rows.len() > 120, "{}", rows.len());
    let mut named = 0;
    for [rule, _, places, cell] in &rows {
        for place in quoted(places) {
            assert!(root().join("src").join(place).exists(), "{rule}: there is no {place}");
        }
        let tests: Vec<&str> =
            quoted(cell).filter(|name| name.ends_with(".pkt") || name.contains("::")).collect();
        for test in &tests {
            assert!(exists(test), "{rule}: there is no test {test}");
        }
        named += tests.len();
        assert!(!cell.is_empty(), "{rule}: neither a test nor a reason");
    }
    assert!(named > 100, "{named}");
}

#[test]
fn no_rule_of_rfc_9293_is_missing() {
    let text = fs::read_to_string(root().join("../docs/tcp-rules.md")).unwrap();
    let rows = rows(&text);
    for (kind, count) in [("MUST", 69), ("SHLD", 31)] {
        for number in 1..=count {
            let rule = format!("{kind}-{number}");
            assert_eq!(rows.iter().filter(|row| row[0] == rule).count(), 1, "{rule}");
        }
    }
}
