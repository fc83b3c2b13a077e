//! `manifest.json` and `manifest.sig`: what the bundle holds, how many, made by whom; signed by the HSM's manifest key.

use std::collections::BTreeMap;

use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use serde::{Deserialize, Serialize};

/// Schema word of `manifest.json`.
pub const SCHEMA: &str = "bindery.manifest/1";

/// `manifest.json`.
#[derive(Debug, Deserialize, Serialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// Whose order.
    pub tenant: String,
    /// Which order.
    pub order_id: String,
    /// Which revision.
    pub rev: u32,
    /// SHA-256 of the order file.
    pub order_sha256: String,
    /// Of a bundle beside the order's own that tells of some rows only, held ones put back or profiles made again: 1 for the first of
    /// its sort. Its counts are those of its rows alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
    /// Its packages take the place of earlier ones of the same ICCIDs, perhaps on other eUICCs; the remake's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remake: Option<u32>,
    /// Of a remake: new profiles are among them, under other numbers than were ordered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renumbered: bool,
    /// RFC 3339, UTC.
    pub created: String,
    /// Every file of the bundle but the manifest and its signature, by path in the bundle.
    pub files: BTreeMap<String, FileEntry>,
    /// Rows of the order by what became of them.
    pub counts: Counts,
    /// Engine, template and format versions.
    pub versions: BTreeMap<String, String>,
    /// SHA-256 of each certificate in `certs/`, by role.
    pub certificates: BTreeMap<String, String>,
    /// Head of the audit log when the bundle was closed, the SHA-256 of its last line; none in bundles of sites without a log.
    pub audit_head: Option<String>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FileEntry {
    /// Lower-case hex.
    pub sha256: String,
    /// Size.
    pub bytes: u64,
}

/// Rows by outcome: `rows = issued + refused + held + cancelled`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Counts {
    /// Rows ordered.
    pub rows: u64,
    /// Rows with a package or a stored PPP.
    pub issued: u64,
    /// Rows refused at validation or failed later.
    pub refused: u64,
    /// Rows set aside.
    pub held: u64,
    /// Rows cancelled.
    pub cancelled: u64,
}

impl Counts {
    /// Every row is accounted for.
    pub fn add_up(&self) -> bool {
        self.rows == self.issued + self.refused + self.held + self.cancelled
    }
}

/// `r || s` as the token gives it, in the DER form `openssl dgst -verify` reads.
pub fn signature_der(raw: &[u8; 64]) -> Result<Vec<u8>, ErrorStack> {
    let (r, s) = raw.split_at(32);
    EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?.to_der()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_lose_a_row_do_not_add_up() {
        let counts = Counts { rows: 10, issued: 8, refused: 1, held: 1, cancelled: 0 };
        assert!(counts.add_up());
        assert!(!Counts { issued: 7, ..counts }.add_up());
    }

    #[test]
    fn a_raw_signature_becomes_two_integers() {
        let mut raw = [0; 64];
        raw[31] = 0x80; // r needs a leading zero octet in DER, s is one octet
        raw[63] = 1;
        assert_eq!(signature_der(&raw).unwrap(), [0x30, 0x07, 0x02, 0x02, 0x00, 0x80, 0x02, 0x01, 0x01]);
    }
}
