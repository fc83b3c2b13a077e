//! `bindery template add`: a foreign package goes on the shelf; what no record could be made from does not.

use std::path::Path;

use serde_json::json;

use super::lint::warn;
use super::{Desk, SEGMENT, read_file, shelf_fault, template_name};
use crate::cli::screen::print_json;
use crate::error::{Exit, Fault};
use crate::formats::saip::lint::{Lint, Severity, lint};
use crate::personalise::shelf::TemplateName;

impl Desk<'_> {
    pub(super) fn add(&self, file: &Path, name: &str) -> Result<Exit, Fault> {
        let name = template_name(name)?;
        let der = read_file(file)?;
        self.put(&name, &der, &lint(&der))
    }

    pub(super) fn put(&self, name: &TemplateName, der: &[u8], lint: &Lint) -> Result<Exit, Fault> {
        let unusable = |rule: &str| matches!(rule, "D01" | "H01" | "F09");
        let errors = || lint.findings.iter().filter(|finding| finding.severity == Severity::Error);
        if let Some(finding) = errors().find(|finding| unusable(finding.rule)) {
            let what = format!("{} at offset {}: {}", finding.rule, finding.offset, finding.message);
            return Err(Fault::new(Exit::IntegrityFailure, what).hint(finding.hint));
        }
        self.shelf()?.add(name, der).map_err(shelf_fault)?;
        warn(lint);
        self.added(Some(name), der, lint)
    }

    pub(super) fn added(&self, name: Option<&TemplateName>, der: &[u8], lint: &Lint) -> Result<Exit, Fault> {
        let sha256 = data_encoding::HEXLOWER.encode(&openssl::sha::sha256(der));
        if self.json {
            let name = name.map(TemplateName::to_string);
            print_json(&json!({"template": name, "bytes": der.len(), "sha256": sha256, "findings": lint.findings}))?;
        } else {
            let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
            say!("{name}{} octets, {} segments, sha256 {sha256}", der.len(), der.len().div_ceil(SEGMENT));
        }
        Ok(Exit::Done)
    }
}
