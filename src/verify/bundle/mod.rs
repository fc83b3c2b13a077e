//! A bundle on disk, judged: signature and hashes, tables against records, every record, every package (or a sample).
//!
//! [`Bundle::load`] reads everything that is one file; [`Bundle::check_record`] opens one package and may run on many threads at
//! once; [`Bundle::judge`] adds it up. Records and rows stay on disk: memory holds their places.

mod core_file;
mod lines;
mod lookup;
mod manifest;
mod ordered;
mod record;
mod report;
mod secrets;
mod tables;
mod unique;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use openssl::sha::sha256;
use openssl::x509::X509;

use self::core_file::{CoreFile, CoreKey};
use self::lines::{Lines, Place};
use self::lookup::Lookup;
use self::ordered::Wanted;
use self::record::{Package, Record};
pub use self::report::{Report, Sample, Total};
use self::secrets::{Secrets, key_print};
use self::tables::Known;
use self::unique::{Column, Print, Salt, Seen};
use super::chain::DpTrust;
use super::euicc::Opened;
use super::finding::{Check, Finding, Findings};
use super::saip::{Variable, access_classes};
use crate::error::{Exit, Fault};

const RECORDS: &str = "orders.jsonl";
/// Longer than any package: the biggest profile SGP.22 cards take is far below.
const PACKAGE_MAX: u64 = 16 << 20;
/// Records that are checked before what was found is put away.
const GROUP: usize = 4_096;

/// What the judge is given beside the bundle.
pub struct LoadOptions {
    /// `secrets.jsonl` of the test fleet.
    pub secrets: PathBuf,
    /// The core side's copy of the transport key, in hex.
    pub core_key: Option<PathBuf>,
    /// The order file as it was submitted, beside the files it names.
    pub order: Option<PathBuf>,
    /// CI certificates the site trusts.
    pub cis: Vec<X509>,
    /// The site's own certificates of its manifest key.
    pub manifest_certificates: Vec<X509>,
    /// The moment at which certificates must be valid.
    pub now_unix_s: i64,
    /// Values of EF.ACC that the order gave; without any, EF.ACC must be the bit of the last IMSI digit.
    pub ordered_acc: Vec<u16>,
}

/// Runs `check` for every index given and hands the results back in any order: sequential here, on a thread pool in `pipeline`.
pub type FanOut<'a> = dyn Fn(&[usize], &(dyn Fn(usize) -> Checked + Sync)) -> Vec<Checked> + 'a;

/// The plainest [`FanOut`].
pub fn in_turn(indexes: &[usize], check: &(dyn Fn(usize) -> Checked + Sync)) -> Vec<Checked> {
    indexes.iter().map(|index| check(*index)).collect()
}

/// A bundle whose files have been read; its packages have not been opened yet.
pub struct Bundle {
    records: Vec<Placed>,
    records_file: Option<File>,
    objects: BTreeMap<String, File>,
    core: CoreFile,
    core_key: Option<CoreKey>,
    secrets: Secrets,
    trust: DpTrust,
    ordered_acc: Vec<u16>,
    salt: Salt,
    has_order: bool,
    /// By record: values that the order gives its package.
    wanted: HashMap<u32, Wanted>,
    findings: Findings,
    notes: Vec<String>,
}

/// A record as memory holds it.
struct Placed {
    place: Place,
    row: u32,
    has_package: bool,
}

/// What came out of one record.
pub struct Checked {
    index: usize,
    is_opened: bool,
    findings: Vec<Finding>,
    prints: Vec<(Column, Print)>,
}

impl Bundle {
    /// Reads the bundle. A fault is ours or the caller's (no secrets file, no bundle); whatever is wrong with the bundle is a finding.
    pub fn load(dir: &Path, options: LoadOptions) -> Result<Self, Fault> {
        std::fs::read_dir(dir).map_err(|e| Fault::file(dir, &e).hint("name a directory below outbox/"))?;
        let mut findings = Findings::default();
        let mut notes = Vec::new();
        let salt = Salt::random().map_err(|e| Fault::new(Exit::Bug, format!("no randomness: {e}")))?;
        let core_key = options.core_key.as_deref().map(CoreKey::read).transpose()?;
        let vouched = manifest::read(dir, &options.manifest_certificates, &mut findings);
        let there = &vouched.there;
        let trust = establish(dir, there, &options, &mut findings);
        let mut index = Index::read(dir, &trust, &salt, &mut findings);
        index.by_iccid.sort();
        index.keys.sort();
        index.judge_coverage(dir, there, &mut findings);
        index.judge_uniqueness(&mut findings)?;
        let secrets = Secrets::index(&options.secrets, &salt, &index.keys, index.records.len())?;

        let records_file = File::open(dir.join(RECORDS)).ok();
        let read = |i: u32| read_record(records_file.as_ref()?, index.records.get(i as usize)?.place).ok();
        let known = Known { records: index.records.len(), by_iccid: &index.by_iccid, salt: &salt, read: &read };
        let results = tables::results(dir, &known, vouched.counts, &mut findings);
        tables::rejects(dir, there, &results, &mut findings);
        tables::activation_codes(dir, &known, &mut findings);
        // A core file that is missing has been told already.
        let core =
            if there.contains("core.csv") { tables::core(dir, &known, &mut findings) } else { CoreFile::default() };
        if core_key.is_none() {
            notes.push("K and OPc were not compared with core.csv: no core key (--core-key FILE)".into());
        }
        let wanted = match &options.order {
            Some(path) => ordered::compare(path, &vouched, &known, (&results.rows, &core), &mut findings)?,
            None => {
                notes.push("not compared with the order (--order FILE)".into());
                HashMap::new()
            }
        };
        index.records.iter_mut().zip(&results.rows).for_each(|(record, place)| record.row = place.row);
        let objects = index.objects.keys().filter_map(|name| Some((name.clone(), File::open(dir.join(name)).ok()?)));
        Ok(Self {
            objects: objects.collect(),
            records: index.records,
            records_file,
            core,
            core_key,
            secrets,
            trust,
            ordered_acc: options.ordered_acc,
            salt,
            has_order: options.order.is_some(),
            wanted,
            findings,
            notes,
        })
    }

    /// Records of `orders.jsonl`, sound ones.
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Records with a bound package.
    pub fn packages(&self) -> usize {
        self.records.iter().filter(|record| record.has_package).count()
    }

    /// Which records to check: all without a package (they cost nothing), and all or a sample of those with one.
    pub fn select(&self, sample: Sample) -> Result<Vec<usize>, Fault> {
        let (bound, mut chosen): (Vec<_>, Vec<_>) = (0..self.records.len()).partition(|i| self.records[*i].has_package);
        chosen.extend(sample.choose(bound)?);
        chosen.sort_unstable();
        Ok(chosen)
    }

    /// Checks one record and opens its package.
    pub fn check_record(&self, index: usize) -> Checked {
        let mut checked = Checked { index, is_opened: false, findings: Vec::new(), prints: Vec::new() };
        let Some(placed) = self.records.get(index) else { return checked };
        let record =
            self.records_file.as_ref().ok_or_else(|| "is gone".to_owned()).and_then(|f| read_record(f, placed.place));
        let record = match record {
            Ok(record) => record,
            Err(what) => {
                checked.findings.push(Finding::new(Check::RecordForm, what).in_file(RECORDS));
                return checked;
            }
        };
        let label = label(placed.row, &record);
        if let Err(what) = record.check_activation_code() {
            checked.findings.push(Finding::new(Check::ActivationCode, what).in_file(RECORDS));
        }
        if let Some(package) = &record.package {
            checked.is_opened = true;
            self.check_package(&record, package, &mut checked);
        }
        checked.findings.iter_mut().for_each(|finding| finding.record = Some(label.clone()));
        checked
    }

    fn check_package(&self, record: &Record, package: &Package, checked: &mut Checked) {
        let bpp = match self.read_package(package) {
            Ok(bpp) => bpp,
            Err(finding) => return checked.findings.push(finding),
        };
        if sha256(&bpp) != package.sha256 {
            let finding = Finding::new(Check::PackageHash, "SHA-256 of the package is not the record's");
            checked.findings.push(Finding { offset: Some(package.offset), ..finding.in_file(&package.object) });
        }
        let euicc = match self.secrets.euicc(checked.index) {
            Ok(euicc) => euicc,
            Err(what) => return checked.findings.push(Finding::new(Check::Secret, what)),
        };
        let wanted = self.wanted.get(&(checked.index as u32)).into_iter().flatten();
        let classes =
            wanted.filter(|(variable, _)| *variable == Variable::Acc).filter_map(|(_, asked)| access_classes(asked));
        let ordered_acc: Vec<u16> = self.ordered_acc.iter().copied().chain(classes).collect();
        match euicc.open(&bpp, &self.trust, &ordered_acc) {
            Ok(opened) => self.compare(record, package, &opened, checked),
            Err(findings) => checked.findings.extend(findings.into_iter().map(|finding| {
                let offset = Some(package.offset + finding.offset.unwrap_or_default());
                Finding { offset, ..finding.in_file(&package.object) }
            })),
        }
    }

    fn read_package(&self, package: &Package) -> Result<zeroize::Zeroizing<Vec<u8>>, Finding> {
        let wrong = |what: &str| Finding::new(Check::PackageHash, what).in_file(&package.object);
        let file = self.objects.get(&package.object).ok_or_else(|| wrong("the package's file is missing"))?;
        if package.length > PACKAGE_MAX {
            return Err(wrong("the record's length is beyond any package"));
        }
        lines::read_at(file, package.offset, package.length as usize)
            .map_err(|e| wrong(&format!("cannot be read: {e}")))
    }

    /// What the eUICC found, against what the record and the core file say.
    fn compare(&self, record: &Record, package: &Package, opened: &Opened, checked: &mut Checked) {
        let pairs = [
            ("ICCID", record.iccid == opened.iccid),
            (
                "IMSI",
                opened.imsis.iter().all(|imsi| record.imsi.as_ref() == Some(imsi))
                    && record.imsi.is_some() != opened.imsis.is_empty(),
            ),
            ("profile_class", record.profile_class == opened.class.as_str()),
            ("metadata_sha256", record.metadata_sha256 == Some(opened.metadata_sha256)),
            ("upp_sha256", record.upp_sha256 == Some(opened.upp_sha256)),
            ("transaction_id", package.transaction_id == opened.transaction_id),
        ];
        for (name, is_same) in pairs {
            if !is_same {
                let what = format!("{name} of the package is not the record's");
                checked.findings.push(Finding::new(Check::RecordMatch, what).in_file(&package.object));
            }
        }
        match self.core.row(checked.index) {
            Ok(None) => {}
            Ok(Some(row)) => {
                let key = self.core_key.as_ref();
                let verdicts = [
                    (Check::CoreSecret, core_file::compare(&row, key, opened)),
                    (Check::CoreAuth, core_file::authenticate(&row, key, opened)),
                ];
                let wrong = verdicts.into_iter().filter_map(|(check, verdict)| Some((check, verdict.err()?)));
                checked.findings.extend(wrong.map(|(check, what)| Finding::new(check, what).in_file("core.csv")));
            }
            Err(what) => checked.findings.push(Finding::new(Check::CoreSecret, what).in_file("core.csv")),
        }
        for (variable, asked) in self.wanted.get(&(checked.index as u32)).into_iter().flatten() {
            if let Err(what) = opened.values.check(*variable, asked) {
                checked.findings.push(Finding::new(Check::OrderValues, what).in_file(&package.object));
            }
        }
        let print = |value: &[u8]| self.salt.print(&[value]);
        checked.prints.extend([
            (Column::DpOtpk, print(&opened.otpk_dp)),
            (Column::ProfileKey, print(opened.profile_key.expose())),
            (Column::K, print(opened.k.expose())),
            (Column::Opc, print(opened.opc.expose())),
        ]);
        checked.prints.extend(opened.ota_keys.iter().map(|key| (Column::OtaKey, print(key))));
    }

    /// Loads nothing more, opens what `sample` chooses through `fan_out`, and reports. Every chosen record must come back.
    pub fn judge(mut self, sample: Sample, fan_out: &FanOut<'_>) -> Result<Report, Fault> {
        let chosen = self.select(sample)?;
        let (mut opened, mut seen) = (0, Seen::default());
        for group in chosen.chunks(GROUP) {
            let mut results = fan_out(group, &|index| self.check_record(index));
            results.sort_by_key(|checked| checked.index);
            if !results.iter().map(|checked| checked.index).eq(group.iter().copied()) {
                return Err(Fault::new(Exit::Bug, "verify: not every chosen record was checked"));
            }
            for result in results {
                opened += u64::from(result.is_opened);
                result.prints.iter().for_each(|(column, print)| seen.add(*column, *print, result.index as u32));
                self.findings.add_all(result.findings);
            }
        }
        self.judge_secrets(seen)?;
        let packages = self.packages() as u64;
        if opened < packages {
            self.notes.push(format!("a sample: {opened} of {packages} packages were opened"));
        }
        let found = (self.findings, self.notes);
        Ok(Report::new(self.records.len() as u64, packages, chosen.len() as u64, opened, found, self.has_order))
    }

    /// What was found in the packages stands in one of them each.
    fn judge_secrets(&mut self, seen: Seen) -> Result<(), Fault> {
        let row = |index: u32| self.records.get(index as usize).map_or(0, |record| record.row);
        for (column, first, later) in seen.twice().map_err(|e| not_compared(&e))? {
            let what = match first == later {
                true => format!("{} stands twice in the package of row {}", column.name(), row(first)),
                false => {
                    format!("the packages of rows {} and {} have the same {}", row(first), row(later), column.name())
                }
            };
            self.findings.add(Finding::new(Check::Unique, what));
        }
        Ok(())
    }
}

/// What one pass over `orders.jsonl` leaves in memory.
#[derive(Default)]
struct Index {
    records: Vec<Placed>,
    by_iccid: Lookup,
    /// Fingerprint of EID and one-time key, to find the secret.
    keys: Lookup,
    /// Stretches (offset, length) of each packages file.
    objects: BTreeMap<String, Vec<(u64, u64)>>,
    seen: Seen,
}

impl Index {
    fn read(dir: &Path, trust: &DpTrust, salt: &Salt, findings: &mut Findings) -> Self {
        let mut index = Self::default();
        let wrong = |what: String| Finding::new(Check::RecordForm, what).in_file(RECORDS);
        let mut lines = match Lines::open(&dir.join(RECORDS)) {
            Ok(lines) => lines,
            Err(e) => {
                findings.add(wrong(e.to_string()));
                return index;
            }
        };
        let mut number = 0;
        loop {
            number += 1;
            match lines.next_line() {
                Ok(None) => return index,
                Ok(Some((place, line))) => match Record::parse(line) {
                    Ok(record) => {
                        if !trust.oid().is_empty() && record.smdp_oid != trust.oid() {
                            let what = format!(
                                "smdp_oid {} is not that of the certificates, {}",
                                record.smdp_oid,
                                trust.oid()
                            );
                            findings.add(Finding::new(Check::DpChain, what).of(record.masked()).in_file(RECORDS));
                        }
                        index.add(&record, place, salt);
                    }
                    Err(what) => findings.add(wrong(format!("line {number}: {what}"))),
                },
                Err(e) => {
                    findings.add(wrong(e.to_string()));
                    return index;
                }
            }
        }
    }

    fn add(&mut self, record: &Record, place: Place, salt: &Salt) {
        let at = self.records.len() as u32;
        self.records.push(Placed { place, row: 0, has_package: record.package.is_some() });
        self.by_iccid.add(salt.print(&[record.iccid.as_str().as_bytes()]), at);
        let mut see = |column, value: &[u8]| self.seen.add(column, salt.print(&[value]), at);
        see(Column::Iccid, record.iccid.as_str().as_bytes());
        see(Column::MatchingId, record.matching_id.as_str().as_bytes());
        if let Some(imsi) = &record.imsi {
            see(Column::Imsi, imsi.as_str().as_bytes());
        }
        if let Some(eid) = &record.eid {
            see(Column::Eid, eid.packed());
        }
        if let Some(package) = &record.package {
            see(Column::TransactionId, &package.transaction_id);
            see(Column::EuiccOtpk, &package.euicc_otpk);
            self.objects.entry(package.object.clone()).or_default().push((package.offset, package.length));
            if let Some(eid) = &record.eid {
                self.keys.add(key_print(salt, eid, &package.euicc_otpk), at);
            }
        }
    }

    /// Stretches join without gap or overlap from the first octet to the last, in every packages file there is.
    fn judge_coverage(&mut self, dir: &Path, there: &BTreeSet<String>, findings: &mut Findings) {
        let is_object = |name: &str| name.starts_with("packages-") && name.ends_with(".bpp") && !name.contains('/');
        for name in there.iter().filter(|name| is_object(name)) {
            self.objects.entry(name.clone()).or_default();
        }
        self.objects.retain(|name, stretches| {
            let wrong = |what: String| Finding::new(Check::Coverage, what).in_file(name);
            if !is_object(name) || !there.contains(name) {
                findings.add(wrong("a record names it, but it is no packages file of this bundle".into()));
                return false;
            }
            stretches.sort_unstable();
            let mut end = 0_u64;
            for (offset, length) in stretches.iter() {
                if *offset != end {
                    let what = if *offset < end { "overlaps the package before it" } else { "leaves a gap before it" };
                    findings.add(Finding { offset: Some(*offset), ..wrong(format!("a package {what}")) });
                }
                end = end.max(offset.saturating_add(*length));
            }
            match std::fs::metadata(dir.join(name)) {
                Ok(metadata) if metadata.len() == end => {}
                Ok(metadata) => {
                    findings.add(wrong(format!("has {} octets, its packages end at {end}", metadata.len())))
                }
                Err(e) => findings.add(wrong(e.to_string())),
            }
            true
        });
    }

    fn judge_uniqueness(&mut self, findings: &mut Findings) -> Result<(), Fault> {
        for (column, first, later) in std::mem::take(&mut self.seen).twice().map_err(|e| not_compared(&e))? {
            let what = format!("records {} and {} have the same {}", first + 1, later + 1, column.name());
            findings.add(Finding::new(Check::Unique, what).in_file(RECORDS));
        }
        Ok(())
    }
}

fn not_compared(error: &std::io::Error) -> Fault {
    Fault::new(Exit::Config, format!("the records' values were not compared: {error}"))
        .hint("make room in the directory of temporary files (TMPDIR)")
}

/// All certificates below `certs/` but the manifest's, judged as DPauth and DPpb chains.
fn establish(dir: &Path, there: &BTreeSet<String>, options: &LoadOptions, findings: &mut Findings) -> DpTrust {
    let mut certificates = Vec::new();
    for name in there.iter().filter(|name| name.starts_with("certs/") && *name != "certs/manifest.pem") {
        match std::fs::read(dir.join(name)).ok().and_then(|bytes| read_certificates(&bytes)) {
            Some(found) => certificates.extend(found),
            None => findings.add(Finding::new(Check::DpChain, "holds no readable certificate").in_file(name)),
        }
    }
    DpTrust::establish(&certificates, &options.cis, options.now_unix_s).unwrap_or_else(|more| {
        findings.add_all(more);
        DpTrust::nobody()
    })
}

/// Certificates of a file: PEM, one or a chain, or one in DER.
pub fn read_certificates(bytes: &[u8]) -> Option<Vec<X509>> {
    let pem = X509::stack_from_pem(bytes).ok().filter(|stack| !stack.is_empty());
    pem.or_else(|| X509::from_der(bytes).ok().map(|cert| vec![cert]))
}

fn read_record(file: &File, place: Place) -> Result<Record, String> {
    let line = lines::read_at(file, place.offset, place.len as usize).map_err(|e| e.to_string())?;
    Record::parse(&line)
}

fn label(row: u32, record: &Record) -> String {
    if row == 0 { record.masked() } else { format!("row {row}, {}", record.masked()) }
}

#[cfg(test)]
mod tests;
