//! The outbox beside the ledger: an older ledger is noticed before anything is given out twice, a sealed bundle stays as it is, a
//! forged one is not taken apart, answers that are gone or edited are the ledger's again, what is nobody's is not sealed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::x509::{X509, X509NameBuilder};
use serde_json::{Value, json};
use yard::{Ran, Yard, files_below, lines_json, sha256_hex};

const EID: &str = "89049032123451234512345678901235";

impl Yard {
    /// A backup of the ledger as docs/orders.md makes it, and of the audit log beside it.
    fn snapshot(&self, name: &str) -> PathBuf {
        let copy = self.path(name);
        fs::create_dir(&copy).unwrap();
        let ledger = rusqlite::Connection::open(self.site().join("state.db")).unwrap();
        ledger.execute("VACUUM INTO ?1", [copy.join("state.db").to_str().unwrap()]).unwrap();
        copy_of(&self.site().join("audit"), &copy.join("audit"));
        copy
    }

    /// Puts a snapshot in the site's place.
    fn roll_back(&self, snapshot: &Path, with_audit: bool) {
        for name in ["state.db", "state.db-wal", "state.db-shm"] {
            let _ = fs::remove_file(self.site().join(name));
        }
        fs::copy(snapshot.join("state.db"), self.site().join("state.db")).unwrap();
        if with_audit {
            fs::remove_dir_all(self.site().join("audit")).unwrap();
            copy_of(&snapshot.join("audit"), &self.site().join("audit"));
        }
    }

    fn octets_of_outbox(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = files_below(&self.site().join("outbox")).into_iter();
        files.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
    }

    fn verified(&self, order: &str, fleet: &str) {
        let (bundle, secrets) = (self.outbox(order), self.path(fleet).join("secrets.jsonl"));
        let args = ["verify", bundle.to_str().unwrap(), "--secrets", secrets.to_str().unwrap(), "--all"];
        self.run(&args).exits(0);
    }
}

fn copy_of(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[track_caller]
fn told(ran: Ran, about: &[&str]) {
    let Ran { code, out, err } = ran;
    assert_eq!(code, 8, "{out}\n{err}");
    assert!(err.contains("hint: ") && about.iter().all(|word| err.contains(word)), "{about:?}: {err}");
}

#[test]
fn an_older_ledger_is_noticed_and_a_sealed_bundle_is_never_written_again() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 12);
    yard.prebound_order("PO-1", &keys[..5]).submit().exits(0);
    let before_run = yard.snapshot("before-run");
    yard.run(&["run"]).exits(0);
    let before_second = yard.snapshot("before-second");
    yard.prebound_order("PO-2", &keys[5..]).submit().exits(0);
    yard.run(&["run"]).exits(0);
    let newest = yard.snapshot("newest");
    let outbox = yard.octets_of_outbox();
    let mut other = yard.prebound_order("PO-3", &keys[5..]);
    other.line()["iccid"] = yard.prebound_order("PO-2", &keys[5..]).line()["iccid"].clone();
    let third = other.write();
    let watched = yard.path("watched");
    fs::create_dir(&watched).unwrap();
    copy_of(&yard.path("orders"), &watched);
    for (snapshot, order) in [(&before_run, "acme/PO-1"), (&before_second, "acme/PO-2")] {
        yard.roll_back(snapshot, true);
        let doctor = yard.run(&["doctor"]).exits(8);
        assert!(doctor.out.contains(order), "{}", doctor.out);
        let submit = ["order", "submit", third.to_str().unwrap()];
        for args in [&["run"][..], &["run", "PO-1"], &submit] {
            told(yard.run(args), &[order, "manifest.json", "docs/orders.md"]);
        }
        let inbox = watched.join("orders");
        let watch = ["order", "watch", inbox.to_str().unwrap(), "--once", "--settle", "0"];
        told(yard.run(&watch), &[order]);
        assert_eq!(yard.octets_of_outbox(), outbox, "{order}: the outbox was touched");
        assert_eq!(yard.ledger_count("SELECT count(*) FROM orders WHERE order_id = 'PO-3'"), 0);
    }
    yard.roll_back(&newest, true);
    yard.run(&["doctor"]).exits(0);
    yard.run(&["run"]).exits(0);
    yard.verified("PO-1", "fleet");
    assert_eq!(yard.octets_of_outbox(), outbox);
}

#[test]
fn a_ledger_of_before_a_binding_or_a_remake_is_noticed() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 2);
    let eids: Vec<&str> = keys.iter().map(|key| key["eid"].as_str().unwrap()).collect();
    yard.stored_order("PO-1", &eids).submit().exits(0);
    yard.run(&["run"]).exits(0);
    let before_bind = yard.snapshot("before-bind");
    let key_file = yard.path("fleet/euicc.jsonl");
    let bind = ["bind", "PO-1", "--euicc-data", key_file.to_str().unwrap()];
    yard.run(&bind).exits(0);
    let before_remake = yard.snapshot("before-remake");
    yard.fleet("again", 1);
    let again = yard.path("again/euicc.jsonl");
    let remake = ["order", "remake", "PO-1", "--rows", "1", "--same-iccid", "--euicc-data", again.to_str().unwrap()];
    yard.run(&remake).exits(0);
    let outbox = yard.octets_of_outbox();
    for (snapshot, bundle) in [(&before_bind, "PO-1+bound-001"), (&before_remake, "PO-1+remake-001")] {
        yard.roll_back(snapshot, true);
        for args in [&bind[..], &remake, &["run"]] {
            told(yard.run(args), &[bundle]);
        }
        assert!(yard.run(&["doctor"]).exits(8).out.contains("PO-1"));
        assert_eq!(yard.octets_of_outbox(), outbox);
    }
}

#[test]
fn a_seal_that_the_ledger_did_not_hear_of_is_made_up_for_and_the_bundle_stays_as_it_was() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 5);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    yard.run(&["run"]).exits(0);
    let sealed = yard.octets_of_outbox();
    let ledger = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    ledger.execute_batch("UPDATE orders SET state = 'open', sealing = 1; UPDATE chunks SET exported = 0").unwrap();
    drop(ledger);
    yard.run(&["doctor"]).exits(0);
    assert_eq!(yard.run(&["order", "purge", "PO-1", "--yes", "--unfinished"]).code, 9, "somebody may have fetched it");
    yard.run(&["run"]).exits(0);
    assert_eq!(yard.octets_of_outbox(), sealed);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM device_states WHERE state = 'exported'"), 5);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM orders WHERE state = 'exported'"), 1);
}

/// Changes a package and everything that speaks of it, and signs with a key of one's own.
fn forge(bundle: &Path) {
    let package = bundle.join("packages-00001.bpp");
    let mut octets = fs::read(&package).unwrap();
    let first = lines_json(&bundle.join("orders.jsonl")).remove(0);
    let (offset, length) = (first["offset"].as_u64().unwrap() as usize, first["length"].as_u64().unwrap() as usize);
    octets[offset + length - 1] ^= 1;
    fs::write(&package, &octets).unwrap();
    let orders = fs::read_to_string(bundle.join("orders.jsonl")).unwrap();
    let sha = sha256_hex(&octets[offset..offset + length]);
    fs::write(bundle.join("orders.jsonl"), orders.replace(first["sha256"].as_str().unwrap(), &sha)).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap());
    let key = key.unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "manifest").unwrap();
    let name = name.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    fs::write(bundle.join("certs/manifest.pem"), certificate.build().to_pem().unwrap()).unwrap();
    let mut manifest: Value = serde_json::from_slice(&fs::read(bundle.join("manifest.json")).unwrap()).unwrap();
    for (name, entry) in manifest["files"].as_object_mut().unwrap() {
        let octets = fs::read(bundle.join(name)).unwrap();
        *entry = json!({"sha256": sha256_hex(&octets), "bytes": octets.len()});
    }
    let text = serde_json::to_vec_pretty(&manifest).unwrap();
    fs::write(bundle.join("manifest.json"), &text).unwrap();
    let signature = Signer::new(MessageDigest::sha256(), &key).unwrap().sign_oneshot_to_vec(&text).unwrap();
    fs::write(bundle.join("manifest.sig"), signature).unwrap();
}

#[test]
fn a_bundle_that_another_key_signed_is_not_taken_apart() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 3);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    yard.run(&["run"]).exits(0);
    let (bundle, copy, out) = (yard.outbox("PO-1"), yard.path("copy"), yard.path("out"));
    copy_of(&bundle, &copy);
    let unpack = |order: &str| yard.run(&["export", order, "--unpack", out.to_str().unwrap()]);
    forge(&copy);
    told(unpack(copy.to_str().unwrap()), &["manifest.json", "no manifest key of this site"]);
    let sound = yard.path("sound");
    copy_of(&bundle, &sound);
    forge(&bundle);
    told(unpack("PO-1"), &["manifest.json"]);
    assert!(!out.exists(), "nothing of it was written");
    unpack(sound.to_str().unwrap()).exits(0);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 3);
    // Signed, but not what the ledger made.
    let ledger = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    ledger.execute("UPDATE issues SET sha256 = zeroblob(32) WHERE device = 1", []).unwrap();
    told(unpack(sound.to_str().unwrap()), &["orders.jsonl line 1"]);
}

#[test]
fn answers_that_are_gone_or_edited_are_given_again_before_they_are_sealed() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 9);
    let ack = |order: &str| yard.outbox(order).join("ack.json");
    let first: Vec<_> = [("PO-1", 0..3), ("PO-2", 3..6), ("PO-3", 6..9)]
        .into_iter()
        .map(|(order, rows)| {
            yard.prebound_order(order, &keys[rows]).submit().exits(0);
            fs::read(ack(order)).unwrap()
        })
        .collect();
    // Never written, for a crash came before it; taken away; edited.
    fs::remove_dir_all(yard.outbox("PO-1")).unwrap();
    fs::remove_file(ack("PO-2")).unwrap();
    let text = String::from_utf8(first[2].clone()).unwrap();
    fs::write(ack("PO-3"), text.replace("\"accepted\": 3", "\"accepted\": 2")).unwrap();
    assert_ne!(fs::read(ack("PO-3")).unwrap(), first[2]);
    fs::write(yard.outbox("PO-3").join("rejects.csv"), "edited\n").unwrap();
    yard.run(&["run"]).exits(0);
    for (order, first) in ["PO-1", "PO-2", "PO-3"].iter().zip(first) {
        assert_eq!(fs::read(ack(order)).unwrap(), first, "{order}");
        yard.verified(order, "fleet");
    }
    assert_eq!(
        fs::read_to_string(yard.outbox("PO-3").join("rejects.csv")).unwrap(),
        "row,column,value,code,message,hint\n"
    );
}

#[test]
fn an_answer_that_cannot_be_written_says_that_the_order_was_accepted() {
    let yard = Yard::demo();
    fs::create_dir_all(yard.outbox("PO-1").join("ack.json")).unwrap();
    let ran = yard.stored_order("PO-1", &[EID]).submit();
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("acme/PO-1 was accepted, but its answer") && ran.err.contains("hint: "), "{}", ran.err);
    fs::remove_dir(yard.outbox("PO-1").join("ack.json")).unwrap();
    yard.run(&["run"]).exits(0);
    assert!(yard.outbox("PO-1").join("manifest.sig").exists());
}

#[test]
fn a_file_that_is_nobodys_is_not_sealed_with_the_bundle() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 3);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    let foreign = [yard.outbox("PO-1").join("evil.txt"), yard.outbox("PO-1").join("certs/more.pem")];
    for path in &foreign {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
        told(yard.run(&["run"]), &[path.file_name().unwrap().to_str().unwrap(), "move"]);
        assert!(path.exists() && !yard.outbox("PO-1").join("manifest.sig").exists());
        fs::remove_file(path).unwrap();
    }
    yard.run(&["run"]).exits(0);
    yard.verified("PO-1", "fleet");
}

#[test]
fn a_purge_of_an_order_that_was_never_sealed_erases_its_packages() {
    let yard = Yard::demo();
    yard.chunks_of(5);
    let keys = yard.fleet("fleet", 10);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    // Every row is bound, and the seal is kept away.
    let foreign = yard.outbox("PO-1").join("foreign");
    fs::write(&foreign, "x").unwrap();
    yard.run(&["run"]).exits(8);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM device_states WHERE state = 'bound'"), 10);
    let report = yard.run(&["--json", "order", "purge", "PO-1", "--yes", "--unfinished"]).exits(0).json();
    assert_eq!(report["erased"]["package_files"], 2);
    let left = fs::read_dir(yard.outbox("PO-1")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<String> = left.map(|name| name.into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.contains("packages-")), "{left:?}");
    assert!(!report["left"].to_string().contains("package files"), "{}", report["left"]);
}

#[test]
fn a_newer_ledger_and_a_stray_file_beside_the_log_are_called_what_they_are() {
    let yard = Yard::demo();
    yard.stored_order("PO-1", &[EID]).submit().exits(0);
    let stray = yard.site().join("audit/audit-000000000999.jsonl");
    fs::write(&stray, "").unwrap();
    let ran = yard.run(&["run"]).exits(8);
    assert!(ran.err.contains("audit-000000000999.jsonl") && ran.err.contains("move this file out"), "{}", ran.err);
    assert!(!ran.err.contains("restore"), "{}", ran.err);
    fs::remove_file(stray).unwrap();
    let ledger = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    ledger.pragma_update(None, "user_version", 9_999).unwrap();
    drop(ledger);
    for args in [&["run"][..], &["doctor"]] {
        let ran = yard.run(args).exits(8);
        let told = [ran.out, ran.err].concat();
        assert!(told.contains("the Bindery that wrote it") && !told.contains("last backup"), "{told}");
    }
}

#[test]
fn an_older_ledger_takes_over_what_was_issued_since_and_nothing_is_given_out_twice() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 12);
    yard.fleet("again", 1);
    let eid = |at: usize| keys[at]["eid"].as_str().unwrap();
    yard.prebound_order("PO-0", &keys[..2]).submit().exits(0);
    yard.run(&["run"]).exits(0);
    yard.prebound_order("PO-1", &keys[2..4]).submit().exits(0);
    yard.stored_order("PO-2", &[eid(4), eid(5)]).submit().exits(0);
    yard.run(&["run", "PO-2"]).exits(0);
    let older = yard.snapshot("older");
    // Since then: one open order sealed, one new order sealed, one new one answered only, profiles bound, one made again.
    yard.run(&["run"]).exits(0);
    let mut third = yard.prebound_order("PO-3", &keys[6..9]);
    third.rows(&format!("row,eid\n1,89049032123451234512345678901234\n2,{}\n3,{}\n4,{}\n", eid(6), eid(7), eid(8)), 4);
    third.line()["quantity"] = json!(4);
    third.header["accept"] = json!("partial");
    third.submit().exits(5);
    yard.run(&["run"]).exits(0);
    let key_file = yard.path("fleet/euicc.jsonl");
    yard.run(&["bind", "PO-2", "--euicc-data", key_file.to_str().unwrap()]).exits(0);
    let remake_keys = yard.path("again/euicc.jsonl");
    let remake =
        ["order", "remake", "PO-0", "--rows", "1", "--same-iccid", "--euicc-data", remake_keys.to_str().unwrap()];
    yard.run(&remake).exits(0);
    let fourth = yard.prebound_order("PO-4", &keys[9..]);
    fourth.submit().exits(0);
    let claims =
        ["iccids", "imsis", "one_time_keys", "matching_ids"].map(|table| format!("SELECT count(*) FROM {table}"));
    let before = claims.each_ref().map(|sql| yard.ledger_count(sql));
    let sealed: BTreeMap<_, _> =
        yard.octets_of_outbox().into_iter().filter(|(path, _)| !path.to_str().unwrap().contains("PO-4")).collect();

    yard.roll_back(&older, false);
    for args in [&["run"][..], &["--json", "doctor"], &["order", "submit", fourth.write().to_str().unwrap()]] {
        let ran = yard.run(args).exits(8);
        assert!([ran.out, ran.err].concat().contains("docs/orders.md"), "{args:?}");
    }
    yard.run(&["order", "recover"]).exits(13);
    // A bundle that the log tells of and that is gone: nothing may be guessed.
    let (bundle, away) = (yard.outbox("PO-3"), yard.path("away"));
    fs::rename(&bundle, &away).unwrap();
    told(yard.run(&["order", "recover", "--yes"]), &["acme/PO-3", "put the bundle back"]);
    fs::rename(&away, &bundle).unwrap();
    let report = yard.run(&["--json", "order", "recover", "--yes"]).exits(0).json();
    let ended = ["acme/PO-0", "acme/PO-1", "acme/PO-2", "acme/PO-3"];
    assert_eq!((&report["ended"], &report["submit_again"]), (&json!(ended), &json!(["acme/PO-4"])));

    yard.run(&["doctor"]).exits(0);
    yard.run(&["audit", "verify"]).exits(0);
    yard.run(&["run"]).exits(0);
    let after = yard.octets_of_outbox();
    assert!(sealed.iter().all(|(path, octets)| after.get(path) == Some(octets)), "what was sealed is as it was");
    // Numbers and keys of what was issued are taken, under whatever name they come again.
    let mut other = yard.prebound_order("PO-5", &keys[7..9]);
    other.line()["iccid"] = yard.prebound_order("PO-3", &keys[7..9]).line()["iccid"].clone();
    let refused = other.submit();
    assert_eq!(refused.code, 4, "{}", refused.err);
    let rejects = fs::read_to_string(yard.outbox("PO-5").join("rejects.csv")).unwrap();
    assert!(rejects.contains("iccid") && rejects.contains("euicc_otpk"), "{rejects}");
    assert!(third.submit().exits(5).out.contains("accepted_partial"), "the first answer again");
    assert_eq!(yard.octets_of_outbox().get(&bundle.join("rejects.csv")), sealed.get(&bundle.join("rejects.csv")));
    // What was only answered comes again, and then everything is as it was.
    fourth.submit().exits(0);
    yard.run(&["run"]).exits(0);
    yard.verified("PO-4", "fleet");
    // The run has given three matching ids since.
    let [iccids, imsis, keys, matching_ids] = before;
    assert_eq!(claims.each_ref().map(|sql| yard.ledger_count(sql)), [iccids, imsis, keys, matching_ids + 3]);
    yard.run(&["order", "recover", "--yes"]).exits(0);
    yard.run(&["audit", "verify"]).exits(0);
}
