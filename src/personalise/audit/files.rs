//! Reads the files of an element: by their codings, and the identities inside IMS identities.

use zeroize::Zeroizing;

use super::found::{Code, File, Found, Value};
use crate::formats::bcd;
use crate::formats::saip::catalogue::Template;
use crate::formats::saip::ef;
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::{Kind, constructed};
use crate::formats::saip::package::{Element, child};

/// Every file of an element that has a coding. A file that the template makes and the element leaves out has an unknown value.
pub(super) fn of_element(element: &Element<'_>, found: &mut Found) {
    for name in element.kind.files() {
        let Some(coding) = ef::coding(element.kind, name) else { continue };
        let place = format!("{}/{name}", element.label());
        if coding.is_secret() {
            let octets = content_of(element, name).map(Zeroizing::new);
            if let Some(value) = octets.filter(|_| *name == "ef-spc") {
                found.spcs.push(Code { place, reference: 0, value });
            }
            continue;
        }
        let Some(file) = element.file(name) else {
            let is_made = Template::of(element)
                .is_some_and(|template| template.created_by_default && template.file(name).is_some());
            if is_made && !(element.kind == Kind::Iot && *name == "ef-iccid") {
                found.put(coding.name(), place, None);
            }
            continue;
        };
        let Some(view) = FileView::single(&file).filter(|view| !view.do_not_create) else { continue };
        let octets = content(&view);
        let is_free = octets.iter().all(|octet| *octet == 0xFF);
        let record_len = view.record_len();
        let text = if is_free { Some(String::new()) } else { coding.decode(&octets, record_len) };
        if element.kind == Kind::Isim {
            identities(name, &octets, record_len, &place, found);
        }
        let file = Some(File { octets, record_len });
        found.values.push(Value { name: coding.name(), place, text, file });
    }
}

/// EF.ICCID and EF.IMSI made by GenericFileManagement.
pub(super) fn made_there(element: &Element<'_>, found: &mut Found) {
    for file in FileView::of_gfm(&element.tlv) {
        match file.file_id() {
            Some([0x2F, 0xE2]) => {
                let digits = file.given(0, 10).and_then(|octets| bcd::read_swapped(&octets));
                found.put("iccid", format!("{}/ef-iccid", element.label()), digits);
            }
            Some([0x6F, 0x07]) => {
                // Another application's file may have this identifier.
                let coding = ef::coding(Kind::Usim, "ef-imsi");
                let octets = file.given(0, 9).unwrap_or_default();
                if let Some(text) = coding.and_then(|coding| coding.decode(&octets, None)) {
                    found.put("imsi", format!("{}/ef-imsi", element.label()), Some(text));
                }
            }
            _ => {}
        }
    }
}

/// The whole content of the file of this name; `None`: not there, or several.
pub(super) fn content_of(element: &Element<'_>, name: &str) -> Option<Vec<u8>> {
    let number = element.kind.file_number(name)?;
    let file = child(&element.tlv, constructed(number))?;
    FileView::single(&file).filter(|view| !view.do_not_create).map(|view| content(&view))
}

fn content(view: &FileView<'_>) -> Vec<u8> {
    let len = view.size().unwrap_or(view.written_len());
    view.content(len).into_iter().map(|octet| octet.unwrap_or(0xFF)).collect()
}

/// IMSI or number in the user part of EF.IMPI and EF.IMPU, and the home network in their realms and EF.DOMAIN.
fn identities(name: &str, octets: &[u8], record_len: Option<usize>, place: &str, found: &mut Found) {
    if !matches!(name, "ef-impi" | "ef-impu" | "ef-domain") {
        return;
    }
    for record in octets.chunks(record_len.unwrap_or(octets.len()).max(1)) {
        let [0x80, len, text @ ..] = record else { continue };
        let Some(text) = text.get(..usize::from(*len)).and_then(|text| std::str::from_utf8(text).ok()) else {
            continue;
        };
        let user = text.trim_start_matches("sip:").split('@').next().unwrap_or_default();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if let Some(number) = user.trim_start_matches("tel:").strip_prefix('+') {
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            found.put("msisdn", place.to_owned(), Some(format!("+{digits}")));
            continue;
        }
        if name != "ef-domain" {
            if !is_number(user) || !(6..=15).contains(&user.len()) {
                continue; // an identity of the operator's own
            }
            found.put("imsi", place.to_owned(), Some(user.to_owned()));
        }
        if let Some(at) = text.find("mnc") {
            let code = text.get(at..at + 13).filter(|code| code.get(6..10) == Some(".mcc"));
            if let Some(code) = code.filter(|code| is_number(&code[3..6]) && is_number(&code[10..])) {
                found.put("realm", place.to_owned(), Some(code.to_owned()));
            }
        }
    }
}
