//! SYN-RECEIVED of a PCB: the SYNs of a simultaneous open crossed (RFC 9293 section 3.5, figure 7). Passive
//! opens pass through this state as records of the backlog ([`crate::tcp::listener`]), without a PCB.

/// Both SYNs are out; ours is not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SynReceived;
