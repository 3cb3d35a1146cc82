//! Files with several names in an image: their contents are there once, and every way to read gives them by
//! each name.

mod common;

use common::{open, reseal_with};
use fsstack::format::inode;
use fsstack::format::superblock::{LINKS, SectionKind};
use fsstack::fs::{Access, LazyEntry, LazyImage};
use fsstack::image::build::{BuildError, BuildOptions, Builder, Mtime};
use fsstack::image::check::check;
use fsstack::{Image, OpenError, OpenOptions};
use runtime::buffer::Slice;
use std::fs;
use std::sync::Arc;

const NAMES: [&str; 4] = ["z/first", "a", "b/c/deep", "z/last"];

fn contents(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 7) >> 3) as u8).collect()
}

/// A file by all of [`NAMES`], an empty one by two, and others between.
fn image() -> Vec<u8> {
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    let mtime = Mtime { seconds: 77, nanoseconds: 1 };
    let file = |builder: &mut Builder<_>, path: &str, len| {
        builder.file(path.as_bytes(), mtime, &mut &contents(len)[..], |_| b"head".to_vec()).unwrap();
    };
    file(&mut builder, "z/first", 40_000);
    builder.link(b"z/first", b"a").unwrap();
    file(&mut builder, "z/between", 300);
    // By way of another name, and in a folder that is made for it.
    builder.link(b"a", b"b/c/deep").unwrap();
    builder.link(b"z/first", b"z/last").unwrap();
    file(&mut builder, "empty", 0);
    builder.link(b"empty", b"also-empty").unwrap();
    builder.group(b"a");
    let (device, summary) = builder.finish().unwrap();
    assert_eq!((summary.files, summary.content_bytes), (7, 40_300));
    device.into_bytes()
}

#[test]
fn each_name_gives_the_same_file() {
    assert_eq!(image(), image(), "equal calls, equal bytes");
    let image = open(image()).unwrap();
    assert!(image.superblock().has_links());
    assert_eq!(image.superblock().content_bytes, 40_300);
    let first = image.lookup("a").unwrap();
    for name in NAMES {
        let inode = image.lookup(name).unwrap();
        assert_eq!(inode.path(), name.as_bytes());
        // The first of them in the order of the inodes, by whichever it was given.
        assert_eq!(inode.first_name().id(), first.id());
        assert_eq!(inode.read(0, usize::MAX).unwrap(), contents(40_000));
        assert_eq!(inode.app().unwrap(), b"head");
        assert_eq!((inode.mtime().seconds, inode.content_crc()), (77, first.content_crc()));
        assert!(inode.stored_sums(0).unwrap().is_some());
    }
    let between = image.lookup("z/between").unwrap();
    assert_eq!(between.first_name().id(), between.id());
    let empty = image.lookup("empty").unwrap();
    assert_eq!(image.lookup("also-empty").unwrap().first_name().id(), empty.first_name().id());
    let report = check(&image, |_| {});
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.files, report.content_bytes), (7, 40_300));
}

#[test]
fn however_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    fs::write(&path, image()).unwrap();
    for (access, verify) in [(Access::Blocks, false), (Access::Blocks, true), (Access::Map, false)] {
        let options = OpenOptions { access, verify, ..OpenOptions::default() };
        let image = Image::open(&path, &options).unwrap();
        let lazy = Arc::new(LazyImage::open(&path, &options).unwrap().unwrap());
        for name in NAMES {
            let inode = image.lookup(name).unwrap();
            assert_eq!(inode.app().unwrap(), b"head");
            let Some(LazyEntry::File(file)) = lazy.find(name.as_bytes()).unwrap() else { panic!("{name}") };
            assert_eq!((file.app(), file.size()), (&b"head"[..], 40_000));
            let whole = |fetch: &dyn Fn(u64) -> Slice| {
                let mut bytes = Vec::new();
                while bytes.len() < 40_000 {
                    bytes.extend_from_slice(fetch(bytes.len() as u64).bytes());
                }
                bytes
            };
            assert!(whole(&|at| inode.fetch(at, usize::MAX).unwrap()) == contents(40_000), "{name}");
            assert!(whole(&|at| file.fetch(at, usize::MAX).unwrap()) == contents(40_000), "{name}");
        }
        assert!(check(&image, |_| {}).is_clean());
    }
}

#[test]
fn names_of_nothing_and_names_that_are_there_are_refused() {
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    builder.file(b"d/a", Mtime::default(), &mut &b"x"[..], |_| Vec::new()).unwrap();
    let clash = |result| matches!(result, Err(BuildError::Clash { .. }));
    assert!(clash(builder.link(b"b", b"c")));
    assert!(clash(builder.link(b"d", b"c")));
    assert!(clash(builder.link(b"d/a", b"d/a")));
    assert!(clash(builder.link(b"d/a", b"d")));
    assert!(clash(builder.link(b"d/a", b"d/a/b")));
    assert!(matches!(builder.link(b"d/a", b"../c"), Err(BuildError::Path { .. })));
    let image = open(builder.finish().unwrap().0.into_bytes()).unwrap();
    assert!(!image.superblock().has_links(), "readers that know of none can read it");
}

/// Changes an inode of a sound image, makes all checksums fit, and opens it.
fn forged(
    name: &str,
    change: impl FnOnce(&mut inode::Record),
    without_feature: bool,
) -> Result<Image, OpenError> {
    let mut bytes = image();
    let sound = open(bytes.clone()).unwrap();
    let mut superblock = sound.superblock().clone();
    let number = sound.lookup(name).unwrap().id().index();
    let at = superblock.section(SectionKind::Inodes).offset as usize + number * inode::BYTES;
    let mut record = inode::Record::decode(&bytes[at..at + inode::BYTES]).unwrap();
    assert!(record.same_as.is_some(), "{name} is not the first name");
    change(&mut record);
    record.encode(&mut bytes[at..at + inode::BYTES]);
    if without_feature {
        superblock.features &= !LINKS;
    }
    reseal_with(&mut bytes, &mut superblock);
    let opened = open(bytes.clone());
    // Read lazily, it gives an error or some file, and never panics.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    fs::write(&path, bytes).unwrap();
    if let Ok(Some(lazy)) = LazyImage::open(&path, &OpenOptions::default()) {
        let found = Arc::new(lazy).find(name.as_bytes());
        assert_eq!(found.is_err(), opened.is_err(), "{found:?}");
    }
    opened
}

#[test]
fn names_that_do_not_fit_their_file_are_refused() {
    assert!(forged("z/last", |_| {}, false).is_ok());
    let refused = |change: &dyn Fn(&mut inode::Record)| {
        let error = forged("z/last", change, false).unwrap_err().to_string();
        assert!(error.contains("first name"), "{error}");
    };
    refused(&|record| record.same_as = Some(u32::MAX));
    // The root, and another name.
    refused(&|record| record.same_as = Some(0));
    refused(&|record| record.same_as = Some(record.same_as.unwrap() + 1));
    refused(&|record| record.size -= 1);
    refused(&|record| record.first += 1);
    refused(&|record| record.aux_offset += 8);
    refused(&|record| record.mtime_s += 1);
    let error = forged("z/last", |_| {}, true).unwrap_err().to_string();
    assert!(error.contains("kind"), "{error}");
}

#[test]
fn a_flipped_byte_of_the_metadata_is_found() {
    let bytes = image();
    let start = open(bytes.clone()).unwrap().superblock().data_end() as usize;
    for i in start..bytes.len() - 4096 {
        let mut damaged = bytes.clone();
        damaged[i] ^= 1 << (i % 8);
        if let Ok(image) = open(damaged) {
            for name in NAMES {
                assert_eq!(image.lookup(name).unwrap().read(0, usize::MAX).unwrap(), contents(40_000));
            }
        }
    }
}
