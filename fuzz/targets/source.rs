//! Any text: the front end answers, and formatting changes nothing but the form.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| pipe_lib::testing::fuzz_source(text));
