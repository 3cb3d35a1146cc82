//! The page about a server, as a browser shows it.

mod support;

use std::io::BufRead;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::browser::Page;
use support::program::Program;

#[test]
fn the_page_draws_rates_and_latencies() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.txt"), "hello").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    command.arg("serve").stderr(Stdio::piped());
    let site = dir.path().to_str().unwrap();
    let mut served = Program::start_by(&mut command, &[site, "--admin", "127.0.0.1:0"]);
    let mut errors = served.take_errors().unwrap().lines().map(Result::unwrap);
    let url =
        errors.find_map(|line| Some(format!("http://{}", line.split_once("http://")?.1.trim()))).unwrap();
    let Some(mut page) = Page::open(&url) else { return };
    let patience = Instant::now() + Duration::from_secs(60);
    let drawn = "[...document.querySelectorAll('#latency rect')].some(bar => Number(bar.getAttribute('height')) > 30)";
    // Figures come by two ways, each a second.
    let parts =
        ["requests a second", "open connections", "p99 \u{2264}", "since the start: p50", "responses 200"];
    let text = |page: &mut Page| page.value("document.body.innerText").to_string();
    while page.value(drawn) != true || !parts.iter().all(|part| text(&mut page).contains(part)) {
        (0..50).for_each(|_| assert_eq!(served.get("/a.txt").0, 200));
        assert!(Instant::now() < patience, "{}", text(&mut page));
    }
    assert_eq!(page.value("document.querySelectorAll('#latency rect').length"), 18);
    let has_points = "[...document.querySelectorAll('polyline')].every(line => line.getAttribute('points'))";
    assert_eq!(page.value(has_points), true);
    // Nothing comes from elsewhere, and no script has failed.
    let others = "performance.getEntriesByType('resource').map(of => of.name).filter(of => !of.startsWith(location.origin))";
    assert_eq!(page.value(&format!("{others}.join()")), "");
    if let Some(path) = std::env::var_os("CHEETAH_TEST_PICTURE") {
        let picture = page.call("Page.captureScreenshot", &serde_json::json!({}))["data"].to_string();
        std::fs::write(path, picture.trim_matches('"')).unwrap();
    }
    served.signal("-KILL");
    let over = "document.getElementById('state').textContent";
    while page.value(over) != "the server does not answer" {
        assert!(Instant::now() < patience);
        std::thread::sleep(Duration::from_millis(50));
    }
}
