//! A small order and one a hundred times its size, W1, stored: memory at most and time per profile; and how soon a killed run issues
//! its next profile, of a second big order that is killed in its middle, where the most has to be found again.

use std::fs;
use std::time::Duration;

use serde_json::json;

use super::child::{Peak, Sandbox, words};
use super::run::settle;
use super::{failed, median};
use crate::error::Fault;
use crate::ids::{Iccid, OrderKey};
use crate::store::Store;
use crate::store::sqlite::Ledger;

/// Small orders before the big one and behind it, so that a machine that grows slower is slower for both; the median of their times
/// stands for them.
const SMALL_BEFORE: u32 = 3;
const SMALL_BEHIND: u32 = 2;

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) lines: u32,
    pub(super) small_lines: u32,
    /// Of any command on the order: submit, run, status, order show.
    pub(super) peak: Peak,
    pub(super) small_peak: Peak,
    pub(super) us_per_profile: f64,
    pub(super) small_us_per_profile: f64,
    /// From the start of the program to the next profile in the ledger.
    pub(super) restart: Duration,
}

impl Scale {
    pub(super) fn measure(sandbox: &Sandbox, lines: u32) -> Result<Self, Fault> {
        let small_lines = (lines / 100).max(1);
        let mut small = Vec::new();
        for number in 1..=SMALL_BEFORE {
            small.push(whole(sandbox, number, small_lines)?);
        }
        let (us_per_profile, whole_peak) = whole(sandbox, 0, lines)?;
        for number in SMALL_BEFORE + 1..=SMALL_BEFORE + SMALL_BEHIND {
            small.push(whole(sandbox, number, small_lines)?);
        }
        let (restart, killed_peak) = killed(sandbox, SMALL_BEFORE + SMALL_BEHIND + 1, lines)?;
        let small_us_per_profile = median(small.iter().map(|(us, _)| *us));
        let small_peak = small.iter().map(|(_, peak)| *peak).max().unwrap_or_default();
        let peak = whole_peak.max(killed_peak);
        Ok(Self { lines, small_lines, peak, small_peak, us_per_profile, small_us_per_profile, restart })
    }
}

/// An order from its file to its end: microseconds a profile of its run (without the program's start, which weighs on few profiles
/// more than on many), and memory at most.
fn whole(sandbox: &Sandbox, number: u32, lines: u32) -> Result<(f64, Peak), Fault> {
    let order = Order::submit(sandbox, number, lines)?;
    settle();
    let run = sandbox.run(words(["run", &order.id]))?;
    let seconds = run.json["orders"][0]["seconds"].as_f64().ok_or_else(|| failed("a run without its time"))?;
    let peak = order.peak.max(run.peak).max(order.looked_at(sandbox)?);
    Ok((seconds * 1e6 / f64::from(lines), peak))
}

/// An order whose run is killed when half of it is done: from the next start to the next profile; and memory at most, of both runs.
fn killed(sandbox: &Sandbox, number: u32, lines: u32) -> Result<(Duration, Peak), Fault> {
    let order = Order::submit(sandbox, number, lines)?;
    settle();
    let mut run = sandbox.start(words(["run", &order.id]))?;
    let half = u64::from(lines) / 2;
    run.until(|| Ok(order.done()? >= half))?;
    let peak = run.kill()?;
    let before = order.done()?;
    let mut run = sandbox.start(words(["run", &order.id]))?;
    let restart = run.until(|| Ok(order.done()? > before))?;
    Ok((restart, peak.max(order.peak).max(run.wait()?.peak)))
}

struct Order {
    id: String,
    key: OrderKey,
    ledger: Ledger,
    /// Of `order submit`.
    peak: Peak,
}

impl Order {
    fn submit(sandbox: &Sandbox, number: u32, lines: u32) -> Result<Self, Fault> {
        let id = format!("SCALE-{number}");
        let iccid = Iccid::from_body(&format!("8948{number:04}0000000000")).map_err(failed)?;
        let order = json!({
            "schema": "bindery.order/1", "order_id": id, "tenant": "acme", "kind": "test",
            "lines": [{
                "line": 1, "template": "iot-minimal@1", "mode": "order", "quantity": lines,
                "iccid": {"first": iccid.to_string()}, "imsi": {"first": format!("00101{number}000000001")},
                "credentials": "generate",
                "metadata": {"service_provider": "Bindery", "profile_name": "Benchmark", "class": "operational"},
                "export": ["core:demo"],
            }],
        });
        let file = sandbox.path(format!("{id}.json"));
        fs::write(&file, order.to_string()).map_err(|e| Fault::file(&file, &e))?;
        let submitted = sandbox.run(words(["order", "submit"]).into_iter().chain([file.as_os_str()]))?;
        let ledger = Ledger::open(&sandbox.site().join("state.db"))?;
        let tenant = "acme".parse().map_err(failed)?;
        let key = OrderKey { tenant, order_id: id.parse().map_err(failed)?, rev: 1 };
        Ok(Self { id, key, ledger, peak: submitted.peak })
    }

    /// Profiles that the ledger has as done.
    fn done(&self) -> Result<u64, Fault> {
        let Some(order) = self.ledger.find_order(&self.key)? else { return Ok(0) };
        let done = self.ledger.chunks(order.pk)?.into_iter().filter(|chunk| chunk.done);
        let devices: i64 = done.map(|chunk| chunk.last.0 - chunk.first.0 + 1).sum();
        Ok(devices.unsigned_abs())
    }

    /// Memory of the commands that show an order.
    fn looked_at(&self, sandbox: &Sandbox) -> Result<Peak, Fault> {
        Ok(sandbox.run(words(["status"]))?.peak.max(sandbox.run(words(["order", "show", &self.id]))?.peak))
    }
}
