//! `bindery template lint`.

use std::io::{self, Write};

use super::Desk;
use crate::cli::screen::{print_json, table};
use crate::error::{Exit, Fault};
use crate::formats::saip::lint::{Lint, Severity, lint};

impl Desk<'_> {
    pub(super) fn lint(&self, template: &str) -> Result<Exit, Fault> {
        let lint = lint(&self.resolve(template)?);
        if self.json {
            print_json(&lint)?;
        } else if lint.findings.is_empty() {
            say!("{} rules ran, nothing found", lint.rules_run);
        } else {
            let mut table = table(&["rule", "severity", "element", "offset", "message", "what to do"]);
            for finding in &lint.findings {
                let severity = severity_word(finding.severity);
                table.add_row([
                    finding.rule,
                    severity,
                    &finding.element,
                    &finding.offset.to_string(),
                    &finding.message,
                    finding.hint,
                ]);
            }
            say!("{table}\n{} rules ran, {} findings", lint.rules_run, lint.findings.len());
        }
        Ok(if lint.has_errors() { Exit::IntegrityFailure } else { Exit::Done })
    }
}

/// Findings that do not keep a template off the shelf.
pub(super) fn warn(lint: &Lint) {
    for finding in &lint.findings {
        let word = severity_word(finding.severity);
        let where_ = format!("{} at offset {}", finding.element, finding.offset);
        let _ = writeln!(io::stderr(), "{word} {}: {where_}: {}\n  {}", finding.rule, finding.message, finding.hint);
    }
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}
