//! Conducts a plan: looks for the approval of the next step, does it, writes it down, has the audit key sign what stands there now.
//!
//! Killed at any point, the same command goes on: a line in the transcript is a step done, a CKA_ID in the state is a step begun.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use openssl::ecdsa::EcdsaSig;
use openssl::sha::sha256;

use super::approval::{Approved, Asked, Custodians};
use super::component::Source;
use super::plan::Step;
use super::state::State;
use super::steps::{self, Bench};
use super::transcript::{Line, Transcript};
use super::{Need, Plan};
use crate::certs::point;
use crate::config::{Site, files};
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::{KeyRoom, Token, approver};
use crate::hsm::policy::{KeyPolicy, KeyRule};
use crate::hsm::{Hsm, HsmSession, Role};

/// Asks what still needs an epoch; none when nothing does.
pub type StillNeeds<'a> = dyn Fn(&Token, &KeyRule) -> Result<Vec<Need>, Fault> + 'a;

/// What a ceremony asks of the rooms it does not know.
pub struct Helpers<'a> {
    /// Why an epoch cannot be retired yet.
    pub still_needs: &'a StillNeeds<'a>,
    /// Orders of which a part is bound and no bundle written.
    pub begun_orders: &'a dyn Fn() -> Result<Vec<String>, Fault>,
    /// The clock.
    pub now: &'a dyn Fn() -> Timestamp,
}

/// A plan and the directory it is run in.
pub struct Ceremony<'a> {
    /// The site.
    pub site: &'a Site,
    /// The plan.
    pub plan: &'a Plan,
    /// The slot it is conducted on, by label; none is the site's first. Components rest under the first slot's site KEK, and its
    /// audit key signs, wherever the keys are made.
    pub slot: Option<&'a str>,
    /// State, transcript, requests and public keys go here.
    pub dir: &'a Path,
    /// Signed approvals.
    pub approvals: &'a [PathBuf],
    /// The second person logs in to the approver token now.
    pub approver_pin: bool,
    /// Components in the order of their steps; without one left, the terminal.
    pub components: &'a [Source],
    /// What other rooms know.
    pub helpers: Helpers<'a>,
}

/// How far it came: always to the end, or the fault that stopped it says where.
#[derive(Debug)]
pub struct Outcome {
    /// Steps done by this call, in words.
    pub done: Vec<String>,
    /// Steps done altogether.
    pub steps: usize,
    /// The signed transcript.
    pub transcript: PathBuf,
}

impl Ceremony<'_> {
    /// Runs what is left. Call it before other threads run, see [`Token::open`].
    pub fn run(&self) -> Result<Outcome, Fault> {
        files::make_directory(self.dir, 0o750)?;
        let _lock = lock(self.dir)?;
        let mut transcript = Transcript::open(self.dir)?;
        let mut state = State::open(self.dir, &self.plan.sha256, self.slot)?;
        transcript.follows(self.plan, &state.ceremony)?;
        let audit_keys = self.audit_keys()?;
        transcript.verify(&audit_keys)?;
        let mut is_signed_for = !audit_keys.is_empty();
        for step in self.plan.script.steps.iter().take(transcript.lines().len()) {
            self.forget_components(step, &mut state)?; // also of a combination that was cut off before it forgot them
        }
        let approvals = self.verified_approvals()?;
        let mut sources = self.components.iter();
        let mut done = Vec::new();
        let mut pin_said: Option<String> = None;
        for (at, step) in self.plan.script.steps.iter().enumerate().skip(transcript.lines().len()) {
            let number = at + 1;
            let told =
                |fault: Fault| Fault { what: format!("step {number} ({}): {}", step.title(), fault.what), ..fault };
            let (by, approved) = match self.approved(number, step, &state, &approvals) {
                Ok(approved) => (approved.approval.custodian.clone(), Some(approved)),
                Err(_) if self.approver_pin && !matches!(step, Step::Component { .. }) => {
                    let said = match pin_said.take() {
                        Some(said) => said,
                        None => approver::confirm(self.site).map_err(told)?,
                    };
                    (pin_said.insert(said).clone(), None)
                }
                Err(fault) => return Err(told(fault)),
            };
            if !is_signed_for && !self.makes_audit_key(step)? {
                let what = "the site has no audit key to sign the transcript";
                return Err(told(
                    Fault::new(Exit::Config, what)
                        .hint("the first step of a new site makes it: `do = \"generate\"`, `role = \"audit\"`"),
                ));
            }
            approved.map_or(Ok(()), |approved| approved.keep_in(self.dir))?;
            let room = KeyRoom::open_in(self.site, self.slot).map_err(told)?;
            let bench = Bench { ceremony: self, room: &room, step: number };
            let result = steps::perform(&bench, step, &mut state, &mut sources).map_err(told)?;
            let (role, epoch) = step.key();
            let line = Line {
                step: number,
                word: step.word().into(),
                role: role.to_string(),
                epoch,
                at: (self.helpers.now)().to_string(),
                operator: self.plan.script.operator.clone(),
                approved_by: by,
                approval_sha256: approved.map(|approved| approved.sha256.clone()),
                approval_signature_sha256: approved.map(|approved| approved.signature_sha256.clone()),
                custodian_key_sha256: approved.map(|approved| approved.key_sha256.clone()),
                ceremony: state.ceremony.clone(),
                plan_sha256: self.plan.sha256.clone(),
                hsm: self.token_facts()?,
                result,
                previous_sha256: String::new(),
            };
            transcript.append(line, |text| self.signature(text))?;
            is_signed_for = true;
            self.forget_components(step, &mut state)?;
            done.push(step.title());
        }
        Ok(Outcome { done, steps: transcript.lines().len(), transcript: self.dir.join("transcript.jsonl") })
    }

    /// What was combined waits for nobody: its components are erased from the state.
    fn forget_components(&self, step: &Step, state: &mut State) -> Result<(), Fault> {
        match step {
            Step::Combine { .. } => state.forget(&steps::component_steps(self.plan, step)),
            _ => Ok(()),
        }
    }

    /// The audit keys that are in the site's first token, of every epoch: a transcript may be signed by an older one. Read without
    /// opening the token for work, which a key half made by an interrupted step would prevent.
    fn audit_keys(&self) -> Result<Vec<[u8; 65]>, Fault> {
        let policy = KeyPolicy::load(&self.site.path(&self.site.config.hsm.policy))?;
        let room = KeyRoom::open(self.site)?;
        let points = policy.epochs(&Role::Audit).into_iter().map(|rule| room.point(rule));
        Ok(points.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Whether a step makes the audit key that will sign.
    fn makes_audit_key(&self, step: &Step) -> Result<bool, Fault> {
        let policy = KeyPolicy::load(&self.site.path(&self.site.config.hsm.policy))?;
        let active = policy.rule(&Role::Audit).map(|rule| (&rule.role, rule.epoch));
        Ok(matches!(step, Step::Generate { .. }) && Some(step.key()) == active)
    }

    /// The token it is conducted on.
    pub(super) fn token(&self) -> Result<Token, Fault> {
        Token::open_present_in(self.site, self.slot)
    }

    fn verified_approvals(&self) -> Result<Vec<Approved>, Fault> {
        if self.approvals.is_empty() {
            return Ok(Vec::new());
        }
        let custodians = Custodians::load(self.site)?;
        self.approvals.iter().map(|file| custodians.verify(file)).collect()
    }

    /// The approval that carries a step, or exit 13 and what each of those given lacks.
    fn approved<'a>(
        &self,
        number: usize,
        step: &Step,
        state: &State,
        approvals: &'a [Approved],
    ) -> Result<&'a Approved, Fault> {
        let only = match step {
            Step::Component { custodian, .. } => Some(custodian.as_str()),
            _ => None,
        };
        let asked = Asked {
            ceremony: &state.ceremony,
            plan_sha256: &self.plan.sha256,
            step: number,
            operator: &self.plan.script.operator,
            only,
        };
        let now = (self.helpers.now)();
        let mut objections = Vec::new();
        for approved in approvals {
            match approved.objection(&asked, now) {
                None => return Ok(approved),
                Some(objection) => objections.push(objection),
            }
        }
        let who = match only {
            Some(only) => only.to_owned(),
            None => match Custodians::load(self.site)?.names_besides(&self.plan.script.operator) {
                names if names.is_empty() => {
                    "a custodian besides the operator: bindery.toml lists none under [ceremony.custodians]".into()
                }
                names => format!("one of {names}"),
            },
        };
        let found = if objections.is_empty() { String::new() } else { format!(" ({})", objections.join("; ")) };
        let last = self.plan.script.steps.len();
        Err(Fault::new(Exit::ApprovalMissing, format!("the approval of {who} is missing{found}")).hint(format!(
            "`bindery keys approval PLAN --steps {number}-{last} --custodian NAME` writes what is to be signed; then --approve FILE"
        )))
    }

    fn token_facts(&self) -> Result<[String; 4], Fault> {
        let token = self.token()?;
        let facts = token.facts();
        Ok([facts.model.clone(), facts.label.clone(), facts.serial.clone(), facts.firmware.clone()])
    }

    /// The audit key's signature, DER, over the octets of the transcript; the key to verify it with goes into the directory.
    fn signature(&self, text: &[u8]) -> Result<Vec<u8>, Fault> {
        let token = Token::open_present(self.site)?;
        let key = token.key(&Role::Audit).map_err(|error| {
            Fault::from(error).hint("nobody signs the transcript: make the active audit key first, then run again")
        })?;
        let signature = token.open_session()?.sign(key, &sha256(text))?;
        let bug = |e: openssl::error::ErrorStack| Fault::new(Exit::Bug, format!("OpenSSL: {e}"));
        let (r, s) = signature.split_at(32);
        let number = openssl::bn::BigNum::from_slice;
        let der = number(r).and_then(|r| EcdsaSig::from_private_components(r, number(s)?)?.to_der()).map_err(bug)?;
        let public = point::public_key(&token.public_point(key)?).and_then(openssl::pkey::PKey::from_ec_key);
        let pem = public.and_then(|key| key.public_key_to_pem()).map_err(bug)?;
        files::write_whole(&self.dir.join("audit.pub.pem"), &pem, 0o644)?;
        Ok(der)
    }
}

/// Whether every step of a plan was done in this directory.
pub fn is_finished(dir: &Path, plan: &Plan) -> bool {
    Transcript::open(dir).is_ok_and(|transcript| transcript.lines().len() >= plan.script.steps.len())
}

/// The running number of a ceremony; begun when it was not. Custodians sign it.
pub fn running(dir: &Path, plan: &Plan, slot: Option<&str>) -> Result<String, Fault> {
    files::make_directory(dir, 0o750)?;
    Ok(State::open(dir, &plan.sha256, slot)?.ceremony)
}

fn lock(dir: &Path) -> Result<File, Fault> {
    let path = dir.join("lock");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| Fault::file(&path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let what = format!("{}: somebody else conducts this ceremony", dir.display());
            Err(Fault::new(Exit::Locked, what).hint("one operator at one terminal"))
        }
        Err(TryLockError::Error(e)) => Err(Fault::file(&path, &e)),
    }
}
