//! Reads the files of an element: by their codings, and the identities inside IMS identities.

use zeroize::Zeroizing;

use super::found::{Code, File, Found, Value};
use crate::formats::bcd;
use crate::formats::saip::catalogue::{self, FileTemplate, Template};
use crate::formats::saip::ef::{self, Coding};
use crate::formats::saip::file::{FileView, GFM_PATH, GFM_TAGS};
use crate::formats::saip::kind::{Kind, constructed};
use crate::formats::saip::package::{Element, child, children};
use crate::formats::tlv::{Tag, Tlv};

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
        if element.kind == Kind::Isim {
            identities(name, &content(&view), view.record_len(), &place, found);
        }
        read_file(coding, &view, place, found);
    }
}

fn read_file(coding: &dyn Coding, view: &FileView<'_>, place: String, found: &mut Found) {
    let octets = content(view);
    let is_free = octets.iter().all(|octet| *octet == 0xFF);
    let record_len = view.record_len();
    let text = if is_free { Some(String::new()) } else { coding.decode(&octets, record_len) };
    let file = Some(File { octets, record_len });
    found.values.push(Value { name: coding.name(), place, text, file });
}

/// The temporary identifier of an ADF.USIM.
pub(super) fn adf_usim(element: &Element<'_>) -> Option<[u8; 2]> {
    FileView::single(&element.file("adf-usim")?)?.file_id()?.try_into().ok()
}

/// Files made by GenericFileManagement: those with a standard identifier below one of `usims`, elsewhere EF.ICCID and EF.IMSI.
pub(super) fn made_there(element: &Element<'_>, usims: &[[u8; 2]], found: &mut Found) {
    for (directory, file) in placed(element) {
        if let (true, Some((kind, name))) = (usims.iter().any(|usim| directory == usim), of_usim(&file)) {
            let place = format!("{}/{name}", element.label());
            if let Some(coding) = ef::coding(kind, name).filter(|coding| !coding.is_secret()) {
                read_file(coding, &file, place.clone(), found);
            }
            found.generic.push((kind, name, place, content(&file)));
            continue;
        }
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

/// The files that an element makes, each with the path of its directory as far as `filePath` and made directories give it.
fn placed<'a>(element: &Element<'a>) -> Vec<(Vec<u8>, FileView<'a>)> {
    let mut files = Vec::new();
    for command in element.member(constructed(1)).iter().flat_map(children) {
        let mut directory: Vec<u8> = Vec::new();
        let entries: Vec<Tlv<'_>> = children(&command).collect();
        let starts = |entry: &Tlv<'_>| entry.tag == GFM_PATH || entry.tag == GFM_TAGS.descriptor;
        for section in entries.chunk_by(|_, next| !starts(next)) {
            if let Some(path) = section.first().filter(|entry| entry.tag == GFM_PATH) {
                directory = path.value.to_vec();
            }
            let Some(file) = FileView::of_gfm_section(section) else { continue };
            let is_directory =
                file.parameter(Tag(0x82)).and_then(|d| d.value.first()).is_some_and(|d| d & 0xBF == 0x38);
            match file.file_id().filter(|_| is_directory) {
                Some([0x3F, 0x00]) => directory.clear(),
                Some(id) if file.parameter(Tag(0x84)).is_some() => directory = id.to_vec(),
                Some(id) if directory.len() < 16 => directory.extend(id),
                Some(_) => {}
                None => files.push((directory.clone(), file)),
            }
        }
    }
    files
}

/// The file of 3GPP TS 31.102 §4.2 that has the identifier of `file`.
fn of_usim(file: &FileView<'_>) -> Option<(Kind, &'static str)> {
    let [high, low] = *file.file_id()? else { return None };
    let is_it = |known: &&FileTemplate| known.fid == Some(u16::from_be_bytes([high, low])) && !known.is_directory();
    let templates = catalogue::templates().filter(|template| matches!(template.kind, Kind::Usim | Kind::OptUsim));
    templates
        .flat_map(|template| template.files().map(move |known| (template.kind, known)))
        .find_map(|(kind, known)| is_it(&known).then_some((kind, known.name)))
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
