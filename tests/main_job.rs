//! The main job with the real binary: order file in, verified bundle out; answers, refusals, resubmission.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::fs;

use serde_json::json;
use yard::{Yard, lines_json, rows_csv, sha256_hex};

#[test]
fn an_order_becomes_a_verified_bundle_and_the_same_order_gets_the_same_answer() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 40);
    let order = yard.prebound_order("PO-1", &keys);
    let ack = order.submit().exits(0).json();
    assert_eq!((&ack["verdict"], &ack["counts"]["accepted"]), (&json!("accepted"), &json!(40)));
    yard.run(&["run"]).exits(0);

    let outbox = yard.outbox("PO-1");
    let recon: serde_json::Value = serde_json::from_slice(&fs::read(outbox.join("recon.json")).unwrap()).unwrap();
    assert_eq!(recon, json!({"rows": 40, "issued": 40, "refused": 0, "held": 0, "cancelled": 0}));
    let records = lines_json(&outbox.join("orders.jsonl"));
    assert_eq!(records.len(), 40);
    for (record, key) in records.iter().zip(&keys) {
        assert_eq!((&record["eid"], &record["state"]), (&key["eid"], &json!("exported")));
        assert_eq!(record["euicc_otpk"], key["euicc_otpk"]);
    }
    // Each package lies where its record says, with the hash it says.
    let packages = fs::read(outbox.join("packages-00001.bpp")).unwrap();
    let mut end = 0;
    for record in &records {
        let (offset, length) =
            (record["offset"].as_u64().unwrap() as usize, record["length"].as_u64().unwrap() as usize);
        assert_eq!(offset, end, "packages stand one behind the other");
        end = offset + length;
        assert_eq!(record["sha256"], json!(sha256_hex(&packages[offset..end])));
        assert_eq!(packages[offset..offset + 2], [0xBF, 0x36]);
    }
    assert_eq!(end, packages.len());
    // The manifest names every file but itself and its signature.
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(outbox.join("manifest.json")).unwrap()).unwrap();
    for path in yard::files_below(&outbox) {
        let name = path.strip_prefix(&outbox).unwrap().to_str().unwrap();
        if !name.starts_with("manifest.") {
            let content = fs::read(&path).unwrap();
            assert_eq!(
                manifest["files"][name],
                json!({"sha256": sha256_hex(&content), "bytes": content.len()}),
                "{name}"
            );
        }
    }
    let secrets = yard.path("fleet/secrets.jsonl");
    let verified =
        yard.run(&["verify", outbox.to_str().unwrap(), "--secrets", secrets.to_str().unwrap(), "--all"]).exits(0);
    assert!(verified.out.contains("PASS"), "{}", verified.out);

    // The same order again: the first answer, nothing new.
    let devices = yard.ledger_count("SELECT count(*) FROM devices");
    let before = fs::read(outbox.join("manifest.json")).unwrap();
    assert_eq!(order.submit().exits(0).json(), ack);
    yard.run(&["run"]).exits(0);
    assert_eq!(yard.ledger_count("SELECT count(*) FROM devices"), devices);
    assert_eq!(fs::read(outbox.join("manifest.json")).unwrap(), before);

    // Another body under the same key: a conflict, even if only the due date moved.
    let mut moved = yard.prebound_order("PO-1", &keys);
    moved.header["due"] = json!("2030-01-01T00:00:00Z");
    assert_eq!(moved.submit().exits(6).json()["verdict"], "duplicate");
    assert_eq!(fs::read(outbox.join("manifest.json")).unwrap(), before);
}

#[test]
fn the_manifest_is_signed_so_that_openssl_can_check_it() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 1);
    yard.prebound_order("PO-2", &keys).submit().exits(0);
    yard.run(&["run"]).exits(0);
    let outbox = yard.outbox("PO-2");
    let certificate = openssl::x509::X509::from_pem(&fs::read(outbox.join("certs/manifest.pem")).unwrap()).unwrap();
    let key = certificate.public_key().unwrap();
    let check = |bytes: &[u8]| {
        let mut verifier = openssl::sign::Verifier::new(openssl::hash::MessageDigest::sha256(), &key).unwrap();
        verifier.verify_oneshot(&fs::read(outbox.join("manifest.sig")).unwrap(), bytes).unwrap()
    };
    let mut manifest = fs::read(outbox.join("manifest.json")).unwrap();
    assert!(check(&manifest));
    manifest[10] ^= 1;
    assert!(!check(&manifest));
}

#[test]
fn a_forged_signature_and_a_repeated_key_refuse_exactly_their_rows() {
    let yard = Yard::demo();
    let mut keys = yard.fleet("fleet", 12);
    // Row 4: a signature of another device. Row 9: the one-time key of row 2 (its own signature would not fit either way).
    keys[3]["signature"] = keys[4]["signature"].clone();
    keys[8]["euicc_otpk"] = keys[1]["euicc_otpk"].clone();
    let mut order = yard.prebound_order("PO-3", &keys);
    assert_eq!(order.submit().exits(4).json()["verdict"], "rejected");
    assert_eq!(yard.ledger_count("SELECT count(*) FROM devices"), 0, "a rejected order consumes nothing");

    order.header["accept"] = json!("partial");
    let ack = order.submit().exits(5).json();
    assert_eq!((&ack["verdict"], &ack["counts"]["refused"]), (&json!("accepted_partial"), &json!(2)));
    let refused: Vec<String> =
        rows_csv(&yard.outbox("PO-3").join("rejects.csv")).iter().map(|row| row["row"].clone()).collect();
    assert_eq!(refused, ["4", "9"]);
    yard.run(&["run"]).exits(0); // every accepted row was issued
    let results = rows_csv(&yard.outbox("PO-3").join("results.csv"));
    assert_eq!(results.len(), 12);
    let rejected: Vec<&str> =
        results.iter().filter(|row| row["state"] == "rejected").map(|row| row["row"].as_str()).collect();
    assert_eq!(rejected, ["4", "9"]);
    // Numbers of refused rows stay free, the others keep theirs: row r has first + r - 1.
    let first: bindery::ids::Iccid = order.header["lines"][0]["iccid"]["first"].as_str().unwrap().parse().unwrap();
    for row in results.iter().filter(|row| row["state"] == "exported") {
        let at: u64 = row["row"].parse().unwrap();
        assert_eq!(row["iccid"], first.plus(at - 1).unwrap().to_string());
    }
    let secrets = yard.path("fleet/secrets.jsonl");
    yard.run(&["verify", yard.outbox("PO-3").to_str().unwrap(), "--secrets", secrets.to_str().unwrap()]).exits(0);
}

#[test]
fn a_one_time_key_serves_one_profile_ever() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 3);
    yard.prebound_order("PO-4", &keys).submit().exits(0);
    let again = yard.prebound_order("PO-5", &keys[1..2]).submit().exits(4).json();
    assert_eq!(again["verdict"], "rejected");
    let refusal = &rows_csv(&yard.outbox("PO-5").join("rejects.csv"))[0];
    assert_eq!(refusal["row"], "1");
    assert!(!refusal["hint"].is_empty());
}

#[test]
fn bad_orders_are_refused_with_row_column_and_hint_and_consume_nothing() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 3);
    let eid = |i: usize| keys[i]["eid"].as_str().unwrap().to_owned();
    let wrong_digit = {
        let mut text = eid(1).into_bytes();
        text[31] = b'0' + (text[31] - b'0' + 1) % 10;
        String::from_utf8(text).unwrap()
    };
    let rows = |second: &str| format!("row,eid\n1,{}\n2,{second}\n3,{}\n", eid(0), eid(2));
    // name, CSV, row and column of the refusal
    let bad_rows = [
        ("check-digit", rows(&wrong_digit), "2", "eid"),
        ("eid-twice", rows(&eid(0)), "2", "eid"),
        (
            "clear-ki",
            format!("row,eid,ki\n1,{},00112233445566778899AABBCCDDEEFF\n2,{},\n3,{},\n", eid(0), eid(1), eid(2)),
            "0",
            "ki",
        ),
        (
            "unknown-column",
            format!("row,eid,colour\n1,{},red\n2,{},red\n3,{},red\n", eid(0), eid(1), eid(2)),
            "0",
            "colour",
        ),
        ("too-few", format!("row,eid\n1,{}\n2,{}\n", eid(0), eid(1)), "0", "rows.count"),
    ];
    for (name, csv, row, column) in bad_rows {
        let mut order = yard.prebound_order(&format!("BAD-{name}"), &keys);
        order.rows(&csv, 3);
        let ran = order.submit().exits(4);
        assert_eq!(ran.json()["verdict"], "rejected", "{name}");
        let rejects = rows_csv(&yard.outbox(&format!("BAD-{name}")).join("rejects.csv"));
        let told = rejects.iter().find(|r| r["row"] == row && r["column"].ends_with(column));
        let told = told.unwrap_or_else(|| panic!("{name}: {rejects:?}"));
        assert!(!told["hint"].is_empty() && !told["message"].is_empty() && !told["code"].is_empty(), "{name}");
        let everything = format!("{}{}{rejects:?}", ran.out, ran.err).to_ascii_uppercase();
        assert!(!everything.contains("00112233445566778899AABBCCDDEEFF"), "{name}: a clear key is never echoed");
    }
    let mut missing = yard.prebound_order("BAD-template", &keys);
    missing.line()["template"] = json!("no-such@1");
    missing.submit().exits(4);
    let rejects = rows_csv(&yard.outbox("BAD-template").join("rejects.csv"));
    assert!(rejects.iter().any(|r| r["column"].ends_with("template") && !r["hint"].is_empty()), "{rejects:?}");

    for table in ["orders", "devices"] {
        assert_eq!(yard.ledger_count(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
    // The same numbers and keys are still free.
    yard.prebound_order("BAD-check-digit", &keys).submit().exits(0);
}

#[test]
fn a_profile_stored_under_random_keys_is_bound_later() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 5);
    let eids: Vec<&str> = keys.iter().map(|key| key["eid"].as_str().unwrap()).collect();
    yard.stored_order("PO-6", &eids).submit().exits(0);
    yard.run(&["run"]).exits(0);
    let records = lines_json(&yard.outbox("PO-6").join("orders.jsonl"));
    assert!(records.iter().all(|record| record["object"].is_null() && record["mode"] == "order"));
    let secrets = yard.path("fleet/secrets.jsonl");
    let secrets = secrets.to_str().unwrap();
    yard.run(&["verify", yard.outbox("PO-6").to_str().unwrap(), "--secrets", secrets]).exits(0);

    let key_file = yard.path("fleet/euicc.jsonl");
    let bound = yard.run(&["--json", "bind", "PO-6", "--euicc-data", key_file.to_str().unwrap()]).exits(0).json();
    assert_eq!(bound["bound"], 5);
    let bundle = bound["bundle"].as_str().unwrap();
    yard.run(&["verify", bundle, "--secrets", secrets, "--all"]).exits(0);
    // A bound PPP carries ReplaceSessionKeys: A2 stands between A1 and A3.
    let first = &lines_json(&std::path::Path::new(bundle).join("orders.jsonl"))[0];
    let package = fs::read(std::path::Path::new(bundle).join(first["object"].as_str().unwrap())).unwrap();
    let envelope = bindery::formats::tlv::Reader::new(&package).next_tlv().unwrap().unwrap();
    let mut tags = Vec::new();
    let mut children = envelope.children();
    while let Some(child) = children.next_tlv().unwrap() {
        tags.push(child.tag.0);
    }
    assert_eq!(tags, [0xBF23, 0xA0, 0xA1, 0xA2, 0xA3]);
    // The same question gets the same answer, and nothing is made.
    let again = yard.run(&["--json", "bind", "PO-6", "--euicc-data", key_file.to_str().unwrap()]).exits(0).json();
    assert_eq!((&again["repeated"], &again["bound"], &again["bundle"]), (&json!(true), &json!(5), &bound["bundle"]));
    assert!(!yard.outbox("PO-6+bound-002").exists());
    // Bound once, a profile does not wait any more.
    yard.fleet("other", 1);
    let other = yard.path("other/euicc.jsonl");
    yard.run(&["bind", "PO-6", "--euicc-data", other.to_str().unwrap()]).exits(2);
    let der = yard.path("der");
    let unpacked = yard.run(&["--json", "export", "PO-6", "--unpack", der.to_str().unwrap()]).exits(0).json();
    assert_eq!((&unpacked["packages"], fs::read_dir(&der).unwrap().count()), (&json!(5), 5));
}

#[test]
fn a_profile_ordered_without_euicc_gets_one_when_it_is_bound() {
    let yard = Yard::demo();
    let mut keys = yard.fleet("fleet", 4);
    keys[1]["euicc_otpk"] = keys[0]["euicc_otpk"].clone();
    let mut order = yard.stored_order("PO-7", &[]);
    order.line().as_object_mut().unwrap().remove("rows");
    order.line()["quantity"] = json!(3);
    order.submit().exits(0);
    yard.run(&["run"]).exits(0);
    let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
    let key_file = yard.path("keys.jsonl");
    fs::write(&key_file, text).unwrap();
    let bound = yard.run(&["--json", "bind", "PO-7", "--euicc-data", key_file.to_str().unwrap()]).exits(5);
    assert!(bound.err.contains("key file line 2"), "names the line that was refused: {}", bound.err);
    let bound = bound.json();
    assert_eq!((&bound["bound"], &bound["still_stored"]), (&json!(3), &json!(0)));
    let records = lines_json(&std::path::Path::new(bound["bundle"].as_str().unwrap()).join("orders.jsonl"));
    let eids: Vec<&serde_json::Value> = records.iter().map(|record| &record["eid"]).collect();
    assert_eq!(eids, [&keys[0]["eid"], &keys[2]["eid"], &keys[3]["eid"]]);
    let secrets = yard.path("fleet/secrets.jsonl");
    yard.run(&["verify", bound["bundle"].as_str().unwrap(), "--secrets", secrets.to_str().unwrap()]).exits(0);
}

#[test]
fn what_a_run_could_not_make_is_refused_before_anything_is_claimed() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 1);
    type Spoil = (&'static str, fn(&mut serde_json::Value), &'static str);
    let spoil: [Spoil; 4] = [
        ("ppr", |line| line["metadata"]["ppr"] = json!(["ppr1"]), "metadata"),
        (
            "silent",
            |line| line["metadata"]["notifications"] = json!([{"events": [], "address": "a.example.com"}]),
            "metadata",
        ),
        ("late", |line| line["validity"] = json!({"until": "2099-01-01"}), "validity.until"),
        ("nowhere", |line| line["export"] = json!(["eim:demo", "core:nobody"]), "export"),
    ];
    for (name, change, member) in spoil {
        let mut order = yard.prebound_order(&format!("PO-{name}"), &keys);
        change(order.line());
        order.submit().exits(4);
        let rejects = rows_csv(&yard.outbox(&format!("PO-{name}")).join("rejects.csv"));
        assert!(rejects.iter().any(|r| r["column"].contains(member) && !r["hint"].is_empty()), "{name}: {rejects:?}");
    }
    assert_eq!(yard.ledger_count("SELECT count(*) FROM devices"), 0);
}

#[test]
fn every_member_of_the_metadata_reaches_the_euicc() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 2);
    let mut order = yard.prebound_order("PO-8", &keys);
    order.line()["metadata"] = json!({
        "service_provider": "Everything Telecom", "profile_name": "All of it", "class": "provisioning",
        "ppr": ["ppr1", "ppr2"], "owner": {"mcc_mnc": "00101", "gid1": "0a"},
        "notifications": [{"events": ["install", "delete"], "address": "notify.example.com"}],
        "fallback_allowed": true, "ecall": true,
    });
    order.line()["confirmation_code"] = json!("4711");
    order.line()["algorithm"] = json!("tuak");
    order.line()["export"] = json!(["eim:demo", "core:demo", "qr"]);
    order.submit().exits(0);
    yard.run(&["run"]).exits(0);
    let secrets = yard.path("fleet/secrets.jsonl");
    yard.run(&["verify", yard.outbox("PO-8").to_str().unwrap(), "--secrets", secrets.to_str().unwrap()]).exits(0);
    let record = &lines_json(&yard.outbox("PO-8").join("orders.jsonl"))[0];
    assert!(record["activation_code"].as_str().unwrap().ends_with("$$1"));
    assert_eq!((&record["profile_class"], &record["cc_required"]), (&json!("provisioning"), &json!(true)));
    assert!(yard.outbox("PO-8").join("qr-codes.html").exists());
}
