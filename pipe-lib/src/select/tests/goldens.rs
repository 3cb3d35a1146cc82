//! Goldens: a corpus of pipelines with the plan and the machine code that each machine gets.
//!
//! A file of `goldens/` begins with a program in the pipe language that has a pipeline `golden`. Below it
//! stands, for each machine of [`machines`], what [`crate::inspect::plan`] says and the code; code is made
//! for all of them on any x86-64 machine. A new case is a file with its program alone, blessed. The first
//! function of a pass is there in full if it is short, every function with a digest over its instructions and
//! constants.

use super::{Differences, folder, listing};
use crate::backend::cranelift;
use crate::compose::Composition;
use crate::features::machines;
use crate::select::select;
use crate::{Backend, CompileOptions, Library};
use std::fmt::Write as _;

/// Where the section of a machine begins.
const SECTION: &str = "==== ";

#[test]
fn goldens() {
    cranelift::named::IN_USE.set(true);
    let mut differences = Differences::default();
    let mut paths: Vec<_> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "pipe"));
    paths.sort();
    assert!(paths.len() >= 80, "{} files in {}", paths.len(), folder().display());
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let program = text.split_inclusive('\n').take_while(|line| !line.starts_with(SECTION));
        let program: String = program.collect();
        let mut library = Library::standard();
        library.load("golden.pipe", &program).unwrap_or_else(|errors| panic!("{path:?}: {errors:?}"));
        let pipeline = library.pipeline("golden").unwrap_or_else(|errors| panic!("{path:?}: {errors:?}"));
        let mut is = program.trim_end().to_owned() + "\n";
        for (name, features) in machines::NATIVE {
            let options = CompileOptions { features: Some(features), ..Backend::Auto.into() };
            is += &section(pipeline.composition(), name, &options, true);
        }
        let options = CompileOptions { features: Some(machines::AVX2_PCLMUL), ..Backend::Cranelift.into() };
        is += &section(pipeline.composition(), "cranelift", &options, false);
        differences.compare(&path, &is);
    }
    differences.demand_none();
}

/// The plan and the code for a machine; `listed`, of a pass's first function with its instructions.
fn section(composition: &Composition, machine: &str, options: &CompileOptions, listed: bool) -> String {
    let mut text = format!("\n{SECTION}{machine}\n");
    match select(composition, options) {
        Ok((plan, made)) => {
            text += &plan.describe_code(composition, &made);
            for (index, made) in made.iter().enumerate() {
                for (nth, function) in made.code.functions().iter().enumerate() {
                    let _ = write!(text, "-- pass {}, {} ", index + 1, made.backend);
                    text += &listing::function(function, listed && nth == 0);
                }
            }
        }
        Err(refusal) => {
            let _ = writeln!(text, "refused: {refusal}");
        }
    }
    text
}
