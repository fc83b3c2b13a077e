//! The mechanism table: what Bindery calls of a token or could call, whether the token has it, and what Bindery does if not.
//!
//! In: what a token tells of itself ([`Offer`]) and the profile of its model. Out: one [`Row`] for each mechanism.
//! Rule: a row says what the code does with this profile, not what it might do with another. Numbers: PKCS#11 v3.1.

use std::collections::BTreeMap;

use serde::Serialize;

use super::profile::HsmProfile;
use crate::certs::Curve;

/// What a token tells of itself.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// C_GetMechanismList and C_GetMechanismInfo, by number.
    pub mechanisms: BTreeMap<u64, Bounds>,
    /// CKF_RNG.
    pub has_random: bool,
    /// Whether it has or makes key pairs on a curve; absent when nobody could find out.
    pub curves: Vec<(Curve, bool)>,
}

/// C_GetMechanismInfo of one mechanism.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// Smallest key, in bits or octets as the token counts them.
    pub min_key: u64,
    /// Largest key.
    pub max_key: u64,
    /// What it may be called for, in PKCS#11's words without CKF_.
    pub uses: Vec<&'static str>,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// PKCS#11's name.
    pub name: &'static str,
    /// CKM number; none of what is not a mechanism.
    pub number: Option<u64>,
    /// Whether the token has it; none when it cannot be told.
    pub present: Option<bool>,
    /// Uses Bindery wants that the token does not list it for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lacking: Vec<&'static str>,
    /// As the token tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
    /// What Bindery calls it for.
    pub needed_for: &'static str,
    /// The site does not run without it.
    pub required: bool,
    /// What Bindery does about it.
    pub handling: String,
}

impl Row {
    /// Bindery calls it.
    pub fn is_needed(&self) -> bool {
        self.needed_for != NOTHING
    }

    /// Called, and missing or not there for that use.
    pub fn is_gap(&self) -> bool {
        self.is_needed() && (self.present == Some(false) || !self.lacking.is_empty())
    }
}

const NOTHING: &str = "nothing";

/// What Bindery knows of a mechanism.
struct Known {
    name: &'static str,
    number: Option<u64>,
    /// Without CKF_: what it has to be offered for.
    uses: &'static [&'static str],
    needed_for: &'static str,
    /// Without it, where the profile does not ask for it; or why it is not called.
    otherwise: &'static str,
}

const EC_KEY_PAIR_GEN: u64 = 0x1040;
const BRAINPOOL: &str = "CKM_EC_KEY_PAIR_GEN on brainpoolP256r1";
const RANDOM: &str = "C_GenerateRandom (CKF_RNG)";
const KEY_WRAP_KWP: u64 = 0x210B;
const BY_HAND: &str = "make these keys with the maker's tool, under labels and attributes of the key policy";

const fn known(
    name: &'static str,
    number: u64,
    uses: &'static [&'static str],
    needed_for: &'static str,
    otherwise: &'static str,
) -> Known {
    Known { name, number: Some(number), uses, needed_for, otherwise }
}

/// In the order of the table: to run, to make keys, not called.
const KNOWN: &[Known] = &[
    known("CKM_ECDSA", 0x1041, &["SIGN"], "signing with DPauth, DPpb, manifest and audit keys", "cannot run"),
    known(
        "CKM_AES_ECB",
        0x1081,
        &["ENCRYPT", "DECRYPT"],
        "K and OPc under transport and operators' keys",
        "cannot run",
    ),
    known("CKM_AES_GCM", 0x1087, &["ENCRYPT", "DECRYPT"], "sealing under the site KEK", "cannot run"),
    Known {
        name: RANDOM,
        number: None,
        uses: &[],
        needed_for: "random, XORed with OpenSSL's",
        otherwise: "called all the same; CKR_RANDOM_NO_RNG ends the command with exit 7",
    },
    known("CKM_EC_KEY_PAIR_GEN", EC_KEY_PAIR_GEN, &["GENERATE_KEY_PAIR"], "making EC keys on P-256", BY_HAND),
    Known {
        name: BRAINPOOL,
        number: Some(EC_KEY_PAIR_GEN),
        uses: &[],
        needed_for: "keys for eUICCs on brainpoolP256r1",
        otherwise: "eUICCs on that curve are refused with `eligibility`; those on P-256 are served",
    },
    known("CKM_AES_KEY_GEN", 0x1080, &["GENERATE"], "making the site KEK", BY_HAND),
    known(
        "CKM_RSA_PKCS_KEY_PAIR_GEN",
        0x0000,
        &["GENERATE_KEY_PAIR"],
        "making RSA import keys",
        "operators wrap under an AES import key, or bring components",
    ),
    known(
        "CKM_RSA_PKCS_OAEP",
        0x0009,
        &["UNWRAP"],
        "unwrapping under RSA import keys",
        "`keys import` takes AES key wrap or components",
    ),
    known(
        "CKM_AES_KEY_WRAP",
        0x2109,
        &["UNWRAP"],
        "unwrapping under AES import keys",
        "`keys import` takes RSA-OAEP or components",
    ),
    known("CKM_AES_KEY_WRAP_PAD", 0x210A, &[], NOTHING, "not called: AES keys need no padding"),
    known("CKM_AES_KEY_WRAP_KWP", KEY_WRAP_KWP, &[], NOTHING, "not called: AES keys need no padding"),
    known("CKM_ECDH1_DERIVE", 0x1050, &[], NOTHING, "not called: key agreement is in process, with one-time keys"),
    known("CKM_AES_CBC", 0x1082, &[], NOTHING, "not called: chained in process over CKM_AES_ECB"),
    known("CKM_AES_CMAC", 0x108A, &[], NOTHING, "not called: MACs are made in process, check values with CKM_AES_ECB"),
    known("CKM_GENERIC_SECRET_KEY_GEN", 0x0350, &[], NOTHING, "not called: batch keys are drawn, then sealed"),
];

/// The table of one token.
pub fn table(offer: &Offer, profile: &HsmProfile) -> Vec<Row> {
    KNOWN.iter().map(|known| row(known, offer, profile)).collect()
}

fn row(known: &Known, offer: &Offer, profile: &HsmProfile) -> Row {
    let to_run = profile.mechanisms.iter().any(|asked| asked.as_str() == known.name);
    let to_make_keys = profile.mechanisms_for_making_keys.iter().any(|asked| asked.as_str() == known.name);
    let bounds = known.number.filter(|_| known.name != BRAINPOOL).and_then(|number| offer.mechanisms.get(&number));
    let present = match known.name {
        RANDOM => Some(offer.has_random),
        BRAINPOOL => offer.curves.iter().find(|(curve, _)| *curve == Curve::Brainpool).map(|(_, has)| *has),
        // The binding drops numbers that it has no name for, this one among them.
        _ if known.number == Some(KEY_WRAP_KWP) => None,
        _ => Some(bounds.is_some()),
    };
    let lacking: Vec<&'static str> = match bounds {
        Some(bounds) => known.uses.iter().copied().filter(|wanted| !bounds.uses.contains(wanted)).collect(),
        None => Vec::new(),
    };
    let otherwise = known.otherwise;
    let handling = match present {
        _ if known.needed_for == NOTHING => not_called(known, profile),
        Some(true) if !lacking.is_empty() => {
            format!("listed, but not for {}: that call will be refused (exit 7)", lacking.join(" and "))
        }
        Some(true) => "used".to_owned(),
        Some(false) if to_run => "cannot run: opening the token ends with exit 7".to_owned(),
        Some(false) if to_make_keys => {
            format!("runs; ceremonies end with exit 7 while the profile asks for it. Without it there: {otherwise}")
        }
        Some(false) => otherwise.to_owned(),
        None => format!("not known: nobody could try. Without it: {otherwise}"),
    };
    Row {
        name: known.name,
        number: known.number,
        present,
        lacking,
        bounds: bounds.cloned(),
        needed_for: known.needed_for,
        required: to_run || known.name == RANDOM,
        handling,
    }
}

fn not_called(known: &Known, profile: &HsmProfile) -> String {
    let otherwise = known.otherwise;
    if known.number != Some(KEY_WRAP_KWP) {
        return otherwise.to_owned();
    }
    match profile.forms.key_wrap_pad_number {
        Some(KEY_WRAP_KWP) => format!("{otherwise}; the profile says the model has it, its list cannot be asked"),
        _ => format!("{otherwise}; the list cannot be asked for it"),
    }
}

/// An attribute that the token does not have, or does not tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttributeGap {
    /// PKCS#11's name.
    pub name: String,
    /// What Bindery does about it.
    pub handling: &'static str,
}

/// Attributes the profile says the model does not know, and CKA_CHECK_VALUE if `tells_check_value` is known to be false.
pub fn attribute_gaps(profile: &HsmProfile, tells_check_value: Option<bool>) -> Vec<AttributeGap> {
    let gap = |name: &str, handling| AttributeGap { name: name.to_owned(), handling };
    let by_profile = profile.attributes_unknown.iter().map(|name| gap(name, "not sent and not compared"));
    let check = (tells_check_value == Some(false)).then(|| {
        gap(
            "CKA_CHECK_VALUE",
            "`kcv` of [import.NAME] is refused (exit 3); AES import keys of two slots are not compared",
        )
    });
    by_profile.chain(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that is known, for every use.
    fn all() -> Offer {
        let of = |known: &Known| {
            known.number.map(|number| (number, Bounds { min_key: 0, max_key: 0, uses: known.uses.to_vec() }))
        };
        Offer {
            mechanisms: KNOWN.iter().filter(|known| known.name != BRAINPOOL).filter_map(of).collect(),
            has_random: true,
            curves: vec![(Curve::P256, true), (Curve::Brainpool, true)],
        }
    }

    fn named<'a>(rows: &'a [Row], name: &str) -> &'a Row {
        rows.iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn a_token_with_everything_has_no_gap_and_what_is_not_called_never_is_one() {
        let profile = HsmProfile::softhsm().unwrap();
        assert_eq!(table(&all(), &profile).iter().filter(|row| row.is_gap()).count(), 0);
        let mut offer = all();
        [0x210A, 0x1050, 0x1082, 0x108A, 0x0350].iter().for_each(|number| _ = offer.mechanisms.remove(number));
        let rows = table(&offer, &profile);
        assert!(!rows.iter().any(Row::is_gap));
        assert_eq!(named(&rows, "CKM_ECDH1_DERIVE").present, Some(false));
        assert!(named(&rows, "CKM_ECDH1_DERIVE").handling.contains("in process"));
    }

    #[test]
    fn each_missing_mechanism_is_told_with_what_the_profile_makes_of_it() {
        let profile = HsmProfile::softhsm().unwrap();
        for (number, name, says) in [
            (0x1041, "CKM_ECDSA", "cannot run"),
            (0x1087, "CKM_AES_GCM", "exit 7"),
            (0x0009, "CKM_RSA_PKCS_OAEP", "ceremonies end with exit 7"),
            (0x2109, "CKM_AES_KEY_WRAP", "takes RSA-OAEP or components"),
            (0x1080, "CKM_AES_KEY_GEN", "maker's tool"),
        ] {
            let mut offer = all();
            offer.mechanisms.remove(&number);
            let rows = table(&offer, &profile);
            let gaps: Vec<_> = rows.iter().filter(|row| row.is_gap()).collect();
            assert_eq!(gaps.len(), 1, "{name}");
            assert_eq!((gaps[0].name, gaps[0].required), (name, says == "cannot run" || name == "CKM_AES_GCM"));
            assert!(gaps[0].handling.contains(says), "{}", gaps[0].handling);
        }
    }

    #[test]
    fn what_the_profile_does_not_ask_for_stops_no_ceremony() {
        let mut profile = HsmProfile::softhsm().unwrap();
        profile.mechanisms_for_making_keys.retain(|asked| asked.as_str() != "CKM_RSA_PKCS_OAEP");
        let mut offer = all();
        offer.mechanisms.remove(&0x0009);
        let rows = table(&offer, &profile);
        assert_eq!(named(&rows, "CKM_RSA_PKCS_OAEP").handling, "`keys import` takes AES key wrap or components");
    }

    #[test]
    fn a_curve_is_a_gap_only_when_it_was_tried() {
        let profile = HsmProfile::softhsm().unwrap();
        for (curves, present, is_gap) in [(vec![(Curve::Brainpool, false)], Some(false), true), (vec![], None, false)] {
            let rows = table(&Offer { curves, ..all() }, &profile);
            let row = named(&rows, BRAINPOOL);
            assert_eq!((row.present, row.is_gap()), (present, is_gap));
            assert!(row.handling.contains("`eligibility`"), "{}", row.handling);
        }
    }

    #[test]
    fn a_mechanism_that_is_listed_for_another_use_is_told() {
        let mut offer = all();
        offer.mechanisms.get_mut(&0x2109).unwrap().uses = vec!["WRAP"];
        let rows = table(&offer, &HsmProfile::softhsm().unwrap());
        let row = named(&rows, "CKM_AES_KEY_WRAP");
        assert!(row.is_gap() && row.handling.contains("not for UNWRAP"), "{row:?}");
    }

    #[test]
    fn attributes_that_a_model_does_not_know_are_told() {
        let mut profile = HsmProfile::softhsm().unwrap();
        assert_eq!(attribute_gaps(&profile, None), []);
        profile.attributes_unknown = vec!["CKA_ALLOWED_MECHANISMS".into()];
        let gaps = attribute_gaps(&profile, Some(false));
        assert_eq!(gaps[0].handling, "not sent and not compared");
        assert_eq!(gaps[1].name, "CKA_CHECK_VALUE");
    }
}
