//! (being built)
pub mod doctor;
pub mod init;
pub mod keys;
