//! Bindery: a secure SM-DP+ profile preparation engine.
//!
//! Data walks one way, and the tree says so:
//!
//! ```text
//! order  ->  personalise  ->  protect  ->  bind  ->  export
//! (lines)      (UPP)           (PPP)       (BPP)     (bundle, eIM)
//! ```
//!
//! Beside the walk stand the rooms it leans on: [`formats`] (bytes and types), [`certs`], [`hsm`] (the token), [`store`] (what
//! must survive), [`telemetry`] (what people see). [`pipeline`] conducts a batch, [`cli`] answers a person, [`verify`] judges
//! what came out. `ARCHITECTURE.md` has the map and the reasons.
//!
//! The first half of the walk, on a built-in template (a batch draws the random octets from the token):
//!
//! ```
//! use bindery::formats::bsp::segment::Sealer;
//! use bindery::personalise::{CompiledTemplate, Draw, Identity, Settings, shelf};
//! use bindery::protect::{Ppk, protect};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let der = shelf::preset("bootstrap").ok_or("a built-in template")??;
//! let template = CompiledTemplate::compile(&der, &Settings::default())?;
//!
//! let random = vec![0x5A; template.draw_len()];
//! let credentials = template.credentials(&mut Draw::new(&random), None)?;
//! let identity =
//!     Identity { iccid: "89000123456789012341".parse()?, imsi: Some("001010123456063".parse()?), msisdn: None, vars: &[] };
//! let upp = template.personalise(&identity, &credentials)?;
//!
//! let ppk = Ppk::from_random(&[0x3C; 48]);
//! let ppp = protect(&upp, ppk.keys(), &mut Sealer::new()?)?;
//! assert_eq!(ppp.len(), bindery::protect::ppp_len(upp.len()));
//! # Ok(())
//! # }
//! ```

pub mod audit;
pub mod bind;
pub mod ceremony;
pub mod certs;
pub mod cli;
pub mod config;
pub mod durable;
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
