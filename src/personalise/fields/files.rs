//! Files of elements made from a template: the subscriber's numbers, variables by the codings of [`ef`], hex content.
//!
//! Every value becomes an explicit write, also one that hides in a fill pattern or in a default of the template; a file that the
//! template creates and the element leaves out gets a member of its own, with nothing but content.

use std::collections::HashMap;

use super::cdma::{self, ACCOLC, IMSI_LEN, IMSI_M, IMSI_T, SPC, SPC_LEN};
use super::identity::{ACC, ICCID, IMSI, MSISDN};
use super::ims::{DOMAIN, IMPI, IMPU, ims_field};
use super::names::is_of_the_order;
use super::record::CoderForm;
use super::room::{Room, created_by_default};
use super::work::{Rope, Work, place};
use super::{About, Field, read_hex};
use crate::formats::saip::ef::{self, Coding};
use crate::formats::saip::file::{EntryTags, FILE_TAGS, FileView, MAX_FILE};
use crate::formats::saip::kind::{Kind, constructed, context_number};
use crate::formats::saip::package::{Element, children};
use crate::formats::tlv::{Tag, Tlv};
use crate::personalise::compile::TemplateError;
use crate::personalise::credentials::Secret;
use crate::personalise::rope::{self, Node, Part};
use crate::personalise::settings::VarSource;

/// One write into a file.
pub(super) struct PlacedWrite {
    pub(super) at: usize,
    pub(super) content: Content,
}

pub(super) enum Content {
    /// A gap of this length.
    Field(usize, Field),
    Made(Vec<u8>),
}

impl PlacedWrite {
    pub(super) fn field(len: usize, field: Field) -> Self {
        Self { at: 0, content: Content::Field(len, field) }
    }

    fn end(&self) -> usize {
        let len = match &self.content {
            Content::Field(len, _) => *len,
            Content::Made(octets) => octets.len(),
        };
        self.at.saturating_add(len)
    }
}

/// One file of an element, and what may be written into it.
pub(super) struct Target {
    name: &'static str,
    /// `PE 8 usim/ef-spn`.
    place: String,
    /// The coding whose variable it takes.
    coding: Option<&'static dyn Coding>,
    /// `usim/ef-spn`, when the line sets its content.
    content: Option<String>,
    is_identity: bool,
    /// How its entries are tagged.
    tags: EntryTags,
}

impl Work<'_> {
    pub(super) fn files<'t>(&mut self, element: &Element<'t>, node: &mut Rope<'t>) -> Result<(), TemplateError> {
        let by_default = created_by_default(element);
        let mut by_tag: HashMap<Tag, Vec<Tlv<'t>>> = HashMap::new();
        children(&element.tlv).for_each(|member| by_tag.entry(member.tag).or_default().push(member));
        let adf = element.file("adf-usim").and_then(|adf| FileView::single(&adf));
        self.usims.extend(adf.and_then(|adf| adf.file_id().filter(|id| id.len() == 2).map(<[u8]>::to_vec)));
        for name in element.kind.files().iter().filter(|name| !is_directory(name)) {
            let Some(target) = self.target(element, element.kind, name, FILE_TAGS)? else { continue };
            let Some(tag) = element.kind.file_number(name).map(constructed) else { continue };
            let members = by_tag.remove(&tag).unwrap_or_default();
            let view = match &members[..] {
                [] if by_default.is_some_and(|template| template.file(name).is_some()) => FileView::default(),
                [] => continue,
                [member] => match self.view(element, &target, member)? {
                    Some(view) => view,
                    None => continue,
                },
                [_, second, ..] if self.must_write(&target) || is_nai(name) => {
                    return Err(place(element, second.offset, &format!("{name} stands here twice")));
                }
                _ => continue,
            };
            let is_absent = members.is_empty();
            let offset = members.first().map_or(element.tlv.offset, |member| member.offset);
            if is_absent && !self.must_write(&target) {
                self.offer(element, &target, &view);
                continue;
            }
            if is_absent && target.is_identity && !is_made_explicit(element.kind, name) && !self.is_ordered(&target) {
                self.offer(element, &target, &view);
                continue;
            }
            let entries = entries_of(node, tag).ok_or_else(|| place(element, offset, "is not a list of entries"))?;
            self.fill(element, &target, &view, offset, entries)?;
        }
        Ok(())
    }

    /// What there is to do with a file of `kind`, which `element` makes; `None`: nothing, whatever the line says.
    pub(super) fn target(
        &self,
        element: &Element<'_>,
        kind: Kind,
        name: &'static str,
        tags: EntryTags,
    ) -> Result<Option<Target>, TemplateError> {
        let coding = ef::coding(kind, name);
        let content = format!("{kind}/{name}");
        let content = self.settings.vars.contains_key(&content).then_some(content);
        let is_identity = is_identity(kind, name);
        if let Some(content) = &content {
            let clash = coding.map(Coding::name).filter(|name| self.settings.vars.contains_key(*name));
            let what = match clash {
                _ if is_identity => "holds what is each record's own".to_owned(),
                _ if coding.is_some_and(Coding::is_secret) => {
                    "holds a secret: clear secrets do not travel in orders".to_owned()
                }
                Some(variable) => format!("the line sets {variable} as well, which is in the same file"),
                None => String::new(),
            };
            if !what.is_empty() {
                return Err(TemplateError::Variable { name: content.clone(), what });
            }
        }
        let coding = coding.filter(|coding| !coding.is_secret() && !is_of_the_order(coding.name()));
        let place = format!("{}/{name}", element.label());
        let is_nothing = coding.is_none() && content.is_none() && !is_identity && !is_nai(name);
        Ok((!is_nothing).then_some(Target { name, place, coding, content, is_identity, tags }))
    }

    /// A variable of the line is for this file.
    fn is_ordered(&self, target: &Target) -> bool {
        let by_coding = target.coding.is_some_and(|coding| self.settings.vars.contains_key(coding.name()));
        by_coding || target.content.is_some()
    }

    fn must_write(&self, target: &Target) -> bool {
        target.is_identity || self.is_ordered(target)
    }

    /// The one file that `member` describes; `None`: it is not made, or several and none is to be written.
    fn view<'t>(
        &self,
        element: &Element<'t>,
        target: &Target,
        member: &Tlv<'t>,
    ) -> Result<Option<FileView<'t>>, TemplateError> {
        let mut views = FileView::all(member);
        if views.len() != 1 {
            if !self.must_write(target) && !is_nai(target.name) {
                return Ok(None);
            }
            let what = format!("{} is described {} times", target.name, views.len());
            return Err(place(element, member.offset, &what));
        }
        let view = views.remove(0);
        let is_filled = || view.writes.iter().any(|write| write.content.iter().any(|octet| !matches!(octet, 0 | 0xFF)));
        if is_nai(target.name) && !self.is_ordered(target) && is_filled() {
            let what = format!(
                "{} holds an identity, which would be the same in every profile: leave it empty or order it per record",
                target.name
            );
            return Err(place(element, member.offset, &what));
        }
        Ok((!view.do_not_create).then_some(view))
    }

    /// A variable that the file would take, for `template vars`.
    fn offer(&mut self, element: &Element<'_>, target: &Target, view: &FileView<'_>) {
        let (Some(coding), Some(room)) = (target.coding, Room::of(element, target.name, view)) else { return };
        let about = About { name: coding.name(), source: "template", form: coding.form(), clause: coding.clause() };
        let value = coding.decode(&room.octets(), room.record_len);
        self.found(&about, room.len, &target.place, value);
    }

    /// Writes what the record or the line has for this file, else offers its variable.
    pub(super) fn fill<'t>(
        &mut self,
        element: &Element<'t>,
        target: &Target,
        view: &FileView<'t>,
        offset: usize,
        entries: &mut Vec<Rope<'t>>,
    ) -> Result<(), TemplateError> {
        if let Some(content) = &target.content {
            return self.content(element, target, content, view, entries);
        }
        let ordered = target.coding.filter(|coding| self.settings.vars.contains_key(coding.name()));
        if let Some(coding) = ordered {
            let write = self.variable(element, target, coding, view, offset)?;
            return self.write_all(element, target.name, view, entries, target.tags, vec![write]);
        }
        if target.is_identity {
            let writes = self.identity(element, target, view, offset)?;
            if !writes.is_empty() {
                return self.write_all(element, target.name, view, entries, target.tags, writes);
            }
        }
        self.offer(element, target, view);
        Ok(())
    }

    /// The content of a file by its coding: written now, or for each record in the whole length of the file.
    fn variable(
        &mut self,
        element: &Element<'_>,
        target: &Target,
        coding: &'static dyn Coding,
        view: &FileView<'_>,
        offset: usize,
    ) -> Result<PlacedWrite, TemplateError> {
        let room = Room::of(element, target.name, view)
            .ok_or_else(|| place(element, offset, &format!("{} has no size", target.name)))?;
        let (source, set) = self.source(coding.name(), "template");
        let about = About { name: coding.name(), source, form: coding.form(), clause: coding.clause() };
        self.found(&about, room.len, &target.place, coding.decode(&room.octets(), room.record_len));
        if let Some(VarSource::Constant(text)) = set {
            let octets = coding.encode(text, room.extent()).map_err(|error| TemplateError::Variable {
                name: coding.name().to_owned(),
                what: format!("{}: {error}", target.place),
            })?;
            return Ok(PlacedWrite { at: 0, content: Content::Made(octets) });
        }
        let Room { len, record_len, given } = room;
        let field = self.variables.place(coding.name(), CoderForm::File { coding, len, record_len, given });
        Ok(PlacedWrite::field(len, field))
    }

    /// Hex content in place of all writes of the template; its pattern stays behind it.
    fn content<'t>(
        &mut self,
        element: &Element<'t>,
        target: &Target,
        variable: &str,
        view: &FileView<'t>,
        entries: &mut Vec<Rope<'t>>,
    ) -> Result<(), TemplateError> {
        let most = Room::of(element, target.name, view).map_or(MAX_FILE, |room| room.len.max(view.written_len()));
        let most = view.size().unwrap_or(most).min(MAX_FILE);
        let (source, set) = self.source(variable, "template");
        let about = About { name: variable, source, form: "hex, from the start of the file", clause: "SAIP §8.3.3" };
        self.found(&about, most, &target.place, None);
        let is_kept =
            |entry: &Rope<'t>| !entry.tag().is_some_and(|tag| tag == target.tags.offset || tag == target.tags.content);
        entries.retain(is_kept);
        entries.push(match set {
            Some(VarSource::Constant(text)) => {
                let octets = read_hex(text).filter(|octets| (1..=most).contains(&octets.len()));
                let octets = octets.ok_or_else(|| TemplateError::Variable {
                    name: variable.to_owned(),
                    what: format!("{}: {text:?} is not hex of 1 to {most} octets", target.place),
                })?;
                Node::Value(target.tags.content, vec![Part::made(octets)])
            }
            _ => Node::Splice(self.variables.place(variable, CoderForm::Content { tag: target.tags.content, most })),
        });
        Ok(())
    }

    /// What of the record's identity goes into a file of this name.
    fn identity(
        &mut self,
        element: &Element<'_>,
        target: &Target,
        view: &FileView<'_>,
        offset: usize,
    ) -> Result<Vec<PlacedWrite>, TemplateError> {
        let mut one = |about: &About<'_>, len, field| {
            self.found(about, len, &target.place, None);
            Ok(vec![PlacedWrite::field(len, self.field(field))])
        };
        match target.name {
            "ef-iccid" => one(&ICCID, 10, Field::IccidFile),
            "ef-imsi" => one(&IMSI, 9, Field::Imsi),
            "ef-acc" => one(&ACC, 2, Field::Acc),
            "ef-imsi-m" | "ef-imsi-t" => {
                let about = if target.name == "ef-imsi-m" { IMSI_M } else { IMSI_T };
                if !view.given(0, IMSI_LEN).is_some_and(|octets| cdma::is_identity(&octets)) {
                    return Ok(Vec::new());
                }
                one(&about, IMSI_LEN, Field::ImsiCdma)
            }
            "ef-accolc" if view.given(0, 1).is_some_and(|octets| octets[0] < 10) => one(&ACCOLC, 1, Field::Accolc),
            "ef-accolc" => Ok(Vec::new()),
            "ef-spc" => {
                let slot = self.layout.slot(Secret::Spc, SPC_LEN);
                self.found(&SPC, SPC_LEN, &target.place, None);
                Ok(vec![PlacedWrite::field(SPC_LEN, Field::Secret(slot))])
            }
            "ef-msisdn" => {
                let room = Room::of(element, target.name, view).map(|room| (room.len, room.record_len));
                let (len, record_len) = room.unwrap_or_default();
                let record_len = record_len.unwrap_or(len);
                if record_len < 14 || len < record_len || len % record_len != 0 {
                    let what = format!(
                        "ef-msisdn has {len} octets in records of {record_len}: whole records of at least 14 are needed"
                    );
                    return Err(place(element, offset, &what));
                }
                one(&MSISDN, len, Field::Msisdn { record_len })
            }
            _ => self.ims_identity(element, target, view, offset),
        }
    }

    /// IMS identities that the template derives from its own IMSI or number are derived from the record's.
    fn ims_identity(
        &mut self,
        element: &Element<'_>,
        target: &Target,
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
            let Some((field, longest)) = ims_field(target.name, text, self.mnc_len) else { continue };
            let len = (2 + longest).max(2 + text.len());
            if len > record || longest > 127 {
                let what = format!(
                    "{} has {record} octets, an identity of this form needs up to {}",
                    target.name,
                    2 + longest
                );
                return Err(place(element, offset, &what));
            }
            let about = match target.name {
                "ef-impi" => IMPI,
                "ef-impu" => IMPU,
                _ => DOMAIN,
            };
            self.found(&about, len, &target.place, None);
            writes.push(PlacedWrite { at, content: Content::Field(len, self.field(field)) });
        }
        Ok(writes)
    }

    /// Puts writes among the entries of a file that has room for them.
    pub(super) fn write_all<'t>(
        &self,
        element: &Element<'t>,
        name: &str,
        view: &FileView<'t>,
        entries: &mut Vec<Rope<'t>>,
        tags: EntryTags,
        writes: Vec<PlacedWrite>,
    ) -> Result<(), TemplateError> {
        for write in writes {
            let end = write.end();
            if let Some(size) = view.size().filter(|size| end > *size) {
                let what = format!("{name} has {size} octets, {end} are needed");
                return Err(place(element, view.descriptor.map_or(element.tlv.offset, |fcp| fcp.offset), &what));
            }
            let part = match write.content {
                Content::Field(len, field) => Part::Gap(len, field),
                Content::Made(octets) => Part::made(octets),
            };
            rope::write_file(entries, tags, write.at, vec![part]);
        }
        Ok(())
    }
}

/// The entries of a file; a file that the element leaves out gets a member in the order of the tags.
fn entries_of<'n, 't>(node: &'n mut Rope<'t>, tag: Tag) -> Option<&'n mut Vec<Rope<'t>>> {
    let members = node.children()?;
    let at = members.iter().position(|member| member.tag() == Some(tag));
    let at = at.unwrap_or_else(|| {
        let number = context_number(tag);
        let is_behind = |member: &Rope<'t>| member.tag().and_then(context_number) > number;
        let at = members.iter().position(is_behind).unwrap_or(members.len());
        members.insert(at, Node::Group(tag, Vec::new()));
        at
    });
    members.get_mut(at)?.children()
}

pub(super) fn is_directory(name: &str) -> bool {
    name == "mf" || name.starts_with("df-") || name.starts_with("adf-")
}

/// Files whose content is a record's own.
fn is_identity(kind: Kind, file: &str) -> bool {
    match file {
        "ef-iccid" => matches!(kind, Kind::Mf | Kind::Iot),
        "ef-imsi" | "ef-acc" => matches!(kind, Kind::Usim | Kind::Iot),
        "ef-msisdn" => kind == Kind::OptUsim,
        "ef-impi" | "ef-impu" | "ef-domain" => kind == Kind::Isim,
        "ef-imsi-m" | "ef-imsi-t" | "ef-accolc" | "ef-spc" => kind == Kind::Csim,
        _ => false,
    }
}

/// Written also where the element leaves the file out. An IoT Minimal Profile takes its EF.ICCID from the header; IMS identities
/// have no size but the one the element gives.
fn is_made_explicit(kind: Kind, file: &str) -> bool {
    match file {
        "ef-iccid" => kind == Kind::Mf,
        other => matches!(other, "ef-imsi" | "ef-acc"),
    }
}

/// EF.SUPI_NAI (3GPP TS 31.102 §4.4.11.10), as DF.5GS and DF.SNPN name it: an identity for which there is no derivation.
fn is_nai(file: &str) -> bool {
    matches!(file, "ef-supinai" | "ef-supi-nai")
}
