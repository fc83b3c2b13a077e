//! `bindery keys rotate|retire|csr|certificate`: a role's next key, its certificate, and the end of the old one.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde_json::json;

use super::{Approvals, OnSlot, ceremony, ceremony_directory, chronicle, drain, file_name};
use crate::audit::Word;
use crate::ceremony::certify::{self, Subject};
use crate::ceremony::{self as ceremonies, Plan, plan};
use crate::config::{Site, files};
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::objects::{self, KeyId};
use crate::hsm::pkcs11::{KeyRoom, Token};
use crate::hsm::policy::epoch::PolicyFile;
use crate::hsm::policy::{KeyKind, KeyPolicy, KeyRule, KeyState, Origin};
use crate::hsm::{Hsm, HsmSession, Role};

/// What a request says of its subject.
#[derive(Debug, Default, clap::Args)]
struct About {
    /// O of the subject
    #[arg(long, value_name = "TEXT")]
    organization: Option<String>,
    /// CN of the subject [default: the SM-DP+ address and the role]
    #[arg(long, value_name = "TEXT")]
    common_name: Option<String>,
    /// SM-DP+ OID, dotted [default: that of the chain in use]
    #[arg(long, value_name = "OID")]
    oid: Option<String>,
}

impl About {
    fn subject(self) -> Subject {
        let Self { organization, common_name, oid } = self;
        Subject { organization, common_name, oid }
    }
}

/// `keys rotate`.
#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    /// dpauth, dppb, the same on the second curve as dppb:brainpool, site-kek, manifest, audit or import:NAME
    role: Role,
    #[command(flatten)]
    on: OnSlot,
    #[command(flatten)]
    about: About,
}

impl Rotate {
    /// Declares the next epoch, makes its key, has it prove itself; each part is done once however often this is run.
    pub(super) fn run(self, site: &Site, policy: &KeyPolicy, json: bool) -> Result<Exit, Fault> {
        let (role, slot) = (&self.role, self.on.further(site));
        let epochs = policy.epochs(role);
        let newest = epochs.first();
        if newest.is_some_and(|rule| rule.origin == Origin::Imported) {
            return Err(Fault::new(Exit::Usage, format!("{role} comes from its operator"))
                .hint(format!("`bindery keys import {role}` brings the next one in")));
        }
        let path = site.path(&site.config.hsm.policy);
        let epoch = match newest {
            Some(rule) if rule.state == KeyState::Pending => rule.epoch,
            Some(rule) => rule.epoch + 1,
            None if matches!(role, Role::Import(_)) || role.is_of_second_curve() => 1,
            None => return Err(no_role(role)),
        };
        let event = chronicle::of_key(Word::KeyRotated, role, epoch);
        chronicle::note(site, &event, "begun")?;
        if newest.is_none_or(|rule| rule.epoch != epoch) {
            let mut file = PolicyFile::open(&path)?;
            file.add_epoch(role, epoch, Origin::Generated)?;
            file.write()?;
        }
        let policy = KeyPolicy::load(&path)?;
        let rule = policy.rule_of(role, epoch).ok_or_else(|| no_role(role))?;
        make(site, rule, slot)?;
        let token = Token::open_present_in(site, slot)?; // compares and tries the new key
        let next = match role {
            Role::DpAuth(_) | Role::DpPb(_) | Role::Manifest => {
                let pem = certify::request(site, &token, role, epoch, &self.about.subject())?;
                let request = site.path("requests").join(format!("{}.csr.pem", file_name(role, epoch)));
                files::make_directory(&site.path("requests"), 0o755)?;
                files::write_whole(&request, pem.as_bytes(), 0o644)?;
                format!("have {} certified, then `bindery keys certificate {role} FILE`", request.display())
            }
            _ => {
                if rule.kind == KeyKind::Rsa3072 {
                    let public = site.path("requests").join(format!("{}.pub.pem", file_name(role, epoch)));
                    files::make_directory(&site.path("requests"), 0o755)?;
                    files::write_whole(&public, &KeyRoom::open_in(site, slot)?.import_key_pem(rule)?, 0o644)?;
                }
                Token::same_in_every_slot(site, rule)?;
                if *role == Role::Audit {
                    chronicle::endorse(site, &token, epoch)?;
                }
                let mut file = PolicyFile::open(&path)?;
                file.activate(role, epoch, Timestamp::now())?;
                file.write()?;
                match epochs.iter().find(|rule| rule.state == KeyState::Active).map(|rule| rule.epoch) {
                    Some(before) => {
                        format!("epoch {before} drains; `bindery keys retire {role} {before}` when nothing needs it")
                    }
                    None => "`bindery keys status`".to_owned(),
                }
            }
        };
        let state = KeyPolicy::load(&path)?.rule_of(role, epoch).map_or("", |rule| rule.state.as_str());
        chronicle::note(site, &event, state)?;
        chronicle::sign(site);
        if json {
            say!("{}", json!({ "role": role.to_string(), "epoch": epoch, "state": state, "next": next }));
        } else {
            say!("{role} epoch {epoch}: made, {state}\nnext: {next}");
        }
        Ok(Exit::Done)
    }
}

/// Makes the key unless an earlier call did; a lonely half of a pair is not taken for a key. The CKA_ID is written down before the
/// key is made: by it the next call knows a half of its own.
fn make(site: &Site, rule: &KeyRule, slot: Option<&str>) -> Result<(), Fault> {
    let room = KeyRoom::open_in(site, slot)?;
    let begun = ceremony_directory(site, &format!("rotate-{}", file_name(&rule.role, rule.epoch)), slot).join("key-id");
    let own = begun_id(&begun)?;
    if let Some(own) = &own
        && rule.state == KeyState::Pending
        && room.find(rule).is_err()
    {
        room.clear_unfinished(rule, own)?; // killed between the two halves of a pair
    }
    if room.find(rule)?.is_none() {
        Token::in_no_other_slot(site, slot, rule)?;
        let id = match own {
            Some(own) => own,
            None => {
                let id = objects::new_id()?;
                files::make_directory(begun.parent().unwrap_or(&begun), 0o750)?;
                files::write_whole(&begun, HEXLOWER.encode(&id).as_bytes(), 0o600)?;
                id
            }
        };
        room.generate(rule, &id)?;
    }
    let token = Token::open_present_in(site, slot)?;
    let key = token.key_of(&rule.role, rule.epoch)?;
    // A key that is there from before has to be one of the policy and in order; opening has compared and tried it.
    if rule.purpose == crate::hsm::policy::Purpose::Sign {
        token.open_session()?.sign(key, &[0x42; 32])?;
    }
    Ok(())
}

/// The CKA_ID that an earlier call wrote down.
fn begun_id(path: &Path) -> Result<Option<KeyId>, Fault> {
    let text = match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|e| Fault::file(path, &e))?,
    };
    let id = HEXLOWER.decode(&text).ok().and_then(|octets| octets.try_into().ok());
    let torn = || Fault::new(Exit::IntegrityFailure, format!("{}: is no CKA_ID of 16 octets", path.display()));
    id.map(Some).ok_or_else(torn)
}

/// `keys retire`.
#[derive(Debug, clap::Args)]
pub(super) struct Retire {
    /// The role
    role: Role,
    /// Its epoch
    epoch: u32,
    /// Also destroy the key in the token: a ceremony of its own, to be approved
    #[arg(long, requires = "operator")]
    destroy: bool,
    /// Who types this, for the transcript of the destruction
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    #[command(flatten)]
    on: OnSlot,
    #[command(flatten)]
    approvals: Approvals,
}

impl Retire {
    pub(super) fn run(self, site: &Site, json: bool) -> Result<Exit, Fault> {
        let Self { role, epoch, destroy, operator, on, approvals } = self;
        let slot = on.further(site);
        if let Some(operator) = operator.filter(|_| destroy) {
            // Nothing changes before the approval is there: retiring is a step of the same plan.
            drain::with_helpers(site, |helpers| ceremonies::check_retirement(site, &role, epoch, &helpers))?;
            let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy))?;
            let is_retired = policy.rule_of(&role, epoch).is_some_and(|rule| rule.state == KeyState::Retired);
            let dir = ceremony_directory(site, &format!("destroy-{}", file_name(&role, epoch)), slot);
            let path = dir.join("plan.toml");
            files::make_directory(&dir, 0o750)?;
            if !path.is_file() {
                let quoted = |text: String| toml::Value::String(text).to_string();
                let (title, role) = (quoted(format!("Destruction of {role} epoch {epoch}")), quoted(role.to_string()));
                let head = format!("schema = \"{}\"\ntitle = {title}\noperator = {}\n", plan::SCHEMA, quoted(operator));
                let step = |word: &str| format!("\n[[step]]\ndo = \"{word}\"\nrole = {role}\nepoch = {epoch}\n");
                let retire = if is_retired { String::new() } else { step("retire") };
                let text = format!("{head}{retire}{}", step("destroy"));
                files::write_whole(&path, text.as_bytes(), 0o644)?;
            }
            return ceremony::conduct(site, (&Plan::load(&path)?, &dir, slot), &approvals, &[], json);
        }
        let event = chronicle::of_key(Word::KeyRetired, &role, epoch);
        chronicle::note(site, &event, "begun")?;
        drain::with_helpers(site, |helpers| ceremonies::retire(site, &role, epoch, &helpers))?;
        chronicle::note(site, &event, "done")?;
        chronicle::sign(site);
        if json {
            say!("{}", json!({ "role": role.to_string(), "epoch": epoch, "state": "retired" }));
        } else {
            say!("{role} epoch {epoch}: retired; its key is still in the token, --destroy removes it");
        }
        Ok(Exit::Done)
    }
}

/// `keys csr`.
#[derive(Debug, clap::Args)]
pub(super) struct Csr {
    /// dpauth, dppb, the same on the second curve as dppb:brainpool, or manifest
    role: Role,
    /// Which epoch [default: the newest]
    #[arg(long)]
    epoch: Option<u32>,
    #[command(flatten)]
    about: About,
    /// Write it here instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Csr {
    pub(super) fn run(self, site: &Site, policy: &KeyPolicy, json: bool) -> Result<Exit, Fault> {
        let epoch = newest(policy, &self.role, self.epoch)?;
        let pem = certify::request(site, &Token::open_present(site)?, &self.role, epoch, &self.about.subject())?;
        if let Some(path) = &self.out {
            files::write_whole(path, pem.as_bytes(), 0o644)?;
        }
        match (json, &self.out) {
            (true, _) => {
                say!("{}", json!({ "role": self.role.to_string(), "epoch": epoch, "csr": pem, "file": self.out }))
            }
            (false, None) => say!("{}", pem.trim_end()),
            (false, Some(path)) => say!("{}", path.display()),
        }
        Ok(Exit::Done)
    }
}

/// `keys certificate`.
#[derive(Debug, clap::Args)]
pub(super) struct Certificate {
    /// dpauth, dppb, the same on the second curve as dppb:brainpool, or manifest
    role: Role,
    /// The leaf and, if there are any, the CAs between it and the CI; PEM or DER, any order
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Which epoch [default: the newest]
    #[arg(long)]
    epoch: Option<u32>,
}

impl Certificate {
    pub(super) fn run(self, site: &Site, policy: &KeyPolicy, json: bool) -> Result<Exit, Fault> {
        let Self { role, files, epoch } = self;
        let epoch = newest(policy, &role, epoch)?;
        let token = Token::open_present(site)?;
        let begun = || drain::begun_orders(site);
        let event = chronicle::of_key(Word::CertificateInstalled, &role, epoch);
        chronicle::note(site, &event, "begun")?;
        let installed =
            certify::install(site, &token, (&role, epoch), &certify::read_files(files)?, Timestamp::now(), begun)?;
        chronicle::note(site, &event.name("certificate_sha256", installed.fingerprint.as_str()), "done")?;
        chronicle::sign(site);
        let (sha256, not_after) = (&installed.fingerprint, installed.not_after.to_string());
        if json {
            let role = role.to_string();
            say!(
                "{}",
                json!({ "role": role, "epoch": epoch, "sha256": sha256, "not_after": not_after, "file": installed.file })
            );
        } else {
            say!("{role} epoch {epoch}: certificate installed, active, valid until {not_after}\nSHA-256 {sha256}");
        }
        Ok(Exit::Done)
    }
}

/// The epoch meant: the one said, else the newest that is not retired.
fn newest(policy: &KeyPolicy, role: &Role, said: Option<u32>) -> Result<u32, Fault> {
    let newest = policy.epochs(role).into_iter().find(|rule| rule.state != KeyState::Retired).map(|rule| rule.epoch);
    said.or(newest).ok_or_else(|| no_role(role))
}

fn no_role(role: &Role) -> Fault {
    Fault::new(Exit::Config, format!("the key policy has no role {role}"))
        .hint("`bindery keys list` shows the roles; a new transport key: `bindery keys import`")
}
