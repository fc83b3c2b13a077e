//! The credentials in the profile and in the core file give the same RES and AUTN: one authentication and one resynchronisation
//! between the finished profile, read by names, and the octets that are about to be encrypted for the core network.

use crate::formats::saip::algorithm::Algorithm;
use crate::personalise::audit::{self, Found};
use crate::personalise::auth::milenage::Constants;
use crate::personalise::auth::{Challenge, Disagreement, Party, agree};
use crate::personalise::{Settings, VarSource};

/// A finished profile as an authenticating party: each of its akaParameters, and what its core network is known to be.
pub(super) struct Card {
    applications: Vec<Application>,
    core: Core,
    rand: [u8; 16],
}

struct Application {
    party: Party,
    algorithm: Algorithm,
    sqn: [u8; 6],
}

/// What operator and core network agreed on beside the keys.
pub(super) struct Core {
    algorithm: Algorithm,
    /// Milenage's.
    constants: Constants,
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

impl Core {
    /// Algorithm and constants as line and row order them, else those of the template. `vars`: the row's own values.
    pub(super) fn ordered(settings: &Settings, template: &Found, vars: &[(String, String)]) -> Result<Self, NoCard> {
        let ordered = |name: &str| match settings.vars.get(name) {
            Some(VarSource::Constant(text)) => octets(text),
            Some(VarSource::PerRecord) => octets(&vars.iter().find(|(own, _)| own == name)?.1),
            None => octets(template.named(name).next()?.text.as_deref()?),
        };
        let constants = || Constants::from_octets(&ordered("rotation_constants")?, &ordered("xoring_constants")?);
        let constants = match settings.algorithm {
            Algorithm::Milenage => constants(),
            Algorithm::Tuak => Some(Constants::default()), // it has none
        };
        let none = || NoCard::Parameter { place: "the order".into(), what: "constants without form" };
        Ok(Self { algorithm: settings.algorithm, constants: constants.ok_or_else(none)? })
    }
}

impl Card {
    /// Of what was read of a profile. `rand`: what the core network will challenge it with.
    pub(super) fn of(found: &Found, core: Core, rand: [u8; 16]) -> Result<Self, NoCard> {
        let application = |aka: &audit::Aka| {
            let wrong = |what| NoCard::Parameter { place: aka.place.clone(), what };
            let text = |name| found.named(name).find(|value| value.place == aka.place)?.text.as_deref();
            let known = [Algorithm::Milenage, Algorithm::Tuak].into_iter().find(|known| known.id() == aka.algorithm);
            let algorithm = known.ok_or_else(|| wrong("algorithmID is neither Milenage nor TUAK"))?;
            let constants = text("rotation_constants").and_then(octets).zip(text("xoring_constants").and_then(octets));
            let constants = constants.and_then(|(rotations, xorings)| Constants::from_octets(&rotations, &xorings));
            let constants = constants.ok_or_else(|| wrong("constants without form"))?;
            let sqn = text("sqn").and_then(|all| octets(all.split(',').next()?)?.try_into().ok());
            let party = Party::new(algorithm, &aka.k, &aka.opc, &constants)
                .map_err(|disagreement| NoCard::Disagreement { place: aka.place.clone(), disagreement })?;
            Ok(Application { party, algorithm, sqn: sqn.ok_or_else(|| wrong("sqnInit without form"))? })
        };
        let applications = found.akas.iter().map(application).collect::<Result<Vec<_>, NoCard>>()?;
        if applications.is_empty() {
            return Err(NoCard::Parameter { place: "the package".into(), what: "has no akaParameter" });
        }
        Ok(Self { applications, core, rand })
    }

    /// Whether a core network that holds these K and OPc and this profile authenticate each other.
    pub(super) fn answers(&mut self, k: &[u8], opc: &[u8]) -> Result<(), Disagreement> {
        let Core { algorithm, constants } = &self.core;
        for application in &mut self.applications {
            if application.algorithm != *algorithm {
                return Err(Disagreement::Algorithm);
            }
            let mut core = Party::new(*algorithm, k, opc, constants)?;
            agree(&mut core, &mut application.party, &Challenge { rand: self.rand, sqn: application.sqn })?;
        }
        Ok(())
    }
}

fn octets(hex: &str) -> Option<Vec<u8>> {
    data_encoding::HEXUPPER_PERMISSIVE.decode(hex.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personalise::shelf::preset;
    use crate::personalise::{CompiledTemplate, Credentials, Draw, Identity};

    const RAND: [u8; 16] = [0x3D; 16];

    /// What is read of a profile made with these settings, its credentials, and what is read of its template.
    fn made(settings: &Settings) -> (Found, Credentials, Found) {
        let der = preset("operational").unwrap().unwrap();
        let template = CompiledTemplate::compile(&der, settings).unwrap();
        let random: Vec<u8> = (0..template.draw_len()).map(|i| (i as u8).wrapping_mul(29) | 1).collect();
        let credentials = template.credentials(&mut Draw::new(&random), None).unwrap();
        let (iccid, imsi) = ("89000123456789012341".parse().unwrap(), "001010123456063".parse().unwrap());
        let identity = Identity { iccid, imsi: Some(imsi), msisdn: None, vars: &[] };
        let upp = template.personalise(&identity, &credentials).unwrap();
        (audit::read(upp.expose()).unwrap(), credentials, audit::read(&der).unwrap())
    }

    fn settings(algorithm: Algorithm, vars: &[(&str, &str)]) -> Settings {
        let vars = vars.iter().map(|(name, text)| ((*name).to_owned(), VarSource::Constant((*text).to_owned())));
        Settings { algorithm, vars: vars.collect() }
    }

    #[test]
    fn a_profile_answers_the_core_network_that_holds_its_keys_and_no_other() {
        let own = ("rotation_constants", "0840206010");
        for settings in [
            settings(Algorithm::Milenage, &[]),
            settings(Algorithm::Milenage, &[own, ("sqn", "00000000002A")]),
            settings(Algorithm::Tuak, &[]),
        ] {
            let (profile, credentials, template) = made(&settings);
            let core = || Core::ordered(&settings, &template, &[]).unwrap();
            let (k, opc) = (credentials.k(), credentials.opc());
            assert_eq!(Card::of(&profile, core(), RAND).unwrap().answers(k, opc), Ok(()));
            for octet in 0..k.len() + opc.len() {
                let mut other = [k, opc].concat();
                other[octet] ^= 0x20;
                let (k, opc) = other.split_at(k.len());
                let told = Card::of(&profile, core(), RAND).unwrap().answers(k, opc);
                assert_eq!(told, Err(Disagreement::Autn), "octet {octet}");
            }
            assert!(matches!(
                Card::of(&profile, core(), RAND).unwrap().answers(&k[1..], opc),
                Err(Disagreement::Length(_))
            ));
        }
    }

    #[test]
    fn constants_or_an_algorithm_that_were_not_ordered_are_told() {
        let usual = settings(Algorithm::Milenage, &[]);
        let (profile, credentials, template) = made(&usual);
        for (var, told) in [
            (("rotation_constants", "4100204060"), Disagreement::Autn),
            (("rotation_constants", "4000214060"), Disagreement::Key("CK")),
            (("rotation_constants", "4000204160"), Disagreement::Key("IK")),
            (("rotation_constants", "4000204061"), Disagreement::Auts),
        ] {
            let core = Core::ordered(&settings(Algorithm::Milenage, &[var]), &template, &[]).unwrap();
            let answered = Card::of(&profile, core, RAND).unwrap().answers(credentials.k(), credentials.opc());
            assert_eq!(answered, Err(told), "{var:?}");
        }
        let core = Core::ordered(&settings(Algorithm::Tuak, &[]), &template, &[]).unwrap();
        let answered = Card::of(&profile, core, RAND).unwrap().answers(credentials.k(), &[1; 32]);
        assert_eq!(answered, Err(Disagreement::Algorithm));
    }

    #[test]
    fn a_rows_own_constants_are_those_of_its_core_network() {
        let (_, _, template) = made(&settings(Algorithm::Milenage, &[]));
        let mut by_row = settings(Algorithm::Milenage, &[]);
        by_row.vars.insert("rotation_constants".into(), VarSource::PerRecord);
        let row = [("rotation_constants".to_owned(), "0102030405".to_owned())];
        assert_eq!(Core::ordered(&by_row, &template, &row).unwrap().constants.rotations, [1, 2, 3, 4, 5]);
        assert!(Core::ordered(&by_row, &template, &[]).is_err());
    }
}
