//! What is not in memory is read while the loop goes on: by io_uring, by threads, and by a device that
//! delays, reorders, cuts short, damages and fails.

mod support;

use std::collections::HashSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cheetah::reading::{OwnReading, Reading};
use cheetah::server::{Config, Server};
use cheetah::site::LazySite;
use cheetah::store::{Dotfiles, Folder, Store};
use fsstack::cache::FileCache;
use fsstack::cache::policy::PolicyName;
use fsstack::cache::reads::{ReadOrder, ReadQueue};
use fsstack::image::build::Mtime;
use fsstack::{BuildOptions, Builder, OpenOptions};
use netstack::stack::Features;
use runtime::event_loop::Waker;
use runtime::stats::work::Quantity;
use support::servers::{connect, on_device_with, on_kernel, tap};
use support::{CASES, hello_etag, in_namespace, read_response, split_response};

/// Files besides those of the test site, each in blocks of its own.
const MORE: usize = 40;
const MORE_BYTES: usize = 40_000;

fn more(i: usize) -> Vec<u8> {
    support::noise(MORE_BYTES + i)[i..].to_vec()
}

fn image(folder: &Path) -> PathBuf {
    let path = folder.join("site.img");
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    let mut add = |path: &str, contents: &[u8]| {
        let mtime = Mtime { seconds: support::MODIFIED, nanoseconds: 5 };
        cheetah::site::pack::add(&mut builder, path.as_bytes(), mtime, contents).unwrap();
    };
    support::files().iter().for_each(|(path, contents)| add(path, contents));
    (0..MORE).for_each(|i| add(&format!("more/{i}"), &more(i)));
    std::fs::write(&path, builder.finish().unwrap().0.into_bytes()).unwrap();
    path
}

/// The image past the kernel's cache, so that what is not in ours has to be read. `None`, told, where that
/// cannot be.
fn direct_site(folder: &Path, cache_bytes: u64, verify: bool) -> Option<Arc<dyn Store>> {
    let cache = Some(Arc::new(FileCache::aligned(cache_bytes, PolicyName::default()).unwrap()));
    let options = OpenOptions { cache, direct: true, verify, ..OpenOptions::default() };
    match LazySite::open_any(&image(folder), &options) {
        Ok(site) => Some(Arc::new(site.unwrap())),
        Err(error) => {
            eprintln!("skipped: {} cannot be read directly ({error})", folder.display());
            None
        }
    }
}

/// On the disk that the sources are on: temporary folders may be in memory.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Orders of all loops, for a test to do as it likes.
#[derive(Clone, Debug, Default)]
struct Desk(Arc<Mutex<Vec<ReadOrder>>>);

impl OwnReading for Desk {
    fn queue(&self, _waker: &Waker) -> io::Result<Box<dyn ReadQueue + Send>> {
        Ok(Box::new(self.clone()))
    }
}

impl ReadQueue for Desk {
    fn submit(&mut self, order: ReadOrder) {
        self.0.lock().unwrap().push(order);
    }

    fn turn(&mut self) {}

    fn has_work(&self) -> bool {
        false
    }
}

impl Desk {
    fn take(&self) -> Vec<ReadOrder> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn wait_for_orders(&self) {
        let patience = Instant::now() + Duration::from_secs(20);
        while self.0.lock().unwrap().is_empty() {
            assert!(Instant::now() < patience, "nothing is read");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn config(reading: Reading) -> Config {
    Config { reading, ..Config::default() }
}

fn get(addr: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    let mut stream = connect(addr);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let response = read_response(&mut stream, false);
    (response.status, response.body)
}

/// Every case of the test site, all on one connection, one behind the other without waiting; whatever is not
/// in a small cache is read in between.
fn ask_everything(addr: SocketAddr) {
    let etag = hello_etag();
    for case in CASES.iter().filter(|case| !case.closes) {
        let mut stream = connect(addr);
        stream.write_all(&case.bytes(&etag)).unwrap();
        case.check(&read_response(&mut stream, case.is_head()), &etag);
    }
    let mut stream = connect(addr);
    let kept: Vec<_> = CASES.iter().filter(|case| !case.closes).take(30).collect();
    let asked: Vec<u8> = kept.iter().flat_map(|case| case.bytes(&etag)).collect();
    stream.write_all(&asked).unwrap();
    let mut bytes = Vec::new();
    for case in kept {
        let response = loop {
            if let Some((response, rest)) = split_response(&bytes, case.is_head()) {
                let rest = rest.to_vec();
                bytes = rest;
                break response;
            }
            let mut chunk = [0; 65536];
            let n = io::Read::read(&mut stream, &mut chunk).unwrap();
            assert!(n > 0, "{}", case.request);
            bytes.extend_from_slice(&chunk[..n]);
        };
        case.check(&response, &etag);
    }
    for i in 0..MORE {
        assert!(get(addr, &format!("/more/{i}")) == (200, more(i)), "{i}");
    }
}

/// By whatever reads, over both worlds, from an image and from a folder: the same answers.
#[test]
fn every_way_of_reading_answers_every_case() {
    in_namespace(|| {
        let folder = folder();
        for reading in [Reading::Uring, Reading::threads(), Reading::InPlace] {
            let Some(site) = direct_site(folder.path(), 100_000, false) else { return };
            let config = config(reading);
            let server = on_kernel(site.clone(), &config);
            ask_everything(server.addr());
            let report = server.finish().unwrap();
            let queued = report.work[Quantity::BlocksQueued];
            assert_eq!(queued > 0, !matches!(config.reading, Reading::InPlace), "{queued}");
            let Some(server) = on_device_with(site, &tap(), Features::default(), &config) else { continue };
            ask_everything(server.addr());
            server.shut_down().unwrap();
        }
    });
}

#[test]
fn a_folder_is_read_like_that() {
    let folder = folder();
    for (name, contents) in support::files() {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
    for reading in [Reading::best(), Reading::threads()] {
        let store = Folder::open(folder.path(), Dotfiles::default(), 0).unwrap();
        let server = on_kernel(Arc::new(store), &config(reading));
        for (name, contents) in support::files() {
            let name = name.replace(' ', "%20");
            assert!(get(server.addr(), &format!("/{name}")) == (200, contents.clone()), "{name}");
        }
        server.shut_down().unwrap();
    }
}

/// As long as the disk says nothing, who asks for something else is answered, and who asks for the same waits
/// for one reading.
fn others_are_answered(server: Server, desk: &Desk, hot: &str) {
    let addr = server.addr();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let helper = std::thread::spawn({
        let (desk, done) = (desk.clone(), Arc::clone(&done));
        move || {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                desk.take().into_iter().for_each(ReadOrder::read_here);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let warm = get(addr, hot);
    assert_eq!(warm.0, 200);
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    helper.join().unwrap();
    let mut cold: Vec<_> = (0..3).map(|_| connect(addr)).collect();
    for stream in &mut cold {
        stream
            .write_all(b"GET /more/7 HTTP/1.1\r\nHost: a\r\n\r\nGET /more/7 HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
    }
    desk.wait_for_orders();
    for _ in 0..50 {
        assert!(get(addr, hot) == warm, "while others wait");
    }
    assert_eq!(desk.0.lock().unwrap().len(), 1, "one reading for all who wait");
    let bodies: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let readers: Vec<_> = cold
            .iter_mut()
            .map(|stream| {
                scope.spawn(move || {
                    let mut bytes = Vec::new();
                    let mut chunk = [0; 65536];
                    loop {
                        if let Some((first, rest)) = split_response(&bytes, false)
                            && let Some((second, _)) = split_response(rest, false)
                        {
                            return [first.body, second.body].concat();
                        }
                        let n = io::Read::read(stream, &mut chunk).unwrap();
                        assert!(n > 0);
                        bytes.extend_from_slice(&chunk[..n]);
                    }
                })
            })
            .collect();
        while readers.iter().any(|reader| !reader.is_finished()) {
            desk.take().into_iter().for_each(ReadOrder::read_here);
            std::thread::sleep(Duration::from_millis(1));
        }
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    let twice = more(7).repeat(2);
    assert!(bodies.iter().all(|body| *body == twice));
    drop(cold);
    server.shut_down().unwrap();
}

#[test]
fn hot_requests_do_not_wait_for_cold_ones() {
    in_namespace(|| {
        let folder = folder();
        let desk = Desk::default();
        let config = config(Reading::Own(Arc::new(desk.clone())));
        let Some(site) = direct_site(folder.path(), 1 << 20, false) else { return };
        others_are_answered(on_kernel(site, &config), &desk, "/hello.txt");
        let Some(site) = direct_site(folder.path(), 1 << 20, false) else { return };
        let Some(server) = on_device_with(site, &tap(), Features::default(), &config) else { return };
        others_are_answered(server, &desk, "/hello.txt");
    });
}

/// Who goes away while its blocks are read, and a server that ends then, take nothing with them.
#[test]
fn nobody_has_to_stay() {
    let folder = folder();
    let desk = Desk::default();
    let mut with_own = config(Reading::Own(Arc::new(desk.clone())));
    with_own.drain_limit = Duration::from_millis(50);
    let Some(site) = direct_site(folder.path(), 1 << 20, false) else { return };
    let server = on_kernel(site, &with_own);
    let mut stream = connect(server.addr());
    stream.write_all(b"GET /more/3 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    desk.wait_for_orders();
    drop(stream);
    let mut stream = connect(server.addr());
    stream.write_all(b"GET /more/3 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    server.shut_down().unwrap();
    desk.take().into_iter().for_each(ReadOrder::read_here);
}

/// A device that does its worst, by a seed: orders in any order, late, in small pieces, with damaged bytes,
/// or not at all.
fn misbehave(desk: &Desk, seed: u64, spoils: bool, until: &std::sync::atomic::AtomicBool) {
    let mut state = seed | 1;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut under_way: Vec<ReadOrder> = Vec::new();
    while !until.load(std::sync::atomic::Ordering::Relaxed) {
        under_way.extend(desk.take());
        if under_way.is_empty() || random(3) == 0 {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        let mut order = under_way.swap_remove(random(under_way.len() as u64) as usize);
        let rest = match random(20) {
            0 => order.advance(Err(io::Error::from_raw_os_error(5))),
            1 => {
                drop(order);
                None
            }
            2 => order.advance(Err(io::ErrorKind::Interrupted.into())),
            3 => order.advance(Ok(0)),
            4 if spoils => {
                let mut bytes = vec![0; order.rest().1.len()];
                let offset = order.rest().0;
                let n = rustix::io::pread(order.buffered_file(), &mut bytes, offset).unwrap_or(0);
                let (_, buffer) = order.rest();
                buffer[..n].copy_from_slice(&bytes[..n]);
                for _ in 0..n.min(3) {
                    buffer[random(n as u64) as usize] ^= 0x10;
                }
                order.advance(Ok(n))
            }
            kind => {
                let (offset, buffer) = order.rest();
                let most = if kind < 8 { buffer.len().div_ceil(3) } else { buffer.len() };
                let mut bytes = vec![0; most];
                let n = rustix::io::pread(order.buffered_file(), &mut bytes, offset).unwrap();
                order.rest().1[..n].copy_from_slice(&bytes[..n]);
                order.advance(Ok(n))
            }
        };
        under_way.extend(rest);
    }
}

#[test]
fn a_bad_device_costs_the_responses_that_need_it_and_gives_no_wrong_byte() {
    let folder = folder();
    for (seed, verify) in [(1, true), (2, true), (3, false)] {
        println!("seed {seed}");
        let desk = Desk::default();
        let Some(site) = direct_site(folder.path(), 200_000, verify) else { return };
        let server = on_kernel(site, &config(Reading::Own(Arc::new(desk.clone()))));
        let addr = server.addr();
        let over = std::sync::atomic::AtomicBool::new(false);
        let statuses: HashSet<u16> = std::thread::scope(|scope| {
            let device = scope.spawn(|| misbehave(&desk, seed, verify, &over));
            let clients: Vec<_> = (0..4)
                .map(|client| {
                    scope.spawn(move || {
                        let mut statuses = HashSet::new();
                        for i in 0..60 {
                            let which = (i * 7 + client * 11) % MORE;
                            let mut stream = connect(addr);
                            write!(
                                stream,
                                "GET /more/{which} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                            )
                            .unwrap();
                            let mut all = Vec::new();
                            let _ = io::Read::read_to_end(&mut stream, &mut all);
                            let Some(end) = all.windows(4).position(|window| window == b"\r\n\r\n") else {
                                continue;
                            };
                            let status: u16 = String::from_utf8_lossy(&all[9..12]).parse().unwrap();
                            if status == 200 {
                                assert!(more(which).starts_with(&all[end + 4..]), "a wrong byte of {which}");
                            }
                            statuses.insert(status);
                        }
                        statuses
                    })
                })
                .collect();
            let statuses = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            device.join().unwrap();
            statuses
        });
        assert!(
            statuses.contains(&200) && statuses.is_subset(&HashSet::from([200, 500, 503])),
            "{statuses:?}"
        );
        desk.take().into_iter().for_each(ReadOrder::read_here);
        server.shut_down().unwrap();
    }
}
