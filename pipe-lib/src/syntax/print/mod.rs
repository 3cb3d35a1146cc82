//! Trees back to text, in canonical form: what `pipec fmt` writes.
//!
//! Parsing what is printed gives the same tree, and printing that gives the same text. Comments are kept:
//! those on lines of their own before the statement that follows, those at the end of a line behind the
//! statement they follow; one in the middle of a statement moves before it. Of blank lines, one is kept
//! between statements and between items.

mod comments;
mod one_line;

use super::ast::*;
use super::lexer::Comment;
use super::parse;
use crate::diagnostic::Diagnostics;
use crate::source::{Sources, Span};
use one_line::*;
use std::fmt::Write as _;

/// Columns that a line may have before it is broken.
const WIDTH: usize = 110;

/// The canonical form of a source text.
///
/// # Errors
/// What is wrong with its syntax; text that does not parse is left alone.
pub fn format_source(name: &str, text: &str) -> Result<String, Diagnostics> {
    let mut sources = Sources::default();
    let file = sources.add(name, text);
    let parsed = parse::parse_file(file, text);
    if !parsed.errors.is_empty() {
        return Err(Diagnostics::new(parsed.errors, sources));
    }
    Ok(print_file(&parsed.tree, &parsed.comments, text))
}

/// Prints a file. `text` is what it was parsed from, which says where lines were left blank and what stood on
/// one line; empty for a tree made otherwise.
pub fn print_file(file: &File, comments: &[Comment], text: &str) -> String {
    let mut printer = Printer { out: String::new(), indent: 0, comments, text };
    printer.file(file);
    printer.out
}

/// Prints a pipeline on one line.
pub fn print_pipeline(expr: &PipelineExpr) -> String {
    pipeline_parts(expr).join(" ")
}

struct Printer<'a> {
    out: String,
    indent: usize,
    /// Those not printed yet, in the order of the source.
    comments: &'a [Comment],
    text: &'a str,
}

impl Printer<'_> {
    fn file(&mut self, file: &File) {
        let mut previous_is_block = false;
        for (at, item) in file.items.iter().enumerate() {
            let start = item.span.start;
            let first = self.comments.first().map_or(start, |comment| comment.start.min(start));
            let left_blank = self.blank_before(first);
            let before = std::mem::take(&mut self.out);
            let commented = self.leading(start, true);
            if commented && self.blank_before(start) {
                self.blank();
            }
            self.inner_comments(item);
            self.docs(&item.node.docs);
            let body = self.out.len();
            self.item(item);
            self.trailing(item.span.end);
            let is_block = self.out[body..].matches('\n').count() > 1;
            let printed = std::mem::replace(&mut self.out, before);
            if at > 0 && (left_blank || is_block || previous_is_block || self.text.is_empty()) {
                self.blank();
            }
            self.out.push_str(&printed);
            previous_is_block = is_block;
        }
        self.leading(u32::MAX, file.items.is_empty());
    }

    /// Comments inside of an item that has no statements go before it.
    fn inner_comments(&mut self, item: &Spanned<Item>) {
        if !matches!(
            item.node.kind,
            ItemKind::Pipe(_) | ItemKind::Test(_) | ItemKind::Layout(_) | ItemKind::Frame(_)
        ) {
            self.hoist(item.span.end);
        }
    }

    fn item(&mut self, item: &Spanned<Item>) {
        match &item.node.kind {
            ItemKind::Use(path) => self.line(&format!("use {}", path.node.text)),
            ItemKind::Table(table) => self.table(table),
            ItemKind::Pipe(pipe) => self.pipe(pipe, item.span),
            ItemKind::Layout(layout) => {
                let clauses: Vec<String> = layout.clauses.iter().map(layout_clause).collect();
                let ends: Vec<u32> = layout.clauses.iter().map(|clause| clause.name.span.start).collect();
                self.clauses(&format!("layout {}", layout.name.node), &clauses, &ends, item.span, " ");
            }
            ItemKind::Frame(frame) => {
                let fields: Vec<String> = frame.fields.iter().map(|field| frame_field(&field.node)).collect();
                let starts: Vec<u32> = frame.fields.iter().map(|field| field.span.start).collect();
                let head = format!("frame {}{}", frame.name.node, params(&frame.params));
                self.clauses(&head, &fields, &starts, item.span, " ");
            }
            ItemKind::Pipeline(pipeline) => {
                let head = format!("pipeline {}{} =", pipeline.name.node, params(&pipeline.params));
                self.pipeline(&head, &pipeline.value.node);
            }
            ItemKind::Test(test) => {
                let mut head = format!("test {}", print_pipeline(&test.pipeline.node));
                if let Some(title) = &test.title {
                    let _ = write!(head, " {}", title.node.text);
                }
                let clauses: Vec<String> =
                    test.clauses.iter().map(|clause| test_clause(&clause.node)).collect();
                let starts: Vec<u32> = test.clauses.iter().map(|clause| clause.span.start).collect();
                self.clauses(head.trim_end(), &clauses, &starts, item.span, " ");
            }
        }
    }

    /// `head { a b c }`, on one line if it stood on one, and else a line each.
    fn clauses(&mut self, head: &str, clauses: &[String], starts: &[u32], span: Span, between: &str) {
        let one_line = match clauses.is_empty() {
            true => format!("{head} {{ }}"),
            false => format!("{head} {{ {} }}", clauses.join(between)),
        };
        let inline = if self.text.is_empty() { true } else { self.was_inline(span) };
        if inline && !self.has_comment_before(span.end) && self.fits(&one_line) {
            self.line(&one_line);
            return;
        }
        self.line(&format!("{head} {{"));
        self.indent += 1;
        for (at, clause) in clauses.iter().enumerate() {
            self.leading(starts[at], at == 0);
            self.line(clause);
            self.trailing_before(starts.get(at + 1).copied().unwrap_or(span.end));
        }
        self.leading(span.end, clauses.is_empty());
        self.indent -= 1;
        self.line("}");
    }

    fn pipe(&mut self, pipe: &Pipe, span: Span) {
        let mut head = format!("pipe {}{} : {}", pipe.name.node, params(&pipe.params), pipe.input.node);
        if let Some(output) = &pipe.output {
            let _ = write!(head, " -> {}", output.node);
        }
        for attribute in &pipe.attributes {
            let _ = match attribute {
                Attribute::Tail(rule) => write!(head, " tail {}", rule.node),
                Attribute::Flag(flag) => write!(head, " {}", flag.node),
            };
        }
        self.block(&head, &pipe.body, span);
    }

    /// `head { a; b }` on one line if it stood on one, and else a line each.
    fn block(&mut self, head: &str, body: &[Spanned<Stmt>], span: Span) {
        if let Some(statements) = self.inline_statements(body, span) {
            let one_line = match statements.is_empty() {
                true => format!("{head} {{ }}"),
                false => format!("{head} {{ {} }}", statements.join("; ")),
            };
            if self.fits(&one_line) {
                self.line(&one_line);
                return;
            }
        }
        self.line(&format!("{head} {{"));
        self.indent += 1;
        for (at, stmt) in body.iter().enumerate() {
            self.leading(stmt.span.start, at == 0);
            if at > 0 && self.blank_before(stmt.span.start) && !self.out.ends_with("\n\n") {
                self.blank();
            }
            if !matches!(stmt.node.kind, StmtKind::Finish(_)) {
                self.hoist(stmt.span.end);
            }
            self.docs(&stmt.node.docs);
            match &stmt.node.kind {
                StmtKind::Table(table) => self.table(table),
                StmtKind::Finish(inner) => self.block("finish", inner, stmt.span),
                simple => self.line(&statement(simple)),
            }
            self.trailing(stmt.span.end);
        }
        self.leading(span.end, body.is_empty());
        self.indent -= 1;
        self.line("}");
    }

    /// The statements of a block that stood on one line, if they can stay there.
    fn inline_statements(&self, body: &[Spanned<Stmt>], span: Span) -> Option<Vec<String>> {
        let simple = |stmt: &Spanned<Stmt>| {
            stmt.node.docs.is_empty() && !matches!(stmt.node.kind, StmtKind::Finish(_) | StmtKind::Table(_))
        };
        let stays = self.was_inline(span) && !self.has_comment_before(span.end) && body.iter().all(simple);
        stays.then(|| body.iter().map(|stmt| statement(&stmt.node.kind)).collect())
    }

    fn table(&mut self, table: &Table) {
        let head = format!("table {}: {} =", table.name.node, table.ty.node);
        let elements: Vec<String> = match &table.values.node {
            TableValues::Bytes(bytes) => {
                self.line(&format!("{head} {}", bytes.text));
                return;
            }
            TableValues::List(list) => {
                list.iter().map(|repeated| repeat(&repeated.item.node, expr, repeated)).collect()
            }
        };
        let one_line = format!("{head} [{}]", elements.join(", "));
        if self.fits(&one_line) {
            self.line(&one_line);
            return;
        }
        self.line(&format!("{head} ["));
        self.indent += 1;
        let widest = elements.iter().map(|element| element.chars().count()).max().unwrap_or(0);
        let room = WIDTH.saturating_sub(self.indent * 4);
        let fit = (room + 1) / (widest + 2);
        // Powers of two are easier to count.
        let a_row = 1 << fit.max(1).ilog2();
        for row in elements.chunks(a_row) {
            self.line(&format!("{},", row.join(", ")));
        }
        self.indent -= 1;
        self.line("]");
    }

    /// `pipeline x = a | b -> c`, broken before bars and arrows where it is too long.
    fn pipeline(&mut self, head: &str, value: &PipelineExpr) {
        let one_line = format!("{head} {}", print_pipeline(value));
        if self.fits(&one_line) {
            self.line(one_line.trim_end());
            return;
        }
        self.line(head);
        self.indent += 1;
        for part in pipeline_parts(value) {
            self.line(&part);
        }
        self.indent -= 1;
    }

    fn docs(&mut self, docs: &[String]) {
        for line in docs {
            self.line(format!("/// {line}").trim_end());
        }
    }

    fn line(&mut self, text: &str) {
        if !text.is_empty() {
            self.out.extend(std::iter::repeat_n("    ", self.indent));
            self.out.push_str(text);
        }
        self.out.push('\n');
    }

    fn blank(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    fn was_inline(&self, span: Span) -> bool {
        self.text.get(span.range()).is_some_and(|text| !text.is_empty() && !text.trim_end().contains('\n'))
    }

    fn fits(&self, line: &str) -> bool {
        self.indent * 4 + line.chars().count() <= WIDTH
    }
}
