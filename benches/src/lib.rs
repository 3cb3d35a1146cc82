//! Fused loops against separate passes, and Cheetah against its peers.
//!
//! [`cases`] says what is compared, [`contenders`] who takes part, [`harness`] how it is timed: interleaved,
//! so that a machine that slows down slows all of them, and by medians. `cargo run --release -p benches --bin
//! figures` prints the tables and the ratios that the project promises; `cargo bench -p benches` is the same
//! under criterion, for comparing with an earlier state.

pub mod cases;
pub mod contenders;
pub mod harness;

pub mod machine;
pub mod plot;
