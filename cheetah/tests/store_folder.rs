//! A folder served as it lies: the same answers as the image's, and files that change under the server.

mod support;

use std::fs::{self, File, FileTimes};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cheetah::server::{Config, Server};
use cheetah::store::Dotfiles;
use cheetah::store::{Folder, Found, Store};
use netstack::stack::Features;
use runtime::stats::work::Quantity;
use support::servers::{connect, connect_narrow, on_device, on_kernel, tap};
use support::{CASES, in_namespace, read_response, split_response};

const MIB: usize = 1 << 20;

/// Far more than the buffers between server and client hold.
const BIG: usize = 24 * MIB;

fn write(dir: &Path, path: &str, contents: &[u8]) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, contents).unwrap();
    let modified = UNIX_EPOCH + Duration::from_secs(support::MODIFIED as u64);
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
}

/// The test site as a folder.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, contents) in support::files() {
        write(dir.path(), path, contents);
    }
    dir
}

fn store(dir: &Path) -> Arc<Folder> {
    Arc::new(Folder::open(dir, Dotfiles::LeaveOut, MIB as u64).unwrap())
}

fn etag(store: &dyn Store, path: &str) -> String {
    let Found::File(file) = store.find(path.as_bytes()) else { panic!("no {path}") };
    String::from_utf8(file.facts().validators.etag.to_vec()).unwrap()
}

fn every_case(server: Server, etag: &str) {
    let mut kept = connect(server.addr());
    for case in CASES {
        kept.write_all(&case.bytes(etag)).unwrap();
        case.check(&read_response(&mut kept, case.is_head()), etag);
        if case.closes {
            kept.shutdown(Shutdown::Write).unwrap();
            assert_eq!(kept.read(&mut [0]).unwrap(), 0, "{}", case.request);
            kept = connect(server.addr());
        }
    }
    drop(kept);
    assert_eq!(server.shut_down().unwrap().total_responses(), CASES.len() as u64);
}

#[test]
fn every_case_on_the_kernels_sockets_however_paths_are_looked_up() {
    let dir = folder();
    let walking = Folder::open_walking(dir.path(), Dotfiles::LeaveOut, MIB as u64).unwrap();
    for store in [store(dir.path()), Arc::new(walking)] {
        let etag = etag(&*store, "/hello.txt");
        every_case(on_kernel(store, &Config::default()), &etag);
    }
}

#[test]
fn every_case_by_our_own_tcp() {
    in_namespace(|| {
        let dir = folder();
        let store = store(dir.path());
        let etag = etag(&*store, "/hello.txt");
        let Some(server) = on_device(store, &tap(), Features::default()) else { return };
        every_case(server, &etag);
    });
}

#[test]
fn names_that_are_not_for_everyone_are_not_found() {
    let dir = folder();
    for path in [".env", ".git/config", ".well-known/security.txt", ".well-known/.secret", "sub/.hidden/x"] {
        write(dir.path(), path, b"x");
    }
    symlink("hello.txt", dir.path().join("link")).unwrap();
    symlink("/etc", dir.path().join("etc")).unwrap();
    let path = std::ffi::CString::new(dir.path().join("fifo").to_str().unwrap()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let closed = store(dir.path());
    let open = Folder::open(dir.path(), Dotfiles::TakeIn, 0).unwrap();
    let finds = |store: &Folder, path: &str| match store.find(path.as_bytes()) {
        Found::File(_) => true,
        Found::Nothing => false,
        other => panic!("{path}: {other:?}"),
    };
    assert!(finds(&closed, "/.well-known/security.txt"));
    for path in ["/.env", "/.git/config", "/.well-known/.secret", "/sub/.hidden/x"] {
        assert!(!finds(&closed, path) && finds(&open, path), "{path}");
    }
    for path in ["/link", "/etc/passwd", "/fifo", "/socket", "/noindex/", "/noindex", "/hello.txt/", "/a\nb"]
    {
        assert!(!finds(&closed, path) && !finds(&open, path), "{path}");
    }
    assert!(matches!(closed.find(b"/docs"), Found::Directory));
}

/// Starts to fetch `/big`, lets `change` happen to the file under way, and gives what came of the body.
fn fetch_while(addr: SocketAddr, change: impl FnOnce()) -> Vec<u8> {
    let mut stream = connect_narrow(addr);
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = vec![0; MIB];
    stream.read_exact(&mut all).unwrap();
    change();
    // It may end by a reset.
    let _ = stream.read_to_end(&mut all);
    let head = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(all.starts_with(b"HTTP/1.1 200 OK\r\n"));
    all.split_off(head)
}

fn is_served(addr: SocketAddr) {
    let mut stream = connect(addr);
    stream.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream, false).body, b"hello, world\n");
}

/// Each change costs that response and no other, and nothing is sent that the file did not have when it was
/// asked for.
fn files_change(server: Server, dir: &Path) {
    let contents = support::noise(BIG);
    let big = dir.join("big");
    let write_big = || write(dir, "big", &contents);
    let addr = server.addr();
    type Change<'a> = (&'a str, bool, Box<dyn FnOnce() + 'a>);
    let file = || File::options().write(true).open(&big).unwrap();
    let changes: [Change<'_>; 6] = [
        ("deleted", true, Box::new(|| fs::remove_file(&big).unwrap())),
        (
            "replaced",
            true,
            Box::new(|| {
                fs::write(dir.join("new"), "new").unwrap();
                fs::rename(dir.join("new"), &big).unwrap();
            }),
        ),
        ("truncated", false, Box::new(|| file().set_len(MIB as u64 / 2).unwrap())),
        ("emptied", false, Box::new(|| file().set_len(0).unwrap())),
        ("grown", false, Box::new(|| file().write_all_at(b"more", BIG as u64).unwrap())),
        ("overwritten", false, Box::new(|| file().write_all_at(b"other", BIG as u64 - 5).unwrap())),
    ];
    for (what, whole, change) in changes {
        write_big();
        let body = fetch_while(addr, change);
        assert!(contents.starts_with(&body), "{what}: bytes of another version");
        assert_eq!(body.len() == BIG, whole, "{what}: {} bytes", body.len());
        is_served(addr);
    }
    server.shut_down().unwrap();
}

#[test]
fn files_change_under_the_kernels_sockets() {
    let dir = folder();
    files_change(on_kernel(store(dir.path()), &Config::default()), dir.path());
}

#[test]
fn files_change_under_our_own_tcp() {
    in_namespace(|| {
        let dir = folder();
        for offload in [true, false] {
            let features = Features { offload, ..Features::default() };
            let options = cheetah::transport::device::DeviceOptions { offload, ..tap() };
            let Some(server) = on_device(store(dir.path()), &options, features) else { return };
            files_change(server, dir.path());
        }
    });
}

#[test]
fn what_changed_between_two_requests_is_seen_at_once() {
    let dir = folder();
    let server = on_kernel(store(dir.path()), &Config::default());
    let mut kept = connect(server.addr());
    let mut etags = std::collections::HashSet::new();
    for i in 0..50u8 {
        let body = [i; 10];
        fs::write(dir.path().join("counter"), body).unwrap();
        kept.write_all(b"GET /counter HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let response = read_response(&mut kept, false);
        assert_eq!(response.body, body);
        etags.insert(response.field("etag").unwrap().to_owned());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(etags.len(), 50);
}

#[test]
fn memory_is_bounded_and_what_was_read_is_kept() {
    let dir = folder();
    let contents = support::noise(4 * MIB);
    write(dir.path(), "big", &contents);
    // Times so near are not trusted to tell another change.
    let ago = SystemTime::now() - Duration::from_secs(10);
    File::open(dir.path().join("big")).unwrap().set_times(FileTimes::new().set_modified(ago)).unwrap();
    std::thread::sleep(Duration::from_millis(2200));
    let store = Arc::new(Folder::open(dir.path(), Dotfiles::LeaveOut, 8 * MIB as u64).unwrap());
    let server = on_kernel(store.clone(), &Config::default());
    let fetch = |stream: &mut TcpStream| {
        stream.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(read_response(stream, false).body == contents);
    };
    let mut streams: Vec<TcpStream> = (0..3).map(|_| connect(server.addr())).collect();
    streams.iter_mut().for_each(fetch);
    let blocks = (4 * MIB / 16_384) as u64;
    let stats = store.cache_stats();
    // Each block was read once; the first was looked at for each fetch's head as well.
    assert_eq!((stats.misses, stats.refusals), (blocks, 0), "{stats:?}");
    assert!(stats.hits >= 2 * blocks);
    drop(streams);
    let report = server.finish().unwrap();
    let sent = report.work[Quantity::BytesSent];
    assert_eq!((report.work[Quantity::BytesReferenced], report.work[Quantity::BytesCopied]), (sent, 0));
}

#[test]
fn many_slow_readers_of_one_file_share_its_blocks() {
    let dir = folder();
    let contents = support::noise(BIG);
    write(dir.path(), "big", &contents);
    // Fewer blocks than all of them hold: what there is no room for is read beside the cache.
    let store = Arc::new(Folder::open(dir.path(), Dotfiles::LeaveOut, 64 * 1024).unwrap());
    let server = on_kernel(store.clone(), &Config::default());
    let mut streams: Vec<TcpStream> = (0..8).map(|_| connect_narrow(server.addr())).collect();
    for (i, stream) in streams.iter_mut().enumerate() {
        let from = i * 1000;
        write!(stream, "GET /big HTTP/1.1\r\nHost: a\r\nRange: bytes={from}-{}\r\n\r\n", from + 8 * MIB)
            .unwrap();
    }
    // One after the other, so that the last ones wait with full buffers.
    for (i, stream) in streams.iter_mut().enumerate() {
        let mut all = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        let response = loop {
            if all.len() >= 8 * MIB
                && let Some((response, _)) = split_response(&all, false)
            {
                break response;
            }
            let n = stream.read(&mut chunk).unwrap();
            assert!(n > 0);
            all.extend_from_slice(&chunk[..n]);
        };
        assert!(response.body == contents[i * 1000..][..8 * MIB + 1], "{i}");
    }
    assert!(store.cache_stats().refusals > 0);
}

/// Whatever is given up, everyone gets what was asked for, and no more is kept than may be.
#[test]
fn every_policy_serves_the_same() {
    use fsstack::cache::{FileCache, policy::PolicyName};
    let dir = folder();
    let files: Vec<Vec<u8>> = (0..12).map(|i| support::noise(10_000 + 9_000 * i)).collect();
    for (i, contents) in files.iter().enumerate() {
        write(dir.path(), &i.to_string(), contents);
    }
    for policy in PolicyName::ALL {
        let cache = FileCache::with_policy(10 * 16_384, policy);
        let store = Arc::new(Folder::open_with(dir.path(), Dotfiles::LeaveOut, cache).unwrap());
        let server = on_kernel(store.clone(), &Config::default());
        let mut stream = connect(server.addr());
        for i in (0..60).map(|i| if i % 3 == 0 { i % 12 } else { i % 4 }) {
            write!(stream, "GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert!(read_response(&mut stream, false).body == files[i], "{}", policy.as_str());
        }
        drop(stream);
        let (work, stats) = (server.finish().unwrap().work, store.cache_stats());
        assert_eq!((work[Quantity::BlocksFound], work[Quantity::BlocksRead]), (stats.hits, stats.misses));
        assert!(stats.misses > 10 && stats.hits > 0, "{}: {stats:?}", policy.as_str());
    }
}

/// The descriptor of a file is open while it is sent, and not beyond; one for all who get it.
#[test]
fn descriptors_are_given_back() {
    let dir = folder();
    write(dir.path(), "big", &support::noise(BIG));
    let server = on_kernel(store(dir.path()), &Config::default());
    let open = || {
        fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter(|fd| {
                let target = fs::read_link(fd.as_ref().unwrap().path());
                target.is_ok_and(|target| target.ends_with("big") && target.starts_with(dir.path()))
            })
            .count()
    };
    let mut stream = connect_narrow(server.addr());
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    assert_eq!(open(), 1);
    drop(stream);
    support::until("it is closed", || open() == 0);
    is_served(server.addr());
    server.shut_down().unwrap();
}

#[test]
fn the_program_serves_a_folder_as_it_lies() {
    use support::program::Program;
    let dir = folder();
    let path = dir.path().to_str().unwrap();
    let serving = Program::start(&[path, "--store", "folder", "--cache", "1M"]);
    assert_eq!(serving.get("/hello.txt"), (200, b"hello, world\n".to_vec()));
    fs::write(dir.path().join("hello.txt"), "hello, folder\n").unwrap();
    assert_eq!(serving.get("/hello.txt"), (200, b"hello, folder\n".to_vec()));
    fs::remove_file(dir.path().join("hello.txt")).unwrap();
    assert_eq!(serving.get("/hello.txt").0, 404);
    assert_eq!(serving.end(), Some(0));
    for (arguments, needle) in [
        (&[path, "--cache", "1M"][..], "the image is small"),
        (&[path, "--store", "folder", "--cache", "much"], "64M"),
        (&["/etc/passwd", "--store", "folder"], "no folder"),
        (
            &[
                path,
                "--store",
                "folder",
                "--net",
                "tap",
                "--addr",
                "10.0.0.1/24",
                "--without",
                "offload,stored-sums",
            ],
            "stores no sums",
        ),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_cheetah"))
            .arg("serve")
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(needle), "{arguments:?}: {said}");
    }
}
