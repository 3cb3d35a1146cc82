//! TLS records that are damaged on the way: what is opened was sent.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cheetah::testing::fuzz_records(bytes));
