//! `order purge`: the key dies everywhere, the numbers stay claimed, the bundle stays, and a purge that was killed is finished by
//! the next.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use bindery::order::without_values;
use bindery::store::Store;
use bindery::store::sqlite::Ledger;
use serde_json::{Value, json};
use yard::{Ran, Yard, files_below, rows_csv};

impl Yard {
    fn purge(&self, args: &[&str]) -> Ran {
        self.run(&[&["--json", "order", "purge"], args].concat())
    }

    /// Blobs of an order that only its key or the site's keys open, as the ledger holds them now.
    fn sealed(&self, order_id: &str) -> BTreeSet<Vec<u8>> {
        let ledger = rusqlite::Connection::open(self.site().join("state.db")).unwrap();
        let mut sealed = BTreeSet::new();
        for column in ["sealed_batch_key", "sealed_credentials", "sealed_ppk", "ki_enc", "opc_enc"] {
            let sql = format!(
                "SELECT DISTINCT {column} FROM orders o LEFT JOIN devices d ON d.order_pk = o.pk LEFT JOIN issues i ON i.device = d.pk
                 WHERE o.order_id = ?1 AND length({column}) > 0"
            );
            let mut query = ledger.prepare(&sql).unwrap();
            sealed.extend(query.query_map([order_id], |row| row.get::<_, Vec<u8>>(0)).unwrap().map(Result::unwrap));
        }
        sealed
    }

    /// How many of these stand in the raw files of the ledger: state.db, its log, its index.
    fn in_ledger_files(&self, sealed: &BTreeSet<Vec<u8>>) -> usize {
        let files = files_below(&self.site()).into_iter();
        let is_ledger = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("state.db");
        let raw: Vec<Vec<u8>> = files.filter(is_ledger).map(|path| fs::read(path).unwrap()).collect();
        assert!(!raw.is_empty());
        let heads: BTreeSet<&[u8]> = raw
            .iter()
            .flat_map(|octets| octets.windows(16))
            .filter(|window| sealed.range(window.to_vec()..).next().is_some_and(|blob| blob.starts_with(window)))
            .collect();
        sealed.iter().filter(|blob| heads.contains(&blob[..16])).count()
    }

    fn vault_files(&self) -> usize {
        let vault = self.site().join("vault");
        if vault.is_dir() { files_below(&vault).len() } else { 0 }
    }
}

/// Two exported orders of mode `order`, the first with ordered PINs and a code.
fn yard_with_stored_orders(devices: usize) -> (Yard, Vec<Value>) {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", devices);
    let eids: Vec<&str> = keys.iter().map(|key| key["eid"].as_str().unwrap()).collect();
    let mut first = yard.stored_order("PO-1", &eids);
    first.line()["confirmation_code"] = json!("4711-CODE");
    first.line()["vars"] = json!({"pin1": "9182"});
    first.submit().exits(0);
    yard.stored_order("PO-2", &eids).submit().exits(0);
    yard.run(&["run"]).exits(0);
    (yard, keys)
}

#[test]
fn a_purged_order_leaves_no_sealed_octet_and_its_numbers_stay_claimed() {
    let (yard, keys) = yard_with_stored_orders(30);
    let key_file = yard.path("fleet/euicc.jsonl");
    let bind = |order: &str| yard.run(&["bind", order, "--euicc-data", key_file.to_str().unwrap()]);
    bind("PO-1").exits(0);
    let sealed = yard.sealed("PO-1");
    assert_eq!(sealed.len(), 1 + 4 * 30);
    assert_eq!(yard.in_ledger_files(&sealed), sealed.len(), "the search finds what is there");
    let (other, bundle) = (yard.sealed("PO-2"), files_below(&yard.outbox("PO-1")).len());
    let claimed = ["iccids", "imsis", "one_time_keys", "matching_ids"].map(|table| {
        let sql = format!("SELECT count(*) FROM {table}");
        (yard.ledger_count(&sql), sql)
    });

    let report = yard.purge(&["PO-1", "--yes"]).exits(0).json();
    assert_eq!((&report["erased"]["batch_key"], &report["erased"]["records"]), (&json!(true), &json!(30)));
    assert_eq!((&report["erased"]["vault_files"], &report["claimed"]["iccids"]), (&json!(1), &json!(30)));
    let left: BTreeSet<&str> =
        report["left"].as_array().unwrap().iter().map(|left| left["what"].as_str().unwrap()).collect();
    for what in ["packages", "K and OPc, encrypted", "activation codes", "device lines", "backups and snapshots"] {
        assert!(left.contains(what), "{what} in {left:?}");
    }
    assert_eq!(yard.in_ledger_files(&sealed), 0);
    assert_eq!(yard.sealed("PO-1").len(), 0);
    assert_eq!(yard.sealed("PO-2"), other, "the other order is as it was");
    for (count, sql) in claimed {
        assert_eq!(yard.ledger_count(&sql), count, "{sql}");
    }
    let body =
        "SELECT count(*) FROM orders WHERE order_id = 'PO-1' AND (instr(body, 'confirmation') OR instr(body, '9182'))";
    assert_eq!(yard.ledger_count(body), 0);

    // The bundle is the customer's, and whole.
    assert_eq!(files_below(&yard.outbox("PO-1")).len(), bundle);
    let bound = yard.outbox("PO-1+bound-001");
    let secrets = yard.path("fleet/secrets.jsonl");
    yard.run(&["verify", bound.to_str().unwrap(), "--secrets", secrets.to_str().unwrap(), "--all"]).exits(0);
    // Its key is answered as before, its work is over, the other order's goes on.
    let file = yard.path("orders/PO-1.json");
    fs::remove_dir_all(yard.outbox("PO-1")).unwrap();
    let again = yard.run(&["order", "submit", file.to_str().unwrap()]).exits(0);
    assert!(again.out.contains("accepted (before)"), "{}", again.out);
    assert!(yard.outbox("PO-1").join("ack.json").exists() && yard.outbox("PO-1").join("rejects.csv").exists());
    for ran in [yard.run(&["run", "PO-1"]), bind("PO-1")] {
        assert!(ran.exits(2).err.contains("was purged at 2"));
    }
    assert!(yard.run(&["order", "list"]).exits(0).out.contains("purged"));
    assert_eq!(yard.run(&["--json", "run"]).exits(0).json()["orders"], json!([]));
    // A number of the purged order is taken.
    let mut thief = yard.stored_order("PO-9", &[keys[0]["eid"].as_str().unwrap()]);
    let first: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    thief.line()["iccid"] = first["lines"][0]["iccid"].clone();
    thief.submit().exits(4);
    let rejects = rows_csv(&yard.outbox("PO-9").join("rejects.csv"));
    assert!(rejects.iter().any(|row| row["column"] == "iccid"), "{rejects:?}");
}

#[test]
fn nothing_is_erased_unasked() {
    let (yard, keys) = yard_with_stored_orders(3);
    yard.prebound_order("PO-3", &keys).submit().exits(0);
    let sealed = yard.sealed("PO-1");
    assert!(yard.purge(&["PO-1"]).exits(2).err.contains("--yes"));
    assert!(yard.purge(&["PO-1", "--yes"]).exits(13).err.contains("3 stored profiles wait"));
    assert!(yard.purge(&["PO-3", "--yes"]).exits(13).err.contains("not exported"));
    yard.purge(&["PO-4", "--yes"]).exits(2);
    let lock = bindery::pipeline::lock::RunLock::take(&yard.site(), jiff::Timestamp::now()).unwrap();
    yard.purge(&["PO-1", "--yes", "--unfinished"]).exits(10);
    drop(lock);
    assert_eq!((yard.sealed("PO-1"), yard.vault_files()), (sealed, 2));

    yard.purge(&["PO-1", "--yes", "--unfinished", "--bundle"]).exits(0);
    assert!(!yard.outbox("PO-1").exists());
    assert_eq!((yard.sealed("PO-1").len(), yard.vault_files()), (0, 1));
    let report = yard.purge(&["PO-3", "--yes", "--unfinished"]).exits(0).json();
    assert_eq!(report["erased"]["cancelled"], json!(3));
    assert_eq!(yard.ledger_count("SELECT count(*) FROM one_time_keys"), 3, "a key that was ordered is spent");
    yard.run(&["run"]).exits(0);
    assert!(!yard.outbox("PO-3").join("manifest.json").exists());
}

#[test]
fn a_purge_that_was_cut_off_is_finished_by_the_next() {
    let (yard, _) = yard_with_stored_orders(5);
    let sealed = yard.sealed("PO-1");
    // As after a kill behind the transaction: a reader keeps the log from being emptied, the vault is untouched.
    let ledger = Ledger::open(&yard.site().join("state.db")).unwrap();
    let reader = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM orders").unwrap();
    let order = ledger.orders().unwrap().remove(0);
    let stored = ledger.find_order(&order.key).unwrap().unwrap();
    ledger.shred(order.pk, &without_values(&stored.body), "2026-11-21T00:00:00Z").unwrap();
    assert!(yard.in_ledger_files(&sealed) > 0 && yard.vault_files() == 2);
    drop((reader, ledger));

    let report = yard.purge(&["PO-1", "--yes"]).exits(0).json();
    assert_eq!((&report["was_purged"], &report["purged_at"]), (&json!(true), &json!("2026-11-21T00:00:00Z")));
    assert_eq!((yard.in_ledger_files(&sealed), yard.vault_files()), (0, 1));
    assert_eq!(yard.purge(&["PO-1", "--yes"]).exits(0).json()["was_purged"], json!(true));
}

#[test]
fn a_purge_may_be_killed_at_any_moment() {
    let (yard, _) = yard_with_stored_orders(40);
    let sealed = yard.sealed("PO-1");
    let site = yard.site();
    for wait_ms in [0, 5, 10, 15, 20, 30, 40, 60] {
        let mut purge = Command::new(env!("CARGO_BIN_EXE_bindery"))
            .args(["--site", site.to_str().unwrap(), "order", "purge", "PO-1", "--yes", "--unfinished"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(wait_ms));
        purge.kill().unwrap();
        purge.wait().unwrap();
        let there = yard.sealed("PO-1").len();
        assert!(there == 0 || there == sealed.len(), "{there} of {} blobs are there", sealed.len());
        assert_eq!(yard.ledger_count("SELECT count(*) FROM iccids"), 80);
    }
    let begun = yard.outbox("PO-1").join(".core.csv.999999999.partial");
    fs::write(&begun, "iccid,imsi").unwrap();
    yard.purge(&["PO-1", "--yes", "--unfinished"]).exits(0);
    assert_eq!((yard.in_ledger_files(&sealed), yard.vault_files()), (0, 1));
    assert!(!begun.exists(), "a row file that a killed runner had begun");
    yard.run(&["doctor"]).exits(0);
}

#[test]
fn on_a_terminal_the_name_has_to_be_typed() {
    let (yard, _) = yard_with_stored_orders(2);
    let site = yard.site();
    let type_in = |text: &str| {
        let words = [env!("CARGO_BIN_EXE_bindery"), "--site", site.to_str().unwrap(), "order purge PO-1 --unfinished"];
        // `script` gives its child a terminal.
        let mut script = Command::new("script")
            .args(["-qec", &words.join(" "), "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        script.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = script.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for wrong in ["PO-1\n", "y\n", "\n"] {
        let (code, said) = type_in(wrong);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("erased for good") && said.contains("nothing was erased"), "{said}");
    }
    assert!(!yard.sealed("PO-1").is_empty());
    let (code, said) = type_in("acme/PO-1\n");
    assert!(code == Some(0) && said.contains("claimed for ever: 2 ICCIDs"), "{said}");
    assert!(yard.sealed("PO-1").is_empty());
}
