//! The example whose owner decides about write-back, flush and allocation of an image that takes files.

#[path = "../examples/own-log.rs"]
#[allow(dead_code, unreachable_pub, reason = "its own main is not called here")]
mod own_log;
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fsstack::OpenOptions;
use fsstack::image::build::Mtime;
use fsstack::log::policy::Policies;
use fsstack::log::{Contents, Generation, Log};
use own_log::{Gather, Little, SmallInGaps};
use support::noise;

const TOKEN: &str = "a-token-for-tests-0123";

fn put(to: SocketAddr, path: &str, contents: &[u8]) {
    let mut stream = TcpStream::connect(to).unwrap();
    write!(
        stream,
        "PUT /{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        contents.len()
    )
    .unwrap();
    stream.write_all(contents).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    assert!(response.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&response));
}

/// Changes wait until they are as many as the owner wants, and are one commit then; or until one has waited
/// for so long.
#[test]
fn the_owner_says_what_shares_a_commit() {
    const TOGETHER: usize = 6;
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("a.img");
    let longest = Duration::from_secs(60);
    let (server, committer) =
        own_log::serve(&image, TOKEN, Gather { changes: TOGETHER, longest }, 0).unwrap();
    let number = || Generation::open(&image, &OpenOptions::default()).unwrap().number();
    let before = number();
    std::thread::scope(|scope| {
        for i in 0..TOGETHER {
            let to = server.addr();
            scope.spawn(move || put(to, &format!("{i}.txt"), &noise(1000 * i)));
        }
    });
    assert_eq!(number(), before + 1);
    server.shut_down().unwrap();
    committer.finish().unwrap();

    let longest = Duration::from_millis(300);
    let (server, committer) =
        own_log::serve(&image, TOKEN, Gather { changes: TOGETHER, longest }, 0).unwrap();
    let begun = Instant::now();
    put(server.addr(), "alone.txt", b"alone");
    assert!(begun.elapsed() >= longest, "{:?}", begun.elapsed());
    assert_eq!(number(), before + 2);
    server.shut_down().unwrap();
    committer.finish().unwrap();
    let there = Generation::open(&image, &OpenOptions::default()).unwrap();
    assert_eq!(there.find("alone.txt").unwrap().fetch(0, 10).unwrap().bytes(), b"alone");
}

fn log(path: &Path, policies: Policies) -> Log {
    let mut log = Log::create(path, &OpenOptions::default()).unwrap();
    log.set_policies(policies);
    log
}

#[test]
fn the_owner_says_what_stays_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let little = Policies { write_back: Arc::new(Little(100_000)), ..Policies::default() };
    let mut most = Vec::new();
    for (name, policies) in [("little", little), ("much", Policies::default())] {
        let mut log = log(&folder.path().join(name), policies);
        let mut held = 0;
        for i in 0..20 {
            let contents = Contents::from(noise(30_000));
            log.put(format!("{i}").as_bytes(), Mtime::default(), contents, b"").unwrap();
            held = held.max(log.held().bytes);
        }
        log.sync().unwrap();
        assert_eq!(log.held().bytes, 0);
        let there = Generation::open(&folder.path().join(name), &OpenOptions::default()).unwrap();
        assert_eq!(there.entries().filter(|entry| entry.is_file() && entry.size() == 30_000).count(), 20);
        assert!(there.check(|_| {}).problems.is_empty());
        most.push(held);
    }
    assert_eq!(most, [90_000, 600_000]);
}

#[test]
fn the_owner_says_where_segments_go() {
    let folder = tempfile::tempdir().unwrap();
    let own = Policies { allocation: Arc::new(SmallInGaps), ..Policies::default() };
    let mut ends = Vec::new();
    for (name, policies) in [("own", own), ("first", Policies::default())] {
        let path = folder.path().join(name);
        let mut log = log(&path, policies);
        for _ in 0..6 {
            log.put(b"big", Mtime::default(), Contents::from(noise(1_000_000)), b"").unwrap();
            log.compact(&[]).unwrap();
            log.put(b"small", Mtime::default(), Contents::from(noise(1000)), b"").unwrap();
            log.sync().unwrap();
        }
        assert!(Generation::open(&path, &OpenOptions::default()).unwrap().check(|_| {}).problems.is_empty());
        ends.push(log.usage().unwrap().file_bytes);
    }
    // The large ones went on and on; who takes the first gap comes back to the beginning.
    assert!(ends[0] > 6_000_000 && ends[1] < 4_000_000, "{ends:?}");
}
