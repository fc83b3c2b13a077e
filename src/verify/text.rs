//! Text of profile files, read by the judge's own hand: the GSM default alphabet (3GPP TS 23.038 §6.2.1) and the three codings of
//! UCS2 (ETSI TS 102 221, Annex A).

/// The default alphabet by code; `1B` begins a code of the extension.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\u{1b}ÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
                     ¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
const EXTENSION: [(u8, char); 9] = [
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2F, '\\'),
    (0x3C, '['),
    (0x3D, '~'),
    (0x3E, ']'),
    (0x40, '|'),
    (0x65, '€'),
];

/// An alpha identifier that ends with FF or with the octets.
pub(super) fn alpha(octets: &[u8]) -> Option<String> {
    match octets {
        [0x80, text @ ..] => ucs2(text),
        [0x81, count, base, text @ ..] => paged(text.get(..usize::from(*count))?, u16::from(*base) << 7),
        [0x82, count, high, low, text @ ..] => {
            paged(text.get(..usize::from(*count))?, u16::from_be_bytes([*high, *low]))
        }
        _ => gsm(octets),
    }
}

/// Pairs of octets up to FFFF.
fn ucs2(octets: &[u8]) -> Option<String> {
    let codes = octets.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    String::from_utf16(&codes.take_while(|code| *code != 0xFFFF).collect::<Vec<_>>()).ok()
}

/// Octets below 80 are of the default alphabet, the others count from the page's base.
fn paged(octets: &[u8], base: u16) -> Option<String> {
    let mut text = String::new();
    for octet in octets {
        match octet {
            0x80.. => text.push(char::from_u32(u32::from(base) + u32::from(octet & 0x7F))?),
            _ => text.push_str(&gsm(&[*octet])?),
        }
    }
    Some(text)
}

fn gsm(octets: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut codes = octets.iter().take_while(|octet| **octet != 0xFF);
    while let Some(code) = codes.next() {
        text.push(match code {
            0x1B => {
                let code = codes.next()?;
                EXTENSION.iter().find(|(known, _)| known == code)?.1
            }
            code => BASIC.chars().nth(usize::from(*code))?,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coding_reads() {
        assert_eq!(BASIC.chars().count(), 128);
        assert_eq!(alpha(b"Acme 5G\xFF\xFF").unwrap(), "Acme 5G");
        assert_eq!(alpha(&[0x00, 0x1B, 0x65, 0x7B, 0xFF]).unwrap(), "@€ä");
        assert_eq!(alpha(&[0x80, 0x04, 0x10, 0x00, 0x41, 0xFF, 0xFF]).unwrap(), "\u{410}A");
        // The bases of the examples in ETSI TS 102 221, Annex A: 13 << 7 and 0530.
        assert_eq!(alpha(&[0x81, 0x03, 0x13, 0x53, 0x95, 0xA6]).unwrap(), "S\u{995}\u{9A6}");
        assert_eq!(alpha(&[0x82, 0x03, 0x05, 0x30, 0x2D, 0x82, 0xD3]).unwrap(), "-\u{532}\u{583}");
        assert_eq!(alpha(&[0x90]), None);
    }
}
