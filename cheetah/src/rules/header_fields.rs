//! `_headers`: fields that responses bear, by path.
//!
//! ```text
//!   # a comment
//!   /assets/*
//!     Cache-Control: public, max-age=31536000, immutable
//! ```
//!
//! All patterns that fit a request's path count, in the order of the file.

use super::pattern::Pattern;

/// Fields by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderFields {
    blocks: Vec<Block>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    pattern: Pattern,
    /// Lines of a head, each with its end.
    lines: Vec<u8>,
    content_type: Option<Box<[u8]>>,
}

/// Fields that say what is true of the message or the file, so nobody else can.
const OWN: [&str; 20] = [
    "Accept-Ranges",
    "Age",
    "Allow",
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "Date",
    "ETag",
    "Keep-Alive",
    "Last-Modified",
    "Location",
    "Server",
    "Status",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Vary",
    "Via",
];

impl HeaderFields {
    pub(super) const NONE: HeaderFields = HeaderFields { blocks: Vec::new() };

    /// Reads the file.
    ///
    /// # Errors
    /// The number of the first line that is wrong, and what to write instead.
    pub(super) fn parse(text: &str) -> Result<HeaderFields, (usize, String)> {
        let mut blocks: Vec<Block> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let error = |message: String| (i + 1, message);
            let (trimmed, is_indented) = (line.trim(), line.starts_with([' ', '\t']));
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            if !is_indented {
                let pattern = Pattern::parse(trimmed).map_err(error)?;
                blocks.push(Block { pattern, lines: Vec::new(), content_type: None });
                continue;
            }
            let Some(block) = blocks.last_mut() else {
                return Err(error("a field needs a path in a line above that is not indented".to_owned()));
            };
            if trimmed.starts_with('!') {
                return Err(error("fields cannot be taken away: give the paths that bear them".to_owned()));
            }
            let Some((name, value)) = trimmed.split_once(':') else {
                return Err(error(format!("`{trimmed}` is no field: write `Name: value`")));
            };
            let (name, value) = (name.trim(), value.trim());
            check(name, value).map_err(error)?;
            if name.eq_ignore_ascii_case("Content-Type") {
                block.content_type = Some(value.as_bytes().into());
            } else {
                block.lines.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
        Ok(HeaderFields { blocks })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Writes the fields of a response to who asked for `path`.
    pub fn write(&self, path: &[u8], out: &mut Vec<u8>) {
        for block in self.fitting(path) {
            out.extend_from_slice(&block.lines);
        }
    }

    /// The media type of what is at `path`, if one is said; the last one that is.
    pub fn content_type(&self, path: &[u8]) -> Option<&[u8]> {
        self.fitting(path).filter_map(|block| block.content_type.as_deref()).last()
    }

    fn fitting(&self, path: &[u8]) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |block| block.pattern.matches(path))
    }
}

/// Whether a field can be sent (RFC 9110 sections 5.1 and 5.5) and is for a site to say.
fn check(name: &str, value: &str) -> Result<(), String> {
    let may_be_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(may_be_in_name) {
        return Err(format!("`{name}` is no name of a field: letters, digits and `-`"));
    }
    if value.is_empty() || value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(format!("{name} has no value that could be sent"));
    }
    if let Some(own) = OWN.iter().find(|own| own.eq_ignore_ascii_case(name)) {
        return Err(format!("{own} is for the server to say: leave it out"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_fits_counts() {
        let text = "# of all\r\n/*\r\n  X-Frame-Options: DENY\n\n/a/*\n\tCache-Control:no-cache\n  Content-Type: text/x\n\
                    /a/b\n  X-B: 1:2\n  content-type: text/y; charset=utf-8";
        let fields = HeaderFields::parse(text).unwrap();
        let at = |path: &str| {
            let mut out = Vec::new();
            fields.write(path.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(at("/"), "X-Frame-Options: DENY\r\n");
        assert_eq!(at("/a/c"), "X-Frame-Options: DENY\r\nCache-Control: no-cache\r\n");
        assert_eq!(at("/a/b"), "X-Frame-Options: DENY\r\nCache-Control: no-cache\r\nX-B: 1:2\r\n");
        assert_eq!(fields.content_type(b"/b"), None);
        assert_eq!(fields.content_type(b"/a/c"), Some(&b"text/x"[..]));
        assert_eq!(fields.content_type(b"/a/b"), Some(&b"text/y; charset=utf-8"[..]));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, word) in [
            ("  X-A: 1", 1, "path"),
            ("/a\n  X-A", 2, "Name: value"),
            ("/a\n\n  X A: 1", 3, "no name"),
            ("/a\n  X-A:", 2, "no value"),
            ("/a\n  X-A: a\x01b", 2, "no value"),
            ("/a\n  content-length: 7", 2, "Content-Length is for the server"),
            ("/a\n  ! X-A", 2, "taken away"),
            ("/a\nb\n", 2, "slash"),
        ] {
            let (found, message) = HeaderFields::parse(text).unwrap_err();
            assert!(found == line && message.contains(word), "{text:?}: {found}, {message}");
        }
    }
}
