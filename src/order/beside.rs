//! Files beside the order: opened only below its directory, hashed while they are read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

use data_encoding::HEXLOWER;
use openssl::sha::Sha256;

use super::file::FileRef;
use super::json::excerpt;
use crate::store::Refusal;

/// A file and the hash of what was read of it.
pub(super) struct Hashed {
    file: File,
    sha256: Sha256,
}

impl Hashed {
    /// Reads what is left, so that the hash is the whole file's; lower-case hex.
    pub(super) fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(HEXLOWER.encode(&self.sha256.finish()))
    }
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.sha256.update(&buffer[..count]);
        Ok(count)
    }
}

/// Opens a file named in an order; `path` is the member that names it.
pub(super) fn open(directory: &Path, reference: &FileRef, line: u32, path: &str) -> Result<Hashed, Box<Refusal>> {
    let refuse = |code, message: String, hint: &str| {
        let (column, value) = (format!("{path}.file"), excerpt(&reference.file));
        Box::new(Refusal { line, row: 0, column, value, code, message, hint: hint.to_owned() })
    };
    let escape =
        || refuse("path-escape", "leaves the order file's directory".into(), "put the file beside the order file");
    let relative = Path::new(&reference.file);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if reference.file.is_empty() || !plain {
        return Err(escape());
    }
    let missing = |e: io::Error| refuse("file", format!("cannot be opened: {e}"), "put the file beside the order file");
    let base = directory.canonicalize().map_err(missing)?;
    let target = base.join(relative).canonicalize().map_err(missing)?;
    if !target.starts_with(&base) {
        return Err(escape());
    }
    // Before opening: a named pipe would wait for a writer.
    if !target.metadata().map_err(missing)?.is_file() {
        return Err(refuse("file", "is not a regular file".into(), "name a file"));
    }
    Ok(Hashed { file: File::open(&target).map_err(missing)?, sha256: Sha256::new() })
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
