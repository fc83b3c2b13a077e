//! (being built)

pub mod fleet;
pub mod verify;
