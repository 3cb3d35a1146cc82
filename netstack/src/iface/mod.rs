//! What an interface knows besides its connections: whether its address is its own, who its neighbours are,
//! where packets go next, which packets are parts of one, which connection a segment belongs to, and which
//! stack, where there are several.

pub(crate) mod acd;
pub mod arp_cache;
pub(crate) mod autoconf;
pub mod demux;
pub mod flow_share;
pub(crate) mod groups;
pub(crate) mod ipv6;
pub(crate) mod mld;
pub mod reassembly;
pub mod route;
