//! `bindery verify`: the judge, asked by a person or a script.

use std::path::{Path, PathBuf};

use openssl::x509::X509;

use super::Voice;
use super::screen::table;
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::pipeline::fan_out::FanOut;
use crate::telemetry::Progress;
use crate::verify::bundle::read_certificates;
use crate::verify::{Bundle, LoadOptions, Report, Sample, Scope};

/// Findings shown on stderr; `--json` has all that were kept.
const SHOWN_MAX: usize = 20;

/// Open the packages of a bundle with the software eUICC and compare them with manifest and, given it, order
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Bundle directory, as a rule outbox/TENANT/ORDER
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Private one-time keys of the test fleet
    #[arg(long, value_name = "FILE")]
    secrets: PathBuf,
    /// The order file as it was submitted, beside the files it names: the bundle is compared with it row by row
    #[arg(long, value_name = "FILE")]
    order: Option<PathBuf>,
    /// Open every package (the default)
    #[arg(long, conflicts_with = "sample")]
    all: bool,
    /// Open a random share of the packages, at least one, such as 1%
    #[arg(long, value_name = "SHARE")]
    sample: Option<Sample>,
    /// The core side's copy of the transport key, in hex [default: core-demo.key of a demo site]
    #[arg(long, value_name = "FILE")]
    core_key: Option<PathBuf>,
}

impl Verify {
    /// Loads, judges, prints. `site`: what `--site` named; else the site is looked for above the bundle.
    pub(crate) fn run(self, site: Option<&Path>, voice: Voice) -> Result<Exit, Fault> {
        let site = match site {
            Some(dir) => Site::open(dir)?,
            None => site_above(&self.bundle)?,
        };
        if !site.config.demo {
            return Err(Fault::new(Exit::Config, "only a test site takes private one-time keys")
                .hint("packages of a production site are opened by their eUICCs alone"));
        }
        let demo_key = Some(site.path("core-demo.key")).filter(|path| path.exists());
        let options = LoadOptions {
            secrets: self.secrets,
            core_key: self.core_key.or(demo_key),
            order: self.order,
            cis: certificates_in(&site.path("certs/ci"))?,
            manifest_certificates: certificates_in(&site.path("certs/manifest"))?,
            now_unix_s: jiff::Timestamp::now().as_second(),
            ordered_acc: Vec::new(),
        };
        let bundle = Bundle::load(&self.bundle, options)?;
        let cpu = FanOut::new(0)?;
        let progress = Progress::start(voice.progress, "opening packages", bundle.packages() as u64, 0);
        let report = bundle.judge(self.sample.unwrap_or(Sample::All), &|chosen, check| {
            cpu.map(chosen, |record| {
                let checked = check(*record);
                progress.add(1);
                checked
            })
        });
        progress.finish();
        let report = report?;
        if voice.json {
            print_json(&report)
        } else {
            print_table(&report)
        }
        Ok(if report.is_pass() { Exit::Done } else { Exit::IntegrityFailure })
    }
}

/// The nearest directory above the bundle that is a site.
fn site_above(bundle: &Path) -> Result<Site, Fault> {
    let hint = "name the site with --site DIR; without it nobody says which certificates are to be trusted";
    let path = bundle.canonicalize().map_err(|e| Fault::file(bundle, &e).hint("name a directory below outbox/"))?;
    match path.ancestors().find(|dir| dir.join("bindery.toml").is_file()) {
        Some(dir) => Site::open(dir),
        None => Err(Fault::new(Exit::Config, format!("{}: no site above this bundle", bundle.display())).hint(hint)),
    }
}

/// All certificates of a directory of PEM or DER files; none when it is not there. Keys and other files beside them are passed over
/// by their names.
fn certificates_in(dir: &Path) -> Result<Vec<X509>, Fault> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(Fault::file(dir, &e)),
    };
    for entry in entries {
        let path = entry.map_err(|e| Fault::file(dir, &e))?.path();
        let is_certificate =
            path.extension().is_some_and(|end| ["pem", "der", "crt", "cer"].iter().any(|known| end == *known));
        if is_certificate {
            let bytes = std::fs::read(&path).map_err(|e| Fault::file(&path, &e))?;
            found.extend(read_certificates(&bytes).ok_or_else(|| {
                Fault::new(Exit::Config, format!("{}: is not a certificate in PEM or DER", path.display()))
                    .hint("keep only certificates in this directory")
            })?);
        }
    }
    Ok(found)
}

/// One screen: how much was looked at, and only those checks that found something.
fn print_table(report: &Report) {
    for (scope, unit) in [(Scope::Bundle, "the bundle"), (Scope::Record, "records"), (Scope::Package, "packages")] {
        let of_scope = || report.totals.iter().filter(|total| total.check.scope() == scope);
        let looked_at = of_scope().map(|total| total.looked_at).max().unwrap_or(0);
        let findings: u64 = of_scope().map(|total| total.findings).sum();
        let count = if scope == Scope::Bundle { String::new() } else { format!("{looked_at} ") };
        say!("{:3} checks on {count}{unit}: {findings} findings", of_scope().count());
    }
    let failing: Vec<_> = report.totals.iter().filter(|total| total.findings > 0).collect();
    if !failing.is_empty() {
        let mut table = table(&["check", "findings", "looked at"]);
        for total in failing {
            table.add_row([total.check.as_str(), &total.findings.to_string(), &total.looked_at.to_string()]);
        }
        say!("{table}");
    }
    report.notes.iter().for_each(|note| say!("note: {note}"));
    say!("{}: {} of {} packages opened, {} records", report.verdict(), report.checked, report.packages, report.records);
    report.findings.iter().take(SHOWN_MAX).for_each(|finding| tell!("{finding}"));
    let total: u64 = report.totals.iter().map(|total| total.findings).sum();
    if total > SHOWN_MAX as u64 {
        tell!("... and {} more findings (--json shows more)", total - SHOWN_MAX as u64);
    }
}

fn print_json(report: &Report) {
    let object = serde_json::json!({
        "verdict": report.verdict(),
        "packages": report.packages,
        "checked": report.checked,
        "findings": report.findings,
        "notes": report.notes,
    });
    say!("{object}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        verify: Verify,
    }

    fn parse(words: &[&str]) -> Result<Verify, clap::Error> {
        use clap::Parser;
        Line::try_parse_from([&["verify"], words].concat()).map(|line| line.verify)
    }

    fn voice(json: bool) -> Voice {
        Voice { json, progress: crate::telemetry::ProgressMode::Off }
    }

    #[test]
    fn a_share_and_all_exclude_each_other() {
        assert!(parse(&["out", "--secrets", "s", "--all"]).is_ok());
        assert_eq!(parse(&["out", "--secrets", "s", "--sample", "1%"]).unwrap().sample, Some(Sample::Percent(1.0)));
        assert!(parse(&["out", "--secrets", "s", "--sample", "1%", "--all"]).is_err());
        assert!(parse(&["out", "--secrets", "s", "--sample", "1"]).is_err());
        assert!(parse(&["out"]).is_err());
    }

    #[test]
    fn a_bundle_without_a_site_is_a_configuration_fault_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let verify = parse(&[dir.path().to_str().unwrap(), "--secrets", "none"]).unwrap();
        let fault = verify.run(None, voice(false)).unwrap_err();
        assert_eq!(fault.exit, Exit::Config);
        assert!(fault.hint.unwrap().contains("--site"));
    }

    fn site(dir: &Path, is_demo: bool) {
        let toml = format!(
            "schema = \"bindery.site/1\"\ndemo = {is_demo}\n[hsm]\nmodule = \"m\"\nprofile = \"softhsm\"\ntoken_label = \"t\"\n\
             pin_file = \"p\"\npolicy = \"k\"\n[smdp]\naddress = \"smdp.example.com\"\nhost_id = \"h\"\n"
        );
        std::fs::write(dir.join("bindery.toml"), toml).unwrap();
    }

    #[test]
    fn a_production_site_takes_no_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("outbox/tenant/order");
        std::fs::create_dir_all(&bundle).unwrap();
        site(dir.path(), false);
        let verify = parse(&[bundle.to_str().unwrap(), "--secrets", "none"]).unwrap();
        let fault = verify.run(None, voice(false)).unwrap_err();
        assert!(fault.exit == Exit::Config && fault.what.contains("test site"));
    }

    #[test]
    fn an_empty_bundle_of_a_test_site_fails() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("outbox/tenant/order");
        std::fs::create_dir_all(&bundle).unwrap();
        site(dir.path(), true);
        let secrets = dir.path().join("secrets.jsonl");
        std::fs::write(&secrets, "").unwrap();
        for is_json in [false, true] {
            let verify = parse(&[bundle.to_str().unwrap(), "--secrets", secrets.to_str().unwrap()]).unwrap();
            assert_eq!(verify.run(None, voice(is_json)), Ok(Exit::IntegrityFailure));
        }
    }
}
