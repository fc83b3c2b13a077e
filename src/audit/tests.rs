use std::fs;
use std::path::PathBuf;

use data_encoding::BASE64;
use jiff::Timestamp;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use proptest::prelude::*;

use super::*;

/// A log and the heads that a ledger would hold.
struct Site {
    dir: tempfile::TempDir,
    log: Log,
    heads: Vec<Head>,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::beside(&dir.path().join("state.db")).with(noon, 4_000);
        Self { dir, log, heads: Vec::new() }
    }

    fn of(lines: u64) -> Self {
        let mut site = Self::new();
        (1..lines).for_each(|number| site.commit(&chunk(number)));
        site
    }

    fn head(&self) -> Head {
        self.heads.last().copied().unwrap_or(Head::NONE)
    }

    fn commit(&mut self, event: &Event) {
        let heads = self.log.append(&self.head(), event).unwrap();
        self.heads.extend(heads);
    }

    /// As a process that is killed between line and commit.
    fn crash(&self) {
        self.log.append(&self.head(), &chunk(99)).unwrap();
    }

    fn judge(&self) -> Verdict {
        self.judge_with(&Keys::default())
    }

    fn judge_with(&self, keys: &Keys) -> Verdict {
        Chain::read(self.log.dir()).unwrap().judge(&self.head(), &self.heads, keys)
    }

    fn files(&self) -> Vec<PathBuf> {
        files(self.log.dir()).unwrap()
    }

    fn newest(&self) -> PathBuf {
        self.files().pop().unwrap()
    }

    fn lines(&self) -> Vec<Line> {
        let text: Vec<u8> = self.files().iter().flat_map(|path| fs::read(path).unwrap()).collect();
        text.split_inclusive(|octet| *octet == b'\n').map(|line| Line::parse(line).unwrap()).collect()
    }

    fn events(&self) -> Vec<String> {
        self.lines().into_iter().map(|line| line.event).collect()
    }

    fn sign(&mut self, key: &EcKey<Private>, head: Head) {
        let text = Statement { head, at: noon() }.text();
        let der = EcdsaSig::sign(&sha256(text.as_bytes()), key).unwrap().to_der().unwrap();
        let public = PKey::from_ec_key(key.clone()).unwrap();
        let event = Event::new(Word::HeadSigned).name("statement", text).name("signature", BASE64.encode(&der));
        self.commit(&event.sha256("key_sha256", &sha256(&public.public_key_to_der().unwrap())));
    }
}

fn noon() -> Timestamp {
    "2026-11-21T12:00:00.5Z".parse().unwrap()
}

fn morning() -> Timestamp {
    "2026-11-21T09:00:00Z".parse().unwrap()
}

fn chunk(number: u64) -> Event {
    Event::new(Word::ChunkBound).number("chunk", number).sha256("object_sha256", &[7; 32])
}

fn key() -> EcKey<Private> {
    EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap()
}

fn keys(of: &[&EcKey<Private>]) -> Keys {
    let mut keys = Keys::default();
    for key in of {
        keys.add(&PKey::from_ec_key((*key).clone()).unwrap().public_key_to_pem().unwrap()).unwrap();
    }
    keys
}

#[test]
fn a_line_is_one_json_object_whose_hash_is_in_the_next() {
    let site = Site::of(3);
    let text = fs::read_to_string(site.newest()).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert!(lines[0].starts_with(
        r#"{"seq":1,"at":"2026-11-21T12:00:00.5Z","event":"log-begun","data":{"schema":"bindery.audit/1"},"by":{"uid":"#
    ));
    assert!(lines[0].ends_with(&format!("\"prev\":\"{}\"}}\n", "0".repeat(64))));
    for pair in lines.windows(2) {
        let prev = data_encoding::HEXLOWER.encode(&sha256(pair[0].as_bytes()));
        assert!(pair[1].ends_with(&format!("\"prev\":\"{prev}\"}}\n")), "{}", pair[1]);
    }
    assert_eq!(site.judge().broken, None);
}

#[test]
fn the_chain_goes_on_through_files_that_are_named_by_their_first_line() {
    let site = Site::of(30);
    assert!(site.files().len() > 2);
    for path in site.files() {
        let first = Line::parse(fs::read(&path).unwrap().split(|octet| *octet == b'\n').next().unwrap()).unwrap();
        assert!(path.ends_with(format!("audit-{:012}.jsonl", first.seq)));
        assert!(path.metadata().unwrap().len() < 5_000);
    }
    assert_eq!((site.judge().broken, site.lines().len()), (None, 30));
}

#[test]
fn a_line_whose_commit_never_came_is_declared_void_by_the_next_and_a_log_may_begin_so() {
    for before in [0, 5] {
        let mut site = Site::of(before);
        site.crash();
        let verdict = site.judge();
        assert_eq!(verdict.broken, None);
        assert!(verdict.warnings[0].contains("nothing is committed"), "{:?}", verdict.warnings);
        site.crash();
        site.crash();
        site.commit(&chunk(100));
        assert_eq!(site.judge().broken, None);
        let void = site.lines().into_iter().rfind(|line| line.event == "void").unwrap();
        assert_eq!((void.number("from"), void.number("to")), (Some(before + 1), Some(void.seq - 1)));
        site.commit(&chunk(101));
        assert_eq!((site.judge().broken, site.events().last().unwrap().as_str()), (None, "chunk-bound"));
    }
}

#[test]
fn a_torn_end_is_cut_off_and_told_of_wherever_it_was_torn() {
    let whole = Site::of(3);
    let text = fs::read(whole.newest()).unwrap();
    let last = text[..text.len() - 1].iter().rposition(|octet| *octet == b'\n').unwrap() + 1;
    for torn in [&text[last..last + 1], &text[last..text.len() - 1], b"\0\0\0\0", b"\0\0\n\0"] {
        for lines in [1, 3, 9] {
            let mut site = Site::of(lines);
            let path = site.files().pop().unwrap_or_else(|| site.log.dir().join("audit-000000000001.jsonl"));
            fs::create_dir_all(site.log.dir()).unwrap();
            let sound = fs::read(&path).unwrap_or_default();
            fs::write(&path, [&sound, torn].concat()).unwrap();
            site.commit(&chunk(50));
            assert_eq!(site.judge().broken, None);
            let repaired = site.lines().into_iter().find(|line| line.event == "repaired").unwrap();
            assert_eq!(repaired.number("octets"), Some(torn.len() as u64));
        }
    }
}

#[test]
fn a_clock_that_goes_back_is_written_down_and_warned_of_and_breaks_nothing() {
    let mut site = Site::of(3);
    site.log = Log::beside(&site.dir.path().join("state.db")).with(morning, 4_000);
    site.commit(&chunk(3));
    site.commit(&chunk(4));
    assert_eq!(site.lines()[3].clock_back_ms, Some(10_800_500));
    assert_eq!(site.lines()[4].clock_back_ms, None);
    let verdict = site.judge();
    assert_eq!(verdict.broken, None);
    assert!(verdict.warnings[0].contains("line 4: the clock went back by 10800.500 s"), "{:?}", verdict.warnings);
}

#[test]
fn lines_cut_off_at_the_end_are_missed_by_the_ledger_and_nothing_is_written_behind_the_gap() {
    let site = Site::of(4);
    let text = fs::read(site.newest()).unwrap();
    let last = text[..text.len() - 1].iter().rposition(|octet| *octet == b'\n').unwrap() + 1;
    fs::write(site.newest(), &text[..last]).unwrap();
    let broken = site.judge().broken.unwrap();
    assert_eq!((broken.seq, broken.line), (4, 4));
    assert!(broken.what.contains("the ledger knows 4 lines"), "{}", broken.what);
    assert!(matches!(site.log.append(&site.head(), &chunk(9)), Err(AuditError::Lost { seq: 4, .. })));
    fs::remove_dir_all(site.log.dir()).unwrap();
    assert_eq!(site.judge().broken.unwrap().seq, 1);
    assert!(matches!(site.log.append(&site.head(), &chunk(9)), Err(AuditError::Lost { .. })));
}

#[test]
fn a_ledger_older_than_the_log_is_found_by_the_writer_and_by_the_judge() {
    for (lines, kept) in [(5, 3), (30, 28), (30, 5), (30, 0)] {
        let mut site = Site::of(lines);
        site.heads.truncate(kept);
        let refused = site.log.append(&site.head(), &chunk(9));
        assert!(matches!(refused, Err(AuditError::LedgerBehind { .. })), "{lines} {kept}: {refused:?}");
        let broken = site.judge().broken.unwrap();
        assert!(broken.what.contains("older one"), "{broken:?}");
    }
}

#[test]
fn a_line_with_a_right_hash_that_the_ledger_never_saw_is_found_in_the_middle() {
    let mut site = Site::of(3);
    site.crash();
    // Its void line is left out: as somebody would who adds a line and mends the chain.
    let forged = Head { seq: 4, sha256: sha256(&last_line(&site)) };
    site.heads.extend(site.log.append(&forged, &chunk(5)).unwrap());
    let broken = site.judge().broken.unwrap();
    assert_eq!((broken.seq, broken.what.as_str()), (4, "was never committed and is not declared void"));
}

#[test]
fn signatures_are_checked_against_believed_keys_and_the_lines_that_they_name() {
    let (ours, next, foreign) = (key(), key(), key());
    let mut site = Site::of(3);
    site.sign(&ours, site.head());
    site.sign(&next, site.head());
    let verdict = site.judge_with(&keys(&[&ours, &next]));
    assert_eq!((verdict.broken, verdict.signatures, verdict.signed), (None, 2, Some(4)));
    assert_eq!(verdict.signed_by.len(), 2);
    assert!(verdict.warnings.is_empty(), "{:?}", verdict.warnings);
    let broken = site.judge_with(&keys(&[&ours])).broken.unwrap();
    assert!(broken.seq == 5 && broken.what.contains("not believed"), "{broken:?}");
    site.commit(&chunk(7));
    assert!(site.judge_with(&keys(&[&ours, &next])).warnings[0].contains("last 2 lines are not signed"));
    site.sign(&ours, Head { seq: 2, sha256: [1; 32] });
    let broken = site.judge_with(&keys(&[&ours, &next, &foreign])).broken.unwrap();
    assert!(broken.seq == 7 && broken.what.contains("signs another line 2"), "{broken:?}");
}

#[test]
fn what_cannot_be_written_is_an_error_and_leaves_no_half_line() {
    let site = Site::of(3);
    let before = fs::read(site.newest()).unwrap();
    fs::rename(site.log.dir(), site.dir.path().join("away")).unwrap();
    fs::write(site.log.dir(), b"in the way").unwrap();
    assert!(matches!(site.log.append(&site.head(), &chunk(9)), Err(AuditError::File { .. })));
    fs::remove_file(site.log.dir()).unwrap();
    fs::rename(site.dir.path().join("away"), site.log.dir()).unwrap();
    assert_eq!(fs::read(site.newest()).unwrap(), before);
}

fn last_line(site: &Site) -> Vec<u8> {
    fs::read(site.newest()).unwrap().split_inclusive(|octet| *octet == b'\n').next_back().unwrap().to_vec()
}

/// The log's lines, to be changed and put back into the files that they were in, by their numbers.
fn tampered(site: &Site, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let path = site.newest();
    let text = fs::read(&path).unwrap();
    let mut lines: Vec<Vec<u8>> = text.split_inclusive(|octet| *octet == b'\n').map(<[u8]>::to_vec).collect();
    change(&mut lines);
    fs::write(path, lines.concat()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_flipped_bit_in_any_file_is_found(lines in 2_u64..20, at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let site = Site::of(lines);
        let files = site.files();
        let path = &files[at.index(files.len())];
        let mut text = fs::read(path).unwrap();
        let place = at.index(text.len());
        text[place] ^= 1 << bit;
        fs::write(path, text).unwrap();
        prop_assert!(site.judge().broken.is_some());
    }

    #[test]
    fn any_line_removed_doubled_or_moved_is_found(
        lines in 3_u64..7, from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(), what in 0..3_u8,
    ) {
        let site = Site::of(lines);
        tampered(&site, |lines| {
            let (from, to) = (from.index(lines.len()), to.index(lines.len()));
            match what {
                0 => { lines.remove(from); }
                1 => lines.insert(to, lines[from].clone()),
                _ if from == to => { lines.truncate(from); }
                _ => lines.swap(from, to),
            }
        });
        let verdict = site.judge();
        // A copy of the last line behind itself is no part of the chain, but no line is wrong before it.
        prop_assert!(verdict.broken.is_some(), "{verdict:?}");
    }

    #[test]
    fn whatever_is_crashed_and_committed_in_turn_the_log_stays_whole(steps in prop::collection::vec(any::<bool>(), 1..25)) {
        let mut site = Site::new();
        for (at, is_committed) in steps.into_iter().enumerate() {
            if is_committed { site.commit(&chunk(at as u64)) } else { site.crash() }
            prop_assert_eq!(site.judge().broken, None);
        }
    }
}
