//! Contents in codings: found beside a file or made when a folder is packed, and sent to whom takes them.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use cheetah::http::response::Status;
use cheetah::server::Config;
use cheetah::site::pack::{self, PackOptions};
use cheetah::site::writable::SiteWriter;
use cheetah::site::{LazySite, Site, change};
use cheetah::store::{Dotfiles, Found, Store};
use fsstack::device::MemoryDevice;
use fsstack::log::{Generation, Log};
use fsstack::{Image, OpenOptions};
use runtime::payload::Piece;
use support::servers::{connect, on_kernel};
use support::{Response, read_response};

fn text() -> String {
    (0..900).map(|i| format!("<p class=\"row\">{i} of many</p>\n")).collect()
}

/// A site of one file of each kind.
fn site(compress: bool) -> Arc<Site> {
    let options = PackOptions { compress, ..PackOptions::default() };
    Arc::new(Site::from_bytes(packed(folder().path(), &options)).unwrap())
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    write("index.html", text().as_bytes());
    write("page.html", text().as_bytes());
    let mut state = 1u64;
    let random = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    });
    write("noise.html", &random.take(3000).collect::<Vec<u8>>());
    write("tiny.css", b"p{}");
    write("own.js", text().as_bytes());
    write("own.js.zst", b"zstandard, they say");
    write("own.js.br", b"Brotli, they say, and a bit longer");
    write("logo.svgz", b"gzip, they say");
    write("x.tar.gz", b"an archive");
    write("x.tar", b"what is in it, which nobody asked for by that name");
    dir
}

fn packed(dir: &Path, options: &PackOptions) -> Vec<u8> {
    let tree = pack::walk(dir, Dotfiles::LeaveOut).unwrap();
    pack::pack(&tree, MemoryDevice::new(), options, |_, _| {}).unwrap().0.into_bytes()
}

/// What an image says of heads in place of having them gives the same heads, however it is opened, and after
/// it was changed and packed again.
#[test]
fn heads_that_are_made_are_those_that_would_be_stored() {
    let dir = folder();
    let options = |short_heads| PackOptions { compress: true, short_heads, ..PackOptions::default() };
    let [stored, made] = [false, true].map(|short_heads| packed(dir.path(), &options(short_heads)));
    let path = dir.path().join("site.img");
    fs::write(&path, &made).unwrap();
    let image = Image::from_bytes(made.clone(), &OpenOptions::default()).unwrap();
    let names: Vec<Vec<u8>> = image.inodes().filter(|i| i.is_file()).map(|i| i.path().to_vec()).collect();
    assert!(names.len() > 15 && made.len() + 350 * names.len() < stored.len(), "{} files", names.len());
    let stored = Site::from_bytes(stored).unwrap();
    let heads = |store: &dyn Store, name: &[u8]| {
        let Found::File(document) = store.find(&[b"/", name].concat()) else { panic!("{name:?}") };
        let piece = |piece: Option<Piece<'_>>| piece.unwrap().bytes.to_vec();
        [Status::Ok, Status::NotModified]
            .map(|status| [piece(document.ready_head(status)), piece(document.ready_block(status))])
    };
    let same = |store: &dyn Store, how: &str| {
        for name in &names {
            assert_eq!(heads(store, name), heads(&stored, name), "{how}: {}", String::from_utf8_lossy(name));
        }
    };
    same(&Site::from_bytes(made).unwrap(), "in memory");
    same(&LazySite::open_any(&path, &OpenOptions::default()).unwrap().unwrap(), "looked up");
    let mut log = Log::convert(&path, &OpenOptions::default()).unwrap();
    log.link(b"tiny.css", b"other.css").unwrap();
    log.sync().unwrap();
    change::make_missing_heads(&mut log).unwrap();
    log.compact(&[]).unwrap();
    drop(log);
    let generation = Generation::open(&path, &OpenOptions::default()).unwrap();
    let len = |name: &str| generation.find(name).unwrap().app().unwrap().len();
    assert!(len("tiny.css") < 120 && len("own.js.br") < 120, "they stay short");
    same(&*SiteWriter::open(&path, &OpenOptions::default()).unwrap().site(), "packed again");
}

fn ask(stream: &mut (impl Read + Write), path: &str, fields: &str) -> Response {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
    read_response(stream, false)
}

#[test]
fn every_client_gets_what_it_takes() {
    let server = on_kernel(site(true), &Config::default());
    let mut stream = connect(server.addr());
    let html = "text/html; charset=utf-8";
    let js = "text/javascript; charset=utf-8";
    for (path, accepted, status, coding, kind, varies) in [
        ("/page.html", "gzip, br", 200, Some("br"), html, true),
        ("/page.html", "gzip", 200, Some("gzip"), html, true),
        ("/page.html", "zstd", 200, Some("zstd"), html, true),
        ("/page.html", "deflate", 200, None, html, true),
        ("/page.html", "", 200, None, html, true),
        ("/page.html", "zstd, identity;q=0", 200, Some("zstd"), html, true),
        ("/page.html", "deflate, identity;q=0", 406, None, html, false),
        // No dictionary is named.
        ("/page.html", "dcz", 200, None, html, true),
        ("/page.html", "br;q=0.1, gzip;q=0.9", 200, Some("gzip"), html, true),
        // A folder's index is there in codings, too.
        ("/", "br", 200, Some("br"), html, true),
        // Nothing shorter is to be had of these.
        ("/noise.html", "br, gzip", 200, None, "text/html", false),
        ("/noise.html", "br, gzip, identity;q=0", 406, None, html, false),
        ("/tiny.css", "br, gzip", 200, None, "text/css; charset=utf-8", false),
        // What lies there is used before anything is made.
        ("/own.js", "br, gzip, zstd", 200, Some("zstd"), js, true),
        ("/own.js", "br, gzip", 200, Some("br"), js, true),
        ("/own.js", "gzip", 200, Some("gzip"), js, true),
        // By its own name it is what it is, whatever is taken.
        ("/own.js.zst", "gzip", 200, Some("zstd"), js, true),
        ("/logo.svgz", "", 200, Some("gzip"), "image/svg+xml", false),
        ("/x.tar.gz", "gzip", 200, None, "application/gzip", false),
        ("/x.tar", "gzip", 200, None, "application/x-tar", false),
    ] {
        let fields =
            if accepted.is_empty() { String::new() } else { format!("Accept-Encoding: {accepted}\r\n") };
        let response = ask(&mut stream, path, &fields);
        let context = format!("{path} for {accepted:?}: {}", response.head);
        assert_eq!(response.status, status, "{context}");
        assert_eq!(response.field("content-encoding"), coding, "{context}");
        assert_eq!(response.field("vary"), varies.then_some("Accept-Encoding"), "{context}");
        if status == 200 {
            assert_eq!(response.field("content-type"), Some(kind), "{context}");
        }
    }
    server.shut_down().unwrap();
}

#[test]
fn a_version_in_a_coding_is_a_representation_of_its_own() {
    let server = on_kernel(site(true), &Config::default());
    let mut stream = connect(server.addr());
    let plain = ask(&mut stream, "/page.html", "");
    let coded = ask(&mut stream, "/page.html", "Accept-Encoding: gzip\r\n");
    let etag = coded.field("etag").unwrap();
    assert_ne!(plain.field("etag").unwrap(), etag);
    let same = ask(&mut stream, "/page.html", &format!("Accept-Encoding: gzip\r\nIf-None-Match: {etag}\r\n"));
    assert_eq!((same.status, same.field("vary")), (304, Some("Accept-Encoding")));
    let other = ask(&mut stream, "/page.html", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!((other.status, &other.body), (200, &plain.body));
    let part = ask(&mut stream, "/page.html", "Accept-Encoding: gzip\r\nRange: bytes=10-19\r\n");
    assert_eq!((part.status, &part.body[..]), (206, &coded.body[10..20]));
    assert_eq!(part.field("content-encoding"), Some("gzip"));
    server.shut_down().unwrap();
}

#[test]
fn without_being_told_to_nothing_is_made() {
    let server = on_kernel(site(false), &Config::default());
    let mut stream = connect(server.addr());
    let page = ask(&mut stream, "/page.html", "Accept-Encoding: br, gzip\r\n");
    assert_eq!((page.field("content-encoding"), page.field("vary")), (None, None));
    let own = ask(&mut stream, "/own.js", "Accept-Encoding: br\r\n");
    assert_eq!(own.body, b"Brotli, they say, and a bit longer");
    server.shut_down().unwrap();
}

#[test]
fn curl_gets_the_same_contents_in_every_coding() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: curl is not installed");
        return;
    }
    let server = on_kernel(site(true), &Config::default());
    let url = format!("http://{}/page.html", server.addr());
    for coding in ["identity", "gzip", "br"] {
        let field = format!("Accept-Encoding: {coding}");
        let output = Command::new("curl").args(["-sS", "--compressed", "-H", &field, &url]).output().unwrap();
        assert!(output.status.success(), "{coding}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), text(), "{coding}");
    }
    server.shut_down().unwrap();
}
