//! The books after a crash and what came behind it: nothing lost, nothing doubled, nothing unaccounted, by SQL, by the files of the
//! site and by `verify`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::Value;

use crate::yard::{Yard, files_below, lines_json, rows_csv, sha256_hex};

/// What an order is to come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum {
    /// Rows ordered.
    pub(crate) rows: usize,
    /// Rows bound when the order ran.
    pub(crate) bound: usize,
    /// Rows stored for a later binding.
    pub(crate) stored: usize,
    /// Rows refused.
    pub(crate) refused: usize,
}

/// No number, key or id twice anywhere in the ledger, every claim with its device and every device with its claims.
pub(crate) fn claims_add_up(yard: &Yard) {
    let ledger = Connection::open(yard.site().join("state.db")).unwrap();
    let number = |sql: &str| ledger.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(ledger.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(), "ok");
    assert_eq!(number("SELECT count(*) FROM pragma_foreign_key_check"), 0);
    for (what, wrong) in [
        // The claim tables' keys are unique by themselves; that a device has exactly its own claims is not.
        (
            "ICCID claims",
            "SELECT count(*) FROM devices d LEFT JOIN iccids c ON c.device = d.pk WHERE d.iccid IS NOT c.iccid",
        ),
        ("ICCIDs twice", "SELECT count(*) - count(DISTINCT device) FROM iccids"),
        (
            "IMSI claims",
            "SELECT count(*) FROM devices d LEFT JOIN imsis c ON c.device = d.pk WHERE d.imsi IS NOT c.imsi",
        ),
        ("IMSIs twice", "SELECT count(*) - count(DISTINCT device) FROM imsis"),
        (
            "key claims",
            "SELECT count(*) FROM devices d LEFT JOIN one_time_keys c ON c.device = d.pk WHERE substr(d.euicc_otpk, 2, 32) IS NOT c.x",
        ),
        ("keys twice", "SELECT count(*) - count(DISTINCT device) FROM one_time_keys"),
        (
            "matching ids",
            "SELECT count(*) FROM issues i LEFT JOIN matching_ids m ON m.device = i.device WHERE i.matching_id IS NOT m.matching_id",
        ),
        ("matching ids twice", "SELECT count(*) - count(DISTINCT device) FROM matching_ids"),
        ("transactions twice", "SELECT count(transaction_id) - count(DISTINCT transaction_id) FROM issues"),
        ("packages twice", "SELECT count(sha256) - count(DISTINCT sha256) FROM issues"),
        ("secrets twice", "SELECT count(ki_enc) - count(DISTINCT ki_enc) FROM issues WHERE ki_enc <> x''"),
        ("lines twice", "SELECT count(*) - count(DISTINCT order_pk || ' ' || line || ' ' || row) FROM devices"),
        (
            "devices of no order",
            "SELECT count(*) FROM devices d WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.pk = d.order_pk)",
        ),
        (
            "issued but not claimed",
            "SELECT count(*) FROM issues i JOIN devices d ON d.pk = i.device WHERE d.iccid IS NULL OR d.imsi IS NULL",
        ),
        (
            "rows and lines",
            "SELECT count(*) FROM orders o WHERE o.target IS NULL AND o.rows <> (SELECT count(*) FROM devices d WHERE d.order_pk = o.pk)",
        ),
    ] {
        assert_eq!(number(wrong), 0, "{what}");
    }
}

/// An order that ran is whole: every row with its outcome once, in the ledger and in the bundle's files, and the bundle passes.
pub(crate) fn is_complete(yard: &Yard, order_id: &str, sum: Sum) {
    claims_add_up(yard);
    let issued = sum.bound + sum.stored;
    let of_order = format!("FROM device_states WHERE order_pk = (SELECT pk FROM orders WHERE order_id = '{order_id}')");
    for (state, count) in [("exported", issued), ("rejected", sum.refused)] {
        let found = yard.ledger_count(&format!("SELECT count(*) {of_order} AND state = '{state}'"));
        assert_eq!(found, count as i64, "{state}");
    }
    assert_eq!(yard.ledger_count(&format!("SELECT count(*) {of_order}")), sum.rows as i64);
    assert_eq!(
        yard.ledger_count(&format!("SELECT count(*) FROM issues WHERE device IN (SELECT pk {of_order})")),
        issued as i64
    );
    assert_eq!(yard.ledger_count("SELECT count(*) FROM chunks WHERE NOT done"), 0);
    let bundle = yard.outbox(order_id);
    let recon: Value = serde_json::from_slice(&fs::read(bundle.join("recon.json")).unwrap()).unwrap();
    let counts = ["rows", "issued", "refused"].map(|name| recon[name].as_u64().unwrap() as usize);
    assert_eq!(counts, [sum.rows, issued, sum.refused], "{recon}");
    let results = rows_csv(&bundle.join("results.csv"));
    let places: BTreeSet<_> = results.iter().map(|row| (row.get("line").cloned(), row["row"].clone())).collect();
    assert_eq!((results.len(), places.len()), (sum.rows, sum.rows), "results.csv");
    records_are_there(&bundle, issued, sum.bound);
    nothing_is_left_over(yard);
    passes(yard, &bundle, order_id);
}

/// The records of a bundle name what lies there; each number once.
pub(crate) fn records_are_there(bundle: &Path, records: usize, bound: usize) {
    let found = lines_json(&bundle.join("orders.jsonl"));
    assert_eq!(found.len(), records, "orders.jsonl");
    for member in ["iccid", "imsi", "matching_id"] {
        let values: BTreeSet<_> = found.iter().map(|record| record[member].as_str().unwrap()).collect();
        assert_eq!(values.len(), records, "{member}");
    }
    let packages: Vec<_> = found.iter().filter(|record| !record["object"].is_null()).collect();
    assert_eq!(packages.len(), bound, "packages");
    for record in packages {
        let object = fs::read(bundle.join(record["object"].as_str().unwrap())).unwrap();
        let number = |name: &str| record[name].as_u64().unwrap() as usize;
        let package = &object[number("offset")..number("offset") + number("length")];
        assert_eq!(sha256_hex(package), record["sha256"].as_str().unwrap());
    }
}

/// No unfinished file; every file of the vault is a chunk's, octet for octet what was written.
pub(crate) fn nothing_is_left_over(yard: &Yard) {
    let site = yard.site();
    let is_partial = |path: &PathBuf| path.strip_prefix(&site).unwrap().to_str().unwrap().contains(".partial");
    // But for copies of the audit log's head, public all of them, which whoever signs next sweeps.
    let is_copy = |path: &PathBuf| path.parent() == Some(&site.join("audit"));
    let partial: Vec<_> = files_below(&site).into_iter().filter(|path| is_partial(path) && !is_copy(path)).collect();
    assert!(partial.is_empty(), "left over: {partial:?}");
    let ledger = Connection::open(site.join("state.db")).unwrap();
    let sql = "SELECT c.order_pk, c.number, c.sha256 FROM chunks c JOIN orders o ON o.pk = c.order_pk WHERE purged_at IS NULL AND EXISTS
               (SELECT 1 FROM issues i WHERE i.device BETWEEN c.first_device AND c.last_device AND i.sealed_ppk IS NOT NULL)";
    let mut query = ledger.prepare(sql).unwrap();
    let stored = query.query_map([], |row| {
        let name = format!("order-{}-{:05}.ppp", row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
        Ok((name, row.get::<_, Vec<u8>>(2)?))
    });
    let stored: BTreeSet<_> = stored.unwrap().map(Result::unwrap).collect();
    let vault = site.join("vault");
    let files = if vault.is_dir() { files_below(&vault) } else { Vec::new() };
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let found: BTreeSet<_> =
        files.iter().map(|path| (name(path), openssl::sha::sha256(&fs::read(path).unwrap()).to_vec())).collect();
    assert_eq!(found, stored, "the vault");
}

/// `verify --all` on a bundle.
pub(crate) fn passes(yard: &Yard, bundle: &Path, order_id: &str) {
    let order = yard.path("orders").join(format!("{order_id}.json"));
    let secrets = yard.path("fleet/secrets.jsonl");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let args = [&text(bundle), "--secrets", &text(&secrets), "--order", &text(&order), "--all"].map(str::to_owned);
    let args: Vec<&str> = std::iter::once("verify").chain(args.iter().map(String::as_str)).collect();
    yard.run(&args).exits(0);
}
