//! One chunk from device lines to durable packages:
//!
//! ```text
//! draw randomness -> [cpu] credentials, agree, digest -> digests to the lanes, K and OPc to the token meanwhile
//!                 -> signatures back -> personalise, encrypt, sign, write some at a time -> sync -> outcomes for the ledger
//! ```
//!
//! A record that cannot be issued fails alone; a token or disk that fails ends the chunk, of which nothing is kept.

use std::collections::BTreeSet;

use openssl::error::ErrorStack;
use zeroize::Zeroizing;

use super::audit::Audit;
use super::blocks::BlockKey;
use super::record::{EXTRA_DRAW_LEN, Failed, Finished, Job, Reach, Sealed, Started};
use super::seal;
use super::sign::{ATTEMPTS, ToSign};
use super::work::{Binding, Engine, LineWork, OrderWork, package_object};
use crate::bind::Workbench;
use crate::error::{ErrorClass, Exit, Fault};
use crate::formats::curve::Curve;
use crate::hsm::lanes::Signed;
use crate::hsm::{FaultClass, Hsm, HsmError, HsmSession, draw};
use crate::ids::{MatchingId, RecordId};
use crate::secret::{SubscriberKey, wipe_stack};
use crate::store::packages::{LocalFiles, Packages, Written};
use crate::store::sealed::Content;
use crate::store::{Chunk, Device, DevicePk, DeviceState, Outcome, StoreError};

/// Records whose K and OPc go to the token in one call: 8 to 16 KiB of blocks.
const CORE_RECORDS_PER_CALL: usize = 256;

/// What a chunk did, durable but for the ledger.
pub(super) struct ChunkResult {
    /// All of its devices, as they were before.
    pub(super) devices: Vec<Device>,
    /// One for each device that was still to do.
    pub(super) outcomes: Vec<(DevicePk, Outcome)>,
    /// Curves of the eUICCs that keys were agreed with.
    pub(super) curves: BTreeSet<Curve>,
    /// The package file; none when no record was issued.
    pub(super) object: Option<Written>,
    /// Profiles that were read back and are what was ordered.
    pub(super) audited: u64,
}

impl<H: Hsm> Engine<'_, H> {
    /// Makes the packages of a chunk durable; tells what became of each device that was still to do, and what was written.
    pub(super) fn work_chunk(
        &self,
        (order, audit): (&OrderWork, Audit),
        chunk: &Chunk,
        session: &mut H::Session,
    ) -> Result<ChunkResult, Fault> {
        let line = order.line(chunk.line).ok_or_else(|| {
            Fault::new(Exit::IntegrityFailure, format!("chunk {}: the order has no line {}", chunk.number, chunk.line))
        })?;
        let devices = self.store.devices(order.pk, chunk.first, chunk.last)?;
        let due: Vec<&Device> = devices.iter().filter(|device| device.state == DeviceState::Accepted).collect();
        let mut outcomes = Vec::with_capacity(due.len());
        if due.is_empty() {
            // All cancelled, or refused.
            return Ok(ChunkResult { devices, outcomes, curves: BTreeSet::new(), object: None, audited: 0 });
        }
        let mut started = self.start((order, line), self.jobs(line, &due, audit, session)?, session)?;
        if audit != Audit::All && any_reaches(&started, Reach::Misread) {
            tracing::warn!("a profile did not read back right: every profile of the chunk is made anew and read back");
            started = self.start((order, line), self.jobs(line, &due, Audit::All, session)?, session)?;
        }
        if any_reaches(&started, Reach::Randomness) {
            return Err(blank_randomness());
        }
        let started = keep_sound(order, &mut outcomes, started);
        let started = match line.import {
            None => started,
            Some(_) => keep_sound(order, &mut outcomes, unlike_others(order, started)?),
        };
        order.distinct.enter(&started.iter().map(|record| (record.record(), record.prints())).collect::<Vec<_>>())?;
        let audited = started.iter().filter(|record| record.is_audited()).count() as u64;
        let to_sign: Vec<ToSign> = started.iter().filter_map(Started::to_sign).collect();
        let signing = self.sign_all(&to_sign);
        let curves = to_sign.iter().map(|record| record.curve).collect();
        let (agreed, core) = self.encrypt_for_core(line, started, session)?;
        // A line's records all want a signature or none does, and their secrets have one length: position is enough.
        let mut signatures = signing.wait(self.lanes)?.into_iter();
        let made = agreed.into_iter().zip(core).map(|(record, core)| (record, (signatures.next(), core)));
        let object = write(order, line, chunk, made, &mut outcomes)?;
        Ok(ChunkResult { devices, outcomes, curves, object, audited })
    }

    /// The batch remembers what earlier runs issued in a chunk: their secrets are not to come again, as they would from a machine that
    /// was set back to an earlier state. What cannot be opened, of a failed record or by a newer layout of credentials, is not
    /// compared.
    pub(super) fn remember(&self, order: &OrderWork, chunk: &Chunk) -> Result<(), Fault> {
        chunk.pages().try_for_each(|page| self.remember_page(order, (chunk, page)))
    }

    fn remember_page(
        &self,
        order: &OrderWork,
        (chunk, (first, last)): (&Chunk, (DevicePk, DevicePk)),
    ) -> Result<(), Fault> {
        let Some(line) = order.line(chunk.line) else { return Ok(()) };
        let devices = self.store.devices(order.pk, first, last)?;
        let prints = self.cpu.map(&devices, |device| {
            let (issue, iccid) = (device.issue.as_ref()?, device.iccid.as_ref()?);
            let form = order.batch_key.open(Content::Credentials, iccid, issue.sealed_credentials.as_deref()?).ok()?;
            let credentials = line.template.opened(&form).ok()?;
            order.distinct.prints(&credentials, &line.template_secrets).ok()
        });
        if line.import.is_some() {
            order.distinct.are_new_imports(prints.iter().flatten())?;
        }
        let records = devices
            .iter()
            .zip(&prints)
            .filter_map(|(device, prints)| Some((RecordId { line: device.line, row: device.row }, prints.as_ref()?)));
        order.distinct.enter(&records.collect::<Vec<_>>())
    }

    /// New profiles for devices of one line, each in the place of an exported one; every one of them is read back. Its numbers are
    /// those of the device, everything secret is drawn.
    pub(super) fn renew(
        &self,
        (order, line): (&OrderWork, &LineWork),
        devices: &[Device],
        session: &mut H::Session,
    ) -> Result<Vec<Result<Finished, Failed>>, Fault> {
        let job = |device| Job { device, is_audited: true, imported: None, is_renewed: true };
        let started = self.start((order, line), devices.iter().map(job).collect(), session)?;
        if any_reaches(&started, Reach::Randomness) {
            return Err(blank_randomness());
        }
        let mut failed = Vec::new();
        let mut sound = Vec::with_capacity(started.len());
        for record in started {
            match record {
                Ok(record) => sound.push(record),
                Err(record) => failed.push(Err(record)),
            }
        }
        if !failed.is_empty() {
            return Ok(failed);
        }
        order.distinct.enter(&sound.iter().map(|record| (record.record(), record.prints())).collect::<Vec<_>>())?;
        let signing = self.sign_all(&sound.iter().filter_map(Started::to_sign).collect::<Vec<_>>());
        let (agreed, core) = self.encrypt_for_core(line, sound, session)?;
        let seal = |bench: &mut _, group| seal::seal(bench, group, &order.batch_key);
        let sealed = self.cpu.map_groups_with((agreed, seal::RECORDS), workbench, seal);
        let signatures = signing.wait(self.lanes)?;
        let finish = |((sealed, core), signature): ((Result<Sealed, Failed>, CoreSecrets), Signed)| {
            sealed.and_then(|record| record.finish(Some(signature), core.ki, core.opc))
        };
        Ok(sealed.into_iter().zip(core).zip(signatures).map(finish).collect())
    }

    /// The devices of a chunk that are to do, which of them are read back, and what they bring of their own.
    fn jobs<'d>(
        &self,
        line: &LineWork,
        devices: &[&'d Device],
        audit: Audit,
        session: &mut H::Session,
    ) -> Result<Vec<Job<'d>>, Fault> {
        let of = devices.len();
        let wrapped: Vec<_> = devices.iter().map(|device| device.wrapped.as_ref()).collect();
        let imported = line.import.as_ref().map(|import| import.decrypt(session, &wrapped)).transpose()?;
        let mut imported = imported.into_iter().flatten();
        let job = |(at, &device): (usize, &&'d Device)| {
            let is_audited = device.iccid.is_some_and(|iccid| audit.chooses((at, of), &iccid));
            Job { device, is_audited, imported: imported.next(), is_renewed: false }
        };
        Ok(devices.iter().enumerate().map(job).collect())
    }

    /// Randomness drawn in one go, then every record on its own: credentials, key agreement, digest; the UPP of those that are read back.
    fn start<'d>(
        &self,
        work: (&OrderWork, &'d LineWork),
        jobs: Vec<Job<'d>>,
        session: &mut H::Session,
    ) -> Result<Vec<Result<Started<'d>, Failed>>, Fault> {
        let draw_len = work.1.template.draw_len() + EXTRA_DRAW_LEN;
        let mut drawn = Zeroizing::new(vec![0; MatchingId::STEM_LEN + draw_len * jobs.len()]);
        draw::fill_random(session, &mut drawn)?;
        let (stem, random) = drawn.split_first_chunk().ok_or_else(|| Fault::new(Exit::Bug, "a draw without a stem"))?;
        let inputs = jobs.into_iter().zip(random.chunks_exact(draw_len)).collect();
        let op = self.op_of(work.1);
        let new = |bench: &mut _, group: Vec<(Job<'d>, &[u8])>| {
            let started =
                group.into_iter().map(|(job, octets)| start_one(bench, work, (job, octets), (stem, op))).collect();
            wipe_stack();
            started
        };
        Ok(self.cpu.map_groups_with((inputs, seal::RECORDS), workbench, new))
    }

    /// K and OPc of every record under the transport key, many records a call. What goes to the token is tried first against the
    /// profiles that are read back: a record whose two sides do not authenticate fails.
    fn encrypt_for_core<'d>(
        &self,
        line: &LineWork,
        mut started: Vec<Started<'d>>,
        session: &mut H::Session,
    ) -> Result<(Judged<'d>, Vec<CoreSecrets>), Fault> {
        let mut encrypted = Vec::with_capacity(started.len());
        let mut verdicts = Vec::with_capacity(started.len());
        for group in started.chunks_mut(CORE_RECORDS_PER_CALL) {
            let len = group.iter().map(|record| record.k().len() + record.opc().len()).sum();
            let mut blocks = Zeroizing::new(Vec::with_capacity(len));
            group.iter().for_each(|record| {
                blocks.extend_from_slice(record.k());
                blocks.extend_from_slice(record.opc());
            });
            let mut rest = &blocks[..];
            for record in group.iter_mut() {
                let (k, after) = rest.split_at(record.k().len());
                let (opc, after) = after.split_at(record.opc().len());
                verdicts.push(record.authenticate(k, opc));
                rest = after;
            }
            let ciphertext = match line.transport.ask(session, &blocks) {
                Err(error) if error.class == FaultClass::Data => {
                    // One record's data spoils the call of all: each on its own, and only that one fails.
                    let first = verdicts.len() - group.len();
                    for (record, verdict) in group.iter().zip(&mut verdicts[first..]) {
                        let core = encrypt_alone(record, &line.transport, session);
                        encrypted.push(core.or_else(|error| match error.class {
                            FaultClass::Data => {
                                *verdict = Err(record.failed(ErrorClass::HsmMech, &error.to_string(), error.hint));
                                Ok(CoreSecrets::default())
                            }
                            _ => Err(error),
                        })?);
                    }
                    continue;
                }
                ciphertext => ciphertext?,
            };
            let mut rest = &ciphertext[..];
            for record in group {
                let (ki, after) = rest.split_at(record.k().len());
                let (opc, after) = after.split_at(record.opc().len());
                encrypted.push(CoreSecrets { ki: ki.to_vec(), opc: opc.to_vec() });
                rest = after;
            }
        }
        let agreed = started.into_iter().zip(verdicts).map(|(record, verdict)| verdict.map(|()| record)).collect();
        Ok((agreed, encrypted))
    }
}

/// Apart, so that what it leaves on the stack is below who wipes it.
#[inline(never)]
fn start_one<'d>(
    bench: &mut Result<Workbench, ErrorStack>,
    work: (&OrderWork, &'d LineWork),
    (job, octets): (Job<'d>, &[u8]),
    (stem, op): (&[u8; MatchingId::STEM_LEN], Option<&SubscriberKey>),
) -> Result<Started<'d>, Failed> {
    Started::new(bench, work, job, (stem, octets), op)
}

/// Records, and those that failed in their places.
type Judged<'d> = Vec<Result<Started<'d>, Failed>>;

/// K and OPc as the core network gets them.
#[derive(Default)]
struct CoreSecrets {
    ki: Vec<u8>,
    opc: Vec<u8>,
}

/// K and OPc of one record, which its group could not be encrypted with; three attempts, each where it was
/// not refused before.
fn encrypt_alone(record: &Started<'_>, key: &BlockKey, session: &mut impl HsmSession) -> Result<CoreSecrets, HsmError> {
    session.anywhere();
    let mut attempts = 1;
    let secrets = loop {
        let secrets = key
            .ask(session, record.k())
            .and_then(|ki| Ok(CoreSecrets { ki: ki.to_vec(), opc: key.ask(session, record.opc())?.to_vec() }));
        match secrets {
            Err(error) if error.class == FaultClass::Data && attempts < ATTEMPTS => session.elsewhere(),
            Err(error) if error.class == FaultClass::Data => {
                break Err(HsmError { what: format!("{}, {ATTEMPTS} attempts", error.what), ..error });
            }
            secrets => break secrets,
        }
        attempts += 1;
    };
    session.anywhere();
    secrets
}

fn blank_randomness() -> Fault {
    Fault::new(Exit::HsmUnusable, "the token's random numbers are blank")
        .hint("nothing of this chunk was issued; run `bindery doctor`, and issue nothing before the cause is known")
}

pub(super) fn workbench() -> Result<Workbench, ErrorStack> {
    Workbench::new()
}

fn any_reaches<T>(results: &[Result<T, Failed>], reach: Reach) -> bool {
    results.iter().any(|result| matches!(result, Err(failed) if failed.reach == reach))
}

/// Failed records get their outcome, cause and remedy, the others go on.
fn keep_sound<T>(
    order: &OrderWork,
    outcomes: &mut Vec<(DevicePk, Outcome)>,
    results: Vec<Result<T, Failed>>,
) -> Vec<T> {
    let mut sound = Vec::with_capacity(results.len());
    for result in results {
        match result {
            Ok(record) => sound.push(record),
            Err(Failed { device, error, .. }) => {
                tracing::warn!("{}: {error}; hint: {}", order.key, error.hint);
                let what = format!("{}; hint: {}", error.what, error.hint);
                outcomes.push((device, Outcome::Failed { class: error.class, what }));
            }
        }
    }
    sound
}

/// Imported K and OPc are each one subscriber's: of records that share one the first stands. For generated ones the same would mean
/// that randomness repeats itself.
fn unlike_others<'d>(order: &OrderWork, started: Vec<Started<'d>>) -> Result<Judged<'d>, Fault> {
    let is_new = order.distinct.are_new_imports(started.iter().map(Started::prints))?;
    let judge = |(record, is_new): (Started<'d>, bool)| match is_new {
        true => Ok(record),
        false => {
            let what = "K or OPc is that of another record of the order";
            Err(record.failed(ErrorClass::Duplicate, what, "ask the operator for this row's own credentials"))
        }
    };
    Ok(started.into_iter().zip(is_new).map(judge).collect())
}

/// Makes the packages, some at a time, and puts them one behind the other into the bundle, PPPs into the vault; durable when this
/// returns. From its UPP to its place in the file a package stays in the cache of one core.
fn write<'d>(
    order: &OrderWork,
    line: &LineWork,
    chunk: &Chunk,
    mut records: impl Iterator<Item = (Result<Started<'d>, Failed>, (Option<Signed>, CoreSecrets))>,
    outcomes: &mut Vec<(DevicePk, Outcome)>,
) -> Result<Option<Written>, Fault> {
    let (dir, object, state) = match line.binding {
        Binding::Now => (&order.bundle_dir, package_object(chunk.number), DeviceState::Bound),
        Binding::Later => (&order.vault_dir, order.vault_object(chunk.number), DeviceState::Prepared),
    };
    let failed = |e: StoreError| {
        Fault::new(Exit::Stopped, format!("packages not written: {e}"))
            .hint("make room or repair the directory, then run again: nothing of this chunk was issued")
    };
    let mut segment = LocalFiles::new(dir).and_then(|files| files.create(&object)).map_err(failed)?;
    let mut issued = 0;
    let mut bench = workbench();
    loop {
        let (group, ends): (Vec<_>, Vec<_>) = records.by_ref().take(seal::RECORDS).unzip();
        if group.is_empty() {
            break;
        }
        let sealed = seal::seal(&mut bench, group, &order.batch_key).into_iter().zip(ends);
        let finish = |(sealed, (signature, core)): (Result<Sealed, Failed>, (Option<Signed>, CoreSecrets))| {
            sealed.and_then(|record| record.finish(signature, core.ki, core.opc))
        };
        for record in keep_sound(order, outcomes, sealed.map(finish).collect()) {
            let placed = segment.append(record.as_bytes()).map_err(failed)?;
            outcomes.push((record.device(), record.into_outcome(state, &object, placed)));
            issued += 1;
        }
    }
    // Dropped unfinished, nothing of the file stays.
    if issued == 0 { Ok(None) } else { segment.finish().map(Some).map_err(failed) }
}
