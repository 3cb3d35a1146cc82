//! What stands on one line: statements, clauses, the parts of a pipeline.

use super::super::ast::*;
use std::fmt::Write as _;

pub(super) fn params(params: &[Param]) -> String {
    if params.is_empty() {
        return String::new();
    }
    let each = |param: &Param| match &param.default {
        Some(default) => format!("{}: {} = {}", param.name.node, param.ty.node, expr(&default.node)),
        None => format!("{}: {}", param.name.node, param.ty.node),
    };
    format!("({})", params.iter().map(each).collect::<Vec<_>>().join(", "))
}

pub(super) fn statement(kind: &StmtKind) -> String {
    match kind {
        StmtKind::State { name, ty, mark, init } => {
            let mark = mark.as_ref().map(|mark| format!(" {}", mark.node)).unwrap_or_default();
            let init = init.as_ref().map(|init| format!(" = {}", expr(&init.node))).unwrap_or_default();
            format!("state {}: {}{mark}{init}", name.node, ty.node)
        }
        StmtKind::Export { name, value: None } => format!("export {}", name.node),
        StmtKind::Export { name, value: Some(value) } => match &value.node {
            ExportSource::Inst(value) => format!("export {} = {}", name.node, inst(value)),
            ExportSource::Literal(value) => format!("export {} = {}", name.node, expr(value)),
        },
        StmtKind::Inst(value) => inst(value),
        StmtKind::Table(_) | StmtKind::Finish(_) | StmtKind::Broken(_) => String::new(),
    }
}

pub(super) fn inst(inst: &Inst) -> String {
    let mut text = inst.mnemonic.node.clone();
    if let Some(suffix) = &inst.suffix {
        let _ = write!(text, ".{}", suffix.node);
    }
    for (at, operand) in inst.operands.iter().enumerate() {
        text.push_str(if at == 0 { " " } else { ", " });
        text.push_str(&expr(&operand.node));
    }
    text
}

pub(super) fn expr(expr: &Expr) -> String {
    match expr {
        Expr::Number(number) => number.text.clone(),
        Expr::Bool(value) => value.to_string(),
        Expr::Name(name) => name.clone(),
    }
}

pub(super) fn layout_clause(clause: &LayoutClause) -> String {
    match &clause.value {
        Some(value) => format!("{} {}", clause.name.node, value.node.text),
        None => clause.name.node.clone(),
    }
}

pub(super) fn frame_field(field: &FrameField) -> String {
    match field {
        FrameField::Rule { name, value: Some(value) } => format!("{} {}", name.node, value.node.text),
        FrameField::Rule { name, value: None } => name.node.clone(),
        FrameField::Bytes(bytes) => {
            format!("put {}", repeat(&bytes.item.node, |bytes| bytes.text.clone(), bytes))
        }
        FrameField::Put { gauge, sum } => {
            let term = |term: &Spanned<Term>| match &term.node {
                Term::Number(number) => number.text.clone(),
                Term::Path(path) => dotted(path),
            };
            format!("put {} {}", gauge.node, sum.iter().map(term).collect::<Vec<_>>().join(" + "))
        }
    }
}

fn dotted(path: &[Name]) -> String {
    path.iter().map(|name| name.node.as_str()).collect::<Vec<_>>().join(".")
}

/// The words of a pipeline, each with the bar or arrow before it: what a line may begin with.
pub(super) fn pipeline_parts(expr: &PipelineExpr) -> Vec<String> {
    let mut parts = Vec::new();
    for (at, part) in expr.parts.iter().enumerate() {
        if part.is_empty() && at > 0 {
            parts.push("->".to_string());
        }
        for (first, stage) in part.iter().enumerate() {
            parts.push(match (first, at) {
                (0, 0) => stage_text(&stage.node),
                (0, _) => format!("-> {}", stage_text(&stage.node)),
                _ => format!("| {}", stage_text(&stage.node)),
            });
        }
    }
    parts
}

pub(super) fn stage_text(stage: &Stage) -> String {
    let mut text = stage.name.node.clone();
    if !stage.args.is_empty() {
        let each = |arg: &Arg| match &arg.name {
            Some(name) => format!("{} = {}", name.node, expr(&arg.value.node)),
            None => expr(&arg.value.node),
        };
        let _ = write!(text, "({})", stage.args.iter().map(each).collect::<Vec<_>>().join(", "));
    }
    if let Some(instance) = &stage.instance {
        let _ = write!(text, " as {}", instance.node);
    }
    if let Some(window) = &stage.window {
        let _ = write!(text, " per {}", expr(&window.node));
    }
    text
}

pub(super) fn test_clause(clause: &TestClause) -> String {
    let pieces = |list: &[Repeated<Bytes>]| {
        let each =
            |piece: &Repeated<Bytes>| repeat(&piece.item.node, |bytes: &Bytes| bytes.text.clone(), piece);
        list.iter().map(each).collect::<Vec<_>>().join(" ")
    };
    match clause {
        TestClause::Input(list) => format!("input {}", pieces(list)),
        TestClause::Output(list) => format!("output {}", pieces(list)),
        TestClause::Set { path, value } => format!("set {} = {}", dotted(path), expr(&value.node)),
        TestClause::Refused => "refused".to_string(),
        TestClause::Expect { path, value } => match &value.node {
            Expected::One(one) => format!("expect {} = {}", dotted(path), expr(one)),
            Expected::List(list) => {
                let list: Vec<String> = list.iter().map(|item| repeat(&item.item.node, expr, item)).collect();
                format!("expect {} = [{}]", dotted(path), list.join(", "))
            }
            Expected::Bytes(list) => format!("expect {} = {}", dotted(path), pieces(list)),
        },
    }
}

pub(super) fn repeat<T>(item: &T, show: impl Fn(&T) -> String, repeated: &Repeated<T>) -> String {
    match &repeated.count {
        Some(count) => format!("{} repeat {}", show(item), count.node.text),
        None => show(item),
    }
}
