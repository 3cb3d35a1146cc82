//! One stage: a pipe bound and named, or a named pipeline unfolded in its place.

use super::arguments::WindowArgument;
use super::{Bound, Composed, Resolver, code_of};
use crate::compose::{self, Stage};
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::digest::DigestKind;
use crate::library::catalogue;
use crate::limits;
use crate::source::Span;
use crate::syntax::ast::{self, Name, Spanned};
use std::num::NonZeroU64;
use std::sync::Arc;

impl Resolver<'_> {
    pub(super) fn stage(
        &mut self,
        stage: &Spanned<ast::Stage>,
        (is_first, is_last): (bool, bool),
        env: &[Bound],
        composed: &mut Composed,
    ) -> Option<()> {
        let name = &stage.node.name;
        if self.is_broken(name) {
            return None;
        }
        let window = match &stage.node.window {
            Some(window) => Some((self.window(window, env)?, window.span)),
            None => None,
        };
        if let Some(pipe) = self.inner.pipe(&name.node) {
            let args = self.arguments(stage, "pipe", &pipe.params, env)?;
            let window = match window {
                Some((WindowArgument::Known(bytes), span)) => {
                    self.window_fits(pipe, bytes, span)?;
                    Some(bytes)
                }
                Some((WindowArgument::Unknown, _)) => Some(NonZeroU64::MAX),
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
        window: Option<(WindowArgument, Span)>,
        composed: &mut Composed,
    ) -> Option<()> {
        let name = &stage.node.name;
        for (layout, at_end, place) in [(&inner.source, is_first, "start"), (&inner.sink, is_last, "end")] {
            if let Some((layout, _)) = layout
                && !at_end
            {
                let (kind, own) = (layout.kind(), layout.name());
                let message = format!("`{}` with its {kind} `{own}` in the middle", name.node);
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
                    WindowArgument::Known(bytes) => bytes,
                    WindowArgument::Unknown => NonZeroU64::MAX,
                };
                if spliced.window.is_some_and(|own| own != bytes) {
                    let message = format!("`{}` in `{}` has a window of its own", spliced.name, name.node);
                    self.findings.push(
                        Diagnostic::new(Code::BadWindow, span, message)
                            .note("windows are not put into windows"),
                    );
                    return None;
                }
                if let WindowArgument::Known(bytes) = window {
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
        // A pipe without parameters is shared by all that use it; another is copied for each.
        let copied = if Arc::strong_count(&stage.pipe) == 1 { stage.pipe.body.insts.len() } else { 0 };
        let cost = 1 + copied / limits::INSTANCE_INSTRUCTIONS;
        if composed.stages.len() >= limits::STAGES || *self.budget < cost {
            let message = match composed.stages.len() >= limits::STAGES {
                true => format!("more than {} stages", limits::STAGES),
                false => "the pipelines and tests of one file make too many instances".to_string(),
            };
            self.findings.push(Diagnostic::new(Code::Limit, span, message));
            *self.budget = 0;
            return None;
        }
        *self.budget -= cost;
        composed.stages.push((stage, span));
        Some(())
    }

    fn unknown(&mut self, name: &Name) {
        let mut diagnostic =
            Diagnostic::new(Code::UnknownStage, name.span, format!("no pipe or pipeline `{}`", name.node));
        let published = catalogue().iter().map(|crc| &crc.name).filter(|_| self.inner.has_catalogue);
        let known = self.inner.pipes.keys().chain(self.inner.pipelines.keys()).chain(published);
        let digests = DigestKind::ALL.iter().filter(|_| self.inner.has_catalogue);
        let known = known.map(String::as_str).chain(digests.map(|kind| kind.name()));
        if self.inner.is_end(&name.node) {
            let kind = super::super::kind_of(self.inner, &name.node).unwrap_or("layout");
            diagnostic.code = Code::LayoutPosition;
            diagnostic.message = format!("{kind} `{}` among the stages", name.node);
            diagnostic = diagnostic.help(format!(
                "write `-> {0}` at the end of the pipeline, or `{0} ->` at its start",
                name.node
            ));
        } else if DigestKind::is_left_out(&name.node) {
            diagnostic = diagnostic.help("it is a digest of another crate: build with the feature `digests`");
        } else if let Some(near) = nearest(&name.node, known) {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
        } else {
            diagnostic =
                diagnostic.help("`pipec list` shows the standard pipes; others are loaded from files");
        }
        self.findings.push(diagnostic);
    }
}

/// The pipe's name, or `name_2`, `name_3`, ... when it is taken.
fn free_name(base: &str, composed: &Composed) -> String {
    let taken = |name: &str| composed.stages.iter().any(|(stage, _)| stage.name == name);
    if !taken(base) {
        return base.to_string();
    }
    (2..).map(|n: u32| format!("{base}_{n}")).find(|name| !taken(name)).unwrap_or_default()
}
