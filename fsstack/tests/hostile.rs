//! Damaged and hostile images: refused or harmless, never a panic, a loop or a large allocation.

mod common;

use common::{FileSpec, Tree, build, dump, open, reseal_with, tree, with_changes};
use fsstack::format::extent::{self, Extent};
use fsstack::format::inode;
use fsstack::format::superblock::SectionKind;
use fsstack::image::build::{BuildOptions, Mtime};
use fsstack::image::check::check;
use fsstack::{Image, OpenError, OpenOptions};
use proptest::prelude::*;

fn sample_tree() -> Tree {
    let file = |content: Vec<u8>| FileSpec {
        content,
        app: b"Content-Type: text/html\r\n".into(),
        mtime: Mtime::default(),
    };
    [
        ("index.html", file(b"<p>hello".to_vec())),
        ("docs/a.txt", file(vec![b'a'; 1300])),
        ("docs/deep/er/b.bin", file((0..=255).collect())),
        ("docs/empty", file(Vec::new())),
        ("zero", file(vec![0; 600])),
    ]
    .into_iter()
    .map(|(path, file)| (path.as_bytes().to_vec(), file))
    .collect()
}

/// Whatever the image says, using it ends and does not panic.
fn exercise(image: &Image) {
    let _ = dump(image);
    let _ = check(image, |_| {});
    for inode in image.inodes() {
        assert_eq!(image.lookup(inode.path()).map(|found| found.id()), Some(inode.id()));
        let _ = inode.piece(0, inode.size().min(1 << 20) as usize);
        let _ = inode.read(u64::MAX, usize::MAX);
        let _ = inode.piece(u64::MAX, usize::MAX);
        let _ = inode.fetch(u64::MAX, usize::MAX);
        let _ = inode.fetch(0, 0);
        assert!(inode.children().all(|child| child.parent().id() == inode.id()));
    }
}

#[test]
fn each_flipped_byte_is_found_or_harmless() {
    let tree = sample_tree();
    let bytes = build(&BuildOptions::default(), &tree);
    let (mut refused, mut reported, mut harmless) = (0, 0, 0);
    for i in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 1 << (i % 8);
        match open(damaged) {
            Err(OpenError::Bad(bad)) => {
                assert!(bad.offset < bytes.len() as u64, "{bad}");
                refused += 1;
            }
            Err(other) => panic!("byte {i}: {other}"),
            Ok(image) => {
                let report = check(&image, |_| {});
                if report.is_clean() {
                    assert_eq!(
                        dump(&image).as_ref(),
                        Some(&tree),
                        "byte {i} changed what is served, and nobody noticed"
                    );
                    harmless += 1;
                } else {
                    reported += 1;
                }
            }
        }
    }
    // The first block and the tables; contents, areas, sums and the copy; padding.
    assert!(refused > 4096 && reported > 4096 && harmless > 0, "{refused} {reported} {harmless}");
}

#[test]
fn no_byte_of_the_metadata_is_harmless() {
    let bytes = build(&BuildOptions::default(), &sample_tree());
    let superblock = open(bytes.clone()).unwrap().superblock().clone();
    let sections =
        superblock.sections.map(|section| section.offset as usize..(section.offset + section.len) as usize);
    for i in (0..4096).chain(sections.into_iter().flatten()) {
        let mut damaged = bytes.clone();
        damaged[i] ^= 0x10;
        assert!(matches!(open(damaged), Err(OpenError::Bad(_))), "byte {i}");
    }
}

#[test]
fn every_shorter_or_longer_image_is_refused() {
    let bytes = build(&BuildOptions::default(), &sample_tree());
    for len in 0..bytes.len() {
        assert!(matches!(open(bytes[..len].to_vec()), Err(OpenError::Bad(_))), "length {len}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(matches!(open(longer), Err(OpenError::Bad(_))));
}

#[test]
fn errors_name_the_offset_and_what_was_expected() {
    let bytes = build(&BuildOptions::default(), &sample_tree());
    let message = |i: usize| {
        let mut damaged = bytes.clone();
        damaged[i] ^= 0xff;
        open(damaged).unwrap_err().to_string()
    };
    let text = message(0);
    assert!(text.contains("offset 0 ") && text.contains("89 43 48 49 4d 47 0d 0a"), "{text}");
    let text = message(8);
    assert!(text.contains("offset 8 ") && text.contains("version: expected 1 to 3, found 252"), "{text}");
    let inodes = open(bytes.clone()).unwrap().superblock().section(SectionKind::Inodes).offset;
    let text = message(inodes as usize + 3);
    assert!(text.contains(&format!("offset {inodes} ")) && text.contains("inode table"), "{text}");
}

#[test]
fn metadata_beyond_the_limit_are_refused_before_they_are_read() {
    let bytes = build(&BuildOptions::default(), &sample_tree());
    let options = OpenOptions { max_metadata_bytes: 500, ..OpenOptions::default() };
    assert!(matches!(Image::from_bytes(bytes, &options), Err(OpenError::TooMuchMetadata { limit: 500, .. })));
}

/// Gives forged metadata valid checksums again: what an attacker would do.
fn reseal(bytes: &mut [u8]) {
    let superblock = open(bytes.to_vec()).map(|image| image.superblock().clone());
    let Ok(mut superblock) = superblock else { return };
    reseal_with(bytes, &mut superblock);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn forged_tables_with_valid_checksums_do_no_harm(
        tree in tree(),
        changes in prop::collection::vec((0usize..5, any::<prop::sample::Index>(), any::<u8>(), 0usize..4), 1..6),
    ) {
        let bytes = with_changes(build(&BuildOptions::default(), &tree), changes);
        if let Ok(image) = open(bytes) {
            exercise(&image);
        }
    }

    #[test]
    fn a_forged_superblock_with_a_valid_checksum_does_no_harm(
        tree in tree(),
        section in 0usize..5,
        offset in prop_oneof![any::<u64>(), 0u64..100_000, Just(u64::MAX)],
        len in prop_oneof![any::<u64>(), 0u64..100_000, Just(u64::MAX)],
        (max_probe, seed, content, sums) in (0u32..100, any::<u64>(), any::<u64>(), prop::sample::select(vec![0u32, 64, 512, 513])),
        what in 0u8..32,
    ) {
        let mut bytes = build(&BuildOptions::default(), &tree);
        let mut superblock = open(bytes.clone()).unwrap().superblock().clone();
        if what & 1 != 0 { superblock.sections[section].offset = offset; }
        if what & 2 != 0 { superblock.sections[section].len = len; }
        if what & 4 != 0 { superblock.max_probe = max_probe; }
        if what & 8 != 0 { superblock.hash_seed = seed; superblock.content_bytes = content; }
        if what & 16 != 0 { superblock.sum_block_bytes = sums; }
        reseal_with(&mut bytes, &mut superblock);
        if let Ok(image) = open(bytes) {
            exercise(&image);
        }
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..20_000), magic in any::<bool>()) {
        let mut bytes = bytes;
        if magic && bytes.len() > 16 {
            bytes[..12].copy_from_slice(b"\x89CHIMG\r\n\x01\0\0\0");
        }
        prop_assert!(matches!(open(bytes), Err(OpenError::Bad(_))));
    }
}

#[test]
fn resealing_alone_changes_nothing() {
    let bytes = build(&BuildOptions::default(), &sample_tree());
    let mut resealed = bytes.clone();
    reseal(&mut resealed);
    assert_eq!(bytes, resealed);
}

#[test]
fn a_directory_that_holds_itself_is_refused() {
    let mut bytes = build(&BuildOptions::default(), &sample_tree());
    let mut superblock = open(bytes.clone()).unwrap().superblock().clone();
    // The root's children now start at the root: `first` is the u32 at offset 8 of the record.
    let inodes = superblock.section(SectionKind::Inodes).offset as usize;
    bytes[inodes + 8..inodes + 12].fill(0);
    reseal_with(&mut bytes, &mut superblock);
    let error = open(bytes).unwrap_err().to_string();
    assert!(error.contains("inode 0, first child: expected 1, found 0"), "{error}");
}

/// The image with each file's record and first extent as `forge` leaves them, and valid checksums.
fn forged(forge: impl Fn(&mut inode::Record, &mut Extent, u64)) -> Result<Image, OpenError> {
    let mut bytes = build(&BuildOptions { sum_block_bytes: 0, ..BuildOptions::default() }, &sample_tree());
    let mut superblock = open(bytes.clone()).unwrap().superblock().clone();
    let data_end = superblock.data_end();
    let table = |kind| superblock.section(kind).offset as usize;
    let (inodes, extents) = (table(SectionKind::Inodes), table(SectionKind::Extents));
    let count = superblock.section(SectionKind::Inodes).len as usize / inode::BYTES;
    for i in 0..count {
        let at = inodes + i * inode::BYTES;
        let mut record = inode::Record::decode(&bytes[at..at + inode::BYTES]).unwrap();
        if record.kind != inode::Kind::File || record.count == 0 {
            continue;
        }
        let extent_at = extents + record.first as usize * extent::BYTES;
        let mut extent = Extent::decode(&bytes[extent_at..extent_at + extent::BYTES]);
        forge(&mut record, &mut extent, data_end);
        record.encode(&mut bytes[at..at + inode::BYTES]);
        extent.encode(&mut bytes[extent_at..extent_at + extent::BYTES]);
    }
    reseal_with(&mut bytes, &mut superblock);
    open(bytes)
}

#[test]
fn files_that_all_claim_the_whole_data_region_are_refused() {
    // Reading such an image through would take (files times size) work.
    let error = forged(|record, extent, data_end| {
        *extent = Extent { offset: 4096, len: data_end - 4096 };
        record.size = extent.len;
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("bytes of all runs: expected at most"), "{error}");
}

#[test]
fn a_file_in_too_many_pieces_is_refused() {
    let error = forged(|record, _, _| record.count = 257).unwrap_err().to_string();
    assert!(error.contains("extents: expected at most 256, found 257"), "{error}");
}
