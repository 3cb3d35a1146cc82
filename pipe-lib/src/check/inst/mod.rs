//! Instructions of one block to SSA: each write makes a new value, each read takes the latest.

mod by_hand;
mod compute;
mod operand;
mod shape;
mod typing;

use self::shape::{InstShape, foreign_mnemonic, mnemonics};
use super::Findings;
use super::pipe::FileTables;
use super::scope::{DeclaredName, Scope};
use super::types::{Types, Var};
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::ir::{self, ConvertOp, Gauge, Op, ParamId, StateId, Value};
use crate::limits;
use crate::source::Span;
use crate::syntax::ast::{self, ExportSource, Expr, Name, Number, Spanned};
use std::collections::HashMap;

/// What the blocks of a pipe share.
pub(super) struct Cx<'a> {
    pub(super) scope: &'a Scope,
    pub(super) input: Gauge,
    pub(super) output: Gauge,
    pub(super) states: &'a [(ir::State, Span)],
    /// The pipe's own tables, then those of files that it looks up.
    pub(super) tables: Vec<ir::Table>,
    pub(super) file_tables: &'a FileTables,
    pub(super) used_params: Vec<bool>,
    pub(super) exports: Vec<ir::Export>,
    pub(super) findings: &'a mut Findings,
}

/// A temporary register.
struct Temp {
    value: Value,
    written: Span,
    read: bool,
}

/// What can only be checked once types are known.
enum Check {
    Integer(Span, String),
    Literal(Span, Number),
    Convert(Span, ConvertOp, Value),
}

/// A block on its way to SSA.
pub(super) struct BlockDraft {
    is_finish: bool,
    insts: Vec<(Op, Var, Span)>,
    types: Types,
    temps: HashMap<String, Temp>,
    /// The latest value of each state, once read or written.
    states: Vec<Option<Value>>,
    /// The latest value of each state of 128 bits, by the register of its lower half.
    wide_states: HashMap<StateId, Value>,
    params: HashMap<ParamId, Value>,
    checks: Vec<(Value, Check)>,
    input: Option<Span>,
    out: Option<(Value, Span)>,
    full: bool,
    /// Errors that were found before the block was looked at.
    errors_before: usize,
}

impl BlockDraft {
    /// The block that runs once a word.
    pub(super) fn body(cx: &Cx<'_>) -> BlockDraft {
        BlockDraft::new(false, cx)
    }

    /// The block that runs once at the end.
    pub(super) fn finish(cx: &Cx<'_>) -> BlockDraft {
        BlockDraft::new(true, cx)
    }

    fn new(is_finish: bool, cx: &Cx<'_>) -> BlockDraft {
        BlockDraft {
            is_finish,
            insts: Vec::new(),
            types: Types::default(),
            temps: HashMap::new(),
            states: vec![None; cx.states.len()],
            wide_states: HashMap::new(),
            params: HashMap::new(),
            checks: Vec::new(),
            input: None,
            out: None,
            full: false,
            errors_before: cx.findings.errors(),
        }
    }

    /// Where the word is written, if it is.
    pub(super) fn out_span(&self) -> Option<Span> {
        self.out.map(|(_, span)| span)
    }

    /// `op d, a, b`.
    pub(super) fn statement(&mut self, inst: &ast::Inst, span: Span, cx: &mut Cx<'_>) {
        let Some(shape) = self.shape(inst, cx) else {
            // What it would have written is there, but nothing is said of it.
            if let Some(Spanned { node: Expr::Name(name), span }) = inst.operands.first()
                && cx.scope.get(name).is_none()
            {
                let value = self.poison(*span);
                self.temps.insert(name.clone(), Temp { value, written: *span, read: true });
            }
            return;
        };
        if !self.operand_count(inst, span, shape.operands(), cx) {
            for operand in inst.operands.iter().take(1) {
                self.write(operand, None, cx);
            }
            return;
        }
        if let InstShape::Out = shape {
            self.output(inst, span, cx);
            return;
        }
        let (dest, operands) = (&inst.operands[0], &inst.operands[1..]);
        let value = self.compute(shape, inst, operands, span, cx);
        self.write(dest, value, cx);
    }

    /// A statement that could not be read: what it would have written is there, but nothing is said of it.
    pub(super) fn broken(&mut self, words: &[Name], span: Span, cx: &Cx<'_>) {
        let (first, dest) = (words.first(), words.get(1));
        if first.is_some_and(|word| word.node == "out") && self.out.is_none() {
            self.out = Some((self.poison(span), span));
        }
        let Some(dest) = dest else { return };
        let written = dest.span;
        match cx.scope.get(&dest.node) {
            Some((DeclaredName::State(id, _), _)) => self.states[id.0 as usize] = Some(self.poison(written)),
            Some((DeclaredName::WideState(id), _)) => {
                let value = self.poison(written);
                self.wide_states.insert(id, value);
            }
            Some(_) => {}
            None => {
                let value = self.poison(written);
                self.temps.insert(dest.node.clone(), Temp { value, written, read: true });
            }
        }
    }

    /// `export name`, `export name = op a, b`, `export name = register`, `export name = literal`.
    ///
    /// `in_body` tells an export among the body's statements from one in `finish`: there, registers of the
    /// body are not known, and a message says why.
    pub(super) fn export(
        &mut self,
        name: &Name,
        value: Option<&Spanned<ExportSource>>,
        in_body: bool,
        cx: &mut Cx<'_>,
    ) {
        if cx.exports.iter().any(|export| export.name == name.node) {
            let message = format!("`{}` is exported twice", name.node);
            cx.findings.push(Diagnostic::new(Code::DuplicateExport, name.span, message));
            return;
        }
        let before = cx.findings.len();
        let value = match value {
            None => {
                let known = matches!(
                    cx.scope.get(&name.node),
                    Some((DeclaredName::State(..) | DeclaredName::WideState(_) | DeclaredName::Broken, _))
                ) || self.temps.contains_key(&name.node);
                if !known {
                    cx.findings.push(unknown_export(name, in_body, cx.scope));
                    return;
                }
                Some(self.read_name(&name.node, name.span, cx))
            }
            Some(Spanned { node: ExportSource::Literal(literal), span }) => {
                Some(self.read(&Spanned { node: literal.clone(), span: *span }, cx))
            }
            Some(Spanned { node: ExportSource::Inst(inst), span })
                if inst.operands.is_empty() && inst.suffix.is_none() =>
            {
                Some(self.read_name(&inst.mnemonic.node, *span, cx))
            }
            Some(Spanned { node: ExportSource::Inst(inst), span }) => self.export_inst(inst, *span, cx),
        };
        let unknown = |found: &Diagnostic| found.code == Code::UnknownRegister;
        if in_body
            && cx.findings.since(before).iter().any(unknown)
            && let Some(last) = cx.findings.last_mut()
        {
            last.notes.push(
                "an export is computed once, at the end: from states, parameters and exports before it"
                    .into(),
            );
        }
        let Some(value) = value else { return };
        cx.exports.push(ir::Export { name: name.node.clone(), value });
        if cx.scope.get(&name.node).is_none() {
            self.temps.insert(name.node.clone(), Temp { value, written: name.span, read: true });
        }
    }

    /// The finished block, the states' new values and the word written.
    pub(super) fn done(mut self, cx: &mut Cx<'_>) -> (ir::Block, Vec<Value>, Option<Value>) {
        let next: Vec<Value> = if self.is_finish {
            Vec::new()
        } else {
            (0..self.states.len()).map(|at| self.state(StateId(at as u32), cx)).collect()
        };
        let mut unread: Vec<(&String, &Temp)> =
            self.temps.iter().filter(|(name, temp)| !temp.read && !name.starts_with('_')).collect();
        unread.sort_by_key(|(_, temp)| temp.written);
        for (name, temp) in unread {
            cx.findings.push(unused(name, temp.written));
        }
        self.solve(cx);
        let block = ir::Block { insts: self.typed(cx) };
        // Of code that is wrong there is more important to say.
        if cx.findings.errors() == self.errors_before {
            for (value, what, write) in by_hand::written_by_hand(&block) {
                let span = self.insts[value.0 as usize].2;
                let diagnostic = Diagnostic::new(Code::ByHand, span, format!("this is {what}"));
                cx.findings.push(diagnostic.help(format!("write {write}: what is said so runs as such")));
            }
        }
        (block, next, self.out.map(|(value, _)| value))
    }

    fn shape(&mut self, inst: &ast::Inst, cx: &mut Cx<'_>) -> Option<InstShape> {
        let name = &inst.mnemonic;
        let shape = InstShape::of(&name.node);
        match shape {
            None => {
                let message = format!("no instruction `{}`", name.node);
                let mut diagnostic = Diagnostic::new(Code::UnknownInstruction, name.span, message);
                if let Some(help) = foreign_mnemonic(&name.node) {
                    diagnostic = diagnostic.help(help);
                } else if let Some(near) = nearest(&name.node, mnemonics()) {
                    diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
                }
                cx.findings.push(diagnostic);
            }
            Some(InstShape::In | InstShape::Out | InstShape::Pos) if self.is_finish => {
                let message = format!("`{}` where there is no word", name.node);
                cx.findings.push(
                    Diagnostic::new(Code::NotHere, name.span, message)
                        .note("exports and `finish` are computed once, after the last word"),
                );
                return None;
            }
            _ => {}
        }
        shape
    }

    fn operand_count(&mut self, inst: &ast::Inst, span: Span, names: &[&str], cx: &mut Cx<'_>) -> bool {
        if inst.operands.len() == names.len() {
            return true;
        }
        let name = &inst.mnemonic.node;
        let count = match names.len() {
            1 => "1 operand".to_string(),
            n => format!("{n} operands"),
        };
        cx.findings.push(
            Diagnostic::new(
                Code::OperandCount,
                span,
                format!("`{name}` takes {count}, not {}", inst.operands.len()),
            )
            .help(format!("write `{name} {}`", names.join(", "))),
        );
        false
    }

    fn output(&mut self, inst: &ast::Inst, span: Span, cx: &mut Cx<'_>) {
        self.no_suffix(inst, cx);
        let operand = &inst.operands[0];
        let value = self.read(operand, cx);
        if let Some((_, first)) = self.out {
            cx.findings.push(
                Diagnostic::new(Code::Twice, span, "a second `out`")
                    .label(first, "the first")
                    .note("a pipe writes as many words as it reads: one"),
            );
            return;
        }
        let word = self.types.of(cx.output.ty, span);
        if self.types.join(self.var(value), word).is_err() {
            let found = self.ty_text(value);
            cx.findings.push(
                Diagnostic::new(
                    Code::TypeMismatch,
                    operand.span,
                    format!("a word of `{}` is `{}`", cx.output, cx.output.ty),
                )
                .here(format!("this is {found}"))
                .help("`zext`, `sext` or `trunc` changes the width"),
            );
        }
        self.out = Some((value, span));
    }

    fn export_inst(&mut self, inst: &ast::Inst, span: Span, cx: &mut Cx<'_>) -> Option<Value> {
        let shape = self.shape(inst, cx)?;
        if !self.operand_count(inst, span, &shape.operands()[1..], cx) {
            return None;
        }
        self.compute(shape, inst, &inst.operands, span, cx)
    }

    fn push(&mut self, op: Op, var: Var, span: Span, cx: &mut Cx<'_>) -> Value {
        if self.insts.len() >= limits::INSTRUCTIONS {
            if !std::mem::replace(&mut self.full, true) {
                let message = format!("more than {} instructions in one block", limits::INSTRUCTIONS);
                cx.findings.push(Diagnostic::new(Code::Limit, span, message));
            }
            // The findings say that nothing comes of it: any value will do.
            return Value(0);
        }
        self.insts.push((op, var, span));
        Value(self.insts.len() as u32 - 1)
    }

    fn poison(&mut self, span: Span) -> Value {
        let var = self.types.poisoned();
        if self.insts.len() >= limits::INSTRUCTIONS {
            return Value(0);
        }
        self.insts.push((Op::Const(0), var, span));
        Value(self.insts.len() as u32 - 1)
    }

    fn var(&self, value: Value) -> Var {
        self.insts[value.0 as usize].1
    }
}

fn unused(name: &str, span: Span) -> Diagnostic {
    Diagnostic::new(Code::UnusedRegister, span, format!("`{name}` is written and never read"))
        .help(format!("leave it out, or call it `_{name}`"))
}

fn unknown_export(name: &Name, in_body: bool, scope: &Scope) -> Diagnostic {
    let message = format!("no state `{}` to export", name.node);
    let mut diagnostic = Diagnostic::new(Code::UnknownExport, name.span, message);
    if in_body {
        diagnostic = diagnostic
            .note("an export is taken once, at the end, when the registers of the last word are gone")
            .help(format!("keep it in a state: `state {}: TYPE`", name.node));
    }
    let mut states: Vec<&str> = scope.names().collect();
    states.sort_unstable();
    if let Some(near) = nearest(&name.node, states) {
        diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
    }
    diagnostic
}
