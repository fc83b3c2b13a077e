//! What must not stand twice in a bundle. Values are kept as salted fingerprints: 16 octets each, and a memory dump of the judge
//! tells no key.

use openssl::error::ErrorStack;
use openssl::sha::Sha256;

/// Makes fingerprints that mean nothing outside this run.
pub(super) struct Salt([u8; 32]);

/// 128 bits of a salted SHA-256.
pub(super) type Print = u128;

impl Salt {
    pub(super) fn random() -> Result<Self, ErrorStack> {
        let mut salt = [0; 32];
        openssl::rand::rand_bytes(&mut salt)?;
        Ok(Self(salt))
    }

    pub(super) fn print(&self, parts: &[&[u8]]) -> Print {
        let mut hash = Sha256::new();
        hash.update(&self.0);
        for part in parts {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finish();
        digest[..16].iter().fold(0, |print, octet| print << 8 | u128::from(*octet))
    }
}

/// The columns in which a value may stand once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Iccid,
    Imsi,
    Eid,
    TransactionId,
    EuiccOtpk,
    MatchingId,
    DpOtpk,
    ProfileKey,
    K,
    Opc,
    OtaKey,
}

impl Column {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Iccid => "ICCID",
            Self::Imsi => "IMSI",
            Self::Eid => "EID",
            Self::TransactionId => "transaction id",
            Self::EuiccOtpk => "one-time key of the eUICC",
            Self::MatchingId => "matching id",
            Self::DpOtpk => "one-time key of the SM-DP+",
            Self::ProfileKey => "key of the profile segments",
            Self::K => "K",
            Self::Opc => "OPc",
            Self::OtaKey => "OTA key",
        }
    }
}

/// Everything seen, by column, with the record that had it.
#[derive(Default)]
pub(super) struct Seen(Vec<(Column, Print, u32)>);

impl Seen {
    pub(super) fn add(&mut self, column: Column, print: Print, record: u32) {
        self.0.push((column, print, record));
    }

    /// Pairs of records that share a value: the first that had it, and each later one.
    pub(super) fn twice(mut self) -> Vec<(Column, u32, u32)> {
        self.0.sort_unstable();
        let same = |a: &(Column, Print, u32), b: &(Column, Print, u32)| (a.0, a.1) == (b.0, b.1);
        let groups = self.0.chunk_by(same).filter(|group| group.len() > 1);
        groups.flat_map(|group| group[1..].iter().map(|later| (later.0, group[0].2, later.2))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_twice_in_one_column_is_told_with_both_records() {
        let salt = Salt::random().unwrap();
        let mut seen = Seen::default();
        for (record, value) in (0..).zip([b"a", b"b", b"a", b"c", b"a"]) {
            seen.add(Column::Imsi, salt.print(&[value]), record);
            seen.add(Column::Eid, salt.print(&[value, &[record as u8]]), record);
        }
        seen.add(Column::K, salt.print(&[b"a"]), 9);
        assert_eq!(seen.twice(), [(Column::Imsi, 0, 2), (Column::Imsi, 0, 4)]);
    }

    #[test]
    fn parts_do_not_run_together() {
        let salt = Salt::random().unwrap();
        assert_ne!(salt.print(&[b"ab", b"c"]), salt.print(&[b"a", b"bc"]));
    }
}
