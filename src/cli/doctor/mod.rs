//! `bindery doctor`: one screen that says whether the site is fit to work, and what to do if not.

mod report;
mod site;
mod token;

use std::path::Path;

use jiff::Timestamp;

pub use self::report::Report;
use super::harden;
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::Token;

/// Check token, keys, certificates, store and disk: one screen, and what to do
#[derive(Debug, clap::Args)]
pub struct Doctor {}

impl Doctor {
    /// Ends with 0, or with the code of the gravest failure: 7 token, 11 certificates, 8 store, 3 the rest.
    pub fn run(self, site_dir: &Path, json: bool) -> Result<Exit, Fault> {
        let site = Site::open(site_dir)?;
        let mut report = examine(&site, Timestamp::now());
        // Of this process, as of every other command's; not of the site.
        report.memory(&harden::state());
        if json {
            say!("{}", report.to_json());
        } else {
            print!("{}", report.to_screen());
        }
        Ok(report.exit())
    }
}

/// Examines a site at a point in time.
pub fn examine(site: &Site, now: Timestamp) -> Report {
    let mut report = Report::default();
    // The token first: SoftHSM wants to be opened before any thread runs.
    let tokens = Token::open_all(site);
    let token = tokens.as_ref().ok().and_then(|tokens| tokens.first()).map(|token| &**token);
    match &tokens {
        Ok(tokens) => report.tokens(site, tokens),
        Err(fault) => report.fault("token", fault),
    }
    report.certificates(site, token, now);
    report.clock(site, now);
    report.store(site);
    report.disk(site);
    report.targets(site, token);
    report
}
