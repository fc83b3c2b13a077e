//! (being built)
pub mod order;
