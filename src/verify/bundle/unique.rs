//! What must not stand twice in a bundle. Values are kept as salted fingerprints: 16 octets each, and a memory dump of the judge
//! tells no key. Beyond some thousands they are dealt to temporary files by their first bits, so that equal ones meet in one file,
//! and each file is sorted on its own.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

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

impl Column {
    const ALL: [Self; 11] = [
        Self::Iccid,
        Self::Imsi,
        Self::Eid,
        Self::TransactionId,
        Self::EuiccOtpk,
        Self::MatchingId,
        Self::DpOtpk,
        Self::ProfileKey,
        Self::K,
        Self::Opc,
        Self::OtaKey,
    ];
}

/// A value that was seen, and the record that had it.
type Sight = (Column, Print, u32);

/// Values in memory at most before they are dealt to the files.
const HELD: usize = 1 << 16;
const FILES: usize = 64;
const SIGHT_LEN: usize = 1 + 16 + 4;

/// Everything seen, by column, with the record that had it.
#[derive(Default)]
pub(super) struct Seen {
    held: Vec<Sight>,
    files: Vec<BufWriter<File>>,
    /// The first that went wrong with the files; told by [`Self::twice`].
    failed: Option<io::Error>,
}

impl Seen {
    pub(super) fn add(&mut self, column: Column, print: Print, record: u32) {
        self.held.push((column, print, record));
        if self.held.len() >= HELD
            && self.failed.is_none()
            && let Err(e) = self.deal()
        {
            self.failed = Some(e);
        }
    }

    /// Pairs of records that share a value: the first that had it, and each later one.
    pub(super) fn twice(mut self) -> io::Result<Vec<(Column, u32, u32)>> {
        let mut pairs = Vec::new();
        if self.files.is_empty() {
            pairs_of(&mut self.held, &mut pairs);
        } else {
            self.deal()?;
        }
        if let Some(e) = self.failed {
            return Err(e);
        }
        for file in self.files {
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.seek(SeekFrom::Start(0))?;
            let mut octets = Vec::new();
            file.read_to_end(&mut octets)?;
            let (sights, _) = octets.as_chunks::<SIGHT_LEN>();
            let mut sights: Vec<Sight> = sights.iter().filter_map(read_sight).collect();
            drop(octets);
            pairs_of(&mut sights, &mut pairs);
        }
        pairs.sort_unstable();
        Ok(pairs)
    }

    fn deal(&mut self) -> io::Result<()> {
        while self.files.len() < FILES {
            self.files.push(BufWriter::new(tempfile::tempfile()?));
        }
        for (column, print, record) in self.held.drain(..) {
            let mut octets = [0; SIGHT_LEN];
            octets[0] = column as u8;
            octets[1..17].copy_from_slice(&print.to_be_bytes());
            octets[17..].copy_from_slice(&record.to_be_bytes());
            if let Some(file) = self.files.get_mut((print >> 122) as usize) {
                file.write_all(&octets)?;
            }
        }
        Ok(())
    }
}

fn read_sight(octets: &[u8; SIGHT_LEN]) -> Option<Sight> {
    let column = *Column::ALL.get(usize::from(octets[0]))?;
    let (print, record) = octets[1..].split_at(16);
    Some((column, u128::from_be_bytes(print.try_into().ok()?), u32::from_be_bytes(record.try_into().ok()?)))
}

fn pairs_of(sights: &mut [Sight], pairs: &mut Vec<(Column, u32, u32)>) {
    sights.sort_unstable();
    let same = |a: &Sight, b: &Sight| (a.0, a.1) == (b.0, b.1);
    let groups = sights.chunk_by(same).filter(|group| group.len() > 1);
    pairs.extend(groups.flat_map(|group| group[1..].iter().map(|later| (later.0, group[0].2, later.2))));
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
        assert_eq!(seen.twice().unwrap(), [(Column::Imsi, 0, 2), (Column::Imsi, 0, 4)]);
    }

    #[test]
    fn far_more_values_than_memory_holds_are_compared_all_the_same() {
        let salt = Salt::random().unwrap();
        let mut seen = Seen::default();
        let records = 2 * HELD as u32 + 100;
        for record in 0..records {
            for column in Column::ALL {
                // Of two K's alone the first stands in a file already when the second comes.
                let value = if (column, record) == (Column::K, records - 1) { 7 } else { record };
                seen.add(column, salt.print(&[&value.to_be_bytes()]), record);
            }
        }
        assert_eq!(seen.twice().unwrap(), [(Column::K, 7, records - 1)]);
    }

    #[test]
    fn parts_do_not_run_together() {
        let salt = Salt::random().unwrap();
        assert_ne!(salt.print(&[b"ab", b"c"]), salt.print(&[b"a", b"bc"]));
    }
}
