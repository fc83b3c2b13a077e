//! Files: control parameters and contents, of file-system templates and of GenericFileManagement.

use std::collections::BTreeSet;

use rasn::prelude::{OctetString, SequenceOf};
use toml::Spanned;

use super::{Context, octets, retag, template_oid};
use crate::formats::saip::catalogue::{self, FileTemplate};
use crate::formats::saip::ef::{self, Extent};
use crate::formats::saip::file::MAX_FILE;
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::source::Wrong;
use crate::formats::saip::source::schema::{self, Hex, Words};
use crate::formats::saip::types::{self, FileCommand, FileEntry, PeHeader};
use crate::formats::tlv;

/// What is written to a file, in order.
enum Entry {
    Skip(u16),
    Write(OctetString),
}

impl Context {
    pub(super) fn file_system(
        &self,
        kind: Kind,
        source: &schema::FileSystem,
        templates: &mut BTreeSet<Vec<u8>>,
    ) -> Result<Vec<u8>, Wrong> {
        let template = source.template.as_ref().ok_or_else(|| self.wrong(&format!("{kind} has no template")))?;
        let oid = template_oid(template)?;
        let model = catalogue::oid_tail(&oid).and_then(catalogue::template).filter(|model| model.kind == kind);
        let header = self.encoded(&self.header)?;
        let mut value = [retag(constructed(0), &header)?, tlv::wrap(primitive(1), &[&oid])].concat();
        templates.insert(oid);
        let base = |name: &str| name.split_once('#').map_or(name, |(base, _)| base).to_owned();
        if let Some((name, file)) = source.files.iter().find(|(name, _)| kind.file_number(&base(name)).is_none()) {
            let what = format!("{kind} has no file {name:?}, only {}", kind.files().join(", "));
            return Err(Wrong { at: file.span(), what });
        }
        for name in kind.files() {
            let Some(number) = kind.file_number(name) else { continue };
            // `ef-adn`, then `ef-adn#2` and so on: one member holds them all.
            let mut same: Vec<_> = source.files.iter().filter(|(other, _)| base(other) == **name).collect();
            same.sort_by_key(|(other, _)| other.split_once('#').and_then(|(_, n)| n.parse::<u16>().ok()).unwrap_or(1));
            let mut entries: SequenceOf<FileEntry> = Vec::new();
            for (_, file) in &same {
                entries.extend(file_entries(kind, name, file, model.and_then(|model| model.file(name)))?);
            }
            if let Some((_, file)) = same.first() {
                let at = Context { header: self.header.clone(), span: file.span() };
                value.extend(retag(constructed(number), &at.encoded(&entries)?)?);
            }
        }
        kind.tag().map(|tag| tlv::wrap(tag, &[&value])).ok_or_else(|| self.wrong("has no tag"))
    }

    pub(super) fn file_management(
        &self,
        header: PeHeader,
        source: &schema::FileManagement,
    ) -> Result<types::GenericFileManagement, Wrong> {
        let mut lists: SequenceOf<types::FileManagement> = Vec::new();
        for spanned in &source.files {
            let file = spanned.get_ref();
            if file.do_not_create {
                let what = "do_not_create: only a template has files to leave out".to_owned();
                return Err(Wrong { at: spanned.span(), what });
            }
            let mut commands: types::FileManagement = Vec::new();
            commands.extend(file.path.as_ref().map(|path| FileCommand::FilePath(octets(path))));
            let descriptor = descriptor(file);
            if descriptor != no_parameters() {
                commands.push(FileCommand::CreateFcp(descriptor));
            }
            for entry in written(Kind::GenericFileManagement, "file", spanned, None)? {
                commands.push(match entry {
                    Entry::Skip(octets) => FileCommand::FillFileOffset(octets),
                    Entry::Write(content) => FileCommand::FillFileContent(content),
                });
            }
            match lists.last_mut().filter(|_| !file.separate) {
                Some(list) => list.extend(commands),
                None => lists.push(commands),
            }
        }
        Ok(types::GenericFileManagement { header, commands: lists })
    }
}

fn file_entries(
    kind: Kind,
    name: &str,
    source: &Spanned<schema::File>,
    model: Option<&FileTemplate>,
) -> Result<SequenceOf<FileEntry>, Wrong> {
    let file = source.get_ref();
    if file.do_not_create {
        return Ok(vec![FileEntry::DoNotCreate(())]);
    }
    if file.path.is_some() || file.separate {
        let what = format!("{name}: path and separate belong to files of genericFileManagement");
        return Err(Wrong { at: source.span(), what });
    }
    let mut entries: SequenceOf<FileEntry> = Vec::new();
    let descriptor = descriptor(file);
    if descriptor != no_parameters() {
        entries.push(FileEntry::FileDescriptor(descriptor));
    }
    entries.extend(written(kind, name, source, model)?.into_iter().map(|entry| match entry {
        Entry::Skip(octets) => FileEntry::FillFileOffset(octets),
        Entry::Write(content) => FileEntry::FillFileContent(content),
    }));
    Ok(entries)
}

fn written(
    kind: Kind,
    name: &str,
    source: &Spanned<schema::File>,
    model: Option<&FileTemplate>,
) -> Result<Vec<Entry>, Wrong> {
    let wrong = |what: String| Wrong { at: source.span(), what: format!("{name}: {what}") };
    let file = source.get_ref();
    let given =
        [file.content.is_some(), file.text.is_some(), file.rows.is_some(), file.value.is_some(), file.writes.is_some()];
    if given.iter().filter(|given| **given).count() > 1 {
        return Err(wrong("content, text, rows, value and writes exclude each other".into()));
    }
    let size = descriptor_size(file).map(|size| size as usize).or_else(|| model.and_then(FileTemplate::size));
    let record = file.record.map(usize::from).or_else(|| model.and_then(FileTemplate::record_len));
    let mut entries = Vec::new();
    let mut end = 0;
    let mut put = |at: usize, content: &[u8], entries: &mut Vec<Entry>| {
        let skip = at.checked_sub(end).and_then(|skip| u16::try_from(skip).ok());
        let skip = skip.ok_or_else(|| wrong("is too large".into()))?;
        if skip > 0 {
            entries.push(Entry::Skip(skip));
        }
        entries.push(Entry::Write(OctetString::from_slice(content)));
        end = at + content.len();
        Ok::<_, Wrong>(())
    };
    if let Some(content) = file.content.as_ref().map(|hex| &hex.0[..]).or(file.text.as_deref().map(str::as_bytes)) {
        put(0, content, &mut entries)?;
    }
    if let Some(rows) = &file.rows {
        let record = record.ok_or_else(|| wrong("rows need a record length".into()))?;
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| !row.0.is_empty()) {
            if row.0.len() > record {
                return Err(wrong(format!("row {} has {} octets, a record has {record}", at + 1, row.0.len())));
            }
            put(at * record, &row.0, &mut entries)?;
        }
    }
    if let Some(value) = &file.value {
        let coding =
            ef::coding(kind, name).ok_or_else(|| wrong("no coding is known for a value, give content".into()))?;
        let encode = |value: &str, len: usize| {
            let given = fill_of(file, len);
            coding.encode(value, Extent { len, record_len: record, given: &given }).map_err(|e| wrong(e.to_string()))
        };
        match value {
            Words::File(value) => {
                let size = size.ok_or_else(|| wrong("value needs a size".into()))?;
                put(0, &encode(value, size)?, &mut entries)?;
            }
            Words::Records(values) => {
                let record = record.ok_or_else(|| wrong("a list of values needs a record length".into()))?;
                for (at, value) in values.iter().enumerate().filter(|(_, value)| !value.is_empty()) {
                    put(at * record, &encode(value, record)?, &mut entries)?;
                }
            }
        }
    }
    for write in file.writes.iter().flatten() {
        entries.extend(write.skip.map(Entry::Skip));
        end += usize::from(write.skip.unwrap_or_default());
        if let Some(content) = &write.content {
            entries.push(Entry::Write(octets(content)));
            end += content.0.len();
        }
    }
    // Against the source's own size only: the template's is a matter of the rules.
    match descriptor_size(file) {
        Some(size) if end > size as usize => Err(wrong(format!("{end} octets are written, the file has {size}"))),
        _ => Ok(entries),
    }
}

/// What the source itself fills the file with, for codings that keep an octet of it.
fn fill_of(file: &schema::File, len: usize) -> Vec<Option<u8>> {
    let len = len.min(MAX_FILE);
    let of =
        |hex: &Hex, repeats: bool| -> Vec<Option<u8>> {
            let last = hex.0.last().copied();
            (0..len)
                .map(|at| {
                    if repeats { hex.0.get(at % hex.0.len().max(1)).copied() } else { hex.0.get(at).copied().or(last) }
                })
                .collect()
        };
    match (&file.fill, &file.repeat) {
        (Some(fill), _) => of(fill, false),
        (None, Some(repeat)) => of(repeat, true),
        (None, None) => vec![None; len],
    }
}

/// Parameters that say nothing: the template's own hold.
fn no_parameters() -> types::Fcp {
    types::Fcp { lcsi: OctetString::from_static(&[5]), ..types::Fcp::default() }
}

fn descriptor(file: &schema::File) -> types::Fcp {
    let special = file.special.as_ref().map(octets).filter(|special| special[..] != [0]);
    let details = file.details.as_ref().map(octets).filter(|details| details[..] != [1]);
    let says_something = special.is_some()
        || details.is_some()
        || file.fill.is_some()
        || file.repeat.is_some()
        || file.ber_tlv_size.is_some();
    let info = types::ProprietaryInfo {
        special_file_information: special.unwrap_or_else(|| OctetString::from_static(&[0])),
        fill_pattern: file.fill.as_ref().map(octets),
        repeat_pattern: file.repeat.as_ref().map(octets),
        maximum_file_size: file.ber_tlv_size.map(minimal),
        file_details: details.unwrap_or_else(|| OctetString::from_static(&[1])),
    };
    types::Fcp {
        file_descriptor: file.descriptor.as_ref().map(octets).or_else(|| file_descriptor(file)),
        file_id: file.fid.as_ref().map(octets),
        df_name: file.aid.as_ref().map(octets),
        lcsi: file.life_cycle.as_ref().map(octets).unwrap_or(OctetString::from_static(&[5])),
        security_attributes_referenced: file.arr.as_ref().map(octets),
        ef_file_size: descriptor_size(file).map(minimal),
        pin_status_template: file.pins.as_ref().map(octets),
        short_efid: file.sfi.map(|sfi| match sfi {
            0 => OctetString::from_static(&[]),
            // Five bits: what is above them is cut off, and the rule on short file identifiers finds it.
            sfi => vec![sfi << 3].into(),
        }),
        proprietary_ef_info: says_something.then_some(info),
        link_path: file.link.as_ref().map(octets),
    }
}

/// TS 102 222 §6.3.2.2.2: type octet, data coding 21, record length.
fn file_descriptor(file: &schema::File) -> Option<OctetString> {
    if file.directory {
        return Some(OctetString::from_static(&[0x78, 0x21]));
    }
    if file.ber_tlv_size.is_some() {
        return Some(OctetString::from_static(&[0x79, 0x21]));
    }
    if let Some(record) = file.record {
        let [high, low] = record.to_be_bytes();
        return Some(vec![if file.cyclic { 0x46 } else { 0x42 }, 0x21, high, low].into());
    }
    file.size.map(|_| OctetString::from_static(&[0x41, 0x21]))
}

fn descriptor_size(file: &schema::File) -> Option<u32> {
    let records = file.record.map(|record| u32::from(record) * u32::from(file.records.unwrap_or(1)));
    file.size.or(records)
}

/// Without leading zero octets, as efFileSize asks.
fn minimal(size: u32) -> OctetString {
    let octets = size.to_be_bytes();
    let from = octets.iter().position(|octet| *octet != 0).unwrap_or(3);
    OctetString::from_slice(&octets[from..])
}
