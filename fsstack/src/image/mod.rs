//! Making images and checking them whole.

pub mod build;
pub mod check;
mod groups;
