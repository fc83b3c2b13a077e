//! A bundle made by the tests' own hand: right it passes, and each thing that can be wrong with it is told under its code.

use std::collections::BTreeMap;
use std::fs;

use data_encoding::{BASE64, HEXLOWER};
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use openssl::symm::{Cipher, Crypter, Mode};
use serde_json::{Value, json};

use super::*;
use crate::ids::Iccid;
use crate::ids::{Eid, Imsi};
use crate::verify::builder::pki::{NOW_UNIX_S, Pki, Role, self_signed};
use crate::verify::builder::{Maker, Upp, key_pair};

const CORE_KEY: [u8; 32] = [0x42; 32];

struct TestBundle {
    dir: tempfile::TempDir,
    pki: Pki,
    manifest_key: PKey<Private>,
    records: Vec<Value>,
    files: BTreeMap<String, Vec<u8>>,
    counts: Value,
    order: Value,
}

impl TestBundle {
    /// Three packages, one refused row.
    fn new() -> Self {
        Self::with(|_, _| {})
    }

    fn with(change: impl Fn(usize, &mut Upp)) -> Self {
        let pki = Pki::new();
        let mut bundle = Self {
            dir: tempfile::tempdir().unwrap(),
            manifest_key: key_pair().0,
            records: Vec::new(),
            files: BTreeMap::new(),
            counts: json!({"rows": 4, "issued": 3, "refused": 1, "held": 0, "cancelled": 0}),
            order: json!({
                "schema": "bindery.order/1", "tenant": "acme", "order_id": "PO-1",
                "lines": [{
                    "line": 1, "mode": "prebound", "quantity": 4, "iccid": {"first": "89000123456789012341"},
                    "imsi": {"first": "001010123456063"}, "metadata": {"class": "operational"}, "rows": [],
                }],
            }),
            pki,
        };
        let mut packages = Vec::new();
        let mut secrets = String::new();
        let mut core = "iccid,imsi,algorithm,ki_enc,opc_enc,transport_key,scheme\n".to_owned();
        for i in 0..3_usize {
            let iccid = "89000123456789012341".parse::<Iccid>().unwrap().plus(i as u64).unwrap();
            let imsi = "001010123456063".parse::<Imsi>().unwrap().plus(i as u64).unwrap();
            let mut upp = Upp {
                header_iccid: iccid.to_string(),
                ef_iccid: Some(iccid.to_string()),
                k: vec![i as u8 + 1; 16],
                opc: vec![i as u8 + 11; 16],
                ota_keys: vec![vec![i as u8 + 21; 16], vec![i as u8 + 31; 16]],
                acc: (1_u16 << imsi.last_digit()).to_be_bytes(),
                ..Upp::default()
            };
            upp.imsi[8] = imsi.last_digit() << 4 | 6;
            change(i, &mut upp);
            let mut maker =
                Maker::new(Eid::from_body(&format!("8904903212345123450000000000{i:02}")).unwrap(), &bundle.pki.pb_key);
            let at = maker.metadata.windows(2).position(|w| w == [0x5A, 10]).unwrap() + 2;
            for (octet, pair) in maker.metadata[at..at + 10].iter_mut().zip(iccid.as_str().as_bytes().chunks(2)) {
                *octet = (pair[1] - b'0') << 4 | (pair[0] - b'0');
            }
            maker.upp = upp.der();
            maker.transaction_id = vec![i as u8 + 1; 16];
            let bpp = maker.bpp();
            bundle.order["lines"][0]["rows"].as_array_mut().unwrap().push(json!({"eid": maker.eid.to_string()}));
            let matching_id = format!("ABCDEFGHJKLMNPQR{i:04}");
            let otpk = BASE64.encode(&maker.otpk_euicc);
            let pem = String::from_utf8(maker.otsk_euicc.private_key_to_pem_pkcs8().unwrap()).unwrap();
            secrets +=
                &json!({"eid": maker.eid.to_string(), "euicc_otpk": otpk, "euicc_otsk": pem, "x_note": 1}).to_string();
            secrets.push('\n');
            core += &format!("{iccid},{imsi},milenage,{},{},demo,aes-ecb\n", encrypted(&upp.k), encrypted(&upp.opc));
            bundle.records.push(json!({
                "eid": maker.eid.to_string(), "iccid": iccid.to_string(), "imsi": imsi.to_string(),
                "profile_class": "operational", "matching_id": matching_id, "smdp_address": "smdp.example.com",
                "smdp_oid": "2.999.10", "activation_code": format!("LPA:1$smdp.example.com${matching_id}"),
                "cc_required": false, "metadata_sha256": HEXLOWER.encode(&sha256(&maker.metadata)),
                "upp_sha256": HEXLOWER.encode(&sha256(&maker.upp)), "mode": "prebound", "object": "packages-00001.bpp",
                "offset": packages.len(), "length": bpp.len(), "sha256": HEXLOWER.encode(&sha256(&bpp)),
                "transaction_id": HEXLOWER.encode(&maker.transaction_id), "euicc_otpk": otpk, "state": "exported",
            }));
            packages.extend(bpp);
        }
        let mut put = |name: &str, content: &[u8]| drop(bundle.files.insert(name.into(), content.to_vec()));
        put("packages-00001.bpp", &packages);
        put("core.csv", core.as_bytes());
        put("ack.json", b"{}");
        put("rejects.csv", b"row,column,value,code,message,hint\n4,iccid,8900**,luhn,wrong,correct it\n");
        put("certs/dpauth.pem", &bundle.pki.leaf(Role::Auth, "2.999.10").to_pem().unwrap());
        put("certs/dppb.pem", &bundle.pki.leaf(Role::Pb, "2.999.10").to_pem().unwrap());
        put("certs/manifest.pem", &self_signed(&bundle.manifest_key).to_pem().unwrap());
        fs::write(bundle.dir.path().join("secrets.jsonl"), secrets).unwrap();
        fs::write(bundle.dir.path().join("core.key"), HEXLOWER.encode(&CORE_KEY) + "\n").unwrap();
        bundle.write_tables();
        bundle
    }

    /// Makes the files that repeat the records.
    fn write_tables(&mut self) {
        let mut orders = String::new();
        let mut results = "row,eid,iccid,imsi,state,error_class,object,offset,length,sha256,matching_id\n".to_owned();
        let mut codes = "ICCID,ACTIVATION CODE,EID\n".to_owned();
        for (row, record) in (1..).zip(&self.records) {
            let field =
                |name: &str| record[name].as_str().map(str::to_owned).unwrap_or_else(|| record[name].to_string());
            orders += &format!("{record}\n");
            let names = ["eid", "iccid", "imsi", "state", "", "object", "offset", "length", "sha256", "matching_id"];
            let values: Vec<_> = names.map(|n| if n.is_empty() { String::new() } else { field(n) }).to_vec();
            results += &format!("{row},{}\n", values.join(","));
            codes += &format!("{},{},{}\n", field("iccid"), field("activation_code"), field("eid"));
        }
        results += "4,,,,rejected,input,,,,,\n";
        self.files.insert("orders.jsonl".into(), orders.into());
        self.files.insert("results.csv".into(), results.into());
        self.files.insert("activation-codes.csv".into(), codes.into());
        self.files.insert("recon.json".into(), self.counts.to_string().into());
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    /// Writes all files and a fresh manifest.
    fn seal(&self) -> &Self {
        let mut listed = serde_json::Map::new();
        for (name, content) in &self.files {
            let path = self.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            listed.insert(name.clone(), json!({"sha256": HEXLOWER.encode(&sha256(content)), "bytes": content.len()}));
        }
        let order = self.order.to_string();
        let manifest = json!({
            "schema": "bindery.manifest/1", "files": listed, "counts": self.counts, "tenant": "acme", "order_id": "PO-1",
            "rev": 1, "order_sha256": HEXLOWER.encode(&sha256(order.as_bytes())),
        });
        fs::write(self.dir.path().join("order.json"), order).unwrap();
        let manifest = manifest.to_string();
        let mut signer = Signer::new(openssl::hash::MessageDigest::sha256(), &self.manifest_key).unwrap();
        signer.update(manifest.as_bytes()).unwrap();
        fs::write(self.path().join("manifest.json"), manifest).unwrap();
        fs::write(self.path().join("manifest.sig"), signer.sign_to_vec().unwrap()).unwrap();
        self
    }

    fn options(&self) -> LoadOptions {
        LoadOptions {
            secrets: self.dir.path().join("secrets.jsonl"),
            core_key: Some(self.dir.path().join("core.key")),
            order: Some(self.dir.path().join("order.json")),
            cis: vec![self.pki.ci()],
            manifest_certificates: vec![self_signed_like(&self.files["certs/manifest.pem"])],
            now_unix_s: NOW_UNIX_S,
            ordered_acc: Vec::new(),
        }
    }

    fn judge(&self) -> Report {
        Bundle::load(&self.path(), self.options()).unwrap().judge(Sample::All, &in_turn).unwrap()
    }

    /// The codes of everything found.
    fn codes(&self) -> Vec<&'static str> {
        self.codes_under(self.options())
    }

    fn codes_under(&self, options: LoadOptions) -> Vec<&'static str> {
        let report = Bundle::load(&self.path(), options).unwrap().judge(Sample::All, &in_turn).unwrap();
        let mut codes: Vec<_> = report.findings.iter().map(|f| f.check.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    fn replace(&mut self, file: &str, from: &str, to: &str) {
        let text = String::from_utf8(self.files[file].clone()).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        self.files.insert(file.into(), text.replacen(from, to, 1).into_bytes());
    }
}

fn self_signed_like(pem: &[u8]) -> X509 {
    X509::from_pem(pem).unwrap()
}

fn encrypted(value: &[u8]) -> String {
    let mut crypter = Crypter::new(Cipher::aes_256_ecb(), Mode::Encrypt, &CORE_KEY, None).unwrap();
    crypter.pad(false);
    let mut out = vec![0; value.len() + 16];
    let n = crypter.update(value, &mut out).unwrap();
    HEXLOWER.encode(&out[..n])
}

#[test]
fn a_sound_bundle_passes_with_all_its_packages() {
    let bundle = TestBundle::new();
    let report = bundle.seal().judge();
    assert_eq!(report.findings, []);
    assert_eq!((report.verdict(), report.records, report.packages, report.checked), ("PASS", 3, 3, 3));
    assert_eq!(report.notes, Vec::<String>::new());
}

#[test]
fn a_sample_opens_one_package_and_says_so() {
    let bundle = TestBundle::new();
    bundle.seal();
    let report =
        Bundle::load(&bundle.path(), bundle.options()).unwrap().judge("1%".parse().unwrap(), &in_turn).unwrap();
    assert_eq!((report.checked, report.packages), (1, 3));
    assert!(report.notes[0].contains("1 of 3"));
}

#[test]
fn a_record_that_does_not_come_back_is_not_passed_over() {
    let bundle = TestBundle::new();
    bundle.seal();
    let lossy = |indexes: &[usize], check: &(dyn Fn(usize) -> Checked + Sync)| in_turn(&indexes[1..], check);
    let fault = Bundle::load(&bundle.path(), bundle.options()).unwrap().judge(Sample::All, &lossy).err().unwrap();
    assert_eq!(fault.exit, Exit::Bug);
}

#[test]
fn what_is_changed_after_signing_is_told() {
    let bundle = TestBundle::new();
    let changed = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        bundle.seal();
        let path = bundle.path().join(name);
        let mut content = fs::read(&path).unwrap();
        change(&mut content);
        fs::write(path, content).unwrap();
        bundle.codes()
    };
    let flip = |content: &mut Vec<u8>| {
        let middle = content.len() / 2;
        content[middle] ^= 1;
    };
    for name in ["packages-00001.bpp", "core.csv", "certs/dppb.pem", "ack.json", "recon.json", "orders.jsonl"] {
        assert!(changed(name, &flip).contains(&"file-hash"), "{name}");
    }
    assert_eq!(changed("packages-00001.bpp", &flip), ["file-hash", "package-hash", "segment-mac"]);
    assert_eq!(changed("ack.json", &|content| content.push(b' ')), ["file-hash"]);
    assert!(changed("manifest.json", &|content| content.push(b' ')).contains(&"manifest-signature"));
    assert!(changed("manifest.sig", &flip).contains(&"manifest-signature"));
    assert!(changed("manifest.sig", &|content| content.clear()).contains(&"manifest-signature"));
    bundle.seal();
    fs::write(bundle.path().join("extra"), "x").unwrap();
    assert_eq!(bundle.codes(), ["file-unlisted"]);
    fs::remove_file(bundle.path().join("extra")).unwrap();
    std::os::unix::fs::symlink("ack.json", bundle.path().join("link")).unwrap();
    assert_eq!(bundle.codes(), ["file-unlisted"]);
    fs::remove_file(bundle.path().join("link")).unwrap();
    fs::remove_file(bundle.path().join("ack.json")).unwrap();
    assert_eq!(bundle.codes(), ["file-missing"]);
    fs::remove_file(bundle.path().join("manifest.json")).unwrap();
    assert!(bundle.codes().contains(&"manifest-form"));
}

#[test]
fn a_manifest_signed_by_a_stranger_is_self_asserted() {
    let mut bundle = TestBundle::new();
    bundle.seal();
    let mut options = bundle.options();
    options.manifest_certificates.clear();
    let report = Bundle::load(&bundle.path(), options).unwrap().judge(Sample::All, &in_turn).unwrap();
    assert!(report.findings[0].message.contains("self-asserted"));
    let site = bundle.options().manifest_certificates;
    bundle.manifest_key = key_pair().0;
    let stranger = self_signed(&bundle.manifest_key).to_pem().unwrap();
    bundle.files.insert("certs/manifest.pem".into(), stranger);
    bundle.seal();
    let options = LoadOptions { manifest_certificates: site, ..bundle.options() };
    let report = Bundle::load(&bundle.path(), options).unwrap().judge(Sample::All, &in_turn).unwrap();
    assert_eq!(report.findings.iter().map(|f| f.check).collect::<Vec<_>>(), [Check::ManifestTrust]);
}

#[test]
fn two_packages_exchanged_are_told_for_both_records() {
    let mut bundle = TestBundle::new();
    for name in ["offset", "length", "sha256"] {
        let (first, second) = (bundle.records[0][name].clone(), bundle.records[1][name].clone());
        bundle.records[0][name] = second;
        bundle.records[1][name] = first;
    }
    bundle.write_tables();
    let report = bundle.seal().judge();
    let failed: Vec<_> =
        report.findings.iter().filter(|f| f.check == Check::SmdpSign).filter_map(|f| f.record.as_deref()).collect();
    assert_eq!(failed.len(), 2);
    assert!(failed[0].starts_with("row 1, EID 890490***") && failed[1].starts_with("row 2, EID 890490***"));
    assert_eq!(bundle.codes(), ["segment-mac", "smdp-sign"]);
}

#[test]
fn each_member_of_a_record_is_compared_with_the_package() {
    for (name, value) in [
        ("upp_sha256", json!("00".repeat(32))),
        ("metadata_sha256", json!("00".repeat(32))),
        ("transaction_id", json!("aa")),
        ("profile_class", json!("test")),
        ("imsi", json!("001010123456069")),
    ] {
        let mut bundle = TestBundle::new();
        bundle.records[2][name] = value;
        bundle.write_tables();
        if name == "imsi" {
            bundle.replace("core.csv", "001010123456065", "001010123456069");
        }
        bundle.seal();
        let blind = LoadOptions { order: None, ..bundle.options() };
        assert_eq!(bundle.codes_under(blind), ["record-match"], "{name}: without the order the package tells");
    }
    let mut bundle = TestBundle::new();
    bundle.records[2]["sha256"] = json!("00".repeat(32));
    bundle.write_tables();
    assert_eq!(bundle.seal().codes(), ["package-hash"]);
}

#[test]
fn each_table_has_a_case_that_breaks_it() {
    type Change = &'static dyn Fn(&mut TestBundle);
    let cases: &[(&str, Change)] = &[
        ("counts", &|b| b.counts["rows"] = json!(5)),
        ("counts", &|b| b.replace("recon.json", "\"held\":0", "\"held\":1")),
        ("counts", &|b| b.replace("results.csv", "4,,,,rejected,input", "4,,,,held,")),
        ("results", &|b| b.replace("results.csv", "rejected,input", "rejected,")),
        ("results", &|b| b.replace("results.csv", "exported", "bound")),
        ("results", &|b| b.replace("results.csv", "89000123456789012341", "89000123456789012937")),
        ("rejects", &|b| b.replace("rejects.csv", "\n4,", "\n5,")),
        ("rejects", &|b| b.replace("rejects.csv", "\n4,", "\n1,msisdn,,length,wrong,correct it\n4,")),
        ("rejects", &|b| drop(b.files.remove("rejects.csv"))),
        ("activation-codes", &|b| b.replace("activation-codes.csv", "PQR0001,", "PQR0002,")),
        ("activation-codes", &|b| {
            b.replace("activation-codes.csv", "\n89000123456789012341", "\n89000123456789012358")
        }),
        ("core-file", &|b| b.replace("core.csv", "001010123456063", "001010123456064")),
        ("core-file", &|b| b.replace("core.csv", "aes-ecb", "rot13")),
        ("core-file", &|b| b.replace("core.csv", "\n89000123456789012358", "\n89000123456789012341")),
        ("core-file", &|b| b.replace("core.csv", "opc_enc", "opc")),
        ("core-secret", &|b| b.replace("core.csv", &encrypted(&[2; 16]), &encrypted(&[9; 16]))),
        ("core-secret", &|b| b.replace("core.csv", &encrypted(&[12; 16]), &encrypted(&[9; 16]))),
        ("core-secret", &|b| b.replace("core.csv", "milenage", "tuak")),
        ("core-auth", &|b| b.replace("core.csv", &encrypted(&[2; 16]), &encrypted(&[9; 16]))),
        ("core-auth", &|b| b.replace("core.csv", &encrypted(&[12; 16]), &encrypted(&[9; 16]))),
        ("core-auth", &|b| b.replace("core.csv", "milenage", "tuak")),
        ("record-form", &|b| b.replace("orders.jsonl", "\"mode\"", "\"ki\"")),
        ("activation-code", &|b| {
            b.records[0]["activation_code"] = json!("LPA:1$smdp.example.com$OTHER");
            b.write_tables();
        }),
        ("dp-chain", &|b| {
            drop(b.files.insert("certs/dppb.pem".into(), b.pki.leaf(Role::Pb, "2.999.12").to_pem().unwrap()))
        }),
        ("dp-chain", &|b| {
            drop(b.files.insert("certs/dppb.pem".into(), Pki::new().leaf(Role::Pb, "2.999.10").to_pem().unwrap()))
        }),
        ("dp-chain", &|b| {
            b.records[0]["smdp_oid"] = json!("2.999.12");
            b.write_tables();
        }),
        ("package-coverage", &|b| b.files.get_mut("packages-00001.bpp").unwrap().push(0)),
        ("package-coverage", &|b| drop(b.files.insert("packages-00002.bpp".into(), vec![0]))),
        ("package-coverage", &|b| {
            b.records[1]["offset"] = json!(1);
            b.write_tables();
        }),
        ("package-coverage", &|b| {
            b.records[1]["object"] = json!("../secrets.jsonl");
            b.write_tables();
        }),
        ("unique", &|b| {
            b.records[1]["matching_id"] = b.records[0]["matching_id"].clone();
            b.records[1]["activation_code"] = b.records[0]["activation_code"].clone();
            b.write_tables();
        }),
        ("unique", &|b| {
            b.records[1]["iccid"] = b.records[0]["iccid"].clone();
            b.write_tables();
        }),
        ("unique", &|b| {
            b.records[1]["imsi"] = b.records[0]["imsi"].clone();
            b.write_tables();
        }),
    ];
    for (i, (code, change)) in cases.iter().enumerate() {
        let mut bundle = TestBundle::new();
        change(&mut bundle);
        let codes = bundle.seal().codes();
        assert!(codes.contains(code), "case {i}: {code}, found {codes:?}");
    }
}

#[test]
fn a_bundle_without_core_file_is_told() {
    let mut bundle = TestBundle::new();
    bundle.files.remove("core.csv");
    assert_eq!(bundle.seal().codes(), ["file-missing"]);
}

#[test]
fn a_bundle_that_agrees_with_itself_but_not_with_the_order_is_told() {
    type Change = &'static dyn Fn(&mut Value);
    let cases: &[(&str, &str, Change)] = &[
        ("order-match", "ICCID", &|line| line["iccid"]["first"] = json!("89000123456789012358")),
        ("order-match", "ICCID", &|line| line["iccid"] = json!("rows")),
        ("order-match", "IMSI", &|line| line["imsi"]["first"] = json!("001010123456062")),
        ("order-match", "IMSI", &|line| line["imsi"] = json!(null)),
        ("order-match", "EID", &|line| line["rows"].as_array_mut().unwrap().swap(0, 1)),
        ("order-match", "EID", &|line| line["rows"][0] = json!({"row": 1})),
        ("order-match", "matching id", &|line| line["rows"][0]["matching_id"] = json!("ABCDEFGHJKLMNPQR9999")),
        ("order-match", "profile_class", &|line| line["metadata"]["class"] = json!("test")),
        ("order-match", "cc_required", &|line| line["confirmation_code"] = json!("1234")),
        ("order-match", "mode", &|line| line["mode"] = json!("session")),
        ("order-match", "algorithm", &|line| line["algorithm"] = json!("tuak")),
        ("order-rows", "ordered", &|line| line["quantity"] = json!(5)),
        ("order-rows", "ordered", &|line| line["quantity"] = json!(3)),
        ("order-rows", "no row 3", &|line| drop(line["rows"].as_array_mut().unwrap().pop())),
        ("order-file", "keys", &|line| line["euicc_data"] = json!({"file": "keys.jsonl", "sha256": "00"})),
        ("order-file", "outside", &|line| line["rows"] = json!({"file": "../rows.csv", "sha256": "00", "count": 3})),
        ("order-file", "quantity", &|line| line["quantity"] = json!("many")),
    ];
    for (code, words, change) in cases {
        let mut bundle = TestBundle::new();
        change(&mut bundle.order["lines"][0]);
        let findings = bundle.seal().judge().findings;
        assert!(findings.iter().all(|f| f.check.as_str() == *code), "{words}: {findings:?}");
        assert!(findings.iter().any(|f| f.message.contains(words)), "{words}: {findings:?}");
    }
}

#[test]
fn two_records_for_one_row_are_told() {
    let mut bundle = TestBundle::new();
    bundle.replace("results.csv", "\n2,", "\n1,");
    let findings = bundle.seal().judge().findings;
    assert!(findings.iter().any(|f| f.check == Check::OrderRows && f.message.contains("issued twice")), "{findings:?}");
}

#[test]
fn a_variable_with_another_value_than_the_order_gives_the_row_is_told() {
    let number =
        |last: u8| vec![4, 0x91, 0x94, 0x03, last << 4 | 1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    let mut bundle = TestBundle::with(|i, upp| {
        let spn = [&[1][..], b"Brand", &[b'0' + i as u8], &[0xFF; 10]].concat();
        upp.files = vec![(0xB3, 0xAD, spn), (0xB4, 0xA5, vec![0x0A, 0xFF]), (0xB4, 0xA7, number(i as u8 + 1))];
    });
    let line = &mut bundle.order["lines"][0];
    line["vars"] = json!({"spn": {"column": "x_brand"}, "gid1": "0A", "msisdn": {"first": "493011"}, "pin1": "1234"});
    for (i, row) in line["rows"].as_array_mut().unwrap().iter_mut().enumerate() {
        row["x_brand"] = json!(format!("Brand{i}"));
    }
    let sound = bundle.order.clone();
    assert_eq!(bundle.seal().codes(), Vec::<&str>::new());
    type Change = (&'static str, fn(&mut Value));
    let changes: [Change; 7] = [
        ("spn", |line| line["rows"][1]["x_brand"] = json!("Brand0")),
        ("spn", |line| line["vars"]["spn"] = json!("Brand0")),
        ("gid1", |line| line["vars"]["gid1"] = json!("0B")),
        ("gid2", |line| line["vars"]["gid2"] = json!("0A")),
        ("msisdn", |line| line["vars"]["msisdn"] = json!({"first": "493012"})),
        ("msisdn", |line| line["vars"]["msisdn"] = json!("493011")),
        ("pin1", |line| line["vars"]["pin1"] = json!("1235")),
    ];
    for (name, change) in changes {
        bundle.order = sound.clone();
        change(&mut bundle.order["lines"][0]);
        let report = bundle.seal().judge();
        assert!(report.findings.iter().all(|f| f.check == Check::OrderValues && f.message.contains(name)), "{name}");
        assert!(!report.findings.is_empty(), "{name}");
    }
}

#[test]
fn packages_bound_later_answer_a_part_of_their_order() {
    let mut bundle = TestBundle::new();
    bundle.order["lines"][0]["mode"] = json!("order");
    bundle.order["lines"][0]["quantity"] = json!(9);
    assert_eq!(bundle.seal().judge().findings, []);
    bundle.order["lines"][0]["rows"][2] = json!({"eid": ""});
    assert_eq!(bundle.seal().judge().findings, [], "a profile for nobody in particular goes to whoever brings a key");
    bundle.order["lines"][0]["quantity"] = json!(3);
    assert_eq!(bundle.seal().codes(), ["order-rows"]);
}

#[test]
fn another_order_or_a_changed_one_is_refused_whole() {
    let mut bundle = TestBundle::new();
    bundle.seal();
    let path = bundle.dir.path().join("order.json");
    fs::write(&path, bundle.order.to_string() + " ").unwrap();
    assert_eq!(bundle.codes(), ["order-file"]);
    for (name, value) in [("tenant", json!("other")), ("order_id", json!("PO-2")), ("rev", json!(2))] {
        let sound = std::mem::replace(&mut bundle.order[name], value);
        assert_eq!(bundle.seal().codes(), ["order-file"], "{name}");
        bundle.order[name] = if name == "rev" { json!(1) } else { sound };
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(Bundle::load(&bundle.path(), bundle.options()).err().unwrap().exit, Exit::Config);
    let options = LoadOptions { order: None, ..bundle.options() };
    let report = Bundle::load(&bundle.path(), options).unwrap().judge(Sample::All, &in_turn).unwrap();
    assert!(report.is_pass() && report.notes[0].contains("not compared with the order"));
    assert!(report.totals.iter().all(|total| !total.check.needs_order()));
}

#[test]
fn keys_shared_by_two_profiles_are_told() {
    let codes = |change: &dyn Fn(usize, &mut Upp)| TestBundle::with(change).seal().codes();
    assert_eq!(codes(&|_, upp| upp.k = vec![7; 16]), ["unique"]);
    assert_eq!(codes(&|_, upp| upp.opc = vec![7; 16]), ["unique"]);
    assert_eq!(codes(&|i, upp| upp.ota_keys = vec![vec![7; 16], vec![i as u8 + 1; 16]]), ["unique"]);
}

#[test]
fn without_a_secret_or_with_a_strange_one_a_package_is_not_passed() {
    let bundle = TestBundle::new();
    bundle.seal();
    let path = bundle.dir.path().join("secrets.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = lines.lines().collect();
    fs::write(&path, lines[..2].join("\n")).unwrap();
    assert_eq!(bundle.codes(), ["secret"]);
    let mut strange: Value = serde_json::from_str(lines[2]).unwrap();
    strange["euicc_otsk"] = serde_json::from_str::<Value>(lines[1]).unwrap()["euicc_otsk"].clone();
    fs::write(&path, [lines[0], lines[1], &strange.to_string()].join("\n")).unwrap();
    assert_eq!(bundle.codes(), ["secret"]);
    strange["ki"] = json!("00");
    fs::write(&path, strange.to_string()).unwrap();
    let fault = Bundle::load(&bundle.path(), bundle.options()).err().unwrap();
    assert!(fault.exit == Exit::Config && fault.what.contains("\"ki\""));
}

#[test]
fn without_a_core_key_the_report_says_what_was_not_compared() {
    let mut bundle = TestBundle::new();
    bundle.replace("core.csv", &encrypted(&[2; 16]), &encrypted(&[9; 16]));
    bundle.seal();
    let options = LoadOptions { core_key: None, ..bundle.options() };
    let report = Bundle::load(&bundle.path(), options).unwrap().judge(Sample::All, &in_turn).unwrap();
    assert!(report.is_pass() && report.notes[0].contains("not compared with core.csv"));
    fs::write(bundle.dir.path().join("core.key"), "12").unwrap();
    assert_eq!(Bundle::load(&bundle.path(), bundle.options()).err().unwrap().exit, Exit::Config);
}

#[test]
fn an_order_record_is_checked_without_a_package() {
    let mut bundle = TestBundle::new();
    for name in ["object", "offset", "length", "sha256", "transaction_id", "euicc_otpk"] {
        bundle.records[2][name] = Value::Null;
    }
    bundle.records[2]["mode"] = json!("order");
    bundle.order["lines"][0]["quantity"] = json!(2);
    let stored = json!({
        "line": 2, "mode": "order", "quantity": 2, "iccid": "rows", "imsi": "rows", "metadata": {"class": "operational"},
        "rows": [bundle.records[2].clone()],
    });
    bundle.order["lines"].as_array_mut().unwrap().push(stored);
    let end = bundle.records[1]["offset"].as_u64().unwrap() + bundle.records[1]["length"].as_u64().unwrap();
    bundle.files.get_mut("packages-00001.bpp").unwrap().truncate(end as usize);
    bundle.write_tables();
    let results = String::from_utf8(bundle.files["results.csv"].clone()).unwrap().replace("null", "");
    let lines = ["line", "1", "1", "2", "2"];
    let rows = results.lines().zip(lines).map(|(row, line)| format!("{row},{line}\n"));
    let results = rows.collect::<String>().replace("\n3,", "\n1,").replace("\n4,", "\n2,");
    bundle.files.insert("results.csv".into(), results.into_bytes());
    bundle.replace("rejects.csv", "\n4,", "\n2,");
    let report = bundle.seal().judge();
    assert_eq!(report.findings, []);
    assert_eq!((report.records, report.packages, report.checked), (3, 2, 2));
    bundle.order["lines"][1]["rows"][0]["iccid"] = json!("89000123456789012341");
    assert_eq!(bundle.seal().codes(), ["order-match"]);
}
