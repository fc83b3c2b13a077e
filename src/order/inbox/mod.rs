//! The inbox: a directory where others put order files, each taken once, when it is finished, and then filed away.
//!
//! In: `NAME.json` and the files that it names. Out: what `order submit` writes, and for what is no order an answer beside it in
//! `rejected/`. Rule: nothing is taken half-written; a crash at any point costs an answer given twice, the same one. What was
//! submitted twice is a duplicate in the ledger, so that filing away need not be one step with it.

mod archive;
mod look;
mod ready;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;

use archive::{DONE, Moving, REJECTED, finish_left, is_plain};
use look::Look;
use ready::{Eyes, Unfinished, markers};

pub use ready::Patience;

use super::answer::{Answer, Verdict};
use super::change::Document;
use super::intake::OrderFile;
use super::parse::Unreadable;
use super::refusals;
use crate::error::{Exit, Fault};
use crate::ids::OrderKey;
use crate::store::Refusal;

/// What an inbox asks of the site.
pub struct Desk<'a> {
    /// Whether an order of this key was accepted before: then its companions may be gone.
    pub knows: &'a dyn Fn(&OrderKey) -> Result<bool, Fault>,
    /// `order submit`.
    pub submit: &'a dyn Fn(OrderFile) -> Result<Answer, Fault>,
    /// Today, UTC: the directory below `done/`.
    pub today: &'a dyn Fn() -> String,
    /// Set once it has to end.
    pub stop: &'a AtomicBool,
}

/// What happened to one file.
#[derive(Debug)]
pub enum Event {
    /// Answered and filed away.
    Answered {
        /// The file, relative to the inbox.
        file: String,
        /// The answer.
        answer: Box<Answer>,
        /// Where the file is now.
        filed: PathBuf,
    },
    /// No order: refused and filed away, the reason beside it.
    Refused {
        /// The file.
        file: String,
        /// What is wrong with it.
        refusals: Vec<Refusal>,
        /// Where the file is now.
        filed: PathBuf,
    },
    /// Not finished; told once for each reason.
    Waiting {
        /// The file.
        file: String,
        /// What is still to come.
        what: String,
    },
    /// It stays where it is and is tried again; told once for each reason.
    Trouble {
        /// The file.
        file: String,
        /// Why.
        fault: Fault,
    },
}

/// How the inbox stands after a sweep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Swept {
    /// Files that may still be written: the next sweep may take them.
    pub settling: u64,
    /// Orders that stay: unfinished, or in trouble.
    pub left: u64,
}

/// A watched directory.
pub struct Inbox {
    directory: PathBuf,
    patience: Patience,
    eyes: Eyes,
    told: HashMap<String, String>,
    /// Files in trouble, and when they are tried again.
    again: HashMap<String, Instant>,
    /// What a crash left and could not be finished: told at the first sweep.
    unfinished: Option<Fault>,
}

/// A disk that is full does not get better within a second, and judging a large order costs minutes.
const TRY_AGAIN: Duration = Duration::from_secs(15);

impl Inbox {
    /// Opens the directory and finishes what a crash left; only for who holds its lock.
    pub fn open(directory: &Path, patience: Patience) -> Result<Self, Fault> {
        let directory = directory.canonicalize().map_err(|e| Fault::file(directory, &e))?;
        // Its order is still there and is answered again: no reason to leave the others.
        let unfinished = match finish_left(&directory) {
            Err(fault) if fault.exit == Exit::IntegrityFailure => return Err(fault),
            finished => finished.err(),
        };
        let (eyes, told, again) = Default::default();
        Ok(Self { directory, patience, eyes, told, again, unfinished })
    }

    /// Looks at everything once, takes what is finished. `Err` only when the directory itself cannot be read.
    pub fn sweep(&mut self, desk: &Desk<'_>, now: Instant, tell: &mut dyn FnMut(Event)) -> Result<Swept, Fault> {
        let mut swept = Swept::default();
        if let Some(fault) = self.unfinished.take() {
            tell(Event::Trouble { file: archive::NOTE.to_owned(), fault });
        }
        let found = self.found()?;
        let waiting = Waiting::read(&self.directory, &found);
        for name in &found {
            if desk.stop.load(Ordering::Relaxed) || self.again.get(name).is_some_and(|again| now < *again) {
                swept.left += 1;
                continue;
            }
            match self.take(name, &waiting, desk, now) {
                Ok(Taken::Gone) => {}
                Ok(Taken::Event(event)) => {
                    self.told.remove(name);
                    tell(event);
                }
                Ok(Taken::Later(unfinished)) => {
                    swept.settling += u64::from(matches!(unfinished, Unfinished::Settling(_)));
                    swept.left += 1;
                    // Settling is what every file does; only what lasts is worth a line.
                    if !matches!(unfinished, Unfinished::Settling(_)) && self.is_news(name, &unfinished.told()) {
                        tell(Event::Waiting { file: name.clone(), what: unfinished.told() });
                    }
                }
                Err(fault) => {
                    swept.left += 1;
                    self.again.insert(name.clone(), now + TRY_AGAIN);
                    if self.is_news(name, &fault.what) {
                        tell(Event::Trouble { file: name.clone(), fault });
                    }
                }
            }
        }
        self.told.retain(|name, _| found.contains(name));
        self.again.retain(|name, again| found.contains(name) && now < *again);
        self.eyes.forget_others(now);
        Ok(swept)
    }

    fn is_news(&mut self, file: &str, what: &str) -> bool {
        self.told.insert(file.to_owned(), what.to_owned()).is_none_or(|before| before != what)
    }

    /// Names of what may be an order, the oldest first.
    fn found(&self) -> Result<Vec<String>, Fault> {
        let failed = |e: std::io::Error| Fault::file(&self.directory, &e);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            // A name that is no UTF-8 cannot be told of; no order system makes one.
            let Ok(name) = entry.map_err(failed)?.file_name().into_string() else { continue };
            let Ok(metadata) = fs::symlink_metadata(self.directory.join(&name)) else { continue };
            if name.ends_with(".json") && !name.starts_with('.') && !metadata.is_dir() {
                found.push((Look::of(&metadata).modified(), name));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    fn take(&mut self, name: &str, waiting: &Waiting, desk: &Desk<'_>, now: Instant) -> Result<Taken, Fault> {
        let path = self.directory.join(name);
        let patience = self.patience;
        if waiting.is_companion(name) {
            return Ok(Taken::Gone);
        }
        let Ok(metadata) = fs::symlink_metadata(&path) else { return Ok(Taken::Gone) };
        let look = Look::of(&metadata);
        if !metadata.is_file() {
            let what = "is not a regular file";
            return self.refuse(name, look, vec![refusal("file", what, "put the order file itself here")], None);
        }
        if !self.eyes.has_settled(&path, now, patience) {
            return Ok(Taken::Later(Unfinished::Settling(name.to_owned())));
        }
        let file = match OrderFile::read(&path) {
            Ok(file) => file,
            Err(fault) if fault.exit == Exit::OrderRejected => {
                let hint = fault.hint.as_deref().unwrap_or_default();
                return self.refuse(
                    name,
                    look,
                    vec![refusal("file-too-large", "is larger than an order may be", hint)],
                    None,
                );
            }
            Err(_) if !path.exists() => return Ok(Taken::Gone),
            Err(fault) => return Err(fault),
        };
        let (mut unreadable, mut belongs) = (Vec::new(), Vec::new());
        match file.document() {
            Ok(order) => {
                let unfinished = self.eyes.unfinished((&path, &order), now, patience);
                if let Some(unfinished) = unfinished
                    && !(desk.knows)(order.key())?
                {
                    return Ok(Taken::Later(unfinished));
                }
                belongs = self.belongs(name, &order, waiting);
            }
            Err(Unreadable { refusals, .. }) => {
                let is_cut = refusals.iter().any(|refusal| refusal.code == "json");
                if let Some(unfinished) = self.eyes.unended(&path, now, patience).filter(|_| is_cut) {
                    return Ok(Taken::Later(unfinished));
                }
                unreadable = refusals;
            }
        }
        let answer = (desk.submit)(file)?;
        if answer.key.is_none() {
            return self.refuse(name, look, unreadable, Some(&answer));
        }
        let (place, answers) = match answer.verdict {
            Verdict::Accepted | Verdict::AcceptedPartial => (Path::new(DONE).join((desk.today)()), Vec::new()),
            Verdict::Rejected => (REJECTED.into(), Vec::new()),
            // The outbox holds the answer of the order that was first; this one's stands beside it.
            Verdict::Duplicate => {
                let conflict = refusal("duplicate-order", CONFLICT_MESSAGE, CONFLICT);
                (REJECTED.into(), beside(name, &[conflict], Some(&answer))?)
            }
        };
        let filed = self.file_away((name, look), belongs, answers, &place)?;
        Ok(Taken::Event(Event::Answered { file: name.to_owned(), answer: Box::new(answer), filed }))
    }

    /// A file that is no order at all: nobody's outbox can take its answer.
    fn refuse(&self, name: &str, look: Look, refusals: Vec<Refusal>, answer: Option<&Answer>) -> Result<Taken, Fault> {
        let answers = beside(name, &refusals, answer)?;
        let filed = self.file_away((name, look), Vec::new(), answers, Path::new(REJECTED))?;
        Ok(Taken::Event(Event::Refused { file: name.to_owned(), refusals, filed }))
    }

    fn file_away(
        &self,
        (name, look): (&str, Look),
        belongs: Vec<(String, Look)>,
        answers: Vec<(String, String)>,
        place: &Path,
    ) -> Result<PathBuf, Fault> {
        let files: Vec<_> = std::iter::once((name.to_owned(), look)).chain(belongs).collect();
        let relative = |marker: PathBuf| Some(marker.strip_prefix(&self.directory).ok()?.to_str()?.to_owned());
        let of_all = files.iter().map(|(name, _)| self.directory.join(name));
        let of_all = of_all.flat_map(|path| markers(&path).collect::<Vec<_>>());
        let markers = of_all.filter(|marker| marker.is_file()).filter_map(relative).collect();
        Moving::new(files, answers, markers).file_away(&self.directory, place)
    }

    /// The files that move with an order: regular ones below the inbox that no other order waits for.
    fn belongs(&self, name: &str, order: &Document, waiting: &Waiting) -> Vec<(String, Look)> {
        let mut seen = HashSet::new();
        let own =
            order.files().into_iter().map(|reference| plain(&reference.file)).filter(|file| seen.insert(file.clone()));
        let movable = own.filter(|file| is_plain(Path::new(file)) && waiting.is_only_of(file, name));
        let regular = movable.filter_map(|file| {
            let path = self.directory.join(&file);
            let is_itself = path.canonicalize().is_ok_and(|real| real == path);
            let is_filed = [DONE, REJECTED].iter().any(|place| Path::new(&file).starts_with(place));
            let look = Look::at(&path).ok().filter(|_| is_itself && !is_filed && path.is_file())?;
            Some((file, look))
        });
        regular.collect()
    }
}

const CONFLICT_MESSAGE: &str =
    "this order key was accepted with another body; the hash is over the file's octets: white space counts";
const CONFLICT: &str = "send the file that was accepted, or give the changed order a new `rev`";

enum Taken {
    Event(Event),
    Later(Unfinished),
    /// Somebody took it away, or it is another order's.
    Gone,
}

/// What the orders that lie in the inbox name.
struct Waiting {
    /// File to the orders that name it.
    named: HashMap<String, HashSet<String>>,
    /// Files that can be read as orders.
    orders: HashSet<String>,
    /// An order that cannot be read yet may name any file.
    has_unread: HashSet<String>,
}

impl Waiting {
    fn read(directory: &Path, found: &[String]) -> Self {
        let mut waiting = Self { named: HashMap::new(), orders: HashSet::new(), has_unread: HashSet::new() };
        for name in found {
            let path = directory.join(name);
            let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
            match OrderFile::read(&path).ok().filter(|_| is_file).map(|file| file.document()) {
                Some(Ok(order)) => {
                    waiting.orders.insert(name.clone());
                    for reference in order.files() {
                        waiting.named.entry(plain(&reference.file)).or_default().insert(name.clone());
                    }
                }
                Some(Err(Unreadable { key: Some(_), .. })) => {
                    waiting.orders.insert(name.clone());
                    waiting.has_unread.insert(name.clone());
                }
                _ => {
                    waiting.has_unread.insert(name.clone());
                }
            }
        }
        waiting
    }

    /// A file that an order names and that is no order itself.
    fn is_companion(&self, name: &str) -> bool {
        !self.orders.contains(name) && self.named.contains_key(name)
    }

    /// No other order names it or may name it, and it is no order itself.
    fn is_only_of(&self, file: &str, order: &str) -> bool {
        let others = self.named.get(file).is_some_and(|by| by.iter().any(|by| by != order));
        let unread = self.has_unread.iter().any(|unread| unread != order && !self.is_companion(unread));
        !others && !unread && !self.orders.contains(file)
    }
}

/// Without the `./` that one order may write and another not.
fn plain(file: &str) -> String {
    Path::new(file)
        .components()
        .filter(|part| *part != std::path::Component::CurDir)
        .collect::<PathBuf>()
        .display()
        .to_string()
}

fn refusal(code: &'static str, message: &str, hint: &str) -> Refusal {
    let [column, value, message, hint] = ["", "", message, hint].map(str::to_owned);
    Refusal { line: 0, row: 0, column, value, code, message, hint }
}

/// Octets of a file's name at most, less those that a file being written has in front and behind.
const NAME_OCTETS: usize = 255 - 40;

/// `NAME.KIND`; of a name that leaves no room its beginning and a part of its SHA-256, so that no two names share an answer.
fn answer_name(name: &str, kind: &str) -> String {
    let full = format!("{name}.{kind}");
    if full.len() <= NAME_OCTETS {
        return full;
    }
    let hash = HEXLOWER.encode(&openssl::sha::sha256(name.as_bytes())[..8]);
    let mut most = NAME_OCTETS - kind.len() - hash.len() - 2;
    while !name.is_char_boundary(most) {
        most -= 1;
    }
    format!("{}~{hash}.{kind}", &name[..most])
}

/// The answer to a file without an outbox of its own: `NAME.rejects.csv`, and `NAME.ack.json` where there was a verdict.
fn beside(name: &str, refused: &[Refusal], answer: Option<&Answer>) -> Result<Vec<(String, String)>, Fault> {
    let mut answers = vec![(answer_name(name, refusals::FILE), refusals::as_csv(refused)?)];
    if let Some(answer) = answer {
        answers.push((answer_name(name, "ack.json"), String::from_utf8_lossy(&answer.ack).into_owned()));
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_long_name_is_shorter_and_still_its_own() {
        assert_eq!(answer_name("a.json", "rejects.csv"), "a.json.rejects.csv");
        let [one, other] =
            ["a", "b"].map(|end| answer_name(&format!("{}{end}.json", "\u{e4}".repeat(124)), "rejects.csv"));
        assert!(one.len() <= NAME_OCTETS && one.ends_with(".rejects.csv"), "{one}");
        assert_ne!(one, other);
    }
}
