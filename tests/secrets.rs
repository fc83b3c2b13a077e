//! No secret in any file, log line or error: the test opens every package as its eUICC would, collects K, OPc, OTA keys, PINs,
//! session keys and PPKs, and searches the whole site, the bundle and everything that was printed, also by commands that fail at the
//! loudest log level: raw, hex, base64 and lists of decimals. And no identifier stands unmasked on stderr.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use bindery::config::Site;
use bindery::formats::bsp::kdf::{HostId, session_keys};
use bindery::formats::tlv::{Reader, Tlv};
use bindery::hsm::pkcs11::Token;
use bindery::hsm::{Hsm, HsmSession, Role};
use bindery::ids::{Eid, Iccid};
use bindery::personalise::audit;
use bindery::store::Store;
use bindery::store::sealed::{BatchKey, Content, OP_AAD};
use data_encoding::{BASE64, HEXLOWER};
use openssl::sha::sha256;
use openssl::symm::{Cipher, Crypter, Mode};
use serde_json::Value;
use yard::{Yard, lines_json};

/// Secrets by what they are.
type Secrets = Vec<(String, Vec<u8>)>;

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

/// K, OPc, OTA keys, PINs and session keys of every package of a bundle, opened with the fleet's private keys.
fn package_secrets(yard: &Yard, bundle: &Path) -> Secrets {
    let private: BTreeMap<String, String> = lines_json(&yard.path("fleet/secrets.jsonl"))
        .iter()
        .map(|line| (line["euicc_otpk"].as_str().unwrap().into(), line["euicc_otsk"].as_str().unwrap().into()))
        .collect();
    let mut secrets = Vec::new();
    for record in lines_json(&bundle.join("orders.jsonl")) {
        let object = fs::read(bundle.join(record["object"].as_str().unwrap())).unwrap();
        let number = |name: &str| record[name].as_u64().unwrap() as usize;
        let package = &object[number("offset")..number("offset") + number("length")];
        let eid: Eid = record["eid"].as_str().unwrap().parse().unwrap();
        let otsk = &private[record["euicc_otpk"].as_str().unwrap()];
        let upp = open_package(package, &eid, otsk, &mut secrets);
        let found = audit::read(&upp).unwrap();
        for aka in &found.akas {
            secrets.push(("K".into(), aka.k.to_vec()));
            secrets.push(("OPc".into(), aka.opc.to_vec()));
        }
        secrets.extend(found.ota_keys.iter().map(|key| ("OTA key".to_owned(), key.value.to_vec())));
        secrets.extend(found.puks.iter().map(|puk| ("PUK".to_owned(), puk.value.to_vec())));
        for pin in &found.pins {
            let what = if matches!(pin.reference, 0x0A..=0x0E | 0x8A..=0x8E) { "ADM" } else { "PIN" };
            secrets.push((what.to_owned(), pin.value.to_vec()));
        }
    }
    secrets
}

/// Decrypts the profile; notes the session keys and, in a package with ReplaceSessionKeys, the PPK.
fn open_package(package: &[u8], eid: &Eid, otsk_pem: &str, secrets: &mut Secrets) -> Vec<u8> {
    use openssl::derive::Deriver;
    use openssl::ec::{EcGroup, EcKey, EcPoint};
    use openssl::pkey::PKey;
    let children = |tlv: &Tlv<'_>| {
        let (mut reader, mut all) = (tlv.children(), Vec::new());
        while let Some(child) = reader.next_tlv().unwrap() {
            all.push((child.tag.0, child.value.to_vec(), child));
        }
        all.into_iter().map(|(tag, value, _)| (tag, value)).collect::<Vec<_>>()
    };
    let envelope = Reader::new(package).next_tlv().unwrap().unwrap();
    let parts = children(&envelope);
    let inside = |value: &[u8]| {
        let (mut reader, mut all) = (Reader::new(value), Vec::new());
        while let Some(tlv) = reader.next_tlv().unwrap() {
            all.push((tlv.tag.0, tlv.value.to_vec()));
        }
        all
    };
    let channel = inside(&parts[0].1);
    let host = inside(&channel[2].1)[2].1.clone();
    let private = PKey::private_key_from_pem(otsk_pem.as_bytes()).unwrap();
    let group = EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap();
    let mut ctx = openssl::bn::BigNumContext::new().unwrap();
    let point = EcPoint::from_bytes(&group, &channel[3].1, &mut ctx).unwrap();
    let peer = PKey::from_ec_key(EcKey::from_public_key(&group, &point).unwrap()).unwrap();
    let mut deriver = Deriver::new(&private).unwrap();
    deriver.set_peer(&peer).unwrap();
    let mut shared = bindery::secret::SharedSecret::default();
    deriver.derive(&mut shared[..]).unwrap();
    let (keys, _) = session_keys(&shared, &HostId::new(&host).unwrap(), eid);
    // X9.63, first block: the initial MAC chaining value stands before S-ENC.
    let info = [&[0, 0, 0, 1, 0x88, 0x10, host.len() as u8][..], &host, &[16], eid.packed()].concat();
    let block = sha256(&[&shared[..], &info].concat());
    assert_eq!(block[16..], keys.enc.expose()[..], "the derivation of the test is the standard's");
    secrets.push(("MCV".into(), block[..16].to_vec()));
    secrets.push(("ECDH secret".into(), shared.to_vec()));
    let mut enc = *keys.enc.expose();
    secrets.push(("S-ENC".into(), enc.to_vec()));
    secrets.push(("S-MAC".into(), keys.mac.expose().to_vec()));
    let mut counter = 2 + inside(&parts[2].1).len() as u128; // 87 is 1, 88s follow
    if parts[3].0 == 0xA2 {
        let replace = decrypt(&enc, counter, &inside(&parts[3].1)[0].1);
        let body = Reader::new(&replace).next_tlv().unwrap().unwrap();
        let values = inside(body.value);
        secrets.push(("MCV".into(), values[0].1.clone()));
        secrets.push(("PPK".into(), values[1].1.clone()));
        secrets.push(("PPK".into(), values[2].1.clone()));
        enc = values[1].1[..].try_into().unwrap();
        counter = 1;
    }
    let segments = inside(&parts.last().unwrap().1);
    segments.iter().zip(counter..).flat_map(|((_, segment), n)| decrypt(&enc, n, segment)).collect()
}

fn decrypt(key: &[u8; 16], counter: u128, segment: &[u8]) -> Vec<u8> {
    let crypt = |cipher, mode, iv: Option<&[u8]>, data: &[u8]| {
        let mut crypter = Crypter::new(cipher, mode, key, iv).unwrap();
        crypter.pad(false);
        let mut out = vec![0; data.len() + 16];
        let written = crypter.update(data, &mut out).unwrap();
        out.truncate(written);
        out
    };
    let icv = crypt(Cipher::aes_128_ecb(), Mode::Encrypt, None, &counter.to_be_bytes());
    let mut plain = crypt(Cipher::aes_128_cbc(), Mode::Decrypt, Some(&icv), &segment[..segment.len() - 8]);
    let end = plain.iter().rposition(|octet| *octet == 0x80).unwrap();
    plain.truncate(end);
    plain
}

/// Batch keys and stored PPKs, opened through the token as the engine does.
fn sealed_secrets(yard: &Yard) -> Secrets {
    let site = Site::open(&yard.site()).unwrap();
    let token = Token::open(&site).unwrap();
    let kek = token.key(&Role::SiteKek).unwrap();
    let mut session = token.open_session().unwrap();
    let ledger = bindery::store::sqlite::Ledger::open(&site.state_db()).unwrap();
    let op = session.open(kek, OP_AAD, &fs::read(site.path("op.sealed")).unwrap()).unwrap();
    let mut secrets = vec![("OP".to_owned(), op.to_vec())];
    for summary in ledger.orders().unwrap() {
        let order = ledger.find_order(&summary.key).unwrap().unwrap();
        let sealed = order.sealed_batch_key.as_ref().unwrap();
        let aad = format!("bindery.batch-key/1|{}|{}|{}", order.key.tenant, order.key.order_id, order.key.rev);
        secrets.push(("batch key".into(), session.open(kek, aad.as_bytes(), sealed).unwrap().to_vec()));
        let key = BatchKey::open_under(&mut session, kek, &order.key, sealed).unwrap().unwrap();
        let connection = rusqlite::Connection::open(site.state_db()).unwrap();
        let sql = "SELECT iccid, sealed_ppk FROM devices JOIN issues ON device = pk
                   WHERE order_pk = ?1 AND sealed_ppk IS NOT NULL";
        let mut query = connection.prepare(sql).unwrap();
        let rows =
            query.query_map([order.pk.0], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))).unwrap();
        for row in rows {
            let (iccid, blob) = row.unwrap();
            let iccid: Iccid = iccid.parse().unwrap();
            let triple = key.open(Content::Ppk, &iccid, &blob).unwrap();
            secrets.extend(triple[16..].chunks(16).map(|half| ("PPK".to_owned(), half.to_vec())));
        }
    }
    secrets
}
