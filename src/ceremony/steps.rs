//! The steps: each looks first whether it was done before it was interrupted, then does it, then has the token compare the key
//! with the policy. What comes back goes into the transcript: never a secret.

use std::slice::Iter;

use data_encoding::HEXLOWER;
use openssl::sha::sha256;
use serde_json::{Value, json};

use super::announced;
use super::certify::{self, Subject};
use super::component::{self, Component, Source};
use super::conduct::Ceremony;
use super::plan::{Plan, Step};
use super::state::{State, component_aad};
use crate::config::files;
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::objects::KeyId;
use crate::hsm::pkcs11::{KeyRoom, Token};
use crate::hsm::policy::epoch::PolicyFile;
use crate::hsm::policy::{KeyKind, KeyPolicy, KeyRule, KeyState, Origin, Purpose};
use crate::hsm::{Hsm, HsmSession, Role};

/// What a step works with.
pub(super) struct Bench<'a> {
    pub(super) ceremony: &'a Ceremony<'a>,
    pub(super) room: &'a KeyRoom,
    pub(super) step: usize,
}

/// Does one step.
pub(super) fn perform(
    bench: &Bench<'_>,
    step: &Step,
    state: &mut State,
    sources: &mut Iter<'_, Source>,
) -> Result<Value, Fault> {
    let (role, epoch) = step.key();
    let site = bench.ceremony.site;
    let now = (bench.ceremony.helpers.now)();
    match step {
        Step::Generate { .. } => {
            let rule = bench.rule(role, epoch, Origin::Generated)?;
            bench.make(&rule, state, |id, _| {
                Token::in_no_other_slot(site, bench.ceremony.slot, &rule)?;
                Ok(bench.room.generate(&rule, id)?)
            })?;
            bench.made(&rule).map(|(made, _)| made)
        }
        Step::Component { kcv, kcv_method, custodian, number, .. } => {
            let rule = bench.rule(role, epoch, Origin::Imported)?;
            if state.component(bench.step).is_none() {
                let source = sources.next().unwrap_or(&Source::Prompt);
                let component = source.read(&format!("component {number} of {role} epoch {epoch}, {custodian}'s"))?;
                if rule.kind.secret_octets() != Some(component.expose().len()) {
                    let what = "the component has another length than the key that the policy declares";
                    return Err(Fault::new(Exit::Config, what));
                }
                component::check(&component, kcv, *kcv_method, "the component")?;
                let token = Token::open_present(site)?;
                let kek = token.key(&Role::SiteKek).map_err(|error| {
                    Fault::from(error).hint("components wait sealed under the site KEK: make it in an earlier step")
                })?;
                let sealed = token.open_session()?.seal(kek, &bench.aad(state, bench.step), component.expose())?;
                state.keep(bench.step, &sealed)?;
            }
            Ok(json!({ "kcv": kcv.to_string(), "kcv_method": kcv_method.as_str() }))
        }
        Step::Combine { kcv, kcv_method, .. } => {
            let rule = bench.rule(role, epoch, Origin::Imported)?;
            let components = component_steps(bench.ceremony.plan, step);
            let key = component::combine(&bench.opened(state_components(state, &components)?, state)?)?;
            component::check(&key, kcv, *kcv_method, "the combined key")?;
            bench.make(&rule, state, |id, _| Ok(bench.room.create(&rule, id, key.expose())?))?;
            let (made, token) = bench.made(&rule)?;
            let of_zeros = announced::block_of_components(&key)?;
            let seen = announced::seen_of_components(&token, &rule, of_zeros)?;
            bench.pin(&token, &rule, Some(of_zeros))?;
            Ok(announced::told(made, (kcv, *kcv_method), seen))
        }
        Step::Unwrap { under, under_epoch, file, wrapped_sha256, kcv, kcv_method, .. } => {
            let rule = bench.rule(role, epoch, Origin::Imported)?;
            let path = bench.ceremony.plan.directory.join(file);
            let wrapped = std::fs::read(&path).map_err(|e| Fault::file(&path, &e))?;
            wrapped_sha256.check(&path, &wrapped)?; // a check value of 3 octets alone can be met by trying keys
            let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy))?;
            let under = super::import_rule(&policy, under, *under_epoch)?.clone();
            let check = (kcv, *kcv_method);
            let on_trial = announced::seen_on_trial(bench.room, (&rule, &under), &wrapped, check)?;
            if let Some(own) = state.begun_id(bench.step) {
                // What an interrupted try made need not be of these octets: the key that stays is the one on trial now.
                bench.room.clear_unfinished(&rule, &own)?;
            }
            bench.make(&rule, state, |id, _| Ok(bench.room.unwrap(&rule, id, &under, &wrapped)?))?;
            let (made, token) = bench.made(&rule)?;
            let (on_trial, of_zeros) = on_trial.unzip();
            let seen = match announced::seen_of_key(&token, &rule, check).map(|seen| seen.or(on_trial)) {
                Ok(Some(seen)) => seen,
                // Not the key that was announced, or nobody can tell: it must not stay under this label. The next try chooses the
                // same CKA_ID.
                Ok(None) => {
                    bench.room.destroy(&rule)?;
                    return Err(announced::unseen(&rule));
                }
                Err(fault) => {
                    if fault.exit == Exit::IntegrityFailure {
                        bench.room.destroy(&rule)?;
                    }
                    return Err(fault);
                }
            };
            bench.pin(&token, &rule, of_zeros)?;
            let mut result = announced::told(made, check, seen);
            result["wrapped_sha256"] = json!(wrapped_sha256.as_str());
            result["under"] = json!(under.label);
            Ok(result)
        }
        Step::Request { common_name, organization, oid, .. } => {
            let subject =
                Subject { organization: organization.clone(), common_name: common_name.clone(), oid: oid.clone() };
            let pem = certify::request(site, &bench.ceremony.token()?, role, epoch, &subject)?;
            let name = format!("{}-{epoch}.csr.pem", role.to_string().replace(':', "-"));
            files::write_whole(&bench.ceremony.dir.join(&name), pem.as_bytes(), 0o644)?;
            Ok(json!({ "file": name, "sha256": HEXLOWER.encode(&sha256(pem.as_bytes())) }))
        }
        Step::Certificate { files, files_sha256, .. } => {
            let paths = files.iter().map(|file| bench.ceremony.plan.directory.join(file));
            let chain = certify::read_files(paths)?;
            for ((path, octets), approved) in chain.iter().zip(files_sha256) {
                approved.check(path, octets)?;
            }
            let hashes: Vec<_> = chain.iter().map(|(_, octets)| HEXLOWER.encode(&sha256(octets))).collect();
            let token = bench.ceremony.token()?;
            let begun = bench.ceremony.helpers.begun_orders;
            let installed = certify::install(site, &token, (role, epoch), &chain, now, begun)?;
            let not_after = installed.not_after.to_string();
            Ok(json!({ "leaf_sha256": installed.fingerprint, "not_after": not_after, "files_sha256": hashes }))
        }
        Step::Activate { .. } => {
            if matches!(role, Role::DpAuth(_) | Role::DpPb(_) | Role::Manifest) {
                return Err(Fault::new(Exit::Config, format!("{role} becomes active with its certificate")));
            }
            let token = bench.ceremony.token()?; // compares and tries the key
            token.key_of(role, epoch)?;
            Token::same_in_every_slot(site, &bench.declared(role, epoch)?)?;
            let path = site.path(&site.config.hsm.policy);
            let mut policy = PolicyFile::open(&path)?;
            policy.activate(role, epoch, now)?;
            policy.write()?;
            Ok(json!({ "state": KeyState::Active.as_str() }))
        }
        Step::Retire { .. } => {
            retire(bench.ceremony, role, epoch)?;
            Ok(json!({ "state": KeyState::Retired.as_str() }))
        }
        Step::Destroy { .. } => {
            let rule = bench.declared(role, epoch)?;
            if rule.state != KeyState::Retired {
                let what = format!("{role} epoch {epoch} is {}, only retired keys are destroyed", rule.state.as_str());
                return Err(Fault::new(Exit::Config, what).hint(format!("`bindery keys retire {role} {epoch}` first")));
            }
            let objects = bench.room.destroy(&rule)?;
            Ok(json!({ "label": rule.label, "objects": objects }))
        }
    }
}

/// Takes a drained epoch out of use.
pub(super) fn retire(ceremony: &Ceremony<'_>, role: &Role, epoch: u32) -> Result<(), Fault> {
    super::retire(ceremony.site, role, epoch, &ceremony.helpers)
}

/// The numbers of the steps that take in the components of a combined key.
pub(super) fn component_steps(plan: &Plan, combine: &Step) -> Vec<usize> {
    let is_part = |step: &Step| matches!(step, Step::Component { .. }) && step.key() == combine.key();
    plan.script.steps.iter().enumerate().filter(|(_, step)| is_part(step)).map(|(at, _)| at + 1).collect()
}

fn state_components(state: &State, steps: &[usize]) -> Result<Vec<(usize, Vec<u8>)>, Fault> {
    let kept = |step: &usize| state.component(*step).map(|sealed| (*step, sealed));
    steps.iter().map(kept).collect::<Option<_>>().ok_or_else(|| {
        Fault::new(Exit::IntegrityFailure, "a component that was taken in is not in state.json any more")
            .hint("restore the ceremony's directory, or begin a new ceremony")
    })
}

impl Bench<'_> {
    /// The rule of a key, declared now when the policy has only its role: as a pending epoch.
    fn rule(&self, role: &Role, epoch: u32, origin: Origin) -> Result<KeyRule, Fault> {
        let site = self.ceremony.site;
        let path = site.path(&site.config.hsm.policy);
        if KeyPolicy::load(&path)?.rule_of(role, epoch).is_none() {
            let mut file = PolicyFile::open(&path)?;
            file.add_epoch(role, epoch, origin)?;
            file.write()?;
        }
        let rule = self.declared(role, epoch)?;
        if rule.origin != origin {
            let what = format!("the key policy declares {} with another origin than this step gives it", rule.label);
            return Err(Fault::new(Exit::Config, what).hint("correct `origin` in the key policy, or the plan"));
        }
        if rule.state == KeyState::Retired {
            return Err(Fault::new(Exit::Config, format!("{role} epoch {epoch} is retired: take the next epoch")));
        }
        Ok(rule)
    }

    fn declared(&self, role: &Role, epoch: u32) -> Result<KeyRule, Fault> {
        let site = self.ceremony.site;
        let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy))?;
        policy.rule_of(role, epoch).cloned().ok_or_else(|| {
            Fault::new(Exit::Config, format!("the key policy declares no epoch {epoch} of {role}"))
                .hint("`bindery keys list` shows what it declares")
        })
    }

    /// Makes the key unless this step made it before it was interrupted.
    fn make(
        &self,
        rule: &KeyRule,
        state: &mut State,
        make: impl FnOnce(&KeyId, &State) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if let Some(own) = state.begun_id(self.step) {
            match self.room.find(rule) {
                Ok(Some(id)) if id == own => return Ok(()),
                Ok(None) => {}
                // A half of a pair, or somebody else's key: ours is cleared away, another's stays and is refused below.
                _ => self.room.clear_unfinished(rule, &own)?,
            }
        }
        if self.room.find(rule)?.is_some() {
            let what = format!("a key {} is in the token already, not from this step", rule.label);
            return Err(Fault::new(Exit::Config, what)
                .hint("nothing is made twice or over another key: take the next epoch, or destroy that one first"));
        }
        let id = state.begin(self.step)?;
        make(&id, state)
    }

    /// Pins the check value of a key that came in: from now on every start compares it.
    fn pin(&self, token: &Token, rule: &KeyRule, of_zeros: Option<announced::Block>) -> Result<(), Fault> {
        let Some(kcv) = announced::to_pin(token, rule, of_zeros)? else { return Ok(()) };
        let site = self.ceremony.site;
        let path = site.path(&site.config.hsm.policy);
        let mut file = PolicyFile::open(&path)?;
        file.pin(&rule.role, rule.epoch, &kcv)?;
        file.write().map(drop)
    }

    /// What the transcript says of a key that is there now, and the token, which compared and tried it.
    fn made(&self, rule: &KeyRule) -> Result<(Value, Token), Fault> {
        let id = self.room.find(rule)?.unwrap_or_default();
        let token = self.ceremony.token()?;
        let mut made = json!({ "label": rule.label, "id": HEXLOWER.encode(&id) });
        let key = token.key_of(&rule.role, rule.epoch)?;
        match rule.purpose {
            Purpose::Sign => made["point"] = json!(HEXLOWER.encode(&token.public_point(key)?)),
            Purpose::Unwrap if rule.kind == KeyKind::Rsa3072 => {
                let pem = self.room.import_key_pem(rule)?;
                let name = format!("{}-{}.pub.pem", rule.role.to_string().replace(':', "-"), rule.epoch);
                files::write_whole(&self.ceremony.dir.join(&name), &pem, 0o644)?;
                made["public_key"] = json!(name);
                made["public_key_sha256"] = json!(HEXLOWER.encode(&sha256(&pem)));
            }
            _ => {}
        }
        Ok((made, token))
    }

    fn opened(&self, sealed: Vec<(usize, Vec<u8>)>, state: &State) -> Result<Vec<Component>, Fault> {
        let token = Token::open_present(self.ceremony.site)?;
        let kek = token.key(&Role::SiteKek)?;
        let mut session = token.open_session()?;
        let mut all = Vec::new();
        for (step, sealed) in sealed {
            let plain = session.open(kek, &self.aad(state, step), &sealed)?;
            all.push(
                Component::copy_of(&plain)
                    .ok_or_else(|| Fault::new(Exit::IntegrityFailure, "a component is too long"))?,
            );
        }
        Ok(all)
    }

    /// What a sealed component is: this ceremony's, of this step.
    fn aad(&self, state: &State, step: usize) -> Vec<u8> {
        component_aad(&state.ceremony, step)
    }
}
