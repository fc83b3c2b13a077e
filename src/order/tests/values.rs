//! Variables: from the header and the rows into the device lines, or refused.

use super::*;
use crate::store::{Device, Store};

/// A partial order whose variables are these, with these rows.
fn ordered(site: &Site, vars: Value, csv: &str) -> Value {
    let mut order = partial(with_rows(site, csv));
    order["lines"][0]["vars"] = vars;
    order
}

fn devices(site: &Site) -> Vec<Device> {
    let order = site.ledger.due_orders().unwrap().remove(0).pk;
    let (first, last) = site.ledger.device_span(order, 1).unwrap().unwrap();
    site.ledger.devices(order, first, last).unwrap()
}

fn values(device: &Device) -> Vec<(&str, &str)> {
    device.vars.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn columns_and_ranges_give_each_row_its_values_and_constants_none() {
    let site = Site::new();
    let vars = json!({"spn": {"column": "x_brand"}, "gid1": "0A", "routing_indicator": {"first": "0009"},
                      "msisdn": {"first": "4915112340009"}});
    let csv = "x_other,x_brand,row\n,\"Acme, \u{e4}\",2\n7,B,1\n8,C,3\n";
    assert_eq!(site.submit(&ordered(&site, vars, csv)).exit, Exit::Done);
    let devices = devices(&site);
    let found: Vec<_> = devices.iter().map(|device| (device.row, values(device), device.msisdn.as_deref())).collect();
    let row = |brand, number| vec![("routing_indicator", number), ("spn", brand)];
    assert_eq!(found[0], (2, row("Acme, \u{e4}", "0010"), Some("4915112340010")));
    assert_eq!(found[1], (1, row("B", "0009"), Some("4915112340009")));
    assert_eq!(found[2], (3, row("C", "0011"), Some("4915112340011")));
}

#[test]
fn rows_written_into_the_order_give_values_too() {
    let site = Site::new();
    let mut order = order();
    order["lines"][0]["vars"] = json!({"spn": {"column": "x_brand"}, "msisdn": {"column": "x_number"}});
    let row = |brand: &str, number: Value| json!({"x_brand": brand, "x_number": number, "x_else": true});
    order["lines"][0]["rows"] = json!([row("A", json!("+4930")), row("B", json!(4931)), row("C", json!("4932"))]);
    assert_eq!(site.submit(&order).exit, Exit::Done);
    let devices = devices(&site);
    let found: Vec<_> = devices.iter().map(|device| (values(device), device.msisdn.as_deref())).collect();
    assert_eq!(found[0], (vec![("spn", "A")], Some("4930")));
    assert_eq!(found[1], (vec![("spn", "B")], Some("4931")));
}

#[test]
fn a_row_whose_value_is_missing_or_does_not_fit_is_refused_alone_and_its_value_is_masked() {
    let site = Site::new();
    let long = "longer than sixteen characters";
    let csv = format!("x_brand\nA\n\"\"\n{long}\nB\n");
    let answer = site.submit(&ordered(&site, json!({"spn": {"column": "x_brand"}}), &csv));
    assert_eq!(answer.exit, Exit::RowErrors);
    assert_eq!(told(&answer), [(2, "x_brand", "missing-value"), (3, "x_brand", "value-unfit")]);
    let unfit = &answer.first_refusals[1];
    assert!(unfit.message.contains("spn") && unfit.hint.contains("16"), "{unfit:?}");
    assert!(!site.outbox("acme/PO-1/rejects.csv").contains(long));
    let kept: Vec<_> = devices(&site).iter().map(|device| device.vars.len()).collect();
    assert_eq!(kept, [1, 0, 0, 1]);
}

#[test]
fn a_column_that_a_variable_needs_is_missed_in_the_header_and_refused_twice() {
    let site = Site::new();
    for (name, csv, expected) in [
        ("x_brand", "row,x_other\n1,a\n", "missing-column"),
        ("x_brand", "x_brand,x_brand\na,b\n", "duplicate-column"),
        ("msisdn", "row,x_other\n1,a\n", "missing-column"),
    ] {
        let answer = site.submit(&ordered(&site, json!({"spn": {"column": name}}), csv));
        assert_eq!((told(&answer), answer.exit), (vec![(0, name, expected)], Exit::OrderRejected), "{csv}");
        assert!(site.nothing_consumed());
    }
}

#[test]
fn a_telephone_number_of_the_row_must_be_that_of_the_variable() {
    let site = Site::new();
    let order = ordered(&site, json!({"msisdn": {"first": "4930100"}}), "msisdn\n4930100\n4930999\n\"\"\n");
    let answer = site.submit(&order);
    assert_eq!(told(&answer), [(2, "msisdn", "number-mismatch")]);
    let numbers: Vec<_> = devices(&site).into_iter().map(|device| device.msisdn).collect();
    assert_eq!(numbers, [Some("4930100".to_owned()), None, Some("4930102".to_owned())]);
}

#[test]
fn a_telephone_number_that_is_none_is_refused_once_wherever_it_stands() {
    for (column, codes) in
        [("msisdn", ["digits", "digits", "missing-value"]), ("x_number", ["digits", "", "missing-value"])]
    {
        let site = Site::new();
        let order =
            ordered(&site, json!({"msisdn": {"column": column}}), &format!("{column}\n493x\n+4930\n\"\"\n4931\n"));
        let expected = (1..).zip(codes).filter(|(_, code)| !code.is_empty()).map(|(row, code)| (row, column, code));
        assert_eq!(told(&site.submit(&order)), expected.collect::<Vec<_>>());
    }
}

#[test]
fn a_line_without_variables_keeps_no_values() {
    let site = Site::new();
    assert_eq!(site.submit(&with_rows(&site, "x_brand,x_brand,x_puk\na,b,1\n")).exit, Exit::Done);
    assert!(devices(&site)[0].vars.is_empty());
}
