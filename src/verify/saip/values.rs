//! Variables of an order as they stand in a profile: the places of each, and whether one holds what was asked for.
//!
//! Read by the judge's own hand: names, places and codings are those of the standards, not those of whoever wrote the profile.

use zeroize::Zeroizing;

use super::{Tlv, file, member, members};
use crate::verify::{digits, text};

/// A variable whose places the judge knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::verify) enum Variable {
    Spn,
    Msisdn,
    Smsc,
    RoutingIndicator,
    Gid1,
    Gid2,
    Acc,
    Pin1,
    Pin2,
}

/// Every place of every [`Variable`] that a profile has, with its content.
#[derive(Default)]
pub(in crate::verify) struct Values(Vec<Place>);

struct Place {
    variable: Variable,
    /// Of the element, in the profile.
    offset: usize,
    content: Result<Zeroizing<Vec<u8>>, &'static str>,
}

impl Variable {
    const ALL: [(&str, Self); 9] = [
        ("spn", Self::Spn),
        ("msisdn", Self::Msisdn),
        ("smsc", Self::Smsc),
        ("routing_indicator", Self::RoutingIndicator),
        ("gid1", Self::Gid1),
        ("gid2", Self::Gid2),
        ("acc", Self::Acc),
        ("pin1", Self::Pin1),
        ("pin2", Self::Pin2),
    ];

    /// By its name in orders.
    pub(in crate::verify) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, variable)| *variable)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, variable)| *variable == self).map_or("", |(name, _)| name)
    }

    /// Tags of the element and of the file in it; none for PINs, which are no files.
    fn files(self) -> &'static [(u32, u32)] {
        match self {
            Self::Spn => &[(0xB3, 0xAD), (0xBF21, 0xA6)],
            Self::Msisdn => &[(0xB4, 0xA7)],
            Self::Smsc => &[(0xB3, 0xAB), (0xB6, 0xA4), (0xBF21, 0xA4)],
            Self::RoutingIndicator => &[(0xBC, 0xAC), (0xBF21, 0xB7)],
            Self::Gid1 => &[(0xB4, 0xA5)],
            Self::Gid2 => &[(0xB4, 0xA6)],
            Self::Acc => &[(0xB3, 0xB2), (0xBF20, 0xB2)],
            Self::Pin1 | Self::Pin2 => &[],
        }
    }

    /// Key reference of a PIN.
    fn reference(self) -> Option<u32> {
        match self {
            Self::Pin1 => Some(1),
            Self::Pin2 => Some(0x81),
            _ => None,
        }
    }

    /// Whether the octets of one place say `asked`.
    fn says(self, content: &[u8], asked: &str) -> bool {
        match self {
            Self::Spn => content.len() == 17 && text::alpha(&content[1..]).as_deref() == Some(asked),
            Self::Msisdn => number_at(content, content.len().checked_sub(14)).is_some_and(|n| same_number(&n, asked)),
            Self::Smsc => smsc(content).is_some_and(|number| same_number(&number, asked)),
            Self::RoutingIndicator => {
                content.get(..2).and_then(digits::swapped).as_deref() == Some(asked) && content.len() == 4
            }
            Self::Gid1 | Self::Gid2 => {
                let octets = data_encoding::HEXLOWER_PERMISSIVE.decode(asked.as_bytes()).unwrap_or_default();
                let rest = content.strip_prefix(octets.as_slice());
                !octets.is_empty() && rest.is_some_and(|rest| rest.iter().all(|octet| *octet == 0xFF))
            }
            Self::Acc => access_classes(asked).is_some_and(|classes| content == classes.to_be_bytes()),
            Self::Pin1 | Self::Pin2 => {
                let rest = content.strip_prefix(asked.as_bytes());
                content.len() == 8 && rest.is_some_and(|rest| rest.iter().all(|octet| *octet == 0xFF))
            }
        }
    }
}

impl Values {
    pub(super) fn read(elements: &[Tlv<'_>]) -> Self {
        let mut places = Vec::new();
        for element in elements {
            for (_, variable) in Variable::ALL {
                let files = variable.files().iter().filter(|(tag, _)| *tag == element.tag.0);
                for file in files.filter_map(|(_, tag)| member(element, *tag)) {
                    let content = first_record(variable, &file);
                    places.push(Place { variable, offset: element.offset, content: content.map(Zeroizing::new) });
                }
                let pins = variable.reference().into_iter().flat_map(|reference| pins(element, reference));
                places.extend(pins.map(|value| Place { variable, offset: element.offset, content: Ok(value) }));
            }
        }
        Self(places)
    }

    /// Every place of the variable, and at least one, says `asked`; else what is wrong, without any value.
    pub(in crate::verify) fn check(&self, variable: Variable, asked: &str) -> Result<(), String> {
        let name = variable.name();
        let mut places = self.0.iter().filter(|place| place.variable == variable).peekable();
        if places.peek().is_none() {
            return Err(format!("the profile has no place for {name}, which the order gives"));
        }
        for Place { offset, content, .. } in places {
            match content {
                Err(what) => return Err(format!("profile octet {offset}: the file of {name} {what}")),
                Ok(content) if !variable.says(content, asked) => {
                    return Err(format!("profile octet {offset}: {name} is not what the order gives"));
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

/// EF.ACC of a list of access classes such as `3,15` (3GPP TS 31.102 §4.2.15).
pub(in crate::verify) fn access_classes(asked: &str) -> Option<u16> {
    let bit = |class: &str| class.trim().parse().ok().and_then(|class: u32| 1_u16.checked_shl(class));
    asked.split(',').try_fold(0, |classes, class| Some(classes | bit(class)?))
}

/// The content of a file, of EF.MSISDN and EF.SMSP its first record.
fn first_record(variable: Variable, file: &Tlv<'_>) -> Result<Vec<u8>, &'static str> {
    let mut content = file::content(file)?;
    if let (Variable::Msisdn | Variable::Smsc, Some(len)) = (variable, record_len(file)) {
        // What is not written of a record is FF, as the templates of both files have it.
        content.resize(len, 0xFF);
    }
    Ok(content)
}

/// From the file descriptor (`82`, four octets) of the file's own Fcp (`A1`).
fn record_len(file: &Tlv<'_>) -> Option<usize> {
    let descriptor = member(&member(file, 0xA1)?, 0x82)?;
    match descriptor.value {
        [_, _, high, low] => Some(usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// A number of 12 octets in a record: length, type, ten octets of digits (3GPP TS 31.102 §4.2.26, §4.2.27).
fn number_at(record: &[u8], at: Option<usize>) -> Option<String> {
    let field = record.get(at?..)?.get(..12)?;
    let used = usize::from(field[0]).checked_sub(1).filter(|used| (1..=10).contains(used))?;
    let (number, rest) = field[2..].split_at(used);
    let sound = field[1] & 0x80 != 0 && rest.iter().all(|octet| *octet == 0xFF);
    digits::swapped(number).filter(|_| sound)
}

/// The service centre of an EF.SMSP record, if its indicator says that it is there.
fn smsc(record: &[u8]) -> Option<String> {
    let indicators = record.len().checked_sub(28)?;
    (record[indicators] & 0x02 == 0).then_some(())?;
    number_at(record, Some(indicators + 13))
}

fn same_number(found: &str, asked: &str) -> bool {
    found == asked.strip_prefix('+').unwrap_or(asked)
}

/// Values of the PINs of this reference in a pinCodes element (A2 / A1 / A0 / 30).
fn pins(element: &Tlv<'_>, reference: u32) -> Vec<Zeroizing<Vec<u8>>> {
    if element.tag.0 != 0xA2 {
        return Vec::new();
    }
    let list = member(element, 0xA1).and_then(|choice| member(&choice, 0xA0));
    let pins = list.into_iter().flat_map(|list| members(&list).collect::<Vec<_>>());
    let is_it = |pin: &Tlv<'_>| member(pin, 0x80).and_then(|tlv| file::small_integer(tlv.value)) == Some(reference);
    pins.filter(is_it).filter_map(|pin| Some(Zeroizing::new(member(&pin, 0x81)?.value.to_vec()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_read_as_the_standards_have_them() {
        let spn = |text: &[u8]| [&[1], text, &vec![0xFF; 16 - text.len()][..]].concat();
        assert!(Variable::Spn.says(&spn(b"Acme"), "Acme") && !Variable::Spn.says(&spn(b"Acme"), "Acm"));
        assert!(Variable::Spn.says(&spn(&[0x80, 0x04, 0x10]), "\u{410}"));
        // EF.MSISDN of a 14-octet record without alpha identifier: +49 151 12345.
        let msisdn = [6, 0x91, 0x94, 0x51, 0x11, 0x32, 0x54, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        assert!(Variable::Msisdn.says(&msisdn, "4915112345") && Variable::Msisdn.says(&msisdn, "+4915112345"));
        assert!(!Variable::Msisdn.says(&msisdn, "491511234") && !Variable::Msisdn.says(&[0xFF; 14], "4915112345"));
        let mut smsp = [0xFF; 30];
        smsp[2] = 0xFD;
        smsp[15..21].copy_from_slice(&[5, 0x91, 0x94, 0x71, 0x01, 0x21]);
        assert!(Variable::Smsc.says(&smsp, "49171012") && !Variable::Smsc.says(&smsp, "49171013"));
        smsp[2] = 0xFF;
        assert!(!Variable::Smsc.says(&smsp, "49171012"), "the indicator says that no service centre is there");
        assert!(Variable::RoutingIndicator.says(&[0x21, 0xF3, 0, 0], "123"));
        assert!(!Variable::RoutingIndicator.says(&[0x21, 0xF3, 0, 0], "12"));
        assert!(Variable::Gid1.says(&[0x0A, 0xFF], "0a") && !Variable::Gid1.says(&[0x0A, 0x0B], "0A"));
        assert!(Variable::Acc.says(&[0x80, 0x08], "3,15") && !Variable::Acc.says(&[0, 8], "16"));
        assert!(Variable::Pin1.says(b"1234\xFF\xFF\xFF\xFF", "1234"));
        assert!(!Variable::Pin1.says(b"12345\xFF\xFF\xFF", "1234"));
    }
}
