//! Files that hold a record's or a line's values.

use std::collections::HashSet;

use super::ims::ims_field;
use super::{Field, vars};
use crate::formats::saip::file::{EntryTags, FILE_TAGS, FileView, GFM_PATH, GFM_TAGS};
use crate::formats::saip::kind::{Kind, constructed};
use crate::formats::saip::package::{Element, children};
use crate::formats::tlv::Tlv;
use crate::personalise::compile::TemplateError;
use crate::personalise::places::{Rope, Work, place};
use crate::personalise::rope::{self, Node, Part};

impl Work<'_> {
    pub(in crate::personalise) fn files<'t>(
        &mut self,
        element: &Element<'t>,
        node: &mut Rope<'t>,
    ) -> Result<(), TemplateError> {
        let mut seen = HashSet::new();
        for file in children(&element.tlv) {
            let Some(name) = element.kind.file_name(file.tag) else { continue };
            if !is_personal(element.kind, name) {
                continue;
            }
            if !seen.insert(name) {
                return Err(place(element, file.offset, &format!("{name} stands here twice")));
            }
            let mut views = FileView::all(&file);
            if views.len() != 1 {
                return Err(place(element, file.offset, &format!("{name} is described {} times", views.len())));
            }
            let view = views.remove(0);
            if view.do_not_create {
                continue;
            }
            if is_nai(name) {
                if view.writes.iter().any(|write| write.content.iter().any(|octet| !matches!(octet, 0 | 0xFF))) {
                    let what =
                        format!("{name} holds an identity, which would be the same in every profile: leave it empty");
                    return Err(place(element, file.offset, &what));
                }
                continue;
            }
            let writes = self.writes(element, name, &view, file.offset)?;
            let entries = node.child(file.tag).and_then(Node::children);
            let entries = entries.ok_or_else(|| place(element, file.offset, "is not a list of entries"))?;
            self.write_all(element, name, &view, entries, FILE_TAGS, writes)?;
        }
        Ok(())
    }

    fn write_all<'t>(
        &mut self,
        element: &Element<'t>,
        name: &str,
        view: &FileView<'t>,
        entries: &mut Vec<Rope<'t>>,
        tags: EntryTags,
        writes: Vec<PlacedWrite>,
    ) -> Result<(), TemplateError> {
        for write in writes {
            let end = write.at.saturating_add(write.len);
            if let Some(size) = view.size().filter(|size| end > *size) {
                let what = format!("{name} has {size} octets, {end} are needed");
                return Err(place(element, view.descriptor.map_or(element.tlv.offset, |fcp| fcp.offset), &what));
            }
            self.found(&write.name, write.source, write.len, &format!("{}/{name}", element.label()));
            let part = match write.content {
                Content::Field(field) => Part::Gap(write.len, field),
                Content::Made(octets) => Part::Made(octets),
            };
            rope::write_file(entries, tags, write.at, vec![part]);
        }
        Ok(())
    }

    /// What must be written into a file of this name.
    fn writes(
        &self,
        element: &Element<'_>,
        name: &str,
        view: &FileView<'_>,
        offset: usize,
    ) -> Result<Vec<PlacedWrite>, TemplateError> {
        let one = |name: &str, len, field| {
            Ok(vec![PlacedWrite { name: name.to_owned(), source: "order", at: 0, len, content: Content::Field(field) }])
        };
        match (element.kind, name) {
            (_, "ef-iccid") => one("iccid", 10, Field::IccidFile),
            (_, "ef-imsi") => one("imsi", 9, Field::Imsi),
            (_, "ef-acc") => one("acc", 2, Field::Acc),
            (_, "ef-msisdn") => {
                // 24 octets is the record of the template (SAIP §9.5.2).
                let record = view.record_len().unwrap_or(24);
                if record < 14 {
                    return Err(place(
                        element,
                        offset,
                        &format!("ef-msisdn has records of {record} octets, 14 are needed"),
                    ));
                }
                one("msisdn", record, Field::Msisdn)
            }
            (Kind::Isim, "ef-impi" | "ef-impu" | "ef-domain") => self.ims_identity(element, name, view, offset),
            _ => vars::write_of(name, view, self.settings),
        }
    }

    /// IMS identities that the template derives from its own IMSI or number are derived from the record's.
    fn ims_identity(
        &self,
        element: &Element<'_>,
        name: &str,
        view: &FileView<'_>,
        offset: usize,
    ) -> Result<Vec<PlacedWrite>, TemplateError> {
        let written = view.written_len();
        let size = view.size().unwrap_or(written);
        let record = view.record_len().unwrap_or(size).max(1);
        let mut writes = Vec::new();
        for (at, octets) in (0..).step_by(record).zip(view.content(size).chunks(record)) {
            let text: Vec<u8> = octets.iter().map_while(|octet| *octet).collect();
            let [0x80, len, text @ ..] = &text[..] else { continue };
            let Some(text) = text.get(..usize::from(*len)).and_then(|text| std::str::from_utf8(text).ok()) else {
                continue;
            };
            let Some((field, longest)) = ims_field(name, text, self.mnc_len) else { continue };
            let len = (2 + longest).max(2 + text.len());
            if len > record || longest > 127 {
                let what = format!("{name} has {record} octets, an identity of this form needs up to {}", 2 + longest);
                return Err(place(element, offset, &what));
            }
            let name = if matches!(field, Field::Tel { .. }) { "msisdn" } else { "imsi" };
            writes.push(PlacedWrite { name: name.into(), source: "order", at, len, content: Content::Field(field) });
        }
        Ok(writes)
    }

    /// Files made without a template: EF.ICCID (2FE2) and EF.IMSI (6F07 with nine octets of IMSI coding).
    pub(in crate::personalise) fn generic_file_management<'t>(
        &mut self,
        element: &Element<'t>,
        node: &mut Rope<'t>,
    ) -> Result<(), TemplateError> {
        let commands = node.child(constructed(1)).and_then(Node::children);
        let Some(commands) = commands else { return Ok(()) };
        for (command, tlv) in commands.iter_mut().zip(gfm_commands(&element.tlv)) {
            let Some(entries) = command.children() else { continue };
            let mut rebuilt: Vec<Rope<'t>> = Vec::new();
            let mut section: Vec<Rope<'t>> = Vec::new();
            let mut section_tlvs: Vec<Tlv<'t>> = Vec::new();
            for (entry, tlv) in entries.drain(..).zip(children(&tlv)) {
                if matches!(tlv.tag, GFM_PATH) || tlv.tag == GFM_TAGS.descriptor {
                    self.gfm_section(element, &mut section, &section_tlvs)?;
                    rebuilt.append(&mut section);
                    section_tlvs.clear();
                }
                section.push(entry);
                section_tlvs.push(tlv);
            }
            self.gfm_section(element, &mut section, &section_tlvs)?;
            rebuilt.append(&mut section);
            *entries = rebuilt;
        }
        Ok(())
    }

    fn gfm_section<'t>(
        &mut self,
        element: &Element<'t>,
        section: &mut Vec<Rope<'t>>,
        tlvs: &[Tlv<'t>],
    ) -> Result<(), TemplateError> {
        let Some(view) = FileView::of_gfm_section(tlvs) else { return Ok(()) };
        let is_imsi = || view.given(0, 9).is_some_and(|octets| (4..=8).contains(&octets[0]) && octets[1] & 0x07 == 1);
        let (name, field, len) = match view.file_id() {
            Some([0x2F, 0xE2]) => ("iccid", Field::IccidFile, 10),
            Some([0x6F, 0x07]) if is_imsi() => ("imsi", Field::Imsi, 9),
            _ => return Ok(()),
        };
        let write = PlacedWrite { name: name.into(), source: "order", at: 0, len, content: Content::Field(field) };
        self.write_all(element, name, &view, section, GFM_TAGS, vec![write])
    }
}

/// One write into a file.
pub(super) struct PlacedWrite {
    pub name: String,
    pub source: &'static str,
    pub at: usize,
    pub len: usize,
    pub content: Content,
}

pub(super) enum Content {
    Field(Field),
    Made(Vec<u8>),
}

/// Files whose content is a record's or a line's.
fn is_personal(kind: Kind, file: &str) -> bool {
    match file {
        "ef-iccid" => matches!(kind, Kind::Mf | Kind::Iot),
        "ef-imsi" | "ef-acc" => matches!(kind, Kind::Usim | Kind::Iot),
        "ef-msisdn" => kind == Kind::OptUsim,
        "ef-impi" | "ef-impu" | "ef-domain" => kind == Kind::Isim,
        other => is_nai(other) || vars::is_var_file(kind, other),
    }
}

/// EF.SUPI_NAI (3GPP TS 31.102 §4.4.11.10), as DF.5GS and DF.SNPN name it: an identity that orders do not carry yet.
fn is_nai(file: &str) -> bool {
    matches!(file, "ef-supinai" | "ef-supi-nai")
}

fn gfm_commands<'t>(element: &Tlv<'t>) -> impl Iterator<Item = Tlv<'t>> + use<'t> {
    children(element).filter(|member| member.tag == constructed(1)).flat_map(|list| children(&list))
}
