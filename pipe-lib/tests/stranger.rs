//! Programs written from the language's reference alone, their results worked out by other means: by hand, by
//! published check values, by a model in another language. What they show is what the reference promises.
//!
//! The files' `test` items run on every backend; beyond that each of their pipelines is compared with the
//! oracle over random streams. The long run does it for every length up to 4096, and for every cut into two
//! of the streams of up to 300 bytes, of 1461 and of 4096: `cargo test --release -p pipe-lib --test stranger
//! -- --ignored --nocapture`.

use pipe_lib::library::{Fetched, TestCase};
use pipe_lib::testing::{Judge, Rng};
use pipe_lib::{Backend, CompileError, Library};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stranger");
const BACKENDS: [Backend; 3] = [Backend::Interp, Backend::Cranelift, Backend::Native];

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "pipe")).collect();
    files.sort();
    files
}

fn fetch(from: &str, path: &str) -> Result<Fetched, String> {
    let full =
        Path::new(from).parent().unwrap().join(path).canonicalize().map_err(|error| error.to_string())?;
    let text = std::fs::read_to_string(&full).map_err(|error| error.to_string())?;
    Ok(Fetched { name: full.display().to_string(), text })
}

/// The standard library with a file, which must load without a word.
fn load(path: &Path) -> Library {
    let path = path.canonicalize().unwrap();
    let mut library = Library::standard();
    let text = std::fs::read_to_string(&path).unwrap();
    match library.load_with(&path.display().to_string(), &text, fetch) {
        Ok(warnings) => assert!(warnings.is_empty(), "{warnings}"),
        Err(errors) => panic!("{errors}"),
    }
    library
}

/// The tests of a file and of those that it uses, without the standard library's.
fn tests(library: &Library) -> impl Iterator<Item = &TestCase> {
    library.tests().filter(|test| !test.file.starts_with("<std/"))
}

/// One test for each pipeline of all files.
fn pipelines() -> Vec<(String, TestCase)> {
    let mut found = BTreeMap::new();
    for path in files() {
        for test in tests(&load(&path)) {
            let key = format!("{:?}", test.pipeline.composition());
            found.entry(key).or_insert_with(|| (format!("{}: {}", test.file, test.title), test.clone()));
        }
    }
    found.into_values().collect()
}

fn judge_all(
    pipelines: &[(String, TestCase)],
    run: impl Fn(&Judge, &mut Rng) -> Result<(), pipe_lib::testing::Failure>,
) {
    for (seed, (title, test)) in pipelines.iter().enumerate() {
        let result = Judge::new(test.pipeline.composition().clone(), &BACKENDS)
            .and_then(|judge| run(&judge, &mut Rng::new(seed as u64)));
        if let Err(failure) = result {
            panic!("{title}: {failure}");
        }
    }
}

#[test]
fn programs_do_what_the_reference_says() {
    let (mut run, mut failed) = (0, Vec::new());
    for path in files() {
        for test in tests(&load(&path)) {
            for backend in Backend::ALL {
                let engine = match test.pipeline.compile_with(&backend.into()) {
                    Ok(engine) => engine,
                    Err(CompileError::Unsupported(_))
                        if !matches!(backend, Backend::Interp | Backend::Auto) =>
                    {
                        continue;
                    }
                    Err(error) => panic!("{}: {error}", test.title),
                };
                if let Err(failures) = test.run(&engine) {
                    failed.push(format!(
                        "{} in {} on {backend}: {}",
                        test.title,
                        test.file,
                        failures.join("; ")
                    ));
                }
                run += 1;
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // Every test on three backends, and most on the native one where there is one.
    let least = if pipe_lib::Features::detected().names().any(|name| name == "avx2") { 1000 } else { 900 };
    assert!(run > least, "only {run} tests were run");
}

#[test]
fn some_lengths_and_splits_of_every_program() {
    let pipelines = pipelines();
    assert!(pipelines.len() > 150, "only {} pipelines", pipelines.len());
    judge_all(&pipelines, |judge, rng| {
        judge.judge_every_split(rng, 19)?;
        for len in [0, 1, rng.between(2, 8), rng.between(9, 80), rng.between(81, 700)] {
            judge.judge_some(rng, len, 3)?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "takes many minutes in release"]
fn every_length_and_every_split_of_every_program() {
    let pipelines = pipelines();
    let start = Instant::now();
    for (index, (title, test)) in pipelines.iter().enumerate() {
        let judge = Judge::new(test.pipeline.composition().clone(), &BACKENDS).unwrap();
        let rng = &mut Rng::new(index as u64);
        (0..=4096)
            .try_for_each(|len| judge.judge_some(rng, len, 2))
            .and_then(|()| (0..=300).try_for_each(|len| judge.judge_every_split(rng, len)))
            .and_then(|()| [1461, 4096].into_iter().try_for_each(|len| judge.judge_every_split(rng, len)))
            .unwrap_or_else(|failure| panic!("{title}: {failure}"));
        eprintln!("{:4} of {}, {:.0?}: {title}", index + 1, pipelines.len(), start.elapsed());
    }
}
