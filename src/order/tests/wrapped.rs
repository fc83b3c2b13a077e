//! Rows that bring K and OPc under an operator's transport key.

use super::*;

const KI: [&str; 3] =
    ["000102030405060708090A0B0C0D0E0F", "101112131415161718191a1b1c1d1e1f", "202122232425262728292A2B2C2D2E2F"];
const OPC: [&str; 3] =
    ["A00102030405060708090A0B0C0D0E0F", "B01112131415161718191a1b1c1d1e1f", "C02122232425262728292A2B2C2D2E2F"];

fn import(site: &Site, csv: &str) -> Value {
    let mut order = with_rows(site, csv);
    order["lines"][0]["credentials"] = json!("import");
    order["lines"][0]["transport_key"] = json!("an operator's");
    order
}

fn row(ki: &str, opc: &str) -> String {
    format!("{ki},{opc}\n")
}

/// Three rows, of which the second may be another.
fn three(site: &Site, second: &str) -> Value {
    let rows = [row(KI[0], OPC[0]), second.to_owned(), row(KI[2], OPC[2])].concat();
    import(site, &format!("ki_wrapped,opc_wrapped\n{rows}"))
}

#[test]
fn wrapped_values_stand_in_the_ledger_as_they_were_given() {
    let site = Site::new();
    let order = three(&site, &row(KI[1], OPC[1]));
    assert_eq!(site.submit(&order).exit, Exit::Done);
    let connection = rusqlite::Connection::open(site.directory.path().join("state.db")).unwrap();
    let mut query = connection.prepare("SELECT hex(ki_wrapped), hex(opc_wrapped) FROM devices ORDER BY pk").unwrap();
    let kept: Vec<(String, String)> =
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    for (kept, given) in kept.iter().zip(KI.iter().zip(OPC)) {
        assert_eq!(
            (kept.0.as_str(), kept.1.as_str()),
            (given.0.to_uppercase().as_str(), given.1.to_uppercase().as_str())
        );
    }
    assert_eq!(kept.len(), 3);
}

#[test]
fn a_row_whose_values_are_none_is_refused_and_its_value_is_never_shown() {
    for (second, told_column, told_code) in [
        (row("", OPC[1]), "ki_wrapped", "missing-value"),
        (row(KI[1], ""), "opc_wrapped", "missing-value"),
        (row("garbage", OPC[1]), "ki_wrapped", "wrapped-form"),
        (row("EBESExQVFhcYGRobHB0eHw==", OPC[1]), "ki_wrapped", "wrapped-form"),
        (row(&KI[1][2..], OPC[1]), "ki_wrapped", "wrapped-length"),
        (row(&format!("{}00", KI[1]), OPC[1]), "ki_wrapped", "wrapped-length"),
        (row(KI[1], &format!("{}{}", OPC[1], OPC[1])), "opc_wrapped", "wrapped-length"),
        (row(KI[0], OPC[1]), "ki_wrapped", "duplicate-ki"),
        (row(&KI[0].to_lowercase(), OPC[1]), "ki_wrapped", "duplicate-ki"),
        (row(KI[1], OPC[0]), "opc_wrapped", "duplicate-opc"),
        (row(KI[1], KI[1]), "opc_wrapped", "duplicate-opc"),
    ] {
        let site = Site::new();
        let answer = site.submit(&partial(three(&site, &second)));
        assert_eq!((answer.exit, answer.counts.accepted), (Exit::RowErrors, 2), "{second}");
        assert_eq!(told(&answer), [(2, told_column, told_code)], "{second}");
        let rejects = site.outbox("acme/PO-1/rejects.csv");
        for value in second.trim().split(',').filter(|value| value.len() > 6) {
            assert!(!rejects.contains(value) && !rejects.contains(&value.to_uppercase()), "{rejects}");
        }
        let whole = Site::new();
        assert_eq!(whole.submit(&three(&whole, &second)).exit, Exit::OrderRejected);
        assert!(whole.count("devices") == 0);
    }
}

#[test]
fn columns_that_are_missing_are_told_once_by_name() {
    let site = Site::new();
    let answer = site.submit(&import(&site, "opc_wrapped\nA00102030405060708090A0B0C0D0E0F\n"));
    assert_eq!(told(&answer), [(0, "ki_wrapped", "missing-column")]);
    let mut order = import(&site, &format!("ki_wrapped\n{}\n", KI[0]));
    assert_eq!(told(&site.submit(&order)), [(0, "opc_wrapped", "missing-column")]);
    // Of this template's operator the site has OP.
    order["lines"][0]["template"] = json!("operational@1");
    assert_eq!(site.submit(&order).exit, Exit::Done);
    let mut without_rows = super::order();
    without_rows["lines"][0]["credentials"] = json!("import");
    without_rows["order_id"] = json!("PO-2");
    assert_eq!(told(&site.submit(&without_rows)), [(0, "lines[0].credentials", "rows-needed")]);
}

#[test]
fn the_same_key_in_two_lines_is_refused_in_the_second() {
    let site = Site::new();
    let mut order = import(&site, &format!("ki_wrapped,opc_wrapped\n{}", row(KI[0], OPC[0])));
    let mut second = order["lines"][0].clone();
    second["line"] = json!(2);
    second["iccid"]["first"] = json!(iccid(50).as_str());
    second["imsi"]["first"] = json!("001010123456999");
    order["lines"].as_array_mut().unwrap().push(second);
    let answer = site.submit(&order);
    assert_eq!(told(&answer), [(1, "ki_wrapped", "duplicate-ki"), (1, "opc_wrapped", "duplicate-opc")]);
}

#[test]
fn a_line_that_generates_takes_no_wrapped_values_and_clear_ones_are_refused_always() {
    let site = Site::new();
    let order = with_rows(&site, &format!("ki_wrapped,opc_wrapped\n{}", row(KI[0], OPC[0])));
    let answer = site.submit(&order);
    assert_eq!(
        told(&answer),
        [(1, "ki_wrapped", "unsupported-credentials"), (1, "opc_wrapped", "unsupported-credentials")]
    );
    let answer = site.submit(&import(&site, &format!("ki,opc_wrapped\n{}", row(KI[0], OPC[0]))));
    assert_eq!(told(&answer)[0], (0, "ki", "clear-secret"));
}
