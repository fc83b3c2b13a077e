//! (being built)

pub mod template;
