//! What the judge hands back, and how many packages it looked into.

use crate::error::{Exit, Fault};
use crate::verify::finding::{Check, Finding, Findings, Scope};

/// How many packages are opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// All of them.
    All,
    /// This share, at least one, chosen at random.
    Percent(f64),
}

impl std::str::FromStr for Sample {
    type Err = String;

    /// `1%`, `0.5%`, `100%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
        match number {
            Some(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self::Percent(percent)),
            _ => Err(format!("{text:?} is not a share such as 1% or 0.5%")),
        }
    }
}

impl Sample {
    /// Which of `from` to open; the order of `from` is kept. The choice is OpenSSL's random source's, so nobody can foresee it.
    pub(super) fn choose(self, mut from: Vec<usize>) -> Result<Vec<usize>, Fault> {
        let Self::Percent(percent) = self else { return Ok(from) };
        let wanted =
            ((from.len() as f64 * percent / 100.0).ceil() as usize).clamp(1, from.len().max(1)).min(from.len());
        for i in 0..wanted {
            let other = i + random_below((from.len() - i) as u64)? as usize;
            from.swap(i, other);
        }
        from.truncate(wanted);
        from.sort_unstable();
        Ok(from)
    }
}

/// Evenly distributed in `0..bound`: values from the incomplete last stretch are drawn again.
fn random_below(bound: u64) -> Result<u64, Fault> {
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let mut octets = [0; 8];
        openssl::rand::rand_bytes(&mut octets).map_err(|e| Fault::new(Exit::Bug, format!("no randomness: {e}")))?;
        let value = u64::from_be_bytes(octets);
        if value < limit {
            return Ok(value % bound);
        }
    }
}

/// One line of the table: a check, on how many objects it looked, what it found.
#[derive(Clone, Copy, Debug)]
pub struct Total {
    /// The check.
    pub check: Check,
    /// Objects it looked at: the bundle, records, or packages.
    pub looked_at: u64,
    /// Findings.
    pub findings: u64,
}

/// The verdict and what it rests on.
#[derive(Debug)]
pub struct Report {
    /// Records of `orders.jsonl`.
    pub records: u64,
    /// Of them, those with a bound package.
    pub packages: u64,
    /// Packages that were opened, successfully or not.
    pub checked: u64,
    /// One line per check that was made.
    pub totals: Vec<Total>,
    /// What is wrong; of a flood only the first thousand.
    pub findings: Vec<Finding>,
    /// What could not be compared, and why: no fault of the bundle.
    pub notes: Vec<String>,
}

impl Report {
    pub(super) fn new(
        records: u64,
        packages: u64,
        judged: u64,
        checked: u64,
        found: (Findings, Vec<String>),
        has_order: bool,
    ) -> Self {
        let (findings, notes) = found;
        let looked_at = |check: Check| match check.scope() {
            Scope::Bundle => 1,
            Scope::Record => judged,
            Scope::Package => checked,
        };
        let total =
            |check: &Check| Total { check: *check, looked_at: looked_at(*check), findings: findings.total(*check) };
        let totals = Check::ALL.iter().filter(|check| has_order || !check.needs_order()).map(total).collect();
        Self { records, packages, checked, totals, findings: findings.into_kept(), notes }
    }

    /// Nothing at all was found.
    pub fn is_pass(&self) -> bool {
        self.totals.iter().all(|total| total.findings == 0)
    }

    /// `PASS` or `FAIL`.
    pub fn verdict(&self) -> &'static str {
        if self.is_pass() { "PASS" } else { "FAIL" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_and_at_least_one() {
        let choose = |text: &str, n: usize| text.parse::<Sample>().unwrap().choose((0..n).collect()).unwrap();
        assert_eq!(choose("1%", 50).len(), 1);
        assert_eq!(choose("1%", 250).len(), 3);
        assert_eq!(choose("100%", 7), (0..7).collect::<Vec<_>>());
        assert!(choose("1%", 0).is_empty());
        assert!(choose("10%", 1_000).is_sorted());
        for text in ["1", "0%", "101%", "-1%", "x%", "NaN%", ""] {
            assert!(text.parse::<Sample>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_choice_is_not_the_same_each_time() {
        let choose = || Sample::Percent(10.0).choose((0..1_000).collect()).unwrap();
        assert_ne!(choose(), choose());
    }
}
