//! Images whose metadata are read when they are used: the same answers as from one that was checked whole,
//! and none but errors from what is damaged.

mod common;

use common::{FileSpec, Tree, build, open, tree, with_changes};
use fsstack::cache::FileCache;
use fsstack::fs::{LazyChild, LazyEntry, LazyFile, LazyImage};
use fsstack::image::build::{BuildOptions, Builder, Mtime};
use fsstack::{OpenError, OpenOptions, ReadError};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

fn lazily(path: &Path, verify: bool) -> Result<Arc<LazyImage>, OpenError> {
    let cache = Some(Arc::new(FileCache::new(1 << 20)));
    let options = OpenOptions { verify, cache, ..OpenOptions::default() };
    Ok(Arc::new(LazyImage::open(path, &options)?.expect("of the newest version")))
}

fn contents(file: &LazyFile) -> Result<Vec<u8>, ReadError> {
    let mut all = Vec::new();
    while (all.len() as u64) < file.size() {
        let bytes = file.fetch(all.len() as u64, usize::MAX)?;
        assert!(!bytes.is_empty());
        all.extend_from_slice(bytes.bytes());
    }
    assert!(file.fetch(file.size(), 1)?.is_empty());
    Ok(all)
}

fn spec(file: &LazyFile) -> Result<FileSpec, ReadError> {
    Ok(FileSpec { content: contents(file)?, app: file.app().to_vec(), mtime: file.mtime() })
}

/// What is at a path: `None` for nothing, `Some(None)` for a directory.
fn look(image: &Arc<LazyImage>, path: &[u8]) -> Result<Option<Option<FileSpec>>, ReadError> {
    Ok(match image.find(path)? {
        None => None,
        Some(LazyEntry::Directory(_)) => Some(None),
        Some(LazyEntry::File(file)) => Some(Some(spec(&file)?)),
    })
}

/// What is there, as the tree that was packed says it.
fn there(tree: &Tree, path: &[u8]) -> Option<Option<FileSpec>> {
    let below = [path, b"/"].concat();
    let is_directory = path.is_empty() || tree.keys().any(|other| other.starts_with(&below));
    tree.get(path).map(|file| Some(file.clone())).or(is_directory.then_some(None))
}

/// Paths that are there, and others that nearly are.
fn paths(tree: &Tree) -> Vec<Vec<u8>> {
    let mut paths = vec![Vec::new(), b"a".to_vec(), b"nothing".to_vec()];
    for path in tree.keys() {
        let cuts = (0..path.len()).filter(|&i| path[i] == b'/').map(|i| path[..i].to_vec());
        paths.extend(cuts);
        paths.push(path.clone());
        paths.push([path, &b"x"[..]].concat());
        paths.push([path, &b"/x"[..]].concat());
        paths.push(path[..path.len() - 1].to_vec());
    }
    paths
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_path_leads_where_it_was_packed(tree in tree(), verify: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.img");
        fs::write(&path, build(&BuildOptions::default(), &tree)).unwrap();
        let image = lazily(&path, verify).unwrap();
        for path in paths(&tree) {
            prop_assert_eq!(look(&image, &path).unwrap(), there(&tree, &path));
        }
        let whole = open(fs::read(&path).unwrap()).unwrap();
        for inode in whole.inodes().filter(|inode| inode.is_directory()) {
            let Some(LazyEntry::Directory(found)) = image.find(inode.path()).unwrap() else { panic!() };
            let expected: Vec<LazyChild> = (inode.children())
                .map(|child| LazyChild {
                    name: child.name().to_vec(),
                    is_directory: child.is_directory(),
                    size: child.size(),
                    mtime: child.mtime(),
                })
                .collect();
            prop_assert_eq!(found.children(usize::MAX).unwrap(), &expected[..]);
            prop_assert_eq!(found.children(1).unwrap(), &expected[..expected.len().min(1)]);
        }
        for (path, file) in &tree {
            let Some(LazyEntry::File(found)) = image.find(path).unwrap() else { panic!() };
            let sums = found.stored_sums(0);
            prop_assert_eq!(sums.is_some(), !file.content.is_empty());
        }
    }

    /// Forged metadata with valid checksums: whatever they say, each look-up ends and gives something or an
    /// error.
    #[test]
    fn a_hostile_image_does_no_harm(
        tree in tree(),
        changes in prop::collection::vec((0usize..4, any::<prop::sample::Index>(), any::<u8>(), 0usize..4), 1..8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.img");
        let bytes = with_changes(build(&BuildOptions::default(), &tree), changes);
        fs::write(&path, &bytes).unwrap();
        let image = lazily(&path, true).unwrap();
        for path in paths(&tree) {
            if let Ok(Some(LazyEntry::Directory(directory))) = image.find(&path) {
                let _ = directory.children(10_000);
            }
            if let Ok(Some(LazyEntry::File(file))) = image.find(&path) {
                let _ = file.stored_sums(u64::MAX);
                let _ = file.fetch(u64::MAX, usize::MAX);
                if file.size() < 1 << 20 {
                    let _ = contents(&file);
                }
            }
        }
    }
}

fn sample() -> Tree {
    let file = |content: Vec<u8>| FileSpec { content, app: b"area".into(), mtime: Mtime::default() };
    [
        ("index.html", file(b"<p>hello".to_vec())),
        ("docs/a.txt", file(vec![b'a'; 1300])),
        ("docs/deep/er/b.bin", file((0..=255).collect())),
        ("docs/empty", file(Vec::new())),
    ]
    .map(|(path, file)| (path.as_bytes().to_vec(), file))
    .into()
}

/// A flipped bit anywhere is an error of who needs that page, or changes nothing.
#[test]
fn each_flipped_byte_is_found_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.img");
    let tree = sample();
    let bytes = build(&BuildOptions::default(), &tree);
    fs::write(&path, &bytes).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    let (mut refused, mut failed, mut harmless) = (0, 0, 0);
    for (i, byte) in bytes.iter().enumerate() {
        if let Some(before) = i.checked_sub(1) {
            file.write_all_at(&bytes[before..i], before as u64).unwrap();
        }
        file.write_all_at(&[byte ^ 1 << (i % 8)], i as u64).unwrap();
        let image = match lazily(&path, true) {
            Err(OpenError::Bad(_)) => {
                refused += 1;
                continue;
            }
            Err(other) => panic!("byte {i}: {other}"),
            Ok(image) => image,
        };
        let mut errors = 0;
        for path in tree.keys().map(|path| &path[..]).chain([&b"docs"[..], b"nothing"]) {
            match look(&image, path) {
                Ok(found) => assert_eq!(found, there(&tree, path), "byte {i}"),
                Err(ReadError::Bad(_)) => errors += 1,
                Err(other) => panic!("byte {i}: {other}"),
            }
        }
        if errors > 0 { failed += 1 } else { harmless += 1 }
    }
    assert!(refused > 4096 && failed > 4096 && harmless > 0, "{refused} {failed} {harmless}");
}

/// Of a long file in a group the first of the contents is read when it is looked up, for its area lies
/// behind: what is wrong there is no error of the look-up.
#[test]
fn what_is_read_ahead_fails_no_look_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.img");
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    let (name, content) = (b"index.html", vec![b'a'; 600_000]);
    builder.file(name, Mtime::default(), &mut &content[..], |_| b"area".to_vec()).unwrap();
    builder.group(name);
    let mut bytes = builder.finish().unwrap().0.into_bytes();
    let at = bytes.windows(16).position(|part| part == [b'a'; 16]).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let image = lazily(&path, true).unwrap();
    let Some(LazyEntry::File(file)) = image.find(name).unwrap() else { panic!("no file") };
    assert_eq!((file.app(), file.size()), (&b"area"[..], 600_000));
    assert!(matches!(contents(&file), Err(ReadError::Bad(_) | ReadError::Device(_))));
}

#[test]
fn an_image_that_is_cut_is_an_error_of_each_look_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.img");
    fs::write(&path, build(&BuildOptions::default(), &sample())).unwrap();
    let image = lazily(&path, false).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    assert!(matches!(look(&image, b"index.html"), Err(ReadError::Device(_))));
}

#[test]
fn sums_of_pages_have_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.img");
    fs::write(&path, build(&BuildOptions::default(), &sample())).unwrap();
    let options = OpenOptions { max_metadata_bytes: 3, ..OpenOptions::default() };
    assert!(matches!(LazyImage::open(&path, &options), Err(OpenError::TooMuchMetadata { limit: 3, .. })));
}
