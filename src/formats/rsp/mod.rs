//! Messages of SGP.22 and SGP.32: what travels between SM-DP+ and eUICC.

pub mod es8p;
pub mod euicc_info2;
pub mod metadata;
