//! Drives the program: `check`, `fmt`, `list`, `explain`, `inspect`; exit statuses, streams, JSON.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn pipec(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pipec")).args(args).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is text")
}

fn write(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_string()
}

const GOOD: &str = "pipe invert : u8 {\n    in x\n    not y, x\n    out y\n}\n";
const BAD: &str = "pipe broken : u16 {\n    in x\n    out x\n}\n";

#[test]
fn check_tells_good_from_bad() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (write(folder.path(), "good.pipe", GOOD), write(folder.path(), "bad.pipe", BAD));
    let output = pipec(&["check", &good]);
    assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(0), 0, 0));
    let output = pipec(&["check", &good, &bad]);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stderr);
    assert!(shown.contains("error[E0205]") && shown.contains("pipe broken : u16 {"), "{shown}");
    assert!(shown.contains("u16be") && !shown.contains('\u{1b}'), "{shown}");
    let output = pipec(&["check", "--json", &bad]);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(1), 0));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json[0]["code"], "E0205");
    assert_eq!(json[0]["labels"][0]["line"], 1);
    assert_eq!(json[0]["labels"][0]["column"], 15);
}

#[test]
fn files_use_files_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    write(folder.path(), "sub/base.pipe", GOOD);
    let main = write(
        folder.path(),
        "main.pipe",
        "use \"sub/base.pipe\"\npipeline twice = invert as a | invert as b\n",
    );
    assert_eq!(pipec(&["check", &main]).status.code(), Some(0));
    let output = pipec(&["inspect", "twice", "-L", &main]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("stage b"));
    let missing = write(folder.path(), "missing.pipe", "use \"nowhere.pipe\"\n");
    let output = pipec(&["check", &missing]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("E0801"));
}

/// By whatever path a file is used, it is taken up once; and no name stands for another folder's file or for
/// a standard one.
#[test]
fn a_file_is_one_file_by_any_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir_all(path.join("sub/std")).unwrap();
    write(path, "base.pipe", GOOD);
    write(
        path,
        "sub/part.pipe",
        "use \"../main.pipe\"\nuse \".././sub/../base.pipe\"\npipeline one = invert\n",
    );
    let main =
        write(path, "main.pipe", "use \"sub/part.pipe\"\nuse \"base.pipe\"\npipeline two = one | one as b\n");
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pipec")).current_dir(path).args(args).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(run(&["check", &main]), (Some(0), String::new()));
    assert_eq!(run(&["check", "main.pipe", "sub/part.pipe"]), (Some(0), String::new()));
    assert_eq!(run(&["list", "-L", "sub/part.pipe", "-L", "./main.pipe", "-L", &main]).0, Some(0));
    // `base.pipe` here is not `sub/base.pipe`, though one of that name is known.
    write(path, "sub/other.pipe", "use \"base.pipe\"\n");
    let (status, said) = run(&["check", "sub/other.pipe"]);
    assert!(status == Some(1) && said.contains("E0801"), "{said}");
    let (status, said) = run(&["list", "-L", "base.pipe", "-L", "sub/other.pipe"]);
    assert!(status == Some(1) && said.contains("E0801"), "{said}");
    write(path, "sub/std/crc.pipe", "pipe {");
    let output = Command::new(env!("CARGO_BIN_EXE_pipec"))
        .current_dir(path.join("sub"))
        .args(["check", "std/crc.pipe"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    // The standard input and devices are no files to use.
    for name in ["-", "/dev/stdin", "sub"] {
        let file = write(path, "odd.pipe", &format!("use \"{name}\"\n"));
        let (status, said) = run(&["check", &file]);
        assert!(status == Some(1) && said.contains("E0801"), "{said}");
    }
}

#[test]
fn fmt_changes_what_is_not_canonical() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "a.pipe", "pipe invert : u8 {\n in x // kept\n not   y , x\n out y }\n");
    let before = std::fs::read_to_string(&file).unwrap();
    let output = pipec(&["fmt", "--check", &file]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), format!("{file}\n")));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    assert_eq!(pipec(&["fmt", &file]).status.code(), Some(0));
    let after = std::fs::read_to_string(&file).unwrap();
    assert_eq!(after, GOOD.replace("in x", "in x // kept"));
    assert_eq!(pipec(&["fmt", "--check", &file]).status.code(), Some(0));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    let bad = write(folder.path(), "b.pipe", "pipe {");
    assert_eq!(pipec(&["fmt", &bad]).status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&bad).unwrap(), "pipe {");
}

#[test]
fn standard_files_are_canonical() {
    for (name, source) in pipe_lib::library::STANDARD_FILES {
        let formatted = pipe_lib::syntax::print::format_source(name, source).unwrap();
        assert_eq!(formatted, *source, "{name}");
    }
    for entry in
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../pipe-lib/tests/stranger")).unwrap()
    {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "pipe") {
            assert_eq!(pipec(&["fmt", "--check", path.to_str().unwrap()]).status.code(), Some(0), "{path:?}");
        }
    }
}

#[test]
fn standard_input_is_a_file() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pipec"))
        .args(["fmt", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(GOOD.replace("    ", "\t").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), GOOD.to_string()));
}

#[test]
fn list_shows_the_standard_pipes() {
    let shown = text(&pipec(&["list"]).stdout);
    for name in ["inet_cksum", "crc64_nvme", "xor32(key: u32)", "lance", "tx(mss: u32 = 1460)"] {
        assert!(shown.contains(name), "{name} is not in:\n{shown}");
    }
    let json: serde_json::Value = serde_json::from_slice(&pipec(&["list", "--json"]).stdout).unwrap();
    let pipes = json["pipes"].as_array().unwrap();
    assert!(pipes.len() >= 30);
    let crc = pipes.iter().find(|pipe| pipe["name"] == "crc32c").unwrap();
    assert_eq!((&crc["input"], &crc["exports"][0]["name"]), (&"u8".into(), &"crc".into()));
    assert_eq!((&crc["states"][0]["class"], &crc["nomod"]), (&"linear".into(), &true.into()));
    let line = |name: &str| {
        let line = shown.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(
        line("inet_cksum").starts_with("inet_cksum u16be tail zero tap, reduction The Internet"),
        "{shown}"
    );
    assert!(line("undelta8").starts_with("undelta8 u8 scan "), "{shown}");
}

#[test]
fn list_shows_the_catalogue_of_crcs() {
    let shown = text(&pipec(&["list", "--crc"]).stdout);
    let line = shown.lines().find(|line| line.contains("CRC-16/MODBUS")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let modbus =
        ["crc16_modbus", "CRC-16/MODBUS", "0x8005", "0xffff", "true", "true", "0x0000", "0x4b37", "0x0000"];
    assert_eq!(words, modbus);
    assert_eq!(shown.lines().filter(|line| line.contains("CRC-")).count(), 113, "{shown}");
    let json: serde_json::Value =
        serde_json::from_slice(&pipec(&["list", "--crc", "--json"]).stdout).unwrap();
    let crcs = json["crcs"].as_array().unwrap();
    let xz = crcs.iter().find(|crc| crc["name"] == "crc64_xz").unwrap();
    assert_eq!((&xz["check"], &xz["width"]), (&"0x995dc9bbdf1939fa".into(), &64.into()));
    let shown = text(&pipec(&["inspect", "crc16_modbus", "--emit", "ast"]).stdout);
    assert!(shown.contains("<catalogue/CRC-16/MODBUS>:1:1"), "{shown}");
    let shown = text(&pipec(&["explain", "crc16_modbus"]).stdout);
    assert!(shown.contains("16-bit CRC, polynomial 0x8005, reflected"), "{shown}");
}

#[test]
fn explain_knows_codes_and_pipelines() {
    let output = pipec(&["explain", "e0203"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with("# E0203: "));
    assert_eq!(pipec(&["explain", "E9999"]).status.code(), Some(1));
    let shown = text(&pipec(&["explain", "inet_cksum as plain | xor32(key = 1)"]).stdout);
    assert!(shown.contains("plain (inet_cksum)") && shown.contains("reduction by addc"), "{shown}");
    assert!(shown.contains("| `sum` is the running sum"), "documentation is shown: {shown}");
    let output = pipec(&["explain", "no_such_pipe"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("E0601"));
}

#[test]
fn inspect_shows_each_form() {
    let forms = [
        ("tokens", "Ident(\"crc32\")"),
        ("ast", "PipelineExpr"),
        ("ir", "crc32 %1, %0"),
        ("dot", "digraph pipeline"),
        ("svg", "<svg xmlns"),
    ];
    for (form, part) in forms {
        let output = pipec(&["inspect", "crc32", "--emit", form]);
        assert_eq!(output.status.code(), Some(0), "{form}");
        assert!(text(&output.stdout).contains(part), "{form}: {}", text(&output.stdout));
    }
}

/// What a pipeline names, directly or through another pipeline, is shown with it, each item once.
#[test]
fn inspect_shows_the_text_of_what_is_named() {
    let shown = text(&pipec(&["inspect", "rot13 | rot13 as back | lance_tx", "--emit", "tokens"]).stdout);
    let places: Vec<&str> = shown.lines().filter(|line| !line.starts_with(' ')).collect();
    let files: Vec<&str> = places.iter().map(|place| place.split(':').next().unwrap()).collect();
    let expected =
        ["<pipeline>", "<std/text.pipe>", "<std/device.pipe>", "<std/checksum.pipe>", "<std/device.pipe>"];
    assert_eq!(files, expected, "{places:?}");
    assert!(shown.contains("Ident(\"place\")") && shown.contains("Ident(\"addc\")"), "{shown}");
    let shown = text(&pipec(&["inspect", "rot13", "--emit", "ast"]).stdout);
    assert!(shown.contains("mnemonic") && shown.contains("Letters thirteen places on"), "{shown}");
}

#[test]
fn wrong_usage_is_status_two() {
    for args in [&[][..], &["frobnicate"], &["check"], &["inspect", "copy", "--emit", "nothing"]] {
        assert_eq!(pipec(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pipec"))
        .args(["list", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

/// A source of one very long line with many mistakes: showing the line for each of them took ten seconds.
#[test]
fn long_lines_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let declarations = "table t: u64 = [0 repeat 65536];".repeat(2000);
    let file = write(folder.path(), "long.pipe", &format!("pipe a : u8 {{ {declarations} }}"));
    let output = pipec(&["check", &file]);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stderr);
    assert!(shown.contains("error[E0209]"), "{}", &shown[..shown.len().min(500)]);
    assert!(shown.len() < 64 << 10, "{} bytes of diagnostics", shown.len());
}

#[test]
fn explain_says_why_a_class_is_no_better() {
    let folder = tempfile::tempdir().unwrap();
    let pipes = write(
        folder.path(),
        "classes.pipe",
        "pipe alternate : u8 { in x; pos p; and k, p, 1; eq z, k, 0; not y, x; sel o, z, y, x; out o }
        pipe prefix : u8 { state s: u8; in x; add s, s, x; out s }
        pipe watched : u8 { state s: u8; state m: u8; in x; add s, s, x; max m, m, s; export m }
        pipe last : u8 { state l: u8; in x; mov l, x; export l }
        pipe hash : u8 { state h: u8; in x; mul h, h, 33; add h, h, x; export h }
        pipe place : u8 { state s: u64; in x; pos p; eq z, x, 0; sel v, z, p, 0; max s, s, v; export s }\n",
    );
    let explained = |name: &str| text(&pipec(&["explain", name, "-L", &pipes]).stdout);
    for (name, parts) in [
        ("alternate", &["positional: each word by itself and its place"][..]),
        ("prefix", &["s: u8: scan by add\n        no reduction: the output depends on it\n"]),
        ("watched", &["s: u8: scan by add\n        no reduction: `m` depends on it\n"]),
        ("last", &["l: u8: delay of 1 word\n        no reduction: the last word alone counts\n"]),
        ("hash", &["linear", "        no reduction: what a word counts depends on how many come after it\n"]),
        ("place", &["passes the stream unchanged", "positional: what it keeps depends"]),
    ] {
        let shown = explained(name);
        assert!(parts.iter().all(|part| shown.contains(part)), "{shown}");
        assert!(!shown.contains("stateless"), "{shown}");
    }
    assert!(explained("rot13").contains("stateless: each word by itself"));
}

#[test]
fn a_plain_copy_to_a_layout_is_no_option() {
    let plan = text(&pipec(&["inspect", "-> lance", "--emit", "plan"]).stdout);
    assert!(plan.starts_with("a plain copy: no stages\n") && plan.contains("layout `lance`"), "{plan}");
    for args in [&["inspect", "--emit", "ir", "->lance"][..], &["explain", "-> lance"]] {
        assert!(pipec(args).status.success(), "{args:?}");
    }
}

#[test]
fn plans_and_code_are_those_of_the_backend_asked_for() {
    let shown = |form: &str, backend: &str| {
        let output = pipec(&["inspect", "inet_cksum | byteswap32", "--emit", form, "--backend", backend]);
        text(&output.stdout)
    };
    assert!(shown("plan", "cranelift").contains("code       cranelift\n"));
    assert!(shown("plan", "interp").contains("word after word, interpreted"));
    let refused = pipec(&["inspect", "fnv1a64", "--emit", "plan", "--backend", "native"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("the native backend cannot do this"));
    if cfg!(target_arch = "x86_64") {
        assert!(shown("asm", "cranelift").contains("; cranelift: whole chunks\n"));
    }
}
