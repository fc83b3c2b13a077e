//! A token that cannot be used: wrong PIN, missing token, changed key. One attempt, a clear message, exit 7, nothing consumed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop

mod yard;

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use yard::Yard;
use yard::provider::{Provider, provider};

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
fn a_wrong_pin_reaches_the_token_exactly_once() {
    let mut yard = Yard::demo();
    let keys = yard.fleet("fleet", 2);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    let shim = yard.put_shim();
    for (command, logins) in [&["run"][..], &["doctor"], &["keys", "status"]].into_iter().zip(1..) {
        yard.run_with(command, &[("BINDERY_PIN", "000000")]).exits(7);
        assert_eq!(shim.calls("bindery-demo", "C_Login"), logins, "{command:?}");
    }
    assert_eq!(shim.wrong_pins("bindery-demo"), 3);
}

/// A pipe can be read once; these commands open the token several times.
#[test]
fn a_pin_from_a_pipe_lasts_for_the_whole_command() {
    let mut yard = Yard::demo();
    let pin = fs::read_to_string(yard.site().join("token/pin")).unwrap();
    fs::remove_file(yard.site().join("token/pin")).unwrap(); // there is no other source
    let shim = yard.put_shim();
    let piped = |args: &[&str], pin: &str| {
        let mut command = yard.prepared(args);
        command.env("BINDERY_PIN_FD", "0").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(pin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for role in ["manifest", "site-kek"] {
        let (code, said) = piped(&["keys", "rotate", role], &pin);
        assert_eq!(code, Some(0), "{role}: {said}");
    }
    // And one that is refused is sent once, as ever.
    let (before, wrong) = (shim.calls("bindery-demo", "C_Login"), shim.wrong_pins("bindery-demo"));
    let (code, said) = piped(&["keys", "rotate", "manifest"], "000000");
    assert!(code == Some(7) && said.contains("PIN"), "{said}");
    assert_eq!(shim.calls("bindery-demo", "C_Login") - before, 1);
    assert_eq!(shim.wrong_pins("bindery-demo") - wrong, 1);
}

#[test]
fn a_bound_profile_costs_the_token_one_signature_and_nothing_else() {
    let mut yard = Yard::demo();
    let keys = yard.fleet("fleet", 300);
    let shim = yard.put_shim();
    let functions = [
        "C_SignInit",
        "C_FindObjects",
        "C_OpenSession",
        "C_Login",
        "C_GetAttributeValue",
        "C_EncryptInit",
        "C_GenerateRandom",
    ];
    let calls_for = |order_id: &str, keys: &[serde_json::Value]| {
        yard.prebound_order(order_id, keys).submit().exits(0);
        let before = functions.map(|function| shim.calls("bindery-demo", function));
        yard.run(&["run"]).exits(0);
        let after = functions.map(|function| shim.calls("bindery-demo", function));
        std::array::from_fn::<u64, 7, _>(|i| after[i] - before[i])
    };
    // Two orders of one chunk each: what differs is what the 200 more profiles cost.
    let (few, many) = (calls_for("PO-1", &keys[..50]), calls_for("PO-2", &keys[50..]));
    let [signatures, others @ .., draws] = std::array::from_fn::<u64, 7, _>(|i| many[i] - few[i]);
    assert_eq!(signatures, 200);
    assert_eq!(others, [0; 5], "{functions:?}");
    // Randomness in draws of kilobytes, not one a record.
    assert!(draws < 50, "{draws}");
    assert_eq!(shim.finalize_overlaps(), 0);
}

#[test]
fn a_missing_token_is_told_with_what_to_do() {
    let yard = Yard::demo();
    match provider() {
        Provider::SoftHsm => {
            fs::rename(yard.site().join("token/tokens"), yard.site().join("token/gone")).unwrap();
            fs::create_dir(yard.site().join("token/tokens")).unwrap();
        }
        Provider::Kryoptic => fs::rename(yard.path("kryoptic.sql"), yard.path("gone.sql")).unwrap(),
    }
    for command in [&["doctor"][..], &["run"]] {
        let ran = yard.run(command).exits(7);
        let told = format!("{}{}", ran.out, ran.err);
        assert!(told.contains("bindery-demo") || told.contains("token"), "{told}");
    }
}

#[test]
fn a_token_file_that_a_kill_cut_off_comes_back() {
    // SoftHSM alone rewrites its file in place: the site is on SoftHSM, whatever this run of the suite is on.
    let yard = Yard::on(Provider::SoftHsm);
    let keys = yard.fleet("fleet", 2);
    yard.prebound_order("PO-1", &keys).submit().exits(0);
    yard.run(&["doctor"]).exits(0);
    let tokens = yard.site().join("token/tokens");
    let object = fs::read_dir(&tokens).unwrap().next().unwrap().unwrap().path().join("token.object");
    fs::write(&object, "").unwrap();
    yard.run(&["run"]).exits(0);
    assert!(!fs::read(&object).unwrap().is_empty());
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
