//! The credentials in the profile and in the core file give the same RES and AUTN: one authentication and one resynchronisation
//! between the finished profile, read by names, and the octets that are about to be encrypted for the core network.

use super::work::LineWork;
use crate::formats::saip::algorithm::Algorithm;
use crate::personalise::Upp;
use crate::personalise::VarSource;
use crate::personalise::audit::{self, Found, Value};
use crate::personalise::auth::milenage::Constants;
use crate::personalise::auth::{Challenge, Disagreement, Party, agree};

/// A finished profile as an authenticating party: each of its akaParameters, and what the core network is to choose.
pub(super) struct Card {
    applications: Vec<Application>,
    /// Milenage's, as core network and operator agreed on them.
    constants: Constants,
    rand: [u8; 16],
}

struct Application {
    party: Party,
    algorithm: Algorithm,
    sqn: [u8; 6],
}

/// Why a profile cannot authenticate. Names no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoCard {
    #[error("{0}")]
    Audit(#[from] audit::AuditError),
    #[error("{place}: {what}")]
    Parameter { place: String, what: &'static str },
    #[error("{place}: {disagreement}")]
    Disagreement { place: String, disagreement: Disagreement },
}

impl Card {
    /// Reads the profile. `vars`: the record's own values; `rand`: what the core network will challenge it with.
    pub(super) fn of(upp: &Upp, line: &LineWork, vars: &[(String, String)], rand: [u8; 16]) -> Result<Self, NoCard> {
        let found = audit::read(upp.expose())?;
        let application = |aka: &audit::Aka| {
            let wrong = |what| NoCard::Parameter { place: aka.place.clone(), what };
            let at = |name: &str| found.named(name).find(|value| value.place == aka.place);
            let algorithm =
                [Algorithm::Milenage, Algorithm::Tuak].into_iter().find(|known| known.id() == aka.algorithm);
            let algorithm = algorithm.ok_or_else(|| wrong("algorithmID is neither Milenage nor TUAK"))?;
            let constants = constants_of(at("rotation_constants"), at("xoring_constants"));
            let constants = constants.ok_or_else(|| wrong("constants without form"))?;
            let sqn = at("sqn").and_then(|value| octets(value.text.as_deref()?.split(',').next()?)?.try_into().ok());
            let party = Party::new(algorithm, &aka.k, &aka.opc, &constants)
                .map_err(|disagreement| NoCard::Disagreement { place: aka.place.clone(), disagreement })?;
            Ok(Application { party, algorithm, sqn: sqn.ok_or_else(|| wrong("sqnInit without form"))? })
        };
        let applications = found.akas.iter().map(application).collect::<Result<Vec<_>, NoCard>>()?;
        if applications.is_empty() {
            return Err(NoCard::Parameter { place: "the package".into(), what: "has no akaParameter" });
        }
        let constants = ordered_constants(line, vars);
        let constants =
            constants.ok_or(NoCard::Parameter { place: "the order".into(), what: "constants without form" })?;
        Ok(Self { applications, constants, rand })
    }

    /// Whether a core network that holds these K and OPc and this profile authenticate each other.
    pub(super) fn answers(&mut self, line: &LineWork, k: &[u8], opc: &[u8]) -> Result<(), Disagreement> {
        for Application { party, algorithm, sqn } in &mut self.applications {
            let mut core = Party::new(line.settings.algorithm, k, opc, &self.constants)?;
            if *algorithm != line.settings.algorithm {
                return Err(Disagreement::Length(line.settings.algorithm.as_str()));
            }
            agree(&mut core, party, &Challenge { rand: self.rand, sqn: *sqn })?;
        }
        Ok(())
    }
}

/// The constants that core network and operator agreed on: what line or row sets, else what stands in the template.
fn ordered_constants(line: &LineWork, vars: &[(String, String)]) -> Option<Constants> {
    let ordered = |name: &str| match line.settings.vars.get(name) {
        Some(VarSource::Constant(text)) => Some(text.clone()),
        Some(VarSource::PerRecord) => vars.iter().find(|(own, _)| own == name).map(|(_, text)| text.clone()),
        None => text(&line.template_found, name),
    };
    Constants::from_octets(&octets(&ordered("rotation_constants")?)?, &octets(&ordered("xoring_constants")?)?)
}

fn text(found: &Found, name: &str) -> Option<String> {
    found.named(name).next()?.text.clone()
}

fn constants_of(rotations: Option<&Value>, xorings: Option<&Value>) -> Option<Constants> {
    Constants::from_octets(&octets(rotations?.text.as_deref()?)?, &octets(xorings?.text.as_deref()?)?)
}

fn octets(hex: &str) -> Option<Vec<u8>> {
    data_encoding::HEXUPPER_PERMISSIVE.decode(hex.as_bytes()).ok()
}
