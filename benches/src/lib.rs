//! Fused loops against separate passes, and Cheetah against its peers.
//!
//! [`cases`] says what is compared, [`contenders`] who takes part, [`harness`] how it is timed: interleaved,
//! so that a machine that slows down slows all of them, and by medians. [`record`] is what a run found;
//! [`goals`] judges it by the figures that the project wants to reach, [`bounds`] says what the machine
//! allows, [`report`] and [`plot`] show it. `cargo run --release -p benches --bin figures` does all of that;
//! `cargo bench -p benches` is a smaller choice under criterion, for comparing with an earlier state.

pub mod cases;
pub mod contenders;
pub mod harness;

pub mod compile;
pub mod machine;
pub mod record;

pub mod bounds;
pub mod goals;

pub mod plot;
pub mod report;
