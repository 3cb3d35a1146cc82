//! `pack`, `fsck`, `ls`, `cat` and `stat`, driven as a user would.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

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
