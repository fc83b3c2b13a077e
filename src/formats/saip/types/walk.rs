//! Holds an element against its shape: every fault with its place, every member this version does not know.

use super::files::FILE_SYSTEMS;
use super::shape::{Member, Presence, Shape};
use super::{
    Fault, TypedError, UnknownMember, application, authentication, codes, files, header, other, security_domain,
};
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::{Element, children};
use crate::formats::tlv::Tlv;

/// What [`examine`](super::examine) finds.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// Everything that is not as SAIP describes it, in the order of the octets.
    pub faults: Vec<TypedError>,
    /// Everything that a newer version, or a vendor, has added.
    pub unknown: Vec<UnknownMember>,
    /// The unknown is an alternative that has to be understood to type the element.
    pub(super) is_opaque: bool,
}

/// Members of the SEQUENCE that every element is.
fn members(kind: Kind) -> Option<&'static [Member]> {
    Some(match kind {
        Kind::Unknown => return None,
        Kind::Header => header::PROFILE_HEADER,
        Kind::GenericFileManagement => files::GENERIC_FILE_MANAGEMENT,
        Kind::PinCodes => codes::PIN_CODES,
        Kind::PukCodes => codes::PUK_CODES,
        Kind::AkaParameter => authentication::AKA_PARAMETER,
        Kind::CdmaParameter => authentication::CDMA_PARAMETER,
        Kind::SecurityDomain => security_domain::SECURITY_DOMAIN,
        Kind::Rfm => application::RFM,
        Kind::Application => application::APPLICATION,
        Kind::NonStandard => other::NON_STANDARD,
        Kind::End => other::END,
        Kind::SsimEapTlsParameters => authentication::SSIM_EAP_TLS_PARAMETERS,
        _ => return FILE_SYSTEMS.iter().find(|(of, _)| *of == kind).map(|(_, members)| &members[..]),
    })
}

pub(super) fn examine(element: &Element<'_>) -> Examination {
    let mut walk = Walk { element, found: Examination::default(), path: Vec::new(), place: Vec::new() };
    match members(element.kind) {
        Some(members) => walk.sequence(&element.tlv, members),
        None => walk.unknown(&element.tlv, 0),
    }
    walk.found
}

struct Walk<'e, 'a> {
    element: &'e Element<'a>,
    found: Examination,
    /// Names from the element down, each with its place in a list.
    path: Vec<(&'static str, Option<usize>)>,
    /// The same as numbers of known children.
    place: Vec<u32>,
}

impl Walk<'_, '_> {
    fn sequence(&mut self, tlv: &Tlv<'_>, members: &'static [Member]) {
        let (mut next, mut known) = (0, 0);
        for child in children(tlv) {
            let ahead = members[next..].iter().position(|member| member.tag == child.tag);
            if let Some(ahead) = ahead {
                self.missing(&members[next..next + ahead], child.offset);
                self.member(&child, &members[next + ahead], known);
                next += ahead + 1;
                known += 1;
            } else if let Some(earlier) = members[..next].iter().find(|member| member.tag == child.tag) {
                self.fault(child.offset, Fault::Order(earlier.name));
            } else {
                self.unknown(&child, known);
            }
        }
        self.missing(&members[next..], tlv.offset);
    }

    fn missing(&mut self, skipped: &[Member], offset: usize) {
        for member in skipped.iter().filter(|member| member.presence == Presence::Must) {
            self.fault(offset, Fault::Missing(member.name));
        }
    }

    fn member(&mut self, tlv: &Tlv<'_>, member: &'static Member, place: u32) {
        self.path.push((member.name, None));
        self.place.push(place);
        if matches!(member.presence, Presence::Default(value) if value == tlv.value) {
            self.fault(tlv.offset, Fault::EqualsDefault);
        }
        self.value(tlv, &member.shape);
        self.place.pop();
        self.path.pop();
    }

    fn value(&mut self, tlv: &Tlv<'_>, shape: &'static Shape) {
        let value = tlv.value;
        let fault = match shape {
            Shape::Null => size_fault(value.len(), 0, 0),
            Shape::Octets { min, max } => size_fault(value.len(), *min, *max),
            Shape::Integer { max } => integer_fault(value, *max),
            Shape::Text { min, max } => match std::str::from_utf8(value) {
                Ok(text) => size_fault(text.chars().count(), *min, *max),
                Err(_) => Some(Fault::Text),
            },
            Shape::Oid => (!is_oid(value)).then_some(Fault::Oid),
            Shape::Opaque => None,
            Shape::Sequence(members) => {
                self.sequence(tlv, members);
                None
            }
            Shape::ListOf { item, min, max } => {
                let count = self.list(tlv, item);
                count_fault(count, *min, *max)
            }
            Shape::Entries { of, min } => {
                let count = self.entries(tlv, of);
                count_fault(count, *min, usize::MAX)
            }
            Shape::Choice(of) => self.choice(tlv, of),
        };
        if let Some(fault) = fault {
            self.fault(tlv.offset, fault);
        }
    }

    fn list(&mut self, tlv: &Tlv<'_>, item: &'static Member) -> usize {
        let mut count = 0;
        for child in children(tlv) {
            if let Some((_, index)) = self.path.last_mut() {
                *index = Some(count + 1);
            }
            if child.tag == item.tag {
                self.place.push(count as u32);
                self.value(&child, &item.shape);
                self.place.pop();
            } else {
                self.fault(child.offset, Fault::Tag { found: child.tag, expected: item.tag });
            }
            count += 1;
        }
        if let Some((_, index)) = self.path.last_mut() {
            *index = None;
        }
        count
    }

    fn entries(&mut self, tlv: &Tlv<'_>, of: &'static [Member]) -> usize {
        let (mut count, mut known) = (0, 0);
        for child in children(tlv) {
            count += 1;
            if let Some(alternative) = of.iter().find(|alternative| alternative.tag == child.tag) {
                self.member(&child, alternative, known);
                known += 1;
            } else {
                self.unknown(&child, known);
            }
        }
        count
    }

    fn choice(&mut self, tlv: &Tlv<'_>, of: &'static [Member]) -> Option<Fault> {
        let mut inside = children(tlv);
        let (Some(child), None) = (inside.next(), inside.next()) else { return Some(Fault::Choice) };
        if let Some(alternative) = of.iter().find(|alternative| alternative.tag == child.tag) {
            self.member(&child, alternative, 0);
        } else {
            self.unknown(&child, 0);
            self.found.is_opaque = true;
        }
        None
    }

    fn fault(&mut self, offset: usize, fault: Fault) {
        let error = TypedError { element: self.element.label(), offset, path: self.path(), fault };
        self.found.faults.push(error);
    }

    fn unknown(&mut self, tlv: &Tlv<'_>, before: u32) {
        self.found.unknown.push(UnknownMember {
            path: self.path(),
            tag: tlv.tag,
            offset: tlv.offset,
            place: self.place.as_slice().into(),
            before,
            octets: tlv.whole.into(),
        });
    }

    fn path(&self) -> String {
        let step = |(name, index): &(&str, Option<usize>)| match index {
            Some(index) => format!("{name}[{index}]"),
            None => (*name).to_owned(),
        };
        self.path.iter().map(step).collect::<Vec<_>>().join("/")
    }
}

fn size_fault(got: usize, min: usize, max: usize) -> Option<Fault> {
    (!(min..=max).contains(&got)).then_some(Fault::Size { got, min, max })
}

fn count_fault(got: usize, min: usize, max: usize) -> Option<Fault> {
    (!(min..=max).contains(&got)).then_some(Fault::Count { got, min, max })
}

/// X.690 §8.3.2: the first nine bits are never all alike.
fn integer_fault(value: &[u8], max: u32) -> Option<Fault> {
    match value {
        [] => Some(Fault::Size { got: 0, min: 1, max: 5 }),
        [0x00, 0x00..=0x7F, ..] | [0xFF, 0x80..=0xFF, ..] => Some(Fault::NotMinimal),
        [0x80..=0xFF, ..] => Some(Fault::Range { max }),
        _ => {
            let number = value.iter().try_fold(0_u64, |sum, octet| Some(sum.checked_mul(256)? + u64::from(*octet)));
            (number.is_none_or(|number| number > u64::from(max))).then_some(Fault::Range { max })
        }
    }
}

/// X.690 §8.19: arcs in shortest form. An arc above 32 bits has never been assigned and no type here can hold it.
fn is_oid(value: &[u8]) -> bool {
    let mut arc = 0_u64;
    let mut starts = true;
    for octet in value {
        if starts && *octet == 0x80 {
            return false;
        }
        arc = arc << 7 | u64::from(octet & 0x7F);
        if arc > u64::from(u32::MAX) {
            return false;
        }
        starts = octet & 0x80 == 0;
        if starts {
            arc = 0;
        }
    }
    starts && !value.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_minimal_positive_and_in_range() {
        assert_eq!(integer_fault(&[0x00], 255), None);
        assert_eq!(integer_fault(&[0x00, 0x81], 255), None);
        assert_eq!(integer_fault(&[0x7F, 0xFF], 32_767), None);
        assert_eq!(integer_fault(&[0x00, 0x07], 255), Some(Fault::NotMinimal));
        assert_eq!(integer_fault(&[0xFF, 0x80], 255), Some(Fault::NotMinimal));
        assert_eq!(integer_fault(&[0x80], 255), Some(Fault::Range { max: 255 }));
        assert_eq!(integer_fault(&[0x01, 0x00], 255), Some(Fault::Range { max: 255 }));
        assert_eq!(integer_fault(&[0x7F; 40], 65_535), Some(Fault::Range { max: 65_535 }));
        assert_eq!(integer_fault(&[], 255), Some(Fault::Size { got: 0, min: 1, max: 5 }));
    }

    #[test]
    fn object_identifiers_are_whole_and_in_shortest_form() {
        // 2.23.143.1.2.4 (the USIM template), 1.2.840.113549.
        assert!(is_oid(&[0x67, 0x81, 0x0F, 0x01, 0x02, 0x04]));
        assert!(is_oid(&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D]));
        assert!(!is_oid(&[]));
        assert!(!is_oid(&[0x67, 0x81]));
        assert!(!is_oid(&[0x67, 0x80, 0x01]));
        assert!(!is_oid(&[0x67, 0x90, 0x80, 0x80, 0x80, 0x00]));
    }
}
