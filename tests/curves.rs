//! Two curves beside each other, with the real binary: eUICCs on P-256 and on brainpoolP256r1 in one order, each served with the
//! chain on its own curve; a site that has one of them only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::fs;
use std::path::Path;

use bindery::certs::Curve;
use bindery::hsm::Role;
use bindery::hsm::policy::{self, KeyPolicy};
use openssl::nid::Nid;
use openssl::x509::X509;
use serde_json::{Value, json};
use yard::provider::{Provider, provider};
use yard::{Ran, Yard, files_below, lines_json, rows_csv};

const P256: Nid = Nid::X9_62_PRIME256V1;
const BRAINPOOL: Nid = Nid::BRAINPOOL_P256R1;

fn curve_of(certificate: &X509) -> Nid {
    certificate.public_key().unwrap().ec_key().unwrap().group().curve_name().unwrap()
}

/// Curve of a key line's eUICC.
fn euicc_curve(key: &Value) -> Nid {
    let der = data_encoding::BASE64.decode(key["euicc_certificate"].as_str().unwrap().as_bytes()).unwrap();
    curve_of(&X509::from_der(&der).unwrap())
}

fn verify(yard: &Yard, bundle: &Path, fleet: &str) -> Ran {
    let secrets = yard.path(fleet).join("secrets.jsonl");
    yard.run(&["verify", bundle.to_str().unwrap(), "--secrets", secrets.to_str().unwrap(), "--all"])
}

/// Names and curves of the certificates of a bundle.
fn certificates(bundle: &Path) -> Vec<(String, Nid)> {
    let mut all: Vec<_> = files_below(&bundle.join("certs"))
        .iter()
        .map(|path| (path, X509::from_pem(&fs::read(path).unwrap()).unwrap()))
        .map(|(path, certificate)| (path.file_name().unwrap().to_str().unwrap().to_owned(), curve_of(&certificate)))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Lines of a fleet on both curves in turn, also where the token knows one only.
fn mixed_fleet(yard: &Yard, name: &str, eids: usize) -> Vec<Value> {
    if provider() == Provider::SoftHsm {
        return yard.fleet_with(name, eids, &["--curve", "mixed"]);
    }
    let own = yard.fleet(name, eids / 2);
    let others = brainpool_fleet(yard, &format!("{name}-brainpool"), eids / 2);
    own.into_iter().zip(others).flat_map(|(own, other)| [own, other]).collect()
}

/// Lines of a fleet on brainpoolP256r1; where the token does not know the curve, the eUICCs are those of another demo site.
fn brainpool_fleet(yard: &Yard, name: &str, eids: usize) -> Vec<Value> {
    let on_curve = ["--curve", "brainpool"];
    if provider() == Provider::SoftHsm {
        return yard.fleet_with(name, eids, &on_curve);
    }
    let elsewhere = Yard::on(Provider::SoftHsm);
    let lines = elsewhere.fleet_with("fleet", eids, &on_curve);
    fs::create_dir(yard.path(name)).unwrap();
    fs::copy(elsewhere.path("fleet/euicc.jsonl"), yard.path(name).join("euicc.jsonl")).unwrap();
    // Their CI is believed: what is wrong with them is the curve alone.
    for ci in files_below(&elsewhere.site().join("certs/ci")) {
        let to = yard.site().join("certs/ci").join(format!("{name}-{}", ci.file_name().unwrap().to_str().unwrap()));
        fs::copy(ci, to).unwrap();
    }
    lines
}

/// A site that was made before the second curve: no keys of it in the policy, no chains, no test PKI.
fn p256_only() -> Yard {
    let yard = Yard::demo();
    if provider() == Provider::Kryoptic {
        return yard; // its token does not know the curve
    }
    let policy = fs::read_to_string(yard.site().join("key-policy.toml")).unwrap();
    let at = policy.find("# SK.DPauth.ECDSA for eUICCs on brainpoolP256r1").unwrap();
    fs::write(yard.site().join("key-policy.toml"), &policy[..at]).unwrap();
    for name in ["certs/dpauth/dpauth-brainpool.pem", "certs/dppb/dppb-brainpool.pem"] {
        fs::remove_file(yard.site().join(name)).unwrap();
    }
    yard
}

/// On a token that does not know the second curve: its eUICCs are refused row by row.
fn a_mixed_fleet_is_refused_in_part(order_id: &str) {
    let yard = Yard::demo();
    let keys = mixed_fleet(&yard, "fleet", 4);
    let mut order = yard.prebound_order(order_id, &keys);
    order.submit().exits(4);
    let rejects = rows_csv(&yard.outbox(order_id).join("rejects.csv"));
    let told: Vec<_> = rejects.iter().map(|row| (row["row"].as_str(), row["code"].as_str())).collect();
    assert_eq!(told, [("2", "eligibility"), ("4", "eligibility")]);
    order.header["accept"] = json!("partial");
    order.submit().exits(5);
    yard.run(&["run"]).exits(0);
    assert!(verify(&yard, &yard.outbox(order_id), "fleet").exits(0).out.contains("PASS"));
}

/// On the same: a policy that declares keys on the curve stops the site, naming the first of them.
fn declared_keys_that_cannot_be_there_stop_the_site(command: &str) {
    let yard = Yard::demo();
    let file = yard.site().join("key-policy.toml");
    fs::write(&file, format!("{}\n{}", fs::read_to_string(&file).unwrap(), policy::BRAINPOOL)).unwrap();
    let ran = yard.run(&[command]).exits(7);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("bindery/dpauth/brainpool/1"), "{said}");
}

#[test]
fn a_mixed_fleet_gets_each_package_under_the_chain_on_its_own_curve() {
    if provider() == Provider::Kryoptic {
        return a_mixed_fleet_is_refused_in_part("CU-1");
    }
    let yard = Yard::demo();
    let keys = yard.fleet_with("fleet", 20, &["--curve", "mixed", "--keys-per-eid", "2"]);
    let keys: Vec<Value> = keys.into_iter().step_by(2).collect();
    let curves: Vec<Nid> = keys.iter().map(euicc_curve).collect();
    assert_eq!(curves, [P256, BRAINPOOL].repeat(10));
    yard.prebound_order("CU-1", &keys).submit().exits(0);
    yard.run(&["run"]).exits(0);
    let bundle = yard.outbox("CU-1");
    let records = lines_json(&bundle.join("orders.jsonl"));
    // One after the other, as ordered: the outcomes are not sorted by curve.
    let otpks = |lines: &[Value]| lines.iter().map(|line| line["euicc_otpk"].clone()).collect::<Vec<_>>();
    assert_eq!(otpks(&records), otpks(&keys));
    let expected = [
        ("dpauth-brainpool.pem", BRAINPOOL),
        ("dpauth.pem", P256),
        ("dppb-brainpool.pem", BRAINPOOL),
        ("dppb.pem", P256),
        ("manifest.pem", P256),
    ];
    assert_eq!(certificates(&bundle), expected.map(|(name, curve)| (name.to_owned(), curve)));
    assert!(verify(&yard, &bundle, "fleet").exits(0).out.contains("PASS"));

    // The judge looks at both curves: without the one chain its ten packages are nobody's.
    fs::remove_file(bundle.join("certs/dppb-brainpool.pem")).unwrap();
    let judged = verify(&yard, &bundle, "fleet").exits(8);
    assert!(judged.out.contains("FAIL") && judged.out.contains("smdp-sign"), "{}", judged.out);
}

#[test]
fn profiles_stored_under_random_keys_are_bound_on_the_curve_of_the_euicc_that_comes() {
    let yard = Yard::demo();
    let keys = mixed_fleet(&yard, "fleet", 6);
    let eids: Vec<&str> = keys.iter().map(|key| key["eid"].as_str().unwrap()).collect();
    yard.stored_order("CU-2", &eids).submit().exits(0);
    yard.run(&["run"]).exits(0);
    assert_eq!(certificates(&yard.outbox("CU-2")).len(), 3, "no eUICC yet, so the usual chains");
    let file = yard.path("fleet/euicc.jsonl");
    if provider() == Provider::Kryoptic {
        // Refused are the eUICCs on the curve that the token does not know, and the profiles wait for others.
        let file_of_others = yard.path("fleet-brainpool/euicc.jsonl");
        let ran = yard.run(&["bind", "CU-2", "--euicc-data", file_of_others.to_str().unwrap()]).exits(12);
        assert!(ran.err.contains("no DPauth and DPpb on that curve"), "{}", ran.err);
        yard.run(&["bind", "CU-2", "--euicc-data", file.to_str().unwrap()]).exits(0);
        assert_eq!(certificates(&yard.outbox("CU-2+bound-001")).len(), 3);
        assert!(verify(&yard, &yard.outbox("CU-2+bound-001"), "fleet").exits(0).out.contains("PASS"));
        return;
    }
    yard.run(&["bind", "CU-2", "--euicc-data", file.to_str().unwrap()]).exits(0);
    let bound = yard.outbox("CU-2+bound-001");
    assert_eq!(certificates(&bound).len(), 5);
    assert!(verify(&yard, &bound, "fleet").exits(0).out.contains("PASS"));
}

#[test]
fn an_order_of_one_curve_carries_no_chains_of_the_other() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 2);
    yard.prebound_order("CU-3", &keys).submit().exits(0);
    yard.run(&["run"]).exits(0);
    let names: Vec<_> = certificates(&yard.outbox("CU-3")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["dpauth.pem", "dppb.pem", "manifest.pem"]);
}

#[test]
fn a_site_without_chains_on_a_curve_refuses_its_euiccs_and_spends_nothing() {
    let yard = p256_only();
    let screen = yard.run(&["doctor"]).exits(0).out;
    assert!(screen.contains("P-256 only; eUICCs on brainpoolP256r1 are refused"), "{screen}");
    let keys = mixed_fleet(&yard, "fleet", 4);
    let mut order = yard.prebound_order("CU-4", &keys);
    assert_eq!(order.submit().exits(4).json()["verdict"], "rejected");
    for table in ["orders", "devices"] {
        assert_eq!(yard.ledger_count(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
    let rejects = rows_csv(&yard.outbox("CU-4").join("rejects.csv"));
    let told: Vec<_> = rejects.iter().map(|row| (row["row"].as_str(), row["code"].as_str())).collect();
    assert_eq!(told, [("2", "eligibility"), ("4", "eligibility")]);
    assert!(rejects[0]["message"].contains("brainpoolP256r1") && rejects[0]["hint"].contains("chains"), "{rejects:?}");
    // The others are served as ever.
    order.header["accept"] = json!("partial");
    order.submit().exits(5);
    yard.run(&["run"]).exits(0);
    assert!(verify(&yard, &yard.outbox("CU-4"), "fleet").exits(0).out.contains("PASS"));
    // Bound later, the same.
    let eids: Vec<&str> = keys.iter().map(|key| key["eid"].as_str().unwrap()).collect();
    yard.stored_order("CU-5", &eids).submit().exits(0);
    yard.run(&["run"]).exits(0);
    let more = brainpool_fleet(&yard, "more", 4);
    assert!(more.iter().all(|key| euicc_curve(key) == BRAINPOOL));
    let file = yard.path("more/euicc.jsonl");
    let refused = yard.run(&["bind", "CU-5", "--euicc-data", file.to_str().unwrap()]).exits(12);
    assert!(refused.err.contains("no DPauth and DPpb on that curve"), "{}", refused.err);
}

#[test]
fn a_demo_makes_euiccs_on_the_curves_of_its_token_and_says_which_it_cannot() {
    let yard = Yard::demo();
    for curve in ["mixed", "brainpool"] {
        let out = yard.path(curve);
        let args = ["fleet", "make", "--eids", "2", "--out", out.to_str().unwrap(), "--curve", curve];
        if provider() == Provider::SoftHsm {
            yard.run(&args).exits(0);
            continue;
        }
        let ran = yard.run(&args).exits(3);
        assert!(ran.err.contains("brainpoolP256r1") && ran.err.contains("does not make such keys"), "{}", ran.err);
        assert!(!out.exists(), "half a fleet");
    }
}

#[test]
fn chains_taken_away_between_order_and_run_fail_their_records_alone() {
    if provider() == Provider::Kryoptic {
        return declared_keys_that_cannot_be_there_stop_the_site("run");
    }
    let yard = Yard::demo();
    let keys = yard.fleet_with("fleet", 4, &["--curve", "mixed"]);
    yard.prebound_order("CU-6", &keys).submit().exits(0);
    for name in ["certs/dpauth/dpauth-brainpool.pem", "certs/dppb/dppb-brainpool.pem"] {
        fs::remove_file(yard.site().join(name)).unwrap();
    }
    let screen = yard.run(&["doctor"]).exits(0).out;
    assert!(screen.contains("keys on brainpoolP256r1, but no chains"), "{screen}");
    yard.run(&["run"]).exits(5);
    let results = rows_csv(&yard.outbox("CU-6").join("results.csv"));
    let classes: Vec<&str> = results.iter().map(|row| row["error_class"].as_str()).collect();
    assert_eq!(classes, ["", "eligibility", "", "eligibility"]);
    assert!(verify(&yard, &yard.outbox("CU-6"), "fleet").exits(0).out.contains("PASS"));
}

#[test]
fn half_a_pair_and_chains_without_keys_stop_the_site() {
    if provider() == Provider::Kryoptic {
        return declared_keys_that_cannot_be_there_stop_the_site("doctor");
    }
    let yard = Yard::demo();
    let path = yard.site().join("certs/dpauth/dpauth-brainpool.pem");
    let leaf = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let ran = yard.run(&["run"]).exits(3);
    assert!(ran.err.contains("certs/dppb has a chain on brainpoolP256r1, certs/dpauth has none"), "{}", ran.err);
    fs::write(&path, leaf).unwrap();
    let policy = fs::read_to_string(yard.site().join("key-policy.toml")).unwrap();
    let at = policy.find("# SK.DPauth.ECDSA for eUICCs on brainpoolP256r1").unwrap();
    fs::write(yard.site().join("key-policy.toml"), &policy[..at]).unwrap();
    let ran = yard.run(&["run"]).exits(3);
    assert!(ran.err.contains("no keys on brainpoolP256r1"), "{}", ran.err);
}

#[test]
fn keys_and_doctor_show_both_chains() {
    let yard = Yard::demo();
    if provider() == Provider::Kryoptic {
        let screen = yard.run(&["doctor"]).exits(0).out;
        assert!(screen.contains("P-256 only; eUICCs on brainpoolP256r1 are refused"), "{screen}");
        return;
    }
    let status = yard.run(&["--json", "keys", "status"]).exits(0).json();
    let keys = status["keys"].as_array().unwrap();
    for role in ["dpauth", "dppb", "dpauth:brainpool", "dppb:brainpool"] {
        let key = keys.iter().find(|key| key["role"] == role).unwrap_or_else(|| panic!("{role}: {status}"));
        assert!(key["certificate_days_left"].as_i64().unwrap() > 1_000, "{key}");
    }
    let screen = yard.run(&["doctor"]).exits(0).out;
    assert!(screen.contains("P-256, brainpoolP256r1"), "{screen}");
    for line in ["P-256, OID 2.999.10", "brainpoolP256r1, OID 2.999.10"] {
        assert_eq!(screen.matches(line).count(), 2, "{screen}");
    }
}

#[test]
fn a_production_site_adds_the_second_curve_by_taking_comment_marks_away() {
    let yard = Yard::demo();
    let site = yard.path("production");
    yard.run(&["init", site.to_str().unwrap()]).exits(0);
    let text = fs::read_to_string(site.join("key-policy.toml")).unwrap();
    assert_eq!(KeyPolicy::parse(&text).unwrap().keys.len(), 6);
    let (one, two) = text.split_once("take away the first # of each line:\n#\n").unwrap();
    let added: String = two.lines().map(|line| format!("{}\n", line.strip_prefix('#').unwrap())).collect();
    let both = KeyPolicy::parse(&format!("{one}\n{added}")).unwrap();
    assert_eq!(both.rule(&Role::DpPb(Curve::Brainpool)).unwrap().label, "bindery/dppb/brainpool/1");
}
