//! `bindery keys`: the keys of a site from their ceremony to their end.

mod ceremony;
mod chronicle;
mod drain;
mod import_op;
mod rotate;
mod show;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::hsm::Role;
use crate::hsm::policy::KeyPolicy;

/// Keys of the token: ceremony, import, rotation, certificates
#[derive(Debug, clap::Args)]
pub struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Open the token, compare every key with the policy, show certificates, check values and the manifest fingerprint
    Status,
    /// The keys of the policy: role, epoch, label, mechanism, purpose; the token is not opened
    List,
    /// Conduct the steps of a plan, each approved by a second person; goes on where it was interrupted
    Ceremony(ceremony::Conduct),
    /// Write what a custodian signs to approve steps of a plan
    Approval(ceremony::Propose),
    /// Bring a transport key or an operator's key in, as components or wrapped under an import key; a ceremony of its own
    Import(ceremony::Import),
    ImportOp(import_op::ImportOp),
    /// Make the next epoch of a role; it takes over at once, or with its certificate
    Rotate(rotate::Rotate),
    /// Take a drained epoch out of use; with --destroy, remove its key from the token
    Retire(rotate::Retire),
    /// Write a certificate request for a key, signed in the token
    Csr(rotate::Csr),
    /// Check and install a certificate chain; the next epoch becomes the active one
    Certificate(rotate::Certificate),
}

impl Keys {
    /// Runs the subcommand.
    pub fn run(self, site_dir: &Path, json: bool) -> Result<Exit, Fault> {
        let site = Site::open(site_dir)?;
        let _lock = if self.command.changes() { Some(lock(&site)?) } else { None };
        let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy))?;
        match self.command {
            Command::List => show::list(&policy, json),
            Command::Status => show::status(&site, &policy, json),
            Command::Ceremony(conduct) => conduct.run(&site, json),
            Command::Approval(propose) => propose.run(&site),
            Command::Import(import) => import.run(&site, &policy, json),
            Command::ImportOp(import) => import.run(&site, json),
            Command::Rotate(rotate) => rotate.run(&site, &policy, json),
            Command::Retire(retire) => retire.run(&site, json),
            Command::Csr(csr) => csr.run(&site, &policy, json),
            Command::Certificate(certificate) => certificate.run(&site, &policy, json),
        }
    }
}

impl Command {
    /// Reads alone what is there; an approval is written while a ceremony waits for it.
    fn changes(&self) -> bool {
        !matches!(self, Self::Status | Self::List | Self::Approval(_) | Self::Csr(_))
    }
}

/// One command at a time changes keys and policy of a site: what it read is still so when it writes. Held until the file is closed.
fn lock(site: &Site) -> Result<File, Fault> {
    let path = site.path("keys.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| Fault::file(&path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Fault::new(Exit::Locked, format!("{}: another command changes keys of this site", path.display()))
                .hint("wait for it; a ceremony that waits for a component holds it too"))
        }
        Err(TryLockError::Error(e)) => Err(Fault::file(&path, &e)),
    }
}

/// Where a second person's approval comes from.
#[derive(Debug, Default, clap::Args)]
struct Approvals {
    /// A custodian's approval, signed in FILE.sig; may be given more than once
    #[arg(long = "approve", value_name = "FILE")]
    approvals: Vec<PathBuf>,
    /// The second person approves with the PIN of the site's approver token (BINDERY_APPROVER_PIN_FD or _FILE)
    #[arg(long = "approve-by-pin")]
    approve_by_pin: bool,
}

/// Which of several tokens is worked on.
#[derive(Debug, Default, clap::Args)]
struct OnSlot {
    /// Work on the slot with this token label, of [[hsm.slot]] in bindery.toml [default: the first, of [hsm]]
    #[arg(long, value_name = "LABEL")]
    slot: Option<String>,
}

impl OnSlot {
    /// A further slot's label; none for the first, also when it is named.
    fn further(&self, site: &Site) -> Option<&str> {
        self.slot.as_deref().filter(|label| *label != site.config.hsm.token_label)
    }
}

/// The directory of a ceremony that names none: each slot has its own.
fn ceremony_directory(site: &Site, name: &str, slot: Option<&str>) -> PathBuf {
    let clean = |label: &str| label.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
    site.path("ceremonies").join(slot.map_or_else(|| name.to_owned(), |label| format!("{name}-at-{}", clean(label))))
}

/// `dppb 2` as a file name.
fn file_name(role: &Role, epoch: u32) -> String {
    format!("{}-{epoch}", role.to_string().replace(':', "-"))
}
