//! A crash at any point leaves the old image, the new one, or none that would be taken for one.

mod common;

use common::{FileSpec, Tree, build_on, dump, open};
use fsstack::device::{AtomicFile, Device, DeviceMut, MemoryDevice};
use fsstack::image::build::{BuildError, BuildOptions, Builder, Mtime};
use fsstack::image::check::check;
use fsstack::{Image, OpenOptions};
use std::fs;
use std::io::{self, Read};

/// Remembers each write and sync, so that any state that a crash may leave can be made afterwards.
#[derive(Default)]
struct Journal {
    now: MemoryDevice,
    steps: Vec<Step>,
}

enum Step {
    Write { offset: u64, bytes: Vec<u8> },
    Sync,
}

impl Device for Journal {
    fn len_bytes(&self) -> io::Result<u64> {
        self.now.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.now.read_at(offset, buf)
    }
}

impl DeviceMut for Journal {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.steps.push(Step::Write { offset, bytes: bytes.into() });
        self.now.write_at(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.steps.push(Step::Sync);
        Ok(())
    }
}

impl Journal {
    /// The device after a crash at step `at`: everything up to the last sync is there; of the writes after it
    /// each 512-byte sector is there or not, as `seed` has it.
    fn crash(&self, at: usize, mut seed: u64) -> Vec<u8> {
        let synced = self.steps[..at].iter().rposition(|step| matches!(step, Step::Sync)).unwrap_or(0);
        let mut device = MemoryDevice::new();
        for (i, step) in self.steps[..at].iter().enumerate() {
            let Step::Write { offset, bytes } = step else { continue };
            for (sector, chunk) in bytes.chunks(512).enumerate() {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                if i < synced || seed >> 63 == 1 {
                    device.write_at(offset + 512 * sector as u64, chunk).unwrap();
                }
            }
        }
        device.into_bytes()
    }
}

fn some_tree(salt: u8) -> Tree {
    let file = |len: usize| {
        let content = (0..len).map(|i| (i as u8).wrapping_mul(7).wrapping_add(salt)).collect();
        FileSpec { content, app: vec![salt; 33], mtime: Mtime::default() }
    };
    [("a", 100), ("b/c", 40_000), ("b/d", 2_000_000), ("e", 0)]
        .into_iter()
        .map(|(path, len)| (path.as_bytes().to_vec(), file(len)))
        .collect()
}

#[test]
fn a_device_that_loses_unsynced_writes_never_holds_half_an_image() {
    let tree = some_tree(1);
    let journal = build_on(Journal::default(), &BuildOptions::default(), &tree);
    assert!(journal.steps.len() >= 5, "data in several writes, sync, superblock, sync");
    let (mut whole, mut none) = (0, 0);
    for at in 0..=journal.steps.len() {
        for seed in 0..8 {
            match open(journal.crash(at, seed * 0x9e37_79b9 + at as u64)) {
                Err(_) => none += 1,
                Ok(image) => {
                    assert_eq!(dump(&image).as_ref(), Some(&tree), "crash at step {at}, seed {seed}");
                    assert!(check(&image, |_| {}).is_clean(), "crash at step {at}, seed {seed}");
                    whole += 1;
                }
            }
        }
    }
    assert!(whole >= 8 && none >= 8, "{whole} {none}");
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is on fire"))
    }
}

#[test]
fn a_failed_build_leaves_the_old_image_and_no_rubbish() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("site.img");
    let old = some_tree(1);
    build_on(AtomicFile::create(&target).unwrap(), &BuildOptions::default(), &old).publish().unwrap();

    let mut builder = Builder::new(AtomicFile::create(&target).unwrap(), &BuildOptions::default()).unwrap();
    builder.file(b"x", Mtime::default(), &mut &[1u8; 3_000_000][..], |_| Vec::new()).unwrap();
    let failed = builder.file(b"y", Mtime::default(), &mut Failing, |_| Vec::new());
    assert!(matches!(failed, Err(BuildError::Source { .. })));
    drop(builder);
    // Finished, but never published: the process died between.
    drop(build_on(AtomicFile::create(&target).unwrap(), &BuildOptions::default(), &some_tree(2)));

    let image = Image::open(&target, &OpenOptions::default()).unwrap();
    assert_eq!(dump(&image), Some(old));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn who_has_the_old_image_open_keeps_it_when_it_is_replaced() {
    use fsstack::fs::Access;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("site.img");
    let (old, new) = (some_tree(1), some_tree(2));
    for access in [Access::Auto, Access::Copy, Access::Blocks, Access::Map] {
        let options = OpenOptions { access, ..OpenOptions::default() };
        build_on(AtomicFile::create(&target).unwrap(), &BuildOptions::default(), &old).publish().unwrap();
        let before = Image::open(&target, &options).unwrap();
        assert_eq!(before.is_mapped(), access == Access::Map);
        assert_eq!(before.is_resident(), access != Access::Blocks);
        build_on(AtomicFile::create(&target).unwrap(), &BuildOptions::default(), &new).publish().unwrap();
        assert_eq!(dump(&before).as_ref(), Some(&old));
        assert!(before.is_intact().unwrap());
        assert_eq!(dump(&Image::open(&target, &options).unwrap()).as_ref(), Some(&new));
    }
}

#[test]
fn a_mapped_image_that_was_cut_is_noticed() {
    use fsstack::fs::Access;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("site.img");
    build_on(AtomicFile::create(&target).unwrap(), &BuildOptions::default(), &some_tree(1))
        .publish()
        .unwrap();
    let mapped =
        Image::open(&target, &OpenOptions { access: Access::Map, ..OpenOptions::default() }).unwrap();
    let copied =
        Image::open(&target, &OpenOptions { access: Access::Copy, ..OpenOptions::default() }).unwrap();
    fs::OpenOptions::new().write(true).open(&target).unwrap().set_len(10_000).unwrap();
    assert!(!mapped.is_intact().unwrap());
    assert_eq!(dump(&copied), Some(some_tree(1)));
    // Metadata never come from the mapping.
    assert!(mapped.lookup("b/c").is_some());
    assert!(Image::open(&target, &OpenOptions::default()).is_err());
}

/// Read by blocks, an image that was cut is an error of what is missing, and of nothing else.
#[test]
fn an_image_that_is_cut_lacks_the_blocks_that_were_not_read() {
    use fsstack::ReadError;
    use fsstack::fs::Access;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("site.img");
    let file = |len: usize| common::FileSpec {
        content: (0..len).map(|i| (i / 7) as u8).collect(),
        app: b"head".to_vec(),
        mtime: Default::default(),
    };
    let tree: common::Tree = [("a", file(100_000)), ("b", file(100_000))]
        .map(|(path, file)| (path.as_bytes().to_vec(), file))
        .into();
    build_on(AtomicFile::create(&target).unwrap(), &BuildOptions::default(), &tree).publish().unwrap();
    let options = OpenOptions { access: Access::Blocks, ..OpenOptions::default() };
    let image = Image::open(&target, &options).unwrap();
    assert!(!image.is_resident() && fsstack::image::check::check(&image, |_| {}).is_clean());
    assert_eq!(image.lookup("a").unwrap().read(0, 10), Err(ReadError::NotResident));
    // A fresh one, that has read one block of each file.
    let image = Image::open(&target, &options).unwrap();
    let read =
        |path: &str, at: u64| image.lookup(path).unwrap().fetch(at, 10).map(|bytes| bytes.bytes().to_vec());
    let (a, b) = (read("a", 0).unwrap(), read("b", 50_000).unwrap());
    fs::OpenOptions::new().write(true).open(&target).unwrap().set_len(9000).unwrap();
    assert!(!image.is_intact().unwrap());
    assert_eq!((read("a", 0), read("b", 50_000)), (Ok(a), Ok(b)));
    let missing = Err(ReadError::Device(std::io::ErrorKind::UnexpectedEof));
    assert_eq!((read("a", 99_999), read("b", 0)), (missing.clone(), missing));
    assert_eq!(image.lookup("b").unwrap().app(), Ok(&b"head"[..]));
    let report = fsstack::image::check::check(&image, |_| {});
    assert_eq!(report.problems.len(), 3, "two files and the copy of the superblock: {report:?}");
}
