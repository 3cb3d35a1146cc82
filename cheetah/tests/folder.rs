//! `cheetah serve DIR` by the program itself: what of a folder is served, and what is not.

mod support;

use std::fs;
use std::io::BufRead;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use support::program::Program;

fn serve(dir: &Path, more: &[&str]) -> Program {
    Program::start(&[&[dir.to_str().unwrap()], more].concat())
}

fn folder() -> tempfile::TempDir {
    let outside = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for path in [
        "index.html",
        ".env",
        ".git/config",
        ".well-known/security.txt",
        ".well-known/.secret",
        "sub/.hidden/x",
        "sub/.well-known/x",
        "sub/page",
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
    }
    fs::write(outside.path().join("passwd"), "secret").unwrap();
    symlink(outside.path(), dir.path().join("out")).unwrap();
    symlink(outside.path().join("passwd"), dir.path().join("passwd")).unwrap();
    symlink("../../../../../../etc/passwd", dir.path().join("sub/etc-passwd")).unwrap();
    symlink(".env", dir.path().join("env")).unwrap();
    symlink(".git", dir.path().join("git")).unwrap();
    symlink("sub/page", dir.path().join("page")).unwrap();
    // Kept until the end of the process: a link to nothing would be left out for another reason.
    std::mem::forget(outside);
    dir
}

#[test]
fn names_with_a_dot_and_links_to_them_or_out_are_not_served() {
    let dir = folder();
    let serving = serve(dir.path(), &[]);
    for path in ["/", "/sub/page", "/page", "/.well-known/security.txt"] {
        assert_eq!(serving.get(path).0, 200, "{path}");
    }
    for path in [
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/.git/",
        "/.well-known/.secret",
        "/sub/.hidden/x",
        "/sub/.well-known/x",
        "/env",
        "/git/config",
        "/out/passwd",
        "/passwd",
        "/sub/etc-passwd",
    ] {
        assert_eq!(serving.get(path).0, 404, "{path}");
    }
}

#[test]
fn names_with_a_dot_are_served_when_asked_for_and_links_out_are_not() {
    let dir = folder();
    let serving = serve(dir.path(), &["--dotfiles"]);
    for (path, body) in
        [("/.env", ".env"), ("/.git/config", "config"), ("/env", ".env"), ("/git/config", "config")]
    {
        assert_eq!(serving.get(path), (200, body.as_bytes().to_vec()), "{path}");
    }
    for path in ["/out/passwd", "/passwd", "/sub/etc-passwd"] {
        assert_eq!(serving.get(path).0, 404, "{path}");
    }
}

/// A switch that does nothing where it is given is refused, and the message says what to write instead.
#[test]
fn switches_without_effect_are_refused() {
    let device = ["--net", "tap", "--addr", "10.0.0.1/24"];
    let packet = ["--net", "packet", "--dev", "eth0", "--addr", "10.0.0.1/24"];
    let cases: [(&[&str], &str, &str); 10] = [
        (&device, "fused-loops", "Add offload to --without"),
        (&device, "offload,fused-loops", "add stored-sums,cached-sums"),
        (&device, "stored-sums", "the device sums"),
        (&device, "cached-sums", "the device sums"),
        (&packet, "offload", "has no offloads"),
        (&[], "offload", "ethtool"),
        (&[], "stored-sums", "the kernel copies and sums"),
        (&[], "time-wait-records", "TIME-WAIT is the kernel's"),
        (&[], "fused-loops", "--net tap"),
        (&[], "max-connections", "precomputed-headers"),
    ];
    for (net, switch, says) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_cheetah"))
            .args(["serve", "."])
            .args(net)
            .args(["--without", switch])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{switch}: {text}");
        assert!(text.contains(says), "{switch}: {text}");
    }
}

#[test]
fn a_signal_has_the_counters_printed() {
    let dir = folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    command
        .args(["serve", "--workers", "2", "--counters", "json"])
        .env("CHEETAH_LOG", "off")
        .stderr(Stdio::piped());
    let mut serving = Program::start_by(&mut command, &[dir.path().to_str().unwrap()]);
    let mut errors = serving.take_errors().unwrap();
    for _ in 0..6 {
        assert_eq!(serving.get("/sub/page").0, 200);
    }
    serving.signal("-USR1");
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    let report: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(report["responses"]["200"], 6, "{report}");
    assert_eq!(report["connections"]["begun"], 6);
    assert_eq!(report["work"]["bytes_sent"], report["bytes_queued"]);
    // It lives on.
    assert_eq!(serving.get("/sub/page").0, 200);
}
