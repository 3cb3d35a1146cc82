//! Scrubbing finds what was damaged, in images and in logs, and nothing else.

mod common;

use std::fs;
use std::path::Path;

use common::{build, tree};
use fsstack::OpenOptions;
use fsstack::format::BadImage;
use fsstack::format::page_sums::PAGE_BYTES;
use fsstack::image::build::{BuildOptions, Mtime};
use fsstack::log::{Contents, Log};
use fsstack::scrub::Scrub;
use proptest::prelude::*;

/// How much was compared, and what was found.
fn scrub(path: &Path) -> (u64, Vec<BadImage>) {
    let mut scrub = Scrub::begin(path).unwrap();
    let (mut bytes, mut damages) = (0, Vec::new());
    while let Some(step) = scrub.step().unwrap() {
        assert!(step.bytes > 0 && step.bytes <= Scrub::STEP_BYTES);
        bytes += step.bytes;
        damages.extend(step.damages);
    }
    (bytes, damages)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_is_found_with_its_files(tree in tree(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.img");
        let mut bytes = build(&BuildOptions::default(), &tree);
        fs::write(&path, &bytes).unwrap();
        let image = fsstack::Image::open(&path, &OpenOptions::default()).unwrap();
        let end = image.superblock().summed_end();
        prop_assert_eq!(scrub(&path), (end - PAGE_BYTES, Vec::new()));
        let at = PAGE_BYTES + at.index((end - PAGE_BYTES) as usize) as u64;
        bytes[at as usize] ^= 1 << bit;
        fs::write(&path, &bytes).unwrap();
        let (_, damages) = scrub(&path);
        prop_assert_eq!(damages.len(), 1);
        prop_assert_eq!(damages[0].offset, at / PAGE_BYTES * PAGE_BYTES);
        let holds_it = |inode: &fsstack::Inode<'_>| {
            inode.extents().iter().any(|extent| (extent.offset..extent.offset + extent.len).contains(&at))
        };
        if let Some(inode) = image.inodes().find(holds_it) {
            let name = format!("`{}`", inode.path().escape_ascii());
            let what = &damages[0].what;
            prop_assert!(what.contains(&name) || what.contains("and others"), "{} {}", what, name);
        }
    }
}

#[test]
fn every_segment_of_a_log_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.img");
    let mut log = Log::create(&path, &OpenOptions::default()).unwrap();
    let mut marks = Vec::new();
    for salt in 1..=3u8 {
        let bytes: Vec<u8> =
            (0..40_000).map(|i: u32| (i.wrapping_mul(salt.into()) >> 3) as u8 ^ salt).collect();
        marks.push(bytes[20_000..20_032].to_vec());
        log.put(&[b'a' + salt], Mtime::default(), Contents::from(bytes), &[]).unwrap();
        log.sync().unwrap();
    }
    let (compared, damages) = scrub(&path);
    assert!(damages.is_empty() && compared > 120_000, "{compared} {damages:?}");
    for mark in marks {
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(mark.len()).position(|of| of == mark).unwrap();
        bytes[at] ^= 8;
        fs::write(&path, &bytes).unwrap();
        let (again, damages) = scrub(&path);
        assert_eq!((again, damages.len()), (compared, 1), "{damages:?}");
        bytes[at] ^= 8;
        fs::write(&path, &bytes).unwrap();
    }
}
