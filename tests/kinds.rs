//! Orders of kind `cancel` and `remake`: files that change what another order asked for, with the effect, the refusals and the books
//! of the commands; and `order remake --new-iccid`: a new profile in the place of an old one, with a K of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use yard::{Ran, Yard, files_below, iccid, lines_json, rows_csv, sha256_hex};

impl Yard {
    /// A change of PO-1, sent.
    fn change(&self, rev: u32, kind: &str, lines: Value) -> Ran {
        self.send(&json!({"schema": "bindery.order/1", "tenant": "acme", "order_id": "PO-1", "rev": rev, "kind": kind, "lines": lines}))
    }

    fn send(&self, order: &Value) -> Ran {
        let path = self.path("orders/change.json");
        fs::write(&path, order.to_string()).unwrap();
        self.run(&["--json", "order", "submit", path.to_str().unwrap()])
    }

    /// A key file beside the orders, as `euicc_data` names it.
    fn keys(&self, name: &str, keys: &[&Value]) -> Value {
        let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
        fs::write(self.path("orders").join(name), &text).unwrap();
        json!({"file": name, "sha256": sha256_hex(text.as_bytes())})
    }

    fn new_iccid(&self, args: &[&str], first: (&str, &str), keys: &Value) -> Ran {
        let keys = self.path("orders").join(keys["file"].as_str().unwrap());
        let ends = ["--new-iccid", first.0, "--new-imsi", first.1, "--euicc-data", keys.to_str().unwrap()];
        self.run(&[&["--json", "order", "remake"], args, &ends].concat())
    }

    fn in_state(&self, state: &str) -> i64 {
        self.ledger_count(&format!("SELECT count(*) FROM device_states WHERE state = '{state}'"))
    }

    /// Orders, devices, ICCIDs, IMSIs, one-time keys and tombstones.
    fn books(&self) -> [i64; 6] {
        assert_eq!(self.ledger_count("SELECT count(*) FROM pragma_foreign_key_check"), 0);
        ["orders", "devices", "iccids", "imsis", "one_time_keys", "tombstones"]
            .map(|table| self.ledger_count(&format!("SELECT count(*) FROM {table}")))
    }

    fn state_of(&self, order: &str) -> Value {
        self.run(&["--json", "order", "show", order]).exits(0).json()["orders"][0].clone()
    }

    #[track_caller]
    fn refused(&self, rev: u32, code: &str) {
        let rejects = rows_csv(&self.outbox(&format!("PO-1@{rev}")).join("rejects.csv"));
        let first = rejects.first().unwrap();
        assert_eq!(first["code"], code, "{rejects:?}");
        assert!(!first["message"].is_empty() && !first["hint"].is_empty(), "{rejects:?}");
    }

    #[track_caller]
    fn verified(&self, bundle: &Path) {
        let (secrets, order) = (self.path("fleet/secrets.jsonl"), self.path("orders/PO-1.json"));
        let args = ["verify", bundle.to_str().unwrap(), "--secrets", secrets.to_str().unwrap(), "--all", "--order"];
        self.run(&[&args[..], &[order.to_str().unwrap()]].concat()).exits(0);
        let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(bundle.join(name)).unwrap()).unwrap() };
        let recon = read("recon.json");
        assert_eq!(read("manifest.json")["counts"], recon);
        let count = |name: &str| recon[name].as_u64().unwrap();
        assert_eq!(count("rows"), ["issued", "refused", "held", "cancelled"].map(count).iter().sum::<u64>(), "{recon}");
        assert_eq!(rows_csv(&bundle.join("results.csv")).len() as u64, count("rows"));
    }
}

/// PO-1 of four devices with three keys each, submitted with the first of them; gives the second ones.
fn four() -> (Yard, Vec<Value>) {
    let yard = Yard::demo();
    yard.chunks_of(2);
    let keys = yard.fleet_with("fleet", 4, &["--keys-per-eid", "3"]);
    let (first, second): (Vec<_>, Vec<_>) = keys.chunks(3).map(|three| (three[0].clone(), three[1].clone())).unzip();
    yard.prebound_order("PO-1", &first).submit().exits(0);
    (yard, second)
}

fn exported() -> (Yard, Vec<Value>) {
    let (yard, fresh) = four();
    yard.run(&["run"]).exits(0);
    (yard, fresh)
}

fn records(bundle: &Path) -> Vec<Value> {
    lines_json(&bundle.join("orders.jsonl"))
}

fn core(bundle: &Path) -> Vec<(String, String)> {
    rows_csv(&bundle.join("core.csv")).iter().map(|row| (row["ki_enc"].clone(), row["opc_enc"].clone())).collect()
}

#[test]
fn a_cancellation_that_comes_as_a_file_does_what_the_command_does_and_is_an_order_of_its_own() {
    let (yard, _) = four();
    let first = yard.change(2, "cancel", json!([])).exits(0);
    let ack = first.json();
    assert_eq!((&ack["verdict"], &ack["rev"]), (&json!("accepted"), &json!(2)));
    assert_eq!(ack["change"], json!({"kind": "cancel", "of": "acme/PO-1", "cancelled": 4, "started": 0}));
    assert_eq!(yard.in_state("cancelled"), 4);
    assert_eq!(fs::read_to_string(yard.outbox("PO-1@2").join("ack.json")).unwrap(), first.out);
    assert_eq!(yard.change(2, "cancel", json!([])).exits(0).out, first.out, "the first answer again");
    yard.change(2, "cancel", json!([{"line": 1}])).exits(6);
    yard.change(1, "cancel", json!([])).exits(6); // the order's own key
    let shown = yard.state_of("PO-1@2");
    assert_eq!(
        [&shown["state"], &shown["change"], &shown["of"]],
        [&json!("done"), &json!("cancel"), &json!("acme/PO-1")]
    );
    assert!(yard.run(&["order", "list"]).exits(0).out.contains("cancel: done"));
    assert!(yard.run(&["order", "hold", "PO-1@2"]).exits(2).err.contains("hint:"), "it has no rows");
    let log = yard.run(&["audit", "show", "--order", "PO-1"]).exits(0).out;
    assert!(log.contains("order-cancelled"), "{log}");
    yard.run(&["run", "PO-1@2"]).exits(5);
    yard.verified(&yard.outbox("PO-1"));
    assert_eq!(yard.books(), [2, 4, 4, 4, 4, 0]);
    yard.change(3, "cancel", json!([])).exits(0); // as the command: they are there already
    yard.run(&["audit", "verify"]).exits(0);
}

#[test]
fn a_cancellation_names_lines_and_spares_the_others() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 2);
    let other = yard.prebound_order("PO-2", &keys[1..]).header["lines"][0].clone();
    let mut order = yard.prebound_order("PO-1", &keys[..1]);
    order.header["lines"].as_array_mut().unwrap().push(other);
    order.header["lines"][1]["line"] = json!(2);
    order.submit().exits(0);
    let ack = yard.change(2, "cancel", json!([{"line": 2}])).exits(0).json();
    assert_eq!((&ack["counts"]["accepted"], &ack["change"]["started"]), (&json!(1), &json!(0)));
    assert_eq!(yard.ledger_count("SELECT count(*) FROM devices WHERE line = 2 AND state = 'cancelled'"), 1);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM devices WHERE line = 1 AND state = 'accepted'"), 1);
    yard.run(&["run"]).exits(5);
    yard.verified(&yard.outbox("PO-1"));
    yard.change(3, "cancel", json!([{"line": 1}])).exits(4);
    yard.refused(3, "nothing-to-cancel");
}

#[test]
fn a_cancellation_that_cannot_be_is_refused_by_name_and_changes_nothing() {
    let (yard, _) = exported();
    yard.change(2, "cancel", json!([])).exits(4);
    yard.refused(2, "nothing-to-cancel");
    yard.change(2, "cancel", json!([{"line": 1, "quantity": 2}])).exits(4);
    yard.refused(2, "unknown-member");
    let of_nobody =
        json!({"schema": "bindery.order/1", "tenant": "acme", "order_id": "PO-9", "kind": "cancel", "lines": []});
    let ran = yard.send(&of_nobody).exits(4);
    assert!(ran.err.contains("hint:"), "{}", ran.err);
    assert_eq!(rows_csv(&yard.outbox("PO-9").join("rejects.csv"))[0]["code"], "unknown-order");
    assert_eq!((yard.in_state("exported"), yard.books()), (4, [1, 4, 4, 4, 4, 0]));
    yard.run(&["order", "purge", "PO-1", "--yes"]).exits(0);
    yard.change(2, "cancel", json!([])).exits(4);
    yard.refused(2, "purged");
}

#[test]
fn a_check_of_a_change_says_what_submit_would_and_changes_nothing() {
    let (yard, _) = four();
    let path = yard.path("orders/cancel.json");
    let order = json!({"schema": "bindery.order/1", "tenant": "acme", "order_id": "PO-1", "rev": 2, "kind": "cancel"});
    fs::write(&path, order.to_string()).unwrap();
    let check = || yard.run(&["--json", "order", "check", path.to_str().unwrap()]);
    assert_eq!(check().exits(0).json()["change"]["cancelled"], 4);
    assert_eq!((yard.in_state("accepted"), yard.books()[0]), (4, 1));
    yard.run(&["run"]).exits(0);
    check().exits(4);
}

#[test]
fn a_remake_that_comes_as_a_file_claims_its_keys_at_once_and_a_run_makes_it() {
    let (yard, fresh) = exported();
    let own = yard.outbox("PO-1");
    let keys = yard.keys("again.jsonl", &[&fresh[3], &fresh[1]]);
    let lines = json!([{"line": 1, "rows": [{"row": 2}, {"row": 4}], "euicc_data": keys}]);
    let first = yard.change(2, "remake", lines.clone()).exits(0);
    assert_eq!(first.json()["change"], json!({"kind": "remake", "of": "acme/PO-1", "renumbered": false}));
    assert_eq!(yard.books(), [2, 4, 4, 4, 6, 0], "both keys are claimed, nothing is made");
    assert_eq!(yard.state_of("PO-1@2")["state"], "open");
    // Whatever else wants one of the rows or keys waits its turn.
    let keys_path = yard.path("orders/again.jsonl");
    let command =
        ["order", "remake", "PO-1", "--rows", "2", "--same-iccid", "--euicc-data", keys_path.to_str().unwrap()];
    assert!(yard.run(&command).exits(2).err.contains("waits"), "an accepted remake waits");
    fs::remove_file(&keys_path).unwrap(); // what was read is kept
    assert_eq!(yard.change(2, "remake", lines.clone()).exits(0).out, first.out, "the first answer again");
    let ran = yard.run(&["--json", "run"]).exits(0).json();
    assert_eq!((&ran["remade"][0]["order"], &ran["remade"][0]["rows"]), (&json!("acme/PO-1@2"), &json!(2)));
    let bundle = yard.outbox("PO-1+remake-001");
    yard.verified(&bundle);
    let (before, after) = (records(&own), records(&bundle));
    for (again, row) in after.iter().zip([1, 3]) {
        assert_eq!([&again["iccid"], &again["upp_sha256"]], [&before[row]["iccid"], &before[row]["upp_sha256"]]);
        assert_eq!(again["euicc_otpk"], fresh[row]["euicc_otpk"]);
        assert_ne!(again["sha256"], before[row]["sha256"]);
    }
    assert_eq!(yard.state_of("PO-1@2")["state"], "done");
    assert_eq!(yard.state_of("PO-1")["remakes"][0]["rows"], 2);
    assert_eq!(yard.change(2, "remake", lines).exits(0).out, first.out, "and again");
    assert_eq!(yard.run(&["--json", "run"]).exits(0).json()["remade"], json!([]));
    assert_eq!(yard.books(), [2, 4, 4, 4, 6, 2]);
    yard.run(&["audit", "verify"]).exits(0);
}

#[test]
fn a_remake_that_cannot_be_is_refused_and_claims_nothing() {
    let (yard, fresh) = four();
    let keys = yard.keys("one.jsonl", &[&fresh[0]]);
    let line = |rows: Value| json!([{"line": 1, "rows": rows, "euicc_data": keys}]);
    let one = line(json!([{"row": 1}]));
    yard.change(2, "remake", one.clone()).exits(4);
    yard.refused(2, "cannot-be-remade"); // not exported yet
    yard.run(&["run"]).exits(0);
    let taken = records(&yard.outbox("PO-1"))[1]["iccid"].clone();
    for (lines, exit, code) in [
        (
            json!([{"line": 1, "rows": [{"row": 1}], "euicc_data": keys, "iccid": {"first": taken},
                    "imsi": {"first": "001017770000019"}}]),
            4,
            "number-taken",
        ),
        (line(json!([{"row": 5}])), 4, "cannot-be-remade"),
        (line(json!([{"row": 0}])), 4, "bad-value"),
        (line(json!([{"iccid": "8949000000000000018"}])), 4, "cannot-be-remade"),
        (line(json!([{"row": 1, "eid": fresh[1]["eid"]}])), 4, "unsupported-column"),
        (line(json!([])), 4, "bad-value"),
        (line(json!([{"row": 1}, {"row": 2}])), 12, "exhausted"),
        (json!([]), 4, "bad-value"),
        (json!([{"line": 1, "euicc_data": keys}]), 4, "missing-member"),
        (json!([{"line": 2, "rows": [{"row": 1}], "euicc_data": keys}]), 4, "cannot-be-remade"),
        (
            json!([{"line": 1, "rows": [{"row": 1}], "euicc_data": keys, "imsi": {"first": "001019999000001"}}]),
            4,
            "bad-value",
        ),
        (
            json!([{"line": 1, "rows": [{"row": 1}], "euicc_data": {"file": "one.jsonl", "sha256": "0".repeat(64)}}]),
            4,
            "sha256-mismatch",
        ),
    ] {
        let ran = yard.change(2, "remake", lines.clone());
        assert_eq!(ran.code, exit, "{lines}: {}", ran.err);
        yard.refused(2, code);
        assert_eq!(yard.books(), [1, 4, 4, 4, 4, 0], "{lines}");
    }
    let partial = json!({"schema": "bindery.order/1", "tenant": "acme", "order_id": "PO-1", "rev": 2, "kind": "remake",
                         "accept": "partial", "lines": one});
    yard.send(&partial).exits(4);
    yard.refused(2, "unsupported-accept");
    yard.change(2, "remake", one).exits(0); // the key is as good as it was
    yard.run(&["order", "purge", "PO-1", "--yes"]).exits(0);
    assert_eq!(yard.state_of("PO-1@2")["state"], "purged", "nothing is left to be made again");
    yard.run(&["run"]).exits(0);
}

#[test]
fn a_new_profile_takes_the_old_ones_place_with_new_numbers_and_a_k_of_its_own() {
    let (yard, fresh) = exported();
    let own = yard.outbox("PO-1");
    let keys = yard.keys("again.jsonl", &[&fresh[0], &fresh[2]]);
    let (first, next) = (iccid("894977700000000009"), iccid("894977700000000010"));
    let ask = || yard.new_iccid(&["PO-1", "--rows", "1,3"], (&first, "001017770000019"), &keys);
    let made = ask().exits(0).json();
    assert_eq!([&made["rows"], &made["renumbered"]], [&json!(2), &json!(true)]);
    let bundle = yard.outbox("PO-1+remake-001");
    yard.verified(&bundle);
    yard.verified(&own);
    let (before, after) = (records(&own), records(&bundle));
    let texts = |name: &str| after.iter().map(|record| record[name].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(texts("iccid"), [first.clone(), next]);
    assert_eq!(texts("imsi"), ["001017770000019", "001017770000020"]);
    for (again, row) in after.iter().zip([0, 2]) {
        assert_eq!((&again["eid"], &again["euicc_otpk"]), (&before[row]["eid"], &fresh[row]["euicc_otpk"]));
        for other in ["upp_sha256", "metadata_sha256", "matching_id", "transaction_id", "sha256"] {
            assert_ne!(again[other], before[row][other], "{other}");
        }
    }
    // A K never serves two ICCIDs.
    let old = core(&own);
    assert!(core(&bundle).iter().all(|(ki, opc)| old.iter().all(|(old_ki, old_opc)| ki != old_ki && opc != old_opc)));
    assert_eq!(yard.books(), [1, 4, 6, 6, 6, 2], "old claims stay, the rows are as many as were ordered");
    assert_eq!(yard.ledger_count("SELECT count(*) FROM tombstones WHERE state = 'revoked' AND iccid IS NOT NULL"), 2);
    let der = yard.path("der");
    yard.run(&["export", "PO-1", "--unpack", der.to_str().unwrap()]).exits(0);
    let names: Vec<PathBuf> = files_below(&der);
    assert_eq!(names.len(), 4);
    let old = before[0]["iccid"].as_str().unwrap();
    assert!(names.iter().all(|name| !name.to_str().unwrap().contains(old)), "{names:?}");

    let again = ask().exits(0).json();
    assert_eq!((&again["repeated"], &again["bundle"]), (&json!(true), &made["bundle"]));
    // By the old ICCID the same: it is known which profile took its place.
    let args = ["PO-1", "--iccid", old, before[2]["iccid"].as_str().unwrap()];
    assert_eq!(yard.new_iccid(&args, (&first, "001017770000019"), &keys).exits(0).json()["repeated"], true);
    assert!(
        yard.new_iccid(&args, (&iccid("894977700000000100"), "001017770000100"), &keys)
            .exits(2)
            .err
            .contains("replaced")
    );
    // The new profile once more, as any other: its numbers are still not those that were ordered.
    let third = &lines_json(&yard.path("fleet/euicc.jsonl"))[2];
    let spare = yard.keys("next.jsonl", &[third]);
    let path = yard.path("orders").join(spare["file"].as_str().unwrap());
    let command = ["order", "remake", "PO-1", "--iccid", first.as_str(), "--same-iccid", "--euicc-data"];
    yard.run(&[&command[..], &[path.to_str().unwrap()]].concat()).exits(0);
    let bundle = yard.outbox("PO-1+remake-002");
    yard.verified(&bundle);
    assert_eq!(records(&bundle)[0]["upp_sha256"], after[0]["upp_sha256"]);
}

#[test]
fn new_numbers_are_all_free_or_nothing_is_made() {
    let (yard, fresh) = exported();
    let keys = yard.keys("again.jsonl", &[&fresh[0], &fresh[1]]);
    let taken = records(&yard.outbox("PO-1"))[3].clone();
    let digits = |name: &str| taken[name].as_str().unwrap().to_owned();
    let one_before = {
        let iccid_digits = digits("iccid");
        let body: u128 = iccid_digits[..iccid_digits.len() - 1].parse().unwrap();
        iccid(&(body - 1).to_string())
    };
    for (first, imsi, exit, said) in [
        (one_before, "001017770000019".to_owned(), 2 + 2, "taken"),
        (iccid("894977700000000009"), digits("imsi"), 4, "taken"),
        (iccid("999999999999999999"), "001017770000019".to_owned(), 12, "ends"),
        (iccid("894977700000000009"), "999999999999999".to_owned(), 12, "ends"),
    ] {
        let ran = yard.new_iccid(&["PO-1", "--rows", "1-2"], (&first, &imsi), &keys);
        assert!(
            ran.code == exit && ran.err.contains(said) && ran.err.contains("hint:"),
            "{first}: {} {}",
            ran.code,
            ran.err
        );
    }
    let path = yard.path("orders/again.jsonl");
    let without = ["order", "remake", "PO-1", "--rows", "1", "--new-iccid", "8949777000000000009", "--euicc-data"];
    let first = iccid("894977700000000009");
    let without: Vec<&str> =
        without.iter().map(|arg| if arg.starts_with("8949") { first.as_str() } else { arg }).collect();
    let ran = yard.run(&[&without[..], &[path.to_str().unwrap()]].concat()).exits(2);
    assert!(ran.err.contains("--new-imsi"), "{}", ran.err);
    assert_eq!(yard.books(), [1, 4, 4, 4, 4, 0]);
    assert!(files_below(yard.outbox("PO-1").parent().unwrap()).iter().all(|p| !p.to_str().unwrap().contains("remake")));
}

#[test]
fn an_order_asks_for_new_numbers_by_their_first_and_has_them_from_its_acceptance_on() {
    let (yard, fresh) = exported();
    let before = records(&yard.outbox("PO-1"));
    let keys = yard.keys("again.jsonl", &[&fresh[1]]);
    let rows = format!("iccid\n{}\n", before[1]["iccid"].as_str().unwrap());
    fs::write(yard.path("orders/which.csv"), &rows).unwrap();
    let first = iccid("894977700000000009");
    let line = json!({
        "line": 1, "euicc_data": keys, "iccid": {"first": first}, "imsi": {"first": "001017770000019"},
        "rows": {"file": "which.csv", "sha256": sha256_hex(rows.as_bytes()), "count": 1},
    });
    let ack = yard.change(2, "remake", json!([line])).exits(0).json();
    assert_eq!(ack["ranges"][0], json!({"line": 1, "kind": "iccid", "first": first, "last": first, "count": 1}));
    assert_eq!(yard.books(), [2, 4, 5, 5, 5, 0]);
    // Nobody else gets them meanwhile.
    let mut other = yard.prebound_order("PO-2", &fresh[2..3]);
    other.line()["iccid"] = json!({"first": first});
    other.submit().exits(4);
    yard.run(&["run"]).exits(0);
    let bundle = yard.outbox("PO-1+remake-001");
    yard.verified(&bundle);
    assert_eq!(records(&bundle)[0]["iccid"], json!(first));
    assert_ne!(core(&bundle)[0].0, core(&yard.outbox("PO-1"))[1].0);
    assert_eq!(yard.books(), [2, 4, 5, 5, 5, 1]);
}

#[test]
fn the_inbox_takes_changes_with_the_files_that_they_name() {
    let (yard, fresh) = exported();
    let keys = yard.keys("again.jsonl", &[&fresh[1]]);
    let order = json!({
        "schema": "bindery.order/1", "tenant": "acme", "order_id": "PO-1", "rev": 2, "kind": "remake",
        "lines": [{"line": 1, "rows": [{"row": 2}], "euicc_data": keys}],
    });
    let inbox = yard.path("inbox");
    fs::create_dir(&inbox).unwrap();
    fs::rename(yard.path("orders/again.jsonl"), inbox.join("again.jsonl")).unwrap();
    fs::write(inbox.join("change.json"), order.to_string()).unwrap();
    yard.run(&["order", "watch", inbox.to_str().unwrap(), "--once", "--settle", "0", "--run"]).exits(0);
    assert!(!inbox.join("change.json").exists() && !inbox.join("again.jsonl").exists());
    assert_eq!(yard.state_of("PO-1@2")["state"], "done", "it was run");
    yard.verified(&yard.outbox("PO-1+remake-001"));
}
