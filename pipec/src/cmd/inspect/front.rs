//! The front end's forms: tokens and syntax trees of a pipeline and of the items that it names, directly or
//! not.

use pipe_lib::Library;
use pipe_lib::library::catalogue;
use pipe_lib::source::{FileId, Source, Span};
use pipe_lib::syntax::ast::{Item, ItemKind, PipelineExpr, Spanned};
use pipe_lib::syntax::{lexer, parse};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A line for each token: its place in its text, and what it is.
pub(super) fn tokens(library: &Library, pipeline: &str) -> String {
    let mut out = String::new();
    let mut section = |title: &str, text: &str, from: u32| {
        let _ = writeln!(out, "{title}");
        for (start, token, end) in lexer::lex(text).tokens {
            let _ = writeln!(out, "{:>6}..{:<6} {token:?}", start + from, end + from);
        }
    };
    section("<pipeline>", pipeline, 0);
    for found in Named::of(&with_named_crcs(library, pipeline), pipeline) {
        let Span { start, .. } = found.item.span;
        section(&found.title(), found.source.text.get(found.item.span.range()).unwrap_or(""), start);
    }
    out
}

/// The trees as the parser makes them, spans included.
pub(super) fn trees(library: &Library, pipeline: &str) -> String {
    let tree = parse::parse_pipeline(FileId(0), pipeline).tree;
    let mut out = format!("<pipeline>\n{tree:#?}\n");
    for found in Named::of(&with_named_crcs(library, pipeline), pipeline) {
        let _ = writeln!(out, "{}\n{:#?}", found.title(), found.item);
    }
    out
}

/// The library with the texts of the catalogue's CRCs that are named, as if they were files of it.
fn with_named_crcs(library: &Library, pipeline: &str) -> Library {
    let trees = library.pipelines().map(|named| &*named.text).chain([pipeline]);
    let names: BTreeSet<String> =
        trees.flat_map(|text| stage_names(&parse::parse_pipeline(FileId(0), text).tree)).collect();
    let mut library = library.clone();
    for crc in catalogue().iter().filter(|crc| names.contains(&crc.name)) {
        // One that a file declares goes before: then this is refused.
        let _ = library.load(&format!("<catalogue/{}>", crc.title), &crc.text());
    }
    library
}

/// An item that a pipeline names.
struct Named<'a> {
    source: &'a Source,
    item: Spanned<Item>,
}

impl<'a> Named<'a> {
    fn title(&self) -> String {
        let (line, column) = self.source.line_column(self.item.span.start as usize);
        format!("{}:{line}:{column}", self.source.name)
    }

    /// In the order in which they are named, each once.
    fn of(library: &'a Library, pipeline: &str) -> Vec<Named<'a>> {
        let mut items = BTreeMap::new();
        for (file, source) in library.sources().iter() {
            for item in parse::parse_file(file, &source.text).tree.items {
                if let Some(name) = name_of(&item.node.kind) {
                    items.entry(name.to_string()).or_insert(Named { source, item });
                }
            }
        }
        let mut waiting = stage_names(&parse::parse_pipeline(FileId(0), pipeline).tree);
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        while let Some(name) = waiting.pop() {
            if seen.insert(name.clone())
                && let Some(named) = items.remove(&name)
            {
                if let ItemKind::Pipeline(inner) = &named.item.node.kind {
                    waiting.extend(stage_names(&inner.value.node));
                }
                found.push(named);
            }
        }
        found
    }
}

fn name_of(kind: &ItemKind) -> Option<&str> {
    match kind {
        ItemKind::Pipe(pipe) => Some(&pipe.name.node),
        ItemKind::Layout(layout) => Some(&layout.name.node),
        ItemKind::Frame(frame) => Some(&frame.name.node),
        ItemKind::Pipeline(pipeline) => Some(&pipeline.name.node),
        ItemKind::Use(_) | ItemKind::Table(_) | ItemKind::Test(_) => None,
    }
}

/// What the stages and ends name, last first.
fn stage_names(expr: &PipelineExpr) -> Vec<String> {
    expr.parts.iter().flatten().map(|stage| stage.node.name.node.clone()).rev().collect()
}
