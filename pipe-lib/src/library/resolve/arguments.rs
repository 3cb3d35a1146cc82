//! Arguments to parameters, and what `per` says.

use super::{Bound, Resolver};
use crate::check::literal_bits;
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::ir::{Param, Pipe, Tail, Ty};
use crate::source::Span;
use crate::syntax::ast::{self, Expr, Spanned};
use std::num::NonZeroU64;

/// What `per` says.
#[derive(Clone, Copy)]
pub(super) enum WindowArgument {
    Known(NonZeroU64),
    /// A parameter of the pipeline whose declaration is checked.
    Unknown,
}

impl Resolver<'_> {
    /// Values for all parameters; any value for one that is not known yet.
    pub(super) fn arguments(
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
    pub(super) fn arguments_known(
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
                        let count = match params.len() {
                            0 => "no arguments".to_string(),
                            1 => "1 argument".to_string(),
                            count => format!("{count} arguments"),
                        };
                        let message = format!("{kind} `{}` takes {count}", name.node);
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
            self.findings.push(
                Diagnostic::new(Code::TypeMismatch, expr.span, message)
                    .help(format!("declare it as `{name}: {ty}`, or write a number")),
            );
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

    pub(super) fn window(&mut self, expr: &Spanned<Expr>, env: &[Bound]) -> Option<WindowArgument> {
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
                Bound { value: None, .. } => return Some(WindowArgument::Unknown),
            },
            Expr::Number(number) if !number.negative => number.magnitude,
            _ => 0,
        };
        match NonZeroU64::new(bytes) {
            Some(bytes) => Some(WindowArgument::Known(bytes)),
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
    pub(super) fn window_fits(&mut self, pipe: &Pipe, bytes: NonZeroU64, span: Span) -> Option<()> {
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
