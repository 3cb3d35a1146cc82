//! Pipelines to compositions: names to pipes and layouts ([`stage`]), arguments to parameters
//! ([`arguments`]), pipelines spliced in.

mod arguments;
mod end;
mod stage;

use super::{Inner, NamedPipeline};
use crate::check::Findings;
use crate::compose::{ComposeError, Composition, Stage};
use crate::diagnostic::{Code, Diagnostic};
use crate::ir::Ty;
use crate::limits;
use crate::pipeline::Pipeline;
use crate::source::Span;
use crate::syntax::ast::{self, PipelineExpr, Spanned};
use end::EndItem;

/// Resolves a pipeline on its own.
pub(super) fn resolve(
    inner: &Inner,
    expr: &PipelineExpr,
    span: Span,
    findings: &mut Findings,
) -> Option<Pipeline> {
    // The longest pipeline of the biggest pipes.
    let mut budget = limits::STAGES * (1 + limits::INSTRUCTIONS / limits::INSTANCE_INSTRUCTIONS);
    resolve_with(inner, expr, span, &mut budget, findings)
}

/// The same, counting the stages that are unfolded.
pub(super) fn resolve_with(
    inner: &Inner,
    expr: &PipelineExpr,
    span: Span,
    budget: &mut usize,
    findings: &mut Findings,
) -> Option<Pipeline> {
    let mut resolver = Resolver { inner, findings, budget, open: Vec::new() };
    let composed = resolver.expr(expr, span, &[])?;
    match Pipeline::from_composition(composed.finish()) {
        Ok(pipeline) => Some(pipeline),
        Err(error) => {
            findings.push(Diagnostic::new(code_of(&error), span, error.to_string()));
            None
        }
    }
}

/// Checks a named pipeline where it is declared, its parameters unknown.
pub(super) fn check_named(inner: &Inner, named: &NamedPipeline, budget: &mut usize, findings: &mut Findings) {
    let env: Vec<Bound> = named
        .params
        .iter()
        .map(|param| Bound { name: param.name.clone(), ty: param.ty, value: None })
        .collect();
    let mut resolver = Resolver { inner, findings, budget, open: vec![named.name.clone()] };
    resolver.expr(&named.value.node, named.value.span, &env);
}

fn code_of(error: &ComposeError) -> Code {
    match error {
        ComposeError::Unbound { .. } => Code::MissingParameter,
        ComposeError::NoSuchParam { .. } => Code::UnknownParameter,
        ComposeError::DuplicateArgument { .. } => Code::DuplicateArgument,
        ComposeError::ValueTooWide { .. } => Code::LiteralOutOfRange,
        ComposeError::NameClash { .. } => Code::InstanceClash,
        ComposeError::TooManyStages { .. } | ComposeError::Malformed(_) => Code::Limit,
        ComposeError::Layout { .. } => Code::LayoutPosition,
        ComposeError::Frame { .. } => Code::FrameResult,
        ComposeError::Digest { .. } => Code::DigestBytes,
    }
}

/// A parameter of the pipeline that is being resolved; no value while its declaration is checked.
struct Bound {
    name: String,
    ty: Ty,
    value: Option<u64>,
}

/// Stages with the places that they come from.
#[derive(Default)]
struct Composed {
    stages: Vec<(Stage, Span)>,
    source: Option<(EndItem, Span)>,
    sink: Option<(EndItem, Span)>,
}

impl Composed {
    fn finish(self) -> Composition {
        let (source, source_frame) = EndItem::parts(self.source);
        let (sink, sink_frame) = EndItem::parts(self.sink);
        let stages = self.stages.into_iter().map(|(stage, _)| stage).collect();
        Composition { stages, source, sink, source_frame, sink_frame }
    }
}

struct Resolver<'a> {
    inner: &'a Inner,
    findings: &'a mut Findings,
    /// Stages that may still be unfolded.
    budget: &'a mut usize,
    /// Named pipelines that are being unfolded.
    open: Vec<String>,
}

impl Resolver<'_> {
    /// Sorts the parts between arrows into layouts and stages.
    fn expr(&mut self, expr: &PipelineExpr, span: Span, env: &[Bound]) -> Option<Composed> {
        let is_layout = |part: &[Spanned<ast::Stage>]| match part {
            [stage] => self.inner.is_end(&stage.node.name.node),
            _ => false,
        };
        let (source, stages, sink): (Option<&Spanned<ast::Stage>>, &[Spanned<ast::Stage>], _) = match &expr
            .parts[..]
        {
            [stages] if stages.is_empty() => {
                self.findings.push(
                    Diagnostic::new(Code::EmptyPipeline, span, "a pipeline without stages")
                        .help("write `copy` for a plain copy"),
                );
                return None;
            }
            [stages] => (None, stages, None),
            [from, to] if is_layout(to) => match is_layout(from) {
                true => (from.first(), &[], to.first()),
                false => (None, from, to.first()),
            },
            [from, to] if is_layout(from) => (from.first(), to, None),
            [_, to] if to.len() == 1 => (None, &expr.parts[0], to.first()),
            [from, stages, to] if from.len() == 1 && to.len() == 1 => (from.first(), stages, to.first()),
            parts if parts.iter().flatten().any(|stage| self.is_broken(&stage.node.name)) => return None,
            parts => {
                let message = match parts.len() {
                    2 | 3 => "an arrow leads from a layout or a frame, or to one",
                    _ => "more than two arrows",
                };
                self.findings.push(Diagnostic::new(Code::LayoutPosition, span, message).note(
                        "a pipeline is `layout -> pipe | pipe -> layout`; either layout may be left out, or be a frame",
                    ));
                return None;
            }
        };
        let source = self.end(source, env);
        let sink = self.end(sink, env);
        let mut composed = Composed::default();
        let last = stages.len().wrapping_sub(1);
        let mut fine = true;
        for (at, stage) in stages.iter().enumerate() {
            fine &= self.stage(stage, (at == 0, at == last), env, &mut composed).is_some();
            if self.findings.is_full() || *self.budget == 0 {
                return None;
            }
        }
        for (given, own, what) in
            [(source?, &mut composed.source, "starts"), (sink?, &mut composed.sink, "ends")]
        {
            let Some(given) = given else { continue };
            if let Some((_, earlier)) = own.replace(given.clone()) {
                let message =
                    format!("a second layout or frame: the pipeline spliced in {what} with one already");
                self.findings.push(
                    Diagnostic::new(Code::LayoutPosition, given.1, message).label(earlier, "brought by this"),
                );
                fine = false;
            }
        }
        fine.then_some(composed)
    }

    /// Whether a name is one of an item with a mistake: what is wrong with it has been said.
    fn is_broken(&self, name: &ast::Name) -> bool {
        self.inner.broken.contains(&name.node)
    }
}
