//! `put`, `rm`, `mv`, `mkdir`, `df`, `compact` and `unpack`, driven as a user would.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cheetah::site::ChangedSite;
use cheetah::store::{Found, Store};
use fsstack::OpenOptions;
use fsstack::image::build::Mtime;
use fsstack::log::{Generation, Log, Posix, Special};

fn cheetah(folder: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cheetah"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who is refused does not read it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn run(folder: &Path, arguments: &[&str], input: &[u8]) -> String {
    let output = cheetah(folder, arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = cheetah(folder, arguments, b"x");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_image_is_made_changed_and_packed_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["put", "a.img", "docs/a.txt"], b"hello");
    fs::write(at.join("page"), "<p>page").unwrap();
    run(at, &["put", "a.img", "/index.html", "page"], b"");
    run(at, &["mkdir", "-p", "a.img", "x/y"], b"");
    assert_eq!(run(at, &["ls", "-R", "a.img"], b""), "docs/\ndocs/a.txt\nindex.html\nx/\nx/y/\n");
    run(at, &["put", "a.img", "docs/a.txt", "--at", "3"], b"p me out");
    assert_eq!(run(at, &["cat", "a.img", "docs/a.txt"], b""), "help me out");
    run(at, &["mv", "a.img", "docs", "x/y"], b"");
    run(at, &["mv", "a.img", "index.html", "x/index.txt"], b"");
    assert_eq!(run(at, &["ls", "-R", "a.img"], b""), "x/\nx/index.txt\nx/y/\nx/y/a.txt\n");
    let stat: serde_json::Value =
        serde_json::from_str(&run(at, &["stat", "--json", "a.img", "x/y/a.txt"], b"")).unwrap();
    assert_eq!((&stat["pieces"], &stat["application_bytes"]), (&2.into(), &0.into()));
    assert!(run(at, &["fsck", "a.img"], b"").contains("sound: 2 files, 3 folders, 18 bytes"));
    let df: serde_json::Value = serde_json::from_str(&run(at, &["df", "--json", "a.img"], b"")).unwrap();
    assert_eq!((&df["files"], &df["content_bytes"]), (&2.into(), &18.into()));
    assert!(df["dead_bytes"].as_u64().unwrap() > 0, "{df}");

    run(at, &["compact", "a.img"], b"");
    let stat: serde_json::Value =
        serde_json::from_str(&run(at, &["stat", "--json", "a.img", "x/y/a.txt"], b"")).unwrap();
    assert_eq!(stat["pieces"], 1);
    assert!(stat["application_bytes"].as_u64().unwrap() > 0, "heads were made");
    let df: serde_json::Value = serde_json::from_str(&run(at, &["df", "--json", "a.img"], b"")).unwrap();
    assert_eq!((&df["segments"], &df["dead_bytes"]), (&1.into(), &0.into()));
    run(at, &["rm", "-r", "a.img", "x/y"], b"");
    run(at, &["compact", "a.img", "-o", "packed.img"], b"");
    assert_eq!(run(at, &["ls", "-R", "packed.img"], b""), "x/\nx/index.txt\n");
    assert!(run(at, &["fsck", "packed.img"], b"").contains("sound"));
    run(at, &["unpack", "a.img", "out"], b"");
    assert_eq!(fs::read(at.join("out/x/index.txt")).unwrap(), b"<p>page");
    assert!(refused(at, &["unpack", "a.img", "out"]).contains("out"));
}

/// Modes and symbolic links, as a mount leaves them: seen, packed again, unpacked; and served to nobody.
#[test]
fn what_a_mount_keeps_is_seen_and_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["put", "a.img", "d/tool"], b"tool");
    run(at, &["put", "a.img", "plain"], b"plain");
    {
        let mut log = Log::open(&at.join("a.img"), &OpenOptions::default()).unwrap();
        let now = Mtime { seconds: 1_000_000_000, nanoseconds: 0 };
        let posix = |mode| Some(Posix { mode, uid: 7, gid: 8, ctime: None, atime: None });
        log.set_posix(b"d/tool", posix(0o4751)).unwrap();
        log.set_posix(b"d", posix(0o550)).unwrap();
        for (path, target) in [("d/up", "../plain"), ("away", "/etc/passwd"), ("none", "nothing")] {
            log.make_special(path.as_bytes(), now, Special::symlink(target.as_bytes()).unwrap()).unwrap();
        }
        log.make_special(b"d/pipe", now, Special::Fifo).unwrap();
        log.sync().unwrap();
    }
    for round in 0..2 {
        assert_eq!(
            run(at, &["ls", "-R", "a.img"], b""),
            "away\nd/\nd/pipe\nd/tool\nd/up\nnone\nplain\n",
            "round {round}"
        );
        let stat = |path: &str| -> serde_json::Value {
            serde_json::from_str(&run(at, &["stat", "--json", "a.img", path], b"")).unwrap()
        };
        let tool = stat("d/tool");
        assert_eq!((&tool["mode"], &tool["owner"]), (&"4751".into(), &"7:8".into()));
        let link = stat("away");
        assert_eq!((&link["kind"], &link["target"]), (&"symbolic link".into(), &"/etc/passwd".into()));
        assert!(refused(at, &["cat", "a.img", "away"]).contains("no file"));
        assert!(run(at, &["fsck", "a.img"], b"").contains("sound: 2 files, 2 folders"));
        let out = at.join(format!("out{round}"));
        let unpacked = cheetah(at, &["unpack", "a.img", out.to_str().unwrap()], b"");
        let said = String::from_utf8_lossy(&unpacked.stderr);
        assert!(unpacked.status.success() && said.contains("d/pipe"), "{said}");
        let mode = |path: &str| fs::symlink_metadata(out.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("d/tool"), mode("d")), (0o751, 0o550), "nobody gets the rights of who unpacks");
        assert_eq!(fs::read_link(out.join("away")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::read(out.join("d/up")).unwrap(), b"plain");
        assert!(!out.join("d/pipe").exists());
        // To be removed by anybody.
        fs::set_permissions(out.join("d"), fs::Permissions::from_mode(0o755)).unwrap();
        run(at, &["compact", "a.img"], b"");
    }
    let site =
        ChangedSite::new(&Generation::open(&at.join("a.img"), &OpenOptions::default()).unwrap()).unwrap();
    assert!(matches!(site.find(b"/d/tool"), Found::File(_)));
    for path in ["/away", "/none", "/d/up", "/d/pipe"] {
        assert!(matches!(site.find(path.as_bytes()), Found::Nothing), "{path}");
    }
    let packed = cheetah(at, &["compact", "a.img", "-o", "packed.img"], b"");
    assert!(String::from_utf8_lossy(&packed.stderr).contains("those of 6 paths are left out"));
    assert_eq!(run(at, &["ls", "-R", "packed.img"], b""), "d/\nd/tool\nplain\n");
}

/// Two names, one file: in a folder, in an image, by hand, and in a folder again.
#[test]
fn a_file_with_several_names_is_there_once() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir_all(at.join("site/d")).unwrap();
    fs::write(at.join("site/one.bin"), support::noise(300_000)).unwrap();
    fs::write(at.join("site/page.html"), "<p>page ".repeat(300)).unwrap();
    for (existing, new) in [
        ("one.bin", "d/two.bin"),
        ("one.bin", "0.bin"),
        ("page.html", "d/index.html"),
        // Another media type: its head is another, so it is another file.
        ("page.html", "page.txt"),
    ] {
        fs::hard_link(at.join("site").join(existing), at.join("site").join(new)).unwrap();
    }
    run(at, &["pack", "site", "-o", "a.img", "--compress"], b"");
    run(at, &["pack", "site", "-o", "b.img", "--compress"], b"");
    assert!(fs::read(at.join("a.img")).unwrap() == fs::read(at.join("b.img")).unwrap());
    assert!(fs::metadata(at.join("a.img")).unwrap().len() < 400_000);
    assert!(run(at, &["fsck", "a.img"], b"").contains("sound"));
    let stat = |image: &str, path: &str| -> serde_json::Value {
        serde_json::from_str(&run(at, &["stat", "--json", image, path], b"")).unwrap()
    };
    assert_eq!(stat("a.img", "d/two.bin")["names"], 3);
    assert_eq!(stat("a.img", "d/index.html")["names"], 2);
    // What it is in a coding, too.
    assert_eq!(stat("a.img", "d/index.html.br")["names"], 2);
    assert_eq!(stat("a.img", "page.txt")["names"], 1);

    run(at, &["ln", "a.img", "0.bin", "d/more.bin"], b"");
    assert!(refused(at, &["ln", "a.img", "0.bin", "d/more.bin"]).contains("already"));
    assert!(refused(at, &["ln", "a.img", "d", "e"]).contains("folder"));
    assert!(refused(at, &["ln", "a.img", "none", "e"]).contains("no such"));
    run(at, &["put", "a.img", "one.bin", "--at", "7"], b"changed");
    let mut expected = support::noise(300_000);
    expected[7..14].copy_from_slice(b"changed");
    let cat = cheetah(at, &["cat", "a.img", "d/more.bin"], b"").stdout;
    assert!(cat == expected);
    run(at, &["rm", "a.img", "one.bin"], b"");
    run(at, &["compact", "a.img"], b"");
    assert_eq!(stat("a.img", "d/more.bin")["names"], 3);
    run(at, &["compact", "a.img", "-o", "packed.img"], b"");
    assert!(fs::metadata(at.join("packed.img")).unwrap().len() < 400_000);
    run(at, &["unpack", "packed.img", "out"], b"");
    let facts = |name: &str| fs::metadata(at.join("out").join(name)).unwrap();
    assert_eq!((facts("0.bin").nlink(), facts("0.bin").ino()), (3, facts("d/more.bin").ino()));
    assert!(fs::read(at.join("out/d/two.bin")).unwrap() == expected);
    assert_eq!(facts("page.txt").nlink(), 1);
}

/// What is made anew for a file with several names is by the one that says most, whatever the others are.
#[test]
fn a_file_with_several_names_is_of_the_type_that_one_of_them_tells() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["put", "a.img", "index.html"], b"<p>hello");
    run(at, &["ln", "a.img", "index.html", "v1"], b"");
    run(at, &["ln", "a.img", "index.html", "CURRENT"], b"");
    run(at, &["put", "a.img", "page.html"], b"<p>page");
    run(at, &["ln", "a.img", "page.html", "page.html.gz"], b"");
    run(at, &["put", "a.img", "v1", "--at", "3"], b"HELLO");
    run(at, &["put", "a.img", "page.html", "--at", "3"], b"PAGE");
    run(at, &["compact", "a.img"], b"");
    let image = fsstack::log::Generation::open(&at.join("a.img"), &Default::default()).unwrap();
    for (path, count) in [("index.html", 3), ("v1", 3), ("CURRENT", 3), ("page.html", 2)] {
        let entry = image.find(path).unwrap();
        let head = String::from_utf8_lossy(entry.app().unwrap()).to_ascii_lowercase();
        assert_eq!(entry.name_count(), count);
        assert!(head.contains("text/html; charset=utf-8"), "{path}: {head}");
        assert!(!head.contains("content-encoding"), "{path}: {head}");
    }
}

/// A move between two names of one file does nothing, to what is beside them either.
#[test]
fn a_move_to_another_name_of_the_same_file_leaves_all_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["put", "a.img", "a.html"], b"<p>hello");
    run(at, &["ln", "a.img", "a.html", "b.html"], b"");
    run(at, &["put", "a.img", "b.html.br"], b"not looked at");
    run(at, &["mv", "a.img", "a.html", "b.html"], b"");
    assert_eq!(run(at, &["ls", "-R", "a.img"], b""), "a.html\nb.html\nb.html.br\n");
}

#[test]
fn a_packed_image_is_changed_and_its_files_stay_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir(at.join("site")).unwrap();
    fs::write(at.join("site/a.html"), "a".repeat(40_000)).unwrap();
    fs::write(at.join("site/b"), "b").unwrap();
    run(at, &["pack", "site", "-o", "a.img"], b"");
    let before = run(at, &["stat", "--json", "a.img", "a.html"], b"");
    run(at, &["rm", "a.img", "b"], b"");
    assert_eq!(run(at, &["stat", "--json", "a.img", "a.html"], b""), before);
    assert_eq!(run(at, &["ls", "a.img"], b""), "a.html\n");
}

#[test]
fn what_cannot_be_changed_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["put", "a.img", "d/a"], b"1");
    for (arguments, needle) in [
        (&["put", "a.img", "d/a/b"][..], "lies below"),
        (&["put", "a.img", "d"], "it is a folder"),
        (&["put", "a.img", "../x"], "`.` or `..`"),
        (&["put", "a.img", "x", "--at", "0"], "no such file"),
        (&["rm", "a.img", "d"], "not empty"),
        (&["rm", "a.img", "e"], "no such file"),
        (&["mv", "a.img", "d", "d/e"], "into itself"),
        (&["mkdir", "a.img", "d"], "there already"),
        (&["mkdir", "a.img", "e/f"], "make it first"),
        (&["rm", "missing.img", "e"], "missing.img"),
        (&["df", "missing.img"], "missing.img"),
    ] {
        let said = refused(at, arguments);
        assert!(said.contains(needle), "{arguments:?}: {said}");
    }
    assert!(!at.join("missing.img").exists());
    fs::write(at.join("junk.img"), [7; 10_000]).unwrap();
    assert!(refused(at, &["put", "junk.img", "a"]).contains("bad image"));
    let mut bytes = fs::read(at.join("a.img")).unwrap();
    // In the journal of the first segment.
    let journal = bytes.windows(8).position(|window| window == b"CHJRNL1\n").unwrap();
    bytes[journal + 9] ^= 1;
    fs::write(at.join("a.img"), bytes).unwrap();
    assert!(refused(at, &["fsck", "a.img"]).contains("journal"));
}

/// A response to a GET, head and body.
fn get(server: &support::program::Program, path: &str, fields: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(&server.addr).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let head = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let body = all.split_off(head);
    (String::from_utf8(all).unwrap(), body)
}

fn etag(head: &str) -> String {
    head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap().to_owned()
}

#[test]
fn a_changed_image_is_served_and_sighup_takes_up_what_was_changed_since() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir_all(at.join("site/docs")).unwrap();
    fs::write(at.join("site/docs/index.html"), "<p>docs").unwrap();
    fs::write(at.join("site/big"), vec![b'x'; 300_000]).unwrap();
    run(at, &["pack", "site", "-o", "a.img"], b"");
    run(at, &["put", "a.img", "new.html"], b"<p>new");
    let image = at.join("a.img");
    let server = support::program::Program::start(&[image.to_str().unwrap(), "--verify"]);
    let (head, body) = get(&server, "/new.html", "");
    assert_eq!(body, b"<p>new");
    assert!(head.contains("Content-Type: text/html; charset=utf-8") && etag(&head).len() == 42, "{head}");
    assert!(get(&server, "/new.html", &format!("If-None-Match: {}\r\n", etag(&head))).0.contains(" 304 "));
    assert_eq!(get(&server, "/docs/", "").1, b"<p>docs");
    assert!(get(&server, "/docs", "").0.contains(" 301 "));
    assert!(get(&server, "/docs/nothing", "").0.contains(" 404 "));
    let (head, body) = get(&server, "/big", "");
    assert_eq!(body, vec![b'x'; 300_000]);

    // What is written meanwhile is another generation.
    run(at, &["put", "a.img", "big", "--at", "150000"], b"yyy");
    run(at, &["rm", "a.img", "new.html"], b"");
    assert_eq!(get(&server, "/new.html", "").1, b"<p>new");
    assert_eq!(get(&server, "/big", "Range: bytes=149999-150003\r\n").1, b"xxxxx");
    server.signal("-HUP");
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !get(&server, "/new.html", "").0.contains(" 404 ") {
        assert!(std::time::Instant::now() < patience, "SIGHUP was not followed");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (changed, body) = get(&server, "/big", "");
    let mut expected = vec![b'x'; 300_000];
    expected[150_000..150_003].copy_from_slice(b"yyy");
    assert!(body == expected && etag(&changed) != etag(&head));
    assert_eq!(get(&server, "/big", "Range: bytes=149999-150003\r\n").1, b"xyyyx");
    assert_eq!(server.end(), Some(0));
}
