//! `order remake`: exported profiles once more, for another one-time key: the first one was spent, or the device was swapped.
//!
//! In: rows of an exported order and a key file, from a command or from an order of kind `remake`. Out: a bundle of its own,
//! `<order>+remake-NNN`. The ICCID, the subscriber's K and
//! OPc, PINs and OTA keys stay: the profile is made again octet for octet out of what rests under the order's batch key, and closed
//! under new session keys. Matching id and transactionId are new. The old package becomes a tombstone.
//!
//! With new numbers it is a new profile instead: everything is drawn anew, for a K serves one ICCID, and the old profile is revoked.
//!
//! Rule: all the rows or none; which of them get what, says `goals`. The same question gets the first answer again.
//!
//! Write order, against a crash at any point, as of a binding: the bundle is sealed under a temporary name, then one transaction
//! claims the keys and moves the rows, then the bundle gets its name. A sealed bundle that the ledger knows gets its name at the
//! next call, any other one goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use openssl::sha::Sha256;
use zeroize::Zeroizing;

use super::batch::RunTimes;
use super::chunk::workbench;
use super::close::{self, Contents, Sort};
use super::fan_out::FanOut;
use super::goals::{self, First, Rows};
use super::key_file::{Judging, RefusedKey};
use super::record::{AGAIN_DRAW_LEN, Failed, Finished, Started};
use super::row_files::Walk;
use super::seal;
use super::stored::GROUP;
use super::work::{Engine, OrderWork, package_object};
use super::{Beside, attest, find_order, lock, outbox, prepare, recorded, sign_head, with_engine};
use crate::audit::{Event, Word};
use crate::config::Site;
use crate::durable;
use crate::error::{ErrorClass, Exit, Fault, RecordError};
use crate::export::bundle;
use crate::export::manifest::Counts;
use crate::export::report::ChunkTiming;
use crate::formats::curve::Curve;
use crate::hsm::{Hsm, draw};
use crate::ids::{OrderKey, RecordId};
use crate::order::Asked;
use crate::order::change::Named;
use crate::order::key_file::KeyFile;
use crate::store::packages::{LocalFiles, Packages};
use crate::store::sqlite::Ledger;
use crate::store::{Device, Goal, OrderPk, Remake, Store, StoredOrder};

/// What [`remake`] did, or had done.
#[derive(Clone, Debug)]
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

/// Makes the profiles of these rows again for the one-time keys of a key file: with the same ICCIDs, or new ones under new numbers.
pub fn remake(
    site: &Site,
    order: &str,
    (rows, first): (&Rows, Option<First>),
    key_file: &Path,
    stop: &AtomicBool,
) -> Result<Remade, Fault> {
    let _lock = lock::RunLock::take(site.root(), jiff::Timestamp::now())?;
    let ledger = Ledger::open(&site.state_db())?;
    let stored = find_order(&ledger, order)?;
    goals::is_exported(&ledger, &stored)?;
    outbox::agrees(site, &ledger)?;
    let own = site.outbox().join(stored.key.outbox_path());
    let before = ledger.remakes(stored.pk)?;
    finish_cut_off(&own, &before)?;
    let selected = goals::select(&ledger, &stored, rows)?;
    let input = input(&stored, &selected.devices, first, key_file)?;
    if let Some(same) = before.iter().find(|remake| remake.input == input) {
        let bundle = remake_dir(&own, same.number);
        return Ok(Remade { key: stored.key, remake: same.clone(), bundle, repeated: true, refused: Vec::new() });
    }
    let event = Event::new(Word::RunBegun).name("command", "remake").order(&stored.key);
    recorded(site, &ledger, event, stop, || {
        with_engine(site, Beside::Little, |engine| {
            let devices = selected.devices.clone();
            let judging = Judging::of(engine);
            let (goals, believed) =
                goals::plan(&ledger, &stored, selected, first, (&judging, KeyFile::open(key_file)?))?;
            let plan = Plan { ledger: &ledger, stored: &stored, own: &own, input, change: None, stop };
            let made = plan.carry_out(engine, &before, &devices, &goals);
            let noted = attest::note_tokens(engine.store, &engine.lanes.health());
            let remade = made?;
            noted?;
            engine
                .store
                .record(&Event::new(Word::RunEnded).order(&stored.key).number("records", remade.remake.rows))?;
            sign_head(site, engine.store, engine.hsm)?;
            Ok(Remade { refused: believed.refused, ..remade })
        })
    })
}

/// Carries out a remake that was accepted as an order. The caller holds the run lock.
pub(super) fn make_due<H: Hsm>(
    engine: &Engine<'_, H>,
    ledger: &Ledger,
    change: &StoredOrder,
    stop: &AtomicBool,
) -> Result<Remade, Fault> {
    let target = change.change.map(|change| ledger.order(change.target)).transpose()?.flatten();
    let stored = target.ok_or_else(|| Fault::new(Exit::Bug, format!("{}: it changes no order", change.key)))?;
    goals::is_exported(ledger, &stored)?;
    let own = engine.site.outbox().join(stored.key.outbox_path());
    let before = ledger.remakes(stored.pk)?;
    finish_cut_off(&own, &before)?;
    let goals = ledger.goals(change.pk)?;
    let mut devices = Vec::with_capacity(goals.len());
    for goal in &goals {
        devices.extend(ledger.devices(stored.pk, goal.device, goal.device)?);
    }
    if devices.len() != goals.len() || goals.is_empty() {
        let what = format!("{}: the ledger lost rows that it is to make again", change.key);
        return Err(Fault::new(Exit::IntegrityFailure, what).hint("restore state.db from its last backup"));
    }
    let mut hash = Sha256::new();
    hash.update(b"bindery.remake/1|order|");
    hash.update(change.key.to_string().as_bytes());
    hash.update(change.body_sha256.as_bytes());
    let input = hash.finish();
    let plan = Plan { ledger, stored: &stored, own: &own, input, change: Some(change.pk), stop };
    plan.carry_out(engine, &before, &devices, &goals)
}

/// Gives sealed bundles their names that a crash kept from it, of every order that was ever remade. The caller holds the run lock.
pub(super) fn finish_all_cut_off(site: &Site, ledger: &Ledger) -> Result<(), Fault> {
    for key in ledger.remade_orders()? {
        let own = site.outbox().join(key.outbox_path());
        if let Some(stored) = ledger.find_order(&key)? {
            finish_cut_off(&own, &ledger.remakes(stored.pk)?)?;
        }
    }
    Ok(())
}

/// What the rows of an exported order get that an order of kind `remake` names; nothing is claimed.
pub fn goals_of(
    (site, ledger, cpu): (&Site, &Ledger, &FanOut),
    target: &StoredOrder,
    curves: &[Curve],
    asked: Asked<'_>,
) -> Result<Vec<Goal>, Fault> {
    let Asked { line, rows, first, keys } = asked;
    goals::is_exported(ledger, target)?;
    let rows = match rows {
        Named::Rows(rows) => Rows::Numbered { line: Some(line), rows: rows.into_iter().map(|row| row..=row).collect() },
        Named::Iccids(iccids) => Rows::Of(iccids),
    };
    let selected = goals::select(ledger, target, &rows)?;
    if let Some(other) = selected.devices.iter().find(|device| device.line != line) {
        let record = RecordId { line: other.line, row: other.row };
        let what = format!("{}: {record} is not of line {line}", target.key);
        return Err(Fault::new(Exit::Usage, what).hint("name the rows under their own line"));
    }
    let first = first.map(|(iccid, imsi)| First { iccid, imsi });
    let judging = Judging { site, curves: curves.to_vec(), cpu, store: ledger };
    Ok(goals::plan(ledger, target, selected, first, (&judging, keys))?.0)
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

/// What is asked for, in one hash: order, rows, the key file's octets.
fn input(stored: &StoredOrder, devices: &[Device], first: Option<First>, key_file: &Path) -> Result<[u8; 32], Fault> {
    let mut hash = Sha256::new();
    match first {
        None => hash.update(b"bindery.remake/1|same-iccid|"),
        Some(First { iccid, imsi }) => {
            let imsi = imsi.map(|imsi| imsi.to_string()).unwrap_or_default();
            hash.update(format!("bindery.remake/1|new-iccid|{iccid}|{imsi}|").as_bytes());
        }
    }
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
    ledger: &'a Ledger,
    stored: &'a StoredOrder,
    /// The order's own bundle.
    own: &'a Path,
    input: [u8; 32],
    /// The order that asks for it.
    change: Option<OrderPk>,
    stop: &'a AtomicBool,
}

impl Plan<'_> {
    fn carry_out<H: Hsm>(
        &self,
        engine: &Engine<'_, H>,
        before: &[Remake],
        devices: &[Device],
        goals: &[Goal],
    ) -> Result<Remade, Fault> {
        let number = before.last().map_or(0, |last| last.number) + 1;
        let places = Places { bundle: remake_dir(self.own, number), partial: partial_dir(self.own, number) };
        let work = prepare::prepare(engine, self.stored)?;
        let wanted = goals::as_wanted(devices, goals);
        let renumbered = goals.iter().any(|goal| goal.numbers.is_some());
        if renumbered {
            // Randomness that repeats itself would give a new profile an old one's secrets.
            let chunks = engine.store.chunks(work.pk)?;
            chunks.iter().filter(|chunk| chunk.done).try_for_each(|chunk| engine.remember(&work, chunk))?;
        }
        let other_euicc = wanted.iter().zip(devices).filter(|(goal, device)| goal.eid != device.eid).count() as u64;
        let (made, times) = self.packages(engine, (&work, &places), &wanted, renumbered)?;
        let (rows, input, change) = (made.len() as u64, self.input, self.change);
        let remake = Remake { number, input, rows, other_euicc, renumbered, change };
        self.seal_and_claim(engine, (&work, &places), &remake, &made, &times)?;
        let (key, bundle) = (self.stored.key.clone(), places.bundle);
        Ok(Remade { key, remake, bundle, repeated: false, refused: Vec::new() })
    }

    /// Group by group; each is one package file.
    fn packages<H: Hsm>(
        &self,
        engine: &Engine<'_, H>,
        (work, places): (&OrderWork, &Places),
        wanted: &[Device],
        renumbered: bool,
    ) -> Result<(Vec<Device>, RunTimes), Fault> {
        let files = LocalFiles::new(&places.partial)?;
        let mut session = engine.hsm.open_session()?;
        let mut made = Vec::with_capacity(wanted.len());
        let mut times = RunTimes::default();
        let begun = Instant::now();
        for (number, group) in (1..).zip(wanted.chunks(GROUP)) {
            if self.stop.load(Ordering::Relaxed) {
                let hint = "run the command again";
                return Err(Fault::new(Exit::Stopped, "stopped on request; nothing was remade").hint(hint));
            }
            let started = Instant::now();
            let object = package_object(number);
            let mut segment = files.create(&object)?;
            let packages = match renumbered {
                true => new_packages_of(engine, work, group, &mut session)?,
                false => packages_of(engine, work, group, &mut session)?,
            };
            for (device, finished) in group.iter().zip(packages) {
                let placed = segment.append(finished.as_bytes())?;
                made.push(Device { issue: Some(Box::new(finished.into_issue(&object, placed))), ..device.clone() });
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
        (work, places): (&OrderWork, &Places),
        remake: &Remake,
        made: &[Device],
        times: &RunTimes,
    ) -> Result<(), Fault> {
        let Places { partial, .. } = places;
        close::repeat_answers(self.stored, &work.bundle_dir, partial)?;
        let packages = times.objects.iter().map(|(name, facts)| (name.clone(), Some(*facts)));
        let existing =
            ["ack.json", "rejects.csv"].map(|name| (name.to_owned(), None)).into_iter().chain(packages).collect();
        let counts = Counts { rows: remake.rows, issued: remake.rows, ..Counts::default() };
        let renamed = self.ledger.renumbered_devices(work.pk)?;
        let renumbered = remake.renumbered || made.iter().any(|device| renamed.contains(&device.pk));
        let sort = Sort::Remake { number: remake.number, renumbered };
        let contents = Contents { stored: self.stored, work, dir: partial, existing, counts, times, sort };
        let mut session = engine.hsm.open_session()?;
        let walk: &Walk<'_> = &|visit| made.iter().cloned().try_for_each(visit);
        let manifest_sha256 = close::write_bundle(engine, &contents, &mut session, (None, walk))?;
        engine.store.record_remake(work.pk, remake, made, &manifest_sha256)?;
        places.name()
    }
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
    let seal = |bench: &mut _, group| seal::seal(bench, group, &work.batch_key);
    let agreed = started.into_iter().map(Ok).collect();
    let sealed = all(engine.cpu.map_groups_with((agreed, seal::RECORDS), workbench, seal))?;
    let signatures = signing.wait(engine.lanes)?;
    let finish = |((sealed, device), signature): ((super::record::Sealed, &Device), _)| {
        // The core network has them already: the same octets under the same transport key.
        let issue = device.issue.as_ref();
        let core = issue.map(|issue| (issue.ki_enc.clone(), issue.opc_enc.clone())).unwrap_or_default();
        sealed.finish(Some(signature), core.0, core.1)
    };
    all(sealed.into_iter().zip(group).zip(signatures).map(finish).collect())
}

/// The same of new profiles under new numbers.
fn new_packages_of<H: Hsm>(
    engine: &Engine<'_, H>,
    work: &OrderWork,
    group: &[Device],
    session: &mut H::Session,
) -> Result<Vec<Finished>, Fault> {
    let mut finished = Vec::with_capacity(group.len());
    for devices in group.chunk_by(|one, next| one.line == next.line) {
        let line = devices.first().and_then(|device| work.line(device.line));
        let line = line.ok_or_else(|| Fault::new(Exit::Bug, "a device of no line"))?;
        finished.extend(all(engine.renew((work, line), devices, session)?)?);
    }
    Ok(finished)
}

fn all<T>(results: Vec<Result<T, Failed>>) -> Result<Vec<T>, Fault> {
    let told = |failed: Failed| {
        let RecordError { record, class, what, hint } = failed.error;
        let exit = match class {
            ErrorClass::HsmMech => Exit::HsmUnusable,
            ErrorClass::Eligibility => Exit::Config,
            _ => Exit::IntegrityFailure,
        };
        Fault::new(exit, format!("{record}: {what}; nothing was remade")).hint(hint)
    };
    results.into_iter().collect::<Result<_, _>>().map_err(told)
}
