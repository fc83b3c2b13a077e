//! A small order and one a hundred times its size, W1, stored: memory at most, time per profile, and how soon a killed run issues
//! its next profile. The big order is killed in its middle, where the most has to be found again; its time is that of both runs.

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

/// Small orders; the median of their times stands for them.
const SMALL_ORDERS: u32 = 5;

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
        let (mut small_peak, mut small_us) = (Peak::default(), Vec::new());
        for number in 1..=SMALL_ORDERS {
            let order = Order::submit(sandbox, number, small_lines)?;
            settle();
            let run = sandbox.run(words(["run", &order.id]))?;
            // Without the program's start, which weighs on few profiles more than on many.
            let seconds = run.json["orders"][0]["seconds"].as_f64().ok_or_else(|| failed("a run without its time"))?;
            small_us.push(seconds * 1e6 / f64::from(small_lines));
            small_peak = small_peak.max(order.peak).max(run.peak).max(order.looked_at(sandbox)?);
        }
        let order = Order::submit(sandbox, 0, lines)?;
        settle();
        let mut run = sandbox.start(words(["run", &order.id]))?;
        let half = u64::from(lines) / 2;
        run.until(|| Ok(order.done()? >= half))?;
        let (before_kill, peak) = run.kill()?;
        let before = order.done()?;
        let mut run = sandbox.start(words(["run", &order.id]))?;
        let restart = run.until(|| Ok(order.done()? > before))?;
        let run = run.wait()?;
        let us_per_profile = (before_kill + run.took).as_secs_f64() * 1e6 / f64::from(lines);
        let peak = peak.max(order.peak).max(run.peak).max(order.looked_at(sandbox)?);
        let small_us_per_profile = median(small_us.into_iter());
        Ok(Self { lines, small_lines, peak, small_peak, us_per_profile, small_us_per_profile, restart })
    }
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
