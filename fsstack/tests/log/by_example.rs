//! Logs by example: who may write, what takes room, what lies together, and what is refused.

use super::*;
use std::sync::Arc;

#[test]
fn there_is_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let log = log_at(&path);
    assert!(matches!(Log::open(&path, &options()), Err(LogError::Busy)));
    assert!(Generation::open(&path, &options()).is_ok(), "readers are not kept out");
    drop(log);
    assert!(Log::open(&path, &options()).is_ok());
    assert!(matches!(Log::create(&path, &options()), Err(LogError::Device(_))), "it is there");
}

#[test]
fn a_plain_image_becomes_a_log_when_it_is_to_change() {
    use fsstack::Builder;
    use fsstack::device::MemoryDevice;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let mut builder = Builder::new(MemoryDevice::new(), &Default::default()).unwrap();
    builder.file(b"x/y", time(3), &mut &bytes(50_000, 1)[..], |_| b"head".to_vec()).unwrap();
    fs::write(&path, builder.finish().unwrap().0.into_bytes()).unwrap();
    let before = Generation::open(&path, &options()).unwrap();
    assert!(matches!(Log::open(&path, &options()), Err(LogError::NotALog)));
    let mut log = Log::convert(&path, &options()).unwrap();
    assert_eq!(dump(&log.snapshot()), dump(&before));
    log.rename(b"x", b"z").unwrap();
    log.sync().unwrap();
    let after = Generation::open(&path, &options()).unwrap();
    assert_eq!(read(&after, "z/y"), bytes(50_000, 1));
    assert_eq!(after.find("z/y").unwrap().app().unwrap(), b"head");
    assert!(after.find("x").is_none() && after.find("x/y").is_none());
}

#[test]
fn space_comes_back_when_the_last_reader_of_a_generation_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let mut log = log_at(&path);
    put(&mut log, "a", 3_000_000, 1);
    log.sync().unwrap();
    let snapshot = log.snapshot();
    // By blocks, so that it has nothing in memory; another opening of the file, as another process would
    // have.
    let by_blocks =
        OpenOptions { access: fsstack::fs::Access::Blocks, cache: None, ..OpenOptions::default() };
    let elsewhere = Generation::open(&path, &by_blocks).unwrap();
    for salt in 2..6 {
        put(&mut log, "a", 3_000_000, salt);
        log.compact(&[]).unwrap();
    }
    assert_eq!(read(&snapshot, "a"), bytes(3_000_000, 1));
    assert_eq!(read(&elsewhere, "a"), bytes(3_000_000, 1));
    let held = fs::metadata(&path).unwrap().len();
    drop((snapshot, elsewhere));
    for salt in 6..9 {
        put(&mut log, "a", 3_000_000, salt);
        log.compact(&[]).unwrap();
    }
    assert_eq!(read(&log.snapshot(), "a"), bytes(3_000_000, 8));
    let usage = log.usage().unwrap();
    assert!(usage.file_bytes <= held && usage.dead_bytes == 0 && usage.segments == 1, "{held} {usage:?}");
    use std::os::unix::fs::MetadataExt;
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < 4_000_000, "the rest is holes");
}

#[test]
fn many_commits_make_no_more_than_so_many_segments() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let mut log = log_at(&path);
    for i in 0..300u32 {
        put(&mut log, &format!("f{}", i % 150), 1000, i as u8);
        if i % 7 == 0 {
            log.remove(format!("f{}", i % 150).as_bytes()).unwrap();
        }
        log.sync().unwrap();
    }
    let usage = log.usage().unwrap();
    assert!(usage.segments <= 97, "{usage:?}");
    let expected = dump(&log.latest());
    assert_eq!(dump(&Generation::open(&path, &options()).unwrap()), expected);
    drop(log);
    let mut log = Log::open(&path, &options()).unwrap();
    log.compact(&[b"f7".to_vec()]).unwrap();
    let packed = Generation::open(&path, &options()).unwrap();
    assert_eq!((dump(&packed), packed.segments()), (expected, 1));
}

/// Contents are there once, in the log and in what it is packed to.
#[test]
fn names_of_one_file_share_its_contents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let mut log = log_at(&path);
    put(&mut log, "a", 300_000, 1);
    log.sync().unwrap();
    let before = log.written_bytes();
    for name in ["b", "c", "d"] {
        log.link(b"a", name.as_bytes()).unwrap();
    }
    log.sync().unwrap();
    assert!(log.written_bytes() - before < 50_000, "{}", log.written_bytes() - before);
    log.write(b"c", 7, slice(10, 9), time(2)).unwrap();
    log.sync().unwrap();
    log.remove(b"a").unwrap();
    log.sync().unwrap();
    let mut expected = bytes(300_000, 1);
    expected[7..17].copy_from_slice(&bytes(10, 9));
    let check = |image: &Path| {
        let generation = Generation::open(image, &options()).unwrap();
        for name in ["b", "c", "d"] {
            assert!(read(&generation, name) == expected);
            assert_eq!(generation.find(name).unwrap().name_count(), 3);
        }
        assert_eq!(generation.check(|_| {}).problems, []);
    };
    check(&path);
    let summary = log.compact(&[b"d".to_vec()]).unwrap();
    assert_eq!((summary.files, summary.content_bytes), (3, 300_000));
    check(&path);
    assert_eq!((log.usage().unwrap().files, log.usage().unwrap().dead_bytes), (1, 0));
    log.remove(b"b").unwrap();
    log.remove(b"d").unwrap();
    log.sync().unwrap();
    let last = Generation::open(&path, &options()).unwrap();
    assert_eq!((last.find("c").unwrap().name_count(), read(&last, "c") == expected), (1, true));
}

#[test]
fn a_log_stays_within_its_room_if_its_files_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = log_at(&path);
    let most = 4 << 20;
    let mut salts = BTreeMap::new();
    for round in 0..300u32 {
        // Forty files of 64 KiB in turns that differ: each segment has some that live, and some that do not.
        let (name, salt) = (format!("f{}", round * round % 40), round as u8);
        put(&mut log, &name, 64 << 10, salt);
        put(&mut log, &format!("g{}", round % 7), 64 << 10, salt);
        salts.insert(name, salt);
        salts.insert(format!("g{}", round % 7), salt);
        log.sync_within(most).unwrap();
        let taken = log.usage().unwrap().segment_bytes;
        assert!(taken <= most + (256 << 10), "{round}: {taken}");
    }
    drop(log);
    let generation = Generation::open(&path, &options()).unwrap();
    for (name, salt) in salts {
        assert!(read(&generation, &name) == bytes(64 << 10, salt), "{name}");
    }
}

#[test]
fn big_files_are_written_while_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let mut log = log_at(&path);
    let big = bytes(9_000_000, 3);
    log.put_from(b"big", time(1), &mut &big[..], |content| content.size.to_string().into_bytes()).unwrap();
    log.revert();
    assert!(log.latest().find("big").is_none());
    log.put_from(b"big", time(1), &mut &big[..], |content| content.size.to_string().into_bytes()).unwrap();
    log.write(b"big", 5, slice(10, 9), time(2)).unwrap();
    log.sync().unwrap();
    let mut expected = big;
    expected[5..15].copy_from_slice(&bytes(10, 9));
    assert_eq!(read(&Generation::open(&path, &options()).unwrap(), "big"), expected);
}

#[test]
fn overwrites_in_batches_cost_little_more_than_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let mut log = log_at(&path);
    put(&mut log, "db", 8 << 20, 1);
    log.sync().unwrap();
    let before = log.written_bytes();
    let mut seed = 7u64;
    for _ in 0..4 {
        for _ in 0..128 {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            log.write(b"db", (seed >> 33) % 2048 * 4096, slice(4096, seed as u8), time(2)).unwrap();
        }
        log.sync().unwrap();
    }
    let ratio = (log.written_bytes() - before) as f64 / (4.0 * 128.0 * 4096.0);
    assert!(ratio < 1.2, "{ratio} bytes written for each byte");
}

/// A page and what it embeds lie together still, and are read together, when an image was changed and is
/// packed again.
#[test]
fn what_was_wanted_together_is_so_after_it_was_packed_again() {
    use fsstack::{Builder, Image};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let mut builder = Builder::in_memory(&Default::default()).unwrap();
    for name in ["p/z.html", "c.png", "a.png", "x", "q.html", "b.css", "gone.png", "alone.html", "gone.css"] {
        let contents = bytes(5000, name.len() as u8);
        builder.file(name.as_bytes(), time(3), &mut &contents[..], |_| b"head".to_vec()).unwrap();
        match name {
            "a.png" => builder.group(b"p/z.html"),
            "gone.png" => builder.group(b"q.html"),
            "gone.css" => builder.group(b"alone.html"),
            _ => {}
        }
    }
    fs::write(&path, builder.finish().unwrap().0.into_bytes()).unwrap();
    let mut log = Log::convert(&path, &options()).unwrap();
    // A page that is written anew, an image that becomes longer, others that go, and something new.
    put(&mut log, "p/z.html", 3000, 1);
    log.append(b"a.png", slice(2000, 3), time(4)).unwrap();
    log.remove(b"gone.png").unwrap();
    log.remove(b"gone.css").unwrap();
    put(&mut log, "0new", 10, 1);
    let order = |image: &Image| {
        let mut lay: Vec<_> = image.inodes().filter(|inode| inode.is_file()).collect();
        lay.sort_by_key(|inode| inode.extents()[0].offset);
        lay.iter().map(|inode| String::from_utf8(inode.path().to_vec()).unwrap()).collect::<Vec<_>>()
    };
    let check = |image: &Image| {
        assert_eq!(
            order(image),
            ["p/z.html", "c.png", "a.png", "x", "q.html", "b.css", "alone.html", "0new"]
        );
        let reaches = |page: &str, last: &str| {
            let (page, last) = (image.lookup(page).unwrap(), image.lookup(last).unwrap().extents()[0]);
            assert_eq!(page.extents()[0].offset + page.group_bytes(), last.offset + last.len);
        };
        reaches("p/z.html", "a.png");
        reaches("q.html", "b.css");
        assert_eq!(image.lookup("alone.html").unwrap().group_bytes(), 0, "nothing of its group is left");
        assert_eq!(image.lookup("c.png").unwrap().app().unwrap(), b"head");
    };
    let mut builder = Builder::in_memory(&Default::default()).unwrap();
    log.latest().pack(&[], &mut builder).unwrap();
    check(&Image::from_bytes(builder.finish().unwrap().0.into_bytes(), &options()).unwrap());
    // In the log, and there again, since it says the same of itself.
    for _ in 0..2 {
        log.compact(&[]).unwrap();
        let packed = Generation::open(&path, &options()).unwrap();
        check(packed.packed_image().unwrap());
    }
    // Who says where something lies has it there.
    log.compact(&[b"x".to_vec()]).unwrap();
    let packed = Generation::open(&path, &options()).unwrap();
    let image = packed.packed_image().unwrap();
    assert_eq!(order(image)[..3], ["x", "p/z.html", "c.png"]);
    // And is not wanted with all that lies between.
    log.compact(&[b"q.html".to_vec()]).unwrap();
    let packed = Generation::open(&path, &options()).unwrap();
    let image = packed.packed_image().unwrap();
    assert_eq!(order(image)[..3], ["q.html", "x", "p/z.html"]);
    assert_eq!(image.lookup("q.html").unwrap().group_bytes(), 0);
    assert!(image.lookup("p/z.html").unwrap().group_bytes() > 0);
}

/// A file that is to lie elsewhere leaves its group, by whichever name that was said, and the others stay
/// one.
#[test]
fn a_group_is_one_still_without_a_file_that_lies_elsewhere() {
    use fsstack::Builder;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    for (elsewhere, has_two_names) in [
        ("p.html", false),
        ("p.html", true),
        ("z.html", true),
        ("c.png", false),
        ("a.png", false),
        ("x", true),
    ] {
        let mut builder = Builder::in_memory(&Default::default()).unwrap();
        for name in ["0", "p.html", "c.png", "b.css", "a.png", "x"] {
            let contents = bytes(5000, name.len() as u8);
            builder.file(name.as_bytes(), time(3), &mut &contents[..], |_| Vec::new()).unwrap();
            if name == "a.png" {
                builder.group(b"p.html");
            }
        }
        if has_two_names {
            builder.link(b"p.html", b"z.html").unwrap();
        }
        fs::write(&path, builder.finish().unwrap().0.into_bytes()).unwrap();
        let mut log = Log::convert(&path, &options()).unwrap();
        log.compact(&[elsewhere.as_bytes().to_vec()]).unwrap();
        let packed = Generation::open(&path, &options()).unwrap();
        let image = packed.packed_image().unwrap();
        let first = if elsewhere == "z.html" { "p.html" } else { elsewhere };
        let at = |name: &str| image.lookup(name).unwrap().extents()[0];
        assert!(at(first).offset < at("0").offset, "{elsewhere} lies first");
        assert_eq!(image.lookup(elsewhere).unwrap().group_bytes(), 0, "{elsewhere} is wanted alone");
        let left: Vec<_> =
            ["p.html", "c.png", "b.css", "a.png"].into_iter().filter(|n| *n != first).collect();
        let last = at(left[left.len() - 1]);
        for name in &left[..left.len() - 1] {
            let reaches = at(name).offset + image.lookup(name).unwrap().group_bytes();
            assert_eq!(reaches, last.offset + last.len, "{name}, {elsewhere} being elsewhere");
        }
    }
}

/// Nothing limits the names of a file but the change that gives it one.
#[test]
fn a_packed_file_may_have_more_names_than_a_change_gives_it() {
    use fsstack::Builder;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let mut builder = Builder::in_memory(&Default::default()).unwrap();
    builder.file(b"0", time(3), &mut &b"contents"[..], |_| Vec::new()).unwrap();
    for name in 1..65_002 {
        builder.link(b"0", name.to_string().as_bytes()).unwrap();
    }
    fs::write(&path, builder.finish().unwrap().0.into_bytes()).unwrap();
    let mut log = Log::convert(&path, &options()).unwrap();
    assert_eq!(log.latest().find("65001").unwrap().name_count(), 65_002);
    let refused = log.link(b"0", b"more").unwrap_err();
    assert!(matches!(refused, LogError::Change(ChangeError::TooManyNames)), "{refused}");
    log.write(b"7", 0, slice(3, 1), time(4)).unwrap();
    log.sync().unwrap();
    drop(log);
    let changed = Generation::open(&path, &options()).unwrap();
    assert_eq!(changed.find("65001").unwrap().name_count(), 65_002);
}

/// Contents that are written at once, each in a segment, leave room for the commit; and a log without any
/// left is packed, with what was changed.
#[test]
fn a_log_with_as_many_segments_as_can_be_is_gone_on_with() {
    use fsstack::log::policy::{Held, Policies, WriteBack};
    #[derive(Debug)]
    struct AtOnce;
    impl WriteBack for AtOnce {
        fn is_due(&self, _: &Held) -> bool {
            true
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let mut log = log_at(&path);
    log.set_policies(Policies { write_back: std::sync::Arc::new(AtOnce), ..Policies::default() });
    // Of one that is written over and over nothing is kept.
    for salt in 0..200u8 {
        put(&mut log, "over", 50, salt);
    }
    log.sync().unwrap();
    assert!(log.usage().unwrap().segments <= 3, "{:?}", log.usage().unwrap());
    for i in 0..2100u32 {
        put(&mut log, &format!("f{i}"), 50, i as u8);
    }
    assert!(log.held().bytes > 0, "the last ones wait");
    log.sync().unwrap();
    assert_eq!(log.usage().unwrap().segments, 2046);
    put(&mut log, "last", 70, 9);
    let summary = log.compact(&[]).unwrap();
    assert_eq!((summary.files, log.held()), (2102, Held::default()));
    drop(log);
    let packed = Generation::open(&path, &options()).unwrap();
    let last = packed.find("last").unwrap();
    assert_eq!((packed.segments(), last.size()), (1, 70));
    assert_eq!(packed.find("f2099").unwrap().fetch(0, 50).unwrap().bytes(), bytes(50, 2099u32 as u8));
    assert!(packed.check(|_| {}).problems.is_empty());
}

#[test]
fn refusals_say_why_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log_at(&folder.path().join("a.img"));
    put(&mut log, "a", 1, 1);
    let why = |result: Result<_, LogError>| match result {
        Err(LogError::Change(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(log.put(b"a/b", time(1), Contents::new(), b"")), ChangeError::NotDirectory);
    assert_eq!(why(log.put(b"x/b/c", time(1), Contents::new(), b"")), ChangeError::NoParent);
    assert_eq!(why(log.put(b"", time(1), Contents::new(), b"")), ChangeError::IsDirectory);
    assert!(matches!(why(log.put(b"a//b", time(1), Contents::new(), b"")), ChangeError::Path(_)));
    assert_eq!(why(log.remove(b"")), ChangeError::Impossible);
    assert_eq!(why(log.rename(b"a", b"a/b")), ChangeError::Impossible);
    assert_eq!(why(log.write(b"a", u64::MAX, slice(1, 1), time(1))), ChangeError::TooLarge);
    let receipt = log.mkdir(b"d", time(1)).unwrap();
    assert!(receipt > log.durable());
    log.sync().unwrap();
    assert!(receipt <= log.durable());
    put(&mut log, "d/e", 1, 1);
    assert_eq!(why(log.remove(b"d")), ChangeError::NotEmpty);
    assert_eq!(why(log.rename(b"a", b"d")), ChangeError::IsDirectory);
    assert_eq!(why(log.link(b"a", b"d")), ChangeError::Exists);
    assert_eq!(why(log.link(b"a", b"a")), ChangeError::Exists);
    assert_eq!(why(log.link(b"d", b"x")), ChangeError::IsDirectory);
    assert_eq!(why(log.link(b"x", b"y")), ChangeError::NotFound);
    assert_eq!(why(log.link(b"a", b"x/y")), ChangeError::NoParent);
    assert_eq!(log.latest().len(), 4);
}

/// An application area is nothing that the system knows of: it is no change of attributes.
#[test]
fn a_head_that_is_made_leaves_the_time_of_the_last_change() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::create(&folder.path().join("a.img"), &OpenOptions::default()).unwrap();
    let [then, later] = [1000, 2000].map(|seconds| Mtime { seconds, nanoseconds: 0 });
    log.put(b"a", then, Contents::from(vec![1; 100]), b"").unwrap();
    let posix = Posix { mode: 0o600, uid: 1, gid: 1, ctime: Some(later), atime: None };
    log.set_posix(b"a", Some(posix)).unwrap();
    log.set_attributes(b"a", then, b"head").unwrap();
    log.sync().unwrap();
    let ctime = |log: &Log| log.snapshot().find("a").unwrap().posix().unwrap().ctime;
    assert_eq!(ctime(&log), Some(later));
    log.set_attributes(b"a", later, b"head").unwrap();
    log.sync().unwrap();
    assert_eq!(ctime(&log), None, "it is that of the contents again");
}

/// What was put is read by nobody from the disk: its blocks are in the cache when they are in the log. Beside
/// what would push all others out.
#[test]
fn what_was_just_written_is_in_the_cache() {
    use fsstack::cache::FileCache;
    use fsstack::fs::Access;
    use runtime::stats::work::{Quantity, Work};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let options = |cache_bytes| OpenOptions {
        access: Access::Blocks,
        cache: Some(Arc::new(FileCache::new(cache_bytes))),
        ..OpenOptions::default()
    };
    let read_back = |generation: &Generation, path: &str, salt| {
        let before = Work::of_this_thread();
        let entry = generation.find(path).unwrap();
        let mut found = Vec::new();
        while (found.len() as u64) < entry.size() {
            found.extend_from_slice(entry.fetch(found.len() as u64, usize::MAX).unwrap().bytes());
        }
        assert_eq!(found, bytes(found.len(), salt), "{path}");
        Work::of_this_thread().since(&before)[Quantity::BlockReads]
    };
    let mut log = Log::create(&path, &options(4 << 20)).unwrap();
    put(&mut log, "a", 200_000, 1);
    put(&mut log, "b", 10, 2);
    log.sync().unwrap();
    let snapshot = log.snapshot();
    assert_eq!([read_back(&snapshot, "a", 1), read_back(&snapshot, "b", 2)], [0, 0]);
    // Another one has other blocks; who reads the old one has those still.
    put(&mut log, "a", 150_000, 3);
    log.sync().unwrap();
    assert_eq!([read_back(&log.snapshot(), "a", 3), read_back(&snapshot, "a", 1)], [0, 0]);
    put(&mut log, "big", 3 << 20, 4);
    log.sync().unwrap();
    assert!(read_back(&log.snapshot(), "big", 4) > 0);
    assert_eq!([read_back(&log.snapshot(), "a", 3), read_back(&log.snapshot(), "b", 2)], [0, 0]);
    drop((log, snapshot));
    let again = Generation::open(&path, &options(4 << 20)).unwrap();
    assert!(read_back(&again, "a", 3) > 0 && read_back(&again, "b", 2) <= 1);
}
