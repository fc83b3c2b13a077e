//! `bindery bench`: every part with a tiny effort. What is asked is that the report is whole, not that it is fast.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy exempts test functions, but not their helpers

mod yard;

use std::fs;

use serde_json::Value;
use yard::Yard;

/// As performance targets name them.
const MEMBERS: [&str; 18] = [
    "bind_session_w3_ratio",
    "bind_ppp_w3_ratio",
    "bind_w1_ratio",
    "bind_w2_ratio",
    "bind_w4_ratio",
    "prepare_w3_ratio",
    "prepare_w4_ratio",
    "run_w3_ratio",
    "threads2_over_1",
    "lanes_ratio",
    "peak_rss_mib",
    "peak_rss_growth",
    "time_per_profile_growth",
    "restart_s",
    "token_signatures_per_bind",
    "token_other_calls_per_bind",
    "bpp_per_s",
    "floor_us",
];
const TINY: [&str; 8] = ["--repeats", "1", "--window-ms", "1", "--devices", "20", "--scale", "4000"];

/// A positive number, or an object of such, however deep.
fn is_figures(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|figure| figure > 0.0),
        Value::Object(parts) => !parts.is_empty() && parts.values().all(is_figures),
        Value::Array(samples) => !samples.is_empty() && samples.iter().all(is_figures),
        _ => false,
    }
}

#[test]
fn the_report_has_every_member_and_stands_beside_an_earlier_one() {
    let yard = Yard::demo();
    let [json, html] = ["report.json", "report.html"].map(|name| yard.path(name));
    let files = ["--out", json.to_str().unwrap(), "--html", html.to_str().unwrap()];
    let ran = yard.run(&[&["--json", "bench"][..], &TINY, &files].concat()).exits(0);
    let report = ran.json();
    // One thread is all that a machine with one CPU can measure.
    let has_two = report["host"]["cpus"].as_u64() > Some(1);
    for member in MEMBERS.iter().filter(|member| has_two || **member != "threads2_over_1") {
        let is_none = *member == "token_other_calls_per_bind" && report[member] == 0.0;
        assert!(is_none || is_figures(&report[member]), "{member}: {}", report[member]);
    }
    assert_eq!(report["token_signatures_per_bind"], 1.0);
    assert_eq!(report["token_other_calls_per_bind"], 0.0);
    for workload in ["w1", "w2", "w3", "w4"] {
        for mode in ["session", "ppp", "prepare"] {
            assert!(is_figures(&report["bpp_per_s"][workload][mode]["1"]), "{workload} {mode}");
            assert!(is_figures(&report["floor_us"][workload][mode]["1"]), "{workload} {mode}");
            assert_eq!(report["samples"][workload][mode]["1"].as_array().unwrap().len(), 1);
        }
    }
    for fact in ["hsm_module", "hsm_model", "openssl", "cpu", "measured"] {
        assert!(report["host"][fact].as_str().is_some_and(|text| !text.is_empty()), "{fact}: {}", report["host"]);
    }
    assert_eq!(report["latency_sweep"].as_array().unwrap().len(), 4 * 7);
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&json).unwrap()).unwrap(), report);
    let page = fs::read_to_string(&html).unwrap();
    assert!(page.contains("<svg") && page.contains("targets met"));
    assert!(!["http:", "https:", "src=", "<script", "@import"].iter().any(|foreign| page.contains(foreign)));

    let part = ["bench", "--part", "floor,bind", "--compare", json.to_str().unwrap()];
    let ran = yard.run(&[&part[..], &TINY].concat()).exits(0);
    assert!(ran.out.contains("bind W1 of the floor") && ran.out.contains("of before"), "{}", ran.out);
    assert!(!ran.out.contains("prepare"), "{}", ran.out);
    assert!(ran.out.lines().all(|line| line.chars().count() <= 100), "{}", ran.out);
}

#[test]
fn a_file_that_is_no_report_is_refused_before_anything_is_measured() {
    let yard = Yard::demo();
    let file = yard.path("order.json");
    fs::write(&file, "{\"schema\": \"bindery.order/1\"}").unwrap();
    let ran = yard.run(&["bench", "--compare", file.to_str().unwrap()]).exits(3);
    assert!(ran.err.contains("no report of `bindery bench`") && !ran.err.contains("measuring"), "{}", ran.err);
}
