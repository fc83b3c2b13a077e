//! SGP.22 certificates: who is believed, who we are, and the test PKI of a demo site.
//!
//! Path checks are our own: the EUM's constraint is a prefix of EIDs, which ordinary X.509 path checking takes for a directory
//! name that no eUICC has, and refuses every chain. Sources: SGP.22 §2.4.2, §4.5.2, SGP.26.

pub mod certificate;
pub mod chain;
pub mod euicc;
pub mod issue;
pub mod oid;
pub mod point;
pub mod request;
pub mod test_pki;
pub mod trust;

pub use certificate::Certificate;
pub use chain::{DpChain, DpChains, DpPair, DpPoints, DpRole, OwnPoints};
pub use euicc::{EuiccJudge, OneTimePoint};
pub use trust::Trust;

pub use crate::formats::curve::Curve;

/// Why a certificate or a key of an eUICC is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CertRefusal {
    /// A word for files: `eum-signature`, `eid-mismatch`, ...
    pub code: &'static str,
    /// What is wrong, EIDs masked.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
}

/// Whether `r || s` is the signature of `digest` by the key with this public point (uncompressed).
pub fn signature_fits(point: &[u8; 65], digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    point::public_key(point).is_ok_and(|key| point::verifies(&key, digest, signature))
}
