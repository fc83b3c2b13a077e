//! `bindery keys ceremony|approval|import`: conducting a plan; what a custodian signs; the plan of a single import.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Approvals, OnSlot, ceremony_directory, chronicle, drain, file_name};
use crate::ceremony::approval::{Approval, SCHEMA};
use crate::ceremony::component::Source;
use crate::ceremony::kcv::KcvMethod;
use crate::ceremony::{self, Ceremony, Outcome, Plan, conduct, plan};
use crate::config::{CheckValue, Site, files};
use crate::error::{Exit, Fault};
use crate::hsm::Role;
use crate::hsm::policy::{KeyPolicy, KeyState};

/// `keys ceremony`.
#[derive(Debug, clap::Args)]
pub(super) struct Conduct {
    /// The plan (bindery.ceremony-plan/1, TOML)
    plan: PathBuf,
    /// State, transcript, requests and public keys go here [default: ceremonies/PLAN of the site]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    on: OnSlot,
    #[command(flatten)]
    approvals: Approvals,
    #[command(flatten)]
    components: Components,
}

/// Where components come from, in the order of their steps.
#[derive(Debug, Default, clap::Args)]
struct Components {
    /// The next component is in this file, hex
    #[arg(long = "component-file", value_name = "FILE")]
    component_files: Vec<PathBuf>,
    /// The next component comes from this descriptor, after those of files
    #[arg(long = "component-fd", value_name = "NUMBER")]
    component_fds: Vec<u32>,
}

impl Components {
    fn sources(&self) -> Vec<Source> {
        let files = self.component_files.iter().cloned().map(Source::File);
        files.chain(self.component_fds.iter().copied().map(Source::Descriptor)).collect()
    }
}

impl Conduct {
    pub(super) fn run(self, site: &Site, json: bool) -> Result<Exit, Fault> {
        let plan = Plan::load(&self.plan)?;
        let slot = self.on.further(site);
        let dir = directory(site, &self.plan, self.out, slot);
        conduct(site, (&plan, &dir, slot), &self.approvals, &self.components.sources(), json)
    }
}

/// Runs a plan and says how far it came.
pub(super) fn conduct(
    site: &Site,
    (plan, dir, slot): (&Plan, &Path, Option<&str>),
    approvals: &Approvals,
    components: &[Source],
    json: bool,
) -> Result<Exit, Fault> {
    let Outcome { done, steps, transcript } = chronicle::ceremony(site, (&plan.sha256, dir), || {
        drain::with_helpers(site, |helpers| {
            let (approvals, approver_pin) = (&approvals.approvals[..], approvals.approve_by_pin);
            Ceremony { site, plan, slot, dir, approvals, approver_pin, components, helpers }.run()
        })
    })?;
    if json {
        say!("{}", json!({ "done": done, "steps": steps, "transcript": transcript }));
    } else {
        done.iter().for_each(|step| say!("done: {step}"));
        say!("{steps} steps done, transcript signed by the audit key\n{}", transcript.display());
    }
    Ok(Exit::Done)
}

/// `keys approval`.
#[derive(Debug, clap::Args)]
pub(super) struct Propose {
    /// The plan
    plan: PathBuf,
    /// The ceremony's directory [default: ceremonies/PLAN of the site]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Who will sign, by the name in bindery.toml
    #[arg(long, value_name = "NAME")]
    custodian: String,
    /// First and last step, as in 2-5 [default: all]
    #[arg(long, value_name = "FROM-TO")]
    steps: Option<String>,
    /// Hours from now that it holds
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=168))]
    hours: u32,
    #[command(flatten)]
    on: OnSlot,
}

impl Propose {
    pub(super) fn run(self, site: &Site) -> Result<Exit, Fault> {
        let plan = Plan::load(&self.plan)?;
        let last = plan.script.steps.len();
        let steps = match &self.steps {
            None => [1, last],
            Some(text) => range(text).filter(|[_, to]| *to <= last).ok_or_else(|| {
                Fault::new(Exit::Usage, format!("--steps {text}: the plan has steps 1 to {last}"))
                    .hint("as in 2-5, or 3")
            })?,
        };
        if !site.config.ceremony.custodians.contains_key(&self.custodian) {
            return Err(Fault::new(Exit::Config, format!("{:?} is no custodian of this site", self.custodian))
                .hint("[ceremony.custodians] in bindery.toml lists them"));
        }
        if self.custodian == plan.script.operator {
            return Err(Fault::new(Exit::Config, format!("{:?} is the operator of this plan", self.custodian))
                .hint("an operator approves nothing of her own: name another custodian"));
        }
        let second = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap_or(at);
        let now = second(Timestamp::now());
        let approval = Approval {
            schema: SCHEMA.into(),
            ceremony: {
                let slot = self.on.further(site);
                conduct::running(&directory(site, &self.plan, self.out, slot), &plan, slot)?
            },
            plan_sha256: plan.sha256,
            steps,
            not_before: now,
            not_after: now + SignedDuration::from_hours(i64::from(self.hours)),
            custodian: self.custodian,
        };
        let text = serde_json::to_string_pretty(&approval).map_err(|e| Fault::new(Exit::Bug, e.to_string()))?;
        say!("{text}");
        Ok(Exit::Done)
    }
}

/// `keys import`.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// transport:NAME, operator:NAME, or import:NAME for an AES import key; NAME of letters, digits, . _ -
    role: Role,
    /// Which epoch [default: the next; on a further slot the newest there is]
    #[arg(long)]
    epoch: Option<u32>,
    #[command(flatten)]
    on: OnSlot,
    /// Who types this, never a custodian
    #[arg(long, value_name = "NAME")]
    operator: String,
    /// A component's custodian and check value; give it two or three times, in the order the components come
    #[arg(long = "component", value_name = "NAME=KCV", conflicts_with = "wrapped")]
    parts: Vec<String>,
    /// The key, wrapped under an import key
    #[arg(long, value_name = "FILE", requires = "under")]
    wrapped: Option<PathBuf>,
    /// The import key it is wrapped under, as in import:main
    #[arg(long, value_name = "ROLE")]
    under: Option<Role>,
    /// Which epoch of the import key [default: the active one]
    #[arg(long, value_name = "N", requires = "under")]
    under_epoch: Option<u32>,
    /// Check value of the whole key
    #[arg(long, value_name = "HEX")]
    kcv: String,
    /// How all check values are made: aes-cmac-zeros or aes-ecb-zeros
    #[arg(long, value_name = "METHOD", default_value = "aes-cmac-zeros", value_parser = method)]
    kcv_method: KcvMethod,
    #[command(flatten)]
    approvals: Approvals,
    #[command(flatten)]
    components: Components,
}

impl Import {
    /// Writes the plan of this import and conducts it; the same command goes on after an approval or a crash.
    pub(super) fn run(self, site: &Site, policy: &KeyPolicy, json: bool) -> Result<Exit, Fault> {
        let slot = self.on.further(site);
        let newest = policy.epochs(&self.role).first().map(|rule| (rule.epoch, rule.state));
        let directory = |epoch| ceremony_directory(site, &format!("import-{}", file_name(&self.role, epoch)), slot);
        // Begun and not finished: also when the last step switched and was killed before it could say so.
        let is_begun = |epoch| {
            let dir = directory(epoch);
            Plan::load(&dir.join("plan.toml")).is_ok_and(|plan| !conduct::is_finished(&dir, &plan))
        };
        let next = match newest {
            None => 1,
            // What another slot has and this one lacks is no new key.
            Some((epoch, state)) if state == KeyState::Pending || is_begun(epoch) || slot.is_some() => epoch,
            Some((epoch, _)) => epoch + 1,
        };
        let epoch = self.epoch.unwrap_or(next);
        let dir = directory(epoch);
        let path = dir.join("plan.toml");
        let text = self.plan(epoch, policy)?;
        files::make_directory(&dir, 0o750)?;
        match std::fs::read_to_string(&path) {
            Ok(there) if there == text => {}
            Ok(_) => {
                let what = format!("{}: an import of {} epoch {epoch} was begun otherwise", path.display(), self.role);
                return Err(Fault::new(Exit::Config, what).hint("go on as it was begun, or move its directory away"));
            }
            Err(_) => files::write_whole(&path, text.as_bytes(), 0o644)?,
        }
        conduct(site, (&Plan::load(&path)?, &dir, slot), &self.approvals, &self.components.sources(), json)
    }

    fn plan(&self, epoch: u32, policy: &KeyPolicy) -> Result<String, Fault> {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let usage = |what: String| Fault::new(Exit::Usage, what).hint("see docs/keys.md");
        let role = quoted(&self.role.to_string());
        let check = |kcv: &str| -> Result<String, Fault> {
            let kcv = CheckValue::try_from(kcv.to_owned()).map_err(usage)?;
            Ok(format!("kcv = \"{kcv}\"\nkcv_method = \"{}\"\n", self.kcv_method.as_str()))
        };
        let (schema, operator) = (plan::SCHEMA, quoted(&self.operator));
        let title = quoted(&format!("Import of {} epoch {epoch}", self.role));
        let mut text = format!("schema = \"{schema}\"\ntitle = {title}\noperator = {operator}\n");
        let mut step = |word: &str, more: &str| {
            text.push_str(&format!("\n[[step]]\ndo = \"{word}\"\nrole = {role}\nepoch = {epoch}\n{more}"));
        };
        match (&self.wrapped, &self.under) {
            (Some(file), Some(under)) => {
                let file = std::path::absolute(file).map_err(|e| Fault::file(file, &e))?;
                let wrapped = std::fs::read(&file).map_err(|e| Fault::file(&file, &e))?;
                let hash = plan::FileHash::of(&wrapped);
                let under_epoch = ceremony::import_rule(policy, under, self.under_epoch)?.epoch;
                let (under, file) = (quoted(&under.to_string()), quoted(&file.display().to_string()));
                let under = format!("under = {under}\nunder_epoch = {under_epoch}\nfile = {file}\n");
                let hash = format!("wrapped_sha256 = \"{}\"\n", hash.as_str());
                step("unwrap", &format!("{under}{hash}{}", check(&self.kcv)?));
            }
            _ => {
                let of = self.parts.len();
                if !(2..=3).contains(&of) {
                    return Err(usage(
                        "a key comes in two or three --component, or as --wrapped FILE --under ROLE".into(),
                    ));
                }
                for (at, part) in self.parts.iter().enumerate() {
                    let named = part.rsplit_once('=');
                    let (name, kcv) =
                        named.ok_or_else(|| usage(format!("--component {part}: NAME=KCV is asked for")))?;
                    let number = at + 1;
                    let whose = format!("number = {number}\nof = {of}\ncustodian = {}\n", quoted(name));
                    step("component", &format!("{whose}{}", check(kcv)?));
                }
                step("combine", &check(&self.kcv)?);
            }
        }
        step("activate", "");
        Ok(text)
    }
}

fn directory(site: &Site, plan: &Path, out: Option<PathBuf>, slot: Option<&str>) -> PathBuf {
    let name = plan.file_stem().map_or_else(|| "plan".into(), |stem| stem.to_string_lossy().into_owned());
    out.unwrap_or_else(|| ceremony_directory(site, &name, slot))
}

fn range(text: &str) -> Option<[usize; 2]> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let [from, to] = [from.parse().ok()?, to.parse().ok()?];
    (1 <= from && from <= to).then_some([from, to])
}

fn method(text: &str) -> Result<KcvMethod, String> {
    [KcvMethod::AesCmacZeros, KcvMethod::AesEcbZeros]
        .into_iter()
        .find(|method| method.as_str() == text)
        .ok_or_else(|| "aes-cmac-zeros or aes-ecb-zeros".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_steps_counts_from_1_and_upwards() {
        assert_eq!(range("2-5"), Some([2, 5]));
        assert_eq!(range("3"), Some([3, 3]));
        for text in ["0-2", "5-2", "", "a-b", "1-2-3", "-1"] {
            assert_eq!(range(text), None, "{text}");
        }
    }
}
