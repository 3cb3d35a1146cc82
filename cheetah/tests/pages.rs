//! What a site sends instead of what is not there.

mod support;

use std::io::Write;
use std::sync::Arc;

use cheetah::server::Config;
use cheetah::service::Options;
use support::servers::{connect, on_kernel};
use support::{read_response, site_of};

/// Status and body of what is at each of these paths.
fn answers(options: Options, files: &[(&str, Vec<u8>)], paths: &[&str]) -> Vec<(u16, String)> {
    let config = Config { http: options, ..Config::default() };
    let server = on_kernel(Arc::new(site_of(files)), &config);
    let mut stream = connect(server.addr());
    let mut answer = |path: &&str| {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let response = read_response(&mut stream, false);
        (response.status, String::from_utf8(response.body).unwrap())
    };
    let answers = paths.iter().map(&mut answer).collect();
    server.shut_down().unwrap();
    answers
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    ["index.html", "about.html", "docs/index.html", "docs/a.html", "about.d/x", "v1.2.html"]
        .map(|name| (name, name.as_bytes().to_vec()))
        .to_vec()
}

#[test]
fn a_site_says_with_its_own_page_that_something_is_not_there() {
    let mut files = files();
    files.push(("404.html", b"no such page here".to_vec()));
    let answers =
        answers(Options::default(), &files, &["/x", "/docs/x", "/about", "/about.d/", "/404.html", "/"]);
    let own = (404, "no such page here".to_owned());
    assert_eq!(answers[..4], [own.clone(), own.clone(), own.clone(), own.clone()]);
    assert_eq!(answers[4], (200, own.1), "asked for by its name it is a page like any other");
    assert_eq!(answers[5].0, 200);
}

#[test]
fn an_empty_page_of_its_own_is_sent_too() {
    let answers = answers(Options::default(), &[("404.html", Vec::new())], &["/x", "/y"]);
    assert_eq!(answers, [(404, String::new()), (404, String::new())]);
}

#[test]
fn addresses_without_an_ending_find_their_pages_if_asked_to() {
    let options = Options { clean_urls: true, ..Options::default() };
    let paths = ["/about", "/docs/a", "/v1.2", "/about.html", "/about/", "/docs", "/docs/b"];
    let answers = answers(options, &files(), &paths);
    let expected = [
        (200, "about.html"),
        (200, "docs/a.html"),
        (200, "v1.2.html"),
        (200, "about.html"),
        (404, ""),
        (301, ""),
        (404, ""),
    ];
    for ((path, answer), expected) in paths.iter().zip(answers).zip(expected) {
        assert_eq!(answer.0, expected.0, "{path}");
        assert!(answer.0 != 200 || answer.1 == expected.1, "{path}: {}", answer.1);
    }
}

#[test]
fn an_application_of_one_page_is_sent_for_all_of_its_addresses() {
    let options = Options { single_page: true, ..Options::default() };
    let answers =
        answers(options, &files(), &["/users/7", "/users/", "/users/7.json", "/about.html", "/a.b/c"]);
    assert_eq!(answers[0], (200, "index.html".to_owned()));
    assert_eq!(answers[1], (200, "index.html".to_owned()));
    assert_eq!(answers[2].0, 404, "what has an ending is a file that is missing");
    assert_eq!(answers[3], (200, "about.html".to_owned()));
    assert_eq!(answers[4], (200, "index.html".to_owned()));
}

#[test]
fn who_reads_markdown_gets_it() {
    let files = [
        "index.html",
        "index.md",
        "about.html",
        "about.md",
        "plain.html",
        "only.md",
        "docs/index.html",
        "docs/index.md",
    ]
    .map(|name| (name, name.as_bytes().to_vec()));
    let options = Options { markdown: true, clean_urls: true, ..Options::default() };
    let server = on_kernel(Arc::new(site_of(&files)), &Config { http: options, ..Config::default() });
    let mut stream = connect(server.addr());
    let mut ask = |path: &str, fields: &str| {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").unwrap();
        read_response(&mut stream, false)
    };
    let reader = "Accept: text/markdown, text/html;q=0.5\r\n";
    for (path, page, text) in [
        ("/", "index.html", Some("index.md")),
        ("/about.html", "about.html", Some("about.md")),
        ("/about", "about.html", Some("about.md")),
        ("/docs/", "docs/index.html", Some("docs/index.md")),
        ("/plain.html", "plain.html", None),
        ("/plain", "plain.html", None),
        ("/only.md", "only.md", None),
    ] {
        for fields in ["", "Accept: text/html, */*;q=0.8\r\n", reader] {
            let response = ask(path, fields);
            let expected = text.filter(|_| fields == reader).unwrap_or(page);
            assert_eq!((response.status, &response.body[..]), (200, expected.as_bytes()), "{path} {fields}");
            let kind = if expected.ends_with(".md") { "text/markdown" } else { "text/html" };
            assert_eq!(response.field("Content-Type"), Some(&format!("{kind}; charset=utf-8")[..]));
            // A cache has to know that there are two.
            assert_eq!(response.field("Vary"), text.map(|_| "Accept"), "{path}: {}", response.head);
        }
    }
    assert_eq!(ask("/only", reader).status, 404, "what has no page has no text of it");
    let etag = ask("/about", reader).field("ETag").unwrap().to_owned();
    let same = ask("/about", &format!("{reader}If-None-Match: {etag}\r\n"));
    assert_eq!((same.status, same.field("Vary")), (304, Some("Accept")));
    assert_eq!(ask("/about", &format!("If-None-Match: {etag}\r\n")).status, 200);
    let part = ask("/about", &format!("{reader}Range: bytes=0-1\r\n"));
    assert_eq!((part.status, &part.body[..], part.field("Vary")), (206, &b"ab"[..], Some("Accept")));
    server.shut_down().unwrap();
    // Not asked for, it is not done.
    let server = on_kernel(Arc::new(site_of(&files)), &Config::default());
    let mut stream = connect(server.addr());
    write!(stream, "GET / HTTP/1.1\r\nHost: a\r\n{reader}\r\n").unwrap();
    let response = read_response(&mut stream, false);
    assert_eq!((&response.body[..], response.field("Vary")), (&b"index.html"[..], None));
    server.shut_down().unwrap();
}
