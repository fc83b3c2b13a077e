//! Identities of a CSIM: what the template writes of its own subscriber is written anew (3GPP2 C.S0065, C.S0005).

use super::About;

/// IMSI derived from the MIN. `csim/ef-imsi-m`, B9/A5/83, where the template writes one: 10 octets, packed, from an IMSI of 15 digits.
pub(super) const IMSI_M: About<'_> =
    About { name: "imsi_m", source: "derived", form: "the IMSI, 15 digits", clause: "3GPP2 C.S0065 §5.2.2" };
/// True IMSI. `csim/ef-imsi-t`, B9/A6/83, where the template writes one: 10 octets, packed, from an IMSI of 15 digits.
pub(super) const IMSI_T: About<'_> =
    About { name: "imsi_t", source: "derived", form: "the IMSI, 15 digits", clause: "3GPP2 C.S0065 §5.2.3" };
/// Access overload class. `csim/ef-accolc`, B9/AF/83, where the template writes one of 0 to 9: 1 octet, the last digit of the IMSI.
/// The classes 10 to 15 are for test and emergency and stay.
pub(super) const ACCOLC: About<'_> = About {
    name: "accolc",
    source: "derived",
    form: "the last digit of the IMSI; 10 to 15 stay",
    clause: "3GPP2 C.S0005 §2.3.5",
};
/// Service programming code. `csim/ef-spc`, B9/B5/83, in every template that has the file: 3 octets, six digits with swapped nibbles.
pub(super) const SPC: About<'_> =
    About { name: "spc", source: "generated", form: "6 digits", clause: "3GPP2 C.S0065 §5.2.19" };

/// Octets of EF.IMSI_M and EF.IMSI_T.
pub(super) const IMSI_LEN: usize = 10;
/// Digits of the IMSI that they hold.
pub(in crate::personalise) const IMSI_DIGITS: usize = 15;
/// Octets of EF.SPC.
pub(super) const SPC_LEN: usize = 3;

/// What the template writes is an identity, not room for one.
pub(super) fn is_identity(octets: &[u8]) -> bool {
    !octets.iter().all(|octet| *octet == 0) && !octets.iter().all(|octet| *octet == 0xFF)
}
