//! A pipe's head and declarations, then its two blocks.

use super::inst::{BlockDraft, Cx};
use super::scope::{DeclaredName, Scope};
use super::table::{TableBudget, check_table};
use super::unused::unused_states;
use super::{Findings, literal_bits, narrow_type_of_name, type_of_name};
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::ir::{self, Endian, Gauge, Op, ParamId, StateId, StateInit, TableId, Tail, Ty, WideUnary};
use crate::limits;
use crate::source::Span;
use crate::syntax::ast::{self, Attribute, Expr, Name, Spanned, Stmt, StmtKind};
use std::collections::HashMap;

/// Tables that stand in files, by name; `None` for one that is wrong.
pub(crate) type FileTables = HashMap<String, Option<ir::Table>>;

/// Checks a pipe; its IR if nothing was wrong, here or in reading it. Of what could not be read nothing more
/// is said, and the rest is checked all the same.
pub(crate) fn check_pipe(
    pipe: &ast::Pipe,
    docs: &[String],
    tables: &FileTables,
    budget: &mut TableBudget,
    findings: &mut Findings,
) -> Option<ir::Pipe> {
    let mut own = Findings::default();
    let result = Checker { pipe, findings: &mut own, scope: Scope::default() }.check(docs, tables, budget);
    let wrong = own.has_errors() || pipe.body.iter().any(is_unread);
    // Warnings about a pipe that is wrong would often be about its mistakes.
    findings.absorb(own, !wrong);
    if wrong { None } else { result }
}

/// Whether a statement, or one in it, could not be read.
fn is_unread(stmt: &Spanned<Stmt>) -> bool {
    match &stmt.node.kind {
        StmtKind::Broken(_) => true,
        StmtKind::Finish(stmts) => stmts.iter().any(is_unread),
        _ => false,
    }
}

struct Checker<'a> {
    pipe: &'a ast::Pipe,
    findings: &'a mut Findings,
    scope: Scope,
}

impl Checker<'_> {
    fn check(
        mut self,
        docs: &[String],
        file_tables: &FileTables,
        budget: &mut TableBudget,
    ) -> Option<ir::Pipe> {
        let pipe = self.pipe;
        let input = gauge_of_name(&pipe.input, self.findings);
        let output = match &pipe.output {
            Some(name) => gauge_of_name(name, self.findings),
            None => input,
        };
        if let (Some(input), Some(output), Some(name)) = (input, output, &pipe.output)
            && input.bytes() != output.bytes()
        {
            self.findings.push(
                Diagnostic::new(Code::GaugeSizes, name.span, "a pipe writes words of the size that it reads")
                    .here(bytes_text(output.bytes()))
                    .label(pipe.input.span, bytes_text(input.bytes())),
            );
        }
        let (tail, declared) = self.attributes();
        let params = check_params(&pipe.params, self.findings);
        for (at, (param, ast)) in params.iter().zip(&pipe.params).enumerate() {
            let what = match param {
                Some(param) => DeclaredName::Param(ParamId(at as u32), param.ty),
                None => DeclaredName::Broken,
            };
            self.declare(&ast.name, what);
        }
        let mut states = Vec::new();
        let mut tables = Vec::new();
        for stmt in &pipe.body {
            match &stmt.node.kind {
                StmtKind::State { name, ty, mark, init } => {
                    let secret = self.mark(mark.as_ref());
                    self.state(name, ty, init.as_ref(), secret, &mut states);
                }
                StmtKind::Table(table) => {
                    let checked = check_table(table, budget, self.findings);
                    let what = match &checked {
                        Some(_) => DeclaredName::Table(TableId(tables.len() as u32)),
                        None => DeclaredName::Broken,
                    };
                    self.declare(&table.name, what);
                    tables.extend(checked);
                }
                StmtKind::Broken(words) => {
                    if let [keyword, name, ..] = &words[..]
                        && matches!(keyword.node.as_str(), "state" | "table")
                        && self.scope.get(&name.node).is_none()
                    {
                        self.declare(name, DeclaredName::Broken);
                    }
                }
                _ => {}
            }
        }
        self.limit(states.len(), limits::STATES, "states");
        self.limit(tables.len(), limits::TABLES, "tables");
        let (Some(input), Some(output)) = (input, output) else { return None };
        let params: Vec<ir::Param> = params.into_iter().flatten().collect();
        if params.len() != pipe.params.len() || self.findings.is_full() {
            return None;
        }

        let mut cx = Cx {
            scope: &self.scope,
            input,
            output,
            states: &states,
            tables,
            file_tables,
            used_params: vec![false; params.len()],
            exports: Vec::new(),
            findings: self.findings,
        };
        let mut body = BlockDraft::body(&cx);
        let mut finish = BlockDraft::finish(&cx);
        let mut finished: Option<Span> = None;
        for stmt in &pipe.body {
            match &stmt.node.kind {
                StmtKind::State { .. } | StmtKind::Table(_) => {}
                StmtKind::Inst(inst) => body.statement(inst, stmt.span, &mut cx),
                StmtKind::Broken(words) => {
                    let exported = words.first().is_some_and(|word| word.node == "export");
                    let block = if exported { &mut finish } else { &mut body };
                    block.broken(words, stmt.span, &cx);
                }
                StmtKind::Export { name, value } => finish.export(name, value.as_ref(), true, &mut cx),
                StmtKind::Finish(stmts) => {
                    if let Some(first) = finished.replace(stmt.span) {
                        cx.findings.push(
                            Diagnostic::new(Code::Twice, stmt.span, "a second `finish` block")
                                .label(first, "the first"),
                        );
                        continue;
                    }
                    for stmt in stmts {
                        finish_statement(stmt, &mut finish, &mut cx);
                    }
                }
            }
        }
        let out_span = body.out_span();
        let (body, next, out) = body.done(&mut cx);
        let (mut finish, _, _) = finish.done(&mut cx);
        let Cx { tables, exports, used_params, .. } = cx;
        let exports = in_halves(exports, &mut finish);
        self.limit(exports.len(), limits::EXPORTS, "exports");
        if out_span.is_none()
            && input != output
            && let Some(name) = &pipe.output
        {
            self.findings.push(
                Diagnostic::new(Code::NoOutput, name.span, "an output order, but nothing is written")
                    .note("a pipe without `out` passes its input on unchanged")
                    .help("add `out x`, or leave out the output gauge"),
            );
        }
        for ((param, used), ast) in params.iter().zip(&used_params).zip(&pipe.params) {
            let starts_a_state = states.iter().any(|(state, _)| match state.init {
                StateInit::Param(id) => params[id.0 as usize].name == param.name,
                StateInit::Const(_) => false,
            });
            if !used && !starts_a_state && !param.name.starts_with('_') {
                let message = format!("parameter `{}` is never read", param.name);
                self.findings.push(Diagnostic::new(Code::UnusedParameter, ast.name.span, message));
            }
        }
        if self.findings.has_errors() || pipe.body.iter().any(is_unread) {
            return None;
        }
        let (states, places): (Vec<ir::State>, Vec<Span>) = states.into_iter().unzip();
        let made = ir::Pipe {
            name: pipe.name.node.clone(),
            doc: docs.join("\n"),
            input,
            output,
            tail,
            declared,
            states,
            params,
            tables,
            body,
            out,
            next,
            finish,
            exports,
            digest: None,
        };
        debug_assert_eq!(ir::verify::verify(&made), Ok(()));
        unused_states(&made, &places, self.findings);
        Some(made)
    }

    fn attributes(&mut self) -> (Tail, ir::Declared) {
        let mut tail: Option<(Tail, Span)> = None;
        let mut commutative = None;
        let mut nomod = None;
        for attribute in &self.pipe.attributes {
            let (name, earlier) = match attribute {
                Attribute::Tail(name) => {
                    let rules = [Tail::Reject, Tail::Zero, Tail::Partial, Tail::Pass];
                    let Some(rule) = rules.into_iter().find(|rule| rule.name() == name.node) else {
                        let mut diagnostic = Diagnostic::new(
                            Code::UnknownTail,
                            name.span,
                            format!("no tail rule `{}`", name.node),
                        )
                        .note("the rules are `reject`, `zero`, `partial` and `pass`");
                        if let Some(near) = nearest(&name.node, rules.map(Tail::name)) {
                            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
                        }
                        self.findings.push(diagnostic);
                        continue;
                    };
                    (name, tail.replace((rule, name.span)).map(|(_, span)| span))
                }
                Attribute::Flag(name) => match name.node.as_str() {
                    "commutative" => (name, commutative.replace(name.span)),
                    "nomod" => (name, nomod.replace(name.span)),
                    other => {
                        let mut diagnostic = Diagnostic::new(
                            Code::UnknownAttribute,
                            name.span,
                            format!("no attribute `{other}`"),
                        )
                        .note("the attributes are `commutative`, `nomod` and `tail RULE`");
                        if let Some(near) = nearest(other, ["commutative", "nomod", "tail"]) {
                            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
                        }
                        self.findings.push(diagnostic);
                        continue;
                    }
                },
            };
            if let Some(earlier) = earlier {
                let what =
                    if matches!(attribute, Attribute::Tail(_)) { "the tail rule" } else { "an attribute" };
                self.findings.push(
                    Diagnostic::new(Code::UnknownAttribute, name.span, format!("{what} is given twice"))
                        .label(earlier, "first here"),
                );
            }
        }
        let declared = ir::Declared { commutative: commutative.is_some(), nomod: nomod.is_some() };
        (tail.map_or(Tail::Reject, |(tail, _)| tail), declared)
    }

    fn state(
        &mut self,
        name: &Name,
        ty: &Name,
        init: Option<&Spanned<Expr>>,
        secret: bool,
        states: &mut Vec<(ir::State, Span)>,
    ) {
        if let Some(init) = init.filter(|_| secret) {
            self.findings.push(
                Diagnostic::new(
                    Code::NotHere,
                    init.span,
                    format!("secret state `{}` starts from code", name.node),
                )
                .note("what is secret is imported for a run, and in no code")
                .help("leave the value out"),
            );
        }
        let place = name.span;
        let Some(ty) = type_of_name(ty, self.findings) else {
            self.declare(name, DeclaredName::Broken);
            return;
        };
        let init = match init {
            None => Some(StateInit::Const(0)),
            Some(Spanned { node: Expr::Name(from), span }) => match self.scope.get(from) {
                Some((DeclaredName::Param(id, param_ty), _)) if param_ty == ty => Some(StateInit::Param(id)),
                Some((DeclaredName::Param(_, param_ty), declared)) => {
                    self.findings.push(
                        Diagnostic::new(
                            Code::TypeMismatch,
                            *span,
                            format!("state `{}` is `{ty}`, parameter `{from}` is `{param_ty}`", name.node),
                        )
                        .label(declared, "declared here"),
                    );
                    None
                }
                Some((DeclaredName::Broken, _)) => None,
                _ => {
                    self.findings.push(
                        Diagnostic::new(Code::UnknownRegister, *span, format!("no parameter `{from}`"))
                            .note("a state starts from a number or a parameter"),
                    );
                    None
                }
            },
            Some(literal) => literal_bits(literal, ty, self.findings).map(StateInit::Const),
        };
        let id = StateId(states.len() as u32);
        let init = init.unwrap_or(StateInit::Const(0));
        let mut add = |name: String, ty, init| states.push((ir::State { name, ty, init, secret }, place));
        if ty == Ty::U128 {
            // Two registers.
            if self.declare(name, DeclaredName::WideState(id)) {
                add(format!("{}.low", name.node), Ty::U64, init);
                add(format!("{}.high", name.node), Ty::U64, StateInit::Const(0));
            }
        } else if self.declare(name, DeclaredName::State(id, ty)) {
            add(name.node.clone(), ty, init);
        }
    }

    /// Whether the word behind a state's type says that it is secret.
    fn mark(&mut self, mark: Option<&Name>) -> bool {
        let Some(mark) = mark else { return false };
        if mark.node != "secret" {
            let message = format!("`{}` behind a state's type", mark.node);
            self.findings.push(Diagnostic::new(Code::UnknownAttribute, mark.span, message).note(
                "`secret` is what may stand there: imported for a run, never changed, shown to nobody",
            ));
        }
        true
    }

    fn declare(&mut self, name: &Name, what: DeclaredName) -> bool {
        let earlier = self.scope.declare(&name.node, what, name.span);
        if let Some(earlier) = earlier {
            let message = format!("`{}` is declared twice", name.node);
            self.findings.push(
                Diagnostic::new(Code::DuplicateRegister, name.span, message).label(earlier, "first here"),
            );
        }
        earlier.is_none()
    }

    fn limit(&mut self, count: usize, most: usize, what: &str) {
        if count > most {
            let message = format!("a pipe with {count} {what}; the most is {most}");
            self.findings.push(Diagnostic::new(Code::Limit, self.pipe.name.span, message));
        }
    }
}

/// Exports of 128 bits as two, the `low` and the `high` half.
fn in_halves(exports: Vec<ir::Export>, finish: &mut ir::Block) -> Vec<ir::Export> {
    let mut halves = Vec::with_capacity(exports.len());
    for export in exports {
        if finish.insts.get(export.value.0 as usize).is_none_or(|inst| inst.ty != Ty::U128) {
            halves.push(export);
            continue;
        }
        for (half, op) in [("low", WideUnary::Trunc), ("high", WideUnary::High)] {
            let value = finish.push(Op::WideUnary(op, export.value), Ty::U64);
            halves.push(ir::Export { name: format!("{}.{half}", export.name), value });
        }
    }
    halves
}

fn bytes_text(bytes: usize) -> String {
    if bytes == 1 { "1 byte".to_string() } else { format!("{bytes} bytes") }
}

fn finish_statement(stmt: &Spanned<Stmt>, finish: &mut BlockDraft, cx: &mut Cx<'_>) {
    match &stmt.node.kind {
        StmtKind::Inst(inst) => finish.statement(inst, stmt.span, cx),
        StmtKind::Export { name, value } => finish.export(name, value.as_ref(), false, cx),
        StmtKind::Broken(words) => finish.broken(words, stmt.span, cx),
        StmtKind::State { .. } | StmtKind::Table(_) | StmtKind::Finish(_) => {
            let message = "declarations do not belong into `finish`";
            cx.findings.push(
                Diagnostic::new(Code::NotHere, stmt.span, message)
                    .help("put it before, among the pipe's statements"),
            );
        }
    }
}

/// Checks parameters: `None` for each that is wrong.
pub(crate) fn check_params(params: &[ast::Param], findings: &mut Findings) -> Vec<Option<ir::Param>> {
    if let Some(extra) = params.get(limits::PARAMS) {
        let message = format!("more than {} parameters", limits::PARAMS);
        findings.push(Diagnostic::new(Code::Limit, extra.name.span, message));
    }
    let check = |param: &ast::Param| {
        let ty = narrow_type_of_name("parameter", &param.ty, findings)?;
        let default = match &param.default {
            Some(default) => Some(literal_bits(default, ty, findings)?),
            None => None,
        };
        Some(ir::Param { name: param.name.node.clone(), ty, default })
    };
    params.iter().map(check).collect()
}

/// `u8`, `u16be`, `u16le`, ...
pub(crate) fn parse_gauge(name: &str) -> Option<Gauge> {
    Some(match name {
        "u8" => Gauge::U8,
        "u16be" => Gauge::new(Ty::U16, Endian::Big),
        "u16le" => Gauge::new(Ty::U16, Endian::Little),
        "u32be" => Gauge::new(Ty::U32, Endian::Big),
        "u32le" => Gauge::new(Ty::U32, Endian::Little),
        "u64be" => Gauge::new(Ty::U64, Endian::Big),
        "u64le" => Gauge::new(Ty::U64, Endian::Little),
        "u128be" => Gauge::new(Ty::U128, Endian::Big),
        "u128le" => Gauge::new(Ty::U128, Endian::Little),
        _ => return None,
    })
}

fn gauge_of_name(name: &Name, findings: &mut Findings) -> Option<Gauge> {
    let found = parse_gauge(&name.node);
    if found.is_none() {
        let diagnostic = Diagnostic::new(Code::UnknownGauge, name.span, format!("no gauge `{}`", name.node))
            .note("the gauges are u8, u16be, u16le, u32be, u32le, u64be, u64le, u128be and u128le");
        findings.push(match name.node.as_str() {
            "u16" | "u32" | "u64" | "u128" => {
                diagnostic.help(format!("say in which order the bytes come: `{0}be` or `{0}le`", name.node))
            }
            "u8be" | "u8le" => diagnostic.help("a single byte has no order: write `u8`"),
            _ => diagnostic,
        });
    }
    found
}
