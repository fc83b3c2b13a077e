//! Text in files: the GSM default alphabet (3GPP TS 23.038 §6.2.1) and UCS2 (ETSI TS 102 221 Annex A).

use super::form::{Wrong, unpadded};

/// Text of an alpha field of `room` octets: the default alphabet, one octet a character with bit 8 clear; where a character is not
/// in it, `80` and UCS2. Not padded.
pub(super) fn write_alpha(text: &str, room: usize) -> Result<Vec<u8>, Wrong> {
    if text.is_empty() {
        return Err("the value is empty".into());
    }
    let octets = match write_default(text) {
        Some(octets) => octets,
        None => {
            let units = write_ucs2(text).ok_or_else(|| Wrong::from(format!("{text:?} has a character beyond UCS2")))?;
            [vec![0x80], units].concat()
        }
    };
    if octets.len() > room {
        return Err(super::form::does_not_fit(octets.len(), room));
    }
    Ok(octets)
}

/// The text of an alpha field in any of its four forms; `None` when it is empty or broken.
pub(super) fn read_alpha(field: &[u8]) -> Option<String> {
    let text = match field {
        [0x80, units @ ..] => read_ucs2(units)?,
        [0x81, len, base, rest @ ..] => {
            let base = u32::from(*base) << 7;
            read_based(rest.get(..usize::from(*len))?, base)?
        }
        [0x82, len, high, low, rest @ ..] => {
            let base = u32::from(u16::from_be_bytes([*high, *low]));
            read_based(rest.get(..usize::from(*len))?, base)?
        }
        _ => read_default(unpadded(field))?,
    };
    // Control characters are no name: what looks like one is another form.
    let shown = !text.is_empty() && text.chars().all(|c| !c.is_control() && c != '\u{FFFF}');
    shown.then_some(text)
}

/// Codes of the default alphabet and its extension; `None` for a character in neither.
pub(super) fn write_default(text: &str) -> Option<Vec<u8>> {
    let mut codes = Vec::with_capacity(text.len());
    for character in text.chars() {
        if let Some(code) = DEFAULT.iter().position(|c| *c == character && character != ESCAPE) {
            codes.push(code as u8);
        } else {
            let (code, _) = EXTENSION.iter().find(|(_, c)| *c == character)?;
            codes.extend([ESCAPE_CODE, *code]);
        }
    }
    Some(codes)
}

/// The reverse of [`write_default`].
pub(super) fn read_default(codes: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut codes = codes.iter();
    while let Some(code) = codes.next() {
        text.push(match *code {
            ESCAPE_CODE => {
                let code = codes.next()?;
                EXTENSION.iter().find(|(extended, _)| extended == code)?.1
            }
            code => *DEFAULT.get(usize::from(code))?,
        });
    }
    Some(text)
}

/// Two octets a character, most significant first; `None` beyond the basic plane.
pub(super) fn write_ucs2(text: &str) -> Option<Vec<u8>> {
    let units = text.chars().map(|c| u16::try_from(u32::from(c)).ok().map(u16::to_be_bytes));
    units.collect::<Option<Vec<_>>>().map(|units| units.concat())
}

/// The reverse of [`write_ucs2`]; ends at the padding.
pub(super) fn read_ucs2(octets: &[u8]) -> Option<String> {
    let (units, _) = octets.as_chunks::<2>();
    let units = units.iter().map(|unit| u16::from_be_bytes(*unit)).take_while(|unit| *unit != 0xFFFF);
    units.map(|unit| char::from_u32(u32::from(unit))).collect()
}

/// Characters of the default alphabet, and those of one half page of UCS2 with bit 8 set.
fn read_based(octets: &[u8], base: u32) -> Option<String> {
    let mut text = String::new();
    for octet in octets {
        text.push(match octet {
            0..=0x7F => *DEFAULT.get(usize::from(*octet)).filter(|c| **c != ESCAPE)?,
            _ => char::from_u32(base + u32::from(octet & 0x7F))?,
        });
    }
    Some(text)
}

const ESCAPE_CODE: u8 = 0x1B;
const ESCAPE: char = '\u{1B}';

/// 3GPP TS 23.038 §6.2.1: the character of each code.
#[rustfmt::skip]
const DEFAULT: [char; 128] = [
    '@', '£', '$', '¥', 'è', 'é', 'ù', 'ì', 'ò', 'Ç', '\n', 'Ø', 'ø', '\r', 'Å', 'å',
    'Δ', '_', 'Φ', 'Γ', 'Λ', 'Ω', 'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', ESCAPE, 'Æ', 'æ', 'ß', 'É',
    ' ', '!', '"', '#', '¤', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/',
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?',
    '¡', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O',
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'Ä', 'Ö', 'Ñ', 'Ü', '§',
    '¿', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ä', 'ö', 'ñ', 'ü', 'à',
];

/// 3GPP TS 23.038 §6.2.1.1: characters behind the escape code.
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
