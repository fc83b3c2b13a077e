//! The doctor's mechanism table, with the real binary on a real token: what it has, and what Bindery does about what it lacks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use serde_json::Value;
use yard::Yard;
use yard::provider::{Provider, provider};

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
    let table = yard.run(&["doctor", "--mechanisms"]).exits(0).out;
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    for number in ["0x1041", "0x1087", "0x210B", "0x1050"] {
        assert!(table.contains(number), "{number}: {table}");
    }
}
