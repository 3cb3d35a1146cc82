//! The real binary: `run`, `test`, `bench`, `fuzz`; their output, exit statuses and files.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};

fn pipec(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipec"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str], input: &[u8]) -> Output {
    let mut child = pipec(args).stdin(Stdio::piped()).spawn().unwrap();
    // A program that refuses its arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[track_caller]
fn stdout(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "stderr: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The error of a run that exits with `status` and says nothing on stdout.
#[track_caller]
fn stderr(output: &Output, status: i32) -> &str {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert_eq!(text(&output.stdout), "");
    text(&output.stderr)
}

#[test]
fn exports_are_printed() {
    assert_eq!(stdout(&run(&["run", "crc32c"], b"123456789")), "crc32c.crc = 0xe3069283\n");
    let output = run(&["run", "inet_cksum as sum | byteswap32"], &[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]);
    assert_eq!(stdout(&output), "sum.sum = 0xddf2\nsum.cksum = 0x220d\n");
    let output = run(&["run", "crc32c as c per 9"], b"123456789123456789");
    assert_eq!(stdout(&output), "c.crc[0] = 0xe3069283\nc.crc[1] = 0xe3069283\n");
    assert_eq!(stdout(&run(&["run", "adler32"], b"Wikipedia")), "adler32.adler = 0x11e60398\n");
}

#[test]
fn json_is_an_object_in_stream_order() {
    let output = run(&["run", "--json", "crc32c | crc32 | crc32c as per_window per 9"], b"123456789");
    let expected = "{\"bytes\":9,\"written\":0,\"exports\":{\"crc32c.crc\":3808858755,\"crc32.crc\":3421780262,\
                    \"per_window.crc\":[3808858755]}}\n";
    assert_eq!(stdout(&output), expected);
}

/// A reader whose numbers are doubles rounds integers of more than 53 bits: those are there as text, too.
#[test]
fn wide_exports_are_in_json_as_text_too() {
    let output = run(&["run", "--json", "fnv1a64 | crc32c | fnv1a64 as part per 4"], b"foobar");
    let hash = 0x8594_4171_f739_67e8_u64; // FNV-1a of "foobar", from its authors' test vectors
    let value: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(value["exports"]["fnv1a64.hash"], hash);
    assert_eq!(value["hex"]["fnv1a64.hash"], "0x85944171f73967e8");
    let (numbers, texts) = (&value["exports"]["part.hash"], &value["hex"]["part.hash"]);
    for window in 0..2 {
        assert_eq!(texts[window], format!("{:#018x}", numbers[window].as_u64().unwrap()));
    }
    assert_eq!(value["hex"].as_object().unwrap().len(), 2, "{value}");
}

#[test]
fn data_goes_to_stdout_and_exports_then_to_stderr() {
    let output = run(&["run", "byteswap32 | crc32c", "-o", "-"], b"abcdefgh");
    assert_eq!(stdout(&output), "dcbahgfe");
    assert!(text(&output.stderr).starts_with("crc32c.crc = 0x"));
    let output = run(&["run", "--json", "byteswap32", "-o", "-"], b"abcdefgh");
    assert_eq!(stdout(&output), "dcbahgfe");
    assert_eq!(text(&output.stderr), "{\"bytes\":8,\"written\":8,\"exports\":{}}\n");
}

#[test]
fn several_threads_give_what_one_gives() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in"), folder.path().join("out"));
    // More than two parts' worth.
    let data: Vec<u8> = (0..900_002u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    std::fs::write(&from, &data).unwrap();
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    let pipeline = "inet_cksum | xor8(key=3) | crc32c as crc per 1460 | adler32";
    let mut results = Vec::new();
    for jobs in ["1", "3", "0"] {
        let output = run(&["run", pipeline, "-i", from, "-o", to, "--jobs", jobs], b"");
        results.push((stdout(&output).to_owned(), std::fs::read(to).unwrap()));
        assert_eq!(text(&output.stderr), "");
        let output = run(&["run", pipeline, "-j", jobs], &data);
        assert_eq!(stdout(&output), results[0].0, "{jobs} threads, read only");
    }
    assert!(results.iter().all(|result| *result == results[0]));
    // What cannot be cut says so, and is done all the same.
    let output = run(&["run", "fnv1a64", "-j2"], b"a");
    assert_eq!(stdout(&output), "fnv1a64.hash = 0xaf63dc4c8601ec8c\n");
    assert!(text(&output.stderr).starts_with("pipec: running on one thread: `fnv1a64`: state `"));
}

#[test]
fn files_in_and_out_in_chunks_of_any_size() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in"), folder.path().join("out"));
    let data: Vec<u8> = (0..100_003u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    std::fs::write(&from, &data).unwrap();
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    let mut sums = Vec::new();
    for chunk in ["1", "7", "4097", "64K", "256K"] {
        let pipeline = "inet_cksum | xor32(key=0xdeadbeef) | crc32c";
        let output = run(&["run", pipeline, "-i", from, "-o", to, "--chunk", chunk], b"");
        sums.push(stdout(&output).to_owned());
        let key = [0xde, 0xad, 0xbe, 0xef];
        let expected: Vec<u8> = data.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        assert!(std::fs::read(to).unwrap() == expected, "chunks of {chunk}");
    }
    assert!(sums.windows(2).all(|pair| pair[0] == pair[1]), "{sums:?}");
    let same = run(&["run", "no_such_pipe", "-i", from, "-o", from], b"");
    assert_ne!(same.status.code(), Some(0));
    let same = run(&["run", "crc32c", "-i", from, "-o", from], b"");
    assert!(stderr(&same, 1).contains("is the input as well"));
    let stdin = std::fs::File::open(from).unwrap();
    let same = pipec(&["run", "crc32c", "-o", from]).stdin(stdin).output().unwrap();
    assert!(stderr(&same, 1).contains("is the input as well"));
    assert!(std::fs::read(from).unwrap() == data, "the input is as it was");
}

#[test]
fn a_rejected_length_leaves_the_output_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::write(&from, b"123456").unwrap();
    std::fs::write(&to, b"precious").unwrap();
    let output = run(&["run", "byteswap32", "-i", from.to_str().unwrap(), "-o", to.to_str().unwrap()], b"");
    assert!(stderr(&output, 1).contains("whole words of 4 bytes"), "{output:?}");
    assert_eq!(std::fs::read(&to).unwrap(), b"precious");
    assert!(stderr(&run(&["run", "byteswap32"], b"123456"), 1).contains("leaves 2 over"));
}

#[test]
fn registers_are_set() {
    // The CRC of a stream continues from where that of its first part stopped.
    let first = run(&["run", "crc32c"], b"1234");
    let crc =
        u64::from_str_radix(stdout(&first).trim().strip_prefix("crc32c.crc = 0x").unwrap(), 16).unwrap();
    let set = format!("crc32c.crc={:#x}", crc ^ 0xffff_ffff);
    assert_eq!(stdout(&run(&["run", "crc32c", "--set", &set], b"56789")), "crc32c.crc = 0xe3069283\n");
    assert!(stderr(&run(&["run", "crc32c", "--set", "crc32c.nothing=1"], b""), 1).contains("no register"));
    assert!(
        stderr(&run(&["run", "crc32c", "--set", "crc32c.crc=0x100000000"], b""), 1).contains("does not fit")
    );
    // The instance may be left out where one alone has the register, as in a test of the language.
    let set = set.strip_prefix("crc32c.").unwrap();
    assert_eq!(stdout(&run(&["run", "crc32c", "--set", set], b"56789")), "crc32c.crc = 0xe3069283\n");
    // 1 + 0x3536 + 0x3738 + 0x3900.
    let first_alone = run(&["run", "inet_cksum | crc32c", "--set", "sum=1", "--set", set], b"56789");
    assert_eq!(
        stdout(&first_alone),
        "inet_cksum.sum = 0xa56f\ninet_cksum.cksum = 0x5a90\ncrc32c.crc = 0xe3069283\n"
    );
    let several = stderr(&run(&["run", "crc32c as a | crc32c as b", "--set", "crc=1"], b""), 1).to_owned();
    assert!(several.contains("may be one of several: write one of `a.crc`, `b.crc`"), "{several}");
    let none = stderr(&run(&["run", "crc32c", "--set", "sum=1"], b""), 1).to_owned();
    assert!(none.contains("no register `sum`: there is `crc32c.crc`"), "{none}");
    assert!(stderr(&run(&["run", "rot13", "--set", "sum=1"], b""), 1).contains("none at all"));
    assert_eq!(
        stdout(&run(&["run", "crc32c", "--set", "crc32c.crc=-1"], b"123456789")),
        "crc32c.crc = 0xe3069283\n"
    );
    for wrong in ["-0x80000001", "true"] {
        let set = format!("crc32c.crc={wrong}");
        assert!(
            stderr(&run(&["run", "crc32c", "--set", &set], b""), 1)
                .contains("is u32, which has no such value")
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("flag.pipe");
    std::fs::write(
        &flag,
        "pipe flag : u8 { state seen: bool; in x; eq z, x, 0; or seen, seen, z; export seen }",
    )
    .unwrap();
    let flag = flag.to_str().unwrap();
    for (value, seen) in [("true", "0x1"), ("false", "0x0")] {
        let set = format!("flag.seen={value}");
        assert_eq!(
            stdout(&run(&["run", "flag", "-L", flag, "--set", &set], b"abc")),
            format!("flag.seen = {seen}\n")
        );
    }
    let set = "flag.seen=-1";
    assert!(stderr(&run(&["run", "flag", "-L", flag, "--set", set], b""), 1).contains("is bool"));
    stderr(&run(&["run", "crc32c", "--set", "crc32c.crc"], b""), 2);
}

#[test]
fn layouts_shape_the_output() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let output = run(&["run", "crc32c -> lance", "-o", out.to_str().unwrap()], &[7; 40]);
    stdout(&output);
    let mut expected = vec![7; 16];
    expected.extend([0; 16]);
    expected.extend([7; 16]);
    expected.extend([0; 16]);
    expected.extend([7; 8]);
    assert_eq!(std::fs::read(&out).unwrap(), expected);
    let output = run(&["run", "lance -> crc32c", "-i", out.to_str().unwrap(), "--json"], b"");
    let whole = run(&["run", "crc32c", "--json"], &[7; 40]);
    assert_eq!(stdout(&output), stdout(&whole));
}

#[test]
fn layouts_are_streamed_whatever_the_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("devices.pipe");
    let source = "layout bank { store 4 data 8 gap 4 }\nlayout padded { store 4 data 8 gap 4 pad 40 }\nlayout port { store 8 fixed }\nlayout far { data 4 gap 5000000 }\n";
    std::fs::write(&file, source).unwrap();
    let file = file.to_str().unwrap();
    let data: Vec<u8> = (1..=29).collect();
    let mut image = data.clone();
    image.resize(40, 0);
    let image = image.chunks(8).collect::<Vec<_>>().join(&[0; 4][..]);
    for chunk in ["1", "3", "7", "256K"] {
        let run = |pipeline: &str, input: &[u8]| {
            let output = run(&["run", "-L", file, pipeline, "-o", "-", "--chunk", chunk], input);
            assert!(output.status.success(), "{output:?}");
            output.stdout
        };
        assert_eq!(run("xor8(key=0) -> padded", &data), image, "chunks of {chunk}");
        // A part of an access is not read.
        assert_eq!(run("bank -> copy", &image[..42]), data[..28], "chunks of {chunk}");
        assert_eq!(run("copy -> port", &data), [&data[24..], &[0; 3][..]].concat(), "chunks of {chunk}");
        assert_eq!(run("copy -> far", &data).len(), 7 * 5_000_004 + 1, "chunks of {chunk}");
        assert_eq!(run("lance -> padded", &data), run("copy -> padded", &data[..16]), "chunks of {chunk}");
    }
    assert!(stderr(&self::run(&["run", "-L", file, "port -> crc32"], b""), 1).contains("address"));
}

#[test]
fn a_library_file_adds_pipes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.pipe");
    std::fs::write(
        &file,
        "pipe invert : u8 { in x; not y, x; out y }\ntest invert { input x\"00ff\" output x\"ff00\" }\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(stdout(&run(&["run", "-L", file, "invert", "-o", "-"], b"\xbe\x9a\x91").clone()), "Aen");
    let output = run(&["test", file], b"");
    assert!(stdout(&output).contains("interp: 1 of 1 passed, 0 failed"), "{output:?}");
}

#[test]
fn nonsense_is_refused_with_status_1_and_wrong_usage_with_2() {
    assert!(stderr(&run(&["run", "no_such_pipe"], b""), 1).contains("no_such_pipe"));
    assert!(stderr(&run(&["run", "crc32c", "-i", "/nonexistent/file"], b""), 1).contains("cannot read"));
    assert!(stderr(&run(&["run", "crc32c", "-i", "/"], b""), 1).contains("folder"));
    stderr(&run(&["run"], b""), 2);
    stderr(&run(&["run", "crc32c", "--backend", "magic"], b""), 2);
    let refused = run(&["run", "crc32c", "--backend", "native", "--features", "sse9"], b"");
    assert!(stderr(&refused, 2).contains("no feature `sse9`"), "{refused:?}");
    stderr(&run(&["run", "crc32c", "--chunk", "0"], b""), 2);
    stderr(&run(&["swim"], b""), 2);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child: Child = pipec(&["run", "crc32c", "-o", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut first = [0; 1];
    let mut reader = child.stdout.take().unwrap();
    let feeder = std::thread::spawn(move || {
        // Until the program ends and closes its side.
        while stdin.write_all(&[1; 65_536]).is_ok() {}
    });
    reader.read_exact(&mut first).unwrap();
    drop(reader);
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn the_standard_library_passes_its_tests() {
    let output = run(&["test"], b"");
    let text = stdout(&output);
    assert!(text.contains("interp: ") && !text.contains("FAILED"), "{text}");
}

#[test]
fn a_test_that_fails_is_shown_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.pipe");
    std::fs::write(&file, "\ntest crc32c \"wrong\" { input \"123456789\" expect crc = 0xe3069284 }\n")
        .unwrap();
    let output = run(&["test", file.to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(1));
    let text = text(&output.stdout);
    assert!(text.contains("FAILED   crc32c \"wrong\" (interp)") && text.contains("wrong.pipe:2"), "{text}");
}

#[test]
fn bench_gives_the_agreed_json_and_a_plot() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("plot.svg");
    let args =
        ["bench", "inet_cksum | byteswap32", "--sizes", "64,1K", "--json", "--svg", svg.to_str().unwrap()];
    let output = run(&args, b"");
    let value: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(value["pipeline"], "inet_cksum | byteswap32");
    assert!(value["compile_us"].as_f64().unwrap() > 0.0 && value["backend"].is_string());
    let rows = value["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["bytes"].as_u64().unwrap()).collect::<Vec<_>>(), [64, 1024]);
    for row in rows {
        for column in ["fused_gbps", "separate_gbps", "blocked_gbps", "memcpy_gbps"] {
            assert!(row[column].as_f64().unwrap() > 0.0, "{row}");
        }
    }
    let plot = std::fs::read_to_string(svg).unwrap();
    assert!(plot.starts_with("<svg") && plot.matches("<polyline").count() == 4);
    assert!(stderr(&run(&["bench", "byteswap32", "--sizes", "6"], b""), 1).contains("6 bytes"));
    for pipeline in [
        "crc16_t10dif per 4096 -> t10_pi1_4k",
        "t10_pi1_4k -> crc16_t10dif per 4096",
        "rot13 | crc32 -> gzip_trailer",
    ] {
        let report = run(&["bench", pipeline, "--sizes", "4K,64K", "--json"], b"");
        let report: serde_json::Value = serde_json::from_str(stdout(&report)).unwrap();
        assert_eq!(report["rows"][1]["bytes"], 65536);
        for speed in ["fused_gbps", "separate_gbps", "blocked_gbps", "memcpy_gbps"] {
            assert!(report["rows"][1][speed].as_f64().unwrap() > 0.0, "{report}");
        }
    }
    let said = run(&["bench", "t10_pi1_4k -> crc16_t10dif per 4096", "--sizes", "5000"], b"");
    assert!(stderr(&said, 1).contains("5000 bytes"));
    let said = run(&["bench", "gzip_trailer -> crc32 | rot13", "--sizes", "64"], b"");
    assert!(stderr(&said, 1).contains("leave those or the frame out"));
}

#[test]
fn fuzz_agrees_and_names_its_seed() {
    let output = run(&["fuzz", "--rounds", "30", "--seconds", "60", "--seed", "7"], b"");
    stdout(&output);
    let text = text(&output.stderr);
    assert!(text.starts_with("seed 7\n") && text.contains("30 pipelines agree"), "{text}");
}

/// A program at the other end of two pipes gets the answer to what it sent without sending more.
#[test]
fn what_comes_through_a_pipe_is_answered_at_once() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pipec"))
        .args(["run", "byteswap16", "-o", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut answer = [0; 4];
    to.write_all(b"abcd").unwrap();
    from.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"badc");
    // An odd byte stays inside until the word is whole.
    to.write_all(b"efg").unwrap();
    from.read_exact(&mut answer[..2]).unwrap();
    to.write_all(b"h").unwrap();
    from.read_exact(&mut answer[2..]).unwrap();
    assert_eq!(answer, *b"fehg");
    drop(to);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Warnings are counted apart: however many, they hide no error, no test that fails and no pipe.
#[test]
fn warnings_keep_nothing_from_being_checked_or_run() {
    let states: String = (0..64).map(|at| format!("    state s{at}: u8\n")).collect();
    let warned = format!("pipe warned : u8 {{\n{states}    in x; out x\n}}\n");
    let good = "pipe good : u8 { in x; not y, x; out y }\n";
    let path = std::env::temp_dir().join(format!("pipec-warnings-{}.pipe", std::process::id()));
    let file = path.to_str().unwrap();
    let with = |args: &[&str], more: &str| {
        std::fs::write(&path, format!("{warned}{more}")).unwrap();
        run(args, b"\x0f")
    };

    let output = with(&["run", "-L", file, "good", "-o", "-"], good);
    assert_eq!(output.stdout, b"\xf0", "{}", text(&output.stderr));
    let mistake = "pipe bad : u8 { in x; zext.u16 w, x; add y, w, x; out x }\n";
    let output = with(&["check", file], mistake);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("E0301"), "{}", text(&output.stderr));
    let fails = format!("{good}test good {{ input x\"0f\" output x\"0f\" }}\n");
    let output = with(&["test", file], &fails);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("FAILED   good"), "{}", text(&output.stdout));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn frames_are_put_in_and_taken_out_and_what_is_bad_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..2048u32).map(|at| (at * at / 5) as u8).collect();
    let (plain, framed) = (dir.path().join("plain"), dir.path().join("framed"));
    std::fs::write(&plain, &data).unwrap();
    let (plain, framed) = (plain.to_str().unwrap(), framed.to_str().unwrap());
    for backend in ["interp", "auto"] {
        let insert = "crc16_t10dif per 512 -> t10_pi1(lba = 5)";
        let output = run(&["run", insert, "--backend", backend, "-i", plain, "-o", framed], b"");
        assert!(stdout(&output).lines().count() == 4, "{output:?}");
        let written = std::fs::read(framed).unwrap();
        assert_eq!(written.len(), 2080);
        assert_eq!(written[512 + 4..520], 5u32.to_be_bytes());
        let strip = ["run", "t10_pi1 -> crc16_t10dif per 512", "--backend", backend, "-o", "-"];
        let set = ["--set", "t10_pi1.lba=5", "--chunk", "700"];
        assert_eq!(run(&[&strip[..], &set[..]].concat(), &written).stdout, data);
        let mut bad = written.clone();
        bad[700] ^= 1;
        let output = run(&[&strip[..], &set[..], &["--hold-back"]].concat(), &bad);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("of window 1, at byte 1032, is"), "{output:?}");
        assert_eq!(output.stdout, data[..512], "the good block alone");
    }
    // A block that is not whole is refused before anything is written.
    std::fs::write(plain, &data[..700]).unwrap();
    let output = run(&["run", "crc16_t10dif per 512 -> t10_pi1", "-i", plain, "-o", "-"], b"");
    assert!(stderr(&output, 1).contains("its last window is not whole"), "{output:?}");
    assert!(output.stdout.is_empty());
}
