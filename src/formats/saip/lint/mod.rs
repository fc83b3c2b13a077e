//! Rules a template is checked against before it goes on the shelf: what an eUICC would refuse, and what would make a dead card.
//!
//! A rule is one function in the file of its theme, listed in that file's `RULES`. The report says how many rules ran, not only
//! how many failed. Numbers and severities are those of the project's rule list; sources are SAIP clauses.
//!
//! What needs more than the package is no rule here: A04 (OPc follows from K and OP) asks for the operator's OP, and that no key,
//! IMSI or ICCID stands twice asks for the batch. Both run on the finished packages, in the audit of a batch. A06 (no key is a
//! placeholder) is asked here of packages that go into the field as they are, and again by that audit of each finished one.

mod aka;
mod applets;
mod applications;
mod codes;
mod contents;
mod contexts;
mod files;
mod identity;
mod ims;
mod keys;
mod order;
mod placeholders;
mod services;
mod sizes;
mod structure;
mod suci;
mod target;
mod templates;
mod tree;
mod usim;

use serde::Serialize;

use super::package::{Element, Package};
use super::path;
use super::types::{self, Examination};
use crate::formats::rsp::euicc_info2::EuiccInfo2;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Works, but probably not as meant.
    Warning,
    /// An eUICC will refuse it, or the card will be dead.
    Error,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Id of the rule.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The element: name and id.
    pub element: String,
    /// Octets from the start of the package.
    pub offset: usize,
    /// Names down to that place: `usim/ef-imsi/fillFileContent`.
    pub path: String,
    /// What is wrong there.
    pub message: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub hint: &'static str,
}

/// The answer of [`lint`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lint {
    /// How many rules ran.
    pub rules_run: usize,
    /// What they found, in rule order.
    pub findings: Vec<Finding>,
}

impl Lint {
    /// A finding is an error.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// What a package is checked for, besides itself.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The package goes into the field as it is: trivial codes and test values count.
    pub production: bool,
    /// The eUICC it is meant for: the X rules run.
    pub target: Option<EuiccInfo2>,
}

/// Findings of one rule that are told one by one; how many more there are is told in one line.
const MOST_FINDINGS: usize = 100;

/// One rule.
pub(super) struct Rule {
    id: &'static str,
    severity: Severity,
    /// What happens on the card or in the field when it is broken.
    why: &'static str,
    hint: &'static str,
    check: fn(&Package<'_>, &mut Report<'_>),
}

/// Where a rule leaves its findings, and what it is asked for.
pub(super) struct Report<'r> {
    rule: &'r Rule,
    /// What the package is checked for.
    pub(super) options: &'r Options,
    /// The files the package makes.
    made: &'r [tree::Made<'r>],
    /// What the typed layer says of each element, in their order.
    examined: &'r [Examination],
    findings: Vec<Finding>,
    untold: usize,
}

impl<'r> Report<'r> {
    fn new(rule: &'r Rule, options: &'r Options, made: &'r [tree::Made<'r>], examined: &'r [Examination]) -> Self {
        Self { rule, options, made, examined, findings: Vec::new(), untold: 0 }
    }

    /// A finding that is less bad than the rule's others.
    fn mild(&mut self, severity: Severity, element: &Element<'_>, offset: usize, message: String) {
        if self.has_room() {
            self.push(element.label(), offset, message);
            self.findings.iter_mut().last().into_iter().for_each(|finding| finding.severity = severity);
        }
    }

    /// A finding inside an element.
    fn at(&mut self, element: &Element<'_>, offset: usize, message: impl Into<String>) {
        if self.has_room() {
            self.push(element.label(), offset, message.into());
        }
    }

    /// A finding about a whole element.
    fn on(&mut self, element: &Element<'_>, message: impl Into<String>) {
        self.at(element, element.tlv.offset, message);
    }

    /// A finding about the package.
    fn package(&mut self, message: impl Into<String>) {
        if self.has_room() {
            self.push(PACKAGE.to_owned(), 0, message.into());
        }
    }

    fn has_room(&mut self) -> bool {
        let has_room = self.findings.len() < MOST_FINDINGS;
        self.untold += usize::from(!has_room);
        has_room
    }

    fn push(&mut self, element: String, offset: usize, message: String) {
        let Rule { id, severity, why, hint, .. } = *self.rule;
        // Only findings inside an element have names to walk down to.
        let path = if element == PACKAGE { PACKAGE.to_owned() } else { String::new() };
        self.findings.push(Finding { rule: id, severity, element, offset, path, message, why, hint });
    }

    fn finish(mut self) -> Vec<Finding> {
        if self.untold > 0 {
            self.push(PACKAGE.to_owned(), 0, format!("and {} more", self.untold));
        }
        self.findings
    }
}

/// A number and what it counts: `1 octet`, `2 octets`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    match (count, noun) {
        (1, _) => format!("1 {noun}"),
        (_, "entry") => format!("{count} entries"),
        _ => format!("{count} {noun}s"),
    }
}

/// How the whole package is named as an element and in paths.
const PACKAGE: &str = "package";

/// Checks a package against every rule.
pub fn lint(der: &[u8]) -> Lint {
    lint_with(der, &Options::default())
}

/// Checks a package against every rule, and against what `options` ask for.
pub fn lint_with(der: &[u8], options: &Options) -> Lint {
    let package = match Package::parse(der) {
        Ok(package) if package.elements.is_empty() => return structure::not_der(0, "the file is empty"),
        Ok(package) => package,
        Err(error) => return structure::not_der(error.offset, &error.fault.to_string()),
    };
    // D01 has run: the package is strict DER.
    let mut lint = Lint { rules_run: 1, findings: Vec::new() };
    let made = tree::made(&package);
    let examined: Vec<_> = package.elements.iter().map(types::examine).collect();
    let with_target: &[Rule] = if options.target.is_some() { target::RULES } else { &[] };
    for rule in rules().chain(with_target) {
        let mut report = Report::new(rule, options, &made, &examined);
        (rule.check)(&package, &mut report);
        lint.rules_run += 1;
        lint.findings.append(&mut report.finish());
    }
    name_places(&package, &mut lint.findings);
    lint
}

/// Fills in the paths, in one walk over the package.
fn name_places(package: &Package<'_>, findings: &mut [Finding]) {
    let mut unnamed: Vec<&mut Finding> = findings.iter_mut().filter(|finding| finding.path.is_empty()).collect();
    unnamed.sort_by_key(|finding| finding.offset);
    let offsets: Vec<usize> = unnamed.iter().map(|finding| finding.offset).collect();
    for (finding, path) in unnamed.into_iter().zip(path::paths_of(package, &offsets)) {
        finding.path = path;
    }
}

fn rules() -> impl Iterator<Item = &'static Rule> {
    let themes = [
        structure::RULES,
        identity::RULES,
        services::RULES,
        order::RULES,
        templates::RULES,
        files::RULES,
        contents::RULES,
        codes::RULES,
        contexts::RULES,
        aka::RULES,
        placeholders::RULES,
        keys::RULES,
        applets::RULES,
        usim::RULES,
        sizes::RULES,
        suci::RULES,
        ims::RULES,
    ];
    themes.into_iter().flatten()
}

#[cfg(test)]
mod tests;
