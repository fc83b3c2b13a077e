//! The fields of a package that hold a record's identity, and their coding. Secrets are in `credentials`.

use super::{Identity, PersonaliseError};
use crate::formats::bcd;

/// What goes into a gap of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// ProfileHeader: straight BCD.
    IccidHeader,
    /// EF.ICCID: swapped nibbles.
    IccidFile,
    /// EF.IMSI.
    Imsi,
    /// EF.ACC.
    Acc,
    /// One record of EF.MSISDN (3GPP TS 31.102 §4.2.26).
    Msisdn,
    /// An IMS identity derived from the IMSI, a TLV `80` padded with FF (3GPP TS 23.003 §13.3, §13.4B).
    Nai { scheme: &'static str, realm: Realm },
    /// An IMS identity derived from the MSISDN: what stands before and behind its digits.
    Tel { scheme: &'static str, rest: Box<str> },
    /// The home network domain name alone.
    Domain(Realm),
    /// A secret: slot of the layout.
    Secret(usize),
}

/// The right side of an IMS identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Realm {
    /// The operator's own, the same for every record.
    Fixed(Box<str>),
    /// Holds `mncNNN.mccNNN`, which follows from the IMSI.
    Home { before: Box<str>, behind: Box<str>, mnc_len: u8 },
}

impl Realm {
    /// Recognises `mncNNN.mccNNN` in a realm.
    pub(super) fn read(text: &str, mnc_len: u8) -> Self {
        let is_code = |text: &str, word: &str| {
            text.strip_prefix(word)
                .is_some_and(|digits| digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()))
        };
        let home = text.find("mnc").and_then(|at| {
            let code = text.get(at..at + 13)?;
            let (mnc, mcc) = code.split_once('.')?;
            (is_code(mnc, "mnc") && is_code(mcc, "mcc")).then_some(at)
        });
        match home {
            Some(at) => Self::Home { before: text[..at].into(), behind: text[at + 13..].into(), mnc_len },
            None => Self::Fixed(text.into()),
        }
    }

    /// Octets of its text.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Fixed(text) => text.len(),
            Self::Home { before, behind, .. } => before.len() + 13 + behind.len(),
        }
    }

    fn write(&self, imsi: &str, out: &mut Text<'_>) {
        match self {
            Self::Fixed(text) => out.put(text),
            Self::Home { before, behind, mnc_len } => {
                let (mcc, rest) = imsi.split_at(3);
                let mnc = &rest[..usize::from(*mnc_len).min(rest.len())];
                out.put(before);
                out.put(if mnc.len() == 2 { "mnc0" } else { "mnc" });
                out.put(mnc);
                out.put(".mcc");
                out.put(mcc);
                out.put(behind);
            }
        }
    }
}

/// Values of a record, coded once and written wherever they repeat.
pub(super) struct Coded<'a> {
    iccid_header: [u8; 10],
    iccid_file: [u8; 10],
    imsi: [u8; 9],
    acc: [u8; 2],
    imsi_digits: &'a str,
    msisdn: Option<&'a str>,
}

impl<'a> Coded<'a> {
    pub(super) fn new(identity: &'a Identity<'a>) -> Result<Self, PersonaliseError> {
        let imsi_digits = identity.imsi.as_ref().map(|imsi| imsi.as_str()).unwrap_or_default();
        let acc = identity.imsi.map_or(0, |imsi| 1_u16 << imsi.last_digit());
        let msisdn = identity.msisdn.map(|text| text.strip_prefix('+').unwrap_or(text));
        if msisdn.is_some_and(|d| !(1..=20).contains(&d.len()) || !d.bytes().all(|b| b.is_ascii_digit())) {
            return Err(PersonaliseError::MsisdnForm);
        }
        let iccid_file: [u8; 10] = bcd::swapped(identity.iccid.as_str());
        Ok(Self {
            iccid_header: iccid_file.map(|octet| octet.rotate_left(4)),
            iccid_file,
            imsi: if imsi_digits.is_empty() { [0; 9] } else { bcd::ef_imsi(imsi_digits) },
            acc: acc.to_be_bytes(),
            imsi_digits,
            msisdn,
        })
    }

    /// Writes one field into its gap, which has the size the template was compiled with.
    pub(super) fn write(&self, field: &Field, gap: &mut [u8], secret: impl Fn(usize) -> Option<&'a [u8]>) {
        match field {
            Field::IccidHeader => copy(gap, &self.iccid_header),
            Field::IccidFile => copy(gap, &self.iccid_file),
            Field::Imsi => copy(gap, &self.imsi),
            Field::Acc => copy(gap, &self.acc),
            Field::Msisdn => write_msisdn(self.msisdn, gap),
            Field::Nai { scheme, realm } => tlv_text(gap, |text| {
                text.put(scheme);
                text.put(self.imsi_digits);
                text.put("@");
                realm.write(self.imsi_digits, text);
            }),
            Field::Tel { scheme, rest } => match self.msisdn {
                Some(digits) => tlv_text(gap, |text| {
                    text.put(scheme);
                    text.put(digits);
                    text.put(rest);
                }),
                // Without a number the record stays free; the template's example must not go out.
                None => gap.fill(0xFF),
            },
            Field::Domain(realm) => tlv_text(gap, |text| realm.write(self.imsi_digits, text)),
            Field::Secret(slot) => copy(gap, secret(*slot).unwrap_or_default()),
        }
    }
}

fn copy(gap: &mut [u8], value: &[u8]) {
    debug_assert_eq!(gap.len(), value.len());
    gap.iter_mut().zip(value).for_each(|(slot, octet)| *slot = *octet);
}

/// Alpha identifier empty, length, TON/NPI international E.164, ten octets of swapped BCD, CCP and EXT5 unused.
fn write_msisdn(digits: Option<&str>, gap: &mut [u8]) {
    gap.fill(0xFF);
    let (Some(digits), Some(alpha)) = (digits, gap.len().checked_sub(14)) else { return };
    gap[alpha] = digits.len().div_ceil(2) as u8 + 1;
    gap[alpha + 1] = 0x91;
    gap[alpha + 2..alpha + 12].copy_from_slice(&bcd::swapped::<10>(digits));
}

/// TLV `80 L text`, the rest of the gap FF.
fn tlv_text(gap: &mut [u8], fill: impl FnOnce(&mut Text<'_>)) {
    gap.fill(0xFF);
    let Some((head, body)) = gap.split_at_mut_checked(2) else { return };
    let mut text = Text { body, len: 0 };
    fill(&mut text);
    head.copy_from_slice(&[0x80, text.len as u8]);
}

/// Text that grows inside a gap; the compiler of the template made sure it fits.
struct Text<'g> {
    body: &'g mut [u8],
    len: usize,
}

impl Text<'_> {
    fn put(&mut self, piece: &str) {
        for (slot, octet) in self.body.iter_mut().skip(self.len).zip(piece.bytes()) {
            *slot = octet;
        }
        self.len += piece.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(field: Field, imsi: &str, msisdn: Option<&str>, len: usize) -> Vec<u8> {
        let identity = Identity {
            iccid: "89000123456789012341".parse().unwrap(),
            imsi: Some(imsi.parse().unwrap()),
            msisdn,
            vars: &[],
        };
        let mut gap = vec![0; len];
        Coded::new(&identity).unwrap().write(&field, &mut gap, |_| None);
        gap
    }

    #[test]
    fn an_ims_identity_follows_from_the_imsi() {
        let realm = |mnc_len| Realm::read("ims.mnc001.mcc001.3gppnetwork.org", mnc_len);
        let two = written(Field::Nai { scheme: "", realm: realm(2) }, "262011234567893", None, 60);
        assert_eq!(&two[..2], [0x80, 49]);
        assert_eq!(&two[2..51], b"262011234567893@ims.mnc001.mcc262.3gppnetwork.org");
        assert!(two[51..].iter().all(|octet| *octet == 0xFF));
        let three = written(Field::Nai { scheme: "sip:", realm: realm(3) }, "310410123456789", None, 60);
        assert_eq!(&three[2..55], b"sip:310410123456789@ims.mnc410.mcc310.3gppnetwork.org");
    }

    #[test]
    fn a_realm_of_the_operator_is_kept() {
        assert_eq!(Realm::read("test.3gpp.com", 2), Realm::Fixed("test.3gpp.com".into()));
        assert_eq!(Realm::read("mnc0x1.mcc001.org", 2), Realm::Fixed("mnc0x1.mcc001.org".into()));
    }

    #[test]
    fn an_msisdn_record_is_coded_as_in_ts_31_102() {
        let record = written(Field::Msisdn, "001010123456063", Some("+4915112345678"), 16);
        assert_eq!(
            record,
            [0xFF, 0xFF, 8, 0x91, 0x94, 0x51, 0x11, 0x32, 0x54, 0x76, 0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]
        );
        assert_eq!(written(Field::Msisdn, "001010123456063", None, 16), [0xFF; 16]);
    }

    #[test]
    fn the_access_class_is_the_last_digit_of_the_imsi() {
        assert_eq!(written(Field::Acc, "001010123456063", None, 2), [0x00, 0x08]);
        assert_eq!(written(Field::Acc, "001010123456069", None, 2), [0x02, 0x00]);
    }
}
