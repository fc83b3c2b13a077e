//! What commands print: one JSON object for programs, tables and wrapped text of 100 columns for people.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;

use comfy_table::{ContentArrangement, Table, presets};

use crate::error::{Exit, Fault};

/// `println!` for results, as [`put`].
macro_rules! say {
    ($($argument:tt)*) => { $crate::cli::screen::put(format_args!("{}\n", format_args!($($argument)*))) };
}

/// `eprintln!` that does not panic when nobody listens any more, as behind a terminal that was closed.
macro_rules! tell {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), $($argument)*);
    }};
}

/// Why the result did not reach stdout; the first reason.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Writes a part of the result to stdout. The work is done by then: what cannot be written is told at the end ([`unwritten`]); a
/// reader that went away (`bindery status | head -1`) is no failure.
pub(crate) fn put(text: fmt::Arguments<'_>) {
    note(io::stdout().lock().write_fmt(text));
}

fn note(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = UNWRITTEN.set(error.to_string());
    }
}

/// Ends the output; why not all of it was written, if so.
pub(super) fn unwritten() -> Option<&'static str> {
    note(io::stdout().flush());
    UNWRITTEN.get().map(String::as_str)
}

/// Columns of everything printed for people.
pub(super) const COLUMNS: usize = 100;

/// Writes one JSON object and a newline to stdout.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Fault> {
    let text = serde_json::to_string(value).map_err(|e| Fault::new(Exit::Bug, format!("result is not JSON: {e}")))?;
    say!("{text}");
    Ok(())
}

/// A table without lines that wraps inside its cells.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(COLUMNS as u16);
    table.set_header(header.iter().copied());
    table
}

/// Text broken at blanks, and inside words that are longer than a line, there behind a comma if there is one; `indent` columns stand before every line but the first.
pub(super) fn wrapped(text: &str, columns: usize, indent: usize) -> String {
    let room = columns.saturating_sub(indent).max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut len = 0;
    for word in text.split_whitespace() {
        let mut word = word;
        let mut word_len = word.chars().count();
        if len > 0 && len + 1 + word_len > room {
            lines.push(std::mem::take(&mut line));
            len = 0;
        }
        while word_len > room {
            let most = word.char_indices().nth(room).map_or(word.len(), |(at, _)| at);
            let at = word[..most].rfind(',').map_or(most, |comma| comma + 1);
            lines.push(word[..at].to_owned());
            word = &word[at..];
            word_len = word.chars().count();
        }
        if len > 0 {
            line.push(' ');
            len += 1;
        }
        line.push_str(word);
        len += word_len;
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines.join(&format!("\n{:indent$}", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_its_columns() {
        let mut table = table(&["a", "b"]);
        table.add_row(["word ".repeat(40), "x".repeat(120)]);
        assert!(table.to_string().lines().all(|line| line.chars().count() <= COLUMNS));
    }

    #[test]
    fn text_is_broken_at_blanks_and_inside_words_longer_than_a_line() {
        assert_eq!(wrapped("one two three", 9, 2), "one two\n  three");
        assert_eq!(wrapped("abcdefghij k", 6, 2), "abcd\n  efgh\n  ij k");
        assert_eq!(wrapped("ab,cd,efgh", 8, 2), "ab,cd,\n  efgh");
        assert_eq!(wrapped("", 6, 2), "");
    }
}
