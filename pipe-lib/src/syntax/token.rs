//! The words of the language (logos). Mnemonics, types, gauges and rules are plain identifiers and are told
//! apart by their place, so that a register may be called `min` and a pipe `crc32c`.

use logos::Logos;
use std::fmt;

/// A token as the grammar sees it, and the few that the lexer keeps to itself (comments, line ends).
#[derive(Logos, Clone, Copy, Debug, PartialEq)]
#[logos(skip r"[ \t\r\f]+")]
pub enum Token<'s> {
    /// A name.
    #[regex(r"[A-Za-z_][A-Za-z0-9_]*")]
    Ident(&'s str),
    /// A number as spelt: decimal, `0x`, `0o` or `0b`, with `_` anywhere between digits, perhaps negative.
    #[regex(r"-?[0-9][0-9A-Za-z_]*")]
    Number(&'s str),
    /// `"bytes"`, quotes included.
    #[regex(r#""([^"\\\n]|\\[^\n])*""#)]
    Str(&'s str),
    /// `x"00 ff"`, prefix and quotes included.
    #[regex(r#"x"[^"\n]*""#)]
    HexStr(&'s str),
    /// `'a'`: one byte, as a number.
    #[regex(r"'([^'\\\n]|\\[^\n])*'")]
    Char(&'s str),
    /// A string or character that does not end on its line.
    #[regex(r#"x?"([^"\\\n]|\\[^\n])*"#)]
    #[regex(r"'([^'\\\n]|\\[^\n])*")]
    Unterminated(&'s str),
    /// `/// text`: kept, and attached to what follows.
    #[regex(r"///[^\n]*", priority = 10, allow_greedy = true)]
    Doc(&'s str),
    /// `// text`: kept aside for the formatter.
    #[regex(r"//[^\n]*", priority = 5, allow_greedy = true)]
    Comment(&'s str),
    /// End of a line: ends a statement inside a pipe's braces, nothing elsewhere.
    #[token("\n")]
    Newline,
    /// `;`
    #[token(";")]
    Semicolon,
    /// `pipe`
    #[token("pipe")]
    Pipe,
    /// `pipeline`
    #[token("pipeline")]
    Pipeline,
    /// `layout`
    #[token("layout")]
    Layout,
    /// `frame`
    #[token("frame")]
    Frame,
    /// `put`
    #[token("put")]
    Put,
    /// `test`
    #[token("test")]
    Test,
    /// `table`
    #[token("table")]
    Table,
    /// `use`
    #[token("use")]
    Use,
    /// `state`
    #[token("state")]
    State,
    /// `export`
    #[token("export")]
    Export,
    /// `finish`
    #[token("finish")]
    Finish,
    /// `tail`
    #[token("tail")]
    Tail,
    /// `as`
    #[token("as")]
    As,
    /// `per`
    #[token("per")]
    Per,
    /// `true`
    #[token("true")]
    True,
    /// `false`
    #[token("false")]
    False,
    /// `input`
    #[token("input")]
    Input,
    /// `output`
    #[token("output")]
    Output,
    /// `expect`
    #[token("expect")]
    Expect,
    /// `set`
    #[token("set")]
    Set,
    /// `refused`
    #[token("refused")]
    Refused,
    /// `repeat`
    #[token("repeat")]
    Repeat,
    /// `{`
    #[token("{")]
    BraceOpen,
    /// `}`
    #[token("}")]
    BraceClose,
    /// `(`
    #[token("(")]
    ParenOpen,
    /// `)`
    #[token(")")]
    ParenClose,
    /// `[`
    #[token("[")]
    BracketOpen,
    /// `]`
    #[token("]")]
    BracketClose,
    /// `:`
    #[token(":")]
    Colon,
    /// `,`
    #[token(",")]
    Comma,
    /// `.`
    #[token(".")]
    Dot,
    /// `=`
    #[token("=")]
    Equals,
    /// `+`
    #[token("+")]
    Plus,
    /// `|`
    #[token("|")]
    Bar,
    /// `->`
    #[token("->")]
    Arrow,
    /// End of a statement: what `;` and the line ends that matter become.
    Separator,
    /// A character that begins nothing.
    Unknown(&'s str),
    /// Put before the first token of a file, so that one grammar serves files and pipelines.
    StartFile,
    /// Put before the first token of a pipeline on its own.
    StartPipeline,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Token::Ident(text)
            | Token::Number(text)
            | Token::Str(text)
            | Token::HexStr(text)
            | Token::Char(text)
            | Token::Unterminated(text)
            | Token::Doc(text)
            | Token::Comment(text)
            | Token::Unknown(text) => text,
            Token::Newline | Token::Separator => "end of line",
            Token::Semicolon => ";",
            Token::Pipe => "pipe",
            Token::Pipeline => "pipeline",
            Token::Layout => "layout",
            Token::Frame => "frame",
            Token::Put => "put",
            Token::Test => "test",
            Token::Table => "table",
            Token::Use => "use",
            Token::State => "state",
            Token::Export => "export",
            Token::Finish => "finish",
            Token::Tail => "tail",
            Token::As => "as",
            Token::Per => "per",
            Token::True => "true",
            Token::False => "false",
            Token::Input => "input",
            Token::Output => "output",
            Token::Expect => "expect",
            Token::Set => "set",
            Token::Refused => "refused",
            Token::Repeat => "repeat",
            Token::BraceOpen => "{",
            Token::BraceClose => "}",
            Token::ParenOpen => "(",
            Token::ParenClose => ")",
            Token::BracketOpen => "[",
            Token::BracketClose => "]",
            Token::Colon => ":",
            Token::Comma => ",",
            Token::Dot => ".",
            Token::Equals => "=",
            Token::Plus => "+",
            Token::Bar => "|",
            Token::Arrow => "->",
            Token::StartFile | Token::StartPipeline => "start",
        };
        f.write_str(text)
    }
}
