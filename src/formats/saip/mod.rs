//! SAIP profile packages: elements, files, the readable template source and the rules a template is checked against.
//!
//! Two layers. The TLV layer ([`package`](mod@package), [`file`](mod@file)) owns the bytes and knows places only, so that a foreign template of any
//! version survives octet by octet; personalisation and audit stand on it. The typed layer (`types`, `rasn`) builds templates
//! from source and checks them; live keys never enter it, because its octet strings cannot be wiped.
//!
//! Source: TCA eUICC Profile Package, Interoperable Format Technical Specification, 2.1 to 3.4.1.

pub mod algorithm;
pub mod catalogue;
pub mod ef;
pub mod file;
pub mod kind;
pub mod lint;
pub mod package;
pub mod path;
pub mod services;
pub mod source;
pub mod toolkit;
pub mod types;
