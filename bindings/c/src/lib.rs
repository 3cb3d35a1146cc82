//! The pipe language and its run-time compiler, for C.
//!
//! What each function does is said at it, in C's words: `include/pipelib.h` is made of this crate by a test.
//! Handles are boxes, given out by a function that makes them and taken back by the one that frees them. No
//! panic leaves: one is a fault of the library, and becomes [`PlStatus::Bug`].

pub mod engine;
pub mod run;
pub mod status;
pub mod stream;
