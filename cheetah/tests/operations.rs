//! What whoever runs a server does to it: logs that are renamed, signals sent twice, options that cannot
//! work.

mod support;

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::Duration;

use support::program::Program;
use support::until;

fn cheetah(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cheetah")).args(arguments).output().unwrap()
}

fn refusal(arguments: &[&str]) -> String {
    let output = cheetah(arguments);
    assert!(!output.status.success(), "{arguments:?} is taken");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn site() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("site")).unwrap();
    fs::write(dir.path().join("site/a.txt"), "hello").unwrap();
    dir
}

#[test]
fn a_log_that_was_renamed_is_opened_again_at_sighup() {
    let dir = site();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (log, old) = (path("log"), path("log.1"));
    let lines = |path: &str| fs::read_to_string(path).unwrap_or_default().lines().count();
    let served = Program::start(&[&path("site"), "--access-log", &log]);
    served.get("/a.txt");
    until("the first line", || lines(&log) == 1);
    fs::rename(&log, &old).unwrap();
    served.signal("-HUP");
    until("a new log", || fs::exists(&log).unwrap());
    served.get("/a.txt");
    until("a line in it", || lines(&log) == 1);
    assert_eq!(lines(&old), 1);
    assert_eq!(served.end(), Some(0));
}

#[test]
fn whoever_reads_a_fifo_gets_the_log_from_the_first_line_on() {
    let dir = site();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
    let out = fs::File::create(path("out")).unwrap();
    // It ends with the last writer: opened and closed to see whether it can be, the log would end it.
    let mut reader = Command::new("cat").arg(path("fifo")).stdout(out).spawn().unwrap();
    let status = format!("/proc/{}/status", reader.id());
    until("the reader waits for a writer", || fs::read_to_string(&status).unwrap().contains("State:\tS"));
    let served = Program::start(&[&path("site"), "--access-log", &path("fifo")]);
    served.get("/a.txt");
    assert_eq!(served.end(), Some(0));
    assert!(reader.wait().unwrap().success());
    assert_eq!(fs::read_to_string(path("out")).unwrap().lines().count(), 1);
}

#[test]
fn the_log_says_what_went_out_and_what_came_instead_of_a_request() {
    const BIG: u64 = 64 << 20;
    let dir = site();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::File::create(path("site/big")).unwrap().set_len(BIG).unwrap();
    let served = Program::start(&[&path("site"), "--access-log", &path("log")]);
    let mut leaves = TcpStream::connect(&served.addr).unwrap();
    leaves.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    leaves.read_exact(&mut [0; 100_000]).unwrap();
    drop(leaves);
    let mut confused = TcpStream::connect(&served.addr).unwrap();
    confused.write_all(b"\x16\x03\x01 \"what\"\r\n\r\n").unwrap();
    confused.read_to_end(&mut Vec::new()).unwrap();
    drop(confused);
    served.get("/a.txt");
    assert_eq!(served.end(), Some(0));
    let log = fs::read_to_string(path("log")).unwrap();
    let line =
        |part: &str| log.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {log}"));
    let bytes: u64 =
        line("/big").split("\" 200 ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((99_000..BIG).contains(&bytes), "{bytes}");
    assert!(line("/a.txt").contains("HTTP/1.0\" 200 5 "), "{log}");
    assert!(line("what").contains("\"\\x16\\x03\\x01 \\\"what\\\"\" 400 "), "{log}");
    assert_eq!(log.lines().count(), 3);
}

/// Status and body of what is at `path` of the server at `addr`.
fn get(addr: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let response = support::read_response(&mut stream, false);
    (response.status, String::from_utf8(response.body).unwrap())
}

#[test]
fn whoever_runs_it_sees_its_counters_and_whether_it_takes_requests() {
    let dir = site();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    command.arg("serve").stderr(std::process::Stdio::piped());
    let site = dir.path().join("site");
    let mut served = Program::start_by(&mut command, &[site.to_str().unwrap(), "--admin", "127.0.0.1:0"]);
    let mut line = String::new();
    served.take_errors().unwrap().read_line(&mut line).unwrap();
    let addr = line.split("http://").nth(1).unwrap().trim().trim_end_matches('/');
    assert_eq!(get(addr, "/healthz"), (200, "alive\n".to_owned()));
    assert_eq!(get(addr, "/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(get(addr, "/a.txt").0, 404, "the site is not served there");
    served.get("/a.txt");
    served.get("/nothing");
    let (status, text) = get(addr, "/metrics");
    assert_eq!(status, 200);
    for line in ["cheetah_responses_total{code=\"200\"} 1", "cheetah_responses_total{code=\"404\"} 1"] {
        assert!(text.lines().any(|of| of == line), "{line}: {text}");
    }
    // Each response was timed, and lies in one bucket.
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name}: {text}")).trim().parse::<f64>().unwrap()
    };
    assert_eq!(value("cheetah_response_seconds_count"), 2.0);
    assert_eq!(value("cheetah_response_seconds_bucket{le=\"+Inf\"}"), 2.0);
    assert!(value("cheetah_response_seconds_sum") > 0.0);
    let counters: serde_json::Value = serde_json::from_str(&get(addr, "/counters").1).unwrap();
    assert_eq!(counters["connections"]["begun"], 2);
    let (status, page) = get(addr, "/");
    assert!(status == 200 && page.contains("EventSource('/events')") && !page.contains("https://"), "{page}");
    // A request of which half has come keeps it from ending: it lives, and says that it takes no others.
    let mut half = TcpStream::connect(&served.addr).unwrap();
    half.write_all(b"GET /a.txt HTTP/1.1\r\n").unwrap();
    served.get("/a.txt");
    served.signal("-TERM");
    until("not ready", || get(addr, "/readyz").0 == 503);
    assert_eq!(get(addr, "/healthz").0, 200);
    half.write_all(b"Host: a\r\n\r\n").unwrap();
    assert_eq!(support::read_response(&mut half, false).body, b"hello");
    drop(half);
    assert_eq!(served.wait(), Some(0));
}

#[test]
fn media_types_are_told_by_endings() {
    let dir = site();
    let site = dir.path().join("site");
    fs::write(site.join("m.gltf"), "{}").unwrap();
    let site = site.to_str().unwrap();
    for store in ["image", "folder"] {
        let served = Program::start(&[
            site,
            "--store",
            store,
            "--mime",
            ".gltf=model/ours",
            "--mime",
            ".txt=text/x; a=b",
        ]);
        for (path, expected) in [("/m.gltf", "model/ours"), ("/a.txt", "text/x; a=b")] {
            let mut stream = TcpStream::connect(&served.addr).unwrap();
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
            let response = support::read_response(&mut stream, false);
            assert_eq!((response.status, response.field("Content-Type")), (200, Some(expected)), "{store}");
        }
    }
    assert!(refusal(&["serve", site, "--mime", "gltf=x"]).contains("as in .gltf=model/gltf+json"));
}

#[test]
fn told_twice_it_ends_at_once() {
    let dir = site();
    let served = Program::start(&[dir.path().join("site").to_str().unwrap(), "--drain-limit", "3600"]);
    // A request of which half has come: draining waits for the rest.
    let mut half = TcpStream::connect(&served.addr).unwrap();
    half.write_all(b"GET /a.txt HTTP/1.1\r\n").unwrap();
    // The other connection is served after the half was read.
    served.get("/a.txt");
    served.signal("-TERM");
    until("draining: no more connections", || TcpStream::connect(&served.addr).is_err());
    half.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(half.read(&mut [0]).is_err(), "it still waits");
    assert_eq!(served.end(), Some(143));
}

/// The user and group numbers of all threads of a process.
fn owners(id: u32) -> Vec<(u32, u32)> {
    let of = |status: &str, name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let numbers: Vec<u32> =
            line.split_whitespace().skip(1).map(|number| number.parse().unwrap()).collect();
        assert!(numbers.iter().all(|&number| number == numbers[0]), "{line}");
        numbers[0]
    };
    let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let status = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    status.map(|status| (of(&status, "Uid:"), of(&status, "Gid:"))).collect()
}

#[test]
fn roots_rights_are_given_up_once_everything_is_open() {
    let dir = site();
    let site = dir.path().join("site").to_str().unwrap().to_owned();
    let said = refusal(&["serve", &site, "--user", "nobody-of-that-name"]);
    assert!(said.contains("no such account"), "{said}");
    if !rustix::process::geteuid().is_root() {
        assert!(refusal(&["serve", &site, "--user", "nobody"]).contains("only root"));
        eprintln!("skipped: becoming somebody else needs root");
        return;
    }
    let served = Program::start(&[&site, "--user", "nobody", "--workers", "2", "--admin", "127.0.0.1:0"]);
    let owners = owners(served.id());
    assert!(
        owners.len() >= 4 && owners.iter().all(|&(user, group)| user == 65534 && group == 65534),
        "{owners:?}"
    );
    assert_eq!(served.get("/a.txt").0, 200);
    assert_eq!(served.end(), Some(0));
}

#[test]
fn manual_pages_and_completions_tell_of_every_option() {
    let print = |arguments: &[&str]| {
        let output = cheetah(arguments);
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let manual = print(&["manual", "serve"]).replace("\\-", "-");
    let bash = print(&["completions", "bash"]);
    for option in ["--listen", "--cache-policy", "--without", "--admin"] {
        assert!(manual.contains(option), "{option} is not in the manual page");
        assert!(bash.contains(option), "{option} is not completed");
    }
    assert!(print(&["manual"]).contains("cheetah"));
    assert!(refusal(&["manual", "swim"]).contains("there are pack, "), "{}", refusal(&["manual", "swim"]));
}

#[test]
fn what_cannot_work_is_said_before_anything_starts() {
    let dir = site();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let said = refusal(&["serve", &path("site"), "--access-log", "/nowhere/log"]);
    assert!(said.contains("cannot write the access log /nowhere/log: No such file"), "{said}");
    assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
    let said = refusal(&["serve", &path("site"), "--access-log", &path("fifo")]);
    assert!(said.contains("start its reader first"), "{said}");
    let said = refusal(&["serve", &path("site"), "--workers", "100000"]);
    assert!(said.contains("1 to 1024"), "{said}");
    let said = refusal(&["serve", &path("site"), "--net", "tap", "--addr", "10.9.0.255/24"]);
    assert!(said.contains("broadcast address"), "{said}");
    for (options, says) in [
        ("--addr 10.9.0.2/24 --also-addr 10.9.0.3/24 --handler closed_ports", "handlers know --addr"),
        ("--addr dhcp --also-addr 10.9.0.3/24", "not --addr dhcp"),
        ("--addr 10.9.0.2/24 --also-addr 10.9.0.2/24", "already"),
        ("--addr 10.9.0.2/24 --also-addr 10.9.0.3/24 --also-addr 10.9.0.3/16", "already"),
        ("--addr 10.9.0.2/24 --addr6 fd00::2/64 --also-addr fd00::2/64", "already"),
        ("--addr 10.9.0.2/24 --also-addr fd00::2/64", "--addr6"),
    ] {
        let site = path("site");
        let arguments: Vec<_> =
            ["serve", &site, "--net", "tap"].into_iter().chain(options.split(' ')).collect();
        let said = refusal(&arguments);
        assert!(said.contains("--also-addr") && said.contains(says), "{options}: {said}");
    }
    let said = refusal(&["pack", &path("site/a.txt"), "-o", &path("x.img")]);
    assert!(said.contains("is no folder"), "{said}");
    assert!(!fs::exists(path("x.img")).unwrap());
}

#[test]
fn a_file_that_cannot_be_read_is_left_out_and_named() {
    let dir = site();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("site/secret"), "x").unwrap();
    fs::set_permissions(path("site/secret"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::create_dir(path("site/closed")).unwrap();
    fs::write(path("site/closed/b.txt"), "x").unwrap();
    fs::set_permissions(path("site/closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    if rustix::process::geteuid().is_root() {
        // What root may not read, nobody may make: be somebody else.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let copy = path("cheetah");
        support::install(env!("CARGO_BIN_EXE_cheetah").as_ref(), copy.as_ref(), 0o755);
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", &copy]);
    }
    let output = command.args(["pack", &path("site"), "-o", &path("x.img")]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("site/secret is left out") && said.contains("site/closed is left out"), "{said}");
    let listed = cheetah(&["ls", "-R", &path("x.img")]);
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.contains("a.txt") && !listed.contains("secret") && !listed.contains("b.txt"), "{listed}");
}
