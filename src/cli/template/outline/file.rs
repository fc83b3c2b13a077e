//! Files in words: form, place, access rule, and the content decoded where its coding is known.

use serde::Serialize;

use super::words::{self, hex};
use super::{Facts, Members, header};
use crate::formats::saip::catalogue::{self, FileTemplate};
use crate::formats::saip::ef;
use crate::formats::saip::file::{FileView, GFM_PATH, GFM_TAGS, MAX_FILE};
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::package::children;
use crate::formats::tlv::{Tag, Tlv};

/// One file of an element. What the package leaves to its file-system template is taken from there.
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
    /// Which of `fid`, `form`, `sfi`, `access_rule` are the template's.
    pub(in crate::cli::template) from_template: Vec<&'static str>,
    /// What the package gives: a whole file, or its records. Empty when it gives nothing.
    pub(in crate::cli::template) content: Vec<Content>,
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

/// A file or records of it.
#[derive(Debug, Serialize)]
pub(in crate::cli::template) struct Content {
    /// Number of the record, or of the first and the last when several are alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::template) records: Option<(usize, usize)>,
    pub(in crate::cli::template) value: String,
    /// The variable of an order that writes it.
    pub(in crate::cli::template) variable: Option<&'static str>,
    /// The value is in words; else it is hex without the padding.
    pub(in crate::cli::template) decoded: bool,
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
    fn of_model(form: catalogue::Form) -> Self {
        match form {
            catalogue::Form::Mf | catalogue::Form::Adf | catalogue::Form::Df => Self::Directory,
            catalogue::Form::Transparent { .. } => Self::Transparent,
            catalogue::Form::LinearFixed { .. } => Self::Linear,
            catalogue::Form::Cyclic { .. } => Self::Cyclic,
            catalogue::Form::BerTlv => Self::BerTlv,
        }
    }

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
    let id = members.take(primitive(1));
    if let Some(id) = &id {
        facts.add("template", id, header::template_name(id.value));
    }
    let model = id.and_then(|id| catalogue::template(catalogue::oid_tail(id.value)?)).filter(|it| it.kind == kind);
    let mut files = Vec::new();
    let (known, unknown): (Vec<Tlv<'a>>, Vec<Tlv<'a>>) =
        members.0.drain(..).partition(|tlv| kind.file_name(tlv.tag).is_some());
    members.0 = unknown;
    for tlv in known {
        let base = kind.file_name(tlv.tag).unwrap_or_default();
        let views = FileView::all(&tlv);
        let several = views.len() > 1;
        for (at, view) in views.into_iter().enumerate() {
            let name = if several { format!("{base}#{}", at + 1) } else { base.to_owned() };
            let mut file = outlined(kind, &name, view, model.and_then(|model| model.file(base)));
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
    let mut file = outlined(Kind::GenericFileManagement, &name, view, None);
    file.path = Some(if path.is_empty() { "MF".to_owned() } else { path.to_owned() });
    (file.tag, file.offset) = (first.tag.to_string(), first.offset);
    file.bytes = last.offset + last.whole.len() - first.offset;
    file.raw = section.iter().map(|tlv| tlv.whole).collect();
    Some(file)
}

fn raw_of<'a>(view: &FileView<'a>) -> Vec<&'a [u8]> {
    view.descriptor.iter().map(|tlv| tlv.whole).chain(view.writes.iter().map(|write| write.content)).collect()
}

fn outlined<'a>(kind: Kind, name: &str, view: FileView<'a>, model: Option<&'static FileTemplate>) -> FileOutline<'a> {
    let parameter = |tag| view.parameter(Tag(tag));
    let base = name.split('#').next().unwrap_or(name);
    let mut from_template = Vec::new();
    // What the package says, else what the template says: that is noted.
    let mut either = |what, said: bool, model_says: bool| {
        if !said && model_says {
            from_template.push(what);
        }
        !said && model_says
    };
    let fid = view.file_id().map(hex);
    let model_fid = model.filter(|model| model.last_fid.is_none()).and_then(|model| model.fid);
    let fid = if either("fid", fid.is_some(), model_fid.is_some()) {
        model_fid.map(|fid| hex(&fid.to_be_bytes()))
    } else {
        fid
    };
    let descriptor = parameter(0x82).and_then(|tlv| tlv.value.first().copied());
    let form = descriptor.map(Form::of);
    let model_form = model.map(|model| Form::of_model(model.form));
    let form = if either("form", form.is_some() || view.size().is_some(), model_form.is_some()) {
        model_form
    } else {
        form.or(model_form)
    };
    let sfi = parameter(0x88).map(|tlv| tlv.value.first().map_or(0, |octet| octet >> 3));
    let model_sfi = model.and_then(|model| model.sfi);
    let sfi = if either("sfi", sfi.is_some(), model_sfi.is_some()) { model_sfi } else { sfi };
    let access_rule = parameter(0x8B).map(|tlv| match tlv.value {
        [high, low, record] => format!("{}/{record:02X}", hex(&[*high, *low])),
        other => hex(other),
    });
    let model_arr = model.and_then(|model| model.arr);
    let access_rule = match either("access_rule", access_rule.is_some(), model_arr.is_some()) {
        true => model_arr.map(|record| format!("/{record:02X}")),
        false => access_rule,
    };
    let mut file = FileOutline {
        file: name.to_owned(),
        tag: String::new(),
        offset: 0,
        bytes: 0,
        path: None,
        is_secret: is_secret(base, fid.as_deref().unwrap_or_default()),
        fid,
        form,
        size: view.size().or_else(|| model.and_then(FileTemplate::size)),
        record_size: view.record_len().or_else(|| model.and_then(FileTemplate::record_len)),
        sfi,
        access_rule,
        also: Vec::new(),
        do_not_create: view.do_not_create,
        from_template,
        content: Vec::new(),
        writes: Vec::new(),
        raw: Vec::new(),
        view,
    };
    file.also = also(&file.view, file.is_secret);
    file.content = if file.is_secret { hidden_content(&file.view) } else { content(kind, base, &file, model) };
    file
}

/// What else the file control parameters say.
fn also(view: &FileView<'_>, is_secret: bool) -> Vec<String> {
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
        // A pattern of one or two octets fills, a longer one may be the value itself.
        let shown = if is_secret && pattern.len() > 2 { words::hidden(pattern) } else { words::some_hex(pattern, 8) };
        words.push(format!("{how} {shown}"));
    }
    words
}

/// Files that hold keys, or states of authentication: their content is not shown whatever it is.
#[rustfmt::skip]
fn is_secret(file: &str, fid: &str) -> bool {
    const FILES: &[&str] = &[
        "ef-keys", "ef-keysPS", "ef-kc", "ef-kcgprs", "ef-epsnsc", "ef-5gs3gppnsc", "ef-5gsn3gppnsc", "ef-5gauthkeys",
        "ef-gbabp", "ef-gbanl", "ef-hiddenkey", "ef-hidden-key", "ef-msk", "ef-muk", "ef-nafkca", "ef-dck", "ef-spc",
        "ef-3gcik", "ef-sipsp", "ef-mipsp", "ef-sippapss", "ef-eapkeys", "ef-kausf-derivation",
    ];
    // The same files when GenericFileManagement makes them. It says where, but not in what: an identifier that names such a file in
    // any application counts, but for 4F01, which is far more often a location than EF.EAPKEYS.
    const FIDS: &[&str] = &[
        "6F08", "6F09", "4F20", "4F52", "6FE4", "4F03", "4F04", "4F05", "6FD5", "6FD6", "6FDA", "6FC3", "6F76", "6FD7",
        "6FD8", "6FDD", "6F2C", "6F6C", "6F33", "6F6B",
    ];
    FILES.contains(&file) || (!file.starts_with("ef-") && FIDS.contains(&fid))
}

fn hidden_content(view: &FileView<'_>) -> Vec<Content> {
    let octets: usize = view.writes.iter().map(|write| write.content.len()).sum();
    let value = format!("{} written, not shown", words::octets(octets));
    if octets == 0 { Vec::new() } else { vec![Content { records: None, value, variable: None, decoded: true }] }
}

fn content(kind: Kind, name: &str, file: &FileOutline<'_>, model: Option<&FileTemplate>) -> Vec<Content> {
    let view = &file.view;
    let record = file.record_size.filter(|record| *record > 0);
    let len = file.size.unwrap_or_else(|| view.written_len()).min(MAX_FILE);
    let mut octets = view.content(len);
    if octets.iter().all(Option::is_none) {
        return Vec::new();
    }
    if let Some(fill) = model.and_then(|model| model.fill).filter(|_| view.pattern().is_none()) {
        fill.complete(&mut octets, record);
    }
    match record {
        Some(record) => records(kind, name, &octets, record),
        None => one(kind, name, &octets, None, !view.writes.is_empty()).into_iter().collect(),
    }
}

/// In words, else in hex when it was written and is not a fill alone.
fn one(kind: Kind, name: &str, octets: &[Option<u8>], record: Option<usize>, was_written: bool) -> Option<Content> {
    let given: Vec<u8> = octets.iter().map(|octet| octet.unwrap_or(0xFF)).collect();
    let words = ef::describe(kind, name, &given, record);
    let decoded = words.is_some();
    let variable = ef::coding(kind, name).map(|coding| coding.name()).filter(|_| decoded);
    let value = words.or_else(|| was_written.then(|| undecoded(&given)))?;
    Some(Content { records: None, value, variable, decoded })
}

/// Records that say something; those behind each other that say the same are told once.
fn records(kind: Kind, name: &str, octets: &[Option<u8>], record: usize) -> Vec<Content> {
    let is_blank = |record: &[Option<u8>]| {
        let mut given = record.iter().map(|octet| octet.unwrap_or(0xFF));
        let first = given.next();
        // A record of a pattern that nobody wrote to: 00 and FF, or FF alone.
        matches!(first, Some(0 | 0xFF)) && given.all(|octet| octet == 0xFF)
    };
    let mut found: Vec<Content> = Vec::new();
    for (at, octets) in octets.chunks(record).enumerate().filter(|(_, record)| !is_blank(record)) {
        let Some(mut content) = one(kind, name, octets, Some(record), true) else { continue };
        match found.last_mut() {
            Some(Content { records: Some((_, last)), value, .. }) if *last == at && *value == content.value => {
                *last += 1
            }
            _ => {
                content.records = Some((at + 1, at + 1));
                found.push(content);
            }
        }
    }
    found
}

/// Octets without the padding behind them.
fn undecoded(octets: &[u8]) -> String {
    let end = octets.iter().rposition(|octet| *octet != 0xFF).map_or(0, |at| at + 1);
    match &octets[..end] {
        [] => "FF throughout".to_owned(),
        text if text.len() > 1 && text.iter().all(|octet| matches!(octet, b' '..=b'~')) => {
            format!("{:?}", String::from_utf8_lossy(text))
        }
        given => hex(given),
    }
}

impl FileOutline<'_> {
    /// Keeps the octets of every write for the reader; those of a secret stay out.
    pub(in crate::cli::template) fn with_writes(&mut self) {
        if !self.is_secret {
            self.writes = self.view.writes.iter().map(|write| (write.at, hex(write.content))).collect();
        }
    }
}
