//! Frames: what is written to fields around data.

use super::pipe::{check_params, parse_gauge};
use super::table::repeat_count;
use super::{Findings, number_bits, out_of_range};
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::digest::MAX_DIGEST_BYTES;
use crate::ir::frame::MAX_FIELD_BYTES;
use crate::ir::{Field, Frame, Gauge, ParamId, Term, Ty};
use crate::limits;
use crate::source::Span;
use crate::syntax::ast::{self, FrameField, Name, Spanned};
use std::collections::HashSet;
use std::num::NonZeroU64;

/// What a sum may name beside parameters and exports.
const INDEX: &str = "index";
const LENGTH: &str = "length";

const RULES: [&str; 3] = ["data", "gap", "whole"];

pub(crate) fn check_frame(frame: &ast::Frame, docs: &[String], findings: &mut Findings) -> Option<Frame> {
    let before = findings.errors();
    let params: Vec<_> = check_params(&frame.params, findings).into_iter().flatten().collect();
    for param in &frame.params {
        let name = &param.name.node;
        if [INDEX, LENGTH].contains(&name.as_str()) {
            let message = format!("`{name}` has a meaning of its own in a frame");
            let diagnostic = Diagnostic::new(Code::BadFrame, param.name.span, message);
            findings.push(diagnostic.help("give the parameter another name"));
        }
    }
    let mut checker = FrameChecker { frame, params: &params, read: HashSet::new(), findings };
    let mut fields: [Vec<Field>; 2] = [Vec::new(), Vec::new()];
    let mut data: Option<(Option<NonZeroU64>, Span)> = None;
    let mut whole = None;
    for field in &frame.fields {
        let place = &mut fields[usize::from(data.is_some())];
        if place.len() >= limits::FIELDS {
            let message = format!("more than {} fields before or behind the data", limits::FIELDS);
            checker.findings.push(Diagnostic::new(Code::Limit, field.span, message));
            return None;
        }
        match &field.node {
            FrameField::Put { gauge, sum } => place.extend(checker.put(gauge, sum)),
            FrameField::Bytes(bytes) => place.extend(checker.bytes(bytes)),
            FrameField::Rule { name, value } if name.node == "gap" => {
                place.extend(checker.number(name, value.as_ref()).map(Field::Gap));
            }
            FrameField::Rule { name, value } if name.node == "data" => {
                let bytes = match value {
                    Some(_) => checker.number(name, value.as_ref()).and_then(|n| NonZeroU64::new(n.into())),
                    None => None,
                };
                if let Some((_, earlier)) = data.replace((bytes, field.span)) {
                    checker
                        .findings
                        .push(bad(field.span, "`data` is given twice").label(earlier, "first here"));
                }
            }
            FrameField::Rule { name, value } if name.node == "whole" => {
                if let Some(number) = value {
                    checker.findings.push(bad(number.span, "`whole` takes no number"));
                }
                if whole.replace(field.span).is_some() {
                    checker.findings.push(bad(field.span, "`whole` is given twice"));
                }
            }
            FrameField::Rule { name, .. } => checker.unknown(name),
        }
    }
    for place in &fields {
        if place.iter().map(Field::bytes).sum::<u64>() > MAX_FIELD_BYTES {
            let message = format!("more than {MAX_FIELD_BYTES} bytes of fields before or behind the data");
            checker.findings.push(Diagnostic::new(Code::Limit, frame.name.span, message));
        }
    }
    let Some((data, data_span)) = data else {
        if checker.findings.errors() == before {
            checker.findings.push(
                bad(frame.name.span, "a frame without data")
                    .help("write `data N` between the fields, or `data` for the whole stream in one window"),
            );
        }
        return None;
    };
    if let (Some(span), None) = (whole, data) {
        let diagnostic = bad(span, "a window as long as the stream is always whole");
        checker.findings.push(diagnostic.help("leave `whole` out"));
    }
    if fields.iter().all(Vec::is_empty) {
        checker.findings.push(
            bad(data_span, "nothing but data")
                .help("write what stands before or behind it: `put u32le crc32.crc`"),
        );
    }
    let FrameChecker { read: used, findings, .. } = checker;
    if findings.errors() > before {
        return None;
    }
    for param in &frame.params {
        let name = &param.name.node;
        if !used.contains(name.as_str()) && !name.starts_with('_') {
            let message = format!("parameter `{name}` is never read");
            findings.push(Diagnostic::new(Code::UnusedParameter, param.name.span, message));
        }
    }
    let [head, foot] = fields;
    let (name, doc) = (frame.name.node.clone(), docs.join("\n"));
    Some(Frame { name, doc, params, data, head, foot, whole: whole.is_some() })
}

struct FrameChecker<'a> {
    frame: &'a ast::Frame,
    params: &'a [crate::ir::Param],
    /// Parameters that some field reads.
    read: HashSet<&'a str>,
    findings: &'a mut Findings,
}

fn bad(span: Span, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(Code::BadFrame, span, message)
}

impl<'a> FrameChecker<'a> {
    fn unknown(&mut self, name: &Name) {
        let mut diagnostic =
            Diagnostic::new(Code::BadFrame, name.span, format!("no rule `{}` for frames", name.node))
                .note("a frame is made of `put`, `data N`, `gap N` and `whole`");
        if let Some(near) = nearest(&name.node, RULES.into_iter().chain(["put"])) {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
        }
        self.findings.push(diagnostic);
    }

    /// The number of bytes of a rule.
    fn number(&mut self, name: &Name, value: Option<&Spanned<ast::Number>>) -> Option<u32> {
        let Some(value) = value else {
            self.findings.push(bad(name.span, format!("`{}` needs a number of bytes", name.node)));
            return None;
        };
        let bytes = u32::try_from(value.node.magnitude).ok().filter(|n| *n > 0 && !value.node.negative);
        if bytes.is_none() {
            self.findings.push(bad(value.span, format!("`{}` is 1 to 4294967295 bytes", name.node)));
        }
        bytes
    }

    fn bytes(&mut self, bytes: &ast::Repeated<ast::Bytes>) -> Option<Field> {
        let count = repeat_count(bytes.count.as_ref(), self.findings)?;
        let piece = &bytes.item.node.bytes;
        let total = (piece.len() as u64).saturating_mul(count);
        if total > MAX_FIELD_BYTES {
            let message = format!("more than {MAX_FIELD_BYTES} bytes in one field");
            self.findings.push(Diagnostic::new(Code::Limit, bytes.item.span, message));
            return None;
        }
        if total == 0 {
            self.findings.push(bad(bytes.item.span, "a field of no bytes"));
            return None;
        }
        Some(Field::Bytes(piece.repeat(count as usize)))
    }

    fn put(&mut self, gauge: &Name, sum: &'a [Spanned<ast::Term>]) -> Option<Field> {
        if let Some(bytes) = gauge.node.strip_prefix("bytes") {
            return self.digest(gauge, bytes, sum);
        }
        let Some(parsed) = parse_gauge(&gauge.node).filter(|gauge| gauge.ty != Ty::U128) else {
            let message = format!("a field has no width `{}`", gauge.node);
            self.findings.push(Diagnostic::new(Code::UnknownGauge, gauge.span, message).note(
                "the widths are `u8`, and `u16`, `u32` and `u64` with `be` or `le` behind; results of 128 bits \
                 are two, `name.low` and `name.high`, and the first 32 bytes of a digest are `bytes32`",
            ));
            return None;
        };
        if sum.len() > limits::FIELDS {
            let message = format!("more than {} terms in one field", limits::FIELDS);
            self.findings.push(Diagnostic::new(Code::Limit, gauge.span, message));
            return None;
        }
        let terms: Option<Vec<Term>> =
            sum.iter().map(|term| self.term(parsed, term)).collect::<Vec<_>>().into_iter().collect();
        Some(Field::Put { gauge: parsed, sum: terms? })
    }

    /// `put bytes32 sha256.digest`
    fn digest(&mut self, width: &Name, bytes: &str, sum: &[Spanned<ast::Term>]) -> Option<Field> {
        let most = MAX_DIGEST_BYTES;
        let bytes = match bytes.parse::<u32>() {
            Ok(count) if (1..=most).contains(&count) && count.to_string() == bytes => count,
            _ => {
                let message = format!("a digest has no width `{}`", width.node);
                let note = format!("the widths are `bytes1` to `bytes{most}`");
                self.findings.push(Diagnostic::new(Code::DigestBytes, width.span, message).note(note));
                return None;
            }
        };
        if let [term] = sum
            && let ast::Term::Path(path) = &term.node
        {
            let names: Vec<&str> = path.iter().map(|name| name.node.as_str()).collect();
            return Some(Field::Digest { bytes, export: names.join(".") });
        }
        let message = format!("`{}` is the bytes of one digest", width.node);
        let diagnostic = Diagnostic::new(Code::DigestBytes, width.span, message);
        self.findings.push(diagnostic.help("write `put bytes32 sha256.digest`"));
        None
    }

    fn term(&mut self, gauge: Gauge, term: &'a Spanned<ast::Term>) -> Option<Term> {
        let path = match &term.node {
            ast::Term::Number(number) => {
                let bits = number_bits(number, gauge.ty);
                if bits.is_none() {
                    self.findings.push(out_of_range(term.span, number, gauge.ty));
                }
                return bits.map(Term::Const);
            }
            ast::Term::Path(path) => path,
        };
        let [name] = &path[..] else {
            return Some(Term::Export(
                path.iter().map(|name| name.node.as_str()).collect::<Vec<_>>().join("."),
            ));
        };
        match name.node.as_str() {
            INDEX => return Some(Term::Index),
            LENGTH => return Some(Term::Length),
            _ => {}
        }
        let Some(at) = self.frame.params.iter().position(|param| param.name.node == name.node) else {
            return Some(Term::Export(name.node.clone()));
        };
        self.read.insert(&name.node);
        // A parameter whose declaration is wrong has been reported.
        let param = self.params.iter().find(|param| param.name == name.node)?;
        if param.ty.bits() > gauge.ty.bits() {
            let message = format!("parameter `{}` is `{}`, more than `{gauge}` holds", name.node, param.ty);
            self.findings.push(
                Diagnostic::new(Code::TypeMismatch, term.span, message)
                    .help(format!("declare it as `{}: {}`, or widen the field", name.node, gauge.ty)),
            );
            return None;
        }
        Some(Term::Param(ParamId(at as u32)))
    }
}
