//! Hostile profile packages: where they come from ([`seeds`], [`mutate`]) and what must hold for every one of them ([`gauntlet`]).
//!
//! Rule: a package costs an error at most, never a panic, a hang or unbounded memory; what decodes encodes to the same octets.

pub mod gauntlet;
pub mod mutate;
pub mod random;
pub mod seeds;
