//! Who may change things: whoever has one of the tokens of a file.

use std::fmt;
use std::io;
use std::path::Path;

use blake3::Hash;

/// Shorter ones can be tried out.
const MIN_BYTES: usize = 16;

/// The tokens that are good. Only hashes of them are kept, which are compared in constant time.
#[derive(Clone, Debug)]
pub struct Tokens {
    hashes: Vec<Hash>,
}

/// Why a file of tokens is of no use.
#[derive(Debug)]
pub enum TokenError {
    /// It cannot be read.
    Read(io::Error),
    /// A line has fewer characters than a token needs, or others than may stand in a field.
    Unfit {
        /// Its number, from 1.
        line: usize,
    },
    /// There is none.
    Empty,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Read(error) => error.fmt(f),
            TokenError::Unfit { line } => write!(
                f,
                "line {line} is no token: give at least {MIN_BYTES} letters, digits or any of - . _ ~ + / ="
            ),
            TokenError::Empty => f.write_str("there is no token in it: write one a line"),
        }
    }
}

impl core::error::Error for TokenError {}

impl Tokens {
    /// Reads a file with one token a line.
    ///
    /// # Errors
    /// If it cannot be read, or a line is no token, or there is none.
    pub fn load(path: &Path) -> Result<Tokens, TokenError> {
        Tokens::parse(&std::fs::read(path).map_err(TokenError::Read)?)
    }

    /// The tokens in a text, one a line.
    ///
    /// # Errors
    /// If a line is no token, or there is none.
    pub fn parse(text: &[u8]) -> Result<Tokens, TokenError> {
        let mut hashes = Vec::new();
        for (i, line) in text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).enumerate() {
            if line.is_empty() {
                continue;
            }
            // `b64token` of RFC 6750 section 2.1.
            let is_fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
            if line.len() < MIN_BYTES || !line.iter().all(is_fit) {
                return Err(TokenError::Unfit { line: i + 1 });
            }
            hashes.push(blake3::hash(line));
        }
        if hashes.is_empty() { Err(TokenError::Empty) } else { Ok(Tokens { hashes }) }
    }

    /// Whether an `Authorization` field bears one of them (RFC 6750 section 2.1). How long that takes says
    /// nothing of how much of a token was right.
    pub fn allow(&self, authorization: &[u8]) -> bool {
        let Some((scheme, token)) = authorization.split_at_checked(6) else { return false };
        if !scheme.eq_ignore_ascii_case(b"bearer") || !token.starts_with(b" ") {
            return false;
        }
        let hash = blake3::hash(token.trim_ascii());
        // All are compared, each by `Hash`'s comparison, which takes constant time.
        self.hashes.iter().fold(false, |found, good| found | (*good == hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_one_is_let_in() {
        let tokens = Tokens::parse(b"0123456789abcdef\n\n  another-token-of-mine+/== \r\n").unwrap();
        for (field, good) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer  another-token-of-mine+/==", true),
            ("Bearer 0123456789abcdeg", false),
            ("Bearer 0123456789abcde", false),
            ("Bearer0123456789abcdef", false),
            ("Bearer", false),
            ("Bearer ", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
            ("", false),
        ] {
            assert_eq!(tokens.allow(field.as_bytes()), good, "{field}");
        }
    }

    #[test]
    fn what_is_no_token_is_told_by_its_line() {
        assert!(matches!(Tokens::parse(b"\n \n"), Err(TokenError::Empty)));
        assert!(matches!(Tokens::parse(b"0123456789abcdef\nshort"), Err(TokenError::Unfit { line: 2 })));
        assert!(matches!(Tokens::parse(b"with a space in its middle"), Err(TokenError::Unfit { line: 1 })));
    }
}
