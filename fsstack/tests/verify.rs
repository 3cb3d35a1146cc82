//! Reads that compare each page with its sum; and images of version 1, which have none.

mod common;

use common::{FileSpec, Tree, build, dump, tree};
use fsstack::format::page_sums::PAGE_BYTES;
use fsstack::fs::{Access, LazyImage};
use fsstack::image::build::{BuildOptions, Mtime};
use fsstack::image::check::check;
use fsstack::{Image, Inode, OpenError, OpenOptions, ReadError};
use proptest::prelude::*;
use std::fs;

fn verifying() -> OpenOptions {
    OpenOptions { verify: true, ..OpenOptions::default() }
}

fn contents(inode: Inode<'_>) -> Result<Vec<u8>, ReadError> {
    let mut all = Vec::new();
    while (all.len() as u64) < inode.size() {
        all.extend_from_slice(inode.fetch(all.len() as u64, usize::MAX)?.bytes());
    }
    Ok(all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// One bit of the data region is wrong: who needs that page is told so, with the file and the page, and
    /// nobody gets a wrong byte; who does not need it is served, from the same block of the cache too.
    #[test]
    fn a_flipped_bit_is_never_read(tree in tree(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.img");
        let mut bytes = build(&BuildOptions::default(), &tree);
        fs::write(&path, &bytes).unwrap();
        let image = Image::open(&path, &verifying()).unwrap();
        prop_assert!(!image.is_resident());
        prop_assert_eq!(dump(&image), Some(tree.clone()));
        let data = 4096..image.superblock().data_end();
        prop_assume!(!data.is_empty());
        let at = data.start + at.index((data.end - data.start) as usize) as u64;
        bytes[at as usize] ^= 1 << bit;
        fs::write(&path, &bytes).unwrap();
        let page = at / PAGE_BYTES * PAGE_BYTES;
        let image = Image::open(&path, &verifying()).unwrap();
        for (name, file) in &tree {
            let inode = image.lookup(name).unwrap();
            let needs_it = inode.extents().iter().any(|extent| {
                extent.offset < page + PAGE_BYTES && page < extent.offset + extent.len
            });
            match contents(inode) {
                Ok(found) => prop_assert!(!needs_it && found == file.content),
                Err(ReadError::Bad(bad)) => {
                    prop_assert!(needs_it && bad.offset == page, "{}", bad);
                    prop_assert!(bad.what.contains(&*String::from_utf8_lossy(name)), "{}", bad);
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
        // And whoever checks the image as a whole finds it, wherever it is.
        let unverified = Image::open(&path, &OpenOptions::default()).unwrap();
        for image in [&image, &unverified] {
            let report = check(image, |_| {});
            prop_assert!(!report.is_clean());
        }
    }
}

/// Made by the version of this crate that wrote version 1.
const VERSION_1: &[u8] = include_bytes!("data/version1.img");

fn of_version_1() -> Tree {
    let file = |content: &[u8]| {
        let mtime = Mtime { seconds: 1_000_000_000, nanoseconds: 0 };
        FileSpec { content: content.into(), app: Vec::new(), mtime }
    };
    [
        ("index.html", &b"<p>hello"[..]),
        ("docs/a.txt", &[b'a'; 1300]),
        ("docs/b", &[0, 255, 10]),
        ("docs/empty", b""),
    ]
    .map(|(path, content)| (path.as_bytes().to_vec(), file(content)))
    .into()
}

fn without_areas(image: &Image) -> Tree {
    let mut tree = dump(image).unwrap();
    tree.values_mut().for_each(|file| file.app.clear());
    tree
}

#[test]
fn version_1_is_read_and_cannot_be_verified() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.img");
    fs::write(&path, VERSION_1).unwrap();
    for access in [Access::Copy, Access::Blocks, Access::Map] {
        let image = Image::open(&path, &OpenOptions { access, ..OpenOptions::default() }).unwrap();
        assert_eq!(image.superblock().version, 1);
        assert_eq!(without_areas(&image), of_version_1());
        assert!(check(&image, |_| {}).is_clean());
        assert!(image.lookup("index.html").unwrap().app().unwrap().starts_with(b"HHD1"));
    }
    let refused = Image::open(&path, &verifying()).unwrap_err();
    assert!(matches!(refused, OpenError::NoPageSums));
    assert!(refused.to_string().contains("pack it again"), "{refused}");
}

/// Made by the version of this crate that wrote version 2.
const VERSION_2: &[u8] = include_bytes!("data/version2.img");

#[test]
fn version_2_is_read_and_verified_but_not_lazily() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.img");
    fs::write(&path, VERSION_2).unwrap();
    for options in [OpenOptions::default(), verifying()] {
        let image = Image::open(&path, &options).unwrap();
        assert_eq!(image.superblock().version, 2);
        assert_eq!(without_areas(&image), of_version_1());
        assert!(check(&image, |_| {}).is_clean());
        assert!(LazyImage::open(&path, &options).unwrap().is_none());
    }
}

#[test]
fn each_flipped_byte_of_version_1_is_found_or_harmless() {
    let (mut refused, mut reported, mut harmless) = (0, 0, 0);
    for i in 0..VERSION_1.len() {
        let mut damaged = VERSION_1.to_vec();
        damaged[i] ^= 1 << (i % 8);
        match Image::from_bytes(damaged, &OpenOptions::default()) {
            Err(OpenError::Bad(_)) => refused += 1,
            Err(other) => panic!("byte {i}: {other}"),
            Ok(image) if !check(&image, |_| {}).is_clean() => reported += 1,
            Ok(image) => {
                assert_eq!(without_areas(&image), of_version_1(), "byte {i}");
                harmless += 1;
            }
        }
    }
    assert!(refused > 4096 && reported > 4096 && harmless > 0, "{refused} {reported} {harmless}");
}
