//! Layouts: clauses to the rules of a device's buffer.

use super::Findings;
use crate::compose::MAX_PAD;
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::ir::{Layout, Stripe};
use crate::source::Span;
use crate::syntax::ast;

/// The clauses of a layout and whether each takes a number.
const CLAUSES: [(&str, bool); 5] =
    [("data", true), ("gap", true), ("store", true), ("fixed", false), ("pad", true)];

pub(crate) fn check_layout(layout: &ast::Layout, docs: &[String], findings: &mut Findings) -> Option<Layout> {
    let before = findings.errors();
    let mut given: [Option<(u64, Span)>; CLAUSES.len()] = [None; CLAUSES.len()];
    for clause in &layout.clauses {
        let name = &clause.name;
        let Some(at) = CLAUSES.iter().position(|(known, _)| *known == name.node) else {
            let message = format!("no rule `{}` for layouts", name.node);
            let mut diagnostic = Diagnostic::new(Code::BadLayout, name.span, message)
                .note("the rules are `data N`, `gap N`, `store N`, `fixed` and `pad N`");
            if let Some(near) = nearest(&name.node, CLAUSES.iter().map(|(known, _)| *known)) {
                diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
            }
            findings.push(diagnostic);
            continue;
        };
        if let Some((_, earlier)) = given[at] {
            findings.push(
                Diagnostic::new(Code::BadLayout, name.span, format!("`{}` is given twice", name.node))
                    .label(earlier, "first here"),
            );
            continue;
        }
        let value = match (&clause.value, CLAUSES[at].1) {
            (Some(number), true) if !number.node.negative => number.node.magnitude,
            (Some(number), true) => {
                findings.push(Diagnostic::new(
                    Code::BadLayout,
                    number.span,
                    "a number of bytes is not negative",
                ));
                continue;
            }
            (None, true) => {
                let message = format!("`{}` needs a number of bytes", name.node);
                findings.push(Diagnostic::new(Code::BadLayout, name.span, message));
                continue;
            }
            (Some(number), false) => {
                let message = format!("`{}` takes no number", name.node);
                findings.push(Diagnostic::new(Code::BadLayout, number.span, message));
                continue;
            }
            (None, false) => 1,
        };
        let span = clause.value.as_ref().map_or(name.span, |number| name.span.to(number.span));
        given[at] = Some((value, span));
    }
    if findings.errors() > before {
        return None;
    }
    let [data, gap, store, fixed, pad] = given;
    let mut refuse = |span: Span, message: &str, help: &str| {
        let diagnostic = Diagnostic::new(Code::BadLayout, span, message);
        findings.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
    };
    let small = |value: u64| u32::try_from(value).ok();
    let stripe = match (data, gap) {
        (None, None) => None,
        (Some((data, data_span)), gap) => {
            let (gap, gap_span) = gap.unwrap_or((0, data_span));
            match (small(data).filter(|data| *data > 0), small(gap)) {
                (Some(data), Some(gap)) => Some(Stripe { data, gap }),
                (None, _) => {
                    refuse(data_span, "`data` is 1 to 4294967295 bytes", "");
                    None
                }
                (_, None) => {
                    refuse(gap_span, "`gap` is at most 4294967295 bytes", "");
                    None
                }
            }
        }
        (None, Some((_, span))) => {
            refuse(span, "a gap without data before it", "write `data N gap M`");
            None
        }
    };
    if let Some((store, span)) = store {
        if !matches!(store, 1 | 2 | 4 | 8) {
            refuse(span, "a store is 1, 2, 4 or 8 bytes wide", "");
        } else if stripe.is_some_and(|stripe| {
            !u64::from(stripe.data).is_multiple_of(store) || !u64::from(stripe.gap).is_multiple_of(store)
        }) {
            refuse(
                span,
                "stores of this width do not fit the stripes",
                "make `data` and `gap` multiples of it",
            );
        }
    }
    if let Some((_, span)) = fixed {
        if store.is_none() {
            refuse(span, "`fixed` needs the width of a store", "add `store 4`");
        }
        if stripe.is_some() {
            refuse(span, "one address cannot be striped", "leave out `fixed`, or `data` and `gap`");
        }
    }
    if let Some((bytes, span)) = pad
        && bytes > MAX_PAD
    {
        refuse(span, "a transfer is padded to at most 16 MiB", "");
    }
    if findings.errors() > before {
        return None;
    }
    Some(Layout {
        name: layout.name.node.clone(),
        doc: docs.join("\n"),
        stripe,
        store: store.map(|(store, _)| store as u8),
        fixed: fixed.is_some(),
        pad: pad.map_or(0, |(pad, _)| pad),
    })
}
