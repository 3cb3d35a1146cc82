//! Folders without an index, listed: of a folder as it lies and of an image.

mod support;

use std::fs;
use std::io::Write;
use std::sync::Arc;

use cheetah::server::Config;
use cheetah::site::pack::{self, PackOptions};
use cheetah::site::{ChangedSite, Site};
use cheetah::store::WithRules;
use cheetah::store::{Dotfiles, Folder, Store, WithListings};
use fsstack::device::MemoryDevice;
use fsstack::log::Generation;
use fsstack::{Image, OpenOptions};
use support::servers::{connect, on_kernel};
use support::{Response, read_response};

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for path in ["docs/b.txt", "docs/a & b/deep.txt", "docs/.secret", "with/index.html", "_headers", "x.txt"]
    {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "12345").unwrap();
    }
    fs::write(dir.path().join("_headers"), "/docs/*\n  X-Listed: yes\n").unwrap();
    std::os::unix::fs::symlink("/etc", dir.path().join("docs/etc")).unwrap();
    dir
}

fn stores(dir: &std::path::Path) -> [Arc<dyn Store>; 3] {
    let tree = pack::walk(dir, Dotfiles::LeaveOut).unwrap();
    let packed = || {
        let (device, _) = pack::pack(&tree, MemoryDevice::new(), &PackOptions::default(), |_, _| {}).unwrap();
        device.into_bytes()
    };
    let image = Image::from_bytes(packed(), &OpenOptions::default()).unwrap();
    [
        Arc::new(Folder::open(dir, Dotfiles::LeaveOut, 1 << 20).unwrap()),
        Arc::new(Site::from_bytes(packed()).unwrap()),
        Arc::new(ChangedSite::new(&Generation::of_image(image)).unwrap()),
    ]
}

fn answers(store: Arc<dyn Store>, requests: &[&str]) -> Vec<Response> {
    let server = on_kernel(store, &Config::default());
    let mut stream = connect(server.addr());
    let mut answer = |request: &&str| {
        write!(stream, "{request} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        read_response(&mut stream, request.starts_with("HEAD"))
    };
    let answers = requests.iter().map(&mut answer).collect();
    server.shut_down().unwrap();
    answers
}

#[test]
fn a_folder_without_an_index_is_listed() {
    let dir = folder();
    for store in stores(dir.path()) {
        let with_rules = Arc::new(WithRules::new(store).unwrap());
        let store = Arc::new(WithListings::new(with_rules));
        let requests = [
            "GET /docs/",
            "GET /docs",
            "GET /",
            "GET /docs/a%20&%20b/",
            "GET /with/",
            "GET /no/",
            "HEAD /docs/",
        ];
        let answers = answers(store, &requests);
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 301, 200, 200, 200, 404, 200]);
        let text = |i: usize| String::from_utf8(answers[i].body.clone()).unwrap();
        let docs = text(0);
        assert!(docs.contains("./b.txt\"") && docs.contains("./a%20&amp;%20b/\">a &amp; b/</a>"), "{docs}");
        assert!(!docs.contains("secret") && !docs.contains("etc"), "{docs}");
        assert!(docs.contains("<td>5</td>"), "{docs}");
        assert_eq!(answers[0].field("X-Listed"), Some("yes"));
        assert_eq!(answers[1].field("Location"), Some("/docs/"));
        let root = text(2);
        assert!(
            root.contains("./docs/\"") && root.contains("./x.txt\"") && !root.contains("_headers"),
            "{root}"
        );
        assert!(text(3).contains("./deep.txt"));
        assert_eq!(text(4), "12345", "an index comes before a list");
        assert_eq!(answers[6].field("Content-Length"), Some(docs.len().to_string().as_str()));
    }
}

#[test]
fn nothing_is_listed_unless_asked_for() {
    let dir = folder();
    for store in stores(dir.path()) {
        let statuses: Vec<u16> =
            answers(store, &["GET /docs/", "GET /docs"]).iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [404, 404]);
    }
}
