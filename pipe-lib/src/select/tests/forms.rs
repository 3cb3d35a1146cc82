//! The table of forms: which backend every standard pipe gets on which machine, and whether it runs several
//! words at once.

use super::{Differences, folder};
use crate::backend::cranelift;
use crate::compose::Composition;
use crate::features::machines;
use crate::select::{Made, select};
use crate::{Backend, CompileOptions, Library};
use std::fmt::Write as _;

/// How a pipe runs by itself, in a word or two.
fn form(composition: &Composition, options: &CompileOptions) -> String {
    let Ok((_, made)) = select(composition, options) else { return "refused".to_owned() };
    let of = |made: &Made| match made.backend {
        Backend::Interp => "interpreted",
        Backend::Native if made.code.is_serial() => "native, serial",
        Backend::Native => "native",
        _ if made.code.functions().is_empty() => "block code",
        _ if made.code.is_serial() => "serial",
        _ => "wide",
    };
    let forms: Vec<&str> = made.iter().map(of).collect();
    forms.join(" + ")
}

#[test]
fn forms_of_goldens() {
    cranelift::named::IN_USE.set(true);
    let library = Library::standard();
    let auto = |features| CompileOptions { features: Some(features), ..Backend::Auto.into() };
    let mut machines: Vec<(&str, CompileOptions)> =
        machines::NATIVE.into_iter().map(|(name, features)| (name, auto(features))).collect();
    machines.push(("sse4.2", auto(machines::SSE42_PCLMUL)));
    let portable = CompileOptions { features: Some(machines::AVX2_PCLMUL), ..Backend::Cranelift.into() };
    machines.push(("cranelift", portable));
    let mut text = format!("{:<14}", "");
    for (name, _) in &machines {
        let _ = write!(text, " | {name:<22}");
    }
    text = text.trim_end().to_owned() + "\n";
    let mut count = 0;
    for pipe in library.pipes() {
        let arguments: Vec<String> =
            pipe.params.iter().map(|param| format!("{} = {}", param.name, 0x5au8)).collect();
        let source = match arguments.len() {
            0 => pipe.name.clone(),
            _ => format!("{}({})", pipe.name, arguments.join(", ")),
        };
        let pipeline = library.pipeline(&source).unwrap();
        let mut line = format!("{:<14}", pipe.name);
        for (_, options) in &machines {
            let _ = write!(line, " | {:<22}", form(pipeline.composition(), options));
        }
        text += line.trim_end();
        text.push('\n');
        count += 1;
    }
    assert!(count >= 35, "{count} standard pipes");
    let mut differences = Differences::default();
    differences.compare(&folder().join("forms.txt"), &text);
    differences.demand_none();
}
