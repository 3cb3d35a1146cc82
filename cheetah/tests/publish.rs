//! Images that are published in one place and served in several: what is sent and fetched, what is refused,
//! and that servers go from one to the next without a request that fails.

mod support;

use std::fs::{self, File};
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use cheetah::depot::{self, Depot, FolderDepot, Pointer, Stored};
use support::program::Program;
use support::{noise, read_response, until};

fn cheetah(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cheetah")).args(arguments).output().unwrap()
}

fn said(arguments: &[&str]) -> String {
    let output = cheetah(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A folder with a site of some megabytes, and what is made of it.
struct Workshop {
    dir: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Workshop {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("site")).unwrap();
        for file in 0..8 {
            let mut bytes = noise(400_000);
            bytes.iter_mut().for_each(|byte| *byte ^= file);
            fs::write(dir.path().join(format!("site/{file}.bin")), bytes).unwrap();
        }
        Workshop { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn url(&self) -> String {
        format!("file://{}", self.path("published"))
    }

    /// An image of the site as it is with that page; its path.
    fn pack(&self, page: &str) -> String {
        fs::write(self.dir.path().join("site/index.html"), page).unwrap();
        let image = self.path("packed.img");
        said(&["pack", &self.path("site"), "-o", &image]);
        image
    }

    /// Publishes such an image; how many bytes were new.
    fn publish(&self, page: &str) -> u64 {
        published(&said(&["publish", &self.pack(page), &self.url()]))
    }

    /// A server of what is published, that keeps it in that file, and what it says on standard error.
    fn serve(&self, name: &str) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
        command.arg("serve").stderr(Stdio::piped());
        Program::start_by(&mut command, &[&self.path(name), "--from", &self.url(), "--follow", "1"])
    }
}

/// What `cheetah publish` says of the bytes that were not there.
fn published(line: &str) -> u64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    let place = words.iter().rposition(|word| *word == "bytes").unwrap();
    words[place - 1].parse().unwrap()
}

fn page(server: &Program) -> String {
    String::from_utf8(server.get("/").1).unwrap()
}

fn etag(server: &Program, path: &str) -> String {
    let mut stream = TcpStream::connect(&server.addr).unwrap();
    write!(stream, "HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_response(&mut stream, true).field("ETag").unwrap().to_owned()
}

#[test]
fn servers_follow_what_is_published() {
    let workshop = Workshop::new();
    let first = workshop.publish("one");
    assert!(first > 3_200_000, "{first}");
    let (a, b) = (workshop.serve("a.img"), workshop.serve("b.img"));
    for server in [&a, &b] {
        assert_eq!(page(server), "one");
    }
    assert_eq!(etag(&a, "/"), etag(&b, "/"));
    let old = etag(&a, "/");
    // A connection is kept, and a response under way, while the image is replaced.
    let mut kept = TcpStream::connect(&a.addr).unwrap();
    kept.write_all(b"GET /0.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut head = [0; 100];
    kept.read_exact(&mut head).unwrap();
    assert_eq!(b.end(), Some(0));
    let second = workshop.publish("two, and longer");
    // What is about the page, and what says where files are.
    assert!(second < first / 2, "{second} of {first}");
    until("the first follows", || page(&a) == "two, and longer");
    let mut rest = io::Cursor::new(head).chain(&mut kept);
    assert!(read_response(&mut rest, false).body == fs::read(workshop.path("site/0.bin")).unwrap());
    kept.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut kept, false).body, b"two, and longer");
    // One that was away catches up when it starts, and fetches what it lacks.
    let mut b = workshop.serve("b.img");
    assert_eq!(page(&b), "two, and longer");
    let mut lines = b.take_errors().unwrap().lines().map(Result::unwrap);
    let told = lines.find(|line| line.contains("of them fetched")).unwrap();
    assert!(published(&told.replace(" of them", " bytes of them")) <= second, "{told}");
    assert_ne!(etag(&b, "/"), old);
    for path in ["/", "/3.bin"] {
        assert_eq!(etag(&a, path), etag(&b, path), "{path}");
    }
    // Back again: nothing has to be sent.
    let third = workshop.pack("one");
    assert_eq!(a.end(), Some(0));
    let again = said(&["publish", &third, &workshop.url()]);
    assert!(again.starts_with("published "), "{again}");
    until("the second follows", || page(&b) == "one");
    assert_eq!(b.end(), Some(0));
}

#[test]
fn what_is_damaged_or_away_is_not_served_and_what_was_is() {
    let workshop = Workshop::new();
    workshop.publish("one");
    let mut server = workshop.serve("a.img");
    let mut errors = server.take_errors().unwrap().lines().map(Result::unwrap);
    // Another is published with a part that is damaged before anybody can see it.
    let staged = workshop.path("staged");
    let copied = Command::new("cp").args(["-r", &workshop.path("published"), &staged]).status().unwrap();
    assert!(copied.success());
    let manifest = |folder: &str| {
        let pointer = fs::read_to_string(format!("{folder}/current")).unwrap();
        let image = pointer.trim_end().rsplit(' ').next().unwrap();
        fs::read_to_string(format!("{folder}/images/{image}")).unwrap()
    };
    let known = manifest(&staged);
    said(&["publish", &workshop.pack("two"), &format!("file://{staged}")]);
    let fresh = manifest(&staged);
    let part = fresh.lines().find(|line| !known.contains(line)).unwrap()[..64].to_owned();
    let name = format!("parts/{}/{part}", &part[..2]);
    let whole = fs::read(format!("{staged}/{name}")).unwrap();
    let mut broken = whole.clone();
    broken[0] ^= 1;
    fs::write(format!("{staged}/{name}"), broken).unwrap();
    fs::rename(workshop.path("published"), workshop.path("old")).unwrap();
    fs::rename(&staged, workshop.path("published")).unwrap();
    assert!(errors.any(|line| line.contains("another hash than its name")));
    assert_eq!(page(&server), "one");
    let part = workshop.path(&format!("published/{name}"));
    let second = workshop.path("b.img");
    let output = cheetah(&["pull", &workshop.url(), &second]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && told.contains("another hash"), "{told}");
    assert!(!Path::new(&second).exists(), "not in part either");
    fs::remove_file(&part).unwrap();
    let told = cheetah(&["pull", &workshop.url(), &second]).stderr;
    assert!(String::from_utf8_lossy(&told).contains("is not there"));
    fs::write(&part, whole).unwrap();
    assert!(said(&["pull", &workshop.url(), &second]).contains("is now"));
    assert!(said(&["pull", &workshop.url(), &second]).contains("is already"));
    until("two comes", || page(&server) == "two");
    // The depot is gone: what is here is served, also by one that starts, and told once.
    fs::rename(workshop.path("published"), workshop.path("elsewhere")).unwrap();
    let mut late = workshop.serve("b.img");
    assert_eq!(page(&late), "two");
    let mut told = late.take_errors().unwrap().lines().map(Result::unwrap);
    assert!(told.any(|line| line.contains("is served as it is")));
    // Something else lies there.
    fs::create_dir(workshop.path("published")).unwrap();
    fs::write(workshop.path("published/current"), "hello").unwrap();
    assert!(errors.any(|line| line.contains("none of cheetah's")));
    assert_eq!(page(&server), "two");
    for server in [server, late] {
        assert_eq!(server.end(), Some(0));
    }
    let told = cheetah(&["serve", &workshop.path("c.img"), "--from", &workshop.url()]).stderr;
    assert!(String::from_utf8_lossy(&told).contains("none of cheetah's"));
}

/// A depot in which somebody else is quicker.
#[derive(Debug)]
struct Raced {
    depot: FolderDepot,
    other: Mutex<Option<Vec<u8>>>,
}

impl Depot for Raced {
    fn get(&self, name: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        self.depot.get(name, max_bytes)
    }

    fn has(&self, name: &str) -> io::Result<bool> {
        self.depot.has(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if let Some(other) = self.other.lock().unwrap().take() {
            let pointer = self.depot.pointer()?;
            assert!(self.depot.set_pointer(&other, pointer.as_ref())?);
        }
        self.depot.put(name, bytes)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Stored>> {
        self.depot.list(folder)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.depot.remove(name)
    }

    fn pointer(&self) -> io::Result<Option<Pointer>> {
        self.depot.pointer()
    }

    fn set_pointer(&self, bytes: &[u8], old: Option<&Pointer>) -> io::Result<bool> {
        self.depot.set_pointer(bytes, old)
    }
}

#[test]
fn of_two_who_publish_at_once_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let folder = FolderDepot::open(&dir.path().join("depot"));
    let image = |name: &str, bytes: &[u8]| {
        let path: PathBuf = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        File::open(path).unwrap()
    };
    let done = |_: u64| {};
    let one = depot::publish(&image("one", &noise(2_000_000)), &folder, &done).unwrap();
    assert_eq!((one.bytes, one.new_bytes, one.new_parts), (2_000_000, 2_000_000, one.parts));
    let two = depot::publish(&image("two", &noise(1_900_000)), &folder, &done).unwrap();
    assert!(two.new_bytes < 1_048_577, "{two:?}");
    let first = folder.pointer().unwrap().unwrap();
    assert_eq!(first.image().unwrap(), two.image);
    // While the third is on its way, somebody goes back to the first.
    let other = first.bytes.clone();
    let other = String::from_utf8(other).unwrap().replace(&two.image, &one.image).into_bytes();
    let raced = Raced { depot: folder.clone(), other: Mutex::new(Some(other)) };
    let error = depot::publish(&image("three", &noise(50_000)), &raced, &done).unwrap_err().to_string();
    assert!(error.contains("somebody else") && error.contains(&one.image), "{error}");
    let target = dir.path().join("target");
    let pulled = depot::pull(&folder, &target, &AtomicBool::new(false)).unwrap();
    assert_eq!((pulled.image, pulled.is_new), (one.image.clone(), true));
    assert!(fs::read(&target).unwrap() == noise(2_000_000));
    // From what lies there already nothing is fetched, whatever else does.
    fs::write(&target, [&noise(2_000_000)[..], &[0; 100_000]].concat()).unwrap();
    let pulled = depot::pull(&folder, &target, &AtomicBool::new(false)).unwrap();
    assert!(pulled.is_new && pulled.fetched_bytes < 1_048_577, "{pulled:?}");
    assert!(fs::read(&target).unwrap() == noise(2_000_000));
    // Told to leave off, it does, and leaves what was there.
    fs::write(&target, b"something else").unwrap();
    assert!(depot::pull(&folder, &target, &AtomicBool::new(true)).is_err());
    assert_eq!(fs::read(&target).unwrap(), b"something else");
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let workshop = Workshop::new();
    let image = workshop.pack("one");
    let site = workshop.path("site");
    let nothing = format!("file://{}", workshop.path("nothing"));
    for (arguments, what) in [
        (vec!["publish", &image, "ftp://a/b"], "give file:///FOLDER or s3://BUCKET/PREFIX"),
        (vec!["publish", &image, "file://a/b"], "give a whole path"),
        (vec!["publish", &site, &nothing], "site"),
        (vec!["serve", &site, "--from", &nothing], "keeps"),
        (vec!["serve", "--from", &nothing], "serve"),
        (vec!["serve", &workshop.path("no.img"), "--from", &nothing], "nothing is published there yet"),
    ] {
        let output = cheetah(&arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(what), "{arguments:?}: {told}");
    }
    assert!(!Path::new(&workshop.path("nothing")).exists());
}

/// The example for Kubernetes says nothing that the program does not take.
#[test]
fn the_example_names_options_that_there_are() {
    let text = include_str!("../../packaging/kubernetes/cheetah.yaml");
    let help = said(&["serve", "--help"]);
    let options: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ").filter(|word| word.starts_with("--")))
        .collect();
    assert!(options.len() >= 4, "{options:?}");
    for option in options {
        let name = option.split('=').next().unwrap();
        assert!(help.contains(&format!("{name} ")), "{name}");
    }
    for path in ["/readyz", "/healthz"] {
        assert!(text.contains(path));
    }
}
