//! StoreMetadata (BF25) as a strict eUICC reads it: known fields only, in the order of the module, within their limits
//! (SGP.22 §5.5.3; fields and order of v3.1, SGP.32's three at the end).

use super::finding::{Check, Finding};
use crate::formats::tlv::{self, Tag, Tlv, TlvError};
use crate::ids::Iccid;

/// What the judge compares.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) iccid: Iccid,
    pub(super) class: ProfileClass,
}

/// profileClass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileClass {
    /// 0.
    Test,
    /// 1.
    Provisioning,
    /// 2, the default, which DER leaves out.
    Operational,
}

impl ProfileClass {
    /// The word in orders and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Provisioning => "provisioning",
            Self::Operational => "operational",
        }
    }
}

/// Tags in the order in which they may follow each other. The last three share a rank: SGP.32 adds them behind the others, in an
/// order that published modules do not agree on.
const ORDER: &[(u32, u8)] = &[
    (0x5A, 0),
    (0x91, 1),
    (0x92, 2),
    (0x93, 3),
    (0x94, 4),
    (0x95, 5),
    (0xB6, 6),
    (0xB7, 7),
    (0x99, 8),
    (0xBF22, 9),
    (0xBF23, 10),
    (0xBA, 11),
    (0x9B, 12),
    (0xBE, 13),
    (0xBC, 14),
    (0xBD, 15),
    (0x9F1F, 16),
    (0xBF20, 17),
    (0x9F21, 18),
    (0x9F67, 19),
    (0x9F7B, 19),
    (0xBF64, 19),
];

/// Reads the whole TLV.
pub(super) fn read(bytes: &[u8]) -> Result<Metadata, Finding> {
    let form = |e: TlvError| wrong(format!("at octet {}: {}", e.offset, e.fault));
    tlv::check_strict(bytes).map_err(form)?;
    let mut reader = tlv::single(bytes, Tag(0xBF25)).map_err(form)?.children();
    let mut fields: Vec<(Tlv<'_>, u8)> = Vec::new();
    while let Some(field) = reader.next_tlv().map_err(form)? {
        let Some((_, rank)) = ORDER.iter().find(|(tag, _)| *tag == field.tag.0) else {
            return Err(wrong(format!("unknown field {}", field.tag)));
        };
        let in_order = fields.last().is_none_or(|(last, last_rank)| {
            last_rank < rank || (last_rank == rank && *rank == 19 && last.tag != field.tag)
        });
        if !in_order || fields.iter().any(|(other, _)| other.tag == field.tag) {
            return Err(wrong(format!("field {} is out of order or stands twice", field.tag)));
        }
        check_field(&field).map_err(|what| wrong(format!("field {}: {what}", field.tag)))?;
        fields.push((field, *rank));
    }
    let field = |tag: u32| fields.iter().find(|(field, _)| field.tag.0 == tag).map(|(field, _)| field.value);
    let required = |tag: u32| field(tag).ok_or_else(|| wrong(format!("field {} is missing", Tag(tag))));
    required(0x91)?;
    required(0x92)?;
    if field(0x93).is_some() != field(0x94).is_some() {
        return Err(wrong("icon and its type need each other".into()));
    }
    if field(0x99).is_some() && field(0xB7).is_none() {
        return Err(wrong("profile policy rules need a profile owner".into()));
    }
    let class = match field(0x95) {
        None => ProfileClass::Operational,
        Some([0]) => ProfileClass::Test,
        Some([1]) => ProfileClass::Provisioning,
        Some(_) => return Err(wrong("profileClass is not 0 or 1, and 2 is the default that DER leaves out".into())),
    };
    let digits = super::digits::swapped(required(0x5A)?)
        .ok_or_else(|| wrong("ICCID is not swapped digits padded with F".into()))?;
    let iccid = digits.parse().map_err(|e| wrong(format!("ICCID {e}")))?;
    Ok(Metadata { iccid, class })
}

fn check_field(field: &Tlv<'_>) -> Result<(), String> {
    match field.tag.0 {
        0x5A => at_most(field, 10).and_then(|()| at_least(field, 10)),
        0x91 => text(field, 32),
        0x92 => text(field, 64),
        0x93 => matches!(field.value, [0 | 1]).then_some(()).ok_or_else(|| "is neither jpg (0) nor png (1)".into()),
        0x94 => at_most(field, 1_024),
        0x99 => bit_string(field.value),
        0xB6 => notifications(field),
        0xB7 => owner(field),
        0x9B => text(field, usize::MAX),
        0x9F67 | 0x9F7B => {
            (field.value == [0xFF]).then_some(()).ok_or_else(|| "is not the BOOLEAN TRUE (DER leaves FALSE out)".into())
        }
        _ => Ok(()),
    }
}

/// B6: SEQUENCE OF { 80 events, 81 FQDN }.
fn notifications(field: &Tlv<'_>) -> Result<(), String> {
    let form = |e: TlvError| e.fault.to_string();
    let mut entries = field.children();
    while !entries.is_empty() {
        let mut entry = entries.expect(Tag(0x30)).map_err(form)?.children();
        bit_string(entry.expect(Tag(0x80)).map_err(form)?.value)?;
        text(&entry.expect(Tag(0x81)).map_err(form)?, 255)?;
        entry.finish().map_err(form)?;
    }
    Ok(())
}

/// B7: { 80 mccMnc, [81 gid1], [82 gid2] }.
fn owner(field: &Tlv<'_>) -> Result<(), String> {
    let form = |e: TlvError| e.fault.to_string();
    let mut parts = field.children();
    let mcc_mnc = parts.expect(Tag(0x80)).map_err(form)?;
    at_least(&mcc_mnc, 3).and_then(|()| at_most(&mcc_mnc, 3))?;
    parts.take_if(Tag(0x81)).map_err(form)?;
    parts.take_if(Tag(0x82)).map_err(form)?;
    parts.finish().map_err(form)
}

/// Named bits in DER: no trailing zero bits, unused bits zero.
fn bit_string(value: &[u8]) -> Result<(), String> {
    let sound = match value {
        [0] => true,
        [unused @ 0..=7, .., last] => last.trailing_zeros() == u32::from(*unused),
        _ => false,
    };
    sound.then_some(()).ok_or_else(|| "is not a BIT STRING in DER".into())
}

fn text(field: &Tlv<'_>, max: usize) -> Result<(), String> {
    let text = std::str::from_utf8(field.value).map_err(|_| "is not UTF-8")?;
    let got = text.chars().count();
    if got <= max { Ok(()) } else { Err(format!("has {got} characters, at most {max} are allowed")) }
}

fn at_most(field: &Tlv<'_>, max: usize) -> Result<(), String> {
    let got = field.value.len();
    if got <= max { Ok(()) } else { Err(format!("has {got} octets, at most {max} are allowed")) }
}

fn at_least(field: &Tlv<'_>, min: usize) -> Result<(), String> {
    let got = field.value.len();
    if got >= min { Ok(()) } else { Err(format!("has {got} octets, at least {min} are needed")) }
}

fn wrong(what: String) -> Finding {
    Finding::new(Check::StoreMetadata, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ICCID: &[u8] = &[0x5A, 10, 0x98, 0x00, 0x10, 0x32, 0x54, 0x76, 0x98, 0x10, 0x32, 0x14];
    const NAMES: &[u8] = &[0x91, 2, b'A', b'B', 0x92, 1, b'C'];

    fn with(parts: &[&[u8]]) -> Result<Metadata, Finding> {
        read(&tlv::wrap(Tag(0xBF25), parts))
    }

    #[test]
    fn the_published_metadata_reads_as_a_test_profile() {
        let text = include_str!("../../test-vectors/bpp/segments.txt");
        let metadata = read(&crate::verify::vectors::section(text, "mode-51")["metadata-plain"]).unwrap();
        assert_eq!(metadata.iccid.as_str(), "89000123456789012341");
        assert_eq!(metadata.class, ProfileClass::Test);
    }

    #[test]
    fn every_field_in_order_is_taken() {
        let icon: &[u8] = &[0x93, 1, 1, 0x94, 1, 0xFF, 0x95, 1, 1];
        let events: &[u8] = &[0xB6, 9, 0x30, 7, 0x80, 2, 4, 0xF0, 0x81, 1, b'x'];
        let owner: &[u8] = &[0xB7, 5, 0x80, 3, 0x00, 0xF1, 0x10, 0x99, 2, 5, 0x20];
        let iot: &[u8] = &[0x9F, 0x67, 1, 0xFF, 0xBF, 0x64, 0];
        assert_eq!(with(&[ICCID, NAMES, icon, events, owner, iot]).unwrap().class, ProfileClass::Provisioning);
    }

    #[test]
    fn each_rule_has_a_case_that_breaks_it() {
        for (rule, tail) in [
            ("unknown field", &[0x96_u8, 0][..]),
            ("twice", &[0x92, 0]),
            ("out of order", &[0x99, 1, 0, 0xB7, 5, 0x80, 3, 0, 0xF1, 0x10]),
            ("icon without type", &[0x94, 1, 0xFF]),
            ("icon type unknown", &[0x93, 1, 2, 0x94, 1, 0xFF]),
            ("explicit default", &[0x95, 1, 2]),
            ("rules without owner", &[0x99, 2, 5, 0x20]),
            ("bit string not DER", &[0xB7, 5, 0x80, 3, 0, 0xF1, 0x10, 0x99, 2, 4, 0x20]),
            ("owner too short", &[0xB7, 4, 0x80, 2, 0, 0xF1]),
            ("notification without address", &[0xB6, 6, 0x30, 4, 0x80, 2, 4, 0xF0]),
            ("fallback FALSE", &[0x9F, 0x67, 1, 0]),
            ("fallback empty", &[0x9F, 0x67, 0]),
            ("ecall of another BOOLEAN", &[0x9F, 0x7B, 1, 1]),
        ] {
            assert_eq!(with(&[ICCID, NAMES, tail]).unwrap_err().check, Check::StoreMetadata, "{rule}");
        }
        assert!(with(&[ICCID, NAMES]).is_ok());
        assert!(with(&[NAMES]).is_err());
        assert!(with(&[ICCID, &[0x91, 0]]).is_err());
        assert!(with(&[ICCID, &tlv::wrap(Tag(0x91), &[&[b'A'; 33]]), &[0x92, 0]]).is_err());
        assert!(with(&[ICCID, &[0x91, 1, 0xFF, 0x92, 0]]).is_err());
        let luhn_wrong: &[u8] = &[0x5A, 10, 0x98, 0x00, 0x10, 0x32, 0x54, 0x76, 0x98, 0x10, 0x32, 0x24];
        assert!(with(&[luhn_wrong, NAMES]).is_err());
    }
}
