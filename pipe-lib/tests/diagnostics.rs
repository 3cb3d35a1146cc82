//! Every diagnostic code has a page; its wrong example gives that code, and its right one nothing.

use pipe_lib::diagnostic::{Code, Severity};
use pipe_lib::{Diagnostics, Library};

fn load(text: &str) -> Diagnostics {
    let missing = |_: &str, _: &str| Err("no such file".to_string());
    match Library::standard().load_with("example.pipe", text, missing) {
        Ok(warnings) => warnings,
        Err(errors) => errors,
    }
}

/// The text of the fenced block of a kind in a Markdown page.
fn block<'a>(page: &'a str, kind: &str) -> &'a str {
    let fence = format!("```{kind}\n");
    let start = page.find(&fence).unwrap_or_else(|| panic!("no block `{kind}` in:\n{page}")) + fence.len();
    let end = start + page[start..].find("```").expect("the block has an end");
    &page[start..end]
}

#[test]
fn pages_show_what_they_explain() {
    let mut failed = Vec::new();
    for code in Code::ALL {
        let page = code.page();
        assert!(page.starts_with(&format!("# {}: {}\n", code.name(), code.title())), "{}", code.name());
        let wrong = load(block(page, "pipe-wrong"));
        if wrong.is_empty() || wrong.iter().any(|diagnostic| diagnostic.code != *code) {
            failed.push(format!("{}: the wrong example gives:\n{wrong}", code.name()));
        }
        let right = load(block(page, "pipe"));
        if !right.is_empty() {
            failed.push(format!("{}: the right example gives:\n{right}", code.name()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn codes_are_unique_and_ordered() {
    let names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    for pair in names.windows(2) {
        assert!(pair[0] < pair[1], "{} before {}", pair[0], pair[1]);
    }
    for code in Code::ALL {
        assert_eq!(Code::from_name(code.name()), Some(*code));
        assert_eq!(code.severity() == Severity::Warning, code.name().starts_with('W'));
    }
}

/// What is said about each page's wrong example, word by word.
#[test]
fn what_is_said() {
    let mut shown = String::new();
    for code in Code::ALL {
        let source = block(code.page(), "pipe-wrong");
        shown.push_str(&format!("==== {}\n{source}----\n{}\n\n", code.name(), load(source)));
    }
    insta::assert_snapshot!(shown);
}
