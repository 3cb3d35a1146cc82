//! The value of each kind of instruction, and what its operands' types have to do with each other.

use super::shape::InstShape;
use super::{BlockDraft, Check, Cx};
use crate::diagnostic::{Code, Diagnostic};
use crate::ir::{BinaryOp, CompareOp, Op, Ty, UnaryOp, Value, WideBinary, WideUnary};
use crate::source::Span;
use crate::syntax::ast::{self, Expr, Spanned};

impl BlockDraft {
    /// The value of an instruction, operands without the destination.
    pub(super) fn compute(
        &mut self,
        shape: InstShape,
        inst: &ast::Inst,
        operands: &[Spanned<Expr>],
        span: Span,
        cx: &mut Cx<'_>,
    ) -> Option<Value> {
        let name = &inst.mnemonic.node;
        match shape {
            InstShape::In => {
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
            InstShape::Pos => {
                self.no_suffix(inst, cx);
                let var = self.types.of(Ty::U64, span);
                Some(self.push(Op::Pos, var, span, cx))
            }
            InstShape::Out => None,
            InstShape::Mov => {
                let value = self.read(&operands[0], cx);
                self.suffix(inst, value, cx);
                Some(value)
            }
            InstShape::Unary(op) => {
                let a = self.read(&operands[0], cx);
                let value = self.push(Op::Unary(op, a), self.var(a), span, cx);
                self.suffix(inst, value, cx);
                if op != UnaryOp::Not {
                    self.integer(value, span, name);
                }
                Some(value)
            }
            InstShape::Binary(op) => {
                let (a, b) = (self.read(&operands[0], cx), self.read(&operands[1], cx));
                self.same(name, (a, &operands[0]), (b, &operands[1]), cx);
                let value = self.push(Op::Binary(op, a, b), self.var(a), span, cx);
                self.suffix(inst, value, cx);
                if !matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor) {
                    self.integer(value, span, name);
                }
                Some(value)
            }
            InstShape::Compare(op) => {
                let (a, b) = (self.read(&operands[0], cx), self.read(&operands[1], cx));
                self.same(name, (a, &operands[0]), (b, &operands[1]), cx);
                self.suffix(inst, a, cx);
                if !matches!(op, CompareOp::Eq | CompareOp::Ne) {
                    self.integer(a, span, name);
                }
                let var = self.types.of(Ty::Bool, span);
                Some(self.push(Op::Compare(op, a, b), var, span, cx))
            }
            InstShape::Select => {
                let cond = self.read(&operands[0], cx);
                self.must_be(Ty::Bool, name, (cond, &operands[0]), cx);
                let (then, otherwise) = (self.read(&operands[1], cx), self.read(&operands[2], cx));
                self.same(name, (then, &operands[1]), (otherwise, &operands[2]), cx);
                let value = self.push(Op::Select { cond, then, otherwise }, self.var(then), span, cx);
                self.suffix(inst, value, cx);
                Some(value)
            }
            InstShape::Modular(op) => {
                let (a, b) = (self.read(&operands[0], cx), self.read(&operands[1], cx));
                let m = self.read(&operands[2], cx);
                self.same(name, (a, &operands[0]), (b, &operands[1]), cx);
                self.same(name, (a, &operands[0]), (m, &operands[2]), cx);
                let value = self.push(Op::Modular(op, a, b, m), self.var(a), span, cx);
                self.suffix(inst, value, cx);
                self.integer(value, span, name);
                Some(value)
            }
            InstShape::Convert(op) => {
                let a = self.read(&operands[0], cx);
                let var = self.types.fresh();
                let value = self.push(Op::Convert(op, a), var, span, cx);
                self.suffix(inst, value, cx);
                self.checks.push((value, Check::Convert(span, op, a)));
                Some(value)
            }
            InstShape::Lookup => {
                self.no_suffix(inst, cx);
                let table = self.table(&operands[0], cx);
                let index = self.read(&operands[1], cx);
                self.integer(index, operands[1].span, name);
                let (id, ty) = table?;
                let var = self.types.of(ty, span);
                Some(self.push(Op::Lookup(id, index), var, span, cx))
            }
            InstShape::Wide(op) => {
                self.no_suffix(inst, cx);
                let (a, b) = (self.read(&operands[0], cx), self.read(&operands[1], cx));
                self.must_be(Ty::U128, name, (a, &operands[0]), cx);
                self.must_be(Ty::U128, name, (b, &operands[1]), cx);
                let var = self.types.of(Ty::U128, span);
                Some(self.push(Op::WideBinary(op, a, b), var, span, cx))
            }
            InstShape::Pair => {
                self.no_suffix(inst, cx);
                let (a, b) = (self.read(&operands[0], cx), self.read(&operands[1], cx));
                self.must_be(Ty::U64, name, (a, &operands[0]), cx);
                self.must_be(Ty::U64, name, (b, &operands[1]), cx);
                let var = self.types.of(Ty::U128, span);
                Some(self.push(Op::WideBinary(WideBinary::Pair, a, b), var, span, cx))
            }
            InstShape::High => {
                self.no_suffix(inst, cx);
                let a = self.read(&operands[0], cx);
                self.must_be(Ty::U128, name, (a, &operands[0]), cx);
                let var = self.types.of(Ty::U64, span);
                Some(self.push(Op::WideUnary(WideUnary::High, a), var, span, cx))
            }
            InstShape::Crc(op) => {
                self.no_suffix(inst, cx);
                let (acc, x) = (self.read(&operands[0], cx), self.read(&operands[1], cx));
                self.must_be(Ty::U32, name, (acc, &operands[0]), cx);
                self.integer(x, operands[1].span, name);
                let var = self.types.of(Ty::U32, span);
                Some(self.push(Op::Crc(op, acc, x), var, span, cx))
            }
        }
    }
}
