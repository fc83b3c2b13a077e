//! Keys of the authentication: akaParameter and cdmaParameter.

use super::Field;
use crate::formats::saip::kind::{constructed, primitive};
use crate::formats::saip::package::Element;
use crate::personalise::compile::TemplateError;
use crate::personalise::credentials::Secret;
use crate::personalise::places::{Rope, Work, place};
use crate::personalise::rope::Part;

impl Work<'_> {
    /// An algoParameter gets algorithm, K and OPc; a mappingParameter points at one that does.
    pub(in crate::personalise) fn aka_parameter<'t>(
        &mut self,
        element: &Element<'t>,
        node: &mut Rope<'t>,
    ) -> Result<(), TemplateError> {
        if node.descend(&[constructed(1), constructed(0)]).is_some() {
            return Ok(());
        }
        let wrong = |what: &str| place(element, element.tlv.offset, what);
        let algo = node.descend(&[constructed(1), constructed(1)]).ok_or_else(|| wrong("has no algoParameter"))?;
        let algorithm = self.settings.algorithm;
        let k = self.layout.slot(Secret::K, algorithm.k_len());
        let opc = self.layout.slot(Secret::Opc, algorithm.opc_len());
        let members = [
            (primitive(0), "algorithmID", Part::Made(vec![algorithm.id()])),
            (primitive(2), "key", Part::Gap(algorithm.k_len(), Field::Secret(k))),
            (primitive(3), "opc", Part::Gap(algorithm.opc_len(), Field::Secret(opc))),
        ];
        for (tag, name, part) in members {
            algo.child(tag).ok_or_else(|| wrong(&format!("algoParameter has no {name}")))?.set(part);
        }
        // numberOfKeccak: its default holds.
        if let Some(members) = algo.children() {
            members.retain(|member| member.tag() != Some(primitive(7)));
        }
        self.found("k", "generated", algorithm.k_len(), &element.label());
        self.found("opc", "generated", algorithm.opc_len(), &element.label());
        Ok(())
    }

    /// The A-key, and the shared secret data where the template has some. The access data of HRPD, simple and mobile IP behind
    /// them have a form of the operator's and stay: lint rule A07 tells of them.
    pub(in crate::personalise) fn cdma_parameter<'t>(
        &mut self,
        element: &Element<'t>,
        node: &mut Rope<'t>,
    ) -> Result<(), TemplateError> {
        for (number, name, secret, len) in [(1, "a_key", Secret::AKey, 8), (2, "ssd", Secret::Ssd, 16)] {
            let member = node.child(primitive(number));
            let Some(member) = member else {
                if secret == Secret::AKey {
                    return Err(place(element, element.tlv.offset, "has no authenticationKey"));
                }
                continue;
            };
            let slot = self.layout.slot(secret, len);
            member.set(Part::Gap(len, Field::Secret(slot)));
            self.found(name, "generated", len, &element.label());
        }
        Ok(())
    }
}
