//! `bindery template lint`: what the rules found, the gravest first; each rule says once why it matters and what to do.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Desk, read_file};
use crate::cli::screen::{COLUMNS, print_json, wrapped};
use crate::error::{Exit, Fault};
use crate::formats::rsp::euicc_info2::EuiccInfo2;
use crate::formats::saip::lint::{Finding, Lint, Options, Severity, lint_with};

/// What `lint` is asked for.
#[derive(Args, Debug)]
pub(super) struct LintArgs {
    /// File (DER), NAME[@VERSION] of the shelf, or the name of a preset
    template: String,
    /// The package goes into the field as it is: test values and trivial codes count as well
    #[arg(long)]
    production: bool,
    /// Also whether this eUICC can take it: its EUICCInfo2 (DER, hex or base64, or the JSON of `lpac chip info`)
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,
}

impl Desk<'_> {
    pub(super) fn lint(&self, args: &LintArgs) -> Result<Exit, Fault> {
        let target = args.target.as_deref().map(read_target).transpose()?;
        let options = Options { production: args.production, target };
        let lint = lint_with(&self.resolve(&args.template)?, &options);
        if self.json {
            print_json(&lint)?;
        } else {
            say!("{}", screen(&lint));
        }
        Ok(if lint.has_errors() { Exit::IntegrityFailure } else { Exit::Done })
    }
}

fn read_target(file: &Path) -> Result<EuiccInfo2, Fault> {
    EuiccInfo2::read(&read_file(file)?).map_err(|e| {
        Fault::new(Exit::Config, format!("{}: {e}", file.display()))
            .hint("name the EUICCInfo2 of an eUICC, as GetEUICCInfo answers it")
    })
}

/// Findings that do not keep a template off the shelf.
pub(super) fn warn(lint: &Lint) {
    for finding in &lint.findings {
        let word = severity_word(finding.severity);
        let where_ = format!("{} at offset {}", finding.element, finding.offset);
        let _ = writeln!(io::stderr(), "{word} {}: {where_}: {}\n  {}", finding.rule, finding.message, finding.hint);
    }
}

fn screen(lint: &Lint) -> String {
    let mut text = String::new();
    // Gravest first, then in the order in which the rules ran.
    let mut groups: Vec<(&Finding, Vec<&Finding>)> = Vec::new();
    let mut at: BTreeMap<(&str, Severity), usize> = BTreeMap::new();
    for finding in &lint.findings {
        let group = *at.entry((finding.rule, finding.severity)).or_insert_with(|| {
            groups.push((finding, Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push(finding);
    }
    groups.sort_by_key(|(first, _)| std::cmp::Reverse(first.severity));
    for (rule, findings) in groups {
        text.push_str(&format!("{} {}\n", severity_word(rule.severity), rule.rule));
        for finding in findings {
            let path = Some(&finding.path).filter(|path| !path.is_empty() && **path != finding.element);
            let path = path.map(|path| format!(", {path}")).unwrap_or_default();
            let place = format!("{}, offset {}{path}", finding.element, finding.offset);
            text.push_str(&format!("  {}\n", wrapped(&place, COLUMNS, 4)));
            text.push_str(&format!("    {}\n", wrapped(&finding.message, COLUMNS, 4)));
        }
        for (word, what) in [("why", rule.why), ("fix", rule.hint)] {
            if !what.is_empty() {
                text.push_str(&format!("  {word}: {}\n", wrapped(what, COLUMNS, 7)));
            }
        }
        text.push('\n');
    }
    text + &counts(lint)
}

/// `61 rules ran: 2 errors, 1 warning`.
fn counts(lint: &Lint) -> String {
    let counted = [Severity::Error, Severity::Warning, Severity::Info].map(|severity| {
        let count = lint.findings.iter().filter(|finding| finding.severity == severity).count();
        let plural = if count == 1 || severity == Severity::Info { "" } else { "s" };
        (count, format!("{count} {}{plural}", severity_word(severity)))
    });
    let counted: Vec<_> = counted.into_iter().filter(|(count, _)| *count > 0).map(|(_, words)| words).collect();
    let found = if counted.is_empty() { "nothing found".to_owned() } else { counted.join(", ") };
    let rules = if lint.rules_run == 1 { "rule" } else { "rules" };
    format!("{} {rules} ran: {found}", lint.rules_run)
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::saip::lint::lint;
    use crate::formats::saip::source;

    fn linted(from: &str, to: &str) -> Lint {
        let text = source::preset("bootstrap").unwrap();
        assert!(text.contains(from));
        lint(&source::build(&text.replacen(from, to, 1)).unwrap())
    }

    #[test]
    fn a_rule_says_once_why_and_what_to_do_and_the_gravest_goes_first() {
        let lint = linted("content = \"00 01\"", "content = \"00 00\"");
        let screen = screen(&lint);
        let (first, last) = (screen.lines().next().unwrap(), screen.lines().last().unwrap());
        let order: Vec<_> = screen
            .lines()
            .filter_map(|line| ["error ", "warning ", "info "].iter().position(|word| line.starts_with(word)))
            .collect();
        assert!(order.is_sorted() && !order.is_empty(), "{first}\n{screen}");
        assert!(last.starts_with(&format!("{} rules ran: ", lint.rules_run)), "{last}");
        assert!(screen.contains("usim/ef-acc") && screen.contains("  fix: "), "{screen}");
        assert!(screen.lines().all(|line| line.chars().count() <= COLUMNS), "{screen}");
    }

    #[test]
    fn a_sound_template_gives_one_line() {
        let lint = linted("Bindery bootstrap", "Bindery");
        assert_eq!(screen(&lint), format!("{} rules ran: nothing found", lint.rules_run));
    }

    /// The contract of `--json`: other members may come, these stay.
    #[test]
    fn json_has_the_members_programs_rely_on() {
        let json = serde_json::to_value(linted("content = \"00 01\"", "content = \"00 00\"")).unwrap();
        assert!(json["rules_run"].as_u64().unwrap() > 0);
        let finding = &json["findings"][0];
        for member in ["rule", "severity", "element", "offset", "message", "hint", "path", "why"] {
            assert!(!finding[member].is_null(), "{member} in {finding}");
        }
        assert!(["error", "warning", "info"].contains(&finding["severity"].as_str().unwrap()));
    }
}
