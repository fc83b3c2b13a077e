//! `bindery doctor`: one screen that says whether the site is fit to work, and what to do if not.

mod report;
mod site;
mod slots;
mod token;

use std::path::Path;

use jiff::Timestamp;

pub use self::report::Report;
use super::harden;
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::{Token, inventory};

/// Check token, keys, certificates, store and disk: one screen, and what to do
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// Show the whole mechanism table of every token instead: what it has, and what Bindery does about what it lacks
    #[arg(long)]
    mechanisms: bool,
}

impl Doctor {
    /// Ends with 0, or with the code of the gravest failure: 7 token, 11 certificates, 8 store, 3 the rest.
    pub fn run(self, site_dir: &Path, json: bool) -> Result<Exit, Fault> {
        let site = Site::open(site_dir)?;
        let mut report = examine(&site, Timestamp::now());
        // Of this process, as of every other command's; not of the site.
        report.memory(&harden::state());
        if json {
            say!("{}", report.to_json());
        } else if self.mechanisms {
            say!("{}", report.to_mechanism_tables().trim_end());
            // Why there may be less to see than there should be.
            if report.exit() != Exit::Done {
                eprint!("{}", report.to_screen());
            }
        } else {
            crate::cli::screen::put(format_args!("{}", report.to_screen()));
        }
        Ok(report.exit())
    }
}

/// Examines a site at a point in time.
pub fn examine(site: &Site, now: Timestamp) -> Report {
    let mut report = Report::default();
    // The token first: SoftHSM wants to be opened before any thread runs.
    let inventories = inventory::of(site);
    let tokens = Token::open_all(site);
    let token = tokens.as_ref().ok().and_then(|tokens| tokens.first()).map(|token| &**token);
    match &tokens {
        Ok(tokens) => {
            let health = report.tokens(site, tokens);
            report.slots(inventories, tokens, health.as_ref());
        }
        Err(fault) => {
            report.fault("token", fault);
            report.slots(inventories, &[], None);
        }
    }
    report.certificates(site, token, now);
    report.clock(site, now);
    report.store(site);
    report.disk(site);
    report.targets(site, token);
    report
}
