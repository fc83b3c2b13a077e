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

use accounts::{Sum, claims_add_up, is_complete, passes, records_are_there};
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
