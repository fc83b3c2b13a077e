//! Files made without a template, by GenericFileManagement (SAIP §8.3): EF.ICCID (2FE2), EF.IMSI (6F07 with nine octets of IMSI
//! coding), and below an ADF.USIM every file that has its standard identifier (3GPP TS 31.102 §4.2). Others are the template's own.

use super::Field;
use super::files::PlacedWrite;
use super::identity::{ICCID, IMSI};
use super::work::{Rope, Work};
use crate::formats::saip::catalogue;
use crate::formats::saip::file::{FileView, GFM_PATH, GFM_TAGS};
use crate::formats::saip::kind::{Kind, constructed};
use crate::formats::saip::package::{Element, children};
use crate::formats::tlv::{Tag, Tlv};
use crate::personalise::compile::TemplateError;
use crate::personalise::rope::Node;

impl Work<'_> {
    pub(super) fn generic_file_management<'t>(
        &mut self,
        element: &Element<'t>,
        node: &mut Rope<'t>,
    ) -> Result<(), TemplateError> {
        let commands = node.child(constructed(1)).and_then(Node::children);
        let Some(commands) = commands else { return Ok(()) };
        for (command, tlv) in commands.iter_mut().zip(gfm_commands(&element.tlv)) {
            let Some(entries) = command.children() else { continue };
            let mut directory = Vec::new();
            let mut rebuilt: Vec<Rope<'t>> = Vec::new();
            let mut section: Vec<Rope<'t>> = Vec::new();
            let mut section_tlvs: Vec<Tlv<'t>> = Vec::new();
            for (entry, tlv) in entries.drain(..).zip(children(&tlv)) {
                if matches!(tlv.tag, GFM_PATH) || tlv.tag == GFM_TAGS.descriptor {
                    self.gfm_section(element, &mut section, &section_tlvs, &mut directory)?;
                    rebuilt.append(&mut section);
                    section_tlvs.clear();
                }
                if tlv.tag == GFM_PATH {
                    directory = tlv.value.to_vec();
                }
                section.push(entry);
                section_tlvs.push(tlv);
            }
            self.gfm_section(element, &mut section, &section_tlvs, &mut directory)?;
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
        directory: &mut Vec<u8>,
    ) -> Result<(), TemplateError> {
        let Some(view) = FileView::of_gfm_section(tlvs) else { return Ok(()) };
        if let Some(made) = directory_of(&view, directory) {
            *directory = made;
            return Ok(());
        }
        if let Some((kind, name)) = self.usims.contains(directory).then(|| standard_file(&view)).flatten() {
            let Some(target) = self.target(element, kind, name, GFM_TAGS)? else { return Ok(()) };
            let offset = view.descriptor.map_or(element.tlv.offset, |fcp| fcp.offset);
            return self.fill(element, &target, &view, offset, section);
        }
        let is_imsi = || view.given(0, 9).is_some_and(|octets| (4..=8).contains(&octets[0]) && octets[1] & 0x07 == 1);
        let (about, name, len, field) = match view.file_id() {
            Some([0x2F, 0xE2]) => (ICCID, "ef-iccid", 10, Field::IccidFile),
            Some([0x6F, 0x07]) if is_imsi() => (IMSI, "ef-imsi", 9, Field::Imsi),
            _ => return Ok(()),
        };
        self.found(&about, len, &format!("{}/{name}", element.label()), None);
        let write = PlacedWrite::field(len, self.field(field));
        self.write_all(element, name, &view, section, GFM_TAGS, vec![write])
    }
}

/// The path of the directory that a section makes: it is the current one from there on. `None`: it makes a file.
fn directory_of(view: &FileView<'_>, parent: &[u8]) -> Option<Vec<u8>> {
    let descriptor = view.parameter(Tag(0x82))?.value.first()?;
    let id = view.file_id()?;
    // ETSI TS 102 222 §6.3.2.2.2: 38 is a DF or ADF, bit 7 says shareable. One level below the MF and the ADF is all that counts.
    let is_directory = descriptor & 0xBF == 0x38;
    let parent =
        if view.parameter(Tag(0x84)).is_some() || id == [0x3F, 0x00] { &[] } else { &parent[..parent.len().min(16)] };
    is_directory.then(|| [parent, if id == [0x3F, 0x00] { &[] } else { id }].concat())
}

/// The file of `usim` or `opt-usim` that has this identifier.
fn standard_file(view: &FileView<'_>) -> Option<(Kind, &'static str)> {
    let id = u16::from_be_bytes(view.file_id()?.try_into().ok()?);
    let of_usim = catalogue::templates().filter(|template| matches!(template.kind, Kind::Usim | Kind::OptUsim));
    let mut files = of_usim.flat_map(|template| template.files().map(|file| (template.kind, file)));
    files.find(|(_, file)| file.fid == Some(id) && !file.is_directory()).map(|(kind, file)| (kind, file.name))
}

fn gfm_commands<'t>(element: &Tlv<'t>) -> impl Iterator<Item = Tlv<'t>> + use<'t> {
    children(element).filter(|member| member.tag == constructed(1)).flat_map(|list| children(&list))
}
