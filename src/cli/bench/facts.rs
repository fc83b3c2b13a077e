//! On what a report was measured.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::Fault;
use crate::hsm::pkcs11::Token;

/// Host, module and model of the token, OpenSSL, threads.
pub(super) fn host(token: &Token) -> Result<Value, Fault> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        value.map(|(_, value)| value.trim().to_owned())
    };
    let facts = token.facts();
    Ok(json!({
        "measured": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "bindery": env!("CARGO_PKG_VERSION"),
        "cpu": after(&read("/proc/cpuinfo"), "model name"),
        "cpus": std::thread::available_parallelism().ok().map(usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_before": read("/proc/loadavg").split(' ').next().and_then(|load| load.parse::<f64>().ok()),
        "openssl": openssl::version::version(),
        "hsm_module": token.library()?,
        "hsm_model": facts.model,
        "hsm_firmware": facts.firmware,
    }))
}
