//! Templates that would compile into profiles which fail their audit, and those that cost more than a card has: refused beforehand.

use super::templates::Change;
use super::{preset, settings};
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::saip::file::FILE_TAGS;
use crate::formats::saip::kind::{Kind, constructed};
use crate::formats::saip::package::{Package, children};
use crate::formats::tlv::{Tag, Tlv, wrap};
use crate::personalise::{TemplateError, trial};

fn refused(der: &[u8]) -> TemplateError {
    trial(der, &settings(Algorithm::Milenage)).map(drop).unwrap_err()
}

/// The package with every element of `kind` as `edit` makes it; the number is the element's among its kind.
fn with(der: &[u8], kind: Kind, edit: &dyn Fn(usize, &Tlv<'_>) -> Vec<u8>) -> Vec<u8> {
    let package = Package::parse(der).unwrap();
    let mut count = 0;
    let made = package.elements.iter().flat_map(|element| {
        if element.kind != kind {
            return element.tlv.whole.to_vec();
        }
        count += 1;
        edit(count, &element.tlv)
    });
    made.collect()
}

fn without(tlv: &Tlv<'_>, tag: Tag) -> Vec<u8> {
    let kept: Vec<&[u8]> = children(tlv).filter(|member| member.tag != tag).map(|member| member.whole).collect();
    wrap(tlv.tag, &kept)
}

#[test]
fn a_second_header_is_refused_at_its_place() {
    let der = Change::Double(Kind::Header).apply(&preset("bootstrap"));
    let second = Package::parse(&der).unwrap().elements[1].tlv.offset;
    let TemplateError::Place { offset, what, .. } = refused(&der) else { panic!() };
    assert_eq!((offset, what.as_str()), (second, "is a second header"));
}

#[test]
fn every_usim_has_its_imsi_and_one_has_an_access_class() {
    // A second USIM that names no template and leaves the files out.
    let bare = |numbers: &[&str]| {
        let der = Change::Double(Kind::Usim).apply(&preset("bootstrap"));
        with(&der, Kind::Usim, &|count, tlv| {
            if count == 1 {
                return tlv.whole.to_vec();
            }
            let tags: Vec<Tag> =
                numbers.iter().map(|name| constructed(Kind::Usim.file_number(name).unwrap())).collect();
            let kept = children(tlv).filter(|member| member.tag != Tag(0x81) && !tags.contains(&member.tag));
            wrap(tlv.tag, &kept.map(|member| member.whole).collect::<Vec<_>>())
        })
    };
    assert_eq!(refused(&bare(&["ef-imsi"])), TemplateError::Missing("EF.IMSI in every USIM"));
    assert!(trial(&bare(&["ef-acc"]), &settings(Algorithm::Milenage)).is_ok(), "the first has one");
    let acc = constructed(Kind::Usim.file_number("ef-acc").unwrap());
    let none = with(&preset("bootstrap"), Kind::Usim, &|_, tlv| {
        let bare = without(tlv, acc);
        without(&crate::formats::tlv::single(&bare, tlv.tag).unwrap(), Tag(0x81))
    });
    assert_eq!(refused(&none), TemplateError::Missing("EF.ACC"));
}

#[test]
fn applications_with_different_constants_are_refused() {
    let other = Change::Authentication.apply(&preset("operational"));
    let constants = Package::parse(&other).unwrap().of(Kind::AkaParameter).next().unwrap().tlv.whole.to_vec();
    let der = with(&preset("operational"), Kind::AkaParameter, &|count, tlv| {
        if count == 2 { constants.clone() } else { tlv.whole.to_vec() }
    });
    let told = refused(&der).to_string();
    assert!(told.contains("akaParameter at offset") && told.contains("other Milenage constants"), "{told}");
    // TUAK has none.
    assert!(trial(&der, &settings(Algorithm::Tuak)).is_ok());
}

/// The security domain with these keys and no others.
fn with_keys(keys: &[u8]) -> Vec<u8> {
    with(&preset("bootstrap"), Kind::SecurityDomain, &|_, tlv| {
        let list = wrap(constructed(2), &[keys]);
        let members = children(tlv);
        let members: Vec<Vec<u8>> =
            members.map(|m| if m.tag == constructed(2) { list.clone() } else { m.whole.to_vec() }).collect();
        wrap(tlv.tag, &members.iter().map(Vec::as_slice).collect::<Vec<_>>())
    })
}

fn key(version: u8, id: u8, len: usize) -> Vec<u8> {
    let component = wrap(Tag(0x30), &[&[0x80, 1, 0x88], &wrap(Tag(0x86), &[&vec![0; len]])]);
    wrap(Tag(0x30), &[&[0x95, 1, 0x18, 0x82, 1, id, 0x83, 1, version], &wrap(Tag(0x30), &[&component])])
}

#[test]
fn a_key_that_chance_can_guess_is_refused() {
    for len in [0, 1, 7] {
        let told = refused(&with_keys(&key(1, 1, len))).to_string();
        assert!(told.contains(&format!("key 01/01 has {len} octets")), "{told}");
    }
    assert!(trial(&with_keys(&key(1, 1, 8)), &settings(Algorithm::Milenage)).is_ok());
}

#[test]
fn more_secrets_than_a_card_has_are_refused_early() {
    let many: Vec<u8> = (0..8_000).flat_map(|n| key((n >> 8) as u8, n as u8, 16)).collect();
    let der = with_keys(&many);
    let started = std::time::Instant::now();
    let told = refused(&der).to_string();
    assert!(told.contains("securityDomain at offset") && told.contains("more than 1024 secrets"), "{told}");
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "{:?}", started.elapsed());
    // As many as may be, all of one name.
    let most: Vec<u8> = (0..1_000).flat_map(|_| key(1, 1, 16)).collect();
    assert!(trial(&with_keys(&most), &settings(Algorithm::Milenage)).is_ok());
}

/// Nine of ten octets: no identity that could be written anew, but one that would go out.
#[test]
fn what_only_the_audit_sees_is_refused_with_element_and_offset() {
    let file = wrap(constructed(Kind::Csim.file_number("ef-imsi-m").unwrap()), &[&wrap(FILE_TAGS.content, &[&[7; 9]])]);
    let csim = wrap(Kind::Csim.tag().unwrap(), &[&wrap(Tag(0xA0), &[&[0x81, 0x01, 0x71]]), &file]);
    let der = preset("operational");
    let end = Package::parse(&der).unwrap().elements.last().unwrap().tlv.offset;
    let error = refused(&[&der[..end], &csim, &der[end..]].concat());
    let TemplateError::Trial { place, offset, what } = &error else { panic!("{error}") };
    assert!(place.ends_with("csim/ef-imsi-m") && *offset == Some(end), "{error}");
    assert!(what.starts_with("imsi_m") && error.hint().contains("lint"), "{error}");
}
