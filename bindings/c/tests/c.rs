//! C programs against the shared library: what it promises, and the example.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where cargo puts libraries that tests of their package need: beside the tests.
fn library_folder() -> PathBuf {
    let me = std::env::current_exe().expect("tests have a path");
    me.parent().expect("it lies in a folder").to_owned()
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn compile(source: &Path, program: &Path, more: &[&str]) -> Output {
    let folder = library_folder();
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-g"]).args(more);
    cc.arg("-I").arg(here().join("include")).arg(source).arg("-o").arg(program);
    cc.arg("-L").arg(&folder).arg("-lpipelib").arg(format!("-Wl,-rpath,{}", folder.display()));
    cc.output().expect("`cc` can be run: the README asks for a C compiler")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_c_program_finds_everything_as_promised() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("check");
    let source = here().join("tests/check.c");
    // With the sanitizers if the compiler has them: nothing is freed twice or never.
    let sanitized = compile(&source, &program, &["-fsanitize=address,undefined"]);
    if !sanitized.status.success() {
        let plain = compile(&source, &program, &[]);
        assert!(plain.status.success(), "{}\n{}", text(&sanitized), text(&plain));
        eprintln!("without sanitizers, which this compiler does not have");
    }
    let ran = Command::new(&program).output().expect("it runs");
    assert!(ran.status.success() && ran.stdout.ends_with(b"all as promised\n"), "{}", text(&ran));
}

#[test]
fn the_example_copies_and_sums_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("sum");
    let built = compile(&here().join("../../examples/pipelib/sum.c"), &program, &["-O2"]);
    assert!(built.status.success(), "{}", text(&built));
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let bytes: Vec<u8> = (0..200_003_u32).map(|at| (at * 31 % 251) as u8).collect();
    std::fs::write(&from, &bytes).expect("written");
    let ran = Command::new(&program).arg(&from).arg(&to).output().expect("it runs");
    assert!(ran.status.success(), "{}", text(&ran));

    let engine =
        pipe_lib::Library::standard().pipeline("inet_cksum as sum | crc32c | delta8").expect("a text");
    let engine = engine.compile().expect("compiles");
    let mut copy = vec![0; bytes.len()];
    let run = engine.run(&bytes, &mut copy).expect("runs");
    assert!(std::fs::read(&to).expect("there") == copy);
    let exports =
        ["sum.sum", "sum.cksum", "crc32c.crc"].map(|name| (name, run.export(name).expect("an export")));
    let wanted: String = exports.iter().map(|(name, value)| format!("{name} = {value:#x}\n")).collect();
    assert_eq!(text(&ran), wanted);
}
