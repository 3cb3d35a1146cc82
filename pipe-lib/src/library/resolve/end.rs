//! What stands at an end of a pipeline: a device's layout, or a frame with its arguments.

use super::super::{Inner, kind_of};
use super::{Bound, Resolver};
use crate::compose::frames;
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::ir::{Frame, Layout};
use crate::source::Span;
use crate::syntax::ast::{self, Spanned};
use std::sync::Arc;

/// A layout or a frame.
#[derive(Clone)]
pub(super) enum EndItem {
    Layout(Arc<Layout>),
    Frame(Arc<Frame>),
}

impl EndItem {
    pub(super) fn name(&self) -> &str {
        match self {
            EndItem::Layout(layout) => &layout.name,
            EndItem::Frame(frame) => &frame.name,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            EndItem::Layout(_) => "layout",
            EndItem::Frame(_) => "frame",
        }
    }

    /// As a composition has it.
    pub(super) fn parts(end: Option<(EndItem, Span)>) -> (Option<Arc<Layout>>, Option<Arc<Frame>>) {
        match end {
            Some((EndItem::Layout(layout), _)) => (Some(layout), None),
            Some((EndItem::Frame(frame), _)) => (None, Some(frame)),
            None => (None, None),
        }
    }
}

impl Inner {
    /// Whether a name is one of what stands at an end of a pipeline.
    pub(super) fn is_end(&self, name: &str) -> bool {
        self.layouts.contains_key(name) || self.frames.contains_key(name)
    }
}

impl Resolver<'_> {
    /// The layout or frame of an end: `Some(None)` where there is none, `None` for a mistake.
    #[allow(clippy::option_option)]
    pub(super) fn end(
        &mut self,
        stage: Option<&Spanned<ast::Stage>>,
        env: &[Bound],
    ) -> Option<Option<(EndItem, Span)>> {
        let Some(stage) = stage else { return Some(None) };
        let name = &stage.node.name;
        if self.is_broken(name) {
            return None;
        }
        if let Some(frame) = self.inner.frames.get(&name.node) {
            return self
                .frame(frame, stage, env)
                .map(|frame| Some((EndItem::Frame(Arc::new(frame)), stage.span)));
        }
        let Some(layout) = self.inner.layouts.get(&name.node) else {
            let message = format!("no layout or frame `{}`", name.node);
            let mut diagnostic = Diagnostic::new(Code::UnknownStage, name.span, message);
            let known = || self.inner.layouts.keys().chain(self.inner.frames.keys()).map(String::as_str);
            if let Some(kind) = kind_of(self.inner, &name.node) {
                diagnostic = diagnostic
                    .here(format!("this is a {kind}"))
                    .help("stages are separated by `|`; `->` leads to a device's layout or a frame");
            } else if let Some(near) = nearest(&name.node, known()) {
                diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
            } else {
                diagnostic =
                    diagnostic.note("they are declared by `layout NAME { .. }` and `frame NAME { .. }`");
            }
            self.findings.push(diagnostic);
            return None;
        };
        if !stage.node.args.is_empty() || stage.node.instance.is_some() || stage.node.window.is_some() {
            let message = format!("layout `{}` takes no arguments, name or window", name.node);
            self.findings.push(Diagnostic::new(Code::LayoutPosition, stage.span, message));
            return None;
        }
        Some(Some((EndItem::Layout(Arc::clone(layout)), stage.span)))
    }

    /// A frame with its parameters bound and under its own name in the composition.
    fn frame(&mut self, frame: &Frame, stage: &Spanned<ast::Stage>, env: &[Bound]) -> Option<Frame> {
        if let Some(window) = &stage.node.window {
            let message = format!("frame `{}` takes no window", frame.name);
            self.findings.push(
                Diagnostic::new(Code::LayoutPosition, window.span, message)
                    .help("the window goes to the stages whose results the frame holds"),
            );
            return None;
        }
        let args = self.arguments(stage, "frame", &frame.params, env)?;
        let pairs: Vec<(&str, u64)> =
            frame.params.iter().zip(&args).map(|(param, value)| (param.name.as_str(), *value)).collect();
        let name = stage.node.instance.as_ref().map_or(&frame.name, |instance| &instance.node);
        match frames::bind(frame, &pairs, name) {
            Ok(frame) => Some(frame),
            Err(error) => {
                let code = super::code_of(&error);
                self.findings.push(Diagnostic::new(code, stage.span, error.to_string()));
                None
            }
        }
    }
}
