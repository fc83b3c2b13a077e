//! Files in words: form, place, access rule, and the content decoded where its coding is known.

use serde::Serialize;

use super::words::{self, hex};
use super::{Facts, Members, header};
use crate::formats::saip::ef;
use crate::formats::saip::file::{FileView, GFM_PATH, GFM_TAGS, MAX_FILE};
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::children;
use crate::formats::tlv::{Tag, Tlv};

/// Records whose content is put in words, one file.
const MOST_RECORDS: usize = 40;
/// Octets of a content that are shown when its coding is unknown.
const MOST_OCTETS: usize = 24;

/// One file of an element. What the package leaves to its file-system template is not there.
#[derive(Debug, Serialize)]
pub(in crate::cli::template) struct FileOutline<'a> {
    pub(in crate::cli::template) file: String,
    pub(in crate::cli::template) tag: String,
    pub(in crate::cli::template) offset: usize,
    pub(in crate::cli::template) bytes: usize,
    /// GenericFileManagement: where it was made, as file identifiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::template) path: Option<String>,
    pub(in crate::cli::template) fid: Option<String>,
    pub(in crate::cli::template) form: Option<Form>,
    /// Octets of the whole file.
    pub(in crate::cli::template) size: Option<usize>,
    pub(in crate::cli::template) record_size: Option<usize>,
    /// Short file identifier; 0: it has none.
    pub(in crate::cli::template) sfi: Option<u8>,
    /// EF.ARR and record: `2F06/0A`.
    pub(in crate::cli::template) access_rule: Option<String>,
    /// AID, PINs, links and the like.
    pub(in crate::cli::template) also: Vec<String>,
    pub(in crate::cli::template) do_not_create: bool,
    /// In words where its coding is known, else its first octets. Empty when the package writes nothing.
    pub(in crate::cli::template) content: Vec<String>,
    /// Hex of each write and where in the file it begins; only when asked for, never of a secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli::template) writes: Vec<(usize, String)>,
    #[serde(skip)]
    pub(in crate::cli::template) is_secret: bool,
    /// All it was read from, and the writes of it.
    #[serde(skip)]
    pub(in crate::cli::template) raw: Vec<&'a [u8]>,
    #[serde(skip)]
    pub(in crate::cli::template) view: FileView<'a>,
}

/// What kind of file it is (ETSI TS 102 221 §11.1.1.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli::template) enum Form {
    Directory,
    Transparent,
    Linear,
    Cyclic,
    BerTlv,
    Unknown,
}

impl Form {
    fn of(descriptor: u8) -> Self {
        match (descriptor & 0x3F, descriptor & 0x07) {
            (0x38, _) => Self::Directory,
            (0x39, _) => Self::BerTlv,
            (0..=0x37, 1) => Self::Transparent,
            (0..=0x37, 2) => Self::Linear,
            (0..=0x37, 6) => Self::Cyclic,
            _ => Self::Unknown,
        }
    }
}

impl FileOutline<'_> {
    /// `transparent 9 B`, `linear 5 x 34 B`; empty when the template says it.
    pub(in crate::cli::template) fn form_words(&self) -> String {
        let records = self.size.zip(self.record_size.filter(|len| *len > 0)).map(|(size, len)| (size / len, len));
        let word = match self.form {
            Some(Form::Directory) if self.file.starts_with("adf-") => "ADF",
            Some(Form::Directory) if self.file == "mf" => "MF",
            Some(Form::Directory) => "DF",
            Some(Form::Transparent) => "transparent",
            Some(Form::Linear) => "linear",
            Some(Form::Cyclic) => "cyclic",
            Some(Form::BerTlv) => "BER-TLV",
            Some(Form::Unknown) => "unknown form",
            None => "",
        };
        let size = match (records, self.size) {
            (Some((count, len)), _) => format!("{count} x {len} B"),
            (None, Some(size)) => format!("{size} B"),
            (None, None) => String::new(),
        };
        [word, &size].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
    }
}

/// The templateID, and the files of an element made from a template.
pub(super) fn of_template<'a>(kind: Kind, members: &mut Members<'a>, facts: &mut Facts<'a>) -> Vec<FileOutline<'a>> {
    if let Some(template) = members.take(primitive(1)) {
        facts.add("template", &template, header::template_name(template.value));
    }
    let mut files = Vec::new();
    let (known, unknown): (Vec<Tlv<'a>>, Vec<Tlv<'a>>) =
        members.0.drain(..).partition(|tlv| kind.file_name(tlv.tag).is_some());
    members.0 = unknown;
    for tlv in known {
        let name = kind.file_name(tlv.tag).unwrap_or_default();
        let views = FileView::all(&tlv);
        let several = views.len() > 1;
        for (at, view) in views.into_iter().enumerate() {
            let name = if several { format!("{name}#{}", at + 1) } else { name.to_owned() };
            let mut file = outlined(kind, &name, view);
            (file.tag, file.offset, file.bytes) = (tlv.tag.to_string(), tlv.offset, tlv.whole.len());
            file.raw = vec![tlv.whole];
            if several {
                file.raw = raw_of(&file.view);
                file.bytes = file.raw.iter().map(|part| part.len()).sum();
                file.offset = file.view.descriptor.map_or(tlv.offset, |descriptor| descriptor.offset);
            }
            files.push(file);
        }
    }
    files
}

/// The files that GenericFileManagement makes or writes, each with the path that was selected before it.
pub(super) fn made_by_gfm<'a>(members: &mut Members<'a>) -> Vec<FileOutline<'a>> {
    let Some(list) = members.take(constructed(1)) else { return Vec::new() };
    let mut files = Vec::new();
    let mut path = String::new();
    for command in children(&list) {
        let mut section: Vec<Tlv<'a>> = Vec::new();
        for entry in children(&command) {
            if matches!(entry.tag, GFM_PATH) || entry.tag == GFM_TAGS.descriptor {
                files.extend(gfm_file(&path, &std::mem::take(&mut section)));
            }
            if entry.tag == GFM_PATH {
                path = hex(entry.value);
            } else {
                section.push(entry);
            }
        }
        files.extend(gfm_file(&path, &section));
    }
    files
}

fn gfm_file<'a>(path: &str, section: &[Tlv<'a>]) -> Option<FileOutline<'a>> {
    let (first, last) = (section.first()?, section.last()?);
    let view = FileView::of_gfm_section(section).unwrap_or_default();
    let name = match view.file_id() {
        Some(id) => hex(id),
        None => format!("writes to {}", if path.is_empty() { "MF" } else { path }),
    };
    let mut file = outlined(Kind::GenericFileManagement, &name, view);
    file.path = Some(if path.is_empty() { "MF".to_owned() } else { path.to_owned() });
    (file.tag, file.offset) = (first.tag.to_string(), first.offset);
    file.bytes = last.offset + last.whole.len() - first.offset;
    file.raw = section.iter().map(|tlv| tlv.whole).collect();
    Some(file)
}

fn raw_of<'a>(view: &FileView<'a>) -> Vec<&'a [u8]> {
    view.descriptor.iter().map(|tlv| tlv.whole).chain(view.writes.iter().map(|write| write.content)).collect()
}

fn outlined<'a>(kind: Kind, name: &str, view: FileView<'a>) -> FileOutline<'a> {
    let parameter = |tag| view.parameter(Tag(tag));
    let descriptor = parameter(0x82).and_then(|tlv| tlv.value.first().copied());
    let is_directory = name == "mf" || name.starts_with("adf-") || name.starts_with("df-");
    let form = descriptor.map(Form::of).or_else(|| is_directory.then_some(Form::Directory));
    let base = name.split('#').next().unwrap_or(name);
    let is_secret = is_secret(base);
    let (size, record_size) = (view.size(), view.record_len());
    let mut file = FileOutline {
        file: name.to_owned(),
        tag: String::new(),
        offset: 0,
        bytes: 0,
        path: None,
        fid: view.file_id().map(hex),
        form,
        size,
        record_size,
        sfi: parameter(0x88).map(|tlv| tlv.value.first().map_or(0, |octet| octet >> 3)),
        access_rule: parameter(0x8B).map(|tlv| match tlv.value {
            [high, low, record] => format!("{}/{record:02X}", hex(&[*high, *low])),
            other => hex(other),
        }),
        also: also(&view),
        do_not_create: view.do_not_create,
        content: Vec::new(),
        writes: Vec::new(),
        is_secret,
        raw: Vec::new(),
        view,
    };
    file.content = if is_secret { hidden_content(&file.view) } else { content(kind, base, &file) };
    file
}

/// What else the file control parameters say.
fn also(view: &FileView<'_>) -> Vec<String> {
    let parameter = |tag| view.parameter(Tag(tag));
    let mut words = Vec::new();
    if let Some(aid) = parameter(0x84) {
        words.push(format!("AID {}", hex(aid.value)));
    }
    if let Some(pins) = parameter(0xC6) {
        let pins: Vec<_> = pins.value.iter().map(|pin| format!("{pin:02X}")).collect();
        words.push(format!("PINs {}", pins.join(" ")));
    }
    if let Some(link) = parameter(0xC7) {
        let path = hex(link.value);
        words.push(if path.is_empty() { "not linked".to_owned() } else { format!("links to {path}") });
    }
    if let Some(state) = parameter(0x8A) {
        words.push(format!("life cycle {}", hex(state.value)));
    }
    if let Some(info) = parameter(0xA5) {
        let inside = |tag: u32| children(&info).find(|tlv| tlv.tag == Tag(tag));
        match inside(0xC0).map(|tlv| tlv.value) {
            Some([0x80]) => words.push("high update activity".to_owned()),
            Some([0x40]) => words.push("readable when deactivated".to_owned()),
            Some([0xC0]) => words.push("high update activity, readable when deactivated".to_owned()),
            _ => {}
        }
        if let Some(max) = inside(0x86) {
            let max = crate::formats::saip::package::unsigned(max.value).unwrap_or(u64::MAX);
            words.push(format!("at most {max} B"));
        }
    }
    if let Some((pattern, repeats)) = view.pattern() {
        let how = if repeats { "repeats" } else { "filled with" };
        words.push(format!("{how} {}", words::some_hex(pattern, 8)));
    }
    words
}

/// Files that hold keys, or states of authentication: their content is not shown whatever it is.
fn is_secret(file: &str) -> bool {
    const SECRET: &[&str] = &[
        "ef-keys",
        "ef-keysPS",
        "ef-kc",
        "ef-kcgprs",
        "ef-epsnsc",
        "ef-5gs3gppnsc",
        "ef-5gsn3gppnsc",
        "ef-5gauthkeys",
        "ef-gbabp",
        "ef-gbanl",
        "ef-hiddenkey",
        "ef-hidden-key",
        "ef-msk",
        "ef-muk",
        "ef-nafkca",
        "ef-spc",
        "ef-3gcik",
        "ef-sipsp",
        "ef-mipsp",
        "ef-sippapss",
        "ef-eapkeys",
        "ef-dck",
        "ef-cag-keys",
        "ef-kausf-derivation",
        "ef-5g-prose-u2nru",
        "ef-puct",
    ];
    SECRET.contains(&file)
}

fn hidden_content(view: &FileView<'_>) -> Vec<String> {
    let octets: usize = view.writes.iter().map(|write| write.content.len()).sum();
    if octets == 0 { Vec::new() } else { vec![format!("{} written, not shown", words::octets(octets))] }
}

fn content(kind: Kind, name: &str, file: &FileOutline<'_>) -> Vec<String> {
    let view = &file.view;
    if view.writes.is_empty() {
        return Vec::new();
    }
    let len = file.size.unwrap_or_else(|| view.written_len()).min(MAX_FILE);
    let octets = view.content(len);
    match file.record_size.filter(|record| *record > 0) {
        Some(record) => records(kind, name, &octets, record),
        None => {
            let given: Option<Vec<u8>> = octets.iter().copied().collect();
            let words = given.and_then(|octets| ef::describe(kind, name, &octets, None));
            vec![words.unwrap_or_else(|| undecoded(&octets))]
        }
    }
}

/// One line a record that says something.
fn records(kind: Kind, name: &str, octets: &[Option<u8>], record: usize) -> Vec<String> {
    let is_blank = |record: &[Option<u8>]| record.iter().all(|octet| matches!(octet, None | Some(0xFF)));
    let written: Vec<_> = octets.chunks(record).enumerate().filter(|(_, record)| !is_blank(record)).collect();
    // A pattern makes many records alike: they are told once.
    let mut lines: Vec<(usize, usize, String)> = Vec::new();
    for (at, record_octets) in written {
        let given: Vec<u8> = record_octets.iter().map(|octet| octet.unwrap_or(0xFF)).collect();
        let words = ef::describe(kind, name, &given, Some(record)).unwrap_or_else(|| undecoded(record_octets));
        match lines.last_mut().filter(|(_, last, said)| *last + 1 == at && *said == words) {
            Some((_, last, _)) => *last = at,
            None => lines.push((at, at, words)),
        }
    }
    let more = lines.len().saturating_sub(MOST_RECORDS);
    lines.truncate(MOST_RECORDS);
    let mut lines: Vec<String> = lines
        .into_iter()
        .map(|(first, last, words)| match first == last {
            true => format!("{}: {words}", first + 1),
            false => format!("{}-{}: {words}", first + 1, last + 1),
        })
        .collect();
    if more > 0 {
        lines.push(format!("and {more} records more"));
    }
    lines
}

/// Octets without the padding behind them.
fn undecoded(octets: &[Option<u8>]) -> String {
    let end = octets.iter().rposition(|octet| !matches!(octet, None | Some(0xFF))).map_or(0, |at| at + 1);
    let given: Vec<u8> = octets[..end].iter().map(|octet| octet.unwrap_or(0xFF)).collect();
    if given.is_empty() {
        return "FF throughout".to_owned();
    }
    let is_text = given.len() > 1 && given.iter().all(|octet| matches!(octet, b' '..=b'~'));
    if is_text {
        return format!("{:?}", String::from_utf8_lossy(&given));
    }
    words::some_hex(&given, MOST_OCTETS)
}

impl FileOutline<'_> {
    /// Keeps the octets of every write for the reader; those of a secret stay out.
    pub(in crate::cli::template) fn with_writes(&mut self) {
        if !self.is_secret {
            self.writes = self.view.writes.iter().map(|write| (write.at, hex(write.content))).collect();
        }
    }
}
