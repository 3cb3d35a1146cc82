//! What goes into an image comes out of it.

mod common;

use common::{Tree, build, dump, open, tree};
use fsstack::image::build::{BuildError, BuildOptions, Builder, Mtime};
use fsstack::image::check::check;
use proptest::prelude::*;

fn options() -> impl Strategy<Value = BuildOptions> {
    let sums = prop::sample::select(vec![0u32, 64, 512, 65_536]);
    (any::<u64>(), sums)
        .prop_map(|(generation, sum_block_bytes)| BuildOptions { generation, sum_block_bytes })
}

/// RFC 1071, word by word.
fn inet_sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |sum, word| {
        let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
        let (sum, carry) = u16::overflowing_add(sum, word);
        sum + u16::from(carry)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn trees_survive(tree in tree(), options in options()) {
        let bytes = build(&options, &tree);
        prop_assert_eq!(&bytes, &build(&options, &tree), "equal calls, equal bytes");
        prop_assert_eq!(bytes.len() % 4096, 0);
        let image = open(bytes).unwrap();
        prop_assert_eq!(image.superblock().generation, options.generation);
        prop_assert_eq!(dump(&image), Some(tree.clone()));
        let report = check(&image, |_| {});
        prop_assert!(report.is_clean(), "{:?}", report);
        look_up_everything(&image, &tree)?;
        sums_are_those_of_the_contents(&image, options.sum_block_bytes)?;
    }
}

fn look_up_everything(image: &fsstack::Image, tree: &Tree) -> Result<(), TestCaseError> {
    let mut seen = 0;
    for (path, file) in tree {
        let inode = image.lookup(path).unwrap();
        prop_assert_eq!(inode.path(), &path[..]);
        prop_assert_eq!(inode.size(), file.content.len() as u64);
        prop_assert!(image.lookup([path, &b"/"[..]].concat()).is_none(), "a file is no directory");
        prop_assert!(image.lookup([path, &b"/x"[..]].concat()).is_none());
        prop_assert_eq!(image.lookup([b"/", &path[..]].concat()).map(|i| i.id()), Some(inode.id()));
        // Name by name from the root, and back.
        let mut at = image.root();
        for name in path.split(|&byte| byte == b'/') {
            let child = at.child(name).unwrap();
            prop_assert_eq!(child.name(), name);
            prop_assert_eq!(child.parent().id(), at.id());
            prop_assert_eq!(image.lookup(child.path()).map(|i| i.id()), Some(child.id()));
            at = child;
        }
        prop_assert_eq!(at.id(), inode.id());
    }
    for directory in image.inodes().filter(|inode| inode.is_directory()) {
        let names: Vec<&[u8]> = directory.children().map(|child| child.name()).collect();
        prop_assert!(names.is_sorted());
        seen += names.len();
        prop_assert!(directory.child(b"not there").is_none());
        prop_assert!(directory.read(0, 1).is_err());
    }
    prop_assert_eq!(seen + 1, image.inode_count(), "the listings reach everything once");
    Ok(())
}

fn sums_are_those_of_the_contents(image: &fsstack::Image, block: u32) -> Result<(), TestCaseError> {
    for inode in image.inodes().filter(|inode| inode.is_file()) {
        let size = inode.size() as usize;
        let content = inode.read(0, size).unwrap();
        for (from, len) in [
            (0usize, size),
            (0, 512),
            (512, 1024),
            (512, size.saturating_sub(512)),
            (1, 1447),
            (777, 1448),
            (65_537, 65_536),
        ] {
            let Some(piece) = inode.piece(from as u64, len).unwrap() else {
                prop_assert!(from >= size || len == 0);
                continue;
            };
            let expected = &content[from..size.min(from + len)];
            prop_assert!(expected.starts_with(piece.bytes));
            let fetched = inode.fetch(from as u64, len).unwrap();
            prop_assert_eq!(fetched.bytes(), piece.bytes);
            prop_assert!(piece.hold.unwrap().offset_of(piece.bytes).is_some());
            prop_assert_eq!(piece.stored.is_some(), block != 0);
            if let Some(stored) = piece.stored {
                let (sum, read) = stored.sum(piece.bytes, inet_sum);
                prop_assert_eq!(sum, inet_sum(piece.bytes));
                prop_assert!(read < 2 * block as usize || len > 128 * 1024);
            }
        }
    }
    Ok(())
}

#[test]
fn an_empty_image_is_an_image() {
    let image = open(build(&BuildOptions::default(), &Tree::new())).unwrap();
    assert_eq!(image.inode_count(), 1);
    for root in ["", "/"] {
        assert!(image.lookup(root).unwrap().is_directory());
    }
    assert!(image.lookup("//").is_none());
    assert_eq!(image.root().children().len(), 0);
    assert!(check(&image, |_| {}).is_clean());
}

#[test]
fn directories_carry_time_and_application_area_too() {
    let mtime = Mtime { seconds: 77, nanoseconds: 5 };
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    builder.file(b"d/f", mtime, &mut &b"x"[..], |_| Vec::new()).unwrap();
    builder.directory(b"d", mtime, b"Location: /d/").unwrap();
    builder.directory(b"", mtime, b"root").unwrap();
    builder.directory(b"e/empty", mtime, b"").unwrap();
    assert!(matches!(builder.directory(b"d", mtime, b""), Err(BuildError::Clash { .. })));
    let (device, summary) = builder.finish().unwrap();
    assert_eq!((summary.files, summary.directories, summary.content_bytes), (1, 4, 1));
    let image = open(device.into_bytes()).unwrap();
    assert_eq!(image.lookup("d/").unwrap().app().unwrap(), b"Location: /d/");
    assert_eq!(image.lookup("d").unwrap().mtime(), mtime);
    assert_eq!(image.root().app().unwrap(), b"root");
    assert!(image.lookup("e/empty").unwrap().is_directory());
    assert_eq!(image.lookup("e").unwrap().mtime(), Mtime::default());
}

#[test]
fn what_cannot_stand_in_an_image_is_refused() {
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    let mut add =
        |path: &[u8]| builder.file(path, Mtime::default(), &mut &b""[..], |_| Vec::new()).map(|_| ());
    add(b"a").unwrap();
    assert!(matches!(add(b"a"), Err(BuildError::Clash { .. })));
    assert!(matches!(add(b"a/b"), Err(BuildError::Clash { .. })));
    assert!(matches!(add(b"../b"), Err(BuildError::Path { .. })));
    assert!(matches!(add(b"/b"), Err(BuildError::Path { .. })));
    add(b"c/d").unwrap();
    assert!(matches!(add(b"c"), Err(BuildError::Clash { .. })));
    assert!(matches!(add(b""), Err(BuildError::Clash { .. })), "the root is there");
    let odd = BuildOptions { sum_block_bytes: 1000, ..BuildOptions::default() };
    assert!(matches!(Builder::in_memory(&odd), Err(BuildError::Limit(_))));
}

#[test]
fn large_files_start_on_a_block_and_small_ones_lie_together() {
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    let large = vec![7u8; 100_000];
    for (path, content) in [("a", &b"one"[..]), ("b", b"two"), ("large", &large), ("c", b"three")] {
        builder.file(path.as_bytes(), Mtime::default(), &mut &content[..], |_| vec![1; 40]).unwrap();
    }
    let image = open(builder.finish().unwrap().0.into_bytes()).unwrap();
    let offset = |path: &str| image.lookup(path).unwrap().extents()[0].offset;
    assert_eq!(offset("large") % 4096, 0);
    assert!(offset("b") - offset("a") <= 128, "content, area and sums share two cache lines");
    assert!([offset("a"), offset("b"), offset("c")].iter().all(|offset| offset % 64 == 0));
}
