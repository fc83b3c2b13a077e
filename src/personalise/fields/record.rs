//! The values of one record, coded once and written wherever they repeat.

use zeroize::Zeroizing;

use super::ims::tlv_text;
use super::{Field, Member, read_hex};
use crate::formats::bcd;
use crate::formats::saip::ef::{self, Coding, Extent};
use crate::formats::saip::kind::Kind;
use crate::formats::tlv::{Tag, wrap};
use crate::personalise::rope::Filling;
use crate::personalise::{Credentials, Identity, PersonaliseError};

/// The variables that differ per record, and how each of their places takes them.
#[derive(Default)]
pub(in crate::personalise) struct Variables {
    names: Vec<String>,
    coders: Vec<Coder>,
}

/// How one place takes a variable that differs per record.
pub(super) struct Coder {
    /// Which variable, by its number.
    variable: usize,
    form: CoderForm,
}

pub(super) enum CoderForm {
    /// Members of an element, in place of these.
    Member { member: &'static dyn Member, given: Vec<u8> },
    /// The content of a file, always of its whole length.
    File { coding: &'static dyn Coding, len: usize, record_len: Option<usize>, given: Vec<Option<u8>> },
    /// Hex octets as the only write into a file of `most` octets.
    Content { tag: Tag, most: usize },
}

impl Coder {
    /// `None`: not of the form, or longer than its place.
    fn encode(&self, text: &str) -> Option<Vec<u8>> {
        match &self.form {
            CoderForm::Member { member, given } => member.encode(text, given),
            CoderForm::File { coding, len, record_len, given } => {
                let extent = Extent { len: *len, record_len: *record_len, given };
                let mut octets = coding.encode(text, extent).ok()?;
                let kept = (octets.len()..*len).map(|at| given.get(at).copied().flatten().unwrap_or(0xFF));
                octets.extend(kept);
                Some(octets)
            }
            CoderForm::Content { tag, most } => {
                let octets = read_hex(text).filter(|octets| (1..=*most).contains(&octets.len()))?;
                Some(wrap(*tag, &[&octets]))
            }
        }
    }

    fn form(&self) -> String {
        let (form, clause) = match &self.form {
            CoderForm::Member { member, .. } => (member.form(), member.clause()),
            CoderForm::File { coding, .. } => (coding.form(), coding.clause()),
            CoderForm::Content { most, .. } => return format!("is not hex of 1 to {most} octets"),
        };
        format!("does not fit its place, or is not {form} ({clause})")
    }

    /// Octets with the template's own value.
    fn usual_len(&self) -> usize {
        match &self.form {
            CoderForm::Member { given, .. } => given.len(),
            CoderForm::File { len, .. } => *len,
            CoderForm::Content { most, .. } => *most,
        }
    }
}

impl Variables {
    /// A further place of the variable `name`; its number is the field's.
    pub(super) fn place(&mut self, name: &str, form: CoderForm) -> Field {
        let variable = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        self.coders.push(Coder { variable, form });
        Field::Variable(self.coders.len() - 1)
    }

    /// Their names.
    pub(in crate::personalise) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether every place takes `value` for the variable `name`.
    pub(in crate::personalise) fn check(&self, name: &str, value: &str) -> Result<(), PersonaliseError> {
        let variable = self.names.iter().position(|known| known == name).ok_or_else(|| unfit(name, NOT_PER_RECORD))?;
        let places = self.coders.iter().filter(|coder| coder.variable == variable);
        for coder in places {
            Zeroizing::new(coder.encode(value).ok_or_else(|| unfit(name, &coder.form()))?);
        }
        Ok(())
    }

    /// What a splice has with the template's own value.
    pub(in crate::personalise) fn usual_len(&self, field: &Field) -> usize {
        match field {
            Field::Variable(coder) => self.coders.get(*coder).map_or(0, Coder::usual_len),
            _ => 0,
        }
    }

    /// The octets of every place, from the texts of one record.
    fn coded(&self, given: &[(String, String)]) -> Result<Vec<Zeroizing<Vec<u8>>>, PersonaliseError> {
        if let Some((stranger, _)) = given.iter().find(|(name, _)| !self.names.contains(name)) {
            return Err(unfit(stranger, NOT_PER_RECORD));
        }
        let text = |name: &String| given.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str());
        let coded = |coder: &Coder| {
            let name = &self.names[coder.variable];
            let text = text(name).ok_or_else(|| unfit(name, "the record gives none"))?;
            coder.encode(text).map(Zeroizing::new).ok_or_else(|| unfit(name, &coder.form()))
        };
        self.coders.iter().map(coded).collect()
    }
}

const NOT_PER_RECORD: &str = "does not differ per record in this line";

fn unfit(name: &str, what: &str) -> PersonaliseError {
    PersonaliseError::Variable { name: name.to_owned(), what: what.to_owned() }
}

/// Values of a record, coded once and written wherever they repeat.
pub(in crate::personalise) struct Coded<'a> {
    iccid_header: [u8; 10],
    iccid_file: [u8; 10],
    imsi: [u8; 9],
    acc: [u8; 2],
    imsi_digits: &'a str,
    msisdn: Option<&'a str>,
    mnc_len: Option<u8>,
    variables: Vec<Zeroizing<Vec<u8>>>,
    credentials: &'a Credentials,
}

impl<'a> Coded<'a> {
    pub(in crate::personalise) fn new(
        identity: &'a Identity<'a>,
        variables: &Variables,
        credentials: &'a Credentials,
    ) -> Result<Self, PersonaliseError> {
        let imsi_digits = identity.imsi.as_ref().map(|imsi| imsi.as_str()).unwrap_or_default();
        let acc = identity.imsi.map_or(0, |imsi| 1_u16 << imsi.last_digit());
        let msisdn = identity.msisdn.map(|text| text.strip_prefix('+').unwrap_or(text));
        if msisdn.is_some_and(|d| !(1..=20).contains(&d.len()) || !d.bytes().all(|b| b.is_ascii_digit())) {
            return Err(PersonaliseError::MsisdnForm);
        }
        let iccid_file: [u8; 10] = bcd::swapped(identity.iccid.as_str());
        let mnc_len = identity.vars.iter().find(|(name, _)| name == "mnc_len").and_then(|(_, text)| text.parse().ok());
        Ok(Self {
            iccid_header: iccid_file.map(|octet| octet.rotate_left(4)),
            iccid_file,
            imsi: if imsi_digits.is_empty() { [0; 9] } else { bcd::ef_imsi(imsi_digits) },
            acc: acc.to_be_bytes(),
            imsi_digits,
            msisdn,
            mnc_len,
            variables: variables.coded(identity.vars)?,
            credentials,
        })
    }

    /// Writes one field into its gap, which has the size the template was compiled with.
    pub(in crate::personalise) fn write(&self, field: &Field, gap: &mut [u8]) {
        match field {
            Field::IccidHeader => copy(gap, &self.iccid_header),
            Field::IccidFile => copy(gap, &self.iccid_file),
            Field::Imsi => copy(gap, &self.imsi),
            Field::Acc => copy(gap, &self.acc),
            Field::ImsiCdma => {
                // Class 0: fifteen digits, as `personalise` saw to.
                let extent = Extent { len: gap.len(), record_len: None, given: &[] };
                let coding = ef::coding(Kind::Csim, "ef-imsi-t");
                let octets = coding.and_then(|coding| coding.encode(self.imsi_digits, extent).ok());
                copy(gap, &octets.unwrap_or_default());
            }
            Field::Accolc => copy(gap, &[self.imsi_digits.bytes().last().unwrap_or(b'0') - b'0']),
            Field::Msisdn { record_len } => write_msisdn(self.msisdn, *record_len, gap),
            Field::Nai { scheme, realm } => tlv_text(gap, |text| {
                text.put(scheme);
                text.put(self.imsi_digits);
                text.put("@");
                realm.write(self.imsi_digits, self.mnc_len, text);
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
            Field::Domain(realm) => tlv_text(gap, |text| realm.write(self.imsi_digits, self.mnc_len, text)),
            Field::Secret(slot) => copy(gap, self.credentials.slot(*slot).unwrap_or_default()),
            Field::Variable(_) => copy(gap, self.variable(field)),
        }
    }

    fn variable(&self, field: &Field) -> &[u8] {
        match field {
            Field::Variable(coder) => self.variables.get(*coder).map_or(&[], |octets| octets),
            _ => &[],
        }
    }
}

impl Filling<Field> for Coded<'_> {
    fn splice_len(&self, what: &Field) -> usize {
        self.variable(what).len()
    }

    fn splice(&mut self, what: &Field, out: &mut Vec<u8>) {
        out.extend_from_slice(self.variable(what));
    }

    fn gap(&mut self, what: &Field, len: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + len, 0);
        self.write(what, &mut out[start..]);
    }
}

fn copy(gap: &mut [u8], value: &[u8]) {
    debug_assert_eq!(gap.len(), value.len());
    gap.iter_mut().zip(value).for_each(|(slot, octet)| *slot = *octet);
}

/// Alpha identifier empty, length, TON/NPI international E.164, ten octets of swapped BCD, CCP and EXT5 unused.
fn write_msisdn(digits: Option<&str>, record_len: usize, gap: &mut [u8]) {
    gap.fill(0xFF);
    let (Some(digits), Some(record)) = (digits, gap.get_mut(..record_len)) else { return };
    let Some(alpha) = record.len().checked_sub(14) else { return };
    record[alpha] = digits.len().div_ceil(2) as u8 + 1;
    record[alpha + 1] = 0x91;
    record[alpha + 2..alpha + 12].copy_from_slice(&bcd::swapped::<10>(digits));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::ims::Realm;
    use super::*;
    use crate::formats::saip::algorithm::Algorithm;
    use crate::personalise::Draw;
    use crate::personalise::credentials::Layout;

    fn written(field: Field, imsi: &str, msisdn: Option<&str>, len: usize) -> Vec<u8> {
        let identity = Identity {
            iccid: "89000123456789012341".parse().unwrap(),
            imsi: Some(imsi.parse().unwrap()),
            msisdn,
            vars: &[],
        };
        let layout = Arc::new(Layout::default());
        let credentials = Credentials::draw(&layout, Algorithm::Milenage, &mut Draw::new(&[]), None).unwrap();
        let mut gap = vec![0; len];
        Coded::new(&identity, &Variables::default(), &credentials).unwrap().write(&field, &mut gap);
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
    fn an_msisdn_record_is_coded_as_in_ts_31_102_and_the_others_are_free() {
        let field = || Field::Msisdn { record_len: 16 };
        let file = written(field(), "001010123456063", Some("+4915112345678"), 32);
        assert_eq!(
            file[..16],
            [0xFF, 0xFF, 8, 0x91, 0x94, 0x51, 0x11, 0x32, 0x54, 0x76, 0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]
        );
        assert_eq!(file[16..], [0xFF; 16]);
        assert_eq!(written(field(), "001010123456063", None, 16), [0xFF; 16]);
    }

    #[test]
    fn the_access_class_is_the_last_digit_of_the_imsi() {
        assert_eq!(written(Field::Acc, "001010123456063", None, 2), [0x00, 0x08]);
        assert_eq!(written(Field::Acc, "001010123456069", None, 2), [0x02, 0x00]);
    }
}
