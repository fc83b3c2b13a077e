//! Compares what stands in a package with what its record should have.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::files::content_of;
use super::found::{Code, Found, Value};
use super::{AuditError, read_package};
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::saip::ef::{self, Coding, Extent};
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::Package;
use crate::personalise::Identity;
use crate::personalise::credentials::{Credentials, Secret, derive};
use crate::personalise::settings::{Settings, VarSource};
use crate::secret::SubscriberKey;

/// What a record should have.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    /// Whose profile it is.
    pub identity: &'a Identity<'a>,
    /// What the line sets.
    pub settings: &'a Settings,
    /// The record's secrets.
    pub credentials: &'a Credentials,
    /// The template, read by [`super::read`]: none of its keys may be left.
    pub template: Option<&'a Found>,
    /// OP of the line, where OPc follows from it.
    pub op: Option<&'a SubscriberKey>,
}

/// Reads `upp` and compares every place of every value that the record owns; gives what was read. The first difference is the error.
pub fn check(upp: &[u8], expected: &Expected<'_>) -> Result<Found, AuditError> {
    let package = Package::parse(upp).map_err(AuditError::Der)?;
    let found = read_package(&package)?;
    let audit = Audit { package: &package, found: &found, expected };
    audit.identity()?;
    audit.ims()?;
    audit.variables()?;
    audit.authentication()?;
    audit.codes()?;
    audit.ota_keys()?;
    audit.nothing_of_the_template()?;
    Ok(found)
}

struct Audit<'a> {
    package: &'a Package<'a>,
    found: &'a Found,
    expected: &'a Expected<'a>,
}

type Checked = Result<(), AuditError>;

const OTHER: &str = "is not what the record should have";
const NONE: &str = "has no place in the package";

impl Audit<'_> {
    /// ICCID, IMSI, access class and number in header and files.
    fn identity(&self) -> Checked {
        let Expected { identity, .. } = self.expected;
        let has = |kind| self.package.of(kind).next().is_some();
        let is_file = |value: &&Value| value.place.contains('/');
        let iccids = self.found.named("iccid").filter(is_file).count();
        demand(iccids > 0 || has(Kind::Iot), "EF.ICCID", "iccid", NONE)?;
        self.each("iccid", identity.iccid.as_str())?;
        let Some(imsi) = &identity.imsi else {
            return demand(self.found.named("imsi").next().is_none(), "EF.IMSI", "imsi", OTHER);
        };
        let own = |value: &&Value| !self.is_ims(value);
        let usims = self.package.elements.iter().filter(|e| matches!(e.kind, Kind::Usim | Kind::Iot)).count();
        demand(self.found.named("imsi").filter(own).count() >= usims, "EF.IMSI", "imsi", NONE)?;
        for value in self.found.named("imsi").filter(own) {
            value.demand(imsi.as_str())?;
        }
        if !self.is_ordered("acc") && (usims > 0 || self.found.named("acc").next().is_some()) {
            self.each("acc", &imsi.last_digit().to_string())?;
        }
        self.cdma(imsi.as_str())?;
        let number = identity.msisdn.map(|digits| format!("+{}", digits.trim_start_matches('+')));
        let numbers = self.found.named("msisdn").filter(own).count();
        demand(number.is_none() || numbers > 0, "EF.MSISDN", "msisdn", NONE)?;
        for value in self.found.named("msisdn").filter(own) {
            value.demand(number.as_deref().unwrap_or_default())?;
        }
        Ok(())
    }

    /// What a CSIM says of the subscriber, where the line does not set it: blank, or the record's.
    fn cdma(&self, imsi: &str) -> Checked {
        for name in ["imsi_m", "imsi_t"].iter().filter(|name| !self.is_ordered(name)) {
            for value in self.found.named(name).filter(|value| !value.is_blank()) {
                value.demand(imsi)?;
            }
        }
        for value in self.found.named("accolc").filter(|_| !self.is_ordered("accolc")) {
            // Classes of more than one digit are not the subscriber's.
            match value.text.as_deref() {
                Some(class) if class.len() == 1 => value.demand(&imsi[imsi.len() - 1..])?,
                _ => {}
            }
        }
        Ok(())
    }

    /// What IMS identities say of the subscriber, where the line does not set them.
    fn ims(&self) -> Checked {
        let Expected { identity, .. } = self.expected;
        let imsi = identity.imsi.as_ref().map(|imsi| imsi.as_str()).unwrap_or_default();
        let number = identity.msisdn.map(|digits| format!("+{}", digits.trim_start_matches('+')));
        for value in self.found.values.iter().filter(|value| self.is_ims(value)) {
            let ordered = match value.place.rsplit('/').next() {
                Some("ef-impi") => "impi",
                Some("ef-impu") => "impu",
                _ => "ims_domain",
            };
            if self.is_ordered(ordered) {
                continue;
            }
            match value.name {
                "imsi" => value.demand(imsi)?,
                "msisdn" => value.demand(number.as_deref().unwrap_or_default())?,
                "realm" => value.demand(&home_network(imsi, self.mnc_len()))?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Everything the line or the record sets by name.
    fn variables(&self) -> Checked {
        for (name, source) in &self.expected.settings.vars {
            let text = match source {
                VarSource::Constant(text) => Some(text.as_str()),
                VarSource::PerRecord => {
                    self.expected.identity.vars.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
                }
            };
            let text = text.ok_or_else(|| wrong("the record", name, "has no value"))?;
            if let Some((element, file)) = name.split_once('/') {
                self.content(name, element, file, text)?;
            } else if let Some(version) = name.strip_prefix("keyset.") {
                self.key_set(name, version, text)?;
            } else if let Some((_, coding)) = ef::named(name) {
                self.each_file(name, coding, text)?;
            } else if ["rfm.", "sd.", "process_data."].iter().any(|prefix| name.starts_with(prefix)) {
                self.parameter(name, text)?;
            } else if !matches!(name.as_str(), "pin1" | "pin2") {
                self.each(name, &canonical(name, text))?;
            }
        }
        Ok(())
    }

    /// Algorithm, keys and services; A03: all applications agree; A04: OPc follows from OP.
    fn authentication(&self) -> Checked {
        let Expected { settings, credentials, op, .. } = self.expected;
        let first = self.found.akas.first().ok_or_else(|| wrong("the package", "akaParameter", NONE))?;
        for aka in &self.found.akas {
            let place = aka.place.as_str();
            demand(aka.algorithm == settings.algorithm.id(), place, "algorithmID", OTHER)?;
            demand(same(&aka.k, credentials.k()), place, "key", OTHER)?;
            demand(same(&aka.opc, credentials.opc()), place, "opc", OTHER)?;
            let is_one = settings.algorithm != Algorithm::Milenage || aka.constants == first.constants;
            demand(is_one, place, "constants", "differ between the applications")?;
        }
        if let Some(op) = op {
            let follows = derive(&first.k, op, settings.algorithm).is_ok_and(|opc| opc.same_as(&first.opc));
            demand(follows, &first.place, "opc", "does not follow from K and OP")?;
        }
        let service = match (settings.algorithm, first.k.len()) {
            (Algorithm::Milenage, _) => 4,
            (Algorithm::Tuak, 32) => 16,
            (Algorithm::Tuak, _) => 5,
        };
        let named: Vec<u8> = self.found.services.iter().copied().filter(|s| matches!(s, 4 | 5 | 16 | 17)).collect();
        demand(named == [service], "header", "eUICC-Mandatory-services", OTHER)?;
        for cdma in &self.found.cdmas {
            let own = |secret| credentials.expose(secret).unwrap_or_default();
            demand(same(&cdma.a_key, own(Secret::AKey)), &cdma.place, "authenticationKey", OTHER)?;
            if let Some(ssd) = &cdma.ssd {
                demand(same(ssd, own(Secret::Ssd)), &cdma.place, "ssd", OTHER)?;
            }
        }
        Ok(())
    }

    /// PINs, PUKs and ADMs of every context.
    fn codes(&self) -> Checked {
        for pin in &self.found.pins {
            match pin.reference {
                1..=8 => self.code(pin, "pin1", Secret::Pin1)?,
                0x81..=0x88 => self.code(pin, "pin2", Secret::Pin2)?,
                reference => self.code(pin, "adm", Secret::Adm(reference))?,
            }
        }
        for spc in &self.found.spcs {
            let own = self.expected.credentials.expose(Secret::Spc);
            demand(
                own.is_some_and(|own| spc.value.get(..own.len()).is_some_and(|value| same(value, own))),
                &spc.place,
                "spc",
                OTHER,
            )?;
        }
        for puk in &self.found.puks {
            let secret = if puk.reference < 0x80 { Secret::Puk1 } else { Secret::Puk2 };
            self.code(puk, "puk", secret)?;
        }
        Ok(())
    }

    fn code(&self, code: &Code, name: &str, secret: Secret) -> Checked {
        let place = format!("{} reference {:02X}", code.place, code.reference);
        let ordered = match self.expected.settings.vars.get(name) {
            Some(VarSource::Constant(text)) => Some(text),
            Some(VarSource::PerRecord) => {
                self.expected.identity.vars.iter().find(|(known, _)| known == name).map(|(_, text)| text)
            }
            None => None,
        };
        let is_own = match ordered {
            Some(digits) => {
                let (head, pad) = code.value.split_at(digits.len().min(code.value.len()));
                code.value.len() == 8 && same(head, digits.as_bytes()) && pad.iter().all(|octet| *octet == 0xFF)
            }
            None => self.expected.credentials.expose(secret).is_some_and(|own| same(&code.value, own)),
        };
        demand(is_own, &place, name, OTHER)
    }

    /// Every key is the record's, and every key of the record is there. Two keys may have one name.
    fn ota_keys(&self) -> Checked {
        let own = self.expected.credentials.each().filter_map(|(secret, value)| match secret {
            Secret::Ota(name) => Some((name, value)),
            _ => None,
        });
        let own: Vec<_> = own.collect();
        for (at, key) in self.found.ota_keys.iter().enumerate() {
            let name = format!("key {:02X}/{:02X}", key.version, key.id);
            let place = format!("security domain {}", key.domain);
            // Both are in the order of the package.
            let is_own = own.get(at).is_some_and(|(own, value)| {
                (own.domain, own.version, own.id) == (key.domain, key.version, key.id)
                    && (own.key_type, own.component) == (key.key_type, key.component)
                    && same(&key.value, value)
            });
            demand(is_own, &place, &name, OTHER)?;
        }
        demand(own.len() == self.found.ota_keys.len(), "the security domains", "keys", "are not all there")
    }

    /// A06: no key is zero or the template's. PINs and PUKs are too few to tell chance from a place left as it was; they were
    /// compared with the record's own.
    fn nothing_of_the_template(&self) -> Checked {
        // Pair by pair: a record has few keys (the compiler sees to it), and a set of digests costs more than it saves.
        let of_template: Vec<&[u8]> =
            self.expected.template.map(keys).unwrap_or_default().into_iter().map(|(_, key)| key).collect();
        for (field, key) in keys(self.found) {
            demand(key.iter().any(|octet| *octet != 0), "the package", field, "is zero")?;
            let is_left = of_template.iter().any(|placeholder| same(placeholder, key));
            demand(!is_left, "the package", field, "is the template's")?;
        }
        Ok(())
    }

    /// Hex content at the start of a file, in every element of this kind.
    fn content(&self, name: &str, element: &str, file: &str, text: &str) -> Checked {
        let octets = data_encoding::HEXUPPER_PERMISSIVE.decode(blankless(text).as_bytes()).unwrap_or_default();
        let kind = Kind::named(element).ok_or_else(|| wrong("the package", name, NONE))?;
        let mut places = 0;
        for element in self.package.of(kind) {
            let Some(content) = content_of(element, file) else { continue };
            places += 1;
            let is_own = !octets.is_empty() && content.starts_with(&octets);
            demand(is_own, &format!("{}/{file}", element.label()), name, OTHER)?;
        }
        for (of, made, place, content) in &self.found.generic {
            if (*of, *made) == (kind, file) {
                places += 1;
                demand(!octets.is_empty() && content.starts_with(&octets), place, name, OTHER)?;
            }
        }
        demand(places > 0, "the package", name, NONE)
    }

    /// A value by its coding, in every file of its name.
    fn each_file(&self, name: &str, coding: &dyn Coding, text: &str) -> Checked {
        let mut places = 0;
        for value in self.found.named(name).filter(|value| !self.is_ims(value)) {
            places += 1;
            let file = value.file.as_ref().ok_or_else(|| wrong(&value.place, name, OTHER))?;
            let given: Vec<Option<u8>> = file.octets.iter().copied().map(Some).collect();
            let extent = Extent { len: file.octets.len(), record_len: file.record_len, given: &given };
            let expected = coding.encode(text, extent).ok();
            let expected = expected.and_then(|octets| coding.decode(&octets, file.record_len));
            demand(expected.is_some() && value.text == expected, &value.place, name, OTHER)?;
        }
        demand(places > 0, "the package", name, NONE)
    }

    /// The keys of an ordered set: version, identifiers, type and length.
    fn key_set(&self, name: &str, version: &str, text: &str) -> Checked {
        let (word, len) = text.rsplit_once('-').unwrap_or_default();
        let (version, len) = (u8::from_str_radix(version, 16).ok(), len.parse::<usize>().ok());
        let wanted: &[(u8, u8, Option<usize>)] = &match word {
            "3des" => [(1, 0x80, len), (2, 0x80, len), (3, 0x80, len)],
            "aes" => [(1, 0x88, len), (2, 0x88, len), (3, 0x88, len)],
            _ => [(1, 0x85, len), (2, 0x88, Some(16)), (2, 0x88, Some(16))],
        };
        for (id, key_type, len) in wanted {
            let is_it = |key: &&super::OtaValue| (key.domain, Some(key.version), key.id) == (0, version, *id);
            let first = self.found.ota_keys.iter().find(is_it);
            let is_so = first.is_some_and(|key| key.key_type == *key_type && Some(key.value.len()) == *len);
            demand(is_so, "security domain 0", name, OTHER)?;
        }
        Ok(())
    }

    /// A parameter of which the package has several, under its number.
    fn parameter(&self, name: &str, text: &str) -> Checked {
        let parameter = self.found.parameters.iter().find(|parameter| parameter.name == name);
        let parameter = parameter.ok_or_else(|| wrong("the package", name, NONE))?;
        let is_own = same(parameter.text.as_bytes(), Zeroizing::new(blankless(text)).as_bytes());
        demand(is_own, &parameter.place, name, OTHER)
    }

    fn each(&self, name: &str, text: &str) -> Checked {
        let mut values = self.found.named(name).peekable();
        demand(values.peek().is_some(), "the package", name, NONE)?;
        values.try_for_each(|value| value.demand(&canonical_of(value, text)))
    }

    fn is_ordered(&self, name: &str) -> bool {
        self.expected.settings.vars.contains_key(name)
    }

    /// Taken out of an IMS identity, not a value of a place of its own.
    fn is_ims(&self, value: &Value) -> bool {
        value.file.is_none() && ["ef-impi", "ef-impu", "ef-domain"].iter().any(|file| value.place.ends_with(file))
    }

    /// Digits of the MNC by EF.AD.
    fn mnc_len(&self) -> usize {
        let is_three = self.found.named("mnc_len").any(|value| value.text.as_deref() == Some("3"));
        if is_three { 3 } else { 2 }
    }
}

impl Value {
    /// Its file holds nothing but zeros or FF, or nothing that the package gives.
    fn is_blank(&self) -> bool {
        let octets = self.file.as_ref().map_or(&[][..], |file| &file.octets);
        octets.iter().all(|octet| *octet == 0) || octets.iter().all(|octet| *octet == 0xFF)
    }

    fn demand(&self, text: &str) -> Checked {
        demand(self.text.as_deref() == Some(text), &self.place, self.name, OTHER)
    }
}

/// Every key with its field; codes are not among them.
fn keys(found: &Found) -> Vec<(&'static str, &[u8])> {
    let akas = found.akas.iter().flat_map(|aka| [("key", &aka.k[..]), ("opc", &aka.opc[..])]);
    let otas = found.ota_keys.iter().map(|key| ("keyData", &key.value[..]));
    let a_keys = found.cdmas.iter().map(|cdma| ("authenticationKey", &cdma.a_key[..]));
    let ssds = found.cdmas.iter().filter_map(|cdma| Some(("ssd", &cdma.ssd.as_ref()?[..])));
    akas.chain(otas).chain(a_keys).chain(ssds).collect()
}

/// The text of a member in the form in which it is found.
fn canonical(name: &str, text: &str) -> String {
    match name {
        "profile_type" | "pin1_state" | "pin2_state" => text.to_owned(),
        "sqn" if !text.contains(',') => vec![blankless(text); 32].join(","),
        _ => blankless(text),
    }
}

/// A state without attempts leaves those of the template.
fn canonical_of(found: &Value, text: &str) -> String {
    match (found.name, &found.text) {
        ("pin1_state" | "pin2_state", Some(state)) if !text.contains(' ') => {
            let attempts = state.split_once(' ').map_or("", |(_, attempts)| attempts);
            format!("{text} {attempts}")
        }
        _ => text.to_owned(),
    }
}

/// Hex as the audit writes it.
fn blankless(text: &str) -> String {
    text.chars().filter(|c| *c != ' ').collect::<String>().to_ascii_uppercase()
}

/// `mnc001.mcc262` (3GPP TS 23.003 §13.2).
fn home_network(imsi: &str, mnc_len: usize) -> String {
    let (mcc, mnc) = (imsi.get(..3).unwrap_or_default(), imsi.get(3..3 + mnc_len).unwrap_or_default());
    format!("mnc{mnc:0>3}.mcc{mcc}")
}

/// In constant time.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

fn demand(holds: bool, place: &str, field: &str, what: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(wrong(place, field, what)) }
}

fn wrong(place: &str, field: &str, what: &'static str) -> AuditError {
    AuditError::Value { place: place.to_owned(), field: field.to_owned(), what }
}
