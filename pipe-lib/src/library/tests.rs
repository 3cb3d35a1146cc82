//! Loading, resolving and naming.

use super::*;
use crate::diagnostic::Severity;
use crate::error::CompileError;
use crate::options::{Backend, CompileOptions};

fn standard_fresh() -> Library {
    let mut library = Library::published();
    for (name, text) in STANDARD_FILES {
        if let Err(diagnostics) = library.load(name, text) {
            panic!("{diagnostics}");
        }
    }
    library
}

fn stages(text: &str) -> Vec<String> {
    let pipeline = Library::standard().pipeline(text).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    pipeline.composition().stages.iter().map(|stage| stage.name.clone()).collect()
}

fn error(text: &str) -> String {
    Library::standard().pipeline(text).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn the_standard_library_loads_without_a_word() {
    let library = standard_fresh();
    assert!(library.tests().count() > 40);
    let mut fresh = Library::published();
    for (name, text) in STANDARD_FILES {
        let warnings = fresh.load_with(name, text, |_, _| Err(String::new())).unwrap();
        assert!(warnings.is_empty(), "{warnings}");
    }
    for pipe in library.pipes() {
        assert!(!pipe.doc.is_empty(), "{} has no documentation", pipe.name);
        let tested =
            |test: &TestCase| test.pipeline.composition().stages.iter().any(|s| s.pipe.name == pipe.name);
        assert!(library.tests().any(tested), "{} has no test", pipe.name);
    }
}

#[test]
fn instances_are_named_as_documented() {
    assert_eq!(stages("inet_cksum as plain | xor32(key=1) | inet_cksum"), ["plain", "xor32", "inet_cksum"]);
    assert_eq!(stages("xor8(1) | xor8(key=2) | xor8(3)"), ["xor8", "xor8_2", "xor8_3"]);
    assert_eq!(stages("tx as t | inet_cksum"), ["t.inet_cksum", "inet_cksum"]);
    assert_eq!(stages("tx(mss = 8) | inet_cksum"), ["inet_cksum", "inet_cksum_2"]);
    assert!(error("inet_cksum | tx").contains("E0605"), "{}", error("inet_cksum | tx"));
    assert!(error("xor8(1) | inet_cksum as xor8").contains("E0605"));
}

#[test]
fn layouts_stand_at_the_ends() {
    let of = |text: &str| {
        let pipeline = Library::standard().pipeline(text).unwrap_or_else(|d| panic!("{text}: {d}"));
        let composition = pipeline.composition().clone();
        let name = |layout: &Option<Arc<Layout>>| layout.as_ref().map(|layout| layout.name.clone());
        (composition.stages.len(), name(&composition.source), name(&composition.sink))
    };
    let named = |name: &str| Some(name.to_string());
    assert_eq!(of("inet_cksum -> lance"), (1, None, named("lance")));
    assert_eq!(of("lance -> inet_cksum"), (1, named("lance"), None));
    assert_eq!(of("lance -> inet_cksum | crc32 -> min60"), (2, named("lance"), named("min60")));
    assert_eq!(of("-> pio16"), (0, None, named("pio16")));
    assert_eq!(of("lance -> fifo32"), (0, named("lance"), named("fifo32")));
    assert_eq!(of("lance -> copy ->fifo32"), (1, named("lance"), named("fifo32")));
    assert!(error("inet_cksum | lance").contains("E0606"));
    assert!(error("lance_tx | crc32").contains("E0606"));
    assert!(error("lance_tx -> fifo32").contains("E0606"));
    assert!(error("crc32 -> crc32").contains("E0601"));
    assert!(error("min60 -> crc32").contains("E0606"));
}

#[test]
fn hostile_splicing_is_cheap() {
    let mut text = "pipe p : u8 { in x; out x }\npipeline p0 = p as a | p as b\n".to_string();
    for at in 1..64 {
        text.push_str(&format!("pipeline p{at} = p{} as x | p{} as y\n", at - 1, at - 1));
    }
    let started = std::time::Instant::now();
    let error = Library::empty().load("bomb.pipe", &text).unwrap_err();
    assert!(error.iter().any(|diagnostic| diagnostic.code == Code::Limit), "{error}");
    assert!(started.elapsed().as_secs() < 5);
}

#[test]
fn files_use_each_other_once() {
    let mut library = Library::standard();
    let fetch = |from: &str, path: &str| match (from, path) {
        ("a.pipe", "b.pipe") => {
            Ok(Fetched { name: "b.pipe".into(), text: "use \"a.pipe\"\npipeline b = copy as in_b".into() })
        }
        ("b.pipe", "a.pipe") => Ok(Fetched { name: "a.pipe".into(), text: "not looked at {".into() }),
        _ => Err(format!("{from} -> {path}")),
    };
    library.load_with("a.pipe", "use \"b.pipe\" pipeline a = b as first | b as second", fetch).unwrap();
    let pipeline = library.pipeline("a").unwrap();
    let names: Vec<&str> = pipeline.composition().stages.iter().map(|stage| &*stage.name).collect();
    assert_eq!(names, ["first.in_b", "second.in_b"]);
    let mut library = Library::standard();
    let error = library.load("a.pipe", "use \"b.pipe\"").unwrap_err();
    assert!(error.to_string().contains("E0801"), "{error}");
}

#[test]
fn a_failed_load_changes_nothing() {
    let mut library = Library::standard();
    library.load("bad.pipe", "pipe good : u8 { in x; out x } pipe bad : u9 { }").unwrap_err();
    assert!(library.pipe("good").is_none());
    library.load("good.pipe", "pipe good : u8 { in x; out x }").unwrap();
}

#[test]
fn standard_tests_pass_on_every_backend() {
    let library = standard_fresh();
    let mut failed = Vec::new();
    for backend in Backend::ALL {
        for test in library.tests() {
            let engine = match test.pipeline.compile_with(&CompileOptions::from(backend)) {
                Ok(engine) => engine,
                // A backend may decline; the interpreter and the automatic choice take everything.
                Err(CompileError::Unsupported(_)) if !matches!(backend, Backend::Interp | Backend::Auto) => {
                    continue;
                }
                Err(error) => panic!("{}: {error}", test.title),
            };
            if let Err(failures) = test.run(&engine) {
                failed.push(format!("{} on {backend}: {}", test.title, failures.join("; ")));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_wrong_expectation_fails() {
    let text = r#"
        test crc32 { input "123456789" expect crc = 0xcbf43927 }
        test byteswap16 { input x"0102" output x"0102" }
        test byteswap16 { input x"0102" refused }
        test byteswap16 { input x"01" output x"01" }
        test xor8(1) { input x"01" output x"0000" }
        test inet_cksum per 2 { input x"0001 0002" expect sum = [1, 2, 3] }
    "#;
    let mut library = Library::standard();
    let before = library.tests().count();
    library.load("wrong.pipe", text).unwrap();
    let wrong: Vec<&TestCase> = library.tests().skip(before).collect();
    assert_eq!(wrong.len(), 6);
    for test in wrong {
        let engine = test.pipeline.compile_with(&Backend::Interp.into()).unwrap();
        assert!(test.run(&engine).is_err(), "{}", test.title);
    }
}

/// As many warnings as are shown at all, and more: a state that nothing depends on each.
fn warnings(count: usize) -> String {
    let state = |at: usize| format!("state s{at}: u8\n");
    let of_a_pipe = |from: usize, to: usize| (from..to).map(state).collect::<String>();
    let pipe = |at: usize| {
        let (from, to) = (at * 60, count.min(at * 60 + 60));
        format!("pipe w{at} : u8 {{ {} in x; out x }}\n", of_a_pipe(from, to))
    };
    (0..count.div_ceil(60)).map(pipe).collect()
}

#[test]
fn warnings_keep_nothing_from_being_checked_and_known() {
    let nothing = |_: &str, _: &str| Err(String::new());
    for count in [63, 64, 65, 300] {
        let mut library = Library::standard();
        let text = warnings(count) + "pipe good : u8 { in x; not y, x; out y }\npipeline p = good | good\n";
        let found = library.load_with("warned.pipe", &text, nothing).unwrap();
        assert_eq!(found.len(), count.min(64));
        assert!(library.pipeline("w0 | p").is_ok(), "{count}");
        let left_out = found.iter().flat_map(|found| &found.notes).filter(|note| note.contains("not shown"));
        let expected: Vec<String> = match count {
            ..=64 => Vec::new(),
            65 => vec!["1 more warning is not shown".to_string()],
            _ => vec![format!("{} more warnings are not shown", count - 64)],
        };
        assert_eq!(left_out.cloned().collect::<Vec<_>>(), expected);

        // An error of each stage that comes after them.
        for (wrong, code) in [
            ("pipe bad : u8 { in x; zext.u16 w, x; add y, w, x; out x }", "E0301"),
            ("pipe bad : u8 nomod { in x; not y, x; out y }", "E0901"),
            ("layout bad { gap 3 }", "E0501"),
            ("pipeline bad = good | not_there", "E0601"),
            ("test good { input x\"00\" expect good.sum = 1 }", "E0701"),
            ("pipe good : u8 { in x; out x }", "E0201"),
        ] {
            let errors = Library::standard().load_with("wrong.pipe", &format!("{text}{wrong}"), nothing);
            let errors = errors.expect_err(wrong);
            let codes: Vec<&str> = errors
                .iter()
                .filter(|found| found.severity() == Severity::Error)
                .map(|found| found.code.name())
                .collect();
            assert_eq!(codes, [code], "{count}: {errors}");
        }
    }
}

#[test]
fn standard_pipes_are_not_warned_of() {
    let missing = |_: &str, _: &str| Err("no such file".to_string());
    let mut library = Library::published();
    for (name, text) in STANDARD_FILES {
        let warnings = library.load_with(name, text, missing).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(warnings.is_empty(), "{warnings}");
    }
}

/// Some 64 GB, if all of it were kept.
#[cfg(feature = "digests")]
#[test]
fn expected_digests_are_bounded_together() {
    let clauses = "expect digest = x\"00\" repeat 16777216\n".repeat(4000);
    let text = format!("test sha256 per 1 {{ input \"\"\n{clauses} }}");
    assert!(Library::standard().load("many.pipe", &text).is_err());
}
