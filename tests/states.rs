//! Rows held, put back, cancelled and revoked; records that fail alone; quotas and numbers that are used up. Whatever is done to an
//! order, every row of it has one outcome, the counts add up and no number or one-time key serves twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use yard::shim::{Shim, on};
use yard::{Ran, Yard, files_below, iccid, lines_json, rows_csv};

const CKR_DATA_INVALID: u64 = 0x20;
const TOKEN: &str = "bindery-demo";

impl Yard {
    fn order(&self, args: &[&str]) -> Ran {
        self.run(&[&["--json", "order"], args].concat())
    }

    /// Replaces a line of `bindery.toml`, or appends one.
    fn configure(&self, from: &str, to: &str) {
        let file = self.site().join("bindery.toml");
        let config = fs::read_to_string(&file).unwrap();
        let config = if from.is_empty() { format!("{config}\n{to}\n") } else { config.replace(from, to) };
        assert!(config.contains(to));
        fs::write(file, config).unwrap();
    }

    /// A site whose chunks have so many records.
    fn with_chunks_of(records: usize) -> Self {
        let yard = Self::demo();
        let file = yard.site().join("bindery.toml");
        let config = fs::read_to_string(&file).unwrap();
        match config.lines().find(|line| line.starts_with("chunk_records")) {
            Some(line) => yard.configure(line, &format!("chunk_records = {records}")),
            None => yard.configure("", &format!("[run]\nchunk_records = {records}")),
        }
        yard
    }

    fn start(&self, args: &[&str]) -> Child {
        self.prepared(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn wait_for_chunks(&self, chunks: i64) {
        let started = Instant::now();
        while self.ledger_count("SELECT count(*) FROM chunks WHERE done = 1") < chunks {
            assert!(started.elapsed() < Duration::from_secs(60), "no progress");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A run of PO-1 that was killed in the middle.
    fn killed_run(&self, chunks: i64) {
        let mut run = self.start(&["run"]);
        self.wait_for_chunks(chunks);
        run.kill().unwrap();
        run.wait().unwrap();
        assert!(self.in_state("accepted") > 0, "the run was over before it was killed");
    }

    fn in_state(&self, state: &str) -> i64 {
        self.ledger_count(&format!("SELECT count(*) FROM device_states WHERE state = '{state}'"))
    }

    /// Opens every package of a bundle, and gives its counts, which add up.
    #[track_caller]
    fn verified(&self, bundle: &Path) -> Value {
        let secrets = self.path("fleet/secrets.jsonl");
        let order = self.path("orders/PO-1.json");
        let args = ["verify", bundle.to_str().unwrap(), "--secrets", secrets.to_str().unwrap(), "--all", "--order"];
        self.run(&[&args[..], &[order.to_str().unwrap()]].concat()).exits(0);
        let recon: Value = serde_json::from_slice(&fs::read(bundle.join("recon.json")).unwrap()).unwrap();
        let manifest: Value = serde_json::from_slice(&fs::read(bundle.join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["counts"], recon);
        let count = |name: &str| recon[name].as_u64().unwrap();
        assert_eq!(count("rows"), ["issued", "refused", "held", "cancelled"].map(count).iter().sum::<u64>(), "{recon}");
        assert_eq!(rows_csv(&bundle.join("results.csv")).len() as u64, count("rows"));
        recon
    }

    /// What must hold whatever was done.
    #[track_caller]
    fn sound(&self, rows: i64) {
        assert_eq!(self.ledger_count("SELECT count(*) FROM devices"), rows);
        for table in ["iccids", "imsis", "one_time_keys"] {
            let sql = format!("SELECT count(*) FROM {table}");
            assert_eq!(self.ledger_count(&sql), rows, "{table}: claims stay, one a row");
        }
        for column in ["iccid", "euicc_otpk"] {
            let twice = format!("SELECT count(*) FROM (SELECT 1 FROM devices GROUP BY {column} HAVING count(*) > 1)");
            assert_eq!(self.ledger_count(&twice), 0, "{column} serves one row");
        }
        assert_eq!(self.ledger_count("SELECT count(*) FROM pragma_foreign_key_check"), 0);
    }
}

fn records(bundle: &Path) -> Vec<String> {
    lines_json(&bundle.join("orders.jsonl")).iter().map(|r| r["iccid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_held_order_waits_and_is_issued_when_it_is_put_back() {
    let yard = Yard::with_chunks_of(5);
    let keys = yard.fleet("fleet", 12);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    let held = yard.order(&["hold", "PO-1"]).exits(0).json();
    assert_eq!((&held["held"], &held["started"], &held["states"]), (&json!(12), &json!(0), &json!({"held": 12})));
    assert_eq!(yard.order(&["hold", "PO-1"]).exits(0).json()["held"], 0, "again changes nothing");
    let ran = yard.run(&["--json", "run"]).exits(5);
    assert_eq!(ran.json()["held"], json!([{"order": "acme/PO-1", "held": 12}]));
    assert!(ran.err.contains("hold acme/PO-1 --release"), "{}", ran.err);
    assert!(!yard.outbox("PO-1").join("manifest.json").exists());

    assert_eq!(yard.order(&["hold", "PO-1", "--release"]).exits(0).json()["released"], 12);
    yard.order(&["hold", "PO-1", "--release"]).exits(0);
    yard.run(&["run"]).exits(0);
    let recon = yard.verified(&yard.outbox("PO-1"));
    assert_eq!((&recon["issued"], &recon["held"]), (&json!(12), &json!(0)));
    yard.sound(12);
    // Nothing waits any more: there is nothing to hold, put back or cancel, and nothing to call back.
    for command in
        [&["hold", "PO-1"][..], &["hold", "PO-1", "--release"], &["cancel", "PO-1"], &["revoke", "PO-1", "--yes"]]
    {
        let ran = yard.order(command).exits(2);
        assert!(ran.err.contains("acme/PO-1") && ran.err.contains("hint"), "{command:?}: {}", ran.err);
    }
    yard.verified(&yard.outbox("PO-1"));
}

#[test]
fn a_running_batch_passes_over_what_is_held_and_the_rest_gets_a_bundle_of_its_own() {
    let yard = Yard::with_chunks_of(20);
    let keys = yard.fleet("fleet", 400);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    let mut run = yard.start(&["run"]);
    yard.wait_for_chunks(1);
    let held = yard.order(&["hold", "PO-1"]).exits(0).json()["held"].as_u64().unwrap();
    assert!(held > 0, "the run was over before");
    assert_eq!(run.wait().unwrap().code(), Some(5), "not every accepted row was issued");

    let own = yard.verified(&yard.outbox("PO-1"));
    assert_eq!((&own["rows"], &own["held"]), (&json!(400), &json!(held)));
    assert_eq!(yard.run(&["--json", "run", "PO-1"]).exits(5).json()["held"][0]["held"], held);
    let seal = fs::read(yard.outbox("PO-1").join("manifest.sig")).unwrap();
    assert_eq!(yard.order(&["hold", "PO-1", "--release"]).exits(0).json()["released"], held);
    yard.run(&["run"]).exits(0);
    assert_eq!(fs::read(yard.outbox("PO-1").join("manifest.sig")).unwrap(), seal, "the first bundle is as it was");
    let rest = yard.verified(&yard.outbox("PO-1+rest-001"));
    assert_eq!((&rest["rows"], &rest["issued"]), (&json!(held), &json!(held)));
    let both = [records(&yard.outbox("PO-1")), records(&yard.outbox("PO-1+rest-001"))].concat();
    assert_eq!((both.len(), both.iter().collect::<HashSet<_>>().len()), (400, 400));
    assert_eq!(yard.in_state("exported"), 400);
    yard.sound(400);
    let der = yard.path("der");
    let unpacked = yard.run(&["--json", "export", "PO-1", "--unpack", der.to_str().unwrap()]).exits(0).json();
    assert_eq!(unpacked["packages"], 400);
}

#[test]
fn what_is_not_started_is_cancelled_and_its_numbers_stay_claimed() {
    let yard = Yard::with_chunks_of(20);
    let keys = yard.fleet("fleet", 200);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    yard.killed_run(2);
    // Nobody runs: what the killed run had begun is not started either.
    let waiting = yard.in_state("accepted");
    yard.order(&["hold", "PO-1"]).exits(0);
    let cancelled = yard.order(&["cancel", "PO-1"]).exits(0).json();
    assert_eq!((&cancelled["cancelled"], &cancelled["started"]), (&json!(waiting), &json!(0)));
    assert_eq!(yard.order(&["cancel", "PO-1"]).exits(0).json()["cancelled"], 0);
    yard.run(&["run"]).exits(5);
    let recon = yard.verified(&yard.outbox("PO-1"));
    assert_eq!((&recon["cancelled"], &recon["issued"]), (&json!(waiting), &json!(200 - waiting)));
    yard.sound(200);
    yard.run(&["run"]).exits(0);

    let more = yard.fleet_with("more", 3, &[]);
    let mut again = yard.prebound_order("PO-2", &more);
    let last = rows_csv(&yard.outbox("PO-1").join("results.csv")).pop().unwrap();
    assert_eq!(last["state"], "cancelled");
    again.line()["iccid"]["first"] = json!(last["iccid"]);
    again.submit().exits(4);
    let rejects = rows_csv(&yard.outbox("PO-2").join("rejects.csv"));
    assert!(rejects.iter().any(|r| r["code"] == "iccid-taken"), "{rejects:?}");
}

#[test]
fn held_rows_of_an_exported_order_can_still_be_cancelled_and_are_told_in_a_bundle() {
    let yard = Yard::with_chunks_of(20);
    let keys = yard.fleet("fleet", 200);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    yard.killed_run(2);
    let held = yard.order(&["hold", "PO-1"]).exits(0).json()["held"].clone();
    yard.run(&["run"]).exits(5);
    assert_eq!(yard.order(&["cancel", "PO-1"]).exits(0).json()["cancelled"], held);
    yard.run(&["run"]).exits(5);
    assert_eq!(yard.verified(&yard.outbox("PO-1"))["held"], held);
    let rest = yard.verified(&yard.outbox("PO-1+rest-001"));
    assert_eq!((&rest["rows"], &rest["cancelled"], &rest["issued"]), (&held, &held, &json!(0)));
    yard.sound(200);
}

#[test]
fn revoking_erases_what_is_not_exported_and_its_secrets() {
    let yard = Yard::with_chunks_of(20);
    let keys = yard.fleet("fleet", 200);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    yard.killed_run(2);
    let packages = |yard: &Yard| {
        let is_package = |path: &std::path::PathBuf| path.extension().is_some_and(|tail| tail == "bpp");
        files_below(&yard.outbox("PO-1")).into_iter().filter(is_package).count()
    };
    let bound = yard.in_state("bound");
    assert!(bound > 0 && packages(&yard) > 0);
    // K and OPc of the bound rows under the transport key, as a runner that is killed may leave them.
    let begun = yard.outbox("PO-1").join(".core.csv.999999999.partial");
    fs::write(&begun, "iccid,imsi").unwrap();
    yard.order(&["revoke", "PO-1"]).exits(2);
    assert_eq!(yard.in_state("bound"), bound, "not without --yes");
    let revoked = yard.order(&["revoke", "PO-1", "--yes"]).exits(0).json();
    assert_eq!((&revoked["revoked"], &revoked["cancelled"]), (&json!(bound), &json!(200 - bound)));
    assert_eq!(revoked["erased"]["batch_key"], true);
    assert_eq!(packages(&yard), 0);
    let unfinished = |path: &std::path::PathBuf| path.extension().is_some_and(|tail| tail == "partial");
    assert_eq!(files_below(&yard.outbox("PO-1")).into_iter().find(unfinished), None);
    let sealed = "SELECT count(*) FROM issues WHERE sealed_credentials IS NOT NULL OR length(ki_enc) > 0";
    assert_eq!(yard.ledger_count(sealed), 0);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM orders WHERE sealed_batch_key IS NOT NULL"), 0);
    assert_eq!(yard.order(&["revoke", "PO-1", "--yes"]).exits(0).json()["revoked"], 0);
    yard.run(&["run"]).exits(5);
    let recon = yard.verified(&yard.outbox("PO-1"));
    assert_eq!((&recon["cancelled"], &recon["issued"]), (&json!(200), &json!(0)));
    let states: HashSet<String> =
        rows_csv(&yard.outbox("PO-1").join("results.csv")).into_iter().map(|row| row["state"].clone()).collect();
    assert_eq!(states, HashSet::from(["revoked".to_owned(), "cancelled".to_owned()]));
    yard.sound(200);
}

#[test]
fn what_a_killed_chunk_left_in_the_vault_goes_when_its_order_is_closed() {
    let yard = Yard::demo();
    yard.stored_order("PO-1", &["89049032123451234512345678901235"]).submit().exits(0);
    let vault = yard.site().join("vault");
    fs::create_dir_all(&vault).unwrap();
    for name in ["order-1-00001.ppp", ".order-1-00001.ppp.77.partial", "order-11-00001.ppp"] {
        fs::write(vault.join(name), b"a PPP").unwrap();
    }
    yard.order(&["cancel", "PO-1"]).exits(0);
    yard.run(&["run"]);
    let left: Vec<_> = fs::read_dir(&vault).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["order-11-00001.ppp"]);
}

#[test]
fn stored_profiles_are_revoked_with_their_files_in_the_vault() {
    let yard = Yard::with_chunks_of(20);
    let keys = yard.fleet("fleet", 200);
    let eids: Vec<&str> = keys.iter().map(|key| key["eid"].as_str().unwrap()).collect();
    yard.stored_order("PO-1", &eids).submit().exits(0);
    yard.killed_run(2);
    assert!(yard.in_state("prepared") > 0 && !files_below(&yard.site().join("vault")).is_empty());
    yard.order(&["revoke", "PO-1", "--yes"]).exits(0);
    assert_eq!((yard.in_state("prepared"), files_below(&yard.site().join("vault")).len()), (0, 0));
}

/// Calls of C_Sign that a run makes before its first record, and for each signature.
fn calls_of_a_signature(yard: &Yard, shim: &Shim) -> (u64, u64) {
    let key = yard.fleet("probe", 1);
    let calls = || shim.calls(TOKEN, "C_Sign");
    yard.order(&["hold", "PO-1"]).exits(0);
    let mut before = calls();
    yard.run(&["run"]).exits(5); // nothing is left to do: the token is opened, no more
    let opening = calls() - before;
    yard.prebound_order("PO-0", &key).submit().exits(0);
    before = calls();
    yard.run(&["run", "PO-0"]).exits(0); // one package, one manifest
    let each = (calls() - before - opening) / 2;
    yard.order(&["hold", "PO-1", "--release"]).exits(0);
    assert!(each > 0 && opening >= each);
    (opening - each, each) // the head of the audit log is signed at the end
}

#[test]
fn a_record_that_the_token_refuses_three_times_fails_alone() {
    let mut yard = Yard::demo();
    let keys = yard.fleet("fleet", 6);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    yard.configure("\nlanes = 0\n", "\nlanes = 1\n");
    let mut shim = yard.put_shim();
    let (opening, each) = calls_of_a_signature(&yard, &shim);
    // One lane signs the six in turn, then the third again and again; a refused signature ends with its first call.
    let first = opening + 2 * each + 1;
    let second = first + 3 * each + 1;
    for (from, to) in [(first, first), (second, second + 1)] {
        shim.set(on(&["C_Sign"]).calls(from, to).answers(CKR_DATA_INVALID));
    }
    let ran = yard.run(&["run"]).exits(5);
    assert!(ran.err.contains("row 3") && ran.err.contains("CKR_DATA_INVALID"), "{}", ran.err);
    let results = rows_csv(&yard.outbox("PO-1").join("results.csv"));
    let told: Vec<(&str, &str)> = results.iter().map(|r| (r["state"].as_str(), r["error_class"].as_str())).collect();
    let issued = ("exported", "");
    assert_eq!(told, [issued, issued, ("failed", "hsm_mech"), issued, issued, issued]);
    let shown = yard.order(&["show", "PO-1"]).exits(0).json();
    let trouble = &shown["orders"][0]["troubles"][0];
    assert_eq!(trouble["row"], 3);
    assert!(trouble["error"].as_str().unwrap().contains("3 attempts"), "{trouble}");
    let recon = yard.verified(&yard.outbox("PO-1"));
    assert_eq!((&recon["issued"], &recon["refused"]), (&json!(5), &json!(1)));
    yard.sound(7);
}

#[test]
fn a_record_that_the_token_refuses_once_is_issued_all_the_same() {
    let mut yard = Yard::demo();
    let keys = yard.fleet("fleet", 6);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    let mut shim = yard.put_shim();
    let (opening, each) = calls_of_a_signature(&yard, &shim);
    let third = opening + 2 * each + 1;
    shim.set(on(&["C_Sign"]).calls(third, third).answers(CKR_DATA_INVALID));
    let before = shim.injected(TOKEN, "C_Sign");
    yard.run(&["run"]).exits(0);
    assert_eq!(shim.injected(TOKEN, "C_Sign"), before + 1);
    assert_eq!(yard.verified(&yard.outbox("PO-1"))["issued"], 6);
}

#[test]
fn k_and_opc_that_the_token_will_not_encrypt_fail_their_record_alone_and_only_after_three_attempts() {
    let mut yard = Yard::demo();
    let keys = yard.fleet("fleet", 6);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    let mut shim = yard.put_shim();
    let file = yard.site().join("bindery.toml");
    let config = std::fs::read_to_string(&file).unwrap().replace("\nlanes = 0\n", "\nlanes = 3\n");
    std::fs::write(file, config).unwrap();
    let calls = |shim: &Shim| shim.calls(TOKEN, "C_EncryptInit");
    // What a run encrypts before its first record, the order's batch key being there: of a held order it has none to encrypt.
    yard.order(&["hold", "PO-1"]).exits(0);
    yard.run(&["run"]).exits(5);
    let before = calls(&shim);
    yard.run(&["run"]).exits(5);
    let opening = calls(&shim) - before;
    yard.order(&["hold", "PO-1", "--release"]).exits(0);
    // All together, then each alone: K and OPc, both asked twice. The third record is refused whenever it comes.
    let third = opening + 1 + 2 * 4 + 1;
    for (from, to) in [(opening + 1, opening + 1), (third, third + 2)] {
        shim.set(on(&["C_EncryptInit"]).calls(from, to).answers(CKR_DATA_INVALID));
    }
    let ran = yard.run(&["run"]).exits(5);
    assert_eq!(shim.injected(TOKEN, "C_EncryptInit"), 4);
    assert_eq!(shim.struck_sessions(TOKEN), 3, "each attempt on another session");
    assert!(ran.err.contains("row 3") && ran.err.contains("3 attempts"), "{}", ran.err);
    let results = rows_csv(&yard.outbox("PO-1").join("results.csv"));
    let told: Vec<&str> = results.iter().map(|r| r["error_class"].as_str()).collect();
    assert_eq!(told, ["", "", "hsm_mech", "", "", ""]);
    assert_eq!(yard.verified(&yard.outbox("PO-1"))["issued"], 5);
    yard.sound(6);
}

#[test]
fn a_tenant_orders_within_its_quotas_and_a_refused_order_costs_nothing() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 12);
    yard.order(&["list"]).exits(0); // makes the ledger
    for (limit, code, first) in [
        ("max_rows_per_order = 3", "quota-order", 0),
        ("max_rows_per_day = 5", "quota-day", 3),
        ("max_open_rows = 5", "quota-open", 3),
    ] {
        let file = yard.site().join("bindery.toml");
        let before = fs::read_to_string(&file).unwrap();
        yard.configure("", &format!("[tenant.acme]\n{limit}"));
        let has = yard.ledger_count("SELECT count(*) FROM devices");
        let order = format!("PO-{code}");
        if has < first {
            yard.prebound_order("PO-first", &keys[..3]).submit().exits(0);
        }
        let has = yard.ledger_count("SELECT count(*) FROM devices");
        let refused = yard.prebound_order(&order, &keys[3..7]).submit().exits(4);
        assert_eq!(refused.json()["verdict"], "rejected");
        let rejects = rows_csv(&yard.outbox(&order).join("rejects.csv"));
        assert!(rejects.iter().any(|r| r["code"] == code && !r["hint"].is_empty()), "{code}: {rejects:?}");
        assert_eq!(yard.ledger_count("SELECT count(*) FROM devices"), has, "{code}");
        fs::write(file, before).unwrap();
    }
    // Finished rows are not open ones.
    yard.run(&["run"]).exits(0);
    yard.configure("", "[tenant.acme]\nmax_open_rows = 5");
    yard.prebound_order("PO-later", &keys[3..7]).submit().exits(0);
    yard.configure("max_open_rows = 5", "max_open_row = 5");
    let ran = yard.order(&["list"]).exits(3);
    assert!(ran.err.contains("max_open_row"), "{}", ran.err);
}

#[test]
fn a_site_that_is_no_demo_takes_orders_of_its_own_tenants_only() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 1);
    yard.configure("demo = true", "demo = false");
    yard.prebound_order("PO-1", &keys).submit().exits(4);
    let rejects = rows_csv(&yard.outbox("PO-1").join("rejects.csv"));
    assert_eq!((rejects[0]["column"].as_str(), rejects[0]["code"].as_str()), ("tenant", "unknown-tenant"));
    yard.configure("", "[tenant.acme]");
    yard.prebound_order("PO-1", &keys).submit().exits(0);
}

#[test]
fn numbers_and_one_time_keys_that_are_used_up_end_with_twelve() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 3);
    let mut order = yard.prebound_order("PO-1", &keys);
    order.line()["iccid"] = json!({"first": iccid("999999999999999998")});
    order.line()["template"] = json!("no-such@1");
    order.submit().exits(4); // more is wrong than that
    order.line()["template"] = json!("operational@1");
    let ran = order.submit().exits(12);
    assert_eq!(ran.json()["verdict"], "rejected");
    assert_eq!(yard.ledger_count("SELECT count(*) FROM devices"), 0);
    yard.prebound_order("PO-1", &keys).submit().exits(0);

    let eids: Vec<&str> = keys.iter().map(|key| key["eid"].as_str().unwrap()).collect();
    yard.stored_order("PO-2", &eids).submit().exits(0);
    yard.run(&["run"]).exits(0);
    let key_file = yard.path("fleet/euicc.jsonl");
    let ran = yard.run(&["bind", "PO-2", "--euicc-data", key_file.to_str().unwrap()]).exits(12);
    assert!(ran.err.contains("one-time key"), "{}", ran.err);
}

#[test]
fn the_first_answer_stands_and_another_body_is_a_conflict() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 2);
    let mut order = yard.prebound_order("PO-1", &keys);
    let first = order.submit().exits(0);
    assert_eq!(order.submit().exits(0).out, first.out, "the same order again");
    order.header["due"] = json!("2030-01-01T00:00:00Z");
    assert_eq!(order.submit().exits(6).json()["verdict"], "duplicate");
    order.header["rev"] = json!(2);
    order.submit().exits(4); // another revision is another order, and the numbers are taken
    assert_eq!(yard.ledger_count("SELECT count(*) FROM devices"), 2);
}

#[test]
fn a_purged_order_is_not_changed_any_more() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 2);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    yard.run(&["order", "purge", "PO-1", "--yes", "--unfinished"]).exits(0);
    for command in [&["hold", "PO-1"][..], &["cancel", "PO-1"], &["revoke", "PO-1", "--yes"]] {
        assert!(yard.order(command).exits(2).err.contains("purged"), "{command:?}");
    }
}
