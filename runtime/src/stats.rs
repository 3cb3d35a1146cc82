//! Figures that a running server keeps of itself, cheap enough for every packet.

pub mod work;
