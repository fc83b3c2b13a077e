//! What must hold for any octets whatever. A broken promise is a panic, as libFuzzer and the mutation runner want it.

use std::time::{Duration, Instant};

use bindery::formats::saip::algorithm::Algorithm;
use bindery::formats::saip::lint::{self, Lint};
use bindery::formats::saip::package::Package;
use bindery::formats::saip::source;
use bindery::formats::saip::types::{self, Fault};
use bindery::formats::tlv::{self, Reader};
use bindery::ids::Iccid;
use bindery::personalise::audit::{self, Expected};
use bindery::personalise::{self, Draw, Identity, Settings, VarSource};

use crate::random::Random;

/// How far a package came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Strict DER.
    pub strict: bool,
    /// Every element has its types.
    pub decoded: bool,
    /// Members that this version does not know were kept.
    pub unknown: bool,
    /// No rule found an error.
    pub clean: bool,
    /// Compiled.
    pub compiled: bool,
    /// Personalised.
    pub personalised: bool,
    /// Read back.
    pub audited: bool,
    /// What each stage took: reader, types, rules, template.
    pub took: [Duration; 4],
}

/// Names of [`Outcome::took`].
pub const STAGES: [&str; 4] = ["reader", "types", "rules", "template"];

/// All of it.
pub fn run(der: &[u8], random: &mut Random) -> Outcome {
    let mut stage = Instant::now();
    let mut lap = || std::mem::replace(&mut stage, Instant::now()).elapsed();
    let mut outcome = Outcome { strict: reader(der), ..Outcome::default() };
    outcome.took[0] = lap();
    (outcome.decoded, outcome.unknown) = elements(der);
    outcome.took[1] = lap();
    assert!(outcome.strict || !outcome.decoded, "decoded what is not DER");
    outcome.clean = !rules(der).has_errors();
    outcome.took[2] = lap();
    template(der, random, &mut outcome);
    outcome.took[3] = lap();
    assert!(outcome.strict || !outcome.compiled, "compiled what is not DER");
    outcome
}

/// The TLV reader: its offsets are those of the octets, and the strict walk agrees with it.
pub fn reader(der: &[u8]) -> bool {
    let mut reader = Reader::new(der);
    let mut end = 0;
    while let Ok(Some(tlv)) = reader.next_tlv() {
        assert_eq!(tlv.offset, end);
        end += tlv.whole.len();
        assert_eq!(&der[tlv.offset..end], tlv.whole);
        assert_eq!(&der[tlv.value_offset()..end], tlv.value);
        assert_eq!(tlv::wrap(tlv.tag, &[tlv.value]), tlv.whole, "read what is not written so");
    }
    match tlv::check_strict(der) {
        Ok(()) => {
            assert_eq!(end, der.len());
            true
        }
        Err(error) => {
            assert!(error.offset <= der.len());
            false
        }
    }
}

/// Package and types: what decodes encodes to the same octets; a fault lies inside. Says also whether something unknown was kept.
pub fn elements(der: &[u8]) -> (bool, bool) {
    match types::decode_all(der) {
        Ok(elements) => {
            let again: Vec<u8> = elements.iter().flat_map(|element| element.encode().expect("encodes")).collect();
            assert!(again == der, "decode and encode differ");
            (true, elements.iter().any(|element| !element.unknown.is_empty()))
        }
        Err(error) => {
            assert!(!matches!(error.fault, Fault::Types(_)), "grammar and types disagree: {error}");
            assert!(error.offset <= der.len());
            (false, false)
        }
    }
}

/// The rules; every finding lies inside.
pub fn rules(der: &[u8]) -> Lint {
    let lint = lint::lint(der);
    assert!(lint.rules_run > 0);
    for finding in &lint.findings {
        assert!(finding.offset <= der.len(), "{finding:?}");
    }
    lint
}

/// Compiles and tries, makes one profile with random values and reads it back.
pub fn template(der: &[u8], random: &mut Random, outcome: &mut Outcome) {
    let algorithm = if random.one_in(3) { Algorithm::Tuak } else { Algorithm::Milenage };
    let mut settings = Settings { algorithm, ..Settings::default() };
    let mut vars = Vec::new();
    if random.one_in(3) {
        let (name, text) = *random.pick(VARS);
        let source = if random.one_in(2) {
            vars.push((name.to_owned(), text.to_owned()));
            VarSource::PerRecord
        } else {
            VarSource::Constant(text.to_owned())
        };
        settings.vars.insert(name.to_owned(), source);
    }
    let Ok(template) = personalise::trial(der, &settings) else { return };
    outcome.compiled = true;
    let drawn = random.octets(template.draw_len());
    let Ok(credentials) = template.credentials(&mut Draw::new(&drawn), None) else { return };
    let imsi = format!("{:015}", random.bits() % 1_000_000_000_000_000);
    let identity = Identity {
        iccid: Iccid::from_body(&format!("89{:017}", random.bits() % 100_000_000_000_000_000)).expect("digits"),
        imsi: imsi[..6 + random.below(10)].parse().ok(),
        msisdn: Some("4915112345678").filter(|_| template.takes_msisdn()),
        vars: &vars,
    };
    let Ok(upp) = template.personalise(&identity, &credentials) else { return };
    outcome.personalised = true;
    assert!(Package::parse(upp.expose()).is_ok(), "a profile that is not DER");
    let template = audit::read(der).ok();
    let expected = Expected {
        identity: &identity,
        settings: &settings,
        credentials: &credentials,
        template: template.as_ref(),
        op: None,
    };
    match audit::check(upp.expose(), &expected) {
        Ok(_) => outcome.audited = true,
        Err(error) => {
            panic!("the profile is not what was ordered: {error}; {algorithm}, {vars:?}, {:?}", settings.vars)
        }
    }
}

/// A source, as it stands in a file: it builds a package, or it is told why not.
pub fn source(text: &str) {
    if let Ok(der) = source::build(text) {
        assert!(reader(&der), "built what is not DER");
        assert!(elements(&der).0 || der.is_empty(), "built what has no types");
    }
}

const VARS: &[(&str, &str)] = &[
    ("spn", "Example"),
    ("smsc", "+491710760000"),
    ("gid1", "FF"),
    ("routing_indicator", "17"),
    ("profile_type", "Example"),
    ("acc", "3,15"),
    ("sqn", "000000000020"),
    ("pin1_state", "disabled 3/3"),
    ("hplmnwact", "26201:E-UTRAN+NG-RAN,26202"),
    ("suci_calc_info", "null"),
    ("keyset.0F", "aes-32"),
    ("usim/ef-spn", "01FF"),
    ("no_such_variable", ""),
];
