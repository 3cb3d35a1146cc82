//! The media type of a file, and the coding that it is kept in: by its name, and by whether its contents are
//! text.

use super::coding::Coding;

/// The media type of a file called `name`. `is_utf8_text` tells what its contents looked like, if anyone
/// looked: text in another encoding is not called UTF-8, and a file without an extension (`README`) is text
/// if it reads like text.
pub fn content_type(name: &[u8], is_utf8_text: Option<bool>) -> String {
    let name = String::from_utf8_lossy(name);
    let guess = mime_guess::from_path(&*name).first();
    match guess {
        Some(mime) if mime.type_() == mime_guess::mime::TEXT && is_utf8_text != Some(false) => {
            format!("{}; charset=utf-8", mime.essence_str())
        }
        Some(mime) => mime.essence_str().to_owned(),
        None if is_utf8_text == Some(true) => "text/plain; charset=utf-8".to_owned(),
        None => "application/octet-stream".to_owned(),
    }
}

/// The coding of a file called `name`, and the name that its contents would have without it: `page.html.br`,
/// `logo.svgz`. What is an archive to people (`x.tar.gz`), or has no type without the suffix, has none: it is
/// sent as it lies.
pub fn coding(name: &[u8]) -> Option<(Coding, Vec<u8>)> {
    if let Some(stem) = name.strip_suffix(b".svgz") {
        return Some((Coding::Gzip, [stem, b".svg"].concat()));
    }
    let (coding, stem) = Coding::ALL
        .into_iter()
        .find_map(|coding| Some((coding, name.strip_suffix(coding.suffix().as_bytes())?)))?;
    is_worth_coding(stem).then(|| (coding, stem.to_vec()))
}

/// Whether contents of a file called `name` are such that a coding makes them shorter: text, and what is text
/// in a wide sense; not what is compressed by itself.
pub fn is_worth_coding(name: &[u8]) -> bool {
    let Some(mime) = mime_guess::from_path(&*String::from_utf8_lossy(name)).first() else { return false };
    let is_text_inside = mime.suffix().is_some_and(|suffix| suffix == "xml" || suffix == "json");
    match (mime.type_().as_str(), mime.subtype().as_str()) {
        ("text", _) => true,
        ("application", "json" | "javascript" | "xml" | "wasm" | "rtf" | "x-sh") => true,
        ("image", "bmp" | "x-icon" | "vnd.microsoft.icon") | ("font", "ttf" | "otf") => true,
        _ => is_text_inside,
    }
}

/// Whether [`content_type`] depends on what the contents of a file called `name` look like.
pub(crate) fn text_matters(name: &[u8]) -> bool {
    let guess = mime_guess::from_path(&*String::from_utf8_lossy(name)).first();
    guess.is_none_or(|mime| mime.type_() == mime_guess::mime::TEXT)
}

/// Whether a file that begins with `bytes`, or has no more if they are `all`, looks like text in UTF-8.
pub(crate) fn begins_like_text(bytes: &[u8], all: bool) -> bool {
    let mut text = TextCheck::default();
    text.push(bytes);
    text.so_far && (!all || text.is_whole())
}

/// Looks whether bytes that go by are text: valid UTF-8 without control characters that text does not have.
#[derive(Clone, Debug)]
pub(crate) struct TextCheck {
    so_far: bool,
    /// The beginning of a character whose end has not come yet.
    partial: Vec<u8>,
}

impl Default for TextCheck {
    fn default() -> TextCheck {
        TextCheck { so_far: true, partial: Vec::new() }
    }
}

impl TextCheck {
    /// The next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.so_far {
            let is_plain = |&b: &u8| b >= b' ' || matches!(b, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
            self.so_far = bytes.iter().all(is_plain) && self.is_utf8_so_far(bytes);
        }
    }

    /// Whether all that went by is text, if nothing follows.
    pub(crate) fn is_whole(&self) -> bool {
        self.so_far && self.partial.is_empty()
    }

    fn is_utf8_so_far(&mut self, mut bytes: &[u8]) -> bool {
        // Finish the character that the last chunk cut.
        while !self.partial.is_empty() {
            let Some((&next, rest)) = bytes.split_first() else { return true };
            self.partial.push(next);
            bytes = rest;
            match std::str::from_utf8(&self.partial) {
                Ok(_) => self.partial.clear(),
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                self.partial.extend_from_slice(&bytes[error.valid_up_to()..]);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn media_types() {
        for (name, is_text, expected) in [
            ("index.html", Some(true), "text/html; charset=utf-8"),
            ("old.html", Some(false), "text/html"),
            ("style.css", Some(true), "text/css; charset=utf-8"),
            ("logo.svg", Some(true), "image/svg+xml"),
            ("main.js", Some(true), "text/javascript; charset=utf-8"),
            ("photo.JPG", Some(false), "image/jpeg"),
            ("font.woff2", Some(false), "font/woff2"),
            ("README", Some(true), "text/plain; charset=utf-8"),
            ("README", Some(false), "application/octet-stream"),
            ("data.unknown-ext", None, "application/octet-stream"),
        ] {
            assert_eq!(content_type(name.as_bytes(), is_text), expected, "{name}");
        }
    }

    #[test]
    fn codings() {
        for (name, expected) in [
            ("a.html.br", Some((Coding::Brotli, "a.html"))),
            ("a.js.gz", Some((Coding::Gzip, "a.js"))),
            ("a.json.zst", Some((Coding::Zstd, "a.json"))),
            ("feed.atom.gz", Some((Coding::Gzip, "feed.atom"))),
            ("logo.svgz", Some((Coding::Gzip, "logo.svg"))),
            ("a.tar.gz", None),
            ("a.gz", None),
            ("a.png.gz", None),
            ("a.docx.gz", None),
            ("a.html", None),
            (".br", None),
            ("", None),
        ] {
            let expected = expected.map(|(coding, stem)| (coding, stem.as_bytes().to_vec()));
            assert_eq!(coding(name.as_bytes()), expected, "{name}");
        }
    }

    proptest! {
        /// However the contents are cut into chunks, they are text or not.
        #[test]
        fn text_is_text_in_any_chunks(text in "\\PC{0,20}", junk in proptest::collection::vec(any::<u8>(), 0..4),
                                      cuts in proptest::collection::vec(1usize..5, 1..20)) {
            let bytes = [text.as_bytes(), &junk].concat();
            let naive = std::str::from_utf8(&bytes).is_ok()
                && bytes.iter().all(|&b| b >= 32 || b"\t\n\r\x0c\x1b".contains(&b));
            let mut check = TextCheck::default();
            let mut rest = &bytes[..];
            for &cut in cuts.iter().cycle() {
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                check.push(chunk);
                rest = after;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(check.is_whole(), naive);
        }
    }
}
