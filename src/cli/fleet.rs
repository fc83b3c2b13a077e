//! `bindery fleet`: test eUICCs for `prebound` orders.

use std::path::{Path, PathBuf};

use super::Voice;
use super::screen::print_json;
use crate::certs::Curve;
use crate::certs::test_pki::{EumKey, TestPki, issue_euicc};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::fleet::{FleetFiles, FleetLine, FleetNumbers, Issuer, make_one};
use crate::ids::Eid;
use crate::pipeline::fan_out::FanOut;
use crate::telemetry::Progress;

/// eUICCs made at once: bounds the memory of a big fleet.
const CHUNK: u64 = 1_000;

/// Make a fleet of test eUICCs with signed one-time keys
#[derive(Debug, clap::Args)]
pub(crate) struct FleetMake {
    /// How many eUICCs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    eids: u64,
    /// Directory for euicc.jsonl and secrets.jsonl
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// One-time keys of each eUICC
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    keys_per_eid: u32,
    /// Curve of the eUICCs and their one-time keys; mixed: every other one
    #[arg(long, value_enum, default_value_t = FleetCurve::P256)]
    curve: FleetCurve,
    /// Replace a fleet that is already there
    #[arg(long)]
    force: bool,
}

/// What a fleet's eUICCs have their keys on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FleetCurve {
    P256,
    Brainpool,
    Mixed,
}

impl FleetCurve {
    /// The curve of device `serial`, counted from 0.
    fn of(self, serial: u64) -> Curve {
        match self {
            Self::P256 => Curve::P256,
            Self::Brainpool => Curve::Brainpool,
            Self::Mixed if serial.is_multiple_of(2) => Curve::P256,
            Self::Mixed => Curve::Brainpool,
        }
    }

    fn curves(self) -> &'static [Curve] {
        match self {
            Self::P256 => &[Curve::P256],
            Self::Brainpool => &[Curve::Brainpool],
            Self::Mixed => &Curve::ALL,
        }
    }
}

/// Test eUICCs
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Fleet {
    Make(FleetMake),
}

impl Fleet {
    pub(crate) fn run(self, site_dir: &Path, voice: Voice) -> Result<Exit, Fault> {
        let site = Site::open(site_dir)?;
        let Self::Make(make) = self;
        if !site.config.demo {
            return Err(Fault::new(Exit::Config, "a production site makes no test eUICCs")
                .hint("create a test site with `bindery init DIR --demo`"));
        }
        let issuer = DemoIssuer::load(&site, make.curve.curves())?;
        let cpu = FanOut::new(0)?;
        let progress = Progress::start(voice.progress, "making eUICCs", make.eids, 0);
        let made = make.run(voice, &issuer, &|serials, make_one| {
            let serials: Vec<u64> = serials.collect();
            let made = cpu.map(&serials, |serial| make_one(*serial));
            progress.add(serials.len() as u64);
            made
        });
        progress.finish();
        made
    }
}

/// The EUMs of the test PKIs, one for each curve of the fleet.
struct DemoIssuer(Vec<(Curve, TestPki)>);

impl DemoIssuer {
    fn load(site: &Site, curves: &[Curve]) -> Result<Self, Fault> {
        curves.iter().map(|curve| Ok((*curve, TestPki::load(site, *curve)?))).collect::<Result<_, _>>().map(Self)
    }

    fn eum(&self, curve: Curve) -> Result<&EumKey, Fault> {
        let pki = self.0.iter().find(|(of, _)| *of == curve);
        pki.map(|(_, pki)| pki.eum()).ok_or_else(|| Fault::new(Exit::Bug, format!("no test EUM on {curve}")))
    }
}

impl Issuer for DemoIssuer {
    fn issue_euicc(&self, eid: &Eid, public_point: &[u8; 65]) -> Result<Vec<u8>, Fault> {
        let curve = Curve::of_point(public_point).ok_or_else(|| Fault::new(Exit::Bug, "an eUICC's key on no curve"))?;
        issue_euicc(self.eum(curve)?, eid, public_point)
            .map_err(|e| Fault::new(Exit::Bug, format!("eUICC certificate: {e}")))
    }

    fn eum_certificate(&self, curve: Curve) -> Result<&[u8], Fault> {
        self.eum(curve).map(EumKey::der)
    }
}

/// Result of one eUICC.
type Made = Result<Vec<FleetLine>, Fault>;

/// Calls `make` for every serial given and hands the results back **in their order**.
type FleetFanOut<'a> = dyn Fn(std::ops::Range<u64>, &(dyn Fn(u64) -> Made + Sync)) -> Vec<Made> + 'a;

impl FleetMake {
    /// Makes and writes the fleet, a thousand eUICCs at a time.
    fn run(self, voice: Voice, issuer: &dyn Issuer, fan_out: &FleetFanOut<'_>) -> Result<Exit, Fault> {
        let numbers = FleetNumbers::random()?;
        let mut files = FleetFiles::create(&self.out, self.force)?;
        let make = |serial: u64| make_one(issuer, &numbers.eid(serial)?, self.curve.of(serial), self.keys_per_eid);
        for first in (0..self.eids).step_by(CHUNK as usize) {
            for made in fan_out(first..self.eids.min(first + CHUNK), &make) {
                made?.iter().try_for_each(|line| files.write(line))?;
            }
        }
        files.finish()?;
        let keys = self.eids * u64::from(self.keys_per_eid);
        if voice.json {
            print_json(&serde_json::json!({"eids": self.eids, "one_time_keys": keys, "dir": self.out}))?;
        } else {
            say!("{} eUICCs, {keys} one-time keys in {}", self.eids, self.out.display());
        }
        Ok(Exit::Done)
    }
}
