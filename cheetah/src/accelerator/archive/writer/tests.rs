use std::io::Write as _;
use std::path::Path;

use runtime::buffer::Shared;

use super::super::super::cache::{Found, Limits};
use super::super::super::control::Asks;
use super::super::super::freshness::Freshness;
use super::super::super::object::Selecting;
use super::*;
use crate::http::foreign::ForeignHead;
use crate::http::response::Status;
use crate::store::Document;

/// Fields of a request.
type Fields = &'static [(&'static [u8], &'static [u8])];

const FRESH: &str = "Cache-Control: max-age=3600\r\nETag: \"a\"\r\n";

fn object(key: &[u8], content: &[u8], fields: &str, asked: Fields, now: u64) -> Arc<Object> {
    let mut head = ForeignHead::new(200, "OK".to_owned());
    head.fields = fields.as_bytes().to_vec();
    let freshness = Freshness::of(200, &head.fields, now, now);
    let selecting = Selecting::of(&head.fields, asked.iter().copied());
    let blocks = content.chunks(64 << 10).map(|block| Shared::from(block.to_vec())).collect();
    Arc::new(Object::new(key, &head, blocks, freshness, selecting).unwrap())
}

fn noise(len: usize, salt: u64) -> Vec<u8> {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn open_with(path: &Path, bytes: u64, origins: &str) -> Result<(Arc<Cache>, Archivist), ArchiveError> {
    let cache = Arc::new(Cache::new(Limits { bytes: 64 << 20, object: 16 << 20 }));
    let options = ArchiveOptions { path: path.to_owned(), bytes, origins: origins.to_owned() };
    let archivist = Archivist::start(&cache, &options)?;
    Ok((cache, archivist))
}

fn open(path: &Path) -> (Arc<Cache>, Archivist) {
    open_with(path, MIN_IMAGE_BYTES, "0 / http://o\n").unwrap()
}

fn find(cache: &Cache, key: &[u8], asked: Fields) -> Option<Arc<Object>> {
    match cache.look_up(key, asked.iter().copied(), &Asks::default(), 1000) {
        Found::Fresh(hit) => Some(hit.object),
        Found::Stale(object) => Some(object),
        _ => None,
    }
}

fn content(object: &Object) -> Vec<u8> {
    let content = object.content(0..object.facts().size).unwrap();
    content.slices().iter().flat_map(Slice::bytes).copied().collect()
}

/// Waits until what is in memory has gone to the file.
fn settled(cache: &Cache, key: &[u8], asked: Fields) -> Arc<Object> {
    // Long enough for a busy machine and code that is not optimised.
    for _ in 0..6000 {
        match find(cache, key, asked) {
            Some(object) if matches!(object.place(), Content::File(_)) => return object,
            _ => thread::sleep(Duration::from_millis(10)),
        }
    }
    panic!("it does not go to the file");
}

#[test]
fn what_is_kept_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept.img");
    let (one, two) = (noise(300_000, 1), noise(70, 2));
    let (de, en): (Fields, Fields) = (&[(b"accept-language", b"de")], &[(b"accept-language", b"en")]);
    let varies = "Cache-Control: max-age=3600\r\nVary: Accept-Language\r\n";
    let (cache, archivist) = open(&path);
    cache.put(b"ph\0/one", object(b"ph\0/one", &one, FRESH, &[], 1000));
    cache.put(b"ph\0/two", object(b"ph\0/two", &two, varies, de, 1000));
    cache.put(b"ph\0/two", object(b"ph\0/two", b"english", varies, en, 1000));
    cache.put(b"ph\0/empty", object(b"ph\0/empty", b"", FRESH, &[], 1000));
    cache.put(b"ph\0/gone", object(b"ph\0/gone", b"gone", FRESH, &[], 1000));
    cache.put(b"ph\0/short", object(b"ph\0/short", b"short", "Cache-Control: max-age=5\r\n", &[], 1000));
    let before = settled(&cache, b"ph\0/one", &[]);
    assert!(content(&before) == one && before.stored_sums(0).is_some());
    assert!(cache.invalidate(b"ph\0/gone") && !cache.invalidate(b"ph\0/never"));
    archivist.finish().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let (cache, archivist) = open(&path);
    let after = find(&cache, b"ph\0/one", &[]).unwrap();
    for status in [Status::Ok, Status::NotModified] {
        assert_eq!(after.ready_head(status).unwrap().bytes, before.ready_head(status).unwrap().bytes);
        assert_eq!(after.ready_block(status).unwrap().bytes, before.ready_block(status).unwrap().bytes);
    }
    assert!(content(&after) == one && after.stored_sums(0).is_some());
    assert_eq!((after.facts().validators.etag, after.freshness), (&b"\"a\""[..], before.freshness));
    assert_eq!(content(&find(&cache, b"ph\0/two", de).unwrap()), two);
    assert_eq!(content(&find(&cache, b"ph\0/two", en).unwrap()), b"english");
    assert_eq!(content(&find(&cache, b"ph\0/empty", &[]).unwrap()), b"");
    assert!(find(&cache, b"ph\0/two", &[]).is_none() && find(&cache, b"ph\0/gone", &[]).is_none());
    assert!(find(&cache, b"ph\0/short", &[]).is_none(), "not worth being written");
    assert_eq!(cache.counters.restored.load(std::sync::atomic::Ordering::Relaxed), 4);
    archivist.finish().unwrap();
}

#[test]
fn what_is_forgotten_does_not_come_back_nor_what_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept.img");
    let (cache, archivist) = open(&path);
    for key in [&b"ph\0/a"[..], b"ph\0/b", b"ph\0/c"] {
        cache.put(key, object(key, b"old", FRESH, &[], 1000));
        settled(&cache, key, &[]);
    }
    archivist.finish().unwrap();
    let (cache, archivist) = open(&path);
    // Not looked for since: neither is in memory.
    assert!(cache.invalidate(b"ph\0/a"));
    assert!(find(&cache, b"ph\0/a", &[]).is_none(), "while it is taken away, too");
    cache.put(b"ph\0/b", object(b"ph\0/b", b"new", FRESH, &[], 1010));
    // What is not worth being written takes the place of what is.
    let short = object(b"ph\0/c", b"short", "Cache-Control: max-age=5\r\n", &[], 1000);
    cache.put(b"ph\0/c", short);
    archivist.finish().unwrap();
    let (cache, archivist) = open(&path);
    assert!(find(&cache, b"ph\0/a", &[]).is_none() && find(&cache, b"ph\0/c", &[]).is_none());
    assert_eq!(content(&find(&cache, b"ph\0/b", &[]).unwrap()), b"new");
    archivist.finish().unwrap();
}

#[test]
fn what_a_304_says_is_kept_as_well_before_and_after_the_content_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept.img");
    let (cache, archivist) = open(&path);
    let mut head = ForeignHead::new(304, "Not Modified".to_owned());
    head.fields = b"Cache-Control: max-age=7200\r\nX: new\r\n".to_vec();
    let early = object(b"ph\0/early", &noise(100_000, 3), FRESH, &[], 1000);
    cache.put(b"ph\0/early", Arc::clone(&early));
    assert!(cache.replace(b"ph\0/early", &early, Arc::new(early.freshened(&head, 1100, 1100).unwrap())));
    let late = object(b"ph\0/late", b"late", FRESH, &[], 1000);
    cache.put(b"ph\0/late", Arc::clone(&late));
    settled(&cache, b"ph\0/late", &[]);
    // Who asked had it in memory yet.
    assert!(cache.replace(b"ph\0/late", &late, Arc::new(late.freshened(&head, 1100, 1100).unwrap())));
    let now = find(&cache, b"ph\0/late", &[]).unwrap();
    assert!(matches!(now.place(), Content::File(_)) && now.freshness.came == 1100);
    archivist.finish().unwrap();
    let (cache, archivist) = open(&path);
    for (key, before) in [(&b"ph\0/early"[..], &early), (b"ph\0/late", &late)] {
        let object = find(&cache, key, &[]).unwrap();
        assert_eq!((object.freshness.came, object.freshness.lifetime), (1100, 7200));
        let lines = object.ready_head(Status::Ok).unwrap().bytes;
        assert!(lines.windows(6).any(|part| part == b"X: new"), "{}", String::from_utf8_lossy(lines));
        assert!(content(&object) == content(before));
        // Put anew, nothing is left of it.
        cache.put(key, super::tests::object(key, b"anew", FRESH, &[], 1200));
    }
    archivist.finish().unwrap();
    let (cache, archivist) = open(&path);
    for key in [&b"ph\0/early"[..], b"ph\0/late"] {
        let object = find(&cache, key, &[]).unwrap();
        assert_eq!((content(&object), object.freshness.lifetime), (b"anew".to_vec(), 3600));
    }
    archivist.finish().unwrap();
}

#[test]
fn the_image_gets_no_longer_than_it_may_and_what_is_used_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept.img");
    let (cache, archivist) = open(&path);
    let key = |number: usize| format!("ph\0/{number}").into_bytes();
    let one = 1 << 20;
    // Twice as much as there is room for, as much at once as a commit does not wait for; the first is asked
    // for again and again.
    for numbers in (0..128).collect::<Vec<usize>>().chunks(8) {
        for &number in numbers {
            cache.put(&key(number), object(&key(number), &noise(one, number as u64), FRESH, &[], 1000));
        }
        // Looked at without being used.
        for _ in 0..6000 {
            if cache.size().1 < 4 << 20 {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(find(&cache, &key(0), &[]).is_some(), "{numbers:?}");
    }
    archivist.finish().unwrap();
    use std::os::unix::fs::MetadataExt;
    let disk = fs::metadata(&path).unwrap().blocks() * 512;
    assert!(disk < MIN_IMAGE_BYTES + MIN_IMAGE_BYTES / 4, "{disk}");
    let (cache, archivist) = open(&path);
    let there: Vec<usize> = (0..128).filter(|&number| find(&cache, &key(number), &[]).is_some()).collect();
    assert!((33..64).contains(&there.len()) && there.contains(&0) && there.contains(&127), "{there:?}");
    for &number in &there {
        assert!(content(&find(&cache, &key(number), &[]).unwrap()) == noise(one, number as u64), "{number}");
    }
    archivist.finish().unwrap();
}

#[test]
fn what_was_moved_in_the_image_is_still_there_for_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept.img");
    let (cache, archivist) = open(&path);
    // Commits of little each: their segments are copied together.
    let key = |number: usize| format!("ph\0/{number}").into_bytes();
    let mut first = None;
    for number in 0..110 {
        cache.put(&key(number), object(&key(number), &noise(5000, number as u64), FRESH, &[], 1000));
        // With something to take away nobody waits for more.
        cache.put(b"ph\0/x", object(b"ph\0/x", b"x", FRESH, &[], 1000));
        cache.invalidate(b"ph\0/x");
        let settled = settled(&cache, &key(number), &[]);
        first.get_or_insert(settled);
    }
    let first = first.unwrap();
    for number in 0..110 {
        let object = find(&cache, &key(number), &[]).unwrap();
        assert!(content(&object) == noise(5000, number as u64), "{number}");
        if number == 0 {
            let Content::File(now) = object.place() else { panic!("{object:?}") };
            let Content::File(then) = first.place() else { panic!("{first:?}") };
            assert!(!Arc::ptr_eq(&now.image, &then.image), "it was never moved");
        }
    }
    assert!(content(&first) == noise(5000, 0));
    archivist.finish().unwrap();
}

#[test]
fn what_is_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept.img");
    let refused = |path: &Path| match open_with(path, MIN_IMAGE_BYTES, "") {
        Err(error @ ArchiveError::Foreign(_)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    fs::write(&path, "a letter").unwrap();
    assert!(refused(&path).contains("name another file"));
    assert_eq!(fs::read(&path).unwrap(), b"a letter");
    fs::remove_file(&path).unwrap();
    let mut site = Log::create(&path, &OpenOptions::default()).unwrap();
    site.put(b"index.html", Mtime::default(), Contents::from(b"hello".to_vec()), b"").unwrap();
    site.sync().unwrap();
    drop(site);
    assert!(refused(&path).contains("image of a site"));
    fs::remove_file(&path).unwrap();
    // One writer at a time.
    let (cache, archivist) = open(&path);
    assert!(matches!(open_with(&path, MIN_IMAGE_BYTES, ""), Err(ArchiveError::Log(LogError::Busy))));
    cache.put(b"ph\0/a", object(b"ph\0/a", b"a", FRESH, &[], 1000));
    archivist.finish().unwrap();
    // Another origin's are not this one's.
    let (cache, archivist) = open_with(&path, MIN_IMAGE_BYTES, "0 / http://other\n").unwrap();
    assert!(find(&cache, b"ph\0/a", &[]).is_none());
    archivist.finish().unwrap();
}

#[test]
fn a_damaged_image_is_put_aside_and_a_damaged_page_never_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept.img");
    let (cache, archivist) = open(&path);
    let bytes = noise(50_000, 9);
    cache.put(b"ph\0/a", object(b"ph\0/a", &bytes, FRESH, &[], 1000));
    archivist.finish().unwrap();
    let whole = fs::read(&path).unwrap();
    let at = whole.windows(64).position(|part| part == &bytes[20_000..20_064]).unwrap();
    let mut damaged = whole.clone();
    damaged[at] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let (cache, archivist) = open(&path);
    let object = find(&cache, b"ph\0/a", &[]).unwrap();
    assert!(object.content(0..50_000).is_err());
    archivist.finish().unwrap();
    // Without either of its superblocks it is nothing.
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(&whole[..8]).unwrap();
    file.write_all(&[0; 100]).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 100], 65_536).unwrap();
    drop(file);
    let (cache, archivist) = open(&path);
    assert!(find(&cache, b"ph\0/a", &[]).is_none() && dir.path().join("kept.img.damaged").exists());
    archivist.finish().unwrap();
}
