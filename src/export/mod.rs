//! What leaves the house: the signed bundle of one order for the eIM, the core network and the order system.
//! In: device lines as the ledger holds them, packages on disk. Out: a directory that an outsider can check with
//! `sha256sum` and `openssl`. Rule: no Ki, OPc, OTA key, PPK or session key in the clear, anywhere.

pub mod activation;
pub mod bundle;
pub mod manifest;
pub mod records;
pub mod report;
pub mod seal;
pub mod unpack;
