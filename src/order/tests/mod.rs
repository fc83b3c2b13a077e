//! The order room as its caller sees it: files in, answers and ledger rows out. Certificates and templates are the other
//! rooms' business; here a template is a name and a key is wrong when its signature begins with EE.

mod acceptance;
mod properties;
mod refusals;
mod values;
mod vectors;
mod wrapped;

use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};

use super::*;
use crate::error::{Exit, Fault};
use crate::formats::saip::algorithm::Algorithm;
use crate::ids::{Eid, Iccid};
use crate::store::sqlite::Ledger;
use crate::store::{Goal, StoredOrder};

const FIRST_ICCID: &str = "89000123456789012341";
const FIRST_IMSI: &str = "001010123456063";

struct TestTemplates;

/// A template whose `spn` has at most 16 characters.
fn takes(imsi: bool, msisdn: bool) -> Takes {
    let unfit = || UnfitValue { message: "is too long".into(), hint: "up to 16 characters".into() };
    let check_value =
        move |name: &str, value: &str| if name == "spn" && value.len() > 16 { Err(unfit()) } else { Ok(()) };
    Takes { imsi, msisdn, template_sha256: [0; 32], wrapped: None, check_value: Box::new(check_value) }
}

impl Templates for TestTemplates {
    fn check(&self, name: &str, _: &str, line: &Line) -> Result<Takes, TemplateRefusal> {
        let refusal = |member: &str, code| {
            Err(TemplateRefusal { member: member.into(), code, message: "is wrong".into(), hint: "mend it".into() })
        };
        match name {
            "bootstrap@1" if line.vars.contains_key("nobody") => refusal("vars.nobody", "unknown-variable"),
            "needs-imsi@1" => Ok(takes(true, false)),
            "bootstrap@1" | "operational@1" if line.credentials == CredentialsFrom::Import => {
                let form = WrappedForm { ki_len: 16, opc_len: 16, derives_opc: name == "operational@1" };
                Ok(Takes { wrapped: Some(form), ..takes(false, true) })
            }
            "bootstrap@1" | "operational@1" => Ok(takes(false, true)),
            _ => refusal("template", "template-missing"),
        }
    }
}

/// No runner is at work, and nothing was ever exported.
struct NobodyAtWork;

impl Changes for NobodyAtWork {
    fn keep_runners_out(&self, _: &StoredOrder) -> Result<Option<Box<dyn std::any::Any>>, Fault> {
        Ok(Some(Box::new(())))
    }

    fn goals(&self, target: &StoredOrder, _: Asked<'_>) -> Result<Vec<Goal>, Fault> {
        Err(Fault::new(Exit::Usage, format!("{}: not exported yet", target.key)).hint("run it"))
    }
}

fn judge_keys(lines: &[KeyLine]) -> Vec<Result<(), KeyRefusal>> {
    let refusal =
        || KeyRefusal { code: "bad-signature", message: "signature is wrong".into(), hint: "ask again".into() };
    lines.iter().map(|line| if line.signature[0] == 0xEE { Err(refusal()) } else { Ok(()) }).collect()
}

/// A site in miniature: orders under `in/`, answers under `outbox/`.
struct Site {
    directory: tempfile::TempDir,
    ledger: Ledger,
    targets: Targets,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("in")).unwrap();
        let ledger = Ledger::open(&directory.path().join("state.db")).unwrap();
        let targets = Targets {
            eims: vec!["demo".into()],
            cores: vec!["demo".into()],
            transport_keys: vec!["core-demo".into()],
            algorithms: vec![Algorithm::Milenage],
            tenants: super::Tenants::default(),
        };
        Self { directory, ledger, targets }
    }

    fn intake(&self) -> Intake<'_> {
        Intake {
            ledger: &self.ledger,
            outbox: self.directory.path().join("outbox"),
            templates: &TestTemplates,
            check_keys: &judge_keys,
            targets: &self.targets,
            changes: &NobodyAtWork,
            now: "2026-11-21T08:00:00.25Z".parse().unwrap(),
        }
    }

    fn input(&self, name: &str) -> PathBuf {
        self.directory.path().join("in").join(name)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> Value {
        std::fs::write(self.input(name), &content).unwrap();
        json!({"file": name, "sha256": sha256(content.as_ref())})
    }

    /// A CSV as the `rows` member.
    fn put_rows(&self, name: &str, content: &str) -> Value {
        let mut rows = self.put(name, content);
        rows["count"] = json!(content.lines().count() - 1);
        rows
    }

    fn put_order(&self, order: &Value) -> PathBuf {
        self.put("order.json", order.to_string());
        self.input("order.json")
    }

    fn submit(&self, order: &Value) -> Answer {
        self.intake().submit(&self.put_order(order)).unwrap()
    }

    fn check(&self, order: &Value) -> Answer {
        self.intake().check(&self.put_order(order)).unwrap()
    }

    fn outbox(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join("outbox").join(name)).unwrap()
    }

    /// Rows of every table, by a connection of its own.
    fn counts(&self) -> Vec<(String, i64)> {
        let connection = rusqlite::Connection::open(self.directory.path().join("state.db")).unwrap();
        ["orders", "devices", "iccids", "imsis", "one_time_keys", "matching_ids", "refusals"]
            .map(|table| {
                let sql = format!("SELECT count(*) FROM {table}");
                (table.to_owned(), connection.query_row(&sql, [], |row| row.get(0)).unwrap())
            })
            .to_vec()
    }

    fn count(&self, table: &str) -> i64 {
        self.counts().iter().find(|(name, _)| name == table).unwrap().1
    }

    fn nothing_consumed(&self) -> bool {
        self.counts().iter().all(|(_, count)| *count == 0)
    }

    /// A key file with one good key for each of the first `count` eUICCs; the lines can be changed before it is written.
    fn put_keys(&self, count: u32, change: impl FnOnce(&mut Vec<Value>)) -> Value {
        let mut lines: Vec<Value> = (1..=count).map(key_line).collect();
        change(&mut lines);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.put("euicc.jsonl", text)
    }
}

/// An order of three devices with ranges: the smallest one that is right.
fn order() -> Value {
    json!({
        "schema": "bindery.order/1", "order_id": "PO-1", "tenant": "acme", "kind": "production",
        "lines": [{
            "line": 1, "template": "bootstrap@1", "mode": "order", "quantity": 3,
            "iccid": {"first": FIRST_ICCID}, "imsi": {"first": FIRST_IMSI},
            "metadata": {"service_provider": "Acme", "profile_name": "Acme IoT", "class": "operational"},
            "export": ["eim:demo", "core:demo", "qr"]
        }]
    })
}

/// The same, bound to one-time keys.
fn prebound(site: &Site, quantity: u32, change: impl FnOnce(&mut Vec<Value>)) -> Value {
    let mut order = order();
    order["lines"][0]["mode"] = json!("prebound");
    order["lines"][0]["quantity"] = json!(quantity);
    order["lines"][0]["euicc_data"] = site.put_keys(quantity, change);
    order
}

/// The same, with these rows.
fn with_rows(site: &Site, csv: &str) -> Value {
    let mut order = order();
    order["lines"][0]["rows"] = site.put_rows("rows.csv", csv);
    order["lines"][0]["quantity"] = order["lines"][0]["rows"]["count"].clone();
    order
}

fn partial(mut order: Value) -> Value {
    order["accept"] = json!("partial");
    order
}

fn eid(n: u32) -> Eid {
    Eid::from_body(&format!("89049032{n:022}")).unwrap()
}

fn iccid(n: u32) -> Iccid {
    FIRST_ICCID.parse::<Iccid>().unwrap().plus(u64::from(n - 1)).unwrap()
}

fn point(n: u32) -> [u8; 65] {
    let mut point = [0x55; 65];
    point[0] = 4;
    point[1..5].copy_from_slice(&n.to_be_bytes());
    point
}

fn key_line(n: u32) -> Value {
    json!({"eid": eid(n).to_string(), "euicc_otpk": BASE64.encode(&point(n)), "signature": BASE64.encode(&[1; 64]),
           "euicc_certificate": BASE64.encode(b"euicc"), "eum_certificate": BASE64.encode(b"eum")})
}

fn sha256(octets: &[u8]) -> String {
    HEXLOWER.encode(&openssl::sha::sha256(octets))
}

/// (row, column, code) of the first refusals.
fn told(answer: &Answer) -> Vec<(u32, &str, &str)> {
    answer.first_refusals.iter().map(|r| (r.row, r.column.as_str(), r.code)).collect()
}

/// `rejects.csv` as fields.
fn rejects(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}

fn ack(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.ack).unwrap()
}
