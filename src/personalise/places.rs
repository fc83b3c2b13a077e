//! Finds the places of a template that hold a record's or a line's values, and turns them into gaps and writes.
//!
//! One function for each kind of element; what is not named here stays a shared slice.

use super::compile::{Input, Settings, TemplateError};
use super::credentials::{Layout, Secret};
use super::fields::{Field, vars};
use super::rope::Node;
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::Kind;
use crate::formats::saip::package::{Element, Package};

pub(super) type Rope<'t> = Node<'t, Field>;

/// Digits of the MNC: octet 4 of EF.AD, 2 by the template's default.
fn mnc_len(package: &Package<'_>) -> u8 {
    let ad = package.elements.iter().filter(|element| matches!(element.kind, Kind::Usim | Kind::Iot));
    let octet = ad.filter_map(|element| FileView::single(&element.file("ef-ad")?)?.given(3, 1)).next();
    if octet.is_some_and(|octet| octet[0] == 3) { 3 } else { 2 }
}

/// The search through one template.
pub(super) struct Work<'s> {
    pub(super) settings: &'s Settings,
    pub(super) layout: Layout,
    pub(super) mnc_len: u8,
    /// Security domains seen so far.
    pub(super) domains: u8,
    inputs: Vec<Input>,
}

impl<'s> Work<'s> {
    pub(super) fn new(settings: &'s Settings, package: &Package<'_>) -> Self {
        let mut layout = Layout::default();
        layout.slot(Secret::K, settings.algorithm.k_len());
        layout.slot(Secret::Opc, settings.algorithm.opc_len());
        Self { settings, layout, mnc_len: mnc_len(package), domains: 0, inputs: Vec::new() }
    }

    /// After all elements: nothing ordered was left over, nothing needed is missing.
    pub(super) fn finish(mut self, package: &Package<'_>) -> Result<(Layout, Vec<Input>), TemplateError> {
        vars::refuse_left_over(self.settings, &self.inputs)?;
        self.inputs.extend(vars::offered(package, self.settings));
        self.require(package)?;
        Ok((self.layout, self.inputs))
    }

    /// One element: shared when nothing in it is personal, else opened and its places made gaps.
    pub(super) fn element<'t>(&mut self, element: &Element<'t>) -> Result<Rope<'t>, TemplateError> {
        let mut node = Node::open(&element.tlv);
        match element.kind {
            Kind::Header => self.header(element, &mut node)?,
            Kind::AkaParameter => self.aka_parameter(element, &mut node)?,
            Kind::CdmaParameter => self.cdma_parameter(element, &mut node)?,
            Kind::PinCodes => self.pins(element, &mut node)?,
            Kind::PukCodes => self.puks(element, &mut node)?,
            Kind::SecurityDomain => {
                self.security_domain(element, &mut node)?;
                self.domains = self.domains.saturating_add(1);
            }
            Kind::GenericFileManagement => self.generic_file_management(element, &mut node)?,
            kind if kind.is_file_system() => self.files(element, &mut node)?,
            _ => return Ok(Node::Shared(element.tlv.whole)),
        }
        Ok(node)
    }

    /// What no profile may lack.
    fn require(&self, package: &Package<'_>) -> Result<(), TemplateError> {
        let has = |name: &str, place: &str| {
            self.inputs.iter().any(|input| input.name == name && input.places.iter().any(|at| at.contains(place)))
        };
        let is_iot = package.of(Kind::Iot).next().is_some();
        if package.of(Kind::Header).next().is_none() {
            return Err(TemplateError::Missing("ProfileHeader"));
        }
        if !is_iot && !has("iccid", "/") {
            return Err(TemplateError::Missing("EF.ICCID"));
        }
        let with_imsi = || package.elements.iter().any(|element| matches!(element.kind, Kind::Usim | Kind::Iot));
        if with_imsi() && !has("imsi", "ef-imsi") {
            return Err(TemplateError::Missing("EF.IMSI"));
        }
        if !has("k", "akaParameter") {
            return Err(TemplateError::Missing("akaParameter with an algoParameter, so it cannot carry an algorithm"));
        }
        Ok(())
    }

    pub(super) fn found(&mut self, name: &str, source: &'static str, octets: usize, place: &str) {
        if let Some(input) = self.inputs.iter_mut().find(|input| input.name == name) {
            input.places.push(place.to_owned());
            return;
        }
        let required = matches!(name, "iccid" | "imsi");
        let places = vec![place.to_owned()];
        self.inputs.push(Input { name: name.to_owned(), source, required, octets, places });
    }
}

pub(super) fn place(element: &Element<'_>, offset: usize, what: &str) -> TemplateError {
    TemplateError::Place { element: element.label(), offset, what: what.to_owned() }
}
