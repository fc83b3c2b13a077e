//! The files of a bundle that have a line for each row: `orders.jsonl`, `core.csv`, `activation-codes.csv`, `results.csv`, and the
//! sheet of QR codes where a line asks for it.
//!
//! In: devices as the ledger holds them, in the order of their rows; of those bound just now the curves beside them. Out: files under
//! their temporary names, and what the bundle's summaries say of the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};
use std::thread::ScopedJoinHandle;

use super::work::OrderWork;
use crate::error::{Exit, Fault};
use crate::export::activation::qr_figure;
use crate::export::bundle::{Bundle, BundleFile};
use crate::export::records::{self, LineFacts};
use crate::formats::curve::Curve;
use crate::store::{Device, DeviceState};

/// Devices handed from the ledger's reader to the writer of the row files at once, and how many such pages wait.
const PAGE_HANDED_ON: usize = 256;
const PAGES_AHEAD: usize = 4;

const QR_HEAD: &str = "<!doctype html><meta charset=\"utf-8\"><title>Activation codes</title>\
<style>figure{display:inline-block;width:11rem;margin:.5rem;text-align:center;font:12px monospace;break-inside:avoid}</style>\n";

/// Walks through the devices of a bundle, in the order of their rows.
pub(super) type Walk<'a> = dyn Fn(&mut dyn FnMut(Device) -> Result<(), Fault>) -> Result<(), Fault> + 'a;

/// The row files being written; dropped without [`Self::keep`], nothing of them stays.
pub(super) struct RowFiles<'w> {
    work: &'w OrderWork,
    dir: PathBuf,
    orders: BundleFile,
    core: BundleFile,
    codes: BundleFile,
    results: BundleFile,
    qr: Option<BundleFile>,
    told: Told,
}

/// What the rows told beside the files.
#[derive(Default)]
pub(super) struct Told {
    /// Rows by error class.
    pub(super) errors: BTreeMap<String, u64>,
    /// Curves of the eUICCs that have a package.
    pub(super) curves: BTreeSet<Curve>,
}

impl<'w> RowFiles<'w> {
    /// With their headers.
    pub(super) fn start(bundle: &Bundle, work: &'w OrderWork) -> io::Result<Self> {
        let mut files = Self {
            work,
            dir: bundle.dir().to_owned(),
            orders: bundle.start("orders.jsonl")?,
            core: bundle.start("core.csv")?,
            codes: bundle.start("activation-codes.csv")?,
            results: bundle.start("results.csv")?,
            qr: work.lines.iter().any(|line| line.qr).then(|| bundle.start("qr-codes.html")).transpose()?,
            told: Told::default(),
        };
        writeln!(files.core, "{}", records::CORE_HEADER)?;
        writeln!(files.codes, "{}", records::ACTIVATION_CODES_HEADER)?;
        let line = if has_several_lines(work) { ",line" } else { "" };
        writeln!(files.results, "{}{line}", records::RESULTS_HEADER)?;
        if let Some(qr) = &mut files.qr {
            qr.write_all(QR_HEAD.as_bytes())?;
        }
        Ok(files)
    }

    /// The lines of one device.
    pub(super) fn add(&mut self, device: &Device) -> Result<(), Fault> {
        self.told.look_for_curve(device, &self.work.curves);
        self.add_lines(device)
    }

    /// The lines of devices of a chunk that was worked on just now; those it bound are on these curves.
    pub(super) fn add_worked<'d>(
        &mut self,
        mut devices: impl Iterator<Item = &'d Device>,
        curves: &BTreeSet<Curve>,
    ) -> Result<(), Fault> {
        self.told.curves.extend(curves);
        devices.try_for_each(|device| match device.state {
            DeviceState::Bound => self.add_lines(device),
            _ => self.add(device),
        })
    }

    fn add_lines(&mut self, device: &Device) -> Result<(), Fault> {
        self.told.note_error(device);
        let line = self.work.line(device.line).ok_or_else(|| Fault::new(Exit::Bug, "a device of no line"))?;
        self.write(device, &line.facts, line.qr).map_err(|e| export_fault(&self.dir, &e))
    }

    /// The lines of all devices of a walk, written beside it.
    pub(super) fn add_all(&mut self, walk: &Walk<'_>) -> Result<(), Fault> {
        std::thread::scope(|scope| {
            let (pages, read) = mpsc::sync_channel::<Vec<Device>>(PAGES_AHEAD);
            let writer = scope.spawn(|| read.into_iter().flatten().try_for_each(|device| self.add(&device)));
            let read = read_ahead(walk, pages);
            // A writer that failed is why the reader could not go on.
            let written =
                writer.join().unwrap_or_else(|_| Err(Fault::new(Exit::Bug, "the writer of the row files panicked")));
            written.and(read)
        })
    }

    /// Puts what was written so far on the disk, all files at once.
    pub(super) fn sync(&mut self) -> Result<(), Fault> {
        let Self { orders, core, codes, results, qr, dir, .. } = self;
        let files = [orders, core, codes, results].into_iter().chain(qr);
        let synced: io::Result<()> = std::thread::scope(|scope| {
            let syncing: Vec<_> = files.map(|file| scope.spawn(|| file.sync())).collect();
            let done = |sync: ScopedJoinHandle<'_, io::Result<()>>| {
                sync.join().unwrap_or_else(|_| Err(io::Error::other("the sync of a row file panicked")))
            };
            syncing.into_iter().map(done).collect::<Vec<_>>().into_iter().collect()
        });
        synced.map_err(|e| export_fault(dir, &e))
    }

    /// Makes them durable as files of the bundle.
    pub(super) fn keep(self, bundle: &mut Bundle) -> io::Result<Told> {
        let Self { orders, core, codes, results, qr, told, .. } = self;
        [Some(orders), Some(core), Some(codes), Some(results), qr]
            .into_iter()
            .flatten()
            .try_for_each(|file| bundle.keep(file))?;
        Ok(told)
    }

    fn write(&mut self, device: &Device, line: &LineFacts, with_qr: bool) -> io::Result<()> {
        records::write_order_record(&mut self.orders, device, line)?;
        records::write_core_record(&mut self.core, device, line)?;
        records::write_activation_code(&mut self.codes, device, line)?;
        records::write_result(&mut self.results, device, has_several_lines(self.work))?;
        let (Some(qr), true) = (&mut self.qr, with_qr) else { return Ok(()) };
        let (Some(issue), Some(iccid)) = (records::issued(device), &device.iccid) else { return Ok(()) };
        let figure = qr_figure(&line.activation_code(issue), iccid.as_str())
            .ok_or_else(|| io::Error::other("activation code too long for a QR code"))?;
        qr.write_all(figure.as_bytes())
    }
}

impl Told {
    fn note_error(&mut self, device: &Device) {
        if let Some(class) = &device.error_class {
            *self.errors.entry(class.clone()).or_insert(0) += 1;
        }
    }

    /// `served`: the curves that there can be.
    fn look_for_curve(&mut self, device: &Device, served: &[Curve]) {
        // To look at a point costs as much as its line; once all curves were seen no further one tells more.
        if self.curves.len() < served.len() {
            self.curves.extend(device.euicc_otpk.as_ref().and_then(Curve::of_point));
        }
    }
}

/// A bundle that could not be written.
pub(super) fn export_fault(dir: &Path, error: &io::Error) -> Fault {
    Fault::new(Exit::Stopped, format!("{}: bundle not written: {error}", dir.display()))
        .hint("make room or repair the directory, then run again: nothing is lost and nothing is made twice")
}

fn has_several_lines(work: &OrderWork) -> bool {
    work.lines.len() > 1
}

/// Hands the devices on in pages, so that the next ones are read from the ledger while those before are written.
fn read_ahead(walk: &Walk<'_>, pages: SyncSender<Vec<Device>>) -> Result<(), Fault> {
    let hand_on = |page| pages.send(page).map_err(|_| Fault::new(Exit::Bug, "nobody writes the row files any more"));
    let mut page = Vec::with_capacity(PAGE_HANDED_ON);
    walk(&mut |device| {
        page.push(device);
        if page.len() < PAGE_HANDED_ON {
            return Ok(());
        }
        hand_on(std::mem::replace(&mut page, Vec::with_capacity(PAGE_HANDED_ON)))
    })?;
    hand_on(page)
}
