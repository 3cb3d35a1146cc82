//! Fused loops against separate passes, and Cheetah against its peers.
