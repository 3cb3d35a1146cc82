//! An image that is cut while it is served: an error of the responses that lack its bytes, on every
//! transport, and never the end of the server.

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cheetah::server::{Config, Server};
use cheetah::site::Site;
use cheetah::store::Copied;
use cheetah::transport::device::DeviceOptions;
use fsstack::device::AtomicFile;
use fsstack::image::build::Mtime;
use fsstack::{BuildOptions, Builder};
use netstack::stack::Features;
use support::servers::{connect, connect_narrow, on_device, on_kernel, tap};
use support::{in_namespace, read_response};

/// More than is copied into memory when it is opened.
const BIG: usize = 66 << 20;

/// An image of two small files with a big one between them.
fn image(dir: &Path) -> PathBuf {
    let path = dir.join("site.img");
    let file = AtomicFile::create(&path).unwrap();
    let mut builder = Builder::new(file, &BuildOptions::default()).unwrap();
    let big: Vec<u8> = support::noise(1 << 20).repeat(BIG >> 20);
    for (name, contents) in [("a", &b"first"[..]), ("big", &big), ("z", b"last"), ("z2", b"later")] {
        let mtime = Mtime { seconds: support::MODIFIED, nanoseconds: 0 };
        // Without heads: these are made when it is opened.
        builder.file(name.as_bytes(), mtime, &mut &contents[..], |_| Vec::new()).unwrap();
    }
    builder.finish().unwrap().0.publish().unwrap();
    path
}

fn get(addr: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    let mut stream = connect(addr);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let response = read_response(&mut stream, false);
    (response.status, response.body)
}

/// Cuts the image under the server while the big file is under way.
fn cut_under(server: Server, image: &Path) {
    let addr = server.addr();
    let mut stream = connect_narrow(addr);
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = vec![0; 1 << 20];
    stream.read_exact(&mut all).unwrap();
    File::options().write(true).open(image).unwrap().set_len(100_000).unwrap();
    let _ = stream.read_to_end(&mut all);
    let head = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let body = &all[head..];
    assert!(body.len() < BIG, "it was sent whole");
    let period = support::noise(1 << 20);
    assert!(body.chunks(1 << 20).all(|chunk| period.starts_with(chunk)), "bytes that the file never had");
    // What is gone is said; what is there is served.
    assert_eq!(get(addr, "/z").0, 500);
    assert_eq!(get(addr, "/a"), (200, b"first".to_vec()));
    let mut stream = connect(addr);
    stream.write_all(b"HEAD /z HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream, true).status, 200);
    drop(stream);
    server.shut_down().unwrap();
}

#[test]
fn under_every_transport() {
    let dir = tempfile::tempdir().unwrap();
    let whole = image(dir.path());
    let fresh = move || {
        let copy = dir.path().join("copy.img");
        fs::copy(&whole, &copy).unwrap();
        let site = Site::open(&copy).unwrap();
        assert!(!site.image().is_resident());
        (Arc::new(site), copy)
    };
    in_namespace(move || {
        let (site, image) = fresh();
        cut_under(on_kernel(site, &Config::default()), &image);
        let (site, image) = fresh();
        cut_under(on_kernel(Arc::new(Copied::new(site)), &Config::default()), &image);
        let without = |options: DeviceOptions| DeviceOptions { offload: false, ..options };
        let lance = DeviceOptions { nic: Some("lance".into()), ..without(tap()) };
        for options in [tap(), without(tap()), lance] {
            let (site, image) = fresh();
            let features = Features { offload: options.offload, ..Features::default() };
            let Some(server) = on_device(site, &options, features) else { return };
            cut_under(server, &image);
        }
    });
}
