//! Publishing to a bucket and serving from it, against a bucket of the test's own: what S3 does with single
//! objects, conditions included.
#![cfg(feature = "s3")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use support::program::Program;
use support::until;

/// Objects by their paths, and how often what was asked.
#[derive(Default)]
struct Bucket {
    objects: Mutex<HashMap<String, Vec<u8>>>,
    puts: Mutex<Vec<String>>,
    /// What somebody else has the pointer say as soon as the next list of parts is there.
    rival: Mutex<Option<Vec<u8>>>,
}

/// Where it lies.
const POINTER: &str = "/bucket/a/site/current";

impl Bucket {
    fn start() -> (Arc<Bucket>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let bucket = Arc::new(Bucket::default());
        let shared = Arc::clone(&bucket);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let bucket = Arc::clone(&shared);
                std::thread::spawn(move || bucket.serve(stream.unwrap()));
            }
        });
        (bucket, addr)
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        loop {
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if line.trim().is_empty() {
                    break;
                }
                lines.push(line.trim().to_owned());
            }
            let field = |name: &str| {
                let mut fields = lines.iter().filter_map(|line| line.split_once(": "));
                fields.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
            };
            let mut content = vec![0; field("content-length").map_or(0, |len| len.parse().unwrap())];
            reader.read_exact(&mut content).unwrap();
            let words: Vec<&str> = lines[0].split(' ').collect();
            assert!(field("authorization").is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256 ")));
            let (status, version, body) =
                self.answer(words[0], words[1], content, field("if-match"), field("if-none-match"));
            let head = format!(
                "HTTP/1.1 {status} Said\r\nETag: {version}\r\nContent-Length: {}\r\n\
                 Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
                body.len()
            );
            let body = if words[0] == "HEAD" { Vec::new() } else { body };
            stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        }
    }

    fn answer(
        &self,
        method: &str,
        path: &str,
        content: Vec<u8>,
        if_match: Option<&str>,
        if_none_match: Option<&str>,
    ) -> (u16, String, Vec<u8>) {
        let version = |bytes: &[u8]| format!("\"{}\"", &blake3::hash(bytes).to_hex()[..32]);
        let mut objects = self.objects.lock().unwrap();
        let here = objects.get(path);
        match method {
            "PUT" => {
                let matches = if_match.is_none_or(|wanted| here.is_some_and(|here| version(here) == wanted));
                if !matches || (if_none_match == Some("*") && here.is_some()) {
                    return (412, String::new(), Vec::new());
                }
                let version = version(&content);
                self.puts.lock().unwrap().push(path.to_owned());
                objects.insert(path.to_owned(), content);
                if path.contains("/images/")
                    && let Some(rival) = self.rival.lock().unwrap().take()
                {
                    objects.insert(POINTER.to_owned(), rival);
                }
                (200, version, Vec::new())
            }
            _ => match here {
                Some(bytes) => (200, version(bytes), bytes.clone()),
                None => (404, String::new(), Vec::new()),
            },
        }
    }
}

/// Two megabytes in which the ends of parts are found as in any file: simpler noise has none.
fn contents() -> Vec<u8> {
    let mut bytes = vec![0; 2_000_000];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn cheetah(addr: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    command.env("AWS_ENDPOINT", format!("http://{addr}")).env("AWS_ALLOW_HTTP", "true");
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret").env("AWS_REGION", "here");
    command
}

fn publish(addr: SocketAddr, dir: &Path, page: &str) -> String {
    let output = try_publish(addr, dir, page);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn try_publish(addr: SocketAddr, dir: &Path, page: &str) -> Output {
    let (site, image) = (dir.join("site"), dir.join("packed.img"));
    fs::create_dir_all(&site).unwrap();
    fs::write(site.join("big.bin"), contents()).unwrap();
    fs::write(site.join("index.html"), page).unwrap();
    let packed = cheetah(addr).arg("pack").arg(&site).arg("-o").arg(&image).output().unwrap();
    assert!(packed.status.success());
    publish_image(addr, &image)
}

fn publish_image(addr: SocketAddr, image: &Path) -> Output {
    cheetah(addr).arg("publish").arg(image).arg("s3://bucket/a/site").output().unwrap()
}

#[test]
fn a_bucket_is_served_from_and_followed() {
    let (bucket, addr) = Bucket::start();
    let dir = tempfile::tempdir().unwrap();
    publish(addr, dir.path(), "one");
    let serve = |name: &str| {
        let image = dir.path().join(name).display().to_string();
        let mut command = cheetah(addr);
        command.arg("serve").stderr(Stdio::null());
        Program::start_by(&mut command, &[&image, "--from", "s3://bucket/a/site", "--follow", "1"])
    };
    let (a, b) = (serve("a.img"), serve("b.img"));
    for server in [&a, &b] {
        assert_eq!(server.get("/").1, b"one");
    }
    let before = bucket.puts.lock().unwrap().len();
    publish(addr, dir.path(), "two");
    // New parts, the list of parts, the pointer: not all again.
    let new = bucket.puts.lock().unwrap().len() - before;
    assert!(new >= 3 && new < before, "{new} after {before}");
    for server in [a, b] {
        until("the server follows", || server.get("/").1 == b"two");
        assert!(server.get("/big.bin").1 == contents());
        assert_eq!(server.end(), Some(0));
    }
    let objects = bucket.objects.lock().unwrap();
    assert!(objects.contains_key(POINTER), "{:?}", objects.keys());
}

#[test]
fn the_pointer_is_replaced_only_as_it_was_found() {
    let (bucket, addr) = Bucket::start();
    let dir = tempfile::tempdir().unwrap();
    let pointer = || bucket.objects.lock().unwrap().get(POINTER).cloned();
    // There is none yet, and then there is.
    let other = format!("cheetah-current 1\nimage {}\n", "a".repeat(64)).into_bytes();
    for page in ["zero", "none"] {
        *bucket.rival.lock().unwrap() = Some(other.clone());
        let refused = try_publish(addr, dir.path(), page);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains("somebody else has published aaaa"), "{told}");
        assert_eq!(pointer().unwrap(), other);
        bucket.objects.lock().unwrap().remove(POINTER);
        publish(addr, dir.path(), "one");
    }
    // The same image: packed anew its files would have other times.
    let again = publish_image(addr, &dir.path().join("packed.img"));
    let again = String::from_utf8(again.stdout).unwrap();
    assert!(again.contains("; 0 parts, 0 bytes of them were not there"), "{again}");
}
