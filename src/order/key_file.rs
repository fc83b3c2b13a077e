//! A key file read line by line, for callers that judge its keys themselves.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::keys::{KeyLine, KeyRefusal, decode, read_line};
use crate::error::Fault;

/// The lines of an `euicc.jsonl`; blank ones are passed over.
pub struct KeyFile<'r> {
    reader: BufReader<Box<dyn Read + 'r>>,
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

impl<'r> KeyFile<'r> {
    /// Opens the file.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let file = File::open(path).map_err(|e| Fault::file(path, &e).hint("name the eUICC maker's key file"))?;
        Ok(Self::over(file, path))
    }

    /// A file that is open; `path`: what it is called in errors.
    pub(super) fn over(file: impl Read + 'r, path: impl AsRef<Path>) -> Self {
        let reader = BufReader::with_capacity(256 * 1024, Box::new(file) as Box<dyn Read + 'r>);
        Self { reader, path: path.as_ref().to_owned(), line_no: 0 }
    }
}

impl Iterator for KeyFile<'_> {
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
