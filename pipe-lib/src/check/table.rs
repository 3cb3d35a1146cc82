//! Constant tables: `[..]` with repetitions, or the bytes of a string.

use super::{Findings, literal_bits, narrow_type_of_name};
use crate::diagnostic::{Code, Diagnostic};
use crate::ir::{self, Ty};
use crate::limits;
use crate::source::Span;
use crate::syntax::ast::{Expr, Number, Repeated, Spanned, Table, TableValues};
use std::sync::Arc;

/// Elements that the tables and lists of one file may still take. What a list may not take is not unfolded.
#[derive(Debug)]
pub(crate) struct TableBudget(usize);

impl TableBudget {
    pub(crate) fn take(&mut self, count: u64, span: Span, findings: &mut Findings) -> Option<()> {
        match usize::try_from(count).ok().and_then(|count| self.0.checked_sub(count)) {
            Some(left) => {
                self.0 = left;
                Some(())
            }
            None => {
                let message = format!(
                    "more than {} elements in the tables and lists of one file",
                    limits::FILE_TABLE_ELEMENTS
                );
                findings.push(Diagnostic::new(Code::Limit, span, message));
                None
            }
        }
    }
}

impl Default for TableBudget {
    fn default() -> TableBudget {
        TableBudget(limits::FILE_TABLE_ELEMENTS)
    }
}

pub(crate) fn check_table(
    table: &Table,
    budget: &mut TableBudget,
    findings: &mut Findings,
) -> Option<ir::Table> {
    let ty = narrow_type_of_name("table", &table.ty, findings)?;
    if ty == Ty::Bool {
        findings.push(
            Diagnostic::new(Code::BadTable, table.ty.span, "a table has elements of an integer type")
                .help("write `u8` and compare what `lookup` gives with 0"),
        );
        return None;
    }
    let values = match &table.values.node {
        TableValues::Bytes(_) if ty != Ty::U8 => {
            findings.push(
                Diagnostic::new(
                    Code::BadTable,
                    table.values.span,
                    format!("a string holds `u8`, not `{ty}`"),
                )
                .help("write the elements in brackets: `[1, 2, 3, 4]`"),
            );
            return None;
        }
        TableValues::Bytes(bytes) => bytes.bytes.iter().map(|byte| u64::from(*byte)).collect(),
        TableValues::List(list) => unfold(list, ty, budget, findings)?,
    };
    let len = values.len();
    if !len.is_power_of_two() || len > limits::TABLE_ELEMENTS {
        let mut diagnostic = Diagnostic::new(
            Code::BadTable,
            table.values.span,
            format!("a table of {len} elements"),
        )
        .note(format!(
            "the length is a power of two, at most {}: so `lookup` takes its index modulo the length and is \
                 always in bounds",
            limits::TABLE_ELEMENTS
        ));
        if len > 0 && len < limits::TABLE_ELEMENTS {
            let missing = len.next_power_of_two() - len;
            diagnostic = diagnostic.help(format!("add `0 repeat {missing}` to fill it up"));
        }
        findings.push(diagnostic);
        return None;
    }
    Some(ir::Table { name: table.name.node.clone(), ty, values: Arc::from(values) })
}

/// A list with its repetitions unfolded; at most [`limits::TABLE_ELEMENTS`] elements.
pub(crate) fn unfold(
    list: &[Repeated<Expr>],
    ty: Ty,
    budget: &mut TableBudget,
    findings: &mut Findings,
) -> Option<Vec<u64>> {
    let mut values = Vec::with_capacity(list.len().min(limits::TABLE_ELEMENTS));
    for repeated in list {
        let bits = literal_bits(&repeated.item, ty, findings)?;
        let count = repeat_count(repeated.count.as_ref(), findings)?;
        if count > (limits::TABLE_ELEMENTS - values.len()) as u64 {
            let message = format!("more than {} elements", limits::TABLE_ELEMENTS);
            findings.push(Diagnostic::new(Code::Limit, repeated.item.span, message));
            return None;
        }
        budget.take(count, repeated.item.span, findings)?;
        values.extend(std::iter::repeat_n(bits, count as usize));
    }
    Some(values)
}

/// How often something is repeated: once when nothing is said.
pub(crate) fn repeat_count(count: Option<&Spanned<Number>>, findings: &mut Findings) -> Option<u64> {
    let Some(count) = count else { return Some(1) };
    if count.node.negative {
        findings.push(Diagnostic::new(
            Code::LiteralOutOfRange,
            count.span,
            "a negative number of repetitions",
        ));
        return None;
    }
    Some(count.node.magnitude)
}
