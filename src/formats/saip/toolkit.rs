//! Toolkit parameters of an application instance, member `EA`/`80` (ETSI TS 102 226 §8.2.1.3.2.2.1).

/// What of them says who reaches the application, and how well protected.
#[derive(Clone, Copy, Debug)]
pub struct Toolkit<'a> {
    /// Minimum security level: names its coding first, `01` for the first octet of an SPI; empty when the instance sets none.
    pub security_level: &'a [u8],
    /// Toolkit application references (TAR), three octets each.
    pub references: &'a [u8],
}

impl<'a> Toolkit<'a> {
    /// Priority, timers, length of menu texts, menu entries with position and identifier, channels, then the two fields.
    pub fn read(octets: &'a [u8]) -> Option<Self> {
        let [_, _, _, entries, rest @ ..] = octets else { return None };
        let [_, rest @ ..] = rest.get(2 * usize::from(*entries)..)? else { return None };
        let (security_level, rest) = field(rest)?;
        let (references, _) = field(rest)?;
        Some(Self { security_level, references })
    }

    /// First octet of the SPI that a packet must have at least; `None` when there is none, or in another coding.
    pub fn least_spi(&self) -> Option<u8> {
        match self.security_level {
            [1, spi, ..] => Some(*spi),
            _ => None,
        }
    }
}

/// An octet of length, that many octets, and the rest.
fn field(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = octets.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_and_references_stand_behind_the_menu_entries() {
        let octets = [0xFF, 0, 15, 2, 1, 7, 2, 8, 3, 2, 1, 0x16, 6, 0xB2, 1, 0, 0, 0, 0, 0xAA];
        let toolkit = Toolkit::read(&octets).unwrap();
        assert_eq!((toolkit.least_spi(), toolkit.references), (Some(0x16), &[0xB2, 1, 0, 0, 0, 0][..]));
        // Cut off anywhere before the end of the references.
        assert!((0..octets.len() - 1).all(|len| Toolkit::read(&octets[..len]).is_none()));
        let unset = Toolkit::read(&[0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!((unset.least_spi(), unset.references), (None, &[][..]));
        assert_eq!(Toolkit::read(&[0, 0, 0, 0, 0, 2, 2, 0x16, 0]).unwrap().least_spi(), None);
    }
}
