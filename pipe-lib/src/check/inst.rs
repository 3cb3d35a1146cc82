//! Instructions of one block to SSA: each write makes a new value, each read takes the latest.

use super::pipe::FileTables;
use super::scope::{Declared, Scope};
use super::types::{Types, Var};
use super::{Findings, number_bits, out_of_range, parse_type};
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::ir::{
    self, BinaryOp, CompareOp, ConvertOp, CrcOp, Gauge, Inst, ModOp, Op, ParamId, StateId, TableId, Ty,
    UnaryOp, Value,
};
use crate::limits;
use crate::source::Span;
use crate::syntax::ast::{self, ExportValue, Expr, Name, Number, Spanned};
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
pub(super) struct Block {
    is_finish: bool,
    insts: Vec<(Op, Var, Span)>,
    types: Types,
    temps: HashMap<String, Temp>,
    /// The latest value of each state, once read or written.
    states: Vec<Option<Value>>,
    params: HashMap<ParamId, Value>,
    checks: Vec<(Value, Check)>,
    input: Option<Span>,
    out: Option<(Value, Span)>,
    full: bool,
}

/// What an instruction is, and so which operands it takes.
#[derive(Clone, Copy)]
enum Shape {
    In,
    Out,
    Pos,
    Mov,
    Unary(UnaryOp),
    Binary(BinaryOp),
    Compare(CompareOp),
    Select,
    Modular(ModOp),
    Convert(ConvertOp),
    Lookup,
    Crc(CrcOp),
}

const SPECIAL: [(&str, Shape); 6] = [
    ("in", Shape::In),
    ("out", Shape::Out),
    ("pos", Shape::Pos),
    ("mov", Shape::Mov),
    ("sel", Shape::Select),
    ("lookup", Shape::Lookup),
];

impl Shape {
    fn of(name: &str) -> Option<Shape> {
        let special = SPECIAL.iter().find(|(special, _)| *special == name).map(|(_, shape)| *shape);
        special
            .or_else(|| UnaryOp::from_name(name).map(Shape::Unary))
            .or_else(|| BinaryOp::from_name(name).map(Shape::Binary))
            .or_else(|| CompareOp::from_name(name).map(Shape::Compare))
            .or_else(|| ModOp::from_name(name).map(Shape::Modular))
            .or_else(|| ConvertOp::from_name(name).map(Shape::Convert))
            .or_else(|| CrcOp::from_name(name).map(Shape::Crc))
    }

    /// Names of the operands, destination first.
    fn operands(self) -> &'static [&'static str] {
        match self {
            Shape::In | Shape::Pos => &["d"],
            Shape::Out => &["a"],
            Shape::Mov | Shape::Unary(_) | Shape::Convert(_) => &["d", "a"],
            Shape::Binary(_) | Shape::Compare(_) => &["d", "a", "b"],
            Shape::Select => &["d", "cond", "a", "b"],
            Shape::Modular(_) => &["d", "a", "b", "m"],
            Shape::Lookup => &["d", "table", "i"],
            Shape::Crc(_) => &["d", "acc", "x"],
        }
    }
}

/// All mnemonics, for suggestions.
fn mnemonics() -> impl Iterator<Item = &'static str> {
    (SPECIAL.iter().map(|(name, _)| *name))
        .chain(UnaryOp::ALL.iter().map(|op| op.name()))
        .chain(BinaryOp::ALL.iter().map(|op| op.name()))
        .chain(CompareOp::ALL.iter().map(|op| op.name()))
        .chain(ModOp::ALL.iter().map(|op| op.name()))
        .chain(ConvertOp::ALL.iter().map(|op| op.name()))
        .chain(CrcOp::ALL.iter().map(|op| op.name()))
}

impl Block {
    /// The block that runs once a word.
    pub(super) fn body(cx: &Cx<'_>) -> Block {
        Block::new(false, cx)
    }

    /// The block that runs once at the end.
    pub(super) fn finish(cx: &Cx<'_>) -> Block {
        Block::new(true, cx)
    }

    fn new(is_finish: bool, cx: &Cx<'_>) -> Block {
        Block {
            is_finish,
            insts: Vec::new(),
            types: Types::default(),
            temps: HashMap::new(),
            states: vec![None; cx.states.len()],
            params: HashMap::new(),
            checks: Vec::new(),
            input: None,
            out: None,
            full: false,
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
        if let Shape::Out = shape {
            self.output(inst, span, cx);
            return;
        }
        let (dest, operands) = (&inst.operands[0], &inst.operands[1..]);
        let value = self.compute(shape, inst, operands, span, cx);
        self.write(dest, value, cx);
    }

    /// `export name`, `export name = op a, b`, `export name = register`, `export name = literal`.
    ///
    /// `in_body` tells an export among the body's statements from one in `finish`: there, registers of the body are
    /// not known, and a message says why.
    pub(super) fn export(
        &mut self,
        name: &Name,
        value: Option<&Spanned<ExportValue>>,
        in_body: bool,
        cx: &mut Cx<'_>,
    ) {
        if cx.exports.iter().any(|export| export.name == name.node) {
            let message = format!("`{}` is exported twice", name.node);
            cx.findings.push(Diagnostic::new(Code::DuplicateExport, name.span, message));
            return;
        }
        let before = cx.findings.list.len();
        let value = match value {
            None => {
                let known =
                    matches!(cx.scope.get(&name.node), Some((Declared::State(..) | Declared::Broken, _)))
                        || self.temps.contains_key(&name.node);
                if !known {
                    cx.findings.push(unknown_export(name, in_body, cx.scope));
                    return;
                }
                Some(self.read_name(&name.node, name.span, cx))
            }
            Some(Spanned { node: ExportValue::Literal(literal), span }) => {
                Some(self.read(&Spanned { node: literal.clone(), span: *span }, cx))
            }
            Some(Spanned { node: ExportValue::Inst(inst), span })
                if inst.operands.is_empty() && inst.suffix.is_none() =>
            {
                Some(self.read_name(&inst.mnemonic.node, *span, cx))
            }
            Some(Spanned { node: ExportValue::Inst(inst), span }) => self.export_inst(inst, *span, cx),
        };
        let unknown = |found: &Diagnostic| found.code == Code::UnknownRegister;
        if in_body
            && cx.findings.list.iter().skip(before).any(unknown)
            && let Some(last) = cx.findings.list.last_mut()
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
        let types = &mut self.types;
        let insts =
            self.insts.iter().map(|(op, var, _)| Inst { op: *op, ty: types.get(*var).unwrap_or(Ty::U64) });
        (ir::Block { insts: insts.collect() }, next, self.out.map(|(value, _)| value))
    }

    fn shape(&mut self, inst: &ast::Inst, cx: &mut Cx<'_>) -> Option<Shape> {
        let name = &inst.mnemonic;
        let shape = Shape::of(&name.node);
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
            Some(Shape::In | Shape::Out | Shape::Pos) if self.is_finish => {
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

    /// The value of an instruction, operands without the destination.
    fn compute(
        &mut self,
        shape: Shape,
        inst: &ast::Inst,
        operands: &[Spanned<Expr>],
        span: Span,
        cx: &mut Cx<'_>,
    ) -> Option<Value> {
        let name = &inst.mnemonic.node;
        match shape {
            Shape::In => {
                self.no_suffix(inst, cx);
                if let Some(first) = self.input.replace(span) {
                    cx.findings.push(
                        Diagnostic::new(Code::Twice, span, "a second `in`").label(first, "the first").note(
                            "a pipe reads one word at a time; take a wider gauge to see more of the stream",
                        ),
                    );
                    return None;
                }
                let var = self.types.of(cx.input.ty, span);
                Some(self.push(Op::In, var, span, cx))
            }
            Shape::Pos => {
                self.no_suffix(inst, cx);
                let var = self.types.of(Ty::U64, span);
                Some(self.push(Op::Pos, var, span, cx))
            }
            Shape::Out => None,
            Shape::Mov => {
                let value = self.read(&operands[0], cx);
                self.suffix(inst, value, cx);
                Some(value)
            }
            Shape::Unary(op) => {
                let a = self.read(&operands[0], cx);
                let value = self.push(Op::Unary(op, a), self.var(a), span, cx);
                self.suffix(inst, value, cx);
                if op != UnaryOp::Not {
                    self.integer(value, span, name);
                }
                Some(value)
            }
            Shape::Binary(op) => {
                let (a, b) = (self.read(&operands[0], cx), self.read(&operands[1], cx));
                self.same(name, (a, &operands[0]), (b, &operands[1]), cx);
                let value = self.push(Op::Binary(op, a, b), self.var(a), span, cx);
                self.suffix(inst, value, cx);
                if !matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor) {
                    self.integer(value, span, name);
                }
                Some(value)
            }
            Shape::Compare(op) => {
                let (a, b) = (self.read(&operands[0], cx), self.read(&operands[1], cx));
                self.same(name, (a, &operands[0]), (b, &operands[1]), cx);
                self.suffix(inst, a, cx);
                if !matches!(op, CompareOp::Eq | CompareOp::Ne) {
                    self.integer(a, span, name);
                }
                let var = self.types.of(Ty::Bool, span);
                Some(self.push(Op::Compare(op, a, b), var, span, cx))
            }
            Shape::Select => {
                let cond = self.read(&operands[0], cx);
                self.must_be(Ty::Bool, name, (cond, &operands[0]), cx);
                let (then, otherwise) = (self.read(&operands[1], cx), self.read(&operands[2], cx));
                self.same(name, (then, &operands[1]), (otherwise, &operands[2]), cx);
                let value = self.push(Op::Select { cond, then, otherwise }, self.var(then), span, cx);
                self.suffix(inst, value, cx);
                Some(value)
            }
            Shape::Modular(op) => {
                let (a, b) = (self.read(&operands[0], cx), self.read(&operands[1], cx));
                let m = self.read(&operands[2], cx);
                self.same(name, (a, &operands[0]), (b, &operands[1]), cx);
                self.same(name, (a, &operands[0]), (m, &operands[2]), cx);
                let value = self.push(Op::Modular(op, a, b, m), self.var(a), span, cx);
                self.suffix(inst, value, cx);
                self.integer(value, span, name);
                Some(value)
            }
            Shape::Convert(op) => {
                let a = self.read(&operands[0], cx);
                let var = self.types.fresh();
                let value = self.push(Op::Convert(op, a), var, span, cx);
                self.suffix(inst, value, cx);
                self.checks.push((value, Check::Convert(span, op, a)));
                Some(value)
            }
            Shape::Lookup => {
                self.no_suffix(inst, cx);
                let table = self.table(&operands[0], cx);
                let index = self.read(&operands[1], cx);
                self.integer(index, operands[1].span, name);
                let (id, ty) = table?;
                let var = self.types.of(ty, span);
                Some(self.push(Op::Lookup(id, index), var, span, cx))
            }
            Shape::Crc(op) => {
                self.no_suffix(inst, cx);
                let (acc, x) = (self.read(&operands[0], cx), self.read(&operands[1], cx));
                self.must_be(Ty::U32, name, (acc, &operands[0]), cx);
                self.integer(x, operands[1].span, name);
                let var = self.types.of(Ty::U32, span);
                Some(self.push(Op::Crc(op, acc, x), var, span, cx))
            }
        }
    }

    fn read(&mut self, expr: &Spanned<Expr>, cx: &mut Cx<'_>) -> Value {
        match &expr.node {
            Expr::Name(name) => self.read_name(name, expr.span, cx),
            Expr::Bool(value) => {
                let var = self.types.of(Ty::Bool, expr.span);
                self.push(Op::Const(u64::from(*value)), var, expr.span, cx)
            }
            Expr::Number(number) => {
                let var = self.types.fresh();
                let value = self.push(Op::Const(0), var, expr.span, cx);
                self.checks.push((value, Check::Literal(expr.span, number.clone())));
                value
            }
        }
    }

    fn read_name(&mut self, name: &str, span: Span, cx: &mut Cx<'_>) -> Value {
        if let Some(temp) = self.temps.get_mut(name) {
            temp.read = true;
            return temp.value;
        }
        let table = |diagnostics: &mut Findings| {
            diagnostics.push(
                Diagnostic::new(Code::UnknownRegister, span, format!("`{name}` is a table, not a register"))
                    .help(format!("write `lookup d, {name}, i`")),
            );
        };
        match cx.scope.get(name) {
            Some((Declared::State(id, _), _)) => self.state(id, cx),
            Some((Declared::Param(id, ty), declared)) => {
                cx.used_params[id.0 as usize] = true;
                if let Some(value) = self.params.get(&id) {
                    return *value;
                }
                let var = self.types.of(ty, declared);
                let value = self.push(Op::Param(id), var, span, cx);
                self.params.insert(id, value);
                value
            }
            Some((Declared::Table(_), _)) => {
                table(cx.findings);
                self.poison(span)
            }
            Some((Declared::Broken, _)) => self.poison(span),
            None => {
                if cx.file_tables.contains_key(name) {
                    table(cx.findings);
                } else {
                    let message = format!("`{name}` holds nothing here");
                    let mut diagnostic = Diagnostic::new(Code::UnknownRegister, span, message)
                        .here("read before anything is written to it");
                    let known = self.temps.keys().map(String::as_str).chain(cx.scope.names());
                    let mut known: Vec<&str> = known.collect();
                    known.sort_unstable();
                    if let Some(near) = nearest(name, known) {
                        diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
                    } else if Shape::of(name).is_none() {
                        diagnostic = diagnostic
                            .help(format!("to keep it from word to word, declare `state {name}: TYPE`"));
                    }
                    cx.findings.push(diagnostic);
                }
                // Said once.
                let value = self.poison(span);
                self.temps.insert(name.to_string(), Temp { value, written: span, read: true });
                value
            }
        }
    }

    /// Writes to a register; `None` for a value that could not be made.
    fn write(&mut self, dest: &Spanned<Expr>, value: Option<Value>, cx: &mut Cx<'_>) {
        let refuse = |what: String, cx: &mut Cx<'_>| {
            let message = format!("{what} cannot be written");
            cx.findings.push(
                Diagnostic::new(Code::NotWritable, dest.span, message).note("the destination comes first"),
            );
        };
        let Expr::Name(name) = &dest.node else {
            refuse("a number".to_string(), cx);
            return;
        };
        let value = match value {
            Some(value) => value,
            None => self.poison(dest.span),
        };
        match cx.scope.get(name) {
            Some((Declared::State(id, ty), declared)) => {
                if self.is_finish {
                    let message = format!("state `{name}` is final here");
                    cx.findings.push(
                        Diagnostic::new(Code::NotHere, dest.span, message)
                            .help("write to a register of another name"),
                    );
                    return;
                }
                let var = self.types.of(ty, declared);
                if self.types.join(var, self.var(value)).is_err() {
                    let found = self.ty_text(value);
                    cx.findings.push(
                        Diagnostic::new(
                            Code::TypeMismatch,
                            dest.span,
                            format!("`{name}` is `{ty}`, the value is {found}"),
                        )
                        .here(format!("cannot hold {found}"))
                        .label(declared, "declared here")
                        .help("`zext`, `sext` or `trunc` changes the width"),
                    );
                    self.states[id.0 as usize] = Some(self.poison(dest.span));
                } else {
                    self.states[id.0 as usize] = Some(value);
                }
            }
            Some((Declared::Param(..), _)) => refuse(format!("parameter `{name}`"), cx),
            Some((Declared::Table(_), _)) => refuse(format!("table `{name}`"), cx),
            Some((Declared::Broken, _)) => {}
            None => {
                let read = self.types.is_poisoned(self.var(value));
                let earlier = self.temps.insert(name.clone(), Temp { value, written: dest.span, read });
                if let Some(earlier) = earlier.filter(|earlier| !earlier.read && !name.starts_with('_')) {
                    cx.findings.push(unused(name, earlier.written));
                }
            }
        }
    }

    fn state(&mut self, id: StateId, cx: &mut Cx<'_>) -> Value {
        if let Some(value) = self.states[id.0 as usize] {
            return value;
        }
        let (state, declared) = &cx.states[id.0 as usize];
        let var = self.types.of(state.ty, *declared);
        let value = self.push(Op::State(id), var, *declared, cx);
        self.states[id.0 as usize] = Some(value);
        value
    }

    fn table(&mut self, operand: &Spanned<Expr>, cx: &mut Cx<'_>) -> Option<(TableId, Ty)> {
        let Expr::Name(name) = &operand.node else {
            cx.findings.push(Diagnostic::new(Code::UnknownTable, operand.span, "a number is no table"));
            return None;
        };
        match cx.scope.get(name) {
            Some((Declared::Table(id), _)) => return Some((id, cx.tables[id.0 as usize].ty)),
            Some((Declared::Broken, _)) => return None,
            Some(_) => {}
            None => {
                if let Some(table) = cx.file_tables.get(name) {
                    let table = table.as_ref()?;
                    let known = cx.tables.iter().position(|known| known.name == *name);
                    let at = known.unwrap_or_else(|| {
                        cx.tables.push(table.clone());
                        cx.tables.len() - 1
                    });
                    return Some((TableId(at as u32), table.ty));
                }
            }
        }
        let message = format!("no table `{name}`");
        let mut diagnostic = Diagnostic::new(Code::UnknownTable, operand.span, message);
        let mut known: Vec<&str> = cx.file_tables.keys().map(String::as_str).collect();
        known.extend(cx.tables.iter().map(|table| table.name.as_str()));
        known.sort_unstable();
        diagnostic = match nearest(name, known) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help(format!("declare it: `table {name}: u8 = [..]`")),
        };
        cx.findings.push(diagnostic);
        None
    }

    /// Says that two operands have one type.
    fn same(
        &mut self,
        mnemonic: &str,
        (a, a_expr): (Value, &Spanned<Expr>),
        (b, b_expr): (Value, &Spanned<Expr>),
        cx: &mut Cx<'_>,
    ) {
        let Err(clash) = self.types.join(self.var(a), self.var(b)) else { return };
        let ((left, left_from), (right, right_from)) = (clash.left, clash.right);
        let mut diagnostic = Diagnostic::new(
            Code::TypeMismatch,
            b_expr.span,
            format!("`{mnemonic}` of `{left}` and `{right}`"),
        )
        .here(format!("`{right}`"))
        .label(a_expr.span, format!("`{left}`"));
        if left_from != a_expr.span {
            diagnostic = diagnostic.label(left_from, format!("`{left}` comes from here"));
        }
        if right_from != b_expr.span {
            diagnostic = diagnostic.label(right_from, format!("`{right}` comes from here"));
        }
        let diagnostic = match (left, right) {
            (Ty::Bool, _) | (_, Ty::Bool) => {
                diagnostic.help("`zext` makes 0 or 1 of a `bool`, `ne d, a, 0` a `bool` of a number")
            }
            _ => {
                let (wide, narrow) = (left.max(right), left.min(right));
                diagnostic.help(format!(
                    "widths never mix silently: `zext.{wide}` widens, `trunc.{narrow}` narrows"
                ))
            }
        };
        cx.findings.push(diagnostic);
        self.types.poison(self.var(a));
    }

    fn must_be(&mut self, ty: Ty, mnemonic: &str, (value, expr): (Value, &Spanned<Expr>), cx: &mut Cx<'_>) {
        let wanted = self.types.of(ty, expr.span);
        if self.types.join(self.var(value), wanted).is_err() {
            let found = self.ty_text(value);
            let mut diagnostic = Diagnostic::new(
                Code::TypeMismatch,
                expr.span,
                format!("`{mnemonic}` needs `{ty}` here, not {found}"),
            );
            if ty == Ty::Bool {
                diagnostic = diagnostic.help("compare first: `ne cond, a, 0`");
            }
            cx.findings.push(diagnostic);
        }
    }

    fn suffix(&mut self, inst: &ast::Inst, value: Value, cx: &mut Cx<'_>) {
        let Some(suffix) = &inst.suffix else { return };
        let Some(ty) = parse_type(&suffix.node) else {
            super::type_of_name(suffix, cx.findings);
            self.types.poison(self.var(value));
            return;
        };
        let wanted = self.types.of(ty, suffix.span);
        if self.types.join(self.var(value), wanted).is_err() {
            let found = self.ty_text(value);
            cx.findings.push(
                Diagnostic::new(Code::TypeMismatch, suffix.span, format!("`.{ty}` on operands of {found}"))
                    .help("`zext`, `sext` or `trunc` changes the width"),
            );
        }
    }

    fn no_suffix(&mut self, inst: &ast::Inst, cx: &mut Cx<'_>) {
        if let Some(suffix) = &inst.suffix {
            let name = &inst.mnemonic.node;
            cx.findings.push(
                Diagnostic::new(Code::BadSuffix, suffix.span, format!("`{name}` takes no type"))
                    .help("leave it out: the type follows from the gauge, the table or the instruction"),
            );
        }
    }

    fn integer(&mut self, value: Value, span: Span, mnemonic: &str) {
        self.checks.push((value, Check::Integer(span, mnemonic.to_string())));
    }

    /// Puts the types in, now that all is said, and checks what hung on them.
    fn solve(&mut self, cx: &mut Cx<'_>) {
        for at in 0..self.insts.len() {
            let (_, var, span) = self.insts[at];
            if self.types.get(var).is_some() || self.types.is_poisoned(var) {
                continue;
            }
            let convert = matches!(self.insts[at].0, Op::Convert(..));
            let what = if convert {
                "nothing says how wide the result is"
            } else {
                "nothing says which type this has"
            };
            cx.findings.push(
                Diagnostic::new(Code::UnknownOperandType, span, what)
                    .help("write the type after the instruction, as in `mov.u32 d, 1` or `zext.u32 d, a`"),
            );
            self.types.poison(var);
        }
        for (value, check) in std::mem::take(&mut self.checks) {
            let var = self.var(value);
            if self.types.is_poisoned(var) {
                continue;
            }
            let Some(ty) = self.types.get(var) else { continue };
            match check {
                Check::Integer(span, name) if ty == Ty::Bool => cx.findings.push(
                    Diagnostic::new(Code::WrongKind, span, format!("`{name}` does not take `bool`"))
                        .help("`zext` makes 0 or 1 of a `bool`"),
                ),
                Check::Integer(..) => {}
                Check::Literal(span, _) if ty == Ty::Bool => cx.findings.push(
                    Diagnostic::new(Code::TypeMismatch, span, "a number where `bool` is needed")
                        .help("write `true` or `false`"),
                ),
                Check::Literal(span, number) => match number_bits(&number, ty) {
                    Some(bits) => self.insts[value.0 as usize].0 = Op::Const(bits),
                    None => cx.findings.push(out_of_range(span, &number, ty)),
                },
                Check::Convert(span, op, from) => {
                    let from = self.var(from);
                    if self.types.is_poisoned(from) {
                        continue;
                    }
                    let Some(from) = self.types.get(from) else { continue };
                    let fine = match op {
                        ConvertOp::Zext | ConvertOp::Sext => from < ty,
                        ConvertOp::Trunc => ty < from,
                    };
                    if !fine {
                        let wants = if op == ConvertOp::Trunc { "narrower" } else { "wider" };
                        let message = format!("`{}` from `{from}` to `{ty}`", op.name());
                        let diagnostic = Diagnostic::new(Code::BadConversion, span, message)
                            .note(format!("`{}` makes a {wants} type", op.name()));
                        cx.findings.push(diagnostic.help(match (op, from == ty) {
                            (_, true) => "the type is the same: write `mov`, or use the register itself",
                            (ConvertOp::Trunc, _) => "write `zext` or `sext` to widen",
                            _ => "write `trunc` to narrow",
                        }));
                    }
                }
            }
        }
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

    fn ty_text(&mut self, value: Value) -> String {
        self.types.get(self.var(value)).map_or("of another type".to_string(), |ty| format!("`{ty}`"))
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

/// What other assemblers call our instructions.
fn foreign_mnemonic(name: &str) -> Option<String> {
    let ours = match name {
        "move" | "ld" | "ldi" | "li" | "set" | "let" | "const" => "mov",
        "adc" | "addcarry" | "add_c" => "addc",
        "lsl" | "sll" | "shift_left" => "shl",
        "lsr" | "srl" => "shr",
        "asr" | "sra" => "sar",
        "rol" => "rotl",
        "ror" => "rotr",
        "eor" => "xor",
        "cmp" => return Some("comparisons are `eq ne ltu leu lts les` and give a `bool`".to_string()),
        "gtu" | "geu" | "gts" | "ges" | "gt" | "ge" | "lt" | "le" => {
            return Some(
                "write `ltu`, `leu` (unsigned), `lts` or `les` (signed), with the operands in that order"
                    .into(),
            );
        }
        "select" | "cmov" | "if" => "sel",
        "popcount" | "cnt" => "popcnt",
        "ctlz" | "lzcnt" => "clz",
        "cttz" | "tzcnt" => "ctz",
        "rbit" | "bitreverse" => "bitrev",
        "rev" | "byteswap" | "swap" => "bswap",
        "uxt" | "zx" | "uext" => "zext",
        "sxt" | "sx" => "sext",
        "pmul" | "pclmul" => "clmul",
        "read" | "input" | "get" => "in",
        "write" | "output" | "put" => "out",
        "div" | "mod" | "rem" => {
            return Some("there is no division; `addmod` and `mulmod` reduce by a modulus".to_string());
        }
        "load" | "store" | "jmp" | "br" | "call" | "loop" => {
            return Some(
                "a pipe has no memory operands, branches or calls; `lookup` reads a constant table"
                    .to_string(),
            );
        }
        _ => return None,
    };
    Some(format!("write `{ours}`"))
}
