//! Congestion control: how many bytes may be on their way (RFC 5681). What is lost and what to send again is
//! [`crate::tcp::retransmit`]'s matter; the two meet in "pipe", the bytes believed to be in the network.

pub mod new_reno;

pub use new_reno::NewReno;
