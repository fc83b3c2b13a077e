//! The judge must be able to fail: flip any byte of a bound package, swap two packages, edit any file of a bundle - it says FAIL
//! and ends with 8.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::fs;
use std::path::Path;

use bindery::verify::{DpTrust, Euicc};
use openssl::pkey::PKey;
use openssl::x509::X509;
use serde_json::Value;
use yard::{Yard, lines_json};

/// A small bundle of both kinds: bound under session keys, and stored first and bound later.
struct Bundles {
    yard: Yard,
    session: std::path::PathBuf,
    stored: std::path::PathBuf,
}

impl Bundles {
    fn made() -> Self {
        let yard = Yard::demo();
        let keys = yard.fleet("fleet", 6);
        let mut order = yard.prebound_order("PO-1", &keys[..3]);
        order.line()["template"] = "bootstrap@1".into();
        order.submit().exits(0);
        let eids: Vec<&str> = keys[3..].iter().map(|key| key["eid"].as_str().unwrap()).collect();
        let mut order = yard.stored_order("PO-2", &eids);
        order.line()["template"] = "iot-minimal@1".into();
        order.submit().exits(0);
        yard.run(&["run"]).exits(0);
        let key_file = yard.path("fleet/euicc.jsonl");
        let bound = yard.run(&["--json", "bind", "PO-2", "--euicc-data", key_file.to_str().unwrap()]).exits(0).json();
        let (session, stored) = (yard.outbox("PO-1"), bound["bundle"].as_str().unwrap().into());
        Self { yard, session, stored }
    }

    #[track_caller]
    fn verdict(&self, bundle: &Path, code: i32) -> yard::Ran {
        let secrets = self.yard.path("fleet/secrets.jsonl");
        let args = ["verify", bundle.to_str().unwrap(), "--secrets", secrets.to_str().unwrap(), "--all"];
        let ran = self.yard.run(&args).exits(code);
        assert!(ran.out.contains(if code == 0 { "PASS" } else { "FAIL" }), "{}", ran.out);
        ran
    }
}

/// The package of a record.
fn package(bundle: &Path, record: &Value) -> Vec<u8> {
    let object = fs::read(bundle.join(record["object"].as_str().unwrap())).unwrap();
    let number = |name: &str| record[name].as_u64().unwrap() as usize;
    object[number("offset")..number("offset") + number("length")].to_vec()
}

#[test]
fn every_flipped_byte_of_a_bound_package_is_refused_by_its_euicc() {
    let bundles = Bundles::made();
    let certificates = |dir: &Path| -> Vec<X509> {
        let pems = fs::read_dir(dir).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
        pems.flat_map(|pem| X509::stack_from_pem(&pem).unwrap()).collect()
    };
    let cis = certificates(&bundles.yard.site().join("certs/ci"));
    let secrets = lines_json(&bundles.yard.path("fleet/secrets.jsonl"));
    for bundle in [&bundles.session, &bundles.stored] {
        let ours: Vec<X509> = ["dpauth.pem", "dppb.pem"]
            .iter()
            .flat_map(|name| X509::stack_from_pem(&fs::read(bundle.join("certs").join(name)).unwrap()).unwrap())
            .collect();
        let now = jiff::Timestamp::now().as_second();
        let trust = DpTrust::establish(&ours, &cis, now).unwrap_or_else(|_| panic!("our chains are trusted"));
        let record = &lines_json(&bundle.join("orders.jsonl"))[0];
        let secret = secrets.iter().find(|line| line["euicc_otpk"] == record["euicc_otpk"]).unwrap();
        let otpk = data_encoding::BASE64.decode(secret["euicc_otpk"].as_str().unwrap().as_bytes()).unwrap();
        let otsk = PKey::private_key_from_pem(secret["euicc_otsk"].as_str().unwrap().as_bytes()).unwrap();
        let eid = record["eid"].as_str().unwrap().parse().unwrap();
        let euicc = Euicc::new(eid, otsk, otpk.try_into().unwrap()).unwrap();
        let mut bpp = package(bundle, record);
        assert!(euicc.open(&bpp, &trust, &[]).is_ok());
        for at in 0..bpp.len() {
            bpp[at] ^= 1 << (at % 8);
            assert!(euicc.open(&bpp, &trust, &[]).is_err(), "{}: octet {at}", bundle.display());
            bpp[at] ^= 1 << (at % 8);
        }
        assert!(euicc.open(&bpp, &trust, &[]).is_ok(), "the package is whole again");
    }
}

#[test]
fn a_changed_bundle_ends_with_8_whatever_was_changed() {
    let bundles = Bundles::made();
    for bundle in [&bundles.session, &bundles.stored] {
        bundles.verdict(bundle, 0);
        for path in yard::files_below(bundle) {
            let sound = fs::read(&path).unwrap();
            if sound.is_empty() {
                continue;
            }
            let mut changed = sound.clone();
            let at = sound.len() / 2;
            changed[at] ^= 0x01;
            fs::write(&path, &changed).unwrap();
            bundles.verdict(bundle, 8);
            fs::write(&path, &sound).unwrap();
        }
        let first = bundle.join("packages-00001.bpp");
        let sound = fs::read(&first).unwrap();
        fs::write(&first, &sound[..sound.len() - 1]).unwrap();
        bundles.verdict(bundle, 8);
        fs::write(&first, &sound).unwrap();
        fs::write(bundle.join("stray.txt"), b"not ours").unwrap();
        bundles.verdict(bundle, 8);
        fs::remove_file(bundle.join("stray.txt")).unwrap();
        bundles.verdict(bundle, 0);
    }
}

#[test]
fn swapped_packages_are_refused_even_when_records_and_hashes_follow() {
    let bundles = Bundles::made();
    let orders = bundles.session.join("orders.jsonl");
    let mut records = lines_json(&orders);
    let (first, second) = (package(&bundles.session, &records[0]), package(&bundles.session, &records[1]));
    assert_eq!(first.len(), second.len(), "packages of one template have one length");
    let path = bundles.session.join("packages-00001.bpp");
    let mut swapped = fs::read(&path).unwrap();
    let length = first.len();
    swapped[..length].copy_from_slice(&second);
    swapped[length..2 * length].copy_from_slice(&first);
    fs::write(&path, &swapped).unwrap();
    bundles.verdict(&bundles.session, 8);
    // A liar who adapts the records' hashes still cannot make one eUICC open the other's package.
    let (one, other) = (records[0]["sha256"].clone(), records[1]["sha256"].clone());
    (records[0]["sha256"], records[1]["sha256"]) = (other, one);
    let text: String = records.iter().map(|record| format!("{record}\n")).collect();
    fs::write(&orders, text).unwrap();
    let ran = bundles.verdict(&bundles.session, 8);
    assert!(ran.err.contains("smdp-sign") || ran.err.contains("signature") || ran.err.contains("MAC"), "{}", ran.err);
}
