//! `pipec list`: pipes, pipelines and layouts with their gauges and documentation.

use super::{Outcome, Status};
use crate::files::LibraryArgs;
use pipe_lib::ir::{Layout, Param, Pipe};
use std::io::Write as _;

/// List the standard pipes, pipelines and layouts, and those of files given
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    library: LibraryArgs,
    /// Print an object with the lists `pipes`, `pipelines` and `layouts`
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let Some(library) = args.library.load()? else { return Ok(Status::Refused) };
    let mut out = std::io::stdout().lock();
    if args.json {
        let pipes: Vec<_> = library.pipes().map(|pipe| pipe_json(pipe)).collect();
        let pipelines: Vec<_> = library
            .pipelines()
            .map(|p| serde_json::json!({ "name": p.name, "doc": p.doc, "params": params_json(&p.params), "text": p.text }))
            .collect();
        let layouts: Vec<_> = library.layouts().map(|layout| layout_json(layout)).collect();
        let all = serde_json::json!({ "pipes": pipes, "pipelines": pipelines, "layouts": layouts });
        writeln!(out, "{all}")?;
        return Ok(Status::Fine);
    }
    let mut rows: Vec<[String; 3]> = Vec::new();
    for pipe in library.pipes() {
        let exports: Vec<&str> = pipe.exports.iter().map(|export| &*export.name).collect();
        let mut what = first_sentence(&pipe.doc).to_string();
        if !exports.is_empty() {
            what.push_str(&format!(" Exports {}.", exports.join(", ")));
        }
        rows.push([format!("{}{}", pipe.name, params(&pipe.params)), gauge(pipe), what]);
    }
    print_table(&mut out, "PIPES", &rows)?;
    let rows: Vec<_> = library
        .pipelines()
        .map(|p| {
            [format!("{}{}", p.name, params(&p.params)), p.text.clone(), first_sentence(&p.doc).to_string()]
        })
        .collect();
    print_table(&mut out, "PIPELINES", &rows)?;
    let rows: Vec<_> = library
        .layouts()
        .map(|layout| [layout.name.clone(), rules(layout), first_sentence(&layout.doc).to_string()])
        .collect();
    print_table(&mut out, "LAYOUTS", &rows)?;
    Ok(Status::Fine)
}

fn print_table(out: &mut impl std::io::Write, title: &str, rows: &[[String; 3]]) -> std::io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    writeln!(out, "{title}")?;
    for [name, middle, what] in rows {
        writeln!(out, "  {}", format!("{name:first$}  {middle:second$}  {what}").trim_end())?;
    }
    Ok(())
}

/// `(key: u32, mss: u32 = 1460)`, or nothing.
fn params(params: &[Param]) -> String {
    if params.is_empty() {
        return String::new();
    }
    let each = |param: &Param| match param.default {
        Some(default) => format!("{}: {} = {default}", param.name, param.ty),
        None => format!("{}: {}", param.name, param.ty),
    };
    format!("({})", params.iter().map(each).collect::<Vec<_>>().join(", "))
}

fn gauge(pipe: &Pipe) -> String {
    let mut text = pipe.input.to_string();
    if pipe.output != pipe.input {
        text.push_str(&format!(" -> {}", pipe.output));
    }
    if pipe.word_bytes() > 1 {
        text.push_str(&format!(" tail {}", pipe.tail.name()));
    }
    text
}

fn rules(layout: &Layout) -> String {
    let mut rules = Vec::new();
    if let Some(stripe) = layout.stripe {
        rules.push(format!("data {} gap {}", stripe.data, stripe.gap));
    }
    if let Some(store) = layout.store {
        rules.push(format!("store {store}"));
    }
    if layout.fixed {
        rules.push("fixed".to_string());
    }
    if layout.pad > 0 {
        rules.push(format!("pad {}", layout.pad));
    }
    rules.join(" ")
}

/// Up to the first full stop that ends a word, across line ends; the whole when there is none.
fn first_sentence(doc: &str) -> String {
    let text = doc.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.find(". ") {
        Some(at) => text[..=at].to_string(),
        None => text,
    }
}

fn params_json(params: &[Param]) -> serde_json::Value {
    params
        .iter()
        .map(|p| serde_json::json!({ "name": p.name, "type": p.ty.name(), "default": p.default }))
        .collect()
}

fn pipe_json(pipe: &Pipe) -> serde_json::Value {
    let exports: Vec<_> = pipe
        .exports
        .iter()
        .map(|export| serde_json::json!({ "name": export.name, "type": pipe.finish.ty(export.value).name() }))
        .collect();
    let states: Vec<_> = pipe
        .states
        .iter()
        .map(|state| serde_json::json!({ "name": state.name, "type": state.ty.name() }))
        .collect();
    serde_json::json!({
        "name": pipe.name,
        "doc": pipe.doc,
        "input": pipe.input.to_string(),
        "output": pipe.output.to_string(),
        "tail": pipe.tail.name(),
        "writes": pipe.out.is_some(),
        "params": params_json(&pipe.params),
        "states": states,
        "exports": exports,
    })
}

fn layout_json(layout: &Layout) -> serde_json::Value {
    serde_json::json!({
        "name": layout.name,
        "doc": layout.doc,
        "data": layout.stripe.map(|stripe| stripe.data),
        "gap": layout.stripe.map(|stripe| stripe.gap),
        "store": layout.store,
        "fixed": layout.fixed,
        "pad": layout.pad,
    })
}
