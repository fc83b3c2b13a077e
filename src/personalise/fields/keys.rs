//! Keys of the security domains.

use super::Field;
use crate::formats::saip::kind::{constructed, primitive};
use crate::formats::saip::package::Element;
use crate::formats::tlv::Tag;
use crate::personalise::compile::TemplateError;
use crate::personalise::credentials::{OtaKey, Secret};
use crate::personalise::places::{Rope, Work, place};
use crate::personalise::rope::{Node, Part};

impl Work<'_> {
    pub(in crate::personalise) fn security_domain<'t>(
        &mut self,
        element: &Element<'t>,
        node: &mut Rope<'t>,
    ) -> Result<(), TemplateError> {
        let wrong = |what: String| place(element, element.tlv.offset, &what);
        let Some(keys) = node.child(constructed(2)).and_then(Node::children) else { return Ok(()) };
        for key in keys {
            let octet = |key: &mut Rope<'t>, number| key.child(primitive(number))?.shared_value()?.first().copied();
            let (Some(id), Some(version)) = (octet(key, 2), octet(key, 3)) else {
                return Err(wrong("a key has no id or version".into()));
            };
            let components = key.child(Tag(0x30)).and_then(Node::children);
            for (at, component) in components.into_iter().flatten().enumerate() {
                let key_type = octet(component, 0).ok_or_else(|| wrong("a key component has no type".into()))?;
                let name = OtaKey { domain: self.domains, version, id, key_type, component: at as u8 };
                match key_type {
                    0x80..=0x85 | 0x88 | 0x90..=0x92 => {}
                    // Public keys, curve references and public RSA parts are no secrets.
                    0xA0 | 0xA1 | 0xB0 | 0xB2 | 0xB4 | 0xF0 => continue,
                    other => {
                        let what =
                            format!("key {version:02X}/{id:02X} has type {other:02X}, which cannot be made per card");
                        return Err(wrong(what));
                    }
                }
                let data = component.child(primitive(6)).ok_or_else(|| wrong("a key component has no data".into()))?;
                let len = data.shared_value().map_or(0, <[u8]>::len);
                let slot = self.layout.new_slot(Secret::Ota(name), len);
                data.set(Part::Gap(len, Field::Secret(slot)));
                self.found(&format!("ota {version:02X}/{id:02X}"), "generated", len, &element.label());
            }
        }
        Ok(())
    }
}
