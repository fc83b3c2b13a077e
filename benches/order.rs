//! Orders coming in. Units: `validate`: one row (EID, ICCID and IMSI given) judged on one core, nothing stored; `submit`: the same
//! and made durable in an empty ledger; `keys`: one line of a key file judged (two signatures) on all cores, beside the floor: as
//! many bare ECDSA verifications on the same threads. The ratio of the two is printed last.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // a benchmark may stop; criterion's macros document nothing

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bindery::certs::test_pki::{TestPki, issue_euicc};
use bindery::certs::{Certificate, Curve, EuiccJudge, Trust};
use bindery::error::{Exit, Fault};
use bindery::fleet::{self, Issuer};
use bindery::formats::saip::algorithm::Algorithm;
use bindery::ids::{Eid, Iccid};
use bindery::order::{
    Asked, Changes, CheckKeys, Intake, KeyLine, KeyRefusal, Line, Takes, Targets, TemplateRefusal, Templates, Tenants,
    Verdict,
};
use bindery::pipeline::fan_out::FanOut;
use bindery::store::sqlite::Ledger;
use bindery::store::{Goal, StoredOrder};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use openssl::ec::EcKey;
use openssl::ecdsa::EcdsaSig;
use serde_json::{Value, json};

const ROWS: u32 = 100_000;
const KEYS: u64 = 20_000;

/// Orders of profiles only.
struct NoChanges;

impl Changes for NoChanges {
    fn keep_runners_out(&self, _: &StoredOrder) -> Result<Option<Box<dyn std::any::Any>>, Fault> {
        Ok(None)
    }

    fn goals(&self, target: &StoredOrder, _: Asked<'_>) -> Result<Vec<Goal>, Fault> {
        Err(Fault::new(Exit::Usage, format!("{}: nothing of it is made again here", target.key)))
    }
}

/// A template that takes an IMSI and whatever value.
struct AnyTemplate;

impl Templates for AnyTemplate {
    fn check(&self, _: &str, _: &str, _: &Line) -> Result<Takes, TemplateRefusal> {
        let check_value = Box::new(|_: &str, _: &str| Ok(()));
        Ok(Takes { imsi: true, msisdn: true, template_sha256: [0; 32], wrapped: None, check_value })
    }
}

fn sha256(octets: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&openssl::sha::sha256(octets))
}

fn order(dir: &Path, quantity: u64, members: Value) -> PathBuf {
    let mut line = json!({
        "line": 1, "template": "any@1", "quantity": quantity,
        "metadata": {"service_provider": "Bench", "profile_name": "Bench", "class": "operational"},
        "export": ["core:demo"],
    });
    line.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let order =
        json!({"schema": "bindery.order/1", "order_id": "B-1", "tenant": "bench", "kind": "test", "lines": [line]});
    let path = dir.join("order.json");
    fs::write(&path, order.to_string()).unwrap();
    path
}

/// Submits or checks; the order must be accepted.
fn take(ledger: &Ledger, dir: &Path, path: &Path, check_keys: CheckKeys<'_>, submit: bool) {
    let targets = Targets {
        tenants: Tenants::default(),
        eims: vec![],
        cores: vec!["demo".into()],
        transport_keys: vec!["core-demo".into()],
        algorithms: vec![Algorithm::Milenage],
    };
    let now = jiff::Timestamp::now();
    let outbox = dir.join("outbox");
    let changes: &dyn Changes = &NoChanges;
    let intake = Intake { ledger, outbox, templates: &AnyTemplate, check_keys, targets: &targets, changes, now };
    let answer = if submit { intake.submit(path) } else { intake.check(path) }.unwrap();
    assert_eq!(answer.verdict, Verdict::Accepted, "{:?}", answer.first_refusals);
}

fn no_keys(_: &[KeyLine]) -> Vec<Result<(), KeyRefusal>> {
    Vec::new()
}

fn rows(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::from("row,eid,iccid,imsi\n");
    for row in 1..=ROWS {
        let eid = Eid::from_body(&format!("89049032{row:022}")).unwrap();
        let iccid = Iccid::from_body(&format!("8949{row:014}")).unwrap();
        writeln!(text, "{row},{eid},{iccid},00101{row:010}").unwrap();
    }
    fs::write(dir.path().join("rows.csv"), &text).unwrap();
    let rows = json!({"file": "rows.csv", "sha256": sha256(text.as_bytes()), "count": ROWS});
    let path =
        order(dir.path(), u64::from(ROWS), json!({"mode": "order", "iccid": "rows", "imsi": "rows", "rows": rows}));
    let mut group = c.benchmark_group("order");
    group.sample_size(10).throughput(Throughput::Elements(u64::from(ROWS)));
    let ledger = Ledger::open(&dir.path().join("state.db")).unwrap();
    group.bench_function("validate", |b| b.iter(|| take(&ledger, dir.path(), &path, &no_keys, false)));
    let empty = || {
        let site = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&site.path().join("state.db")).unwrap();
        (site, ledger)
    };
    group.bench_function("submit", |b| {
        b.iter_batched_ref(
            empty,
            |(site, ledger)| take(ledger, site.path(), &path, &no_keys, true),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

struct OneEum<'p>(&'p TestPki);

impl Issuer for OneEum<'_> {
    fn issue_euicc(&self, eid: &Eid, point: &[u8; 65]) -> Result<Vec<u8>, Fault> {
        issue_euicc(self.0.eum(), eid, point).map_err(|e| Fault::new(Exit::Bug, e.to_string()))
    }

    fn eum_certificate(&self, _: Curve) -> Result<&[u8], Fault> {
        Ok(self.0.eum().der())
    }
}

fn keys(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let now = jiff::Timestamp::now();
    let pki = TestPki::create(now).unwrap();
    let cpu = FanOut::new(0).unwrap();
    let serials: Vec<u64> = (0..KEYS).collect();
    let lines = cpu.map(&serials, |serial| {
        let eid = Eid::from_body(&format!("89049032{serial:022}")).unwrap();
        fleet::make_one(&OneEum(&pki), &eid, Curve::P256, 1).unwrap().remove(0).euicc
    });
    let text = lines.join("\n");
    fs::write(dir.path().join("euicc.jsonl"), &text).unwrap();
    let numbers = json!({
        "mode": "prebound", "iccid": {"first": Iccid::from_body("894900000000000000").unwrap().as_str()},
        "imsi": {"first": "001010000000001"},
        "euicc_data": {"file": "euicc.jsonl", "sha256": sha256(text.as_bytes())},
    });
    let path = order(dir.path(), KEYS, numbers);
    let ledger = Ledger::open(&dir.path().join("state.db")).unwrap();
    let trust = Arc::new(Trust::of(vec![Certificate::from_der(pki.ci_der()).unwrap()]));
    let judge = EuiccJudge::new(trust, now);
    let check = |line: &KeyLine| {
        let KeyLine { eid, euicc_otpk, signature, euicc_certificate, eum_certificate, .. } = line;
        let believed = judge.check(eid, euicc_otpk, signature, euicc_certificate, eum_certificate);
        believed.map(drop).map_err(|no| KeyRefusal { code: no.code, message: no.message, hint: no.hint.to_owned() })
    };
    let check_keys = |lines: &[KeyLine]| cpu.map(lines, check);

    let group_of_curve = Curve::P256.group().unwrap();
    let signed = cpu.map(&serials, |_| {
        let key = EcKey::generate(group_of_curve).unwrap();
        let signature = EcdsaSig::sign(&[7; 32], &key).unwrap();
        (EcKey::from_public_key(group_of_curve, key.public_key()).unwrap(), signature)
    });
    let verify_bare = || {
        let fits = cpu.map(&signed, |(key, signature)| (0..2).all(|_| signature.verify(&[7; 32], key).unwrap()));
        assert!(fits.into_iter().all(|fits| fits));
    };
    let judge_file = || take(&ledger, dir.path(), &path, &check_keys, false);
    let mut group = c.benchmark_group("order");
    group.sample_size(10).throughput(Throughput::Elements(KEYS));
    group.bench_function("keys", |b| b.iter(judge_file));
    group.bench_function("keys, floor", |b| b.iter(verify_bare));
    group.finish();
    // In turns, so that a machine that slows down slows both.
    let timed = |work: &dyn Fn()| {
        let begun = Instant::now();
        work();
        begun.elapsed().as_secs_f64()
    };
    let mut ratios: Vec<f64> = (0..7).map(|_| timed(&verify_bare) / timed(&judge_file)).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    println!("order/keys: {:.2} of the floor (median of 7; target 0.90)", ratios[3]);
}

criterion_group!(benches, rows, keys);
criterion_main!(benches);
