//! The closed lists of what can go wrong - exit codes of commands, error classes of records - provoked through the program, each once:
//! what is told names order, row, cause and remedy. An entry that is not provoked fails here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bindery::certs::{Curve, DpRole, test_pki::TestPki};
use bindery::config::Site;
use bindery::pipeline::lock::RunLock;
use data_encoding::{BASE64, HEXLOWER};
use openssl::ec::PointConversionForm;
use openssl::symm::{Cipher, Crypter, Mode};
use openssl::x509::X509;
use serde_json::{Value, json};
use yard::shim::{Shim, on};
use yard::{Ran, Yard, rows_csv};

const CKR_DATA_INVALID: u64 = 0x20;

/// What a fault says: which file or record, why, what to do.
#[track_caller]
fn told(ran: Ran, code: i32, about: &[&str]) {
    let Ran { err, .. } = ran.exits(code);
    assert!(err.contains("hint: "), "{code}: no remedy in\n{err}");
    about.iter().for_each(|word| assert!(err.contains(word), "{code}: no {word:?} in\n{err}"));
}

#[test]
fn every_exit_code_is_provoked_and_says_what_and_what_to_do() {
    let yard = Yard::demo();
    let site = yard.site();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    // 1 is a bug, by definition nobody's to provoke.
    let mut seen = BTreeSet::from([1]);
    let mut told = |ran: Ran, code: i32, about: &[&str]| {
        told(ran, code, about);
        seen.insert(code);
    };
    yard.run(&["order", "list"]).exits(0);
    let usage = yard.run(&["order", "frobnicate"]).exits(2).err;
    assert!(usage.contains("frobnicate") && usage.contains("--help"), "{usage}");
    told(yard.run(&["order", "show", "PO-0"]), 2, &["PO-0"]);
    let config = fs::read_to_string(site.join("bindery.toml")).unwrap();
    fs::write(site.join("bindery.toml"), format!("colour = \"red\"\n{config}")).unwrap();
    told(yard.run(&["order", "list"]), 3, &["bindery.toml", "colour"]);
    fs::write(site.join("bindery.toml"), &config).unwrap();

    let keys = yard.fleet("fleet", 4);
    let mut order = yard.prebound_order("PO-1", &keys[..2]);
    let eid = keys[0]["eid"].as_str().unwrap();
    order.rows(&format!("row,eid\n1,{eid}\n2,{eid}\n"), 2);
    told(order.submit(), 4, &["row 2", "eid"]);
    let rejects = rows_csv(&yard.outbox("PO-1").join("rejects.csv"));
    assert_eq!((rejects[0]["row"].as_str(), rejects[0]["code"].as_str()), ("2", "duplicate-eid"));
    order.header["accept"] = json!("partial");
    told(order.submit(), 5, &["row 2"]);
    order.header["due"] = json!("2030-01-01T00:00:00Z");
    told(order.submit(), 6, &["another body", "rev"]);

    let missing = config.lines().find(|line| line.starts_with("module = ")).unwrap();
    fs::write(site.join("bindery.toml"), config.replace(missing, "module = \"/no/such/module.so\"")).unwrap();
    told(yard.run(&["run"]), 7, &["/no/such/module.so"]);
    fs::write(site.join("bindery.toml"), &config).unwrap();

    let away = site.join("state.db.away");
    fs::rename(site.join("state.db"), &away).unwrap();
    told(yard.run(&["run"]), 8, &["state.db", "ledger.id"]);
    fs::rename(&away, site.join("state.db")).unwrap();

    let blocked = yard.outbox("PO-1").join("packages-00001.bpp");
    fs::create_dir_all(blocked.join("in the way")).unwrap();
    told(yard.run(&["run"]), 9, &["packages-00001.bpp"]);
    fs::remove_dir_all(&blocked).unwrap();

    let lock = RunLock::take(&site, jiff::Timestamp::now()).unwrap();
    told(yard.run(&["run"]), 10, &["process"]);
    drop(lock);

    let chain = expired_chain(&yard);
    told(yard.run(&["run"]), 11, &["DPpb"]);
    fs::write(&chain.0, &chain.1).unwrap();

    let eid = keys[2]["eid"].as_str().unwrap();
    let mut order = yard.stored_order("PO-2", &[eid, keys[1]["eid"].as_str().unwrap()]);
    let first = order.line()["iccid"].clone();
    order.line()["iccid"] = json!({"first": yard::iccid("999999999999999999")});
    told(order.submit(), 12, &["row 2", "iccid", "range"]);
    order.line()["iccid"] = first;
    order.submit().exits(0);
    yard.run(&["run"]).exits(0);
    // Keys of other eUICCs than the order's.
    let foreign = yard.path("foreign.jsonl");
    fs::write(&foreign, format!("{}\n", keys[3])).unwrap();
    told(yard.run(&["bind", "PO-2", "--euicc-data", &text(&foreign)]), 12, &["one-time key"]);

    yard.stored_order("PO-3", &[keys[3]["eid"].as_str().unwrap()]).submit().exits(0);
    told(yard.run(&["order", "purge", "PO-3", "--yes"]), 13, &["PO-3"]);
    seen.insert(0);

    let source = fs::read_to_string("src/error.rs").unwrap();
    let (_, exits) = source.split_once("pub enum Exit {").unwrap();
    let exits = exits.split_once("\n}\n").unwrap().0.lines();
    let codes = exits.filter_map(|line| line.trim().strip_suffix(',')?.split(" = ").nth(1)?.parse().ok());
    assert_eq!(seen, codes.collect::<BTreeSet<i32>>(), "exit codes that were provoked, and those there are");
}

/// Puts a DPpb certificate in place that ended years ago; gives the file and what stood in it.
fn expired_chain(yard: &Yard) -> (PathBuf, Vec<u8>) {
    let file = yard.site().join("certs/dppb/dppb.pem");
    let sound = fs::read(&file).unwrap();
    let key = X509::from_pem(&sound).unwrap().public_key().unwrap().ec_key().unwrap();
    let mut context = openssl::bn::BigNumContext::new().unwrap();
    let point = key.public_key().to_bytes(key.group(), PointConversionForm::UNCOMPRESSED, &mut context).unwrap();
    let pki = TestPki::load(&Site::open(&yard.site()).unwrap(), Curve::P256).unwrap();
    let long_ago = "2015-01-01T00:00:00Z".parse().unwrap();
    let der = pki.issue_dp(DpRole::Pb, "2.999.10", &point.try_into().unwrap(), long_ago).unwrap();
    fs::write(&file, X509::from_der(&der).unwrap().to_pem().unwrap()).unwrap();
    (file, sound)
}

/// Where a record that ended with an error is told of: `results.csv`, `order show`, and stderr of the command that ended it. Gives
/// its class.
#[track_caller]
fn class_told(yard: &Yard, order: &str, row: &str, cause: &str, err: &str) -> String {
    let results = rows_csv(&yard.outbox(order).join("results.csv"));
    let result = results.iter().find(|result| result["row"] == row).unwrap();
    let class = result["error_class"].clone();
    let shown = yard.run(&["--json", "order", "show", order]).exits(0).json();
    let troubles = shown["orders"][0]["troubles"].as_array().unwrap();
    let trouble = troubles.iter().find(|trouble| trouble["row"] == json!(row.parse::<u32>().unwrap())).unwrap();
    assert_eq!((&trouble["error_class"], &trouble["state"]), (&json!(class), &json!(result["state"])), "{trouble}");
    let error = trouble["error"].as_str().unwrap();
    assert!(error.contains(cause) && error.contains("; hint: "), "{order}, row {row}: {error}");
    let lines: Vec<&str> = err.lines().collect();
    let told = lines.iter().position(|line| line.contains(&format!("row {row}")) && line.contains(cause));
    let told = told.unwrap_or_else(|| panic!("{order}, row {row}: {cause}: {err}"));
    assert!(lines[told..].iter().take(2).any(|line| line.contains("hint: ")), "{err}");
    assert!(err.contains(&format!("acme/{order}")), "{err}");
    class
}

#[test]
fn every_error_class_of_records_is_provoked_and_told_with_order_row_cause_and_remedy() {
    let mut yard = Yard::demo();
    let keys = yard.fleet("fleet", 24);
    let mut seen = BTreeSet::new();
    refused_rows(&yard, &keys[..6], &mut seen);
    imported_rows(&yard, &keys[6..8], &mut seen);
    broken_records(&yard, &keys[8..13], &mut seen);
    let mut shim = yard.put_shim();
    refused_by_the_token(&yard, &mut shim, &keys[13..15], &mut seen);

    let source = fs::read_to_string("src/error.rs").unwrap();
    let words = source.lines().filter(|line| line.trim().starts_with("Self::") && line.contains("=> \""));
    let words: BTreeSet<String> = words.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect();
    assert_eq!(seen, words, "classes that were provoked, and those there are");
}

/// Rows of a partial order that were refused: each has the class of its refusal, and the others are issued.
fn refused_rows(yard: &Yard, keys: &[Value], seen: &mut BTreeSet<String>) {
    let mut order = yard.prebound_order("PO-refused", keys);
    let mut forged = keys[2].clone();
    let signature = BASE64.decode(forged["signature"].as_str().unwrap().as_bytes()).unwrap();
    forged["signature"] = json!(BASE64.encode(&signature.iter().map(|octet| octet ^ 1).collect::<Vec<u8>>()));
    let lines = [&keys[0], &keys[1], &forged, &keys[3], &keys[5]].map(|key| format!("{key}\n"));
    order.file("euicc_data", "PO-refused.euicc.jsonl", &lines.concat());
    let eid = |at: usize| keys[at]["eid"].as_str().unwrap();
    let rows: String = [(0, "Acme"), (0, "Acme"), (2, "Acme"), (3, "A brand far too long to be shown by any phone")]
        .into_iter()
        .chain([(4, "Acme"), (5, "Acme")])
        .zip(1..)
        .map(|((at, brand), row)| format!("{row},{},{brand}\n", eid(at)))
        .collect();
    order.rows(&format!("row,eid,x_brand\n{rows}"), keys.len());
    order.line()["vars"] = json!({"spn": {"column": "x_brand"}});
    // The sixth row's number is beyond the last one there is.
    order.line()["iccid"] = json!({"first": yard::iccid("999999999999999995")});
    order.header["accept"] = json!("partial");
    let err = order.submit().exits(5).err;
    yard.run(&["run"]).exits(0);
    for (row, class, cause) in [
        ("2", "duplicate", "stands twice"),
        ("3", "cert", "signature"),
        ("4", "template", "as spn"),
        ("5", "eligibility", "no one-time key"),
        ("6", "range", "no number left"),
    ] {
        assert_eq!(class_told(yard, "PO-refused", row, cause, &err), class);
        seen.insert(class.to_owned());
    }
}

/// K that is all zero, under the key that the demo shares with its core network.
fn imported_rows(yard: &Yard, keys: &[Value], seen: &mut BTreeSet<String>) {
    let key = fs::read(yard.site().join("core-demo.key")).unwrap();
    let key = HEXLOWER.decode(key.trim_ascii()).unwrap();
    let wrapped = |secret: u8| {
        let mut crypter = Crypter::new(Cipher::aes_256_ecb(), Mode::Encrypt, &key, None).unwrap();
        let mut out = [0; 32];
        assert_eq!(crypter.update(&[secret; 16], &mut out).unwrap(), 16);
        HEXLOWER.encode(&out[..16])
    };
    let mut order = yard.prebound_order("PO-import", keys);
    let rows: String = keys
        .iter()
        .zip([(7, 8), (0, 9)])
        .map(|(key, (k, opc))| format!("{},{},{}\n", key["eid"].as_str().unwrap(), wrapped(k), wrapped(opc)))
        .collect();
    order.rows(&format!("eid,ki_wrapped,opc_wrapped\n{rows}"), keys.len());
    order.line()["credentials"] = json!("import");
    order.submit().exits(0);
    let err = yard.run(&["run"]).exits(5).err;
    assert_eq!(class_told(yard, "PO-import", "2", "all zero", &err), "input");
    seen.insert("input".to_owned());
}

/// A processor that is wrong once while a profile is made, a ledger that was edited under the second record and the third.
fn broken_records(yard: &Yard, keys: &[Value], seen: &mut BTreeSet<String>) {
    yard.prebound_order("PO-broken", keys).submit().exits(0);
    let ledger = rusqlite::Connection::open(yard.site().join("state.db")).unwrap();
    let of_row = "row = ?1 AND order_pk = (SELECT pk FROM orders WHERE order_id = 'PO-broken')";
    ledger.execute(&format!("UPDATE devices SET imsi = '001019999999999' WHERE {of_row}"), [2]).unwrap();
    ledger.execute(&format!("UPDATE devices SET iccid = NULL WHERE {of_row}"), [3]).unwrap();
    drop(ledger);
    let library = Shim::module().with_file_name("libcipher_flip.so");
    assert!(library.is_file(), "{}: `cargo build --examples` builds it", library.display());
    let (library, count) = (library.to_str().unwrap(), yard.path("blocks"));
    // What a run encrypts before its first record: of an order that is held it has none.
    yard.run(&["order", "hold", "PO-broken"]).exits(0);
    let counted = [("LD_PRELOAD", library), ("BINDERY_FLIP_COUNT", count.to_str().unwrap())];
    yard.run_with(&["run"], &counted).exits(5);
    let at = (fs::read(&count).unwrap_or_default().len() + 1).to_string();
    yard.run(&["order", "hold", "PO-broken", "--release"]).exits(0);
    let flip = [("LD_PRELOAD", library), ("BINDERY_FLIP_AT", &at)];
    let err = yard.run_with(&["run", "--audit", "all"], &flip).exits(5).err;
    // Whichever record came first: they are made side by side.
    let results = rows_csv(&yard.outbox("PO-broken").join("results.csv"));
    let wrong: Vec<&str> =
        results.iter().filter(|r| r["error_class"] == "crypto_selfcheck").map(|r| r["row"].as_str()).collect();
    assert!(wrong.len() == 1 && ["1", "4", "5"].contains(&wrong[0]), "{results:?}");
    for (row, class, cause) in [
        (wrong[0], "crypto_selfcheck", "opc: does not follow from K and OP"),
        ("2", "storage", "IMSI"),
        ("3", "internal", "without ICCID"),
    ] {
        assert_eq!(class_told(yard, "PO-broken", row, cause, &err), class);
        seen.insert(class.to_owned());
    }
    let issued = "SELECT count(*) FROM device_states d JOIN orders o ON o.pk = order_pk
                  WHERE order_id = 'PO-broken' AND d.state = 'exported'";
    assert_eq!(yard.ledger_count(issued), 2);
}

/// K and OPc of the second record are refused whenever they come.
fn refused_by_the_token(yard: &Yard, shim: &mut Shim, keys: &[Value], seen: &mut BTreeSet<String>) {
    yard.prebound_order("PO-token", keys).submit().exits(0);
    let calls = |shim: &Shim| shim.calls("bindery-demo", "C_EncryptInit");
    // What a run encrypts before its first record, the order's batch key being there: of a held order it has none to encrypt.
    yard.run(&["order", "hold", "PO-token"]).exits(0);
    yard.run(&["run"]).exits(5);
    let before = calls(shim);
    yard.run(&["run"]).exits(5);
    let opening = calls(shim) - before;
    yard.run(&["order", "hold", "PO-token", "--release"]).exits(0);
    // Both together, then each alone: K and OPc of the first, asked twice, then the second's K three times.
    let second = opening + 1 + 4 + 1;
    for (from, to) in [(opening + 1, opening + 1), (second, second + 2)] {
        shim.set(on(&["C_EncryptInit"]).calls(from, to).answers(CKR_DATA_INVALID));
    }
    let err = yard.run(&["run"]).exits(5).err;
    assert_eq!(class_told(yard, "PO-token", "2", "3 attempts", &err), "hsm_mech");
    seen.insert("hsm_mech".to_owned());
}
