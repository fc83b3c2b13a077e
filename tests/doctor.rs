//! The doctor's mechanism table, with the real binary on a real token: what it has, and what Bindery does about what it lacks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::fs;

use serde_json::Value;
use yard::provider::{Provider, provider};
use yard::shim::{Shim, on};
use yard::{Ran, Yard};

const TOKEN: &str = "bindery-demo";
const AES_GCM: u64 = 0x1087;
const RSA_OAEP: u64 = 0x0009;

fn row<'a>(slot: &'a Value, name: &str) -> &'a Value {
    let rows = slot["mechanisms"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {slot}"))
}

#[test]
fn the_table_tells_what_this_token_has_and_what_is_done_about_its_gaps() {
    let yard = Yard::demo();
    let report = yard.run(&["--json", "doctor"]).exits(0).json();
    let slot = &report["slots"][0];
    assert_eq!(slot["user_pin"], "good");
    assert_eq!(slot["lanes"]["wanted"], slot["lanes"]["granted"]);
    for row in slot["mechanisms"].as_array().unwrap() {
        for member in ["name", "number", "present", "needed_for", "required", "handling"] {
            assert!(row.get(member).is_some(), "{member}: {row}");
        }
    }
    let ecdsa = row(slot, "CKM_ECDSA");
    assert_eq!((&ecdsa["number"], &ecdsa["present"], &ecdsa["required"]), (&0x1041.into(), &true.into(), &true.into()));
    assert!(ecdsa["bounds"]["uses"].as_array().unwrap().contains(&"SIGN".into()), "{ecdsa}");
    assert_eq!(row(slot, "CKM_AES_KEY_WRAP_KWP")["present"], Value::Null);

    let has_brainpool = provider() == Provider::SoftHsm;
    let brainpool = row(slot, "CKM_EC_KEY_PAIR_GEN on brainpoolP256r1");
    assert_eq!(brainpool["present"], has_brainpool);
    assert_eq!(brainpool["handling"].as_str().unwrap().contains("refused with `eligibility`"), !has_brainpool);
    assert_eq!(row(slot, "CKM_AES_KEY_WRAP_PAD")["present"], provider() == Provider::SoftHsm);
}

#[test]
fn the_screen_has_the_gaps_alone_and_the_table_fits_its_columns() {
    let yard = Yard::demo();
    let screen = yard.run(&["doctor"]).exits(0).out;
    assert!(screen.lines().count() <= 24 && screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    let unwrapped = screen.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(unwrapped.contains("on brainpoolP256r1: eUICCs"), provider() == Provider::Kryoptic, "{screen}");
    assert!(!screen.contains("CKM_AES_GCM"), "{screen}");
    // No word is cut; where there is more, the reader is told where.
    assert_eq!(screen.contains("... see `doctor --mechanisms`"), provider() == Provider::Kryoptic, "{screen}");
    let table = yard.run(&["doctor", "--mechanisms"]).exits(0).out;
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    for number in ["0x1041", "0x1087", "0x210B", "0x1050"] {
        assert!(table.contains(number), "{number}: {table}");
    }
}

/// Two slots, `hsm-b` a second face of the demo's token, before a shim.
fn two_slots() -> (Yard, Shim) {
    let mut yard = Yard::demo();
    let mut shim = yard.put_shim();
    shim.show(TOKEN, &[(TOKEN, "A1"), ("hsm-b", "B2")]);
    let file = yard.site().join("bindery.toml");
    let config = fs::read_to_string(&file).unwrap();
    let slots = config.replace("\nlanes = 0\n", "\nlanes = 2\n\n[[hsm.slot]]\ntoken_label = \"hsm-b\"\n");
    assert_ne!(slots, config);
    fs::write(file, slots).unwrap();
    (yard, shim)
}

/// The finding of this name that speaks of a token.
#[track_caller]
fn finding<'a>(report: &'a Value, name: &str, token: &str) -> &'a Value {
    let mut checks = report["checks"].as_array().unwrap().iter();
    let found = checks.find(|check| check["name"] == name && check["text"].as_str().unwrap().starts_with(token));
    found.unwrap_or_else(|| panic!("{name} of {token}: {report}"))
}

/// The screen, without its line breaks and the columns before its text.
fn told(screen: &Ran) -> String {
    screen.out.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn two_slots_are_told_each_for_itself() {
    let (yard, mut shim) = two_slots();
    let report = yard.run(&["--json", "doctor"]).exits(0).json();
    let slots = report["slots"].as_array().unwrap();
    let lanes: Vec<_> =
        slots.iter().map(|slot| (slot["token"].as_str().unwrap(), slot["lanes"]["granted"].as_u64())).collect();
    assert_eq!(lanes, [(TOKEN, Some(2)), ("hsm-b", Some(2))]);
    for token in [TOKEN, "hsm-b"] {
        assert_eq!(finding(&report, "slot", token)["state"], "ok");
    }
    let tables = yard.run(&["doctor", "--mechanisms"]).exits(0).out;
    assert_eq!(tables.matches("0x1041").count(), 2, "{tables}");

    // One that grants too few sessions for the lanes that are wanted: one is the login's, one kept for a recovery.
    shim.set(on(&[]).of("hsm-b").limits_sessions(2));
    let report = yard.run(&["--json", "doctor"]).exits(0).json();
    let short = finding(&report, "slot", "hsm-b");
    assert_eq!(short["state"], "warn", "{short}");
    assert_eq!(finding(&report, "slot", TOKEN)["state"], "ok");
    assert_eq!(report["slots"][1]["sessions"]["most"], 2);
    assert_eq!(
        (&report["slots"][1]["lanes"]["wanted"], &report["slots"][1]["lanes"]["granted"]),
        (&2.into(), &1.into())
    );
}

#[test]
fn a_wrong_pin_of_somebody_else_is_told_and_the_last_try_is_not_made() {
    let (yard, mut shim) = two_slots();
    let low = shim.set(on(&["C_Login"]).of("hsm-b").locks_pin(5, 1));
    let screen = yard.run(&["doctor"]).exits(0);
    assert!(screen.out.contains("warn slot"), "{}", screen.out);
    for words in ["hsm-b: 2 of 2 lanes, a wrong PIN was tried before", "-> find out who tried it"] {
        assert!(told(&screen).contains(words), "{}", screen.out);
    }
    let report = yard.run(&["--json", "doctor"]).exits(0).json();
    assert_eq!(
        (&report["slots"][0]["user_pin"], &report["slots"][1]["user_pin"]),
        (&"good".into(), &"count-low".into())
    );
    shim.clear(low);

    for (already, state, words) in [(4, "final-try", "one wrong PIN from its lock"), (5, "locked", "user PIN locked")] {
        let rule = shim.set(on(&["C_Login"]).of("hsm-b").locks_pin(5, already));
        let logins = shim.calls("hsm-b", "C_Login");
        let report = yard.run(&["--json", "doctor"]).exits(7).json();
        assert_eq!(report["slots"][1]["user_pin"], state);
        let slot = finding(&report, "slot", "hsm-b");
        assert_eq!(slot["state"], "FAIL", "{slot}");
        assert!(slot["text"].as_str().unwrap().contains(words), "{slot}");
        assert_eq!(shim.calls("hsm-b", "C_Login"), logins, "{state}: no login was tried");
        shim.clear(rule);
    }
    yard.run(&["doctor"]).exits(0);
}

#[test]
fn a_token_without_a_mechanism_that_every_run_needs_is_not_fit_to_work() {
    let mut yard = Yard::demo();
    let mut shim = yard.put_shim();
    shim.set(on(&[]).hides_mechanisms(&[AES_GCM]));
    let report = yard.run(&["--json", "doctor"]).exits(7).json();
    let gcm = row(&report["slots"][0], "CKM_AES_GCM");
    assert_eq!((&gcm["present"], &gcm["required"]), (&false.into(), &true.into()));
    assert!(gcm["handling"].as_str().unwrap().contains("exit 7"), "{gcm}");
    let mechanisms = finding(&report, "mechanisms", TOKEN);
    assert_eq!(mechanisms["state"], "FAIL");
    assert!(mechanisms["text"].as_str().unwrap().contains("CKM_AES_GCM: cannot run"), "{mechanisms}");
    let screen = yard.run(&["doctor"]).exits(7);
    assert!(told(&screen).contains("FAIL mechanisms bindery-demo: lacks CKM_AES_GCM;"), "{}", screen.out);
    // As the table says.
    let ran = yard.run(&["run"]).exits(7);
    assert!(ran.err.contains("the token does not offer CKM_AES_GCM"), "{}", ran.err);
}

#[test]
fn a_token_without_a_mechanism_for_making_keys_runs_and_makes_none() {
    let mut yard = Yard::demo();
    let mut shim = yard.put_shim();
    shim.set(on(&[]).hides_mechanisms(&[RSA_OAEP]));
    let report = yard.run(&["--json", "doctor"]).exits(0).json();
    let oaep = row(&report["slots"][0], "CKM_RSA_PKCS_OAEP");
    assert_eq!((&oaep["present"], &oaep["required"]), (&false.into(), &false.into()));
    assert!(oaep["handling"].as_str().unwrap().starts_with("runs; ceremonies end with exit 7"), "{oaep}");
    let keys = yard.fleet("fleet", 2);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    yard.run(&["run"]).exits(0);
    let ran = yard.run(&["keys", "rotate", "audit"]).exits(7);
    assert!(ran.err.contains("the token does not offer CKM_RSA_PKCS_OAEP"), "{}", ran.err);
}
