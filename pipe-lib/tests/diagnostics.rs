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

/// A claim that cannot be shown is not called wrong.
#[test]
fn claims_that_cannot_be_shown() {
    let reduced = "pipe p : u8 commutative {
        state s: u32; in x; zext w, x; add t, s, w; ltu small, t, 65521; sub r, t, 65521; sel s, small, t, r; export s
    }";
    assert!(said(reduced).contains(&("W0201", "sel s, small, t, r".to_string())));
    let found = load(reduced).to_string();
    assert!(found.contains("`p` cannot be shown to be commutative"), "{found}");
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

/// What is said of a body, as the instruction to write.
fn named(body: &str) -> Vec<String> {
    let found = load(&format!("pipe p : {body}"));
    let named = |diagnostic: &pipe_lib::diagnostic::Diagnostic| {
        assert_eq!(diagnostic.code, Code::ByHand, "{body}:\n{found}");
        let help = diagnostic.help.clone().unwrap_or_default();
        help.split('`').nth(1).unwrap_or_default().split(' ').next().unwrap_or_default().to_string()
    };
    found.iter().map(named).collect()
}

#[test]
fn what_is_written_out_by_hand_is_named() {
    for (instruction, bodies) in [
        (
            "rotl",
            &[
                "u8 { in x; shl a, x, 3; shr b, x, 5; or y, a, b; out y }",
                "u32le { in x; shl a, x, 31; shr b, x, 1; add y, b, a; out y }",
                "u64be tail pass { state n: u64; in x; add n, n, 1; sub m, 64, n; shl a, x, n; shr b, x, m; xor y, a, b; out y }",
            ][..],
        ),
        ("rotr", &["u16le { in x; and n, x, 15; sub m, 16, n; shr a, x, n; shl b, x, m; or y, a, b; out y }"]),
        (
            "bswap",
            &[
                "u16le { in x; shl a, x, 8; shr b, x, 8; or y, a, b; out y }",
                "u32le { in x; shl a, x, 24; shr d, x, 24; shl b, x, 8; and b, b, 0xff0000; shr c, x, 8; and c, c, 0xff00
                  or y, a, b; or y, y, c; or y, y, d; out y }",
                "u64le { in x; and a, x, 0x00ff00ff00ff00ff; shl a, a, 8; shr b, x, 8; and b, b, 0x00ff00ff00ff00ff; or w, a, b
                  and a, w, 0x0000ffff0000ffff; shl a, a, 16; shr b, w, 16; and b, b, 0x0000ffff0000ffff; or w, a, b
                  rotl y, w, 32; out y }",
            ],
        ),
        (
            "addmod",
            &[
                "u8 { state s: u32; in x; zext w, x; add t, s, w; ltu c, t, 65521; sub u, t, 65521; sel s, c, t, u; export s }",
                "u8 { state s: u32; in x; zext w, x; add t, s, w; leu c, 65521, t; sub u, t, 65521; sel s, c, u, t; export s }",
                "u8 { state s: u32; in x; zext w, x; add t, s, w; leu c, t, 65520; sub u, t, 65521; sel s, c, t, u; export s }",
                "u8 { state s: u32; in x; zext w, x; add t, s, w; addmod s, t, 0, 65521; export s }",
            ],
        ),
        (
            "addc",
            &["u16be tail zero { state s: u32; in x; zext w, x; add t, s, w; and l, t, 0xffff; shr h, t, 16; add s, l, h; export s }"],
        ),
        (
            "adds",
            &[
                "u8 { state s: u8; in x; add t, s, x; ltu c, t, s; sel s, c, 255, t; export s }",
                "u8 { state s: u8; in x; add t, s, x; leu c, x, t; sel s, c, t, 255; export s }",
                "u8 { state s: u32; in _x; eq f, s, 0xffffffff; add t, s, 1; sel s, f, s, t; export s }",
                "u8 { state s: u8; in _x; ne f, s, 255; add t, s, 1; sel s, f, t, 255; export s }",
                "u8 { state s: u8; in _x; ltu f, s, 255; add t, 1, s; sel s, f, t, s; export s }",
                "u8 { in x; zext.u16 w, x; add t, w, 9; min t, t, 255; trunc y, t; out y }",
            ],
        ),
        (
            "subs",
            &[
                "u8 { state s: u8 = 99; in x; sub t, s, x; ltu c, s, x; sel s, c, 0, t; export s }",
                "u8 { state s: u8 = 99; in x; sub t, s, x; ltu c, x, s; sel s, c, t, 0; export s }",
                "u8 { in x; max t, x, 100; sub y, t, 100; out y }",
                "u8 { state s: u8 = 99; in x; min t, s, x; sub s, s, t; export s }",
            ],
        ),
        (
            "sadds",
            &["u8 { in x; sext.u32 w, x; add t, w, 100; smin t, t, 127; smax t, t, -128; trunc y, t; out y }"],
        ),
        (
            "ssubs",
            &[
                "u16le { state p: u16; in x; sext.u32 a, x; sext.u32 b, p; sub t, a, b; smax t, t, -32768; smin t, t, 32767
                  trunc y, t; mov p, x; out y }",
            ],
        ),
    ] {
        for body in bodies {
            let found = named(body);
            // A byte swap may be made of a rotation and more.
            let rest = found.iter().filter(|name| *name != "rotl" || instruction == "rotl").count();
            assert!(rest == 1 && found.iter().any(|name| name == instruction), "{body}: {found:?}");
        }
    }
}

#[test]
fn what_only_looks_written_out_by_hand_is_not() {
    for body in [
        "u8 { in x; shl a, x, 3; shr b, x, 4; or y, a, b; out y }",
        "u8 { state p: u8; in x; shl a, p, 3; shr b, x, 5; or y, a, b; mov p, x; out y }",
        "u8 { in x; shl a, x, 3; sar b, x, 5; or y, a, b; out y }",
        "u32le { in x; shl a, x, 24; shr b, x, 24; or y, a, b; out y }",
        "u8 { state s: u32; in x; zext w, x; add t, s, w; ltu c, t, 100; sub u, t, 99; sel s, c, t, u; export s }",
        "u8 { state s: u8; in x; add t, s, x; ltu c, t, s; sel s, c, 254, t; export s }",
        "u8 { state s: u8; in x; add t, s, x; min s, t, 200; export s }",
        "u8 { state s: u16; in x; zext w, x; add t, s, w; min s, t, 0xffff; export s }",
        "u8 { state s: u8; in x; sub t, x, s; ltu c, s, x; sel s, c, 0, t; export s }",
        "u8 { in x; sext.u32 w, x; add t, w, 100; smin t, t, 127; smax t, t, -127; trunc y, t; out y }",
    ] {
        let found = load(&format!("pipe p : {body}"));
        assert!(found.is_empty(), "{body}:\n{found}");
    }
}
