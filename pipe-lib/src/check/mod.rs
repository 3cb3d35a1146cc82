//! From syntax trees to typed IR: names are resolved, types inferred, straight-line code put into SSA form.
//!
//! Pipes and layouts are checked here one by one; what needs to know other items (pipelines, tests) is
//! [`crate::library`]'s.

mod inst;
pub(crate) mod layout;
pub(crate) mod pipe;
pub(crate) mod scope;
pub(crate) mod table;
mod types;
pub(crate) mod unused;

use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::ir::Ty;
use crate::source::Span;
use crate::syntax::ast::{Expr, Name, Number, Spanned};

/// Findings of a check, with a bound on how many.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) list: Vec<Diagnostic>,
}

impl Findings {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if self.list.len() < crate::limits::DIAGNOSTICS {
            self.list.push(diagnostic);
        }
    }

    /// Whether there are too many to go on.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= crate::limits::DIAGNOSTICS
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity() == crate::diagnostic::Severity::Error)
    }
}

/// The type of that name.
pub(crate) fn type_of_name(name: &Name, findings: &mut Findings) -> Option<Ty> {
    let found = parse_type(&name.node);
    if found.is_none() {
        let mut diagnostic =
            Diagnostic::new(Code::UnknownType, name.span, format!("no type `{}`", name.node))
                .note("the types are u8, u16, u32, u64 and bool");
        if crate::check::pipe::parse_gauge(&name.node).is_some() {
            diagnostic = diagnostic.help("byte order belongs to gauges only: a register holds a number");
        } else if let Some(near) = nearest(&name.node, TYPE_NAMES) {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
        }
        findings.push(diagnostic);
    }
    found
}

const TYPE_NAMES: [&str; 5] = ["u8", "u16", "u32", "u64", "bool"];

/// `u8`, `u16`, `u32`, `u64`, `bool`.
pub(crate) fn parse_type(name: &str) -> Option<Ty> {
    [Ty::U8, Ty::U16, Ty::U32, Ty::U64, Ty::Bool].into_iter().find(|ty| ty.name() == name)
}

/// The bits of a number at a type; none if the type cannot hold it.
pub(crate) fn number_bits(number: &Number, ty: Ty) -> Option<u64> {
    if !number.negative {
        return (number.magnitude <= ty.mask()).then_some(number.magnitude);
    }
    let least = 1u64 << (ty.bits() - 1);
    (number.magnitude <= least).then(|| number.magnitude.wrapping_neg() & ty.mask())
}

/// The bits of a literal at a type. Names are refused: a caller that allows them looks first.
pub(crate) fn literal_bits(expr: &Spanned<Expr>, ty: Ty, findings: &mut Findings) -> Option<u64> {
    match (&expr.node, ty) {
        (Expr::Bool(value), Ty::Bool) => Some(u64::from(*value)),
        (Expr::Bool(_), _) => {
            findings.push(mismatch(expr.span, "a truth value", ty));
            None
        }
        (Expr::Number(_), Ty::Bool) => {
            findings.push(mismatch(expr.span, "a number", ty).help("write `true` or `false`"));
            None
        }
        (Expr::Number(number), _) => {
            let bits = number_bits(number, ty);
            if bits.is_none() {
                findings.push(out_of_range(expr.span, number, ty));
            }
            bits
        }
        (Expr::Name(name), _) => {
            findings.push(
                Diagnostic::new(Code::UnknownRegister, expr.span, format!("`{name}` is no constant"))
                    .help("write a number"),
            );
            None
        }
    }
}

fn mismatch(span: Span, found: &str, ty: Ty) -> Diagnostic {
    Diagnostic::new(Code::TypeMismatch, span, format!("{found} where `{ty}` is needed"))
}

pub(crate) fn out_of_range(span: Span, number: &Number, ty: Ty) -> Diagnostic {
    Diagnostic::new(Code::LiteralOutOfRange, span, format!("`{}` does not fit `{ty}`", number.text)).note(
        format!("a `{ty}` holds 0 to {:#x}; a negative number stands for its two's complement", ty.mask()),
    )
}
