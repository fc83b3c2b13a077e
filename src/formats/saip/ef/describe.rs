//! What files hold, in words: the codings, and the files that nobody orders but everybody reads.

use super::form::unpadded;
use super::services::{self, ServiceTable};
use super::{access, alphabet, coding, number, plmn};
use crate::formats::saip::file::MAX_FILE;
use crate::formats::saip::kind::Kind;
use crate::formats::tlv::{Reader, Tag};

/// The content of a common file in words, for people; `None` where this version reads nothing into it.
/// `content` is the whole file; `record_len` the length of a record, `None` for a transparent file or a single record.
pub fn describe(kind: Kind, file: &str, content: &[u8], record_len: Option<usize>) -> Option<String> {
    let content = content.get(..content.len().min(MAX_FILE))?;
    match (kind, file) {
        (Kind::Usim | Kind::Isim | Kind::Iot, "ef-ad") => administrative_data(content),
        (Kind::Usim | Kind::Iot, "ef-ust") => services::describe(ServiceTable::Usim, content),
        (Kind::Usim | Kind::OptIot, "ef-est") => services::describe(ServiceTable::Enabled, content),
        (Kind::Isim, "ef-ist") => services::describe(ServiceTable::Isim, content),
        (Kind::Mf | Kind::Iot, "ef-dir") => records(content, record_len, application),
        (Kind::OptUsim, "ef-msisdn" | "ef-sdn" | "ef-bdn" | "ef-mbdn") | (Kind::Usim | Kind::OptIot, "ef-fdn") => {
            records(content, record_len, number::describe)
        }
        (_, "ef-arr" | "ef-arr-usim") => records(content, record_len, access::describe),
        (_, "ef-loci") => location(content, 4, "TMSI"),
        (_, "ef-psloci") => location(content, 7, "P-TMSI"),
        (_, "ef-epsloci") => registration(content, 12, 2),
        (_, "ef-5gs3gpploci" | "ef-5gsn3gpploci") => registration(content, 13, 3),
        (Kind::Mf | Kind::Iot, "ef-pl") | (Kind::OptUsim, "ef-li") => languages(content),
        (Kind::Usim | Kind::Iot, "ef-hpplmn") => search_period(content),
        (Kind::OptCsim, "ef-spn") => cdma_provider(content),
        _ => by_coding(kind, file, content, record_len),
    }
}

fn by_coding(kind: Kind, file: &str, content: &[u8], record_len: Option<usize>) -> Option<String> {
    let coding = coding(kind, file)?;
    let text = coding.decode(content, record_len)?;
    Some(if coding.is_secret() { "set, not shown".to_owned() } else { text })
}

/// The used records, each with its number where there are several.
fn records(content: &[u8], record_len: Option<usize>, one: impl Fn(&[u8]) -> Option<String>) -> Option<String> {
    let record_len = record_len.unwrap_or(content.len());
    if record_len == 0 {
        return None;
    }
    let number = |at: usize| if content.len() > record_len { format!("{}: ", at + 1) } else { String::new() };
    let all = content.chunks_exact(record_len).enumerate();
    let told: Vec<String> = all.filter_map(|(at, record)| Some(format!("{}{}", number(at), one(record)?))).collect();
    (!told.is_empty()).then(|| told.join("\n"))
}

/// EF.DIR (ETSI TS 102 221 §13.1): `61` { `4F` AID, `50` label }.
fn application(record: &[u8]) -> Option<String> {
    let mut template = Reader::new(record).expect(Tag(0x61)).ok()?.children();
    let aid = template.expect(Tag(0x4F)).ok()?;
    let aid = data_encoding::HEXUPPER.encode(aid.value);
    let label = template.take_if(Tag(0x50)).ok()?.and_then(|label| alphabet::read_alpha(label.value));
    Some(label.map_or(aid.clone(), |label| format!("{label} {aid}")))
}

/// EF.AD (3GPP TS 31.102 §4.2.18, TS 31.103 §4.2.5): operation mode, additional information, length of the MNC.
fn administrative_data(content: &[u8]) -> Option<String> {
    let mode = match content.first()? {
        0x00 => "normal operation".to_owned(),
        0x80 => "type approval".to_owned(),
        0x01 => "normal operation with specific facilities".to_owned(),
        0x81 => "type approval with specific facilities".to_owned(),
        0x02 => "maintenance".to_owned(),
        0x04 => "cell test".to_owned(),
        other => format!("operation mode {other:02X}"),
    };
    Some(match content.get(3).map(|octet| octet & 0x0F) {
        Some(digits) if matches!(digits, 2 | 3) => format!("{mode}, MNC of {digits} digits"),
        _ => mode,
    })
}

/// EF.LOCI and EF.PSLOCI (3GPP TS 31.102 §4.2.17, §4.2.23): identity, area, status.
fn location(content: &[u8], identity_len: usize, identity: &str) -> Option<String> {
    let (temporary, area) = content.split_at_checked(identity_len)?;
    let (network, rest) = area.split_first_chunk::<3>()?;
    let code = rest.first_chunk::<2>()?;
    let status = update_status(*content.get(if identity_len == 4 { 10 } else { 13 })?);
    let known = temporary[..4] != [0xFF; 4];
    let temporary = if known {
        format!("{identity} {}", data_encoding::HEXUPPER.encode(&temporary[..4]))
    } else {
        format!("no {identity}")
    };
    Some(format!("{temporary}, {}, {status}", area_of(*network, code)))
}

/// EF.EPSLOCI and EF.5GS3GPPLOCI (3GPP TS 31.102 §4.2.91, §4.4.11.2): GUTI, last tracking area, status.
fn registration(content: &[u8], guti_len: usize, code_len: usize) -> Option<String> {
    let (guti, rest) = content.split_at_checked(guti_len)?;
    let (network, rest) = rest.split_first_chunk::<3>()?;
    let (code, status) = rest.split_at_checked(code_len)?;
    let guti = if guti.iter().all(|octet| *octet == 0xFF) { "no GUTI" } else { "a GUTI" };
    Some(format!("{guti}, {}, {}", area_of(*network, code), update_status(*status.first()?)))
}

fn area_of(network: [u8; 3], code: &[u8]) -> String {
    match plmn::read_plmn(network) {
        Some(network) => format!("area {network}-{}", data_encoding::HEXUPPER.encode(code)),
        None => "no area".to_owned(),
    }
}

fn update_status(octet: u8) -> &'static str {
    match octet & 7 {
        0 => "updated",
        1 => "not updated",
        2 => "not allowed",
        3 => "area not allowed",
        _ => "status reserved",
    }
}

/// EF.PL and EF.LI: language codes of two letters (ISO 639).
fn languages(content: &[u8]) -> Option<String> {
    let (codes, _) = content.as_chunks::<2>();
    let named = codes.iter().filter(|code| code.iter().all(u8::is_ascii_lowercase));
    let named: Vec<String> = named.map(|code| code.iter().map(|letter| char::from(*letter)).collect()).collect();
    (!named.is_empty()).then(|| named.join(","))
}

/// EF.HPPLMN (3GPP TS 31.102 §4.2.6).
fn search_period(content: &[u8]) -> Option<String> {
    Some(match content.first()? {
        0 => "no search for the home network".to_owned(),
        0xFF => return None,
        period => format!("home network searched every {} minutes", u16::from(*period) * 6),
    })
}

/// The provider's name of a CDMA subscription (3GPP2 C.S0065 §5.2, EFSPN): display condition, encoding, language, 32 octets of text.
/// Only texts of seven or eight bits in octets are read.
fn cdma_provider(content: &[u8]) -> Option<String> {
    let text = unpadded(content.get(3..)?);
    let shown = !text.is_empty() && text.iter().all(|octet| (0x20..0x7F).contains(octet));
    shown.then(|| text.iter().map(|octet| char::from(*octet)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_files_are_told_in_words() {
        let told = |kind, file, content: &[u8]| describe(kind, file, content, None).unwrap();
        assert_eq!(told(Kind::Usim, "ef-ad", &[0, 0, 0, 2]), "normal operation, MNC of 2 digits");
        assert_eq!(told(Kind::Usim, "ef-ust", &[0, 2]), "10 SMS");
        assert_eq!(told(Kind::Isim, "ef-ist", &[1]), "1 P-CSCF");
        assert_eq!(told(Kind::Mf, "ef-pl", b"en\xFF\xFF"), "en");
        assert_eq!(told(Kind::Usim, "ef-hpplmn", &[5]), "home network searched every 30 minutes");
        let loci = [0x47, 0xD1, 0x26, 0x4A, 0x62, 0xF2, 0x10, 0x37, 0x21, 0x1E, 0];
        assert_eq!(told(Kind::Usim, "ef-loci", &loci), "TMSI 47D1264A, area 26201-3721, updated");
        let loci = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x62, 0xF2, 0x10, 0xFF, 0xFE, 0xFF, 1];
        assert_eq!(told(Kind::Usim, "ef-psloci", &loci), "no P-TMSI, area 26201-FFFE, not updated");
        let mut loci = vec![0xFF; 18];
        loci[17] = 1;
        assert_eq!(told(Kind::Usim, "ef-epsloci", &loci), "no GUTI, no area, not updated");
        loci.resize(20, 0);
        assert_eq!(told(Kind::Df5gs, "ef-5gs3gpploci", &loci), "no GUTI, no area, updated");
    }

    #[test]
    fn records_are_numbered_and_free_ones_left_out() {
        let entry = b"\x61\x0C\x4F\x05\xA0\x00\x00\x00\x87\x50\x03APP\xFF\xFF";
        let content = [&entry[..], &[0xFF; 16], entry].concat();
        let told = describe(Kind::Mf, "ef-dir", &content, Some(16)).unwrap();
        assert_eq!(told, "1: APP A000000087\n3: APP A000000087");
        assert_eq!(describe(Kind::Mf, "ef-dir", entry, None).unwrap(), "APP A000000087");
        assert_eq!(describe(Kind::Mf, "ef-dir", entry, Some(0)), None);
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(describe(Kind::Csim, "ef-spc", &[0x21, 0x43, 0x65], None).unwrap(), "set, not shown");
    }

    #[test]
    fn short_and_unknown_content_is_left_alone() {
        for file in ["ef-loci", "ef-psloci", "ef-epsloci", "ef-ad", "ef-ust", "ef-imsi", "ef-hpplmn"] {
            assert_eq!(describe(Kind::Usim, file, &[], None), None, "{file}");
        }
        assert_eq!(describe(Kind::Usim, "ef-keys", &[7; 33], None), None);
    }
}
