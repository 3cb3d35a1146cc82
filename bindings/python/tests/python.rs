//! The module in Python.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where cargo puts libraries that tests of their package need: beside the tests.
fn library() -> PathBuf {
    let me = std::env::current_exe().expect("tests have a path");
    me.with_file_name("libpipelib_python.so")
}

/// Python with the module in its path; `None`, said in a line, where there is none.
fn python(folder: &Path) -> Option<Command> {
    let version = "import sys; sys.exit(sys.version_info < (3, 11))";
    if !Command::new("python3").args(["-c", version]).output().is_ok_and(|ran| ran.status.success()) {
        eprintln!("skipped: no python3 of 3.11 or later");
        return None;
    }
    std::fs::copy(library(), folder.join("pipelib.abi3.so")).expect("the module was built");
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", folder).arg("-B");
    Some(python)
}

#[test]
fn the_module_does_what_it_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mut python) = python(folder.path()) else { return };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    python.env("PIPELIB_STUBS", here.join("pipelib.pyi")).env("PIPELIB_README", here.join("README.md"));
    let ran = python.arg(here.join("tests/test_pipelib.py")).output().expect("it runs");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("\nOK"), "{said}");
}

#[test]
fn the_example_copies_and_sums_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mut python) = python(folder.path()) else { return };
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/pipelib/sum.py");
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let bytes: Vec<u8> = (0..200_003_u32).map(|at| (at * 31 % 251) as u8).collect();
    std::fs::write(&from, &bytes).expect("written");
    let ran = python.arg(example).arg(&from).arg(&to).output().expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));

    let engine =
        pipe_lib::Library::standard().pipeline("inet_cksum as sum | crc32c | delta8").expect("a text");
    let engine = engine.compile().expect("compiles");
    let mut copy = vec![0; bytes.len()];
    let run = engine.run(&bytes, &mut copy).expect("runs");
    assert!(std::fs::read(&to).expect("there") == copy);
    let exports =
        ["sum.sum", "sum.cksum", "crc32c.crc"].map(|name| (name, run.export(name).expect("an export")));
    let wanted: String = exports.iter().map(|(name, value)| format!("{name} = {value:#x}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), wanted);
}
