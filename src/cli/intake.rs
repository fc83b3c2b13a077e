//! What `order check|submit` need of the site: ledger, templates, the judge of key files on all cores, the site's targets.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use super::Voice;
use super::order::{Context, OrderCommand};
use crate::certs::{DpChain, DpRole, EuiccJudge, Trust};
use crate::config::{Site, TenantConfig};
use crate::error::{Exit, Fault};
use crate::formats::curve::Curve;
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::saip::ef::{self, Extent};
use crate::hsm::Role;
use crate::hsm::policy::{KeyPolicy, KeyState};
use crate::order::file::Line;
use crate::order::{
    Asked, Changes, Intake, KeyLine, KeyRefusal, Quota, Takes, Targets, TemplateRefusal, Templates, Tenants, UnfitValue,
};
use crate::personalise::shelf::{Shelf, TemplateName};
use crate::personalise::{self, CompiledTemplate, PersonaliseError, TemplateError};
use crate::pipeline::fan_out::FanOut;
use crate::pipeline::{self, ImportRefusal, check_line, settings_of, wrapped_form};
use crate::store::sqlite::Ledger;
use crate::store::{Goal, StoredOrder};

impl OrderCommand {
    /// Opens what the command needs and runs it.
    pub(crate) fn run_on(self, site_dir: &Path, voice: Voice) -> Result<Exit, Fault> {
        let command = match self {
            Self::Watch(watch) => return watch.run(site_dir, voice),
            command => command,
        };
        let site = Site::open(site_dir)?;
        let ledger = match command {
            Self::List | Self::Show { .. } => Ledger::open_to_look(&site.state_db())?,
            _ => Ledger::open(&site.state_db())?,
        };
        let cpu = FanOut::new(site.config.run.threads)?;
        with_intake(&site, &ledger, &cpu, |intake| {
            command.run(&Context { ledger: &ledger, site: &site, intake, json: voice.json })
        })
    }
}

/// Lends what makes an intake of the site as it is now: certificates, templates, targets, the time.
pub(super) fn with_intake<R>(
    site: &Site,
    ledger: &Ledger,
    cpu: &FanOut,
    work: impl FnOnce(&Intake<'_>) -> Result<R, Fault>,
) -> Result<R, Fault> {
    let now = jiff::Timestamp::now();
    let dppb = DpChain::load_all(&site.path("certs/dppb"), DpRole::Pb)?;
    let curves: Vec<_> = dppb.iter().map(DpChain::curve).collect();
    let judge = EuiccJudge::new(Arc::new(Trust::load(&site.path("certs/ci"))?), now).serving(&curves);
    let check_keys = |lines: &[KeyLine]| cpu.map(lines, |line| check_key(&judge, line));
    let dppb_ends = dppb.iter().map(DpChain::not_after).min().unwrap_or(jiff::Timestamp::MIN);
    let templates = ShelvedTemplates { shelf: Shelf::open(site.templates()), site, dppb_ends };
    let targets = targets(site)?;
    let changes = SiteChanges { site, ledger, cpu, curves: &curves };
    work(&Intake {
        ledger,
        outbox: site.outbox(),
        templates: &templates,
        check_keys: &check_keys,
        targets: &targets,
        changes: &changes,
        now,
    })
}

fn check_key(judge: &EuiccJudge, line: &KeyLine) -> Result<(), KeyRefusal> {
    let KeyLine { eid, euicc_otpk, signature, euicc_certificate, eum_certificate, .. } = line;
    let believed = judge.check(eid, euicc_otpk, signature, euicc_certificate, eum_certificate);
    believed.map(drop).map_err(|no| KeyRefusal { code: no.code, message: no.message, hint: no.hint.to_owned() })
}

/// What the site offers to orders.
fn targets(site: &Site) -> Result<Targets, Fault> {
    let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy))?;
    let transport = |role: &Role| match role {
        Role::Transport(name) => Some(name.clone()),
        _ => None,
    };
    Ok(Targets {
        eims: site.config.export.eim.keys().cloned().collect(),
        cores: site.config.export.core.keys().cloned().collect(),
        transport_keys: policy
            .keys
            .iter()
            .filter(|rule| rule.state == KeyState::Active)
            .filter_map(|rule| transport(&rule.role))
            .collect(),
        algorithms: vec![Algorithm::Milenage, Algorithm::Tuak],
        tenants: Tenants {
            quotas: site.config.tenant.iter().map(|(name, tenant)| (name.clone(), quota(tenant))).collect(),
            only_these: !site.config.demo,
        },
    })
}

fn quota(tenant: &TenantConfig) -> Quota {
    let TenantConfig { max_rows_per_order, max_rows_per_day, max_open_rows } = *tenant;
    Quota { rows_per_order: max_rows_per_order, rows_per_day: max_rows_per_day, open_rows: max_open_rows }
}

/// The site, asked whether it can serve a line: by a trial of the template and laying out the metadata, as the run will.
struct ShelvedTemplates<'a> {
    shelf: Shelf,
    site: &'a Site,
    dppb_ends: jiff::Timestamp,
}

impl Templates for ShelvedTemplates<'_> {
    fn check(&self, name: &str, _algorithm: &str, line: &Line) -> Result<Takes, TemplateRefusal> {
        let refusal = |member: &str, code, message: String, hint: &str| TemplateRefusal {
            member: member.to_owned(),
            code,
            message,
            hint: hint.to_owned(),
        };
        let named: TemplateName = name.parse().map_err(|e| {
            refusal(
                "template",
                "template-name",
                format!("{e}"),
                "name it NAME@VERSION; `bindery template list` shows them",
            )
        })?;
        check_line(self.site, line, self.dppb_ends).map_err(|(member, fault)| {
            refusal(member, "line-unfit", fault.what, fault.hint.as_deref().unwrap_or("correct the order"))
        })?;
        let der =
            self.shelf.load(&named).map_err(|e| refusal("template", "template-missing", e.to_string(), e.hint()))?;
        let compiled = personalise::trial(&der, &settings_of(line)).map_err(|e| match &e {
            TemplateError::Variable { name, .. } => {
                refusal(&format!("vars.{name}"), "template-variable", e.to_string(), e.hint())
            }
            TemplateError::Rule { .. } => refusal("vars", "rule-broken", e.to_string(), e.hint()),
            _ => refusal("template", "template-unfit", e.to_string(), e.hint()),
        })?;
        let wrapped = wrapped_form(self.site, line, compiled.k_len()).map_err(|refused| {
            let ImportRefusal { member, code, message, hint } = refused;
            refusal(member, code, message, &hint)
        })?;
        Ok(Takes {
            wrapped,
            imsi: compiled.takes_imsi(),
            msisdn: compiled.takes_msisdn(),
            template_sha256: openssl::sha::sha256(&der),
            check_value: Box::new(move |name, value| {
                compiled.check_value(name, value).map_err(|e| unfit(&compiled, name, value, e))
            }),
        })
    }
}

/// The site, asked by orders that change others.
struct SiteChanges<'a> {
    site: &'a Site,
    ledger: &'a Ledger,
    cpu: &'a FanOut,
    curves: &'a [Curve],
}

impl Changes for SiteChanges<'_> {
    fn keep_runners_out(&self, target: &StoredOrder) -> Result<Option<Box<dyn Any>>, Fault> {
        Ok(pipeline::keep_runners_out(self.site, target)?.map(|lock| Box::new(lock) as Box<dyn Any>))
    }

    fn goals(&self, target: &StoredOrder, asked: Asked<'_>) -> Result<Vec<Goal>, Fault> {
        pipeline::goals_of((self.site, self.ledger, self.cpu), target, self.curves, asked)
    }
}

/// What the template says of a value that a row or a range gives, with the form it takes in the hint.
fn unfit(template: &CompiledTemplate, name: &str, value: &str, error: PersonaliseError) -> UnfitValue {
    let input = template.inputs().iter().find(|input| input.name == name);
    let hint = input.map_or_else(|| error.hint().to_owned(), |input| format!("{name} takes: {}", input.form));
    let message = match error {
        PersonaliseError::Variable { what, .. } => {
            input.and_then(|input| reason(name, value, input.octets)).unwrap_or(what)
        }
        other => other.to_string(),
    };
    UnfitValue { message, hint }
}

/// The coding's own words for what is wrong with a value, in a file of so many octets, as a constant of the line gets them; never
/// the value. `None` where the file's records decide, which the template alone knows.
fn reason(name: &str, value: &str, octets: usize) -> Option<String> {
    let (_, coding) = ef::named(name)?;
    if value.contains([',', ';']) {
        return None;
    }
    let error = coding.encode(value, Extent { len: octets, record_len: None, given: &[] }).err()?;
    let what = error.what.replace(&format!("{value:?}"), "the value");
    // Codings quote what they show: a part of the value is left.
    (!what.contains('"')).then_some(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::saip::source;
    use crate::personalise::{Settings, VarSource};

    #[test]
    fn a_cell_that_does_not_fit_is_told_why_without_its_value() {
        let der = source::build(source::preset("operational").unwrap()).unwrap();
        let vars = ["gid1", "spn", "routing_indicator"].map(|name| (name.to_owned(), VarSource::PerRecord));
        let settings = Settings { vars: vars.into(), ..Settings::default() };
        let compiled = CompiledTemplate::compile(&der, &settings).unwrap();
        let told = |name: &str, value: &str| {
            let error = compiled.check_value(name, value).unwrap_err();
            unfit(&compiled, name, value, error)
        };
        let empty = told("gid1", "FF");
        assert_eq!(empty.message, "a value of nothing but FF is an empty file");
        assert!(empty.hint.starts_with("gid1 takes: hex octets"), "{}", empty.hint);
        for (name, value, reason) in [
            ("gid1", "0A0", "the value is not hex, two digits an octet"),
            ("routing_indicator", "12345", "the value is no routing indicator"),
            ("spn", "A name of far too many characters", "the value takes"),
        ] {
            let message = told(name, value).message;
            assert!(message.contains(reason) && !message.contains(value), "{name}: {message}");
        }
    }
}
