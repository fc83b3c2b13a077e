//! `bindery template diff`: which elements and files differ, and what in them: old and new words where they may be shown.
//!
//! Elements are matched by kind and place among their kind, so that an element that was put in or taken out does not move the rest.

use std::collections::HashMap;
use std::hash::Hash;

use serde::Serialize;
use serde_json::json;

use super::outline::{Content, Fact, FileOutline, Outline, Part, counted};
use super::{Desk, parse};
use crate::cli::screen::{COLUMNS, print_json, wrapped};
use crate::error::{Exit, Fault};

/// One element or file that differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    /// `usim 1`, `usim 1/ef-spn`, or `package`.
    part: String,
    change: Change,
    /// What in it; empty when it came or went as a whole.
    details: Vec<Detail>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Change {
    Added,
    Removed,
    Changed,
    Reordered,
}

/// One thing that differs. Both sides are empty when only that it did may be said.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Detail {
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<String>,
}

impl Desk<'_> {
    pub(super) fn diff(&self, old: &str, new: &str) -> Result<Exit, Fault> {
        let (old_der, new_der) = (self.resolve(old)?, self.resolve(new)?);
        let (old_package, new_package) = (parse(old, &old_der)?, parse(new, &new_der)?);
        let differences = if old_der == new_der {
            Vec::new()
        } else {
            differences(&Outline::of(&old_package), &Outline::of(&new_package))
        };
        if self.json {
            print_json(&json!({"old": old, "new": new, "differences": differences}))?;
        } else {
            say!("{}", screen(&differences, old_der.len(), new_der.len()).trim_end());
        }
        Ok(Exit::Done)
    }
}

/// Everything that differs between two packages that are not the same octets.
fn differences(old: &Outline<'_>, new: &Outline<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    let name = |part: &Part<'_>| format!("{} {}", part.element, part.nth);
    for pair in paired(&old.elements, &new.elements, |part| (part.tag.clone(), part.nth)) {
        match pair {
            Pair::Old(part) => found.push(whole(name(part), Change::Removed)),
            Pair::New(part) => found.push(whole(name(part), Change::Added)),
            Pair::Both(old, new) => elements(&name(old), old, new, &mut found),
        }
    }
    let order = |outline: &Outline<'_>, other: &Outline<'_>| {
        let there: std::collections::HashSet<_> = other.elements.iter().map(name).collect();
        outline.elements.iter().map(name).filter(|part| there.contains(part)).collect::<Vec<_>>()
    };
    if found.is_empty() || order(old, new) != order(new, old) {
        found.push(whole("package".to_owned(), Change::Reordered));
    }
    found
}

fn whole(part: String, change: Change) -> Difference {
    Difference { part, change, details: Vec::new() }
}

fn elements(name: &str, old: &Part<'_>, new: &Part<'_>, found: &mut Vec<Difference>) {
    let mut details = Vec::new();
    words("id", old.id, new.id, &mut details);
    words("mandated", Some(old.mandated), Some(new.mandated), &mut details);
    for pair in paired(
        &numbered(&old.facts, |fact| fact.name.clone()),
        &numbered(&new.facts, |fact| fact.name.clone()),
        |(_, key)| key.clone(),
    ) {
        match pair {
            Pair::Old((fact, _)) => {
                details.push(Detail { what: fact.name.clone(), old: Some(fact.value.clone()), new: None })
            }
            Pair::New((fact, _)) => {
                details.push(Detail { what: fact.name.clone(), old: None, new: Some(fact.value.clone()) })
            }
            Pair::Both((old, _), (new, _)) => facts(old, new, &mut details),
        }
    }
    if !details.is_empty() {
        found.push(Difference { part: name.to_owned(), change: Change::Changed, details });
    }
    let file_name = |file: &FileOutline<'_>| match &file.path {
        Some(path) => format!("{path}/{}", file.file),
        None => file.file.clone(),
    };
    for pair in paired(&numbered(&old.files, file_name), &numbered(&new.files, file_name), |(_, key)| key.clone()) {
        match pair {
            Pair::Old((file, _)) => found.push(whole(format!("{name}/{}", file_name(file)), Change::Removed)),
            Pair::New((file, _)) => found.push(whole(format!("{name}/{}", file_name(file)), Change::Added)),
            Pair::Both((old, _), (new, _)) if old.raw != new.raw => {
                let details = file_details(old, new);
                found.push(Difference { part: format!("{name}/{}", file_name(old)), change: Change::Changed, details });
            }
            Pair::Both(..) => {}
        }
    }
}

fn facts(old: &Fact<'_>, new: &Fact<'_>, details: &mut Vec<Detail>) {
    if old.value != new.value {
        words(&old.name, Some(&old.value), Some(&new.value), details);
    } else if old.raw != new.raw {
        details.push(Detail { what: format!("{}, not shown", old.name), ..Detail::default() });
    }
}

fn file_details(old: &FileOutline<'_>, new: &FileOutline<'_>) -> Vec<Detail> {
    let mut details = Vec::new();
    words("FID", old.fid.as_ref(), new.fid.as_ref(), &mut details);
    words("form", Some(old.form_words()), Some(new.form_words()), &mut details);
    words("SFI", old.sfi, new.sfi, &mut details);
    words("access rule", old.access_rule.as_ref(), new.access_rule.as_ref(), &mut details);
    words("created", Some(!old.do_not_create), Some(!new.do_not_create), &mut details);
    words("also", Some(old.also.join(", ")), Some(new.also.join(", ")), &mut details);
    if matches!(old.file.as_str(), "ef-ust" | "ef-est" | "ef-ist") {
        services(&old.content, &new.content, &mut details);
    } else {
        contents(&old.content, &new.content, &mut details);
    }
    if details.is_empty() {
        let what = if old.is_secret { "content, not shown" } else { "how the same content is written" };
        details.push(Detail { what: what.to_owned(), ..Detail::default() });
    }
    details
}

/// A service table in words: what went and what came, not both tables.
fn services(old: &[Content], new: &[Content], details: &mut Vec<Detail>) {
    let ([old_table], [new_table]) = (old, new) else { return contents(old, new, details) };
    if !(old_table.decoded && new_table.decoded) {
        return contents(old, new, details);
    }
    // A name with a comma becomes two parts, which come and go together.
    let [old, new] = [old_table, new_table].map(|table| table.value.split(", ").collect::<Vec<_>>());
    let only = |these: &[&str], those: &[&str]| {
        let only: Vec<_> = these.iter().filter(|it| !those.contains(it)).copied().collect();
        (!only.is_empty()).then(|| only.join(", "))
    };
    let (gone, come) = (only(&old, &new), only(&new, &old));
    if gone.is_some() || come.is_some() {
        details.push(Detail { what: "services".to_owned(), old: gone, new: come });
    }
}

/// Records are matched by their number. Long values of unknown coding are told where they differ.
fn contents(old: &[Content], new: &[Content], details: &mut Vec<Detail>) {
    for pair in paired(old, new, |content| content.records) {
        let (old, new) = match pair {
            Pair::Old(old) => (Some(old), None),
            Pair::New(new) => (None, Some(new)),
            Pair::Both(old, new) => (Some(old), Some(new)),
        };
        let what = match old.or(new).and_then(|content| content.records) {
            Some((first, last)) if first == last => format!("record {first}"),
            Some((first, last)) => format!("records {first}-{last}"),
            None => "content".to_owned(),
        };
        let [old, new] = [old, new].map(|side| side.map(|content| content.value.as_str()));
        match old.zip(new).and_then(|(old, new)| differing(old, new)) {
            Some((at, old, new)) => words(&format!("{what} from octet {at} on"), Some(old), Some(new), details),
            None => words(&what, old, new, details),
        }
    }
}

/// The part in which two long values of hex digits differ, and the octet it begins with, from 1.
fn differing<'v>(old: &'v str, new: &'v str) -> Option<(usize, &'v str, &'v str)> {
    const LONG: usize = 64;
    let is_hex = |value: &str| value.len().is_multiple_of(2) && value.bytes().all(|b| b.is_ascii_hexdigit());
    if old == new || old.len().max(new.len()) <= LONG || !is_hex(old) || !is_hex(new) {
        return None;
    }
    let pairs = |value: &'v str| value.as_bytes().chunks(2);
    let head = pairs(old).zip(pairs(new)).take_while(|(old, new)| old == new).count();
    let most = if old.len() == new.len() { old.len() / 2 - head } else { 0 };
    let tail = pairs(old).rev().zip(pairs(new).rev()).take(most).take_while(|(old, new)| old == new).count();
    let part = |value: &'v str| &value[2 * head..value.len() - 2 * tail];
    Some((head + 1, part(old), part(new)))
}

fn words<T: PartialEq + ToString>(what: &str, old: Option<T>, new: Option<T>, details: &mut Vec<Detail>) {
    if old != new {
        let [old, new] = [old, new].map(|side| side.map(|side| side.to_string()).filter(|side| !side.is_empty()));
        details.push(Detail { what: what.to_owned(), old, new });
    }
}

// -------------------------------------------------------------------------------------------------------- matching

enum Pair<'p, T> {
    Old(&'p T),
    New(&'p T),
    Both(&'p T, &'p T),
}

/// Both sides by their keys, which are unique on each side: in the order of the old, then what only the new has. Linear time.
fn paired<'p, T, K: Hash + Eq>(old: &'p [T], new: &'p [T], key: impl Fn(&T) -> K) -> Vec<Pair<'p, T>> {
    let mut rest: HashMap<K, &T> = new.iter().map(|part| (key(part), part)).collect();
    let mut pairs: Vec<_> = old
        .iter()
        .map(|part| match rest.remove(&key(part)) {
            Some(other) => Pair::Both(part, other),
            None => Pair::Old(part),
        })
        .collect();
    pairs.extend(new.iter().filter(|part| rest.contains_key(&key(part))).map(Pair::New));
    pairs
}

/// Each with its name and how many of that name went before it.
fn numbered<T, N: Hash + Eq + Clone>(all: &[T], name: impl Fn(&T) -> N) -> Vec<(&T, (N, usize))> {
    let mut seen: HashMap<N, usize> = HashMap::new();
    let mut number = |name: N| {
        let count = seen.entry(name.clone()).or_insert(0);
        *count += 1;
        (name, *count)
    };
    all.iter().map(|one| (one, number(name(one)))).collect()
}

// ---------------------------------------------------------------------------------------------------------- screen

fn screen(differences: &[Difference], old_len: usize, new_len: usize) -> String {
    if differences.is_empty() {
        return "the same octets".to_owned();
    }
    let mut text = String::new();
    let mut renumbered = 0;
    for Difference { part, change, details } in differences {
        // One element put in moves the ids of all behind it.
        if let [Detail { what, .. }] = &details[..]
            && what == "id"
        {
            renumbered += 1;
            continue;
        }
        let word = match change {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
            Change::Reordered => "elements or members stand in another order",
        };
        text.push_str(&format!("{part}: {word}\n"));
        for detail in details {
            let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "(nothing)".to_owned());
            let words = match detail {
                Detail { old: None, new: None, .. } => "changed".to_owned(),
                Detail { old, new, .. } => format!("{} -> {}", side(old), side(new)),
            };
            text.push_str(&format!("    {}\n", wrapped(&format!("{}: {words}", detail.what), COLUMNS, 8)));
        }
    }
    if renumbered > 0 {
        let differ = if renumbered == 1 { "differs" } else { "differ" };
        text.push_str(&format!("{} {differ} in nothing but the id\n", counted(renumbered, "element")));
    }
    text.push_str(&format!("{}, {old_len} -> {new_len} octets\n", counted(differences.len(), "difference")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::saip::package::Package;
    use crate::formats::saip::source;

    fn told_of(old: &str, new: &str) -> (String, Vec<Difference>) {
        let (old, new) = (source::build(old).unwrap(), source::build(new).unwrap());
        let outlines = [&old, &new].map(|der| Package::parse(der).unwrap());
        let differences = differences(&Outline::of(&outlines[0]), &Outline::of(&outlines[1]));
        (screen(&differences, old.len(), new.len()), differences)
    }

    #[test]
    fn a_readable_file_is_told_with_its_old_and_new_value() {
        let text = source::preset("bootstrap").unwrap();
        let (screen, _) = told_of(text, &text.replace("42 6F 6F 74", "4D 69 6E 69"));
        assert_eq!(
            screen,
            "usim 1/ef-spn: changed\n    content: Bindery Boot -> Bindery Mini\n1 difference, 3437 -> 3437 octets\n"
        );
    }

    #[test]
    fn a_service_table_tells_what_came_and_what_went() {
        let content = |value: &str| [Content { records: None, value: value.to_owned(), variable: None, decoded: true }];
        let told = |old: &str, new: &str| {
            let mut details = Vec::new();
            services(&content(old), &content(new), &mut details);
            details.into_iter().map(|detail| (detail.what, detail.old, detail.new)).collect::<Vec<_>>()
        };
        let (what, text) = ("services".to_owned(), |text: &str| Some(text.to_owned()));
        let old = "2 FDN, 17 GID1, 19 SPN";
        assert_eq!(told(old, "2 FDN, 19 SPN, 45 PNN"), [(what.clone(), text("17 GID1"), text("45 PNN"))]);
        assert_eq!(told(old, "2 FDN, 17 GID1"), [(what, text("19 SPN"), None)]);
        assert_eq!(told(old, old), []);
        // As the package has it.
        let preset = source::preset("operational").unwrap();
        let at = preset.find("ef-ust").unwrap();
        let (head, rest) = preset.split_at(at + preset[at..].find("content = \"").unwrap() + 11);
        let (screen, differences) = told_of(preset, &format!("{head}00{}", &rest[2..]));
        assert_eq!(differences.len(), 1, "{screen}");
        assert!(screen.contains("usim 1/ef-ust: changed\n    services: ") && !screen.contains("17 GID1"), "{screen}");
    }

    #[test]
    fn a_secret_is_told_as_changed_and_no_more() {
        let text = source::preset("bootstrap").unwrap();
        let one = text.replacen("key = \"00 00", "key = \"5A 5A", 1);
        let other = text.replacen("key = \"00 00", "key = \"A5 A5", 1);
        let (screen, _) = told_of(&one, &other);
        assert_eq!(screen, "akaParameter 1: changed\n    K, not shown: changed\n1 difference, 3437 -> 3437 octets\n");
        let pin = text.replacen("value = \"30 30 30 30 FF", "value = \"31 32 33 35 FF", 1);
        let other = text.replacen("value = \"30 30 30 30 FF", "value = \"31 32 33 36 FF", 1);
        let (screen, _) = told_of(&pin, &other);
        assert!(screen.contains("PIN1 (01), not shown: changed") && !screen.contains("1235"), "{screen}");
    }

    #[test]
    fn an_element_put_in_does_not_move_the_others() {
        let text = source::preset("bootstrap").unwrap();
        let rfm = text.find("# RFM of the MF").or_else(|| text.find("[[element]]\n[element.rfm]")).unwrap();
        let cd = "[[element]]\n[element.cd]\ntemplate = \"2\"\n\n";
        let (screen, differences) = told_of(text, &format!("{}{cd}{}", &text[..rfm], &text[rfm..]));
        assert!(
            screen.contains("cd 1: added") && screen.contains("3 elements differ in nothing but the id"),
            "{screen}"
        );
        assert!(screen.contains("templates: "), "{screen}");
        // cd, the header's list of templates, and the ids of rfm, rfm and end.
        assert_eq!(differences.len(), 5);
    }

    #[test]
    fn elements_in_another_order_are_told() {
        let text = source::preset("bootstrap").unwrap();
        let elements: Vec<_> = text.split("[[element]]\n").collect();
        let mut moved = elements.clone();
        moved.swap(5, 6);
        let (screen, _) = told_of(text, &moved.join("[[element]]\n"));
        assert!(screen.contains("package: elements or members stand in another order"), "{screen}");
    }

    /// Quadratic work would take minutes here.
    #[test]
    fn a_package_of_many_elements_is_compared_at_once() {
        let mut der = vec![0xA0, 0x00];
        (0..20_000).for_each(|_| der.extend([0xA9, 0x04, 0xA0, 0x02, 0x80, 0x00]));
        let package = Package::parse(&der).unwrap();
        let (one, other) = (Outline::of(&package), Outline::of(&package));
        assert_eq!(differences(&one, &other).len(), 1);
    }

    #[test]
    fn long_hex_is_told_where_it_differs() {
        let old = "00".repeat(40);
        let new = format!("{}0102{}", "00".repeat(20), "00".repeat(18));
        assert_eq!(differing(&old, &new), Some((21, "0000", "0102")));
        assert_eq!(differing(&old, &old), None);
        assert_eq!(differing(&old, &old[..60]), Some((31, &old[..20], "")));
    }
}
