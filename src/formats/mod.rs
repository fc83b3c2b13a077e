//! Bytes and types of the standards. Pure: no I/O, no clock, no randomness, no logging. The only room that names `rasn`.

pub mod bcd;
pub mod bsp;
pub mod curve;
pub mod digest;
pub mod rsp;
pub mod saip;
pub mod tlv;
