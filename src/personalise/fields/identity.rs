//! Who the subscriber is: card number, IMSI, access class, telephone number.

use super::Field;
use super::ims::tlv_text;
use crate::formats::bcd;
use crate::personalise::{Identity, PersonaliseError};

/// Values of a record, coded once and written wherever they repeat.
pub(in crate::personalise) struct Coded<'a> {
    iccid_header: [u8; 10],
    iccid_file: [u8; 10],
    imsi: [u8; 9],
    acc: [u8; 2],
    imsi_digits: &'a str,
    msisdn: Option<&'a str>,
}

impl<'a> Coded<'a> {
    pub(in crate::personalise) fn new(identity: &'a Identity<'a>) -> Result<Self, PersonaliseError> {
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
    pub(in crate::personalise) fn write(
        &self,
        field: &Field,
        gap: &mut [u8],
        secret: impl Fn(usize) -> Option<&'a [u8]>,
    ) {
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
