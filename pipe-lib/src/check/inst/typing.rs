//! What instructions demand of their operands' types, and what can be checked once types are known.

use super::{BlockDraft, Check, Cx};
use crate::check::{number_bits, out_of_range, parse_type, type_of_name};
use crate::diagnostic::{Code, Diagnostic};
use crate::ir::{ConvertOp, Inst, Op, Ty, Value, WideBinary, WideUnary};
use crate::source::Span;
use crate::syntax::ast::{self, Expr, Spanned};

impl BlockDraft {
    /// Says that two operands have one type.
    pub(super) fn same(
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

    pub(super) fn must_be(
        &mut self,
        ty: Ty,
        mnemonic: &str,
        (value, expr): (Value, &Spanned<Expr>),
        cx: &mut Cx<'_>,
    ) {
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

    pub(super) fn suffix(&mut self, inst: &ast::Inst, value: Value, cx: &mut Cx<'_>) {
        let Some(suffix) = &inst.suffix else { return };
        let Some(ty) = parse_type(&suffix.node) else {
            type_of_name(suffix, cx.findings);
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

    pub(super) fn no_suffix(&mut self, inst: &ast::Inst, cx: &mut Cx<'_>) {
        if let Some(suffix) = &inst.suffix {
            let name = &inst.mnemonic.node;
            cx.findings.push(
                Diagnostic::new(Code::BadSuffix, suffix.span, format!("`{name}` takes no type"))
                    .help("leave it out: the type follows from the gauge, the table or the instruction"),
            );
        }
    }

    pub(super) fn integer(&mut self, value: Value, span: Span, mnemonic: &str) {
        self.checks.push((value, Check::Integer(span, mnemonic.to_string())));
    }

    /// Puts the types in, now that all is said, and checks what hung on them.
    pub(super) fn solve(&mut self, cx: &mut Cx<'_>) {
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
                    None => {
                        let fits = |wider: &Ty| *wider > ty && number_bits(&number, *wider).is_some();
                        let wider = Ty::INTEGERS.into_iter().find(fits);
                        let refused = out_of_range(span, &number, ty);
                        cx.findings.push(match wider {
                            // Whatever is computed with it is of one type.
                            Some(wider) => refused.help(format!(
                                "for numbers of `{wider}` widen the other operands: `zext.{wider} w, a`, and compute with `w`"
                            )),
                            None => refused,
                        });
                    }
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

    /// The instructions with their types; those on 128 bits by their own names.
    pub(super) fn typed(&mut self, cx: &mut Cx<'_>) -> Vec<Inst> {
        let vars: Vec<_> = self.insts.iter().map(|(_, var, _)| *var).collect();
        let types: Vec<Ty> = vars.into_iter().map(|var| self.types.get(var).unwrap_or(Ty::U64)).collect();
        let mut typed = Vec::with_capacity(types.len());
        for (&(op, _, span), &ty) in self.insts.iter().zip(&types) {
            let wide = |value: Value| types[value.0 as usize] == Ty::U128;
            let (name, op) = match op {
                Op::Unary(narrow, a) if wide(a) => {
                    (narrow.name(), WideUnary::of(narrow).map(|op| Op::WideUnary(op, a)))
                }
                Op::Binary(narrow, a, b) if wide(a) || wide(b) => {
                    (narrow.name(), WideBinary::of(narrow).map(|op| Op::WideBinary(op, a, b)))
                }
                Op::Convert(narrow, a) if wide(a) || ty == Ty::U128 => {
                    let bools = ty == Ty::Bool || types[a.0 as usize] == Ty::Bool;
                    let op = match narrow {
                        ConvertOp::Zext if !bools => Some(WideUnary::Zext),
                        ConvertOp::Trunc if !bools => Some(WideUnary::Trunc),
                        _ => None,
                    };
                    (narrow.name(), op.map(|op| Op::WideUnary(op, a)))
                }
                Op::Compare(narrow, a, _) if wide(a) => (narrow.name(), None),
                Op::Select { then, .. } if wide(then) => ("sel", None),
                Op::Modular(narrow, a, ..) if wide(a) => (narrow.name(), None),
                Op::Lookup(_, index) if wide(index) => ("lookup", None),
                Op::Crc(narrow, _, x) if wide(x) => (narrow.name(), None),
                op => ("", Some(op)),
            };
            let op = op.unwrap_or_else(|| {
                cx.findings.push(
                    Diagnostic::new(Code::WrongKind, span, format!("`{name}` does not take `u128`"))
                        .note(
                            "of 128 bits there are and, or, xor, not, add, sub, shl, shr, bswap, clmul, zext, trunc, \
                             aesenc, aesenclast, aesdec, aesdeclast and gfmul128",
                        )
                        .help("`trunc.u64 l, a` and `high h, a` are its halves, `pair d, h, l` puts them together"),
                );
                Op::Const(0)
            });
            typed.push(Inst { op, ty });
        }
        typed
    }

    pub(super) fn ty_text(&mut self, value: Value) -> String {
        self.types.get(self.var(value)).map_or("of another type".to_string(), |ty| format!("`{ty}`"))
    }
}
