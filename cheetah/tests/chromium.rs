//! A browser over HTTPS: a page and what it embeds and fetches comes by HTTP/2, byte for byte, again from the browser's cache,
//! and in parts.

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
    let certificate = Certificate::new(&["localhost"]);
    let (cert, key) = (certificate.files.cert.to_str().unwrap(), certificate.files.key.to_str().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    command.arg("serve").stderr(Stdio::null());
    let site = dir.path().to_str().unwrap();
    let arguments = [site, "--tls-cert", cert, "--tls-key", key, "--tls-listen", "127.0.0.1:0"];
    let served = Program::start_by(&mut command, &arguments);
    let url = format!("https://{}/", served.https.as_ref().unwrap()).replace("127.0.0.1", "localhost");
    let Some(mut page) = Page::open_with(&url, &["--ignore-certificate-errors"]) else { return };
    let patience = Instant::now() + Duration::from_secs(90);
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
    let sums: Vec<String> = contents.iter().map(|bytes| hex(bytes)).collect();
    assert_eq!(result["sums"], serde_json::json!(sums));
    assert_eq!(result["again"], hex(&contents[39]));
    assert_eq!(result["part"], serde_json::json!([206, hex(&contents[39][1000..2000])]));
    assert_eq!((&result["none"], &result["posted"]), (&404.into(), &405.into()));
    assert_eq!((&result["page"], &result["protocols"]), (&"h2".into(), &serde_json::json!(["h2"])));
    assert_eq!(result["image"], 1);
    drop(page);
    assert_eq!(served.end(), Some(0));
}
