//! Who starts and watches a server: sockets that are handed over or lie in the file system, what is told in
//! return, what a server cannot do any more, and a restart that nobody notices.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::program::Program;

fn site() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("site")).unwrap();
    fs::write(dir.path().join("site/a.txt"), "hello").unwrap();
    dir
}

fn refusal(arguments: &[&str]) -> String {
    let output: Output =
        Command::new(env!("CARGO_BIN_EXE_cheetah")).arg("serve").args(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?} is taken");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server that a supervisor has started; killed when dropped.
struct Supervised {
    child: Child,
    /// The line that says where it listens.
    said: String,
    _out: BufReader<ChildStdout>,
}

impl Supervised {
    /// With `socket` as the one that is handed over, called `names` if that is not empty.
    fn start(socket: impl Into<OwnedFd>, names: &str, arguments: &[&str]) -> Supervised {
        // What the shell has for standard input becomes the first descriptor of those that are handed over.
        let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_cheetah")]).args(arguments);
        if !names.is_empty() {
            command.env("LISTEN_FDNAMES", names);
        }
        command.stdin(Stdio::from(socket.into())).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        out.read_line(&mut said).unwrap();
        Supervised { child, said, _out: out }
    }

    fn terminate(&self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
    }

    fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for `a.txt`, a connection each; `None` if anything but its contents comes.
fn fetch(addr: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(b"GET /a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).ok()?;
    (all.starts_with(b"HTTP/1.1 200 ") && all.ends_with(b"\r\n\r\nhello")).then_some(())
}

#[test]
fn a_restart_under_load_loses_no_connection() {
    let dir = site();
    let path = dir.path().join("site").to_str().unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let start = || Supervised::start(listener.try_clone().unwrap(), "", &[&path, "--workers", "2"]);
    let mut server = start();
    assert_eq!(server.said.trim(), format!("listening on http://{addr}/"));
    let (over, fetched, lost) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let kept_lost = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let counter = if fetch(addr).is_some() { &fetched } else { &lost };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Kept connections end when they are idle or after a response that says so: a request that was begun
        // is answered.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let mut stream = TcpStream::connect(addr).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let mut answered = 0;
                while !over.load(Ordering::Relaxed) {
                    let sent = stream.write_all(b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n");
                    let mut bytes = [0; 4096];
                    match sent.and_then(|()| stream.read(&mut bytes)) {
                        Ok(len @ 1..) if bytes[..len].ends_with(b"hello") => answered += 1,
                        // An idle one may be closed just as a request is on its way (RFC 9112 section 9.6).
                        _ => {
                            kept_lost.fetch_add(u64::from(answered == 0), Ordering::Relaxed);
                            break;
                        }
                    }
                }
            }
        });
        for _ in 0..4 {
            let before = fetched.load(Ordering::Relaxed);
            let next = start();
            let old = std::mem::replace(&mut server, next);
            old.terminate();
            assert_eq!(old.wait(), Some(0));
            while fetched.load(Ordering::Relaxed) < before + 200 && lost.load(Ordering::Relaxed) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let counts =
        (fetched.load(Ordering::Relaxed), lost.load(Ordering::Relaxed), kept_lost.load(Ordering::Relaxed));
    assert!(counts.0 >= 800 && counts.1 == 0 && counts.2 == 0, "{counts:?}");
}

#[test]
fn what_is_handed_over_is_used_by_its_name() {
    let dir = site();
    let path = dir.path().join("site").to_str().unwrap().to_owned();
    let at = dir.path().join("s");
    let listener = UnixListener::bind(&at).unwrap();
    let served = Supervised::start(listener.try_clone().unwrap(), "http", &[&path]);
    let mut stream = UnixStream::connect(&at).unwrap();
    stream.write_all(b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(support::read_response(&mut stream, false).body, b"hello");
    drop(served);
    // Systemd names it after its unit, if nobody does.
    drop(Supervised::start(listener.try_clone().unwrap(), "cheetah.socket", &[&path]));
    // What it cannot be.
    let https = Supervised::start(listener, "http:https", &[&path, "--net", "tap", "--addr", "10.98.0.2/24"]);
    assert_eq!(https.wait(), Some(2));
    let no_socket = fs::File::open(dir.path().join("site/a.txt")).unwrap();
    assert_eq!(Supervised::start(no_socket, "", &[&path]).wait(), Some(1));
    let deaf = UnixDatagram::unbound().unwrap();
    assert_eq!(Supervised::start(deaf, "", &[&path]).wait(), Some(1));
}

#[test]
fn a_socket_of_the_file_system_is_listened_at() {
    let dir = site();
    let path = dir.path().join("site").to_str().unwrap().to_owned();
    // In a folder of its own: the server may take it away there, whatever else it may do elsewhere.
    fs::create_dir(dir.path().join("run")).unwrap();
    let at = dir.path().join("run/cheetah.sock");
    // Left by one that is gone.
    drop(UnixListener::bind(&at).unwrap());
    let listen = format!("unix:{}", at.display());
    let log = dir.path().join("log").to_str().unwrap().to_owned();
    let start = || {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cheetah"))
            .args(["serve", &path, "--listen", &listen, "--workers", "2", "--access-log", &log])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        (child, said)
    };
    let (mut child, said) = start();
    assert_eq!(said.trim(), format!("listening on {listen}"));
    for _ in 0..20 {
        let mut stream = UnixStream::connect(&at).unwrap();
        stream.write_all(b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(support::read_response(&mut stream, false).body, b"hello");
    }
    let curl =
        Command::new("curl").args(["-s", "--unix-socket", at.to_str().unwrap(), "http://a/a.txt"]).output();
    match curl {
        Ok(output) => assert_eq!(output.stdout, b"hello"),
        Err(error) => eprintln!("skipped: curl: {error}"),
    }
    let said = refusal(&[&path, "--listen", &listen]);
    assert!(said.contains("--listen unix:") && said.contains("in use"), "{said}");
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!at.exists(), "nothing stays");
    assert!(fs::read_to_string(&log).unwrap().starts_with("- - - ["));
}

#[test]
fn who_started_it_is_told_how_it_is() {
    let dir = site();
    let at = dir.path().join("notify");
    let told = UnixDatagram::bind(&at).unwrap();
    told.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let next = || {
        let mut bytes = [0; 256];
        let len = told.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    command.arg("serve").env("NOTIFY_SOCKET", &at).stderr(Stdio::null());
    let served = Program::start_by(&mut command, &[dir.path().join("site").to_str().unwrap()]);
    assert_eq!(next(), "READY=1\n");
    served.signal("-HUP");
    let reloading = next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(next(), "READY=1\n");
    served.signal("-TERM");
    assert_eq!(next(), "STOPPING=1\n");
    assert_eq!(served.wait(), Some(0));
}

/// The lines of all threads' states that begin with `name`.
fn states(id: u32, name: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let status = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    status.map(|status| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned()).collect()
}

#[test]
fn a_server_is_confined_and_goes_on_with_what_it_was_started_with() {
    let dir = site();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(at("other")).unwrap();
    fs::create_dir(at("logs")).unwrap();
    fs::create_dir(at("conf")).unwrap();
    let configure = |site: &str| {
        let text = format!("site = \"{}\"\naccess-log = \"{}\"\n", at(site), at("logs/log"));
        fs::write(at("conf/site.toml"), text).unwrap();
    };
    configure("site");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    command.arg("serve").stderr(Stdio::piped());
    let mut served = Program::start_by(&mut command, &["--config", &at("conf/site.toml"), "--workers", "2"]);
    let mut errors = served.take_errors().unwrap().lines();
    let mut line_with = |part: &str| {
        errors
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains(part))
            .unwrap_or_else(|| panic!("{part}"))
    };
    let said = line_with("confined: ");
    if said.contains("not") {
        eprintln!("skipped: {said}");
        return;
    }
    let denied = states(served.id(), "Seccomp:");
    assert!(denied.len() >= 3 && denied.iter().all(|line| line.ends_with('2')), "{denied:?}");
    assert!(states(served.id(), "NoNewPrivs:").iter().all(|line| line.ends_with('1')));
    // What changes is read, renamed logs are made again.
    served.get("/a.txt");
    fs::write(at("site/b.txt"), "new").unwrap();
    fs::rename(at("logs/log"), at("logs/log.1")).unwrap();
    served.signal("-HUP");
    line_with("taken up");
    let patience = Instant::now() + Duration::from_secs(10);
    while served.get("/b.txt") != (200, b"new".to_vec()) {
        assert!(Instant::now() < patience);
    }
    // What was not named is out of reach, whoever may read it.
    configure("other");
    served.signal("-HUP");
    let said = line_with("what was served stays");
    assert!(said.contains("Permission denied") && said.contains("restart it"), "{said}");
    assert_eq!(served.get("/a.txt").0, 200);
    assert_eq!(served.end(), Some(0));
    assert!(fs::read_to_string(at("logs/log")).unwrap().contains("/a.txt"));
    // Where it is switched off, it is not.
    configure("site");
    let free = Program::start(&["--config", &at("conf/site.toml"), "--sandbox", "off"]);
    assert!(states(free.id(), "Seccomp:").iter().all(|line| line.ends_with('0')));
}

#[test]
fn programs_that_the_server_starts_are_started_all_the_same() {
    let dir = site();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(at("cgi")).unwrap();
    fs::write(
        at("cgi/p"),
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'; cat /etc/passwd | head -c 4\n",
    )
    .unwrap();
    assert!(Command::new("chmod").args(["755", &at("cgi/p")]).status().unwrap().success());
    let cgi = format!("/cgi={}", at("cgi"));
    let served = Program::start(&[&at("site"), "--cgi", &cgi]);
    assert_eq!(served.get("/cgi/p"), (200, b"root".to_vec()));
    assert_eq!(served.end(), Some(0));
    assert!(refusal(&[&at("site"), "--cgi", &cgi, "--sandbox", "require"]).contains("have them listen"));
}

fn packaging(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn units_are_as_systemd_and_the_server_have_them() {
    let dir = site();
    let unit = packaging("cheetah.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<&str> = start.split(' ').collect();
    assert_eq!(words[..3], ["/usr/bin/cheetah", "serve", "--config"]);
    let config = dir.path().join("site.toml");
    fs::write(&config, format!("site = \"{}\"\n", dir.path().join("site").display())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let served = Supervised::start(listener, "http", &["--config", config.to_str().unwrap()]);
    assert!(fetch(addr).is_some());
    drop(served);
    for name in ["cheetah.service", "cheetah.socket", "cheetah-https.socket"] {
        let text = packaging(name).replace("/usr/bin/cheetah", env!("CARGO_BIN_EXE_cheetah"));
        fs::write(dir.path().join(name), text).unwrap();
    }
    let verify = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command.args(arguments).env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()));
        command.output().inspect_err(|error| eprintln!("skipped: systemd-analyze: {error}")).ok()
    };
    let service = dir.path().join("cheetah.service");
    let service = service.to_str().unwrap();
    let Some(output) = verify(&["verify", "--man=no", service]) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("cheetah"), "{said}");
    // Exposure as systemd counts it, from 0 to 10 (in tenths).
    let Some(output) = verify(&["security", "--offline=yes", "--threshold=20", service]) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("offline") && !output.status.success() {
        eprintln!("skipped: this systemd-analyze is too old");
        return;
    }
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said} {}", table.lines().last().unwrap_or_default());
}

#[test]
fn the_container_serves_by_its_command() {
    let dir = site();
    let text = packaging("Containerfile");
    let list = |name: &str| -> Vec<String> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        serde_json::from_str(line.trim()).unwrap()
    };
    assert_eq!(list("ENTRYPOINT"), ["/usr/bin/cheetah"]);
    let words = list("CMD");
    let place = dir.path().join("site");
    let words: Vec<&str> =
        words.iter().map(|word| if word == "/srv" { place.to_str().unwrap() } else { word }).collect();
    let (listen, before) = words.split_last().unwrap();
    assert_eq!((*listen, before.last()), ("0.0.0.0:8080", Some(&"--listen")));
    let served = Program::start(&before[1..before.len() - 1]);
    assert_eq!(served.get("/a.txt").0, 200);
    assert_eq!(served.end(), Some(0));
}
