//! Trees to build images from, and what is seen of an image, to compare with.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

pub mod crash;
pub mod script;

use fsstack::device::DeviceMut;
use fsstack::format::sums::crc32c;
use fsstack::format::superblock::{SectionKind, Superblock};
use fsstack::image::build::{BuildOptions, Builder, Mtime};
use fsstack::{Image, OpenOptions};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    pub content: Vec<u8>,
    pub app: Vec<u8>,
    pub mtime: Mtime,
}

/// Files by path. Paths that lie below another file's are left out by `tree`.
pub type Tree = BTreeMap<Vec<u8>, FileSpec>;

pub fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => "[a-c]{1,2}".prop_map(String::into_bytes),
        2 => prop::collection::vec((1u8..=255).prop_filter("slash", |byte| *byte != b'/'), 1..6),
        1 => prop::collection::vec(b'x'..=b'z', 255),
    ]
    .prop_filter("dots", |name| name != b"." && name != b"..")
}

pub fn file() -> impl Strategy<Value = FileSpec> {
    let content = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..1500),
        // Large enough for a block of its own; the bytes follow from a seed.
        1 => (16_000usize..300_000, any::<u64>()).prop_map(|(len, seed)| {
            (0..len as u64).map(|i| ((i ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
        }),
    ];
    let mtime = (any::<i64>(), 0u32..1_000_000_000);
    (content, prop::collection::vec(any::<u8>(), 0..400), mtime).prop_map(
        |(content, app, (seconds, nanoseconds))| FileSpec {
            content,
            app,
            mtime: Mtime { seconds, nanoseconds },
        },
    )
}

pub fn tree() -> impl Strategy<Value = Tree> {
    let path = prop::collection::vec(name(), 1..5).prop_map(|names| names.join(&b'/'));
    prop::collection::btree_map(path, file(), 0..24).prop_map(|files| {
        let below_a_file =
            |path: &[u8]| (1..path.len()).any(|i| path[i] == b'/' && files.contains_key(&path[..i]));
        files.iter().filter(|(path, _)| !below_a_file(path)).map(|(p, f)| (p.clone(), f.clone())).collect()
    })
}

pub fn build_on<D: DeviceMut>(device: D, options: &BuildOptions, tree: &Tree) -> D {
    let mut builder = Builder::new(device, options).unwrap();
    for (path, file) in tree {
        builder.file(path, file.mtime, &mut &file.content[..], |_| file.app.clone()).unwrap();
    }
    builder.finish().unwrap().0
}

pub fn build(options: &BuildOptions, tree: &Tree) -> Vec<u8> {
    build_on(fsstack::device::MemoryDevice::new(), options, tree).into_bytes()
}

pub fn open(bytes: Vec<u8>) -> Result<Image, fsstack::OpenError> {
    Image::from_bytes(bytes, &OpenOptions::default())
}

/// A change of a section's byte: which section, where in it, the value, and what of it is taken.
pub type Change = (usize, prop::sample::Index, u8, usize);

/// An image with changed metadata and valid checksums.
pub fn with_changes(mut image: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    let mut superblock = open(image.clone()).unwrap().superblock().clone();
    for (section, at, value, kind) in changes {
        let section = superblock.sections[section];
        if section.len == 0 {
            continue;
        }
        let at = section.offset as usize + at.index(section.len as usize);
        image[at] = match kind {
            0 => value,
            1 => 0xff,
            2 => image[at].wrapping_add(1),
            _ => image[at].wrapping_sub(1),
        };
    }
    reseal_with(&mut image, &mut superblock);
    image
}

/// Gives a forged image valid checksums again, those of pages of the metadata included: what an attacker
/// would do.
pub fn reseal_with(bytes: &mut [u8], superblock: &mut Superblock) {
    let sums = superblock.section(SectionKind::PageSums).offset;
    // None, if they do not lie in the image.
    let sums = if sums < bytes.len() as u64 { sums } else { 0 };
    for page in superblock.data_end() / 4096..sums / 4096 {
        let (at, entry) = (4096 * page as usize, sums as usize + 4 * (page as usize).saturating_sub(1));
        if let Some(sum) = bytes.get(at..at.saturating_add(4096)).map(|page| crc32c(0, page))
            && let Some(to) = bytes.get_mut(entry..entry + 4)
        {
            to.copy_from_slice(&sum.to_le_bytes());
        }
    }
    for section in &mut superblock.sections {
        let from = section.offset as usize;
        if let Some(table) = bytes.get(from..).and_then(|rest| rest.get(..section.len as usize)) {
            section.crc = crc32c(0, table);
        }
    }
    let block = superblock.encode();
    let copy_at = bytes.len() - block.len();
    bytes[copy_at..].copy_from_slice(&block[..]);
    bytes[..block.len()].copy_from_slice(&block[..]);
}

/// Every file as read back, extent by extent; `None` if anything cannot be read.
pub fn dump(image: &Image) -> Option<Tree> {
    let files = image.inodes().filter(|inode| inode.is_file());
    files
        .map(|inode| {
            let mut content = Vec::new();
            while (content.len() as u64) < inode.size() {
                let bytes =
                    inode.fetch(content.len() as u64, 1 << 20).ok().filter(|bytes| !bytes.is_empty())?;
                content.extend_from_slice(bytes.bytes());
            }
            let app = inode.app().ok()?.to_vec();
            Some((inode.path().to_vec(), FileSpec { content, app, mtime: inode.mtime() }))
        })
        .collect()
}
