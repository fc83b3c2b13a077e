//! Profiles made again with the same ICCIDs: for a fresh key of the same eUICC or for the eUICC that took its place. One live package
//! an ICCID, no key twice, the subscriber's K where it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use yard::{Ran, Yard, files_below, lines_json, rows_csv, sha256_hex};

impl Yard {
    fn remake(&self, args: &[&str], keys: &Path) -> Ran {
        let ends = ["--same-iccid", "--euicc-data", keys.to_str().unwrap()];
        self.run(&[&["--json", "order", "remake"], args, &ends].concat())
    }

    fn key_file(&self, name: &str, keys: &[&Value]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, keys.iter().map(|key| format!("{key}\n")).collect::<String>()).unwrap();
        path
    }

    #[track_caller]
    fn verified(&self, bundle: &Path, secrets: &str, order: &str) {
        let (secrets, order) = (self.path(secrets), self.path(format!("orders/{order}.json")));
        let args = ["verify", bundle.to_str().unwrap(), "--secrets", secrets.to_str().unwrap(), "--all", "--order"];
        self.run(&[&args[..], &[order.to_str().unwrap()]].concat()).exits(0);
    }

    fn unpacked(&self, order: &str) -> Vec<(String, String)> {
        let der = self.path(format!("der-{}", self.ledger_count("SELECT count(*) FROM remakes")));
        self.run(&["export", order, "--unpack", der.to_str().unwrap()]).exits(0);
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        files_below(&der).iter().map(|path| (name(path), sha256_hex(&fs::read(path).unwrap()))).collect()
    }

    /// Rows, ICCIDs and one-time keys claimed, tombstones.
    fn claims(&self) -> [i64; 4] {
        ["devices", "iccids", "one_time_keys", "tombstones WHERE state = 'revoked'"]
            .map(|table| self.ledger_count(&format!("SELECT count(*) FROM {table}")))
    }
}

/// Five devices with two keys each, of which PO-1 spends the first.
fn five() -> (Yard, Vec<Value>) {
    let yard = Yard::demo();
    let keys = yard.fleet_with("fleet", 5, &["--keys-per-eid", "2"]);
    let (first, second): (Vec<_>, Vec<_>) = keys.chunks(2).map(|two| (two[0].clone(), two[1].clone())).unzip();
    yard.prebound_order("PO-1", &first).submit().exits(0);
    yard.run(&["run"]).exits(0);
    (yard, second)
}

fn manifest(bundle: &Path) -> Value {
    serde_json::from_slice(&fs::read(bundle.join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn a_fresh_key_of_the_same_device_gets_the_same_profile_in_a_bundle_of_its_own() {
    let (yard, fresh) = five();
    let own = yard.outbox("PO-1");
    let before = lines_json(&own.join("orders.jsonl"));
    let keys = yard.key_file("again.jsonl", &[&fresh[3], &fresh[1]]);
    let made = yard.remake(&["PO-1", "--rows", "2,4-4"], &keys).exits(0).json();
    let bundle = yard.outbox("PO-1+remake-001");
    assert_eq!(made["bundle"], json!(bundle));
    assert_eq!([&made["rows"], &made["other_euicc"], &made["remake"]], [&json!(2), &json!(0), &json!(1)]);
    yard.verified(&bundle, "fleet/secrets.jsonl", "PO-1");
    yard.verified(&own, "fleet/secrets.jsonl", "PO-1");
    let told = manifest(&bundle);
    assert_eq!([&told["part"], &told["remake"]], [&json!(1), &json!(1)]);
    let recon: Value = serde_json::from_slice(&fs::read(bundle.join("recon.json")).unwrap()).unwrap();
    assert_eq!(recon, json!({"rows": 2, "issued": 2, "refused": 0, "held": 0, "cancelled": 0}));

    let after = lines_json(&bundle.join("orders.jsonl"));
    let core = |bundle: &Path| rows_csv(&bundle.join("core.csv"));
    for (again, row) in after.iter().zip([1, 3]) {
        for same in ["eid", "iccid", "imsi", "upp_sha256", "metadata_sha256"] {
            assert_eq!(again[same], before[row][same], "{same}");
        }
        for other in ["matching_id", "transaction_id", "sha256", "euicc_otpk", "activation_code"] {
            assert_ne!(again[other], before[row][other], "{other}");
        }
        assert_eq!(again["euicc_otpk"], fresh[row]["euicc_otpk"]);
    }
    assert_eq!(core(&bundle), [core(&own)[1].clone(), core(&own)[3].clone()]);

    // The old packages are not handed out any more.
    let out = yard.unpacked("PO-1");
    assert_eq!(out.len(), 5);
    let has = |record: &Value| out.iter().any(|(_, sha256)| *sha256 == record["sha256"]);
    assert_eq!(before.iter().map(has).collect::<Vec<_>>(), [true, false, true, false, true]);
    assert!(after.iter().all(has));
    assert_eq!(yard.claims(), [5, 5, 7, 2]);
    yard.run(&["audit", "verify"]).exits(0);
    let log = yard.run(&["audit", "show", "--order", "PO-1"]).exits(0).out;
    assert!(log.contains("order-remade"), "{log}");

    let shown = yard.run(&["--json", "order", "show", "PO-1"]).exits(0).json();
    assert_eq!(shown["orders"][0]["remakes"], json!([{"remake": 1, "rows": 2, "other_euicc": 0, "renumbered": false}]));

    // Asked again, it answers again; asked for more with spent keys, it does nothing.
    let again = yard.remake(&["PO-1", "--rows", "4,2"], &keys).exits(0).json();
    assert_eq!((&again["repeated"], &again["bundle"]), (&json!(true), &made["bundle"]));
    let ran = yard.remake(&["PO-1", "--rows", "2"], &keys).exits(12);
    assert!(ran.err.contains("row 2") && ran.err.contains("hint:"), "{}", ran.err);
    assert_eq!(yard.claims(), [5, 5, 7, 2]);
    assert!(!yard.outbox("PO-1+remake-002").exists());
}

#[test]
fn a_profile_that_does_not_come_out_as_it_was_issued_is_not_made_again() {
    let (yard, fresh) = five();
    let keys = yard.key_file("again.jsonl", &[&fresh[1]]);
    let ledger = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    // The digest of its neighbour stands beside it.
    let damage =
        "UPDATE issues SET upp_sha256 = (SELECT upp_sha256 FROM issues JOIN devices d ON d.pk = device WHERE d.row = 3)
         WHERE device = (SELECT pk FROM devices WHERE row = 2)";
    assert_eq!(ledger.execute(damage, []).unwrap(), 1);
    let ran = yard.remake(&["PO-1", "--rows", "2"], &keys).exits(8);
    assert!(ran.err.contains("row 2") && ran.err.contains("is not the one that was issued"), "{}", ran.err);
    assert_eq!(yard.claims(), [5, 5, 5, 0]);
    assert!(!yard.outbox("PO-1+remake-001").exists());
}

#[test]
fn a_stored_profile_that_was_bound_goes_to_the_device_that_took_the_place_of_its_own() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 3);
    let eids: Vec<&str> = keys.iter().map(|key| key["eid"].as_str().unwrap()).collect();
    yard.stored_order("PO-2", &eids).submit().exits(0);
    yard.run(&["run"]).exits(0);
    let spare = yard.fleet_with("spare", 2, &["--keys-per-eid", "2"]);
    // The file names devices that have a profile of the order too: they get no second one.
    let file = yard.key_file("swapped.jsonl", &[&keys[2], &spare[0]]);
    let ran = yard.remake(&["PO-2", "--rows", "1"], &file).exits(2);
    assert!(ran.err.contains("bindery bind"), "{}", ran.err);
    let fleet = yard.path("fleet/euicc.jsonl");
    yard.run(&["bind", "PO-2", "--euicc-data", fleet.to_str().unwrap()]).exits(0);

    let before = lines_json(&yard.outbox("PO-2+bound-001").join("orders.jsonl"));
    let iccid = before[0]["iccid"].as_str().unwrap();
    let made = yard.remake(&["PO-2", "--iccid", iccid], &file).exits(0).json();
    assert_eq!((&made["rows"], &made["other_euicc"]), (&json!(1), &json!(1)));
    let bundle = yard.outbox("PO-2+remake-001");
    yard.verified(&bundle, "spare/secrets.jsonl", "PO-2");
    let after = &lines_json(&bundle.join("orders.jsonl"))[0];
    assert_eq!((&after["iccid"], &after["eid"]), (&before[0]["iccid"], &spare[0]["eid"]));
    assert_eq!(after["upp_sha256"], before[0]["upp_sha256"]);
    let names: Vec<String> = yard.unpacked("PO-2").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 3);
    assert!(!names.iter().any(|name| name.starts_with(eids[0])), "{names:?}");

    // And once more, in the next bundle, with the new device's next key.
    let file = yard.key_file("next.jsonl", &[&spare[1]]);
    yard.remake(&["PO-2", "--rows", "1"], &file).exits(0);
    yard.verified(&yard.outbox("PO-2+remake-002"), "spare/secrets.jsonl", "PO-2");
    assert_eq!(yard.unpacked("PO-2").len(), 3);
    assert_eq!(yard.claims(), [3, 3, 5, 2]);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

#[test]
fn a_device_whose_keys_are_spent_is_not_mistaken_for_a_swapped_one() {
    let (yard, fresh) = five();
    let spare = yard.fleet("spare", 1);
    let spent: Value = lines_json(&yard.path("orders/PO-1.euicc.jsonl"))[0].clone();
    let file = yard.key_file("mixed.jsonl", &[&spent, &spare[0], &fresh[1]]);
    yard.remake(&["PO-1", "--rows", "1-2"], &file).exits(12);
    assert_eq!(yard.claims(), [5, 5, 5, 0], "all the rows or none");
    assert!(
        files_below(yard.outbox("PO-1").parent().unwrap())
            .iter()
            .all(|path| !path.to_str().unwrap().contains("remake"))
    );
}

#[test]
fn what_cannot_be_remade_is_refused_with_what_to_do_instead() {
    let (yard, fresh) = five();
    let file = yard.key_file("again.jsonl", &[&fresh[0]]);
    yard.prebound_order("PO-3", &yard.fleet("other", 1)).submit().exits(0);
    let neither = ["order", "remake", "PO-1", "--rows", "1", "--euicc-data", file.to_str().unwrap()];
    let ran = yard.run(&neither).exits(2);
    assert!(ran.err.contains("--same-iccid") && ran.err.contains("--new-iccid"), "{}", ran.err);
    for (args, said) in [
        (&["PO-3", "--rows", "1"][..], "bindery run"),
        (&["PO-9", "--rows", "1"], "order list"),
        (&["PO-1", "--rows", "6"], "no row 6"),
        (&["PO-1", "--rows", "0"], "no row 0"),
        (&["PO-1", "--line", "2", "--rows", "1"], "no row 1"),
        (&["PO-1", "--iccid", "8949000000000000018"], "none of its rows"),
        (&["PO-1"], "--rows"),
        (&["PO-1", "--rows", "9-5"], "9-5"),
    ] {
        let ran = yard.remake(args, &file).exits(2);
        assert!(ran.err.contains(said), "{args:?}: {}", ran.err);
    }
    let ran = yard.remake(&["PO-1", "--rows", "1"], Path::new("not-there.jsonl"));
    assert!(ran.code == 3 && ran.err.contains("not-there.jsonl"), "{}", ran.err);
    yard.run(&["order", "purge", "PO-1", "--yes"]).exits(0);
    let ran = yard.remake(&["PO-1", "--rows", "1"], &file).exits(2);
    assert!(ran.err.contains("purged"), "{}", ran.err);
    assert_eq!(yard.claims(), [6, 6, 6, 0]);
}

#[test]
fn a_crash_before_the_bundle_has_its_name_is_mended_by_the_next_call() {
    let (yard, fresh) = five();
    let file = yard.key_file("again.jsonl", &[&fresh[0]]);
    let partial = |number: u32| yard.outbox(&format!(".PO-1+remake-{number:03}.partial"));
    fs::create_dir(partial(1)).unwrap();
    fs::write(partial(1).join("packages-00001.bpp"), b"of a run that never claimed its keys").unwrap();
    yard.remake(&["PO-1", "--rows", "1"], &file).exits(0);
    let bundle = yard.outbox("PO-1+remake-001");
    yard.verified(&bundle, "fleet/secrets.jsonl", "PO-1");
    // As if killed between the ledger's commit and the new name.
    fs::rename(&bundle, partial(1)).unwrap();
    let again = yard.remake(&["PO-1", "--rows", "1"], &file).exits(0).json();
    assert_eq!(again["repeated"], true);
    yard.verified(&bundle, "fleet/secrets.jsonl", "PO-1");
    assert!(!partial(1).exists());
    assert_eq!(yard.claims(), [5, 5, 6, 1]);
}
