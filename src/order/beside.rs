//! The order file and the files beside it: regular, bounded, judged by the handle that is read; those beside it opened only
//! below its directory and hashed while they are read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use data_encoding::HEXLOWER;
use openssl::sha::Sha256;

use super::file::FileRef;
use super::json::excerpt;
use crate::durable;
use crate::store::Refusal;

/// A file and the hash of what was read of it.
pub(super) struct Hashed {
    file: File,
    sha256: Sha256,
    /// Octets that may still come; the file had no more when it was opened.
    left: u64,
    /// Octets read since [`Self::begin_record`].
    in_record: u64,
    most_in_record: u64,
}

impl Hashed {
    /// The reader above has a whole record, or none yet.
    pub(super) fn begin_record(&mut self) {
        self.in_record = 0;
    }

    /// From here on reading fails when a record does not end within so many octets, else its reader would keep them all.
    pub(super) fn limit_records(&mut self, octets: u64) {
        self.most_in_record = octets;
    }

    /// A record did not end in time.
    pub(super) fn is_overlong(&self) -> bool {
        self.in_record > self.most_in_record
    }

    /// Reads what is left, so that the hash is the whole file's; lower-case hex.
    pub(super) fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(HEXLOWER.encode(&self.sha256.finish()))
    }
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.in_record = self.in_record.saturating_add(count as u64);
        if self.is_overlong() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a record does not end"));
        }
        let grown = || io::Error::new(io::ErrorKind::InvalidData, "the file grew while it was read");
        self.left = self.left.checked_sub(count as u64).ok_or_else(grown)?;
        self.sha256.update(&buffer[..count]);
        Ok(count)
    }
}

/// Opens a file named in an order; `path` is the member that names it. More than `most_octets` are refused unread.
pub(super) fn open(
    directory: &Path,
    reference: &FileRef,
    line: u32,
    path: &str,
    most_octets: u64,
) -> Result<Hashed, Box<Refusal>> {
    let refuse = |code, message: String, hint: &str| {
        let (column, value) = (format!("{path}.file"), excerpt(&reference.file));
        Box::new(Refusal { line, row: 0, column, value, code, message, hint: hint.to_owned() })
    };
    let escape =
        || refuse("path-escape", "leaves the order file's directory".into(), "put the file beside the order file");
    let missing = |e: io::Error| refuse("file", format!("cannot be opened: {e}"), "put the file beside the order file");
    let (file, octets) = durable::open_below(directory, &reference.file).map_err(missing)?.ok_or_else(escape)?;
    if octets > most_octets {
        let message = format!("has {octets} octets, at most {most_octets} make sense for the quantity of the line");
        return Err(refuse("file-too-large", message, "name the line's own file, without what it does not need"));
    }
    Ok(Hashed { file, sha256: Sha256::new(), left: octets, in_record: 0, most_in_record: u64::MAX })
}

/// Compares the hash of the octets that were used with the one in the order.
pub(super) fn compare(found: &str, reference: &FileRef, line: u32, path: &str) -> Option<Refusal> {
    (found != reference.sha256).then(|| Refusal {
        line,
        row: 0,
        column: format!("{path}.sha256"),
        value: reference.sha256.clone(),
        code: "sha256-mismatch",
        message: format!("{} has SHA-256 {found}", excerpt(&reference.file)),
        hint: "the file was changed or cut off on its way: send it again, or correct the hash".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(octets: u64) -> (tempfile::TempDir, Hashed) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows.csv");
        File::create(&path).unwrap().set_len(octets).unwrap();
        let reference = FileRef { file: "rows.csv".into(), sha256: String::new() };
        let hashed = open(directory.path(), &reference, 1, "rows", octets).unwrap();
        (directory, hashed)
    }

    #[test]
    fn reading_stops_where_a_record_should_have_ended() {
        let (_directory, mut file) = opened(1 << 30);
        file.limit_records(1_000);
        let mut buffer = [0; 600];
        assert_eq!(file.read(&mut buffer).unwrap(), 600);
        file.begin_record();
        assert_eq!(file.read(&mut buffer).unwrap(), 600);
        assert!(file.read(&mut buffer).is_err() && file.is_overlong());
    }

    #[test]
    fn a_file_that_grows_is_not_read_further() {
        let (directory, file) = opened(1_000);
        File::options().write(true).open(directory.path().join("rows.csv")).unwrap().set_len(1 << 40).unwrap();
        assert!(file.finish().unwrap_err().to_string().contains("grew"));
    }
}
