//! Tokens, trees and the printer: golden stages, round trips of random trees, comments, mutated sources.

use pipe_lib::Library;
use pipe_lib::source::{FileId, Span};
use pipe_lib::syntax::ast::*;
use pipe_lib::syntax::{lexer, parse, print};
use pipe_lib::testing::fuzz_source;
use std::time::{Duration, Instant};

const FILE: FileId = FileId(0);

/// SplitMix64: failures name the seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn list<T>(&mut self, most: usize, mut make: impl FnMut(&mut Random) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
        if self.chance(2) { Some(make(self)) } else { None }
    }
}

fn at<T>(node: T) -> Spanned<T> {
    Spanned { node, span: Span::new(FILE, 0, 0) }
}

fn name(r: &mut Random) -> Name {
    const NAMES: &[&str] = &[
        "x", "y_1", "min", "crc32c", "u16be", "in", "input", "output", "set", "repeat", "expect", "refused",
        "zext",
    ];
    at(r.pick(NAMES).to_string())
}

fn number(r: &mut Random) -> Number {
    let magnitude = if r.chance(2) { r.next() } else { r.next() % 300 };
    let negative = r.chance(4);
    let sign = if negative { "-" } else { "" };
    let text = match r.below(3) {
        0 => format!("{sign}{magnitude}"),
        1 => format!("{sign}{magnitude:#x}"),
        _ => format!("{sign}{magnitude:#b}"),
    };
    Number { text, magnitude, negative }
}

fn literal(r: &mut Random) -> Expr {
    match r.below(4) {
        0 => Expr::Bool(r.chance(2)),
        1 => Expr::Number(Number { text: "'a'".into(), magnitude: 97, negative: false }),
        _ => Expr::Number(number(r)),
    }
}

fn expr(r: &mut Random) -> Spanned<Expr> {
    at(if r.chance(2) { literal(r) } else { Expr::Name(name(r).node) })
}

fn bytes(r: &mut Random) -> Bytes {
    match r.below(3) {
        0 => Bytes { text: "\"a\\n\\x00\"".into(), bytes: vec![b'a', b'\n', 0] },
        1 => Bytes { text: "x\"00 ff\"".into(), bytes: vec![0, 0xff] },
        _ => Bytes { text: "\"\"".into(), bytes: vec![] },
    }
}

fn repeated<T>(r: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Repeated<T> {
    Repeated { item: at(make(r)), count: r.maybe(|r| at(number(r))) }
}

fn docs(r: &mut Random) -> Vec<String> {
    if r.chance(3) {
        r.list(3, |r| r.pick(&["", "A line.", "  indented", "/"]).to_string())
    } else {
        Vec::new()
    }
}

fn params(r: &mut Random) -> Vec<Param> {
    r.list(3, |r| Param { name: name(r), ty: name(r), default: r.maybe(expr) })
}

fn table(r: &mut Random) -> Table {
    let values = match r.chance(3) {
        true => TableValues::Bytes(bytes(r)),
        false => TableValues::List(r.list(60, |r| repeated(r, literal))),
    };
    Table { name: name(r), ty: name(r), values: at(values) }
}

fn inst(r: &mut Random) -> Inst {
    Inst { mnemonic: name(r), suffix: r.maybe(name), operands: r.list(4, expr) }
}

fn stmt(r: &mut Random, depth: usize) -> Spanned<Stmt> {
    let kind = match r.below(if depth == 0 { 5 } else { 4 }) {
        0 => StmtKind::State { name: name(r), ty: name(r), mark: r.maybe(name), init: r.maybe(expr) },
        1 => {
            let value = |r: &mut Random| match r.chance(3) {
                true => at(ExportSource::Literal(literal(r))),
                false => at(ExportSource::Inst(inst(r))),
            };
            StmtKind::Export { name: name(r), value: r.maybe(value) }
        }
        2 if r.chance(3) => StmtKind::Table(table(r)),
        4 => StmtKind::Finish(r.list(4, |r| stmt(r, depth + 1))),
        _ => StmtKind::Inst(inst(r)),
    };
    at(Stmt { docs: docs(r), kind })
}

fn stage(r: &mut Random) -> Spanned<Stage> {
    let arg = |r: &mut Random| Arg { name: r.maybe(name), value: expr(r) };
    at(Stage { name: name(r), args: r.list(3, arg), instance: r.maybe(name), window: r.maybe(expr) })
}

fn pipeline(r: &mut Random) -> Spanned<PipelineExpr> {
    let parts = (0..1 + r.below(3)).map(|_| r.list(6, stage)).collect();
    at(PipelineExpr { parts })
}

fn test_clause(r: &mut Random) -> Spanned<TestClause> {
    let pieces = |r: &mut Random| (0..1 + r.below(3)).map(|_| repeated(r, bytes)).collect();
    let path = |r: &mut Random| (0..1 + r.below(3)).map(|_| name(r)).collect();
    at(match r.below(5) {
        0 => TestClause::Input(pieces(r)),
        1 => TestClause::Output(pieces(r)),
        2 => TestClause::Set { path: path(r), value: at(literal(r)) },
        3 => TestClause::Refused,
        _ => {
            let value = match r.chance(2) {
                true => Expected::One(literal(r)),
                false => Expected::List(r.list(4, |r| repeated(r, literal))),
            };
            TestClause::Expect { path: path(r), value: at(value) }
        }
    })
}

fn frame_field(r: &mut Random) -> Spanned<FrameField> {
    let path = |r: &mut Random| {
        let mut path = vec![name(r)];
        path.extend(r.list(2, name));
        Term::Path(path)
    };
    let term = |r: &mut Random| at(if r.chance(2) { Term::Number(number(r)) } else { path(r) });
    at(match r.below(3) {
        0 => FrameField::Rule {
            name: at(r.pick(&["data", "gap", "whole"]).to_string()),
            value: r.maybe(|r| at(number(r))),
        },
        1 => FrameField::Bytes(repeated(r, bytes)),
        _ => {
            let gauge = name(r);
            let mut sum = vec![term(r)];
            sum.extend(r.list(2, term));
            FrameField::Put { gauge, sum }
        }
    })
}

fn item(r: &mut Random) -> Spanned<Item> {
    let kind = match r.below(7) {
        0 => ItemKind::Use(at(bytes(r))),
        1 => ItemKind::Table(table(r)),
        2 => {
            let clause = |r: &mut Random| LayoutClause { name: name(r), value: r.maybe(|r| at(number(r))) };
            ItemKind::Layout(Layout { name: name(r), clauses: r.list(4, clause) })
        }
        5 => ItemKind::Frame(Frame { name: name(r), params: params(r), fields: r.list(4, frame_field) }),
        3 => ItemKind::Pipeline(Pipeline { name: name(r), params: params(r), value: pipeline(r) }),
        4 => ItemKind::Test(Test {
            pipeline: pipeline(r),
            title: r.maybe(|r| at(bytes(r))),
            clauses: r.list(4, test_clause),
        }),
        _ => {
            let attribute = |r: &mut Random| match r.chance(2) {
                true => Attribute::Tail(name(r)),
                false => Attribute::Flag(name(r)),
            };
            ItemKind::Pipe(Pipe {
                name: name(r),
                params: params(r),
                input: name(r),
                output: r.maybe(name),
                attributes: r.list(2, attribute),
                body: r.list(6, |r| stmt(r, 0)),
            })
        }
    };
    at(Item { docs: docs(r), kind })
}

#[test]
fn random_trees_survive_printing() {
    for seed in 0..3000 {
        let tree = File { items: Random(seed).list(5, item) };
        let text = print::print_file(&tree, &[], "");
        let parsed = parse::parse_file(FILE, &text);
        assert!(parsed.errors.is_empty(), "seed {seed}: {:?}\n{text}", parsed.errors);
        assert_eq!(parsed.tree, tree, "seed {seed}:\n{text}");
        let again = print::print_file(&parsed.tree, &parsed.comments, &text);
        let third = print::format_source("again", &again).unwrap();
        assert_eq!(again, third, "seed {seed}: printing what was printed changes it");
    }
}

#[test]
fn comments_and_blank_lines_are_kept() {
    let source = "\
// A file's head.


// and more
/// A pipe.
pipe  a  :  u8 tail   zero { // behind the brace
    in   x   // read


    // before the write
    out x
    finish { // last words
      export n = 1 // one
    }
    // at the end
}
// between
layout l { data 1 // data
  gap 2 }
pipeline p = a // first
  | b   // second
test a { input \"\" output \"\" } // trailing
// the end
";
    let formatted = print::format_source("comments.pipe", source).unwrap();
    insta::assert_snapshot!(formatted);
    assert_eq!(print::format_source("comments.pipe", &formatted).unwrap(), formatted);
    let count = |text: &str| lexer::lex(text).comments.len();
    assert_eq!(count(&formatted), count(source));
}

#[test]
fn stages_of_the_compiler() {
    let source = "\
/// One's complement sum, masked.
pipe masked(key: u16 = 0xff) : u16be tail zero {
    state sum: u16 = key; in x
    xor y, x, key
    addc sum, sum, y
    export cksum = not sum
}
";
    let mut shown = format!("SOURCE\n{source}\nTOKENS\n");
    for (start, token, end) in lexer::lex(source).tokens {
        shown.push_str(&format!("{start:>4}..{end:<4}{token:?}\n"));
    }
    shown.push_str("\nCANONICAL\n");
    shown.push_str(&print::format_source("stages.pipe", source).unwrap());
    let mut library = Library::standard();
    library.load("stages.pipe", source).unwrap();
    shown.push_str(&format!("\nIR\n{}", library.pipe("masked").unwrap()));
    let composed =
        library.pipeline("lance -> masked as m per 8 | masked(key = 1) | byteswap32 -> pio16").unwrap();
    shown.push_str(&format!("\nCOMPOSITION\n{}", composed.composition()));
    insta::assert_snapshot!(shown);
}

#[test]
fn several_mistakes_are_reported_at_once() {
    let source = "\
pipe a : u16be {
  in x
  add y, (x, 1)
  sum = 4
  state
  out x
}
layout q { data 3 $ }
pipe b : u8 { in x; out x
pipe c : u8 { in x; out y }
\"unterminated
pipeline d = b | | c
pipe e : u8 { in x; add y, x, 256; frob z, y; out y }
";
    let error = Library::standard().load("several.pipe", source).unwrap_err();
    insta::assert_snapshot!(format!("SOURCE\n{source}\nRESULT\n{error}"));
}

/// What fuzzing has found.
#[test]
fn found_before() {
    fuzz_source("test copy { input \"\\\u{e4}\" output \"\" }");
}

/// How long the fuzzing tests run: `PIPE_FUZZ_SECONDS`, one second without.
fn budget() -> Duration {
    let seconds = std::env::var("PIPE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    Duration::from_secs(seconds)
}

fn seed() -> u64 {
    std::env::var("PIPE_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[test]
fn mutated_sources_are_answered() {
    let started = Instant::now();
    let corpus: Vec<&str> = pipe_lib::library::STANDARD_FILES
        .iter()
        .filter(|(name, _)| *name != "<std/crc.pipe>")
        .map(|(_, text)| *text)
        .collect();
    let words = [
        "pipe",
        "}",
        "{",
        "\n",
        ";",
        "(",
        ")",
        "[",
        "]",
        "=",
        "->",
        "|",
        "as",
        "per",
        "state",
        "finish",
        "export",
        "table",
        "\"",
        "x\"",
        "'",
        "///",
        "//",
        "-",
        "0x",
        "99999999999999999999",
        ",",
        ":",
        ".",
        "repeat",
        "\u{e4}",
        "tail",
        "u16be",
        "zext.u64",
        "lookup",
        "test",
        "layout",
        "use",
    ];
    let mut seed = seed();
    while started.elapsed() < budget() {
        let mut r = Random(seed);
        // Ends of the chosen pieces are moved to boundaries of characters.
        let floor = |text: &str, mut at: usize| {
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let source = corpus[r.below(corpus.len())];
        let from = floor(source, r.below(source.len()));
        let mut text = source[from..floor(source, (from + 1 + r.below(600)).min(source.len()))].to_string();
        for _ in 0..1 + r.below(4) {
            let a = floor(&text, r.below(text.len() + 1));
            let b = floor(&text, (a + r.below(20)).min(text.len()));
            match r.below(4) {
                0 => text.replace_range(a..b, ""),
                1 => text.insert_str(a, r.pick(&words)),
                2 => text.replace_range(a..b, r.pick(&words)),
                _ => {
                    let copy = text[a..b].to_string();
                    text.insert_str(floor(&text, r.below(text.len() + 1)), &copy);
                }
            }
        }
        let answer = std::panic::catch_unwind(|| fuzz_source(&text));
        assert!(answer.is_ok(), "PIPE_FUZZ_SEED={seed}:\n{text}");
        seed += 1;
    }
}

#[test]
fn random_bytes_are_answered() {
    let started = Instant::now();
    let mut seed = seed();
    while started.elapsed() < budget() / 2 {
        let mut r = Random(seed);
        let bytes: Vec<u8> = (0..r.below(200))
            .map(|_| r.next() as u8 & if seed.is_multiple_of(2) { 0x7f } else { 0xff })
            .collect();
        let text = String::from_utf8_lossy(&bytes);
        let answer = std::panic::catch_unwind(|| fuzz_source(&text));
        assert!(answer.is_ok(), "PIPE_FUZZ_SEED={seed}: {text:?}");
        seed += 1;
    }
}
