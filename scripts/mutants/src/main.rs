//! Rewrites Rust files so that one build holds many mutants, of which `MUTANT=N` in the environment chooses
//! one while the program runs. `../run` calls it.
//!
//! `mutants FILE ..` writes each file back and prints a line a mutant: its number, place, and what it does.
//! Each file calls `crate::mutant(N)`, which the caller has to provide.

use proc_macro2::Span;
use quote::ToTokens as _;
use syn::spanned::Spanned as _;
use syn::visit_mut::{self, VisitMut};
use syn::{BinOp, Expr, ExprBinary, ReturnType, UnOp, parse_quote};

struct Mutator {
    file: String,
    next: u32,
}

impl Mutator {
    /// A number for a mutant that does `what` at `span`.
    fn number(&mut self, span: Span, what: &str) -> u32 {
        let number = self.next;
        self.next += 1;
        println!("{number} {}:{} {what}", self.file, span.start().line);
        number
    }

    fn choice(&mut self, span: Span, what: &str, mutant: &Expr, original: &Expr) -> Expr {
        let number = self.number(span, what);
        parse_quote!((if crate::mutant(#number) { #mutant } else { #original }))
    }

    fn binary(&mut self, binary: &ExprBinary) -> Option<Expr> {
        let other: BinOp = match binary.op {
            BinOp::Eq(_) => parse_quote!(!=),
            BinOp::Ne(_) => parse_quote!(==),
            BinOp::Lt(_) => parse_quote!(<=),
            BinOp::Le(_) => parse_quote!(<),
            BinOp::Gt(_) => parse_quote!(>=),
            BinOp::Ge(_) => parse_quote!(>),
            BinOp::And(_) => parse_quote!(||),
            BinOp::Or(_) => parse_quote!(&&),
            BinOp::Add(_) => parse_quote!(-),
            BinOp::Sub(_) => parse_quote!(+),
            BinOp::Mul(_) => parse_quote!(+),
            BinOp::Shl(_) => parse_quote!(>>),
            BinOp::Shr(_) => parse_quote!(<<),
            BinOp::BitAnd(_) => parse_quote!(|),
            BinOp::BitOr(_) | BinOp::BitXor(_) => parse_quote!(&),
            BinOp::AddAssign(_) => parse_quote!(-=),
            BinOp::SubAssign(_) => parse_quote!(+=),
            BinOp::BitOrAssign(_) | BinOp::BitXorAssign(_) => parse_quote!(&=),
            BinOp::BitAndAssign(_) => parse_quote!(|=),
            BinOp::ShlAssign(_) => parse_quote!(>>=),
            BinOp::ShrAssign(_) => parse_quote!(<<=),
            _ => return None,
        };
        let (old, new) = (binary.op.to_token_stream(), other.to_token_stream());
        let mut mutant = binary.clone();
        mutant.op = other;
        let what = format!("{old} becomes {new}");
        Some(self.choice(binary.op.span(), &what, &Expr::Binary(mutant), &Expr::Binary(binary.clone())))
    }
}

/// Whether a condition binds names, which ends with the condition.
fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        Expr::Paren(paren) => has_let(&paren.expr),
        _ => false,
    }
}

impl VisitMut for Mutator {
    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        visit_mut::visit_expr_mut(self, expr);
        let mutated = match &*expr {
            Expr::Binary(binary) if !has_let(expr) => self.binary(binary),
            Expr::Unary(unary) if matches!(unary.op, UnOp::Not(_)) => {
                let original = expr.clone();
                Some(self.choice(unary.op.span(), "! is left out", &unary.expr, &original))
            }
            _ => None,
        };
        if let Some(mutated) = mutated {
            *expr = mutated;
        }
    }

    fn visit_arm_mut(&mut self, arm: &mut syn::Arm) {
        let span = arm.pat.span();
        visit_mut::visit_arm_mut(self, arm);
        if let Some((_, guard)) = &mut arm.guard
            && !has_let(guard)
        {
            let (never, always) =
                (self.number(span, "arm is never taken"), self.number(span, "guard is left out"));
            **guard = parse_quote!((!crate::mutant(#never) && (crate::mutant(#always) || #guard)));
        }
    }

    fn visit_expr_repeat_mut(&mut self, repeat: &mut syn::ExprRepeat) {
        self.visit_expr_mut(&mut repeat.expr);
    }

    fn visit_signature_mut(&mut self, _: &mut syn::Signature) {}

    fn visit_item_const_mut(&mut self, _: &mut syn::ItemConst) {}

    fn visit_item_static_mut(&mut self, _: &mut syn::ItemStatic) {}

    fn visit_impl_item_const_mut(&mut self, _: &mut syn::ImplItemConst) {}

    fn visit_type_mut(&mut self, _: &mut syn::Type) {}

    fn visit_pat_mut(&mut self, _: &mut syn::Pat) {}

    fn visit_item_fn_mut(&mut self, item: &mut syn::ItemFn) {
        if item.sig.constness.is_none() {
            visit_mut::visit_item_fn_mut(self, item);
            self.results(&item.sig, &mut item.block);
        }
    }

    fn visit_impl_item_fn_mut(&mut self, item: &mut syn::ImplItemFn) {
        if item.sig.constness.is_none() {
            visit_mut::visit_impl_item_fn_mut(self, item);
            self.results(&item.sig, &mut item.block);
        }
    }
}

impl Mutator {
    /// A function that answers something else at once.
    fn results(&mut self, signature: &syn::Signature, block: &mut syn::Block) {
        let ReturnType::Type(_, ty) = &signature.output else { return };
        let ty = ty.to_token_stream().to_string();
        let answers: &[&str] = match ty.as_str() {
            "bool" => &["true", "false"],
            ty if ty.starts_with("Option") => &["None"],
            _ => return,
        };
        for answer in answers {
            let number = self.number(signature.ident.span(), &format!("{} is {answer}", signature.ident));
            let answer: Expr = syn::parse_str(answer).expect("a literal");
            block.stmts.insert(0, parse_quote!(if crate::mutant(#number) { return #answer; }));
        }
    }
}

fn main() {
    let mut mutator = Mutator { file: String::new(), next: 0 };
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        mutator.file = path.clone();
        mutator.visit_file_mut(&mut file);
        std::fs::write(&path, file.to_token_stream().to_string())
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}
