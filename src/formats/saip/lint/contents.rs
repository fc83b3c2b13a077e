//! Files against each other and against what is written into them: F03, F06, F07, F08.

use std::collections::{HashMap, HashSet};

use super::applications;
use super::files::named;
use super::tree::{self, Made, Shape};
use super::{Report, Rule, Severity, counted};
use crate::formats::saip::file::GFM_PATH;
use crate::formats::saip::kind::{Kind, constructed};
use crate::formats::saip::package::{Package, child, children};
use crate::formats::tlv::{Reader, Tag};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "F03",
        severity: Severity::Error,
        why: "the eUICC refuses a size that does not fit the records, or cuts what is written beyond it",
        hint: "make efFileSize a multiple of the record length and at least as large as what is written",
        check: sizes,
    },
    Rule {
        id: "F06",
        severity: Severity::Error,
        why: "nobody can read or update the file: without a rule the card denies all access",
        hint: "refer to a record of EF.ARR (2F06 at the MF, 6F06 in a DF or ADF) that exists and is written",
        check: access_rules,
    },
    Rule {
        id: "F07",
        severity: Severity::Error,
        why: "the eUICC cannot link to a file, or make one in a directory, that is not there yet, and rolls the profile back",
        hint: "make the file first, name it by FIDs from the MF (an ADF by its temporary one); a link has its file type",
        check: links,
    },
    Rule {
        id: "F08",
        severity: Severity::Error,
        why: "the device reads EF.DIR to find the applications: one that is not listed is never selected",
        hint: "give EF.DIR one record 61 { 4F AID, 50 label } for each ADF and none for what is not there",
        check: directory,
    },
];

/// F03 E: efFileSize is a multiple of the record length, and nothing is written beyond it.
fn sizes(_package: &Package<'_>, report: &mut Report<'_>) {
    for file in report.made.iter().filter(|file| !file.is_directory()) {
        let record = file.record_len().filter(|_| file.shape().is_some_and(Shape::has_records));
        if let (Some(size), Some(record)) = (file.view.size(), record) {
            if record == 0 || size % record != 0 {
                let message = format!("{} of {} has records of {record}", named(file), counted(size, "octet"));
                report.at(&file.element, file.offset, message);
            } else if size / record > 254 {
                let message = format!("{} has {} records, an EF has 254 at most", named(file), size / record);
                report.at(&file.element, file.offset, message);
            }
        }
        let Some(size) = file.size() else { continue };
        if file.view.written_len() > size {
            let (written, name) = (counted(file.view.written_len(), "octet"), named(file));
            let message =
                format!("{name} has {}, but {written} with what is skipped are written", counted(size, "octet"));
            report.at(&file.element, file.offset, message);
        }
    }
}

/// F06 E (ETSI TS 102 221 §9.2.7, §13.4): the access rule of every file is a written record of an EF.ARR in reach.
fn access_rules(_package: &Package<'_>, report: &mut Report<'_>) {
    let files: HashMap<&[u16], &Made<'_>> =
        report.made.iter().filter_map(|file| Some((file.path.as_deref()?, file))).collect();
    let mut rules: HashMap<&[u16], Rules> = HashMap::new();
    for file in report.made.iter() {
        let (Some(path), Some((fid, record))) = (file.path.as_deref(), file.access_rule()) else { continue };
        let below_mf = path.len() <= 1 || file.name.starts_with("adf-");
        let fid = fid.unwrap_or(if below_mf { 0x2F06 } else { 0x6F06 });
        // The rule of an EF stands in its directory or above, that of a directory above it.
        let directory = path.split_last().map_or(path, |(_, directory)| directory);
        let found = (0..=directory.len()).rev().find_map(|depth| {
            let path = [&directory[..depth], &[fid]].concat();
            files.get_key_value(&path[..])
        });
        let name = named(file);
        let Some((path, arr)) = found else {
            report.at(&file.element, place(file), format!("{name} refers to EF.ARR {fid:04X}, which is not there"));
            continue;
        };
        if !is_arr(arr) {
            let message =
                format!("{name} refers to {fid:04X} for its access rule, which is {} and no EF.ARR", named(arr));
            report.at(&file.element, place(file), message);
            continue;
        }
        let rules = rules.entry(path).or_insert_with(|| Rules::of(arr));
        if rules.has(record) {
            continue;
        }
        let message = format!("{name} refers to record {record} of EF.ARR {fid:04X}, which has no rule");
        // An empty file made by hand, with a rule that can be written later: nothing in it is out of reach.
        let is_empty = file.template.is_none() && !file.is_directory() && file.view.writes.is_empty();
        if is_empty && arr.size().zip(arr.record_len()).is_some_and(|(size, len)| usize::from(record) * len <= size) {
            report.mild(Severity::Warning, &file.element, place(file), message);
        } else {
            report.at(&file.element, place(file), message);
        }
    }
}

/// A file of records; one that has a name is EF.ARR by it, one made by hand may be.
fn is_arr(file: &Made<'_>) -> bool {
    file.shape() == Some(Shape::LinearFixed) && (file.name.starts_with("ef-arr") || file.name == "file")
}

/// Where the reference stands, or what lacks it.
fn place(file: &Made<'_>) -> usize {
    file.view.parameter(Tag(0x8B)).map_or(file.offset, |tlv| tlv.offset)
}

/// Which records of an EF.ARR hold a rule.
enum Rules {
    /// Not said by the package: a default, a link or a pattern.
    Unknown,
    /// These, counted from 1.
    Written(HashSet<usize>),
}

impl Rules {
    fn of(arr: &Made<'_>) -> Self {
        let pattern = arr.view.pattern().is_some_and(|(pattern, _)| pattern.iter().any(|octet| *octet != 0xFF));
        let by_default = arr.view.writes.is_empty() && arr.template.is_some_and(|template| !template.content_required);
        let Some(record) = arr.record_len().filter(|record| *record > 0) else { return Self::Unknown };
        if pattern || by_default || arr.link().is_some() {
            return Self::Unknown;
        }
        let mut written = HashSet::new();
        for write in &arr.view.writes {
            let first = write.at.div_ceil(record);
            let last = write.at.saturating_add(write.content.len()).div_ceil(record);
            for at in first..last {
                match write.content.get(at * record - write.at) {
                    Some(0xFF) | None => written.remove(&(at + 1)),
                    Some(_) => written.insert(at + 1),
                };
            }
        }
        Self::Written(written)
    }

    fn has(&self, record: u8) -> bool {
        match self {
            Self::Unknown => true,
            Self::Written(records) => records.contains(&usize::from(record)),
        }
    }
}

/// F07 E (SAIP §8.3.3, §8.3.5): a link leads to an earlier file of its own type, so there is no loop; a filePath of
/// GenericFileManagement selects what is there.
fn links(package: &Package<'_>, report: &mut Report<'_>) {
    selections(package, report);
    let mut earlier: HashMap<&[u16], &Made<'_>> = HashMap::new();
    for file in report.made.iter() {
        if let Some(link) = file.link() {
            let name = named(file);
            let to = tree::path(link.value);
            let shown = data_encoding::HEXUPPER.encode(link.value);
            match to.as_deref().map(|to| earlier.get(to)) {
                None => report.at(&file.element, link.offset, format!("the linkPath of {name} is not pairs of octets")),
                Some(None) => {
                    let message = format!("{name} links to {shown}, which no earlier element makes");
                    report.at(&file.element, link.offset, message);
                }
                Some(Some(target)) => {
                    let differ = file.shape().zip(target.shape()).is_some_and(|(own, other)| own != other);
                    if differ {
                        let message = format!("{name} links to {shown}, a file of another type");
                        report.at(&file.element, link.offset, message);
                    }
                }
            }
        }
        if let Some(path) = file.path.as_deref() {
            earlier.insert(path, file);
        }
    }
}

/// Every filePath leads to an earlier file.
fn selections(package: &Package<'_>, report: &mut Report<'_>) {
    // Where each path is made first; the MF is there whoever makes it.
    let mut known: HashMap<&[u16], usize> = HashMap::from([(&[][..], 0)]);
    for file in report.made.iter().rev() {
        known.extend(file.path.as_deref().map(|path| (path, file.offset)));
    }
    // The identifiers of some directories of the newest templates are not known.
    let unknown = report.made.iter().find(|file| file.is_directory() && file.path.is_none());
    let unknown = unknown.map_or(usize::MAX, |file| file.offset);
    for element in package.of(Kind::GenericFileManagement) {
        let commands = element.member(constructed(1)).into_iter().flat_map(|list| children(&list));
        let paths = commands.flat_map(|command| children(&command)).filter(|entry| entry.tag == GFM_PATH);
        for entry in paths.filter(|entry| entry.offset < unknown) {
            let Some(path) = tree::path(entry.value) else {
                report.at(element, entry.offset, "filePath is not pairs of octets");
                continue;
            };
            let from_mf = path.strip_prefix(&[0x3F00]).unwrap_or(&path);
            let is_made = known.get(from_mf).is_some_and(|made| *made < entry.offset);
            // The current ADF, whichever it is.
            if !is_made && from_mf.first() != Some(&0x7FFF) {
                let shown = data_encoding::HEXUPPER.encode(entry.value);
                report.at(element, entry.offset, format!("filePath {shown} leads to nothing that is made before"));
            }
        }
    }
}

/// F08 E (ETSI TS 102 221 §13.1): the entries of EF.DIR are the ADFs of the package.
fn directory(package: &Package<'_>, report: &mut Report<'_>) {
    let adfs: Vec<_> = report
        .made
        .iter()
        .filter_map(|file| Some((file, file.view.parameter(Tag(0x84)).filter(|_| file.is_directory())?)))
        .collect();
    let Some(dir) = report.made.iter().find(|file| file.path.as_deref() == Some(&[0x2F00])) else {
        if let Some((adf, _)) = adfs.first() {
            report.at(&adf.element, adf.offset, "there is an ADF, but no EF.DIR");
        }
        return;
    };
    let by_default = dir.template.is_some_and(|template| !template.content_required);
    if by_default && dir.view.writes.is_empty() && dir.view.pattern().is_none() {
        return;
    }
    let content: Vec<u8> = dir
        .view
        .content(dir.size().unwrap_or_else(|| dir.view.written_len()))
        .into_iter()
        .map(|octet| octet.unwrap_or(0xFF))
        .collect();
    let record = dir.record_len().filter(|record| *record > 0).unwrap_or(content.len().max(1));
    let listed: Vec<(usize, &[u8])> = content
        .chunks(record)
        .enumerate()
        .filter_map(|(number, octets)| {
            let (at, aid) = application(octets)?;
            Some((number * record + at, aid))
        })
        .collect();
    let all: HashSet<&[u8]> = listed.iter().map(|(_, aid)| *aid).collect();
    let known: HashSet<&[u8]> = adfs.iter().map(|(_, name)| name.value).chain(instances(package)).collect();
    for (adf, name) in &adfs {
        if !all.contains(name.value) {
            let message = format!("EF.DIR has no entry for {}", data_encoding::HEXUPPER.encode(name.value));
            report.at(&adf.element, name.offset, message);
        }
    }
    for (at, aid) in listed.iter().filter(|(_, aid)| !known.contains(aid)) {
        let message = format!("EF.DIR lists {}, which is not in this package", data_encoding::HEXUPPER.encode(aid));
        report.at(&dir.element, applications::place(dir, *at), message);
    }
}

/// The AID of an application template `61`, and where it stands in the record.
fn application(record: &[u8]) -> Option<(usize, &[u8])> {
    let template = Reader::new(record).take_if(Tag(0x61)).ok()??;
    child(&template, Tag(0x4F)).map(|aid| (aid.value_offset(), aid.value))
}

/// AIDs of applets and security domains, which EF.DIR may list too.
fn instances<'a>(package: &Package<'a>) -> impl Iterator<Item = &'a [u8]> {
    let aid = |instance: crate::formats::tlv::Tlv<'a>| {
        children(&instance).filter(|tlv| tlv.tag == Tag(0x4F)).nth(2).map(|aid| aid.value)
    };
    package.elements.iter().flat_map(move |element| {
        let list = match element.kind {
            Kind::SecurityDomain => element.member(constructed(1)).into_iter().collect(),
            Kind::Application => element.member(constructed(2)).iter().flat_map(children).collect(),
            _ => Vec::new(),
        };
        list.into_iter().filter_map(aid)
    })
}
