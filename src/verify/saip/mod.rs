//! The judge's own small reading of an Unprotected Profile Package (TCA "SAIP" interoperable format): just enough to see whether
//! the profile is whole, says one identity everywhere, and holds sound credentials.
//!
//! In: the decrypted UPP. Out: [`Profile`], or everything that is wrong. Rule: all findings of a profile are told, not the first.

mod credentials;
mod file;
mod values;

use zeroize::Zeroizing;

use self::credentials::Aka;
pub use self::credentials::Algorithm;
pub(super) use self::values::{Values, Variable, access_classes};
use super::authentication::Constants;
use super::digits;
use super::finding::{Check, Finding};
use crate::formats::tlv::{self, Reader, Tag, Tlv, TlvError};
use crate::ids::{Iccid, Imsi};
use crate::secret::SubscriberKey;

/// What a profile says about itself.
pub(super) struct Profile {
    pub(super) iccid: Iccid,
    pub(super) imsis: Vec<Imsi>,
    pub(super) algorithm: Algorithm,
    pub(super) k: SubscriberKey,
    pub(super) opc: SubscriberKey,
    pub(super) constants: Vec<Constants>,
    pub(super) ota_keys: Vec<Zeroizing<Vec<u8>>>,
    pub(super) values: Values,
}

/// Reads a UPP. `ordered_acc`: values of EF.ACC that the order gave; without any, EF.ACC is the bit of the last IMSI digit.
pub(super) fn read(upp: &[u8], ordered_acc: &[u16]) -> Result<Profile, Vec<Finding>> {
    let elements = elements(upp).map_err(|finding| vec![finding])?;
    let mut findings = Vec::new();
    let mut keep = |result: Result<(), Finding>| findings.extend(result.err());

    let mut iccid = None;
    keep(read_iccid(&elements).map(|found| iccid = Some(found)));
    let mut imsis = Vec::new();
    for (element, imsi_tag, acc_tag) in subscriptions(&elements) {
        let Some(imsi) = take(&mut keep, file::imsi(element, imsi_tag)) else { continue };
        keep(file::check_acc(element, acc_tag, &imsi, ordered_acc));
        imsis.push(imsi);
    }
    let aka = take(&mut keep, credentials::aka(&elements));
    credentials::pins(&elements).into_iter().for_each(|finding| keep(Err(finding)));
    let ota_keys = take(&mut keep, credentials::ota_keys(&elements));
    match (iccid, aka, ota_keys) {
        (Some(iccid), Some(aka), Some(ota_keys)) if findings.is_empty() => {
            let Aka { algorithm, k, opc, constants } = aka;
            let values = Values::read(&elements);
            Ok(Profile { iccid, imsis, algorithm, k, opc, constants, ota_keys, values })
        }
        _ => Err(findings),
    }
}

fn take<T>(keep: &mut impl FnMut(Result<(), Finding>), result: Result<T, Finding>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(finding) => {
            keep(Err(finding));
            None
        }
    }
}

/// Strict DER through all levels; `header` once and first, `end` once and last. An element this reading does not know is one of a
/// later version and stays for the eUICC to judge; all of them have constructed context-specific tags (ProfileElement is a CHOICE).
fn elements(upp: &[u8]) -> Result<Vec<Tlv<'_>>, Finding> {
    let form = |e: TlvError| Finding::new(Check::UppForm, format!("profile octet {}: {}", e.offset, e.fault));
    tlv::check_strict(upp).map_err(form)?;
    let mut reader = Reader::new(upp);
    let mut elements = Vec::new();
    while let Some(element) = reader.next_tlv().map_err(form)? {
        if !is_element(element.tag) {
            let what = format!("profile octet {}: {} is no profile element", element.offset, element.tag);
            return Err(Finding::new(Check::UppForm, what));
        }
        elements.push(element);
    }
    let places =
        |tag: u32| elements.iter().enumerate().filter(|(_, e)| e.tag.0 == tag).map(|(i, _)| i).collect::<Vec<_>>();
    if places(0xA0) != [0] {
        return Err(Finding::new(Check::UppForm, "the header is not the first element, or not the only one"));
    }
    if places(0xAA) != [elements.len() - 1] {
        return Err(Finding::new(Check::UppForm, "the end element is not the last, or not the only one"));
    }
    Ok(elements)
}

/// Constructed and of the context-specific class, whatever its number.
fn is_element(tag: Tag) -> bool {
    let first = tag.0.to_be_bytes().into_iter().find(|octet| *octet != 0);
    first.is_some_and(|first| first & 0xE0 == 0xA0)
}

/// The element's own member of this tag.
fn member<'a>(element: &Tlv<'a>, tag: u32) -> Option<Tlv<'a>> {
    let mut members = element.children();
    std::iter::from_fn(|| members.next_tlv().ok().flatten()).find(|tlv| tlv.tag.0 == tag)
}

/// All TLVs directly inside.
fn members<'a>(element: &Tlv<'a>) -> impl Iterator<Item = Tlv<'a>> {
    let mut members = element.children();
    std::iter::from_fn(move || members.next_tlv().ok().flatten())
}

/// Elements that hold an IMSI, with the tags of EF.IMSI and EF.ACC inside: ADF.USIM, and the IoT minimal profile.
fn subscriptions<'e, 'a>(elements: &'e [Tlv<'a>]) -> impl Iterator<Item = (&'e Tlv<'a>, u32, u32)> {
    elements.iter().filter_map(|element| match element.tag.0 {
        0xB3 => Some((element, 0xA3, 0xB2)),
        0xBF20 => Some((element, 0xA9, 0xB2)),
        _ => None,
    })
}

/// ICCID of the ProfileHeader (straight), equal to EF.ICCID (swapped). Only an IoT minimal profile may leave EF.ICCID to the header.
fn read_iccid(elements: &[Tlv<'_>]) -> Result<Iccid, Finding> {
    let wrong = |what: &str| Finding::new(Check::UppIccid, what);
    let header = member(&elements[0], 0x83).filter(|field| field.value.len() == 10);
    let header = header.ok_or_else(|| wrong("the header has no ICCID of 10 octets"))?;
    let text =
        digits::straight(header.value).ok_or_else(|| wrong("ICCID of the header is not digits padded with F"))?;
    let iccid: Iccid = text.parse().map_err(|e| wrong(&format!("ICCID of the header {e}")))?;

    let is_iot = member(&elements[0], 0xA9).is_some();
    let file = elements.iter().find(|e| matches!(e.tag.0, 0xB0 | 0xBF20)).and_then(|root| member(root, 0xA4));
    let content = match file {
        Some(file) => file::content(&file).map_err(|what| wrong(&format!("EF.ICCID: {what}")))?,
        None if is_iot => return Ok(iccid),
        None => return Err(wrong("no EF.ICCID in the MF element")),
    };
    match digits::swapped(&content) {
        Some(found) if content.len() == 10 && found == text => Ok(iccid),
        _ => Err(wrong("EF.ICCID is not the ICCID of the header")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::builder::Upp;

    fn refused(upp: &Upp, check: Check) {
        let findings = read(&upp.der(), &[]).err().unwrap();
        assert!(findings.iter().any(|f| f.check == check), "{check}: {findings:?}");
    }

    #[test]
    fn a_sound_profile_tells_what_was_put_in() {
        let upp = Upp::default();
        let profile = read(&upp.der(), &[]).unwrap();
        assert_eq!(profile.iccid.as_str(), "89000123456789012341");
        assert_eq!(profile.imsis, ["001010123456063".parse().unwrap()]);
        assert_eq!(profile.algorithm, Algorithm::Milenage);
        assert!(profile.k.same_as(&upp.k) && profile.opc.same_as(&upp.opc));
        assert_eq!(profile.ota_keys.len(), 3);
    }

    #[test]
    fn header_first_end_last_and_nothing_foreign() {
        let der = Upp::default().der();
        let check = |upp: &[u8]| read(upp, &[]).err().unwrap()[0].check;
        let end: &[u8] = &[0xAA, 0];
        assert_eq!(check(&[end, &der].concat()), Check::UppForm);
        assert_eq!(check(&[&der, end].concat()), Check::UppForm);
        assert_eq!(check(&[&der[..], &der].concat()), Check::UppForm);
        assert_eq!(check(&[&der[..], &[0]].concat()), Check::UppForm);
        assert_eq!(check(&[&der[..], &[0x30, 0]].concat()), Check::UppForm);
        assert_eq!(check(&[]), Check::UppForm);
    }

    #[test]
    fn an_element_of_a_later_version_is_passed_over_but_it_is_an_element() {
        let der = Upp::default().der();
        let header_len = 2 + usize::from(der[1]);
        let with = |element: &[u8]| read(&[&der[..header_len], element, &der[header_len..]].concat(), &[]);
        for element in [
            &[0xBF, 0x30, 0x04, 0xA0, 0x02, 0x80, 0x00][..],
            &[0xBF, 0x7E, 0x02, 0x80, 0x00],
            &[0xBF, 0x81, 0x00, 0x02, 0x80, 0x00],
        ] {
            assert!(with(element).is_ok(), "{element:02X?}");
        }
        // Primitive, universal, application and private class.
        for foreign in [&[0x9F, 0x30, 0x00][..], &[0x30, 0x00], &[0x7F, 0x30, 0x00], &[0xFF, 0x30, 0x00]] {
            assert_eq!(with(foreign).err().unwrap()[0].check, Check::UppForm, "{foreign:02X?}");
        }
    }

    #[test]
    fn the_iccid_stands_in_header_and_file_alike() {
        refused(&Upp { ef_iccid: Some("89000123456789012358".into()), ..Upp::default() }, Check::UppIccid);
        refused(&Upp { header_iccid: "89000123456789012342".into(), ..Upp::default() }, Check::UppIccid);
        refused(&Upp { ef_iccid: None, ..Upp::default() }, Check::UppIccid);
    }

    #[test]
    fn access_class_follows_the_imsi_or_the_order() {
        let upp = Upp { acc: [0, 2], ..Upp::default() };
        refused(&upp, Check::UppAcc);
        assert!(read(&upp.der(), &[0x0002]).is_ok());
        refused(&Upp { acc: [4, 0], ..Upp::default() }, Check::UppAcc);
        refused(&Upp { imsi: [8, 0x01, 0x10, 0x10, 0x10, 0x32, 0x54, 0x06, 0x36], ..Upp::default() }, Check::UppImsi);
    }

    #[test]
    fn subscriber_keys_are_one_sound_and_not_zero() {
        refused(&Upp { k: [0; 16].into(), ..Upp::default() }, Check::UppAka);
        refused(&Upp { opc: [0; 16].into(), ..Upp::default() }, Check::UppAka);
        refused(&Upp { opc: [7; 32].into(), ..Upp::default() }, Check::UppAka);
        refused(&Upp { algorithm: 9, ..Upp::default() }, Check::UppAka);
        refused(&Upp { second_k: Some([9; 16].into()), ..Upp::default() }, Check::UppAka);
        refused(&Upp { has_aka: false, ..Upp::default() }, Check::UppAka);
        assert!(read(&Upp { second_k: Some(Upp::default().k), ..Upp::default() }.der(), &[]).is_ok());
        let tuak = Upp { algorithm: 2, opc: [7; 32].into(), ..Upp::default() };
        assert_eq!(read(&tuak.der(), &[]).unwrap().algorithm, Algorithm::Tuak);
    }

    #[test]
    fn pins_are_digits_and_their_puk_exists() {
        refused(&Upp { pin: *b"12a4\xFF\xFF\xFF\xFF", ..Upp::default() }, Check::UppPin);
        refused(&Upp { pin: *b"123\xFF\xFF\xFF\xFF\xFF", ..Upp::default() }, Check::UppPin);
        refused(&Upp { pin: *b"1234\xFF\xFF5\xFF", ..Upp::default() }, Check::UppPin);
        refused(&Upp { puk: *b"1234567\xFF", ..Upp::default() }, Check::UppPin);
        refused(&Upp { puk_reference: 2, ..Upp::default() }, Check::UppPin);
        refused(&Upp { adm: [0xFF; 8], ..Upp::default() }, Check::UppPin);
    }

    #[test]
    fn over_the_air_keys_are_different_and_not_zero() {
        let keys = |keys: &[[u8; 16]]| Upp { ota_keys: keys.iter().map(|k| k.to_vec()).collect(), ..Upp::default() };
        refused(&keys(&[[1; 16], [0; 16], [3; 16]]), Check::UppOta);
        refused(&keys(&[[1; 16], [2; 16], [1; 16]]), Check::UppOta);
        assert!(read(&keys(&[]).der(), &[]).is_ok());
    }
}
