//! From syntax trees to typed IR: names are resolved, types inferred, straight-line code put into SSA form.
//!
//! Pipes and layouts are checked here one by one; what needs to know other items (pipelines, tests) is
//! [`crate::library`]'s.

#![forbid(unsafe_code)]

pub(crate) mod frame;
mod inst;
pub(crate) mod layout;
pub(crate) mod pipe;
pub(crate) mod scope;
pub(crate) mod table;
mod types;
pub(crate) mod unused;

use crate::diagnostic::{Code, Diagnostic, Severity, nearest};
use crate::ir::Ty;
use crate::limits;
use crate::source::Span;
use crate::syntax::ast::{Expr, Name, Number, Spanned};

/// Findings of a check, with a bound on how many errors and, apart from that, on how many warnings are kept:
/// however many warnings there are, no error is lost for them.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Diagnostic>,
    errors: usize,
    /// Warnings beyond the bound, which are counted only.
    warnings_left_out: usize,
}

impl Findings {
    pub(crate) fn new(list: Vec<Diagnostic>) -> Findings {
        let mut findings = Findings::default();
        findings.extend(list);
        findings
    }

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        match diagnostic.severity() {
            Severity::Error if self.errors < limits::DIAGNOSTICS => self.errors += 1,
            Severity::Error => return,
            Severity::Warning if self.list.len() - self.errors < limits::DIAGNOSTICS => {}
            Severity::Warning => {
                self.warnings_left_out += 1;
                return;
            }
        }
        self.list.push(diagnostic);
    }

    pub(crate) fn extend(&mut self, more: impl IntoIterator<Item = Diagnostic>) {
        more.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }

    /// Takes over the errors of another check, and its warnings where they are worth saying.
    pub(crate) fn absorb(&mut self, other: Findings, with_warnings: bool) {
        if with_warnings {
            self.warnings_left_out += other.warnings_left_out;
        }
        let wanted = |found: &Diagnostic| with_warnings || found.severity() == Severity::Error;
        self.extend(other.list.into_iter().filter(wanted));
    }

    /// How many errors there are: whether a step went well shows in whether there are more after it.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// Whether there are too many errors to go on.
    pub(crate) fn is_full(&self) -> bool {
        self.errors >= limits::DIAGNOSTICS
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many are kept: a place for [`Findings::since`] and [`Findings::take_since`].
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// What was found since there were `before`.
    pub(crate) fn since(&self, before: usize) -> &[Diagnostic] {
        &self.list[before..]
    }

    /// Takes out what was found since there were `before`.
    pub(crate) fn take_since(&mut self, before: usize) -> Vec<Diagnostic> {
        let taken = self.list.split_off(before);
        self.errors -= taken.iter().filter(|taken| taken.severity() == Severity::Error).count();
        taken
    }

    pub(crate) fn contains(&self, diagnostic: &Diagnostic) -> bool {
        self.list.contains(diagnostic)
    }

    pub(crate) fn last_mut(&mut self) -> Option<&mut Diagnostic> {
        self.list.last_mut()
    }

    /// All of them; the last warning tells how many more there were.
    pub(crate) fn into_list(mut self) -> Vec<Diagnostic> {
        let more = self.warnings_left_out;
        if more > 0
            && let Some(last) = self.list.iter_mut().rfind(|kept| kept.severity() == Severity::Warning)
        {
            let what = if more == 1 { "warning is" } else { "warnings are" };
            last.notes.push(format!("{more} more {what} not shown"));
        }
        self.list
    }
}

/// The type of that name.
pub(crate) fn type_of_name(name: &Name, findings: &mut Findings) -> Option<Ty> {
    let found = parse_type(&name.node);
    if found.is_none() {
        let mut diagnostic =
            Diagnostic::new(Code::UnknownType, name.span, format!("no type `{}`", name.node))
                .note("the types are u8, u16, u32, u64, u128 and bool");
        if crate::check::pipe::parse_gauge(&name.node).is_some() {
            diagnostic = diagnostic.help("byte order belongs to gauges only: a register holds a number");
        } else if let Some(near) = nearest(&name.node, TYPE_NAMES) {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
        }
        findings.push(diagnostic);
    }
    found
}

const TYPE_NAMES: [&str; 6] = ["u8", "u16", "u32", "u64", "u128", "bool"];

/// `u8`, `u16`, `u32`, `u64`, `u128`, `bool`.
pub(crate) fn parse_type(name: &str) -> Option<Ty> {
    [Ty::U8, Ty::U16, Ty::U32, Ty::U64, Ty::U128, Ty::Bool].into_iter().find(|ty| ty.name() == name)
}

/// The bits of a number at a type; none if the type cannot hold it.
pub(crate) fn number_bits(number: &Number, ty: Ty) -> Option<u64> {
    if !number.negative {
        return (number.magnitude <= ty.mask()).then_some(number.magnitude);
    }
    if ty == Ty::U128 {
        return None;
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

/// The type of that name, for what is kept in registers or constants: of at most 64 bits.
pub(crate) fn narrow_type_of_name(what: &str, name: &Name, findings: &mut Findings) -> Option<Ty> {
    let ty = type_of_name(name, findings)?;
    if ty == Ty::U128 {
        let message = format!("a {what} of `u128`");
        findings.push(
            Diagnostic::new(Code::WrongKind, name.span, message)
                .note("words, registers and states have up to 128 bits, constants up to 64")
                .help("take two of `u64` and write `pair d, a, b`, the upper half first"),
        );
        return None;
    }
    Some(ty)
}

fn mismatch(span: Span, found: &str, ty: Ty) -> Diagnostic {
    Diagnostic::new(Code::TypeMismatch, span, format!("{found} where `{ty}` is needed"))
}

pub(crate) fn out_of_range(span: Span, number: &Number, ty: Ty) -> Diagnostic {
    if ty == Ty::U128 {
        let message = format!("`{}` is no literal of `u128`", number.text);
        return Diagnostic::new(Code::LiteralOutOfRange, span, message)
            .note("literals have at most 64 bits and, where 128 are meant, no sign")
            .help("write `pair d, a, b` with the upper and the lower half");
    }
    Diagnostic::new(Code::LiteralOutOfRange, span, format!("`{}` does not fit `{ty}`", number.text)).note(
        format!("a `{ty}` holds 0 to {:#x}; a negative number stands for its two's complement", ty.mask()),
    )
}
