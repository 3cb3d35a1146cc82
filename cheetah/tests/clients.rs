//! The built program with the clients that people use: curl, wget, ab. What is not installed is skipped with
//! a line.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::program::Program;

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok()
        || Command::new(program).arg("-V").output().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

fn output(program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A folder with pages that link to each other, so that a mirror finds them all.
fn linked_site(files: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut index = String::from("<!doctype html><title>many</title>\n");
    for i in 0..files {
        let path = format!("d{}/page {i}.html", i % 17);
        fs::create_dir_all(dir.path().join(format!("d{}", i % 17))).unwrap();
        let body = format!("<p>{i}</p>{}", String::from_utf8_lossy(&support::noise(i * 37 % 20_000)));
        fs::write(dir.path().join(&path), body).unwrap();
        index += &format!("<a href=\"{}\">{i}</a>\n", path.replace(' ', "%20"));
    }
    fs::write(dir.path().join("index.html"), index).unwrap();
    dir
}

/// Every file under `dir`, by its path.
fn contents(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    walkdir::WalkDir::new(dir)
        .sort_by_file_name()
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| (entry.path().strip_prefix(dir).unwrap().into(), fs::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn wget_mirrors_a_site() {
    if !has("wget") {
        return;
    }
    let site = linked_site(500);
    let mirror = tempfile::tempdir().unwrap();
    let served = Program::start(&[site.path().to_str().unwrap()]);
    let into = mirror.path().to_str().unwrap();
    let (fine, _) = output("wget", &["-q", "-m", "-nH", "-P", into, &served.url]);
    assert!(fine);
    let (ours, theirs) = (contents(mirror.path()), contents(site.path()));
    assert_eq!(ours.len(), 501);
    assert!(ours == theirs);
    // A second time nothing has changed: 304 all the way.
    let (fine, _) = output("wget", &["-q", "-m", "-nH", "-P", into, &served.url]);
    assert!(fine);
    assert_eq!(served.end(), Some(0));
}

#[test]
fn curl_gets_ranges_conditions_and_errors() {
    if !has("curl") {
        return;
    }
    let site = tempfile::tempdir().unwrap();
    let contents = support::noise(100_000);
    fs::write(site.path().join("file.bin"), &contents).unwrap();
    let served = Program::start(&[site.path().to_str().unwrap()]);
    let url = format!("{}file.bin", served.url);
    let code = |arguments: &[&str]| {
        let all = [&["-s", "-o", "/dev/null", "-w", "%{http_code}"], arguments].concat();
        output("curl", &all).1
    };
    assert_eq!(code(&[&url]), "200");
    assert_eq!(code(&["-I", &url]), "200");
    assert_eq!(code(&["-r", "5-9", &url]), "206");
    assert_eq!(code(&["-r", "100000-", &url]), "416");
    assert_eq!(code(&["-z", "Fri, 01 Jan 2038 00:00:00 GMT", &url]), "304");
    assert_eq!(code(&["-d", "x=y", &url]), "405");
    assert_eq!(code(&["-T", "/etc/hostname", &url]), "405");
    assert_eq!(code(&["--path-as-is", &format!("{}../etc/passwd", served.url)]), "400");
    // Content in chunks is dropped, and the connection goes on.
    let chunked = ["-s", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{http_code} %{num_connects},", "-H"];
    let chunked =
        [&chunked[..], &["Transfer-Encoding: chunked", "-H", "Expect:", "-d", "a=b", &url, &url]].concat();
    assert_eq!(output("curl", &chunked).1, "405 1,405 0,");
    // A download that stops in the middle goes on where it stopped.
    let part = site.path().join("part");
    fs::write(&part, &contents[..60_000]).unwrap();
    let (fine, _) = output("curl", &["-s", "-C", "-", "-o", part.to_str().unwrap(), &url]);
    assert!(fine);
    assert!(fs::read(&part).unwrap() == contents);
}

#[test]
fn ab_loses_nothing() {
    if !has("ab") {
        return;
    }
    let site = tempfile::tempdir().unwrap();
    fs::write(site.path().join("small"), support::noise(100)).unwrap();
    let served = Program::start(&[site.path().to_str().unwrap()]);
    let url = format!("{}small", served.url);
    for kept in [&["-k"][..], &[]] {
        let arguments = [&["-q", "-n", "4000", "-c", "50"], kept, &[&url]].concat();
        let (fine, report) = output("ab", &arguments);
        assert!(fine, "{report}");
        let line = |name: &str| report.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        assert!(line("Complete requests:").is_some_and(|line| line.ends_with(" 4000")), "{report}");
        assert!(line("Failed requests:").is_some_and(|line| line.ends_with(" 0")), "{report}");
        assert_eq!(line("Non-2xx responses:"), None, "{report}");
    }
    assert_eq!(served.end(), Some(0));
}

#[test]
fn out_of_descriptors_it_waits_for_some() {
    let site = tempfile::tempdir().unwrap();
    fs::write(site.path().join("small"), "x").unwrap();
    let mut shell = Command::new("sh");
    let limited = concat!("ulimit -n 30; exec ", env!("CARGO_BIN_EXE_cheetah"), " serve \"$@\"");
    let served = Program::start_by(
        shell.stderr(std::process::Stdio::null()).args(["-c", limited, "sh"]),
        &[site.path().to_str().unwrap()],
    );
    let addr = served.addr.clone();
    let mut streams: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&addr).unwrap()).collect();
    let ask = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(support::read_response(stream, false).body, b"x");
    };
    // Those that got in are served, and when they go the others get in.
    streams[..3].iter_mut().for_each(ask);
    streams.drain(..95);
    streams.iter_mut().for_each(ask);
    drop(streams);
    assert_eq!(served.end(), Some(0));
}

/// In a process of its own, where nothing else allocates.
#[test]
fn memory_stays_flat_over_connections() {
    let site = tempfile::tempdir().unwrap();
    fs::write(site.path().join("file"), support::noise(3000)).unwrap();
    let served = Program::start(&[site.path().to_str().unwrap()]);
    let addr = served.addr.clone();
    let cycle = |connections: usize| {
        for _ in 0..connections {
            let mut stream = TcpStream::connect(&addr).unwrap();
            stream.write_all(b"GET /file HTTP/1.0\r\n\r\n").unwrap();
            assert_eq!(support::read_response(&mut stream, false).body.len(), 3000);
        }
    };
    let resident = || {
        let statm = fs::read_to_string(format!("/proc/{}/statm", served.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    cycle(1000);
    let before = resident();
    cycle(5000);
    let grown = resident().saturating_sub(before);
    assert!(grown < 1 << 20, "grew by {grown} bytes in 5000 connections");
    assert_eq!(served.end(), Some(0));
}

#[test]
fn an_image_is_replaced_under_a_running_server() {
    if !has("curl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (folder, image) = (dir.path().join("site"), dir.path().join("site.img"));
    fs::create_dir(&folder).unwrap();
    let pack = |text: &str| {
        fs::write(folder.join("a.txt"), text).unwrap();
        let arguments = ["pack", folder.to_str().unwrap(), "-o", image.to_str().unwrap()];
        let (fine, said) = output(env!("CARGO_BIN_EXE_cheetah"), &arguments);
        assert!(fine && said.starts_with("packed 1 files"), "{said}");
    };
    pack("old");
    let served = Program::start(&[image.to_str().unwrap()]);
    let url = format!("{}a.txt", served.url);
    assert_eq!(output("curl", &["-s", &url]).1, "old");
    pack("new");
    assert_eq!(output("curl", &["-s", &url]).1, "old", "not before it is told");
    served.signal("-HUP");
    let patience = Instant::now() + Duration::from_secs(10);
    while output("curl", &["-s", &url]).1 != "new" {
        assert!(Instant::now() < patience);
    }
    // Something that is no image changes nothing.
    let broken = dir.path().join("broken");
    fs::write(&broken, support::noise(10_000)).unwrap();
    fs::rename(&broken, &image).unwrap();
    served.signal("-HUP");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(output("curl", &["-s", &url]).1, "new");
    assert_eq!(served.end(), Some(0));
}

#[test]
fn the_access_log_has_a_line_a_request() {
    if !has("curl") {
        return;
    }
    let site = tempfile::tempdir().unwrap();
    fs::write(site.path().join("a.txt"), "hello").unwrap();
    let logs = tempfile::tempdir().unwrap();
    for (format, needles) in [
        ("combined", ["\"GET /a.txt HTTP/1.1\" 200 5 \"-\" \"tester\"", "\"GET /b HTTP/1.1\" 404 "]),
        ("json", ["\"target\":\"/a.txt\"", "\"status\":404"]),
    ] {
        let log = logs.path().join(format);
        let arguments =
            [site.path().to_str().unwrap(), "--access-log", log.to_str().unwrap(), "--log-format", format];
        let served = Program::start(&arguments);
        for path in ["a.txt", "b"] {
            output("curl", &["-s", "-A", "tester", &format!("{}{path}", served.url)]);
        }
        assert_eq!(served.end(), Some(0));
        let text = fs::read_to_string(&log).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        for needle in needles {
            assert!(text.contains(needle), "{needle} is missing: {text}");
        }
    }
}

#[test]
fn wrong_usage_and_bad_sources() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().to_str().unwrap();
    let bad = dir.path().join("bad.img");
    fs::write(&bad, support::noise(20_000)).unwrap();
    for (arguments, code, needle) in [
        (&["serve"][..], 2, "nothing to serve"),
        (&["serve", site, "--net", "xdp"], 2, "--addr"),
        (&["serve", site, "--net", "tap"], 2, "--addr"),
        (&["serve", site, "--net", "packet", "--addr", "10.0.0.2/24"], 2, "--dev"),
        (&["serve", site, "--nic", "lance"], 2, "--net tap"),
        (&["serve", site, "--without", "everything"], 2, "precomputed-headers"),
        (&["serve", site, "--without", "offload"], 2, "--net tap"),
        (&["serve", site, "--listen", "nowhere"], 2, "--listen"),
        (&["serve", "/nonexistent"], 1, "/nonexistent"),
        (&["serve", bad.to_str().unwrap()], 1, "offset"),
        (&["pack", "/nonexistent", "-o", "/dev/null"], 1, "/nonexistent"),
        (&["frobnicate"], 2, "frobnicate"),
        (&["swamp", "ftp://127.0.0.1/"], 2, "http:// or https://"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_cheetah")).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(needle), "{arguments:?}: {said}");
    }
}

/// On a processor without AVX2 our own TCP/IP's loops are interpreted, unless Cranelift was built in: that is
/// said.
#[test]
fn a_machine_without_avx2_is_warned_of() {
    if cfg!(any(feature = "cranelift", not(target_arch = "x86_64"))) {
        return;
    }
    let site = tempfile::tempdir().unwrap();
    for (features, warned) in [("sse4.2", true), ("avx2,pclmul", false)] {
        if !warned && !pipe_lib::Features::detected().names().any(|name| name == "avx2") {
            continue;
        }
        let output = Command::new(env!("CARGO_BIN_EXE_cheetah"))
            .args([
                "serve",
                site.path().to_str().unwrap(),
                "--addr",
                "10.0.0.1/24",
                "--net",
                "ring",
                "--dev",
                "none",
            ])
            .env("PIPE_LIB_FEATURES", features)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.contains("no AVX2; build with `--features cranelift`"), warned, "{features}: {said}");
        assert_eq!(output.status.code(), Some(1), "{features}: {said}");
    }
}

#[test]
fn the_demonstration_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = dir.path().join("demo.pcap");
    let output = Command::new(env!("CARGO_BIN_EXE_cheetah"))
        .args(["demo", "--pcap", pcap.to_str().unwrap()])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains(" 8/8 "), "{said}");
    if said.contains("wire in memory") {
        eprintln!("{}", said.lines().next().unwrap_or_default());
    } else {
        assert!(fs::metadata(&pcap).unwrap().len() > 1_000_000, "{said}");
    }
}

/// The next server of the comparison listens where the one before did, whatever its processes still wait for.
#[test]
fn a_process_a_request_leaves_the_port_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_cheetah"))
        .args(["bench", "--process-a-request", dir.path().to_str().unwrap(), "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addr = line.trim().trim_start_matches("listening on http://").trim_end_matches('/').to_owned();
    let _silent = TcpStream::connect(&addr).unwrap();
    // Connections are taken in their order: once this one is answered, the other has its process.
    let mut stream = TcpStream::connect(&addr).unwrap();
    write!(stream, "GET /none HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 404"), "{answer}");
    server.kill().unwrap();
    server.wait().unwrap();
    // A process waits 10 s for a request; half of that is time enough to be scheduled.
    let patience = Instant::now() + Duration::from_secs(5);
    while let Err(error) = TcpListener::bind(&addr) {
        assert!(Instant::now() < patience, "{error}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A short run of the comparison: what it says, and its figures; `None`, said in a line, where there is no
/// private network.
fn ablate(more: &[&str]) -> Option<(String, serde_json::Value)> {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("a.json");
    let output = Command::new(env!("CARGO_BIN_EXE_cheetah"))
        .args(["bench", "--ablate", "--rounds", "1", "--seconds", "0.02", "--json", json.to_str().unwrap()])
        .args(more)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    if complained.contains("no private network") || complained.contains("cannot open bench0") {
        eprintln!("skipped: {complained}");
        return None;
    }
    assert!(output.status.success(), "{said}{complained}");
    Some((said, serde_json::from_slice(&fs::read(json).unwrap()).unwrap()))
}

/// Every server comes up, serves the right bytes, and the switches show in the packets.
#[test]
fn the_ablation_measures_both_worlds() {
    let dir = tempfile::tempdir().unwrap();
    let svg = dir.path().join("a.svg");
    let Some((said, result)) = ablate(&["--mtu", "1500", "--svg", svg.to_str().unwrap()]) else { return };
    let frames = |server: &serde_json::Value| {
        let rows = result["rows"].as_array().unwrap();
        let row =
            rows.iter().find(|row| row["server"] == *server && row["load"] == "100 B, kept connections");
        ["frames", "requests"].map(|name| row.unwrap()[name].as_f64().unwrap())
    };
    let worlds = result["worlds"].as_array().unwrap();
    assert_eq!(worlds.len(), 2);
    for world in worlds {
        let switches = world["switches"].as_array().unwrap();
        let merging = switches.iter().find(|switch| switch["off"] == "header-merging").unwrap();
        // A request and its answer; or a head and a body, at least. On a busy machine there may be few, and
        // beside them are the connections' own frames.
        let [sent, requests] = frames(&merging["with"]);
        assert!(sent < 2.5 * requests + 80.0, "{sent} frames for {requests} requests");
        let [sent, requests] = frames(&merging["without"]);
        assert!(sent > 2.8 * requests, "{sent} frames for {requests} requests, head and body apart");
        assert!(world["stages"].as_array().unwrap().len() > 8);
    }
    let refused =
        worlds[0]["switches"].as_array().unwrap().iter().find(|switch| switch["off"] == "fused-loops");
    assert!(refused.unwrap()["refused"].as_str().unwrap().contains("the kernel copies and sums"));
    assert!(said.contains("not measured here:") && fs::read_to_string(svg).unwrap().ends_with("</svg>\n"));
}

/// The same over HTTPS, where sealing is what is switched.
#[test]
fn the_ablation_measures_https() {
    let only = "fused-loops,frame-sealing,stored-sums";
    let Some((_, result)) = ablate(&["--tls", "--mtu", "1500", "--only", only]) else { return };
    let tap = &result["worlds"][1]["switches"];
    let touched = |server: &serde_json::Value| {
        let rows = result["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["server"] == *server && row["load"] == "1 MB, kept connections");
        row.unwrap()["touched"].as_f64().unwrap()
    };
    // One visit; a second for the frame; one each to copy, encrypt and hash, and the frame's.
    let [fused, held] = ["with", "without"].map(|which| touched(&tap[1][which]));
    assert!((0.9..1.2).contains(&fused) && held > 1.8, "{fused} {held}");
    let separate = touched(&tap[0]["without"]);
    assert!(separate > held + 0.8, "{separate} {held}");
    assert!(tap[2]["refused"].as_str().unwrap().contains("other bytes each time"));
}

/// The same of what has to be fetched and checked first.
#[test]
fn the_ablation_measures_what_is_cold() {
    let what = ["--cold", "--mtu", "1500+offload", "--net", "kernel", "--only", "verify,zero-copy"];
    let Some((said, result)) = ablate(&what) else { return };
    assert!(said.contains("1 MB, cold, kept connections, 4 clients"), "{said}");
    assert!(said.contains("zero-copy: what is not in memory whole"), "{said}");
    let servers = result["servers"].as_array().unwrap();
    assert!(servers.iter().any(|server| server["what"] == "serve unverified"), "{result}");
    // What the loops cost alone, where there is code for them.
    assert!(said.contains("verify: crc32c") || said.contains("no loops to compare with"), "{said}");
}

/// The same of a program's output, shared and through a socket.
#[test]
fn the_ablation_measures_programs() {
    let what = ["--programs", "--mtu", "1500+offload", "--only", "shared-output,zero-copy"];
    let Some((said, result)) = ablate(&what) else { return };
    assert!(said.contains("50 KB of a program, made anew, 6 clients"), "{said}");
    assert!(said.contains("zero-copy: what programs share is not sent by reference"), "{said}");
    let rows = result["rows"].as_array().unwrap();
    // Two servers in each of two worlds, each with both loads, and all of them answer.
    assert_eq!(rows.len(), 8);
    assert!(rows.iter().all(|row| row["requests"].as_f64().unwrap() > 0.0), "{result}");
    let servers = result["servers"].as_array().unwrap();
    let of = |what: &str| servers.iter().filter(|server| server["what"] == what).count();
    assert_eq!((of("serve --program"), of("serve --fastcgi")), (2, 2));
}

/// HTTP/2 as curl and h2load speak it, in the clear and over TLS.
#[test]
fn clients_of_http_2() {
    if !has("curl") {
        return;
    }
    if !output("curl", &["--version"]).1.contains("HTTP2") {
        eprintln!("skipped: this curl speaks no HTTP/2");
        return;
    }
    let site = linked_site(40);
    let certificate = support::secured::Certificate::new(&["localhost"]);
    let (cert, key) = (certificate.files.cert.to_str().unwrap(), certificate.files.key.to_str().unwrap());
    let site_path = site.path().to_str().unwrap();
    let served =
        Program::start(&[site_path, "--tls-cert", cert, "--tls-key", key, "--tls-listen", "127.0.0.1:0"]);
    for at in [format!("http://{}", served.addr), format!("https://{}", served.https.as_ref().unwrap())] {
        // The name that the certificate is for.
        let url = at.replace("127.0.0.1", "localhost");
        let out = tempfile::tempdir().unwrap();
        let (mut config, mut statuses) = (String::new(), String::new());
        let always =
            ["-s", "-Z", "--http2-prior-knowledge", "--cacert", cert, "-w", "%{http_version} %{http_code}\n"];
        for (number, (path, _)) in contents(site.path()).iter().enumerate() {
            let from = format!("{url}/{}", path.to_str().unwrap().replace(' ', "%20"));
            let to = format!("{}/{number}", out.path().display());
            if at.starts_with("http:") {
                // There curl 7.88 can ask only once on a connection, whatever the server.
                statuses += &output("curl", &[&always[..], &[&from, "-o", &to]].concat()).1;
            } else {
                config += &format!("url = \"{from}\"\noutput = \"{to}\"\n");
            }
        }
        if !config.is_empty() {
            let list = out.path().join("list");
            fs::write(&list, config).unwrap();
            statuses += &output("curl", &[&always[..], &["-K", list.to_str().unwrap()]].concat()).1;
        }
        assert!(statuses.lines().count() == 41 && statuses.lines().all(|line| line == "2 200"), "{statuses}");
        for (number, (path, bytes)) in contents(site.path()).iter().enumerate() {
            assert!(fs::read(out.path().join(number.to_string())).unwrap() == *bytes, "{}", path.display());
        }
        if has("h2load") {
            let (fine, told) =
                output("h2load", &["-n", "500", "-c", "3", "-m", "20", &format!("{at}/index.html")]);
            assert!(fine && told.contains("500 succeeded, 0 failed"), "{told}");
        }
    }
    assert_eq!(served.end(), Some(0));
}
