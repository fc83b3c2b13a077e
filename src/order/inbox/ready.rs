//! Whether an order that lies in the inbox is finished: written to its end, with every file that it names.
//!
//! Rule: the files themselves say it where they can. JSON that ends too early is no JSON, and a companion is whole when it has
//! the SHA-256 that the order gives; looks that stay the same only say when to read, and when to stop waiting.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::look::{Look, Looks};
use crate::durable;
use crate::order::beside;
use crate::order::change::Document;
use crate::order::file::FileRef;

/// How long a watcher waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A file that stayed the same for so long is read.
    pub settle: Duration,
    /// An order that is unfinished and stayed the same for so long is refused as it is: its JSON ends too early, or a file that it
    /// names does not have its SHA-256.
    pub grace: Duration,
    /// The same where a file that it names is missing.
    pub missing: Duration,
}

/// What is still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// It may still be written.
    Settling(String),
    /// It stayed the same and is not whole.
    Torn(String),
    /// It is not there.
    Missing(String),
}

impl Unfinished {
    pub(super) fn told(&self) -> String {
        match self {
            Self::Settling(name) => format!("{name} may still be written"),
            Self::Torn(name) => format!("{name} is not finished, or not what the order says"),
            Self::Missing(name) => format!("{name} is not there yet"),
        }
    }
}

/// The eyes of a watcher: looks, and the hashes of what stayed the same.
#[derive(Debug, Default)]
pub(super) struct Eyes {
    pub(super) looks: Looks,
    hashes: HashMap<PathBuf, (Look, String)>,
}

impl Eyes {
    /// Whether `path` is worth reading; a marker that is not older than the file vouches for it at once.
    pub(super) fn has_settled(&mut self, path: &Path, now: Instant, patience: Patience) -> bool {
        let (look, age) = self.looks.again(path, now);
        look.is_some_and(|look| age >= patience.settle || vouched(path, &look))
    }

    /// What keeps an order from being taken, that cannot be read as JSON to its end.
    pub(super) fn unended(&mut self, path: &Path, now: Instant, patience: Patience) -> Option<Unfinished> {
        let (look, age) = self.looks.again(path, now);
        let is_vouched = look.is_some_and(|look| vouched(path, &look));
        (!is_vouched && age < patience.grace).then(|| Unfinished::Torn(name_of(path)))
    }

    /// What keeps `order` at `path` from being taken: the first companion that is not whole and may still become so.
    pub(super) fn unfinished(
        &mut self,
        (path, order): (&Path, &Document),
        now: Instant,
        patience: Patience,
    ) -> Option<Unfinished> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let (_, order_age) = self.looks.again(path, now);
        // All are looked at, so that each one's time runs from now on.
        let waits: Vec<_> = order
            .files()
            .into_iter()
            .filter_map(|reference| self.companion(directory, reference, order_age, now, patience))
            .collect();
        waits.into_iter().next()
    }

    fn companion(
        &mut self,
        directory: &Path,
        reference: &FileRef,
        order_age: Duration,
        now: Instant,
        patience: Patience,
    ) -> Option<Unfinished> {
        let name = reference.file.clone();
        let path = directory.join(&name);
        let (look, age) = self.looks.again(&path, now);
        let quiet = age.min(order_age);
        match durable::open_below(directory, &name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                (quiet < patience.missing).then_some(Unfinished::Missing(name))
            }
            // Leaves the directory, no file, not ours to read: `submit` finds the same and says it.
            Err(_) | Ok(None) => None,
            Ok(Some(_)) => {
                let look = look?;
                let is_vouched = vouched(&path, &look);
                if !is_vouched && age < patience.settle {
                    return Some(Unfinished::Settling(name));
                }
                let whole = self.hash(directory, reference, &look).is_some_and(|sha256| sha256 == reference.sha256);
                (!whole && !is_vouched && quiet < patience.grace).then_some(Unfinished::Torn(name))
            }
        }
    }

    /// Hashed once as long as the file stays the same: a key file may have a gigabyte.
    fn hash(&mut self, directory: &Path, reference: &FileRef, look: &Look) -> Option<String> {
        let path = directory.join(&reference.file);
        if let Some((seen, sha256)) = self.hashes.get(&path).filter(|(seen, _)| seen == look) {
            debug_assert_eq!(seen, look);
            return Some(sha256.clone());
        }
        let sha256 = beside::open(directory, reference, 0, "", u64::MAX).ok()?.finish().ok()?;
        self.hashes.insert(path, (*look, sha256.clone()));
        Some(sha256)
    }

    /// Forgets what no order of the sweep that began at `now` asked for.
    pub(super) fn forget_others(&mut self, now: Instant) {
        self.looks.forget_others(now);
        self.hashes.retain(|path, _| self.looks.knows(path));
    }
}

/// `NAME.ready`, and for an order `NAME` without `.json` as well.
pub(super) fn markers(path: &Path) -> impl Iterator<Item = PathBuf> {
    let name = name_of(path);
    let short = name.strip_suffix(".json").map(|stem| path.with_file_name(format!("{stem}.ready")));
    std::iter::once(path.with_file_name(format!("{name}.ready"))).chain(short)
}

/// A marker is written behind its file: an older one was another file's.
fn vouched(path: &Path, look: &Look) -> bool {
    markers(path).filter_map(|marker| Look::at(&marker).ok()).any(|marker| marker.modified() >= look.modified())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
