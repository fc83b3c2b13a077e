//! Variables with the real binary: values from the header, the rows and ranges, from the order to the opened packages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bindery::formats::saip::kind::Kind;
use bindery::formats::saip::package::{Element, Package, children};
use bindery::formats::saip::source;
use bindery::formats::tlv::{Tag, Tlv, wrap};
use serde_json::{Value, json};
use yard::{Order, Yard, rows_csv};

/// A prebound order whose rows have a brand and a routing indicator of their own.
fn order<'a>(yard: &'a Yard, order_id: &str, keys: &[Value], brand: impl Fn(usize) -> String) -> Order<'a> {
    let mut order = yard.prebound_order(order_id, keys);
    order.rows(&csv(keys, brand), keys.len());
    order.line()["vars"] = vars();
    order
}

fn csv(keys: &[Value], brand: impl Fn(usize) -> String) -> String {
    let row = |(i, key): (usize, &Value)| format!("{},{},ignored,{i:02}\n", key["eid"].as_str().unwrap(), brand(i + 1));
    let rows: String = keys.iter().enumerate().map(row).collect();
    format!("eid,x_brand,x_pallet,x_ri\n{rows}")
}

fn vars() -> Value {
    json!({
        "smsc": "+491710760000", "spn": {"column": "x_brand"}, "routing_indicator": {"column": "x_ri"},
        "msisdn": {"first": "4915112340000"},
    })
}

/// Judges a bundle by the order, every package.
#[track_caller]
fn judged(yard: &Yard, bundle: &str, order: &Order<'_>, code: i32) -> Value {
    let (secrets, path) = (yard.path("fleet/secrets.jsonl"), order.write());
    let args = ["--json", "verify", bundle, "--all", "--secrets", secrets.to_str().unwrap()];
    yard.run(&[&args[..], &["--order", path.to_str().unwrap()]].concat()).exits(code).json()
}

#[test]
fn constants_columns_and_ranges_reach_every_package() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 12);
    let order = order(&yard, "PO-1", &keys, |row| format!("Brand {row}"));
    order.submit().exits(0);
    let ran = yard.run(&["--json", "run", "--audit", "all"]).exits(0).json();
    assert_eq!(ran["orders"][0]["audited"], 12);
    let outbox = yard.outbox("PO-1");
    judged(&yard, outbox.to_str().unwrap(), &order, 0);
    let number = yard.ledger_count("SELECT count(*) FROM devices WHERE msisdn = '4915112340011' AND row = 12");
    assert_eq!(number, 1);
}

#[test]
fn a_package_with_another_rows_value_does_not_pass_the_judge() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 3);
    let order = order(&yard, "PO-1", &keys, |row| format!("Brand {row}"));
    order.submit().exits(0);
    // Somebody exchanges two brands in the ledger: nothing of it can be seen but by who knows the rows.
    let ledger = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    ledger.execute("UPDATE devices SET vars = replace(vars, 'Brand 1', 'Brand 2') WHERE row = 1", []).unwrap();
    drop(ledger);
    yard.run(&["run", "--audit", "all"]).exits(0);
    let verdict = judged(&yard, yard.outbox("PO-1").to_str().unwrap(), &order, 8);
    let findings = verdict["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0]["check"], "order-values");
    assert!(findings[0]["message"].as_str().unwrap().contains("spn"), "{findings:?}");
}

#[test]
fn a_number_that_the_order_does_not_give_the_row_fails_that_record_alone() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 3);
    order(&yard, "PO-1", &keys, |row| format!("Brand {row}")).submit().exits(0);
    let ledger = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    ledger.execute("UPDATE devices SET msisdn = '4915199999999' WHERE row = 2", []).unwrap();
    drop(ledger);
    yard.run(&["run"]).exits(5);
    let results = rows_csv(&yard.outbox("PO-1").join("results.csv"));
    let states: Vec<_> = results.iter().map(|row| (row["state"].as_str(), row["error_class"].as_str())).collect();
    assert_eq!(states, [("exported", ""), ("failed", "storage"), ("exported", "")]);
}

#[test]
fn a_value_that_does_not_fit_refuses_its_row_and_costs_nothing() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 4);
    let brand = |row: usize| match row {
        2 => "A brand far too long to be shown by any phone".to_owned(),
        3 => String::new(),
        _ => format!("Brand {row}"),
    };
    let mut order = order(&yard, "PO-1", &keys, brand);
    order.submit().exits(4);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM devices"), 0, "a rejected order consumes nothing");
    order.header["accept"] = json!("partial");
    order.submit().exits(5);
    let rejects = rows_csv(&yard.outbox("PO-1").join("rejects.csv"));
    let told: Vec<_> = rejects.iter().map(|r| [&r["row"], &r["column"], &r["code"]].map(String::as_str)).collect();
    assert_eq!(told, [["2", "x_brand", "value-unfit"], ["3", "x_brand", "missing-value"]]);
    assert!(rejects[0]["hint"].contains("characters"), "the form stands in the hint: {rejects:?}");
    assert!(rejects.iter().all(|r| !r["hint"].is_empty() && !r["value"].contains("far too long")), "{rejects:?}");
    assert_eq!(yard.ledger_count("SELECT count(*) FROM one_time_keys"), 2);
    yard.run(&["run"]).exits(0);
    judged(&yard, yard.outbox("PO-1").to_str().unwrap(), &order, 0);

    // In the header: a constant and a range that do not fit.
    for (name, var, column) in [
        ("constant", json!({"spn": "A brand far too long"}), "vars.spn"),
        ("range", json!({"routing_indicator": {"first": "9999"}}), "vars.routing_indicator.first"),
        ("unknown", json!({"no_such": {"first": "1"}}), "vars.no_such"),
        ("secret", json!({"adm1": {"column": "x_brand"}}), "vars.adm1"),
    ] {
        let mut wrong = yard.prebound_order(&format!("BAD-{name}"), &keys[1..3]);
        wrong.line()["vars"] = var;
        wrong.line()["quantity"] = json!(2);
        wrong.submit().exits(4);
        let rejects = rows_csv(&yard.outbox(&format!("BAD-{name}")).join("rejects.csv"));
        assert!(rejects.iter().any(|r| r["column"].ends_with(column) && !r["hint"].is_empty()), "{name}: {rejects:?}");
    }
}

/// The akaParameter with an algorithmID of two octets: an order writes its own there, but what stands there now cannot be read.
fn with_a_long_algorithm(tlv: &Tlv<'_>) -> Vec<u8> {
    if tlv.tag.is_constructed() {
        let children: Vec<u8> = children(tlv).flat_map(|child| with_a_long_algorithm(&child)).collect();
        return wrap(tlv.tag, &[&children]);
    }
    if tlv.tag == Tag(0x80) && tlv.value == [1] { wrap(tlv.tag, &[&[1, 0]]) } else { tlv.whole.to_vec() }
}

#[test]
fn a_template_that_no_run_could_read_back_is_refused_with_the_order() {
    let yard = Yard::demo();
    let der = source::build(source::preset("operational").unwrap()).unwrap();
    let package = Package::parse(&der).unwrap();
    let element = |element: &Element<'_>| match element.kind {
        Kind::AkaParameter => with_a_long_algorithm(&element.tlv),
        _ => element.tlv.whole.to_vec(),
    };
    let file = yard.path("long.der");
    fs::write(&file, package.elements.iter().flat_map(element).collect::<Vec<u8>>()).unwrap();
    yard.run(&["template", "add", file.to_str().unwrap(), "--name", "long@1"]).exits(0);
    let mut order = yard.stored_order("PO-1", &[]);
    order.line().as_object_mut().unwrap().remove("rows");
    order.line()["quantity"] = json!(2);
    order.line()["template"] = json!("long@1");
    order.submit().exits(4);
    let rejects = rows_csv(&yard.outbox("PO-1").join("rejects.csv"));
    assert_eq!(rejects[0]["code"], "template-unfit", "{rejects:?}");
    assert!(rejects[0]["message"].contains("akaParameter: algorithmID"), "{rejects:?}");
    assert_eq!(yard.ledger_count("SELECT count(*) FROM devices"), 0, "nothing is claimed");
}

#[test]
fn a_killed_run_goes_on_with_the_same_values() {
    let yard = Yard::demo();
    let config = fs::read_to_string(yard.site().join("bindery.toml")).unwrap();
    fs::write(yard.site().join("bindery.toml"), config.replace("chunk_records = 1000", "chunk_records = 10")).unwrap();
    let keys = yard.fleet("fleet", 120);
    let order = order(&yard, "PO-1", &keys, |row| format!("Brand {row}"));
    order.submit().exits(0);
    let site = yard.site();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
    command.args(["--site", site.to_str().unwrap(), "run"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = command.spawn().unwrap();
    let started = Instant::now();
    let done = || yard.ledger_count("SELECT count(*) FROM chunks WHERE done = 1");
    while done() < 2 {
        assert!(started.elapsed() < Duration::from_secs(60), "no progress");
        std::thread::sleep(Duration::from_millis(2));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    let before = done();
    assert!(before < 12, "the run was over before it was killed");
    let ran = yard.run(&["--json", "run", "--audit", "50%"]).exits(0).json();
    let (records, audited) = (&ran["orders"][0]["records"], ran["orders"][0]["audited"].as_u64().unwrap());
    assert_eq!(records, &json!(120 - 10 * before));
    assert!(audited >= 2 && audited < records.as_u64().unwrap(), "{audited} of {records}");
    judged(&yard, yard.outbox("PO-1").to_str().unwrap(), &order, 0);
}

#[test]
fn a_profile_that_is_bound_later_has_the_values_of_its_row() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 5);
    let mut order = order(&yard, "PO-1", &keys, |row| format!("Brand {row}"));
    order.line()["mode"] = json!("order");
    order.line().as_object_mut().unwrap().remove("euicc_data");
    order.submit().exits(0);
    yard.run(&["run"]).exits(0);
    let key_file = yard.path("fleet/euicc.jsonl");
    let bound = yard.run(&["--json", "bind", "PO-1", "--euicc-data", key_file.to_str().unwrap()]).exits(0).json();
    assert_eq!(bound["bound"], 5);
    judged(&yard, bound["bundle"].as_str().unwrap(), &order, 0);
}

#[test]
fn what_is_read_back_is_chosen_by_a_word_or_a_share() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 6);
    for (number, (audit, audited)) in [("off", 0), ("sample", 2), ("all", 6), ("100%", 6)].into_iter().enumerate() {
        let keys = &keys[..];
        let mut order = yard.stored_order(&format!("PO-{number}"), &[]);
        order.line().as_object_mut().unwrap().remove("rows");
        order.line()["quantity"] = json!(keys.len());
        order.submit().exits(0);
        let ran = yard.run(&["--json", "run", "--audit", audit]).exits(0).json();
        assert_eq!(
            (&ran["orders"][0]["records"], &ran["orders"][0]["audited"]),
            (&json!(6), &json!(audited)),
            "{audit}"
        );
        let page = fs::read_to_string(yard.outbox(&format!("PO-{number}")).join("report.html")).unwrap();
        assert_eq!(page.contains("were read back"), audited > 0, "{audit}");
    }
    yard.run(&["run", "--audit", "some"]).exits(2);
}
