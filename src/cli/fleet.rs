//! `bindery fleet`: test eUICCs for `prebound` orders.

use std::path::PathBuf;

use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::fleet::{FleetFiles, FleetLine, FleetNumbers, Issuer, make_one};

/// eUICCs made at once: bounds the memory of a big fleet.
const CHUNK: u64 = 1_000;

/// Make a fleet of test eUICCs with signed one-time keys
#[derive(Debug, clap::Args)]
pub struct FleetMake {
    /// How many eUICCs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    eids: u64,
    /// Directory for euicc.jsonl and secrets.jsonl
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// One-time keys of each eUICC
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    keys_per_eid: u32,
    /// Replace a fleet that is already there
    #[arg(long)]
    force: bool,
}

/// Result of one eUICC.
pub type Made = Result<Vec<FleetLine>, Fault>;

/// Calls `make` for every serial given and hands the results back **in their order**.
pub type FleetFanOut<'a> = dyn Fn(std::ops::Range<u64>, &(dyn Fn(u64) -> Made + Sync)) -> Vec<Made> + 'a;

impl FleetMake {
    /// Makes and writes the fleet, a thousand eUICCs at a time.
    pub fn run(self, site: &Site, issuer: &dyn Issuer, fan_out: &FleetFanOut<'_>) -> Result<Exit, Fault> {
        if !site.config.demo {
            return Err(Fault::new(Exit::Config, "a production site makes no test eUICCs")
                .hint("create a test site with `bindery init DIR --demo`"));
        }
        let numbers = FleetNumbers::random()?;
        let mut files = FleetFiles::create(&self.out, self.force)?;
        let make = |serial: u64| make_one(issuer, &numbers.eid(serial)?, self.keys_per_eid);
        for first in (0..self.eids).step_by(CHUNK as usize) {
            for made in fan_out(first..self.eids.min(first + CHUNK), &make) {
                made?.iter().try_for_each(|line| files.write(line))?;
            }
        }
        files.finish()?;
        println!(
            "{} eUICCs, {} one-time keys in {}",
            self.eids,
            self.eids * u64::from(self.keys_per_eid),
            self.out.display()
        );
        Ok(Exit::Done)
    }
}
