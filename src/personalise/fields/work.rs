//! Walks a template and turns the places of every value into gaps, splices and writes.
//!
//! One function for each kind of element, in the file of its family; what none of them touches stays a shared slice.

use std::collections::BTreeSet;

use super::record::{CoderForm, Variables};
use super::{About, Field, Member, names};
use crate::formats::saip::file::FileView;
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::{Element, Package, child};
use crate::personalise::compile::TemplateError;
use crate::personalise::credentials::{Layout, Secret};
use crate::personalise::rope::{Filling, Node};
use crate::personalise::settings::{Input, Settings, VarSource};

pub(super) type Rope<'t> = Node<'t, Field>;

/// The search through one template.
pub(in crate::personalise) struct Work<'s> {
    pub(super) settings: &'s Settings,
    pub(super) layout: Layout,
    pub(super) variables: Variables,
    /// Digits of the MNC in the template's IMSI and in the line's.
    pub(super) mnc_len: u8,
    /// Octets of K.
    pub(super) k_len: usize,
    /// Security domains seen so far.
    pub(super) domains: u8,
    /// `rotationConstants` and `xoringConstants` of the first akaParameter: all applications have the same.
    pub(super) constants: Option<Vec<u8>>,
    /// Paths of the ADF.USIMs seen so far: their temporary identifiers.
    pub(super) usims: Vec<Vec<u8>>,
    /// RFM elements and application instances seen so far.
    pub(super) rfms: usize,
    pub(super) instances: usize,
    needs_imsi: bool,
    needs_full_imsi: bool,
    inputs: Vec<Input>,
    /// Variables of the line that found a place.
    taken: BTreeSet<String>,
}

/// What the walk found.
pub(in crate::personalise) struct Findings {
    pub layout: Layout,
    pub variables: Variables,
    pub inputs: Vec<Input>,
    pub needs_imsi: bool,
    pub needs_full_imsi: bool,
}

impl<'s> Work<'s> {
    pub(in crate::personalise) fn new(settings: &'s Settings, package: &Package<'_>) -> Self {
        let k_len = k_len(settings, package);
        let mut layout = Layout::default();
        layout.slot(Secret::K, k_len);
        layout.slot(Secret::Opc, settings.algorithm.opc_len());
        Self {
            settings,
            layout,
            variables: Variables::default(),
            mnc_len: mnc_len(settings, package),
            k_len,
            domains: 0,
            constants: None,
            usims: Vec::new(),
            rfms: 0,
            instances: 0,
            needs_imsi: false,
            needs_full_imsi: false,
            inputs: Vec::new(),
            taken: BTreeSet::new(),
        }
    }

    /// After all elements: nothing ordered was left over, nothing needed is missing.
    pub(in crate::personalise) fn finish(self, package: &Package<'_>) -> Result<Findings, TemplateError> {
        if let Some(name) = self.settings.vars.keys().find(|name| !self.taken.contains(*name)) {
            return Err(TemplateError::Variable { name: name.clone(), what: names::why_not(name) });
        }
        self.require(package)?;
        let Self { layout, variables, inputs, needs_imsi, needs_full_imsi, .. } = self;
        Ok(Findings { layout, variables, inputs, needs_imsi, needs_full_imsi })
    }

    /// One element: shared when nothing in it is personal, else opened and its places made gaps.
    pub(in crate::personalise) fn element<'t>(&mut self, element: &Element<'t>) -> Result<Rope<'t>, TemplateError> {
        let mut node = Node::open(&element.tlv);
        match element.kind {
            Kind::Header => self.header(element, &mut node)?,
            Kind::AkaParameter => self.aka_parameter(element, &mut node)?,
            Kind::CdmaParameter => self.cdma_parameter(element, &mut node)?,
            Kind::PinCodes => self.pins(element, &mut node)?,
            Kind::PukCodes => self.puks(element, &mut node)?,
            Kind::SecurityDomain => {
                self.security_domain(element, &mut node)?;
                self.toolkit_level(&element.label(), &mut node)?;
                self.domains = self.domains.saturating_add(1);
            }
            Kind::Rfm => self.rfm(&element.label(), &mut node)?,
            Kind::Application => self.application(&element.label(), &mut node)?,
            Kind::GenericFileManagement => self.generic_file_management(element, &mut node)?,
            kind if kind.is_file_system() => self.files(element, &mut node)?,
            _ => return Ok(Node::Whole(element.tlv.whole.into())),
        }
        Ok(node)
    }

    /// A value with a place: a line of `template vars`.
    pub(super) fn found(&mut self, about: &About<'_>, octets: usize, place: &str, value: Option<String>) {
        if let Some(input) = self.inputs.iter_mut().find(|input| input.name == about.name) {
            input.places.push(place.to_owned());
            input.value = input.value.take().or(value);
            return;
        }
        self.inputs.push(Input {
            name: about.name.to_owned(),
            source: about.source,
            required: matches!((about.source, about.name), ("row", _) | ("order", "iccid" | "imsi")),
            octets,
            places: vec![place.to_owned()],
            form: about.form,
            clause: about.clause,
            value,
        });
    }

    /// Refuses a template that asks for more secrets than a card has.
    pub(super) fn secrets_are_few(&self, element: &Element<'_>) -> Result<(), TemplateError> {
        if self.layout.count() <= MOST_SECRETS {
            return Ok(());
        }
        Err(place(element, element.tlv.offset, &format!("asks for more than {MOST_SECRETS} secrets a record")))
    }

    /// The source of a variable that has a place; what it is without an order for it: `otherwise`.
    pub(super) fn source(&mut self, name: &str, otherwise: &'static str) -> (&'static str, Option<&'s VarSource>) {
        let Some((name, source)) = self.settings.vars.get_key_value(name) else { return (otherwise, None) };
        self.taken.insert(name.clone());
        let word = match source {
            VarSource::Constant(_) => "line vars",
            VarSource::PerRecord => "row",
        };
        (word, Some(source))
    }

    /// A gap's field; notes that records need an IMSI for it.
    pub(super) fn field(&mut self, field: Field) -> Field {
        self.needs_full_imsi |= field == Field::ImsiCdma;
        self.needs_imsi |= matches!(
            field,
            Field::Imsi | Field::Acc | Field::ImsiCdma | Field::Accolc | Field::Nai { .. } | Field::Domain(_)
        );
        field
    }

    /// The members of a variable inside `parent`, replaced when the line sets it. To be called in the order of the tags.
    pub(super) fn member<'t>(
        &mut self,
        place: &str,
        parent: &mut Rope<'t>,
        variable: &'static dyn Member,
    ) -> Result<(), TemplateError> {
        self.numbered(variable.name(), place, parent, variable)
    }

    /// As [`Work::member`] for one of several, under its own name.
    pub(super) fn numbered<'t>(
        &mut self,
        name: &str,
        place: &str,
        parent: &mut Rope<'t>,
        variable: &'static dyn Member,
    ) -> Result<(), TemplateError> {
        let Some(children) = parent.children() else { return Ok(()) };
        let is_held = |node: &Rope<'t>| node.tag().is_some_and(|tag| variable.tags().contains(&tag));
        let mut given = Vec::new();
        children.iter().filter(|node| is_held(node)).for_each(|node| node.lay_out(&mut given, &mut Untouched));
        let (source, set) = self.source(name, "template");
        let about = About { name, source, form: variable.form(), clause: variable.clause() };
        let value = variable.decode(&given).filter(|_| !variable.is_secret());
        self.found(&about, given.len(), place, value);
        let made = match set {
            None => return Ok(()),
            Some(VarSource::Constant(text)) => {
                Node::made(variable.encode(text, &given).ok_or_else(|| wrong_form(name, variable, text))?)
            }
            Some(VarSource::PerRecord) => {
                Node::Splice(self.variables.place(name, CoderForm::Member { member: variable, given }))
            }
        };
        let held = children.iter().position(is_held);
        children.retain(|node| !is_held(node));
        let is_behind = |node: &Rope<'t>| node.tag().is_some_and(|tag| variable.is_before(tag));
        let at = held.or_else(|| children.iter().position(is_behind)).unwrap_or(children.len());
        children.insert(at, made);
        Ok(())
    }

    pub(super) fn has(&self, name: &str, place: &str) -> bool {
        self.places(name, place) > 0
    }

    /// Places of an input whose names hold `place`.
    fn places(&self, name: &str, place: &str) -> usize {
        let of = self.inputs.iter().filter(|input| input.name == name).flat_map(|input| &input.places);
        of.filter(|at| at.contains(place)).count()
    }

    /// What no profile may lack.
    fn require(&self, package: &Package<'_>) -> Result<(), TemplateError> {
        let has = |name: &str, place: &str| self.has(name, place);
        let is_iot = package.of(Kind::Iot).next().is_some();
        if !has("iccid", "header") {
            return Err(TemplateError::Missing("ProfileHeader"));
        }
        if !is_iot && !has("iccid", "/") {
            return Err(TemplateError::Missing("EF.ICCID"));
        }
        let usims = package.elements.iter().filter(|element| matches!(element.kind, Kind::Usim | Kind::Iot));
        let usims = usims.count();
        if self.places("imsi", "ef-imsi") < usims {
            return Err(TemplateError::Missing("EF.IMSI in every USIM"));
        }
        if usims > 0 && !has("acc", "ef-acc") {
            return Err(TemplateError::Missing("EF.ACC"));
        }
        if !has("k", "akaParameter") {
            return Err(TemplateError::Missing("akaParameter with an algoParameter, so it cannot carry an algorithm"));
        }
        Ok(())
    }
}

/// Members as the template has them: neither gaps nor splices are in them yet.
pub(super) struct Untouched;

impl Filling<Field> for Untouched {
    fn splice_len(&self, _: &Field) -> usize {
        0
    }

    fn splice(&mut self, _: &Field, _: &mut Vec<u8>) {}

    fn gap(&mut self, _: &Field, len: usize, out: &mut Vec<u8>) {
        out.resize(out.len() + len, 0);
    }
}

/// Secrets of one record. A card has a hundred; work and memory grow with them.
const MOST_SECRETS: usize = 1_024;

/// A place that cannot be written.
pub(super) fn place(element: &Element<'_>, offset: usize, what: &str) -> TemplateError {
    TemplateError::Place { element: element.label(), offset, what: what.to_owned() }
}

fn wrong_form(name: &str, variable: &dyn Member, text: &str) -> TemplateError {
    let shown = if variable.is_secret() { "the value".to_owned() } else { format!("{text:?}") };
    let what = format!("{shown} is not {} ({})", variable.form(), variable.clause());
    TemplateError::Variable { name: name.to_owned(), what }
}

/// Digits of the MNC: the line's, else octet 4 of EF.AD, 2 by the template's default.
fn mnc_len(settings: &Settings, package: &Package<'_>) -> u8 {
    if let Some(digits) = settings.constant("mnc_len") {
        return if digits == "3" { 3 } else { 2 };
    }
    let ad = package.elements.iter().filter(|element| matches!(element.kind, Kind::Usim | Kind::Iot));
    let octet = ad.filter_map(|element| FileView::single(&element.file("ef-ad")?)?.given(3, 1)).next();
    if octet.is_some_and(|octet| octet[0] == 3) { 3 } else { 2 }
}

/// TUAK takes a key of 256 bits where the template is made for one: in every algoParameter (3GPP TS 35.231 §6.1).
fn k_len(settings: &Settings, package: &Package<'_>) -> usize {
    let keys = package.of(Kind::AkaParameter).filter_map(|element| {
        let algo = child(&element.member(constructed(1))?, constructed(1))?;
        Some(child(&algo, primitive(2)).map_or(0, |key| key.value.len()))
    });
    let lens: Vec<usize> = keys.collect();
    let is_long = settings.algorithm.id() == 2 && !lens.is_empty() && lens.iter().all(|len| *len == 32);
    if is_long { 32 } else { settings.algorithm.k_len() }
}
