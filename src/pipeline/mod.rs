//! Conducts a batch: rayon for CPU work, HSM lanes for signatures, the ledger for what must survive.

pub mod fan_out;
pub mod lock;
