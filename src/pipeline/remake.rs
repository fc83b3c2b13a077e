//! `order remake`: exported profiles once more, for another one-time key: the first one was spent, or the device was swapped.
//!
//! In: rows of an exported order and a key file. Out: a bundle of its own, `<order>+remake-NNN`. The ICCID, the subscriber's K and
//! OPc, PINs and OTA keys stay: the profile is made again octet for octet out of what rests under the order's batch key, and closed
//! under new session keys. Matching id and transactionId are new. The old package becomes a tombstone.
//!
//! Rule: all the rows or none. A row goes to its own eUICC; only when the key file does not name that eUICC at all, it goes to
//! the file's next one that has no profile of the order. The same question gets the first answer again.
//!
//! Write order, against a crash at any point, as of a binding: the bundle is sealed under a temporary name, then one transaction
//! claims the keys and moves the rows, then the bundle gets its name. A sealed bundle that the ledger knows gets its name at the
//! next call, any other one goes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use openssl::sha::Sha256;
use zeroize::Zeroizing;

use super::batch::RunTimes;
use super::chunk::workbench;
use super::close::{self, Contents, Sort};
use super::record::{AGAIN_DRAW_LEN, Failed, Finished, Started};
use super::stored::{Believed, GROUP, RefusedKey, believed_keys};
use super::work::{Engine, OrderWork, package_object};
use super::{attest, find_order, lock, outbox, prepare, purge, recorded, sign_head, with_engine};
use crate::audit::{Event, Word};
use crate::config::Site;
use crate::durable;
use crate::error::{ErrorClass, Exit, Fault, RecordError};
use crate::export::bundle;
use crate::export::manifest::Counts;
use crate::export::report::ChunkTiming;
use crate::hsm::{Hsm, draw};
use crate::ids::{Eid, Iccid, OrderKey, RecordId};
use crate::order::file::Order;
use crate::store::packages::{LocalFiles, Packages};
use crate::store::sqlite::Ledger;
use crate::store::{Device, DevicePk, DeviceState, OrderState, Remake, Store, StoredOrder};

/// Which rows of an order.
#[derive(Clone, Debug)]
pub enum Rows {
    /// By number, of one line; `line` may be left out where the order has only one.
    Numbered {
        /// `line` of the order header.
        line: Option<u32>,
        /// `row` of the CSV.
        rows: Vec<RangeInclusive<u32>>,
    },
    /// Those of these profiles.
    Of(Vec<Iccid>),
}

/// What [`remake`] did, or had done.
#[derive(Debug)]
pub struct Remade {
    /// Which order.
    pub key: OrderKey,
    /// The remake's number within the order, its rows.
    pub remake: Remake,
    /// Where the packages are.
    pub bundle: PathBuf,
    /// By an earlier call with the same rows and key file; this one did nothing.
    pub repeated: bool,
    /// Key lines that were not believed.
    pub refused: Vec<RefusedKey>,
}

/// Makes the profiles of these rows again, with the same ICCIDs, for the one-time keys of a key file.
pub fn remake(site: &Site, order: &str, rows: &Rows, key_file: &Path, stop: &AtomicBool) -> Result<Remade, Fault> {
    let _lock = lock::RunLock::take(site.root(), jiff::Timestamp::now())?;
    let ledger = Ledger::open(&site.state_db())?;
    let stored = find_order(&ledger, order)?;
    match stored.state {
        OrderState::Purged => return Err(purge::is_purged(&ledger, &stored)?),
        OrderState::Open => {
            let what = format!("{}: not exported yet", stored.key);
            return Err(
                Fault::new(Exit::Usage, what).hint("`bindery run` comes first; then remake what is to be remade")
            );
        }
        OrderState::Exported => {}
    }
    outbox::agrees(site, &ledger)?;
    let own = site.outbox().join(stored.key.outbox_path());
    let before = ledger.remakes(stored.pk)?;
    finish_cut_off(&own, &before)?;
    let Selected { devices, taken } = select(&ledger, &stored, rows)?;
    let input = input(&stored, &devices, key_file)?;
    if let Some(same) = before.iter().find(|remake| remake.input == input) {
        let bundle = remake_dir(&own, same.number);
        return Ok(Remade { key: stored.key, remake: same.clone(), bundle, repeated: true, refused: Vec::new() });
    }
    devices.iter().try_for_each(has_package)?;
    let number = before.last().map_or(0, |last| last.number) + 1;
    let places = Places { bundle: remake_dir(&own, number), partial: partial_dir(&own, number) };
    let event = Event::new(Word::RunBegun).name("command", "remake").order(&stored.key);
    recorded(site, &ledger, event, stop, || {
        with_engine(site, |engine| {
            let plan = Plan { stored: &stored, places: &places, number, input, stop };
            let made = plan.carry_out(engine, &devices, taken, key_file);
            let noted = attest::note_tokens(engine.store, &engine.lanes.health());
            let (remake, refused) = made?;
            noted?;
            engine.store.record(&Event::new(Word::RunEnded).order(&stored.key).number("records", remake.rows))?;
            sign_head(site, engine.store, engine.hsm)?;
            Ok(Remade { key: stored.key.clone(), remake, bundle: places.bundle.clone(), repeated: false, refused })
        })
    })
}

/// `<order>+remake-NNN` beside the order's own bundle.
pub(super) fn remake_dir(own: &Path, number: u32) -> PathBuf {
    let leaf = own.file_name().unwrap_or_default().to_string_lossy();
    own.with_file_name(format!("{leaf}+remake-{number:03}"))
}

/// Its name while it is written.
fn partial_dir(own: &Path, number: u32) -> PathBuf {
    let leaf = own.file_name().unwrap_or_default().to_string_lossy();
    own.with_file_name(format!(".{leaf}+remake-{number:03}.partial"))
}

/// What a crash left: the last remake that the ledger knows has its name, and what it does not know is gone.
pub(super) fn finish_cut_off(own: &Path, known: &[Remake]) -> Result<(), Fault> {
    let last = known.last().map_or(0, |last| last.number);
    let (bundle, partial) = (remake_dir(own, last), partial_dir(own, last));
    if last > 0 && partial.join(bundle::SIGNATURE).exists() && !bundle.exists() {
        Places { bundle, partial }.name()?;
    }
    let unknown = partial_dir(own, last + 1);
    match fs::remove_dir_all(&unknown) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Fault::file(&unknown, &e)),
        _ => Ok(()),
    }
}

/// Where a bundle is written, and where it goes.
struct Places {
    bundle: PathBuf,
    partial: PathBuf,
}

impl Places {
    fn name(&self) -> Result<(), Fault> {
        let renamed = fs::rename(&self.partial, &self.bundle);
        let synced = renamed.and_then(|()| self.bundle.parent().map_or(Ok(()), durable::sync_dir));
        synced.map_err(|e| Fault::file(&self.bundle, &e))
    }
}

/// The rows that are meant, in their order.
struct Selected {
    devices: Vec<Device>,
    /// eUICCs that have or will have a profile of the order.
    taken: HashSet<Eid>,
}

fn select(ledger: &Ledger, stored: &StoredOrder, rows: &Rows) -> Result<Selected, Fault> {
    let usage = |what: String| Fault::new(Exit::Usage, format!("{}: {what}", stored.key));
    let order = Order::from_json(&stored.body).map_err(|_| {
        Fault::new(Exit::IntegrityFailure, format!("{}: the ledger's copy of the order cannot be read", stored.key))
            .hint("restore state.db from its last backup")
    })?;
    let mut numbers: HashSet<u32> = HashSet::new();
    let mut iccids: HashSet<Iccid> = HashSet::new();
    let mut of_line = None;
    match (rows, order.lines.as_slice()) {
        (Rows::Of(wanted), _) => iccids.extend(wanted),
        (Rows::Numbered { line: None, .. }, [_, _, ..]) => {
            return Err(usage("it has several lines".to_owned()).hint("name the rows' line: --line N"));
        }
        (Rows::Numbered { line, rows }, lines) => {
            of_line = line.or_else(|| lines.first().map(|line| line.line));
            // No order has more rows: a wide range costs no more than it can find.
            let most = lines.iter().map(|line| line.quantity).max().unwrap_or(0);
            if let Some(beyond) = rows.iter().find(|rows| *rows.end() > most || *rows.start() == 0) {
                return Err(usage(format!("it has no row {}", if *beyond.start() == 0 { 0 } else { *beyond.end() }))
                    .hint("`bindery order show` tells how many rows it has; they count from 1"));
            }
            numbers.extend(rows.iter().cloned().flatten());
        }
    }
    let mut selected = Selected { devices: Vec::new(), taken: HashSet::new() };
    for line in &order.lines {
        let Some((first, last)) = ledger.device_span(stored.pk, line.line)? else { continue };
        for from in (first.0..=last.0).step_by(GROUP) {
            let to = DevicePk((from + GROUP as i64 - 1).min(last.0));
            for device in ledger.devices(stored.pk, DevicePk(from), to)? {
                selected.taken.extend(device.eid.filter(|_| is_live(device.state)));
                let is_meant = match rows {
                    Rows::Of(_) => device.iccid.is_some_and(|iccid| iccids.remove(&iccid)),
                    Rows::Numbered { .. } => of_line == Some(device.line) && numbers.remove(&device.row),
                };
                if is_meant {
                    selected.devices.push(device);
                }
            }
        }
    }
    let missing = iccids.iter().next().map(|iccid| format!("ICCID {} is none of its rows", iccid.masked()));
    let missing = missing.or_else(|| numbers.iter().min().map(|row| format!("it has no row {row} in that line")));
    match missing {
        Some(what) => Err(usage(what).hint("`results.csv` of its bundle has every row with its ICCID")),
        None if selected.devices.is_empty() => Err(usage("no row is named".to_owned()).hint("--rows 3,5-9 or --iccid")),
        None => Ok(selected),
    }
}

fn is_live(state: DeviceState) -> bool {
    !matches!(state, DeviceState::Rejected | DeviceState::Failed | DeviceState::Cancelled | DeviceState::Revoked)
}

/// Only what was bound and exported is made again: everything else has a command of its own.
fn has_package(device: &Device) -> Result<(), Fault> {
    let is_bound = device.issue.as_ref().is_some_and(|issue| issue.transaction_id.is_some());
    let hint = match (device.state, is_bound) {
        (DeviceState::Exported, true) => return Ok(()),
        (DeviceState::Exported | DeviceState::Prepared, _) => {
            "it is stored and was never bound: `bindery bind` binds it"
        }
        (DeviceState::Accepted | DeviceState::Bound, _) => "`bindery run` makes and exports it first",
        (DeviceState::Held, _) => "`bindery order hold --release` and `bindery run` make it",
        _ => "no package of it exists: order the profile anew",
    };
    let record = RecordId { line: device.line, row: device.row };
    let what = format!("{record} has no exported package, it is {}; nothing was remade", device.state.as_str());
    Err(Fault::new(Exit::Usage, what).hint(hint))
}

/// What is asked for, in one hash: order, rows, the key file's octets.
fn input(stored: &StoredOrder, devices: &[Device], key_file: &Path) -> Result<[u8; 32], Fault> {
    let mut hash = Sha256::new();
    hash.update(b"bindery.remake/1|same-iccid|");
    hash.update(stored.key.to_string().as_bytes());
    hash.update(&(devices.len() as u64).to_be_bytes());
    devices.iter().for_each(|device| hash.update(&device.pk.0.to_be_bytes()));
    let entry =
        bundle::file_entry(key_file).map_err(|e| Fault::file(key_file, &e).hint("name the eUICC maker's key file"))?;
    hash.update(entry.sha256.as_bytes());
    Ok(hash.finish())
}

/// A remake that was not made before.
struct Plan<'a> {
    stored: &'a StoredOrder,
    places: &'a Places,
    number: u32,
    input: [u8; 32],
    stop: &'a AtomicBool,
}

impl Plan<'_> {
    fn carry_out<H: Hsm>(
        &self,
        engine: &Engine<'_, H>,
        devices: &[Device],
        taken: HashSet<Eid>,
        key_file: &Path,
    ) -> Result<(Remake, Vec<RefusedKey>), Fault> {
        let work = prepare::prepare(engine, self.stored)?;
        let believed = believed_keys(engine, key_file)?;
        let goals = goals(devices, taken, &believed)?;
        let other_euicc = goals.iter().zip(devices).filter(|(goal, device)| goal.eid != device.eid).count() as u64;
        let (made, times) = self.packages(engine, &work, &goals)?;
        let remake = Remake { number: self.number, input: self.input, rows: made.len() as u64, other_euicc };
        self.seal_and_claim(engine, &work, &remake, &made, &times)?;
        Ok((remake, believed.refused))
    }

    /// Group by group; each is one package file.
    fn packages<H: Hsm>(
        &self,
        engine: &Engine<'_, H>,
        work: &OrderWork,
        goals: &[Device],
    ) -> Result<(Vec<Device>, RunTimes), Fault> {
        let files = LocalFiles::new(&self.places.partial)?;
        let mut session = engine.hsm.open_session()?;
        let mut made = Vec::with_capacity(goals.len());
        let mut times = RunTimes::default();
        let begun = Instant::now();
        for (number, group) in (1..).zip(goals.chunks(GROUP)) {
            if self.stop.load(Ordering::Relaxed) {
                let hint = "run the command again";
                return Err(Fault::new(Exit::Stopped, "stopped on request; nothing was remade").hint(hint));
            }
            let started = Instant::now();
            let object = package_object(number);
            let mut segment = files.create(&object)?;
            for (device, finished) in group.iter().zip(packages_of(engine, work, group, &mut session)?) {
                let offset = segment.append(finished.as_bytes())?;
                let length = finished.as_bytes().len() as u64;
                made.push(Device { issue: Some(finished.into_issue(&object, offset, length)), ..device.clone() });
            }
            times.objects.push((object, segment.finish()?));
            times.chunks.push(ChunkTiming { records: group.len() as u64, seconds: started.elapsed().as_secs_f64() });
        }
        times.elapsed = begun.elapsed();
        Ok((made, times))
    }

    fn seal_and_claim<H: Hsm>(
        &self,
        engine: &Engine<'_, H>,
        work: &OrderWork,
        remake: &Remake,
        made: &[Device],
        times: &RunTimes,
    ) -> Result<(), Fault> {
        let Places { partial, .. } = self.places;
        close::repeat_answers(self.stored, &work.bundle_dir, partial)?;
        let packages = times.objects.iter().map(|(name, facts)| (name.clone(), Some(*facts)));
        let existing =
            ["ack.json", "rejects.csv"].map(|name| (name.to_owned(), None)).into_iter().chain(packages).collect();
        let counts = Counts { rows: remake.rows, issued: remake.rows, ..Counts::default() };
        let sort = Sort::Remake(remake.number);
        let contents = Contents { stored: self.stored, work, dir: partial, existing, counts, times, sort };
        let mut session = engine.hsm.open_session()?;
        let manifest_sha256 = close::write_bundle(engine, &contents, &mut session, &|visit| {
            made.iter().try_for_each(|device| {
                let line = work.line(device.line).ok_or_else(|| Fault::new(Exit::Bug, "a device of no line"))?;
                visit(device, line)
            })
        })?;
        engine.store.record_remake(work.pk, remake, made, &manifest_sha256)?;
        self.places.name()
    }
}

/// The devices with the eUICC and the one-time key that each gets; a fault when one gets none.
fn goals(devices: &[Device], mut taken: HashSet<Eid>, believed: &Believed) -> Result<Vec<Device>, Fault> {
    let mut by_eid: HashMap<Eid, VecDeque<[u8; 65]>> = HashMap::new();
    for (eid, otpk) in &believed.keys {
        by_eid.entry(*eid).or_default().push_back(*otpk);
    }
    let mut next_euicc = believed.keys.iter().map(|(eid, _)| *eid);
    let goal = |device: &Device| {
        let eid = match device.eid.filter(|eid| believed.named.contains(eid)) {
            Some(own) => Some(own),
            None => next_euicc.by_ref().find(|eid| taken.insert(*eid)),
        };
        let otpk = eid.and_then(|eid| by_eid.get_mut(&eid)).and_then(VecDeque::pop_front);
        let (Some(eid), Some(otpk)) = (eid, otpk) else {
            let record = RecordId { line: device.line, row: device.row };
            let what =
                format!("{record}: the key file has no believed, unused one-time key for it; nothing was remade");
            let told = believed.refused.first().map(|bad| format!("; its line {}: {}", bad.line_no, bad.message));
            return Err(Fault::new(Exit::Exhausted, what + &told.unwrap_or_default()).hint(
                "bring a fresh key of the row's own eUICC, or, where the device was swapped, only keys of the new one",
            ));
        };
        Ok(Device { eid: Some(eid), euicc_otpk: Some(otpk), ..device.clone() })
    };
    devices.iter().map(goal).collect()
}

/// Finished packages of a group, all of them or a fault.
fn packages_of<H: Hsm>(
    engine: &Engine<'_, H>,
    work: &OrderWork,
    group: &[Device],
    session: &mut H::Session,
) -> Result<Vec<Finished>, Fault> {
    let mut random = Zeroizing::new(vec![0; AGAIN_DRAW_LEN * group.len()]);
    draw::fill_random(session, &mut random)?;
    let inputs = group.iter().zip(random.chunks_exact(AGAIN_DRAW_LEN)).collect();
    let started = engine.cpu.map_with(inputs, workbench, |bench, (device, octets): (&Device, &[u8])| {
        let line = work.line(device.line).ok_or_else(|| Failed::bug(device, "a device of no line"))?;
        Started::again(bench, (work, line), device, octets)
    });
    let started = all(started)?;
    let signing = engine.sign_all(&started.iter().filter_map(Started::to_sign).collect::<Vec<_>>());
    let seal = |bench: &mut _, record: Started| record.seal(bench, &work.batch_key);
    let sealed = all(engine.cpu.map_with(started, workbench, seal))?;
    let signatures = signing.wait(engine.lanes)?;
    let finish = |((sealed, device), signature): ((super::record::Sealed, &Device), _)| {
        // The core network has them already: the same octets under the same transport key.
        let issue = device.issue.as_ref();
        let core = issue.map(|issue| (issue.ki_enc.clone(), issue.opc_enc.clone())).unwrap_or_default();
        sealed.finish(Some(signature), core.0, core.1)
    };
    all(sealed.into_iter().zip(group).zip(signatures).map(finish).collect())
}

fn all<T>(results: Vec<Result<T, Failed>>) -> Result<Vec<T>, Fault> {
    let told = |failed: Failed| {
        let RecordError { record, class, what, hint } = failed.error;
        let exit = match class {
            ErrorClass::HsmMech | ErrorClass::HsmBusy | ErrorClass::HsmDown => Exit::HsmUnusable,
            ErrorClass::Eligibility => Exit::Config,
            _ => Exit::IntegrityFailure,
        };
        Fault::new(exit, format!("{record}: {what}; nothing was remade")).hint(hint)
    };
    results.into_iter().collect::<Result<_, _>>().map_err(told)
}
