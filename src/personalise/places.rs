//! Finds the places of a template that hold a record's or a line's values, and turns them into gaps and writes.
//!
//! One function for each kind of element; what is not named here stays a shared slice.

use std::collections::HashSet;

use super::compile::{Input, Settings, TemplateError};
use super::credentials::{Layout, OtaKey, Secret};
use super::field::{Field, Realm};
use super::rope::{self, Node, Part};
use super::vars;
use crate::formats::saip::file::{EntryTags, FILE_TAGS, FileView, GFM_PATH, GFM_TAGS};
use crate::formats::saip::kind::{Kind, constructed, context_number, primitive};
use crate::formats::saip::package::{Element, Package, children, unsigned};
use crate::formats::saip::services::ALGORITHM_SERVICES;
use crate::formats::tlv::{Tag, Tlv};

pub(super) type Rope<'t> = Node<'t, Field>;

/// Digits of the MNC: octet 4 of EF.AD, 2 by the template's default.
fn mnc_len(package: &Package<'_>) -> u8 {
    let ad = package.elements.iter().filter(|element| matches!(element.kind, Kind::Usim | Kind::Iot));
    let octet = ad.filter_map(|element| FileView::single(&element.file("ef-ad")?)?.given(3, 1)).next();
    if octet.is_some_and(|octet| octet[0] == 3) { 3 } else { 2 }
}

/// The search through one template.
pub(super) struct Work<'s> {
    settings: &'s Settings,
    layout: Layout,
    mnc_len: u8,
    /// Security domains seen so far.
    domains: u8,
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

    fn header<'t>(&mut self, element: &Element<'t>, node: &mut Rope<'t>) -> Result<(), TemplateError> {
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

    /// An algoParameter gets algorithm, K and OPc; a mappingParameter points at one that does.
    fn aka_parameter<'t>(&mut self, element: &Element<'t>, node: &mut Rope<'t>) -> Result<(), TemplateError> {
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
    fn cdma_parameter<'t>(&mut self, element: &Element<'t>, node: &mut Rope<'t>) -> Result<(), TemplateError> {
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

    fn pins<'t>(&mut self, element: &Element<'t>, node: &mut Rope<'t>) -> Result<(), TemplateError> {
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

    fn puks<'t>(&mut self, element: &Element<'t>, node: &mut Rope<'t>) -> Result<(), TemplateError> {
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

    fn security_domain<'t>(&mut self, element: &Element<'t>, node: &mut Rope<'t>) -> Result<(), TemplateError> {
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

    fn files<'t>(&mut self, element: &Element<'t>, node: &mut Rope<'t>) -> Result<(), TemplateError> {
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
    fn generic_file_management<'t>(&mut self, element: &Element<'t>, node: &mut Rope<'t>) -> Result<(), TemplateError> {
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

    fn found(&mut self, name: &str, source: &'static str, octets: usize, place: &str) {
        if let Some(input) = self.inputs.iter_mut().find(|input| input.name == name) {
            input.places.push(place.to_owned());
            return;
        }
        let required = matches!(name, "iccid" | "imsi");
        let places = vec![place.to_owned()];
        self.inputs.push(Input { name: name.to_owned(), source, required, octets, places });
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

/// The field for an IMS identity of the template, and the longest text it can become; `None` when it is nobody's in particular.
fn ims_field(file: &str, text: &str, mnc_len: u8) -> Option<(Field, usize)> {
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if file == "ef-domain" {
        let realm = Realm::read(text, mnc_len);
        let len = realm.len();
        return matches!(realm, Realm::Home { .. }).then_some((Field::Domain(realm), len));
    }
    for scheme in ["tel:+", "sip:+"] {
        if let Some(number) = text.strip_prefix(scheme) {
            let (digits, rest) = number.split_at(number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len()));
            let longest = scheme.len() + 20 + rest.len();
            return (!digits.is_empty()).then(|| (Field::Tel { scheme, rest: rest.into() }, longest));
        }
    }
    let (scheme, nai) = text.strip_prefix("sip:").map_or(("", text), |nai| ("sip:", nai));
    let (user, realm) = nai.split_once('@')?;
    let realm = Realm::read(realm, mnc_len);
    let longest = scheme.len() + 15 + 1 + realm.len();
    (all_digits(user) && (6..=15).contains(&user.len())).then_some((Field::Nai { scheme, realm }, longest))
}

fn gfm_commands<'t>(element: &Tlv<'t>) -> impl Iterator<Item = Tlv<'t>> + use<'t> {
    children(element).filter(|member| member.tag == constructed(1)).flat_map(|list| children(&list))
}

fn reference(code: &mut Node<'_, Field>) -> Option<u8> {
    let value = code.child(primitive(0))?.shared_value()?;
    unsigned(value).and_then(|reference| u8::try_from(reference).ok())
}

fn place(element: &Element<'_>, offset: usize, what: &str) -> TemplateError {
    TemplateError::Place { element: element.label(), offset, what: what.to_owned() }
}
