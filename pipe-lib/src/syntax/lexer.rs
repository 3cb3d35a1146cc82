//! Source text to the tokens of the grammar: comments are put aside, line ends become separators where they
//! end a statement, and the tokens are counted.

use super::token::Token;
use crate::limits;
use logos::Logos;

/// A comment that is no documentation, kept for the formatter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// Byte offset of its first slash.
    pub start: u32,
    /// From the slashes to the end of the line, without trailing blanks.
    pub text: String,
    /// Whether nothing but blanks stands before it on its line.
    pub own_line: bool,
}

/// A token with the bytes it covers.
pub type Lexed<'s> = (u32, Token<'s>, u32);

/// What the lexer makes of a text.
#[derive(Debug, Default)]
pub struct LexResult<'s> {
    /// In the order of the source, without comments and line ends.
    pub tokens: Vec<Lexed<'s>>,
    /// In the order of the source.
    pub comments: Vec<Comment>,
    /// Offset at which there were more tokens than [`limits::TOKENS`].
    pub cut_at: Option<u32>,
}

/// Splits `text` into tokens. Never fails: what begins no token becomes [`Token::Unknown`].
///
/// A line end is a [`Token::Separator`] inside the braces of a `pipe`, outside parentheses and brackets, and
/// only between two statements: never doubled, after `{`, before `}` or after documentation.
pub fn lex(text: &str) -> LexResult<'_> {
    let mut result = LexResult::default();
    let mut place = Place::default();
    let mut pending: Option<(u32, u32)> = None;
    let mut raw = Token::lexer(text).spanned().peekable();
    let mut line_is_blank = true;
    while let Some((token, range)) = raw.next() {
        let (start, mut end) = (range.start as u32, range.end as u32);
        if result.tokens.len() >= limits::TOKENS || result.comments.len() >= limits::TOKENS {
            result.cut_at = Some(start);
            break;
        }
        let token = match token {
            Ok(token) => token,
            Err(()) => {
                // One token for a whole run of bytes that mean nothing.
                while let Some((_, next)) =
                    raw.next_if(|(next, at)| next.is_err() && at.start == end as usize)
                {
                    end = next.end as u32;
                }
                Token::Unknown(&text[start as usize..end as usize])
            }
        };
        match token {
            Token::Newline => {
                line_is_blank = true;
                if place.lines_matter() {
                    pending.get_or_insert((start, end));
                }
                continue;
            }
            Token::Comment(comment) => {
                let text = comment.trim_end().to_string();
                result.comments.push(Comment { start, text, own_line: line_is_blank });
                continue;
            }
            Token::Semicolon => {
                line_is_blank = false;
                pending.get_or_insert((start, end));
                continue;
            }
            _ => {}
        }
        place.enter(token, line_is_blank);
        line_is_blank = false;
        if let Some((from, to)) = pending.take() {
            // Before an item's keyword a brace is missing, and the parser had better say that.
            let needless = token == Token::BraceClose
                || (place.braces == 0 && text[from as usize..].starts_with('\n'))
                || matches!(
                    result.tokens.last(),
                    None | Some((_, Token::BraceOpen | Token::Separator | Token::Doc(_), _))
                );
            if !needless {
                result.tokens.push((from, Token::Separator, to));
            }
        }
        result.tokens.push((start, token, end));
    }
    result
}

/// Where in the source we are, as far as line ends are concerned.
#[derive(Default)]
struct Place {
    in_pipe: bool,
    braces: u32,
    nested: u32,
}

impl Place {
    fn lines_matter(&self) -> bool {
        self.in_pipe && self.braces > 0 && self.nested == 0
    }

    fn enter(&mut self, token: Token<'_>, first_on_line: bool) {
        match token {
            // An item's keyword at the start of a line begins an item even if a brace is missing before it,
            // so that one mistake does not swallow the rest of the file.
            Token::Pipe | Token::Pipeline | Token::Layout | Token::Frame | Token::Test | Token::Use
                if first_on_line || self.braces == 0 =>
            {
                *self = Place { in_pipe: token == Token::Pipe, ..Place::default() };
            }
            Token::Table if self.braces == 0 => *self = Place::default(),
            Token::BraceOpen => self.braces = self.braces.saturating_add(1),
            Token::BraceClose => {
                self.braces = self.braces.saturating_sub(1);
                self.nested = 0;
            }
            Token::ParenOpen | Token::BracketOpen => self.nested = self.nested.saturating_add(1),
            Token::ParenClose | Token::BracketClose => self.nested = self.nested.saturating_sub(1),
            _ => {}
        }
    }
}
