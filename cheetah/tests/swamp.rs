//! The load generator against our server, and against servers that do not what they should.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cheetah::server::{Config, Server};
use cheetah::swamp::{self, Addresses, Failure, Ledger, Mix, Options, Secrecy, Targets, Trust, Url};
use cheetah::transport::device::{self, DeviceOptions, Interface};
use netstack::sharing::Sharing;
use netstack::sys::link;
use support::servers::{KERNELS, OURS, on_kernel, veth};
use support::{in_namespace, site};

/// Half a second of asking `addr` for `paths`.
fn options(addr: SocketAddr, paths: &[&str], keep: bool) -> Options {
    let url: Url = format!("http://{addr}/").parse().unwrap();
    let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
    let targets = Arc::new(Targets::new(&url, &paths, keep).unwrap());
    Options {
        connections: 8,
        keep,
        verify: true,
        warm_up: Duration::ZERO,
        duration: Duration::from_millis(500),
        ..Options::new(addr, targets)
    }
}

fn run(options: &Options) -> Ledger {
    swamp::run_on_kernel(options, &mut |_| {}).unwrap()
}

#[test]
fn every_answer_of_our_server_is_right_and_counted() {
    for keep in [true, false] {
        let server = on_kernel(site(), &Config::default());
        let options = options(server.addr(), &["/hello.txt", "/big.bin", "/"], keep);
        let ledger = run(&Options { mix: Mix::zipf(3, 1.0), ..options });
        let answered = server.shut_down().unwrap().total_responses();
        assert_eq!(ledger.failed(), 0, "{:?}", ledger.failures);
        // Those under way at the end are not counted.
        assert!(ledger.answers() > 20 && answered - ledger.answers() <= 8, "{answered} {}", ledger.answers());
        assert_eq!(ledger.seconds.iter().map(|second| second.answers).sum::<u64>(), ledger.answers());
        if keep {
            assert_eq!(ledger.connections, 8);
        } else {
            assert!(ledger.connections >= ledger.answers());
        }
    }
}

#[test]
fn at_a_rate_as_many_are_asked_for_as_fall_due() {
    let server = on_kernel(site(), &Config::default());
    let options = options(server.addr(), &["/hello.txt"], true);
    let ledger = run(&Options { rate: Some(400.0), ..options });
    let answered = server.shut_down().unwrap().total_responses();
    assert_eq!((ledger.failed(), ledger.answers()), (0, answered));
    assert!((199..=200).contains(&answered), "{answered}");
}

/// Answers one connection after the other by `answer`, which is given the number of the request.
fn stub(answer: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer): (TcpStream, _) = (stream.unwrap(), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                for number in 0.. {
                    let Ok(1..) = stream.read(&mut buffer) else { return };
                    let bytes = answer(number);
                    if bytes.is_empty() || stream.write_all(&bytes).is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

fn ok(content: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len()).into_bytes()
}

fn failures(ledger: &Ledger, failure: Failure) -> u64 {
    ledger.failures[failure as usize]
}

#[test]
fn wrong_answers_are_told_apart() {
    let every_tenth = |number: usize, wrong: Vec<u8>| if number % 10 == 9 { wrong } else { ok("right") };
    let ask = |addr| run(&Options { connections: 1, ..options(addr, &["/"], true) });
    let about_a_tenth = |ledger: &Ledger, failure| {
        let (right, wrong) = (ledger.answers(), failures(ledger, failure));
        assert!(right > 20 && wrong * 9 <= right && right <= wrong * 9 + 9, "{right} {:?}", ledger.failures);
        assert_eq!(ledger.failed(), wrong);
    };
    about_a_tenth(&ask(stub(move |n| every_tenth(n, ok("wrong")))), Failure::Contents);
    about_a_tenth(&ask(stub(move |n| every_tenth(n, ok("longer")))), Failure::Contents);
    let lost = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    about_a_tenth(&ask(stub(move |n| every_tenth(n, lost.to_vec()))), Failure::Status);
    about_a_tenth(&ask(stub(move |n| every_tenth(n, b"hello?\r\n\r\n".to_vec()))), Failure::Malformed);
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nri";
    let then_gone = move |n| match n % 10 {
        8 => cut.to_vec(),
        _ => ok("right"),
    };
    // A cut answer is not known to be one before the time is over.
    let addr = stub(then_gone);
    let ledger =
        run(&Options { connections: 1, patience: Duration::from_millis(60), ..options(addr, &["/"], true) });
    assert!(failures(&ledger, Failure::Late) > 1, "{:?}", ledger.failures);
}

#[test]
fn a_kept_connection_may_end_between_two_answers() {
    // Closes when it is asked for the fifth time: that request goes to another connection, and nothing has
    // failed.
    let addr = stub(|number| if number == 4 { Vec::new() } else { ok("right") });
    let ledger = run(&options(addr, &["/"], true));
    assert_eq!(ledger.failed(), 0, "{:?}", ledger.failures);
    assert!(ledger.answers() > 20 && ledger.connections >= ledger.answers() / 4);
}

#[test]
fn who_is_not_there_costs_a_try_now_and_then() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ledger = run(&options(gone, &["/"], true));
    assert_eq!(ledger.answers(), 0);
    let tried = failures(&ledger, Failure::Connect);
    assert!((1..=8 * 20).contains(&tried), "{:?}", ledger.failures);
}

/// HTTPS, with handshakes whole and resumed, contents compared.
#[test]
fn https_is_asked_for_as_well() {
    let certificate = support::secured::Certificate::new(&["localhost"]);
    let server = on_kernel(site(), &support::secured::config(certificate.acceptor()));
    let addr = server.tls_addr().unwrap();
    let ca = certificate.files.cert.clone();
    for (keep, trust, resumes) in [
        (true, Trust::Authorities(&ca), true),
        (false, Trust::Authorities(&ca), true),
        (false, Trust::Anybody, false),
    ] {
        let secrecy = Some(Secrecy::new("localhost", trust, resumes).unwrap());
        let options = Options { secrecy, ..options(addr, &["/hello.txt", "/big.bin"], keep) };
        let ledger = run(&options);
        assert_eq!(ledger.failed(), 0, "{keep} {resumes}: {:?}", ledger.failures);
        assert!(ledger.answers() > 5 && (keep == (ledger.connections == 8)), "{}", ledger.answers());
    }
    // Whom nobody vouches for is not asked.
    let other = support::secured::Certificate::new(&["localhost"]);
    let secrecy = Secrecy::new("localhost", Trust::Authorities(&other.files.cert), true).unwrap();
    let ledger = run(&Options { secrecy: Some(secrecy), ..options(addr, &["/hello.txt"], true) });
    assert!(ledger.answers() == 0 && ledger.failed() > 0);
    server.shut_down().unwrap();
}

/// As `options`, by HTTP/2 with so many requests at once on a connection.
fn by_http2(streams: usize, options: Options) -> Options {
    let url: Url = format!("http://{}/", options.addr).parse().unwrap();
    let url = Url { secured: options.secrecy.is_some(), ..url };
    let paths: Vec<String> =
        (0..options.targets.len()).map(|i| options.targets.get(i).path.clone()).collect();
    Options {
        http2: NonZeroUsize::new(streams),
        targets: Arc::new(Targets::over_http2(&url, &paths).unwrap()),
        secrecy: options.secrecy.map(Secrecy::over_http2),
        ..options
    }
}

/// HTTP/2, in the clear and in secret, one request at a time and several, a connection each, at a rate.
#[test]
fn http_2_is_asked_for_as_well() {
    let certificate = support::secured::Certificate::new(&["localhost"]);
    let trust = Trust::Authorities(&certificate.files.cert);
    for (secured, streams, keep, rate) in [
        (false, 1, true, None),
        (false, 8, true, None),
        (false, 1, false, None),
        (false, 200, true, Some(400.0)),
        (true, 8, true, None),
        (true, 1, false, None),
    ] {
        let what = format!("{secured} {streams} {keep} {rate:?}");
        let server = on_kernel(site(), &support::secured::config(certificate.acceptor()));
        let addr = if secured { server.tls_addr().unwrap() } else { server.addr() };
        let secrecy = secured.then(|| Secrecy::new("localhost", trust, true).unwrap());
        let options = Options { secrecy, rate, ..options(addr, &["/hello.txt", "/big.bin", "/"], keep) };
        let ledger = run(&by_http2(streams, options));
        let answered = server.shut_down().unwrap().total_responses();
        assert_eq!(ledger.failed(), 0, "{what}: {:?}", ledger.failures);
        let answers = ledger.answers();
        // Those under way at the end are not counted.
        assert!(answers > 5 && answered - answers <= 8 * streams as u64, "{what}: {answered} {answers}");
        assert!(keep == (ledger.connections <= 8), "{what}: {}", ledger.connections);
        if rate.is_some() {
            assert_eq!(answers, 200, "{what}");
        }
    }
    // Who does not speak it is told apart from who is not there.
    let addr = stub(|_| ok("right"));
    let ledger = run(&by_http2(2, options(addr, &["/"], true)));
    assert!(ledger.answers() == 0 && failures(&ledger, Failure::Malformed) > 0, "{:?}", ledger.failures);
    let mut acceptor = certificate.acceptor();
    acceptor.offer_http2(false);
    let server = on_kernel(site(), &support::secured::config(acceptor));
    let secrecy = Some(Secrecy::new("localhost", trust, true).unwrap());
    let options = Options { secrecy, ..options(server.tls_addr().unwrap(), &["/hello.txt"], true) };
    let ledger = run(&by_http2(2, options));
    assert!(ledger.answers() == 0 && ledger.failed() > 0);
    server.shut_down().unwrap();
}

/// Killed when dropped.
struct ServedByNginx(Child);

impl Drop for ServedByNginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Another one's server, which ends each connection after so many requests: nothing of that is a failure.
#[test]
fn nginx_is_asked_by_http_2() {
    const MAX_REQUESTS: u64 = 50;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    for (name, len) in [("small", 100), ("big", 200_000)] {
        std::fs::write(root.join(name), support::noise(len)).unwrap();
    }
    // Its process may be somebody else's.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
         events {{ }}\n\
         http {{\n\
           access_log off; keepalive_requests {MAX_REQUESTS};\n\
           client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
           uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
           server {{ listen {addr} http2; root {dir}/root; }}\n\
         }}\n",
        dir = dir.path().display(),
    );
    let config = dir.path().join("nginx.conf");
    std::fs::write(&config, text).unwrap();
    let mut nginx = match Command::new("nginx").arg("-c").arg(&config).stderr(Stdio::null()).spawn() {
        Ok(child) => ServedByNginx(child),
        Err(error) => return eprintln!("skipped: nginx: {error}"),
    };
    let patience = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(addr).is_err() {
        assert!(Instant::now() < patience, "nginx takes no connection");
        if nginx.0.try_wait().unwrap().is_some() {
            return eprintln!("skipped: this nginx has no HTTP/2, or may not serve here");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let ledger = run(&by_http2(8, options(addr, &["/small", "/big"], true)));
    assert_eq!(ledger.failed(), 0, "{:?}", ledger.failures);
    let answers = ledger.answers();
    assert!(answers > 20, "{answers}");
    assert!(answers < 16 * MAX_REQUESTS || ledger.connections > 8, "{answers} {}", ledger.connections);
}

/// A server that goes down has what it has not looked at asked for again, by a connection that is not to be
/// had.
#[test]
fn a_server_that_drains_cuts_nothing_short() {
    // Long enough that the server goes while it is asked, on a machine that has other things to do as well.
    for seconds in [1, 2, 4, 8, 15] {
        let server = on_kernel(site(), &Config::default());
        let asking = options(server.addr(), &["/hello.txt", "/big.bin"], true);
        let asking = by_http2(8, Options { duration: Duration::from_secs(seconds), ..asking });
        let asking = std::thread::spawn(move || run(&asking));
        while server.report().stats.total_responses() < 100 && !asking.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let goes_meanwhile = !asking.is_finished();
        server.shut_down().unwrap();
        let ledger = asking.join().unwrap();
        assert_eq!(ledger.failed(), failures(&ledger, Failure::Connect), "{:?}", ledger.failures);
        if goes_meanwhile && ledger.answers() > 5 {
            return;
        }
    }
    panic!("few answers in 15 seconds");
}

/// By HTTP/2: its settings, then to each request what `answer` says, which is given the number of its stream.
fn http_2_stub(answer: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer): (TcpStream, _) = (stream.unwrap(), Arc::clone(&answer));
            // Ends when the client does.
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut preface = [0; 24];
                stream.read_exact(&mut preface)?;
                stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])?;
                loop {
                    let mut head = [0; 9];
                    stream.read_exact(&mut head)?;
                    let [l0, l1, l2, kind, _, number @ ..] = head;
                    let len = u32::from_be_bytes([0, l0, l1, l2]);
                    stream.read_exact(&mut vec![0; len as usize])?;
                    if kind == 1 {
                        stream.write_all(&answer(u32::from_be_bytes(number)))?;
                    }
                }
            });
        }
    });
    addr
}

fn http_2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u8;
    [&[0, 0, len, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// Who sends each connection away is asked now and then, and that is a failure.
#[test]
fn who_sends_all_away_costs_a_try_now_and_then() {
    const PROTOCOL_ERROR: u8 = 1;
    const ENHANCE_YOUR_CALM: u8 = 11;
    for code in [PROTOCOL_ERROR, ENHANCE_YOUR_CALM] {
        let addr = http_2_stub(move |_| http_2_frame(7, 0, 0, &[0, 0, 0, 0, 0, 0, 0, code]));
        let ledger = run(&by_http2(4, options(addr, &["/"], true)));
        let cut = failures(&ledger, Failure::Cut);
        assert!(ledger.answers() == 0 && cut > 0 && cut == ledger.failed(), "{:?}", ledger.failures);
        assert!(ledger.connections <= 8 * 20, "{}", ledger.connections);
    }
}

/// Who refuses all requests, or all but the first of each connection, is not asked the same for ever.
#[test]
fn who_refuses_is_asked_elsewhere_and_not_for_ever() {
    for answers_one in [false, true] {
        let heard = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&heard);
        let addr = http_2_stub(move |stream| {
            counted.fetch_add(1, Ordering::Relaxed);
            if answers_one && stream == 1 {
                // `:status: 200`, and that is all.
                return http_2_frame(1, 0x5, stream, &[0x88]);
            }
            http_2_frame(3, 0, stream, &[0, 0, 0, 7])
        });
        let options = Options { connections: 1, ..options(addr, &["/"], true) };
        let ledger = run(&by_http2(4, options));
        let (answers, cut) = (ledger.answers(), failures(&ledger, Failure::Cut));
        assert_eq!((answers > 0, cut), (answers_one, ledger.failed()), "{:?}", ledger.failures);
        let heard = heard.load(Ordering::Relaxed);
        if answers_one {
            // A few of each connection.
            assert!(heard <= 16 * ledger.connections, "{heard} {}", ledger.connections);
        } else {
            // Each fails at once, and the next connection waits.
            assert!(cut > 0 && ledger.connections <= 20 && heard <= 16 * 20, "{heard} {cut}");
        }
    }
}

/// Our own TCP/IP asks the kernel's sockets, over rings on a veth pair.
#[test]
fn our_own_tcp_asks_as_well() {
    in_namespace(|| {
        let Some(()) = veth() else { return };
        let addr = SocketAddr::from((KERNELS, 8080));
        let server = Server::on_kernel(site(), addr, 1, &Config::default()).unwrap();
        let cases = [(true, None), (false, None), (true, Some(400.0)), (false, Some(400.0))];
        let of_http1 = cases.map(|(keep, rate)| (0, keep, rate));
        let of_http2 = [(1, false, None), (8, true, None), (8, true, Some(400.0))];
        for (streams, keep, rate) in of_http1.into_iter().chain(of_http2) {
            let interface = Interface::Ring { name: "ours".into() };
            let device = device::open(&DeviceOptions::new(interface)).unwrap().device;
            let before = server.report().stats.total_responses();
            let mut options = Options { rate, ..options(server.addr(), &["/hello.txt", "/big.bin"], keep) };
            if streams > 0 {
                options = by_http2(streams, options);
            }
            let under_way = 8 * streams.max(1) as u64;
            let addresses = Addresses { addr: (OURS, 24), gateway: None };
            let ledger = swamp::run_on_stack(device, None, addresses, &options, &mut |_| {}).unwrap();
            let answered = server.report().stats.total_responses() - before;
            assert_eq!(ledger.failed(), 0, "{streams} {keep} {rate:?}: {:?}", ledger.failures);
            let answers = ledger.answers();
            if rate.is_some() {
                assert!((199..=200).contains(&answers) && answered >= answers);
            } else {
                assert!(answers > 20 && answered - answers <= under_way, "{streams}: {answers} {answered}");
            }
        }
        server.shut_down().unwrap();
    });
}

/// By two threads with one address, whose connections have ports that each hears of: over rings that share
/// what arrives by a hash of the kernel's, and over a TAP device with two queues.
#[test]
fn our_own_tcp_asks_by_threads() {
    in_namespace(|| {
        let tap = Interface::Tap { name: Some("tap7".into()), host_addr: Some((KERNELS, 24)), mtu: None };
        for interface in [Interface::Ring { name: "ours".into() }, tap] {
            let is_ring = matches!(interface, Interface::Ring { .. });
            if is_ring && veth().is_none() {
                continue;
            }
            let parts = Sharing::among(2).unwrap();
            let shares: Vec<_> = parts.iter().map(Sharing::share).collect();
            let opened = match device::open_shared(&DeviceOptions::new(interface), &shares) {
                Ok(opened) => opened,
                Err(error) => {
                    eprintln!("skipped: {error}");
                    continue;
                }
            };
            let addr = SocketAddr::from((KERNELS, 8080));
            let server = Server::on_kernel(site(), addr, 1, &Config::default()).unwrap();
            // Long enough that a thread may learn late who answers, from the other's frames.
            let mut options = options(server.addr(), &["/hello.txt", "/big.bin"], false);
            options.duration = Duration::from_secs(3);
            let addresses = Addresses { addr: (OURS, 24), gateway: None };
            let ledgers: Vec<Ledger> = std::thread::scope(|scope| {
                let threads = opened.into_iter().zip(parts).enumerate().map(|(thread, (opened, part))| {
                    let options = options.share(thread, 2);
                    scope.spawn(move || {
                        let (device, part) = (opened.device, Some(part));
                        swamp::run_on_stack(device, part, addresses, &options, &mut |_| {}).unwrap()
                    })
                });
                let threads: Vec<_> = threads.collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            for ledger in &ledgers {
                assert_eq!(ledger.failed(), 0, "{:?}", ledger.failures);
                assert!(ledger.answers() > 0, "{}", ledger.answers());
            }
            let all: u64 = ledgers.iter().map(Ledger::answers).sum();
            let answered = server.shut_down().unwrap().total_responses();
            assert!((all..=all + 8).contains(&answered), "{all} {answered}");
            if is_ring {
                link::delete("ours").unwrap();
            }
        }
    });
}

/// The same by HTTPS: handshakes whole and resumed, contents compared, and whom nobody vouches for.
#[test]
fn our_own_tcp_asks_in_secret() {
    in_namespace(|| {
        let Some(()) = veth() else { return };
        let certificate = support::secured::Certificate::new(&["localhost"]);
        let mut config = support::secured::config(certificate.acceptor());
        let addr = |port| SocketAddr::from((KERNELS, port));
        config.tls.as_mut().unwrap().addr = addr(8443);
        let server = Server::on_kernel(site(), addr(8080), 1, &config).unwrap();
        let ask_by = |streams, secrecy: Secrecy, keep| {
            let interface = Interface::Ring { name: "ours".into() };
            let device = device::open(&DeviceOptions::new(interface)).unwrap().device;
            let paths = ["/hello.txt", "/big.bin"];
            let mut options = Options { secrecy: Some(secrecy), ..options(addr(8443), &paths, keep) };
            if streams > 0 {
                options = by_http2(streams, options);
            }
            let addresses = Addresses { addr: (OURS, 24), gateway: None };
            swamp::run_on_stack(device, None, addresses, &options, &mut |_| {}).unwrap()
        };
        let ask = |secrecy: Secrecy, keep| ask_by(0, secrecy, keep);
        let trust = Trust::Authorities(&certificate.files.cert);
        for (keep, resumes) in [(true, true), (false, true), (false, false)] {
            let ledger = ask(Secrecy::new("localhost", trust, resumes).unwrap(), keep);
            assert_eq!(ledger.failed(), 0, "{keep} {resumes}: {:?}", ledger.failures);
            assert!(ledger.answers() > 5 && (keep == (ledger.connections == 8)), "{}", ledger.answers());
        }
        let ledger = ask_by(4, Secrecy::new("localhost", trust, true).unwrap(), true);
        assert_eq!(ledger.failed(), 0, "HTTP/2: {:?}", ledger.failures);
        assert!(ledger.answers() > 5 && ledger.connections == 8, "{}", ledger.answers());
        let other = support::secured::Certificate::new(&["localhost"]);
        let trust = Trust::Authorities(&other.files.cert);
        let ledger = ask(Secrecy::new("localhost", trust, true).unwrap(), true);
        assert!(ledger.answers() == 0 && ledger.failed() > 0);
        server.shut_down().unwrap();
    });
}

#[test]
fn the_command_prints_and_draws() {
    let server = on_kernel(site(), &Config::default());
    let dir = tempfile::tempdir().unwrap();
    let svg = dir.path().join("p.svg");
    let url = format!("http://{}/hello.txt", server.addr());
    let swamp = |arguments: &[&str]| {
        let times = ["--duration", "0.2", "--warm-up", "0"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
        command.arg("swamp").args(times).args(arguments).output().unwrap()
    };
    let output =
        swamp(&[&url, "/big.bin", "--zipf", "1", "--check", "--svg", svg.to_str().unwrap(), "-t", "2"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("a second") && text.contains("99.9 %"), "{text}");
    assert!(std::fs::read_to_string(&svg).unwrap().ends_with("</svg>\n"));
    let output = swamp(&[&url, "--rate", "100", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        json["answers"].as_u64().unwrap() >= 19 && json["latency_ns"]["50"].as_u64().unwrap() > 0,
        "{json}"
    );
    let output = swamp(&[&url, "--http2", "-m", "4", "--check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("by HTTP/2 with 4 requests at once"), "{text}");
    // A log is asked for in its order: every third is the same, so that as many responses are.
    let log = dir.path().join("log");
    let line = |target: &str, status: u16| {
        format!(
            "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"GET {target} HTTP/1.1\" {status} 5 \"-\" \"-\"\n"
        )
    };
    let text = [line("/hello.txt", 200), line("/gone", 404), line("/", 200), line("/docs/", 200)].concat();
    std::fs::write(&log, text).unwrap();
    let replay = ["--replay", log.to_str().unwrap()];
    let output = swamp(&[&[&url[..], "-c", "1", "--rate", "100", "--json"], &replay[..]].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["what"].as_str().unwrap().contains("and 2 more"), "{json}");
    // 13, 34 and 13 bytes in turn.
    let (answers, bytes) = (json["answers"].as_u64().unwrap(), json["bytes"].as_u64().unwrap());
    let whole = [0, 13, 47][(answers % 3) as usize] + answers / 3 * 60;
    assert!(answers >= 19 && bytes == whole, "{json}");
    // Three in a second, twenty times as fast: one each 16.7 ms, by both threads in turn.
    let output = swamp(&[&[&url[..], "-c", "2", "-t", "2", "--speed", "20", "--json"], &replay[..]].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["what"].as_str().unwrap().contains("when the log says, 20 times as fast"), "{json}");
    assert_eq!((json["answers"].as_u64(), json["bytes"].as_u64()), (Some(12), Some(4 * 60)), "{json}");
    // One time through it is what nobody says otherwise.
    let mut once = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    once.args(["swamp", &url, "--warm-up", "0", "-c", "2", "--speed", "20", "--json"]).args(replay);
    let json: serde_json::Value = serde_json::from_slice(&once.output().unwrap().stdout).unwrap();
    assert_eq!((json["answers"].as_u64(), json["seconds"].as_f64()), (Some(3), Some(0.05)), "{json}");
    std::fs::write(&log, "{\"method\":\"GET\",\"status\":200,\"target\":\"/\"}\n").unwrap();
    let output = swamp(&[&[&url[..], "--speed", "1"], &replay[..]].concat());
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not say when"), "{output:?}");
    std::fs::write(&log, "nothing\n").unwrap();
    let output = swamp(&[&[&url[..]], &replay[..]].concat());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no GET with an answer"), "{output:?}");
    for (arguments, word) in [
        (&["https://a/", "--ca", "/nowhere"][..], "give --ca FILE, or --insecure"),
        (&["https://127.0.0.1/", "--insecure", "--net", "ring"], "--addr"),
        (&["a"], "http://"),
        (&[&url, "x"], "slash"),
        (&[&url, "-c", "1", "-t", "2"], "do not suffice"),
        (&[&url, "--net", "ring"], "--addr"),
        (&[&url, "--rate", "0"], "a number of requests"),
        (&[&url, "--speed", "1"], "--replay"),
        (&[&url, "--streams", "2"], "--http2"),
        (&[&url, "--http2", "-m", "2", "--close"], "--streams can be 1"),
        (&[&url, "--http2", "-m", "0"], "1 to 1000"),
    ] {
        let output = swamp(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && text.contains(word), "{arguments:?}: {text}");
    }
    server.shut_down().unwrap();
}
