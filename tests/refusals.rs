//! Every refusal code of orders, provoked: each case is a sound order with one thing wrong, given to `order submit`; the refusal
//! names column and row and says what to do, and nothing is consumed. What an order alone cannot provoke (a broken site, forged
//! certificates) names the test that does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use serde_json::{Value, json};
use yard::{Order, Yard, iccid, rows_csv};

/// Rows of the sound order.
const ROWS: usize = 3;

/// A site, keys that are free, and an order whose numbers and keys are taken.
struct Ground {
    yard: Yard,
    keys: Vec<Value>,
    /// Of the order that was accepted.
    taken: Taken,
}

struct Taken {
    key: Value,
    iccid: String,
    imsi: &'static str,
    matching_id: &'static str,
}

/// What is wrong, where it is told, and how it comes about.
type Case = (&'static str, &'static str, u32, fn(&mut Order<'_>, &Ground));

impl Ground {
    fn make() -> Self {
        let yard = Yard::demo();
        let mut keys = yard.fleet("fleet", ROWS + 1);
        let imports = "\n[import.with-iv]\nkey = \"core-demo\"\nscheme = \"aes-ecb\"\niv = \"prefix\"\n\
                       [tenant.small]\nmax_rows_per_order = 1\n[tenant.daily]\nmax_rows_per_day = 1\n\
                       [tenant.full]\nmax_open_rows = 1\n";
        let config = yard.site().join("bindery.toml");
        fs::write(&config, fs::read_to_string(&config).unwrap() + imports).unwrap();
        let key = keys.pop().unwrap();
        let taken = Taken {
            iccid: iccid("894977000000000000"),
            imsi: "001017700000001",
            matching_id: "TAKEN-MATCHING-ID-1",
            key,
        };
        let mut order = yard.prebound_order("TAKEN", std::slice::from_ref(&taken.key));
        order.line()["iccid"] = json!("rows");
        order.line()["imsi"] = json!("rows");
        let Taken { key, iccid, imsi, matching_id } = &taken;
        let eid = key["eid"].as_str().unwrap();
        order.rows(&format!("row,eid,iccid,imsi,matching_id\n1,{eid},{iccid},{imsi},{matching_id}\n"), 1);
        order.submit().exits(0);
        Self { yard, keys, taken }
    }

    fn eid(&self, at: usize) -> &str {
        self.keys[at]["eid"].as_str().unwrap()
    }

    /// Rows with EID and one more column.
    fn column(&self, order: &mut Order<'_>, name: &str, cells: [&str; ROWS]) {
        let row = |(at, cell): (usize, &&str)| format!("{},{},{cell}\n", at + 1, self.eid(at));
        let rows: String = cells.iter().enumerate().map(row).collect();
        order.rows(&format!("row,eid,{name}\n{rows}"), ROWS);
    }

    /// Rows with credentials of their own.
    fn imported(&self, order: &mut Order<'_>, cells: [(&str, &str); ROWS]) {
        let cells = cells.map(|(ki, opc)| format!("{ki},{opc}"));
        self.column(order, "ki_wrapped,opc_wrapped", [&cells[0], &cells[1], &cells[2]]);
        order.line()["credentials"] = json!("import");
    }

    /// The second row's key with the last octet but four of a member changed, or the first.
    fn spoilt(&self, order: &mut Order<'_>, member: &str, first: bool) {
        let mut octets = BASE64.decode(self.keys[1][member].as_str().unwrap().as_bytes()).unwrap();
        let at = if first { 0 } else { octets.len() - 5 };
        octets[at] ^= 1;
        self.second_key(order, |key| key[member] = json!(BASE64.encode(&octets)));
    }

    fn second_key(&self, order: &mut Order<'_>, change: impl FnOnce(&mut Value)) {
        let mut keys = self.keys.clone();
        change(&mut keys[1]);
        key_file(order, &keys);
    }
}

fn key_file(order: &mut Order<'_>, keys: &[Value]) {
    order.file("euicc_data", "changed.euicc.jsonl", &keys.iter().map(|key| format!("{key}\n")).collect::<String>());
}

fn second_line(order: &mut Order<'_>, number: u32) {
    let mut second = order.line().clone();
    second["line"] = json!(number);
    order.header["lines"].as_array_mut().unwrap().push(second);
}

/// So many cells or members `x_1`, `x_2`, ...
fn own(count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(|n| format!("x_{n}"))
}

const KI: &str = "00112233445566778899aabbccddeeff";
const KI2: &str = "10112233445566778899aabbccddeeff";
const KI3: &str = "20112233445566778899aabbccddeeff";
const OPC: &str = "30112233445566778899aabbccddeeff";
const OPC2: &str = "40112233445566778899aabbccddeeff";
const OPC3: &str = "50112233445566778899aabbccddeeff";

/// The order's header and its lines.
const OF_HEADERS: &[Case] = &[
    ("wrong-type", "due", 0, |order, _| order.header["due"] = json!(5)),
    ("missing-member", "kind", 0, |order, _| drop(order.header.as_object_mut().unwrap().remove("kind"))),
    ("no-value", "kind", 0, |order, _| order.header["kind"] = Value::Null),
    ("control-character", "lines[0].metadata.profile_name", 0, |order, _| {
        order.line()["metadata"]["profile_name"] = json!("two\nlines");
    }),
    ("unknown-member", "colour", 0, |order, _| order.header["colour"] = json!("red")),
    ("and-more", "", 0, |order, _| own(1_001).for_each(|name| order.header[name] = json!(1))),
    ("bad-value", "accept", 0, |order, _| order.header["accept"] = json!("some")),
    ("out-of-range", "lines[0].quantity", 0, |order, _| order.line()["quantity"] = json!(0)),
    ("duplicate-line", "lines", 0, |order, _| second_line(order, 1)),
    ("too-many-lines", "lines", 0, |order, _| order.header["lines"] = json!(vec![0; 1_001])),
    ("range-overlap", "lines[1].iccid.first", 0, |order, _| second_line(order, 2)),
    ("unsupported-mode", "lines[0].mode", 0, |order, _| order.line()["mode"] = json!("session")),
    ("quota-order", "", 0, |order, _| order.header["tenant"] = json!("small")),
    ("quota-day", "", 0, |order, _| order.header["tenant"] = json!("daily")),
    ("quota-open", "", 0, |order, _| order.header["tenant"] = json!("full")),
    ("template-missing", "lines[0].template", 0, |order, _| order.line()["template"] = json!("none@1")),
    ("template-variable", "lines[0].vars.no_such", 0, |order, _| order.line()["vars"] = json!({"no_such": "1"})),
    ("rule-broken", "lines[0].vars", 0, |order, _| order.line()["vars"] = json!({"mnc_len": "3"})),
    ("bad-column", "lines[0].vars.spn.column", 0, |order, _| {
        order.line()["vars"] = json!({"spn": {"column": "imei"}});
    }),
    ("clear-secret", "lines[0].vars.adm1", 0, |order, _| order.line()["vars"] = json!({"adm1": "12345678"})),
    ("too-many-vars", "lines[0].vars", 0, |order, _| own(257).for_each(|name| order.line()["vars"][name] = json!("1"))),
    ("range-exhausted", "lines[0].vars.gid1.first", 0, |order, _| {
        order.line()["vars"] = json!({"gid1": {"first": "98"}});
    }),
    ("digits", "lines[0].vars.msisdn", 0, |order, _| order.line()["vars"] = json!({"msisdn": "no digits"})),
    ("line-unfit", "lines[0].validity.until", 0, |order, _| order.line()["validity"] = json!({"until": "2099-01-01"})),
    ("validity", "lines[0].validity.until", 0, |order, _| order.line()["validity"] = json!({"until": "2020-01-01"})),
    ("too-long", "lines[0].metadata.profile_name", 0, |order, _| {
        order.line()["metadata"]["profile_name"] = json!("x".repeat(65));
    }),
    ("too-many-elements", "lines[0].export", 0, |order, _| order.line()["export"] = json!(vec!["qr"; 257])),
    ("unknown-target", "lines[0].export[0]", 0, |order, _| order.line()["export"] = json!(["eim:nobody"])),
    ("unknown-transport-key", "lines[0].transport_key", 0, |order, _| order.line()["transport_key"] = json!("nobody")),
    ("import-key", "lines[0].transport_key", 0, |order, ground| {
        ground.imported(order, [(KI, OPC), (KI2, OPC2), (KI3, OPC3)]);
        order.line()["transport_key"] = json!("with-iv");
    }),
    ("rows-needed", "lines[0].iccid", 0, |order, _| {
        order.line().as_object_mut().unwrap().remove("rows");
        order.line()["iccid"] = json!("rows");
    }),
    ("too-many-inline-rows", "lines[0].rows", 0, |order, _| order.line()["rows"] = json!(vec![json!({}); 1_001])),
    ("too-many-members", "lines[0].rows[0]", 0, |order, _| {
        order.line()["rows"] = json!([own(257).map(|name| (name, json!("1"))).collect::<Value>()]);
    }),
];

/// The files beside it.
const OF_FILES: &[Case] = &[
    ("count-mismatch", "lines[0].rows.count", 0, |order, _| order.line()["rows"]["count"] = json!(2)),
    ("sha256-mismatch", "lines[0].rows.sha256", 0, |order, _| order.line()["rows"]["sha256"] = json!("00".repeat(32))),
    ("path-escape", "lines[0].rows.file", 0, |order, _| order.line()["rows"]["file"] = json!("../site/bindery.toml")),
    ("file", "lines[0].rows.file", 0, |order, _| order.line()["rows"]["file"] = json!("none.csv")),
    ("file-too-large", "lines[0].rows.file", 0, |order, ground| {
        ground.column(order, "x_note", [&"x".repeat(20_000), "", ""]);
    }),
    ("no-header", "rows", 0, |order, _| order.rows("", ROWS)),
    ("unknown-column", "colour", 0, |order, ground| ground.column(order, "colour", ["", "", ""])),
    ("duplicate-column", "eid", 0, |order, ground| ground.column(order, "eid", ["", "", ""])),
    ("clear-secret", "ki", 0, |order, ground| ground.column(order, "ki", ["", "", ""])),
    ("too-many-columns", "rows", 0, |order, _| {
        let names: Vec<String> = own(257).collect();
        order.rows(&format!("{}\n", names.join(",")), ROWS);
    }),
    ("missing-column", "eid", 0, |order, _| order.rows("row\n1\n2\n3\n", ROWS)),
    ("row-too-long", "", 2, |order, ground| {
        order.rows(&format!("row,eid\n1,{}\n2,\"{}\n", ground.eid(0), "x".repeat(70_000)), 100);
        order.line()["quantity"] = json!(100);
    }),
];

/// The rows.
const OF_ROWS: &[Case] = &[
    ("field-count", "row", 2, |order, ground| ground.column(order, "imei", ["", "1,2", ""])),
    ("row-number", "row", 9, |order, ground| {
        order.rows(&format!("row,eid\n1,{}\n2,{}\n9,{}\n", ground.eid(0), ground.eid(1), ground.eid(2)), ROWS);
    }),
    ("duplicate-row", "row", 1, |order, ground| {
        order.rows(&format!("row,eid\n1,{}\n1,{}\n3,{}\n", ground.eid(0), ground.eid(1), ground.eid(2)), ROWS);
    }),
    ("digits", "imei", 2, |order, ground| ground.column(order, "imei", ["", "3.5E+14", ""])),
    ("length", "imsi", 3, |order, ground| ground.column(order, "imsi", ["", "", "00101"])),
    ("mixed-length", "imsi", 2, |order, ground| {
        order.line()["imsi"] = json!("rows");
        ground.column(order, "imsi", ["001017700000101", "1017700000102", "001017700000103"]);
    }),
    ("check-digit", "eid", 2, |order, ground| {
        let (head, last) = ground.eid(1).split_at(31);
        let wrong = if last == "0" { "1" } else { "0" };
        order.rows(&format!("eid\n{}\n{head}{wrong}\n{}\n", ground.eid(0), ground.eid(2)), ROWS);
    }),
    ("alphabet", "matching_id", 1, |order, ground| ground.column(order, "matching_id", ["small-letters-of-1", "", ""])),
    ("not-utf8", "matching_id", 2, |order, ground| {
        ground.column(order, "matching_id", ["", "@", ""]);
        let path = ground.yard.path("orders").join(order.line()["rows"]["file"].as_str().unwrap());
        let octets: Vec<u8> = fs::read(&path).unwrap().iter().map(|o| if *o == b'@' { 0xFF } else { *o }).collect();
        fs::write(&path, &octets).unwrap();
        order.line()["rows"]["sha256"] = json!(yard::sha256_hex(&octets));
    }),
    ("missing-value", "eid", 2, |order, ground| {
        order.rows(&format!("row,eid\n1,{}\n2,\n3,{}\n", ground.eid(0), ground.eid(2)), ROWS);
    }),
    ("duplicate-eid", "eid", 3, |order, ground| {
        order.rows(&format!("eid\n{}\n{}\n{}\n", ground.eid(0), ground.eid(1), ground.eid(0)), ROWS);
    }),
    ("duplicate-iccid", "iccid", 2, |order, ground| {
        let [one, other] = ["894978000000000000", "894978000000000001"].map(iccid);
        ground.column(order, "iccid", [&one, &one, &other]);
        order.line()["iccid"] = json!("rows");
    }),
    ("duplicate-imsi", "imsi", 3, |order, ground| {
        ground.column(order, "imsi", ["001017800000001", "001017800000002", "001017800000001"]);
        order.line()["imsi"] = json!("rows");
    }),
    ("duplicate-matching-id", "matching_id", 2, |order, ground| {
        ground.column(order, "matching_id", ["ONE-MATCHING-ID-1", "ONE-MATCHING-ID-1", ""]);
    }),
    ("iccid-taken", "iccid", 2, |order, ground| {
        let [one, other] = ["894978000000000000", "894978000000000001"].map(iccid);
        ground.column(order, "iccid", [&one, &ground.taken.iccid, &other]);
        order.line()["iccid"] = json!("rows");
    }),
    ("imsi-taken", "imsi", 1, |order, ground| {
        ground.column(order, "imsi", [ground.taken.imsi, "001017800000001", "001017800000002"]);
        order.line()["imsi"] = json!("rows");
    }),
    ("matching-id-taken", "matching_id", 3, |order, ground| {
        ground.column(order, "matching_id", ["", "", ground.taken.matching_id]);
    }),
    ("number-mismatch", "iccid", 1, |order, ground| {
        ground.column(order, "iccid", [&iccid("894978000000000000"), "", ""]);
    }),
    ("range-exhausted", "iccid", 3, |order, _| {
        order.line()["iccid"] = json!({"first": iccid("999999999999999998")});
    }),
    ("value-unfit", "x_brand", 2, |order, ground| {
        ground.column(order, "x_brand", ["A", "A brand far too long to be shown by any phone", "C"]);
        order.line()["vars"] = json!({"spn": {"column": "x_brand"}});
    }),
    ("msisdn-unfit", "msisdn", 2, |order, ground| {
        ground.column(order, "msisdn", ["", "4915112340000", ""]);
        order.line()["template"] = json!("iot-minimal@1");
    }),
    ("unsupported-credentials", "ki_wrapped", 2, |order, ground| ground.column(order, "ki_wrapped", ["", KI, ""])),
    ("wrapped-form", "ki_wrapped", 1, |order, ground| {
        ground.imported(order, [("no hex", OPC), (KI2, OPC2), (KI3, OPC3)]);
    }),
    ("wrapped-length", "opc_wrapped", 3, |order, ground| {
        ground.imported(order, [(KI, OPC), (KI2, OPC2), (KI3, "0011")]);
    }),
    ("duplicate-ki", "ki_wrapped", 2, |order, ground| {
        ground.imported(order, [(KI, OPC), (KI, OPC2), (KI3, OPC3)]);
    }),
    ("duplicate-opc", "opc_wrapped", 3, |order, ground| {
        ground.imported(order, [(KI, OPC), (KI2, OPC2), (KI3, OPC)]);
    }),
];

/// One-time keys and certificates of the eUICCs.
const OF_KEYS: &[Case] = &[
    ("no-one-time-key", "euicc_otpk", 3, |order, ground| key_file(order, &ground.keys[..2])),
    ("one-time-key-used", "euicc_otpk", 1, |order, ground| {
        let keys = [std::slice::from_ref(&ground.taken.key), &ground.keys[..2]].concat();
        let eids: String = keys.iter().map(|key| format!("{}\n", key["eid"].as_str().unwrap())).collect();
        order.rows(&format!("eid\n{eids}"), ROWS);
        key_file(order, &keys);
    }),
    ("key-line", "euicc_otpk", 2, |order, ground| ground.second_key(order, |key| key["signature"] = json!("AA=="))),
    ("otpk-not-a-point", "euicc_otpk", 2, |order, ground| ground.spoilt(order, "euicc_otpk", false)),
    ("otpk-signature", "euicc_otpk", 2, |order, ground| ground.spoilt(order, "signature", false)),
    ("euicc-unreadable", "euicc_otpk", 2, |order, ground| ground.spoilt(order, "euicc_certificate", true)),
    ("euicc-signature", "euicc_otpk", 2, |order, ground| ground.spoilt(order, "euicc_certificate", false)),
    ("eum-unreadable", "euicc_otpk", 2, |order, ground| ground.spoilt(order, "eum_certificate", true)),
    ("eum-signature", "euicc_otpk", 2, |order, ground| ground.spoilt(order, "eum_certificate", false)),
    ("eid-mismatch", "euicc_otpk", 2, |order, ground| {
        ground.second_key(order, |key| key["euicc_certificate"] = ground.keys[2]["euicc_certificate"].clone());
    }),
];

/// What an order alone does not provoke, and the file whose test does.
const ELSEWHERE: &[(&str, &str)] = &[
    ("repeated-one-time-key", "src/order/tests/refusals.rs"),
    ("unsupported-algorithm", "src/order/tests/refusals.rs"), // this version writes both
    ("duplicate-order", "tests/watch.rs"),
    // Orders that change another one.
    ("unknown-order", "tests/kinds.rs"),
    ("nothing-to-cancel", "tests/kinds.rs"),
    ("cannot-be-remade", "tests/kinds.rs"),
    ("number-taken", "tests/kinds.rs"),
    ("exhausted", "tests/kinds.rs"),
    ("unsupported-accept", "tests/kinds.rs"),
    ("unsupported-column", "tests/kinds.rs"),
    ("byte-order-mark", "src/order/tests/refusals.rs"), // no JSON that a test could edit
    ("purged", "tests/kinds.rs"),
    ("unknown-tenant", "tests/states.rs"),    // a site that is no demo
    ("template-unfit", "tests/variables.rs"), // a template of one's own
    ("eligibility", "tests/curves.rs"),       // a site without chains on a curve
    ("otpk-curve", "src/certs/euicc.rs"),
    ("ci-expired", "src/certs/euicc.rs"),
    ("eid-range", "src/certs/euicc.rs"),
    ("euicc-expired", "src/certs/euicc.rs"),
    ("euicc-extension", "src/certs/euicc.rs"),
    ("euicc-issuer", "src/certs/euicc.rs"),
    ("euicc-role", "src/certs/euicc.rs"),
    ("euicc-usage", "src/certs/euicc.rs"),
    ("eum-ci-unknown", "src/certs/euicc.rs"),
    ("eum-expired", "src/certs/euicc.rs"),
    ("eum-extension", "src/certs/euicc.rs"),
    ("eum-not-a-ca", "src/certs/euicc.rs"),
    ("eum-role", "src/certs/euicc.rs"),
    ("eum-unlimited", "src/certs/euicc.rs"),
];

/// Texts of the order room that look like codes and never reach an answer, with the reason.
const NEVER_TOLD: &[(&str, &str)] = &[
    ("key-refused", "stands in for a code that the table of the key slots lost, which is made with the slots"),
    ("taken", "a claim of another submission between look-up and insert: one transaction does both"),
    (
        "unsupported-kind",
        "of an order that changes another, where only one of profiles can be read: a backlog's header, a judge",
    ),
    ("refused-before", "marks refusals that are told again"),
    ("template-name", "`template` is read as NAME@VERSION before the site is asked"),
];

/// Codes of one word, which no pattern tells from other words; one that is told and stands neither here nor in the sources' longer
/// ones fails the test.
const OF_ONE_WORD: [&str; 10] =
    ["alphabet", "digits", "eligibility", "exhausted", "file", "json", "length", "purged", "taken", "validity"];

#[test]
fn every_refusal_code_is_provoked_and_names_column_row_and_remedy() {
    let ground = Ground::make();
    let mut told = BTreeSet::new();
    for (number, (code, column, row, edit)) in [OF_HEADERS, OF_FILES, OF_ROWS, OF_KEYS].concat().into_iter().enumerate()
    {
        let mut order = ground.yard.prebound_order(&format!("CASE-{number}"), &ground.keys);
        edit(&mut order, &ground);
        let ran = order.submit();
        let rejects = answered(&ground.yard, &order, code, ran);
        let refusal = rejects.iter().find(|refusal| refusal["code"] == code);
        let refusal = refusal.unwrap_or_else(|| panic!("{code}: {rejects:?}"));
        assert!(column.is_empty() || refusal["column"] == column, "{code}: {refusal:?}");
        assert_eq!(refusal["row"], row.to_string(), "{code}: {refusal:?}");
        told.extend(rejects.into_iter().map(|refusal| refusal["code"].clone()));
    }
    // No map has a member twice.
    let order = ground.yard.prebound_order("CASE-twice", &ground.keys);
    let path = order.write();
    let text = fs::read_to_string(&path).unwrap().replacen('{', "{\"kind\": \"test\",", 1);
    fs::write(&path, text).unwrap();
    let ran = ground.yard.run(&["--json", "order", "submit", path.to_str().unwrap()]);
    let rejects = answered(&ground.yard, &order, "duplicate-member", ran);
    assert_eq!((rejects[0]["code"].as_str(), rejects[0]["column"].as_str()), ("duplicate-member", "kind"));
    told.insert("duplicate-member".to_owned());
    told.extend(published(&ground.yard));

    assert_eq!(ground.yard.ledger_count("SELECT count(*) FROM orders"), 1, "only the sound one was accepted");
    assert_eq!(ground.yard.ledger_count("SELECT count(*) FROM one_time_keys"), 1);
    for (code, file) in ELSEWHERE {
        let text = fs::read_to_string(file).unwrap();
        let tests = if file.starts_with("src/certs") { text.split_once("#[cfg(test)]").unwrap().1 } else { &text };
        let names = [format!("\"{code}\""), format!("\"{code} ")]; // the column may stand behind it
        assert!(names.iter().any(|name| tests.contains(name)), "{file} has no test of {code}");
        told.insert((*code).to_owned());
    }
    let known = codes_of_the_sources();
    let missed: Vec<_> = known.difference(&told).collect();
    assert!(missed.is_empty(), "no test provokes {missed:?}");
    let unknown: Vec<_> = told.difference(&known).collect();
    assert!(unknown.is_empty(), "told, but not found in the sources: {unknown:?}");
}

/// The published bad orders, given to `order check`: each is rejected, with place and remedy on stderr. Gives their codes.
fn published(yard: &Yard) -> Vec<String> {
    let orders = Path::new(env!("CARGO_MANIFEST_DIR")).join("test-vectors/bad/orders");
    let expected = rows_csv(&orders.join("expected.csv"));
    assert!(expected.len() > 10);
    for refusal in &expected {
        let path = orders.join(&refusal["file"]);
        let err = yard.run(&["order", "check", path.to_str().unwrap()]).exits(4).err;
        let mut place = refusal["column"].clone();
        if refusal["row"] != "0" {
            place = format!("row {}, {place}", refusal["row"]);
        }
        assert!(err.contains(&place) && err.contains("hint: "), "{refusal:?}: {err}");
    }
    expected.into_iter().map(|refusal| refusal["code"].clone()).collect()
}

/// `rejects.csv` of a rejected order; each of its refusals is whole.
#[track_caller]
fn answered(
    yard: &Yard,
    order: &Order<'_>,
    code: &str,
    ran: yard::Ran,
) -> Vec<std::collections::HashMap<String, String>> {
    assert!([4, 12].contains(&ran.code), "{code}: exit {}\n{}", ran.code, ran.err);
    assert!(ran.err.contains("hint: "), "{code}: {}", ran.err);
    let name = |member: &str| order.header[member].as_str().unwrap().to_owned();
    let rejects = rows_csv(&yard.site().join("outbox").join(name("tenant")).join(name("order_id")).join("rejects.csv"));
    for refusal in &rejects {
        assert!(!refusal["message"].is_empty() && !refusal["hint"].is_empty(), "{code}: {refusal:?}");
    }
    rejects
}

/// What stands in the order room, and where it is asked, as a code.
fn codes_of_the_sources() -> BTreeSet<String> {
    let is_test = |path: &PathBuf| path.to_str().unwrap().contains("/tests");
    let room = yard::files_below(Path::new("src/order")).into_iter().filter(|path| !is_test(path));
    let beside = ["src/certs/euicc.rs", "src/cli/intake.rs", "src/pipeline/import.rs"].map(PathBuf::from);
    let mut codes: BTreeSet<String> = OF_ONE_WORD.map(str::to_owned).into();
    for path in room.chain(beside) {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split_once("#[cfg(test)]").map_or(&text[..], |(code, _)| code);
        codes.extend(code.split('"').skip(1).step_by(2).filter(|text| is_code(text)).map(str::to_owned));
    }
    for (code, reason) in NEVER_TOLD {
        assert!(codes.remove(*code), "an excuse for what is gone: {code}, {reason}");
    }
    assert!(codes.len() > 70, "the codes are found: {codes:?}");
    codes
}

/// Two or more words with `-` between them.
fn is_code(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.contains('-') && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.split('-').all(is_word)
}
