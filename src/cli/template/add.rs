//! `bindery template add`: a foreign package goes on the shelf; what no record could be made from does not.

use std::path::Path;

use serde_json::json;

use super::lint::warn;
use super::outline::{counted, octets};
use super::{Desk, read_file, segments, sha256_hex, shelf_fault, template_name};
use crate::cli::screen::print_json;
use crate::error::{Exit, Fault};
use crate::formats::saip::lint::{Finding, Lint, Severity, lint};
use crate::personalise::shelf::{Shelf, TemplateName};

impl Desk<'_> {
    pub(super) fn add(&self, file: &Path, name: &str) -> Result<Exit, Fault> {
        let name = template_name(name)?;
        let der = read_file(file)?;
        let lint = lint(&der);
        if let Some(finding) = unusable(&lint) {
            let what = format!("{} at offset {}: {}", finding.rule, finding.offset, finding.message);
            return Err(Fault::new(Exit::IntegrityFailure, what).hint(finding.hint));
        }
        let new = self.shelve(&name, &der)?;
        self.added(Some(&name), &der, &lint, new)
    }

    /// Puts a package on the shelf; `false` when it lay there already.
    pub(super) fn shelve(&self, name: &TemplateName, der: &[u8]) -> Result<bool, Fault> {
        shelve_on(&self.shelf()?, name, der)
    }

    /// Tells what was added, its findings first; those of what lay there already were told when it came.
    pub(super) fn added(
        &self,
        name: Option<&TemplateName>,
        der: &[u8],
        lint: &Lint,
        is_new: bool,
    ) -> Result<Exit, Fault> {
        if is_new {
            warn(lint);
        }
        let sha256 = sha256_hex(der);
        if self.json {
            let name = name.map(TemplateName::to_string);
            print_json(&json!({"template": name, "bytes": der.len(), "sha256": sha256, "already_there": !is_new,
                               "findings": lint.findings}))?;
        } else {
            let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
            let there = if is_new { "" } else { "already there, " };
            let segments = counted(segments(der.len()), "segment");
            say!("{name}{there}{}, {segments}, sha256 {sha256}", octets(der.len()));
        }
        Ok(Exit::Done)
    }
}

fn shelve_on(shelf: &Shelf, name: &TemplateName, der: &[u8]) -> Result<bool, Fault> {
    let is_there = shelf.load(name).is_ok_and(|there| there == der);
    shelf.add(name, der).map_err(shelf_fault)?;
    Ok(!is_there)
}

/// The first error that keeps a package off the shelf: it cannot be read, has no header, or asks for what no card can hold.
pub(super) fn unusable(lint: &Lint) -> Option<&Finding> {
    let is_unusable = |rule: &str| matches!(rule, "D01" | "H01" | "F09");
    lint.findings.iter().find(|finding| finding.severity == Severity::Error && is_unusable(finding.rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::saip::source;

    #[test]
    fn the_same_package_again_is_already_there() {
        let dir = tempfile::tempdir().unwrap();
        let shelved = Shelf::open(dir.path().join("templates"));
        let (name, der) = ("boot@1".parse().unwrap(), source::build(source::preset("bootstrap").unwrap()).unwrap());
        assert!(shelve_on(&shelved, &name, &der).unwrap());
        assert!(!shelve_on(&shelved, &name, &der).unwrap());
        assert_eq!(shelve_on(&shelved, &name, &der[..9]).unwrap_err().exit, Exit::DuplicateConflict);
    }
}
