//! The key ceremony: a plan, two custodians, one step after the other, a transcript that the audit key signs.
//!
//! In: a plan file, signed approvals, components typed or read one by one. Out: keys in the token by the policy, certificates
//! and requests, `transcript.jsonl` and its signature. Rule: nobody does a step alone, no done step is done again, no secret
//! stands in any file but sealed under the site KEK. Sources: hsm.md 6.1 to 6.3 of the house; SGP.22 §2.4.2, §4.5.2.

mod announced;
pub mod approval;
pub mod certify;
pub mod component;
pub mod conduct;
pub mod kcv;
pub mod plan;
mod state;
mod steps;
pub mod transcript;

pub use conduct::{Ceremony, Helpers, Outcome};
pub use plan::Plan;
pub use state::{Waiting, waiting};

use std::collections::BTreeSet;

use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::hsm::Role;
use crate::hsm::pkcs11::Token;
use crate::hsm::policy::epoch::PolicyFile;
use crate::hsm::policy::{KeyPolicy, KeyRule, KeyState};

/// The import key that a plan names: the epoch it says, else the active one; never one that is not in use.
pub fn import_rule<'a>(policy: &'a KeyPolicy, role: &Role, epoch: Option<u32>) -> Result<&'a KeyRule, Fault> {
    let rule = match epoch {
        None => policy.rule(role),
        Some(epoch) => policy.in_use().find(|rule| (&rule.role, rule.epoch) == (role, epoch)),
    };
    rule.ok_or_else(|| {
        let which = epoch.map_or("active epoch".to_owned(), |epoch| format!("epoch {epoch} in use"));
        Fault::new(Exit::Config, format!("the key policy has no {which} of {role}"))
            .hint(format!("`bindery keys list` shows its epochs; `bindery keys rotate {role}` makes the next"))
    })
}

/// Something that still needs an epoch.
pub struct Need {
    /// In words for people.
    pub what: String,
    /// How it comes to need it no more.
    pub remedy: &'static str,
}

/// Takes a drained epoch out of use; refused while anything needs it, naming what.
pub fn retire(site: &Site, role: &Role, epoch: u32, helpers: &Helpers<'_>) -> Result<(), Fault> {
    check_retirement(site, role, epoch, helpers)?;
    let path = site.path(&site.config.hsm.policy);
    if KeyPolicy::load(&path)?.rule_of(role, epoch).is_some_and(|rule| rule.state == KeyState::Retired) {
        return Ok(());
    }
    let mut file = PolicyFile::open(&path)?;
    file.set_state(role, epoch, KeyState::Retired, (helpers.now)())?;
    file.write().map(drop)
}

/// The refusals of [`retire`], and no change.
pub fn check_retirement(site: &Site, role: &Role, epoch: u32, helpers: &Helpers<'_>) -> Result<(), Fault> {
    let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy))?;
    let rule = policy.rule_of(role, epoch);
    let rule =
        rule.ok_or_else(|| Fault::new(Exit::Config, format!("the key policy declares no epoch {epoch} of {role}")))?;
    match rule.state {
        KeyState::Retired | KeyState::Pending => Ok(()),
        KeyState::Active => Err(Fault::new(Exit::Config, format!("{role} epoch {epoch} is the active one"))
            .hint(format!("`bindery keys rotate {role}` makes the next; this one drains then"))),
        KeyState::Draining => {
            let needed_by = (helpers.still_needs)(&Token::open(site)?, rule)?;
            if needed_by.is_empty() {
                return Ok(());
            }
            let names: Vec<&str> = needed_by.iter().map(|need| need.what.as_str()).collect();
            let remedies: BTreeSet<&str> = needed_by.iter().map(|need| need.remedy).collect();
            let what = format!("{role} epoch {epoch} is still needed by {}", names.join(", "));
            Err(Fault::new(Exit::Config, what).hint(remedies.into_iter().collect::<Vec<_>>().join("; ")))
        }
    }
}
