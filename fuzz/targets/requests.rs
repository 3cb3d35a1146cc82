//! What a client of HTTP/1.1 says: the same is answered however it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cheetah::testing::fuzz_requests(bytes));
