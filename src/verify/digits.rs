//! Digits of profile files, read by the judge's own hand (`formats::bcd` belongs to the side that is judged).

/// High nibble first, `F` after the last digit.
pub(super) fn straight(octets: &[u8]) -> Option<String> {
    read(octets.iter().flat_map(|octet| [octet >> 4, octet & 15]))
}

/// Low nibble first, `F` after the last digit.
pub(super) fn swapped(octets: &[u8]) -> Option<String> {
    read(octets.iter().flat_map(|octet| [octet & 15, octet >> 4]))
}

/// EF.IMSI (3GPP TS 31.102 §4.2.2): 9 octets; length, parity nibble and digits, `F` after the last.
pub(super) fn imsi(file: &[u8]) -> Option<String> {
    let (length @ 1..=8, body) =
        file.split_first().filter(|_| file.len() == 9).map(|(l, body)| (usize::from(*l), body))?
    else {
        return None;
    };
    let (used, unused) = body.split_at(length);
    let parity = used[0] & 15;
    let digits =
        read(std::iter::once(used[0] >> 4).chain(used[1..].iter().flat_map(|octet| [octet & 15, octet >> 4])))?;
    let is_odd = digits.len() % 2 == 1;
    let sound =
        parity == if is_odd { 9 } else { 1 } && length == digits.len() / 2 + 1 && unused.iter().all(|o| *o == 0xFF);
    sound.then_some(digits)
}

fn read(nibbles: impl Iterator<Item = u8>) -> Option<String> {
    let mut digits = String::new();
    let mut ended = false;
    for nibble in nibbles {
        match nibble {
            0..=9 if !ended => digits.push(char::from(b'0' + nibble)),
            15 => ended = true,
            _ => return None,
        }
    }
    Some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ts48_files_read_as_published() {
        assert_eq!(
            swapped(&[0x98, 0x00, 0x10, 0x32, 0x54, 0x76, 0x98, 0x10, 0x32, 0x14]).unwrap(),
            "89000123456789012341"
        );
        assert_eq!(straight(&[0x89, 0x00, 0x01, 0x4F]).unwrap(), "8900014");
        assert_eq!(imsi(&[8, 0x09, 0x10, 0x10, 0x10, 0x32, 0x54, 0x06, 0x36]).unwrap(), "001010123456063");
        assert_eq!(imsi(&[8, 0x01, 0x10, 0x10, 0x10, 0x32, 0x54, 0x06, 0xF6]).unwrap(), "00101012345606");
    }

    #[test]
    fn wrong_parity_length_or_padding_is_no_imsi() {
        assert_eq!(imsi(&[8, 0x01, 0x10, 0x10, 0x10, 0x32, 0x54, 0x06, 0x36]), None);
        assert_eq!(imsi(&[7, 0x09, 0x10, 0x10, 0x10, 0x32, 0x54, 0x06, 0x36]), None);
        assert_eq!(imsi(&[9, 0x09, 0x10, 0x10, 0x10, 0x32, 0x54, 0x06, 0x36]), None);
        assert_eq!(imsi(&[8, 0x09, 0x10, 0x10, 0x10, 0x32, 0x54, 0x06]), None);
        assert_eq!(imsi(&[8, 0xF9, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]), None);
        assert_eq!(imsi(&[0; 9]), None);
        assert_eq!(swapped(&[0x1F]), None);
        assert_eq!(swapped(&[0x1A]), None);
    }
}
