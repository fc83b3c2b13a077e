//! A key file read line by line, for callers that judge its keys themselves.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::keys::{KeyLine, KeyRefusal, decode, read_line};
use crate::error::Fault;

/// The lines of an `euicc.jsonl`; blank ones are passed over.
pub struct KeyFile {
    reader: BufReader<File>,
    path: PathBuf,
    line_no: u64,
}

/// A line that is no key.
#[derive(Debug)]
pub struct BadLine {
    /// 1-based.
    pub line_no: u64,
    /// What is wrong with it.
    pub refusal: KeyRefusal,
}

impl KeyFile {
    /// Opens the file.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let file = File::open(path).map_err(|e| Fault::file(path, &e).hint("name the eUICC maker's key file"))?;
        Ok(Self { reader: BufReader::with_capacity(256 * 1024, file), path: path.to_owned(), line_no: 0 })
    }
}

impl Iterator for KeyFile {
    type Item = Result<Result<KeyLine, BadLine>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = Vec::new();
        loop {
            match read_line(&mut self.reader, &mut text) {
                Ok(false) => return None,
                Ok(true) => self.line_no += 1,
                Err(e) => return Some(Err(Fault::file(&self.path, &e))),
            }
            if !text.iter().all(u8::is_ascii_whitespace) {
                let bad = |(_, refusal)| BadLine { line_no: self.line_no, refusal };
                return Some(Ok(decode(&text, self.line_no).map_err(bad)));
            }
        }
    }
}
