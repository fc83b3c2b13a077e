//! Lines of a big file, one at a time, with their places; and octets read back from such a place.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use zeroize::Zeroizing;

/// A line longer than this is no record.
pub(super) const LINE_MAX: usize = 64 * 1024;

/// Where a line stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// One line after the other. The buffer never grows, so it leaves no copies of secrets behind, and is wiped.
pub(super) struct Lines {
    reader: BufReader<File>,
    buffer: Zeroizing<Vec<u8>>,
    offset: u64,
}

impl Lines {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let buffer = Zeroizing::new(Vec::with_capacity(LINE_MAX + 1));
        Ok(Self { reader: BufReader::new(File::open(path)?), buffer, offset: 0 })
    }

    /// The next line without its end, and its place.
    pub(super) fn next_line(&mut self) -> io::Result<Option<(Place, &[u8])>> {
        self.buffer.clear();
        let got = self.reader.by_ref().take(LINE_MAX as u64 + 1).read_until(b'\n', &mut self.buffer)?;
        if got == 0 {
            return Ok(None);
        }
        if got > LINE_MAX {
            let what = format!("a line at offset {} is longer than {LINE_MAX} octets", self.offset);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let place = Place { offset: self.offset, len: line.len() as u32 };
        self.offset += got as u64;
        Ok(Some((place, line)))
    }
}

/// Reads octets back, without moving a shared position.
pub(super) fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut octets = Zeroizing::new(vec![0; len]);
    file.read_exact_at(&mut octets, offset)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_again_at_their_places() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::fs::write(&path, "one\n\nthree").unwrap();
        let file = File::open(&path).unwrap();
        let mut lines = Lines::open(&path).unwrap();
        let mut found = Vec::new();
        while let Some((place, line)) = lines.next_line().unwrap() {
            assert_eq!(*read_at(&file, place.offset, place.len as usize).unwrap(), line);
            found.push(line.to_vec());
        }
        assert_eq!(found, [&b"one"[..], b"", b"three"]);
        std::fs::write(&path, vec![b'x'; LINE_MAX + 1]).unwrap();
        assert!(Lines::open(&path).unwrap().next_line().is_err());
    }
}
