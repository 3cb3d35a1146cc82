//! The Cheetah HTTP server.
fn main() {}
