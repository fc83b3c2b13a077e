//! Two profiles of nobody, made from a template and audited: what a template breaks costs no order.
//!
//! In: a template and what a line sets. Out: the compiled template, or why its profiles would not be what they should. The compiler
//! and the audit read a package each in its own way; here they meet before the first record, not behind the last.

use super::audit::{self, AuditError, Expected};
use super::compile::{CompiledTemplate, TemplateError};
use super::settings::{Settings, VarSource};
use super::{Draw, Identity};
use crate::formats::saip::lint::{Severity, lint};
use crate::formats::saip::package::Package;
use crate::ids::{Iccid, Imsi};

/// Compiles `der` for a line and tries it with a long and a short identity.
///
/// A variable that differs per record is tried with the template's own value, else with a usual one; where the template takes
/// neither, its place is tried as it stands.
pub fn trial(der: &[u8], settings: &Settings) -> Result<CompiledTemplate, TemplateError> {
    let compiled = CompiledTemplate::compile(der, settings)?;
    let (settings, vars) = with_values(&compiled, settings);
    let reduced;
    let tried = if vars.len() == compiled.per_record().count() {
        &compiled
    } else {
        reduced = CompiledTemplate::compile(der, &settings)?;
        &reduced
    };
    let iccid = Iccid::from_body(NOBODY).map_err(|error| unmade(&error))?;
    let drawn = drawn(tried.draw_len());
    let credentials = tried.credentials(&mut Draw::new(&drawn), None).map_err(|error| unmade(&error))?;
    let template = audit::read(der).map_err(|error| refused(der, error))?;
    let short = if tried.takes_full_imsi() { LONG } else { "310410" };
    for (imsi, msisdn) in [(LONG, Some("491511234567890")), (short, None)] {
        let identity = Identity {
            iccid,
            imsi: imsi.parse::<Imsi>().ok().filter(|_| tried.takes_imsi()),
            msisdn: msisdn.filter(|_| tried.takes_msisdn()),
            vars: &vars,
        };
        let upp = tried.personalise(&identity, &credentials).map_err(|error| unmade(&error))?;
        let expected = Expected {
            identity: &identity,
            settings: &settings,
            credentials: &credentials,
            template: Some(&template),
            op: None,
        };
        audit::check(upp.expose(), &expected).map_err(|error| refused(der, error))?;
        if !settings.vars.is_empty() {
            keeps_the_rules(der, upp.expose())?;
        }
    }
    Ok(compiled)
}

/// What a line's variables may not do: break a rule of error severity that the template kept. Each value has its form; together they
/// can still make a dead card (an MNC of three digits beside lists of two, a blank EF.ARR).
fn keeps_the_rules(template: &[u8], upp: &[u8]) -> Result<(), TemplateError> {
    let before = lint(template).findings;
    let is_new = |rule, path: &str| !before.iter().any(|known| known.rule == rule && known.path == path);
    let mut findings = lint(upp).findings.into_iter();
    match findings.find(|f| f.severity == Severity::Error && is_new(f.rule, &f.path)) {
        Some(finding) => Err(TemplateError::Rule {
            rule: finding.rule,
            place: format!("{} ({})", finding.element, finding.path),
            what: finding.message,
            hint: finding.hint,
        }),
        None => Ok(()),
    }
}

/// A card number without its check digit.
const NOBODY: &str = "8900101234567890123";

const LONG: &str = "001010123456789";

/// Usual values of what differs per record.
const USUAL: [(&str, &str); 13] = [
    ("spn", "Trial"),
    ("smsc", "+491710760000"),
    ("gid1", "01"),
    ("gid2", "01"),
    ("routing_indicator", "17"),
    ("profile_type", "Trial"),
    ("acc", "3"),
    ("process_data.", "80E2800001"),
    ("sqn", "000000000020"),
    ("pin1", "4711"),
    ("pin2", "4711"),
    ("pin1_state", "enabled"),
    ("pin2_state", "enabled"),
];

/// A value for every variable that differs per record; the settings without those for which there is none.
fn with_values(compiled: &CompiledTemplate, settings: &Settings) -> (Settings, Vec<(String, String)>) {
    let mut settings = settings.clone();
    let mut vars = Vec::new();
    for name in compiled.per_record() {
        let own = compiled.inputs().iter().find(|input| input.name == name).and_then(|input| input.value.clone());
        let usual = USUAL
            .iter()
            .find(|(known, _)| *known == name || (known.ends_with('.') && name.starts_with(known)))
            .map_or("01", |(_, text)| text);
        let value = own.into_iter().chain([usual.to_owned()]).find(|text| compiled.check_value(name, text).is_ok());
        match value {
            Some(value) => vars.push((name.to_owned(), value)),
            None => drop(settings.vars.remove(name)),
        }
    }
    settings.vars.retain(|name, source| *source != VarSource::PerRecord || vars.iter().any(|(known, _)| known == name));
    (settings, vars)
}

/// Octets in which nothing repeats and which nobody has as a placeholder.
fn drawn(len: usize) -> Vec<u8> {
    let blocks = (0_u64..).flat_map(|block| openssl::sha::sha256(&[&b"trial"[..], &block.to_be_bytes()].concat()));
    blocks.take(len).collect()
}

fn unmade(error: &dyn std::error::Error) -> TemplateError {
    TemplateError::Trial { place: "the package".to_owned(), offset: None, what: error.to_string() }
}

/// The audit's finding, with the offset of its element in the template.
fn refused(der: &[u8], error: AuditError) -> TemplateError {
    match error {
        AuditError::Der(error) => TemplateError::Der(error),
        AuditError::Value { place, field, what } => {
            let package = Package::parse(der).ok();
            let elements = package.iter().flat_map(|package| &package.elements);
            let offset = elements.filter(|element| is_in(&place, &element.label())).map(|e| e.tlv.offset).next();
            TemplateError::Trial { place, offset, what: format!("{field}: {what}") }
        }
    }
}

/// `PE 8 usim/ef-acc` is in `PE 8 usim`.
fn is_in(place: &str, label: &str) -> bool {
    place.strip_prefix(label).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::saip::source;

    #[test]
    fn variables_that_together_make_a_dead_card_are_refused_by_the_rule_they_break() {
        let broken = |vars: &[(&str, &str)]| {
            let constant = |(name, value): &(&str, &str)| (name.to_string(), VarSource::Constant(value.to_string()));
            let settings = Settings { vars: vars.iter().map(constant).collect(), ..Settings::default() };
            match trial(&preset("operational"), &settings) {
                Ok(_) => None,
                Err(TemplateError::Rule { rule, .. }) => Some(rule),
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(broken(&[("spn", "Acme"), ("gid1", "0A")]), None);
        assert_eq!(broken(&[("mnc_len", "3")]), Some("U02"));
        assert_eq!(broken(&[("usim/ef-arr", "FF")]), Some("F06"));
    }

    fn preset(name: &str) -> Vec<u8> {
        source::build(source::preset(name).unwrap()).unwrap()
    }

    #[test]
    fn every_preset_passes_with_any_of_its_variables_per_record() {
        for (name, _) in source::PRESETS.iter().filter(|(name, _)| *name != "applet") {
            let der = preset(name);
            let plain = trial(&der, &Settings::default()).unwrap();
            let names = plain.inputs().iter().filter(|input| input.source == "template").map(|input| &input.name);
            for variable in names {
                let vars = [(variable.clone(), VarSource::PerRecord)].into_iter().collect();
                let tried = trial(&der, &Settings { vars, ..Settings::default() });
                assert!(tried.is_ok(), "{name} {variable}: {:?}", tried.err());
            }
        }
    }

    #[test]
    fn a_finding_is_told_with_the_offset_of_its_element() {
        let der = preset("operational");
        let package = Package::parse(&der).unwrap();
        let element = &package.elements[7];
        let error = AuditError::Value {
            place: format!("{}/ef-acc", element.label()),
            field: "acc".into(),
            what: "is not what the record should have",
        };
        let told = refused(&der, error).to_string();
        assert!(told.contains(&format!("{}/ef-acc, offset {}: acc", element.label(), element.tlv.offset)), "{told}");
        assert!(!is_in("PE 10 usim", "PE 1 usim") && is_in("PE 4 pinCodes reference 01", "PE 4 pinCodes"));
    }

    #[test]
    fn what_is_drawn_for_a_trial_does_not_repeat() {
        let drawn = drawn(96);
        assert_ne!(drawn[..32], drawn[32..64]);
        assert_eq!(drawn.len(), 96);
    }
}
