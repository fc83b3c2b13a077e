//! Closes an order: from ledger and package files to a sealed bundle.
//!
//! Write order, against power loss at any point: every file is durable before the manifest names it, the manifest before
//! its signature, both before the ledger says "exported". A crash before the signature is mended by closing again: the same facts are
//! written once more. Behind it the bundle may have been fetched: it stays as it is, and only the ledger's step is made up for.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use super::batch::RunTimes;
use super::outbox;
use super::purge::erase_files;
use super::row_files::{RowFiles, Told, Walk, export_fault};
use super::scribe::{self, Begun};
use super::work::{Binding, Engine, OrderWork, package_object, vault_object, vault_prefix};
use crate::certs::chain::manifest_certificates;
use crate::certs::{self, Certificate, DpChains, DpPair};
use crate::durable::{self, Stamp};
use crate::error::{Exit, Fault};
use crate::export::bundle::{self, Bundle};
use crate::export::manifest::{self, Counts, FileEntry, Manifest};
use crate::export::records::{self, LineFacts};
use crate::export::report::{self, ReportFacts};
use crate::export::seal::{self, Sealed};
use crate::formats::curve::Curve;
use crate::formats::digest::sha256;
use crate::hsm::{Hsm, HsmSession};
use crate::store::packages::Written;
use crate::store::{Chunk, DeviceState, ObjectFacts, OrderPk, Store, StoredOrder};

/// Files that `submit` left and the bundle keeps.
const ANSWERS: [&str; 2] = ["ack.json", "rejects.csv"];

/// What goes into a bundle beside the engine's own facts.
pub(super) struct Contents<'a> {
    pub(super) stored: &'a StoredOrder,
    pub(super) work: &'a OrderWork,
    /// Where it is written.
    pub(super) dir: &'a Path,
    /// Files that are durable in `dir` already; package files with what was written into them.
    pub(super) existing: Vec<(String, Option<Written>)>,
    pub(super) counts: Counts,
    pub(super) times: &'a RunTimes,
    pub(super) sort: Sort,
}

/// Which of an order's bundles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// The order's own, or that of a later binding.
    Whole,
    /// Rows that were held when the own one was sealed.
    Rest(u32),
    /// Profiles made again.
    Remake {
        number: u32,
        /// ICCIDs or IMSIs among them are not those that were ordered.
        renumbered: bool,
    },
}

/// Seals the bundle of an order whose chunks are all done, and marks the order exported.
pub(super) fn close<H: Hsm>(
    engine: &Engine<'_, H>,
    stored: &StoredOrder,
    work: &OrderWork,
    session: &mut H::Session,
    (times, mut begun): (&RunTimes, Begun<'_>),
) -> Result<Counts, Fault> {
    // A big order's rows are counted while its files are on their way to the disk.
    let (counts, synced) = std::thread::scope(|scope| {
        let syncing = begun.rows.as_mut().map(|rows| scope.spawn(|| rows.sync()));
        let counts = counts_of(engine.store, stored);
        let panicked = |_| Err(Fault::new(Exit::Bug, "the sync of the row files panicked"));
        (counts, syncing.map_or(Ok(()), |syncing| syncing.join().unwrap_or_else(panicked)))
    });
    let counts = counts?;
    synced?;
    let binds_now = |line: u32| work.line(line).is_some_and(|line| line.binding == Binding::Now);
    let mut chunks = engine.store.chunks(work.pk)?;
    sweep_orphans(&work.bundle_dir, &chunks, stored.part)?;
    sweep_vault(&work.vault_dir, work.pk, &chunks)?;
    // Of a later bundle's chunks only those that are done; the order's own tells of its held rows too.
    let is_told = |chunk: &&Chunk| stored.part == 0 || chunk.done;
    let rest: Vec<Chunk> = scribe::rest(&chunks, stored.part, begun.last).filter(is_told).cloned().collect();
    chunks.retain(|chunk| chunk.done && chunk.part == stored.part);
    if stored.part > 0 {
        repeat_answers(stored, &engine.site.outbox().join(stored.key.outbox_path()), &work.bundle_dir)?;
    }
    // A chunk in which every record failed has no package file.
    let packages = chunks.iter().filter(|chunk| binds_now(chunk.line) && chunk.object.is_some());
    let stamps: BTreeMap<&str, Option<Stamp>> =
        times.objects.iter().map(|(name, written)| (name.as_str(), written.stamp)).collect();
    let packages = packages.map(|chunk| {
        let name = package_object(chunk.number);
        let stamp = stamps.get(name.as_str()).copied().flatten();
        (name, chunk.object.map(|facts| Written { facts, stamp }))
    });
    let existing = ANSWERS.iter().map(|name| ((*name).to_owned(), None)).chain(packages).collect();
    let sort = if stored.part == 0 { Sort::Whole } else { Sort::Rest(stored.part) };
    let contents = Contents { stored, work, dir: &work.bundle_dir, existing, counts, times, sort };
    let walk_rest: &Walk<'_> =
        &|visit| rest.iter().try_for_each(|chunk| scribe::walk_chunk(engine, stored, chunk, &mut *visit));
    let manifest_sha256 = write_bundle(engine, &contents, session, (begun.rows, walk_rest))?;
    engine.store.close_order(work.pk, &manifest_sha256)?;
    Ok(counts)
}

/// Makes up for the ledger's last step, where a crash came between it and the seal; `None` when the bundle is not sealed.
pub(super) fn finish_sealed<H: Hsm>(
    engine: &Engine<'_, H>,
    stored: &StoredOrder,
    work: &OrderWork,
) -> Result<Option<Counts>, Fault> {
    if !outbox::is_sealed(&work.bundle_dir) {
        return Ok(None);
    }
    let trusted = manifest_certificates(engine.site)?;
    let Sealed { manifest, manifest_sha256 } = seal::check(&work.bundle_dir, &trusted, &|_| true)?;
    if !outbox::is_of_ledger(engine.store, stored, &manifest)? {
        return Err(sealed_already(&work.bundle_dir));
    }
    engine.store.close_order(work.pk, &manifest_sha256)?;
    Ok(Some(manifest.counts))
}

/// A sealed bundle may have been fetched: nobody writes another one in its place.
fn sealed_already(dir: &Path) -> Fault {
    let what = format!("{}: holds a sealed bundle, and the ledger is not at its end", dir.display());
    Fault::new(Exit::IntegrityFailure, what)
        .hint("nothing was changed; state.db may be an older one: see docs/orders.md, \"When the ledger is lost\"")
}

/// Rows of the bundle that is being filled, by outcome.
pub(super) fn counts_of(store: &dyn Store, stored: &StoredOrder) -> Result<Counts, Fault> {
    match stored.part {
        0 => count(stored.rows, &store.counts(stored.pk)?),
        part => {
            let states = store.part_counts(stored.pk, part)?;
            count(states.iter().map(|(_, rows)| rows).sum(), &states)
        }
    }
}

/// Package files that no done chunk vouches for: of a chunk that a killed run had begun and whose rows were set aside, cancelled or
/// revoked since. The caller holds the run lock, so nobody writes one.
pub(super) fn sweep_orphans(dir: &Path, chunks: &[Chunk], part: u32) -> Result<u64, Fault> {
    let vouched = chunks.iter().filter(|chunk| chunk.done && chunk.part == part && chunk.object.is_some());
    let vouched: BTreeSet<String> = vouched.map(|chunk| package_object(chunk.number)).collect();
    erase_files(dir, |name| name.starts_with("packages-") && !vouched.contains(name))
}

/// The same in the vault, whose files serve all of an order's bundles.
pub(super) fn sweep_vault(vault: &Path, order: OrderPk, chunks: &[Chunk]) -> Result<u64, Fault> {
    let vouched = chunks.iter().filter(|chunk| chunk.done && chunk.object.is_some());
    let vouched: BTreeSet<String> = vouched.map(|chunk| vault_object(order, chunk.number)).collect();
    let prefix = vault_prefix(order);
    erase_files(vault, |name| name.starts_with(&prefix) && !vouched.contains(name))
}

/// The order's first answers for a bundle beside its own: the refused rows stand in the own one.
pub(super) fn repeat_answers(stored: &StoredOrder, own: &Path, dir: &Path) -> Result<(), Fault> {
    let rejects = std::fs::read(own.join("rejects.csv")).unwrap_or_default();
    let header = rejects.split_inclusive(|octet| *octet == b'\n').next().unwrap_or_default();
    durable::make_dirs(dir, 0o755).map_err(|e| Fault::file(dir, &e))?;
    for (name, content) in [("ack.json", &stored.ack[..]), ("rejects.csv", header)] {
        durable::write(&dir.join(name), content, 0o644).map_err(|e| Fault::file(&dir.join(name), &e))?;
    }
    Ok(())
}

/// Writes everything but the package files, and the seal last; gives the manifest's SHA-256. `begun`: row files that tell of the
/// devices before those of `rest`.
pub(super) fn write_bundle<H: Hsm>(
    engine: &Engine<'_, H>,
    contents: &Contents<'_>,
    session: &mut H::Session,
    (begun, rest): (Option<RowFiles<'_>>, &Walk<'_>),
) -> Result<[u8; 32], Fault> {
    let now = jiff::Timestamp::now();
    let now = now.round(jiff::Unit::Second).unwrap_or(now);
    let failed = |e: io::Error| export_fault(contents.dir, &e);
    if outbox::is_sealed(contents.dir) {
        return Err(sealed_already(contents.dir));
    }
    let mut bundle = Bundle::create(contents.dir).map_err(failed)?;
    bundle.unseal().map_err(failed)?;
    note_existing(engine, contents, &mut bundle)?;
    let mut rows = match begun {
        Some(begun) => begun,
        None => RowFiles::start(&bundle, contents.work).map_err(failed)?,
    };
    rows.add_all(rest)?;
    let Told { errors, curves } = rows.keep(&mut bundle).map_err(failed)?;
    let pairs = pairs_used(&engine.chains, &curves);
    let certificates = write_certificates(&pairs, &engine.chains.manifest, &mut bundle).map_err(failed)?;
    write_summaries(engine, contents, (&mut bundle, &pairs), errors, now)?;
    no_foreign_file(&bundle, contents.dir)?;
    let Contents { stored, work, counts, .. } = contents;
    let manifest = Manifest {
        schema: manifest::SCHEMA.to_owned(),
        tenant: work.key.tenant.to_string(),
        order_id: work.key.order_id.to_string(),
        rev: work.key.rev,
        order_sha256: stored.body_sha256.clone(),
        created: now.to_string(),
        files: bundle.files().clone(),
        counts: *counts,
        versions: versions(work),
        certificates,
        part: match contents.sort {
            Sort::Whole => None,
            Sort::Rest(number) | Sort::Remake { number, .. } => Some(number),
        },
        remake: if let Sort::Remake { number, .. } = contents.sort { Some(number) } else { None },
        renumbered: matches!(contents.sort, Sort::Remake { renumbered: true, .. }),
        // Everything that this bundle was made of stands in the log up to here.
        audit_head: Some(engine.store.audit_head()?.hex()),
    };
    let mut json = serde_json::to_vec_pretty(&manifest).map_err(|e| Fault::new(Exit::Bug, format!("manifest: {e}")))?;
    json.push(b'\n');
    let digest = sha256(&json);
    let raw = session.sign(engine.keys.manifest, &digest)?;
    if !certs::signature_fits(engine.chains.manifest.point(), &digest, &raw) {
        let what = "the token's signature of the manifest does not verify with certs/manifest.pem";
        return Err(Fault::new(Exit::HsmUnusable, what).hint("run `bindery doctor`; the bundle was not sealed"));
    }
    let der = manifest::signature_der(&raw).map_err(|e| Fault::new(Exit::Bug, format!("manifest signature: {e}")))?;
    bundle.seal(&json, &der).map_err(failed)?;
    Ok(digest)
}

/// What the manifest does not list is no part of the bundle and must not leave the house with it. Unfinished files are
/// somebody's who is still writing.
fn no_foreign_file(bundle: &Bundle, dir: &Path) -> Result<(), Fault> {
    for below in ["", bundle::CERTIFICATES] {
        let dir = dir.join(below);
        let failed = |e: &io::Error| Fault::file(&dir, e);
        for entry in std::fs::read_dir(&dir).map_err(|e| failed(&e))? {
            let entry = entry.map_err(|e| failed(&e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let listed = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            let is_ours = bundle.files().contains_key(&listed) || (below.is_empty() && name == bundle::CERTIFICATES);
            if !is_ours && !durable::is_pending(&name) {
                let what = format!("{}: is no file of this bundle", entry.path().display());
                return Err(Fault::new(Exit::IntegrityFailure, what)
                    .hint("the bundle was not sealed; move what is not Bindery's out of the outbox, then run again"));
            }
        }
    }
    Ok(())
}

/// Rows by outcome; a row without outcome is a fault, silence counts as failure.
fn count(rows: u64, by_state: &[(DeviceState, u64)]) -> Result<Counts, Fault> {
    let mut counts = Counts { rows, ..Counts::default() };
    for (state, devices) in by_state {
        match state {
            DeviceState::Prepared | DeviceState::Bound | DeviceState::Exported => counts.issued += devices,
            DeviceState::Rejected | DeviceState::Failed => counts.refused += devices,
            DeviceState::Held => counts.held += devices,
            DeviceState::Cancelled | DeviceState::Revoked => counts.cancelled += devices,
            DeviceState::Accepted => {
                return Err(Fault::new(
                    Exit::Bug,
                    format!("{devices} rows are without outcome, the order cannot close"),
                ));
            }
        }
    }
    if counts.add_up() {
        Ok(counts)
    } else {
        let what = format!(
            "{rows} rows were ordered, the ledger accounts for {}",
            counts.issued + counts.refused + counts.held + counts.cancelled
        );
        Err(Fault::new(Exit::IntegrityFailure, what)
            .hint("do not deliver this bundle; check state.db with `bindery doctor`"))
    }
}

/// Answers and package files that are durable already; hashed as they lie on disk, on all cores, but for the package files that this
/// process wrote and nobody touched since. A package file that is not what was written ends the closing: nobody signs what is not
/// there.
fn note_existing<H: Hsm>(engine: &Engine<'_, H>, contents: &Contents<'_>, bundle: &mut Bundle) -> Result<(), Fault> {
    let entries =
        engine.cpu.map(&contents.existing, |(name, written)| entry_of(&contents.dir.join(name), written.as_ref()));
    for ((name, written), entry) in contents.existing.iter().zip(entries) {
        let path = contents.dir.join(name);
        let damaged = |what: &str| {
            Fault::new(Exit::IntegrityFailure, format!("{}: {what}", path.display())).hint(
                "restore the file from a backup: its packages are in the ledger and cannot be made again; without one, \
                     `bindery order revoke` gives the order's unexported rows up, and they are ordered anew",
            )
        };
        let entry = match (entry, written) {
            (Err(e), Some(_)) if e.kind() == io::ErrorKind::NotFound => {
                return Err(damaged("the package file is gone"));
            }
            (entry, _) => entry.map_err(|e| Fault::file(&path, &e))?,
        };
        let same = |written: &Written| entry == entry_as_written(&written.facts);
        if !written.as_ref().is_none_or(same) {
            return Err(damaged("the package file is not what was written"));
        }
        bundle.note(name, entry);
    }
    Ok(())
}

/// A file's entry: what went into it when it is untouched, else what a reading gives.
fn entry_of(path: &Path, written: Option<&Written>) -> io::Result<FileEntry> {
    match written {
        Some(Written { facts, stamp: Some(stamp) }) if Stamp::read(path).is_ok_and(|now| now == *stamp) => {
            Ok(entry_as_written(facts))
        }
        _ => bundle::file_entry(path),
    }
}

fn entry_as_written(facts: &ObjectFacts) -> FileEntry {
    FileEntry { sha256: data_encoding::HEXLOWER.encode(&facts.sha256), bytes: facts.bytes }
}

/// The chains of a bundle: the first always, so that the two files are always there, the others where a package is signed under
/// them.
fn pairs_used<'c>(chains: &'c DpChains, curves: &BTreeSet<Curve>) -> Vec<&'c DpPair> {
    let used = |(at, pair): &(usize, &DpPair)| *at == 0 || curves.contains(&pair.curve());
    chains.pairs().iter().enumerate().filter(used).map(|(_, pair)| pair).collect()
}

/// `certs/`: our chains and the manifest's certificate; gives their fingerprints by role.
fn write_certificates(
    pairs: &[&DpPair],
    manifest: &Certificate,
    bundle: &mut Bundle,
) -> io::Result<BTreeMap<String, String>> {
    let mut files = vec![("manifest".to_owned(), manifest.pem(), manifest)];
    for (at, pair) in pairs.iter().enumerate() {
        let tail = if at == 0 { "" } else { pair.curve().file_tail() };
        for (role, chain) in [("dpauth", &pair.auth), ("dppb", &pair.pb)] {
            files.push((format!("{role}{tail}"), chain.pem(), chain.leaf()));
        }
    }
    let mut fingerprints = BTreeMap::new();
    for (role, pem, leaf) in files {
        bundle.write(&format!("{}/{role}.pem", bundle::CERTIFICATES), pem.as_bytes())?;
        fingerprints.insert(role, leaf.fingerprint());
    }
    Ok(fingerprints)
}

/// `recon.json` and `report.html`.
fn write_summaries<H: Hsm>(
    engine: &Engine<'_, H>,
    contents: &Contents<'_>,
    (bundle, pairs): (&mut Bundle, &[&DpPair]),
    errors: BTreeMap<String, u64>,
    now: jiff::Timestamp,
) -> Result<(), Fault> {
    let failed = |e: io::Error| export_fault(contents.dir, &e);
    let Contents { stored, work, counts, times, .. } = contents;
    let mut recon = Vec::new();
    records::write_recon(&mut recon, counts).map_err(failed)?;
    bundle.write("recon.json", &recon).map_err(failed)?;
    let lines = work.lines.iter().map(|line| {
        let LineFacts { mode, algorithm, .. } = &line.facts;
        [
            line.number.to_string(),
            line.ordered.template.clone(),
            mode.clone(),
            algorithm.clone(),
            line.ordered.quantity.to_string(),
        ]
    });
    let certificate =
        |role: &str, it: &Certificate| [role.to_owned(), it.title().to_owned(), it.not_after().to_string()];
    let leaves = pairs.iter().flat_map(|pair| [("DPauth", pair.auth.leaf()), ("DPpb", pair.pb.leaf())]);
    let certificates = leaves.chain([("manifest", &engine.chains.manifest)]).map(|(role, it)| certificate(role, it));
    let facts = ReportFacts {
        order: work.key.to_string(),
        order_sha256: &stored.body_sha256,
        created: now.to_string(),
        counts: *counts,
        errors: errors.into_iter().collect(),
        lines: lines.collect(),
        certificates: certificates.collect(),
        chunks: &times.chunks,
        audited: times.audited,
        seconds: times.elapsed.as_secs_f64(),
    };
    let page = report::html(&facts).map_err(|e| Fault::new(Exit::Bug, format!("report: {e}")))?;
    bundle.write("report.html", page.as_bytes()).map_err(failed)
}

fn versions(work: &OrderWork) -> BTreeMap<String, String> {
    let engine = ("engine".to_owned(), format!("bindery {}", env!("CARGO_PKG_VERSION")));
    let templates = work.lines.iter().map(|line| {
        (format!("line {} template", line.number), format!("{} sha256:{}", line.ordered.template, line.template_sha256))
    });
    std::iter::once(engine).chain(templates).collect()
}
