//! The end of the log as the next writer finds it: the line that the ledger ends with, and what a crash left behind it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::event::Word;
use super::line::{Head, Line};
use super::log::{files, first_seq};
use super::{AuditError, SCHEMA};

use openssl::sha::sha256;

/// Octets read from the end at first; more only when the ledger's last line is not among them.
const WINDOW_OCTETS: u64 = 16 << 10;

/// What one crash leaves: less than this. More is not ours to cut off.
const MOST_TORN_OCTETS: usize = 1 << 20;

/// Where the next line goes.
pub(super) struct Tail {
    /// The newest file; none before the first line.
    pub(super) file: Option<PathBuf>,
    /// Its octets that hold whole lines of the chain.
    pub(super) sound: u64,
    /// What stands behind them.
    pub(super) torn: Vec<u8>,
    /// The last whole line.
    pub(super) last: Head,
    /// Its time.
    pub(super) last_at: Option<Timestamp>,
    /// Lines that were written and never committed.
    pub(super) beyond: Vec<Line>,
}

/// What a log says was committed behind a ledger's head.
#[derive(Debug, Default)]
pub struct Newer {
    /// The lines, in order, without those that were declared void.
    pub heads: Vec<Head>,
    /// Orders and the SHA-256 (hex) of the manifests that the lines tell of.
    pub manifests: Vec<(String, String)>,
}

/// Reads every line behind the ledger's head.
pub(super) fn newer(dir: &Path, head: &Head) -> Result<Newer, AuditError> {
    let files = files(dir).map_err(|source| AuditError::File { path: dir.to_owned(), source })?;
    // The last file that begins at the head's line or before it, and all that follow.
    let from = files.iter().rposition(|path| first_seq(path).is_some_and(|seq| seq <= head.seq)).unwrap_or(0);
    let mut last: Option<Head> = (head.seq == 0).then_some(*head);
    let mut lines: Vec<(Line, Head)> = Vec::new();
    'log: for path in &files[from..] {
        let octets = std::fs::read(path).map_err(|source| AuditError::File { path: path.clone(), source })?;
        for octets in octets.split_inclusive(|octet| *octet == b'\n') {
            let here = sha256(octets);
            match &last {
                None if here == head.sha256 => last = Some(*head),
                None => {}
                Some(before) => {
                    // A torn end: the next writer cuts it off.
                    let Some(line) = chained(before, octets) else { break 'log };
                    let head = Head { seq: line.seq, sha256: here };
                    lines.push((line, head));
                    last = Some(head);
                }
            }
        }
    }
    if last.is_none() {
        return Err(AuditError::Lost { path: dir.to_owned(), seq: head.seq });
    }
    let voids: Vec<(u64, u64)> = lines
        .iter()
        .filter(|(line, _)| line.event == Word::Void.as_str())
        .filter_map(|(line, _)| line.number("from").zip(line.number("to")))
        .collect();
    lines.retain(|(line, _)| !voids.iter().any(|(from, to)| (*from..=*to).contains(&line.seq)));
    let manifest = |line: &Line| Some((line.text("order")?.to_owned(), line.text("manifest_sha256")?.to_owned()));
    let manifests = lines.iter().filter_map(|(line, _)| manifest(line)).collect();
    Ok(Newer { heads: lines.into_iter().map(|(_, head)| head).collect(), manifests })
}

/// Reads the end of the log behind the ledger's head.
pub(super) fn read(dir: &Path, head: &Head) -> Result<Tail, AuditError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| AuditError::File { path, source }
    };
    let lost = |path: &Path| AuditError::Lost { path: path.to_owned(), seq: head.seq };
    let files = files(dir).map_err(failed(dir))?;
    let Some((newest, earlier)) = files.split_last() else {
        let tail = Tail { file: None, sound: 0, torn: Vec::new(), last: *head, last_at: None, beyond: Vec::new() };
        return if head.seq == 0 { Ok(tail) } else { Err(lost(dir)) };
    };
    let first = first_seq(newest).unwrap_or(0);
    let (found, last_at) = if head.seq >= first {
        let (line, rest) = behind(newest, head).map_err(failed(newest))?.ok_or_else(|| lost(newest))?;
        (rest, Some(line))
    } else if head.seq + 1 == first {
        // A new file was begun: the line before its first stands at the end of the file before.
        let before = match earlier.last() {
            Some(before) => Some(behind(before, head).map_err(failed(before))?.ok_or_else(|| lost(before))?.0),
            None if head.seq == 0 => None,
            None => return Err(lost(newest)),
        };
        let octets = std::fs::read(newest).map_err(failed(newest))?;
        (Rest { from: 0, octets }, before)
    } else {
        let path = newest.clone();
        let begins = first_line(newest).map_err(failed(newest))?.is_some_and(|line| line.seq == first);
        return Err(match begins {
            true => AuditError::LedgerBehind { path, seq: first, ledger: head.seq },
            false => AuditError::Stray { path, seq: first },
        });
    };
    let mut last = *head;
    let mut beyond: Vec<Line> = Vec::new();
    let mut taken = 0;
    for octets in found.octets.split_inclusive(|octet| *octet == b'\n') {
        match chained(&last, octets) {
            Some(line) => beyond.push(line),
            None => break,
        }
        taken += octets.len();
        last = Head { seq: last.seq + 1, sha256: sha256(octets) };
    }
    let torn = found.octets[taken..].to_vec();
    if torn.len() > MOST_TORN_OCTETS {
        return Err(lost(newest));
    }
    if let Some(seq) = committed(&beyond, head) {
        return Err(AuditError::LedgerBehind { path: newest.clone(), seq, ledger: head.seq });
    }
    let last_at = beyond.last().map(|line| line.at).or(last_at.map(|line| line.at));
    Ok(Tail { file: Some(newest.clone()), sound: found.from + taken as u64, torn, last, last_at, beyond })
}

/// The first line of a file, if it is one.
fn first_line(path: &Path) -> io::Result<Option<Line>> {
    let mut octets = Vec::new();
    BufReader::new(File::open(path)?).take(WINDOW_OCTETS).read_until(b'\n', &mut octets)?;
    Ok(Line::parse(&octets).ok())
}

/// The line of these octets, if it is whole and stands behind `last`.
pub(super) fn chained(last: &Head, octets: &[u8]) -> Option<Line> {
    let line = octets.ends_with(b"\n").then(|| Line::parse(octets).ok())??;
    (line.seq == last.seq + 1 && line.prev == last.hex()).then_some(line)
}

/// Of lines that the ledger does not know, the first that cannot have come from an attempt that failed: each writer declares void
/// what stands behind the ledger's head before it adds a line of its own. A line that its follower does not declare void was
/// committed, so the ledger is an older one.
pub(super) fn committed(beyond: &[Line], head: &Head) -> Option<u64> {
    let mut open: Option<u64> = None;
    for line in beyond {
        if line.event == Word::Void.as_str() && line.number("from") == Some(head.seq + 1) {
            open = None;
        } else if line.event == Word::LogBegun.as_str() && line.text("schema") == Some(SCHEMA) && line.seq == 1
            || line.event == Word::Repaired.as_str()
        {
            continue;
        } else if let Some(before) = open.replace(line.seq) {
            return Some(before);
        }
    }
    None
}

/// What stands behind a line.
struct Rest {
    from: u64,
    octets: Vec<u8>,
}

/// The line of this head and what stands behind it; `None` when the file does not hold it.
fn behind(path: &Path, head: &Head) -> io::Result<Option<(Line, Rest)>> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut window = WINDOW_OCTETS;
    loop {
        let from = len.saturating_sub(window);
        file.seek(SeekFrom::Start(from))?;
        let mut octets = Vec::with_capacity((len - from) as usize);
        file.by_ref().take(len - from).read_to_end(&mut octets)?;
        let mut end = octets.len();
        // From the end: the line that is looked for is the last or close to it.
        for piece in octets.split_inclusive(|octet| *octet == b'\n').rev() {
            if piece.ends_with(b"\n") && sha256(piece) == head.sha256 {
                let line = Line::parse(piece).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
                let rest = Rest { from: from + end as u64, octets: octets[end..].to_vec() };
                return Ok((line.seq == head.seq).then_some((line, rest)));
            }
            end -= piece.len();
        }
        if from == 0 {
            return Ok(None);
        }
        window *= 16;
    }
}
