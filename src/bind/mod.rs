//! Turns a profile into a Bound Profile Package (BPP) for one eUICC.
//! In: the eUICC's one-time key, and a UPP to be sealed meanwhile or a stored [`crate::protect::Ppp`]. Out: [`Bpp`].
//! Next: [`crate::export`]. The one-time private key lives only inside [`agree`] and is wiped before it returns.
//! Source: SGP.22 §2.5.4, §3.1.3.2, §5.5.

mod agreement;
mod package;

pub use agreement::{Agreement, OneTimeKey, PeerKey, Workbench, agree};
pub use package::{Bpp, Draft, OpenDraft};

use openssl::error::ErrorStack;

use crate::formats::bsp::segment::SealError;
use crate::formats::tlv::TlvError;

/// Why no package was bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The eUICC's one-time key is not an uncompressed point of the curve.
    #[error("otPK.EUICC is not a point of {curve}")]
    NotOnCurve {
        /// The curve asked for.
        curve: &'static str,
    },
    /// A private scalar of zero or beyond the curve's order.
    #[error("the one-time private key is not below the order of {curve}")]
    Scalar {
        /// The curve asked for.
        curve: &'static str,
    },
    /// What was given as metadata is not one BF25.
    #[error("metadata: {0}")]
    NotMetadata(#[from] TlvError),
    /// StoreMetadata does not fit two segments.
    #[error("metadata has {got} octets, at most {max} fit two segments")]
    Metadata {
        /// Its octets.
        got: usize,
        /// Octets that fit.
        max: usize,
    },
    /// The profile is empty.
    #[error("the profile is empty")]
    Empty,
    /// A segment could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// OpenSSL refused.
    #[error("OpenSSL: {0}")]
    OpenSsl(#[from] ErrorStack),
}

impl BindError {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotOnCurve { .. } => "ask the eUICC manufacturer for this eUICC's one-time key again",
            Self::Scalar { .. } => "nothing was issued for this record; run the order again",
            Self::NotMetadata(_) => "give the whole StoreMetadata, tag and length included",
            Self::Metadata { .. } => "use a smaller icon or fewer notification addresses",
            Self::Empty => "personalise the profile before binding it",
            Self::Seal(_) | Self::OpenSsl(_) => "nothing was issued for this record; run the order again",
        }
    }
}
