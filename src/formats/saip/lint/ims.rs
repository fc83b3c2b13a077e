//! Identities of the ISIM: U13 (3GPP TS 31.103 §4.2.2 to §4.2.4, TS 23.003 §13).
//!
//! Trap: an operator may use a realm and user parts of its own; only identities in the derived form have to agree. And the IMSI of
//! a template is a placeholder: identities of another subscriber are an error when the package goes into the field as it is, and
//! a warning before.

use super::applications::{Application, applications, octets, place};
use super::identity::{home_network, imsi_digits, mnc_len};
use super::tree::Made;
use super::{Report, Rule, Severity};
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::Package;
use crate::formats::tlv::{Reader, Tag};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "U13",
    severity: Severity::Error,
    why: "the IMS core finds no subscriber under such an identity: no voice, no messages over IMS",
    hint: "derive IMPI and IMPU from one IMSI: IMSI@ims.mncXXX.mccXXX.3gppnetwork.org, MNC with three digits",
    check: identities,
}];

/// Records of EF.IMPU that are looked at; registration takes the first ones.
const MOST_IDENTITIES: usize = 16;

/// One identity in words, and the file it stands in.
struct Identity<'p, 'a> {
    file: &'p Made<'a>,
    /// Octets of the file before the text.
    at: usize,
    text: String,
}

impl Identity<'_, '_> {
    /// Octets of the text before its user part.
    fn scheme_len(&self) -> usize {
        if self.text.starts_with("sip:") { 4 } else { 0 }
    }

    /// Octets of the text before its realm.
    fn realm_at(&self) -> usize {
        self.text.find('@').map_or(0, |at| at + 1)
    }

    /// The part before the @ when it is an IMSI.
    fn imsi(&self) -> Option<&str> {
        let user = self.text[self.scheme_len()..].split_once('@')?.0;
        ((14..=15).contains(&user.len()) && user.bytes().all(|octet| octet.is_ascii_digit())).then_some(user)
    }

    /// MCC and MNC (three digits) of a realm in the derived form.
    fn network(&self) -> Option<(&str, &str)> {
        let (mnc, rest) = self.text[self.realm_at()..].strip_prefix("ims.mnc")?.split_once(".mcc")?;
        Some((rest.strip_suffix(".3gppnetwork.org")?, mnc))
    }
}

/// The texts of a file: TLV 80 at its start, in each record of a linear file.
fn texts<'p, 'a>(isim: &Application<'p, 'a>, file: &'static str) -> Vec<Identity<'p, 'a>> {
    let Some(file) = isim.file(file) else { return Vec::new() };
    let octets = octets(file);
    let record = file.record_len().unwrap_or(octets.len()).max(1);
    let text = |record: &[u8]| {
        let tlv = Reader::new(record).next_tlv().ok().flatten().filter(|tlv| tlv.tag == Tag(0x80))?;
        Some((tlv.value_offset(), String::from_utf8(tlv.value.to_vec()).ok()?))
    };
    let records = octets.chunks(record).enumerate().take(MOST_IDENTITIES);
    let texts = records.filter_map(|(number, octets)| Some((number, text(octets)?)));
    texts.map(|(number, (at, text))| Identity { file, at: number * record + at, text }).collect()
}

/// U13 E: derived identities come from one IMSI, that of the USIM before.
fn identities(_package: &Package<'_>, report: &mut Report<'_>) {
    let mut usim: Option<(String, usize)> = None;
    for application in applications(report.made, &[Kind::Usim, Kind::Iot, Kind::Isim]) {
        if application.base.kind != Kind::Isim {
            usim = application.file("ef-imsi").and_then(|file| imsi_digits(&octets(file))).and_then(|imsi| {
                let mnc_len = application.file("ef-ad").and_then(mnc_len);
                Some((imsi, mnc_len.filter(|len| matches!(len, 2 | 3))?))
            });
            continue;
        }
        let all: Vec<_> =
            ["ef-impi", "ef-impu", "ef-domain"].into_iter().flat_map(|file| texts(&application, file)).collect();
        let first = all.iter().find_map(Identity::imsi);
        for identity in &all {
            for Fault { at, severity, message } in faults(identity, first, usim.as_ref(), report.options.production) {
                let offset = place(identity.file, identity.at + at);
                let message = format!("{}: {message}", identity.file.name);
                report.mild(severity, &identity.file.element, offset, message);
            }
        }
    }
}

/// What is wrong with an identity, and how far into its text.
struct Fault {
    at: usize,
    severity: Severity,
    message: &'static str,
}

fn faults(
    identity: &Identity<'_, '_>,
    first: Option<&str>,
    usim: Option<&(String, usize)>,
    production: bool,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let user = |severity, message| Fault { at: identity.scheme_len(), severity, message };
    let realm = |message| Fault { at: identity.realm_at(), severity: Severity::Error, message };
    let home = usim.and_then(|(imsi, mnc_len)| home_network(imsi, *mnc_len));
    if identity.imsi().is_some() && identity.imsi() != first {
        faults.push(user(Severity::Error, "its user part is another IMSI than that of the first identity"));
    }
    let differs = |imsi: &str| usim.is_some_and(|(own, _)| own != imsi);
    if identity.imsi().is_some_and(differs) {
        // An order writes both; only as it stands the package is wrong.
        let severity = if production { Severity::Error } else { Severity::Warning };
        faults.push(user(severity, "its user part is not the IMSI of the USIM"));
    }
    let Some((mcc, mnc)) = identity.network() else { return faults };
    if home.is_some_and(|(home_mcc, home_mnc)| mcc != home_mcc || mnc != format!("{home_mnc:0>3}")) {
        faults.push(realm("its realm is not that of the IMSI of the USIM"));
    } else if identity.imsi().is_some_and(|imsi| !imsi.starts_with(mcc)) {
        faults.push(realm("its realm is not that of its user part"));
    }
    faults
}
