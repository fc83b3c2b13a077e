//! What a batch leaves in the memory of its process: a process of its own runs a batch and a binding and stays alive; this one,
//! which opens the packages as their eUICCs would and the ledger through the token, reads all of that process's memory and searches
//! it for K, OPc, OTA keys, PINs, PUKs, ADM, PPKs, session keys and the batch keys, raw and in hex. And a process that dies leaves
//! no core file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bindery::config::Site;
use bindery::pipeline::{self, Audit};
use bindery::telemetry::ProgressMode;
use data_encoding::{HEXLOWER, HEXUPPER};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use openssl::symm::{Cipher, Crypter, Mode};
use yard::opened::{Secrets, package_secrets, sealed_secrets};
use yard::{Yard, files_below, rows_csv};

const RECORDS: usize = 200;
/// Says to the test binary that it is the process to be searched: the yard's directory.
const ROLE: &str = "MEMORY_TEST_YARD";
/// What the searched process plants, masked, so that its environment does not hold it.
const PLANT: &str = "MEMORY_TEST_PLANT";
const MASK: u8 = 0xA5;
/// A PIN is four digits and FF: a tenth of all there are is looked for, and digits before FF stand here and there in memory. What
/// leaks PINs leaks those of a chunk.
const PINS_BY_CHANCE: usize = 4;
/// What the searched process prints when it stands still.
const READY: &str = "ready to be searched";

#[test]
fn no_secret_of_a_batch_is_in_the_memory_of_its_process() {
    if let Some(yard) = std::env::var_os(ROLE) {
        return be_searched(Path::new(&yard));
    }
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 2 * RECORDS);
    yard.prebound_order("PO-1", &keys[..RECORDS]).submit().exits(0);
    let eids: Vec<&str> = keys[RECORDS..].iter().map(|key| key["eid"].as_str().unwrap()).collect();
    yard.stored_order("PO-2", &eids).submit().exits(0);

    let planted: Vec<u8> = openssl::sha::sha256(yard.site().to_str().unwrap().as_bytes())[..16].to_vec();
    let mut searched = Searched::start(&yard, &planted);
    let mut secrets: Secrets = vec![("planted".into(), planted)];
    let pin = fs::read_to_string(yard.site().join("token/pin")).unwrap();
    secrets.push(("HSM PIN".into(), pin.trim().into()));
    secrets.extend(package_secrets(&yard, &yard.outbox("PO-1")));
    secrets.extend(sealed_secrets(&yard));
    secrets.extend(["PO-1", "PO-2"].iter().flat_map(|order| core_secrets(&yard, order)));
    searched.holds_nothing_but_the_plant(&without_chance(&yard, &secrets), "after the batch");
    searched.go_on();
    secrets.extend(package_secrets(&yard, &yard.outbox("PO-2+bound-001")));
    let kinds: BTreeSet<&str> = secrets.iter().map(|(what, _)| what.as_str()).collect();
    for kind in ["K", "OPc", "OTA key", "PIN", "PUK", "ADM", "ECDH secret", "S-ENC", "S-MAC", "PPK", "batch key", "OP"]
    {
        assert!(kinds.contains(kind), "the test found no {kind} to look for");
    }
    let ks: BTreeSet<&[u8]> = secrets.iter().filter(|(what, _)| what == "K").map(|(_, k)| &k[..]).collect();
    assert_eq!(ks.len(), 2 * RECORDS, "packages and core files tell the same K");
    searched.holds_nothing_but_the_plant(&without_chance(&yard, &secrets), "after the binding");
    searched.end();
}

/// K and OPc as the core network opens them.
fn core_secrets(yard: &Yard, order: &str) -> Secrets {
    let hex = |text: &str| HEXLOWER.decode(text.trim().as_bytes()).unwrap();
    let key = hex(&fs::read_to_string(yard.site().join("core-demo.key")).unwrap());
    let open = |text: &str| {
        let mut crypter = Crypter::new(Cipher::aes_256_ecb(), Mode::Decrypt, &key, None).unwrap();
        crypter.pad(false);
        let mut plain = vec![0; text.len() / 2 + 16];
        let written = crypter.update(&hex(text), &mut plain).unwrap();
        plain.truncate(written);
        plain
    };
    let rows = rows_csv(&yard.outbox(order).join("core.csv"));
    rows.iter()
        .flat_map(|row| [("K".to_owned(), open(&row["ki_enc"])), ("OPc".to_owned(), open(&row["opc_enc"]))])
        .collect()
}

/// Codes are short: one that stands in a file of the site by chance stands in memory too. Files hold no secret
/// (`cargo test --test secrets`).
fn without_chance(yard: &Yard, secrets: &Secrets) -> Secrets {
    let (codes, mut others): (Secrets, Secrets) = secrets.iter().cloned().partition(|(_, value)| value.len() <= 8);
    let each: Secrets = codes.iter().map(|(_, value)| (HEXLOWER.encode(value), value.clone())).collect();
    let (search, mut by_chance) = (Search::new(&each), BTreeSet::new());
    for file in files_below(&yard.path("")) {
        search.each_in(&fs::read(file).unwrap(), |(value, ..), _| _ = by_chance.insert(value.clone()));
    }
    let before = codes.len();
    others.extend(codes.into_iter().filter(|(_, value)| !by_chance.contains(&HEXLOWER.encode(value))));
    assert!(by_chance.len() < before / 10, "{} of {before} codes stand in files", by_chance.len());
    others
}

/// The other process: a planted value, a batch, nothing until it is told to go on; a binding, nothing until its input ends.
fn be_searched(yard: &Path) {
    let mut planted = HEXLOWER.decode(std::env::var(PLANT).unwrap().as_bytes()).unwrap();
    planted.iter_mut().for_each(|octet| *octet ^= MASK);
    let site = Site::open(&yard.join("site")).unwrap();
    let stop = AtomicBool::new(false);
    let outcome = pipeline::run(&site, &[], Audit::All, ProgressMode::Off, &stop).unwrap();
    assert_eq!((outcome.reports.len(), outcome.faults.len()), (2, 0));
    drop(outcome);
    println!("\n{READY}");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    let key_file = yard.join("fleet/euicc.jsonl");
    let bound = pipeline::bind_stored(&site, "PO-2", &key_file, ProgressMode::Off, &stop).unwrap();
    assert_eq!(bound.bound, RECORDS as u64);
    println!("\n{READY}");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(planted.len(), 16);
}

/// How one kind of secret was found.
#[derive(Debug, Default)]
struct Hits {
    /// The different ones.
    patterns: BTreeSet<Vec<u8>>,
    /// One place by form and mapping, with what stands around it.
    places: BTreeMap<String, String>,
}

struct Searched {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Searched {
    /// This test binary again, in its other role; back when the batch is done.
    fn start(yard: &Yard, planted: &[u8]) -> Self {
        let masked: Vec<u8> = planted.iter().map(|octet| octet ^ MASK).collect();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "no_secret_of_a_batch_is_in_the_memory_of_its_process", "--nocapture"])
            .env(ROLE, yard.path(""))
            .env(PLANT, HEXLOWER.encode(&masked))
            .env_remove("SOFTHSM2_CONF")
            .envs(yard.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut searched = Self { process, lines };
        searched.wait();
        searched
    }

    fn wait(&mut self) {
        assert!(self.lines.by_ref().map(Result::unwrap).any(|line| line == READY), "the process did not get there");
    }

    fn go_on(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self.wait();
    }

    fn holds_nothing_but_the_plant(&self, secrets: &Secrets, when: &str) {
        let mut found = self.search(&Search::new(secrets));
        assert!(found.remove("planted").is_some(), "{when} the search does not even find what was planted: {found:#?}");
        found.retain(|what, hits| what != "PIN" || hits.patterns.len() > PINS_BY_CHANCE);
        assert!(found.is_empty(), "{when} in the memory of the process: {found:#?}");
    }

    /// What was found, by kind of secret.
    fn search(&self, search: &Search) -> BTreeMap<String, Hits> {
        let proc = Path::new("/proc").join(self.process.id().to_string());
        let memory = fs::File::open(proc.join("mem")).unwrap();
        let mut found: BTreeMap<String, Hits> = BTreeMap::new();
        let mut octets_read = 0;
        for line in fs::read_to_string(proc.join("maps")).unwrap().lines() {
            let mut words = line.split_whitespace();
            let (range, rights) = (words.next().unwrap(), words.next().unwrap());
            let name = words.nth(3).unwrap_or("anonymous").to_owned();
            if !rights.starts_with('r') || name.starts_with("[v") {
                continue;
            }
            let (from, to) = range.split_once('-').unwrap();
            let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
            let mut content = vec![0; (to - from) as usize];
            // A mapping may end behind its file: what is there is read.
            let read = memory.read_at(&mut content, from).unwrap_or(0);
            content.truncate(read);
            let is_own = ["anonymous", "[heap]", "[stack]"].contains(&name.as_str());
            assert!(!is_own || read as u64 == to - from, "{line}: {read} octets read");
            octets_read += read;
            search.each_in(&content, |(what, form, pattern), at| {
                let hits = found.entry(what.clone()).or_default();
                hits.patterns.insert(pattern.clone());
                let around = &content[at.saturating_sub(48)..(at + 80).min(content.len())];
                let place = || format!("{:x}: {}", from + at as u64, HEXLOWER.encode(around));
                hits.places.entry(format!("{form} in {name}")).or_insert_with(place);
            });
        }
        assert!(octets_read > 1 << 20, "only {octets_read} octets could be read");
        found
    }

    fn end(mut self) {
        drop(self.process.stdin.take());
        assert!(self.lines.by_ref().all(|line| line.is_ok()));
        assert!(self.process.wait().unwrap().success());
    }
}

/// What it is, form, octets.
type Pattern = (String, &'static str, Vec<u8>);

/// Many patterns in one pass.
struct Search {
    /// Whether a pattern begins with these three octets.
    begins: Vec<bool>,
    /// By their first eight octets.
    patterns: HashMap<[u8; 8], Vec<Pattern>>,
}

impl Search {
    fn new(secrets: &Secrets) -> Self {
        let mut search = Self { begins: vec![false; 1 << 24], patterns: HashMap::new() };
        for (what, secret) in secrets {
            let forms = [
                ("raw", secret.clone()),
                ("hex", HEXLOWER.encode(secret).into_bytes()),
                ("HEX", HEXUPPER.encode(secret).into_bytes()),
            ];
            for (form, pattern) in forms {
                search.begins[three(&pattern)] = true;
                let head = pattern[..8].try_into().unwrap();
                search.patterns.entry(head).or_default().push((what.clone(), form, pattern));
            }
        }
        search
    }

    /// Tells every place.
    fn each_in(&self, content: &[u8], mut found: impl FnMut(&Pattern, usize)) {
        for at in 0..content.len().saturating_sub(7) {
            if !self.begins[three(&content[at..])] {
                continue;
            }
            for pattern in self.patterns.get(&content[at..at + 8]).into_iter().flatten() {
                if content[at..].starts_with(&pattern.2) {
                    found(pattern, at);
                }
            }
        }
    }
}

fn three(octets: &[u8]) -> usize {
    usize::from(octets[0]) << 16 | usize::from(octets[1]) << 8 | usize::from(octets[2])
}

#[test]
fn the_doctor_tells_that_dumps_are_off_and_whether_memory_is_locked() {
    let report = Yard::demo().run(&["--json", "doctor"]).exits(0).json();
    let memory = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "memory").unwrap();
    let text = memory["text"].as_str().unwrap();
    assert!(text.starts_with("core dumps off, memory ") && text.contains("swap"), "{text}");
}

#[test]
fn a_process_that_dies_leaves_no_core_file() {
    for signal in [Signal::SIGABRT, Signal::SIGSEGV] {
        let yard = Yard::demo();
        let keys = yard.fleet("fleet", 400);
        yard.prebound_order("PO-1", &keys).submit().exits(0);
        let here = yard.path("here");
        fs::create_dir(&here).unwrap();
        // As much as the caller can allow; `exec` keeps the process number.
        let script = "ulimit -c unlimited 2>/dev/null || ulimit -c $(ulimit -H -c); exec \"$0\" --site \"$1\" run";
        let mut run = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_bindery"), yard.site().to_str().unwrap()])
            .envs(yard.environment())
            .current_dir(&here)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        // Once there is a plan, the process knows secrets.
        while yard.ledger_count("SELECT count(*) FROM chunks") == 0 {
            assert!(started.elapsed() < Duration::from_secs(60), "no progress");
            std::thread::sleep(Duration::from_millis(2));
        }
        let limits = fs::read_to_string(format!("/proc/{}/limits", run.id())).unwrap();
        let core: Vec<&str> =
            limits.lines().find(|line| line.starts_with("Max core")).unwrap().split_whitespace().collect();
        assert_eq!(core[4..6], ["0", "0"], "{core:?}");
        // The runtime's own handler lets a first SIGSEGV pass that no access caused.
        let status = loop {
            match run.try_wait().unwrap() {
                Some(status) => break status,
                None => kill(Pid::from_raw(run.id() as i32), signal).unwrap(),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_eq!((status.signal(), status.core_dumped()), (Some(signal as i32), false));
        assert_eq!(fs::read_dir(&here).unwrap().count(), 0, "a file was left");
    }
}
