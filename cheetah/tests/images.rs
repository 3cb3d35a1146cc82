//! Images that are damaged, cut or of another origin: refused with a reason, or served without a panic.

mod support;

use std::sync::Arc;

use cheetah::conn::Conn;
use cheetah::service::{Options, Service};
use cheetah::site::{LazySite, Site};
use cheetah::store::{Found, Store as _};
use fsstack::image::build::Mtime;
use fsstack::{BuildOptions, Builder, OpenOptions};
use proptest::prelude::*;
use runtime::payload::PayloadSource;
use support::{CASES, hello_etag, split_response};

fn image(with_heads: bool) -> Vec<u8> {
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    for (path, contents) in support::files().iter().filter(|(_, contents)| contents.len() < 10_000) {
        let mtime = Mtime { seconds: support::MODIFIED, nanoseconds: 0 };
        if with_heads {
            cheetah::site::pack::add(&mut builder, path.as_bytes(), mtime, &contents[..]).unwrap();
        } else {
            builder
                .file(path.as_bytes(), mtime, &mut &contents[..], |_| b"of another program".to_vec())
                .unwrap();
        }
    }
    builder.finish().unwrap().0.into_bytes()
}

/// Asks `site` for everything that a case asks for.
fn ask(site: Site) {
    let etag = hello_etag();
    let mut service = Service::new(Arc::new(site), Options::default());
    for case in CASES {
        let mut conn = Conn::new(&mut service, None);
        conn.on_bytes(&mut service, &case.bytes(&etag));
        let mut bytes = 0;
        conn.for_each_piece(0, usize::MAX, |piece| {
            bytes += piece.bytes.len() as u64;
            true
        });
        assert_eq!(bytes, conn.end());
    }
}

/// A site whose files are looked up when they are asked for answers as one in memory does, the first time and
/// the second.
#[test]
fn a_lazy_site_answers_every_case() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.img");
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    for (path, contents) in support::files() {
        let mtime = Mtime { seconds: support::MODIFIED, nanoseconds: 5 };
        cheetah::site::pack::add(&mut builder, path.as_bytes(), mtime, &contents[..]).unwrap();
    }
    std::fs::write(&path, builder.finish().unwrap().0.into_bytes()).unwrap();
    let site = LazySite::open_any(&path, &OpenOptions::default()).unwrap().unwrap();
    let (site, etag) = (Arc::new(site), hello_etag());
    for case in CASES.iter().chain(CASES) {
        let mut service = Service::new(site.clone(), Options::default());
        let mut conn = Conn::new(&mut service, None);
        conn.on_bytes(&mut service, &case.bytes(&etag));
        let mut sent = Vec::new();
        while (sent.len() as u64) < conn.end() {
            let from = sent.len();
            conn.for_each_piece(from as u64, usize::MAX, |piece| {
                sent.extend_from_slice(piece.bytes);
                true
            });
            assert!(sent.len() > from, "{}", case.request);
            conn.acknowledged(sent.len() as u64);
            conn.resume(&mut service);
        }
        let (response, rest) = split_response(&sent, case.is_head()).expect(case.request);
        assert!(rest.is_empty(), "{}", case.request);
        case.check(&response, &etag);
    }
    for folder in [&b"/"[..], b"/docs/", b"/nothing/", b"/hello.txt/"] {
        assert_eq!(site.list(folder).unwrap(), support::site().list(folder).unwrap());
    }
    // Small images are in memory whole instead.
    assert!(LazySite::open(&path, &OpenOptions::default()).unwrap().is_none());
    // What cannot be looked up is an error of that request.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let cut = site.find(b"/not/asked/for/before");
    assert!(matches!(cut, Found::Nothing | Found::Failed(_)), "{cut:?}");
}

#[test]
fn an_image_of_another_program_gets_its_heads_when_it_is_opened() {
    let site = Arc::new(Site::from_bytes(image(false)).unwrap());
    let Found::File(file) = site.find(b"/hello.txt") else { panic!() };
    assert_eq!(file.facts().content_type, b"text/plain; charset=utf-8");
    let mut service = Service::new(site.clone(), Options::default());
    let mut conn = Conn::new(&mut service, None);
    let etag = String::from_utf8(file.facts().validators.etag.to_vec()).unwrap();
    let request = format!("GET /hello.txt HTTP/1.1\r\nHost: a\r\nIf-None-Match: {etag}\r\n\r\n");
    conn.on_bytes(&mut service, b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n");
    conn.on_bytes(&mut service, request.as_bytes());
    let mut all = Vec::new();
    conn.for_each_piece(0, usize::MAX, |piece| {
        all.extend_from_slice(piece.bytes);
        true
    });
    let (first, rest) = split_response(&all, false).unwrap();
    let (second, _) = split_response(rest, false).unwrap();
    assert_eq!((first.status, &first.body[..], second.status), (200, &b"hello, world\n"[..], 304));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_damaged_image_is_refused_or_served(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        with_heads: bool,
    ) {
        let mut bytes = image(with_heads);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(site) = Site::from_bytes(bytes) {
            ask(site);
        }
    }

    #[test]
    fn a_cut_image_is_refused(cut: prop::sample::Index) {
        let mut bytes = image(true);
        bytes.truncate(cut.index(bytes.len()));
        let error = Site::from_bytes(bytes).unwrap_err().to_string();
        prop_assert!(error.contains("offset"), "{}", error);
    }

    #[test]
    fn noise_is_no_image(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
        prop_assert!(Site::from_bytes(bytes).is_err());
    }
}
