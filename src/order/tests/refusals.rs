//! Every refusal: its code, its row, its column; and after each of them nothing was consumed.

use super::*;

/// A change to the smallest order, and what must be told of it (among others that follow from it).
type Case = (&'static str, fn(&mut Value), &'static str);

fn line(order: &mut Value) -> &mut Value {
    &mut order["lines"][0]
}

/// `code column`, for a header.
const HEADER: &[Case] = &[
    ("schema", |o| o["schema"] = json!("bindery.order/2"), "bad-value schema"),
    ("kind word", |o| o["kind"] = json!("gift"), "bad-value kind"),
    ("profiles in a cancellation", |o| o["kind"] = json!("cancel"), "unknown-member lines[0].template"),
    ("profiles in a remake", |o| o["kind"] = json!("remake"), "unknown-member lines[0].template"),
    (
        "a part of a cancellation",
        |o| (o["kind"], o["accept"], o["lines"]) = (json!("cancel"), json!("partial"), json!([])),
        "unsupported-accept accept",
    ),
    ("accept word", |o| o["accept"] = json!("some"), "bad-value accept"),
    ("due", |o| o["due"] = json!("tomorrow"), "bad-value due"),
    ("rev 0", |o| o["rev"] = json!(0), "out-of-range rev"),
    ("rev text", |o| o["rev"] = json!("1"), "wrong-type rev"),
    ("rev null", |o| o["rev"] = json!(null), "no-value rev"),
    ("a member null deep inside", |o| line(o)["metadata"]["icon"] = json!(null), "no-value lines[0].metadata.icon"),
    ("a needed member null", |o| o["tenant"] = json!(null), "no-value tenant"),
    ("an order id like an option", |o| o["order_id"] = json!("-PO"), "bad-value order_id"),
    ("path in the order id", |o| o["order_id"] = json!("../x"), "bad-value order_id"),
    ("no tenant", |o| drop(o.as_object_mut().unwrap().remove("tenant")), "missing-member tenant"),
    ("unknown member", |o| o["colour"] = json!("red"), "unknown-member colour"),
    ("no lines", |o| o["lines"] = json!([]), "bad-value lines"),
    ("lines no list", |o| o["lines"] = json!({}), "wrong-type lines"),
    (
        "deep unknown member",
        |o| line(o)["metadata"]["colour"] = json!("red"),
        "unknown-member lines[0].metadata.colour",
    ),
    ("deep wrong type", |o| line(o)["metadata"]["ecall"] = json!("yes"), "wrong-type lines[0].metadata.ecall"),
    (
        "no class",
        |o| drop(line(o)["metadata"].as_object_mut().unwrap().remove("class")),
        "missing-member lines[0].metadata.class",
    ),
    (
        "long provider",
        |o| line(o)["metadata"]["service_provider"] = json!("ä".repeat(17)),
        "too-long lines[0].metadata.service_provider",
    ),
    (
        "provider with NUL",
        |o| line(o)["metadata"]["service_provider"] = json!("a\0b"),
        "control-character lines[0].metadata.service_provider",
    ),
    (
        "name with a line's end",
        |o| line(o)["metadata"]["profile_name"] = json!("a\nb"),
        "control-character lines[0].metadata.profile_name",
    ),
    (
        "long name",
        |o| line(o)["metadata"]["profile_name"] = json!("a".repeat(65)),
        "too-long lines[0].metadata.profile_name",
    ),
    ("icon no base64", |o| line(o)["metadata"]["icon"] = json!("???"), "icon lines[0].metadata.icon"),
    (
        "icon too big",
        |o| line(o)["metadata"]["icon"] = json!(BASE64.encode(&[0x89; 1_025])),
        "icon lines[0].metadata.icon",
    ),
    (
        "icon no picture",
        |o| line(o)["metadata"]["icon"] = json!(BASE64.encode(b"GIF89a")),
        "icon lines[0].metadata.icon",
    ),
    (
        "icon of another type",
        |o| line(o)["metadata"]["icon"] = json!({"type": "png", "data": BASE64.encode(&[0xFF, 0xD8, 0xFF, 0xE0])}),
        "icon lines[0].metadata.icon",
    ),
    ("ppr word", |o| line(o)["metadata"]["ppr"] = json!(["ppr1", "ppr9"]), "bad-value lines[0].metadata.ppr[1]"),
    ("owner", |o| line(o)["metadata"]["owner"] = json!({"mcc_mnc": "26"}), "bad-value lines[0].metadata.owner.mcc_mnc"),
    ("template form", |o| line(o)["template"] = json!("bootstrap"), "bad-value lines[0].template"),
    ("template missing", |o| line(o)["template"] = json!("other@1"), "template-missing lines[0].template"),
    ("template variable", |o| line(o)["vars"] = json!({"nobody": "1"}), "unknown-variable lines[0].vars.nobody"),
    ("clear key as variable", |o| line(o)["vars"] = json!({"Ki": "465B5CE8"}), "clear-secret lines[0].vars.Ki"),
    ("variable no text", |o| line(o)["vars"] = json!({"apn": 1}), "wrong-type lines[0].vars.apn"),
    ("PUK as variable", |o| line(o)["vars"] = json!({"puk1": "12345678"}), "clear-secret lines[0].vars.puk1"),
    ("PIN by column", |o| line(o)["vars"] = json!({"pin1": {"column": "x_a"}}), "clear-secret lines[0].vars.pin1"),
    ("PIN by range", |o| line(o)["vars"] = json!({"pin2": {"first": "1000"}}), "clear-secret lines[0].vars.pin2"),
    ("ADM by column", |o| line(o)["vars"] = json!({"adm": {"column": "x_a"}}), "clear-secret lines[0].vars.adm"),
    (
        "variable from a key's column",
        |o| line(o)["vars"] = json!({"spn": {"column": "x_ki"}}),
        "clear-secret lines[0].vars.spn.column",
    ),
    (
        "variable from a column of ours",
        |o| line(o)["vars"] = json!({"spn": {"column": "eid"}}),
        "bad-column lines[0].vars.spn.column",
    ),
    ("variable without source", |o| line(o)["vars"] = json!({"spn": {}}), "bad-value lines[0].vars.spn"),
    (
        "variable with two sources",
        |o| line(o)["vars"] = json!({"spn": {"first": "1", "column": "x_a"}}),
        "bad-value lines[0].vars.spn",
    ),
    (
        "source unknown",
        |o| line(o)["vars"] = json!({"spn": {"file": "names"}}),
        "unknown-member lines[0].vars.spn.file",
    ),
    ("range no number", |o| line(o)["vars"] = json!({"spn": {"first": "+49"}}), "bad-value lines[0].vars.spn.first"),
    (
        "range too wide",
        |o| line(o)["vars"] = json!({"msisdn": {"first": "9998"}}),
        "range-exhausted lines[0].vars.msisdn.first",
    ),
    (
        "range whose first value does not fit",
        |o| line(o)["vars"] = json!({"spn": {"first": "10000000000000000"}}),
        "value-unfit lines[0].vars.spn.first",
    ),
    ("telephone number of letters", |o| line(o)["vars"] = json!({"msisdn": "support"}), "digits lines[0].vars.msisdn"),
    (
        "telephone number without place",
        |o| {
            line(o)["template"] = json!("needs-imsi@1");
            line(o)["vars"] = json!({"msisdn": {"first": "4915100"}});
        },
        "msisdn-unfit lines[0].vars.msisdn.first",
    ),
    (
        "column without rows",
        |o| line(o)["vars"] = json!({"spn": {"column": "x_brand"}}),
        "rows-needed lines[0].vars.spn.column",
    ),
    ("session", |o| line(o)["mode"] = json!("session"), "unsupported-mode lines[0].mode"),
    ("import without rows", |o| line(o)["credentials"] = json!("import"), "rows-needed lines[0].credentials"),
    ("tuak", |o| line(o)["algorithm"] = json!("tuak"), "unsupported-algorithm lines[0].algorithm"),
    ("quantity 0", |o| line(o)["quantity"] = json!(0), "out-of-range lines[0].quantity"),
    ("quantity beyond", |o| line(o)["quantity"] = json!(10_000_001), "out-of-range lines[0].quantity"),
    ("quantity negative", |o| line(o)["quantity"] = json!(-1), "wrong-type lines[0].quantity"),
    ("iccid digit", |o| line(o)["iccid"] = json!({"first": "89000123456789012342"}), "bad-value lines[0].iccid.first"),
    ("iccid both", |o| line(o)["iccid"]["rows"] = json!(true), "bad-value lines[0].iccid"),
    ("iccid rows without rows", |o| line(o)["iccid"] = json!("rows"), "rows-needed lines[0].iccid"),
    ("imsi rows without rows", |o| line(o)["imsi"] = json!({"rows": true}), "rows-needed lines[0].imsi"),
    ("imsi", |o| line(o)["imsi"] = json!({"first": "0010"}), "bad-value lines[0].imsi.first"),
    ("transport key", |o| line(o)["transport_key"] = json!("k9"), "unknown-transport-key lines[0].transport_key"),
    ("export word", |o| line(o)["export"] = json!(["post"]), "bad-value lines[0].export[0]"),
    ("eim unknown", |o| line(o)["export"] = json!(["eim:mars"]), "unknown-target lines[0].export[0]"),
    ("core unknown", |o| line(o)["export"] = json!(["qr", "core:mars"]), "unknown-target lines[0].export[1]"),
    ("validity over", |o| line(o)["validity"] = json!({"until": "2026-11-20"}), "validity lines[0].validity.until"),
    (
        "validity backwards",
        |o| line(o)["validity"] = json!({"from": "2027-02-01", "until": "2027-01-01"}),
        "validity lines[0].validity",
    ),
    ("validity no day", |o| line(o)["validity"] = json!({"from": "soon"}), "bad-value lines[0].validity.from"),
    ("bootstrap mode", |o| line(o)["bootstrap"] = json!({"mode": "wild"}), "bad-value lines[0].bootstrap.mode"),
    ("confirmation code", |o| line(o)["confirmation_code"] = json!(""), "bad-value lines[0].confirmation_code"),
    ("prebound without keys", |o| line(o)["mode"] = json!("prebound"), "missing-member lines[0].euicc_data"),
    ("rows member missing", |o| line(o)["rows"] = json!({"file": "rows.csv"}), "missing-member lines[0].rows.sha256"),
    (
        "hash form",
        |o| line(o)["rows"] = json!({"file": "a", "sha256": "00", "count": 3}),
        "bad-value lines[0].rows.sha256",
    ),
    ("rows file missing", |o| line(o)["rows"] = rows_of("none.csv", 3), "file lines[0].rows.file"),
    ("rows above", |o| line(o)["rows"] = rows_of("../rows.csv", 3), "path-escape lines[0].rows.file"),
    ("rows absolute", |o| line(o)["rows"] = rows_of("/etc/passwd", 3), "path-escape lines[0].rows.file"),
    ("rows a directory", |o| line(o)["rows"] = rows_of(".", 3), "file lines[0].rows.file"),
    ("quantity and count", |o| line(o)["rows"] = rows_of("none.csv", 4), "count-mismatch lines[0].rows.count"),
    ("inline count", |o| line(o)["rows"] = json!([{"imei": "490154203237518"}]), "count-mismatch lines[0].rows"),
    ("inline clear key", |o| line(o)["rows"] = json!([{"opc": "00"}]), "clear-secret lines[0].rows[0].opc"),
    (
        "inline unknown",
        |o| line(o)["rows"] = json!({"inline": [{"colour": "red"}]}),
        "unknown-member lines[0].rows.inline[0].colour",
    ),
    ("inline too many", |o| line(o)["rows"] = json!(vec![json!({}); 1_001]), "too-many-inline-rows lines[0].rows"),
    (
        "the same line twice",
        |o| {
            let again = line(o).clone();
            o["lines"].as_array_mut().unwrap().push(again);
        },
        "duplicate-line lines",
    ),
    (
        "overlapping ranges",
        |o| {
            let mut second = line(o).clone();
            second["line"] = json!(2);
            second["iccid"] = json!({"first": iccid(3).as_str()});
            second["imsi"] = json!({"first": "001010123456999"});
            o["lines"].as_array_mut().unwrap().push(second);
        },
        "range-overlap lines[1].iccid.first",
    ),
];

fn rows_of(file: &str, count: u32) -> Value {
    json!({"file": file, "sha256": "0".repeat(64), "count": count})
}

#[test]
fn a_wrong_header_is_refused_by_the_path_of_its_member_and_nothing_is_consumed() {
    for (name, change, expected) in HEADER {
        let site = Site::new();
        let mut order = order();
        change(&mut order);
        let answer = site.submit(&partial_if_possible(order));
        let told: Vec<_> = answer.first_refusals.iter().map(|r| format!("{} {}", r.code, r.column)).collect();
        assert!(told.iter().any(|t| t == expected), "{name}: {told:?}");
        assert_eq!(answer.exit, Exit::OrderRejected, "{name}");
        assert!(
            answer.first_refusals.iter().all(|r| r.row == 0 && !r.hint.is_empty() && !r.message.is_empty()),
            "{name}"
        );
        assert!(site.nothing_consumed(), "{name}");
    }
}

/// A header that is refused is refused with `partial` too.
fn partial_if_possible(mut order: Value) -> Value {
    if order.get("accept").is_none() {
        order["accept"] = json!("partial");
    }
    order
}

#[test]
fn several_mistakes_are_told_at_once() {
    let site = Site::new();
    let mut order = order();
    order["kind"] = json!("gift");
    order["lines"][0]["metadata"]["colour"] = json!("red");
    order["lines"][0]["quantity"] = json!("3");
    let answer = site.submit(&order);
    let expected = [
        (0, "kind", "bad-value"),
        (0, "lines[0].quantity", "wrong-type"),
        (0, "lines[0].metadata.colour", "unknown-member"),
    ];
    assert_eq!(told(&answer), expected);
    assert_eq!(answer.first_refusals[1].line, 1);
    assert_eq!(rejects(&site.outbox("acme/PO-1/rejects.csv")).len(), 3);
}

#[test]
fn a_value_of_the_wrong_type_is_shown_once_and_masked_where_it_may_be_a_code() {
    let site = Site::new();
    let mut order = order();
    order["rev"] = json!(-1.5);
    order["lines"][0]["quantity"] = json!("3");
    order["lines"][0]["confirmation_code"] = json!(12345678);
    let answer = site.submit(&order);
    let shown: Vec<_> = answer.first_refusals.iter().map(|r| (r.value.as_str(), r.message.as_str())).collect();
    let expected = [
        ("-1.5", "is a number, expected a whole number"),
        ("3", "is a text, expected a whole number"),
        ("********", "is a number, expected a text"),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn a_byte_order_mark_is_named() {
    let site = Site::new();
    for mark in [&b"\xEF\xBB\xBF"[..], b"\xFF\xFE"] {
        let path = site.input("marked.json");
        std::fs::write(&path, [mark, order().to_string().as_bytes()].concat()).unwrap();
        let answer = site.intake().submit(&path).unwrap();
        assert_eq!(told(&answer), [(0, "", "byte-order-mark")]);
    }
}

#[test]
fn an_order_that_is_refused_as_a_whole_is_refused_with_all_its_rows() {
    let site = Site::new();
    let mut order = order();
    order["lines"][0]["template"] = json!("other@1");
    assert_eq!(site.submit(&order).counts, Counts { rows: 3, accepted: 0, refused: 3 });
}

#[test]
fn numbers_of_a_line_that_differ_in_length_are_refused() {
    let site = Site::new();
    let rows_only = |csv: &str| {
        let mut order = with_rows(&site, csv);
        order["lines"][0]["iccid"] = json!("rows");
        order["lines"][0]["imsi"] = json!("rows");
        order
    };
    let short_iccid = Iccid::from_body("890001234567890123").unwrap();
    let csv = |imsi: &str, iccid_3: &str| {
        format!("iccid,imsi\n{},{imsi}\n{},001010006000002\n{iccid_3},001010006000003\n", iccid(1), iccid(2))
    };
    let refused = [
        (csv("1010006000001", iccid(3).as_str()), (1, "imsi", "mixed-length")),
        (csv("001010006000001", short_iccid.as_str()), (3, "iccid", "mixed-length")),
        (format!("iccid,imsi\n{},10100060000\n{},001010006000002\n", iccid(1), iccid(2)), (1, "imsi", "mixed-length")),
    ];
    for (csv, expected) in refused {
        assert_eq!(told(&site.submit(&rows_only(&csv))), [expected], "{csv}");
        assert!(site.nothing_consumed(), "{csv}");
    }
    assert_eq!(told(&site.submit(&rows_only(&csv("001010006000001", iccid(3).as_str())))), []);
}

#[test]
fn a_range_ends_before_another_operators_numbers_begin() {
    let site = Site::new();
    let mut over = order();
    over["lines"][0]["imsi"] = json!({"first": "001019999999998"});
    over["lines"][0]["iccid"] = json!({"first": Iccid::from_body("8949999999999999999").unwrap().as_str()});
    let answer = site.submit(&over);
    let expected = [(2, "iccid", "range-exhausted"), (3, "iccid", "range-exhausted"), (3, "imsi", "range-exhausted")];
    assert_eq!(told(&answer), expected);
    assert_eq!(answer.exit, Exit::Exhausted);
    assert!(site.nothing_consumed());
}

#[test]
fn a_member_that_stands_twice_is_refused() {
    let site = Site::new();
    let text = order().to_string().replacen("\"kind\":\"production\"", "\"kind\":\"production\",\"kind\":\"test\"", 1);
    site.put("order.json", text);
    let answer = site.intake().submit(&site.input("order.json")).unwrap();
    assert_eq!(told(&answer), [(0, "kind", "duplicate-member")]);
}

/// A name, a CSV, and row, column and code of each refusal it must get.
type RowCase = (&'static str, &'static str, &'static [(u32, &'static str, &'static str)]);

const ROWS: &[RowCase] = &[
    ("eid letters", "eid\n8904903212345123451234567890123x\n", &[(1, "eid", "digits")]),
    ("eid short", "eid\n8904\n", &[(1, "eid", "length")]),
    ("eid digits", "eid\n89049032123451234512345678901236\n", &[(1, "eid", "check-digit")]),
    (
        "eid twice",
        "eid\n89049032123451234512345678901235\n89049032123451234512345678901235\n",
        &[(2, "eid", "duplicate-eid")],
    ),
    ("iccid digit", "iccid\n89000123456789012342\n", &[(1, "iccid", "check-digit")]),
    ("iccid not of the range", "iccid\n89000123456789012358\n", &[(1, "iccid", "number-mismatch")]),
    ("msisdn", "msisdn\n+4915112345678\n", &[(1, "msisdn", "digits")]),
    ("msisdn long", "msisdn\n123456789012345678901\n", &[(1, "msisdn", "length")]),
    ("matching id", "matching_id\nabcd-efgh-1234-5678\n", &[(1, "matching_id", "alphabet")]),
    ("matching id short", "matching_id\nABCD\n", &[(1, "matching_id", "length")]),
    (
        "matching id twice",
        "matching_id\nABCD-EFGH-1234-5678\nABCD-EFGH-1234-5678\n",
        &[(2, "matching_id", "duplicate-matching-id")],
    ),
    ("imei", "imei\n4901542032375\n", &[(1, "imei", "length")]),
    ("import", "ki_wrapped\n465B5CE8B199B49FAA5F0A2EE238A6BC\n", &[(1, "ki_wrapped", "unsupported-credentials")]),
    ("row 0", "row,imei\n0,490154203237518\n", &[(1, "row", "row-number")]),
    ("row beyond", "row,imei\n7,490154203237518\n", &[(7, "row", "row-number")]),
    ("row twice", "row\n1\n1\n", &[(1, "row", "duplicate-row")]),
    ("row empty", "row,imei\n,490154203237518\n", &[(1, "row", "row-number")]),
    ("fields", "eid,imei\n89049032123451234512345678901235\n", &[(1, "row", "field-count")]),
    ("two in one row", "eid,imei\n1,2\n", &[(1, "eid", "length"), (1, "imei", "length")]),
    ("clear ki", "row,ki\n1,465B5CE8B199B49FAA5F0A2EE238A6BC\n", &[(0, "ki", "clear-secret")]),
    ("clear OPc", "row,x_OPc\n1,465B5CE8B199B49FAA5F0A2EE238A6BC\n", &[(0, "x_OPc", "clear-secret")]),
    ("unknown column", "row,colour\n1,red\n", &[(0, "colour", "unknown-column")]),
    ("column twice", "row,eid,eid\n1,,\n", &[(0, "eid", "duplicate-column")]),
];

#[test]
fn a_wrong_row_is_refused_with_row_column_and_code_and_nothing_is_consumed() {
    for (name, csv, expected) in ROWS {
        let site = Site::new();
        let answer = site.submit(&with_rows(&site, csv));
        assert_eq!(told(&answer), *expected, "{name}");
        assert_eq!(answer.exit, Exit::OrderRejected, "{name}");
        assert!(site.nothing_consumed(), "{name}");
        let file = site.outbox("acme/PO-1/rejects.csv");
        assert_eq!(rejects(&file).len(), expected.len(), "{name}");
        for value in ["465B5CE8B199B49FAA5F0A2EE238A6BC", "89049032123451234512345678901236"] {
            assert!(!file.contains(value) && !format!("{:?}", answer.first_refusals).contains(value), "{name}");
        }
    }
}

#[test]
fn numbers_from_rows_are_refused_when_they_are_missing_twice_or_taken() {
    let site = Site::new();
    site.submit(&order()); // takes the first three of both ranges
    let rows_only = |csv: &str| {
        let mut order = with_rows(&site, csv);
        order["order_id"] = json!("PO-2");
        order["lines"][0]["iccid"] = json!("rows");
        order["lines"][0]["imsi"] = json!("rows");
        order
    };
    let row = |n: u32, imsi: &str| format!("{},{imsi}\n", iccid(n));
    let (free, taken) = ("262011234567893", FIRST_IMSI);
    let cases = [
        (format!("iccid,imsi\n,{free}\n"), vec![(1, "iccid", "missing-value")]),
        (format!("iccid,imsi\n{},\n", iccid(9)), vec![(1, "imsi", "missing-value")]),
        (format!("iccid,imsi\n{}{}", row(9, free), row(9, "262011234567894")), vec![(2, "iccid", "duplicate-iccid")]),
        (format!("iccid,imsi\n{}{}", row(9, free), row(10, free)), vec![(2, "imsi", "duplicate-imsi")]),
        (format!("iccid,imsi\n{}", row(1, free)), vec![(1, "iccid", "iccid-taken")]),
        (format!("iccid,imsi\n{}", row(9, taken)), vec![(1, "imsi", "imsi-taken")]),
        (format!("imsi\n{free}\n"), vec![(0, "iccid", "missing-column")]),
        (format!("iccid\n{}\n", iccid(9)), vec![(0, "imsi", "missing-column")]),
    ];
    let before = site.counts();
    for (csv, expected) in cases {
        assert_eq!(told(&site.submit(&rows_only(&csv))), expected, "{csv}");
        assert_eq!(site.counts(), before, "{csv}");
    }
}

#[test]
fn a_row_without_what_its_template_needs_or_with_what_it_cannot_hold_is_refused() {
    let site = Site::new();
    let mut order = with_rows(&site, "row,msisdn\n1,491511234567\n2,\n");
    order["lines"][0]["template"] = json!("needs-imsi@1");
    order["lines"][0].as_object_mut().unwrap().remove("imsi");
    let answer = site.submit(&order);
    assert_eq!(
        told(&answer),
        [(1, "imsi", "missing-value"), (1, "msisdn", "msisdn-unfit"), (2, "imsi", "missing-value")]
    );
    assert!(site.nothing_consumed());
}

#[test]
fn numbers_of_a_range_are_refused_when_they_are_taken_or_used_up() {
    let site = Site::new();
    site.submit(&order());
    let before = site.counts();
    let mut second = order();
    second["order_id"] = json!("PO-2");
    second["lines"][0]["iccid"] = json!({"first": iccid(3).as_str()});
    second["lines"][0]["imsi"] = json!({"first": "001010123456064"});
    assert_eq!(
        told(&site.submit(&second)),
        [(1, "iccid", "iccid-taken"), (1, "imsi", "imsi-taken"), (2, "imsi", "imsi-taken")]
    );
    second["lines"][0]["iccid"] = json!({"first": Iccid::from_body("9999999999999999998").unwrap().as_str()});
    second["lines"][0]["imsi"] = json!({"first": "999999999999999"});
    let expected = [(2, "imsi", "range-exhausted"), (3, "iccid", "range-exhausted"), (3, "imsi", "range-exhausted")];
    assert_eq!(told(&site.submit(&second)), expected);
    assert_eq!(site.counts(), before);
    second["lines"][0]["iccid"] = json!({"first": iccid(3).as_str()});
    second["lines"][0]["imsi"] = json!({"first": "001010123456066"});
    assert_eq!(site.submit(&partial(second)).counts, Counts { rows: 3, accepted: 2, refused: 1 });
}

#[test]
fn another_tenant_gets_the_same_imsi_but_never_the_same_iccid_or_matching_id() {
    let site = Site::new();
    let mut first = with_rows(&site, "matching_id\nABCD-EFGH-1234-5678\n");
    assert_eq!(site.submit(&first).verdict, Verdict::Accepted);
    first["tenant"] = json!("globex");
    assert_eq!(told(&site.submit(&first)), [(1, "iccid", "iccid-taken"), (1, "matching_id", "matching-id-taken")]);
}

#[test]
fn a_key_that_cannot_be_used_refuses_its_row_and_nothing_is_consumed() {
    type Change = fn(&mut Vec<Value>);
    let cases: &[(&str, Change, &str)] = &[
        ("forged", |l| l[1]["signature"] = json!(BASE64.encode(&[0xEE; 64])), "bad-signature"),
        ("repeated", |l| l[1]["euicc_otpk"] = l[0]["euicc_otpk"].clone(), "repeated-one-time-key"),
        ("too short", |l| l[1]["euicc_otpk"] = json!(BASE64.encode(&[4; 64])), "key-line"),
        ("compressed", |l| l[1]["euicc_otpk"] = json!(BASE64.encode(&[2; 65])), "key-line"),
        ("signature too long", |l| l[1]["signature"] = json!(BASE64.encode(&[1; 70])), "key-line"),
        ("no base64", |l| l[1]["eum_certificate"] = json!("*"), "key-line"),
        ("unknown member", |l| l[1]["colour"] = json!("red"), "key-line"),
        ("no signature", |l| drop(l[1].as_object_mut().unwrap().remove("signature")), "key-line"),
        ("wrong eid", |l| l[1]["eid"] = json!("89049032123451234512345678901236"), "key-line"),
        ("no object", |l| l[1] = json!("line"), "key-line"),
    ];
    for (name, change, code) in cases {
        let site = Site::new();
        let answer = site.submit(&prebound(&site, 3, change));
        assert_eq!(told(&answer), [(2, "euicc_otpk", *code)], "{name}");
        assert!(site.nothing_consumed(), "{name}");
    }
}

#[test]
fn a_row_whose_euicc_has_no_key_is_refused() {
    let site = Site::new();
    let few = prebound(&site, 3, |lines| drop(lines.pop()));
    assert_eq!(told(&site.submit(&few)), [(3, "euicc_otpk", "no-one-time-key")]);
    let mut by_rows = prebound(&site, 2, |_| {});
    by_rows["lines"][0]["rows"] = site.put_rows("rows.csv", &format!("row,eid\n1,{}\n2,\n", eid(7)));
    assert_eq!(told(&site.submit(&by_rows)), [(1, "euicc_otpk", "no-one-time-key"), (2, "eid", "missing-value")]);
    by_rows["lines"][0]["rows"] = site.put_rows("rows.csv", "row\n1\n2\n");
    assert_eq!(told(&site.submit(&by_rows)), [(0, "eid", "missing-column")]);
    assert!(site.nothing_consumed());
}

#[test]
fn a_key_line_that_cannot_be_read_is_told_with_its_cause_where_the_rows_name_the_euiccs() {
    type Break = fn(&str) -> String;
    let cases: [(Break, &str); 4] = [
        (|line| line.replacen('{', "{\"colour\":1,", 1), "unknown member colour"),
        (|line| line.replacen('{', "{\"signature\":\"AA==\",", 1), "signature stands twice"),
        (|line| line[..line.len() - 1].to_owned(), "EOF while parsing"),
        (|line| line.replacen("\"eid\"", "\"eidd\"", 1), "unknown member eidd"),
    ];
    for (broken, cause) in cases {
        for beside_a_good_one in [false, true] {
            let site = Site::new();
            let mut order = prebound(&site, 2, |_| {});
            let mut keys: Vec<String> = (1..=2).map(|n| key_line(n).to_string()).collect();
            let bad = broken(&keys[1]);
            if beside_a_good_one {
                keys.push(bad)
            } else {
                keys[1] = bad
            }
            order["lines"][0]["euicc_data"] = site.put("euicc.jsonl", keys.join("\n"));
            order["lines"][0]["rows"] = site.put_rows("rows.csv", &format!("row,eid\n1,{}\n2,{}\n", eid(1), eid(2)));
            let answer = site.submit(&order);
            let ack = ack(&answer);
            let warning = &ack["warnings"][0];
            assert_eq!(ack["warnings"].as_array().map(Vec::len), Some(1), "{cause}");
            assert!(warning["message"].as_str().unwrap().contains(cause), "{warning}");
            assert_eq!((&warning["value"], &warning["code"]), (&json!("euicc.jsonl"), &json!("key-line")));
            let has_eid = !cause.contains("eidd");
            match (beside_a_good_one, has_eid) {
                (true, _) => assert_eq!(told(&answer), []),
                (false, true) => assert_eq!(told(&answer), [(2, "euicc_otpk", "key-line")], "{cause}"),
                (false, false) => assert_eq!(told(&answer), [(2, "euicc_otpk", "no-one-time-key")], "{cause}"),
            }
        }
    }
}

#[test]
fn a_key_that_served_another_order_is_refused() {
    let site = Site::new();
    let first = prebound(&site, 2, |_| {});
    assert_eq!(site.submit(&first).verdict, Verdict::Accepted);
    let before = site.counts();
    let mut second = first;
    second["order_id"] = json!("PO-2");
    second["lines"][0]["iccid"] = json!({"first": iccid(50).as_str()});
    second["lines"][0]["imsi"] = json!({"first": "001010123456999"});
    assert_eq!(
        told(&site.submit(&second)),
        [(1, "euicc_otpk", "one-time-key-used"), (2, "euicc_otpk", "one-time-key-used")]
    );
    assert_eq!(site.counts(), before);
}

#[test]
fn a_file_that_changed_on_its_way_rejects_the_order_even_if_partial() {
    let site = Site::new();
    let mut rows = partial(with_rows(&site, "imei\n490154203237518\n490154203237519\n"));
    site.put("rows.csv", "imei\n490154203237518\n490154203237510\n");
    assert_eq!(told(&site.submit(&rows)), [(0, "lines[0].rows.sha256", "sha256-mismatch")]);
    rows["lines"][0]["rows"]["sha256"] = site.put("rows.csv", "imei\n490154203237518\n")["sha256"].clone();
    assert_eq!(told(&site.submit(&rows)), [(0, "lines[0].rows.count", "count-mismatch")]);
    rows["lines"][0]["rows"]["sha256"] = site.put("rows.csv", "imei\n1\n2\n3\n")["sha256"].clone();
    assert_eq!(site.submit(&rows).counts, Counts { rows: 2, accepted: 0, refused: 2 });
    let keys = partial(prebound(&site, 2, |_| {}));
    site.put_keys(3, |_| {});
    assert_eq!(told(&site.submit(&keys)), [(0, "lines[0].euicc_data.sha256", "sha256-mismatch")]);
    site.put("rows.csv", "");
    rows["lines"][0]["rows"]["sha256"] = json!(sha256(b""));
    assert_eq!(told(&site.submit(&rows)), [(0, "rows", "no-header")]);
    assert!(site.nothing_consumed());
}

#[test]
fn a_link_that_leads_out_of_the_directory_is_refused() {
    let site = Site::new();
    std::fs::write(site.directory.path().join("secret.csv"), "imei\n490154203237518\n").unwrap();
    std::os::unix::fs::symlink("../secret.csv", site.input("rows.csv")).unwrap();
    let mut order = order();
    order["lines"][0]["rows"] = rows_of("rows.csv", 3);
    assert_eq!(told(&site.submit(&order)), [(0, "lines[0].rows.file", "path-escape")]);
}

#[test]
fn a_file_without_header_row_shows_none_of_its_values() {
    let site = Site::new();
    let answer =
        site.submit(&with_rows(&site, "1,465B5CE8B199B49FAA5F0A2EE238A6BC,q83vASNFZ4mrze8BI0VniQ==\n2,00,00\n"));
    assert_eq!(answer.refusals_total, 3);
    let file = site.outbox("acme/PO-1/rejects.csv");
    assert!(!file.contains("465B5C") && !file.contains("q83vAS"), "{file}");
}

#[test]
fn text_that_is_not_utf8_is_refused_and_nothing_of_it_is_shown() {
    let site = Site::new();
    let csv = b"imei,serial\n490154203237518,a\n\xff\xfe,b\n";
    let mut order = order();
    order["lines"][0]["rows"] = site.put("rows.csv", csv);
    order["lines"][0]["rows"]["count"] = json!(2);
    order["lines"][0]["quantity"] = json!(2);
    assert_eq!(told(&site.submit(&order)), [(2, "imei", "not-utf8")]);
}

#[test]
fn ten_refusals_are_shown_and_all_are_written() {
    let site = Site::new();
    let csv: String = std::iter::once("imei\n".to_owned()).chain((0..2_500).map(|n| format!("{n}\n"))).collect();
    let answer = site.submit(&with_rows(&site, &csv));
    assert_eq!((answer.first_refusals.len(), answer.refusals_total), (SHOWN, 2_500));
    assert_eq!(rejects(&site.outbox("acme/PO-1/rejects.csv")).len(), 2_500);
}

/// An order of some MiB whose `member` of the line is `text`.
fn stuffed(member: &str, text: &str) -> Vec<u8> {
    let mut order = order();
    order["lines"][0][member] = json!("HERE");
    let octets = order.to_string().replace("\"HERE\"", text).into_bytes();
    assert!(octets.len() > 2 << 20 && octets.len() < 4 << 20, "{}", octets.len());
    octets
}

#[test]
fn a_hostile_order_costs_a_moment_and_a_small_answer() {
    let many = |element: fn(u32) -> String| (0..280_000).map(element).collect::<Vec<_>>().join(",");
    let members = format!("{{{}}}", many(|i| format!("\"v{i}\":\"\"")));
    let texts = format!("[{}]", many(|_| "\"abcdefghi\"".to_owned()));
    let objects = format!("[{}]", many(|_| "{\"line\":1}".to_owned()));
    let mut lines = order();
    lines["lines"] = json!("HERE");
    let lines = lines.to_string().replace("\"HERE\"", &objects).into_bytes();
    let bodies = [
        (stuffed("vars", &members), "too-many-vars", 1),
        (stuffed("metadata", &members), "unknown-member", 1_001),
        (stuffed("rows", &objects), "too-many-inline-rows", 1),
        (stuffed("rows", &format!("[{members}]")), "too-many-members", 1),
        (stuffed("export", &texts), "too-many-elements", 1),
        (lines, "too-many-lines", 1),
    ];
    for (body, code, total) in bodies {
        let site = Site::new();
        site.put("order.json", &body);
        let started = std::time::Instant::now();
        let answer = site.intake().submit(&site.input("order.json")).unwrap();
        assert!(started.elapsed() < std::time::Duration::from_secs(5), "{code}: {:?}", started.elapsed());
        assert!(told(&answer).iter().any(|(.., told)| *told == code), "{code}: {:?}", told(&answer));
        assert_eq!(answer.refusals_total, total, "{code}");
        assert!(site.outbox("acme/PO-1/rejects.csv").len() < 512 * 1024, "{code}");
        assert!(site.nothing_consumed(), "{code}");
    }
}

#[test]
fn refusals_of_a_header_end_with_one_that_stands_for_the_rest() {
    let site = Site::new();
    let mut order = order();
    let wrong = order["lines"][0].clone();
    order["lines"] = (1..=600)
        .map(|number| {
            let mut line = wrong.clone();
            line["line"] = json!(number);
            line["export"] = json!(["eim:nobody", "core:nobody"]);
            line
        })
        .collect();
    let answer = site.submit(&order);
    assert_eq!(answer.refusals_total, 1_001);
    let csv = site.outbox("acme/PO-1/rejects.csv");
    assert_eq!(csv.lines().filter(|line| line.contains(",and-more,")).count(), 1);
    assert!(csv.lines().last().unwrap().contains("and-more"));
}

/// The order's rows as `content`, with its hash and count.
fn with_file(site: &Site, content: &[u8]) -> Value {
    let mut order = order();
    let mut rows = site.put("rows.csv", content);
    rows["count"] = json!(3);
    order["lines"][0]["rows"] = rows;
    order
}

#[test]
fn rows_larger_than_their_quantity_are_refused_unread() {
    let site = Site::new();
    let order = with_file(&site, b"imei\n");
    let largest = 4_096 + 3 * 2_048;
    let file = std::fs::File::options().write(true).open(site.input("rows.csv")).unwrap();
    file.set_len(largest + 1).unwrap();
    assert_eq!(told(&site.submit(&order)), [(0, "lines[0].rows.file", "file-too-large")]);
    // One octet less is read, and is not the file that was hashed.
    file.set_len(largest).unwrap();
    assert!(!told(&site.submit(&order)).iter().any(|(.., code)| *code == "file-too-large"));
}

#[test]
fn a_key_file_has_a_limit_too() {
    let site = Site::new();
    let order = prebound(&site, 3, |_| {});
    let file = std::fs::File::options().write(true).open(site.input("euicc.jsonl")).unwrap();
    file.set_len(1 << 40).unwrap();
    let answer = site.submit(&order);
    assert!(told(&answer).contains(&(0, "lines[0].euicc_data.file", "file-too-large")), "{:?}", told(&answer));
}

/// The quantity allows the file, an open quotation mark makes one record of it.
#[test]
fn a_quotation_mark_that_is_not_closed_does_not_swallow_the_file() {
    let endless = [b"\"".to_vec(), vec![b'x'; 2 << 20]].concat();
    for (head, row) in [(&b""[..], 0), (b"imei\n", 1), (b"imei\n490154203237518\n", 2)] {
        let site = Site::new();
        let mut order = with_file(&site, &[head, &endless].concat());
        order["lines"][0]["quantity"] = json!(2_000);
        order["lines"][0]["rows"]["count"] = json!(2_000);
        let answer = site.submit(&order);
        assert!(told(&answer).contains(&(row, "", "row-too-long")), "{row}: {:?}", told(&answer));
        assert!(site.nothing_consumed());
    }
}

#[test]
fn records_of_any_length_up_to_the_limit_are_read_wherever_they_lie() {
    let site = Site::new();
    let rows = 40;
    let own = "x".repeat(60_000);
    let csv: String =
        std::iter::once("imei,x_own\n".to_owned()).chain((0..rows).map(|_| format!(",{own}\n"))).collect();
    let mut order = with_file(&site, csv.as_bytes());
    order["lines"][0]["quantity"] = json!(2_000);
    order["lines"][0]["rows"]["count"] = json!(2_000);
    let answer = site.submit(&order);
    assert!(!told(&answer).iter().any(|(.., code)| *code == "row-too-long"), "{:?}", told(&answer));
    assert!(told(&answer).contains(&(0, "lines[0].rows.count", "count-mismatch")), "{:?}", told(&answer));
}

#[test]
fn a_header_of_a_thousand_columns_is_one_refusal() {
    let site = Site::new();
    let order = with_file(&site, vec!["c"; 1_000].join(",").as_bytes());
    assert_eq!(told(&site.submit(&order)), [(0, "rows", "too-many-columns")]);
}

#[test]
fn an_order_that_is_no_regular_file_or_too_large_is_not_waited_for() {
    let site = Site::new();
    let pipe = site.input("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(site.intake().submit(&pipe).unwrap_err().exit, Exit::Usage);
    assert_eq!(site.intake().submit(site.directory.path()).unwrap_err().exit, Exit::Usage);
    let large = site.input("large.json");
    std::fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(site.intake().submit(&large).unwrap_err().exit, Exit::OrderRejected);
    let mut order = order();
    order["lines"][0]["rows"] = json!({"file": "pipe", "sha256": "0".repeat(64), "count": 3});
    assert_eq!(told(&site.submit(&order)), [(0, "lines[0].rows.file", "file")]);
}
