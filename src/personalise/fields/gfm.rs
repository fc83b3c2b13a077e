//! Files made without a template, by GenericFileManagement (SAIP §8.3): EF.ICCID (2FE2) and EF.IMSI (6F07 with nine octets of IMSI
//! coding). Other files made there are the template's own.

use super::Field;
use super::files::PlacedWrite;
use super::identity::{ICCID, IMSI};
use super::work::{Rope, Work};
use crate::formats::saip::file::{FileView, GFM_PATH, GFM_TAGS};
use crate::formats::saip::kind::constructed;
use crate::formats::saip::package::{Element, children};
use crate::formats::tlv::Tlv;
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

fn gfm_commands<'t>(element: &Tlv<'t>) -> impl Iterator<Item = Tlv<'t>> + use<'t> {
    children(element).filter(|member| member.tag == constructed(1)).flat_map(|list| children(&list))
}
