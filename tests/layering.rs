//! The walls of ARCHITECTURE.md, held by reading the sources: which room may know which. The reader works on tokens, so that
//! spacing, grouping, renaming and nesting hide nothing; what it cannot follow (`#[path]`, `include!`, a renamed crate) is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

use std::collections::BTreeSet;
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
    ("ceremony", &["secret", "error", "config", "certs", "hsm"]),
    ("audit", &["ids", "durable"]),
    // The ledger writes a change's line in the change's own transaction.
    ("store", &["ids", "secret", "error", "formats", "hsm", "durable", "audit"]),
    ("telemetry", &[]),
    ("order", &["ids", "error", "formats", "store", "durable"]),
    ("personalise", &["ids", "secret", "error", "formats", "durable"]),
    // A stage knows the value type of the stage before it, never its functions.
    ("protect", &["ids", "secret", "formats", "personalise"]),
    ("bind", &["ids", "secret", "error", "formats", "ffi", "protect"]),
    ("export", &["ids", "error", "store", "durable"]),
    // The judge shares the TLV reader with what it judges, the identifiers, the wiped types and the error type, and nothing else.
    ("verify", &["ids", "secret", "error", "formats"]),
    ("fleet", &["ids", "error", "formats", "durable"]),
];

/// Rooms without walls: they see several stages. A new room stands in one of the two lists.
const OPEN: &[&str] = &["pipeline", "cli", "lib", "main"];

/// What may be named of another room where the whole room would be too much.
const ONLY: &[(&str, &str, &[&str])] = &[
    ("verify", "formats", &["tlv"]),
    ("fleet", "formats", &["tlv", "curve"]),
    ("store", "formats", &["digest"]),
    ("protect", "personalise", &["Upp"]),
    ("bind", "protect", &["Ppk", "Ppp"]),
];

/// Crate -> the only place that may name it.
const FENCED: &[(&str, &str)] = &[
    ("cryptoki", "src/hsm/pkcs11"),
    ("rasn", "src/formats"),
    ("rayon", "src/pipeline"),
    ("rusqlite", "src/store"),
    ("openssl_sys", "src/ffi.rs"),
];

#[test]
fn every_room_names_only_the_rooms_it_may_know() {
    let broken: Vec<String> = sources().iter().flat_map(|(path, text)| walls_broken(path, text)).collect();
    assert!(broken.is_empty(), "walls broken:\n{}", broken.join("\n"));
}

#[test]
fn every_room_has_walls_or_is_open_and_no_list_speaks_of_rooms_that_are_gone() {
    let listed: BTreeSet<String> =
        WALLS.iter().map(|(room, _)| *room).chain(OPEN.iter().copied()).map(str::to_owned).collect();
    let there: BTreeSet<String> = sources().iter().map(|(path, _)| room(path)).collect();
    assert_eq!(there, listed);
    assert_eq!(WALLS.len() + OPEN.len(), listed.len(), "a room stands twice");
    let named = WALLS.iter().flat_map(|(_, may)| may.iter()).chain(ONLY.iter().flat_map(|(from, to, _)| [from, to]));
    named.for_each(|room| assert!(listed.contains(*room), "{room}"));
}

#[test]
fn fenced_crates_stay_in_their_rooms() {
    // Unit tests in files of their own (`mod tests;` behind cfg(test)) may look at the ledger with SQL.
    let is_test = |path: &Path| path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    let sources = sources();
    let code = sources.iter().filter(|(path, _)| !is_test(path));
    let broken: Vec<String> = code.flat_map(|(path, text)| fences_broken(path, text)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let manifest: toml::Table = fs::read_to_string("Cargo.toml").unwrap().parse().unwrap();
    for (name, dependency) in manifest["dependencies"].as_table().unwrap() {
        assert!(
            dependency.get("package").is_none(),
            "{name} is a crate under another name: the fences would not know it"
        );
    }
}

#[test]
fn unsafe_code_is_in_one_file() {
    let is_unsafe = |text: &str| {
        let tokens = tokens(text);
        tokens.contains(&"unsafe") || tokens.windows(3).any(|t| t == ["allow", "(", "unsafe_code"])
    };
    let files: Vec<_> = sources().into_iter().filter(|(_, text)| is_unsafe(text)).map(|(path, _)| path).collect();
    assert_eq!(files, [Path::new("src/ffi.rs")]);
}

#[test]
fn the_wall_test_can_fail() {
    // Each line breaks a wall from the file beside it.
    for (path, source) in [
        ("src/verify/mod.rs", "use crate::protect::seal;"),
        ("src/verify/mod.rs", "use crate::formats;"),
        ("src/verify/mod.rs", "use crate::formats::*;"),
        ("src/verify/mod.rs", "use crate::formats::{self, tlv};"),
        ("src/verify/mod.rs", "use crate::formats::{tlv, bsp::kdf};"),
        ("src/verify/mod.rs", "use crate::formats::tl;"),
        ("src/verify/mod.rs", "use crate::{formats::{tlv, bcd}, ids};"),
        ("src/verify/mod.rs", "use crate::{ids::Eid, order::Order};"),
        ("src/verify/mod.rs", "use crate::*;"),
        ("src/verify/mod.rs", "use crate::{self as root};"),
        ("src/verify/mod.rs", "use crate as root;"),
        ("src/verify/mod.rs", "extern crate bindery as it;"),
        ("src/verify/mod.rs", "use bindery::bind;"),
        ("src/verify/mod.rs", "fn f() { crate :: bind\n:: seal() }"),
        ("src/verify/mod.rs", "fn f() { crate /* a room */ ::r#bind::seal() }"),
        ("src/verify/mod.rs", "use super::bind::seal;"),
        ("src/verify/mod.rs", "use super::{bind};"),
        ("src/verify/bundle/tables.rs", "use super::super::super::bind;"),
        ("src/verify/bundle/tables.rs", "use self::super::super::super::{ids, bind};"),
        ("src/verify/mod.rs", "#[path = \"../bind/mod.rs\"] mod it;"),
        ("src/verify/mod.rs", "#[cfg_attr(all(), path = \"../bind/mod.rs\")] mod it;"),
        ("src/verify/mod.rs", "include!(\"../bind/mod.rs\");"),
        ("src/verify/mod.rs", "#[cfg(test)] mod tests; use crate::bind;"),
        ("src/verify/mod.rs", "#[cfg(test)]\nmod tests { fn f() { if true {} } } use crate::bind;"),
        ("src/verify/mod.rs", "#[cfg(test)] #[allow(x)] fn f() -> [u8; 4] { [0; 4] } use crate::bind;"),
        ("src/verify/mod.rs", "#[cfg(test)] use crate::formats::{a, b}; use crate::bind;"),
        ("src/verify/mod.rs", "struct S { #[cfg(test)] a: u8, b: crate::bind::Bpp }"),
        ("src/verify/mod.rs", "#[cfg(not(test))] mod real { use crate::bind; }"),
        ("src/verify/mod.rs", "const A: &str = \"// no comment\"; use crate::bind;"),
        ("src/verify/mod.rs", "const A: char = '\"'; use crate::bind; const B: char = '\"';"),
        ("src/verify/mod.rs", "const A: &str = r#\"/* \"#; use crate::bind; // */"),
        ("src/verify/mod.rs", "/* /* */ */ use crate::bind;"),
        ("src/verify/mod.rs", "fn f<'a>(x: &'a str) -> &'a str { crate::bind::g(x) }"),
        ("src/bind/mod.rs", "use crate::protect::Pp;"),
        ("src/bind/mod.rs", "use crate::protect::{Ppk, seal};"),
        ("src/protect/mod.rs", "use crate::personalise::{Upp, personalise};"),
        ("src/attic/mod.rs", "fn nobody_listed_this_room() {}"),
    ] {
        assert!(!walls_broken(Path::new(path), source).is_empty(), "{path}: {source}");
    }
    for (path, source) in [
        ("src/verify/mod.rs", "use crate::formats::tlv::{self, Reader}; use crate::{ids::Eid, error::{Exit, Fault}};"),
        ("src/verify/mod.rs", "use crate::formats::{tlv}; use crate::verify::bundle; use super::ids;"),
        ("src/verify/bundle/tables.rs", "use super::super::chain; use super::record; pub(crate) fn f() {}"),
        ("src/verify/mod.rs", "// use crate::bind\n/* use crate::bind */ const A: &str = \"crate::bind\";"),
        ("src/verify/mod.rs", "#[cfg(test)] mod tests { use crate::bind; } #[cfg(test)] use crate::bind;"),
        ("src/bind/mod.rs", "use crate::protect::{Ppk as K, Ppp};"),
        ("src/pipeline/mod.rs", "use crate::bind; use crate::protect;"),
    ] {
        assert_eq!(walls_broken(Path::new(path), source), Vec::<String>::new(), "{source}");
    }
    for source in ["use openssl_sys as x;", "openssl_sys :: EVP()", "extern crate rayon;", "use {rasn, std::fmt};"] {
        assert!(!fences_broken(Path::new("src/bind/mod.rs"), source).is_empty(), "{source}");
    }
    assert!(fences_broken(Path::new("src/ffi.rs"), "use openssl_sys as x; // cryptoki").is_empty());
}

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

/// The room a file belongs to: the first component below `src`.
fn room(path: &Path) -> String {
    let first = path.strip_prefix("src").unwrap().components().next().unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
}

/// How many `super` lead from a file's module to the root of the crate.
fn depth(path: &Path) -> usize {
    let below = path.strip_prefix("src").unwrap();
    let is_root = ["lib.rs", "main.rs"].iter().any(|name| below == Path::new(name));
    below.components().count() - usize::from(is_root || below.ends_with("mod.rs"))
}

fn walls_broken(path: &Path, text: &str) -> Vec<String> {
    let room = room(path);
    let told = |what: String| format!("{}: {what}", path.display());
    if OPEN.contains(&room.as_str()) {
        return Vec::new();
    }
    let Some((_, may)) = WALLS.iter().find(|(name, _)| *name == room) else {
        return vec![told(format!("room {room} has no walls and is not open"))];
    };
    let (named, mut broken) = named(&without_tests(&tokens(text)), depth(path));
    for steps in named {
        let (other, item) = (steps[0], steps.get(1).copied().unwrap_or_default());
        let only = ONLY.iter().find(|(from, to, _)| *from == room && *to == other);
        if other != room && !may.contains(&other) {
            broken.push(format!("{room} names {other}"));
        } else if only.is_some_and(|(_, _, items)| !items.contains(&item)) {
            broken.push(format!("{room} names {other}::{item}"));
        }
    }
    broken.into_iter().map(told).collect()
}

fn fences_broken(path: &Path, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let tokens = without_tests(&tokens);
    let outside = FENCED.iter().filter(|(name, place)| tokens.contains(name) && !path.starts_with(place));
    outside.map(|(name, place)| format!("{} names {name}, which belongs in {place}", path.display())).collect()
}

/// Every path from the root of the crate, step by step; and what hides such a path.
fn named<'t>(tokens: &[&'t str], depth: usize) -> (Vec<Vec<&'t str>>, Vec<String>) {
    let (mut paths, mut hidden) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let next = tokens.get(at + 1).copied().unwrap_or_default();
        let before = |n: usize| at.checked_sub(n).map(|i| tokens[i]).unwrap_or_default();
        match tokens[at] {
            "crate" | "bindery" if next == "::" => {
                expand(&tokens[at + 2..], &mut Vec::new(), &mut paths);
            }
            "crate" if before(1) == "(" && before(2) == "pub" => {}
            "crate" => hidden.push("gives the crate another name".to_owned()),
            "include" if next == "!" => hidden.push("includes a source file".to_owned()),
            "path" if next == "=" && tokens.get(at + 2) == Some(&"\"\"") => {
                hidden.push("names the file of a module".to_owned());
            }
            "super" => {
                let mut steps = 1;
                while tokens.get(at + 2 * steps - 1) == Some(&"::") && tokens.get(at + 2 * steps) == Some(&"super") {
                    steps += 1;
                }
                let end = at + 2 * steps - 1;
                if steps >= depth && tokens.get(end) == Some(&"::") {
                    expand(&tokens[end + 1..], &mut Vec::new(), &mut paths);
                }
                at = end - 1;
            }
            _ => {}
        }
        at += 1;
    }
    (paths, hidden)
}

/// Reads a path or a tree of paths, as behind `use crate::`; gives how many tokens it took.
fn expand<'t>(tokens: &[&'t str], stem: &mut Vec<&'t str>, paths: &mut Vec<Vec<&'t str>>) -> usize {
    let is_name = |token: &str| token.starts_with(|c: char| c.is_alphabetic() || c == '_');
    match tokens.first() {
        Some(&"{") => {
            let mut at = 1;
            while at < tokens.len() && tokens[at] != "}" {
                let taken = expand(&tokens[at..], &mut stem.clone(), paths);
                at += taken.max(1);
            }
            at + 1
        }
        Some(token) if is_name(token) || *token == "*" => {
            stem.push(token);
            if tokens.get(1) == Some(&"::") && tokens.get(2).is_some_and(|t| is_name(t) || ["{", "*"].contains(t)) {
                return 2 + expand(&tokens[2..], stem, paths);
            }
            paths.push(stem.clone());
            if tokens.get(1) == Some(&"as") { 3 } else { 1 }
        }
        _ => 0,
    }
}

/// Without the items behind `#[cfg(test)]`: tests may reach further. Only the one item that follows is dropped, to its closing
/// brace or semicolon; a field or variant ends at its comma.
fn without_tests<'t>(tokens: &[&'t str]) -> Vec<&'t str> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].starts_with(&MARK) {
            at += MARK.len();
            at += item_length(&tokens[at..]);
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    kept
}

fn item_length(tokens: &[&str]) -> usize {
    let mut nested = 0;
    let mut in_braces = 0;
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "{" => in_braces += 1,
            // The end of what the item stands in: it had no end of its own.
            "}" if in_braces == 0 => return at,
            "}" => {
                in_braces -= 1;
                if in_braces == 0 && nested == 0 {
                    return at + 1;
                }
            }
            _ if in_braces > 0 => {}
            "(" | "[" => nested += 1,
            ")" | "]" => nested -= 1,
            ";" | "," if nested == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Names, `::` and single signs; comments are gone, every text is `""`.
fn tokens(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (token, length) = if rest.starts_with("//") {
            ("", rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            ("", block_comment(rest))
        } else if let Some(length) = raw_text(rest) {
            ("\"\"", length)
        } else if let Some(after) = rest.strip_prefix("r#") {
            let name = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
            (&after[..name], 2 + name)
        } else if first == '"' {
            ("\"\"", quoted(rest, '"'))
        } else if first == '\'' {
            ("", character(rest))
        } else if name > 0 {
            // The prefix of `b"..."` and `c"..."` stays behind as a name, which harms nobody.
            (&rest[..name], name)
        } else if rest.starts_with("::") {
            ("::", 2)
        } else {
            let length = first.len_utf8();
            (rest[..length].trim(), length)
        };
        found.extend(Some(token).filter(|token| !token.is_empty()));
        rest = &rest[length..];
    }
    found
}

/// Block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut at, mut nested) = (0, 0);
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (at, nested) = (at + 2, nested + 1),
            [b'*', b'/', ..] => (at, nested) = (at + 2, nested - 1),
            _ => at += 1,
        }
        if nested == 0 {
            return at;
        }
    }
    text.len()
}

/// `r"..."`, `br#"..."#`.
fn raw_text(text: &str) -> Option<usize> {
    let start = ["r", "br", "cr"]
        .iter()
        .find(|start| text.strip_prefix(**start).is_some_and(|after| after.trim_start_matches('#').starts_with('"')))?;
    let hashes = text[start.len()..].find('"')?;
    let body = start.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text[body..].find(&end).map_or(text.len(), |at| body + at + end.len()))
}

fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character, or the mark of a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.chars().skip(1);
    let (first, second) = (chars.next(), chars.next());
    if first == Some('\\') || second == Some('\'') { quoted(text, '\'') } else { 1 }
}
