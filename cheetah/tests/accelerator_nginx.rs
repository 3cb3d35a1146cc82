//! nginx as the origin: what another one's server really says, in lengths and chunks, in codings and parts,
//! on connections that it closes when it wants to.

mod support;

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cheetah::accelerator::{self, Cache};
use cheetah::programs::{self, Limits, Route, Target};
use cheetah::server::{Config, Server};
use support::accelerated::{ask, get, is_hit, status_of};
use support::noise;
use support::servers::{connect, on_kernel};

/// nginx in the foreground; ended when dropped.
struct Nginx {
    child: Child,
    addr: SocketAddr,
    dir: tempfile::TempDir,
}

impl Nginx {
    /// Serves what `fill` puts into a folder. `None`, told, where there is no nginx.
    fn start(fill: impl FnOnce(&Path)) -> Option<Nginx> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fill(&root);
        // Its workers may be somebody else.
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "daemon off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log;\n\
             events {{ }}\n\
             http {{\n\
               access_log {dir}/access.log;\n\
               client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
               uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
               types {{ text/html html; text/plain txt; application/octet-stream bin; }}\n\
               keepalive_requests 7; keepalive_timeout 1s;\n\
               server {{\n\
                 listen {addr}; root {dir}/root;\n\
                 location / {{ }}\n\
                 location /gzip/ {{ gzip on; gzip_proxied any; gzip_types text/plain; gzip_vary on; gzip_min_length 1; expires 1h; }}\n\
                 location /ssi/ {{ ssi on; ssi_types text/plain; expires 1h; }}\n\
                 location /none/ {{ add_header Cache-Control no-store; }}\n\
                 location /stale/ {{ expires -1; }}\n\
               }}\n\
             }}\n",
            dir = dir.path().display(),
        );
        let config = dir.path().join("nginx.conf");
        fs::write(&config, text).unwrap();
        let spawned = Command::new("nginx").arg("-c").arg(&config).stderr(Stdio::null()).spawn();
        let child = spawned.inspect_err(|error| eprintln!("skipped: nginx: {error}")).ok()?;
        let nginx = Nginx { child, addr, dir };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(addr).is_err() {
            let log = fs::read_to_string(nginx.dir.path().join("error.log")).unwrap_or_default();
            assert!(Instant::now() < until, "nginx does not listen: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(nginx)
    }

    /// That it was asked for a path so often; it says so after it has answered.
    fn was_asked(&self, path: &str, times: usize) {
        let asked = || {
            let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
            log.lines().filter(|line| line.contains(&format!(" {path} HTTP/1.1"))).count()
        };
        support::until(path, || asked() >= times);
        assert_eq!(asked(), times, "{path}");
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it, if it is asked.
        self.signal("-TERM");
        let _ = self.child.wait();
    }
}

fn server(nginx: &Nginx) -> Server {
    let target = Target::Origin(programs::Origin::parse(&format!("http://{}", nginx.addr)).unwrap());
    let programs = programs::Config {
        routes: vec![Route::new("/", target).unwrap()],
        limits: Limits::default(),
        cache: Some(Arc::new(Cache::new(accelerator::Limits::default()))),
        ..programs::Config::default()
    };
    on_kernel(support::site(), &Config { programs: Arc::new(programs), ..Config::default() })
}

/// So old that it may be guessed how long it stays as it is.
fn write_old(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(1_000_000)).unwrap();
}

#[test]
fn what_nginx_says_is_kept_and_sent_as_it_is() {
    let big = noise(700_000);
    let text = "a line of text that is shorter with gzip\n".repeat(3000);
    let included = "included ".repeat(20_000);
    let Some(nginx) = Nginx::start(|root| {
        write_old(&root.join("big.bin"), &big);
        write_old(&root.join("empty.bin"), b"");
        write_old(&root.join("gzip/a.txt"), text.as_bytes());
        write_old(&root.join("ssi/part.txt"), included.as_bytes());
        write_old(&root.join("ssi/whole.txt"), b"<!--# include file=\"/ssi/part.txt\" -->end");
        write_old(&root.join("none/a.txt"), b"never kept");
        write_old(&root.join("stale/a.bin"), &big[..100_000]);
    }) else {
        return;
    };
    let server = server(&nginx);
    let at = server.addr();

    // By its length; a part before it is kept, and after.
    let got = get(at, "/big.bin", "Range: bytes=100000-299999\r\n");
    assert!(got.head.starts_with("HTTP/1.1 206") && got.body == big[100_000..300_000], "{}", got.head);
    for round in 0..2 {
        let got = get(at, "/big.bin", "");
        assert!(got.body == big && is_hit(&got) == (round > 0), "{}", got.head);
        assert!(got.field("ETag").is_some() && got.field("Last-Modified").is_some(), "{}", got.head);
    }
    let got = get(at, "/big.bin", "Range: bytes=-1000\r\n");
    assert!(got.body == big[699_000..] && is_hit(&got), "{}", got.head);
    let etag = get(at, "/big.bin", "").field("ETag").unwrap().to_owned();
    let got = get(at, "/big.bin", &format!("If-None-Match: {etag}\r\n"));
    assert!(got.head.starts_with("HTTP/1.1 304") && is_hit(&got), "{}", got.head);
    for _ in 0..2 {
        assert_eq!(get(at, "/empty.bin", "").body, b"");
    }
    nginx.was_asked("/big.bin", 2);
    nginx.was_asked("/empty.bin", 1);

    // In chunks, and in a coding for those who take it: two variants.
    for round in 0..2 {
        let got = get(at, "/gzip/a.txt", "Accept-Encoding: gzip\r\n");
        assert_eq!((got.field("Content-Encoding"), is_hit(&got)), (Some("gzip"), round > 0), "{}", got.head);
        let mut plain = String::new();
        flate2::read::GzDecoder::new(&got.body[..]).read_to_string(&mut plain).unwrap();
        assert!(plain == text);
        let got = get(at, "/gzip/a.txt", "");
        assert!(got.body == text.as_bytes() && got.field("Content-Encoding").is_none(), "{}", got.head);
        assert_eq!(is_hit(&got), round > 0);
    }
    for round in 0..2 {
        let got = get(at, "/ssi/whole.txt", "");
        assert!(got.body == format!("{included}end").as_bytes(), "{}", got.head);
        assert_eq!(is_hit(&got), round > 0, "{}", got.head);
    }

    // Asked about each time, and still the same.
    for round in 0..3 {
        let got = get(at, "/stale/a.bin", "");
        assert!(got.body == big[..100_000], "{}", got.head);
        assert!(round == 0 || status_of(&got).contains("fwd=stale; fwd-status=304"), "{}", got.head);
    }
    server.shut_down().unwrap();
}

#[test]
fn connections_that_nginx_closes_cost_no_request() {
    let Some(nginx) = Nginx::start(|root| write_old(&root.join("none/a.txt"), b"never kept")) else { return };
    let server = server(&nginx);
    let mut stream = connect(server.addr());
    let asked = |stream: &mut TcpStream, count: usize| {
        for number in 0..count {
            let got = ask(stream, "GET", "/none/a.txt", "");
            assert!(got.body == b"never kept" && !is_hit(&got), "{number}: {}", got.head);
        }
    };
    // Each connection is good for seven, then it is closed in the middle of the next ones.
    asked(&mut stream, 100);
    // Nothing for longer than it keeps one.
    std::thread::sleep(Duration::from_millis(1300));
    asked(&mut stream, 3);
    // It reads its configuration again: connections that are free end.
    nginx.signal("-HUP");
    for _ in 0..10 {
        asked(&mut stream, 3);
        std::thread::sleep(Duration::from_millis(30));
    }
    nginx.was_asked("/none/a.txt", 133);
    server.shut_down().unwrap();
}
