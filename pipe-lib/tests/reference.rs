//! Every example of the language's reference loads without a word, and its tests pass on every backend.

use pipe_lib::{Backend, Library};
use pipe_lib::{CompileError, CompileOptions};

const REFERENCE: &str = include_str!("../../docs/pipe-language.md");
const HANDLERS: &str = include_str!("../../docs/handlers.md");

/// Blocks of a page fenced as `pipe`, each with the line that it starts on.
fn examples(page: &str) -> Vec<(usize, String)> {
    let mut examples = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (at, line) in page.lines().enumerate() {
        match &mut open {
            Some(_) if line == "```" => examples.extend(open.take()),
            Some((_, text)) => {
                text.push_str(line);
                text.push('\n');
            }
            None if line == "```pipe" => open = Some((at + 2, String::new())),
            None => {}
        }
    }
    assert!(open.is_none(), "the last example has no end");
    examples
}

#[test]
fn examples_do_what_is_said() {
    let examples = [examples(REFERENCE), examples(HANDLERS)];
    assert!(examples[0].len() > 10 && examples[1].len() > 1, "examples are missing");
    let mut run = 0;
    for (line, text) in examples.into_iter().flatten() {
        let mut library = Library::standard();
        let before = library.tests().count();
        match library.load_with(
            &format!("pipe-language.md:{line}"),
            &text,
            |_, _| Err("no files here".into()),
        ) {
            Ok(warnings) => assert!(warnings.is_empty(), "example at line {line}:\n{warnings}"),
            Err(errors) => panic!("example at line {line}:\n{errors}"),
        }
        for test in library.tests().skip(before) {
            for backend in Backend::ALL {
                let engine = match test.pipeline.compile_with(&CompileOptions::from(backend)) {
                    Ok(engine) => engine,
                    Err(CompileError::Unsupported(_))
                        if !matches!(backend, Backend::Interp | Backend::Auto) =>
                    {
                        continue;
                    }
                    Err(error) => panic!("{} at line {line}: {error}", test.title),
                };
                if let Err(failures) = test.run(&engine) {
                    panic!("{} (example at line {line}) on {backend}: {}", test.title, failures.join("; "));
                }
                run += 1;
            }
        }
    }
    assert!(run > 50, "only {run} tests were run");
}

#[test]
fn every_instruction_is_described() {
    use pipe_lib::ir::{BinaryOp, CompareOp, ConvertOp, CrcOp, ModOp, UnaryOp};
    let names = (UnaryOp::ALL.iter().map(|op| op.name()))
        .chain(BinaryOp::ALL.iter().map(|op| op.name()))
        .chain(CompareOp::ALL.iter().map(|op| op.name()))
        .chain(ModOp::ALL.iter().map(|op| op.name()))
        .chain(ConvertOp::ALL.iter().map(|op| op.name()))
        .chain(CrcOp::ALL.iter().map(|op| op.name()));
    let table = REFERENCE.split("## Instructions").nth(1).and_then(|rest| rest.split("##").next()).unwrap();
    for name in names {
        let described = table.contains(&format!("`{name}`")) || table.contains(&format!("`{name} "));
        assert!(described, "`{name}` is not in the table of instructions");
    }
}
