//! `pipec list`: pipes, pipelines, layouts and frames with their gauges, classes and documentation.

use super::{Outcome, Status};
use crate::files::LibraryArgs;
use pipe_lib::Library;
use pipe_lib::analyse::{PipeFacts, analyse};
use pipe_lib::digest::DigestKind;
use pipe_lib::ir::{Frame, Layout, Param, Pipe};
use pipe_lib::library::catalogue;
use std::io::Write as _;
use std::sync::Arc;

/// List the standard pipes, pipelines, layouts and frames, and those of files given
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    library: LibraryArgs,
    /// List the catalogue of CRCs instead, with the parameters that it has: each is a pipe by its name
    #[arg(long)]
    crc: bool,
    /// Print an object with the lists `pipes`, `digests`, `pipelines`, `layouts` and `frames`
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let Some(library) = args.library.load()? else { return Ok(Status::Refused) };
    let mut out = std::io::stdout().lock();
    if args.crc {
        list_crcs(&mut out, args.json)?;
        return Ok(Status::Fine);
    }
    if args.json {
        let pipes: Vec<_> = library.pipes().map(|pipe| pipe_json(pipe)).collect();
        let pipelines: Vec<_> = library
            .pipelines()
            .map(|p| serde_json::json!({ "name": p.name, "doc": p.doc, "params": params_json(&p.params), "text": p.text }))
            .collect();
        let layouts: Vec<_> = library.layouts().map(|layout| layout_json(layout)).collect();
        let frames: Vec<_> = library.frames().map(|frame| frame_json(frame)).collect();
        let digests: Vec<_> = digests(&library)
            .map(|(kind, pipe)| {
                let (name, doc, bytes) = (kind.name(), &pipe.doc, kind.bytes());
                serde_json::json!({ "name": name, "doc": doc, "bytes": bytes, "params": params_json(&pipe.params) })
            })
            .collect();
        let all = serde_json::json!({
            "pipes": pipes, "digests": digests, "pipelines": pipelines, "layouts": layouts, "frames": frames,
        });
        writeln!(out, "{all}")?;
        return Ok(Status::Fine);
    }
    let mut rows: Vec<[String; 4]> = Vec::new();
    for pipe in library.pipes() {
        let exports: Vec<&str> = pipe.exports.iter().map(|export| &*export.name).collect();
        let mut what = first_sentence(&pipe.doc).to_string();
        if !exports.is_empty() {
            what.push_str(&format!(" Exports {}.", exports.join(", ")));
        }
        let name = format!("{}{}", pipe.name, params(&pipe.params));
        rows.push([name, gauge(pipe), classes(pipe, &analyse(pipe)), what]);
    }
    print_table(&mut out, "PIPES", &rows)?;
    let rows: Vec<_> = digests(&library)
        .map(|(kind, pipe)| {
            let name = format!("{}{}", pipe.name, params(&pipe.params));
            [name, kind.title().to_owned(), format!("{} bytes", kind.bytes()), first_sentence(&pipe.doc)]
        })
        .collect();
    print_table(&mut out, "DIGESTS OF OTHER CRATES", &rows)?;
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
    let rows: Vec<_> = library
        .frames()
        .map(|frame| {
            let name = format!("{}{}", frame.name, params(&frame.params));
            [name, fields(frame), first_sentence(&frame.doc).to_string()]
        })
        .collect();
    print_table(&mut out, "FRAMES", &rows)?;
    Ok(Status::Fine)
}

/// Those that are in this build, and not hidden by a pipe of that name.
fn digests(library: &Library) -> impl Iterator<Item = (DigestKind, &Arc<Pipe>)> {
    let all = DigestKind::ALL.iter().filter_map(|kind| Some((*kind, library.pipe(kind.name())?)));
    all.filter(|(kind, pipe)| pipe.digest == Some(*kind))
}

/// The catalogue as it is published, with the names of pipelines.
fn list_crcs(out: &mut impl std::io::Write, json: bool) -> std::io::Result<()> {
    if json {
        // As text: of 64 bits, readers whose numbers are doubles would lose some.
        let hex = |value: u128| format!("{value:#x}");
        let crcs: Vec<_> = catalogue()
            .iter()
            .map(|crc| {
                serde_json::json!({
                    "name": crc.name, "title": crc.title, "width": crc.width, "poly": hex(crc.poly),
                    "init": hex(crc.init), "refin": crc.refin, "refout": crc.refout,
                    "xorout": hex(crc.xorout), "check": hex(crc.check), "residue": hex(crc.residue),
                })
            })
            .collect();
        return writeln!(out, "{}", serde_json::json!({ "crcs": crcs }));
    }
    let heads = ["name", "catalogue", "poly", "init", "refin", "refout", "xorout", "check", "residue"];
    let rows = catalogue().iter().map(|crc| {
        let digits = crc.width.div_ceil(4) as usize;
        let hex = |value: u128| format!("0x{value:0digits$x}");
        [
            crc.name.clone(),
            crc.title.clone(),
            hex(crc.poly),
            hex(crc.init),
            crc.refin.to_string(),
            crc.refout.to_string(),
            hex(crc.xorout),
            hex(crc.check),
            hex(crc.residue),
        ]
    });
    let rows: Vec<[String; 9]> = std::iter::once(heads.map(str::to_owned)).chain(rows).collect();
    print_table(out, "CRCS", &rows)
}

fn print_table<const N: usize>(
    out: &mut impl std::io::Write,
    title: &str,
    rows: &[[String; N]],
) -> std::io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let widths = [(); N].map(|()| 0);
    let widths = rows.iter().fold(widths, |mut widths: [usize; N], row| {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
        widths
    });
    writeln!(out, "{title}")?;
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("  {cell:width$}"));
        writeln!(out, "{}", cells.collect::<String>().trim_end())?;
    }
    Ok(())
}

/// What is proved of the stream and of the states: `tap, reduction`.
fn classes(pipe: &Pipe, facts: &PipeFacts) -> String {
    let mut classes: Vec<&str> = Vec::new();
    if facts.nomod() {
        classes.push("tap");
    }
    if pipe.states.is_empty() {
        classes.push(if facts.positional { "positional" } else { "stateless" });
    }
    for state in &facts.states {
        if !classes.contains(&state.class.name()) {
            classes.push(state.class.name());
        }
    }
    classes.join(", ")
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

/// What a frame is made of, between its braces.
fn fields(frame: &Frame) -> String {
    let text = frame.to_string();
    let inside = text.split_once("{ ").and_then(|(_, rest)| rest.strip_suffix('}'));
    inside.unwrap_or(&text).trim_end().to_string()
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
    let facts = analyse(pipe);
    let states = pipe.states.iter().zip(&facts.states).map(|(state, facts)| {
        let (class, proved) = (facts.class.name(), facts.class.to_string());
        serde_json::json!({ "name": state.name, "type": state.ty.name(), "class": class, "proved": proved })
    });
    let states: Vec<_> = states.collect();
    serde_json::json!({
        "name": pipe.name,
        "doc": pipe.doc,
        "input": pipe.input.to_string(),
        "output": pipe.output.to_string(),
        "word": pipe.word_bytes(),
        "tail": pipe.tail.name(),
        "nomod": facts.nomod(),
        "commutative": facts.commutative(),
        "positional": facts.positional,
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

fn frame_json(frame: &Frame) -> serde_json::Value {
    serde_json::json!({
        "name": frame.name,
        "doc": frame.doc,
        "params": params_json(&frame.params),
        "text": fields(frame),
        "data": frame.data,
        "head": frame.head_bytes(),
        "foot": frame.foot_bytes(),
        "whole": frame.whole,
    })
}
