//! Reading and writing registers by name.

use super::shape::InstShape;
use super::{BlockDraft, Check, Cx, Temp, unused};
use crate::check::Findings;
use crate::check::scope::DeclaredName;
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::ir::{Op, StateId, TableId, Ty, Value, WideBinary, WideUnary};
use crate::source::Span;
use crate::syntax::ast::{Expr, Spanned};

impl BlockDraft {
    pub(super) fn read(&mut self, expr: &Spanned<Expr>, cx: &mut Cx<'_>) -> Value {
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

    pub(super) fn read_name(&mut self, name: &str, span: Span, cx: &mut Cx<'_>) -> Value {
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
            Some((DeclaredName::State(id, _), _)) => self.state(id, cx),
            Some((DeclaredName::WideState(id), declared)) => {
                if let Some(value) = self.wide_states.get(&id) {
                    return *value;
                }
                let (low, high) = (self.state(id, cx), self.state(StateId(id.0 + 1), cx));
                let var = self.types.of(Ty::U128, declared);
                let value = self.push(Op::WideBinary(WideBinary::Pair, high, low), var, span, cx);
                self.wide_states.insert(id, value);
                value
            }
            Some((DeclaredName::Param(id, ty), declared)) => {
                cx.used_params[id.0 as usize] = true;
                if let Some(value) = self.params.get(&id) {
                    return *value;
                }
                let var = self.types.of(ty, declared);
                let value = self.push(Op::Param(id), var, span, cx);
                self.params.insert(id, value);
                value
            }
            Some((DeclaredName::Table(_), _)) => {
                table(cx.findings);
                self.poison(span)
            }
            Some((DeclaredName::Broken, _)) => self.poison(span),
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
                    } else if InstShape::of(name).is_none() {
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
    pub(super) fn write(&mut self, dest: &Spanned<Expr>, value: Option<Value>, cx: &mut Cx<'_>) {
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
            Some((DeclaredName::State(id, ty), declared)) => {
                if let Some(value) = self.new_state((name, id), ty, value, (dest.span, declared), cx) {
                    self.states[id.0 as usize] = Some(value);
                }
            }
            Some((DeclaredName::WideState(id), declared)) => {
                let Some(value) = self.new_state((name, id), Ty::U128, value, (dest.span, declared), cx)
                else {
                    return;
                };
                self.wide_states.insert(id, value);
                for (half, op) in [WideUnary::Trunc, WideUnary::High].into_iter().enumerate() {
                    let var = self.types.of(Ty::U64, declared);
                    let value = self.push(Op::WideUnary(op, value), var, dest.span, cx);
                    self.states[id.0 as usize + half] = Some(value);
                }
            }
            Some((DeclaredName::Param(..), _)) => refuse(format!("parameter `{name}`"), cx),
            Some((DeclaredName::Table(_), _)) => refuse(format!("table `{name}`"), cx),
            Some((DeclaredName::Broken, _)) => {}
            None => {
                let read = self.types.is_poisoned(self.var(value));
                let earlier = self.temps.insert(name.clone(), Temp { value, written: dest.span, read });
                if let Some(earlier) = earlier.filter(|earlier| !earlier.read && !name.starts_with('_')) {
                    cx.findings.push(unused(name, earlier.written));
                }
            }
        }
    }

    /// What a state becomes where `value` is written to it: that, or what says nothing more if it does not
    /// fit. `None` where states are not written at all.
    fn new_state(
        &mut self,
        (name, id): (&str, StateId),
        ty: Ty,
        value: Value,
        (span, declared): (Span, Span),
        cx: &mut Cx<'_>,
    ) -> Option<Value> {
        if self.is_finish {
            let message = format!("state `{name}` is final here");
            cx.findings.push(
                Diagnostic::new(Code::NotHere, span, message).help("write to a register of another name"),
            );
            return None;
        }
        if cx.states[id.0 as usize].0.secret {
            let message = format!("secret state `{name}` cannot be written");
            cx.findings.push(
                Diagnostic::new(Code::NotWritable, span, message)
                    .label(declared, "declared here")
                    .note("it is what was imported, for the whole of a run"),
            );
            return None;
        }
        let var = self.types.of(ty, declared);
        if self.types.join(var, self.var(value)).is_ok() {
            return Some(value);
        }
        let found = self.ty_text(value);
        cx.findings.push(
            Diagnostic::new(Code::TypeMismatch, span, format!("`{name}` is `{ty}`, the value is {found}"))
                .here(format!("cannot hold {found}"))
                .label(declared, "declared here")
                .help("`zext`, `sext` or `trunc` changes the width"),
        );
        Some(self.poison(span))
    }

    pub(super) fn state(&mut self, id: StateId, cx: &mut Cx<'_>) -> Value {
        if let Some(value) = self.states[id.0 as usize] {
            return value;
        }
        let (state, declared) = &cx.states[id.0 as usize];
        let var = self.types.of(state.ty, *declared);
        let value = self.push(Op::State(id), var, *declared, cx);
        self.states[id.0 as usize] = Some(value);
        value
    }

    pub(super) fn table(&mut self, operand: &Spanned<Expr>, cx: &mut Cx<'_>) -> Option<(TableId, Ty)> {
        let Expr::Name(name) = &operand.node else {
            cx.findings.push(Diagnostic::new(Code::UnknownTable, operand.span, "a number is no table"));
            return None;
        };
        match cx.scope.get(name) {
            Some((DeclaredName::Table(id), _)) => return Some((id, cx.tables[id.0 as usize].ty)),
            Some((DeclaredName::Broken, _)) => return None,
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
}
