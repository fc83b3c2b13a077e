//! From an order file to a durable bundle and ledger: `bindery order submit` and `bindery run` as processes of their own on a demo
//! site, W3, prebound under session keys, every file and the ledger synced. Beside it, in the same repeat, binding in memory.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use openssl::sha::Sha256;
use serde_json::{Value, json};

use super::child::{Sandbox, words};
use super::failed;
use crate::error::Fault;
use crate::ids::Iccid;

/// One order, start to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) devices: u32,
    /// The whole process of `order submit`: rows, key file with every certificate and signature, numbers claimed.
    pub(super) submit: Duration,
    /// The whole process of `run`: token opened, packages bound, files and ledger durable, bundle sealed.
    pub(super) run: Duration,
    /// Calls of the token besides signatures, as its lanes counted them.
    pub(super) other_calls: u64,
}

impl Run {
    /// Order `number` (from 0) of this site.
    pub(super) fn measure(sandbox: &Sandbox, devices: u32, number: u32) -> Result<Self, Fault> {
        let [fleet_dir, orders] = ["fleet", "orders"].map(|name| sandbox.path(format!("{name}-{number}")));
        fs::create_dir(&orders).map_err(|e| Fault::file(&orders, &e))?;
        let count = devices.to_string();
        let make = words(["fleet", "make", "--eids", &count, "--out"]);
        sandbox.run(make.into_iter().chain([fleet_dir.as_os_str()]))?;
        let keys = orders.join("euicc.jsonl");
        fs::rename(fleet_dir.join("euicc.jsonl"), &keys).map_err(|e| Fault::file(&keys, &e))?;
        let rows = orders.join("rows.csv");
        write_rows(&keys, &rows)?;
        let order = orders.join("order.json");
        let text = header(devices, number, &sha256(&rows)?, &sha256(&keys)?)?;
        fs::write(&order, text.to_string()).map_err(|e| Fault::file(&order, &e))?;
        settle();
        let submit = sandbox.run(words(["order", "submit"]).into_iter().chain([order.as_os_str()]))?;
        settle();
        let run = sandbox.run(words(["run"]))?;
        if run.json["orders"][0]["counts"]["issued"].as_u64() != Some(devices.into()) {
            return Err(failed(format!("not every row was issued: {}", run.json)));
        }
        let pools = run.json["hsm"]["pools"].as_array().map_or(&[][..], Vec::as_slice);
        let sum = |member: &str| pools.iter().filter_map(|pool| pool[member].as_u64()).sum::<u64>();
        let measured =
            Self { devices, submit: submit.took, run: run.took, other_calls: sum("calls") - sum("signatures") };
        for dir in [orders, fleet_dir, sandbox.site().join("outbox/acme")] {
            fs::remove_dir_all(&dir).map_err(|e| Fault::file(&dir, &e))?;
        }
        Ok(measured)
    }

    pub(super) fn per_s(&self) -> f64 {
        f64::from(self.devices) / self.run.as_secs_f64()
    }

    pub(super) fn with_submit_per_s(&self) -> f64 {
        f64::from(self.devices) / (self.submit + self.run).as_secs_f64()
    }
}

/// What others wrote before is not ours to wait for.
pub(super) fn settle() {
    nix::unistd::sync();
}

/// `row,eid`, the key file's EIDs in its order.
fn write_rows(keys: &Path, rows: &Path) -> Result<(), Fault> {
    let (read, write) = (|e: std::io::Error| Fault::file(keys, &e), |e: std::io::Error| Fault::file(rows, &e));
    let lines = BufReader::new(File::open(keys).map_err(read)?).lines();
    let mut out = BufWriter::new(File::create(rows).map_err(write)?);
    writeln!(out, "row,eid").map_err(write)?;
    for (line, row) in lines.zip(1..) {
        let key: Value = serde_json::from_str(&line.map_err(read)?).map_err(failed)?;
        let eid = key["eid"].as_str().ok_or_else(|| failed("a key line without EID"))?;
        writeln!(out, "{row},{eid}").map_err(write)?;
    }
    out.flush().map_err(write)
}

fn header(devices: u32, number: u32, rows_sha256: &str, keys_sha256: &str) -> Result<Value, Fault> {
    let iccid = Iccid::from_body(&format!("8949{number:04}0000000000")).map_err(failed)?;
    Ok(json!({
        "schema": "bindery.order/1", "order_id": format!("BENCH-{number}"), "tenant": "acme", "kind": "test",
        "lines": [{
            "line": 1, "template": "operational@1", "mode": "prebound", "quantity": devices,
            "iccid": {"first": iccid.to_string()}, "imsi": {"first": format!("00101{:010}", u64::from(number) * 10_000_000 + 1)},
            "credentials": "generate",
            "metadata": {"service_provider": "Bindery", "profile_name": "Benchmark", "class": "operational"},
            "rows": {"file": "rows.csv", "sha256": rows_sha256, "count": devices},
            "euicc_data": {"file": "euicc.jsonl", "sha256": keys_sha256},
            "export": ["eim:demo", "core:demo"],
        }],
    }))
}

fn sha256(file: &Path) -> Result<String, Fault> {
    let read = |e: std::io::Error| Fault::file(file, &e);
    let mut reader = BufReader::with_capacity(1 << 20, File::open(file).map_err(read)?);
    let mut sha = Sha256::new();
    loop {
        let octets = reader.fill_buf().map_err(read)?;
        if octets.is_empty() {
            return Ok(data_encoding::HEXLOWER.encode(&sha.finish()));
        }
        sha.update(octets);
        let len = octets.len();
        reader.consume(len);
    }
}
