//! The crash matrix: commands that change a site are stopped, and their machine loses power, at every point where they change a
//! file (tests/cut); and a real process is killed at moments nobody chose. Behind each the next command finishes the work, and the
//! books have to add up: nothing lost, nothing doubled, nothing unaccounted.
//!
//! BINDERY_TEST_CRASH_STEP: every so-manieth point (1 is all of them), BINDERY_TEST_KILLS: how many kills.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

#[path = "crash/accounts.rs"]
mod accounts;
#[path = "crash/cut.rs"]
mod cut;
mod yard;

use serde_json::{Value, json};

use accounts::{Sum, is_complete};
use cut::matrix;
use yard::{Ran, Yard};

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

fn step(default: usize) -> usize {
    std::env::var("BINDERY_TEST_CRASH_STEP").map_or(default, |text| text.parse().unwrap())
}

#[test]
fn a_run_that_dies_anywhere_is_finished_by_the_next() {
    let yard = yard_with_order();
    submit(&yard).exits(5);
    matrix(&yard, &["run"], step(16), &|yard, told| {
        assert!(matches!(told.code, None | Some(0)), "{}", told.err);
        yard.run(&["run"]).exits(0);
        is_complete(yard, "PO-1", SUM);
    });
}
