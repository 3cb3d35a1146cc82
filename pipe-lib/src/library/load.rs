//! From source texts to the items of a library.

use super::test_case::check_test;
use super::{DUPLICATE, Inner, NamedPipeline, resolve};
use crate::analyse::attributes::{self, Refuted, check_declared};
use crate::check::Findings;
use crate::check::frame::check_frame;
use crate::check::layout::check_layout;
use crate::check::pipe::{FileTables, check_params, check_pipe};
use crate::check::table::{TableBudget, check_table};
use crate::check::unused::{unused_parameters, unused_tables};
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::limits;
use crate::source::{FileId, Span};
use crate::syntax::ast::{self, ItemKind, Name, Spanned};
use crate::syntax::parse;
use std::collections::HashSet;
use std::sync::Arc;

/// What a caller hands in for a `use`.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The name by which the file is known; two `use`s of one file give one name.
    pub name: String,
    /// Its text; anything if a file of that name is loaded.
    pub text: String,
}

type Fetch<'a> = dyn FnMut(&str, &str) -> Result<Fetched, String> + 'a;

/// A file that parsed, more or less.
struct ParsedFile {
    tree: ast::File,
    /// Where the grammar failed: items around these places are not checked, their mistakes are known.
    broken: Vec<Span>,
}

impl ParsedFile {
    /// Takes out what was found since `before` where the grammar had something to say already.
    fn forget_consequences(&self, before: usize, findings: &mut Findings) {
        let new = findings.take_since(before);
        let known = |finding: &Diagnostic| {
            let span = finding.labels.first().map(|label| label.span);
            span.is_some_and(|span| {
                self.broken.iter().any(|broken| broken.start < span.end && span.start < broken.end)
            })
        };
        // Warnings would often be about what could not be read.
        let is_error = |finding: &Diagnostic| finding.severity() == Severity::Error;
        findings.extend(new.into_iter().filter(|finding| is_error(finding) && !known(finding)));
    }

    fn is_broken(&self, item: Span) -> bool {
        self.broken.iter().any(|span| item.start < span.start && span.start <= item.end)
    }
}

/// Adds a text and what it uses to `inner`, which is of no use when an error is found.
pub(super) fn load(inner: &mut Inner, name: &str, text: &str, fetch: &mut Fetch<'_>) -> Findings {
    let mut findings = Findings::default();
    let files = parse_all(inner, name, text, fetch, &mut findings);
    for file in &files {
        declare_items(inner, file, &mut findings);
    }
    // What cannot be read may name what nothing else does.
    for file in files.iter().filter(|file| file.broken.is_empty()) {
        unused_tables(&file.tree.items, &mut findings);
    }
    check_pipelines(inner, &files, &mut findings);
    check_tests(inner, &files, &mut findings);
    findings
}

/// Parses a file and all that it uses.
fn parse_all(
    inner: &mut Inner,
    name: &str,
    text: &str,
    fetch: &mut Fetch<'_>,
    findings: &mut Findings,
) -> Vec<ParsedFile> {
    let mut waiting = vec![inner.sources.add(name, text)];
    let mut parsed = Vec::new();
    while let Some(file) = waiting.pop() {
        let Some(source) = inner.sources.get(file) else { continue };
        let (from, result) = (source.name.clone(), parse::parse_file(file, &source.text));
        if let Some(extra) = result.tree.items.get(limits::ITEMS) {
            let message = format!("more than {} items in one file", limits::ITEMS);
            findings.push(Diagnostic::new(Code::Limit, extra.span, message));
            continue;
        }
        inner.broken.extend(result.lost);
        let broken =
            result.errors.iter().filter_map(|error| error.labels.first()).map(|label| label.span).collect();
        findings.extend(result.errors);
        for item in &result.tree.items {
            let ItemKind::Use(path) = &item.node.kind else { continue };
            match take_up(inner, &from, path, fetch) {
                Ok(new) => waiting.extend(new),
                Err(diagnostic) => findings.push(*diagnostic),
            }
        }
        parsed.push(ParsedFile { tree: result.tree, broken });
    }
    parsed
}

fn take_up(
    inner: &mut Inner,
    from: &str,
    path: &Spanned<ast::Bytes>,
    fetch: &mut Fetch<'_>,
) -> Result<Option<FileId>, Box<Diagnostic>> {
    let refuse = |message: String| Box::new(Diagnostic::new(Code::CannotUse, path.span, message));
    let Ok(name) = std::str::from_utf8(&path.node.bytes) else {
        return Err(refuse("a file's name is text".to_string()));
    };
    if inner.sources.iter().count() >= limits::FILES {
        return Err(refuse(format!("more than {} files", limits::FILES)));
    }
    let fetched = fetch(from, name).map_err(|why| refuse(format!("cannot use `{name}`: {why}")))?;
    if inner.sources.find(&fetched.name).is_some() {
        return Ok(None);
    }
    Ok(Some(inner.sources.add(fetched.name, fetched.text)))
}

/// Enters a file's pipes, layouts and named pipelines; pipelines are resolved later.
fn declare_items(inner: &mut Inner, file: &ParsedFile, findings: &mut Findings) {
    let mut search = attributes::SEARCH;
    let mut budget = TableBudget::default();
    let tables = file_tables(file, &mut budget, findings);
    for item in &file.tree.items {
        let docs = &item.node.docs;
        let name = match &item.node.kind {
            ItemKind::Pipe(pipe) => &pipe.name,
            ItemKind::Layout(layout) => &layout.name,
            ItemKind::Frame(frame) => &frame.name,
            ItemKind::Pipeline(pipeline) => &pipeline.name,
            ItemKind::Use(_) | ItemKind::Table(_) | ItemKind::Test(_) => continue,
        };
        if findings.is_full() {
            return;
        }
        let is_new = enter(inner, name, findings);
        let (before, errors) = (findings.len(), findings.errors());
        let read = !file.is_broken(item.span);
        match &item.node.kind {
            // A number or string that could not be read is taken for another: the pipe is checked, but of no
            // use.
            ItemKind::Pipe(ast) => match check_pipe(ast, docs, &tables, &mut budget, findings) {
                Some(pipe) if read && is_new => {
                    check_attributes(ast, &pipe, &mut search, findings);
                    inner.pipes.insert(name.node.clone(), Arc::new(pipe));
                }
                _ => file.forget_consequences(before, findings),
            },
            ItemKind::Layout(layout) if read => {
                if let Some(layout) = check_layout(layout, docs, findings)
                    && is_new
                {
                    inner.layouts.insert(name.node.clone(), Arc::new(layout));
                }
            }
            ItemKind::Frame(frame) if read => {
                check_param_names(&frame.params, findings);
                if let Some(frame) = check_frame(frame, docs, findings)
                    && is_new
                {
                    inner.frames.insert(name.node.clone(), Arc::new(frame));
                }
            }
            ItemKind::Pipeline(pipeline) if read && is_new => {
                let params = check_params(&pipeline.params, findings);
                check_param_names(&pipeline.params, findings);
                unused_parameters(pipeline, findings);
                let named = NamedPipeline {
                    name: name.node.clone(),
                    doc: docs.join("\n"),
                    params: params.into_iter().flatten().collect(),
                    text: inner.sources.text(pipeline.value.span).to_string(),
                    value: pipeline.value.clone(),
                };
                inner.pipelines.insert(name.node.clone(), Arc::new(named));
            }
            _ => {}
        }
        if !is_new || !read || findings.errors() > errors {
            inner.broken.insert(name.node.clone());
        }
    }
}

/// Holds declared attributes against what can be proved.
fn check_attributes(ast: &ast::Pipe, pipe: &crate::ir::Pipe, search: &mut u64, findings: &mut Findings) {
    for (attribute, refuted) in check_declared(pipe, search) {
        let declared = ast.attributes.iter().find_map(|given| match given {
            ast::Attribute::Flag(name) if name.node == attribute.name() => Some(name.span),
            _ => None,
        });
        let message = match &refuted {
            Refuted::Counterexample(_) => format!("`{}` is not {}", pipe.name, attribute.name()),
            Refuted::Unproved(_) => format!("`{}` cannot be shown to be {}", pipe.name, attribute.name()),
        };
        findings.push(
            Diagnostic::new(Code::AttributeRefuted, declared.unwrap_or(ast.name.span), message)
                .note(refuted.to_string())
                .help("leave the attribute out: what holds is found without it"),
        );
    }
}

fn check_param_names(params: &[ast::Param], findings: &mut Findings) {
    let mut known = HashSet::new();
    for param in params {
        if !known.insert(&param.name.node) {
            let message = format!("`{}` is declared twice", param.name.node);
            findings.push(Diagnostic::new(Code::DuplicateRegister, param.name.span, message));
        }
    }
}

fn file_tables(file: &ParsedFile, budget: &mut TableBudget, findings: &mut Findings) -> FileTables {
    let mut tables = FileTables::default();
    for item in &file.tree.items {
        let ItemKind::Table(table) = &item.node.kind else { continue };
        let name = &table.name;
        if tables.contains_key(&name.node) {
            let message = format!("a second table `{}` in this file", name.node);
            findings.push(Diagnostic::new(DUPLICATE, name.span, message));
            continue;
        }
        let checked = if file.is_broken(item.span) { None } else { check_table(table, budget, findings) };
        tables.insert(name.node.clone(), checked);
    }
    tables
}

/// Claims a name; false, with a diagnostic, when it is taken.
fn enter(inner: &mut Inner, name: &Name, findings: &mut Findings) -> bool {
    if let Some(earlier) = inner.names.get(&name.node) {
        findings.push(
            Diagnostic::new(DUPLICATE, name.span, format!("`{}` is the name of another item", name.node))
                .label(*earlier, "declared here")
                .note("pipes, layouts, frames and pipelines share one space of names, the standard ones included"),
        );
        return false;
    }
    inner.names.insert(name.node.clone(), name.span);
    true
}

fn check_pipelines(inner: &mut Inner, files: &[ParsedFile], findings: &mut Findings) {
    let mut budget = limits::FILE_STAGES;
    for item in files.iter().flat_map(|file| &file.tree.items) {
        if let ItemKind::Pipeline(pipeline) = &item.node.kind
            && let Some(named) = inner.pipelines.get(&pipeline.name.node)
        {
            if findings.is_full() {
                return;
            }
            let (named, before, errors) = (Arc::clone(named), findings.len(), findings.errors());
            resolve::check_named(inner, &named, &mut budget, findings);
            if findings.errors() > errors {
                inner.broken.insert(named.name.clone());
            }
            // A pipeline within others is unfolded in each of them.
            let mut new = findings.take_since(before);
            new.retain(|finding| !findings.contains(finding));
            findings.extend(new);
        }
    }
}

fn check_tests(inner: &mut Inner, files: &[ParsedFile], findings: &mut Findings) {
    let mut budget = limits::FILE_STAGES;
    let mut lists = TableBudget::default();
    for (file, item) in files.iter().flat_map(|file| file.tree.items.iter().map(move |item| (file, item))) {
        if findings.is_full() {
            return;
        }
        if let ItemKind::Test(test) = &item.node.kind
            && !file.is_broken(item.span)
            && let Some(test) = check_test(inner, test, item.span, (&mut budget, &mut lists), findings)
        {
            inner.tests.push(Arc::new(test));
        }
    }
}
