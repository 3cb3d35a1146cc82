//! The example whose owner decides about allocation, replacement, misses and reading serves what is in the
//! folder.

#[path = "../examples/own-file-system.rs"]
#[allow(dead_code, unreachable_pub, reason = "its own main is not called here")]
mod own_file_system;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

/// No two files have the same bytes in the same place.
fn noise(file: usize, size: usize) -> Vec<u8> {
    support::noise(size + 7 * file).split_off(7 * file)
}

#[test]
fn policies_of_an_application_serve_every_file() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site");
    fs::create_dir_all(site.join("docs")).unwrap();
    // Three times what its cache holds.
    let sizes = [10, 3_000, 20_000, 300_000, 700_000, 900_000, 1_200_000];
    for (i, size) in sizes.into_iter().enumerate() {
        fs::write(site.join(format!("docs/{i}.bin")), noise(i, size)).unwrap();
    }
    fs::write(site.join("docs/index.html"), "<p>hello").unwrap();
    let server = own_file_system::serve(&site, &dir.path().join("site.img"), 0).unwrap();
    for _ in 0..2 {
        for (i, size) in sizes.into_iter().enumerate() {
            let mut stream = TcpStream::connect(server.addr()).unwrap();
            write!(stream, "GET /docs/{i}.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            let mut response = Vec::new();
            stream.read_to_end(&mut response).unwrap();
            assert!(response.starts_with(b"HTTP/1.1 200") && response.ends_with(&noise(i, size)), "{i}");
        }
    }
    server.shut_down().unwrap();
}
