//! The walls of ARCHITECTURE.md, held by reading the sources: which room may know which.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Room -> rooms it may name, besides itself.
const WALLS: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("secret", &[]),
    ("ffi", &[]),
    ("durable", &[]),
    ("error", &["ids"]),
    ("formats", &["ids", "secret", "ffi"]),
    ("config", &["error", "durable"]),
    ("certs", &["ids", "error", "formats", "config", "secret"]),
    ("hsm", &["ids", "secret", "error", "config", "ffi", "certs"]),
    ("store", &["ids", "secret", "error", "hsm", "durable"]),
    ("telemetry", &["ids", "error"]),
    ("order", &["durable", "ids", "error", "config", "formats", "certs", "store", "telemetry"]),
    ("personalise", &["ids", "secret", "error", "formats"]),
    // A stage knows the value type of the stage before it, never its functions.
    ("protect", &["ids", "secret", "formats", "personalise"]),
    ("bind", &["ids", "secret", "error", "formats", "ffi", "protect"]),
    ("export", &["ids", "error", "store", "durable"]),
    // The judge shares the TLV reader with what it judges, and nothing else.
    ("verify", &["ids", "secret", "error", "formats"]),
    ("fleet", &["ids", "error", "formats", "durable"]),
];

/// What may be named of another room where the whole room would be too much.
const ONLY: &[(&str, &str, &str)] =
    &[("verify", "formats", "tlv"), ("protect", "personalise", "Upp"), ("bind", "protect", "{Ppk, Ppp}")];

/// Crate -> the only place that may name it.
const FENCED: &[(&str, &str)] = &[
    ("cryptoki", "src/hsm/pkcs11"),
    ("rasn", "src/formats"),
    ("rayon", "src/pipeline"),
    ("openssl_sys", "src/ffi.rs"),
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("src"), &mut found);
    found
}

/// The code of a file without its comments and without its unit tests (they may reach further).
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..end].lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The room a file belongs to: the first component below `src`.
fn room(path: &Path) -> String {
    let first = path.strip_prefix("src").unwrap().components().next().unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
}

/// Every `crate::room` named, with what follows it.
fn named(code: &str) -> Vec<(String, String)> {
    let joined = code.replace("crate::{", "crate::@"); // `use crate::{...}` is refused below: one line, one room
    joined
        .split("crate::")
        .skip(1)
        .map(|rest| {
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_' || *c == '@').collect();
            let after = rest[name.len()..].trim_start_matches("::");
            let item = if after.starts_with('{') {
                after.chars().take_while(|c| *c != '}').chain(['}']).collect()
            } else {
                after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
            };
            (name, item)
        })
        .collect()
}

#[test]
fn every_room_names_only_the_rooms_it_may_know() {
    let walls: BTreeMap<_, BTreeSet<_>> =
        WALLS.iter().map(|(room, may)| (*room, may.iter().copied().collect())).collect();
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let room = room(&path);
        let Some(may) = walls.get(room.as_str()) else { continue }; // pipeline, door, cli see several stages
        for (other, item) in named(&code(&text)) {
            if other == room {
                continue;
            }
            if !may.contains(other.as_str()) {
                broken.push(format!("{}: {room} names {other}", path.display()));
            }
            let only = ONLY.iter().find(|(from, to, _)| *from == room && *to == other);
            if only.is_some_and(|(_, _, allowed)| !allowed.contains(&item) && item != *allowed) {
                broken.push(format!("{}: {room} names {other}::{item}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "walls broken:\n{}", broken.join("\n"));
}

#[test]
fn fenced_crates_stay_in_their_rooms() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        for (name, place) in FENCED {
            let used = code(&text).contains(&format!("{name}::"));
            if used && !path.starts_with(place) {
                broken.push(format!("{} names {name}, which belongs in {place}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn unsafe_code_is_in_one_file() {
    let unsafe_files: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| code(text).contains("unsafe ") || text.contains("allow(unsafe_code)"))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(unsafe_files, [Path::new("src/ffi.rs")]);
}

#[test]
fn the_wall_test_can_fail() {
    assert_eq!(named("use crate::protect::seal;"), [("protect".to_owned(), "seal".to_owned())]);
    assert_eq!(named("use crate::protect::{Ppk, Ppp};"), [("protect".to_owned(), "{Ppk, Ppp}".to_owned())]);
    assert_eq!(code("let a = 1; // crate::bind\n#[cfg(test)] crate::bind"), "let a = 1; ");
}
