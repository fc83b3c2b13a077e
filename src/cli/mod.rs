//! (being built)

pub mod bench;
