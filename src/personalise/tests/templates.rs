//! Templates that nobody wrote: presets changed at random, in ways that keep them templates.

use proptest::prelude::*;

use super::preset;
use crate::formats::saip::file::FILE_TAGS;
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::{Package, child, children};
use crate::formats::tlv::{Reader, Tag, Tlv, wrap};

/// One change. What it does not apply to is left as it is.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A file that the template of the element makes is left to it.
    LeaveToDefault(Kind, &'static str),
    /// The content of a file comes from a pattern.
    Pattern(Kind, &'static str, u8),
    /// A transparent file gets another size.
    Size(Kind, &'static str, u8),
    /// A linear file gets another record length, and that many records.
    Records(Kind, &'static str, u8, u8),
    /// An element is left out with what belongs to it.
    Drop(Kind),
    /// An element stands twice.
    Double(Kind),
    /// The files of an element stand in reverse.
    Reverse(Kind),
    /// Keys of this version are left out of the security domains.
    WithoutKeys(u8),
    /// The security domains have no keys at all.
    WithoutKeyList,
    /// The security domains list no secure channel protocol.
    WithoutProtocols,
    /// K has 32 octets everywhere.
    LongKey,
    /// An element nobody knows.
    Stranger,
    /// A cdmaParameter, with or without SSD.
    Cdma(bool),
    /// Authentication parameters that are not the default.
    Authentication,
    /// PINs that are disabled, with other attempts.
    PinState,
}

/// Presets and changes.
pub(super) fn any_template() -> impl Strategy<Value = Vec<u8>> {
    let base = prop::sample::select(vec!["iot-minimal", "bootstrap", "operational", "applet"]);
    (base, prop::collection::vec(any_change(), 0..8))
        .prop_map(|(base, changes)| changes.iter().fold(preset(base), |der, change| change.apply(&der)))
}

fn any_change() -> impl Strategy<Value = Change> {
    use Kind::{Df5gs, Iot, Isim, Mf, OptUsim, Rfm, Usim};
    let defaults = vec![
        (Usim, "ef-spn"),
        (Usim, "ef-imsi"),
        (Usim, "ef-acc"),
        (Usim, "ef-smsp"),
        (Usim, "ef-ad"),
        (Usim, "ef-fplmn"),
        (Mf, "ef-iccid"),
        (Iot, "ef-imsi"),
        (Iot, "ef-acc"),
    ];
    let patterns = vec![
        (Usim, "ef-spn"),
        (Usim, "ef-imsi"),
        (Usim, "ef-acc"),
        (Usim, "ef-smsp"),
        (OptUsim, "ef-msisdn"),
        (OptUsim, "ef-gid1"),
        (OptUsim, "ef-ehplmn"),
        (Df5gs, "ef-routing-indicator"),
        (Mf, "ef-iccid"),
    ];
    prop_oneof![
        prop::sample::select(defaults).prop_map(|(kind, file)| Change::LeaveToDefault(kind, file)),
        (prop::sample::select(patterns), any::<u8>())
            .prop_map(|((kind, file), fill)| Change::Pattern(kind, file, fill)),
        (17..40_u8).prop_map(|size| Change::Size(Usim, "ef-spn", size)),
        (12..60_u8).prop_map(|size| Change::Size(OptUsim, "ef-ehplmn", size)),
        (14..60_u8, 1..4_u8).prop_map(|(len, records)| Change::Records(OptUsim, "ef-msisdn", len, records)),
        (28..60_u8, 1..4_u8).prop_map(|(len, records)| Change::Records(Usim, "ef-smsp", len, records)),
        prop::sample::select(vec![Isim, OptUsim, Df5gs, Rfm]).prop_map(Change::Drop),
        prop::sample::select(vec![Usim, Kind::AkaParameter, Kind::PinCodes, Rfm]).prop_map(Change::Double),
        prop::sample::select(vec![Usim, OptUsim, Mf, Isim]).prop_map(Change::Reverse),
        (0..4_u8).prop_map(Change::WithoutKeys),
        Just(Change::WithoutKeyList),
        Just(Change::WithoutProtocols),
        Just(Change::LongKey),
        Just(Change::Stranger),
        any::<bool>().prop_map(Change::Cdma),
        Just(Change::Authentication),
        Just(Change::PinState),
    ]
}

impl Change {
    pub(super) fn apply(&self, der: &[u8]) -> Vec<u8> {
        let package = Package::parse(der).unwrap();
        let mut out = Vec::new();
        for element in &package.elements {
            if element.kind == Kind::End {
                match self {
                    Self::Stranger => out.extend([0xBF, 0x7E, 0x03, 0x80, 0x01, 0xAA]),
                    Self::Cdma(with_ssd) => out.extend(cdma(*with_ssd)),
                    _ => {}
                }
            }
            let tlv = &element.tlv;
            let made = match self {
                Self::LeaveToDefault(kind, file) if element.kind == *kind => {
                    edited(tlv, &|member| (member.tag != tag_of(*kind, file)).then(|| member.whole.to_vec()))
                }
                Self::Pattern(kind, file, fill) if element.kind == *kind => {
                    edited_file(tlv, tag_of(*kind, file), &|fcp| with_pattern(fcp, *fill))
                }
                Self::Size(kind, file, size) if element.kind == *kind => {
                    edited_file(tlv, tag_of(*kind, file), &|fcp| with(fcp, Tag(0x80), &[*size]))
                }
                Self::Records(kind, file, len, records) if element.kind == *kind => {
                    edited_file(tlv, tag_of(*kind, file), &|fcp| {
                        let descriptor = with(fcp, Tag(0x82), &[0x42, 0x21, 0, *len]);
                        let descriptor = Reader::new(&descriptor).next_tlv().unwrap().unwrap();
                        with(&descriptor, Tag(0x80), &[*len * *records])
                    })
                }
                Self::Drop(kind) if element.kind == *kind => Vec::new(),
                Self::Double(kind) if element.kind == *kind => [tlv.whole, tlv.whole].concat(),
                Self::Reverse(kind) if element.kind == *kind => {
                    let mut members: Vec<&[u8]> = children(tlv).map(|member| member.whole).collect();
                    members[2..].reverse();
                    wrap(tlv.tag, &members)
                }
                Self::WithoutKeys(version) if element.kind == Kind::SecurityDomain => edited(tlv, &|member| {
                    let is_kept = |key: &Tlv<'_>| child(key, primitive(3)).unwrap().value != [*version];
                    Some(if member.tag == constructed(2) {
                        edited(member, &|key| is_kept(key).then(|| key.whole.to_vec()))
                    } else {
                        member.whole.to_vec()
                    })
                }),
                Self::WithoutKeyList if element.kind == Kind::SecurityDomain => {
                    edited(tlv, &|member| (member.tag != constructed(2)).then(|| member.whole.to_vec()))
                }
                Self::WithoutProtocols if element.kind == Kind::SecurityDomain => edited(tlv, &|member| {
                    let silent = |part: &Tlv<'_>| match part.tag.0 {
                        0xC9 => Some(vec![0xC9, 0]),
                        _ => Some(part.whole.to_vec()),
                    };
                    Some(if member.tag == constructed(1) { edited(member, &silent) } else { member.whole.to_vec() })
                }),
                Self::LongKey if element.kind == Kind::AkaParameter => in_algorithm(tlv, &|member| {
                    Some(if member.tag == primitive(2) { wrap(member.tag, &[&[0; 32]]) } else { member.whole.to_vec() })
                }),
                Self::Authentication if element.kind == Kind::AkaParameter => authentication(tlv),
                Self::PinState if element.kind == Kind::PinCodes => pin_state(tlv),
                _ => tlv.whole.to_vec(),
            };
            out.extend(made);
        }
        Package::parse(&out).unwrap();
        out
    }
}

fn tag_of(kind: Kind, file: &str) -> Tag {
    constructed(kind.file_number(file).unwrap())
}

type Edit<'e> = &'e dyn Fn(&Tlv<'_>) -> Option<Vec<u8>>;

/// A TLV with other members.
fn edited(tlv: &Tlv<'_>, edit: Edit<'_>) -> Vec<u8> {
    let members: Vec<Vec<u8>> = children(tlv).filter_map(|member| edit(&member)).collect();
    wrap(tlv.tag, &members.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// A file with nothing but edited parameters: what was written may not fit any more.
fn edited_file(tlv: &Tlv<'_>, tag: Tag, edit: &dyn Fn(&Tlv<'_>) -> Vec<u8>) -> Vec<u8> {
    edited(tlv, &|member| {
        if member.tag != tag {
            return Some(member.whole.to_vec());
        }
        let empty = wrap(FILE_TAGS.descriptor, &[]);
        let fcp = child(member, FILE_TAGS.descriptor).map_or(&empty[..], |fcp| fcp.whole);
        Some(wrap(tag, &[&edit(&Reader::new(fcp).next_tlv().unwrap().unwrap())]))
    })
}

/// A member of the parameters replaced, or added in the order in which the ASN.1 module has them.
fn with(fcp: &Tlv<'_>, tag: Tag, value: &[u8]) -> Vec<u8> {
    const ORDER: [u32; 10] = [0x82, 0x83, 0x84, 0x8A, 0x8B, 0x80, 0xC6, 0x88, 0xA5, 0xC7];
    let rank = |tag: Tag| ORDER.iter().position(|known| *known == tag.0);
    let mut members: Vec<(Tag, Vec<u8>)> =
        children(fcp).filter(|member| member.tag != tag).map(|member| (member.tag, member.whole.to_vec())).collect();
    members.push((tag, wrap(tag, &[value])));
    members.sort_by_key(|(tag, _)| rank(*tag));
    wrap(fcp.tag, &members.iter().map(|(_, member)| &member[..]).collect::<Vec<_>>())
}

fn with_pattern(fcp: &Tlv<'_>, fill: u8) -> Vec<u8> {
    with(fcp, Tag(0xA5), &[0xC1, 1, fill])
}

/// An akaParameter with an edited algoParameter.
fn in_algorithm(tlv: &Tlv<'_>, edit: Edit<'_>) -> Vec<u8> {
    edited(tlv, &|member| {
        Some(if member.tag != constructed(1) {
            member.whole.to_vec()
        } else {
            edited(member, &|choice| {
                Some(if choice.tag == constructed(1) { edited(choice, edit) } else { choice.whole.to_vec() })
            })
        })
    })
}

fn authentication(tlv: &Tlv<'_>) -> Vec<u8> {
    let algorithm = in_algorithm(tlv, &|member| {
        let constants = wrap(primitive(4), &[&[1, 2, 3, 4, 5]]);
        let counter = wrap(primitive(6), &[&[0, 1, 0]]);
        match member.tag {
            tag if tag == primitive(3) => Some([member.whole, &constants, &counter].concat()),
            tag if matches!(tag.0, 0x84 | 0x86) => None,
            _ => Some(member.whole.to_vec()),
        }
    });
    let tlv = Reader::new(&algorithm).next_tlv().unwrap().unwrap();
    let kept: Vec<&[u8]> = children(&tlv).filter(|m| matches!(m.tag.0, 0xA0 | 0xA1)).map(|m| m.whole).collect();
    let values: Vec<u8> = (0..32).flat_map(|i| [4, 6, 0, 0, 0, 0, 1, i]).collect();
    let own = [
        wrap(primitive(2), &[&[3]]),
        wrap(primitive(3), &[&[0, 0, 1, 0, 0, 0]]),
        wrap(primitive(4), &[&[0, 0, 2, 0, 0, 0]]),
        wrap(constructed(5), &[&values]),
    ];
    wrap(tlv.tag, &kept.into_iter().chain(own.iter().map(Vec::as_slice)).collect::<Vec<_>>())
}

fn pin_state(tlv: &Tlv<'_>) -> Vec<u8> {
    let pin = |pin: &Tlv<'_>| {
        let kept: Vec<&[u8]> = children(pin).filter(|m| matches!(m.tag.0, 0x80..=0x82)).map(|m| m.whole).collect();
        let own: [&[u8]; 2] = [&[0x83, 1, 6], &[0x84, 2, 0, 0xAA]];
        Some(wrap(pin.tag, &[kept, own.to_vec()].concat()))
    };
    edited(tlv, &|member| {
        Some(if member.tag == constructed(1) {
            edited(member, &|list| Some(edited(list, &pin)))
        } else {
            member.whole.to_vec()
        })
    })
}

fn cdma(with_ssd: bool) -> Vec<u8> {
    let header = wrap(Tag(0xA0), &[&[0x81, 0x01, 0x70]]);
    let ssd = if with_ssd { wrap(Tag(0x82), &[&[0xE2; 16]]) } else { Vec::new() };
    wrap(Tag(0xA5), &[&header, &wrap(Tag(0x81), &[&[0xE1; 8]]), &ssd, &[0x84, 3, 1, 2, 3]])
}
