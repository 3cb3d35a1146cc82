//! Which media types a client would have (RFC 9110 section 12.5.1), as far as there is a choice here: a page,
//! or its text in Markdown (RFC 7763), which programs that read ask for.

use super::coding;

/// Whether who sent this `Accept` field would have Markdown rather than HTML: it names it, and likes it no
/// less. Whoever takes anything is a browser, and wants the page.
pub fn prefers_markdown(field: &[u8]) -> bool {
    let mut markdown = None;
    // By how particularly it was named: `*/*`, `text/*`, `text/html`.
    let mut html = [None; 3];
    for element in field.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
        let mut parts = element.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let kind = parts.next().unwrap_or_default();
        let quality = parts.find_map(coding::quality).unwrap_or(1000);
        let is = |name: &str| kind.eq_ignore_ascii_case(name.as_bytes());
        if is("text/markdown") {
            markdown.get_or_insert(quality);
        }
        if let Some(at) = ["*/*", "text/*", "text/html"].into_iter().position(is) {
            html[at].get_or_insert(quality);
        }
    }
    let html = html.into_iter().rev().flatten().next().unwrap_or(0);
    markdown.is_some_and(|markdown| markdown > 0 && markdown >= html)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table() {
        for (field, expected) in [
            ("", false),
            ("*/*", false),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
            ("text/markdown", true),
            ("Text/Markdown, */*", true),
            ("text/markdown, text/html;q=0.9, */*;q=0.1", true),
            ("text/markdown;q=0.8, text/html", false),
            ("text/markdown;variant=GFM;q=0.8, text/html;q=0.7", true),
            ("text/markdown;q=0.5, text/*;q=0.6, */*", false),
            ("text/markdown;q=0.5, */*;q=0.5", true),
            ("text/markdown;q=0", false),
            ("text/markdown;q=nonsense", true),
            ("text/markdownish", false),
            ("text/html, text/markdown", true),
        ] {
            assert_eq!(prefers_markdown(field.as_bytes()), expected, "{field}");
        }
    }

    proptest! {
        #[test]
        fn any_field_is_read(field: Vec<u8>) {
            let _ = prefers_markdown(&field);
        }
    }
}
