//! What the audit key signs: four short lines that name a head. Text, so that a person can read it and every tool can check it.

use std::str::FromStr;

use data_encoding::HEXLOWER;
use jiff::Timestamp;

use super::line::Head;

const FIRST_LINE: &str = "bindery.audit-head/1";

/// A head, to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The head.
    pub head: Head,
    /// When it was the last.
    pub at: Timestamp,
}

impl Statement {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{FIRST_LINE}\nseq {}\nsha256 {}\nat {}\n", self.head.seq, self.head.hex(), self.at)
    }
}

impl FromStr for Statement {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let mut lines = text.split('\n');
            let is_ours = lines.next()? == FIRST_LINE;
            let seq = lines.next()?.strip_prefix("seq ")?.parse().ok()?;
            let sha256 = HEXLOWER.decode(lines.next()?.strip_prefix("sha256 ")?.as_bytes()).ok()?;
            let at = lines.next()?.strip_prefix("at ")?.parse().ok()?;
            let statement = Self { head: Head { seq, sha256: sha256.try_into().ok()? }, at };
            (is_ours && statement.text() == text).then_some(statement)
        };
        read().ok_or_else(|| "is no statement of a head".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_read_back_and_has_one_spelling() {
        let statement = Statement { head: Head { seq: 7, sha256: [0xAB; 32] }, at: Timestamp::UNIX_EPOCH };
        let text = statement.text();
        assert_eq!(text.lines().nth(1), Some("seq 7"));
        assert_eq!(text.parse(), Ok(statement));
        for other in
            [text.replace("seq 7", "seq 07"), text.replace("ab", "AB"), format!("{text}\n"), text.replace("/1", "/2")]
        {
            assert!(other.parse::<Statement>().is_err(), "{other}");
        }
    }
}
