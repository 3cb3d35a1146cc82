//! The real binary: `sum`. Its digests against the tools that everyone has, its lists against theirs, both
//! ways.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `program` in `dir`; `None` if this machine does not have it.
fn tool(dir: &Path, program: &str, args: &[&str]) -> Option<Output> {
    Command::new(program).args(args).current_dir(dir).env("LC_ALL", "C").stdin(Stdio::null()).output().ok()
}

fn sum(dir: &Path, args: &[&str]) -> Output {
    tool(dir, env!("CARGO_BIN_EXE_pipec"), &[&["sum"], args].concat()).unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[track_caller]
fn stdout(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "stderr: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A tree of files whose lengths meet the edges of words, blocks and buffers: 64 KiB a block, 256 KiB a
/// buffer.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let mut word = 1_u64;
    for len in [0, 1, 9, 1023, 1024, 65_536, 65_537, 262_144, 262_145, 600_001, 1_100_000] {
        let mut step = || {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (word >> 56) as u8
        };
        let bytes: Vec<u8> = (0..len).map(|_| step()).collect();
        fs::write(dir.path().join(format!("sub/{len:07}")), bytes).unwrap();
    }
    dir
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("sub")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| format!("sub/{}", entry.unwrap().file_name().to_str().unwrap())).collect();
    names.sort();
    names
}

#[cfg(feature = "digests")]
#[test]
fn published_vectors_of_every_digest() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("abc"), "abc").unwrap();
    // FIPS 180-4, FIPS 202, RFC 1321, RFC 7693, and the authors' own for the rest.
    let vectors = [
        ("md5", "900150983cd24fb0d6963f7d28e17f72"),
        ("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("sha224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
        ("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("sha512/256", "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"),
        ("sha3-256", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
        ("blake2s", "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"),
        ("blake3", "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
        ("xxh64", "44bc2cf5ad770999"),
        ("xxh3", "78af5f94892f3950"),
    ];
    for (name, value) in vectors {
        assert_eq!(stdout(&sum(dir.path(), &["--untagged", "-a", name, "abc"])), format!("{value}  abc\n"));
    }
    // All at once give the same.
    let names = vectors.map(|(name, _)| name).join(",");
    let lines = sum(dir.path(), &["-a", &names, "abc"]);
    let expected = vectors.map(|(name, value)| format!("{name} (abc) = {value}\n")).concat();
    assert_eq!(stdout(&lines).to_uppercase(), expected.to_uppercase());
}

/// Check values of the CRC catalogue, in the forms asked for.
#[test]
fn values_are_written_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("check"), "123456789").unwrap();
    let run = |args: &[&str]| stdout(&sum(dir.path(), args)).to_owned();
    assert_eq!(run(&["check"]), "CRC32C (check) = e3069283\n");
    // As S3's headers have them.
    assert_eq!(run(&["-a", "crc64nvme", "--base64", "--untagged", "check"]), "rosUhgp5mIg=  check\n");
    assert_eq!(run(&["-a", "crc32", "-z", "check"]), "CRC32 (check) = cbf43926\0");
    let json = run(&["-a", "crc32,cksum", "--json", "check", "check"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[1]["file"], "check");
    assert_eq!(json[1]["bytes"], 9);
    assert_eq!(json[1]["digests"]["crc32"], "cbf43926");
    assert_eq!(json[1]["digests"]["cksum"], "377a6011");
    // Of the catalogue, by name.
    assert_eq!(run(&["-a", "crc16_modbus", "check"]), "CRC16_MODBUS (check) = 4b37\n");
    // With a key of zero all that is left of the hash is the last block; 128 bits come in halves.
    assert_eq!(run(&["-a", "ghash.y.high", "check"]), "GHASH.Y.HIGH (check) = 3132333435363738\n");
    // Pipes of the library and of a file have no name of their own here.
    assert_eq!(
        run(&["-a", "parity.odd,fnv1a64", "check"]),
        "PARITY.ODD (check) = 01\nFNV1A64 (check) = 06d5573923c6cdfc\n"
    );
    fs::write(dir.path().join("m.pipe"), "pipe last : u8 { state x: u8; in y; mov x, y; export x }").unwrap();
    assert_eq!(run(&["-L", "m.pipe", "-a", "last", "check"]), "LAST (check) = 39\n");
}

#[test]
fn one_read_agrees_with_each_tool_alone() {
    let dir = tree();
    let names = files(dir.path());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tools: [(&str, &str, &[&str]); 11] = [
        ("cksum", "cksum", &[]),
        ("bsd", "sum", &["-r"]),
        ("sysv", "sum", &["-s"]),
        ("md5", "md5sum", &[]),
        ("sha1", "sha1sum", &[]),
        ("sha224", "sha224sum", &[]),
        ("sha256", "sha256sum", &[]),
        ("sha384", "sha384sum", &[]),
        ("sha512", "sha512sum", &[]),
        ("blake2b", "b2sum", &[]),
        ("xxh128", "xxhsum", &["-H2"]),
    ];
    for (name, program, args) in tools {
        let is_known = stdout(&sum(dir.path(), &["--list"])).lines().any(|known| known == name);
        let theirs = tool(dir.path(), program, &[args, &names].concat());
        let Some(theirs) = theirs.filter(|output| output.status.success() && is_known) else {
            eprintln!("`{program}` is not compared with: not on this machine, or not built in");
            continue;
        };
        for jobs in ["1", "3"] {
            let ours = sum(dir.path(), &[&["--untagged", "-j", jobs, "-a", name], &*names].concat());
            assert_eq!(stdout(&ours), text(&theirs.stdout), "{name}");
        }
        // A folder is all that is in it; and what they say is found to be right.
        let folder = sum(dir.path(), &["--untagged", "-a", name, "sub"]);
        assert_eq!(stdout(&folder), text(&theirs.stdout), "{name}");
        fs::write(dir.path().join("list"), &theirs.stdout).unwrap();
        let checked = sum(dir.path(), &["-a", name, "--quiet", "--strict", "-c", "list"]);
        assert_eq!(stdout(&checked), "", "{name}");
        // Fed together with others, it comes to the same.
        let all = sum(dir.path(), &["-a", &format!("crc32,adler32,{name},inet"), names[9]]);
        let one = sum(dir.path(), &["-a", name, names[9]]);
        assert!(stdout(&all).contains(stdout(&one)), "{name}");
    }
    if let Some(theirs) = tool(dir.path(), "rhash", &["--simple", "-CMH", "sub/0600001"]) {
        fs::write(dir.path().join("list"), &theirs.stdout).unwrap();
        assert_eq!(stdout(&sum(dir.path(), &["-c", "list"])), "sub/0600001: OK\n");
    }
}

#[cfg(feature = "digests")]
#[test]
fn coreutils_take_our_lists() {
    let dir = tree();
    fs::write(dir.path().join("sub/a\\b\nc"), "x").unwrap();
    let list = sum(dir.path(), &["-a", "md5,sha1,sha256,sha512,blake2b", "sub"]);
    fs::write(dir.path().join("list"), stdout(&list)).unwrap();
    let Some(theirs) = tool(dir.path(), "cksum", &["--strict", "-c", "list"]) else { return };
    if text(&theirs.stderr).contains("invalid option") {
        eprintln!("this `cksum` checks no lists");
        return;
    }
    let ours = sum(dir.path(), &["--strict", "-c", "list"]);
    assert_eq!(stdout(&ours), stdout(&theirs));
}

#[test]
fn what_is_wrong_is_said_as_coreutils_do() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("good"), "123456789").unwrap();
    fs::write(dir.path().join("bad"), "123456780").unwrap();
    let output = sum(dir.path(), &["-a", "crc32", "nix", "good"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "CRC32 (good) = cbf43926\n", "it goes on");
    assert_eq!(text(&output.stderr), "pipec: nix: No such file or directory\n");

    let list = "good cbf43926\nbad cbf43926\nnix cbf43926\nnonsense\n";
    fs::write(dir.path().join("list.sfv"), list).unwrap();
    let output = sum(dir.path(), &["-w", "-c", "list.sfv"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "good: OK\nbad: FAILED\nnix: FAILED open or read\n");
    let expected = "pipec: list.sfv: 4: improperly formatted checksum line\n\
                    pipec: nix: No such file or directory\n\
                    pipec: WARNING: 1 line is improperly formatted\n\
                    pipec: WARNING: 1 listed file could not be read\n\
                    pipec: WARNING: 1 computed checksum did NOT match\n";
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    // The list is read ahead of the files.
    assert_eq!(sorted(text(&output.stderr)), sorted(expected));
    let output = sum(dir.path(), &["--status", "-c", "list.sfv"]);
    assert_eq!((output.status.code(), &*output.stdout, &*output.stderr), (Some(1), &b""[..], &b""[..]));

    fs::write(dir.path().join("list.sfv"), "good cbf43926\nnix cbf43926\n").unwrap();
    let output = sum(dir.path(), &["--ignore-missing", "--json", "-c", "list.sfv"]);
    let json: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(json, serde_json::json!([{ "file": "good", "digests": { "crc32": true } }]));
    fs::write(dir.path().join("list.sfv"), "nix cbf43926\n").unwrap();
    assert_eq!(sum(dir.path(), &["--ignore-missing", "-c", "list.sfv"]).status.code(), Some(1));
    fs::write(dir.path().join("list.sfv"), "").unwrap();
    assert_eq!(sum(dir.path(), &["-c", "list.sfv"]).status.code(), Some(1), "nothing was checked");
}

#[test]
fn wrong_usage_is_refused_with_what_to_write() {
    let dir = tempfile::tempdir().unwrap();
    for (args, why) in [
        (&["-a", "crc31"][..], "no digest `crc31`: there are crc32, crc32c"),
        (&["-a", "byteswap32"], "`byteswap32` writes"),
        (&["-a", "fletcher4"], "write `fletcher4.a` or `fletcher4.b`"),
        (&["-a", "count_byte"], "`count_byte` wants its parameter `b`"),
        (&["-a", "ghash.tag"], "write `ghash.y.low` or"),
        (&["-a", "crc32,crc32c", "--untagged"], "--untagged lines name no digest"),
    ] {
        let output = sum(dir.path(), args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
}

#[test]
fn a_pipe_is_read_to_its_end() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pipec"))
        .args(["sum", "-a", "crc32,cksum"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for _ in 0..1000 {
        stdin.write_all(b"123456789").unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let expected = format!("CRC32 (-) = {:08x}\n", crc32(&b"123456789".repeat(1000)));
    assert!(stdout(&output).starts_with(&expected), "{}", text(&output.stdout));
}

/// Whose length is not that of its inode, past the page cache, too.
#[test]
fn a_device_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let data = b"12345678".repeat(1 << 17);
    let backing = dir.path().join("backing");
    std::fs::write(&backing, &data).unwrap();
    let losetup = Command::new("losetup").args(["--show", "-f"]).arg(&backing).output();
    let Some(made) = losetup.ok().filter(|made| made.status.success()) else {
        return eprintln!("skipped: no loop device without root");
    };
    let device = text(&made.stdout).trim().to_owned();
    let outputs = [&["--direct"][..], &[]]
        .map(|more| sum(dir.path(), &[&["-a", "crc32", device.as_str()], more].concat()));
    assert!(Command::new("losetup").args(["-d", &device]).status().unwrap().success());
    for output in outputs {
        assert_eq!(stdout(&output), format!("CRC32 ({device}) = {:08x}\n", crc32(&data)));
    }
}

/// Bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| bit(crc)))
}

/// One big file on several cores, and past the page cache, is what one core reads: pipes that are put
/// together, a digest that cannot be, and one that is no pipe.
#[test]
fn parts_of_a_big_file_are_put_together() {
    let dir = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..9_000_007u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 11) as u8).collect();
    std::fs::write(dir.path().join("big"), &data).unwrap();
    for digests in ["crc32,crc32c,crc64nvme,adler32,cksum,sysv,inet", "fnv1a64,crc32", "crc32,xxh3"] {
        let one = stdout(&sum(dir.path(), &["-a", digests, "big"])).to_owned();
        for more in [&["-j", "3"][..], &["--direct"], &["-j", "2", "--direct"]] {
            let output = sum(dir.path(), &[&["-a", digests, "big"], more].concat());
            if output.status.code() == Some(1)
                && text(&output.stderr).contains("no reads past the page cache")
            {
                eprintln!("skipped: {}", text(&output.stderr));
                continue;
            }
            assert_eq!(stdout(&output), one, "{more:?}");
        }
    }
    let crc = format!("CRC32 (big) = {:08x}\n", crc32(&data));
    assert_eq!(stdout(&sum(dir.path(), &["-j", "2", "-a", "crc32", "big"])), crc);
    // What has no size is read as it comes.
    assert!(stdout(&sum(dir.path(), &["-j", "2", "/proc/self/stat"])).starts_with("CRC32C"));
}
