//! Targets of coverage-guided fuzzing as plain functions, so that short runs are part of the tests. The crate
//! `fuzz/` hands them to libFuzzer.

use super::{Generator, Judge, Rng};
use crate::compose::Composition;
use crate::library::Library;
use crate::options::Backend;
use crate::source::FileId;
use crate::syntax::{parse, print};

const BACKENDS: [Backend; 3] = [Backend::Interp, Backend::Cranelift, Backend::Native];

/// A fuzz target: the bytes decide on a pipeline, a stream and the ways to run it.
///
/// # Panics
/// If a backend does not agree with the oracle.
pub fn fuzz_composition(bytes: &[u8]) {
    let mut rng = Rng::from_tape(bytes);
    let composition = Generator::new(&mut rng).composition();
    let len = rng.between(0, 255) * rng.between(1, 4);
    judge(&composition, &mut rng, &[len]);
}

/// A fuzz target: whatever the text, the front end gives an answer; what parses prints to text that parses to
/// the same tree, comments included, and printing that changes nothing.
///
/// # Panics
/// If not.
pub fn fuzz_source(text: &str) {
    let file = FileId(0);
    let parsed = parse::parse_file(file, text);
    for error in &parsed.errors {
        for label in &error.labels {
            assert!(text.get(label.span.range()).is_some(), "a span outside of the text: {error:?}\n{text}");
        }
    }
    if parsed.errors.is_empty() {
        let printed = print::print_file(&parsed.tree, &parsed.comments, text);
        let again = parse::parse_file(file, &printed);
        assert!(again.errors.is_empty(), "{:?}\n{text}\n{printed}", again.errors);
        assert_eq!(again.tree, parsed.tree, "{text}\n{printed}");
        assert_eq!(again.comments.len(), parsed.comments.len(), "{text}\n{printed}");
        assert_eq!(print::print_file(&again.tree, &again.comments, &printed), printed, "{text}");
    }
    let mut library = Library::standard();
    let _ = library.load("any.pipe", text).map_err(|error| error.to_string());
    let _ = library.pipeline(text).map_err(|error| error.to_string());
}

/// A fuzz target: what the compiler takes, it compiles to code that does what the oracle does.
///
/// # Panics
/// If a backend does not agree with the oracle.
pub fn fuzz_program(text: &str) {
    /// Beyond, one program would take a second.
    const INSTRUCTIONS: usize = 400;
    let mut library = Library::standard();
    if library.load("any.pipe", text).is_err() {
        return;
    }
    let standard = Library::standard();
    let names = library.pipes().map(|pipe| &pipe.name).filter(|name| standard.pipe(name).is_none());
    let pipes = names.filter_map(|name| library.pipeline(name).ok());
    let tested = library.tests().skip(standard.tests().count()).map(|test| test.pipeline.clone());
    for pipeline in pipes.chain(tested).take(8) {
        let composition = pipeline.composition();
        let work: usize = composition.stages.iter().map(|stage| stage.pipe.body.insts.len()).sum();
        if work <= INSTRUCTIONS {
            judge(composition, &mut Rng::new(1), &[0, 1, 7, 64, 193]);
        }
    }
}

fn judge(composition: &Composition, rng: &mut Rng, lengths: &[usize]) {
    let result = Judge::new(composition.clone(), &BACKENDS)
        .and_then(|judge| lengths.iter().try_for_each(|&len| judge.judge(rng, len)));
    if let Err(failure) = result {
        panic!("{failure}\n{composition}");
    }
}
