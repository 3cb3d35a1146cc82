//! `pack`, `fsck`, `ls`, `cat` and `stat`, driven as a user would.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use fsstack::image::build::Mtime;
use fsstack::log::Generation;
use fsstack::{BuildOptions, Builder, OpenOptions};

fn cheetah(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cheetah")).args(arguments).current_dir(folder).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn packed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    fs::create_dir_all(site.join("docs/deep")).unwrap();
    fs::write(site.join("index.html"), "<p>hello").unwrap();
    fs::write(site.join("docs/a.txt"), "a".repeat(5000)).unwrap();
    fs::write(site.join("docs/deep/b"), [0, 255, 10]).unwrap();
    let output = cheetah(folder.path(), &["pack", "site", "-o", "site.img"]);
    assert!(output.status.success(), "{}", stderr(&output));
    folder
}

#[test]
fn a_packed_image_is_sound_and_can_be_looked_into() {
    let folder = packed();
    let run = |arguments: &[&str]| {
        let output = cheetah(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        output
    };
    let checked = run(&["fsck", "site.img"]);
    assert!(
        stdout(&checked).contains("sound: 3 files, 3 folders, 5011 bytes of contents"),
        "{}",
        stdout(&checked)
    );
    assert_eq!(stdout(&run(&["ls", "site.img"])), "docs/\nindex.html\n");
    assert_eq!(stdout(&run(&["ls", "site.img", "docs"])), "a.txt\ndeep/\n");
    assert_eq!(
        stdout(&run(&["ls", "-R", "site.img"])),
        "docs/\ndocs/a.txt\ndocs/deep/\ndocs/deep/b\nindex.html\n"
    );
    assert!(stdout(&run(&["ls", "-l", "site.img", "docs/a.txt"])).starts_with("        5000  "));
    assert_eq!(run(&["cat", "site.img", "docs/deep/b"]).stdout, [0, 255, 10]);
    assert_eq!(run(&["cat", "site.img", "/index.html"]).stdout, b"<p>hello");
    let stat: serde_json::Value =
        serde_json::from_slice(&run(&["stat", "--json", "site.img", "docs/a.txt"]).stdout).unwrap();
    assert_eq!((&stat["kind"], &stat["size"]), (&"file".into(), &5000.into()));
    assert!(stat["application_bytes"].as_u64().unwrap() > 0, "the server keeps a response header there");
    let whole: serde_json::Value =
        serde_json::from_slice(&run(&["stat", "--json", "site.img"]).stdout).unwrap();
    assert_eq!(whole["content_bytes"], 5011);
    let list: serde_json::Value = serde_json::from_slice(&run(&["ls", "--json", "site.img"]).stdout).unwrap();
    assert_eq!(list[1]["path"], "index.html");
    let report: serde_json::Value =
        serde_json::from_slice(&run(&["fsck", "--json", "site.img"]).stdout).unwrap();
    assert_eq!(report["sound"], true);
}

#[test]
fn what_is_not_there_is_an_error_and_not_an_answer() {
    let folder = packed();
    for (arguments, expected) in [
        (&["cat", "site.img", "nope"][..], "there is no `nope`"),
        (&["cat", "site.img", "docs"], "is a folder"),
        (&["ls", "site.img", "index.html/"], "there is no `index.html/`"),
        (&["stat", "site.img", "../site"], "there is no `../site`"),
        (&["fsck", "missing.img"], "missing.img"),
        (&["fsck", "site/index.html"], "bad image at offset 8"),
    ] {
        let output = cheetah(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
    assert_eq!(cheetah(folder.path(), &["cat", "site.img"]).status.code(), Some(2));
}

#[test]
fn fsck_finds_a_changed_byte_wherever_it_is() {
    let folder = packed();
    let path = folder.path().join("site.img");
    let whole = fs::read(&path).unwrap();
    let content = whole.windows(8).position(|bytes| bytes == b"<p>hello").unwrap();
    for (at, expected) in
        [(0, "offset 0 "), (content, "contents of `index.html`"), (whole.len() - 1, "copy of the superblock")]
    {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let output = cheetah(folder.path(), &["fsck", "site.img"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        // An image that cannot be opened has no summary; that of another does not look like a sound one's.
        assert!(!stdout(&output).contains("sound"), "{}", stdout(&output));
        assert_eq!(stdout(&output).contains("damaged: 3 files"), at != 0, "{}", stdout(&output));
        let output = cheetah(folder.path(), &["fsck", "--json", "site.img"]);
        assert_eq!(output.status.code(), Some(1));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["sound"], false);
    }
    fs::write(&path, [&[0], &whole[1..]].concat()).unwrap();
    let output = cheetah(folder.path(), &["fsck", "site.img"]);
    assert!(
        stderr(&output).contains("copy of the superblock in the last block is sound"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_site_whose_rules_are_wrong_is_not_packed() {
    let folder = packed();
    fs::write(folder.path().join("site/_redirects"), "/a /b\n/c d\n").unwrap();
    let output = cheetah(folder.path(), &["pack", "site", "-o", "other.img"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("/_redirects, line 2") && text.contains("begin it with a slash"), "{text}");
    assert!(!folder.path().join("other.img").exists());
}

/// Which contents are those that their tags are of; and of how many files that can be told.
#[test]
fn files_are_compared_with_their_tags_as_far_as_they_have_some() {
    let folder = packed();
    let at = folder.path();
    let fsck = |image: &str| {
        let output = cheetah(at, &["fsck", "--tags", image]);
        let json = cheetah(at, &["fsck", "--tags", "--json", image]);
        assert_eq!(output.status.code(), json.status.code());
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(output.status.success(), json["sound"] == true);
        (output, json)
    };
    for (image, options) in [("site.img", &[][..]), ("short.img", &["--short-heads"])] {
        let packed = cheetah(at, &[&["pack", "site", "-o", image], options].concat());
        assert!(packed.status.success(), "{}", stderr(&packed));
        let (output, json) = fsck(image);
        assert!(
            stdout(&output).ends_with("; 3 of 3 files compared with their tags\n"),
            "{}",
            stdout(&output)
        );
        assert_eq!(json["tags"], serde_json::json!({"compared": 3, "files": 3}));
        // Without its area there is nothing to compare with, and nobody is told otherwise.
        fs::write(at.join("word"), "b").unwrap();
        let put = cheetah(at, &["put", image, "docs/a.txt", "word", "--at", "7"]);
        assert!(put.status.success(), "{}", stderr(&put));
        let (output, json) = fsck(image);
        assert_eq!(output.status.code(), Some(0));
        assert!(
            stdout(&output).ends_with("; 2 of 3 files compared with their tags\n"),
            "{}",
            stdout(&output)
        );
        assert_eq!(json["tags"], serde_json::json!({"compared": 2, "files": 3}));
        // Packing it again makes one.
        assert!(cheetah(at, &["compact", image]).status.success());
        assert!(stdout(&fsck(image).0).contains("; 3 of 3 files"));
    }
    let [long, short] = ["site.img", "short.img"].map(|image| {
        let stat = cheetah(at, &["stat", "--json", image, "index.html"]);
        let stat: serde_json::Value = serde_json::from_slice(&stat.stdout).unwrap();
        stat["application_bytes"].as_u64().unwrap()
    });
    assert!(short * 4 < long, "{short} of {long}");
    assert!(!stdout(&cheetah(at, &["fsck", "site.img"])).contains("tags"), "where nobody asked");
    let area = {
        let generation = Generation::open(&at.join("short.img"), &OpenOptions::default()).unwrap();
        generation.find("index.html").unwrap().app().unwrap().to_vec()
    };
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    for number in 0..103 {
        let path = format!("{number:03}.html");
        builder.file(path.as_bytes(), Mtime::default(), &mut &b"<p>hullo"[..], |_| area.clone()).unwrap();
    }
    builder.file(b"z", Mtime::default(), &mut &b"no area"[..], |_| Vec::new()).unwrap();
    fs::write(at.join("forged.img"), builder.finish().unwrap().0.into_bytes()).unwrap();
    assert!(cheetah(at, &["fsck", "forged.img"]).status.success(), "to checksums it is sound");
    let (output, json) = fsck("forged.img");
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("damaged") && stdout(&output).contains("; 103 of 104 files compared"));
    let text = stderr(&output);
    assert!(text.contains("forged.img: `000.html`: its contents have the tag"), "{text}");
    assert!(text.contains("103 problems"), "{text}");
    assert_eq!((json["problems"].as_array().unwrap().len(), &json["more_problems"]), (100, &3.into()));
}

/// The file that is being written has no name yet, so nobody has to take it away.
#[test]
fn nothing_stays_of_a_pack_that_is_ended_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let (site, images) = (folder.path().join("site"), folder.path().join("images"));
    fs::create_dir_all(&site).unwrap();
    fs::create_dir_all(&images).unwrap();
    // Compressing that takes seconds.
    let text: String = (0..1_000_000u32).map(|n| format!("{:x} ", n.wrapping_mul(2_654_435_761))).collect();
    fs::write(site.join("long.txt"), text).unwrap();
    let mut packing = Command::new(env!("CARGO_BIN_EXE_cheetah"))
        .args(["pack", "site", "--compress", "-o", "images/site.img"])
        .current_dir(folder.path())
        .spawn()
        .unwrap();
    let open = format!("/proc/{}/fd", packing.id());
    let until = Instant::now() + Duration::from_secs(30);
    let written = loop {
        let links = fs::read_dir(&open).unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        if let Some(written) = links.into_iter().find(|link| link.starts_with(&images)) {
            break written;
        }
        assert!(Instant::now() < until, "nothing is being written");
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(packing.try_wait().unwrap(), None, "it was too quick to be ended");
    if !written.to_string_lossy().ends_with("(deleted)") {
        packing.kill().unwrap();
        packing.wait().unwrap();
        return eprintln!("skipped: the file system has no files without a name");
    }
    let told = Command::new("kill").args(["-TERM", &packing.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert!(!packing.wait().unwrap().success());
    assert_eq!(fs::read_dir(&images).unwrap().count(), 0);
}
