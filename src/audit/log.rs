//! The files of the log and the one way to add to them: lines go behind what stands there, in one write and one sync.
//!
//! `audit/audit-000000000001.jsonl`: the number is that of the file's first line. A file that has grown to its size is followed by
//! the next; the chain goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::event::{Event, Word};
use super::line::{Author, Head, Line};
use super::tail::{self, Newer, Tail};
use super::{AuditError, SCHEMA};
use crate::durable;
use openssl::sha::sha256;

/// A file of this size is followed by another; at some 600 octets a line, 50,000 lines.
const FILE_OCTETS: u64 = 32 << 20;
const MODE: u32 = 0o640;

/// The log of one site, as one process writes it.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    author: Author,
    clock: fn() -> Timestamp,
    file_octets: u64,
}

impl Log {
    /// The log beside this ledger; nothing is read or written yet.
    pub fn beside(ledger: &Path) -> Self {
        let dir = ledger.parent().unwrap_or(Path::new("")).join("audit");
        Self { dir, author: Author::of_process(), clock: Timestamp::now, file_octets: FILE_OCTETS }
    }

    /// With another clock, and files of another size.
    #[must_use]
    pub fn with(self, clock: fn() -> Timestamp, file_octets: u64) -> Self {
        Self { clock, file_octets, ..self }
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes the event's line behind the ledger's head and makes it durable; gives the heads that the ledger has to commit, in
    /// order: what an earlier crash left is told of in lines of their own, before this one. Only for who holds the ledger's write
    /// lock since before `head` was read.
    pub fn append(&self, head: &Head, event: &Event) -> Result<Vec<Head>, AuditError> {
        let tail = tail::read(&self.dir, head)?;
        let mut octets = Vec::new();
        let mut heads = Vec::new();
        let (mut last, mut last_at) = (tail.last, tail.last_at);
        for event in tail_events(&tail, head).iter().chain([event]) {
            let now = (self.clock)();
            let mut line = Line::behind(&last, event, now.round(jiff::Unit::Millisecond).unwrap_or(now), &self.author);
            let back_ms = last_at.map_or(0, |before| before.as_millisecond() - line.at.as_millisecond());
            line.clock_back_ms = u64::try_from(back_ms).ok().filter(|ms| *ms > 0);
            last_at = Some(line.at);
            let bug = |e: serde_json::Error| AuditError::File { path: self.dir.clone(), source: e.into() };
            let (text, head) = line.octets().map_err(bug)?;
            octets.extend(text);
            last = head;
            heads.push(head);
        }
        let path = self.place(&tail, head);
        self.write(&path, &tail, &octets).map_err(|source| AuditError::File { path, source })?;
        Ok(heads)
    }

    /// What was committed behind this head, by a ledger that is newer than the one that holds it. The last lines of a log whose
    /// commit nobody knows of count as committed: they claim nothing by themselves.
    pub fn behind(&self, head: &Head) -> Result<Newer, AuditError> {
        tail::newer(&self.dir, head)
    }

    /// The newest file, or the next when it is full. Void lines stay in the file that they are in: only a clean end is left.
    fn place(&self, tail: &Tail, head: &Head) -> PathBuf {
        match &tail.file {
            Some(file) if tail.sound < self.file_octets || tail.last != *head || !tail.torn.is_empty() => file.clone(),
            _ => self.dir.join(format!("audit-{:012}.jsonl", tail.last.seq + 1)),
        }
    }

    /// One write, one sync. What fails is taken back, so that no half of it stays and none of it is taken for written: after a sync
    /// that failed nobody knows what is on the disk.
    fn write(&self, path: &Path, tail: &Tail, octets: &[u8]) -> io::Result<()> {
        durable::make_dirs(&self.dir, 0o750)?;
        let is_new = tail.file.as_deref() != Some(path);
        let sound = if is_new { 0 } else { tail.sound };
        let mut file = OpenOptions::new().create(true).append(true).mode(MODE).open(path)?;
        // The torn end goes first; a crash before the next line is durable leaves a clean end.
        if file.metadata()?.len() != sound {
            file.set_len(sound)?;
        }
        let written = file.write_all(octets).and_then(|()| file.sync_data());
        let named = written.and_then(|()| if is_new { durable::sync_dir(&self.dir) } else { Ok(()) });
        if named.is_err() {
            // Best effort: what stays is declared void by the next writer.
            let _ = file.set_len(sound);
        }
        named
    }
}

/// The log's files, oldest first; none when there is no log.
pub fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        found.extend(first_seq(&path).map(|seq| (seq, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The number of a file's first line, by its name.
pub(super) fn first_seq(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("audit-")?.strip_suffix(".jsonl")?.parse().ok()
}

/// What is to be told of the end that was found, before anything else.
fn tail_events(tail: &Tail, head: &Head) -> Vec<Event> {
    let mut events = Vec::new();
    if tail.last == Head::NONE {
        events.push(Event::new(Word::LogBegun).name("schema", SCHEMA));
    }
    if !tail.torn.is_empty() {
        let octets = tail.torn.len() as u64;
        events.push(Event::new(Word::Repaired).number("octets", octets).sha256("sha256", &sha256(&tail.torn)));
    }
    if !tail.beyond.is_empty() {
        events.push(Event::new(Word::Void).number("from", head.seq + 1).number("to", tail.last.seq));
    }
    events
}

/// Reads a file that the log names, for those who check it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    durable::open_regular(path).map(|(file, _)| file)
}
