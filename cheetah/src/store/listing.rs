//! Pages that list what a folder without an index holds.

use std::cmp::Reverse;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fsstack::cache::BlockReader;

use super::{Found, Made, Store};
use crate::http::{date, target};
use crate::rules::Rules;

/// Most lines of a page: what a folder has beyond is left out, and said to be.
pub const MAX_LISTED: usize = 10_000;

/// A site's own style for listings, used if it is there.
const STYLE_PATH: &str = "/_listing.css";

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, which may be any bytes but slashes.
    pub name: Vec<u8>,
    /// Whether it is a folder.
    pub is_directory: bool,
    /// A file's size in bytes.
    pub size: u64,
    /// When it was last modified, in seconds since 1970.
    pub modified: u64,
}

/// A store whose folders without an index are answered with a list of what they hold.
#[derive(Debug)]
pub struct WithListings(Arc<dyn Store>);

impl WithListings {
    /// `store` with listings.
    pub fn new(store: Arc<dyn Store>) -> WithListings {
        WithListings(store)
    }

    fn page(&self, path: &[u8]) -> io::Result<Option<Made>> {
        let Some(listed) = self.0.list(path)? else { return Ok(None) };
        let has_style = matches!(self.0.find(STYLE_PATH.as_bytes()), Found::File(_));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let page = page(path, listed, has_style);
        Ok(Some(Made::new("text/html; charset=utf-8", page.into_bytes(), now)))
    }
}

impl Store for WithListings {
    fn look_up(&self, path: &[u8], reader: &BlockReader) -> Found {
        let found = self.0.look_up(path, reader);
        if !matches!(found, Found::Nothing) {
            return found;
        }
        if path.ends_with(b"/") {
            return match self.page(path) {
                Ok(Some(page)) => Found::File(Arc::new(page)),
                Ok(None) => Found::Nothing,
                Err(error) => {
                    tracing::warn!("{} cannot be listed: {error}", String::from_utf8_lossy(path));
                    Found::Failed(super::status_of(&error))
                }
            };
        }
        match self.0.list(&[path, b"/"].concat()) {
            Ok(Some(_)) => Found::Directory,
            Ok(None) | Err(_) => Found::Nothing,
        }
    }

    fn list(&self, path: &[u8]) -> io::Result<Option<Vec<Listed>>> {
        self.0.list(path)
    }

    fn rules(&self) -> &Rules {
        self.0.rules()
    }
}

/// Folders first, each kind by name.
fn page(path: &[u8], mut listed: Vec<Listed>, has_style: bool) -> String {
    listed.sort_by(|a, b| (Reverse(a.is_directory), &a.name).cmp(&(Reverse(b.is_directory), &b.name)));
    let is_cut = listed.len() > MAX_LISTED;
    listed.truncate(MAX_LISTED);
    let title = escape(&String::from_utf8_lossy(path));
    let style = if has_style {
        format!("<link rel=\"stylesheet\" href=\"{STYLE_PATH}\">")
    } else {
        "<style>:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:1.5rem auto;\
         padding:0 1rem}h1{font-size:1.25rem}table{border-collapse:collapse;width:100%}td{padding:.15rem .5rem;\
         border-top:1px solid #8884;white-space:nowrap}td:first-child{width:100%;white-space:normal;overflow-wrap:anywhere}\
         td:nth-child(2){text-align:right;font-variant-numeric:tabular-nums}a{text-decoration:none}</style>"
            .to_owned()
    };
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n{style}</head>\n<body><h1>{title}</h1>\n<table>\n"
    );
    if path != b"/" {
        out += "<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n";
    }
    for Listed { name, is_directory, size, modified } in &listed {
        let slash = if *is_directory { "/" } else { "" };
        let mut href = Vec::new();
        // Behind `./` a colon begins no scheme.
        target::escape(name, &mut href);
        let href = escape(&String::from_utf8_lossy(&href));
        let shown = escape(&String::from_utf8_lossy(name));
        let size = if *is_directory { String::new() } else { with_gaps(*size) };
        let modified = String::from_utf8_lossy(&date::format(*modified)).into_owned();
        out += &format!(
            "<tr><td><a href=\"./{href}{slash}\">{shown}{slash}</a></td><td>{size}</td><td>{modified}</td></tr>\n"
        );
    }
    out += "</table>\n";
    if is_cut {
        out += &format!("<p>There is more than the {MAX_LISTED} that are listed.</p>\n");
    }
    out + "</body></html>\n"
}

/// Digits in groups of three.
fn with_gaps(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, is_directory: bool) -> Listed {
        Listed { name: name.into(), is_directory, size: 1_234_567, modified: 0 }
    }

    #[test]
    fn names_cannot_be_more_than_names() {
        let names = ["<script>alert(1)</script>", "a&b", "\"'", "javascript:alert(1)", "x y%z?#", "ü"];
        let page = page(b"/<i>/", names.map(|name| listed(name, false)).to_vec(), false);
        assert!(!page.contains("<script>") && !page.contains("<i>"), "{page}");
        for part in [
            "href=\"./%3Cscript%3Ealert(1)%3C/script%3E\">&lt;script&gt;",
            "href=\"./a&amp;b\">a&amp;b<",
            "href=\"./%22&#39;\">&quot;&#39;<",
            "href=\"./javascript:alert(1)\"",
            "href=\"./x%20y%25z%3F%23\">x y%z?#<",
            "href=\"./%C3%BC\">ü<",
            "<td>1\u{202f}234\u{202f}567</td><td>Thu, 01 Jan 1970 00:00:00 GMT</td>",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
    }

    #[test]
    fn folders_come_first_and_pages_are_bounded() {
        let few = vec![listed("b", false), listed("c", true), listed("a", false), listed("z", true)];
        let page_of = |listed| page(b"/", listed, true);
        let few = page_of(few);
        let order: Vec<usize> = ["./c/", "./z/", "./a\"", "./b\""].map(|name| few.find(name).unwrap()).into();
        assert!(order.is_sorted() && !few.contains("../") && few.contains(STYLE_PATH), "{few}");
        let many = page_of((0..=MAX_LISTED).map(|i| listed(&format!("{i:05}"), false)).collect());
        assert!(many.contains("09999") && !many.contains("10000\"") && many.contains("more than"));
    }
}
