//! `bindery template show`: elements, what they say and their files, one indentation a level, nothing wider than 100 columns.
//! Indented text and no drawn lines: it goes through `less`, `grep` and a mail unharmed.

use clap::Args;
use serde::Serialize;

use super::outline::{Content, FileOutline, Outline, Part, counted, octets};
use super::{Desk, parse};
use crate::cli::screen::{COLUMNS, print_json, wrapped};
use crate::error::{Exit, Fault};

/// What `show` is asked for.
#[derive(Args, Debug)]
pub(super) struct Show {
    /// File (DER), NAME[@VERSION] of the shelf, or the name of a preset
    template: String,
    /// Only the element at this place, counted from 1
    #[arg(long, value_name = "N")]
    element: Option<usize>,
    /// Also the octets that the template writes to each file
    #[arg(long)]
    bytes: bool,
}

/// Stands behind a value that the package leaves to its file-system template.
const TEMPLATE_MARK: &str = "*";
/// Records of a file on the screen.
const MOST_RECORDS: usize = 40;
/// Octets of a content whose coding is unknown, on the screen.
const MOST_OCTETS: usize = 24;
/// Columns before the name of a fact or file, and before what belongs to a file.
const INDENT: usize = 4;
const BELOW: usize = 8;

impl Desk<'_> {
    pub(super) fn show(&self, show: &Show) -> Result<Exit, Fault> {
        let der = self.resolve(&show.template)?;
        let package = parse(&show.template, &der)?;
        let mut outline = Outline::of(&package);
        let count = outline.elements.len();
        if let Some(number) = show.element {
            outline.elements.retain(|part| part.number == number);
            if outline.elements.is_empty() {
                return Err(Fault::new(Exit::Usage, format!("{} has no element {number}", show.template))
                    .hint(format!("its elements are 1 to {count}")));
            }
        }
        if show.bytes {
            outline.elements.iter_mut().flat_map(|part| &mut part.files).for_each(FileOutline::with_writes);
        }
        if self.json {
            print_json(&Shown { template: &show.template, outline: &outline })?;
        } else {
            let sizes = [octets(der.len()), counted(outline.segments, "segment"), counted(count, "element")];
            let title = format!("{}: {}", show.template, sizes.join(", "));
            say!("{title}\n{}", screen(&outline).trim_end());
        }
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    template: &'a str,
    #[serde(flatten)]
    outline: &'a Outline<'a>,
}

fn screen(outline: &Outline<'_>) -> String {
    let mut text = String::new();
    for part in &outline.elements {
        let id = part.id.map(|id| format!("id {id}")).unwrap_or_default();
        let mandated = if part.mandated { "mandated" } else { "" };
        let name = format!("PE {} {}", part.number, part.element);
        line(&mut text, &format!("{name:<34}{id:<8}{mandated:<10}offset {:<8}{}", part.offset, octets(part.bytes)), 0);
        facts(&mut text, part);
        files(&mut text, &part.files);
    }
    if outline.elements.iter().flat_map(|part| &part.files).any(|file| !file.from_template.is_empty()) {
        line(&mut text, &format!("{TEMPLATE_MARK} as the file-system template has it: the package does not say"), 0);
    }
    text
}

fn facts(text: &mut String, part: &Part<'_>) {
    let width = part.facts.iter().map(|fact| fact.name.chars().count()).max().unwrap_or_default().clamp(14, 32);
    for fact in &part.facts {
        line(text, &format!("{:INDENT$}{:<width$}  {}", "", fact.name, fact.value), INDENT + width + 2);
    }
}

fn files(text: &mut String, files: &[FileOutline<'_>]) {
    if files.is_empty() {
        return;
    }
    let name_of = |file: &FileOutline<'_>| match &file.path {
        Some(path) if file.fid.is_some() => format!("{path}/{}", file.file),
        _ => file.file.clone(),
    };
    let width = files.iter().map(|file| name_of(file).chars().count()).max().unwrap_or_default().clamp(16, 30);
    let row = |columns: [&str; 5], octets: &dyn std::fmt::Display| {
        let [name, fid, form, sfi, access] = columns;
        format!("{:INDENT$}{name:<width$}  {fid:<5}  {form:<22}  {sfi:<4}  {access:<8} {octets:>7}", "")
    };
    line(text, &row(["file", "FID", "form", "SFI", "access"], &"octets"), 0);
    for file in files {
        let sfi = match file.sfi {
            Some(0) => "none".to_owned(),
            Some(sfi) => format!("{sfi:02X}"),
            None => String::new(),
        };
        let form = if file.do_not_create { "not created".to_owned() } else { file.form_words() };
        let marked = |what: &str, value: &str| {
            let mark = if file.from_template.contains(&what) && !value.is_empty() { TEMPLATE_MARK } else { "" };
            format!("{value}{mark}")
        };
        let fid = marked("fid", file.fid.as_deref().unwrap_or_default());
        let access = marked("access_rule", file.access_rule.as_deref().unwrap_or_default());
        let columns = [&name_of(file), &fid, &marked("form", &form), &marked("sfi", &sfi), &access];
        line(text, &row(columns.map(String::as_str), &file.bytes), 0);
        if !file.also.is_empty() {
            line(text, &format!("{:BELOW$}{}", "", file.also.join(", ")), BELOW);
        }
        for content in file.content.iter().take(MOST_RECORDS) {
            line(text, &format!("{:BELOW$}{}", "", content_words(content)), BELOW + 2);
        }
        if file.content.len() > MOST_RECORDS {
            let more = file.content.len() - MOST_RECORDS;
            line(text, &format!("{:BELOW$}and {more} more, all of them with --json", ""), 0);
        }
        for (at, octets) in &file.writes {
            line(text, &format!("{:BELOW$}@ {at}: {octets}", ""), BELOW + 2);
        }
    }
}

/// `spn = Acme`, `record 3 = ...`, `content = 0A`.
fn content_words(content: &Content) -> String {
    let name = content.variable.unwrap_or(if content.records.is_some() { "record" } else { "content" });
    let record = match content.records {
        Some((first, last)) if first == last => format!(" {first}"),
        Some((first, last)) => format!(" {first}-{last}"),
        None => String::new(),
    };
    let is_hex = !content.decoded && content.value.bytes().all(|b| b.is_ascii_hexdigit());
    match content.value.get(..2 * MOST_OCTETS) {
        Some(first) if is_hex && first.len() < content.value.len() => {
            format!("{name}{record} = {first}... ({})", octets(content.value.len() / 2))
        }
        _ => format!("{name}{record} = {}", content.value),
    }
}

/// Appends a line as it is when it fits, else broken at blanks with `indent` columns before the rest.
fn line(text: &mut String, line: &str, indent: usize) {
    let line = line.trim_end();
    if line.chars().count() <= COLUMNS {
        text.push_str(line);
    } else {
        let (head, rest) = line.split_at(line.char_indices().nth(indent).map_or(0, |(at, _)| at));
        text.push_str(head);
        text.push_str(&wrapped(rest, COLUMNS, indent));
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::saip::package::Package;
    use crate::formats::saip::source;

    fn screen_of(der: &[u8]) -> String {
        let mut outline = Outline::of(&Package::parse(der).unwrap());
        outline.elements.iter_mut().flat_map(|part| &mut part.files).for_each(FileOutline::with_writes);
        screen(&outline)
    }

    #[test]
    fn no_line_is_wider_than_a_hundred_columns() {
        for (name, text) in source::PRESETS {
            let screen = screen_of(&source::build(text).unwrap());
            let wide: Vec<_> = screen.lines().filter(|line| line.chars().count() > COLUMNS).collect();
            assert!(wide.is_empty(), "{name}: {wide:?}");
        }
    }

    /// What people read: one whole screen, as it is.
    #[test]
    fn the_smallest_preset_is_shown_like_this() {
        let outline = source::build(source::preset("iot-minimal").unwrap()).unwrap();
        let shown = screen(&Outline::of(&Package::parse(&outline).unwrap()));
        let expected = include_str!("golden/iot-minimal.txt");
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_file_says_what_the_package_has_and_what_is_the_templates() {
        let shown = screen_of(&source::build(source::preset("bootstrap").unwrap()).unwrap());
        for line in [
            "    ef-imsi           6F07   transparent 9 B         07    6F06/02       34",
            "        imsi = 001010000000000",
            "    ef-keys           6F08*  transparent 33 B*       08    6F06/05       21",
            "    ef-fdn            6F3B*  linear 5 x 26 B               6F06/08       23",
            "        spn = Bindery Boot",
            "        smsc 1 = +00100000001",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line:?}\n{shown}");
        }
        assert!(shown.contains("AID A0000000871002FFFFFFFF8903020000, PINs 01 81 0A"));
    }

    #[test]
    fn unknown_elements_and_members_are_shown_by_tag_and_size() {
        // Header with an unknown member [20], an unknown element BF7E, end.
        let der =
            [0xA0, 0x03, 0x94, 0x01, 0x07, 0xBF, 0x7E, 0x02, 0x80, 0x00, 0xAA, 0x05, 0xA0, 0x03, 0x81, 0x01, 0x1F];
        let shown = screen_of(&der);
        assert!(shown.contains("[94]            unknown member of 3 octets"), "{shown}");
        assert!(shown.contains("PE 2 BF7E"), "{shown}");
    }
}
