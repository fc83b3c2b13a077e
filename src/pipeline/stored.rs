//! Binds profiles that rest under random keys: agree, wrap the PPK in ReplaceSessionKeys, copy the segments, sign.
//!
//! The result is a bundle of its own, `<order>+bound-NNN`, beside the order's. Write order, against a crash at any point:
//! the bundle is written and sealed under a temporary name, then one transaction claims the one-time keys, then the bundle
//! gets its name. A bundle without that claim never gets a name; a claimed one gets it at the next call.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::batch::RunTimes;
use super::chunk::workbench;
use super::close::{self, Contents, Sort};
use super::key_file::RefusedKey;
use super::pairs::{Pair, Pairs, stretches};
use super::record::{Failed, Name};
use super::remake::remake_dir;
use super::row_files::Walk;
use super::sign::ToSign;
use super::work::{Engine, LineWork, OrderWork, package_object};
use super::{
    Beside, attest, check_clock_now, find_order, lock, outbox, prepare, purge, recorded, sign_head, with_engine,
};
use crate::audit::{Event, Word};
use crate::bind::{Bpp, Draft, OneTimeKey, Workbench};
use crate::certs::chain::manifest_certificates;
use crate::config::Site;
use crate::durable;
use crate::error::{ErrorClass, Exit, Fault, RecordError};
use crate::export::manifest::Counts;
use crate::export::report::ChunkTiming;
use crate::export::{bundle, seal};
use crate::formats::digest::sha256;
use crate::hsm::{Hsm, draw};
use crate::ids::{OrderKey, TransactionId};
use crate::protect::{Ppk, Ppp};
use crate::store::packages::{LocalFiles, Packages, Placed};
use crate::store::sealed::Content;
use crate::store::sqlite::{Bindings, Ledger};
use crate::store::{Device, Issue, NewBinding, OrderState, StoredOrder, Stretch};
use crate::telemetry::{Progress, ProgressMode};

/// Random octets of one binding: transactionId and what makes otSK.DP.
const DRAW_LEN: usize = 16 + OneTimeKey::RANDOM_LEN;
/// Records whose packages are in memory at once.
pub(super) const GROUP: usize = 1_000;

/// What [`bind_stored`] did.
#[derive(Debug)]
pub struct Bound {
    /// Packages made.
    pub bound: u64,
    /// Profiles that stay stored: no key in the file fits them.
    pub still_stored: u64,
    /// Key lines that were not believed.
    pub refused: Vec<RefusedKey>,
    /// Stored profiles that could not be bound; their keys were not claimed.
    pub failed: Vec<RecordError>,
    /// The new bundle; none when nothing was bound.
    pub bundle: Option<PathBuf>,
}

/// Binds what can be bound of an exported order of mode `order` with the one-time keys of a key file.
pub fn bind_stored(
    site: &Site,
    order: &str,
    key_file: &Path,
    mode: ProgressMode,
    stop: &AtomicBool,
) -> Result<Bound, Fault> {
    let _lock = lock::RunLock::take(site.root(), jiff::Timestamp::now())?;
    let ledger = Ledger::open(&site.state_db())?;
    let stored = find_order(&ledger, order)?;
    check_clock_now(site)?;
    outbox::agrees(site, &ledger)?;
    if stored.state == OrderState::Purged {
        return Err(purge::is_purged(&ledger, &stored)?);
    }
    if stored.state == OrderState::Open {
        let what = format!("{}: not exported yet", stored.key);
        return Err(
            Fault::new(Exit::Usage, what).hint("`bindery run` comes first: it prepares and stores the profiles")
        );
    }
    let event = Event::new(Word::RunBegun).name("command", "bind").order(&stored.key);
    recorded(site, &ledger, event, stop, || {
        with_engine(site, Beside::Little, |engine| {
            let bound = bind_one(engine, &stored, key_file, mode, stop);
            let noted = attest::note_tokens(engine.store, &engine.lanes.health());
            let bound = bound?;
            noted?;
            engine.store.record(&Event::new(Word::RunEnded).order(&stored.key).number("records", bound.bound))?;
            sign_head(site, engine.store, engine.hsm)?;
            Ok(bound)
        })
    })
}

/// What can be bound of one order.
fn bind_one<H: Hsm>(
    engine: &Engine<'_, H>,
    stored: &StoredOrder,
    key_file: &Path,
    mode: ProgressMode,
    stop: &AtomicBool,
) -> Result<Bound, Fault> {
    let work = prepare::prepare(engine, stored)?;
    let places = Places::of(&work);
    if work.bundle_dir.join(bundle::MANIFEST).is_file() {
        // Packages are no part of what is bound now, and may be many.
        let trusted = manifest_certificates(engine.site)?;
        seal::check(&work.bundle_dir, &trusted, &|name| !name.starts_with("packages-"))?;
    }
    places.recover(engine)?;
    let waiting = engine.store.stored_count(work.pk)?;
    if waiting == 0 {
        let what = format!("{}: no profile of it is stored and waits for its eUICC", stored.key);
        return Err(Fault::new(Exit::Usage, what).hint("only profiles of mode order are bound later, and once"));
    }
    let mut bindings = Bindings::open()?;
    let (pairs, refused) = Pairs::with_keys(engine, &work, key_file, &mut bindings)?;
    let progress = Progress::start(mode, "binding", waiting.min(bindings.usable()), 0);
    let result = bind_all(engine, &work, &places, (pairs, &mut bindings), &progress, stop);
    progress.finish();
    let (failed, times) = result?;
    let bound = bindings.bound();
    if bound > 0 {
        seal_and_claim(engine, stored, &work, &places, &bindings, &times)?;
    }
    let bundle = (bound > 0).then_some(places.bundle);
    Ok(Bound { bound, still_stored: waiting - bound, refused, failed, bundle })
}

/// The bundles of an order: its own, those of rows that were held back, of its bindings and of its remakes, as far as they are there.
pub fn bundles_of(site: &Site, order: &OrderKey) -> Result<Vec<PathBuf>, Fault> {
    let own = site.outbox().join(order.outbox_path());
    if !own.join(bundle::MANIFEST).is_file() {
        let what = format!("{order}: no bundle yet");
        return Err(Fault::new(Exit::Usage, what).hint("an order has a bundle once `bindery run` has exported it"));
    }
    let rest = (1..).map(|part| part_dir(&own, part)).take_while(|dir| dir.join(bundle::MANIFEST).is_file());
    let bindings = (1..).map(|number| binding_dir(&own, number)).take_while(|dir| dir.is_dir());
    let remakes = (1..).map(|number| remake_dir(&own, number)).take_while(|dir| dir.is_dir());
    Ok(std::iter::once(own.clone()).chain(rest).chain(bindings).chain(remakes).collect())
}

/// Where the bundle `part` of an order goes: 0 is its own, then `<order>+rest-NNN` beside it.
pub(super) fn part_dir(own: &Path, part: u32) -> PathBuf {
    match part {
        0 => own.to_owned(),
        part => {
            let leaf = own.file_name().unwrap_or_default().to_string_lossy();
            own.with_file_name(format!("{leaf}+rest-{part:03}"))
        }
    }
}

/// `<order>+bound-NNN` beside the order's own bundle (an order id holds no `+`).
pub(super) fn binding_dir(own: &Path, number: u32) -> PathBuf {
    let leaf = own.file_name().unwrap_or_default().to_string_lossy();
    own.with_file_name(format!("{leaf}+bound-{number:03}"))
}

/// Where the next bundle of bindings goes.
pub(super) struct Places {
    bundle: PathBuf,
    pub(super) partial: PathBuf,
}

impl Places {
    fn of(work: &OrderWork) -> Self {
        Self::beside(&work.bundle_dir)
    }

    /// Beside the order's own bundle.
    pub(super) fn beside(own: &Path) -> Self {
        let leaf = own.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let named = |number| binding_dir(own, number);
        let number = (1..).find(|number| !named(*number).exists()).unwrap_or(u32::MAX);
        let partial = own.with_file_name(format!(".{leaf}+bound-{number:03}.partial"));
        Self { bundle: named(number), partial }
    }

    /// What a crash left: a sealed bundle whose keys were claimed gets its name, anything else never happened.
    fn recover<H: Hsm>(&self, engine: &Engine<'_, H>) -> Result<(), Fault> {
        if !self.partial.exists() {
            return Ok(());
        }
        let sealed = self.partial.join(bundle::SIGNATURE).exists();
        let claimed = match first_key(&self.partial.join("orders.jsonl")).filter(|_| sealed) {
            Some(otpk) => engine.store.one_time_key_used(&otpk)?,
            None => false,
        };
        if claimed {
            self.name()?;
            let what = format!("{}: finished what a crash had left", self.bundle.display());
            return Err(Fault::new(Exit::Stopped, what).hint("run the command again to bind the rest"));
        }
        fs::remove_dir_all(&self.partial).map_err(|e| Fault::file(&self.partial, &e))
    }

    fn name(&self) -> Result<(), Fault> {
        let rename = fs::rename(&self.partial, &self.bundle);
        let synced = rename.and_then(|()| self.bundle.parent().map_or(Ok(()), durable::sync_dir));
        synced.map_err(|e| Fault::file(&self.bundle, &e))
    }
}

/// The one-time key of the first record: all keys of a bundle are claimed together.
pub(super) fn first_key(orders: &Path) -> Option<[u8; 65]> {
    let mut line = String::new();
    BufReader::new(File::open(orders).ok()?).read_line(&mut line).ok()?;
    let record: serde_json::Value = serde_json::from_str(&line).ok()?;
    BASE64.decode(record["euicc_otpk"].as_str()?.as_bytes()).ok()?.try_into().ok()
}

/// Binds group by group; every group is one package file of the new bundle.
fn bind_all<H: Hsm>(
    engine: &Engine<'_, H>,
    work: &OrderWork,
    places: &Places,
    (mut pairs, bindings): (Pairs<'_>, &mut Bindings),
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<(Vec<RecordError>, RunTimes), Fault> {
    let vault = LocalFiles::new(&work.vault_dir)?;
    let mut session = engine.hsm.open_session()?;
    let mut failed = Vec::new();
    let mut times = RunTimes::default();
    let begun = Instant::now();
    for number in 1.. {
        let group = pairs.next_group(bindings)?;
        if group.is_empty() {
            break;
        }
        if stop.load(Ordering::Relaxed) {
            return Err(
                Fault::new(Exit::Stopped, "stopped on request; nothing was bound").hint("run the command again")
            );
        }
        let started = Instant::now();
        let mut random = Zeroizing::new(vec![0; DRAW_LEN * group.len()]);
        draw::fill_random(&mut session, &mut random)?;
        let inputs = group.iter().zip(random.chunks_exact(DRAW_LEN)).collect();
        let drafts =
            engine.cpu.map_with(inputs, workbench, |bench, (pair, octets)| draft(bench, work, &vault, pair, octets));
        let mut sound = Vec::with_capacity(group.len());
        for (pair, draft) in group.iter().zip(drafts) {
            match draft {
                Ok((draft, transaction_id)) => sound.push((pair, draft, transaction_id)),
                Err(bad) => failed.push(bad.error),
            }
        }
        progress.add(group.len() as u64);
        if sound.is_empty() {
            continue;
        }
        let to_sign = sound.iter().map(|(_, draft, _)| ToSign { curve: draft.curve(), digest: draft.digest() });
        let signatures = engine.sign_all(&to_sign.collect::<Vec<_>>()).wait(engine.lanes)?;
        let mut signed = Vec::with_capacity(sound.len());
        for ((pair, draft, transaction_id), signature) in sound.into_iter().zip(signatures) {
            match signature {
                Ok(signature) => signed.push((pair, draft, transaction_id, signature)),
                Err(error) => {
                    let refused = Name::of(&pair.device).map(|name| name.refused(&error));
                    failed.push(refused.unwrap_or_else(|| Failed::bug(&pair.device, "stored without ICCID")).error);
                }
            }
        }
        if signed.is_empty() {
            continue;
        }
        let object = package_object(number);
        let mut segment = LocalFiles::new(&places.partial)?.create(&object)?;
        let records = signed.len() as u64;
        for (pair, draft, transaction_id, signature) in signed {
            let bpp: Bpp = draft.sign(&signature);
            let Placed { offset, length, sha256 } = segment.append(bpp.as_bytes())?;
            bindings.keep(&NewBinding {
                device: pair.device.pk,
                eid: pair.eid,
                euicc_otpk: pair.otpk,
                transaction_id: transaction_id.0,
                object: object.clone(),
                offset,
                length,
                sha256,
            })?;
        }
        times.objects.push((object, segment.finish()?));
        times.chunks.push(ChunkTiming { records, seconds: started.elapsed().as_secs_f64() });
    }
    times.elapsed = begun.elapsed();
    Ok((failed, times))
}

/// One package but for its signature: the stored segments behind fresh headers.
fn draft(
    bench: &mut Result<Workbench, openssl::error::ErrorStack>,
    work: &OrderWork,
    vault: &LocalFiles,
    pair: &Pair,
    octets: &[u8],
) -> Result<(Draft, TransactionId), Failed> {
    let name = Name::of(&pair.device).ok_or_else(|| Failed::bug(&pair.device, "stored without ICCID"))?;
    let missing =
        |what: &str| name.failed_as(ErrorClass::Storage, what, "restore the vault and the ledger from the same backup");
    let bench = bench.as_mut().map_err(|e| name.failed(e))?;
    let line: &LineWork = work.line(pair.device.line).ok_or_else(|| missing("the order has no such line"))?;
    let issue = pair.device.issue.as_ref().ok_or_else(|| missing("not issued"))?;
    let object = issue.object.as_deref().ok_or_else(|| missing("no object"))?;
    let stored = vault.read(object, issue.offset, issue.length).map_err(|e| missing(&e.to_string()))?;
    if sha256(&stored) != issue.sha256 {
        return Err(missing("the stored PPP is not the one that was made"));
    }
    let sealed = issue.sealed_ppk.as_deref().ok_or_else(|| missing("no PPK"))?;
    let triple = work.batch_key.open(Content::Ppk, &name.iccid, sealed).map_err(|e| missing(&e.to_string()))?;
    let triple: &[u8; 48] = triple.as_slice().try_into().map_err(|_| missing("the PPK has another length"))?;
    let (ppk, ppp) = (Ppk::opened(triple), Ppp::stored(stored));

    let (id, random) = octets.split_at(16);
    let transaction_id = TransactionId(id.try_into().map_err(|_| name.failed(&"short draw"))?);
    let random = random.try_into().map_err(|_| name.failed(&"short draw"))?;
    let agreement = name.agreement((work, line), bench, (&pair.eid, &pair.otpk), (&transaction_id, random))?;
    let metadata = line.metadata.for_iccid(&name.iccid);
    if sha256(&metadata) != issue.metadata_sha256 {
        return Err(missing("the metadata is not the one that was announced"));
    }
    let draft = Draft::stored(agreement, &metadata, &ppk, &ppp, bench.sealer()).map_err(|e| name.unbound(&e))?;
    Ok((draft, transaction_id))
}

/// Seals the bundle under its temporary name, claims the keys, gives the bundle its name.
fn seal_and_claim<H: Hsm>(
    engine: &Engine<'_, H>,
    stored: &StoredOrder,
    work: &OrderWork,
    places: &Places,
    bindings: &Bindings,
    times: &RunTimes,
) -> Result<(), Fault> {
    close::repeat_answers(stored, &work.bundle_dir, &places.partial)?;
    let rows = bindings.bound();
    let packages = times.objects.iter().map(|(name, facts)| (name.clone(), Some(*facts)));
    let existing =
        ["ack.json", "rejects.csv"].map(|name| (name.to_owned(), None)).into_iter().chain(packages).collect();
    let counts = Counts { rows, issued: rows, ..Counts::default() };
    let contents = Contents { stored, work, dir: &places.partial, existing, counts, times, sort: Sort::Whole };
    let mut session = engine.hsm.open_session()?;
    let walk: &Walk<'_> = &|visit| {
        stretches(engine.store, work)?
            .into_iter()
            .try_for_each(|stretch| walk_bound(engine, work, bindings, stretch, visit))
    };
    let manifest_sha256 = close::write_bundle(engine, &contents, &mut session, (None, walk))?;
    engine.store.record_binding(work.pk, &mut bindings.all(), &manifest_sha256)?;
    places.name()
}

/// Shows the bound devices of a stretch as they will be.
fn walk_bound<H: Hsm>(
    engine: &Engine<'_, H>,
    work: &OrderWork,
    bindings: &Bindings,
    (first, last): Stretch,
    visit: &mut dyn FnMut(Device) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let bound = bindings.between(first, last)?;
    if bound.is_empty() {
        return Ok(());
    }
    let mut devices = engine.store.devices(work.pk, first, last)?.into_iter();
    for NewBinding { device, eid, euicc_otpk, transaction_id, object, offset, length, sha256 } in bound {
        // Both are in the order of the devices.
        let before = devices.find(|before| before.pk == device);
        let before = before.ok_or_else(|| Fault::new(Exit::Bug, "a device was bound that the ledger does not have"))?;
        let issue = Issue {
            transaction_id: Some(transaction_id),
            object: Some(object),
            offset,
            length,
            sha256,
            ..before.issue.map(|issue| *issue).unwrap_or_default()
        };
        visit(Device { eid: Some(eid), euicc_otpk: Some(euicc_otpk), issue: Some(Box::new(issue)), ..before })?;
    }
    Ok(())
}
