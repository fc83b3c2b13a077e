//! The UPP, and whom it is for.

use std::fmt;

use crate::formats::digest::sha256;
use crate::ids::{Iccid, Imsi};

/// Who a profile is for: what the order says of one record.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The profile's number.
    pub iccid: Iccid,
    /// The subscriber's number; every template with EF.IMSI needs it.
    pub imsi: Option<Imsi>,
    /// The telephone number.
    pub msisdn: Option<&'a str>,
    /// Values of the variables that differ per record, by name.
    pub vars: &'a [(String, String)],
}

/// Unprotected Profile Package of one record: K, PINs and OTA keys in the clear. Exact size, wiped on drop, never printed.
/// Only [`super::CompiledTemplate::personalise`] makes one.
pub struct Upp {
    octets: Vec<u8>,
    iccid: Iccid,
}

impl Upp {
    /// `octets` was filled without growing, so no freed copy is left behind.
    pub(super) fn new(octets: Vec<u8>, iccid: Iccid) -> Self {
        Self { octets, iccid }
    }

    /// For tests and benchmarks of the stages behind: any octets as a UPP.
    #[doc(hidden)]
    pub fn from_plain_for_tests(octets: Vec<u8>, iccid: Iccid) -> Self {
        Self { octets, iccid }
    }

    /// The octets, for `protect` and the audit only.
    pub fn expose(&self) -> &[u8] {
        &self.octets
    }

    /// Size in octets.
    #[allow(clippy::len_without_is_empty)] // a package is never empty
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// SHA-256 of the package, for manifest and metadata.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.octets)
    }

    /// Whose profile it is.
    pub fn iccid(&self) -> Iccid {
        self.iccid
    }
}

impl Drop for Upp {
    /// All at once: `Zeroizing` stores octet by octet, which took four fifths of the time of a profile.
    fn drop(&mut self) {
        self.octets.fill(0);
        zeroize::optimization_barrier(&self.octets[..]);
    }
}

impl fmt::Debug for Upp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upp({}, {} octets)", self.iccid.masked(), self.octets.len())
    }
}
