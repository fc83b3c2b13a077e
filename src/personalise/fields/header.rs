//! Members of the ProfileHeader.

use super::Field;
use super::vars;
use crate::formats::saip::kind::{constructed, context_number, primitive};
use crate::formats::saip::package::Element;
use crate::formats::saip::services::ALGORITHM_SERVICES;
use crate::personalise::compile::TemplateError;
use crate::personalise::places::{Rope, Work, place};
use crate::personalise::rope::{Node, Part};

impl Work<'_> {
    pub(in crate::personalise) fn header<'t>(
        &mut self,
        element: &Element<'t>,
        node: &mut Rope<'t>,
    ) -> Result<(), TemplateError> {
        let iccid = node.child(primitive(3)).ok_or_else(|| place(element, element.tlv.offset, "has no iccid"))?;
        iccid.set(Part::Gap(10, Field::IccidHeader));
        self.found("iccid", "order", 10, "header");
        if let Some(value) = self.settings.constant("profile_type") {
            let text = vars::profile_type(value)?;
            match node.child(primitive(2)) {
                Some(member) => member.set(Part::Made(text)),
                None => return Err(place(element, element.tlv.offset, "has no profileType to set")),
            }
            self.found("profile_type", "line vars", value.len(), "header");
        }
        let services = node.child(constructed(5)).and_then(Node::children);
        let services = services.ok_or_else(|| place(element, element.tlv.offset, "has no eUICC-Mandatory-services"))?;
        let number = |node: &Rope<'_>| node.tag().and_then(context_number).unwrap_or(u8::MAX);
        services.retain(|service| !ALGORITHM_SERVICES.contains(&number(service)));
        let own = self.settings.algorithm.service();
        let at = services.iter().position(|service| number(service) > own).unwrap_or(services.len());
        services.insert(at, Node::Value(primitive(own), vec![Part::Made(Vec::new())]));
        Ok(())
    }
}
