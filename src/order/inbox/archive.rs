//! Files an answered order away: the order, what it alone named, its answer when the outbox has none.
//!
//! Write order, against a crash at any point: what is going to move is written down and synced first, then the files move one by
//! one, then the note goes. The next start does what the note still asks for. A file is moved only while it is the one that was
//! looked at: what came under its name since then is somebody's new file. Nothing is ever moved over another file.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::look::Look;
use crate::durable;
use crate::error::{Exit, Fault};

/// Orders that were taken, by day.
pub(super) const DONE: &str = "done";
/// Orders that were not.
pub(super) const REJECTED: &str = "rejected";
/// What is going to move.
pub(super) const NOTE: &str = ".moving.json";
/// Shelves of one day at most: orders of one name.
const MOST_SHELVES: u32 = 100_000;

/// What moves together.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moving {
    /// Relative to the inbox.
    shelf: PathBuf,
    files: Vec<(String, Look)>,
    /// Written beside the order.
    answers: Vec<(String, String)>,
    /// Markers that have served.
    markers: Vec<String>,
}

impl Moving {
    /// The order first, then the others; all by their names relative to the inbox.
    pub(super) fn new(files: Vec<(String, Look)>, answers: Vec<(String, String)>, markers: Vec<String>) -> Self {
        Self { shelf: PathBuf::new(), files, answers, markers }
    }

    /// Moves everything to the first shelf of `place` that has no file of any of these names; gives the order's new path.
    pub(super) fn file_away(mut self, inbox: &Path, place: &Path) -> Result<PathBuf, Fault> {
        // What an earlier one could not do is tried once more; if in vain, its order, which goes last, is still in the inbox.
        let _ = finish_left(inbox);
        let is_free = |shelf: &Path| {
            let mut names = self.files.iter().map(|(name, _)| name).chain(self.answers.iter().map(|(name, _)| name));
            names.all(|name| fs::symlink_metadata(inbox.join(shelf).join(name)).is_err())
        };
        let shelves = std::iter::once(place.to_owned()).chain((2..MOST_SHELVES).map(|n| place.join(n.to_string())));
        let full = || Fault::new(Exit::Config, format!("{}: too many files of one name", place.display()));
        let free = shelves.into_iter().find(|shelf| is_free(shelf));
        self.shelf = free.ok_or_else(|| full().hint("move the older ones to another place"))?;
        self.has_no_links(inbox)?;
        let note = serde_json::to_vec(&self).map_err(|e| Fault::new(Exit::Bug, format!("{NOTE}: {e}")))?;
        let path = inbox.join(NOTE);
        durable::write(&path, &note, 0o600).map_err(|e| Fault::file(&path, &e))?;
        self.work_off(inbox)?;
        let order = self.files.first().map(|(name, _)| name.as_str()).unwrap_or_default();
        Ok(inbox.join(&self.shelf).join(order))
    }

    /// Who may write into the inbox may write a note: it must not reach further than its writer.
    fn stays_inside(&self) -> bool {
        let names = self.files.iter().map(|(name, _)| name).chain(self.answers.iter().map(|(name, _)| name));
        let ours = self.shelf.starts_with(DONE) || self.shelf.starts_with(REJECTED);
        ours && is_plain(&self.shelf) && names.chain(&self.markers).all(|name| is_plain(Path::new(name)))
    }

    /// Plain names can lead out all the same, where a directory on their way is a symbolic link. Judged before anything is made or
    /// moved; of what is not there yet, what is there above it.
    fn has_no_links(&self, inbox: &Path) -> Result<(), Fault> {
        let base = inbox.canonicalize().map_err(|e| Fault::file(inbox, &e))?;
        let from = self.files.iter().map(|(name, _)| name).chain(&self.markers).map(|name| base.join(name));
        let names = self.files.iter().map(|(name, _)| name).chain(self.answers.iter().map(|(name, _)| name));
        for path in from.chain(names.map(|name| base.join(&self.shelf).join(name))) {
            let below = path.ancestors().skip(1).take_while(|dir| **dir != *base);
            if let Some(link) = below.into_iter().find(|dir| dir.is_symlink()) {
                let what = format!("{}: is a symbolic link; nothing was moved through it", link.display());
                return Err(Fault::new(Exit::Config, what)
                    .hint("put a directory in its place: orders are filed away inside the inbox alone"));
            }
        }
        Ok(())
    }

    fn work_off(&self, inbox: &Path) -> Result<(), Fault> {
        self.has_no_links(inbox)?;
        let shelf = inbox.join(&self.shelf);
        durable::make_dirs(&shelf, 0o755).map_err(|e| Fault::file(&shelf, &e))?;
        for (name, text) in &self.answers {
            let path = shelf.join(name);
            durable::write(&path, text.as_bytes(), 0o644).map_err(|e| Fault::file(&path, &e))?;
        }
        // The order goes last: as long as it lies in the inbox, what belongs to it is looked for there.
        for (name, look) in self.files.iter().rev() {
            let (from, to) = (inbox.join(name), shelf.join(name));
            move_file(&from, &to, look).map_err(|e| Fault::file(&from, &e).hint(SAME_FILE_SYSTEM))?;
        }
        for path in self.markers.iter().map(|name| inbox.join(name)) {
            remove(&path).map_err(|e| Fault::file(&path, &e))?;
        }
        let note = inbox.join(NOTE);
        remove(&note).and_then(|()| durable::sync_dir(inbox)).map_err(|e| Fault::file(&note, &e))
    }
}

const SAME_FILE_SYSTEM: &str =
    "the inbox must be writable for this user, done/ and rejected/ on the same file system as the inbox";

/// Does what a crash left undone; only for who holds the inbox's lock.
pub(super) fn finish_left(inbox: &Path) -> Result<(), Fault> {
    durable::sweep(inbox).map_err(|e| Fault::file(inbox, &e))?;
    let path = inbox.join(NOTE);
    let note = match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        note => note.map_err(|e| Fault::file(&path, &e))?,
    };
    let foreign = |what: String| {
        Fault::new(Exit::IntegrityFailure, format!("{}: {what}", path.display())).hint(
            "this is no note of ours: look at it, then take it away; orders that are still there are answered again",
        )
    };
    let left: Moving = serde_json::from_slice(&note).map_err(|e| foreign(e.to_string()))?;
    if !left.stays_inside() {
        return Err(foreign("names files outside of this directory".to_owned()));
    }
    left.has_no_links(inbox).map_err(|fault| foreign(fault.what))?;
    left.work_off(inbox)
}

/// Whether a name that was read leaves the directory it is relative to.
pub(super) fn is_plain(name: &Path) -> bool {
    name.components().all(|part| matches!(part, Component::Normal(_)))
}

fn move_file(from: &Path, to: &Path, look: &Look) -> io::Result<()> {
    match Look::at(from) {
        Ok(now) if now.is_same_file(look) => {}
        Ok(_) => return Ok(()), // a new file of this name
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is there already", to.display())));
    }
    let [from_dir, to_dir] = [from, to].map(|path| path.parent().unwrap_or(Path::new(".")));
    durable::make_dirs(to_dir, 0o755)?;
    fs::rename(from, to)?;
    // The new name first: a power cut between the two leaves two names, never none.
    durable::sync_dir(to_dir)?;
    durable::sync_dir(from_dir)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moving(inbox: &Path, names: &[&str]) -> Moving {
        let files = names.iter().map(|name| ((*name).to_owned(), Look::at(&inbox.join(name)).unwrap())).collect();
        Moving::new(files, vec![("a.json.rejects.csv".to_owned(), "why".to_owned())], vec!["a.json.ready".to_owned()])
    }

    fn inbox() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        for name in ["a.json", "sub/rows.csv", "a.json.ready"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        dir
    }

    #[test]
    fn a_second_order_of_the_same_name_goes_to_a_shelf_of_its_own() {
        let mut shelves = Vec::new();
        let dir = inbox();
        for _ in 0..3 {
            fs::write(dir.path().join("a.json"), "a.json").unwrap();
            let to = moving(dir.path(), &["a.json"]).file_away(dir.path(), Path::new("done/2026-01-02")).unwrap();
            shelves.push(to.strip_prefix(dir.path()).unwrap().display().to_string());
        }
        assert_eq!(shelves, ["done/2026-01-02/a.json", "done/2026-01-02/2/a.json", "done/2026-01-02/3/a.json"]);
        assert!(!dir.path().join("a.json.ready").exists());
    }

    #[test]
    fn a_shelf_that_is_a_link_takes_nothing_and_one_that_is_a_file_is_named() {
        let dir = inbox();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("rejected")).unwrap();
        let fault = moving(dir.path(), &["a.json"]).file_away(dir.path(), Path::new("rejected")).unwrap_err();
        assert!(fault.what.contains("rejected: is a symbolic link") && fault.hint.is_some(), "{fault:?}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        // What comes next is filed all the same.
        fs::write(dir.path().join("b.json"), "b").unwrap();
        Moving::new(vec![("b.json".to_owned(), Look::at(&dir.path().join("b.json")).unwrap())], vec![], vec![])
            .file_away(dir.path(), Path::new("done/2026-01-02"))
            .unwrap();
        fs::remove_file(dir.path().join("rejected")).unwrap();
        fs::write(dir.path().join("rejected"), "in the way").unwrap();
        let fault = moving(dir.path(), &["a.json"]).file_away(dir.path(), Path::new("rejected")).unwrap_err();
        assert!(fault.hint.unwrap().contains("a file stands where a directory has to be"));
        assert!(dir.path().join("a.json").exists());
    }

    #[test]
    fn a_note_that_leads_through_a_link_brings_nothing_in() {
        let dir = inbox();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("up")).unwrap();
        let mut note = moving(dir.path(), &["up/secret"]);
        note.shelf = "done/x".into();
        fs::write(dir.path().join(NOTE), serde_json::to_vec(&note).unwrap()).unwrap();
        finish_left(dir.path()).unwrap_err();
        assert!(elsewhere.path().join("secret").exists());
    }

    #[test]
    fn a_note_that_reaches_out_of_the_inbox_is_refused() {
        for name in ["../site/state.db", "/etc/passwd", "a/../../b"] {
            let dir = inbox();
            let mut note = moving(dir.path(), &["a.json"]);
            note.shelf = "done/x".into();
            note.files[0].0 = name.to_owned();
            fs::write(dir.path().join(NOTE), serde_json::to_vec(&note).unwrap()).unwrap();
            assert_eq!(finish_left(dir.path()).unwrap_err().exit, Exit::IntegrityFailure, "{name}");
        }
    }

    #[test]
    fn links_that_lead_out_of_the_inbox_are_not_followed_by_note_shelf_answer_or_marker() {
        let outside = tempfile::tempdir().unwrap();
        let precious = outside.path().join("state.db");
        let note =
            |inbox: &Path, note: &Moving| fs::write(inbox.join(NOTE), serde_json::to_vec(note).unwrap()).unwrap();
        for case in ["file", "marker", "answer", "shelf"] {
            let dir = inbox();
            fs::write(&precious, "numbers").unwrap();
            std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
            let mut left = moving(dir.path(), &["a.json"]);
            left.shelf = "done/x".into();
            match case {
                "file" => left.files.push(("out/state.db".to_owned(), Look::at(&precious).unwrap())),
                "marker" => left.markers.push("out/state.db".to_owned()),
                "answer" => {
                    fs::create_dir_all(dir.path().join("done/x")).unwrap();
                    std::os::unix::fs::symlink(outside.path(), dir.path().join("done/x/out")).unwrap();
                    left.answers.push(("out/state.db".to_owned(), "forged".to_owned()));
                }
                _ => {
                    std::os::unix::fs::symlink(outside.path(), dir.path().join("done")).unwrap();
                    left.shelf = "done".into();
                    left.answers.push(("state.db".to_owned(), "forged".to_owned()));
                }
            }
            note(dir.path(), &left);
            assert_eq!(finish_left(dir.path()).unwrap_err().exit, Exit::IntegrityFailure, "{case}");
            assert_eq!(fs::read_to_string(&precious).unwrap(), "numbers", "{case}");
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{case}: nothing was put there");
        }
    }

    #[test]
    fn whatever_a_crash_left_is_moved_at_the_next_start_and_a_new_file_of_the_name_is_not() {
        for done_before in 0..3 {
            let dir = inbox();
            let mut left = moving(dir.path(), &["a.json", "sub/rows.csv"]);
            left.shelf = "rejected".into();
            fs::write(dir.path().join(NOTE), serde_json::to_vec(&left).unwrap()).unwrap();
            for name in ["sub/rows.csv", "a.json"].into_iter().take(done_before) {
                fs::create_dir_all(dir.path().join("rejected/sub")).unwrap();
                fs::rename(dir.path().join(name), dir.path().join("rejected").join(name)).unwrap();
            }
            if done_before == 2 {
                fs::write(dir.path().join("a.json"), "a corrected order").unwrap();
            }
            finish_left(dir.path()).unwrap();
            finish_left(dir.path()).unwrap();
            for name in ["a.json", "sub/rows.csv"] {
                assert_eq!(fs::read_to_string(dir.path().join("rejected").join(name)).unwrap(), name);
            }
            assert_eq!(dir.path().join("a.json").exists(), done_before == 2, "the corrected order stays");
            assert_eq!(fs::read_to_string(dir.path().join("rejected/a.json.rejects.csv")).unwrap(), "why");
            assert!(!dir.path().join(NOTE).exists());
        }
    }
}
