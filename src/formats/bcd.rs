//! Digits in octets: swapped nibbles (3GPP TS 31.102, ETSI TS 102 221) and straight BCD (SAIP ProfileHeader).

/// Digits with the first of each pair in the **low** nibble, `F` after the last: how EF.ICCID and StoreMetadata write an ICCID.
/// `N` octets; digits beyond `2 N` are not written.
pub fn swapped<const N: usize>(digits: &str) -> [u8; N] {
    let mut out = [0xFF; N];
    for (i, digit) in digits.bytes().map(|b| b.wrapping_sub(b'0') & 15).enumerate().take(2 * N) {
        let octet = &mut out[i / 2];
        *octet = if i % 2 == 0 { *octet & 0xF0 | digit } else { *octet & 0x0F | digit << 4 };
    }
    out
}

/// Digits with the first of each pair in the **high** nibble, `F` after the last: how the ProfileHeader writes an ICCID.
pub fn straight<const N: usize>(digits: &str) -> [u8; N] {
    swapped::<N>(digits).map(|octet| octet.rotate_left(4))
}

/// The digits of swapped-nibble octets, up to the first `F`. `None` for nibbles A to E or digits after an `F`.
pub fn read_swapped(octets: &[u8]) -> Option<String> {
    let nibbles: Vec<u8> = octets.iter().flat_map(|o| [o & 15, o >> 4]).collect();
    let end = nibbles.iter().position(|n| *n == 15).unwrap_or(nibbles.len());
    let (digits, pad) = nibbles.split_at(end);
    let sound = digits.iter().all(|n| *n < 10) && pad.iter().all(|n| *n == 15);
    sound.then(|| digits.iter().map(|n| char::from(b'0' + n)).collect())
}

/// EF.IMSI (3GPP TS 31.102 §4.2.2): length octet 08, then parity nibble (9 odd, 1 even) and swapped digits, 9 octets in all.
/// `digits`: 6 to 15 of them.
pub fn ef_imsi(digits: &str) -> [u8; 9] {
    let parity = if digits.len() % 2 == 1 { 9 } else { 1 };
    let (first, rest) = digits.split_at(digits.len().min(1));
    let rest: [u8; 7] = swapped(rest);
    let mut out = [0; 9];
    out[0] = (digits.len() / 2 + 1) as u8;
    out[1] = swapped::<1>(first)[0] << 4 | parity;
    out[2..].copy_from_slice(&rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ts48_iccid_reads_as_published() {
        let expected = [0x98, 0x00, 0x10, 0x32, 0x54, 0x76, 0x98, 0x10, 0x32, 0x14];
        assert_eq!(swapped::<10>("89000123456789012341"), expected);
        assert_eq!(straight::<10>("89000123456789012341")[..2], [0x89, 0x00]);
        assert_eq!(read_swapped(&expected).as_deref(), Some("89000123456789012341"));
    }

    #[test]
    fn nineteen_digits_are_padded_with_f() {
        assert_eq!(swapped::<10>("8900012345678901234")[9], 0xF4);
        assert_eq!(straight::<10>("8900012345678901234")[9], 0x4F);
    }

    #[test]
    fn an_imsi_carries_its_length_and_parity() {
        assert_eq!(ef_imsi("001010123456063"), [8, 0x09, 0x10, 0x10, 0x10, 0x32, 0x54, 0x06, 0x36]);
        assert_eq!(ef_imsi("00101012345606"), [8, 0x01, 0x10, 0x10, 0x10, 0x32, 0x54, 0x06, 0xF6]);
    }

    #[test]
    fn letters_and_digits_after_the_pad_are_not_digits() {
        assert_eq!(read_swapped(&[0x1A]), None);
        assert_eq!(read_swapped(&[0x1F]), None);
    }
}
