//! Any bytes decide on a pipeline, a stream and the ways to run it: every backend does what the oracle does.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pipe_lib::testing::fuzz_composition(bytes));
