//! `cheetah serve SITE.img --verify`: a damaged page is never sent.

mod support;

use std::fs;
use std::io::BufRead;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fsstack::{Image, OpenOptions};
use support::program::Program;

fn cheetah(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cheetah")).args(arguments).output().unwrap()
}

/// A server whose log can be read.
fn serve_told(arguments: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    Program::start_by(command.arg("serve").stderr(Stdio::piped()), arguments)
}

/// Packs a site, with a wrong bit in that file at that offset: where in the image that is, and the image.
fn pack_and_damage(site: &Path, image: &Path, (name, offset): (&str, usize)) -> (usize, Vec<u8>) {
    let packed = cheetah(&["pack", site.to_str().unwrap(), "-o", image.to_str().unwrap()]);
    assert!(packed.status.success(), "{packed:?}");
    let file = Image::open(image, &OpenOptions::default()).unwrap().lookup(name).unwrap().extents()[0].offset;
    let at = file as usize + offset;
    let mut bytes = fs::read(image).unwrap();
    bytes[at] ^= 4;
    fs::write(image, &bytes).unwrap();
    (at, bytes)
}

#[test]
fn a_damaged_page_is_refused_logged_with_its_file_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (site, image) = (dir.path().join("site"), dir.path().join("site.img"));
    fs::create_dir(&site).unwrap();
    let (first, second) = (support::noise(20_000), support::noise(60_000));
    fs::write(site.join("first.bin"), &first).unwrap();
    fs::write(site.join("second.bin"), &second).unwrap();
    let image_name = image.to_str().unwrap();
    let (at, bytes) = pack_and_damage(&site, &image, ("second.bin", 50_000));
    let mut program = serve_told(&[image_name, "--verify", "--counters", "json"]);
    let mut errors = program.take_errors().unwrap().lines().map(Result::unwrap);
    assert!(program.get("/first.bin") == (200, first));
    // What is before the damaged page goes out; then the connection ends.
    let (_, body) = program.get("/second.bin");
    let page = at / 4096 * 4096;
    assert_eq!(body.len(), page - (at - 50_000));
    assert!(second.starts_with(&body));
    let told = errors.find(|line| line.contains("second.bin")).unwrap();
    assert!(told.contains(&format!("offset {page} ")) && told.contains("CRC32C"), "{told}");
    program.signal("-USR1");
    let counters = errors.find(|line| line.starts_with('{')).unwrap();
    let counters: serde_json::Value = serde_json::from_str(&counters).unwrap();
    assert!(counters["work"]["blocks_damaged"].as_u64().unwrap() > 0, "{counters}");
    assert_eq!(program.end(), Some(0));

    // Without it nobody looks.
    let program = Program::start(&[image_name]);
    assert!(program.get("/second.bin").1 == bytes[at - 50_000..][..60_000]);
    drop(program);
    let scrubbed = cheetah(&["scrub", image_name]);
    let told = String::from_utf8_lossy(&scrubbed.stderr).into_owned();
    assert!(scrubbed.status.code() == Some(1) && told.contains("contents of `second.bin`"), "{told}");
    let refused = cheetah(&["serve", site.to_str().unwrap(), "--verify"]);
    assert_eq!(refused.status.code(), Some(2));
}

/// `serve --scrub`: what nobody asks for is looked at, too.
#[test]
fn damage_that_nobody_reads_is_found_while_serving() {
    let dir = tempfile::tempdir().unwrap();
    let (site, image) = (dir.path().join("site"), dir.path().join("site.img"));
    fs::create_dir(&site).unwrap();
    fs::write(site.join("asked.txt"), "hello").unwrap();
    fs::write(site.join("forgotten.bin"), support::noise(900_000)).unwrap();
    let image_name = image.to_str().unwrap();
    let (at, _) = pack_and_damage(&site, &image, ("forgotten.bin", 700_000));
    let mut program = serve_told(&[image_name, "--scrub", "1G", "--counters", "json"]);
    let mut errors = program.take_errors().unwrap().lines().map(Result::unwrap);
    let told = errors.find(|line| line.contains("scrubbing found")).unwrap();
    let page = at / 4096 * 4096;
    assert!(told.contains("`forgotten.bin`") && told.contains(&format!("offset {page} ")), "{told}");
    assert!(program.get("/asked.txt") == (200, b"hello".to_vec()));
    // The step is counted when it is over.
    let counters = std::iter::repeat_with(|| {
        program.signal("-USR1");
        let counters = errors.find(|line| line.starts_with('{')).unwrap();
        serde_json::from_str::<serde_json::Value>(&counters).unwrap()
    });
    let mut counters = counters.map(|counters| counters["work"].clone());
    assert!(counters.any(|work| work["pages_found_damaged"].as_u64() > Some(0)));
    drop(counters);
    assert_eq!(program.end(), Some(0));
    for wrong in [&[site.to_str().unwrap(), "--scrub", "1M"][..], &[image_name, "--scrub", "0"]] {
        let refused = cheetah(&[&["serve"], wrong].concat());
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
    }
}
