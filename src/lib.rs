//! Bindery: a secure SM-DP+ profile preparation engine.
//!
//! Data walks one way, and the tree says so:
//!
//! ```text
//! order  ->  personalise  ->  protect  ->  bind  ->  export
//! (lines)      (UPP)           (PPP)       (BPP)     (bundle, eIM)
//! ```

pub mod bind;
pub mod certs;
pub mod cli;
pub mod config;
pub mod error;
pub mod export;
pub mod ffi;
pub mod fleet;
pub mod formats;
pub mod hsm;
pub mod ids;
pub mod order;
pub mod personalise;
pub mod pipeline;
pub mod protect;
pub mod secret;
pub mod store;
pub mod telemetry;
pub mod verify;
