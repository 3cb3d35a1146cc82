//! Frames of HTTP/2 by decisions, some of them broken: what is answered is HTTP/2.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cheetah::testing::fuzz_http2(bytes));
