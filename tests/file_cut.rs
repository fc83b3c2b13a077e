//! The cut itself (tests/cut): who writes carelessly loses it, who writes well does not. A tool that the crash matrix believes has to be
//! shown to work. Each case is a child process, this same program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

#[path = "crash/cut.rs"]
mod cut;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use bindery::durable;
use cut::{At, How, Told};

const WRITER: &str = "BINDERY_TEST_WRITER";

/// A way to write, by its name, in a directory of its own.
type Writer = (&'static str, fn(&Path));

/// What the tests let be cut.
const WRITERS: &[Writer] = &[
    ("nothing is synced", |dir| {
        fs::write(dir.join("new"), b"octets").unwrap();
        fs::rename(dir.join("new"), dir.join("file")).unwrap();
    }),
    ("the file is not synced", |dir| {
        fs::write(dir.join("new"), b"octets").unwrap();
        fs::rename(dir.join("new"), dir.join("file")).unwrap();
        durable::sync_dir(dir).unwrap();
    }),
    ("the directory is not synced", |dir| {
        let mut file = File::create(dir.join("new")).unwrap();
        file.write_all(b"octets").unwrap();
        file.sync_all().unwrap();
        fs::rename(dir.join("new"), dir.join("file")).unwrap();
    }),
    ("as Bindery writes", |dir| durable::write(&dir.join("file"), b"octets", 0o644).unwrap()),
    ("emptied and written", |dir| fs::write(dir.join("file"), b"octets").unwrap()),
    ("appended and cut off", |dir| {
        let mut file = File::options().append(true).open(dir.join("file")).unwrap();
        file.write_all(b" more").unwrap();
        file.set_len(2).unwrap();
    }),
    ("unlinked", |dir| fs::remove_file(dir.join("file")).unwrap()),
    ("unlinked for good", |dir| {
        fs::remove_file(dir.join("file")).unwrap();
        durable::sync_dir(dir).unwrap();
    }),
    ("a tree goes", |dir| fs::remove_dir_all(dir.join("tree")).unwrap()),
    ("a tree is renamed for good", |dir| {
        fs::write(dir.join("tree/new"), b"its name is not synced").unwrap();
        fs::rename(dir.join("tree"), dir.join("other")).unwrap();
        durable::sync_dir(dir).unwrap();
    }),
    ("a tree is made", |dir| durable::make_dirs(&dir.join("a/b"), 0o755).unwrap()),
    ("a tree that another left unsynced is used", |dir| {
        fs::create_dir(dir.join("a")).unwrap();
        durable::make_dirs(&dir.join("a"), 0o755).unwrap();
        durable::write(&dir.join("a/leaf"), b"octets", 0o644).unwrap();
    }),
    ("a commit that is not synced", |dir| commit(dir, "OFF")),
    ("a commit", |dir| commit(dir, "FULL")),
];

fn commit(dir: &Path, synchronous: &str) {
    let ledger = rusqlite::Connection::open(dir.join("ledger")).unwrap();
    ledger.pragma_update(None, "journal_mode", "WAL").unwrap();
    ledger.pragma_update(None, "synchronous", synchronous).unwrap();
    ledger.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
}

fn rows(dir: &Path) -> Option<i64> {
    let ledger = rusqlite::Connection::open(dir.join("ledger")).unwrap();
    ledger.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).ok()
}

/// Not a test by itself: the process that is cut.
#[test]
#[ignore = "started by the other tests, with a writer in the environment"]
fn writer() {
    let name = std::env::var(WRITER).unwrap();
    let (_, write) = WRITERS.iter().find(|(known, _)| *known == name).unwrap();
    write(&std::env::current_dir().unwrap());
}

/// A directory with what writers meet: `file` and `tree/leaf`.
fn start() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("root/tree")).unwrap();
    for name in ["root/file", "root/tree/leaf"] {
        fs::write(dir.path().join(name), b"before").unwrap();
    }
    dir
}

fn written(dir: &Path, name: &str, how: How, at: At) -> Told {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "writer"]).env(WRITER, name).current_dir(dir.join("root"));
    cut::cut(command, (&dir.join("root"), dir), how, at)
}

/// What the directory holds after the power went when the writer was done.
fn after_power(name: &str, how: How) -> (Vec<String>, String, tempfile::TempDir) {
    let dir = start();
    assert_eq!(written(dir.path(), name, how, At::End).code, Some(0), "{name}");
    let root = dir.path().join("root");
    let mut names: Vec<_> =
        fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let file = fs::read_to_string(root.join("file")).unwrap_or_default();
    (names, file, dir)
}

#[test]
fn what_was_not_synced_is_gone_with_the_power_and_what_was_stays() {
    for (name, names, file) in [
        ("nothing is synced", &["file", "tree"][..], "before"),
        ("the file is not synced", &["file", "tree"], ""),
        ("the directory is not synced", &["file", "tree"], "before"),
        ("as Bindery writes", &["file", "tree"], "octets"),
        ("emptied and written", &["file", "tree"], "before"),
        ("appended and cut off", &["file", "tree"], "before"),
        ("unlinked", &["file", "tree"], "before"),
        ("unlinked for good", &["tree"], ""),
        ("a tree goes", &["file", "tree"], "before"),
        ("a tree is renamed for good", &["file", "other"], "before"),
        ("a tree is made", &["a", "file", "tree"], "before"),
        ("a tree that another left unsynced is used", &["a", "file", "tree"], "before"),
    ] {
        let (found, content, dir) = after_power(name, How::Power);
        assert_eq!(
            (&found[..], content.as_str()),
            (&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()[..], file),
            "{name}"
        );
        match name {
            "a tree goes" => assert_eq!(fs::read(dir.path().join("root/tree/leaf")).unwrap(), b"before"),
            "a tree is made" => assert!(dir.path().join("root/a/b").is_dir()),
            "a tree is renamed for good" => {
                assert_eq!(
                    fs::read_dir(dir.path().join("root/other")).unwrap().count(),
                    1,
                    "the new name was not synced"
                );
            }
            _ => {}
        }
    }
}

#[test]
fn a_commit_is_durable_only_where_sqlite_syncs() {
    let (_, _, dir) = after_power("a commit that is not synced", How::Power);
    assert_eq!(rows(&dir.path().join("root")), None);
    let (_, _, dir) = after_power("a commit", How::Power);
    assert_eq!(rows(&dir.path().join("root")), Some(1));
}

#[test]
fn chance_leaves_careless_names_without_their_octets_and_careful_ones_whole() {
    let mut seen = std::collections::BTreeSet::new();
    for name in ["nothing is synced", "the file is not synced"] {
        for seed in 0..20 {
            let dir = start();
            written(dir.path(), name, How::Torn(seed), At::End);
            seen.insert(fs::read_to_string(dir.path().join("root/file")).unwrap());
        }
    }
    assert!(seen.contains("before") && seen.contains(""), "{seen:?}");
    let points = written(start().path(), "as Bindery writes", How::Power, At::Never).points.len();
    for (how, at) in [How::Stop, How::Power, How::Torn(1), How::Torn(2)]
        .into_iter()
        .flat_map(|how| (1..=points).map(move |at| (how, at)))
    {
        let dir = start();
        written(dir.path(), "as Bindery writes", how, At::Point(at));
        let content = fs::read_to_string(dir.path().join("root/file")).unwrap();
        assert!(matches!(content.as_str(), "before" | "octets"), "{how:?} {at}: {content}");
    }
}

#[test]
fn a_stopped_process_has_done_half_of_its_write_and_nothing_behind_it() {
    let dir = start();
    let points = written(dir.path(), "nothing is synced", How::Stop, At::Never).points;
    let names: Vec<&str> = points.iter().map(|point| point.split(' ').nth(1).unwrap()).collect();
    assert_eq!(names, ["create", "write", "rename"]);
    let dir = start();
    assert_eq!(written(dir.path(), "nothing is synced", How::Stop, At::Point(2)).code, None);
    assert_eq!(fs::read(dir.path().join("root/new")).unwrap(), b"oct");
    assert_eq!(fs::read(dir.path().join("root/file")).unwrap(), b"before");
}
