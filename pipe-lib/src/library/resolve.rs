//! Pipelines to compositions: names to pipes and layouts, arguments to parameters, pipelines spliced in.

use super::{Inner, NamedPipeline, kind_of};
use crate::check::{Findings, literal_bits};
use crate::compose::{self, ComposeError, Composition, Stage};
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::ir::{Layout, Param, Pipe, Tail, Ty};
use crate::limits;
use crate::pipeline::Pipeline;
use crate::source::Span;
use crate::syntax::ast::{self, Expr, Name, PipelineExpr, Spanned};
use std::num::NonZeroU64;
use std::sync::Arc;

/// Resolves a pipeline on its own.
pub(super) fn resolve(
    inner: &Inner,
    expr: &PipelineExpr,
    span: Span,
    findings: &mut Findings,
) -> Option<Pipeline> {
    let mut budget = limits::FILE_STAGES;
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
    source: Option<(Arc<Layout>, Span)>,
    sink: Option<(Arc<Layout>, Span)>,
}

impl Composed {
    fn finish(self) -> Composition {
        Composition {
            stages: self.stages.into_iter().map(|(stage, _)| stage).collect(),
            source: self.source.map(|(layout, _)| layout),
            sink: self.sink.map(|(layout, _)| layout),
        }
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
            [stage] => self.inner.layouts.contains_key(&stage.node.name.node),
            _ => false,
        };
        let (source, stages, sink): (Option<&Spanned<ast::Stage>>, &[Spanned<ast::Stage>], _) =
            match &expr.parts[..] {
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
                parts => {
                    let message = match parts.len() {
                        2 | 3 => "an arrow leads from a layout or to one",
                        _ => "more than two arrows",
                    };
                    self.findings.push(Diagnostic::new(Code::LayoutPosition, span, message).note(
                        "a pipeline is `layout -> pipe | pipe -> layout`; either layout may be left out",
                    ));
                    return None;
                }
            };
        let source = self.layout(source);
        let sink = self.layout(sink);
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
                let message = format!("a second layout: the pipeline spliced in {what} with one already");
                self.findings.push(
                    Diagnostic::new(Code::LayoutPosition, given.1, message).label(earlier, "brought by this"),
                );
                fine = false;
            }
        }
        fine.then_some(composed)
    }

    /// The layout of an end: `Some(None)` where there is none, `None` for a mistake.
    #[allow(clippy::option_option)]
    fn layout(&mut self, stage: Option<&Spanned<ast::Stage>>) -> Option<Option<(Arc<Layout>, Span)>> {
        let Some(stage) = stage else { return Some(None) };
        let name = &stage.node.name;
        let Some(layout) = self.inner.layouts.get(&name.node) else {
            let message = format!("no layout `{}`", name.node);
            let mut diagnostic = Diagnostic::new(Code::UnknownStage, name.span, message);
            if let Some(kind) = kind_of(self.inner, &name.node) {
                diagnostic = diagnostic
                    .here(format!("this is a {kind}"))
                    .help("stages are separated by `|`; `->` leads to a device's layout");
            } else if let Some(near) = nearest(&name.node, self.inner.layouts.keys().map(String::as_str)) {
                diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
            } else {
                diagnostic = diagnostic.note("layouts are declared by `layout NAME { .. }`");
            }
            self.findings.push(diagnostic);
            return None;
        };
        if !stage.node.args.is_empty() || stage.node.instance.is_some() || stage.node.window.is_some() {
            let message = format!("layout `{}` takes no arguments, name or window", name.node);
            self.findings.push(Diagnostic::new(Code::LayoutPosition, stage.span, message));
            return None;
        }
        Some(Some((Arc::clone(layout), stage.span)))
    }

    fn stage(
        &mut self,
        stage: &Spanned<ast::Stage>,
        (is_first, is_last): (bool, bool),
        env: &[Bound],
        composed: &mut Composed,
    ) -> Option<()> {
        let name = &stage.node.name;
        let window = match &stage.node.window {
            Some(window) => Some((self.window(window, env)?, window.span)),
            None => None,
        };
        if let Some(pipe) = self.inner.pipes.get(&name.node) {
            let args = self.arguments(stage, "pipe", &pipe.params, env)?;
            let window = match window {
                Some((Window::Known(bytes), span)) => {
                    self.window_fits(pipe, bytes, span)?;
                    Some(bytes)
                }
                Some((Window::Unknown, _)) => Some(NonZeroU64::MAX),
                None => None,
            };
            let pairs: Vec<(&str, u64)> =
                pipe.params.iter().zip(&args).map(|(param, value)| (param.name.as_str(), *value)).collect();
            let pipe = match compose::bind(pipe, &pairs, &name.node) {
                Ok(pipe) => pipe,
                Err(error) => {
                    self.findings.push(Diagnostic::new(code_of(&error), stage.span, error.to_string()));
                    return None;
                }
            };
            let instance = match &stage.node.instance {
                Some(instance) => instance.node.clone(),
                None => free_name(&name.node, composed),
            };
            let span = stage.node.instance.as_ref().map_or(name.span, |instance| instance.span);
            return self.append(composed, Stage { name: instance, pipe, window }, &name.node, span);
        }
        let Some(named) = self.inner.pipelines.get(&name.node) else {
            self.unknown(name);
            return None;
        };
        let named = Arc::clone(named);
        if let Some(at) = self.open.iter().position(|open| *open == named.name) {
            let mut circle = self.open[at..].join("` contains `");
            circle.push_str(&format!("` contains `{}", named.name));
            let message = format!("pipeline `{}` contains itself", named.name);
            self.findings.push(
                Diagnostic::new(Code::RecursivePipeline, name.span, message).note(format!("`{circle}`")),
            );
            return None;
        }
        if self.open.len() >= limits::SPLICE_DEPTH {
            let message = format!("pipelines within pipelines, more than {} deep", limits::SPLICE_DEPTH);
            self.findings.push(Diagnostic::new(Code::Limit, name.span, message));
            return None;
        }
        let args = self.arguments_known(stage, "pipeline", &named.params, env)?;
        let inner_env: Vec<Bound> = (named.params.iter().zip(args))
            .map(|(param, value)| Bound { name: param.name.clone(), ty: param.ty, value })
            .collect();
        self.open.push(named.name.clone());
        let inner = self.expr(&named.value.node, named.value.span, &inner_env);
        self.open.pop();
        self.splice(inner?, stage, (is_first, is_last), window, composed)
    }

    /// Puts the stages of a named pipeline in the place of the stage that named it.
    fn splice(
        &mut self,
        inner: Composed,
        stage: &Spanned<ast::Stage>,
        (is_first, is_last): (bool, bool),
        window: Option<(Window, Span)>,
        composed: &mut Composed,
    ) -> Option<()> {
        let name = &stage.node.name;
        for (layout, at_end, place) in [(&inner.source, is_first, "start"), (&inner.sink, is_last, "end")] {
            if let Some((layout, _)) = layout
                && !at_end
            {
                let message = format!("`{}` with its layout `{}` in the middle", name.node, layout.name);
                self.findings.push(
                    Diagnostic::new(Code::LayoutPosition, name.span, message)
                        .note(format!("it can only stand at the {place} of a pipeline")),
                );
                return None;
            }
        }
        if let Some((layout, _)) = inner.source {
            composed.source = Some((layout, name.span));
        }
        if let Some((layout, _)) = inner.sink {
            composed.sink = Some((layout, name.span));
        }
        for (mut spliced, _) in inner.stages {
            if let Some(prefix) = &stage.node.instance {
                spliced.name = format!("{}.{}", prefix.node, spliced.name);
            }
            if let Some((window, span)) = window {
                let bytes = match window {
                    Window::Known(bytes) => bytes,
                    Window::Unknown => NonZeroU64::MAX,
                };
                if spliced.window.is_some_and(|own| own != bytes) {
                    let message = format!("`{}` in `{}` has a window of its own", spliced.name, name.node);
                    self.findings.push(
                        Diagnostic::new(Code::BadWindow, span, message)
                            .note("windows are not put into windows"),
                    );
                    return None;
                }
                if let Window::Known(bytes) = window {
                    self.window_fits(&spliced.pipe, bytes, span)?;
                }
                spliced.window = Some(bytes);
            }
            let span = stage.node.instance.as_ref().map_or(name.span, |instance| instance.span);
            self.append(composed, spliced, &name.node, span)?;
        }
        Some(())
    }

    fn append(&mut self, composed: &mut Composed, stage: Stage, from: &str, span: Span) -> Option<()> {
        if let Some((_, earlier)) = composed.stages.iter().find(|(other, _)| other.name == stage.name) {
            let message = format!("two instances are named `{}`", stage.name);
            self.findings.push(
                Diagnostic::new(Code::InstanceClash, span, message)
                    .label(*earlier, "the first")
                    .help(format!("name one of them: `{from} as another_name`")),
            );
            return None;
        }
        if composed.stages.len() >= limits::STAGES || *self.budget == 0 {
            let message = format!("more than {} stages", limits::STAGES);
            self.findings.push(Diagnostic::new(Code::Limit, span, message));
            *self.budget = 0;
            return None;
        }
        *self.budget -= 1;
        composed.stages.push((stage, span));
        Some(())
    }

    fn unknown(&mut self, name: &Name) {
        let mut diagnostic =
            Diagnostic::new(Code::UnknownStage, name.span, format!("no pipe or pipeline `{}`", name.node));
        let known = self.inner.pipes.keys().chain(self.inner.pipelines.keys()).map(String::as_str);
        if self.inner.layouts.contains_key(&name.node) {
            diagnostic.code = Code::LayoutPosition;
            diagnostic.message = format!("layout `{}` among the stages", name.node);
            diagnostic = diagnostic.help(format!(
                "write `-> {0}` at the end of the pipeline, or `{0} ->` at its start",
                name.node
            ));
        } else if let Some(near) = nearest(&name.node, known) {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
        } else {
            diagnostic =
                diagnostic.help("`pipec list` shows the standard pipes; others are loaded from files");
        }
        self.findings.push(diagnostic);
    }

    /// Values for all parameters; any value for one that is not known yet.
    fn arguments(
        &mut self,
        stage: &Spanned<ast::Stage>,
        kind: &str,
        params: &[Param],
        env: &[Bound],
    ) -> Option<Vec<u64>> {
        let values = self.arguments_known(stage, kind, params, env)?;
        Some(values.into_iter().map(|value| value.unwrap_or(0)).collect())
    }

    #[allow(clippy::option_option)]
    fn arguments_known(
        &mut self,
        stage: &Spanned<ast::Stage>,
        kind: &str,
        params: &[Param],
        env: &[Bound],
    ) -> Option<Vec<Option<u64>>> {
        let name = &stage.node.name;
        let mut given: Vec<Option<(Option<u64>, Span)>> = vec![None; params.len()];
        let mut fine = true;
        let mut named_before = false;
        for (position, arg) in stage.node.args.iter().enumerate() {
            let at = match &arg.name {
                Some(arg_name) => {
                    named_before = true;
                    params.iter().position(|param| param.name == arg_name.node)
                }
                None if named_before => {
                    self.findings.push(
                        Diagnostic::new(
                            Code::DuplicateArgument,
                            arg.value.span,
                            "an argument without name after one with a name",
                        )
                        .help("name it too"),
                    );
                    fine = false;
                    continue;
                }
                None => (position < params.len()).then_some(position),
            };
            let Some(at) = at else {
                let mut diagnostic = match &arg.name {
                    Some(arg_name) => {
                        let message = format!("{kind} `{}` has no parameter `{}`", name.node, arg_name.node);
                        let diagnostic = Diagnostic::new(Code::UnknownParameter, arg_name.span, message);
                        match nearest(&arg_name.node, params.iter().map(|param| param.name.as_str())) {
                            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                            None => diagnostic,
                        }
                    }
                    None => {
                        let message = format!("{kind} `{}` takes {} arguments", name.node, params.len());
                        Diagnostic::new(Code::UnknownParameter, arg.value.span, message)
                    }
                };
                if params.is_empty() {
                    diagnostic = diagnostic.note("it has no parameters");
                } else {
                    let list: Vec<String> =
                        params.iter().map(|p| format!("`{}: {}`", p.name, p.ty)).collect();
                    diagnostic = diagnostic.note(format!("its parameters: {}", list.join(", ")));
                }
                self.findings.push(diagnostic);
                fine = false;
                continue;
            };
            if let Some((_, earlier)) = given[at] {
                let message = format!("`{}` is given twice", params[at].name);
                self.findings.push(
                    Diagnostic::new(Code::DuplicateArgument, arg.value.span, message)
                        .label(earlier, "first here"),
                );
                fine = false;
                continue;
            }
            match self.value(&arg.value, params[at].ty, env) {
                Some(value) => given[at] = Some((value, arg.value.span)),
                None => fine = false,
            }
        }
        let missing: Vec<&Param> = params
            .iter()
            .zip(&given)
            .filter(|(param, given)| given.is_none() && param.default.is_none())
            .map(|(param, _)| param)
            .collect();
        if fine && !missing.is_empty() {
            let names: Vec<String> =
                missing.iter().map(|param| format!("`{}: {}`", param.name, param.ty)).collect();
            let example: Vec<String> = missing.iter().map(|param| format!("{} = ...", param.name)).collect();
            let message = format!("{kind} `{}` needs a value for {}", name.node, names.join(", "));
            self.findings.push(Diagnostic::new(Code::MissingParameter, stage.span, message).help(format!(
                "write `{}({})`",
                name.node,
                example.join(", ")
            )));
            fine = false;
        }
        let values =
            params.iter().zip(given).map(|(param, given)| given.map_or(param.default, |(value, _)| value));
        fine.then(|| values.collect())
    }

    /// The value of an argument: `Some(None)` when it hangs on a parameter that is not bound yet.
    #[allow(clippy::option_option)]
    fn value(&mut self, expr: &Spanned<Expr>, ty: Ty, env: &[Bound]) -> Option<Option<u64>> {
        let Expr::Name(name) = &expr.node else {
            return literal_bits(expr, ty, self.findings).map(Some);
        };
        let bound = self.bound(name, expr.span, env)?;
        if bound.ty != ty {
            let message = format!("parameter `{name}` is `{}`, not `{ty}`", bound.ty);
            self.findings.push(Diagnostic::new(Code::TypeMismatch, expr.span, message));
            return None;
        }
        Some(bound.value)
    }

    fn bound<'e>(&mut self, name: &str, span: Span, env: &'e [Bound]) -> Option<&'e Bound> {
        let bound = env.iter().find(|bound| bound.name == name);
        if bound.is_none() {
            let mut diagnostic =
                Diagnostic::new(Code::UnknownParameter, span, format!("no parameter `{name}` here"));
            diagnostic = match nearest(name, env.iter().map(|bound| bound.name.as_str())) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic.help("write a number, or a parameter of the pipeline"),
            };
            self.findings.push(diagnostic);
        }
        bound
    }

    fn window(&mut self, expr: &Spanned<Expr>, env: &[Bound]) -> Option<Window> {
        let bytes = match &expr.node {
            Expr::Name(name) => match self.bound(name, expr.span, env)? {
                Bound { ty: Ty::Bool, .. } => {
                    self.findings.push(Diagnostic::new(
                        Code::BadWindow,
                        expr.span,
                        "a window is a number of bytes",
                    ));
                    return None;
                }
                Bound { value: Some(value), .. } => *value,
                Bound { value: None, .. } => return Some(Window::Unknown),
            },
            Expr::Number(number) if !number.negative => number.magnitude,
            _ => 0,
        };
        match NonZeroU64::new(bytes) {
            Some(bytes) => Some(Window::Known(bytes)),
            None => {
                self.findings.push(Diagnostic::new(
                    Code::BadWindow,
                    expr.span,
                    "a window has at least one byte",
                ));
                None
            }
        }
    }

    /// A window whose every full instance would be refused is refused now.
    fn window_fits(&mut self, pipe: &Pipe, bytes: NonZeroU64, span: Span) -> Option<()> {
        let word = pipe.word_bytes() as u64;
        if pipe.tail != Tail::Reject || bytes.get().is_multiple_of(word) {
            return Some(());
        }
        let message =
            format!("windows of {bytes} bytes are not made of `{}`'s words of {word} bytes", pipe.name);
        self.findings.push(
            Diagnostic::new(Code::BadWindow, span, message)
                .note("its tail rule is `reject`, and each window is a stream of its own")
                .help(format!("take a multiple of {word}")),
        );
        None
    }
}

/// What `per` says.
#[derive(Clone, Copy)]
enum Window {
    Known(NonZeroU64),
    /// A parameter of the pipeline whose declaration is checked.
    Unknown,
}

/// The pipe's name, or `name_2`, `name_3`, ... when it is taken.
fn free_name(base: &str, composed: &Composed) -> String {
    let taken = |name: &str| composed.stages.iter().any(|(stage, _)| stage.name == name);
    if !taken(base) {
        return base.to_string();
    }
    (2..).map(|n: u32| format!("{base}_{n}")).find(|name| !taken(name)).unwrap_or_default()
}
