//! What no published image needs is removed, and nothing else: whoever publishes or pulls meanwhile.

mod support;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use cheetah::depot::{self, Collected, Depot, FolderDepot, Pointer, Stored};
use support::noise;

const HOUR: Duration = Duration::from_secs(3600);

/// A folder with a depot, and images beside it.
struct Yard {
    dir: tempfile::TempDir,
    depot: FolderDepot,
}

impl Yard {
    fn new() -> Yard {
        let dir = tempfile::tempdir().unwrap();
        let depot = FolderDepot::open(&dir.path().join("depot"));
        Yard { dir, depot }
    }

    /// An image of 3 MB, of which half is its own.
    fn image(&self, seed: u8) -> File {
        let mut bytes = noise(3_000_000);
        bytes[1_500_000..].iter_mut().for_each(|byte| *byte ^= seed);
        let path = self.dir.path().join(format!("{seed}.img"));
        fs::write(&path, bytes).unwrap();
        File::open(path).unwrap()
    }

    fn publish(&self, seed: u8) -> String {
        depot::publish(&self.image(seed), &self.depot, &|_| {}).unwrap().image
    }

    fn files(&self) -> Vec<PathBuf> {
        let (mut files, mut folders) = (Vec::new(), vec![self.dir.path().join("depot")]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }

    /// Makes all that is there so old.
    fn age(&self, by: Duration) {
        for path in self.files() {
            File::open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
        }
    }

    /// What a server gets that has nothing yet is the image that `seed` makes.
    fn assert_serves(&self, seed: u8) {
        let target = self.dir.path().join("target");
        let _ = fs::remove_file(&target);
        depot::pull(&self.depot, &target, &AtomicBool::new(false)).unwrap();
        let _ = self.image(seed);
        let image = self.dir.path().join(format!("{seed}.img"));
        assert!(fs::read(target).unwrap() == fs::read(image).unwrap());
    }

    fn lists(&self) -> usize {
        self.depot.list("images").unwrap().len()
    }
}

#[test]
fn what_no_image_needs_goes_when_it_is_old() {
    let yard = Yard::new();
    yard.publish(1);
    let alone = yard.files().len();
    yard.age(48 * HOUR);
    yard.publish(2);
    // The first was served just now.
    assert_eq!(depot::collect(&yard.depot, 24 * HOUR).unwrap(), Collected::default());
    yard.publish(3);
    let others = [yard.dir.path().join("depot/parts/00/of-another"), yard.dir.path().join("depot/notes")];
    for other in &others {
        fs::create_dir_all(other.parent().unwrap()).unwrap();
        fs::write(other, b"x").unwrap();
    }
    yard.age(48 * HOUR);
    yard.publish(3);
    let collected = depot::collect(&yard.depot, 24 * HOUR).unwrap();
    // Half of each, but for the part where they begin to differ.
    assert_eq!(collected.images, 2);
    assert!((3_000_000..4_000_000).contains(&collected.bytes) && !collected.is_cut_short, "{collected:?}");
    assert_eq!(yard.lists(), 1);
    assert!(others.iter().all(|other| other.exists()), "what is another's is let be");
    let left = yard.files().len() - others.len();
    assert!(left.abs_diff(alone) <= 3, "{left} files, {alone} of one image alone");
    yard.assert_serves(3);
    assert!(!yard.dir.path().join("depot/collecting").exists());
    // To go back costs what is not there any more.
    yard.publish(1);
    yard.assert_serves(1);
}

#[test]
fn nothing_is_removed_where_it_is_not_known_what_is_needed() {
    let yard = Yard::new();
    let told = |error: io::Error, what: &str| {
        let told = error.to_string();
        assert!(told.contains(what), "{told}");
    };
    told(depot::collect(&yard.depot, 24 * HOUR).unwrap_err(), "nothing is published");
    let image = yard.publish(1);
    told(depot::collect(&yard.depot, HOUR / 2).unwrap_err(), "an hour at least");
    yard.age(48 * HOUR);
    let list = yard.dir.path().join(format!("depot/images/{image}"));
    let text = fs::read(&list).unwrap();
    for damaged in [&b""[..], &text[1..]] {
        fs::write(&list, damaged).unwrap();
        let before = yard.files();
        told(depot::collect(&yard.depot, 24 * HOUR).unwrap_err(), "another hash than its name");
        assert_eq!(yard.files(), before);
    }
    fs::remove_file(&list).unwrap();
    let before = yard.files();
    told(depot::collect(&yard.depot, 24 * HOUR).unwrap_err(), "is not there");
    assert_eq!(yard.files(), before);
}

/// A depot to which something happens when it is first asked for that.
struct Disturbed<'a> {
    yard: &'a Yard,
    when: &'static str,
    what: Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>,
}

impl std::fmt::Debug for Disturbed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disturbed")
    }
}

impl Disturbed<'_> {
    fn at(&self, call: String) -> &FolderDepot {
        if call.starts_with(self.when)
            && let Some(what) = self.what.lock().unwrap().take()
        {
            what();
        }
        &self.yard.depot
    }
}

impl Depot for Disturbed<'_> {
    fn get(&self, name: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        self.at(format!("get {name}")).get(name, max_bytes)
    }

    fn has(&self, name: &str) -> io::Result<bool> {
        self.at(format!("has {name}")).has(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.at(format!("put {name}")).put(name, bytes)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Stored>> {
        self.at(format!("list {folder}")).list(folder)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.at(format!("remove {name}")).remove(name)
    }

    fn pointer(&self) -> io::Result<Option<Pointer>> {
        self.at("pointer".to_owned()).pointer()
    }

    fn set_pointer(&self, bytes: &[u8], old: Option<&Pointer>) -> io::Result<bool> {
        self.at("set_pointer".to_owned()).set_pointer(bytes, old)
    }
}

/// Wherever a publisher is when all is collected, what it publishes is whole, or it is told.
#[test]
fn a_publisher_keeps_what_it_needs() {
    for when in ["pointer", "put images", "get collecting", "has parts", "set_pointer"] {
        let yard = Yard::new();
        yard.publish(1);
        yard.publish(2);
        yard.age(48 * HOUR);
        let collect = || assert!(!depot::collect(&yard.depot, 24 * HOUR).unwrap().is_cut_short);
        let depot = Disturbed { yard: &yard, when, what: Mutex::new(Some(Box::new(collect))) };
        // Its parts are there, old, and no image that is served needs them.
        depot::publish(&yard.image(1), &depot, &|_| {}).unwrap();
        assert!(depot.what.lock().unwrap().is_none(), "{when}");
        yard.assert_serves(1);
    }
}

/// Wherever a collector is when somebody publishes, that is refused, or whole.
#[test]
fn a_collector_removes_nothing_that_is_published_meanwhile() {
    for (when, is_refused) in [
        ("put collecting", false),
        ("pointer", true),
        ("list images", true),
        ("list parts/00", true),
        ("list parts/ff", true),
        ("remove images", true),
        ("remove collecting", true),
    ] {
        let yard = Yard::new();
        yard.publish(1);
        yard.publish(2);
        yard.age(48 * HOUR);
        let publish = || {
            let published = depot::publish(&yard.image(1), &yard.depot, &|_| {});
            assert_eq!(published.is_err(), is_refused, "{when}: {published:?}");
        };
        let depot = Disturbed { yard: &yard, when, what: Mutex::new(Some(Box::new(publish))) };
        depot::collect(&depot, 24 * HOUR).unwrap();
        assert!(depot.what.lock().unwrap().is_none(), "{when}");
        yard.assert_serves(if is_refused { 2 } else { 1 });
        // Afterwards it can.
        yard.publish(1);
        yard.assert_serves(1);
    }
}

#[test]
fn of_two_who_collect_one_is_told_and_who_is_gone_is_in_nobodys_way_for_ever() {
    let yard = Yard::new();
    yard.publish(1);
    let again = || {
        let error = depot::collect(&yard.depot, 24 * HOUR).unwrap_err().to_string();
        assert!(error.contains("another removes"), "{error}");
    };
    let depot = Disturbed { yard: &yard, when: "list images", what: Mutex::new(Some(Box::new(again))) };
    depot::collect(&depot, 24 * HOUR).unwrap();
    let lease: &Path = &yard.dir.path().join("depot/collecting");
    for over in ["cheetah-collecting 1\nuntil 1000\nby someone\n", "what nobody wrote"] {
        fs::write(lease, over).unwrap();
        yard.publish(1);
        depot::collect(&yard.depot, 24 * HOUR).unwrap();
        assert!(!lease.exists());
    }
}
