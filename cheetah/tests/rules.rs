//! `_headers` and `_redirects`: what a site says of itself, of an image and of a folder.

mod support;

use std::fs;
use std::io::Write;
use std::sync::Arc;

use cheetah::rules::Rules;
use cheetah::server::Config;
use cheetah::store::WithRules;
use cheetah::store::{Dotfiles, Folder, Store};
use support::servers::{connect, on_kernel};
use support::{Response, read_response, site_of};

const HEADERS: &str = "/*\n  X-Frame-Options: DENY\n/assets/*\n  Cache-Control: max-age=31536000\n/data\n  \
                       Content-Type: application/x-ours\n";
const REDIRECTS: &str = "/old /new.html 301\n/blog/* /posts/:splat\n/app/* /index.html 200\n/assets/gone /gone.html 410!\n\
                         /new.html /never\n/lost /not-there 200\n";

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let mut files: Vec<_> = ["index.html", "new.html", "gone.html", "assets/a.css", "assets/gone", "data"]
        .map(|name| (name, name.as_bytes().to_vec()))
        .to_vec();
    files.push(("_headers", HEADERS.into()));
    files.push(("_redirects", REDIRECTS.into()));
    files
}

/// What is answered to these requests, by an image and by a folder.
fn answers(requests: &[(&str, &str)]) -> [Vec<Response>; 2] {
    let dir = tempfile::tempdir().unwrap();
    for (path, contents) in files() {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    let stores: [Arc<dyn Store>; 2] = [
        Arc::new(site_of(&files())),
        Arc::new(Folder::open(dir.path(), Dotfiles::LeaveOut, 1 << 20).unwrap()),
    ];
    stores.map(|store| {
        let server = on_kernel(Arc::new(WithRules::new(store).unwrap()), &Config::default());
        let mut stream = connect(server.addr());
        let mut answer = |(target, fields): &(&str, &str)| {
            write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").unwrap();
            read_response(&mut stream, false)
        };
        let answers = requests.iter().map(&mut answer).collect();
        server.shut_down().unwrap();
        answers
    })
}

#[test]
fn responses_bear_the_fields_of_their_paths() {
    for responses in answers(&[
        ("/", ""),
        ("/assets/a.css", ""),
        ("/assets/a.css", "Range: bytes=1-2\r\n"),
        ("/assets/a.css", "Range: bytes=0-0,2-2\r\n"),
        ("/assets/a.css", "If-None-Match: *\r\n"),
        ("/data", ""),
        ("/data", "Range: bytes=1-2\r\n"),
        ("/_headers", ""),
        ("/_redirects", ""),
    ]) {
        let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
        assert_eq!(statuses, [200, 200, 206, 206, 304, 200, 206, 404, 404]);
        for response in &responses[..7] {
            assert_eq!(response.field("X-Frame-Options"), Some("DENY"));
            assert!(response.field("Date").is_some() && response.field("ETag").is_some());
        }
        for response in &responses[1..5] {
            assert_eq!(response.field("Cache-Control"), Some("max-age=31536000"));
        }
        assert_eq!(responses[0].field("Cache-Control"), None);
        for response in &responses[5..7] {
            assert_eq!(response.field("Content-Type"), Some("application/x-ours"));
        }
        assert_eq!(responses[5].body, b"data");
    }
}

#[test]
fn who_asks_is_sent_on() {
    for responses in answers(&[
        ("/old?q=1", ""),
        ("/blog/2026/a%20b", ""),
        ("/app/users/7", ""),
        ("/assets/gone", ""),
        ("/new.html", ""),
        ("/lost", ""),
        ("/app/x", "Range: bytes=0-1\r\n"),
    ]) {
        let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
        assert_eq!(statuses, [301, 302, 200, 410, 200, 404, 206], "a file is before a rule without `!`");
        assert_eq!(responses[0].field("Location"), Some("/new.html?q=1"));
        assert_eq!(responses[1].field("Location"), Some("/posts/2026/a%20b"));
        assert_eq!(responses[2].body, b"index.html");
        assert_eq!(responses[3].body, b"gone.html");
        assert_eq!(responses[6].body, b"in");
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    let rules = |text: Vec<u8>| Rules::of_store(&site_of(&[("_headers", text)]));
    assert!(rules(vec![0xff]).unwrap_err().to_string().contains("/_headers: it is no UTF-8"));
    assert!(rules(vec![b'#'; (1 << 20) + 1]).unwrap_err().to_string().contains("at most"));
    assert!(rules(vec![b'#'; 1 << 20]).unwrap().is_empty());
    assert!(rules(b"/a\n x\n".to_vec()).unwrap_err().to_string().contains("/_headers, line 2"));
}
