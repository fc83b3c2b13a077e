//! PINs, PUKs and administrative keys.

use super::Field;
use crate::formats::saip::kind::{constructed, primitive};
use crate::formats::saip::package::{Element, unsigned};
use crate::personalise::compile::TemplateError;
use crate::personalise::credentials::Secret;
use crate::personalise::places::{Rope, Work, place};
use crate::personalise::rope::{Node, Part};

impl Work<'_> {
    pub(in crate::personalise) fn pins<'t>(
        &mut self,
        element: &Element<'t>,
        node: &mut Rope<'t>,
    ) -> Result<(), TemplateError> {
        let wrong = |what: String| place(element, element.tlv.offset, &what);
        // Shared with another DF by its path: nothing to write here.
        let Some(list) = node.descend(&[constructed(1), constructed(0)]).and_then(Node::children) else {
            return Ok(());
        };
        for pin in list {
            let reference = reference(pin).ok_or_else(|| wrong("a PIN has no keyReference".into()))?;
            let secret = match reference {
                1..=8 => Secret::Pin1,
                0x81..=0x88 => Secret::Pin2,
                10..=14 | 0x8A..=0x8E => Secret::Adm(reference),
                other => return Err(wrong(format!("keyReference {other} is none of SAIP"))),
            };
            self.code(element, pin, secret)?;
        }
        Ok(())
    }

    pub(in crate::personalise) fn puks<'t>(
        &mut self,
        element: &Element<'t>,
        node: &mut Rope<'t>,
    ) -> Result<(), TemplateError> {
        let wrong = |what: String| place(element, element.tlv.offset, &what);
        let list = node.child(constructed(1)).and_then(Node::children).ok_or_else(|| wrong("has no list".into()))?;
        for puk in list {
            let secret = match reference(puk).ok_or_else(|| wrong("a PUK has no keyReference".into()))? {
                1..=8 => Secret::Puk1,
                0x81..=0x88 => Secret::Puk2,
                other => return Err(wrong(format!("keyReference {other} is none of SAIP"))),
            };
            self.code(element, puk, secret)?;
        }
        Ok(())
    }

    fn code<'t>(&mut self, element: &Element<'t>, code: &mut Rope<'t>, secret: Secret) -> Result<(), TemplateError> {
        let slot = self.layout.slot(secret, 8);
        let value =
            code.child(primitive(1)).ok_or_else(|| place(element, element.tlv.offset, "a code has no value"))?;
        value.set(Part::Gap(8, Field::Secret(slot)));
        let name = match secret {
            Secret::Pin1 => "pin1".to_owned(),
            Secret::Pin2 => "pin2".to_owned(),
            Secret::Puk1 => "puk1".to_owned(),
            Secret::Puk2 => "puk2".to_owned(),
            Secret::Adm(reference) if reference < 0x80 => format!("adm{}", reference - 9),
            Secret::Adm(reference) => format!("adm{}", reference - 0x84),
            Secret::K | Secret::Opc | Secret::Ota(_) | Secret::AKey | Secret::Ssd => return Ok(()),
        };
        self.found(&name, "generated", 8, &element.label());
        Ok(())
    }
}

fn reference(code: &mut Node<'_, Field>) -> Option<u8> {
    let value = code.child(primitive(0))?.shared_value()?;
    unsigned(value).and_then(|reference| u8::try_from(reference).ok())
}
