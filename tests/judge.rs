//! The judge must be able to fail: flip any byte of a bound package, swap two packages, edit any file of a bundle - it says FAIL
//! and ends with 8. And to be right for the right reason: a forger who holds the manifest key and adapts every hash is caught too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bindery::config::Site;
use bindery::export::manifest::signature_der;
use bindery::hsm::pkcs11::{Session, Token};
use bindery::hsm::{Hsm, HsmSession, KeyRef, Role};
use bindery::verify::{DpTrust, Euicc};
use openssl::pkey::PKey;
use openssl::x509::X509;
use serde_json::Value;
use yard::{Yard, lines_json};

/// A small bundle of both kinds: bound under session keys, and stored first and bound later.
struct Bundles {
    yard: Yard,
    session: PathBuf,
    stored: PathBuf,
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
    fn verdict(&self, bundle: &Path, code: i32) -> BTreeSet<String> {
        verdict(&self.yard, bundle, if bundle == self.session { "PO-1" } else { "PO-2" }, code)
    }
}

/// Verifies against the order, and gives the codes of what was found.
#[track_caller]
fn verdict(yard: &Yard, bundle: &Path, order_id: &str, code: i32) -> BTreeSet<String> {
    let (secrets, order) = (yard.path("fleet/secrets.jsonl"), yard.path(format!("orders/{order_id}.json")));
    let [bundle, secrets, order] = [bundle, &secrets, &order].map(|path| path.to_str().unwrap());
    let args = ["--json", "verify", bundle, "--secrets", secrets, "--order", order, "--all"];
    let report = yard.run(&args).exits(code).json();
    assert_eq!(report["verdict"], if code == 0 { "PASS" } else { "FAIL" });
    assert_eq!(report["notes"], serde_json::json!([]), "everything was compared");
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["check"].as_str().unwrap().to_owned()).collect()
}

/// Somebody who may sign: changes a bundle, lets hashes and tables follow, and signs the manifest anew with the site's own key.
struct Forger<'a> {
    bundle: &'a Path,
    token: &'a mut Session,
    key: KeyRef,
    sound: Vec<(PathBuf, Vec<u8>)>,
}

impl<'a> Forger<'a> {
    fn of(bundle: &'a Path, token: &'a mut Session, key: KeyRef) -> Self {
        let sound = yard::files_below(bundle).into_iter().map(|path| (path.clone(), fs::read(&path).unwrap()));
        Self { bundle, token, key, sound: sound.collect() }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.bundle.join(name)).unwrap()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.bundle.join(name), content).unwrap();
    }

    fn records(&self) -> Vec<Value> {
        lines_json(&self.bundle.join("orders.jsonl"))
    }

    fn write_records(&self, records: &[Value]) {
        self.write("orders.jsonl", records.iter().map(|record| format!("{record}\n")).collect::<String>());
    }

    /// Exchanges two texts wherever they stand in these files.
    fn exchange(&self, names: &[&str], one: &str, other: &str) {
        for name in names {
            let text = self.text(name);
            assert!(text.contains(one) || text.contains(other), "{name} has something to exchange");
            self.write(name, text.replace(one, "\0").replace(other, one).replace('\0', other));
        }
    }

    /// Packages with other octets; records and results tell the new hashes.
    fn write_packages(&self, packages: &[u8]) {
        let name = "packages-00001.bpp";
        self.write(name, packages);
        for record in self.records() {
            let hash = yard::sha256_hex(&package(self.bundle, &record));
            let old = record["sha256"].as_str().unwrap();
            // Two packages exchanged exchange their hashes: each record is told by its offset.
            let replaced = |text: String, near: String| {
                let lines = text.lines().map(|line| match line.contains(&near) {
                    true => line.replace(old, &hash) + "\n",
                    false => format!("{line}\n"),
                });
                lines.collect::<String>()
            };
            let iccid = record["iccid"].as_str().unwrap();
            for table in ["orders.jsonl", "results.csv"] {
                self.write(table, replaced(self.text(table), iccid.to_owned()));
            }
        }
    }

    /// The manifest as an honest site would have written it over the files as they are now.
    fn seal(&mut self) {
        let mut manifest: Value = serde_json::from_str(&self.text("manifest.json")).unwrap();
        for (name, entry) in manifest["files"].as_object_mut().unwrap() {
            let content = fs::read(self.bundle.join(name)).unwrap();
            *entry = serde_json::json!({"sha256": yard::sha256_hex(&content), "bytes": content.len()});
        }
        let manifest = manifest.to_string();
        let raw = self.token.sign(self.key, &openssl::sha::sha256(manifest.as_bytes())).unwrap();
        self.write("manifest.sig", signature_der(&raw).unwrap());
        self.write("manifest.json", manifest);
    }

    fn restore(&self) {
        self.sound.iter().for_each(|(path, content)| fs::write(path, content).unwrap());
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
fn a_forger_with_the_manifest_key_is_caught_by_what_the_packages_and_the_order_say() {
    type Forgery = (&'static str, &'static [&'static str], fn(&Forger<'_>));
    const TABLES: &[&str] = &["orders.jsonl", "results.csv", "activation-codes.csv", "core.csv"];
    fn text(record: &Value, name: &str) -> String {
        record[name].as_str().unwrap().to_owned()
    }
    let forgeries: &[Forgery] = &[
        ("two packages exchanged", &["smdp-sign", "segment-mac"], |forger| {
            let records = forger.records();
            let (one, other) = (package(forger.bundle, &records[0]), package(forger.bundle, &records[1]));
            assert_eq!(one.len(), other.len(), "packages of one template have one length");
            let third = package(forger.bundle, &records[2]);
            forger.write_packages(&[other, one, third].concat());
        }),
        ("one octet of a package", &["segment-mac"], |forger| {
            let records = forger.records();
            let mut packages: Vec<u8> = records.iter().flat_map(|record| package(forger.bundle, record)).collect();
            let middle = records[1]["offset"].as_u64().unwrap() + records[1]["length"].as_u64().unwrap() / 2;
            packages[middle as usize] ^= 1;
            forger.write_packages(&packages);
        }),
        ("an IMSI of a record", &["results", "core-file", "record-match", "order-match"], |forger| {
            let mut records = forger.records();
            records[1]["imsi"] = "001019999999999".into();
            forger.write_records(&records);
        }),
        ("an IMSI everywhere", &["record-match", "order-match"], |forger| {
            let imsi = text(&forger.records()[1], "imsi");
            forger.exchange(&["orders.jsonl", "results.csv", "core.csv"], &imsi, "001019999999999");
        }),
        ("the ICCIDs of two records", &["results", "record-match", "order-match"], |forger| {
            let mut records = forger.records();
            let (one, other) = (records[0]["iccid"].clone(), records[1]["iccid"].clone());
            (records[0]["iccid"], records[1]["iccid"]) = (other, one);
            forger.write_records(&records);
        }),
        ("two ICCIDs everywhere", &["record-match", "order-match"], |forger| {
            let records = forger.records();
            forger.exchange(TABLES, &text(&records[0], "iccid"), &text(&records[1], "iccid"));
        }),
        ("ki_enc of two rows", &["core-secret", "core-auth"], |forger| {
            let rows = yard::rows_csv(&forger.bundle.join("core.csv"));
            forger.exchange(&["core.csv"], &rows[0]["ki_enc"], &rows[1]["ki_enc"]);
        }),
        ("a row without result", &["results", "counts"], |forger| {
            let results = forger.text("results.csv");
            let kept: Vec<&str> = results.lines().enumerate().filter(|(i, _)| *i != 2).map(|(_, line)| line).collect();
            forger.write("results.csv", kept.join("\n") + "\n");
        }),
        ("an activation code", &["activation-code"], |forger| {
            let code = text(&forger.records()[1], "activation_code");
            let other = code.replace("1$", "1$evil.");
            for name in ["orders.jsonl", "activation-codes.csv"] {
                forger.write(name, forger.text(name).replace(&code, &other));
            }
        }),
        ("the counts", &["counts"], |forger| {
            let recon = serde_json::json!({"rows": 3, "issued": 2, "refused": 1, "held": 0, "cancelled": 0});
            forger.write("recon.json", recon.to_string());
        }),
        ("more rows than were ordered", &["counts", "order-rows"], |forger| {
            let recon = serde_json::json!({"rows": 4, "issued": 3, "refused": 1, "held": 0, "cancelled": 0});
            forger.write("recon.json", recon.to_string());
            let mut manifest: Value = serde_json::from_str(&forger.text("manifest.json")).unwrap();
            manifest["counts"] = recon;
            forger.write("manifest.json", manifest.to_string());
        }),
        ("one package for two records", &["unique", "package-coverage", "secret"], |forger| {
            let mut records = forger.records();
            let first = records[0].clone();
            for name in ["object", "offset", "length", "sha256", "transaction_id", "euicc_otpk"] {
                records[1][name] = first[name].clone();
            }
            forger.write_records(&records);
        }),
        ("two one-time keys", &["secret"], |forger| {
            let records = forger.records();
            forger.exchange(&["orders.jsonl"], &text(&records[0], "euicc_otpk"), &text(&records[1], "euicc_otpk"));
        }),
        ("the eUICCs of two records", &["secret", "order-match"], |forger| {
            let records = forger.records();
            let tables = ["orders.jsonl", "results.csv", "activation-codes.csv"];
            forger.exchange(&tables, &text(&records[0], "eid"), &text(&records[1], "eid"));
        }),
        ("another order", &["order-file"], |forger| {
            let mut manifest: Value = serde_json::from_str(&forger.text("manifest.json")).unwrap();
            manifest["order_sha256"] = "00".repeat(32).into();
            forger.write("manifest.json", manifest.to_string());
        }),
    ];
    let bundles = Bundles::made();
    // The one token of this process; every command has its own process.
    let token = Token::open(&Site::open(&bundles.yard.site()).unwrap()).unwrap();
    let key = token.key(&Role::Manifest).unwrap();
    let mut session = token.open_session().unwrap();
    for bundle in [&bundles.session, &bundles.stored] {
        let mut forger = Forger::of(bundle, &mut session, key);
        forger.seal();
        bundles.verdict(bundle, 0); // who changes nothing is believed: the signature is the site's
        for (what, expected, change) in forgeries {
            change(&forger);
            forger.seal();
            let codes = bundles.verdict(bundle, 8);
            for code in *expected {
                assert!(codes.contains(*code), "{what}: {code} is not among {codes:?}");
            }
            for code in ["file-hash", "file-missing", "manifest-form", "manifest-signature", "manifest-trust"] {
                assert!(!codes.contains(code), "{what}: only the manifest caught it: {codes:?}");
            }
            forger.restore();
        }
        bundles.verdict(bundle, 0);
    }
}

#[test]
fn an_order_of_several_lines_with_refused_rows_is_compared_row_by_row() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 7);
    // Line 1: EIDs and ICCIDs in rows out of order, of which row 2 is refused.
    let mut order = yard.prebound_order("PO-1", &keys[..3]);
    let eid = |at: usize| keys[at]["eid"].as_str().unwrap();
    let iccid = |n: u32| yard::iccid(&format!("89491111{n:010}"));
    let row = |row: u32, at: usize| format!("{row},{},{}\n", eid(at), iccid(row * 7));
    let csv = ["row,eid,iccid\n", &row(3, 0), &row(1, 1), &format!("2,{},1234\n", eid(2))].concat();
    order.rows(&csv, 3);
    order.line()["iccid"] = "rows".into();
    order.header["accept"] = "partial".into();
    // Line 2: without rows, the key file names the eUICCs. Line 7: stored profiles, the first for an eUICC of its own.
    let mut second = order.line().clone();
    second.as_object_mut().unwrap().remove("rows");
    let text: String = keys[3..5].iter().map(|key| format!("{key}\n")).collect();
    fs::write(yard.path("orders/second.jsonl"), &text).unwrap();
    let hash = yard::sha256_hex(text.as_bytes());
    second["euicc_data"] = serde_json::json!({"file": "second.jsonl", "sha256": hash});
    (second["line"], second["quantity"]) = (2.into(), 2.into());
    (second["iccid"], second["imsi"]) =
        (serde_json::json!({"first": iccid(500)}), serde_json::json!({"first": "001012222000009"}));
    let mut third = second.clone();
    third.as_object_mut().unwrap().remove("euicc_data");
    (third["line"], third["mode"], third["template"]) = (7.into(), "order".into(), "iot-minimal@1".into());
    (third["iccid"]["first"], third["imsi"]["first"]) = (iccid(900).into(), "001013333000009".into());
    third["rows"] = serde_json::json!([{"eid": eid(5)}, {}]);
    order.header["lines"].as_array_mut().unwrap().extend([second, third]);
    order.submit().exits(5);
    yard.run(&["run"]).exits(0);
    let own = yard.outbox("PO-1");
    verdict(&yard, &own, "PO-1", 0);
    let key_file = yard.path("fleet/euicc.jsonl");
    let bound = yard.run(&["--json", "bind", "PO-1", "--euicc-data", key_file.to_str().unwrap()]).json();
    assert_ne!(bound["bound"], 0);
    verdict(&yard, Path::new(bound["bundle"].as_str().unwrap()), "PO-1", 0);
    // The comparison needs the files that the order names.
    fs::write(yard.path("orders/PO-1.rows.csv"), csv.replace("\n3,", "\n2,")).unwrap();
    assert_eq!(verdict(&yard, &own, "PO-1", 8), ["order-file", "order-rows"].map(str::to_owned).into());
}
