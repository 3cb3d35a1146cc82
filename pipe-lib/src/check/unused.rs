//! Warnings of what has no influence: states, tables, parameters of pipelines.

use super::Findings;
use crate::diagnostic::{Code, Diagnostic};
use crate::ir::{Block, Op, Pipe, Value};
use crate::source::Span;
use crate::syntax::ast::{self, ExportSource, Expr, Item, ItemKind, Name, Spanned, Stmt, StmtKind};
use std::collections::HashSet;

/// Warns of states on which neither what is written nor what is exported depends. `declared` has the place of
/// each.
pub(super) fn unused_states(pipe: &Pipe, declared: &[Span], findings: &mut Findings) {
    let mut live = vec![false; pipe.states.len()];
    let exports: Vec<Value> = pipe.exports.iter().map(|export| export.value).collect();
    mark(&pipe.finish, &exports, &mut live);
    let mut roots: Vec<Value> = pipe.out.into_iter().collect();
    loop {
        let before = live.clone();
        roots.extend((live.iter().zip(&pipe.next)).filter(|(live, _)| **live).map(|(_, next)| *next));
        mark(&pipe.body, &roots, &mut live);
        if live == before {
            break;
        }
    }
    for ((state, live), place) in pipe.states.iter().zip(live).zip(declared) {
        if !live && !state.name.starts_with('_') {
            let message = format!("nothing that is written or exported depends on state `{}`", state.name);
            findings.push(
                Diagnostic::new(Code::UnusedRegister, *place, message)
                    .help(format!("`export {0}`, leave it out, or call it `_{0}`", state.name)),
            );
        }
    }
}

/// Marks the states on which some values of a block depend.
fn mark(block: &Block, roots: &[Value], live: &mut [bool]) {
    for (inst, needed) in block.insts.iter().zip(block.needed(roots.iter().copied())) {
        if needed && let Op::State(state) = inst.op {
            live[state.0 as usize] = true;
        }
    }
}

/// Warns of the tables among a file's items and in its pipes that no pipe looks up.
pub(crate) fn unused_tables(items: &[Spanned<Item>], findings: &mut Findings) {
    let mut everywhere = HashSet::new();
    for item in items {
        let ItemKind::Pipe(pipe) = &item.node.kind else { continue };
        let mut names = HashSet::new();
        operands(&pipe.body, &mut names);
        for stmt in &pipe.body {
            if let StmtKind::Table(table) = &stmt.node.kind {
                warn_of_table(&table.name, &names, findings);
            }
        }
        everywhere.extend(names);
    }
    for item in items {
        if let ItemKind::Table(table) = &item.node.kind {
            warn_of_table(&table.name, &everywhere, findings);
        }
    }
}

fn warn_of_table(name: &Name, used: &HashSet<&str>, findings: &mut Findings) {
    if !used.contains(name.node.as_str()) && !name.node.starts_with('_') {
        let message = format!("nothing is looked up in table `{}`", name.node);
        findings.push(
            Diagnostic::new(Code::UnusedTable, name.span, message)
                .help(format!("leave it out, or call it `_{}`", name.node)),
        );
    }
}

/// The names among the operands of statements.
fn operands<'a>(stmts: &'a [Spanned<Stmt>], names: &mut HashSet<&'a str>) {
    for stmt in stmts {
        let inst = match &stmt.node.kind {
            StmtKind::Finish(inner) => {
                operands(inner, names);
                continue;
            }
            StmtKind::Inst(inst) => inst,
            StmtKind::Export { value: Some(value), .. } => match &value.node {
                ExportSource::Inst(inst) => inst,
                ExportSource::Literal(_) => continue,
            },
            _ => continue,
        };
        names.extend(inst.operands.iter().filter_map(|operand| name_of(operand)));
    }
}

fn name_of(expr: &Spanned<Expr>) -> Option<&str> {
    match &expr.node {
        Expr::Name(name) => Some(name),
        _ => None,
    }
}

/// Warns of parameters that no stage of a pipeline is given.
pub(crate) fn unused_parameters(pipeline: &ast::Pipeline, findings: &mut Findings) {
    let stages = || pipeline.value.node.parts.iter().flatten().map(|stage| &stage.node);
    let values = stages().flat_map(|stage| stage.args.iter().map(|arg| &arg.value).chain(&stage.window));
    let used: HashSet<&str> = values.filter_map(name_of).collect();
    for param in &pipeline.params {
        let name = &param.name.node;
        if !used.contains(name.as_str()) && !name.starts_with('_') {
            let message = format!("parameter `{name}` is never read");
            findings.push(Diagnostic::new(Code::UnusedParameter, param.name.span, message));
        }
    }
}
