//! A page beside what it embeds (S1, "Server Operating Systems", section 4.3): one read of the disk brings
//! all of it.

use std::fs::File;
use std::io::{self, Read};

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{Token, Tokenizer};
use rustc_hash::FxHashMap;

use super::{Group, Layout};
use crate::http::coding::Coding;
use crate::http::target;
use crate::site::pack::Tree;

/// Of a page, so many bytes are looked at.
const MAX_PAGE_BYTES: u64 = 4 << 20;

/// Longer files are read for who asks for them, and for nobody else.
const MAX_EMBEDDED_BYTES: u64 = 256 << 10;

/// Of all files of a group together.
const MAX_GROUP_BYTES: u64 = 1 << 20;

/// By pages: each with the images, scripts, styles and icons that it embeds. What several pages embed lies
/// with the first; what lies beside a file in a coding lies behind it.
#[derive(Clone, Copy, Debug, Default)]
pub struct HtmlGroups;

impl Layout for HtmlGroups {
    fn groups(&self, tree: &Tree) -> io::Result<Vec<Group>> {
        let places = tree.places();
        let mut groups = Vec::new();
        for (at, page) in tree.items.iter().enumerate() {
            if page.is_directory || !is_page(&page.path) {
                continue;
            }
            let mut html = Vec::new();
            // What cannot be read is left out when it is packed, and told there.
            let Ok(file) = File::open(&page.source) else { continue };
            if file.take(MAX_PAGE_BYTES).read_to_end(&mut html).is_err() {
                continue;
            }
            let mut group = Group { files: vec![at], is_wanted_together: true };
            let mut bytes = page.size;
            for path in embedded(&html, &page.path) {
                let Some(&item) = places.get(&path[..]) else { continue };
                let size = tree.items[item].size;
                if size > MAX_EMBEDDED_BYTES || bytes + size > MAX_GROUP_BYTES || group.files.contains(&item)
                {
                    continue;
                }
                bytes += size;
                group.files.push(item);
            }
            if group.files.len() > 1 {
                group.files = with_codings(tree, &places, &group.files);
                groups.push(group);
            }
        }
        Ok(groups)
    }
}

/// Each file, and behind it what it is in other codings.
fn with_codings(tree: &Tree, places: &FxHashMap<&[u8], usize>, files: &[usize]) -> Vec<usize> {
    let beside = |item: usize| {
        let path = &tree.items[item].path;
        Coding::ALL
            .into_iter()
            .filter_map(move |coding| places.get(&[path, coding.suffix().as_bytes()].concat()[..]).copied())
    };
    files.iter().flat_map(|&item| std::iter::once(item).chain(beside(item))).collect()
}

fn is_page(path: &[u8]) -> bool {
    [&b".html"[..], b".htm", b".xhtml"].iter().any(|ending| path.ends_with(ending))
}

/// The paths of what the page at `page` embeds, in the order in which a browser comes across them; of this
/// site, as far as can be told.
fn embedded(html: &[u8], page: &[u8]) -> Vec<Vec<u8>> {
    let mut emitter = DefaultEmitter::<()>::default();
    emitter.naively_switch_states(true);
    let mut base: Option<Vec<u8>> = None;
    let mut paths: Vec<Vec<u8>> = Vec::new();
    for Ok(token) in Tokenizer::new_with_emitter(html, emitter) {
        let Token::StartTag(tag) = token else { continue };
        let attribute = |name: &str| tag.attributes.get(name.as_bytes()).map(|value| &value.value[..]);
        let mut urls: Vec<&[u8]> = Vec::new();
        match &tag.name[..] {
            b"base" if base.is_none() => {
                base = attribute("href").and_then(|href| resolve(href, page));
            }
            b"img" | b"source" => {
                urls.extend(attribute("src"));
                urls.extend(attribute("srcset").map(candidates).unwrap_or_default());
            }
            b"script" => urls.extend(attribute("src")),
            b"input" if attribute("type").is_some_and(|kind| kind.eq_ignore_ascii_case(b"image")) => {
                urls.extend(attribute("src"));
            }
            b"video" => urls.extend(attribute("poster")),
            b"link" if attribute("rel").is_some_and(is_embedding) => urls.extend(attribute("href")),
            _ => {}
        }
        let base = base.as_deref().unwrap_or(page);
        paths.extend(urls.into_iter().filter_map(|url| resolve(url, base)));
    }
    paths
}

/// Whether what a link of this kind leads to is fetched with the page.
fn is_embedding(rel: &[u8]) -> bool {
    let kinds = [&b"stylesheet"[..], b"icon", b"preload", b"modulepreload"];
    rel.split(u8::is_ascii_whitespace).any(|word| kinds.iter().any(|kind| word.eq_ignore_ascii_case(kind)))
}

/// The addresses of a `srcset`, without what each is for.
fn candidates(srcset: &[u8]) -> Vec<&[u8]> {
    let words = srcset.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    words
        .filter_map(|word| word.split(u8::is_ascii_whitespace).next())
        .filter(|url| !url.is_empty())
        .collect()
}

/// The path that an address leads to from the page or folder at `base`, without its leading slash; `None` if
/// it leads to another host, or to nothing that is a path.
fn resolve(url: &[u8], base: &[u8]) -> Option<Vec<u8>> {
    let url = std::str::from_utf8(url.trim_ascii()).ok()?;
    let url = url.split(['#', '?']).next()?;
    let scheme = url.split('/').next()?;
    if url.is_empty() || url.starts_with("//") || scheme.contains(':') {
        return None;
    }
    let folder = &base[..base.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1)];
    let absolute = match url.strip_prefix('/') {
        Some(rest) => format!("/{rest}"),
        None => {
            let mut escaped = Vec::new();
            target::escape(folder, &mut escaped);
            format!("/{}{url}", String::from_utf8(escaped).ok()?)
        }
    };
    // As a browser would ask for it, so that what the server makes of it is what lies there.
    let mut scratch = Vec::new();
    let path = target::resolve(&absolute, &mut scratch).ok()?.path;
    path.strip_prefix(b"/").map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(html: &str, page: &str) -> Vec<String> {
        let paths = embedded(html.as_bytes(), page.as_bytes());
        paths.into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
    }

    #[test]
    fn what_a_browser_fetches_with_a_page_is_found() {
        let html = "<!doctype html><LINK REL='shortcut ICON' href=/i.ico><link rel=stylesheet href='s.css?v=3'>\
                    <link rel=canonical href=/no><script src=../j.js></script><script>'<img src=no.png>'</script>\
                    <!-- <img src=no.png> --><img src=\"a%20b.png#x\" srcset='c.png 1x, /d/e.png 2x,'>\
                    <picture><source srcset=f.webp></picture><input type=IMAGE src=g.gif><input src=no.gif>\
                    <video poster=p.jpg src=no.mp4></video><a href=no.html><img alt='>' src=&#104;.png>";
        let found = [
            "i.ico",
            "docs/s.css",
            "j.js",
            "docs/a b.png",
            "docs/c.png",
            "d/e.png",
            "docs/f.webp",
            "docs/g.gif",
            "docs/p.jpg",
            "docs/h.png",
        ];
        assert_eq!(of(html, "docs/x.html"), found);
    }

    #[test]
    fn addresses_of_others_are_left_alone() {
        let html = "<img src=http://a/b.png><img src=//a/b.png><img src=data:image/png;base64,AA><img src><img src=''>\
                    <img src='/%00'><img src=/../../etc/passwd>";
        assert!(of(html, "x.html").is_empty(), "above the root there is nothing either");
        assert_eq!(
            of("<base href=/deep/er/><img src=a.png><base href=/><img src=../b.png>", "x.html"),
            ["deep/er/a.png", "deep/b.png"]
        );
    }
}
