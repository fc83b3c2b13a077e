//! Conducts a batch: rayon for CPU work, HSM lanes for signatures, the ledger for what must survive.
//!
//! [`run`] works every due order to its sealed bundle; [`bind_stored`] binds profiles that were stored under random keys;
//! [`purge`] ends an order's secrets. The only room that names rayon, and with `cli` the only one that sees several stages.

mod attest;
pub mod audit;
mod authenticate;
mod batch;
mod blocks;
mod bound_before;
mod cancel;
mod change;
mod chunk;
mod close;
pub mod cores;
mod distinct;
pub mod fan_out;
mod goals;
mod hand_on;
mod hold;
mod import;
mod key_file;
pub mod lock;
mod open;
pub mod outbox;
mod pairs;
mod prepare;
pub mod purge;
mod record;
pub mod recover;
mod remake;
mod revoke;
mod row_files;
mod scribe;
mod seal;
mod sign;
mod stored;
mod unwrap;
mod work;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use attest::{AuditKey, sign_head};
pub use audit::Audit;
pub use bound_before::{BoundBefore, bound_before};
pub use cancel::cancel;
pub use change::{Changed, keep_runners_out};
pub use goals::{First, Rows};
pub use hold::{hold, release};
pub use import::{ImportRefusal, wrapped_form};
pub use open::{Beside, load_chains, with_engine};
pub use prepare::{check_line, settings_of};
pub use remake::{Remade, goals_of, remake};
pub use revoke::{Revoked, revoke};
pub use stored::{Bound, bind_stored, bundles_of};
pub use work::Engine;

use crate::audit::{Event, Word};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::export::manifest::Counts;
use crate::hsm::Hsm;
use crate::hsm::lanes::Health;
use crate::ids::OrderKey;
use crate::order;
use crate::store::sqlite::{Ledger, newest_acceptance};
use crate::store::{ChangeKind, DeviceState, OrderChange, OrderState, Store, StoredOrder};
use crate::telemetry::{Progress, ProgressMode};

/// What became of one order.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which order.
    pub key: OrderKey,
    /// Rows by outcome.
    pub counts: Counts,
    /// Accepted rows that were not issued.
    pub failed: u64,
    /// Records that this run worked on (a resumed run only does the rest).
    pub records: u64,
    /// Finished profiles among them that were read back and are what was ordered.
    pub audited: u64,
    /// Wall-clock time of this run.
    pub elapsed: Duration,
    /// The bundle.
    pub bundle: PathBuf,
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Orders that were closed.
    pub reports: Vec<Report>,
    /// Accepted remakes that were carried out, each with its own key.
    pub remade: Vec<(OrderKey, Remade)>,
    /// Orders of which nothing is left but held rows, and how many: they stay as they are.
    pub held: Vec<(OrderKey, u64)>,
    /// Orders that could not be worked on, and why; the others were.
    pub faults: Vec<(OrderKey, Fault)>,
    /// How the tokens were.
    pub health: Health,
}

/// Works the named orders, or all that are due, to their sealed bundles; `audit`: which profiles are read back. Stops between
/// chunks once `stop` is set.
pub fn run(
    site: &Site,
    wanted: &[String],
    audit: Audit,
    mode: ProgressMode,
    stop: &AtomicBool,
) -> Result<Outcome, Fault> {
    run_due(site, wanted, audit, mode, stop).map_err(Fault::of_run)
}

fn run_due(
    site: &Site,
    wanted: &[String],
    audit: Audit,
    mode: ProgressMode,
    stop: &AtomicBool,
) -> Result<Outcome, Fault> {
    let _lock = lock::RunLock::take(site.root(), jiff::Timestamp::now())?;
    let ledger = Ledger::open(&site.state_db())?;
    let Due { orders: due, remakes } = due(&ledger, wanted)?;
    check_clock_now(site)?;
    outbox::agrees(site, &ledger)?;
    remake::finish_all_cut_off(site, &ledger)?;
    let resumed = due.iter().filter(|stored| stored.sealed_batch_key.is_some()).count();
    let event = Event::new(Word::RunBegun).name("command", "run");
    let event = event.number("due", (due.len() + remakes.len()) as u64);
    recorded(site, &ledger, event.number("resumed", resumed as u64), stop, || {
        // Opened even when nothing is due: a token that cannot be used is told now, not with the next order.
        with_engine(site, batch::beside(site, &due), |engine| {
            let worked = work_orders(engine, &ledger, &due, (audit, mode), stop)
                .and_then(|outcome| make_remakes((engine, &ledger), &remakes, outcome, stop));
            let noted = attest::note_tokens(engine.store, &engine.lanes.health());
            let outcome = worked?;
            noted?;
            let remade = outcome.remade.iter().map(|(_, remade)| remade.remake.rows).sum::<u64>();
            let records = outcome.reports.iter().map(|report| report.records).sum::<u64>() + remade;
            let event = Event::new(Word::RunEnded).number("exported", outcome.reports.len() as u64);
            engine.store.record(&event.number("failed", outcome.faults.len() as u64).number("records", records))?;
            sign_head(site, engine.store, engine.hsm)?;
            Ok(outcome)
        })
    })
}

/// Lets work run between the lines of its beginning and its end. Work that ends well writes the line of its end itself, while it
/// has the token that signs; a fault is told here.
fn recorded<R>(
    site: &Site,
    ledger: &Ledger,
    begun: Event,
    stop: &AtomicBool,
    work: impl FnOnce() -> Result<R, Fault>,
) -> Result<R, Fault> {
    attest::begun(site, ledger, begun)?;
    work().inspect_err(|fault| {
        let word = if fault.exit == Exit::Stopped && stop.load(Ordering::Relaxed) {
            Word::RunDrained
        } else {
            Word::RunFailed
        };
        // What is told is the fault; a log that cannot be written may be the very fault.
        if let Err(error) = ledger.record(&Event::new(word).number("exit", fault.exit as u64)) {
            tracing::warn!(%error, "the end of the run is not in the audit log");
        }
    })
}

/// The orders one after the other.
fn work_orders<H: Hsm>(
    engine: &Engine<'_, H>,
    ledger: &Ledger,
    due: &[StoredOrder],
    (audit, mode): (Audit, ProgressMode),
    stop: &AtomicBool,
) -> Result<Outcome, Fault> {
    let mut reports = Vec::with_capacity(due.len());
    let (mut faults, mut held) = (Vec::new(), Vec::new());
    for stored in due {
        let answered = answers(engine.site, ledger, stored);
        match answered.and_then(|()| work_order(engine, stored, audit, mode, stop)).map_err(Fault::of_run) {
            Ok(Some(report)) => reports.push(report),
            Ok(None) => held.push((stored.key.clone(), held_rows(engine.store, stored)?)),
            // The site's own trouble (token, disk, a stop) is every order's; anything else is this order's alone.
            Err(fault) if matches!(fault.exit, Exit::HsmUnusable | Exit::Stopped | Exit::Bug) => return Err(fault),
            Err(fault) => faults.push((stored.key.clone(), fault)),
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Fault::new(Exit::Stopped, "stopped on request; finished orders are exported")
                .hint("run again: it continues where it stood"));
        }
    }
    Ok(Outcome { reports, remade: Vec::new(), held, faults, health: engine.lanes.health() })
}

/// Accepted remakes one after the other, behind the orders: a profile must be exported before it is made again.
fn make_remakes<H: Hsm>(
    (engine, ledger): (&Engine<'_, H>, &Ledger),
    remakes: &[StoredOrder],
    mut outcome: Outcome,
    stop: &AtomicBool,
) -> Result<Outcome, Fault> {
    for change in remakes {
        match remake::make_due(engine, ledger, change, stop) {
            Ok(remade) => outcome.remade.push((change.key.clone(), remade)),
            Err(fault) if matches!(fault.exit, Exit::HsmUnusable | Exit::Stopped | Exit::Bug) => return Err(fault),
            Err(fault) => outcome.faults.push((change.key.clone(), fault)),
        }
    }
    Ok(Outcome { health: engine.lanes.health(), ..outcome })
}

/// The order's answers, as they were first given: the bundle seals them. Who sent the order may have taken them away, a crash may
/// have come before them, somebody may have edited them.
fn answers(site: &Site, ledger: &Ledger, stored: &StoredOrder) -> Result<(), Fault> {
    let dir = site.outbox().join(stored.key.outbox_path());
    if stored.state == OrderState::Open && stored.part == 0 && !outbox::is_sealed(&dir) {
        order::answer_again(ledger, stored, &dir)?;
    }
    Ok(())
}

/// One order from wherever it stands to its sealed bundle.
fn work_order<H: Hsm>(
    engine: &Engine<'_, H>,
    stored: &StoredOrder,
    audit: Audit,
    mode: ProgressMode,
    stop: &AtomicBool,
) -> Result<Option<Report>, Fault> {
    if stored.state == OrderState::Exported {
        return Ok(None); // asked for by name, and nothing but held rows is left of it
    }
    let work = prepare::prepare(engine, stored)?;
    // By the chunks that are done: counting the devices of a big order takes longer than the next profile may wait.
    let chunks = engine.store.chunks(work.pk)?;
    let in_chunks: i64 = chunks.iter().filter(|chunk| chunk.done).map(|chunk| chunk.last.0 - chunk.first.0 + 1).sum();
    let done = u64::try_from(in_chunks).unwrap_or_default().min(stored.rows - stored.refused);
    let progress = Progress::start(mode, "preparing", stored.rows - stored.refused, done);
    let closed = batch::work_order(engine, stored, (&work, audit), &progress, stop);
    progress.finish();
    let Some(batch::Closed { counts, elapsed, records, audited }) = closed? else { return Ok(None) };
    // Rows refused at acceptance are told in the order's own bundle.
    let failed = if stored.part == 0 { counts.refused - stored.refused } else { counts.refused };
    let bundle = work.bundle_dir.clone();
    Ok(Some(Report { key: stored.key.clone(), counts, failed, records, audited, elapsed, bundle }))
}

/// Rows of an order that are set aside.
fn held_rows(store: &dyn Store, order: &StoredOrder) -> Result<u64, Fault> {
    let counts = store.counts(order.pk)?;
    Ok(counts.iter().find(|(state, _)| *state == DeviceState::Held).map_or(0, |(_, rows)| *rows))
}

/// A clock that stands before the newest order was set back: certificates and keys would be judged by a day that is over.
pub fn check_clock(site: &Site, newest: jiff::Timestamp, now: jiff::Timestamp) -> Result<(), Fault> {
    let back_s = newest.as_second().saturating_sub(now.as_second());
    if back_s <= i64::try_from(site.config.run.clock_back_s).unwrap_or(i64::MAX) {
        return Ok(());
    }
    let shown = |at: jiff::Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let what = format!("the clock says {}, and an order was accepted at {}", shown(now), shown(newest));
    Err(Fault::new(Exit::Config, what).hint(
        "nothing was changed; set the clock (NTP). If it was ahead when that order came, set [run] clock_back_s in bindery.toml to more \
         than the difference until that day is over",
    ))
}

/// The same for a site whose ledger is open or about to be.
pub fn check_clock_now(site: &Site) -> Result<(), Fault> {
    match newest_acceptance(&site.state_db())? {
        Some(newest) => check_clock(site, newest, jiff::Timestamp::now()),
        None => Ok(()),
    }
}

/// The order of profiles that `ORDER_ID`, `TENANT/ORDER_ID` or `TENANT/ORDER_ID@REV` names.
pub fn find_order(ledger: &Ledger, name: &str) -> Result<StoredOrder, Fault> {
    let stored = find_any(ledger, name)?;
    match stored.change {
        None => Ok(stored),
        Some(change) => {
            let what = format!("{}: an order of kind {} has no profiles of its own", stored.key, change.kind.as_str());
            Err(Fault::new(Exit::Usage, what).hint("name the order that it changes; `bindery order show` tells which"))
        }
    }
}

/// The same, whatever its kind.
fn find_any(ledger: &Ledger, name: &str) -> Result<StoredOrder, Fault> {
    let mut found: Vec<OrderKey> =
        ledger.orders()?.into_iter().map(|order| order.key).filter(|key| key.is_named(name)).collect();
    let unknown = || {
        let what = format!("{name}: no accepted order has this name");
        Fault::new(Exit::Usage, what).hint("`bindery order list` shows what was accepted")
    };
    match (found.pop(), found.is_empty()) {
        (Some(key), true) => ledger.find_order(&key)?.ok_or_else(unknown),
        (Some(_), false) => {
            let what = format!("{name}: several tenants have an order of this name");
            Err(Fault::new(Exit::Usage, what).hint("name it TENANT/ORDER_ID"))
        }
        (None, _) => Err(unknown()),
    }
}

/// What a run has to do.
#[derive(Default)]
struct Due {
    orders: Vec<StoredOrder>,
    remakes: Vec<StoredOrder>,
}

fn due(ledger: &Ledger, wanted: &[String]) -> Result<Due, Fault> {
    if wanted.is_empty() {
        return Ok(Due { orders: ledger.due_orders()?, remakes: ledger.due_remakes()? });
    }
    let mut due = Due::default();
    for name in wanted {
        let mut order = find_any(ledger, name)?;
        match order.change {
            Some(OrderChange { kind: ChangeKind::Remake, .. }) if order.state == OrderState::Open => {
                due.remakes.push(order);
                continue;
            }
            // What is left of the order has a bundle to be sealed.
            Some(OrderChange { kind: ChangeKind::Cancel, target }) => match ledger.order(target)? {
                Some(target) if target.state == OrderState::Open => order = target,
                _ => continue,
            },
            _ => {}
        }
        match order.state {
            OrderState::Open => due.orders.push(order),
            OrderState::Exported if held_rows(ledger, &order)? > 0 => due.orders.push(order),
            OrderState::Exported | OrderState::Done => {}
            OrderState::Purged => return Err(purge::is_purged(ledger, &order)?),
        }
    }
    Ok(due)
}
