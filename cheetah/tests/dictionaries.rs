//! Files compressed by their older versions (RFC 9842): made when a site is packed, sent to who has that
//! version, and read by a browser.

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cheetah::http::coding::Coding;
use cheetah::http::dictionary;
use cheetah::server::Config;
use cheetah::site::Site;
use cheetah::site::pack::{self, PackOptions};
use cheetah::store::{Copied, Dotfiles, Found, Store};
use fsstack::cache::BlockReader;
use fsstack::device::MemoryDevice;
use netstack::stack::Features;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use support::browser::Page;
use support::servers::{connect, on_device, on_kernel, tap};
use support::{Response, in_namespace, read_response};

/// A script of that version: some 40 KB that a coding makes not much shorter.
fn script(version: u32) -> String {
    let mut text = format!("export const version = {version};\n");
    for line in 0..600 {
        let hash = blake3::hash(&u32::to_le_bytes(line)).to_hex();
        text += &format!("const k{line} = \"{hash}\";\n");
    }
    text
}

/// Writes the site of that version, packs it, and gives the image's bytes.
fn pack(folder: &Path, version: u32, previous: Option<&Path>) -> Vec<u8> {
    let site = folder.join(format!("site{version}"));
    fs::create_dir_all(&site).unwrap();
    fs::write(site.join("index.html"), "<!doctype html><link rel=icon href=data:,>").unwrap();
    fs::write(site.join("app.js"), script(version)).unwrap();
    fs::write(site.join("same.js"), script(0)).unwrap();
    fs::write(site.join("a b.js"), script(version)).unwrap();
    let tree = pack::walk(&site, Dotfiles::LeaveOut).unwrap();
    let previous = previous.map(Path::to_path_buf);
    let options = PackOptions { compress: true, dictionaries: true, previous, ..PackOptions::default() };
    pack::pack(&tree, MemoryDevice::new(), &options, |_, _| {}).unwrap().0.into_bytes()
}

/// The sites of the first version and of the second, which knows the first.
fn sites() -> [Arc<Site>; 2] {
    let dir = tempfile::tempdir().unwrap();
    let (first, image) = (pack(dir.path(), 1, None), dir.path().join("old.img"));
    fs::write(&image, &first).unwrap();
    let second = pack(dir.path(), 2, Some(&image));
    [first, second].map(|image| Arc::new(Site::from_bytes(image).unwrap()))
}

fn hash_field(contents: &str) -> String {
    format!(":{}:", STANDARD.encode(Sha256::digest(contents.as_bytes())))
}

fn ask(addr: SocketAddr, path: &str, accepted: &str, dictionary: Option<&str>) -> Response {
    let mut stream = connect(addr);
    let dictionary = dictionary.map_or(String::new(), |hash| format!("Available-Dictionary: {hash}\r\n"));
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accepted}\r\n{dictionary}Connection: close\r\n\r\n"
    )
    .unwrap();
    read_response(&mut stream, false)
}

/// What a client with `old` makes of content in `coding`.
fn decode(coding: Coding, content: &[u8], old: &str) -> String {
    let hash = Sha256::digest(old.as_bytes()).into();
    let stream =
        content.strip_prefix(&dictionary::header(coding, &hash)[..]).expect("the hash of the dictionary");
    let mut decoded = Vec::new();
    if coding == Coding::Dcz {
        let mut decompressor = zstd::bulk::Decompressor::with_dictionary(old.as_bytes()).unwrap();
        decoded = decompressor.decompress(stream, 1 << 20).unwrap();
    } else {
        let mut decompressor = brotli::Decompressor::new(stream, 4096);
        assert!(decompressor.attach_dictionary(old.as_bytes().to_vec().into()));
        decompressor.read_to_end(&mut decoded).unwrap();
    }
    String::from_utf8(decoded).unwrap()
}

fn exercise(addr: SocketAddr) {
    let old = hash_field(&script(1));
    // Of both the shorter.
    let delta = ask(addr, "/app.js", "gzip, br, zstd, dcb, dcz", Some(&old));
    assert!(["dcb", "dcz"].map(Some).contains(&delta.field("content-encoding")), "{}", delta.head);
    let by_brotli = ask(addr, "/app.js", "gzip, br, zstd, dcb, dcz;q=0.9", Some(&old));
    assert_eq!(by_brotli.field("content-encoding"), Some("dcb"), "{}", by_brotli.head);
    assert!(by_brotli.body.len() < 200, "{}", by_brotli.body.len());
    assert!(decode(Coding::Dcb, &by_brotli.body, &script(1)) == script(2));
    let delta = ask(addr, "/app.js", "gzip, br, zstd, dcb;q=0.9, dcz", Some(&old));
    assert_eq!(delta.field("content-encoding"), Some("dcz"), "{}", delta.head);
    assert_ne!(delta.field("etag"), by_brotli.field("etag"));
    assert_eq!(delta.field("vary"), Some("Accept-Encoding, Available-Dictionary"));
    assert_eq!(delta.field("use-as-dictionary"), Some("match=\"/app.js\""));
    assert_eq!(delta.field("content-type"), Some("text/javascript; charset=utf-8"));
    assert!(delta.body.len() < 200, "{}", delta.body.len());
    assert!(decode(Coding::Dcz, &delta.body, &script(1)) == script(2));
    // Of another dictionary, of none, or where the client does not take it, what everybody gets; it says the
    // same of itself.
    let other = hash_field("something else");
    for (accepted, dictionary, coding) in [
        ("br, dcz", Some(&other[..]), Some("br")),
        ("br, dcz", Some("nonsense"), Some("br")),
        ("br, dcz", None, Some("br")),
        ("br", Some(&old[..]), Some("br")),
        ("br, dcz;q=0", Some(&old[..]), Some("br")),
        ("br, dcb", Some(&other[..]), Some("br")),
        ("dcb;q=0", Some(&old[..]), None),
    ] {
        let response = ask(addr, "/app.js", accepted, dictionary);
        assert_eq!(response.field("content-encoding"), coding, "{accepted} {dictionary:?}");
        assert_eq!(response.field("vary"), delta.field("vary"));
        assert_eq!(response.field("use-as-dictionary"), delta.field("use-as-dictionary"));
        assert_ne!(response.field("etag"), delta.field("etag"));
    }
    // What has not changed has no version of that kind; what cannot be told in a pattern is not offered.
    let same = ask(addr, "/same.js", "br, dcz", Some(&hash_field(&script(0))));
    assert_eq!((same.field("content-encoding"), same.field("vary")), (Some("br"), Some("Accept-Encoding")));
    assert_eq!(same.field("use-as-dictionary"), Some("match=\"/same.js\""));
    let odd = ask(addr, "/a%20b.js", "br, dcz", Some(&old));
    assert_eq!((odd.field("content-encoding"), odd.field("use-as-dictionary")), (Some("dcz"), None));
    // Too short to be worth it.
    assert_eq!(ask(addr, "/", "br, dcz", None).field("use-as-dictionary"), None);
}

#[test]
fn who_has_the_older_version_is_sent_what_has_changed() {
    let [_, second] = sites();
    let server = on_kernel(second.clone(), &Config::default());
    exercise(server.addr());
    server.shut_down().unwrap();
    // What is not in memory, too.
    let store: Arc<dyn Store> = Arc::new(Copied::new(second.clone()));
    let server = on_kernel(store, &Config::default());
    exercise(server.addr());
    server.shut_down().unwrap();
    in_namespace(move || {
        let Some(server) = on_device(second, &tap(), Features::default()) else { return };
        exercise(server.addr());
        server.shut_down().unwrap();
    });
}

#[test]
fn by_http2_likewise() {
    let [_, second] = sites();
    let server = on_kernel(second, &Config::default());
    let field = format!("Available-Dictionary: {}", hash_field(&script(1)));
    let output = Command::new("curl")
        .args(["-sS", "--http2-prior-knowledge", "-H", "Accept-Encoding: br, dcz", "-H", &field])
        .arg(format!("http://{}/app.js", server.addr()))
        .output();
    match output {
        Ok(output) if output.status.success() => {
            assert!(decode(Coding::Dcz, &output.stdout, &script(1)) == script(2));
        }
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => eprintln!("skipped: curl: {error}"),
    }
    server.shut_down().unwrap();
}

/// A site without the files whose names end so.
#[derive(Debug)]
struct Without(Arc<Site>, &'static str);

impl Store for Without {
    fn look_up(&self, path: &[u8], reader: &BlockReader) -> Found {
        if path.ends_with(self.1.as_bytes()) { Found::Nothing } else { self.0.look_up(path, reader) }
    }
}

/// Each coding, for a browser takes the one that is there.
#[test]
fn a_browser_keeps_the_dictionary_and_reads_what_is_made_with_it() {
    for coding in [Coding::Dcz, Coding::Dcb] {
        a_browser_reads(coding);
    }
}

fn a_browser_reads(wanted: Coding) {
    let [first, second] = sites();
    let other = if wanted == Coding::Dcz { Coding::Dcb } else { Coding::Dcz };
    let [first, second] = [first, second].map(|site| Arc::new(Without(site, other.suffix())));
    let server = on_kernel(first.clone(), &Config::default());
    let url = format!("http://{}/", server.addr());
    let Some(mut page) = Page::open(&url) else { return };
    let fetch = "fetch('/app.js', {cache: 'reload'}).then(r => r.text().then(t => [r.headers.get('content-encoding'), t]))";
    let mut fetched = || {
        let params = json!({ "expression": fetch, "returnByValue": true, "awaitPromise": true });
        let value = page.call("Runtime.evaluate", &params)["result"]["value"].clone();
        (value[0].as_str().unwrap_or_default().to_owned(), value[1].as_str().unwrap_or_default().to_owned())
    };
    // When the browser has the one for a dictionary is its own affair.
    support::until("the new version by the old one", || {
        server.replace_site(first.clone());
        support::until("the old version", || fetched().1 == script(1));
        std::thread::sleep(Duration::from_millis(200));
        server.replace_site(second.clone());
        let mut coding = String::new();
        support::until("the new version", || {
            let (by, text) = fetched();
            coding = by;
            text == script(2)
        });
        coding == wanted.token()
    });
    drop(page);
    server.shut_down().unwrap();
}
