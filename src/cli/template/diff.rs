//! `bindery template diff`.

use serde_json::json;

use super::{Desk, parse};
use crate::cli::screen::{print_json, table};
use crate::error::{Exit, Fault};
use crate::formats::saip::package::{Package, children};

impl Desk<'_> {
    pub(super) fn diff(&self, old: &str, new: &str) -> Result<Exit, Fault> {
        let (old_der, new_der) = (self.resolve(old)?, self.resolve(new)?);
        let (before, after) = (parts(&parse(old, &old_der)?), parts(&parse(new, &new_der)?));
        let mut differences: Vec<(&str, &str)> = Vec::new();
        for (name, octets) in &before {
            match after.iter().find(|(other, _)| other == name) {
                None => differences.push((name, "removed")),
                Some((_, other)) if other != octets => differences.push((name, "changed")),
                Some(_) => {}
            }
        }
        let added = after.iter().filter(|(name, _)| before.iter().all(|(other, _)| other != name));
        differences.extend(added.map(|(name, _)| (name.as_str(), "added")));
        if differences.is_empty() && old_der != new_der {
            differences.push(("package", "reordered"));
        }
        if self.json {
            let rows: Vec<_> =
                differences.iter().map(|(part, change)| json!({"part": part, "change": change})).collect();
            print_json(&json!({"old": old, "new": new, "differences": rows}))?;
        } else if differences.is_empty() {
            say!("the same octets");
        } else {
            let mut table = table(&["element or file", "change"]);
            differences.iter().for_each(|(part, change)| {
                table.add_row([part, change]);
            });
            say!("{table}");
        }
        Ok(Exit::Done)
    }
}

/// Every file of a package, and what is left of each element, by a name that does not depend on PE ids.
pub(super) fn parts(package: &Package<'_>) -> Vec<(String, Vec<u8>)> {
    let mut parts = Vec::new();
    for (at, element) in package.elements.iter().enumerate() {
        let kind = element.kind;
        let number = package.elements[..at].iter().filter(|other| other.kind == kind).count() + 1;
        let name = format!("{kind} {number}");
        let mut rest = Vec::new();
        for member in children(&element.tlv) {
            match kind.file_name(member.tag) {
                Some(file) => parts.push((format!("{name}/{file}"), member.whole.to_vec())),
                None => rest.extend_from_slice(member.whole),
            }
        }
        parts.push((name, rest));
    }
    parts
}
