//! Files that clients put and delete: on the kernel's sockets, by our own TCP, over HTTPS, and through
//! crashes.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cheetah::conn::Conn;
use cheetah::server::{Config, Server};
use cheetah::service::{Options, Service};
use cheetah::site::writable::{SiteWriter, WritableSite};
use cheetah::store::{Dotfiles, Folder, FolderWriter};
use cheetah::transport::device;
use cheetah::transport::stack::StackOptions;
use cheetah::upload::{Committer, Tokens, UploadLimits, Uploads};
use fsstack::OpenOptions;
use fsstack::log::Generation;
use support::program::Program;
use support::secured::{Certificate, Client};
use support::servers::{OURS, connect, on_kernel, tap};
use support::{in_namespace, noise};
use tempfile::TempDir;

const TOKEN: &str = "a-token-for-tests-0123";

/// An image that takes files, with what it is served by.
struct Taking {
    folder: TempDir,
    site: Arc<WritableSite>,
    config: Config,
    committer: Committer,
}

fn taking(limits: UploadLimits) -> Taking {
    let folder = tempfile::tempdir().unwrap();
    let writer = SiteWriter::open(&folder.path().join("a.img"), &OpenOptions::default()).unwrap();
    let site = writer.site();
    let committer = Committer::start(writer).unwrap();
    let tokens = Tokens::parse(TOKEN.as_bytes()).unwrap();
    let uploads = Arc::new(Uploads::new(&committer, tokens, limits));
    Taking { folder, site, config: Config { uploads: Some(uploads), ..Config::default() }, committer }
}

impl Taking {
    /// Ends, and checks the image to its last byte.
    fn finish(self, server: Server) -> Generation {
        server.shut_down().unwrap();
        self.committer.finish().unwrap();
        sound(&self.folder.path().join("a.img"))
    }
}

fn sound(image: &Path) -> Generation {
    let generation = Generation::open(image, &OpenOptions::default()).unwrap();
    let checked = generation.check(|_| {});
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    generation
}

/// A request with a token; `fields` are whole lines.
fn request(method: &str, target: &str, fields: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n{fields}\r\n")
        .into_bytes()
}

fn put(target: &str, fields: &str, content: &[u8]) -> Vec<u8> {
    let fields = format!("Content-Length: {}\r\n{fields}", content.len());
    [&request("PUT", target, &fields), content].concat()
}

/// Sends a request and reads the whole response to it: status, head, body.
fn ask(stream: &mut (impl Read + Write), bytes: &[u8]) -> (u16, String, Vec<u8>) {
    stream.write_all(bytes).unwrap();
    let is_head = bytes.starts_with(b"HEAD");
    answer(stream, is_head)
}

fn answer(stream: &mut impl Read, is_head: bool) -> (u16, String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "ended early: {:?}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head[9..12].parse().unwrap();
    let len = field(&head, "Content-Length").map_or(0, |value| value.parse().unwrap());
    let mut body = vec![0; if is_head || status == 304 { 0 } else { len }];
    stream.read_exact(&mut body).unwrap();
    (status, head, body)
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn get(stream: &mut (impl Read + Write), target: &str) -> (u16, String, Vec<u8>) {
    ask(stream, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
}

/// What goes for every way to the server.
fn files_come_change_and_go(mut stream: impl Read + Write) {
    let stream = &mut stream;
    // Made, with the folders above it, and there at once with all that packing gives.
    let (status, head, _) = ask(stream, &put("/docs/page.html", "", b"<p>one"));
    assert_eq!((status, field(&head, "Content-Length")), (201, Some("0")), "{head}");
    let first = field(&head, "ETag").unwrap().to_owned();
    let (status, head, body) = get(stream, "/docs/page.html");
    assert_eq!((status, &body[..]), (200, &b"<p>one"[..]));
    assert_eq!(field(&head, "ETag"), Some(&first[..]));
    assert_eq!(field(&head, "Content-Type"), Some("text/html; charset=utf-8"));
    // In chunks, over many segments and blocks, with the next requests behind it.
    let big = noise(1_000_003);
    let mut bytes = request("PUT", "/docs/big.bin", "Transfer-Encoding: chunked\r\n");
    for chunk in big.chunks(70_000) {
        bytes.extend_from_slice(format!("{:x};x=y\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\nA: b\r\n\r\n");
    bytes.extend(put("/docs/page.html", "", b"<p>two, which is longer"));
    bytes.extend_from_slice(b"GET /docs/page.html HTTP/1.1\r\nHost: a\r\n\r\n");
    let (status, _, _) = ask(stream, &bytes);
    assert_eq!(status, 201);
    let (status, head, _) = answer(stream, false);
    assert_eq!(status, 204);
    let second = field(&head, "ETag").unwrap().to_owned();
    assert_ne!(first, second);
    let (status, head, body) = answer(stream, false);
    assert_eq!((status, &body[..]), (200, &b"<p>two, which is longer"[..]));
    assert_eq!(field(&head, "ETag"), Some(&second[..]));
    assert_eq!(get(stream, "/docs/big.bin").2, big);
    // Conditions (RFC 9110 section 13).
    for (target, fields, status) in [
        ("/docs/page.html", format!("If-Match: {first}\r\n"), 412),
        ("/docs/page.html", format!("If-Match: \"x\", {second}\r\n"), 204),
        ("/docs/page.html", "If-None-Match: *\r\n".into(), 412),
        ("/docs/page.html", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n".into(), 412),
        ("/new", "If-Match: *\r\n".into(), 412),
        ("/new", "If-None-Match: *\r\n".into(), 201),
        ("/new", "If-None-Match: *\r\n".into(), 412),
    ] {
        let found = ask(stream, &put(target, &fields, b"<p>two, which is longer")).0;
        assert_eq!(found, status, "{target} {fields}");
    }
    // A page of a folder, and names that are escaped; an empty file.
    assert_eq!(get(stream, "/docs/").0, 404);
    assert_eq!(ask(stream, &put("/docs/index.html", "", b"<h1>docs")).0, 201);
    assert_eq!(get(stream, "/docs/").2, b"<h1>docs");
    assert_eq!(ask(stream, &put("/a%20b/%c3%a9.txt", "", b"")).0, 201);
    assert_eq!((get(stream, "/a%20b/%C3%A9.txt").0, get(stream, "/docs").0), (200, 301));
    // What cannot be.
    for (bytes, status) in [
        (put("/docs", "", b"x"), 409),
        (put("/docs/page.html/below", "", b"x"), 409),
        (put("/docs/", "", b"x"), 409),
        (put("/.hidden", "", b"x"), 403),
        (put("/docs/.git/config", "", b"x"), 403),
        (put(&format!("/{}", "n".repeat(256)), "", b"x"), 403),
        (put("/x", "Content-Range: bytes 0-0/5\r\n", b"x"), 400),
        (put("/x", "Content-Encoding: gzip\r\n", b"x"), 415),
        (request("DELETE", "/docs", ""), 409),
        (request("DELETE", "/nothing", ""), 404),
        (request("DELETE", "/docs/page.html", "If-Match: \"x\"\r\n"), 412),
        (request("DELETE", "/", ""), 409),
        (request("POST", "/new", ""), 405),
    ] {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(ask(stream, &bytes).0, status, "{shown}");
    }
    assert_eq!(ask(stream, &put("/.well-known/x", "", b"x")).0, 201);
    // Who has no token is told how to show one, and changes nothing.
    for fields in ["", "Authorization: Bearer another-token-of-that-len\r\n", "Authorization: Basic YTpi\r\n"]
    {
        for method in ["PUT", "DELETE"] {
            let text = format!("{method} /docs/page.html HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let (status, head, _) = ask(stream, text.as_bytes());
            assert_eq!((status, field(&head, "WWW-Authenticate")), (401, Some("Bearer realm=\"cheetah\"")));
        }
    }
    let (_, head, _) = ask(stream, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(field(&head, "Allow"), Some("GET, HEAD, OPTIONS, PUT, DELETE"));
    // Gone, and the folder when nothing is left in it.
    for target in ["/docs/index.html", "/docs/page.html", "/docs/big.bin", "/docs/"] {
        assert_eq!(ask(stream, &request("DELETE", target, "")).0, 204, "{target}");
        assert_eq!(get(stream, target).0, 404);
    }
    assert_eq!(get(stream, "/new").2, b"<p>two, which is longer");
}

#[test]
fn on_the_kernels_sockets() {
    let taking = taking(UploadLimits::default());
    let server = on_kernel(taking.site.clone(), &taking.config);
    files_come_change_and_go(connect(server.addr()));
    let left = taking.finish(server);
    let paths: Vec<_> = left.entries().filter(|e| e.is_file()).map(|e| e.path().to_vec()).collect();
    assert_eq!(paths, [&b".well-known/x"[..], "a b/\u{e9}.txt".as_bytes(), b"new"]);
}

/// The same answers where nothing is packed; what is there is what was put, and nothing beside it.
#[test]
fn in_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site");
    std::fs::create_dir(&path).unwrap();
    let folder = Arc::new(Folder::open(&path, Dotfiles::default(), 1 << 20).unwrap());
    let committer = Committer::start(FolderWriter::new(Arc::clone(&folder)).unwrap()).unwrap();
    let tokens = Tokens::parse(TOKEN.as_bytes()).unwrap();
    let uploads = Some(Arc::new(Uploads::new(&committer, tokens, UploadLimits::default())));
    let server = on_kernel(folder, &Config { uploads, ..Config::default() });
    let mut stream = connect(server.addr());
    files_come_change_and_go(&mut stream);
    let mut left: Vec<String> = walkdir::WalkDir::new(&path)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(&path).unwrap().to_str().unwrap().to_owned())
        .collect();
    left.sort();
    assert_eq!(left, [".well-known/x", "a b/\u{e9}.txt", "new"]);

    // A link is no place for a file, wherever it leads; rights stay as they were; what was made of the old
    // goes.
    use std::os::unix::fs::{PermissionsExt, symlink};
    std::fs::write(dir.path().join("outside"), "as it was").unwrap();
    symlink("../outside", path.join("link")).unwrap();
    symlink("..", path.join("up")).unwrap();
    std::fs::set_permissions(path.join("new"), PermissionsExt::from_mode(0o640)).unwrap();
    std::fs::write(path.join("new.br"), "of the old").unwrap();
    for (target, status) in [
        ("/link", 409),
        ("/up/outside", 409),
        ("/up/other", 409),
        ("/.well-known/.cheetah-put-1", 403),
        ("/new", 204),
    ] {
        assert_eq!(ask(&mut stream, &put(target, "", b"changed")).0, status, "{target}");
    }
    assert_eq!(ask(&mut stream, &request("DELETE", "/link", "")).0, 409);
    assert_eq!(std::fs::read(dir.path().join("outside")).unwrap(), b"as it was");
    assert!(!dir.path().join("other").exists() && !path.join("new.br").exists());
    assert_eq!(std::fs::metadata(path.join("new")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(get(&mut stream, "/new").2, b"changed");
    // What a crash has left of a process of the same number is in nobody's way, and goes with its folder.
    std::fs::create_dir(path.join("d")).unwrap();
    for number in 0..1000 {
        let left = format!(".cheetah-put-{}-{number}", std::process::id());
        std::fs::write(path.join("d").join(left), "half").unwrap();
    }
    assert_eq!(ask(&mut stream, &put("/d/a", "", b"a")).0, 201);
    assert_eq!(ask(&mut stream, &request("DELETE", "/d/", "")).0, 409, "not empty");
    assert_eq!(ask(&mut stream, &request("DELETE", "/d/a", "")).0, 204);
    assert_eq!(ask(&mut stream, &request("DELETE", "/d/", "")).0, 204);
    assert!(!path.join("d").exists());
    // Nobody's contents run as somebody else; deep paths need no descriptor a folder.
    std::fs::set_permissions(path.join("new"), PermissionsExt::from_mode(0o4755)).unwrap();
    assert_eq!(ask(&mut stream, &put("/new", "", b"changed")).0, 204);
    assert_eq!(std::fs::metadata(path.join("new")).unwrap().permissions().mode() & 0o7777, 0o755);
    let deep = format!("/deep{}/f", "/a".repeat(1500));
    assert_eq!(ask(&mut stream, &put(&deep, "", b"deep")).0, 201);
    server.shut_down().unwrap();
    committer.finish().unwrap();
}

#[test]
fn by_our_own_tcp() {
    in_namespace(|| {
        let taking = taking(UploadLimits::default());
        let device = match device::open(&tap()) {
            Ok(opened) => opened.device,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        let stack = StackOptions::new((OURS, 24), 80);
        let server = Server::on_device(taking.site.clone(), device, &stack, &taking.config).unwrap();
        files_come_change_and_go(connect(server.addr()));
        taking.finish(server);
    });
}

/// The receive window of own TCP is what is to come and has room, and as usual when it is over.
#[test]
fn content_opens_the_window() {
    let limits = UploadLimits { memory_bytes: 1 << 20, ..UploadLimits::default() };
    let taking = taking(limits);
    let mut service = Service::new(taking.site.clone(), Options::default());
    service.uploads.clone_from(&taking.config.uploads);
    let usual = service.options.max_input;
    let mut conn = Conn::new(&mut service, None);
    assert_eq!(conn.window(&service), usual);
    let head = request("PUT", "/a", "Content-Length: 300000\r\n");
    conn.on_bytes(&mut service, &head);
    assert_eq!(conn.window(&service), usual + 300_000);
    conn.on_bytes(&mut service, &[1; 100_000]);
    assert_eq!(conn.window(&service), usual + 200_000);
    // All that was announced comes, with the beginning of what follows it: nothing is left over.
    let all = [&[1; 200_000][..], &vec![b'G'; usual]].concat();
    assert_eq!(conn.on_bytes(&mut service, &all), all.len());
    assert_eq!(conn.window(&service), 0);
    // More than there is memory for.
    let mut conn = Conn::new(&mut service, None);
    conn.on_bytes(&mut service, &request("PUT", "/b", "Content-Length: 50000000\r\n"));
    assert!(conn.window(&service) <= usual + (1 << 20));
    // In chunks nobody knows what is to come.
    let mut conn = Conn::new(&mut service, None);
    conn.on_bytes(&mut service, &request("PUT", "/c", "Transfer-Encoding: chunked\r\n"));
    assert_eq!(conn.window(&service), usual);
}

/// Where no device verifies what comes, the loop that copies content to where it stays does.
#[test]
fn content_is_verified_by_the_loop_that_places_it() {
    in_namespace(|| {
        let taking = taking(UploadLimits::default());
        let mut options = tap();
        options.offload = false;
        let device = match device::open(&options) {
            Ok(opened) => opened.device,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        let mut stack = StackOptions::new((OURS, 24), 80);
        stack.features.offload = false;
        let server = Server::on_device(taking.site.clone(), device, &stack, &taking.config).unwrap();
        let content = noise(2_000_000);
        let mut stream = connect(server.addr());
        assert_eq!(ask(&mut stream, &put("/a", "", &content)).0, 201);
        assert!(get(&mut stream, "/a").2 == content);
        let stats = server.report().stack;
        // But for the first segment, with the head, and those across the ends of blocks.
        assert!(stats.payload_placed > 1_700_000, "{} bytes", stats.payload_placed);
        assert_eq!(stats.bad_checksums, 0);
        taking.finish(server);
    });
}

#[test]
fn over_https() {
    let certificate = Certificate::new(&["localhost"]);
    let taking = taking(UploadLimits::default());
    let secured = support::secured::config(certificate.acceptor());
    let config = Config { tls: secured.tls, ..taking.config.clone() };
    let server = on_kernel(taking.site.clone(), &config);
    files_come_change_and_go(Client::new(&certificate.der, None).connect(&server));
    taking.finish(server);
}

#[test]
fn who_asks_first_is_told_to_go_on_or_that_it_is_no_use() {
    let taking = taking(UploadLimits { file_bytes: 1000, ..UploadLimits::default() });
    let server = on_kernel(taking.site.clone(), &taking.config);
    let mut stream = connect(server.addr());
    let head = request("PUT", "/a", "Content-Length: 5\r\nExpect: 100-continue\r\n");
    let (status, _, _) = ask(&mut stream, &head);
    assert_eq!(status, 100);
    let (status, _, _) = ask(&mut stream, b"hello");
    assert_eq!(status, 201);
    assert_eq!(get(&mut stream, "/a").2, b"hello");
    // The content is not waited for, and the connection ends behind the answer.
    for (fields, status) in [
        ("Content-Length: 1001\r\nExpect: 100-continue\r\n", 413),
        ("Content-Length: 5\r\nIf-None-Match: *\r\nExpect: 100-continue\r\n", 412),
    ] {
        let mut stream = connect(server.addr());
        let (found, head, _) = ask(&mut stream, &request("PUT", "/a", fields));
        assert_eq!((found, field(&head, "Connection")), (status, Some("close")), "{head}");
        assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
    }
    // Too much in chunks shows when it comes.
    let mut stream = connect(server.addr());
    let mut bytes = request("PUT", "/a", "Transfer-Encoding: chunked\r\n");
    bytes.extend_from_slice(format!("258\r\n{}\r\n", "x".repeat(600)).repeat(2).as_bytes());
    assert_eq!(ask(&mut stream, &bytes).0, 413);
    assert_eq!(get(&mut connect(server.addr()), "/a").2, b"hello");
    taking.finish(server);
}

#[test]
fn what_does_not_come_whole_leaves_nothing() {
    let limits = UploadLimits { memory_bytes: 64 << 10, file_bytes: 64 << 10, ..UploadLimits::default() };
    let taking = taking(limits);
    let server = on_kernel(taking.site.clone(), &taking.config);
    let mut kept = connect(server.addr());
    assert_eq!(ask(&mut kept, &put("/a", "", b"old")).0, 201);
    // All blocks are taken by who says more than he sends.
    let begin = request("PUT", "/a", "Content-Length: 60000\r\n");
    let mut slow = connect(server.addr());
    slow.write_all(&[&begin[..], &[b'x'; 40_000]].concat()).unwrap();
    let patience = Instant::now() + Duration::from_secs(20);
    let refused = loop {
        let mut other = connect(server.addr());
        match ask(&mut other, &put("/b", "", b"new")).0 {
            503 => break true,
            _ if Instant::now() > patience => break false,
            _ => {}
        }
    };
    assert!(refused, "the memory has an end");
    // He goes, and they are free.
    drop(slow);
    while ask(&mut connect(server.addr()), &put("/c", "", b"new")).0 == 503 {
        assert!(Instant::now() < patience);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((get(&mut kept, "/a").2, get(&mut kept, "/c").2), (b"old".to_vec(), b"new".to_vec()));
    // As if it were the end, in chunks.
    let mut cut = connect(server.addr());
    cut.write_all(&[&request("PUT", "/a", "Transfer-Encoding: chunked\r\n")[..], b"3\r\nabc\r\n"].concat())
        .unwrap();
    cut.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(cut.read(&mut [0; 10]).unwrap(), 0);
    assert_eq!(get(&mut kept, "/a").2, b"old");
    taking.finish(server);
}

#[test]
fn without_the_option_nothing_can_be_changed() {
    let server = on_kernel(support::site(), &Config::default());
    for method in ["PUT", "DELETE"] {
        let mut stream = connect(server.addr());
        let (status, head, _) = ask(&mut stream, &request(method, "/hello.txt", ""));
        assert_eq!((status, field(&head, "Allow")), (405, Some("GET, HEAD, OPTIONS")));
    }
    server.shut_down().unwrap();
}

/// Readers see the old file or the new one, whole, whatever is being put; and versions never go back.
#[test]
fn readers_see_one_version_or_the_next() {
    let taking = taking(UploadLimits::default());
    let server = on_kernel(taking.site.clone(), &taking.config);
    let addr = server.addr();
    let contents = |version: u32| version.to_le_bytes().repeat(50_000);
    assert_eq!(ask(&mut connect(addr), &put("/file", "", &contents(0))).0, 201);
    let over = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let (mut stream, mut last, mut seen) = (connect(addr), 0, 0);
            while !over.load(Ordering::Relaxed) {
                let (status, _, body) = get(&mut stream, "/file");
                let version = u32::from_le_bytes(*body.first_chunk().unwrap());
                assert_eq!((status, body.len()), (200, 200_000));
                assert!(body.chunks(4).all(|word| word == version.to_le_bytes()) && version >= last);
                seen += u32::from(version > last);
                last = version;
            }
            seen
        }
    });
    let mut stream = connect(addr);
    for version in 1..60 {
        assert_eq!(ask(&mut stream, &put("/file", "", &contents(version))).0, 204);
        let body = get(&mut stream, "/file").2;
        assert_eq!(body[..4], version.to_le_bytes(), "its own change is seen at once");
    }
    over.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 0);
    taking.finish(server);
}

/// Many clients at once share commits: far fewer generations than files.
#[test]
fn many_uploads_share_one_wait_for_the_disk() {
    let taking = taking(UploadLimits::default());
    let server = on_kernel(taking.site.clone(), &taking.config);
    let mut streams: Vec<TcpStream> = (0..200).map(|_| connect(server.addr())).collect();
    for (i, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&put(&format!("/d/{i}.txt"), "", format!("file {i}").as_bytes())).unwrap();
    }
    for stream in &mut streams {
        assert_eq!(answer(stream, false).0, 201);
    }
    for i in 0..200 {
        assert_eq!(get(&mut streams[0], &format!("/d/{i}.txt")).2, format!("file {i}").as_bytes());
    }
    let left = taking.finish(server);
    assert!(left.number() < 100, "{} generations", left.number());
}

fn serve(folder: &Path, more: &[&str]) -> Program {
    let (image, tokens) = (folder.join("a.img"), folder.join("tokens"));
    std::fs::write(&tokens, TOKEN).unwrap();
    let mut arguments = vec![image.to_str().unwrap(), "--writable", "--token-file", tokens.to_str().unwrap()];
    arguments.extend(more);
    Program::start(&arguments)
}

/// Killed at any time, everything that was said to be done is there, and nothing is half there.
#[test]
fn what_was_said_to_be_done_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut versions = [0u32; 8];
    for round in 0..4u64 {
        let program = serve(folder.path(), &[]);
        let addr: SocketAddr = program.addr.parse().unwrap();
        // What the one before was told stands.
        for (file, version) in versions.iter().enumerate().filter(|(_, version)| **version > 0) {
            let body = get(&mut connect(addr), &format!("/{file}")).2;
            let found = u32::from_le_bytes(*body.first_chunk().unwrap());
            // What was asked for and not answered may have been done, too.
            assert!(found == *version || found == version + 1, "{file}: {found}, not {version}");
            assert!(body.chunks(4).all(|word| word == found.to_le_bytes()) && body.len() == 40_000);
        }
        let clients: Vec<_> = (0..versions.len())
            .map(|file| {
                let from = versions[file] + 1;
                std::thread::spawn(move || {
                    let mut done = from - 1;
                    let mut stream = connect(addr);
                    for version in from.. {
                        let bytes = put(&format!("/{file}"), "", &version.to_le_bytes().repeat(10_000));
                        let mut status = [0; 12];
                        if stream.write_all(&bytes).is_err() || stream.read_exact(&mut status).is_err() {
                            return done;
                        }
                        assert!(status.ends_with(b"201") || status.ends_with(b"204"));
                        let mut rest = [0; 1];
                        let mut tail = Vec::new();
                        while !tail.ends_with(b"\r\n\r\n") {
                            match stream.read(&mut rest) {
                                Ok(1) => tail.push(rest[0]),
                                _ => return version,
                            }
                        }
                        done = version;
                    }
                    done
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(60 + 37 * round));
        program.signal("-KILL");
        for (version, client) in versions.iter_mut().zip(clients) {
            *version = client.join().unwrap();
        }
        sound(&folder.path().join("a.img"));
    }
    assert!(versions.iter().sum::<u32>() > 8, "{versions:?}");
}

/// `curl -T` puts a file where its name says, over HTTP/1.1 with `Expect: 100-continue`, and from a pipe in
/// chunks.
#[test]
fn curl_puts_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let program = serve(at, &["--max-upload", "3M"]);
    let big = noise(2_500_000);
    std::fs::write(at.join("big.bin"), &big).unwrap();
    let curl = |arguments: &[&str]| {
        let bearer = format!("Authorization: Bearer {TOKEN}");
        let mut command = std::process::Command::new("curl");
        command.args(["-s", "-S", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", "-H", &bearer]);
        let output = command.args(arguments).current_dir(at).output();
        output.ok().map(|output| String::from_utf8(output.stdout).unwrap())
    };
    let url = |path: &str| format!("{}{path}", program.url);
    let Some(status) = curl(&["-T", "big.bin", &url("up/")]) else { return eprintln!("skipped: no curl") };
    assert_eq!(status, "201");
    assert!(program.get("/up/big.bin").1 == big);
    assert_eq!(curl(&["-T", "tokens", &url("up/big.bin")]).unwrap(), "204");
    assert_eq!(program.get("/up/big.bin").1, TOKEN.as_bytes());
    let chunked = ["-T", "big.bin", "-H", "Transfer-Encoding: chunked", &url("piped")];
    assert_eq!(curl(&chunked).unwrap(), "201");
    assert!(program.get("/piped").1 == big);
    std::fs::write(at.join("big.bin"), noise(3_200_000)).unwrap();
    assert_eq!(curl(&["-T", "big.bin", &url("more")]).unwrap(), "413");
    assert_eq!(curl(&["-X", "DELETE", &url("piped")]).unwrap(), "204");
    assert_eq!(program.end(), Some(0));
    let left = sound(&at.join("a.img"));
    let paths: Vec<_> = left.entries().map(|entry| entry.path().to_vec()).collect();
    assert_eq!(paths, [&b""[..], b"up", b"up/big.bin"]);
}

/// Another process that serves the image sees what is put, at intervals; and nobody else can write.
#[test]
fn others_follow() {
    let folder = tempfile::tempdir().unwrap();
    let writer = serve(folder.path(), &[]);
    let image = folder.path().join("a.img");
    let mut stream = connect(writer.addr.parse().unwrap());
    assert_eq!(ask(&mut stream, &put("/a", "", b"one")).0, 201);
    let reader = Program::start(&[image.to_str().unwrap(), "--follow", "1"]);
    assert_eq!(reader.get("/a"), (200, b"one".to_vec()));
    assert_eq!(ask(&mut stream, &put("/a", "", b"two")).0, 204);
    let patience = Instant::now() + Duration::from_secs(20);
    while reader.get("/a").1 != b"two" {
        assert!(Instant::now() < patience, "it does not follow");
        std::thread::sleep(Duration::from_millis(50));
    }
    // New tokens at SIGHUP; the old ones are no good then.
    std::fs::write(folder.path().join("tokens"), "another-token-for-tests").unwrap();
    writer.signal("-HUP");
    while ask(&mut connect(writer.addr.parse().unwrap()), &put("/a", "", b"three")).0 != 401 {
        assert!(Instant::now() < patience, "the tokens are not read again");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Space of what was overwritten comes back while the server runs.
#[test]
fn space_comes_back() {
    let taking = taking(UploadLimits::default());
    let server = on_kernel(taking.site.clone(), &taking.config);
    let mut stream = connect(server.addr());
    assert_eq!(ask(&mut stream, &put("/stays", "", b"stays")).0, 201);
    let contents = noise(400_000);
    for _ in 0..150 {
        ask(&mut stream, &put("/file", "", &contents));
    }
    let image = taking.folder.path().join("a.img");
    let bytes = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&image).unwrap()) * 512;
    assert!(bytes < 30_000_000, "{bytes} bytes for 400 KB, of 60 MB that were written");
    assert_eq!(
        (get(&mut stream, "/file").2 == contents, get(&mut stream, "/stays").2),
        (true, b"stays".to_vec())
    );
    taking.finish(server);
}

/// Detached when dropped, from whatever still has files of it open.
struct SmallDisk<'a>(&'a std::path::Path);

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// What finds no room costs none of those their place that were asked for together with it.
#[test]
fn a_full_disk_costs_the_others_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        std::process::Command::new("mount")
            .args(arguments)
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status()
    };
    if !mount(&["-t", "tmpfs", "-o", "size=3m", "none"]).is_ok_and(|status| status.success()) {
        println!("skipped: a disk of 3 MB cannot be mounted here");
        return;
    }
    let _mounted = SmallDisk(folder.path());
    let image = folder.path().join("a.img");
    let writer = SiteWriter::open(&image, &OpenOptions::default()).unwrap();
    let site = writer.site();
    let committer = Committer::start(writer).unwrap();
    let tokens = Tokens::parse(TOKEN.as_bytes()).unwrap();
    let uploads = Some(Arc::new(Uploads::new(&committer, tokens, UploadLimits::default())));
    let server = on_kernel(site, &Config { uploads, ..Config::default() });
    let mut streams: Vec<TcpStream> = (0..40).map(|_| connect(server.addr())).collect();
    for round in 0..3 {
        for (i, stream) in streams.iter_mut().enumerate() {
            let content = vec![round; if i % 10 == 4 { 4 << 20 } else { 10_000 }];
            stream.write_all(&put(&format!("/{i}"), "", &content)).unwrap();
        }
        for (i, stream) in streams.iter_mut().enumerate() {
            let status = answer(stream, false).0;
            assert_eq!(
                status,
                if i % 10 == 4 {
                    507
                } else if round == 0 {
                    201
                } else {
                    204
                },
                "file {i}"
            );
        }
        for i in (0..40).filter(|i| i % 10 != 4) {
            assert_eq!(get(&mut streams[0], &format!("/{i}")).2, vec![round; 10_000]);
        }
    }
    drop(streams);
    server.shut_down().unwrap();
    committer.finish().unwrap();
    let left = sound(&image);
    assert_eq!(left.entries().filter(|entry| entry.is_file()).count(), 36);
}
