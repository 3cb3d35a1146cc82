//! Command line of the pipe compiler.
fn main() {}
