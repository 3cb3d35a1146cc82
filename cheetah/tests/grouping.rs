//! Pages that lie with what they embed are read with it: counted in readings of the device.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cheetah::site::layout::LayoutName;
use cheetah::site::pack::{self, PackOptions};
use cheetah::site::{LazySite, Site};
use cheetah::store::{Dotfiles, Found, Store};
use fsstack::OpenOptions;
use fsstack::cache::FileCache;
use fsstack::device::MemoryDevice;
use fsstack::fs::Access;
use runtime::stats::work::{Quantity, Work};

const PAGES: usize = 40;
const IMAGES: usize = 8;

/// Whatever the alphabet puts beside it belongs to other pages.
fn image_name(page: usize, image: usize) -> String {
    format!("img/{:08x}.png", (page * IMAGES + image) as u32 ^ 0x5bd1_e995_u32.wrapping_mul(image as u32 + 1))
}

fn contents(seed: usize, len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_add(seed as u32).wrapping_mul(2_654_435_761) >> 17) as u8).collect()
}

/// Pages of some kilobytes with images of six to thirteen.
fn site(folder: &Path) -> PathBuf {
    let site = folder.join("site");
    fs::create_dir_all(site.join("img")).unwrap();
    for page in 0..PAGES {
        let mut html = format!("<!doctype html><title>{page}</title>");
        for image in 0..IMAGES {
            let name = image_name(page, image);
            html += &format!("<p><img src=\"{name}\" alt=\"{image}\">");
            fs::write(site.join(name), contents(page * 100 + image, 6000 + image * 1000)).unwrap();
        }
        html += &"<p>words and words".repeat(200);
        fs::write(site.join(format!("page{page:02}.html")), html).unwrap();
    }
    site
}

fn packed(site: &Path, layout: LayoutName) -> Vec<u8> {
    let tree = pack::walk(site, Dotfiles::default()).unwrap();
    let options = PackOptions { layout, ..PackOptions::default() };
    pack::pack(&tree, MemoryDevice::new(), &options, |_, _| {}).unwrap().0.into_bytes()
}

fn read_all(store: &dyn Store, path: &str) -> Vec<u8> {
    let Found::File(document) = store.find(path.as_bytes()) else { panic!("no {path}") };
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < document.facts().size {
        bytes.extend_from_slice(document.fetch(bytes.len() as u64).unwrap().bytes());
    }
    bytes
}

/// What a browser asks for, in a cache that has nothing of it; and how many readings of the device that took.
fn readings(store: &dyn Store, site: &Path, page: usize) -> u64 {
    let before = Work::of_this_thread();
    let paths = (0..IMAGES).map(|image| image_name(page, image));
    for path in std::iter::once(format!("page{page:02}.html")).chain(paths) {
        assert!(read_all(store, &format!("/{path}")) == fs::read(site.join(&path)).unwrap(), "{path}");
    }
    Work::of_this_thread().since(&before)[Quantity::BlockReads]
}

fn options(groups: bool) -> OpenOptions {
    let cache = Some(Arc::new(FileCache::new(8 << 20)));
    OpenOptions { access: Access::Blocks, groups, cache, ..OpenOptions::default() }
}

#[test]
fn a_page_and_what_it_embeds_are_one_reading() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path());
    let (by_name, by_page) = (folder.path().join("name.img"), folder.path().join("html.img"));
    fs::write(&by_name, packed(&site, LayoutName::Name)).unwrap();
    fs::write(&by_page, packed(&site, LayoutName::Html)).unwrap();
    let of = |image: &Path, groups| {
        let store = Site::open_with(image, &options(groups)).unwrap();
        readings(&store, &site, 17)
    };
    let (grouped, apart, ungrouped) = (of(&by_page, true), of(&by_page, false), of(&by_name, true));
    println!(
        "readings of a page with {IMAGES} images: grouped {grouped}, lying together {apart}, by name {ungrouped}"
    );
    assert_eq!(grouped, 1);
    assert!(ungrouped >= 3 * grouped && ungrouped > apart, "{ungrouped}, {apart}");
    // Looked up on the disk, too: the tables are elsewhere.
    let of = |image: &Path, groups| {
        let store = LazySite::open_any(image, &options(groups)).unwrap().unwrap();
        readings(&store, &site, 17)
    };
    let (grouped, apart, ungrouped) = (of(&by_page, true), of(&by_page, false), of(&by_name, true));
    println!("with the tables: grouped {grouped}, lying together {apart}, by name {ungrouped}");
    assert!(grouped < apart && apart < ungrouped, "{grouped}, {apart}, {ungrouped}");
}

/// Whatever the order, all is there, once, with its head; and packing is deterministic.
#[test]
fn every_layout_has_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path());
    fs::write(site.join("page03.html.gz"), b"not looked into").unwrap();
    let log = folder.path().join("log");
    let line = |path: &str| format!("::1 - - [x] \"GET {path} HTTP/1.1\" 200 5 \"-\" \"-\"\n");
    fs::write(
        &log,
        [line("/page05.html"), line("/page03.html.gz"), line("/page03.html.gz"), line("/none")].concat(),
    )
    .unwrap();
    let layouts = [LayoutName::Name, LayoutName::Html, LayoutName::Size, LayoutName::Log(log.clone())];
    let types: Vec<_> = layouts
        .iter()
        .map(|layout| {
            let image = packed(&site, layout.clone());
            assert!(image == packed(&site, layout.clone()), "{layout:?}");
            let store = Site::from_bytes(image).unwrap();
            for page in 0..PAGES {
                assert_eq!(readings(&store, &site, page), 0, "in memory");
            }
            let Found::File(coded) = store.find(b"/page03.html.gz") else { panic!() };
            coded.facts().content_type.to_vec()
        })
        .collect();
    assert!(types.iter().all(|kind| *kind == types[0]), "typed by what it is of");
    let none = LayoutName::Log(folder.path().join("none"));
    let tree = pack::walk(&site, Dotfiles::default()).unwrap();
    let options = PackOptions { layout: none, ..PackOptions::default() };
    let error = pack::pack(&tree, MemoryDevice::new(), &options, |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("--layout"), "{error}");
}
