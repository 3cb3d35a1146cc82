//! The pipe language and its run-time compiler: small data-manipulation steps fused into one machine-code loop.
//!
//! Modules stand in the order in which data flow through them.

pub mod ir;

pub mod compose;

pub mod analyse;

pub mod plan;

pub mod backend;
