//! A token that cannot be used: wrong PIN, missing token, changed key. One attempt, a clear message, exit 7, nothing consumed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::collections::BTreeMap;
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

/// Puts OpenSC's spy module (package opensc-pkcs11, installed by `make test`) between Bindery and the token.
struct Spy {
    module: String,
    log: std::path::PathBuf,
}

impl Spy {
    fn on(yard: &Yard) -> Self {
        let spies = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"]
            .map(|dir| format!("{dir}/pkcs11-spy.so"));
        let spy = spies.iter().find(|path| fs::exists(path).unwrap()).expect("pkcs11-spy.so: install opensc-pkcs11");
        let file = yard.site().join("bindery.toml");
        let config = fs::read_to_string(&file).unwrap();
        let line = config.lines().find(|line| line.starts_with("module = ")).unwrap();
        fs::write(&file, config.replace(line, &format!("module = \"{spy}\""))).unwrap();
        let module = line.split('"').nth(1).unwrap().to_owned();
        Self { module, log: yard.path("spy.log") }
    }

    /// Runs a command; gives the number of calls of each function of the token.
    fn calls(&self, yard: &Yard, args: &[&str], pin: &str, code: i32) -> BTreeMap<String, u32> {
        let _ = fs::remove_file(&self.log);
        let log = self.log.to_str().unwrap();
        yard.run_with(args, &[("PKCS11SPY", &self.module), ("PKCS11SPY_OUTPUT", log), ("BINDERY_PIN", pin)])
            .exits(code);
        let mut calls = BTreeMap::new();
        for line in String::from_utf8_lossy(&fs::read(&self.log).unwrap()).lines() {
            if let Some((number, function)) = line.split_once(": C_")
                && number.bytes().all(|b| b.is_ascii_digit())
            {
                *calls.entry(function.trim().to_owned()).or_insert(0) += 1;
            }
        }
        calls
    }
}

#[test]
fn a_wrong_pin_reaches_the_token_exactly_once() {
    let yard = Yard::demo();
    let keys = yard.fleet("fleet", 2);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    let spy = Spy::on(&yard);
    for command in [&["run"][..], &["doctor"], &["keys", "status"]] {
        let calls = spy.calls(&yard, command, "000000", 7);
        assert_eq!(calls.get("Login"), Some(&1), "{command:?}: {calls:?}");
    }
}

#[test]
fn a_bound_profile_costs_the_token_one_signature_and_nothing_else() {
    let yard = Yard::demo();
    let pin = fs::read_to_string(yard.site().join("token/pin")).unwrap();
    let keys = yard.fleet("fleet", 300);
    let spy = Spy::on(&yard);
    let calls_for = |order_id: &str, keys: &[serde_json::Value]| {
        yard.prebound_order(order_id, keys).submit().exits(0);
        spy.calls(&yard, &["run"], pin.trim(), 0)
    };
    // Two orders of one chunk each: what differs is what the 200 more profiles cost.
    let (few, many) = (calls_for("PO-1", &keys[..50]), calls_for("PO-2", &keys[50..]));
    let more = |function: &str| many[function] - few[function];
    assert_eq!(more("SignInit"), 200);
    for function in ["FindObjects", "OpenSession", "Login", "GetAttributeValue", "EncryptInit"] {
        assert_eq!(more(function), 0, "{function}");
    }
    // Randomness in draws of kilobytes, not one a record.
    assert!(more("GenerateRandom") < 50, "{}", more("GenerateRandom"));
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
