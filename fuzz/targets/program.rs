//! Any text: what compiles does what the oracle does.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| pipe_lib::testing::fuzz_program(text));
