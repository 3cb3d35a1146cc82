//! Text to tree. Parsing never fails and never panics: it gives the tree of what could be read and a list of
//! what could not.

use super::ast::{self, Bytes, Name, Number, Root, Spanned};
use super::lexer::{self, Comment, Lexed};
use super::lost;
use super::token::Token;
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::limits;
use crate::source::{FileId, Span};
use lalrpop_util::{ErrorRecovery, ParseError, lalrpop_mod};
use std::cell::RefCell;

lalrpop_mod!(
    #[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, unused, rust_2018_idioms)]
    grammar,
    "/grammar.rs"
);

/// A tree with the comments that it leaves out.
#[derive(Clone, Debug)]
pub struct Parsed<T> {
    /// What could be read.
    pub tree: T,
    /// Comments in the order of the source.
    pub comments: Vec<Comment>,
    /// What could not be read.
    pub errors: Vec<Diagnostic>,
    /// Names of items that are not in the tree for that.
    pub lost: Vec<String>,
}

/// Parses a `.pipe` file.
pub fn parse_file(file: FileId, text: &str) -> Parsed<ast::File> {
    let Read { root, comments, errors, lost } = parse(file, text, Token::StartFile);
    let tree = match root {
        Some(Root::File(tree)) => tree,
        _ => ast::File::default(),
    };
    Parsed { tree, comments, errors, lost }
}

/// Parses a pipeline on its own: `a | b -> c`.
pub fn parse_pipeline(file: FileId, text: &str) -> Parsed<ast::PipelineExpr> {
    let Read { root, comments, errors, lost } = parse(file, text, Token::StartPipeline);
    let tree = match root {
        Some(Root::Pipeline(tree)) => tree,
        _ => ast::PipelineExpr { parts: vec![Vec::new()] },
    };
    Parsed { tree, comments, errors, lost }
}

#[derive(Default)]
struct Read {
    root: Option<Root>,
    comments: Vec<Comment>,
    errors: Vec<Diagnostic>,
    lost: Vec<String>,
}

fn parse(file: FileId, text: &str, start: Token<'static>) -> Read {
    let mut cx = Parsing { file, text, errors: RefCell::default(), ends: Vec::new() };
    if text.len() > limits::SOURCE_BYTES {
        let message = format!("a source of {} bytes; at most {} are read", text.len(), limits::SOURCE_BYTES);
        let errors = vec![Diagnostic::new(Code::Limit, Span::new(file, 0, 0), message)];
        return Read { errors, ..Read::default() };
    }
    let lexed = lexer::lex(text);
    if let Some(at) = lexed.cut_at {
        let message = format!("more than {} tokens", limits::TOKENS);
        let errors = vec![Diagnostic::new(Code::Limit, Span::new(file, at, at), message)];
        return Read { comments: lexed.comments, errors, ..Read::default() };
    }
    let visible = |lexed: &&Lexed<'_>| !matches!(lexed.1, Token::Separator | Token::Doc(_));
    cx.ends = lexed.tokens.iter().filter(visible).map(|(_, _, end)| *end).collect();
    // The parser sees the end of the text once it has made too many errors, so hostile text costs little.
    let tokens = std::iter::once((0, start, 0))
        .chain(lexed.tokens.iter().copied())
        .take_while(|_| cx.errors.borrow().len() < limits::DIAGNOSTICS)
        .map(Ok);
    let mut root = match grammar::RootParser::new().parse(&cx, tokens) {
        Ok(root) => Some(root),
        Err(error) => {
            cx.report(error, text.len() as u32);
            None
        }
    };
    let mut errors = cx.errors.into_inner();
    let mut lost = Vec::new();
    if let Some(Root::File(tree)) = &mut root
        && !errors.is_empty()
    {
        lost::leave_out_what_follows(&lexed.tokens, tree, &mut errors);
        lost.extend(lost::names(&lexed.tokens, tree).into_iter().map(str::to_string));
    }
    if errors.len() >= limits::DIAGNOSTICS {
        errors.truncate(limits::DIAGNOSTICS);
        let message = format!("{} errors: the rest of the text was not read", limits::DIAGNOSTICS);
        let at = errors.last().map_or(0, |last| last.labels[0].span.end);
        errors.push(Diagnostic::new(Code::Limit, Span::new(file, at, at), message));
    }
    Read { root, comments: lexed.comments, errors, lost }
}

/// What the grammar's actions need: the file, and where errors go.
pub(crate) struct Parsing<'s> {
    file: FileId,
    text: &'s str,
    errors: RefCell<Vec<Diagnostic>>,
    /// Where tokens end, in ascending order.
    ends: Vec<u32>,
}

impl Parsing<'_> {
    fn span(&self, l: u32, r: u32) -> Span {
        Span::new(self.file, l, r.max(l))
    }

    fn push(&self, diagnostic: Diagnostic) {
        self.errors.borrow_mut().push(diagnostic);
    }

    /// A node with its place. Where a rule ends in something left out, the parser's `r` is where the next
    /// token starts: the place ends with the last token before that.
    pub(crate) fn spanned<T>(&self, l: u32, node: T, r: u32) -> Spanned<T> {
        let last = self.ends.partition_point(|end| *end <= r);
        let end = last.checked_sub(1).map_or(r, |at| self.ends[at]);
        Spanned { node, span: self.span(l, if end > l { end } else { r }) }
    }

    pub(crate) fn name(&self, l: u32, text: &str, r: u32) -> Name {
        if text.len() > limits::NAME_BYTES {
            let message = format!("a name of {} bytes; at most {} are read", text.len(), limits::NAME_BYTES);
            self.push(Diagnostic::new(Code::Limit, self.span(l, r), message));
            return self.spanned(l, text[..limits::NAME_BYTES].to_string(), r);
        }
        self.spanned(l, text.to_string(), r)
    }

    pub(crate) fn number(&self, l: u32, text: &str) -> Number {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (radix, digits) = match digits.get(..2) {
            Some("0x" | "0X") => (16, &digits[2..]),
            Some("0o" | "0O") => (8, &digits[2..]),
            Some("0b" | "0B") => (2, &digits[2..]),
            _ => (10, digits),
        };
        let plain: String = digits.chars().filter(|c| *c != '_').collect();
        let magnitude = u64::from_str_radix(&plain, radix).unwrap_or_else(|_| {
            let span = self.span(l, l + text.len() as u32);
            let all_digits = !plain.is_empty() && plain.chars().all(|c| c.is_digit(radix));
            self.push(if all_digits {
                Diagnostic::new(Code::BadNumber, span, "the number needs more than 64 bits")
                    .note(format!("the largest number is {:#x}", u64::MAX))
            } else {
                Diagnostic::new(Code::BadNumber, span, format!("`{}` is not a number", clip(text))).help(
                    "write decimal digits, or `0x`, `0o`, `0b` and digits; `_` may stand between digits",
                )
            });
            0
        });
        Number { text: text.to_string(), magnitude, negative }
    }

    pub(crate) fn character(&self, l: u32, text: &str) -> Number {
        let bytes = self.unescape(l, text, &text[1..text.len() - 1], 1);
        let magnitude = match bytes[..] {
            [byte] => u64::from(byte),
            _ => {
                let span = self.span(l, l + text.len() as u32);
                self.push(
                    Diagnostic::new(
                        Code::BadString,
                        span,
                        format!("a character is one byte, not {}", bytes.len()),
                    )
                    .help("write `'a'`, or the number itself"),
                );
                0
            }
        };
        Number { text: text.to_string(), magnitude, negative: false }
    }

    pub(crate) fn string(&self, l: u32, text: &str) -> Bytes {
        let bytes = self.unescape(l, text, &text[1..text.len() - 1], 1);
        Bytes { text: text.to_string(), bytes }
    }

    pub(crate) fn hex_string(&self, l: u32, text: &str) -> Bytes {
        let inner = &text[2..text.len() - 1];
        let digits: Vec<u8> = inner.bytes().filter(|byte| !matches!(byte, b' ' | b'_' | b'\t')).collect();
        let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
        let mut bytes = Vec::with_capacity(digits.len() / 2);
        for pair in digits.chunks(2) {
            let byte = match *pair {
                [high, low] => value(high).zip(value(low)).map(|(high, low)| high << 4 | low),
                _ => None,
            };
            let Some(byte) = byte else {
                let span = self.span(l, l + text.len() as u32);
                self.push(
                    Diagnostic::new(
                        Code::BadHexString,
                        span,
                        "a hexadecimal string is made of pairs of digits",
                    )
                    .help("write `x\"01 02 ff\"`; blanks and `_` may stand between the digits"),
                );
                break;
            };
            bytes.push(byte);
        }
        Bytes { text: text.to_string(), bytes }
    }

    fn unescape(&self, l: u32, whole: &str, inner: &str, offset: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(inner.len());
        let mut rest = inner;
        while let Some(at) = rest.find('\\') {
            bytes.extend_from_slice(&rest.as_bytes()[..at]);
            let escape = &rest[at + 1..];
            let (byte, taken) = match escape.as_bytes().first() {
                Some(b'n') => (b'\n', 1),
                Some(b'r') => (b'\r', 1),
                Some(b't') => (b'\t', 1),
                Some(b'0') => (0, 1),
                Some(quoted @ (b'\\' | b'"' | b'\'')) => (*quoted, 1),
                Some(b'x') if escape.get(1..3).is_some_and(|hex| u8::from_str_radix(hex, 16).is_ok()) => {
                    (u8::from_str_radix(&escape[1..3], 16).unwrap_or(0), 3)
                }
                _ => {
                    let before = whole.len() as u32 - offset - rest.len() as u32 + at as u32;
                    let wide = escape.chars().next().map_or(0, char::len_utf8) as u32;
                    let span = self.span(l + before, l + before + 1 + wide);
                    self.push(
                        Diagnostic::new(Code::BadString, span, "no such escape")
                            .note("the escapes are \\n \\r \\t \\0 \\\\ \\\" \\' and \\x with two digits"),
                    );
                    (b'?', escape.chars().next().map_or(0, char::len_utf8))
                }
            };
            bytes.push(byte);
            rest = &escape[taken..];
        }
        bytes.extend_from_slice(rest.as_bytes());
        bytes
    }

    /// The statements of a `finish`, in which there is none: a tree is not deep, whatever the text.
    pub(crate) fn unnested(&self, mut stmts: Vec<Spanned<ast::Stmt>>) -> Vec<Spanned<ast::Stmt>> {
        stmts.retain(|stmt| {
            let is_finish = matches!(stmt.node.kind, ast::StmtKind::Finish(_));
            if is_finish {
                let diagnostic = Diagnostic::new(Code::NotHere, stmt.span, "`finish` in `finish`");
                self.push(diagnostic.help("put its statements into the outer one"));
            }
            !is_finish
        });
        stmts
    }

    /// A statement that does not fit the grammar, with the words of its line.
    pub(crate) fn broken_statement(&self, error: ErrorRecovery<u32, Token<'_>, ()>) -> Spanned<ast::Stmt> {
        let at = match &error.error {
            ParseError::UnrecognizedToken { token, .. } | ParseError::ExtraToken { token } => token.0,
            ParseError::UnrecognizedEof { location, .. } | ParseError::InvalidToken { location } => *location,
            ParseError::User { error: () } => 0,
        };
        self.recovered(error);
        let at = (at as usize).min(self.text.len());
        let start = self.text[..at].rfind(['\n', ';', '{']).map_or(0, |before| before + 1);
        let end = self.text[at..].find(['\n', ';', '}']).map_or(self.text.len(), |after| at + after);
        let kind = ast::StmtKind::Broken(self.words(start, end));
        Spanned { node: ast::Stmt { docs: Vec::new(), kind }, span: self.span(start as u32, end as u32) }
    }

    /// The first names between two places, up to a comment: an instruction and its destination, a keyword and
    /// a name.
    fn words(&self, start: usize, end: usize) -> Vec<Name> {
        let line = &self.text[start..end];
        let line = &line[..line.find("//").unwrap_or(line.len())];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        line.split(|c| !is_name(c))
            .filter(|word| {
                word.starts_with(|c: char| !c.is_ascii_digit()) && word.len() <= limits::NAME_BYTES
            })
            .take(2)
            .map(|word| {
                let at = (start + (word.as_ptr() as usize - line.as_ptr() as usize)) as u32;
                Name { node: word.to_string(), span: self.span(at, at + word.len() as u32) }
            })
            .collect()
    }

    pub(crate) fn recovered(&self, error: ErrorRecovery<u32, Token<'_>, ()>) {
        let end = match &error.error {
            ParseError::UnrecognizedEof { location, .. } => *location,
            _ => 0,
        };
        self.report(error.error, end);
    }

    fn report(&self, error: ParseError<u32, Token<'_>, ()>, end: u32) {
        let diagnostic = match error {
            ParseError::UnrecognizedToken { token, expected } => self.unexpected(token, &expected),
            ParseError::ExtraToken { token } => self.unexpected(token, &[]),
            ParseError::UnrecognizedEof { location, expected } => {
                let at = location.min(end);
                // The end that the parser sees once there are too many errors is not the text's.
                if self.errors.borrow().len() >= limits::DIAGNOSTICS {
                    return;
                }
                let mut diagnostic =
                    Diagnostic::new(Code::UnexpectedEnd, self.span(at, at), "the text ends too soon");
                if let Some(wanted) = describe(&expected) {
                    diagnostic = diagnostic.here(format!("{wanted} should follow"));
                }
                diagnostic
            }
            ParseError::InvalidToken { location } => {
                Diagnostic::new(Code::UnexpectedToken, self.span(location, location), "unexpected text")
            }
            ParseError::User { error: () } => return,
        };
        self.push(diagnostic);
    }

    fn unexpected(&self, (l, token, r): Lexed<'_>, expected: &[String]) -> Diagnostic {
        // The end of a line is shown as a place, not as the blanks that begin the next line.
        let span = self.span(l, if token == Token::Separator { l } else { r });
        match token {
            Token::Plus => {
                let message = "`+` adds up the terms of a frame's field, and nothing else";
                let diagnostic = Diagnostic::new(Code::UnexpectedToken, span, message);
                return match operator_help("+") {
                    Some(help) => diagnostic.help(help),
                    None => diagnostic,
                };
            }
            Token::Unknown(text) => {
                let diagnostic = Diagnostic::new(
                    Code::UnknownCharacter,
                    span,
                    format!("`{}` means nothing in the pipe language", clip(text)),
                );
                return match operator_help(text) {
                    Some(help) => diagnostic.help(help),
                    None => diagnostic,
                };
            }
            Token::Unterminated(text) => {
                let quote = if text.starts_with('\'') { '\'' } else { '"' };
                return Diagnostic::new(Code::BadString, span, "the string does not end on its line")
                    .help(format!("close it with `{quote}`; a line end inside is written `\\n`"));
            }
            _ => {}
        }
        let found = match token {
            Token::Separator => "end of the statement".to_string(),
            Token::Doc(_) => "documentation that belongs to nothing".to_string(),
            other => format!("`{}`", clip(&other.to_string())),
        };
        let mut diagnostic = Diagnostic::new(Code::UnexpectedToken, span, format!("unexpected {found}"));
        if let Some(wanted) = describe(expected) {
            diagnostic = diagnostic.here(format!("expected {wanted}"));
        }
        let wants = |token: &str| expected.iter().any(|name| name.trim_matches('"') == token);
        // A word in the place of a keyword.
        let keyword = |words: &[&'static str]| match token {
            Token::Ident(word) if words.iter().all(|word| wants(word)) => {
                nearest(word, words.iter().copied())
            }
            _ => None,
        };
        let near = keyword(&["pipe", "pipeline", "layout", "frame", "table", "test", "use"])
            .or_else(|| keyword(&["input", "output", "expect", "set", "refused"]));
        if let Some(near) = near {
            return diagnostic.help(format!("did you mean `{near}`?"));
        }
        let before = self.text[..(l as usize).min(self.text.len())].trim_end();
        match token {
            _ if wants("IDENT") && (before.ends_with('|') || before.ends_with("->")) => {
                diagnostic.help("a pipe, a pipeline or a layout follows; without one, leave the sign out")
            }
            Token::Pipe | Token::Pipeline | Token::Layout | Token::Frame | Token::Test | Token::Use
                if wants("}") =>
            {
                diagnostic.help("close the item before it with `}`")
            }
            Token::Ident(_) if wants("input") => diagnostic.help(
                "a test says `input`, `output`, `expect NAME = VALUE`, `set NAME = VALUE` or `refused`",
            ),
            Token::Equals if wants("SEP") => diagnostic.help(
                "an instruction is written `op destination, operand, operand`, as in `add sum, sum, x`",
            ),
            Token::ParenOpen if wants("SEP") => diagnostic
                .help("operands are written without parentheses, and each instruction on its own line"),
            Token::As if !wants("as") => diagnostic.help("the order is `pipe(arguments) as name per bytes`"),
            Token::Ident(_) | Token::Number(_) if wants("SEP") => diagnostic
                .help("operands are separated by commas; a statement ends with its line, `;` or `}`"),
            Token::Pipe
            | Token::Pipeline
            | Token::Layout
            | Token::Frame
            | Token::Test
            | Token::Table
            | Token::Use
            | Token::State
            | Token::Export
            | Token::Finish
            | Token::Tail
            | Token::As
            | Token::Per
            | Token::True
            | Token::False
                if wants("IDENT") =>
            {
                diagnostic.note(format!("`{token}` is a word of the language and cannot be a name"))
            }
            _ => diagnostic,
        }
    }
}

/// A line of documentation without its slashes, the blank after them and trailing blanks.
pub(crate) fn doc_line(text: &str) -> String {
    let text = text.strip_prefix("///").unwrap_or(text);
    text.strip_prefix(' ').unwrap_or(text).trim_end().to_string()
}

/// What to write instead of an operator that other languages have.
fn operator_help(text: &str) -> Option<&'static str> {
    Some(match text.bytes().next()? {
        b'+' => "write `add d, a, b`",
        b'-' => "write `sub d, a, b`, or `neg d, a`",
        b'*' => "write `mul d, a, b`",
        b'/' if text.starts_with("/*") => "comments begin with `//` and end with their line",
        b'%' | b'/' => "there is no division; `addmod` and `mulmod` reduce by a modulus",
        b'&' => "write `and d, a, b`",
        b'^' => "write `xor d, a, b`",
        b'~' | b'!' => "write `not d, a`",
        b'<' | b'>' => "write `shl` or `shr` to shift, `ltu`, `leu`, `lts` or `les` to compare",
        b'#' => "comments begin with `//`, documentation with `///`",
        _ => return None,
    })
}

/// Names what the grammar would take, in the words of the language; nothing when it is too much to help.
fn describe(expected: &[String]) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    let takes_names = expected.iter().any(|name| name == "IDENT");
    for name in expected {
        let name = match name.as_str() {
            "IDENT" => "a name".to_string(),
            "NUMBER" => "a number".to_string(),
            "STR" => "a string".to_string(),
            "SEP" => "the end of the statement".to_string(),
            "HEXSTR" | "CHAR" | "DOC" | "UNKNOWN" | "UNTERMINATED" | "START_FILE" | "START_PIPELINE"
            | "\"true\"" | "\"false\"" => {
                continue;
            }
            "\"input\"" | "\"output\"" | "\"expect\"" | "\"set\"" | "\"refused\"" | "\"repeat\""
            | "\"put\""
                if takes_names =>
            {
                continue;
            }
            token => format!("`{}`", token.trim_matches('"')),
        };
        names.push(name);
    }
    names.sort_by_key(|name| name.starts_with('`'));
    names.dedup();
    match names.len() {
        0 | 8.. => None,
        1 => names.pop(),
        _ => {
            let last = names.pop()?;
            Some(format!("{} or {last}", names.join(", ")))
        }
    }
}

/// The text, cut to what fits into a message.
fn clip(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_string(),
    }
}
