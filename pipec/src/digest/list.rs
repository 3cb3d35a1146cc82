//! Lists of checksums, one file a line, as `cksum`, the `*sum` tools, `xxhsum`, RHash, BSD's and OpenSSL's
//! tools write them, and SFV. The format of each line is detected by itself:
//!
//! ```text
//! SHA256 (NAME) = DIGEST      a tag: BSD, `cksum`, `rhash --bsd`; `SHA256(NAME)= DIGEST` of OpenSSL
//! DIGEST  NAME                `sha256sum` and RHash; `*` for the second blank, or one blank alone (`md5 -r`)
//! NUMBER SIZE NAME            `cksum` and `sum`
//! NAME  DIGEST  DIGEST        RHash with several digests
//! NAME DIGEST                 SFV, the digest a CRC-32; comments begin with `;`
//! ```
//!
//! Without a tag the digest is known by its length alone, unless the caller says which ones may be meant.

use super::algorithm::{Algorithm, Classic};
use super::name;
use super::value::Value;
use pipe_lib::Library;
use std::io::{self, BufRead, Read as _};
use std::path::PathBuf;

/// Longest line: a path of 4 KB with every byte written out, and every digest, are far below.
pub(crate) const LINE_BYTES: usize = 1 << 16;

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Nothing: blank, or a comment.
    Nothing,
    /// No format that is known.
    Improper,
    Entry(Entry),
}

/// What a file's digests should come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) expected: Vec<(Algorithm, Value)>,
}

/// Which digest a value without a tag is of, by its number of bytes.
const BY_LENGTH: [(usize, &str); 8] = [
    (4, "crc32"),
    (8, "xxh64"),
    (16, "md5"),
    (20, "sha1"),
    (28, "sha224"),
    (32, "sha256"),
    (48, "sha384"),
    (64, "sha512"),
];

/// A name as the line has it, and what its digests should come to.
type Found<'l> = (&'l [u8], Vec<(Algorithm, Value)>);

/// How lists are read.
pub(crate) struct Parser<'a> {
    pub(crate) library: &'a Library,
    /// Digests that the caller has named: values without tags are of these.
    pub(crate) named: &'a [Algorithm],
}

/// The lines of a list, each of bounded length.
pub(crate) fn lines(from: impl BufRead) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    let mut from = from;
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match from.by_ref().take(LINE_BYTES as u64 + 1).read_until(b'\n', &mut line) {
            Err(error) => return Some(Err(error)),
            Ok(0) => return None,
            Ok(_) => {}
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() > LINE_BYTES {
            // The rest of it is no line of its own.
            if let Err(error) = skip_line(&mut from) {
                return Some(Err(error));
            }
        }
        Some(Ok(line))
    })
}

fn skip_line(from: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = from.fill_buf()?;
        let (len, ends) = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        from.consume(len);
        if ends {
            return Ok(());
        }
    }
}

impl Parser<'_> {
    /// What a line, without its line feed, says.
    pub(crate) fn line(&self, line: &[u8]) -> Line {
        if line.len() > LINE_BYTES {
            return Line::Improper;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(u8::is_ascii_whitespace) || matches!(line[0], b'#' | b';') {
            return Line::Nothing;
        }
        let (line, is_escaped) = line.strip_prefix(b"\\").map_or((line, false), |line| (line, true));
        let found = self
            .tagged(line)
            .or_else(|| self.digest_first(line))
            .or_else(|| self.classic(line))
            .or_else(|| self.digest_and_one_blank(line))
            .or_else(|| self.name_first(line));
        let Some((name, expected)) = found.filter(|(name, _)| !name.is_empty() && !name.contains(&0)) else {
            return Line::Improper;
        };
        let name = if is_escaped { name::unescaped(name) } else { Some(name.to_vec()) };
        name.map_or(Line::Improper, |name| Line::Entry(Entry { path: name::path(name), expected }))
    }

    /// `TAG (NAME) = DIGEST`.
    fn tagged<'l>(&self, line: &'l [u8]) -> Option<Found<'l>> {
        const MAX_TAG: usize = 32;
        let open = line.iter().take(MAX_TAG).position(|&byte| byte == b'(')?;
        let tag = std::str::from_utf8(line[..open].trim_ascii_end()).ok()?;
        // The last that there is: names may have them, digests not.
        let close = line.windows(2).rposition(|pair| matches!(pair, b") " | b")="))?;
        let digest = line[close + 1..].trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
        let algorithm = self.of_tag(tag)?;
        let value = Value::parse(digest, &algorithm)?;
        Some((line.get(open + 1..close)?, vec![(algorithm, value)]))
    }

    fn of_tag(&self, tag: &str) -> Option<Algorithm> {
        let named = self.named.iter().find(|algorithm| algorithm.tag.eq_ignore_ascii_case(tag));
        named.cloned().or_else(|| Algorithm::known(tag, self.library))
    }

    /// `DIGEST  NAME`, or `*` for the second blank.
    fn digest_first<'l>(&self, line: &'l [u8]) -> Option<Found<'l>> {
        let (digest, name) = line.split_at(line.iter().position(|&byte| byte == b' ')?);
        let name = name.strip_prefix(b"  ").or_else(|| name.strip_prefix(b" *"))?;
        Some((name, vec![self.untagged(digest)?]))
    }

    /// `DIGEST NAME`.
    fn digest_and_one_blank<'l>(&self, line: &'l [u8]) -> Option<Found<'l>> {
        let at = line.iter().position(|&byte| byte == b' ')?;
        Some((&line[at + 1..], vec![self.untagged(&line[..at])?]))
    }

    /// `NUMBER SIZE NAME`: BSD's has five digits and a size of five places, the others have neither.
    fn classic<'l>(&self, line: &'l [u8]) -> Option<Found<'l>> {
        let at = line.iter().position(|&byte| byte == b' ')?;
        let (digits, rest) = line.split_at(at);
        let padded = rest.iter().position(|&byte| byte != b' ')?;
        let (_, size) = rest.split_at(padded);
        let end = size.iter().position(|&byte| byte == b' ')?;
        if end == 0 || !size[..end].iter().all(u8::is_ascii_digit) {
            return None;
        }
        let is_bsd = digits.len() == 5 && padded - 1 + end >= 5;
        let fits = |classic| match classic {
            Classic::Bsd => is_bsd,
            Classic::Cksum | Classic::Sysv => padded == 1,
        };
        let mut named = self.named.iter().filter(|algorithm| algorithm.classic.is_some()).peekable();
        let algorithm = if named.peek().is_some() {
            named.find(|algorithm| algorithm.classic.is_some_and(fits))?.clone()
        } else if is_bsd {
            Algorithm::known("bsd", self.library)?
        } else {
            Algorithm::known("cksum", self.library).filter(|_| padded == 1)?
        };
        let value = Value::parse(digits, &algorithm).filter(|_| digits.iter().all(u8::is_ascii_digit))?;
        Some((&size[end + 1..], vec![(algorithm, value)]))
    }

    /// `NAME  DIGEST  DIGEST`, or `NAME DIGEST`.
    fn name_first<'l>(&self, line: &'l [u8]) -> Option<Found<'l>> {
        let mut rest = line.trim_ascii_end();
        let mut expected = Vec::new();
        while let Some(at) = rest.windows(2).rposition(|pair| pair == b"  ")
            && let Some(found) = self.untagged(&rest[at + 2..])
        {
            expected.insert(0, found);
            rest = rest[..at].trim_ascii_end();
        }
        if expected.is_empty() {
            let at = rest.iter().rposition(|&byte| byte == b' ')?;
            // A tag that nobody knows is no name.
            if rest[..at].trim_ascii_end().ends_with(b") =") {
                return None;
            }
            expected.push(self.untagged(&rest[at + 1..])?);
            rest = rest[..at].trim_ascii_end();
        }
        Some((rest, expected))
    }

    /// A value that says no more than its length.
    fn untagged(&self, text: &[u8]) -> Option<(Algorithm, Value)> {
        let mut named = self.named.iter().filter(|algorithm| algorithm.classic.is_none());
        if let Some(found) = named.find_map(|algorithm| Some((algorithm, Value::parse(text, algorithm)?))) {
            return Some((found.0.clone(), found.1));
        }
        if !text.iter().all(u8::is_ascii_hexdigit) || !text.len().is_multiple_of(2) {
            return None;
        }
        let (_, name) = BY_LENGTH.iter().find(|(bytes, _)| *bytes == text.len() / 2)?;
        let algorithm = Algorithm::known(name, self.library)?;
        let value = Value::parse(text, &algorithm)?;
        Some((algorithm, value))
    }
}

#[cfg(test)]
mod tests;
