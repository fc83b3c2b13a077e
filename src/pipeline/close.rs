//! Closes an order: from ledger and package files to a sealed bundle.
//!
//! Write order, against power loss at any point: every file is durable before the manifest names it, the manifest before
//! its signature, both before the ledger says "exported". A crash in between is mended by closing again: the ledger still
//! says "open", the seal is taken away first, and the same facts are written once more.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use openssl::sha::sha256;

use super::batch::RunTimes;
use super::work::{Binding, Engine, OrderWork, package_object};
use crate::certs::{Certificate, DpChains};
use crate::error::{Exit, Fault};
use crate::export::activation::{activation_code, qr_figure};
use crate::export::bundle::{self, Bundle, BundleFile};
use crate::export::manifest::{self, Counts, Manifest};
use crate::export::records::{self, LineFacts};
use crate::export::report::{self, ReportFacts};
use crate::hsm::{Hsm, HsmSession};
use crate::store::{Device, DevicePk, DeviceState, StoredOrder};

/// Devices read from the ledger at once.
const PAGE: i64 = 2_000;

/// Files that `submit` left and the bundle keeps.
const ANSWERS: [&str; 2] = ["ack.json", "rejects.csv"];

/// Seals the bundle of an order whose chunks are all done, and marks the order exported.
pub(super) fn close<H: Hsm>(
    engine: &Engine<'_, H>,
    stored: &StoredOrder,
    work: &OrderWork,
    session: &mut H::Session,
    times: &RunTimes,
    now: jiff::Timestamp,
) -> Result<Counts, Fault> {
    let by_state = engine.store.counts(work.pk)?;
    let counts = count(stored.rows, &by_state)?;
    let mut bundle = Bundle::create(&work.bundle_dir).map_err(|e| export_fault(work, &e))?;
    bundle.unseal().map_err(|e| export_fault(work, &e))?;
    note_existing(engine, work, &mut bundle)?;
    let errors = write_records(engine, work, &mut bundle)?;
    let certificates = write_certificates(engine, work, &mut bundle)?;
    write_summaries(stored, work, engine, &mut bundle, &Summary { counts, errors, times, now })?;

    let manifest = Manifest {
        schema: manifest::SCHEMA.to_owned(),
        tenant: work.key.tenant.to_string(),
        order_id: work.key.order_id.to_string(),
        rev: work.key.rev,
        order_sha256: stored.body_sha256.clone(),
        created: now.to_string(),
        files: bundle.files().clone(),
        counts,
        versions: versions(work),
        certificates,
        audit_head: None,
    };
    let mut json = serde_json::to_vec_pretty(&manifest).map_err(|e| Fault::new(Exit::Bug, format!("manifest: {e}")))?;
    json.push(b'\n');
    let raw = session.sign(engine.keys.manifest, &sha256(&json))?;
    let der = manifest::signature_der(&raw).map_err(|e| Fault::new(Exit::Bug, format!("manifest signature: {e}")))?;
    bundle.seal(&json, &der).map_err(|e| export_fault(work, &e))?;
    engine.store.close_order(work.pk)?;
    Ok(counts)
}

/// Rows by outcome; a row without outcome is a fault, silence counts as failure.
fn count(rows: u64, by_state: &[(DeviceState, u64)]) -> Result<Counts, Fault> {
    let mut counts = Counts { rows, ..Counts::default() };
    for (state, devices) in by_state {
        match state {
            DeviceState::Prepared | DeviceState::Bound | DeviceState::Exported => counts.issued += devices,
            DeviceState::Rejected | DeviceState::Failed => counts.refused += devices,
            DeviceState::Held => counts.held += devices,
            DeviceState::Cancelled => counts.cancelled += devices,
            DeviceState::Accepted => {
                return Err(Fault::new(Exit::Bug, format!("{devices} rows are without outcome, the order cannot close")));
            }
        }
    }
    if counts.add_up() {
        Ok(counts)
    } else {
        let what = format!("{rows} rows were ordered, the ledger accounts for {}", counts.issued + counts.refused + counts.held + counts.cancelled);
        Err(Fault::new(Exit::IntegrityFailure, what).hint("do not deliver this bundle; check state.db with `bindery doctor`"))
    }
}

/// Answers and package files that are durable already; packages are hashed as they lie on disk, on all cores.
fn note_existing<H: Hsm>(engine: &Engine<'_, H>, work: &OrderWork, bundle: &mut Bundle) -> Result<(), Fault> {
    let binds_now = |line: u32| work.line(line).is_some_and(|line| line.binding == Binding::Now);
    let chunks = engine.store.chunks(work.pk)?;
    let packages = chunks.iter().filter(|chunk| binds_now(chunk.line)).map(|chunk| package_object(chunk.number));
    let names: Vec<String> = ANSWERS.iter().map(|name| (*name).to_owned()).chain(packages).collect();
    let entries = engine.cpu.map(&names, |name| bundle::file_entry(&work.bundle_dir.join(name)));
    for (name, entry) in names.iter().zip(entries) {
        match entry {
            Ok(entry) => bundle.note(name, entry),
            // A chunk in which every record failed has no package file.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !ANSWERS.contains(&name.as_str()) => {}
            Err(e) => return Err(Fault::file(&work.bundle_dir.join(name), &e)),
        }
    }
    Ok(())
}

/// The four row files (and the QR sheet where a line asks for it) in one walk through the ledger.
struct RecordFiles {
    orders: BundleFile,
    core: BundleFile,
    codes: BundleFile,
    results: BundleFile,
    qr: Option<BundleFile>,
    several_lines: bool,
}

impl RecordFiles {
    fn start(bundle: &Bundle, work: &OrderWork) -> io::Result<Self> {
        let several_lines = work.lines.len() > 1;
        let mut files = Self {
            orders: bundle.start("orders.jsonl")?,
            core: bundle.start("core.csv")?,
            codes: bundle.start("activation-codes.csv")?,
            results: bundle.start("results.csv")?,
            qr: work.lines.iter().any(|line| line.qr).then(|| bundle.start("qr-codes.html")).transpose()?,
            several_lines,
        };
        writeln!(files.core, "{}", records::CORE_HEADER)?;
        writeln!(files.codes, "{}", records::ACTIVATION_CODES_HEADER)?;
        writeln!(files.results, "{}{}", records::RESULTS_HEADER, if several_lines { ",line" } else { "" })?;
        if let Some(qr) = &mut files.qr {
            qr.write_all(QR_HEAD.as_bytes())?;
        }
        Ok(files)
    }

    fn add(&mut self, device: &Device, line: &LineFacts, with_qr: bool) -> io::Result<()> {
        records::write_order_record(&mut self.orders, device, line)?;
        records::write_core_record(&mut self.core, device, line)?;
        records::write_activation_code(&mut self.codes, device, line)?;
        records::write_result(&mut self.results, device, self.several_lines)?;
        let (Some(qr), true) = (&mut self.qr, with_qr) else { return Ok(()) };
        let (Some(issue), Some(iccid)) = (records::issued(device), &device.iccid) else { return Ok(()) };
        let code = activation_code(&line.smdp_address, &issue.matching_id, line.cc_required);
        let figure = qr_figure(&code, iccid.as_str()).ok_or_else(|| io::Error::other("activation code too long for a QR code"))?;
        qr.write_all(figure.as_bytes())
    }

    fn keep(self, bundle: &mut Bundle) -> io::Result<()> {
        [Some(self.orders), Some(self.core), Some(self.codes), Some(self.results), self.qr]
            .into_iter()
            .flatten()
            .try_for_each(|file| bundle.keep(file))
    }
}

const QR_HEAD: &str = "<!doctype html><meta charset=\"utf-8\"><title>Activation codes</title>\
<style>figure{display:inline-block;width:11rem;margin:.5rem;text-align:center;font:12px monospace;break-inside:avoid}</style>\n";

/// Writes the row files; gives the number of rows by error class.
fn write_records<H: Hsm>(
    engine: &Engine<'_, H>,
    work: &OrderWork,
    bundle: &mut Bundle,
) -> Result<BTreeMap<String, u64>, Fault> {
    let mut files = RecordFiles::start(bundle, work).map_err(|e| export_fault(work, &e))?;
    let mut errors = BTreeMap::new();
    for line in &work.lines {
        let Some((first, last)) = engine.store.device_span(work.pk, line.number)? else { continue };
        let mut from = first.0;
        while from <= last.0 {
            let to = (from + PAGE - 1).min(last.0);
            for device in engine.store.devices(work.pk, DevicePk(from), DevicePk(to))? {
                if let Some(class) = &device.error_class {
                    *errors.entry(class.clone()).or_insert(0) += 1;
                }
                files.add(&device, &line.facts, line.qr).map_err(|e| export_fault(work, &e))?;
            }
            from = to + 1;
        }
    }
    files.keep(bundle).map_err(|e| export_fault(work, &e))?;
    Ok(errors)
}

/// `certs/`: our chains and the manifest's certificate; gives their fingerprints by role.
fn write_certificates<H: Hsm>(
    engine: &Engine<'_, H>,
    work: &OrderWork,
    bundle: &mut Bundle,
) -> Result<BTreeMap<String, String>, Fault> {
    let DpChains { auth, pb, manifest } = &engine.chains;
    let mut fingerprints = BTreeMap::new();
    for (role, pem, leaf) in
        [("dpauth", auth.pem(), auth.leaf()), ("dppb", pb.pem(), pb.leaf()), ("manifest", manifest.pem(), manifest)]
    {
        bundle.write(&format!("certs/{role}.pem"), pem.as_bytes()).map_err(|e| export_fault(work, &e))?;
        fingerprints.insert(role.to_owned(), leaf.fingerprint());
    }
    Ok(fingerprints)
}

struct Summary<'a> {
    counts: Counts,
    errors: BTreeMap<String, u64>,
    times: &'a RunTimes,
    now: jiff::Timestamp,
}

/// `recon.json` and `report.html`.
fn write_summaries<H: Hsm>(
    stored: &StoredOrder,
    work: &OrderWork,
    engine: &Engine<'_, H>,
    bundle: &mut Bundle,
    summary: &Summary<'_>,
) -> Result<(), Fault> {
    let mut recon = Vec::new();
    records::write_recon(&mut recon, &summary.counts).map_err(|e| export_fault(work, &e))?;
    bundle.write("recon.json", &recon).map_err(|e| export_fault(work, &e))?;
    let lines = work.lines.iter().map(|line| {
        let LineFacts { mode, algorithm, .. } = &line.facts;
        [line.number.to_string(), line.template_name.clone(), mode.clone(), algorithm.clone(), line.quantity.to_string()]
    });
    let certificate = |role: &str, it: &Certificate| [role.to_owned(), it.title().to_owned(), it.not_after().to_string()];
    let DpChains { auth, pb, manifest } = &engine.chains;
    let facts = ReportFacts {
        order: work.key.to_string(),
        order_sha256: &stored.body_sha256,
        created: summary.now.to_string(),
        counts: summary.counts,
        errors: summary.errors.clone().into_iter().collect(),
        lines: lines.collect(),
        certificates: vec![
            certificate("DPauth", auth.leaf()),
            certificate("DPpb", pb.leaf()),
            certificate("manifest", manifest),
        ],
        chunks: &summary.times.chunks,
        seconds: summary.times.elapsed.unwrap_or(Duration::ZERO).as_secs_f64(),
    };
    let page = report::html(&facts).map_err(|e| Fault::new(Exit::Bug, format!("report: {e}")))?;
    bundle.write("report.html", page.as_bytes()).map_err(|e| export_fault(work, &e))
}

fn versions(work: &OrderWork) -> BTreeMap<String, String> {
    let engine = ("engine".to_owned(), format!("bindery {}", env!("CARGO_PKG_VERSION")));
    let templates = work.lines.iter().map(|line| {
        (format!("line {} template", line.number), format!("{} sha256:{}", line.template_name, line.template_sha256))
    });
    std::iter::once(engine).chain(templates).collect()
}

fn export_fault(work: &OrderWork, error: &io::Error) -> Fault {
    Fault::new(Exit::Stopped, format!("{}: bundle not written: {error}", work.bundle_dir.display()))
        .hint("make room or repair the directory, then run again: nothing is lost and nothing is made twice")
}
