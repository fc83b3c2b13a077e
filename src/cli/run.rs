//! `bindery run`: prepare, bind and export what is due.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::Voice;
use super::screen::{print_json, table};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::hsm::lanes::{Breaker, Health, PoolHealth};
use crate::ids::OrderKey;
use crate::pipeline::{self, Audit, Outcome, Remade, Report};

/// Prepare, bind and export what is due; continues what a stop or crash left
#[derive(clap::Args)]
pub(crate) struct Run {
    /// Orders: ORDER_ID, TENANT/ORDER_ID or TENANT/ORDER_ID@REV [default: all that are due]
    #[arg(value_name = "ORDER")]
    orders: Vec<String>,
    /// Read finished profiles back and compare them with what was ordered: all, sample (first and last of each chunk and 1 %
    /// of the others), a share such as 5%, or off
    #[arg(long, value_name = "WHICH", default_value = "sample")]
    audit: Audit,
}

impl Run {
    pub(crate) fn run(self, site_dir: &Path, voice: Voice) -> Result<Exit, Fault> {
        let site = Site::open(site_dir)?;
        let stop = stop_on_signal()?;
        let Outcome { reports, remade, held, faults, health } =
            pipeline::run(&site, &self.orders, self.audit, voice.progress, &stop)?;
        if voice.json {
            let failed = |(key, fault): &(OrderKey, Fault)| json!({"order": key.to_string(), "error": fault.what});
            let orders: Vec<_> = reports.iter().map(as_json).collect();
            let failed: Vec<_> = faults.iter().map(failed).collect();
            let waiting: Vec<_> =
                held.iter().map(|(key, rows)| json!({"order": key.to_string(), "held": rows})).collect();
            let remade: Vec<_> = remade.iter().map(remade_json).collect();
            print_json(&json!({"orders": orders, "remade": remade, "held": waiting, "failed": failed, "hsm": health}))?;
        } else {
            print_table(&reports, faults.is_empty() && held.is_empty() && remade.is_empty());
            for (key, Remade { key: of, remake, bundle, .. }) in &remade {
                say!("{key}: {} rows of {of} remade\n{}", remake.rows, bundle.display());
            }
            print_health(&health);
        }
        for (key, rows) in &held {
            tell!("{key}: {rows} rows are held, nothing else is left to do");
            tell!("  hint: `bindery order hold {key} --release` puts them back, `order cancel` gives them up");
        }
        for (key, fault) in &faults {
            tell!("error: {key}: {}", fault.what);
            fault.hint.iter().for_each(|hint| tell!("  hint: {hint}"));
        }
        let is_whole = |report: &Report| report.failed + report.counts.held + report.counts.cancelled == 0;
        let all_issued = held.is_empty() && reports.iter().all(is_whole);
        Ok(match faults.first() {
            Some((_, first)) => first.exit,
            None if all_issued => Exit::Done,
            None => Exit::RowErrors,
        })
    }
}

/// The first SIGINT or SIGTERM sets the flag (drain), the second ends the process at once: what is not committed never
/// happened. SIGHUP drains, however often it comes.
pub(super) fn stop_on_signal() -> Result<Arc<AtomicBool>, Fault> {
    let stop = Arc::new(AtomicBool::new(false));
    let unwatched = |e: std::io::Error| Fault::new(Exit::Bug, format!("signals cannot be watched: {e}"));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, Exit::Stopped as i32, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .map_err(unwatched)?;
    }
    // A terminal that is closed says so more than once, and `nohup` has asked not to hear of it.
    if !is_ignored(SIGHUP) {
        flag::register(SIGHUP, Arc::clone(&stop)).map_err(unwatched)?;
    }
    Ok(stop)
}

/// Whether whoever started this process had it ignore the signal; the kernel keeps a bit for each.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

fn print_health(health: &Health) {
    health_told(health).iter().for_each(|line| tell!("{line}"));
}

/// Nothing when every token served throughout; else a line for each, also for those that took the work over.
fn health_told(health: &Health) -> Vec<String> {
    let is_well = |pool: &PoolHealth| {
        pool.breaker == Breaker::Closed && pool.faults.is_empty() && (pool.opened, pool.late, pool.stuck) == (0, 0, 0)
    };
    if health.pools.iter().all(is_well) {
        return Vec::new();
    }
    health.pools.iter().map(pool_told).collect()
}

fn pool_told(pool: &PoolHealth) -> String {
    let PoolHealth { name, signatures, p50_us, p99_us, .. } = pool;
    let mut parts = vec![format!("{signatures} signatures, p50 {p50_us} us, p99 {p99_us} us")];
    let now = match pool.breaker {
        Breaker::Closed => "serves again",
        Breaker::Open | Breaker::HalfOpen => "not back at the end",
        Breaker::Out => "not to be used any more",
    };
    if pool.opened > 0 || pool.breaker != Breaker::Closed {
        parts.push(format!("lost {} times, {now}", pool.opened));
    }
    if pool.stuck > 0 {
        parts.push(format!("{} calls without an answer", pool.stuck));
    }
    if pool.late > 0 {
        parts.push(format!("{} answers too late", pool.late));
    }
    parts.extend(pool.faults.iter().map(|(code, times)| format!("{times} x {code}")));
    format!("token {name}: {}", parts.join(", "))
}

fn as_json(report: &Report) -> serde_json::Value {
    let per_s = report.records as f64 / report.elapsed.as_secs_f64().max(1e-9);
    json!({
        "order": report.key.to_string(),
        "counts": report.counts,
        "failed": report.failed,
        "records": report.records,
        "audited": report.audited,
        "seconds": report.elapsed.as_secs_f64(),
        "per_s": per_s,
        "bundle": report.bundle,
    })
}

fn remade_json((key, remade): &(OrderKey, Remade)) -> serde_json::Value {
    let Remade { key: of, remake, bundle, .. } = remade;
    json!({
        "order": key.to_string(),
        "of": of.to_string(),
        "remake": remake.number,
        "rows": remake.rows,
        "other_euicc": remake.other_euicc,
        "renumbered": remake.renumbered,
        "bundle": bundle,
    })
}

fn print_table(reports: &[Report], nothing_failed: bool) {
    if reports.is_empty() {
        if nothing_failed {
            say!("nothing is due");
        }
        return;
    }
    let mut table =
        table(&["order", "rows", "issued", "refused", "held", "cancelled", "audited", "seconds", "records/s"]);
    for report in reports {
        let seconds = report.elapsed.as_secs_f64();
        table.add_row([
            report.key.to_string(),
            report.counts.rows.to_string(),
            report.counts.issued.to_string(),
            report.counts.refused.to_string(),
            report.counts.held.to_string(),
            report.counts.cancelled.to_string(),
            report.audited.to_string(),
            format!("{seconds:.1}"),
            format!("{:.0}", report.records as f64 / seconds.max(1e-9)),
        ]);
    }
    say!("{table}");
    for report in reports {
        say!("{}", report.bundle.display());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn pool(name: &str) -> PoolHealth {
        PoolHealth {
            name: name.to_owned(),
            breaker: Breaker::Closed,
            lanes: 2,
            stuck: 0,
            in_flight: 0,
            calls: 9,
            signatures: 8,
            faults: BTreeMap::new(),
            p50_us: 40,
            p99_us: 90,
            opened: 0,
            late: 0,
        }
    }

    #[test]
    fn tokens_that_served_throughout_are_not_spoken_of() {
        assert!(health_told(&Health { queue_depth: 0, pools: vec![pool("a"), pool("b")] }).is_empty());
    }

    #[test]
    fn what_happened_to_one_token_is_told_beside_the_one_that_took_over() {
        let lost = PoolHealth {
            breaker: Breaker::Open,
            opened: 1,
            stuck: 2,
            late: 3,
            faults: BTreeMap::from([("CKR_DEVICE_ERROR".to_owned(), 4)]),
            ..pool("b")
        };
        assert_eq!(
            health_told(&Health { queue_depth: 0, pools: vec![pool("a"), lost] }),
            [
                "token a: 8 signatures, p50 40 us, p99 90 us",
                "token b: 8 signatures, p50 40 us, p99 90 us, lost 1 times, not back at the end, 2 calls without an \
                 answer, 3 answers too late, 4 x CKR_DEVICE_ERROR",
            ]
        );
    }
}
