//! A token that cannot be used: wrong PIN, missing token, changed key. One attempt, a clear message, exit 7, nothing consumed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::fs;

use yard::Yard;

#[test]
fn a_wrong_pin_is_tried_once_and_told() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 2);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    let pin = fs::read_to_string(yard.site().join("token/pin")).unwrap();
    let ran = yard.run_with(&["run"], &[("BINDERY_PIN", "000000")]).exits(7);
    assert!(ran.err.contains("PIN"), "{}", ran.err);
    assert!(ran.err.contains("hint:"), "says what to do: {}", ran.err);
    assert!(!ran.err.contains("000000") && !ran.err.contains(pin.trim()), "a PIN is never shown: {}", ran.err);
    // Nothing was lost: with the right PIN the order runs.
    yard.run(&["run"]).exits(0);
}

#[test]
fn a_missing_token_is_told_with_what_to_do() {
    let yard = Yard::demo();
    fs::rename(yard.site().join("token/tokens"), yard.site().join("token/gone")).unwrap();
    fs::create_dir(yard.site().join("token/tokens")).unwrap();
    for command in [&["doctor"][..], &["run"]] {
        let ran = yard.run(command).exits(7);
        let told = format!("{}{}", ran.out, ran.err);
        assert!(told.contains("bindery-demo") || told.contains("token"), "{told}");
    }
}

#[test]
fn a_missing_module_is_told_with_what_to_do() {
    let yard = Yard::demo();
    let file = yard.site().join("bindery.toml");
    let config = fs::read_to_string(&file).unwrap();
    let broken: String = config
        .lines()
        .map(|line| {
            if line.starts_with("module") {
                "module = \"/no/such/module.so\"\n".to_owned()
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    fs::write(&file, broken).unwrap();
    let ran = yard.run(&["run"]).exits(7);
    assert!(ran.err.contains("/no/such/module.so") && ran.err.contains("hint:"), "{}", ran.err);
}

#[test]
fn a_policy_that_gives_a_protection_up_is_refused_naming_key_and_attribute() {
    let yard = Yard::demo();
    let file = yard.site().join("key-policy.toml");
    let policy = fs::read_to_string(&file).unwrap();
    let at = policy.find("role = \"dppb\"").expect("the policy has a dppb role");
    let (head, tail) = policy.split_at(at);
    assert!(tail.contains("CKA_DECRYPT = false"), "the policy states every attribute");
    fs::write(&file, format!("{head}{}", tail.replacen("CKA_DECRYPT = false", "CKA_DECRYPT = true", 1))).unwrap();
    let ran = yard.run(&["run"]).exits(3);
    assert!(ran.err.contains("dppb") && ran.err.contains("CKA_DECRYPT"), "{}", ran.err);
}

#[test]
fn an_existing_site_is_never_overwritten() {
    let yard = Yard::demo();
    let before = fs::read(yard.site().join("bindery.toml")).unwrap();
    let site = yard.site();
    yard.run(&["init", site.to_str().unwrap(), "--demo"]).exits(3);
    assert_eq!(fs::read(yard.site().join("bindery.toml")).unwrap(), before);
    yard.run(&["doctor"]).exits(0);
}
