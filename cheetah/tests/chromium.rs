//! A browser over HTTPS: a page and what it embeds and fetches comes by HTTP/2, byte for byte, again from the
//! browser's cache, and in parts; a whole site is found by its links, by HTTP/2 and by HTTP/1.1.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netstack::device::tap::TapDevice;
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::browser::Page;
use support::noise;
use support::program::Program;
use support::secured::Certificate;

const COUNT: usize = 40;

const SCRIPT: &str = r#"
const hex = bytes => [...new Uint8Array(bytes)].map(b => b.toString(16).padStart(2, "0")).join("");
const digest = async got => hex(await crypto.subtle.digest("SHA-256", await got.arrayBuffer()));
(async () => {
  const names = [...Array(COUNT).keys()].map(i => `/file${i}.bin`);
  const sums = await Promise.all(names.map(async name => digest(await fetch(name))));
  const again = await fetch("/file39.bin", { cache: "no-cache" });
  const part = await fetch("/file39.bin", { headers: { Range: "bytes=1000-1999" } });
  const none = await fetch("/none");
  const uploaded = await fetch("/", { method: "POST", body: "x".repeat(100000) });
  window.result = {
    sums, again: await digest(again), part: [part.status, await digest(part)], none: none.status, posted: uploaded.status,
    protocols: [...new Set(performance.getEntriesByType("resource").map(of => of.nextHopProtocol))],
    page: performance.getEntriesByType("navigation")[0].nextHopProtocol,
    image: document.images[0].naturalWidth,
  };
})().catch(error => window.result = { error: String(error) });
"#;

/// One black pixel.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_page_and_what_it_needs_comes_by_http2() {
    let dir = tempfile::tempdir().unwrap();
    let contents: Vec<Vec<u8>> = (0..COUNT).map(|i| noise(i * i * 400 + 1)).collect();
    for (i, bytes) in contents.iter().enumerate() {
        fs::write(dir.path().join(format!("file{i}.bin")), bytes).unwrap();
    }
    fs::write(dir.path().join("pixel.gif"), GIF).unwrap();
    fs::write(dir.path().join("page.js"), SCRIPT.replace("COUNT", &COUNT.to_string())).unwrap();
    let html = "<!DOCTYPE html><title>x</title><img src=pixel.gif><script src=page.js></script>";
    fs::write(dir.path().join("index.html"), html).unwrap();
    let Some(result) = result_of(dir.path(), &[]) else { return };
    let sums: Vec<String> = contents.iter().map(|bytes| hex(bytes)).collect();
    assert_eq!(result["sums"], serde_json::json!(sums));
    assert_eq!(result["again"], hex(&contents[39]));
    assert_eq!(result["part"], serde_json::json!([206, hex(&contents[39][1000..2000])]));
    assert_eq!((&result["none"], &result["posted"]), (&404.into(), &405.into()));
    assert_eq!((&result["page"], &result["protocols"]), (&"h2".into(), &serde_json::json!(["h2"])));
    assert_eq!(result["image"], 1);
}

/// From page to page, each file once: what it is, and by which protocol it came.
const WALK: &str = r#"
const hex = bytes => [...new Uint8Array(bytes)].map(b => b.toString(16).padStart(2, "0")).join("");
(async () => {
  const files = {}, seen = new Set([location.href]), todo = [location.href], statuses = new Set();
  const visit = async url => {
    const answer = await fetch(url, { cache: "no-store" });
    const bytes = await answer.arrayBuffer();
    statuses.add(answer.status);
    files[decodeURIComponent(new URL(url).pathname)] = hex(await crypto.subtle.digest("SHA-256", bytes));
    if (!(answer.headers.get("content-type") || "").startsWith("text/html")) return;
    const page = new DOMParser().parseFromString(new TextDecoder().decode(bytes), "text/html");
    for (const link of page.querySelectorAll("[href], [src]")) {
      const to = new URL(link.getAttribute("href") || link.getAttribute("src"), url);
      to.hash = "";
      if (to.origin == location.origin && !seen.has(to.href)) { seen.add(to.href); todo.push(to.href); }
    }
  };
  // All that a round has found at once.
  for (let round; (round = todo.splice(0)).length; ) await Promise.all(round.map(visit));
  const entries = performance.getEntriesByType("resource").filter(of => of.initiatorType == "fetch");
  window.result = { files, statuses: [...statuses], protocols: [...new Set(entries.map(of => of.nextHopProtocol))] };
})().catch(error => window.result = { error: String(error) });
"#;

/// A site of pages that link to others, to files beside and below them, and above.
fn linked_site(root: &Path) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let page = |links: &[String]| {
        let links: String = links.iter().map(|link| format!("<a href=\"{link}\">{link}</a>\n")).collect();
        format!("<!DOCTYPE html><title>x</title>\n{links}").into_bytes()
    };
    let folders: Vec<String> = (0..8).map(|i| format!("part{i}/with space/d\u{e9}j\u{e0} vu")).collect();
    let at = |folder: &str, name: &str| format!("{folder}/{name}");
    for (i, folder) in folders.iter().enumerate() {
        let sizes = [0, 1, 1400, 16_384, 16_385, 70_000 + i * 1000, 1_000_000];
        for (number, size) in sizes.into_iter().enumerate() {
            files.insert(at(folder, &format!("file{number}.bin")), noise(size));
        }
        files.insert(at(folder, "pixel.gif"), GIF.to_vec());
        files.insert(at(folder, "100%.txt"), format!("of {i}").into_bytes());
        let mut links: Vec<String> = (0..7).map(|number| format!("file{number}.bin")).collect();
        links.extend(["pixel.gif", "./100%25.txt", "deep/page.html", "#here", "/"].map(str::to_owned));
        files.insert(at(folder, "page.html"), page(&links));
        // On to the next folder, from below.
        let next = &folders[(i + 1) % folders.len()].replace(' ', "%20");
        let links = [format!("../../../../{next}/page.html?x=1#there"), "../page.html".to_owned()];
        files.insert(at(folder, "deep/page.html"), page(&links));
    }
    let first = format!("{}/page.html", folders[0].replace(' ', "%20"));
    let mut index = page(&[first, "walk.js".to_owned()]);
    index.extend(b"<script src=walk.js></script>");
    files.insert("index.html".to_owned(), index);
    files.insert("walk.js".to_owned(), WALK.as_bytes().to_vec());
    for (path, bytes) in &files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let name = |path: &str| if path == "index.html" { "/".to_owned() } else { format!("/{path}") };
    files.iter().map(|(path, bytes)| (name(path), hex(bytes))).collect()
}

#[test]
fn a_whole_site_is_mirrored_by_its_links() {
    let dir = tempfile::tempdir().unwrap();
    let expected = linked_site(dir.path());
    assert!(expected.len() > 80);
    for (more, protocol) in [(&[][..], "h2"), (&["--http2", "off"], "http/1.1")] {
        let Some(result) = result_of(dir.path(), more) else { return };
        assert_eq!(result["statuses"], serde_json::json!([200]), "{protocol}");
        assert_eq!(result["protocols"], serde_json::json!([protocol]));
        let got: BTreeMap<String, String> = serde_json::from_value(result["files"].clone()).unwrap();
        let missing: Vec<_> = expected.iter().filter(|(path, sum)| got.get(*path) != Some(sum)).collect();
        assert!(missing.is_empty() && got.len() == expected.len(), "{protocol}: {missing:?}");
    }
}

/// The same from our own TCP/IP, over a wire that loses two of a hundred frames in both directions.
#[test]
fn a_whole_site_is_mirrored_over_a_bad_wire() {
    support::in_namespace(|| {
        let tap = "--net tap --dev tap9 --addr 10.89.0.1/24 --host-addr 10.89.0.2 --fault drop=2%,seed=9";
        let at = "--listen 10.89.0.1:8080 --tls-listen 10.89.0.1:8443";
        let more: Vec<&str> = tap.split(' ').chain(at.split(' ')).collect();
        // An address that the interface gets by itself, a second later, is a change of the network, at which
        // the browser breaks off what it fetches.
        for which in ["all", "default"] {
            let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1");
        }
        if let Err(error) = TapDevice::open(Some("tap9"), true) {
            eprintln!("skipped: {error}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let expected = linked_site(dir.path());
        let Some(result) = result_of(dir.path(), &more) else { return };
        assert_eq!(result["protocols"], serde_json::json!(["h2"]));
        let got: BTreeMap<String, String> = serde_json::from_value(result["files"].clone()).unwrap();
        assert_eq!(got, expected);
    });
}

/// What the page of a served folder says at its end. `None`, told, without a browser.
fn result_of(site: &Path, more: &[&str]) -> Option<Value> {
    let certificate = Certificate::new(&["localhost"]);
    let (cert, key) = (certificate.files.cert.to_str().unwrap(), certificate.files.key.to_str().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    command.arg("serve").stderr(Stdio::null());
    let site = site.to_str().unwrap();
    let arguments = [site, "--tls-cert", cert, "--tls-key", key];
    let at = if more.contains(&"--tls-listen") { &[][..] } else { &["--tls-listen", "127.0.0.1:0"] };
    let served = Program::start_by(&mut command, &[&arguments[..], at, more].concat());
    let url = format!("https://{}/", served.https.as_ref().unwrap()).replace("127.0.0.1", "localhost");
    let mut page = Page::open_with(&url, &["--ignore-certificate-errors"])?;
    let patience = Instant::now() + Duration::from_secs(180);
    let result: Value = loop {
        let text = page.value("JSON.stringify(window.result || null)");
        let result = serde_json::from_str(text.as_str().unwrap_or("null")).unwrap();
        if result != Value::Null {
            break result;
        }
        assert!(Instant::now() < patience, "the page does not come to its end");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(result["error"], Value::Null, "{result}");
    drop(page);
    assert_eq!(served.end(), Some(0));
    Some(result)
}
