//! From text to tree: tokens, grammar, syntax tree, and back to text in canonical form.

#![forbid(unsafe_code)]

pub mod ast;
pub mod lexer;
mod lost;
pub mod parse;
pub mod print;
pub mod token;
