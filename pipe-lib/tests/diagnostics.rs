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

/// The codes of what is said about a text, in order, with what their places show.
fn said(text: &str) -> Vec<(&'static str, String)> {
    let shown = |diagnostic: &pipe_lib::diagnostic::Diagnostic| {
        let span = diagnostic.labels[0].span;
        (diagnostic.code.name(), text[span.start as usize..span.end as usize].to_string())
    };
    load(text).iter().map(shown).collect()
}

fn pairs(list: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    list.iter().map(|(code, text)| (*code, text.to_string())).collect()
}

#[test]
fn an_error_does_not_hide_those_of_other_items() {
    let text = "
        pipe wrong : u8 { in x; out y }
        pipe unread : u8 { in x; out x ) }
        pipe ( lost : u8 { in x; table t: u8 = [1]; /// of what
          out y }
        pipeline a = nosuch | wrong | unread
        pipeline b = copy(3)
        pipeline c = b | copy
        test crc32c { input \"x\" expect nothing = 1 }
        test wrong { input \"x\" expect nothing = 1 }
        test c { input \"x\" expect nothing = 1 }
    ";
    let expected = pairs(&[
        ("E0203", "y"),
        ("E0101", ")"),
        ("E0101", "("),
        ("E0601", "nosuch"),
        ("E0602", "3"),
        ("E0701", "nothing"),
    ]);
    assert_eq!(said(text), expected);
}

#[test]
fn a_statement_that_cannot_be_read_does_not_hide_the_rest_of_its_pipe() {
    let text = "pipe p : u8 {
        state s u8
        in   x
        add  x, x, 1 2
        add  z = x, 1
        add  s, s, x
        mul  z, z, s
        xor  w, x
        out  q
        export s
    }";
    let expected =
        pairs(&[("E0101", "u8"), ("E0101", "2"), ("E0101", "="), ("E0304", "xor  w, x"), ("E0203", "q")]);
    assert_eq!(said(text), expected);
    // A number that cannot be read is taken for some other: what follows from it is not said.
    assert_eq!(
        said("pipe p : u8 { in x; and x, x, 0x1g; out y }"),
        pairs(&[("E0002", "0x1g"), ("E0203", "y")])
    );
}

/// One mistake, one message, even where the grammar loses its way.
#[test]
fn a_mistake_in_a_head_is_said_once() {
    for text in [
        "pipe p (/// doc\n a: u8) : u8 { in x; out x }\npipe q : u8 { in x; out x }",
        "pipe pipe : u8 { in x; out x }\npipe q : u8 { in x; out x }",
        "pipe p : { in x\n table t: u8 = [1]\n /// doc\n out x }\ntest p { input \"\" output \"\" }",
        "pipline p = copy\npipe q : u8 { in x; out x }\npipeline r = p | q",
    ] {
        let found = said(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!(found[0].0, "E0101");
    }
}

#[test]
fn messages_say_what_to_write() {
    for (text, help) in [
        ("pipline p = copy", "did you mean `pipeline`?"),
        ("test copy { inputs \"a\" }", "did you mean `input`?"),
        ("test copy { input \"a\" bytes \"a\" }", "a test says `input`"),
        ("pipeline p = copy |\npipe q : u8 { in x; out x }", "a pipe, a pipeline or a layout follows"),
        ("pipe p : u8 { in x /* the word */; out x }", "comments begin with `//` and end with their line"),
        ("pipe p : u8 { in x; xro y, x, 1; out y }", "did you mean `xor`?"),
        ("pipeline p(k: u32) = xor8(k)", "declare it as `k: u8`"),
    ] {
        let found = load(text).to_string();
        assert!(found.contains(help), "{text}:\n{found}");
    }
    assert!(!load("pipe p : u8 { in x; foo y, x; out y }").to_string().contains("did you mean"));
}

#[test]
fn what_has_no_influence_is_warned_of() {
    let text = "
        table used: u8 = [1, 2]
        table unused: u8 = [1, 2]
        pipe p : u8 {
            state alone: u8; state overwritten: u8; state through: u8; state _meant: u8
            table mine: u8 = [3]
            in x
            add alone, alone, x
            mov overwritten, x
            add through, through, overwritten
            mov _meant, x
            and i, x, 1
            lookup y, used, i
            out y
            export through
        }
        pipeline q(k: u8, n: u32) = xor8(k)
    ";
    let expected = pairs(&[
        ("W0103", "unused"),
        ("W0101", "alone"),
        ("W0101", "overwritten"),
        ("W0103", "mine"),
        ("W0102", "n"),
    ]);
    assert_eq!(said(text), expected);
}

/// A claim is held against what holds of the states that can come up, and one that cannot be shown is not called wrong.
#[test]
fn claims_that_hold_only_below_a_modulus() {
    let reduced = "pipe p : u8 commutative {
        state s: u32; in x; zext w, x; add t, s, w; ltu small, t, 65521; sub r, t, 65521; sel s, small, t, r; export s
    }";
    assert_eq!(said(reduced), []);
    let found =
        load("pipe p : u8 nomod { in x; zext.u16 w, x; mul w, w, 257; shr w, w, 8; trunc y, w; out y }");
    let found = found.to_string();
    assert!(found.is_empty() || found.contains("`p` cannot be shown to be nomod"), "{found}");
}

#[test]
fn finish_in_finish_is_refused_however_deep() {
    assert_eq!(
        said("pipe p : u8 { in x; finish { finish { mov y, 1 } } }"),
        pairs(&[("E0402", "finish { mov y, 1 }")])
    );
    let depth = 30_000;
    let text = format!("pipe p : u8 {{ in x; {} {} }}", "finish {".repeat(depth), "}".repeat(depth));
    assert!(!load(&text).is_empty());
}
