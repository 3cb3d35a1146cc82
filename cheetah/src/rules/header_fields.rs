//! `_headers`: fields that responses bear, by path.
//!
//! ```text
//!   # a comment
//!   /assets/*
//!     Cache-Control: public, max-age=31536000, immutable
//! ```
//!
//! All patterns that fit a request's path count, in the order of the file.

use std::str::FromStr;

use super::pattern::Pattern;

/// Fields by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderFields {
    blocks: Vec<Block>,
    /// Media types by what names end with, the longest first.
    types: Vec<MediaType>,
}

/// The media type of files whose names end so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    ending: String,
    name: String,
}

impl FromStr for MediaType {
    type Err = String;

    /// Reads `.ending=type/subtype`.
    fn from_str(text: &str) -> Result<MediaType, String> {
        let wrong = || format!("`{text}`: give an ending and a media type, as in .gltf=model/gltf+json");
        let (ending, name) = text.split_once('=').ok_or_else(wrong)?;
        let essence = name.split(';').next().unwrap_or_default();
        let is_token = |part: &str| !part.is_empty() && part.bytes().all(may_be_in_name);
        let is_type =
            essence.split_once('/').is_some_and(|(kind, sub)| is_token(kind) && is_token(sub.trim_end()));
        if !is_type || ending.len() < 2 || !ending.starts_with('.') || ending.contains('/') {
            return Err(wrong());
        }
        check("Content-Type", name)?;
        Ok(MediaType { ending: ending.to_owned(), name: name.to_owned() })
    }
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
    pub(super) const NONE: HeaderFields = HeaderFields { blocks: Vec::new(), types: Vec::new() };

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
        Ok(HeaderFields { blocks, types: Vec::new() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.types.is_empty()
    }

    /// Says media types by endings; what the site's own file says of a path comes before.
    pub fn set_types(&mut self, types: &[MediaType]) {
        self.types = types.to_vec();
        self.types.sort_by_key(|of| std::cmp::Reverse(of.ending.len()));
    }

    /// Writes the fields of a response to who asked for `path`.
    pub fn write(&self, path: &[u8], out: &mut Vec<u8>) {
        for block in self.fitting(path) {
            out.extend_from_slice(&block.lines);
        }
    }

    /// The media type of what is at `path`, if one is said; the last one that is.
    pub fn content_type(&self, path: &[u8]) -> Option<&[u8]> {
        let said = self.fitting(path).filter_map(|block| block.content_type.as_deref()).last();
        said.or_else(|| {
            let of = self.types.iter().find(|of| path.ends_with(of.ending.as_bytes()))?;
            Some(of.name.as_bytes())
        })
    }

    fn fitting(&self, path: &[u8]) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |block| block.pattern.matches(path))
    }
}

/// What a token is made of (RFC 9110 section 5.6.2).
fn may_be_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a field can be sent (RFC 9110 sections 5.1 and 5.5) and is for a site to say.
fn check(name: &str, value: &str) -> Result<(), String> {
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
    fn types_go_by_the_longest_ending_and_after_what_a_path_says() {
        let mut fields = HeaderFields::parse("/a.x\n  Content-Type: text/own\n").unwrap();
        let types = [".x=application/x", ".tar.x=application/tar-x; a=b"].map(|text| text.parse().unwrap());
        fields.set_types(&types);
        for (path, expected) in [
            ("/a.x", Some("text/own")),
            ("/b/c.x", Some("application/x")),
            ("/b.tar.x", Some("application/tar-x; a=b")),
            ("/b.y", None),
            ("/x", None),
        ] {
            assert_eq!(fields.content_type(path.as_bytes()), expected.map(str::as_bytes), "{path}");
        }
        assert!(!fields.is_empty());
        for bad in ["x=a/b", ".x", ".x=a", ".x=a/", ".=a/b", ".x=a b/c", "./x=a/b", ".x=a/b;\u{7}"] {
            assert!(bad.parse::<MediaType>().is_err(), "{bad}");
        }
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
