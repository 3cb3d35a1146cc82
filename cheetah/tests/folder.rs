//! `cheetah serve DIR` by the program itself: what of a folder is served, and what is not.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The program, serving; killed when dropped.
struct Serving {
    child: Child,
    addr: String,
}

impl Serving {
    fn start(dir: &Path, more: &[&str]) -> Serving {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cheetah"))
            .arg("serve")
            .arg(dir)
            .args(["--listen", "127.0.0.1:0"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on http://").unwrap().trim_end_matches('/').to_owned();
        Serving { child, addr }
    }

    /// Status and body.
    fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let head = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        (std::str::from_utf8(&all[9..12]).unwrap().parse().unwrap(), all.split_off(head))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
    let serving = Serving::start(dir.path(), &[]);
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
    let serving = Serving::start(dir.path(), &["--dotfiles"]);
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
    let mut child = Command::new(env!("CARGO_BIN_EXE_cheetah"))
        .args(["serve", "--listen", "127.0.0.1:0", "--workers", "2", "--counters", "json"])
        .arg(dir.path())
        .env("CHEETAH_LOG", "off")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addr = line.trim().strip_prefix("listening on http://").unwrap().trim_end_matches('/').to_owned();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let serving = Serving { child, addr };
    for _ in 0..6 {
        assert_eq!(serving.get("/sub/page").0, 200);
    }
    let pid = rustix::process::Pid::from_child(&serving.child);
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    let report: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(report["responses"]["200"], 6, "{report}");
    assert_eq!(report["connections"]["begun"], 6);
    assert_eq!(report["work"]["bytes_sent"], report["bytes_queued"]);
    // It lives on.
    assert_eq!(serving.get("/sub/page").0, 200);
}
