//! No secret in any file, log line or error: the test opens every package as its eUICC would, collects K, OPc, OTA keys, PINs,
//! session keys and PPKs, and searches the whole site, the bundle and everything that was printed, also by commands that fail at the
//! loudest log level: raw, hex, base64 and lists of decimals. And no identifier stands unmasked on stderr.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

use data_encoding::{BASE64, HEXLOWER};
use serde_json::Value;
use yard::Yard;
use yard::opened::{Secrets, package_secrets, sealed_secrets};

/// Everything that commands said, each with what it was.
#[derive(Default)]
struct Printed {
    all: String,
    stderr: Vec<(&'static str, String)>,
}

impl Printed {
    fn note(&mut self, what: &'static str, ran: yard::Ran) {
        self.all.push_str(&ran.out);
        self.all.push_str(&ran.err);
        self.stderr.push((what, ran.err));
    }
}

/// As loud as it gets.
const LOUD: (&str, &str) = ("BINDERY_LOG", "trace");
const WRONG_PIN: &str = "0WRONG1PIN8OF9A0TEST";

#[test]
fn no_secret_is_in_a_file_or_in_what_was_printed_and_no_identifier_in_a_log() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 12);
    let eids: Vec<&str> = keys[3..].iter().map(|key| key["eid"].as_str().unwrap()).collect();
    let key_file = yard.path("fleet/euicc.jsonl");
    let bind =
        |order: &str| yard.run_with(&["--json", "bind", order, "--euicc-data", key_file.to_str().unwrap()], &[LOUD]);
    let mut printed = Printed::default();
    printed.note("submit", yard.prebound_order("PO-1", &keys[..3]).submit_with(&[LOUD]).exits(0));
    printed.note("submit", yard.stored_order("PO-2", &eids[..3]).submit_with(&[LOUD]).exits(0));
    printed.note("run", yard.run_with(&["run"], &[LOUD]).exits(0));
    let bound = bind("PO-2").exits(0);
    let bundles = [yard.outbox("PO-1"), bound.json()["bundle"].as_str().unwrap().into()];
    printed.note("bind", bound);
    let secrets_file = yard.path("fleet/secrets.jsonl");
    for bundle in &bundles {
        let args = ["verify", bundle.to_str().unwrap(), "--secrets", secrets_file.to_str().unwrap()];
        printed.note("verify", yard.run_with(&args, &[LOUD]).exits(0));
    }
    printed.note("doctor", yard.run_with(&["doctor"], &[LOUD]).exits(0));
    fail_in_every_way(&yard, &keys, &mut printed);

    let known = known_identifiers(&yard, &keys);
    for (what, stderr) in &printed.stderr {
        let found = identifier_in(stderr).or(known.iter().map(String::as_str).find(|number| stderr.contains(number)));
        assert_eq!(found, None, "{what} prints an identifier unmasked on stderr:\n{stderr}");
    }
    let mut secrets: Secrets = bundles.iter().flat_map(|bundle| package_secrets(&yard, bundle)).collect();
    secrets.extend(sealed_secrets(&yard));
    for (what, file) in [("HSM PIN", "token/pin"), ("transport key", "core-demo.key")] {
        let text = fs::read_to_string(yard.site().join(file)).unwrap().trim().to_owned();
        let value = if what == "HSM PIN" { text.into_bytes() } else { HEXLOWER.decode(text.as_bytes()).unwrap() };
        secrets.push((what.into(), value));
    }
    secrets.push(("wrong PIN".into(), WRONG_PIN.into()));
    for kind in
        ["K", "OPc", "OTA key", "PIN", "PUK", "ADM", "ECDH secret", "MCV", "S-ENC", "S-MAC", "PPK", "batch key", "OP"]
    {
        assert!(secrets.iter().any(|(what, _)| what == kind), "the test found no {kind} to look for");
    }
    let mut places: BTreeMap<String, Vec<u8>> = BTreeMap::from([("(printed)".to_owned(), printed.all.into_bytes())]);
    for path in yard::files_below(&yard.site()) {
        places.insert(path.strip_prefix(yard.site()).unwrap().display().to_string(), fs::read(&path).unwrap());
    }
    assert!(places.contains_key("state.db"), "the ledger is among the files searched");
    let search = Search::new(&secrets);
    for (place, content) in &places {
        for (what, form) in search.of(content) {
            // Where the site keeps these two, and nowhere else.
            let is_home =
                matches!((what, place.as_str()), ("HSM PIN", "token/pin") | ("transport key", "core-demo.key"));
            assert!(is_home, "{what} stands in {place} ({form})");
        }
    }
    for (what, home) in [("HSM PIN", "token/pin"), ("transport key", "core-demo.key")] {
        assert!(search.of(&places[home]).iter().any(|(found, _)| *found == what), "the search sees {what} at its home");
    }
}

/// Errors are where secrets and identifiers slip out: bad key files, a wrong PIN, a damaged vault.
fn fail_in_every_way(yard: &Yard, keys: &[Value], printed: &mut Printed) {
    let bad_keys = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut keys = keys[6..9].to_vec();
        change(&mut keys[1]);
        yard.prebound_order(name, &keys)
    };
    let other = keys[0].clone();
    let orders = [
        bad_keys("BAD-1", &|key| key["signature"] = other["signature"].clone()),
        bad_keys("BAD-2", &|key| key["euicc_otpk"] = "not base64".into()),
        bad_keys("BAD-3", &|key| key["euicc_certificate"] = other["euicc_certificate"].clone()),
        bad_keys("BAD-4", &|key| key["eid"] = keys[7]["eid"].as_str().unwrap().replace("89", "98").into()),
        bad_keys("BAD-5", &|key| *key = other.clone()),
    ];
    for order in orders {
        printed.note("submit with a bad key file", order.submit_with(&[LOUD]).exits(4));
    }
    let mut order = yard.prebound_order("BAD-6", &keys[6..9]);
    let text: String = keys[6..9].iter().map(|key| key.to_string().replacen('{', "{{", 1) + "\n").collect();
    order.file("euicc_data", "BAD-6.euicc.jsonl", &text);
    printed.note("submit with a key file that is no JSON", order.submit_with(&[LOUD]).exits(4));
    let order = yard.prebound_order("BAD-7", &keys[6..9]);
    fs::write(yard.path("orders/BAD-7.euicc.jsonl"), &text).unwrap();
    printed.note("submit with a changed key file", order.submit_with(&[LOUD]).exits(4));
    let mut order = yard.prebound_order("BAD-8", &keys[6..9]);
    order.line()["imsi"]["first"] = "00101999999999999".into();
    order.line()["iccid"]["first"] = "8949000000000000001".into();
    printed.note("submit with bad numbers", order.submit_with(&[LOUD]).exits(4));

    let eids: Vec<&str> = keys[9..].iter().map(|key| key["eid"].as_str().unwrap()).collect();
    printed.note("submit", yard.stored_order("PO-3", &eids).submit_with(&[LOUD]).exits(0));
    printed.note("run with a wrong PIN", yard.run_with(&["run"], &[LOUD, ("BINDERY_PIN", WRONG_PIN)]).exits(7));
    let vault = yard.site().join("vault");
    let before = yard::files_below(&vault);
    printed.note("run", yard.run_with(&["run"], &[LOUD]).exits(0));
    let stored: Vec<_> = yard::files_below(&vault).into_iter().filter(|path| !before.contains(path)).collect();
    assert!(!stored.is_empty(), "the profiles are stored in the vault");
    for path in stored {
        let mut octets = fs::read(&path).unwrap();
        octets.iter_mut().step_by(97).for_each(|octet| *octet ^= 0x40);
        fs::write(&path, octets).unwrap();
    }
    let key_file = yard.path("fleet/euicc.jsonl");
    let bind = ["bind", "PO-3", "--euicc-data", key_file.to_str().unwrap()];
    printed.note("bind from a damaged vault", yard.run_with(&bind, &[LOUD]).exits(8));
}

/// The first word of digits alone that is long enough for an IMSI, ICCID or EID. Masked ones have stars in their middle, hashes
/// have letters.
fn identifier_in(text: &str) -> Option<&str> {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.find(|word| word.len() >= 15 && word.bytes().all(|b| b.is_ascii_digit()))
}

/// EIDs of the fleet, ICCIDs and IMSIs of the ledger.
fn known_identifiers(yard: &Yard, keys: &[Value]) -> Vec<String> {
    let connection = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    let sql = "SELECT iccid FROM devices WHERE iccid NOT NULL UNION SELECT imsi FROM devices WHERE imsi NOT NULL";
    let mut query = connection.prepare(sql).unwrap();
    let numbers = query.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap);
    let mut known: Vec<String> = numbers.collect();
    assert!(known.len() >= 18, "nine profiles have an ICCID and an IMSI each");
    known.extend(keys.iter().map(|key| key["eid"].as_str().unwrap().to_owned()));
    known
}

#[test]
fn the_search_finds_what_is_there() {
    let secret: Vec<u8> = (0x3C..0x4C).collect();
    let secrets = vec![("K".to_owned(), secret.clone())];
    let search = Search::new(&secrets);
    let base64 = |before: usize| BASE64.encode(&[&[1; 2][..before], &secret, &[2]].concat());
    let forms = [
        format!("{secret:?}"),
        format!("{secret:#?}"),
        serde_json::to_string(&secret).unwrap(),
        HEXLOWER.encode(&secret),
        HEXLOWER.encode(&secret).to_uppercase(),
        base64(0),
        base64(1),
        base64(2),
        String::from_utf8(secret.clone()).unwrap(),
    ];
    for form in forms {
        assert_eq!(search.of(format!("...{form}...").as_bytes()).len(), 1, "{form}");
        assert!(search.of(&format!("...{form}...").as_bytes()[..form.len() - 8]).is_empty(), "{form}");
    }
    assert_eq!(identifier_in("eid 890490************************35, imsi 001010*******01 at 12:00:00.123456789"), None);
    assert_eq!(identifier_in("SHA-256 a00123456789012345678901b"), None);
    assert_eq!(identifier_in("imsi=001010000000001,"), Some("001010000000001"));
}

/// Which secret, in which form, and its octets.
type Pattern<'s> = (&'s str, &'static str, Vec<u8>);

/// All forms of all secrets, found in one pass over a content.
struct Search<'s> {
    /// By their first octets: secret, form, pattern.
    patterns: HashMap<[u8; Search::HEAD], Vec<Pattern<'s>>>,
}

impl<'s> Search<'s> {
    const HEAD: usize = 8;

    fn new(secrets: &'s Secrets) -> Self {
        let mut patterns: HashMap<_, Vec<_>> = HashMap::new();
        for (what, secret) in secrets {
            for (form, pattern) in forms(secret) {
                let head = pattern[..Self::HEAD].try_into().expect("no secret is shorter than 8 octets");
                patterns.entry(head).or_default().push((what.as_str(), form, pattern));
            }
        }
        Self { patterns }
    }

    /// Lists of decimals are looked for without the spaces and line ends that `Debug` puts between them.
    fn of(&self, content: &[u8]) -> BTreeSet<(&'s str, &'static str)> {
        let squeezed: Vec<u8> = content.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect();
        let mut found = self.within(content, |form| form != "decimal");
        found.extend(self.within(&squeezed, |form| form == "decimal"));
        found
    }

    fn within(&self, content: &[u8], wanted: impl Fn(&str) -> bool) -> BTreeSet<(&'s str, &'static str)> {
        let mut found = BTreeSet::new();
        for at in 0..content.len().saturating_sub(Self::HEAD - 1) {
            let Some(patterns) = self.patterns.get(&content[at..at + Self::HEAD]) else { continue };
            let here = patterns.iter().filter(|(_, form, pattern)| wanted(form) && content[at..].starts_with(pattern));
            found.extend(here.map(|(what, form, _)| (*what, *form)));
        }
        found
    }
}

/// The ways a secret could be written down; base64 at each of its three alignments, without the characters that neighbours share.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex = HEXLOWER.encode(secret);
    let decimals: Vec<String> = secret.iter().map(u8::to_string).collect();
    let mut forms = vec![
        ("raw", secret.to_vec()),
        ("hex", hex.to_uppercase().into_bytes()),
        ("hex", hex.into_bytes()),
        ("decimal", decimals.join(",").into_bytes()),
    ];
    for shift in 0..3 {
        let padded = [&[0; 2][..shift], secret].concat();
        let text = BASE64.encode(&padded);
        let from = (8 * shift).div_ceil(6);
        let to = 8 * padded.len() / 6;
        forms.push(("base64", text.as_bytes()[from..to].to_vec()));
    }
    forms
}
