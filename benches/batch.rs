//! The real binary on a throwaway site. Unit: one order of 500 devices, from the ledger to the sealed bundle on disk; the
//! start of the process and the opening of the token (some 10 ms) are in it.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // a benchmark may stop; criterion's macros document nothing

use std::fs;
use std::path::Path;
use std::process::Command;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};

const DEVICES: usize = 500;

fn bindery(dir: &Path, args: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_bindery")).current_dir(dir).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Submits an order of [`DEVICES`] devices; `number` keeps its ranges apart from the others'.
fn submit(dir: &Path, number: u32, mode: &str) {
    let fleet = format!("fleet-{number}");
    bindery(dir, &["--site", "site", "fleet", "make", "--eids", &DEVICES.to_string(), "--out", &fleet]);
    let keys = fs::read(dir.join(&fleet).join("euicc.jsonl")).unwrap();
    let eids: Vec<String> = keys
        .split(|octet| *octet == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice::<Value>(line).unwrap()["eid"].as_str().unwrap().to_owned())
        .collect();
    let rows = format!("eid\n{}\n", eids.join("\n"));
    fs::write(dir.join(&fleet).join("rows.csv"), &rows).unwrap();
    let sha256 = |octets: &[u8]| data_encoding::HEXLOWER.encode(&openssl::sha::sha256(octets));
    let iccid = bindery::ids::Iccid::from_body(&format!("8949{number:05}000000000")).unwrap();
    let order = json!({
        "schema": "bindery.order/1", "order_id": format!("B-{number}"), "tenant": "bench", "kind": "test",
        "lines": [{
            "line": 1, "template": "operational@1", "mode": mode, "quantity": DEVICES,
            "iccid": {"first": iccid.as_str()}, "imsi": {"first": format!("00101{number:05}00001")},
            "credentials": "generate",
            "metadata": {"service_provider": "Bench", "profile_name": "Bench", "class": "operational"},
            "rows": {"file": "rows.csv", "sha256": sha256(rows.as_bytes()), "count": DEVICES},
            "euicc_data": {"file": "euicc.jsonl", "sha256": sha256(&keys)},
            "export": ["eim:demo", "core:demo"],
        }],
    });
    let path = format!("{fleet}/order.json");
    fs::write(dir.join(&path), order.to_string()).unwrap();
    bindery(dir, &["--site", "site", "order", "submit", &path]);
}

fn run(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    bindery(dir.path(), &["init", "site", "--demo"]);
    let mut number = 0;
    let mut group = c.benchmark_group("batch/run");
    group.sample_size(10).throughput(Throughput::Elements(DEVICES as u64));
    for mode in ["prebound", "order"] {
        group.bench_function(format!("500 devices, W3, mode {mode}"), |b| {
            b.iter_batched(
                || {
                    number += 1;
                    submit(dir.path(), number, mode);
                },
                |()| bindery(dir.path(), &["--site", "site", "run"]),
                BatchSize::PerIteration,
            );
        });
    }
}

criterion_group!(benches, run);
criterion_main!(benches);
