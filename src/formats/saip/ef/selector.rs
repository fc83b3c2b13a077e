//! Network selectors: a network code and the access technologies to look for it with.

use super::form::{Extent, Form, Wrong};
use super::plmn;

/// `opt-usim/ef-plmnwact`: n x 5 octets, the user's list.
pub(super) struct PlmnWact;
/// `opt-usim/ef-oplmnwact`, `opt-iot/ef-oplmnwact`: n x 5 octets, the operator's list.
pub(super) struct OplmnWact;
/// `opt-usim/ef-hplmnwact`, `opt-iot/ef-hplmnwact`: n x 5 octets, the home network.
pub(super) struct HplmnWact;

impl Form for PlmnWact {
    const NAME: &'static str = "plmnwact";
    const FORM: &'static str = FORM;
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.5";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        write(value, extent)
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        read(octets)
    }
}

impl Form for OplmnWact {
    const NAME: &'static str = "oplmnwact";
    const FORM: &'static str = FORM;
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.53";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        write(value, extent)
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        read(octets)
    }
}

impl Form for HplmnWact {
    const NAME: &'static str = "hplmnwact";
    const FORM: &'static str = FORM;
    const CLAUSE: &'static str = "3GPP TS 31.102 §4.2.54";

    fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
        write(value, extent)
    }

    fn read(octets: &[u8], _: Option<usize>) -> Option<String> {
        read(octets)
    }
}

const FORM: &str = "networks in order of preference, such as 26201:E-UTRAN+NG-RAN,26202:C080,26203";

/// 3GPP TS 31.102 §4.2.5: the bits of the access technology identifier. E-UTRAN and GSM have two forms each; the second of them
/// are the bits that say the same with the modes spelled out.
const TECHNOLOGIES: &[(&str, u16, u16)] = &[
    ("UTRAN", 0x8000, 0x8000),
    ("E-UTRAN", 0x4000, 0x7000),
    ("E-UTRAN-WB", 0x6000, 0x6000),
    ("E-UTRAN-NB", 0x5000, 0x5000),
    ("NG-RAN", 0x0800, 0x0800),
    ("satellite-NG-RAN", 0x0400, 0x0400),
    ("satellite-E-UTRAN-WB", 0x0200, 0x0200),
    ("satellite-E-UTRAN-NB", 0x0100, 0x0100),
    ("GSM", 0x0080, 0x008C),
    ("GSM-without-EC", 0x0084, 0x0084),
    ("EC-GSM-IoT", 0x0088, 0x0088),
    ("GSM-COMPACT", 0x0040, 0x0040),
    ("HRPD", 0x0020, 0x0020),
    ("1xRTT", 0x0010, 0x0010),
];
const E_UTRAN_MODES: u16 = 0x7000;
const GSM_MODES: u16 = 0x008C;

/// A place of the list that holds no network.
const FREE: [u8; 5] = [0xFF, 0xFF, 0xFF, 0, 0];

fn write(value: &str, extent: &Extent<'_>) -> Result<Vec<u8>, Wrong> {
    let mut octets = Vec::new();
    for entry in value.split(',').map(str::trim) {
        let (code, technologies) = entry.split_once(':').unwrap_or((entry, "0000"));
        octets.extend(plmn::write_plmn(code)?);
        octets.extend(technology_bits(technologies)?.to_be_bytes());
    }
    while octets.len() + FREE.len() <= extent.len {
        octets.extend(FREE);
    }
    // A file that is no multiple of five has a tail no terminal reads.
    Ok(super::form::padded(octets, extent.len))
}

fn read(octets: &[u8]) -> Option<String> {
    let (entries, _) = octets.as_chunks::<5>();
    let used = entries.iter().filter(|[a, b, c, ..]| [a, b, c] != [&0xFF; 3]);
    let entries: Vec<String> = used
        .map(|[a, b, c, high, low]| {
            let code = plmn::read_plmn([*a, *b, *c])?;
            Some(match u16::from_be_bytes([*high, *low]) {
                0 => code,
                bits => format!("{code}:{}", technologies(bits)),
            })
        })
        .collect::<Option<_>>()?;
    (!entries.is_empty()).then(|| entries.join(","))
}

fn technology_bits(text: &str) -> Result<u16, Wrong> {
    let is_hex = text.len() == 4 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(bits) = is_hex.then(|| u16::from_str_radix(text, 16).ok()).flatten() {
        return Ok(bits);
    }
    let mut bits = 0;
    for name in text.split('+') {
        let known = TECHNOLOGIES.iter().find(|(technology, ..)| technology.eq_ignore_ascii_case(name));
        let (_, own, _) = known.ok_or_else(|| format!("{name:?} is no access technology; there are {}", names()))?;
        if bits & own != 0 {
            return Err(format!("{name} says again or otherwise what {text:?} says before it").into());
        }
        bits |= own;
    }
    Ok(bits)
}

/// The names of the bits, or the bits in hex when some have no name.
fn technologies(bits: u16) -> String {
    let mut named = 0;
    let mut names = Vec::new();
    for (name, own, long) in TECHNOLOGIES {
        let modes = [E_UTRAN_MODES, GSM_MODES].into_iter().find(|modes| own & modes != 0).unwrap_or(*own);
        if bits & modes == *own || bits & modes == *long {
            named |= bits & modes;
            names.push(*name);
        }
    }
    if named == bits { names.join("+") } else { format!("{bits:04X}") }
}

fn names() -> String {
    TECHNOLOGIES.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::form::Coding;
    use super::*;

    fn extent(len: usize) -> Extent<'static> {
        Extent { len, record_len: None, given: &[] }
    }

    #[test]
    fn technologies_are_the_bits_of_ts_31_102() {
        assert_eq!(technology_bits("E-UTRAN+NG-RAN").unwrap(), 0x4800);
        assert_eq!(technology_bits("UTRAN+E-UTRAN+GSM").unwrap(), 0xC080);
        assert_eq!(technologies(0xC080), "UTRAN+E-UTRAN+GSM");
        assert_eq!(technologies(0x7000), "E-UTRAN");
        assert_eq!(technologies(0x5000), "E-UTRAN-NB");
        assert_eq!(technologies(0x0084), "GSM-without-EC");
        // Modes without their technology, and a reserved bit, have no name.
        assert_eq!(technologies(0x3000), "3000");
        assert_eq!(technologies(0x8001), "8001");
        assert!(technology_bits("E-UTRAN+E-UTRAN-NB").is_err());
        assert!(technology_bits("LTE").unwrap_err().contains("E-UTRAN"));
    }

    #[test]
    fn free_places_are_marked_as_the_standard_asks() {
        let octets = HplmnWact.encode("26201:E-UTRAN+NG-RAN,310410", extent(16)).unwrap();
        assert_eq!(octets[..10], [0x62, 0xF2, 0x10, 0x48, 0, 0x13, 0x00, 0x14, 0, 0]);
        assert_eq!(octets[10..], [0xFF, 0xFF, 0xFF, 0, 0, 0xFF]);
        assert_eq!(HplmnWact.decode(&octets, None).unwrap(), "26201:E-UTRAN+NG-RAN,310410");
        assert_eq!(PlmnWact.decode(&[0xFF, 0xFF, 0xFF, 0, 0], None), None);
    }
}
