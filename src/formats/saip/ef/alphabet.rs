//! Text in files: the GSM default alphabet (3GPP TS 23.038 §6.2.1) and UCS2 (ETSI TS 102 221 Annex A).

use super::form::{Wrong, does_not_fit, unpadded};

/// Text of an alpha field of `room` octets, not padded. The default alphabet, one octet a character with bit 8 clear; where a
/// character is not in it or the text is too long that way, the first form of UCS2 that fits: `80`, `81` or `82`.
pub(super) fn write_alpha(text: &str, room: usize) -> Result<Vec<u8>, Wrong> {
    check_text(text)?;
    let forms = [write_default, write_plain, write_half_page, write_based];
    let mut shortest = usize::MAX;
    for octets in forms.iter().filter_map(|form| form(text)) {
        if octets.len() <= room {
            return Ok(octets);
        }
        shortest = shortest.min(octets.len());
    }
    if shortest == usize::MAX {
        return Err(format!("{text:?} has characters that no alphabet of a UICC holds").into());
    }
    Err(does_not_fit(shortest, room))
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
    check_text(&text).is_ok().then_some(text)
}

/// A name has something to show and no control characters; the last code of UCS2 is the padding.
pub(super) fn check_text(text: &str) -> Result<(), Wrong> {
    if text.trim().is_empty() {
        return Err("the value is empty".into());
    }
    if text.chars().any(|c| c.is_control() || c == '\u{FFFF}') {
        return Err(format!("{text:?} has control characters").into());
    }
    Ok(())
}

/// Codes of the default alphabet and its extension; `None` for a character in neither.
pub(super) fn write_default(text: &str) -> Option<Vec<u8>> {
    let mut codes = Vec::with_capacity(text.len());
    for character in text.chars() {
        if let Some(code) = basic(character) {
            codes.push(code);
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

/// Septets without gaps, the first in the low bits (3GPP TS 23.038 §6.1.2.1).
pub(super) fn pack(codes: &[u8]) -> Vec<u8> {
    let mut octets = vec![0; (codes.len() * 7).div_ceil(8)];
    for (at, bit) in
        codes.iter().enumerate().flat_map(|(at, code)| (0..7).map(move |bit| (at * 7 + bit, code >> bit & 1)))
    {
        octets[at / 8] |= bit << (at % 8);
    }
    octets
}

/// The septets in the first `bits` bits.
pub(super) fn unpack(octets: &[u8], bits: usize) -> Vec<u8> {
    let bit = |at: usize| octets.get(at / 8).map_or(0, |octet| octet >> (at % 8) & 1);
    (0..bits / 7).map(|septet| (0..7).fold(0, |code, at| code | bit(septet * 7 + at) << at)).collect()
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

/// `80` and UCS2.
fn write_plain(text: &str) -> Option<Vec<u8>> {
    Some([vec![0x80], write_ucs2(text)?].concat())
}

/// `81`, length, half page, and an octet a character: the others are all of one half page of 128 characters.
fn write_half_page(text: &str) -> Option<Vec<u8>> {
    let page = text.chars().find(|c| basic(*c).is_none()).map_or(0, |c| u32::from(c) >> 7);
    let octets = write_offsets(text, page << 7)?;
    Some([vec![0x81, octets.len() as u8, u8::try_from(page).ok()?], octets].concat())
}

/// `82`, length, first character, and an octet a character: the others lie within 128 of each other.
fn write_based(text: &str) -> Option<Vec<u8>> {
    let base = u16::try_from(text.chars().filter(|c| basic(*c).is_none()).map(u32::from).min()?).ok()?;
    let octets = write_offsets(text, u32::from(base))?;
    let [high, low] = base.to_be_bytes();
    Some([vec![0x82, octets.len() as u8, high, low], octets].concat())
}

fn write_offsets(text: &str, base: u32) -> Option<Vec<u8>> {
    let offset = |c| u32::from(c).checked_sub(base).filter(|offset| *offset < 0x80).map(|offset| offset as u8 | 0x80);
    let octets: Vec<u8> = text.chars().map(|c| basic(c).or_else(|| offset(c))).collect::<Option<_>>()?;
    (octets.len() <= 0xFF).then_some(octets)
}

/// The code of a character in the default alphabet without its extension.
fn basic(character: char) -> Option<u8> {
    DEFAULT.iter().position(|c| *c == character && character != ESCAPE).map(|code| code as u8)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn characters_stand_where_ts_23_038_has_them() {
        // Row and column of the table: @ 00, £ 01, Δ 10, space 20, A 41, Ä 5B, ¿ 60, ü 7E, à 7F; € and [ behind the escape code.
        assert_eq!(write_default("@£Δ AÄ¿üà").unwrap(), [0x00, 0x01, 0x10, 0x20, 0x41, 0x5B, 0x60, 0x7E, 0x7F]);
        assert_eq!(write_default("€[").unwrap(), [0x1B, 0x65, 0x1B, 0x3C]);
        assert_eq!(write_default("\u{1B}"), None);
        assert_eq!(read_default(&[0x1B]), None);
        assert_eq!(read_default(&[0x80]), None);
    }

    #[test]
    fn seven_bits_are_packed_as_in_the_well_known_hello() {
        // "hellohello" is E8329BFD4697D9EC37 in 9 octets, the example every description of TS 23.038 packing uses.
        let codes = write_default("hellohello").unwrap();
        let packed = [0xE8, 0x32, 0x9B, 0xFD, 0x46, 0x97, 0xD9, 0xEC, 0x37];
        assert_eq!(pack(&codes), packed);
        assert_eq!(unpack(&packed, 70), codes);
    }

    #[test]
    fn ucs2_is_written_in_the_first_form_that_fits() {
        // Cyrillic: U+041F is half page 08 (0x0400 >> 7), offset 1F.
        assert_eq!(write_alpha("Пу", 16).unwrap(), [0x80, 0x04, 0x1F, 0x04, 0x43]);
        assert_eq!(write_alpha("Пу 5", 8).unwrap(), [0x81, 4, 0x08, 0x9F, 0xC3, 0x20, 0x35]);
        // U+047F and U+0480 lie in two half pages but within 128 of each other.
        assert_eq!(write_alpha("\u{47F}\u{480}ab", 8).unwrap(), [0x82, 4, 0x04, 0x7F, 0x80, 0x81, 0x61, 0x62]);
        assert!(write_alpha("日本語日本語日本", 16).unwrap_err().contains("takes 17 octets"));
        assert!(write_alpha("😀", 16).is_err());
    }

    #[test]
    fn the_three_ucs2_forms_read_as_annex_a_of_ts_102_221_shows() {
        // The annex's examples: 81 05 13 53 95 A6 XX FF FF with characters of half page 0x0980, 82 05 05 30 2D 82 D3 2D 31.
        assert_eq!(read_alpha(&[0x81, 4, 0x13, 0x53, 0x95, 0xA6, 0x28, 0xFF]).unwrap(), "S\u{995}\u{9A6}(");
        assert_eq!(read_alpha(&[0x82, 5, 0x05, 0x30, 0x2D, 0x82, 0xD3, 0x2D, 0x31]).unwrap(), "-\u{532}\u{583}-1");
        assert_eq!(read_alpha(&[0x80, 0x04, 0x1F, 0xFF, 0xFF]).unwrap(), "П");
        assert_eq!(read_alpha(&[0xFF; 4]), None);
        assert_eq!(read_alpha(&[0x81, 9, 0, 0x41]), None);
    }

    proptest! {
        #[test]
        fn packed_septets_come_back(codes in proptest::collection::vec(0..0x80_u8, 0..40)) {
            prop_assert_eq!(unpack(&pack(&codes), codes.len() * 7), codes);
        }

        #[test]
        fn text_that_fits_is_read_back(text in "[a-z@€\\[ÜΔа-яあ-ん]{1,12}", room in 1..40_usize) {
            if let Ok(octets) = write_alpha(&text, room) {
                prop_assert!(octets.len() <= room);
                prop_assert_eq!(read_alpha(&octets), Some(text));
            }
        }
    }
}
