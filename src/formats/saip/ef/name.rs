//! Names of the operator and of networks that a terminal shows.

use super::alphabet;
use super::form::{Extent, Form, Wrong, padded};

/// `usim/ef-spn`, `opt-iot/ef-spn`: 17 octets, display condition and 16 octets of text. The condition stays the template's.
pub(super) struct Spn;

impl Form for Spn {
    const NAME: &'static str = "spn";
    const FORM: &'static str = "up to 16 characters of the GSM alphabet, or up to 7 others";
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.12";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        // Bits 3 to 8 are reserved: an octet with one of them is a fill pattern, not a condition.
        let condition = extent.given.first().copied().flatten().filter(|octet| *octet < 4).unwrap_or(1);
        let mut octets = vec![condition];
        octets.extend(alphabet::write_alpha(value, SPN_TEXT)?);
        Ok(padded(octets, SPN_TEXT + 1))
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        alphabet::read_alpha(octets.get(1..=SPN_TEXT)?)
    }
}

const SPN_TEXT: usize = 16;
