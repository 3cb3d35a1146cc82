//! Pages that lie with what they embed are read with it: counted in readings of the device.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cheetah::http::response::Status;
use cheetah::site::layout::LayoutName;
use cheetah::site::pack::{self, PackOptions};
use cheetah::site::{LazySite, Site};
use cheetah::store::{Dotfiles, Folder, Found, Store};
use fsstack::OpenOptions;
use fsstack::cache::FileCache;
use fsstack::cache::misses::{MissPolicy, Missed, ReadAhead};
use fsstack::cache::policy::PolicyName;
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

/// Blocks of a page's neighbours are blocks of the page, too, where they meet. Of a group, what lies from the
/// file on that is asked for and is missing, up to 2 MiB or a quarter of the cache, is one reading.
#[test]
fn what_is_missing_of_a_group_is_one_reading() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path());
    let image = folder.path().join("html.img");
    fs::write(&image, packed(&site, LayoutName::Html)).unwrap();
    let store = || Site::open_with(&image, &options(true)).unwrap();
    for page in 1..PAGES - 1 {
        let store = store();
        readings(&store, &site, page - 1);
        readings(&store, &site, page + 1);
        assert_eq!(readings(&store, &site, page), 1, "page {page} between its neighbours");
    }
    let store = store();
    let before = Work::of_this_thread();
    for image in 2..IMAGES {
        read_all(&store, &format!("/{}", image_name(7, image)));
    }
    assert_eq!(Work::of_this_thread().since(&before)[Quantity::BlockReads], 1, "images without their page");
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
    assert!(error.to_string().contains("what lies together cannot be told"), "{error}");
}

/// Reads groups as they were packed, and takes each block of them for itself when something has to go.
#[derive(Debug)]
struct Apart;

impl MissPolicy for Apart {
    fn read_end(&self, missed: &Missed) -> u64 {
        missed.group_end
    }

    fn unit_end(&self, _missed: &Missed) -> u64 {
        0
    }
}

/// Pages by Zipf's law, in a cache of a fifth of the site: readings of the device a page.
fn readings_of_many(image: &Path, policy: PolicyName, are_units: bool) -> (f64, u64) {
    let cache = FileCache::with_policy(768 << 10, policy);
    let cache = Arc::new(if are_units { cache } else { cache.with_misses(Apart) });
    let options =
        OpenOptions { access: Access::Blocks, cache: Some(Arc::clone(&cache)), ..OpenOptions::default() };
    let store = Site::open_with(image, &options).unwrap();
    let (mut state, views) = (1u64, 1500);
    let before = Work::of_this_thread();
    for _ in 0..views {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        // Page `i` is asked for about `1 / (i + 1)` as often as page 0.
        let page = ((PAGES as f64 + 1.0).powf((state >> 11) as f64 / (1u64 << 53) as f64) - 1.0) as usize;
        let paths = (0..IMAGES).map(|image| image_name(page, image));
        for path in std::iter::once(format!("page{page:02}.html")).chain(paths) {
            read_all(&store, &format!("/{path}"));
        }
    }
    (
        Work::of_this_thread().since(&before)[Quantity::BlockReads] as f64 / views as f64,
        cache.stats().given_up,
    )
}

#[test]
fn a_group_goes_and_stays_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path());
    let image = folder.path().join("html.img");
    fs::write(&image, packed(&site, LayoutName::Html)).unwrap();
    for policy in PolicyName::ALL {
        let ((whole, given_up), (apart, _)) =
            (readings_of_many(&image, policy, true), readings_of_many(&image, policy, false));
        println!("{}: readings a page {whole:.3} as units, {apart:.3} block by block", policy.as_str());
        assert!(given_up > 0 && whole < apart, "{}: {whole} {apart}", policy.as_str());
    }
}

/// Files that are no group are read ahead, if that is what is to be done.
#[test]
fn a_file_is_read_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    fs::create_dir(&site).unwrap();
    let (big, next) = (contents(1, 400_000), contents(2, 100_000));
    fs::write(site.join("a"), &big).unwrap();
    fs::write(site.join("b"), &next).unwrap();
    let image = folder.path().join("name.img");
    fs::write(&image, packed(&site, LayoutName::Name)).unwrap();
    let readings = |store: &dyn Store, path: &str, bytes: &[u8]| {
        let before = Work::of_this_thread();
        assert!(read_all(store, path) == bytes);
        let work = Work::of_this_thread().since(&before);
        (work[Quantity::BlockReads], work[Quantity::BlocksRead])
    };
    for ahead in [0, 7] {
        let cache = || FileCache::new(8 << 20).with_misses(ReadAhead(ahead));
        let options = OpenOptions { cache: Some(Arc::new(cache())), ..options(true) };
        let packed = Site::open_with(&image, &options).unwrap();
        let folder = Folder::open_with(&site, Dotfiles::default(), cache()).unwrap();
        for (store, is_packed) in [(&packed as &dyn Store, true), (&folder, false)] {
            for (path, bytes) in [("/a", &big), ("/b", &next)] {
                let (of_file, blocks) = readings(store, path, bytes);
                let (all, expected) = (bytes.len().div_ceil(16_384) as u64, blocks.div_ceil(ahead + 1));
                assert!((all - 1..=all + 1).contains(&blocks), "{blocks}: no more than the file has");
                // The beginning of a packed one comes by one reading anyway.
                let begins_at_once = ahead == 0 && is_packed;
                assert!(of_file == expected || begins_at_once && of_file < expected, "{of_file} {expected}");
            }
        }
    }
}

/// Head and body lie together: with the tables at hand, a file that is not in memory is one reading, up to 64
/// KiB of it.
#[test]
fn a_cold_file_is_one_reading_head_and_body() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    fs::create_dir(&site).unwrap();
    let sizes = [1, 700, 5_000, 16_000, 16_384, 20_000, 33_333, 50_000, 61_440];
    let name = |size: usize, at: usize| format!("{at}-{size}");
    for (seed, size) in sizes.into_iter().enumerate() {
        for at in 0..3 {
            fs::write(site.join(name(size, at)), contents(seed * 8 + at, size)).unwrap();
            // Nobody asks for what lies in between.
            fs::write(site.join(name(size, at) + "~"), contents(seed, 70_000)).unwrap();
        }
    }
    for name in ["!", "~"] {
        fs::write(site.join(name), contents(0, 200_000)).unwrap();
    }
    let image = folder.path().join("name.img");
    fs::write(&image, packed(&site, LayoutName::Name)).unwrap();
    let store = LazySite::open_any(&image, &options(true)).unwrap().unwrap();
    // First and last, so that both blocks of the tables are there.
    assert!(["/!", "/~"].iter().all(|path| matches!(store.find(path.as_bytes()), Found::File(_))));
    for size in sizes {
        for at in 0..3 {
            let path = format!("/{}", name(size, at));
            let before = Work::of_this_thread();
            let Found::File(document) = store.find(path.as_bytes()) else { panic!("no {path}") };
            assert!(document.ready_head(Status::Ok).is_some());
            drop(document);
            assert_eq!(read_all(&store, &path).len(), size);
            let readings = Work::of_this_thread().since(&before)[Quantity::BlockReads];
            assert_eq!(readings, 1, "{path}");
        }
    }
}
