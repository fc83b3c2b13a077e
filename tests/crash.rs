//! The crash matrix: commands that change a site are stopped, and their machine loses power, at every point where they change a
//! file (tests/cut). Behind each the next command finishes the work, and the books have to add up: nothing lost, nothing doubled,
//! nothing unaccounted. BINDERY_TEST_CRASH_STEP=1: all points; without it a part of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

#[path = "crash/accounts.rs"]
mod accounts;
#[path = "crash/cut.rs"]
mod cut;
#[path = "crash/matrix.rs"]
mod matrix;
mod yard;

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use accounts::{Sum, claims_add_up, is_complete, nothing_is_left_over, passes, records_are_there};
use cut::{At, How, cut};
use matrix::matrix;
use yard::{Ran, Yard, files_below, rows_csv};

const SUM: Sum = Sum { rows: 11, bound: 6, stored: 4, refused: 1 };

/// A fleet and the order PO-1, written but not sent: six rows bound at once and one with a wrong EID, four to be bound later.
fn yard_with_order() -> Yard {
    let yard = Yard::demo();
    yard.chunks_of(2);
    let keys = yard.fleet("fleet", 10);
    let eids: Vec<&str> = keys[6..].iter().map(|key| key["eid"].as_str().unwrap()).collect();
    let mut later = yard.stored_order("PO-1-later", &eids).header["lines"][0].clone();
    later["line"] = json!(2);
    let mut order = yard.prebound_order("PO-1", &keys[..6]);
    let rows: String = keys[..6].iter().enumerate().map(|(i, key)| format!("{},{}\n", i + 2, eid(key))).collect();
    order.rows(&format!("row,eid\n1,89049032123451234512345678901234\n{rows}"), 7);
    order.line()["quantity"] = json!(7);
    order.header["accept"] = json!("partial");
    order.header["lines"].as_array_mut().unwrap().push(later);
    order.write();
    yard
}

fn eid(key: &Value) -> &str {
    key["eid"].as_str().unwrap()
}

fn submit(yard: &Yard) -> Ran {
    let order = yard.path("orders/PO-1.json");
    yard.run(&["--json", "order", "submit", order.to_str().unwrap()])
}

#[test]
fn a_run_that_dies_anywhere_is_finished_by_the_next() {
    let yard = yard_with_order();
    submit(&yard).exits(5);
    matrix(&yard, &["run"], 16, &|yard, told| {
        assert!(matches!(told.code, None | Some(0)), "{}", told.err);
        // Who mends dies, too, somewhere.
        let seed = told.points.len();
        cut(
            yard.prepared(&["run"]),
            (&yard.site(), &yard.path("")),
            How::Torn(seed as u64),
            At::Point(1 + seed * 31 % 97),
        );
        yard.run(&["run"]).exits(0);
        is_complete(yard, "PO-1", SUM);
    });
}

#[test]
fn an_order_whose_submission_dies_anywhere_is_taken_once_and_answered_as_it_was_first() {
    let yard = yard_with_order();
    let order = yard.path("orders/PO-1.json");
    let file = order.strip_prefix(yard.path("")).unwrap().to_str().unwrap();
    matrix(&yard, &["--json", "order", "submit", file], 7, &|yard, told| {
        assert!(matches!(told.code, None | Some(5)), "{}", told.err);
        let ack = yard.outbox("PO-1").join("ack.json");
        if ack.exists() {
            assert_eq!(yard.ledger_count("SELECT count(*) FROM orders"), 1, "an answer speaks of what is not durable");
        }
        let answers = [submit(yard).exits(5).out, submit(yard).exits(5).out];
        assert_eq!(answers[0], answers[1], "the first answer again");
        if told.code == Some(5) {
            assert_eq!(told.out, answers[0], "what was answered was durable");
        }
        assert_eq!(fs::read_to_string(&ack).unwrap(), answers[0]);
        assert_eq!(rows_csv(&yard.outbox("PO-1").join("rejects.csv")).len(), SUM.refused);
        claims_add_up(yard);
        let counts = ["orders", "devices", "iccids", "imsis", "one_time_keys"]
            .map(|table| yard.ledger_count(&format!("SELECT count(*) FROM {table}")) as usize);
        assert_eq!(counts, [1, SUM.rows, SUM.bound + SUM.stored, SUM.bound + SUM.stored, SUM.bound]);
        yard.run(&["run"]).exits(0);
        is_complete(yard, "PO-1", SUM);
    });
}

#[test]
fn a_binding_that_dies_anywhere_is_finished_or_never_happened() {
    let yard = yard_with_order();
    submit(&yard).exits(5);
    yard.run(&["run"]).exits(0);
    let bind = ["bind", "PO-1", "--euicc-data", "fleet/euicc.jsonl"];
    matrix(&yard, &bind, 16, &|yard, told| {
        assert!(matches!(told.code, None | Some(0)), "{}", told.err);
        // Nothing waits; finished what the crash had left; bound now.
        let again = yard.run(&bind);
        assert!(matches!(again.code, 9 | 0), "{}", again.err);
        let is_repeated = again.out.contains("bound before");
        assert!(told.code.is_none() || is_repeated, "what was told as bound stays bound: {}", again.err);
        assert!(yard.run(&bind).exits(0).out.contains("bound before"));
        is_complete(yard, "PO-1", SUM);
        let bundle = yard.outbox("PO-1+bound-001");
        records_are_there(&bundle, SUM.stored, SUM.stored);
        passes(yard, &bundle, "PO-1");
        assert!(!yard.outbox("PO-1+bound-002").exists());
        let keys = yard.ledger_count("SELECT count(*) FROM one_time_keys") as usize;
        assert_eq!(keys, SUM.bound + SUM.stored);
    });
}

#[test]
fn a_purge_that_dies_anywhere_is_finished_by_the_next_and_claims_stay() {
    let yard = yard_with_order();
    submit(&yard).exits(5);
    yard.run(&["run"]).exits(0);
    let purge = ["order", "purge", "PO-1", "--yes", "--unfinished", "--bundle"];
    let sealed = "SELECT (SELECT count(sealed_batch_key) FROM orders) + (SELECT count(sealed_ppk) + count(sealed_credentials) FROM issues)";
    let there = yard.ledger_count(sealed);
    assert_eq!(there as usize, 1 + 2 * SUM.stored + SUM.bound);
    let of_order =
        |path: &PathBuf| path.to_str().unwrap().contains("PO-1") || path.extension().is_some_and(|e| e == "ppp");
    let files = |yard: &Yard| files_below(&yard.site()).into_iter().filter(of_order).collect::<Vec<_>>();
    matrix(&yard, &purge, 7, &|yard, told| {
        assert!(matches!(told.code, None | Some(0)), "{}", told.err);
        let left = yard.ledger_count(sealed);
        assert!(left == 0 || (left == there && told.code.is_none()), "{left} of {there} are there");
        if told.code.is_some() {
            assert_eq!(files(yard), Vec::<PathBuf>::new(), "what was told as erased stays erased");
        }
        yard.run(&purge).exits(0);
        assert_eq!(yard.ledger_count(sealed), 0);
        claims_add_up(yard);
        let claimed = ["iccids", "imsis", "matching_ids", "one_time_keys"]
            .map(|table| yard.ledger_count(&format!("SELECT count(*) FROM {table}")) as usize);
        let issued = SUM.bound + SUM.stored;
        assert_eq!(claimed, [issued, issued, issued, SUM.bound]);
        assert_eq!(files(yard), Vec::<PathBuf>::new());
        yard.run(&["run"]).exits(0);
    });
}

/// PO-1 of four devices, exported or not; two more keys for each device. Gives the yard and the second keys.
fn yard_to_change(is_exported: bool) -> (Yard, Vec<Value>) {
    let yard = Yard::demo();
    yard.chunks_of(2);
    let keys = yard.fleet_with("fleet", 4, &["--keys-per-eid", "2"]);
    let (first, second): (Vec<_>, Vec<_>) = keys.chunks(2).map(|two| (two[0].clone(), two[1].clone())).unzip();
    yard.prebound_order("PO-1", &first).submit().exits(0);
    if is_exported {
        yard.run(&["run"]).exits(0);
    }
    (yard, second)
}

/// Writes a change of PO-1 as its revision 2; gives its path from the yard.
fn change(yard: &Yard, kind: &str, lines: Value) -> &'static str {
    let order = json!({"schema": "bindery.order/1", "tenant": "acme", "order_id": "PO-1", "rev": 2, "kind": kind, "lines": lines});
    fs::write(yard.path("orders/change.json"), order.to_string()).unwrap();
    "orders/change.json"
}

/// Two rows of PO-1 that want new numbers: the lines of the order that asks for it.
fn renumbered_lines(yard: &Yard, keys: &[Value]) -> Value {
    let text: String = keys[..2].iter().map(|key| format!("{key}\n")).collect();
    fs::write(yard.path("orders/again.jsonl"), &text).unwrap();
    let sha256 = yard::sha256_hex(text.as_bytes());
    json!([{
        "line": 1, "rows": [{"row": 1}, {"row": 2}], "euicc_data": {"file": "again.jsonl", "sha256": sha256},
        "iccid": {"first": yard::iccid("894977700000000009")}, "imsi": {"first": "001017770000019"},
    }])
}

/// Every claim is a device's: of its profile, of one that was replaced, or of one that waits to be made; and no secret is twice.
fn claims_of_changes_add_up(yard: &Yard) {
    let number = |table: &str, column: &str| {
        format!(
            "SELECT count(*) FROM {table} c JOIN devices d ON d.pk = c.device WHERE c.{column} <> d.{column}
             AND NOT EXISTS (SELECT 1 FROM tombstones t WHERE t.device = d.pk AND t.{column} = c.{column})
             AND NOT EXISTS (SELECT 1 FROM goals g WHERE g.device = d.pk AND g.{column} = c.{column})"
        )
    };
    let x = |of: &str| format!("substr({of}.euicc_otpk, 2, 32)");
    let keys = format!(
        "SELECT count(*) FROM one_time_keys c JOIN devices d ON d.pk = c.device WHERE c.x <> {}
         AND NOT EXISTS (SELECT 1 FROM tombstones t WHERE t.device = d.pk AND c.x = {})
         AND NOT EXISTS (SELECT 1 FROM goals g WHERE g.device = d.pk AND c.x = {})",
        x("d"),
        x("t"),
        x("g")
    );
    for wrong in [
        "SELECT count(*) FROM pragma_foreign_key_check",
        &number("iccids", "iccid"),
        &number("imsis", "imsi"),
        &keys,
        "SELECT count(*) FROM devices d WHERE NOT EXISTS (SELECT 1 FROM iccids c WHERE c.iccid = d.iccid AND c.device = d.pk)",
        "SELECT count(*) - count(DISTINCT ki_enc) FROM issues",
        "SELECT count(*) - count(DISTINCT sha256) FROM issues",
    ] {
        assert_eq!(yard.ledger_count(wrong), 0, "{wrong}");
    }
}

/// The two rows have their new profiles, once; what was exported before is as it was.
fn is_renumbered(yard: &Yard) {
    claims_of_changes_add_up(yard);
    let counts = ["devices", "iccids", "imsis", "one_time_keys", "tombstones", "remakes"]
        .map(|table| yard.ledger_count(&format!("SELECT count(*) FROM {table}")));
    assert_eq!(counts, [4, 6, 6, 6, 2, 1]);
    let bundle = yard.outbox("PO-1+remake-001");
    records_are_there(&bundle, 2, 2);
    passes(yard, &bundle, "PO-1");
    passes(yard, &yard.outbox("PO-1"), "PO-1");
    nothing_is_left_over(yard);
    assert!(!yard.outbox("PO-1+remake-002").exists());
    yard.run(&["audit", "verify"]).exits(0);
}

#[test]
fn a_remake_with_new_numbers_that_dies_anywhere_is_finished_or_never_happened() {
    let (yard, keys) = yard_to_change(true);
    renumbered_lines(&yard, &keys);
    let first = yard::iccid("894977700000000009");
    let command = ["order", "remake", "PO-1", "--rows", "1-2", "--new-iccid", &first, "--new-imsi", "001017770000019"];
    let command = [&command[..], &["--euicc-data", "orders/again.jsonl"]].concat();
    matrix(&yard, &command, 28, &|yard, told| {
        assert!(matches!(told.code, None | Some(0)), "{}", told.err);
        claims_of_changes_add_up(yard);
        yard.run(&command).exits(0);
        is_renumbered(yard);
    });
}

#[test]
fn an_accepted_remake_whose_run_dies_anywhere_is_carried_out_once() {
    let (yard, keys) = yard_to_change(true);
    let order = change(&yard, "remake", renumbered_lines(&yard, &keys));
    yard.run(&["order", "submit", order]).exits(0);
    matrix(&yard, &["run"], 28, &|yard, told| {
        assert!(matches!(told.code, None | Some(0)), "{}", told.err);
        claims_of_changes_add_up(yard);
        yard.run(&["run"]).exits(0);
        is_renumbered(yard);
        assert_eq!(yard.run(&["--json", "run"]).exits(0).json()["remade"], json!([]));
    });
}

#[test]
fn an_order_that_changes_another_and_dies_anywhere_is_taken_once_with_all_of_its_effect() {
    for kind in ["cancel", "remake"] {
        let (yard, keys) = yard_to_change(kind == "remake");
        let lines = if kind == "remake" { renumbered_lines(&yard, &keys) } else { json!([]) };
        let submit = ["--json", "order", "submit", change(&yard, kind, lines)];
        matrix(&yard, &submit, 14, &|yard, told| {
            assert!(matches!(told.code, None | Some(0)), "{}", told.err);
            claims_of_changes_add_up(yard);
            let taken = yard.ledger_count("SELECT count(*) FROM orders WHERE rev = 2");
            let effect = match kind {
                "cancel" => yard.ledger_count("SELECT count(*) FROM devices WHERE state = 'cancelled'") / 4,
                _ => yard.ledger_count("SELECT count(*) FROM goals") / 2,
            };
            assert_eq!(taken, effect, "accepted and made, or neither");
            let answers = [yard.run(&submit).exits(0).out, yard.run(&submit).exits(0).out];
            assert_eq!(answers[0], answers[1], "the first answer again");
            assert_eq!(fs::read_to_string(yard.outbox("PO-1@2").join("ack.json")).unwrap(), answers[0]);
            yard.run(&["run"]).exits(if kind == "cancel" { 5 } else { 0 });
            if kind == "remake" {
                is_renumbered(yard);
            }
        });
    }
}
#[test]
fn a_revocation_that_dies_anywhere_is_finished_by_the_next_and_claims_stay() {
    let base = yard_with_order();
    submit(&base).exits(5);
    let states = |yard: &Yard, states: &str| {
        yard.ledger_count(&format!("SELECT count(*) FROM device_states WHERE state IN ({states})")) as usize
    };
    // A run that died between its first packages and its seal, with both sorts of rows issued.
    let died = (40..).step_by(20).take(40).find_map(|point| {
        let yard = base.copy();
        cut(yard.prepared(&["run"]), (&yard.site(), &yard.path("")), How::Stop, At::Point(point));
        let both = states(&yard, "'bound'") > 0 && states(&yard, "'prepared'") > 0;
        (both && !yard.outbox("PO-1").join("manifest.sig").exists()).then_some(yard)
    });
    let yard = died.expect("no run died with both sorts of rows issued");
    let revoke = ["order", "revoke", "PO-1", "--yes"];
    let secrets = "SELECT count(sealed_ppk) + count(sealed_credentials) FROM issues";
    let keys = "SELECT count(sealed_batch_key) FROM orders";
    assert!(yard.ledger_count(secrets) > 0 && yard.ledger_count(keys) == 1);
    matrix(&yard, &revoke, 5, &|yard, told| {
        assert!(matches!(told.code, None | Some(0)), "{}", told.err);
        let (waiting, gone) = ("'accepted', 'prepared', 'bound'", "'revoked', 'cancelled'");
        let rows = SUM.bound + SUM.stored;
        let is_revoked = states(yard, gone) == rows && states(yard, waiting) == 0;
        assert!(is_revoked || states(yard, waiting) == rows && told.code.is_none(), "all of it or nothing");
        // The next may also be a run, which closes the order before the revocation is finished.
        let is_closed = is_revoked && told.points.len().is_multiple_of(2);
        if is_closed {
            yard.run(&["run"]).exits(5);
        }
        yard.run(&revoke).exits(0);
        assert_eq!(yard.ledger_count(secrets), 0);
        // A run that closes it makes a key of its own, which seals nothing.
        assert!(is_closed || yard.ledger_count(keys) == 0);
        let is_package = |path: &PathBuf| path.extension().is_some_and(|e| e == "ppp" || e == "bpp" || e == "partial");
        let left: Vec<_> = files_below(&yard.site()).into_iter().filter(is_package).collect();
        assert_eq!(left, Vec::<PathBuf>::new());
        claims_add_up(yard);
        let claimed = ["iccids", "imsis", "one_time_keys"]
            .map(|table| yard.ledger_count(&format!("SELECT count(*) FROM {table}")) as usize);
        assert_eq!(claimed, [rows, rows, SUM.bound]);
        yard.run(&["run", "PO-1"]);
        let recon: Value = serde_json::from_slice(&fs::read(yard.outbox("PO-1").join("recon.json")).unwrap()).unwrap();
        assert_eq!((&recon["issued"], &recon["cancelled"]), (&json!(0), &json!(rows)), "{recon}");
    });
}
