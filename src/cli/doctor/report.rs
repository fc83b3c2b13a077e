//! Findings, in the order of the screen, and how they are shown.

use serde_json::json;

use super::slots::Slot;
use crate::error::{Exit, Fault};

/// Columns and lines of the screen.
pub(super) const COLUMNS: usize = 80;
const LINES: usize = 24;
/// Columns before a line's text.
const MARGIN: usize = 16;

/// All findings, in the order of the screen.
#[derive(Debug, Default)]
pub struct Report {
    pub(super) findings: Vec<Finding>,
    pub(super) slots: Vec<Slot>,
}

#[derive(Debug)]
pub(super) struct Finding {
    name: &'static str,
    pub(super) state: State,
    text: String,
    hint: Option<String>,
    /// What the screen says in place of what does not fit.
    rest: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ok,
    Warn,
    Fail(Exit),
}

impl Report {
    /// The code of the gravest failure.
    pub fn exit(&self) -> Exit {
        let failed = |exit| self.findings.iter().any(|f| f.state == State::Fail(exit));
        [Exit::HsmUnusable, Exit::CertificateExpired, Exit::IntegrityFailure, Exit::Config]
            .into_iter()
            .find(|exit| failed(*exit))
            .unwrap_or(Exit::Done)
    }

    /// For programs: nothing is cut.
    pub fn to_json(&self) -> serde_json::Value {
        let checks: Vec<_> = self
            .findings
            .iter()
            .map(|f| json!({ "name": f.name, "state": f.state.as_str(), "text": f.text, "hint": f.hint }))
            .collect();
        json!({ "checks": checks, "slots": self.slots, "exit": self.exit() as u8 })
    }

    /// For people: at most 24 lines of 80 columns, however much is wrong.
    pub fn to_screen(&self) -> String {
        let mut lines = Vec::new();
        // What is right gives way first.
        for (wrong, right) in [(3, 3), (3, 2), (3, 1), (2, 1), (1, 1)] {
            let most = |finding: &Finding| if finding.state == State::Ok { right } else { wrong };
            lines = self.findings.iter().flat_map(|finding| finding.lines(most(finding))).collect();
            if lines.len() < LINES {
                break;
            }
        }
        lines.truncate(LINES - 1);
        lines.push(match self.exit() {
            Exit::Done => "fit to work".to_owned(),
            exit => format!("not fit to work (exit {})", exit as u8),
        });
        lines.join("\n") + "\n"
    }

    pub(super) fn add(&mut self, name: &'static str, state: State, text: impl Into<String>) -> &mut Finding {
        self.findings.push(Finding { name, state, text: text.into(), hint: None, rest: "..." });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    pub(super) fn fault(&mut self, name: &'static str, fault: &Fault) {
        self.add(name, State::Fail(fault.exit), &fault.what).hint.clone_from(&fault.hint);
    }
}

impl Finding {
    pub(super) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// Where the screen sends the reader for what does not fit.
    pub(super) fn rest(&mut self, rest: &'static str) -> &mut Self {
        self.rest = rest;
        self
    }

    /// Text and hint, each on `most` lines at most.
    fn lines(&self, most: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for (i, part) in wrapped(&self.text, COLUMNS - MARGIN, most, self.rest).into_iter().enumerate() {
            let head = if i == 0 { format!("{:<4} {}", self.state.as_str(), self.name) } else { String::new() };
            lines.push(format!("{head:<MARGIN$}{part}"));
        }
        if self.state != State::Ok
            && let Some(hint) = &self.hint
        {
            let parts = wrapped(&format!("-> {hint}"), COLUMNS - MARGIN, most, "...");
            lines.extend(parts.into_iter().map(|part| format!("{:MARGIN$}{part}", "")));
        }
        lines
    }
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail(_) => "FAIL",
        }
    }
}

/// Breaks at blanks, and inside words that are longer than a line. What does not fit into `most` lines is left out in whole
/// words, and `rest` stands there.
fn wrapped(text: &str, width: usize, most: usize, rest: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(width) {
            let piece: String = piece.iter().collect();
            let last = lines.len() - 1;
            let used = lines[last].chars().count();
            if used == 0 {
                lines[last] = piece;
            } else if used + 1 + piece.chars().count() <= width {
                lines[last] = format!("{} {piece}", lines[last]);
            } else {
                lines.push(piece);
            }
        }
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            let room = width.saturating_sub(1 + rest.chars().count());
            while last.chars().count() > room {
                match last.rfind(' ') {
                    Some(blank) => last.truncate(blank),
                    None => *last = last.chars().take(room).collect(), // one word, a path or a label
                }
            }
            *last = format!("{last} {rest}");
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_never_grows_past_24_lines_of_80_columns() {
        let mut report = Report::default();
        for _ in 0..18 {
            let fault =
                Fault::new(Exit::Config, "something long is wrong ".repeat(20)).hint("do this or that ".repeat(20));
            report.fault("mechanisms", &fault);
        }
        let screen = report.to_screen();
        assert!(screen.lines().count() <= LINES);
        assert!(screen.lines().all(|line| line.chars().count() <= COLUMNS));
        assert!(screen.ends_with("not fit to work (exit 3)\n"));
    }

    #[test]
    fn what_does_not_fit_is_left_out_word_by_word_and_the_reader_sent_on() {
        let lines = wrapped("CKM_ONE: handled; CKM_TWO: refused", 20, 1, "see there");
        assert_eq!(lines, ["CKM_ONE: see there"]);
        assert_eq!(wrapped("CKM_ONE: handled", 20, 1, "see there"), ["CKM_ONE: handled"]);
        assert_eq!(wrapped(&"x".repeat(50), 20, 1, "..."), [format!("{} ...", "x".repeat(16))]);
    }

    #[test]
    fn the_gravest_failure_gives_the_exit_code() {
        let mut report = Report::default();
        assert_eq!(report.exit(), Exit::Done);
        report.add("disk", State::Warn, "");
        assert_eq!(report.exit(), Exit::Done);
        for (exit, expected) in [
            (Exit::Config, Exit::Config),
            (Exit::CertificateExpired, Exit::CertificateExpired),
            (Exit::IntegrityFailure, Exit::CertificateExpired),
            (Exit::HsmUnusable, Exit::HsmUnusable),
        ] {
            report.add("x", State::Fail(exit), "");
            assert_eq!(report.exit(), expected);
        }
    }
}
